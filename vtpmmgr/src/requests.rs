//! What can be asked of the manager, and the form of the answers.
//!
//! Tags and ordinals are those of the C stack (see [`tpm_wire::mgr`]), so that its vTPMs are understood as well: requests with
//! tag 0x01C1 are for the manager, 0x01C2 is its management, and GetRandom, PCRRead and Extend with TPM 1.2's tag 0x00C1 are for the
//! hardware.

use alloc::vec::Vec;
pub use tpm_wire::mgr::code;
use tpm_wire::mgr::{self, QuoteRequest, RECORD_MAX, RECORD_MIN};
use tpm_wire::{CommandHeader, HEADER_SIZE, Reader, ResponseHeader, Writer, v12};
use zeroize::Zeroizing;

/// The whole answer to something that is not even a packet: TPM 1.2's tag, 10 bytes, `TPM_BAD_PARAM_SIZE`.
pub const MALFORMED: [u8; HEADER_SIZE] = [0, 0xc4, 0, 0, 0, 10, 0, 0, 0, code::BAD_PARAM_SIZE as u8];

/// The most random bytes that one request is given; a vTPM that wants more asks again, as with any TPM.
pub const MAX_RANDOM: u32 = 2048;

const ORD_EXTEND: u32 = 0x14;
const ORD_PCR_READ: u32 = 0x15;
const ORD_GET_RANDOM: u32 = 0x46;

/// A request, understood.
#[derive(PartialEq, Eq)]
pub enum Message {
    /// Keep this record.
    Save(Record),
    /// Give the record back.
    Load,
    /// Name this start of the machine.
    BootId,
    /// Say what this domain's label hashes to.
    BootHash,
    /// Have the chip vouch.
    Quote(QuoteRequest),
    /// At most so many random bytes of the chip; never more than [`MAX_RANDOM`].
    Random(u32),
    /// A PCR of the chip.
    PcrRead(u32),
    /// Extend a PCR of the chip: for the admin only.
    Extend {
        /// Which.
        index: u32,
        /// By what.
        digest: [u8; 20],
    },
    /// A management command that was not looked at yet: that is for those with rights.
    Management {
        /// Its ordinal.
        ordinal: u32,
        /// Its parameters; some hold secrets.
        body: Record,
    },
}

/// The bytes of a SAVEHASHKEY or of a management command, wiped when dropped.
#[derive(Clone, PartialEq, Eq)]
pub struct Record(pub Zeroizing<Vec<u8>>);

/// A request that is answered with an error at once.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Refusal {
    /// The response's tag.
    pub tag: u16,
    /// The return code.
    pub code: u32,
}

impl Message {
    /// Reads a request. Every byte of it is accounted for, or it is refused.
    pub fn parse(packet: &[u8]) -> Result<Self, Refusal> {
        let tag = packet.first_chunk::<2>().map_or(v12::TAG_RQU_COMMAND, |tag| u16::from_be_bytes(*tag));
        let tag = response_tag(tag);
        let refuse = |code| Refusal { tag, code };
        let (header, body) = CommandHeader::parse(packet).map_err(|_| refuse(code::BAD_PARAM_SIZE))?;
        let exactly = |length: usize| if body.len() == length { Ok(()) } else { Err(refuse(code::BAD_PARAM_SIZE)) };
        let number = || body.try_into().map(u32::from_be_bytes).map_err(|_| refuse(code::BAD_PARAM_SIZE));
        match (header.tag.get(), header.ordinal.get()) {
            (mgr::TAG_REQ, mgr::ORD_SAVEHASHKEY) => {
                if !(RECORD_MIN..=RECORD_MAX).contains(&body.len()) {
                    return Err(refuse(code::BAD_PARAM_SIZE));
                }
                Ok(Self::Save(Record(Zeroizing::new(body.to_vec()))))
            }
            (mgr::TAG_REQ, mgr::ORD_LOADHASHKEY) => exactly(0).map(|()| Self::Load),
            (mgr::TAG_REQ, mgr::ORD_GET_BOOT_ID) => exactly(0).map(|()| Self::BootId),
            (mgr::TAG_REQ, mgr::ORD_GET_BOOT_HASH) => exactly(0).map(|()| Self::BootHash),
            (mgr::TAG_REQ, mgr::ORD_GET_QUOTE) => QuoteRequest::parse(body).map(Self::Quote).map_err(|r| refuse(r.0)),
            (mgr::TAG_REQ2, ordinal) => Ok(Self::Management { ordinal, body: Record(Zeroizing::new(body.to_vec())) }),
            (v12::TAG_RQU_COMMAND, ORD_GET_RANDOM) => number().map(|count| Self::Random(count.min(MAX_RANDOM))),
            (v12::TAG_RQU_COMMAND, ORD_PCR_READ) => number().map(Self::PcrRead),
            (v12::TAG_RQU_COMMAND, ORD_EXTEND) => {
                exactly(24)?;
                let mut from = Reader::new(body);
                let fields = from.u32().and_then(|index| Ok((index, from.array()?)));
                fields.map(|(index, digest)| Self::Extend { index, digest }).map_err(|_| refuse(code::BAD_PARAM_SIZE))
            }
            (mgr::TAG_REQ, _) => Err(refuse(code::BAD_ORDINAL)),
            // Other commands of the chip are not for vTPMs.
            (v12::TAG_RQU_COMMAND | v12::TAG_RQU_AUTH1_COMMAND | v12::TAG_RQU_AUTH2_COMMAND, _) => {
                Err(refuse(code::DISABLED_CMD))
            }
            _ => Err(refuse(code::BAD_TAG)),
        }
    }

    /// The tag of this request's response, unless it is refused before it is looked at.
    pub const fn response_tag(&self) -> u16 {
        match self {
            Self::Random(_) | Self::PcrRead(_) | Self::Extend { .. } => v12::TAG_RSP_COMMAND,
            Self::Save(_) | Self::Load | Self::BootId | Self::BootHash | Self::Quote(_) | Self::Management { .. } => {
                mgr::TAG_RSP
            }
        }
    }
}

/// The tag that answers a request's tag; an unknown one is answered as TPM 1.2 does.
const fn response_tag(tag: u16) -> u16 {
    match tag {
        mgr::TAG_REQ => mgr::TAG_RSP,
        mgr::TAG_REQ2 => mgr::TAG_RSP2,
        _ => v12::TAG_RSP_COMMAND,
    }
}

/// A response that is an error.
pub fn error(tag: u16, code: u32) -> [u8; HEADER_SIZE] {
    ResponseHeader::bare(tag, code)
}

/// A successful response with `body`.
pub fn success(tag: u16, body: &[u8]) -> Zeroizing<Vec<u8>> {
    let size = HEADER_SIZE + body.len();
    let mut packet = Zeroizing::new(Vec::with_capacity(size));
    Writer::new(&mut packet).u16(tag).u32(u32::try_from(size).unwrap_or(u32::MAX)).u32(0).bytes(body);
    packet
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec;

    fn packet(tag: u16, ordinal: u32, body: &[u8]) -> Vec<u8> {
        let mut packet = vec![];
        Writer::new(&mut packet).u16(tag).u32(10 + body.len() as u32).u32(ordinal).bytes(body);
        packet
    }

    fn refusal(packet: &[u8]) -> Option<(u16, u32)> {
        Message::parse(packet).err().map(|r| (r.tag, r.code))
    }

    #[test]
    fn every_message_at_its_length_and_one_byte_off() {
        for length in 0..80 {
            let save = Message::parse(&packet(0x01c1, 1, &vec![length as u8; length]));
            if (52..=64).contains(&length) {
                assert!(save == Ok(Message::Save(Record(Zeroizing::new(vec![length as u8; length])))));
            } else {
                assert_eq!(save.err(), Some(Refusal { tag: 0x01c4, code: 25 }));
            }
        }
        assert!(Message::parse(&packet(0x01c1, 2, &[])) == Ok(Message::Load));
        assert!(Message::parse(&packet(0x01c1, 3, &[])) == Ok(Message::BootHash));
        assert!(Message::parse(&packet(0x01c1, 0x80, &[])) == Ok(Message::BootId));
        for ordinal in [2, 3, 0x80] {
            assert_eq!(refusal(&packet(0x01c1, ordinal, &[0])), Some((0x01c4, 25)));
        }
        for ordinal in [0x46, 0x15] {
            for length in [0, 3, 5, 64] {
                assert_eq!(refusal(&packet(0x00c1, ordinal, &vec![0; length])), Some((0x00c4, 25)));
            }
        }
        for length in [0, 4, 23, 25, 34] {
            assert_eq!(refusal(&packet(0x00c1, 0x14, &vec![0; length])), Some((0x00c4, 25)));
        }
        let extend = packet(0x00c1, 0x14, &[&[0, 0, 0, 9][..], &[7; 20]].concat());
        assert!(Message::parse(&extend) == Ok(Message::Extend { index: 9, digest: [7; 20] }));
    }

    #[test]
    fn quotes_at_their_length_and_one_byte_off() {
        let good = [&[5; 20][..], &[0, 3, 1, 0, 0], &[0, 0, 0, 15]].concat();
        let quote = QuoteRequest { data: [5; 20], pcrs: 1, flags: 15 };
        assert!(Message::parse(&packet(0x01c1, 4, &good)) == Ok(Message::Quote(quote)));
        for cut in 0..good.len() {
            assert_eq!(refusal(&packet(0x01c1, 4, &good[..cut])), Some((0x01c4, 3)));
        }
        assert_eq!(refusal(&packet(0x01c1, 4, &[&good[..], &[0]].concat())), Some((0x01c4, 3)));
        assert_eq!(refusal(&packet(0x01c1, 4, &[&good[..28], &[16]].concat())), Some((0x01c4, 5)));
    }

    #[test]
    fn the_size_field_must_be_the_length() {
        for good in [packet(0x01c1, 2, &[]), packet(0x01c1, 1, &[0; 64]), packet(0x00c1, 0x46, &[0, 0, 0, 1])] {
            assert!(Message::parse(&good).is_ok());
            for cut in 0..good.len() {
                assert_eq!(refusal(&good[..cut]).map(|r| r.1), Some(25));
            }
            assert_eq!(refusal(&[&good[..], &[0]].concat()).map(|r| r.1), Some(25));
            for size in [0u32, 9, good.len() as u32 + 1, u32::MAX] {
                let mut bad = good.clone();
                bad[2..6].copy_from_slice(&size.to_be_bytes());
                assert_eq!(refusal(&bad).map(|r| r.1), Some(25));
            }
        }
    }

    #[test]
    fn what_does_not_exist_is_a_bad_ordinal_what_is_not_for_vtpms_disabled_and_an_unknown_tag_a_bad_tag() {
        for ordinal in [0, 5, 0x7f, 0x81, 0x0200_0101, u32::MAX] {
            assert_eq!(refusal(&packet(0x01c1, ordinal, &[])), Some((0x01c4, 10)));
        }
        // TakeOwnership, Seal, Startup, ForceClear on the machine's own chip.
        for ordinal in [0x0d, 0x17, 0x99, 0x5d] {
            for tag in [0x00c1, 0x00c2, 0x00c3] {
                assert_eq!(refusal(&packet(tag, ordinal, &[0; 4])), Some((0x00c4, 8)));
            }
        }
        for ordinal in [0x46, 0x15, 0x14] {
            assert_eq!(refusal(&packet(0x00c2, ordinal, &[0; 4])), Some((0x00c4, 8)));
            assert_eq!(refusal(&packet(0x01c1, ordinal, &[0; 4])), Some((0x01c4, 10)));
        }
        for tag in [0, 0x00c0, 0x00c4, 0x01c4, 0x8001, 0xffff] {
            assert_eq!(refusal(&packet(tag, 2, &[])), Some((0x00c4, 30)));
        }
    }

    #[test]
    fn a_count_of_random_bytes_is_bounded() {
        assert!(Message::parse(&packet(0x00c1, 0x46, &[0, 0, 0, 48])) == Ok(Message::Random(48)));
        assert!(Message::parse(&packet(0x00c1, 0x46, &[0xff; 4])) == Ok(Message::Random(MAX_RANDOM)));
        assert!(Message::parse(&packet(0x00c1, 0x15, &[0xff; 4])) == Ok(Message::PcrRead(u32::MAX)));
    }

    #[test]
    fn answers() {
        assert_eq!(error(0x01c4, 3), [1, 0xc4, 0, 0, 0, 10, 0, 0, 0, 3]);
        assert_eq!(success(0x01c4, &[7, 8])[..], [1, 0xc4, 0, 0, 0, 12, 0, 0, 0, 0, 7, 8]);
        assert_eq!(MALFORMED, error(0x00c4, 25));
    }
}
