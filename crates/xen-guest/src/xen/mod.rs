//! Xen as this domain sees it: finding it, and one file per part of its interface.

pub mod bits;
#[cfg(target_os = "none")]
pub mod detect;
#[cfg(target_os = "none")]
pub mod events;
#[cfg(target_os = "none")]
pub mod flask;
#[cfg(target_os = "none")]
pub mod grants;
#[cfg(target_os = "none")]
pub mod hypercall;
pub mod label;
#[cfg(target_os = "none")]
pub mod page;
#[cfg(target_os = "none")]
pub mod ports;
#[cfg(target_os = "none")]
pub mod shared_info;
#[cfg(target_os = "none")]
pub mod store_ring;

#[cfg(target_os = "none")]
pub use detect::is_present;
