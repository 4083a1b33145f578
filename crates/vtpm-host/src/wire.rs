//! The control channel's numbers and answers (QEMU's `tpm_ioctl.h`; all big-endian).

/// Commands, `CMD_*`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u32)]
pub enum Command {
    /// Which commands there are.
    GetCapability = 1,
    /// Switch the TPM on.
    Init,
    /// Stop the TPM and end the program.
    Shutdown,
    /// The establishment bit.
    GetEstablished,
    /// The locality of the commands that come next.
    SetLocality,
    /// Locality 4's hash sequence begins.
    HashStart,
    /// Data for it.
    HashData,
    /// It ends.
    HashEnd,
    /// Give up the command under way.
    Cancel,
    /// Keep the volatile state for the next INIT.
    StoreVolatile,
    /// Reset the establishment bit.
    ResetEstablished,
    /// State for another host.
    GetStateBlob,
    /// State from another host.
    SetStateBlob,
    /// Switch the TPM off.
    Stop,
    /// Which keys are in use.
    GetConfig,
    /// The descriptor beside this is the command channel.
    SetDataFd,
    /// The largest packet.
    SetBufferSize,
    /// What TPM this is.
    GetInfo,
    /// Lock the state again.
    LockStorage,
}

impl Command {
    /// All of them.
    pub const ALL: [Self; 19] = [
        Self::GetCapability,
        Self::Init,
        Self::Shutdown,
        Self::GetEstablished,
        Self::SetLocality,
        Self::HashStart,
        Self::HashData,
        Self::HashEnd,
        Self::Cancel,
        Self::StoreVolatile,
        Self::ResetEstablished,
        Self::GetStateBlob,
        Self::SetStateBlob,
        Self::Stop,
        Self::GetConfig,
        Self::SetDataFd,
        Self::SetBufferSize,
        Self::GetInfo,
        Self::LockStorage,
    ];

    /// The command with this number.
    pub fn from_number(number: u32) -> Option<Self> {
        Self::ALL.into_iter().find(|command| *command as u32 == number)
    }

    /// Bytes of its fixed part.
    pub const fn body(self) -> usize {
        match self {
            Self::SetLocality | Self::ResetEstablished => 1,
            Self::Init | Self::HashData | Self::SetBufferSize | Self::LockStorage => 4,
            Self::GetStateBlob | Self::SetStateBlob => 12,
            Self::GetInfo => 16,
            _ => 0,
        }
    }

    /// Bytes that may follow: QEMU sends the whole of a structure that others send the used part of.
    pub const fn padding(self) -> usize {
        match self {
            Self::SetLocality | Self::ResetEstablished => 3,
            _ => 0,
        }
    }

    /// The answer in its full form, with nothing but a return code: a client reads as much as the structure has, whatever the
    /// code says.
    pub fn answer(self, code: u32) -> Vec<u8> {
        let words = match self {
            Self::GetCapability | Self::GetEstablished | Self::GetConfig => 2,
            Self::GetInfo => 3,
            Self::GetStateBlob | Self::SetBufferSize => 4,
            _ => 1,
        };
        let mut out = vec![0; 4 * words];
        if let Some(first) = out.first_chunk_mut() {
            *first = code.to_be_bytes();
        }
        out
    }
}

/// `PTM_CAP_*`: one bit for each command, but not in the commands' order.
pub const CAP_INIT: u32 = 1;
/// SHUTDOWN.
pub const CAP_SHUTDOWN: u32 = 1 << 1;
/// `GET_TPMESTABLISHED`.
pub const CAP_GET_ESTABLISHED: u32 = 1 << 2;
/// `SET_LOCALITY`.
pub const CAP_SET_LOCALITY: u32 = 1 << 3;
/// `HASH_START`, `HASH_DATA`, `HASH_END`.
pub const CAP_HASHING: u32 = 1 << 4;
/// `CANCEL_TPM_CMD`.
pub const CAP_CANCEL: u32 = 1 << 5;
/// `STORE_VOLATILE`.
pub const CAP_STORE_VOLATILE: u32 = 1 << 6;
/// `RESET_TPMESTABLISHED`.
pub const CAP_RESET_ESTABLISHED: u32 = 1 << 7;
/// `GET_STATEBLOB`.
pub const CAP_GET_STATE_BLOB: u32 = 1 << 8;
/// `SET_STATEBLOB`.
pub const CAP_SET_STATE_BLOB: u32 = 1 << 9;
/// STOP.
pub const CAP_STOP: u32 = 1 << 10;
/// `GET_CONFIG`.
pub const CAP_GET_CONFIG: u32 = 1 << 11;
/// `SET_DATAFD`, on Unix sockets.
pub const CAP_SET_DATA_FD: u32 = 1 << 12;
/// `SET_BUFFERSIZE`.
pub const CAP_SET_BUFFER_SIZE: u32 = 1 << 13;
/// `GET_INFO`.
pub const CAP_GET_INFO: u32 = 1 << 14;
/// `LOCK_STORAGE`.
pub const CAP_LOCK_STORAGE: u32 = 1 << 16;

/// `PTM_INIT_FLAG_DELETE_VOLATILE`.
pub const INIT_DELETE_VOLATILE: u32 = 1;
/// `PTM_STATE_FLAG_ENCRYPTED`.
pub const STATE_ENCRYPTED: u32 = 2;
/// `PTM_CONFIG_FLAG_FILE_KEY`.
pub const CONFIG_FILE_KEY: u32 = 1;
/// `PTM_CONFIG_FLAG_MIGRATION_KEY`.
pub const CONFIG_MIGRATION_KEY: u32 = 2;
/// `SWTPM_INFO_TPMSPECIFICATION`.
pub const INFO_SPECIFICATION: u64 = 1;
/// `SWTPM_INFO_TPMATTRIBUTES`.
pub const INFO_ATTRIBUTES: u64 = 2;
