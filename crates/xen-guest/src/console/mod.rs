//! The console: port 0xE9 until the PV ring is up, then the ring.

pub mod clean;
#[cfg(target_os = "none")]
mod debug_port;
#[cfg(target_os = "none")]
mod logger;
#[cfg(target_os = "none")]
mod output;
pub mod prefix;
#[cfg(target_os = "none")]
mod ring;
pub mod space;

#[cfg(target_os = "none")]
pub use logger::{init as init_logger, set_level};
#[cfg(target_os = "none")]
pub use output::{drain, open_ring, write, write_crash};
