//! The fake machine and its peers.
