//! The knobs.

/// The ways to misbehave. All off is an honest chip.
#[derive(Clone, Default, Debug)]
pub struct Faults {
    /// The burst count is this at most (0: never a byte).
    pub burst: Option<u16>,
    /// So many status reads give burst count 0 before each true one.
    pub burst_pauses: u32,
    /// `TPM_STS` reads as this, whatever is written.
    pub stuck_status: Option<u32>,
    /// Every register reads as ones from this access on (counted from 0), for so many accesses.
    pub ones: Option<(u64, u64)>,
    /// `TPM_ACCESS` never becomes valid.
    pub access_invalid: bool,
    /// Bits that never read as one in the first status byte.
    pub status_clear: u8,
    /// `Expect` goes away after so many command bytes.
    pub expect_ends_at: Option<usize>,
    /// `Expect` stays after the command's end.
    pub expect_stays: bool,
    /// The size field of every response reads as this.
    pub response_size: Option<u32>,
    /// So many bytes follow the response.
    pub surplus: usize,
    /// So many bytes are missing from the response's end.
    pub missing: usize,
    /// Only the first reading of a response is wrong; `responseRetry` gives it right.
    pub wrong_once: bool,
    /// `dataAvail` shows before the command was started.
    pub early_data: bool,
    /// `dataAvail` shows only after so many status reads.
    pub late_data: u32,
    /// No locality is ever granted.
    pub refuse_locality: bool,
    /// The locality is taken away after so many FIFO bytes (in or out).
    pub take_locality_after: Option<usize>,
    /// The locality is taken away while a command runs.
    pub take_locality_in_execution: bool,
    /// A command never ends, and cannot be aborted.
    pub never_finishes: bool,
    /// A running command cannot be aborted but ends.
    pub deaf: bool,
    /// The first so many commands are dropped at `tpmGo` (the chip was reset).
    pub drop_commands: u32,
    /// `commandReady` leads from Completion to Ready at once (as many chips do) and not to Idle.
    pub eager_ready: bool,
}
