//! The guest's side: front ends that come, go and send commands.

/// The front ends, as the service sees them.
pub use frontback::tpmback::Fronts as Guests;
