use crate::dispatch::table::ord;
use crate::testing::{commit, rng, send, send_at, tpm};
use crate::{Options, StartupType, Tpm12};
use alloc::vec;
use alloc::vec::Vec;

const OK: Result<Vec<u8>, u32> = Ok(Vec::new());

/// `TPM_NV_DATA_PUBLIC` without PCR restrictions, for all localities.
pub(crate) fn definition(index: u32, attributes: u32, size: u32) -> Vec<u8> {
    let pcr = [&[0, 3, 0, 0, 0, 0x1f][..], &[0; 20]].concat();
    let index = index.to_be_bytes();
    let (attributes, size) = (attributes.to_be_bytes(), size.to_be_bytes());
    [&[0, 0x18], &index[..], &pcr, &pcr, &[0, 0x17], &attributes, &[0; 3], &size].concat()
}

fn define(tpm: &mut Tpm12, index: u32, attributes: u32, size: u32) -> Result<Vec<u8>, u32> {
    send(tpm, ord::NV_DEFINE_SPACE, &[&definition(index, attributes, size), &[0; 20]])
}

fn write(tpm: &mut Tpm12, index: u32, offset: u32, data: &[u8]) -> Result<Vec<u8>, u32> {
    let (index, offset) = (index.to_be_bytes(), offset.to_be_bytes());
    send(tpm, ord::NV_WRITE_VALUE, &[&index, &offset, &(data.len() as u32).to_be_bytes(), data])
}

fn read(tpm: &mut Tpm12, index: u32, offset: u32, size: u32) -> Result<Vec<u8>, u32> {
    let out = send(tpm, ord::NV_READ_VALUE, &[&index.to_be_bytes(), &offset.to_be_bytes(), &size.to_be_bytes()])?;
    assert_eq!(out[..4], (out.len() as u32 - 4).to_be_bytes());
    Ok(out[4..].to_vec())
}

fn lock(tpm: &mut Tpm12) {
    assert_eq!(define(tpm, 0xffff_ffff, 0, 0), OK);
}

fn presence(tpm: &mut Tpm12) {
    tpm.assert_physical_presence();
}

const PPWRITE: u32 = 1;
const WRITEDEFINE: u32 = 0x2000;

#[test]
fn an_area_is_all_ones_then_what_was_written_and_outlives_a_restart() {
    let mut tpm = tpm();
    assert_eq!(define(&mut tpm, 0x1100, PPWRITE, 8), OK);
    assert_eq!(read(&mut tpm, 0x1100, 0, 8), Ok(vec![0xff; 8]));
    assert_eq!(write(&mut tpm, 0x1100, 2, b"abc"), OK);
    let state = commit(&mut tpm).unwrap();
    let mut tpm = Tpm12::load(&state, rng(3), Options::default()).unwrap();
    tpm.startup(StartupType::Clear).unwrap();
    assert_eq!(read(&mut tpm, 0x1100, 0, 8), Ok(b"\xff\xffabc\xff\xff\xff".to_vec()));
    // Writing what is there already is no change to make durable.
    assert_eq!(write(&mut tpm, 0x1100, 2, b"abc"), OK);
    assert_eq!(commit(&mut tpm), None);
}

#[test]
fn offsets_and_sizes_stay_within_the_area() {
    let mut tpm = tpm();
    define(&mut tpm, 0x1100, PPWRITE, 8).unwrap();
    for (offset, size) in [(0u32, 9u32), (1, 8), (8, 1), (u32::MAX, 1), (u32::MAX, u32::MAX), (1, u32::MAX)] {
        assert_eq!(read(&mut tpm, 0x1100, offset, size), Err(17));
    }
    assert_eq!(write(&mut tpm, 0x1100, 4, &[0; 5]), Err(17));
    assert_eq!(write(&mut tpm, 0x1100, u32::MAX, &[0; 5]), Err(17));
    assert_eq!(read(&mut tpm, 0x1101, 0, 1), Err(2));
    assert_eq!(write(&mut tpm, 0x1101, 0, &[0]), Err(2));
    assert!(commit(&mut tpm).is_some());
}

#[test]
fn impossible_definitions_are_refused() {
    let mut tpm = tpm();
    assert_eq!(define(&mut tpm, 0x1100, 0, 8), Err(63), "nobody could write");
    assert_eq!(define(&mut tpm, 0x1100, 6, 8), Err(59), "owner and area authorization");
    assert_eq!(define(&mut tpm, 0x1100, PPWRITE | 0x6_0000, 8), Err(59));
    assert_eq!(define(&mut tpm, 0, PPWRITE, 8), Err(2));
    assert_eq!(define(&mut tpm, 0x0100_0000, PPWRITE, 8), Err(2));
    assert_eq!(define(&mut tpm, 0x1100, PPWRITE, 0), Err(25));
    assert_eq!(define(&mut tpm, 0x1100, PPWRITE, 16 * 1024), Err(17));
    assert_eq!(define(&mut tpm, 0x1100, PPWRITE, u32::MAX), Err(17));
    assert_eq!(define(&mut tpm, 0xffff_ffff, 0, 1), Err(2));
    let mut bad = definition(0x1100, PPWRITE, 8);
    bad[1] = 0x19;
    assert_eq!(send(&mut tpm, ord::NV_DEFINE_SPACE, &[&bad, &[0; 20]]), Err(67));
    let mut no_locality = definition(0x1100, PPWRITE, 8);
    no_locality[11] = 0;
    assert_eq!(send(&mut tpm, ord::NV_DEFINE_SPACE, &[&no_locality, &[0; 20]]), Err(67));
    let whole = [definition(0x1100, PPWRITE, 8), vec![0; 20]].concat();
    for cut in 0..whole.len() {
        assert!(send(&mut tpm, ord::NV_DEFINE_SPACE, &[&whole[..cut]]).is_err());
    }
}

#[test]
fn there_is_room_for_four_kibibytes_and_for_twenty_areas() {
    let mut tpm = tpm();
    assert_eq!(define(&mut tpm, 0x1100, PPWRITE, 4096), OK);
    for index in 0..20 {
        assert_eq!(define(&mut tpm, 0x1200 + index, PPWRITE, 64), OK);
    }
    // Trying is not defining.
    assert_eq!(define(&mut tpm, 0xf004, PPWRITE, 64), OK);
    assert_eq!(read(&mut tpm, 0xf004, 0, 1), Err(2));
}

#[test]
fn size_zero_deletes() {
    let mut tpm = tpm();
    define(&mut tpm, 0x1100, PPWRITE, 8).unwrap();
    assert_eq!(define(&mut tpm, 0x1100, PPWRITE, 0), OK);
    assert_eq!(read(&mut tpm, 0x1100, 0, 1), Err(2));
}

#[test]
fn an_ownerless_tpm_takes_64_writes() {
    let mut tpm = tpm();
    define(&mut tpm, 0x1100, PPWRITE, 1).unwrap();
    for n in 1..64u8 {
        assert_eq!(write(&mut tpm, 0x1100, 0, &[n]), OK);
    }
    assert_eq!(write(&mut tpm, 0x1100, 0, &[0]), Err(72));
    assert_eq!(define(&mut tpm, 0x1101, PPWRITE, 1), Err(72));
}

#[test]
fn after_the_lock_presence_and_attributes_count() {
    let mut tpm = tpm();
    define(&mut tpm, 0x1100, PPWRITE, 4).unwrap();
    define(&mut tpm, 0x1000_1100, PPWRITE, 4).unwrap();
    define(&mut tpm, 0x1101, WRITEDEFINE, 4).unwrap();
    define(&mut tpm, 0x1102, 2, 4).unwrap();
    assert_eq!(write(&mut tpm, 0x1102, 0, &[1]), OK, "unlocked");
    lock(&mut tpm);
    assert_eq!(write(&mut tpm, 0x1100, 0, &[1]), Err(45));
    assert_eq!(define(&mut tpm, 0x1103, PPWRITE, 4), Err(45));
    assert_eq!(write(&mut tpm, 0x1102, 0, &[1]), Err(59), "the owner's area");
    presence(&mut tpm);
    assert_eq!(write(&mut tpm, 0x1100, 0, &[1]), OK);
    assert_eq!(define(&mut tpm, 0x1103, PPWRITE, 4), OK);
    assert_eq!(define(&mut tpm, 0x1103, PPWRITE, 0), Err(43));
    assert_eq!(define(&mut tpm, 0x1000_1100, PPWRITE, 8), Err(2), "the D bit is the manufacturer's");
    // An empty write locks a WRITEDEFINE area for good.
    assert_eq!(write(&mut tpm, 0x1101, 0, &[7]), OK);
    assert_eq!(write(&mut tpm, 0x1101, 0, &[]), OK);
    assert_eq!(write(&mut tpm, 0x1101, 0, &[8]), Err(60));
    tpm.reset_for_new_guest();
    assert_eq!(write(&mut tpm, 0x1101, 0, &[8]), Err(60));
}

#[test]
fn stclear_and_global_locks_last_until_the_next_start() {
    let mut tpm = tpm();
    define(&mut tpm, 0x1100, PPWRITE | 0x4000 | 0x8000_0000, 4).unwrap();
    define(&mut tpm, 0x1101, PPWRITE | 0x8000, 4).unwrap();
    lock(&mut tpm);
    presence(&mut tpm);
    assert_eq!(write(&mut tpm, 0x1100, 0, &[]), OK);
    assert_eq!(write(&mut tpm, 0x1100, 0, &[1]), Err(60));
    assert_eq!(read(&mut tpm, 0x1100, 0, 0), Ok(vec![]));
    assert_eq!(read(&mut tpm, 0x1100, 0, 1), Err(8));
    assert_eq!(write(&mut tpm, 0, 0, &[]), OK);
    assert_eq!(write(&mut tpm, 0x1101, 0, &[1]), Err(60));
    tpm.reset_for_new_guest();
    presence(&mut tpm);
    assert_eq!(write(&mut tpm, 0x1100, 0, &[1]), OK);
    assert_eq!(write(&mut tpm, 0x1101, 0, &[1]), OK);
    assert_eq!(read(&mut tpm, 0x1100, 0, 1), Ok(vec![1]));
}

#[test]
fn localities_and_pcrs_restrict_once_nv_is_locked() {
    let mut tpm = tpm();
    let mut only_two = definition(0x1100, PPWRITE, 4);
    only_two[11] = 4;
    send(&mut tpm, ord::NV_DEFINE_SPACE, &[&only_two, &[0; 20]]).unwrap();
    let mut wrong_pcr = definition(0x1101, PPWRITE, 4);
    wrong_pcr[8] = 1;
    send(&mut tpm, ord::NV_DEFINE_SPACE, &[&wrong_pcr, &[0; 20]]).unwrap();
    let parameters: [&[u8]; 3] = [&0x1100u32.to_be_bytes(), &[0; 4], &[0, 0, 0, 1]];
    assert!(send(&mut tpm, ord::NV_READ_VALUE, &parameters).is_ok());
    lock(&mut tpm);
    assert_eq!(send(&mut tpm, ord::NV_READ_VALUE, &parameters), Err(61));
    assert!(send_at(&mut tpm, 2, ord::NV_READ_VALUE, &parameters).is_ok());
    assert_eq!(read(&mut tpm, 0x1101, 0, 1), Err(24));
}

/// Who may read and write which area of a locked NV storage under an owner: nobody, the owner, the area's own secret.
#[test]
fn areas_are_for_those_their_attributes_name() {
    use crate::testing::client::{Auth, OWNER, call, oiap, osap, sized};
    const AREA: [u8; 20] = [0x0a; 20];
    let mut tpm = crate::testing::owned();
    lock(&mut tpm);
    let areas = [(0x1200u32, 0x0002_0002u32), (0x1201, 0x0004_0004), (0x1202, 0x0001_0001), (0x1203, 0x0004_0002)];
    for (index, attributes) in areas {
        let mut owner = osap(&mut tpm, 2, 0, OWNER);
        let enc = owner.encrypt(&AREA, false);
        let parameters: [&[u8]; 2] = [&definition(index, attributes, 4), &enc];
        assert_eq!(call(&mut tpm, ord::NV_DEFINE_SPACE, &[], &parameters, &mut [&mut owner]), OK);
    }
    let with = |tpm: &mut Tpm12, ordinal: u32, index: u32, secret: [u8; 20]| {
        let mut auth = Auth { keep: false, ..oiap(tpm, secret) };
        let last = if [ord::NV_READ_VALUE, ord::NV_READ_VALUE_AUTH].contains(&ordinal) {
            4u32.to_be_bytes().to_vec()
        } else {
            sized(&[7; 4])
        };
        call(tpm, ordinal, &[], &[&index.to_be_bytes(), &[0; 4], &last], &mut [&mut auth]).err()
    };
    let everybody = |tpm: &mut Tpm12, index: u32| {
        let wrong = [
            with(tpm, ord::NV_READ_VALUE, index, AREA),
            with(tpm, ord::NV_WRITE_VALUE, index, AREA),
            with(tpm, ord::NV_READ_VALUE_AUTH, index, OWNER),
            with(tpm, ord::NV_WRITE_VALUE_AUTH, index, OWNER),
        ];
        assert!(
            wrong.iter().all(|code| matches!(code, Some(1 | 6 | 59))),
            "{index:#x} with the other's secret: {wrong:?}"
        );
        let reads = [
            read(tpm, index, 0, 4).err(),
            with(tpm, ord::NV_READ_VALUE, index, OWNER),
            with(tpm, ord::NV_READ_VALUE_AUTH, index, AREA),
        ];
        let writes = [
            write(tpm, index, 0, &[7; 4]).err(),
            with(tpm, ord::NV_WRITE_VALUE, index, OWNER),
            with(tpm, ord::NV_WRITE_VALUE_AUTH, index, AREA),
        ];
        (reads, writes)
    };
    let (no, yes, absent, off) = (Some(59), None, Some(45), Some(6));
    assert_eq!(everybody(&mut tpm, 0x1200), ([no, yes, no], [no, yes, no]));
    assert_eq!(everybody(&mut tpm, 0x1201), ([no, no, yes], [no, no, yes]));
    assert_eq!(everybody(&mut tpm, 0x1202), ([absent, no, no], [absent, no, no]));
    assert_eq!(everybody(&mut tpm, 0x1203), ([no, no, yes], [no, yes, no]));
    send(&mut tpm, ord::RESET, &[]).unwrap();
    presence(&mut tpm);
    assert_eq!(everybody(&mut tpm, 0x1202), ([yes, no, no], [yes, no, no]));
    // A deactivated TPM keeps what is behind a secret to itself.
    send(&mut tpm, ord::SET_TEMP_DEACTIVATED, &[]).unwrap();
    crate::testing::send(&mut tpm, ord::RESET, &[]).unwrap();
    assert_eq!(everybody(&mut tpm, 0x1200), ([off, off, off], [off, off, off]));
    assert_eq!(everybody(&mut tpm, 0x1201), ([no, no, off], [no, no, off]));
    assert_eq!(everybody(&mut tpm, 0x1202), ([yes, no, off], [yes, no, off]));
}
