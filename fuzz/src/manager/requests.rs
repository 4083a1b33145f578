//! Requests to the manager, from well-formed ones to noise.

use crate::input::Input;
use tpm_crypto::ecc::P256Private;
use tpm_crypto::sha256;
use tpm_wire::mgr::*;
use zeroize::Zeroizing;

/// What every record is made of, beside its owner's number: in no other message by chance.
const MARK: [u8; 7] = [0xe7, 0x5a, 0x93, 0x0d, 0xc6, 0x71, 0x2b];

/// A record of vTPM `who`: 8 bytes that say whose it is, again and again, then a few of this one's own.
fn record(who: u8, number: u8, length: usize) -> Vec<u8> {
    let unit = [&MARK[..], &[who]].concat();
    let mut record: Vec<u8> = unit.into_iter().cycle().take(length - 2).collect();
    record.extend([number; 2]);
    record
}

/// The vTPMs whose records, or parts of them, are in an answer. One changed byte of a record may make it look like somebody else's in one
/// place, but not in all.
pub fn owners(answer: &[u8]) -> Vec<u8> {
    let units = answer.windows(MARK.len() + 1).filter(|window| window.starts_with(&MARK));
    units.filter_map(|unit| unit.last().copied()).collect()
}

/// The label of a domain.
pub fn label(domain: u8) -> Vec<u8> {
    format!("user_{domain}:vm_r:vtpm_t").into_bytes()
}

fn packet(tag: u16, ordinal: u32, body: &[u8], size: u32) -> Vec<u8> {
    [&tag.to_be_bytes()[..], &size.to_be_bytes(), &ordinal.to_be_bytes(), body].concat()
}

/// LOADHASHKEY.
pub fn load() -> Vec<u8> {
    packet(TAG_REQ, ORD_LOADHASHKEY, &[], 10)
}

/// A request from vTPM `who`.
pub fn any(input: &mut Input<'_>, who: u8, admin: bool, groups: &[[u8; 16]]) -> Vec<u8> {
    let kind = input.u8();
    let mut packet = match kind % if admin { 4 } else { 12 } {
        0 => management(input, groups).to_packet().to_vec(),
        1..4 if admin => management(input, groups).to_packet().to_vec(),
        _ => plain(input, who),
    };
    if input.rarely(16) {
        let at = usize::from(input.u16()) % packet.len();
        packet[at] = input.u8();
    }
    if input.rarely(16) {
        packet.truncate(usize::from(input.u16()).max(10));
    }
    if input.rarely(8) {
        let size = (packet.len() as u32).to_be_bytes();
        packet[2..6].copy_from_slice(&size);
    }
    packet
}

fn plain(input: &mut Input<'_>, who: u8) -> Vec<u8> {
    let (tag, ordinal) = match input.u8() % 10 {
        0..3 => (TAG_REQ, ORD_SAVEHASHKEY),
        3..5 => (TAG_REQ, ORD_LOADHASHKEY),
        5 => (TAG_REQ, input.choose(&[ORD_GET_BOOT_ID, ORD_GET_BOOT_HASH])),
        6 => (0x00c1, input.choose(&[0x46, 0x15, 0x14])),
        7 | 8 => {
            let quote = QuoteRequest { data: input.array(), pcrs: input.u32() & 0xff_ffff, flags: input.u32() & 0x1f };
            return quote.to_packet();
        }
        _ => (input.u16(), input.u32()),
    };
    let body = match (ordinal, input.u8()) {
        (ORD_SAVEHASHKEY, fill @ 0..200) => record(who, fill, 52 + usize::from(fill) % 13),
        (ORD_LOADHASHKEY | ORD_GET_BOOT_HASH | ORD_GET_BOOT_ID, 0..240) => vec![],
        (0x46 | 0x15, 0..200) => input.u32().to_be_bytes().to_vec(),
        (0x14, 0..200) => [&[0, 0, 0, input.u8() % 26][..], &input.array::<20>()].concat(),
        _ => input.bytes(false).to_vec(),
    };
    let size = if input.rarely(16) { input.near(10) } else { 10 + body.len() as u32 };
    packet(tag, ordinal, &body, size)
}

fn agent() -> P256Private {
    P256Private::from_bytes(&[0x21; 32]).expect("a number in range")
}

fn uuid(input: &mut Input<'_>) -> [u8; 16] {
    [input.u8() % 5; 16]
}

fn group_index(input: &mut Input<'_>) -> u32 {
    if input.rarely(16) { input.u32() } else { u32::from(input.u8() % 4) }
}

fn selection(input: &mut Input<'_>) -> u32 {
    if input.rarely(32) { input.u32() & 0xff_ffff } else { 1 << (input.u8() % 24) }
}

/// A list for one of the groups that were made, signed as it should be most of the time. Its configurations are PCRs as the chip has them
/// when it was switched on.
fn list(input: &mut Input<'_>, groups: &[[u8; 16]]) -> Management {
    let kernels = (0..input.u8() % 3).map(|_| tpm_crypto::sha1(&[&label(input.u8() % 4)])).collect();
    let conditions = (0..input.u8() % 3).map(|_| {
        let pcr = input.u8() % 16;
        PcrValues { bank: 4, mask: 1 << pcr, values: vec![vec![pcr; 20]] }
    });
    let conditions = conditions.collect();
    let place = usize::from(input.u8() % 4);
    let group = groups.get(place).copied().unwrap_or_else(|| input.array());
    let list = ConfigList { group, sequence: input.u8().into(), conditions, kernels }.to_bytes();
    let (r, s) = agent().sign(&sha256(&[&list]));
    let signature = if input.rarely(4) { input.bytes(false).to_vec() } else { [r, s].concat() };
    let index = if input.rarely(4) { group_index(input) } else { 1 + place as u32 };
    Management::GroupUpdate2 { index, signature, list }
}

fn management(input: &mut Input<'_>, groups: &[[u8; 16]]) -> Management {
    let saa = {
        let (x, y) = agent().public().coordinates();
        SaaKey::EcdsaP256([x, y].concat().try_into().expect("64 bytes"))
    };
    let modulus = || Box::new(core::array::from_fn(|at| if at == 0 { 0x91 } else { 1 }));
    match input.u8() % 32 {
        0 => Management::GroupList,
        1 => Management::GroupNew { label: input.array(), saa: modulus() },
        2 => Management::GroupDelete { index: group_index(input) },
        3 => Management::GroupActivate { index: group_index(input), blob: input.bytes(false).to_vec() },
        4 => Management::GroupRegister {
            index: group_index(input),
            dh: Box::new([9; 256]),
            signature: modulus(),
            pcrs: selection(input),
        },
        5 => {
            let list = LegacyList {
                sequence: input.u8().into(),
                conditions: vec![(selection(input), input.array())],
                kernels: vec![],
            };
            Management::GroupUpdate { index: group_index(input), signature: modulus(), list }
        }
        6 => Management::GroupShow { index: group_index(input) },
        7 => Management::GroupQuote { index: group_index(input), nonce: input.array(), pcrs: selection(input) },
        8 => Management::GroupRecover1 {
            index: group_index(input),
            key: input.bytes(false).to_vec(),
            nonce: input.array(),
            pcrs: selection(input),
        },
        9 => Management::GroupRecover2 {
            index: group_index(input),
            dh: Box::new([9; 256]),
            blob: Zeroizing::new(input.array()),
        },
        10 => Management::Status,
        11 | 12 => Management::GroupCreate { saa: input.flag().then_some(saa), label: input.array() },
        13 => Management::GroupShow2 { index: group_index(input) },
        14 | 15 => list(input, groups),
        16 => Management::RecoveryCode,
        17 => Management::GroupSetKey { index: group_index(input), saa },
        18 => Management::GroupKeys { index: group_index(input) },
        19 => Management::ChipPcrs { pcrs: selection(input) },
        20 => Management::VtpmList2 { index: input.choose(&[ALL_GROUPS, 0, 1]), offset: group_index(input) },
        21 => Management::VtpmList { index: group_index(input), offset: group_index(input) },
        22 => Management::VtpmShow { uuid: uuid(input) },
        23 | 24 => Management::VtpmEdit {
            uuid: uuid(input),
            index: group_index(input),
            flags: if input.rarely(3) { vtpm_flags::LOCKED } else { 0 },
        },
        25 => Management::VtpmNew { index: group_index(input), uuid: input.flag().then(|| uuid(input)) },
        26 => Management::VtpmDelete { uuid: uuid(input) },
        27 => Management::MakeIdentity { label: input.array() },
        28 => Management::ActivateIdentity { key: input.bytes(false).to_vec(), blob: input.bytes(false).to_vec() },
        29 => Management::ReadPubek,
        30 => Management::NvDefineSpace { public: input.bytes(false).to_vec(), auth: Zeroizing::new(input.array()) },
        _ => Management::NvRead { index: input.u32(), offset: group_index(input), size: input.u32() },
    }
}
