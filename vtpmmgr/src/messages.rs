//! What a vTPM can ask of its manager, and the form of the answers.
//!
//! Tags and ordinals are those of the C stack (see [`tpm_wire::mgr`]), so that its vTPMs are understood as well: requests with
//! tag 0x01C1 are for the manager, GetRandom and PCRRead with TPM 1.2's tag 0x00C1 are for the hardware.

use alloc::vec::Vec;
use tpm_wire::mgr::{self, RECORD_MAX, RECORD_MIN};
use tpm_wire::{CommandHeader, HEADER_SIZE, ResponseHeader, Writer, v12};
use zeroize::Zeroizing;

/// Return codes (TPM Main 1.2, part 2, section 16; the C manager answers with the same).
pub mod code {
    /// `TPM_BAD_PARAMETER`: also the answer to LOADHASHKEY of a vTPM without a record.
    pub const BAD_PARAMETER: u32 = 3;
    /// `TPM_FAIL`.
    pub const FAIL: u32 = 9;
    /// `TPM_BAD_ORDINAL`.
    pub const BAD_ORDINAL: u32 = 10;
    /// `TPM_RESOURCES`.
    pub const RESOURCES: u32 = 21;
    /// `TPM_BAD_PARAM_SIZE`.
    pub const BAD_PARAM_SIZE: u32 = 25;
    /// `TPM_BADTAG`.
    pub const BAD_TAG: u32 = 30;
}

/// The whole answer to something that is not even a packet: TPM 1.2's tag, 10 bytes, `TPM_BAD_PARAM_SIZE`.
pub const MALFORMED: [u8; HEADER_SIZE] = [0, 0xc4, 0, 0, 0, 10, 0, 0, 0, code::BAD_PARAM_SIZE as u8];

/// The most random bytes that one request is given; a vTPM that wants more asks again, as with any TPM.
pub const MAX_RANDOM: u32 = 2048;

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
    /// A command for the chip, ready to be sent.
    Chip {
        /// GetRandom or PCRRead.
        ordinal: u32,
        /// The whole packet.
        command: [u8; 14],
    },
}

/// The bytes of a SAVEHASHKEY, wiped when dropped.
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
        match (header.tag.get(), header.ordinal.get()) {
            (mgr::TAG_REQ, mgr::ORD_SAVEHASHKEY) => {
                if !(RECORD_MIN..=RECORD_MAX).contains(&body.len()) {
                    return Err(refuse(code::BAD_PARAM_SIZE));
                }
                Ok(Self::Save(Record(Zeroizing::new(body.to_vec()))))
            }
            (mgr::TAG_REQ, mgr::ORD_LOADHASHKEY) => exactly(0).map(|()| Self::Load),
            (mgr::TAG_REQ, mgr::ORD_GET_BOOT_ID) => exactly(0).map(|()| Self::BootId),
            (v12::TAG_RQU_COMMAND, ordinal @ (ORD_GET_RANDOM | ORD_PCR_READ)) => {
                let parameter = body.try_into().map_err(|_| refuse(code::BAD_PARAM_SIZE))?;
                let parameter = u32::from_be_bytes(parameter);
                let parameter = if ordinal == ORD_GET_RANDOM { parameter.min(MAX_RANDOM) } else { parameter };
                Ok(Self::Chip { ordinal, command: chip_command(ordinal, parameter) })
            }
            // Management (0x01C2), the boot hash and quotes are not built; other TPM commands are not for vTPMs.
            (mgr::TAG_REQ | mgr::TAG_REQ2 | v12::TAG_RQU_COMMAND, _)
            | (v12::TAG_RQU_AUTH1_COMMAND | v12::TAG_RQU_AUTH2_COMMAND, _) => Err(refuse(code::BAD_ORDINAL)),
            _ => Err(refuse(code::BAD_TAG)),
        }
    }

    /// The tag of this request's response.
    pub const fn response_tag(&self) -> u16 {
        match self {
            Self::Chip { .. } => v12::TAG_RSP_COMMAND,
            Self::Save(_) | Self::Load | Self::BootId => mgr::TAG_RSP,
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

fn chip_command(ordinal: u32, parameter: u32) -> [u8; 14] {
    const HEADER: [u8; 6] = [0, 0xc1, 0, 0, 0, 14];
    let mut fields = HEADER.into_iter().chain(ordinal.to_be_bytes()).chain(parameter.to_be_bytes());
    core::array::from_fn(|_| fields.next().unwrap_or_default())
}

/// A response that is an error.
pub fn error(tag: u16, code: u32) -> [u8; HEADER_SIZE] {
    ResponseHeader::bare(tag, code)
}

/// A successful response with `body`, which is at most [`RECORD_MAX`] bytes.
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
        assert!(Message::parse(&packet(0x01c1, 0x80, &[])) == Ok(Message::BootId));
        assert_eq!(refusal(&packet(0x01c1, 2, &[0])), Some((0x01c4, 25)));
        assert_eq!(refusal(&packet(0x01c1, 0x80, &[0])), Some((0x01c4, 25)));
        for ordinal in [0x46, 0x15] {
            for length in [0, 3, 5, 64] {
                assert_eq!(refusal(&packet(0x00c1, ordinal, &vec![0; length])), Some((0x00c4, 25)));
            }
        }
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
    fn what_is_not_built_or_not_for_vtpms_is_a_bad_ordinal_and_an_unknown_tag_a_bad_tag() {
        for ordinal in [0, 3, 4, 5, 0x7f, 0x81, 0x0200_0101, u32::MAX] {
            assert_eq!(refusal(&packet(0x01c1, ordinal, &[])), Some((0x01c4, 10)));
            assert_eq!(refusal(&packet(0x01c2, ordinal, &[])), Some((0x01c5, 10)));
        }
        // Extend, TakeOwnership, Seal, Startup, ForceClear on the machine's own chip.
        for ordinal in [0x14, 0x0d, 0x17, 0x99, 0x5d] {
            for tag in [0x00c1, 0x00c2, 0x00c3] {
                assert_eq!(refusal(&packet(tag, ordinal, &[0; 4])), Some((0x00c4, 10)));
            }
        }
        for ordinal in [0x46, 0x15] {
            assert_eq!(refusal(&packet(0x00c2, ordinal, &[0; 4])), Some((0x00c4, 10)));
            assert_eq!(refusal(&packet(0x01c1, ordinal, &[0; 4])), Some((0x01c4, 10)));
        }
        for tag in [0, 0x00c0, 0x00c4, 0x01c4, 0x8001, 0xffff] {
            assert_eq!(refusal(&packet(tag, 2, &[])), Some((0x00c4, 30)));
        }
    }

    #[test]
    fn a_chip_command_is_made_anew_with_a_bounded_count() {
        let chip = |bytes: &[u8]| match Message::parse(bytes) {
            Ok(Message::Chip { ordinal, command }) => (ordinal, command.to_vec()),
            _ => panic!("a chip command was expected"),
        };
        let random = packet(0x00c1, 0x46, &[0, 0, 0, 48]);
        assert_eq!(chip(&random), (0x46, random.clone()));
        assert_eq!(chip(&packet(0x00c1, 0x46, &[0xff; 4])).1, packet(0x00c1, 0x46, &MAX_RANDOM.to_be_bytes()));
        let pcr = packet(0x00c1, 0x15, &[0xff; 4]);
        assert_eq!(chip(&pcr), (0x15, pcr.clone()), "whether there is such a PCR is for the chip to say");
    }

    #[test]
    fn answers() {
        assert_eq!(error(0x01c4, 3), [1, 0xc4, 0, 0, 0, 10, 0, 0, 0, 3]);
        assert_eq!(success(0x01c4, &[7, 8])[..], [1, 0xc4, 0, 0, 0, 12, 0, 0, 0, 0, 7, 8]);
        assert_eq!(MALFORMED, error(0x00c4, 25));
    }
}
