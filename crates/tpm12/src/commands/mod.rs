//! The commands, a file per chapter of part 3.

pub(crate) mod admin;
pub(crate) mod audit;
pub(crate) mod auth_change;
pub(crate) mod capability;
pub(crate) mod certify;
pub(crate) mod counter;
pub(crate) mod crypto;
pub(crate) mod daa;
pub(crate) mod delegation;
pub(crate) mod deprecated;
pub(crate) mod endorsement;
pub(crate) mod eviction;
pub(crate) mod identity;
pub(crate) mod key_mgmt;
pub(crate) mod maintenance;
pub(crate) mod migration;
pub(crate) mod nv;
pub(crate) mod optin;
pub(crate) mod ownership;
pub(crate) mod pcr;
pub(crate) mod selftest;
pub(crate) mod sessions;
pub(crate) mod startup;
pub(crate) mod storage;
pub(crate) mod timing;
pub(crate) mod transport;
