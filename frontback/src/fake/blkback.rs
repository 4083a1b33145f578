//! see below
/// x
pub struct BlkBack;
/// x
pub struct Fault;
/// x
pub struct RamDisk;
