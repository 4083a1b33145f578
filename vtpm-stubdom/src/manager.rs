//! The manager, as a vTPM talks to it: TPM-style packets over tpmfront.
//!
//! Every request may be repeated without harm, so one that met no answer (the manager is restarting, the chip is busy) is
//! sent again until there is one. Answers are checked in full; a manager that answers nonsense is told apart from one that
//! refuses.

use crate::saved::Secret;
use crate::tpm::ParentRequest;
use crate::wait::{Stopped, Waits};
use alloc::vec::Vec;
use core::cell::RefCell;
use core::fmt;
use core::time::Duration;
use frontback::tpmfront::{self, FrontError, TpmFront};
use tpm_wire::mgr::{
    ORD_GET_BOOT_ID, ORD_GET_QUOTE, ORD_LOADHASHKEY, ORD_SAVEHASHKEY, RECORD_MAX, RECORD_MIN, TAG_REQ, TAG_RSP,
};
use tpm_wire::v12::{TAG_RQU_COMMAND, TAG_RSP_COMMAND};
use tpm_wire::{HEADER_SIZE, Reader, ResponseHeader, Transport, TransportError, Truncated, Writer};
use vault::{Generation, VaultKey};
use xen_abi::Xen;
use zeroize::Zeroizing;

/// TPM 1.2 ordinals that the manager passes to the hardware TPM (TPM Main, part 2, section 17).
pub(crate) const ORD_PCR_READ: u32 = 0x15;
pub(crate) const ORD_GET_RANDOM: u32 = 0x46;

/// TPM Main, part 2, section 16.
const BAD_PARAMETER: u32 = 3;
const FAIL: u32 = 9;
const RETRY: u32 = 0x800;
const DOING_SELFTEST: u32 = 0x802;

/// How long one request may take before it is sent again. The manager may be making a key in a slow chip.
const ANSWER_TIME: Duration = Duration::from_secs(120);
/// The pause before a request is sent again.
const PAUSE: Duration = Duration::from_secs(1);

/// The way to the manager.
pub trait Link: Transport {
    /// Who we are to the manager: the UUID that the toolstack wrote for our device. `None` until connected for the first time.
    fn uuid(&self) -> Option<[u8; 16]>;
}

impl<T: Link> Link for &T {
    fn uuid(&self) -> Option<[u8; 16]> {
        T::uuid(self)
    }
}

/// The link over tpmfront.
pub struct FrontLink<'a, X: Xen>(pub &'a RefCell<TpmFront<X>>);

impl<X: Xen> Link for FrontLink<'_, X> {
    fn uuid(&self) -> Option<[u8; 16]> {
        self.0.borrow().uuid()
    }
}

impl<X: Xen> Transport for FrontLink<'_, X> {
    async fn transmit(&self, command: &[u8]) -> Result<Vec<u8>, TransportError> {
        tpmfront::transmit(self.0, 0, command, ANSWER_TIME).await.map_err(|error| match error {
            FrontError::Gone => TransportError::Gone,
            FrontError::TimedOut | FrontError::Cancelled | FrontError::Busy => TransportError::TimedOut,
            FrontError::Garbled => TransportError::Garbled,
            FrontError::BadLength => TransportError::TooLong,
        })
    }
}

/// Why the manager gave nothing.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ManagerError {
    /// It answered with this code.
    Refused {
        /// The request.
        what: &'static str,
        /// The return code.
        code: u32,
    },
    /// It answered something that is no answer to the request.
    Malformed {
        /// The request.
        what: &'static str,
    },
    /// There was no answer in the time that there is for it.
    Late,
    /// The domain is to stop, and there was no answer.
    Stopped,
}

impl fmt::Display for ManagerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused { what, code } => {
                write!(f, "the manager answers {what} with error {code:#x}; see the manager's console")
            }
            Self::Malformed { what } => {
                write!(f, "the manager's answer to {what} is malformed; the manager is of another version or broken")
            }
            Self::Late => f.write_str("the hardware TPM does not answer the manager"),
            Self::Stopped => f.write_str("the domain is stopping and the manager does not answer"),
        }
    }
}

impl core::error::Error for ManagerError {}

impl From<Stopped> for ManagerError {
    fn from(_: Stopped) -> Self {
        Self::Stopped
    }
}

/// What the manager keeps for this vTPM (docs/decisions/0002-record-at-the-manager.md).
pub enum Record {
    /// Nothing: the manager has never heard of this UUID.
    Unknown,
    /// A creation began and nothing was acknowledged.
    Creating(VaultKey),
    /// The key and the newest state.
    Known(VaultKey, Generation),
    /// A record of the C vTPM, which another program's disk belongs to.
    Legacy,
}

const KEY_SIZE: usize = 32;

impl Record {
    /// The record for a creation that begins.
    pub fn creating(key: &VaultKey) -> Secret {
        Self::encode(key, Generation { sequence: 0, identity: [0; 24] })
    }

    /// The record for `generation`: key ‖ sequence ‖ identity, 64 bytes.
    pub fn encode(key: &VaultKey, generation: Generation) -> Secret {
        let mut out = Zeroizing::new(Vec::with_capacity(RECORD_MAX));
        Writer::new(&mut out).bytes(key.as_bytes()).u64(generation.sequence).bytes(&generation.identity);
        out
    }

    /// Reads 52 to 64 bytes; what is missing is zero (the C manager leaves trailing zeros out).
    fn decode(bytes: &[u8]) -> Option<Self> {
        if !(RECORD_MIN..=RECORD_MAX).contains(&bytes.len()) {
            return None;
        }
        let mut whole = Zeroizing::new([0; RECORD_MAX]);
        whole.get_mut(..bytes.len())?.copy_from_slice(bytes);
        let mut reader = Reader::new(&whole[..]);
        let key = VaultKey::from_bytes(&Zeroizing::new(reader.array::<KEY_SIZE>().ok()?));
        let generation = Generation { sequence: reader.u64().ok()?, identity: reader.array().ok()? };
        Some(match generation {
            Generation { sequence: 0, identity } if identity == [0; 24] => Self::Creating(key),
            // The C vTPM's record is 52 bytes: SHA-1 of its blob and a key.
            _ if bytes.len() == RECORD_MIN => Self::Legacy,
            Generation { sequence: 0, .. } => return None,
            _ => Self::Known(key, generation),
        })
    }
}

/// A client of the manager.
pub struct Manager<'a, L> {
    link: L,
    waits: &'a Waits<'a>,
}

impl<'a, L: Link> Manager<'a, L> {
    /// Talks over `link`.
    pub fn new(link: L, waits: &'a Waits<'a>) -> Self {
        Self { link, waits }
    }

    /// Waits for the first connection and returns our UUID.
    pub async fn connected(&self) -> [u8; 16] {
        let uuid = self.waits.until(|| self.link.uuid());
        self.waits.saying("the manager (vtpm= line of this domain, and is the manager's domain running?)", uuid).await
    }

    /// Fills `out` from the hardware TPM's random generator.
    pub async fn random(&self, out: &mut [u8]) -> Result<(), ManagerError> {
        const WHAT: &str = "GetRandom";
        let mut rest = out;
        while !rest.is_empty() {
            let want = rest.len();
            let command =
                packet(TAG_RQU_COMMAND, ORD_GET_RANDOM, &u32::try_from(want).unwrap_or(u32::MAX).to_be_bytes());
            let body = Zeroizing::new(self.ask(WHAT, &command, TAG_RSP_COMMAND).await?);
            let mut reader = Reader::new(&body);
            let bytes = reader.sized32().ok().filter(|bytes| (1..=want).contains(&bytes.len()) && reader.is_empty());
            let bytes = bytes.ok_or(ManagerError::Malformed { what: WHAT })?;
            let (head, tail) = rest.split_at_mut(bytes.len());
            head.copy_from_slice(bytes);
            rest = tail;
        }
        Ok(())
    }

    /// The value of a PCR of the hardware TPM.
    pub async fn hardware_pcr(&self, index: u32) -> Result<[u8; 20], ManagerError> {
        const WHAT: &str = "PCRRead";
        let command = packet(TAG_RQU_COMMAND, ORD_PCR_READ, &index.to_be_bytes());
        exactly(WHAT, &self.ask(WHAT, &command, TAG_RSP_COMMAND).await?)
    }

    /// The name of this start of the machine.
    pub async fn boot_id(&self) -> Result<[u8; 20], ManagerError> {
        const WHAT: &str = "GET_BOOT_ID";
        exactly(WHAT, &self.ask(WHAT, &packet(TAG_REQ, ORD_GET_BOOT_ID, &[]), TAG_RSP).await?)
    }

    /// Our record.
    pub async fn record(&self) -> Result<Record, ManagerError> {
        const WHAT: &str = "LOADHASHKEY";
        match self.ask(WHAT, &packet(TAG_REQ, ORD_LOADHASHKEY, &[]), TAG_RSP).await {
            Ok(body) => Record::decode(&Zeroizing::new(body)).ok_or(ManagerError::Malformed { what: WHAT }),
            Err(ManagerError::Refused { code: BAD_PARAMETER, .. }) => Ok(Record::Unknown),
            Err(error) => Err(error),
        }
    }

    /// Has the manager keep `record`, durably. An error other than `Stopped` says that it does not take it.
    pub async fn keep(&self, record: &[u8]) -> Result<(), ManagerError> {
        const WHAT: &str = "SAVEHASHKEY";
        let command = Zeroizing::new(packet(TAG_REQ, ORD_SAVEHASHKEY, record));
        exactly::<0>(WHAT, &self.ask(WHAT, &command, TAG_RSP).await?).map(|_| ())
    }

    /// As [`Self::keep`], and does not take no for an answer: once a state lies in the vault, only its record can follow, since
    /// a manager that says no may have it on its disk all the same.
    pub async fn keep_by_all_means(&self, record: &[u8]) -> Result<(), Stopped> {
        loop {
            match self.keep(record).await {
                Ok(()) => return Ok(()),
                Err(ManagerError::Stopped) => return Err(Stopped),
                Err(error) => log::error!(target: "vtpm", "{error}; trying again, the guest has to wait"),
            }
            self.waits.with_grace(self.waits.sleep(PAUSE * 10)).await?;
        }
    }

    /// Sends a command to the hardware TPM on a guest's behalf, once. The response is a whole TPM packet.
    pub async fn forward(&self, command: &[u8]) -> Option<Vec<u8>> {
        let response = self.waits.with_grace(self.link.transmit(command)).await.ok()?.ok()?;
        ResponseHeader::parse(&response).is_ok().then_some(response)
    }

    /// A quote of the hardware TPM, as the manager lays it out. Asked for once: who waits for it is a guest, which can ask again.
    pub async fn quote(&self, request: &ParentRequest) -> Result<Vec<u8>, ManagerError> {
        const WHAT: &str = "GET_QUOTE";
        let mut body = Vec::new();
        Writer::new(&mut body).bytes(&request.nonce).bytes(&request.selection).u32(request.flags);
        let command = packet(TAG_REQ, ORD_GET_QUOTE, &body);
        match self.waits.with_grace(self.link.transmit(&command)).await? {
            Ok(response) => parse(WHAT, &response, TAG_RSP),
            Err(TransportError::Garbled) => Err(ManagerError::Malformed { what: WHAT }),
            Err(error) => {
                log::debug!(target: "vtpm", "{WHAT}: {error}");
                Err(ManagerError::Late)
            }
        }
    }

    /// One request and the body of its answer; repeated until there is an answer, or the domain is to stop.
    async fn ask(&self, what: &'static str, command: &[u8], tag: u16) -> Result<Vec<u8>, ManagerError> {
        let answer = async {
            loop {
                match self.link.transmit(command).await {
                    Ok(response) => match parse(what, &response, tag) {
                        // The chip is busy or failed just now; the manager itself goes on.
                        Err(ManagerError::Refused { code: FAIL | RETRY | DOING_SELFTEST, .. }) => {}
                        outcome => {
                            // The answer may carry a key.
                            drop(Zeroizing::new(response));
                            return outcome;
                        }
                    },
                    Err(TransportError::Garbled) => return Err(ManagerError::Malformed { what }),
                    Err(error) => log::debug!(target: "vtpm", "{what}: {error}"),
                }
                self.waits.sleep(PAUSE).await;
            }
        };
        self.waits.with_grace(self.waits.saying(format_args!("the manager's answer to {what}"), answer)).await?
    }
}

pub(crate) fn packet(tag: u16, ordinal: u32, body: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(HEADER_SIZE + body.len());
    // The longest body is that of a quote: a nonce, a selection of PCRs, flags.
    let size = u32::try_from(HEADER_SIZE + body.len()).unwrap_or(u32::MAX);
    Writer::new(&mut out).u16(tag).u32(size).u32(ordinal).bytes(body);
    out
}

fn parse(what: &'static str, response: &[u8], tag: u16) -> Result<Vec<u8>, ManagerError> {
    let (header, body) = ResponseHeader::parse(response).map_err(|_| ManagerError::Malformed { what })?;
    match header.code.get() {
        0 if header.tag.get() == tag => Ok(body.to_vec()),
        0 => Err(ManagerError::Malformed { what }),
        code => Err(ManagerError::Refused { what, code }),
    }
}

fn exactly<const N: usize>(what: &'static str, body: &[u8]) -> Result<[u8; N], ManagerError> {
    let mut reader = Reader::new(body);
    let value = reader.array().map_err(|Truncated| ManagerError::Malformed { what })?;
    if reader.is_empty() { Ok(value) } else { Err(ManagerError::Malformed { what }) }
}
