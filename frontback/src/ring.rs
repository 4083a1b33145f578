//! Shared rings.
