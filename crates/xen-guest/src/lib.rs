//! A PVH domain on Xen: the real ports.
#![no_std]
