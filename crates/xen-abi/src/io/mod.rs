//! What stands in shared pages, as Xen's `public/io/` headers lay it out: native (little-endian) byte order, x86-64 layout.

pub mod blkif;
pub mod tpmif;
pub mod xs_wire;
