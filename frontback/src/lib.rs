//! Xen split drivers: xenstore, xenbus, tpmfront, tpmback, blkfront.
#![no_std]
#![forbid(unsafe_code)]
