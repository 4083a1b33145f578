//! The ports: the whole interface between safe drivers and the machine.

pub mod block;
pub mod entropy;
pub mod events;
pub mod grants;
pub mod labels;
pub mod page;
pub mod store;
pub mod store_ring;
