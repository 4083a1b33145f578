use super::*;
use crate::{CommandHeader, HEADER_SIZE};
use alloc::boxed::Box;
use alloc::vec;
use alloc::vec::Vec;
use zeroize::Zeroizing;

fn conditions() -> Vec<PcrValues> {
    vec![
        PcrValues { bank: 0xb, mask: 0x81, values: vec![vec![1; 32], vec![2; 32]] },
        PcrValues { bank: 0xc, mask: 1 << 23, values: vec![vec![3; 48]] },
    ]
}

fn every_command() -> Vec<Management> {
    let (uuid, nonce, label) = ([7; 16], [8; 20], [9; 20]);
    let list =
        LegacyList { sequence: 5, conditions: vec![(0xff, [1; 20]), (1 << 17, [2; 20])], kernels: vec![[3; 20]] };
    let modern = ConfigList { group: uuid, sequence: 6, conditions: conditions(), kernels: vec![[4; 20]; 16] };
    let ecdsa = SaaKey::EcdsaP256([5; 64]);
    vec![
        Management::GroupList,
        Management::GroupNew { label, saa: Box::new([1; 256]) },
        Management::GroupDelete { index: 1 },
        Management::GroupActivate { index: 1, blob: vec![1; 256] },
        Management::GroupRegister { index: 1, dh: Box::new([1; 256]), signature: Box::new([2; 256]), pcrs: 0xff_00ff },
        Management::GroupUpdate { index: 1, signature: Box::new([2; 256]), list },
        Management::GroupShow { index: 1 },
        Management::GroupQuote { index: 1, nonce, pcrs: 0 },
        Management::GroupRecover1 { index: 1, key: vec![1; 99], nonce, pcrs: 3 },
        Management::GroupRecover2 { index: 1, dh: Box::new([1; 256]), blob: Zeroizing::new([3; 32]) },
        Management::Status,
        Management::GroupCreate { saa: Some(SaaKey::rsa(&[0x81; 384]).unwrap()), label },
        Management::GroupCreate { saa: None, label },
        Management::GroupShow2 { index: 1 },
        Management::GroupUpdate2 { index: 1, signature: vec![1; 384], list: modern.to_bytes() },
        Management::RecoveryCode,
        Management::GroupSetKey { index: 1, saa: ecdsa },
        Management::GroupKeys { index: 1 },
        Management::ChipPcrs { pcrs: 0xff_ffff },
        Management::VtpmList2 { index: ALL_GROUPS, offset: 4 },
        Management::VtpmList { index: 1, offset: 4 },
        Management::VtpmShow { uuid },
        Management::VtpmEdit { uuid, index: 1, flags: vtpm_flags::LOCKED },
        Management::VtpmNew { index: 1, uuid: None },
        Management::VtpmNew { index: 1, uuid: Some(uuid) },
        Management::VtpmDelete { uuid },
        Management::MakeIdentity { label },
        Management::ActivateIdentity { key: vec![1; 9], blob: vec![] },
        Management::ReadPubek,
        Management::NvDefineSpace { public: vec![1; 70], auth: Zeroizing::new([2; 20]) },
        Management::NvWrite { index: 1, offset: 2, data: vec![1; 9] },
        Management::NvRead { index: 1, offset: 2, size: 3 },
    ]
}

#[test]
fn every_command_reads_back_and_no_other_length_is_taken() {
    for command in every_command() {
        let packet = command.to_packet();
        let (header, body) = CommandHeader::parse(&packet).unwrap();
        assert_eq!((header.tag.get(), header.ordinal.get()), (TAG_REQ2, command.ordinal()));
        assert!(Management::parse(command.ordinal(), body) == Ok(command.clone()));
        for cut in 0..body.len() {
            let shorter = Management::parse(command.ordinal(), &body[..cut]);
            let without_uuid = matches!(command, Management::VtpmNew { .. }) && cut == 4;
            assert!(shorter == Err(Refused(code::BAD_PARAMETER)) || without_uuid, "{:x}, {cut}", command.ordinal());
        }
        assert!(Management::parse(command.ordinal(), &[body, &[0]].concat()) == Err(Refused(code::BAD_PARAMETER)));
    }
    for unknown in [0, 1, 0x0200_0100, 0x0200_010b, 0x0200_0189, 0x0200_0206, 0x0200_0307, u32::MAX] {
        assert!(Management::parse(unknown, &[]) == Err(Refused(code::BAD_ORDINAL)));
    }
}

#[test]
fn sizes_are_those_of_the_c_stack() {
    // xen-vtpm-facts 4.4, header excluded.
    let sizes = [
        (ORD_GROUP_LIST, 0),
        (ORD_GROUP_NEW, 276),
        (ORD_GROUP_DEL, 4),
        (ORD_GROUP_ACTIVATE, 264),
        (ORD_GROUP_REGISTER, 521),
        (ORD_GROUP_UPDATE, 4 + 256 + 8 + 4 + 40 + 4 + 20 + 10),
        (ORD_GROUP_SHOW, 4),
        (ORD_GROUP_QUOTE, 29),
        (ORD_VTPM_LIST, 8),
        (ORD_VTPM_DEL, 16),
    ];
    for command in every_command() {
        if let Some((_, size)) = sizes.iter().find(|(ordinal, _)| *ordinal == command.ordinal()) {
            assert_eq!(command.to_packet().len(), HEADER_SIZE + size, "{:x}", command.ordinal());
        }
    }
}

#[test]
fn lists_with_too_much_in_them_are_a_size_error() {
    let refusal = |conditions, kernels| {
        let list =
            LegacyList { sequence: 1, conditions: vec![(1, [0; 20]); conditions], kernels: vec![[0; 20]; kernels] };
        LegacyList::parse(&list.to_bytes()).err()
    };
    assert_eq!(refusal(LEGACY_CONDITIONS, LEGACY_KERNELS), None);
    assert_eq!(refusal(LEGACY_CONDITIONS + 1, 0), Some(Refused(code::SIZE)));
    assert_eq!(refusal(0, LEGACY_KERNELS + 1), Some(Refused(code::SIZE)));
    // A count that the packet does not hold, and one whose size overflows.
    for n in [6u32, 0x0ccc_cccd, u32::MAX] {
        let bytes = [&[0; 8][..], &n.to_be_bytes(), &[0; 100]].concat();
        assert_eq!(LegacyList::parse(&bytes).err(), Some(Refused(code::BAD_PARAMETER)));
    }
    let modern = |conditions: usize, kernels| {
        let condition = PcrValues { bank: 4, mask: 0, values: vec![] };
        let list = ConfigList {
            conditions: vec![condition; conditions],
            kernels: vec![[0; 20]; kernels],
            ..ConfigList::default()
        };
        ConfigList::parse(&list.to_bytes()).err()
    };
    assert_eq!(modern(MAX_CONDITIONS, MAX_KERNELS), None);
    assert_eq!(modern(MAX_CONDITIONS + 1, 0), Some(Refused(code::SIZE)));
    assert_eq!(modern(0, MAX_KERNELS + 1), Some(Refused(code::SIZE)));
}

#[test]
fn a_list_says_what_it_is() {
    let list = ConfigList { group: [1; 16], sequence: 2, conditions: conditions(), kernels: vec![] };
    let good = list.to_bytes();
    assert_eq!(ConfigList::parse(&good), Ok(list));
    for (place, byte) in [(0, b'X'), (5, 1), (5, 3), (35, 5), (36, 1)] {
        let mut bad = good.clone();
        bad[place] = byte;
        assert_eq!(ConfigList::parse(&bad), Err(Refused(code::BAD_PARAMETER)), "byte {place}");
    }
}

#[test]
fn selections_of_pcrs() {
    let read = |bytes: &[u8]| read_selection(&mut Reader::new(bytes));
    assert_eq!(read(&[0, 0]), Ok(0));
    assert_eq!(read(&[0, 1, 0x81]), Ok(0x81));
    assert_eq!(read(&[0, 3, 1, 2, 4]), Ok(0x04_0201));
    assert_eq!(read(&[0, 4, 1, 2, 4, 0]), Ok(0x04_0201));
    for bad in [&[0][..], &[0, 3, 1, 2], &[0, 4, 0, 0, 0, 1], &[0, 5, 0, 0, 0, 0, 0], &[0xff, 0xff, 0]] {
        assert_eq!(read(bad), Err(Refused(code::BAD_PARAMETER)));
    }
}

#[test]
fn approval_keys() {
    for key in [None, SaaKey::rsa(&[0x91; 256]), SaaKey::rsa(&[0x91; 384]), Some(SaaKey::EcdsaP256([1; 64]))] {
        let mut bytes = Vec::new();
        SaaKey::write(key.as_ref(), &mut bytes);
        assert_eq!(SaaKey::read(&mut Reader::new(&bytes)), Some(key));
    }
    for bad in [vec![1; 255], vec![1; 385], vec![1; 512], [vec![0], vec![1; 255]].concat(), vec![2; 256]] {
        assert_eq!(SaaKey::rsa(&bad), None, "too short, too long, a leading zero, an even number");
    }
    for bad in [&[0, 0, 0, 1, 0][..], &[0, 0x18, 0, 1, 0], &[0, 2, 0, 0], &[0, 1, 0, 0], &[0]] {
        assert_eq!(SaaKey::read(&mut Reader::new(bad)), None);
    }
}

#[test]
fn quotes() {
    let request = QuoteRequest { data: [1; 20], pcrs: 0x80_0001, flags: 0xf };
    let packet = request.to_packet();
    let (header, body) = CommandHeader::parse(&packet).unwrap();
    assert_eq!((header.tag.get(), header.ordinal.get()), (TAG_REQ, ORD_GET_QUOTE));
    assert_eq!(QuoteRequest::parse(body), Ok(request));
    for cut in 0..body.len() {
        assert_eq!(QuoteRequest::parse(&body[..cut]), Err(Refused(code::BAD_PARAMETER)));
    }
    assert_eq!(QuoteRequest::parse(&[body, &[0]].concat()), Err(Refused(code::BAD_PARAMETER)));
    for flags in [0x10, 1 << 31, u32::MAX] {
        let packet = QuoteRequest { flags, ..request }.to_packet();
        assert_eq!(QuoteRequest::parse(&packet[10..]), Err(Refused(code::INVALID_REQUEST)));
    }
    assert_eq!(
        external_data_preimage(5, &[9; 20], &[[1; 20], [2; 20]])[..25],
        [&[0, 0, 0, 5][..], &[9; 20], &[1]].concat()
    );

    let old = Evidence::Tpm12 { signature: vec![1; 256], hashes: vec![[2; 20]; 4], pcrs: vec![vec![3; 20]; 2] };
    assert_eq!(old.to_bytes().len(), 256 + 80 + 40);
    assert_eq!(Evidence::parse_12(&old.to_bytes(), 0xf, 0x80_0001), Some(old.clone()));
    assert_eq!(Evidence::parse_12(&old.to_bytes(), 0x7, 0x80_0001), None);
    let new = Evidence::Tpm20 { attest: vec![1; 9], signature: vec![2; 7], hashes: vec![], pcrs: vec![vec![3; 32]; 2] };
    assert_eq!(Evidence::parse_20(&new.to_bytes(), 0, 0x80_0001, 32), Some(new.clone()));
    for cut in 0..new.to_bytes().len() {
        assert_eq!(Evidence::parse_20(&new.to_bytes()[..cut], 0, 0x80_0001, 32), None);
    }
}

#[test]
fn answers_read_back() {
    let status = Status {
        chip_version: 0x20,
        vendor: *b"IBM ",
        firmware: 1 << 40,
        bank: 0xb,
        flags: 5,
        rollback: RollbackMode::Strict,
        counter: 6,
        uptime: 7,
        boot_id: [8; 20],
        groups: 9,
        vtpms: 10,
        connected: 11,
        version: "0.1.0".into(),
    };
    assert_eq!(Status::parse(&status.to_bytes()), Some(status));
    let show = GroupShow {
        uuid: [1; 16],
        flags: 2,
        vtpms: 3,
        saa: SaaKey::rsa(&[5; 256]),
        sequence: 4,
        conditions: vec![Condition { bank: 0xb, mask: 1, digest: vec![6; 32] }],
        kernels: vec![[7; 20]; 2],
    };
    assert_eq!(GroupShow::parse(&show.to_bytes()), Some(show));
    let keys = GroupKeys { uuid: [1; 16], attestation: vec![2; 256], binding: vec![], endorsement: vec![3] };
    assert_eq!(GroupKeys::parse(&keys.to_bytes()), Some(keys));
    let pcrs = ChipPcrs(conditions().remove(0));
    assert_eq!(ChipPcrs::parse(&pcrs.to_bytes()), Some(pcrs));
    let vtpm = VtpmShow { index: 1, group: [2; 16], flags: 3, label: [4; 20] };
    assert_eq!(VtpmShow::parse(&vtpm.to_bytes()), Some(vtpm));
    let page = VtpmPage { total: 500, entries: vec![VtpmEntry { uuid: [1; 16], index: 2, flags: 3 }; VtpmPage::MAX] };
    assert!(page.to_bytes().len() <= crate::MAX_PACKET - HEADER_SIZE);
    assert_eq!(VtpmPage::parse(&page.to_bytes()), Some(page));
    let summary = GroupSummary {
        uuid: [1; 16],
        saa: Box::new([2; 256]),
        sequence: 3,
        composites: vec![[4; 20]],
        kernels: vec![],
    };
    assert_eq!(summary.to_bytes().len(), 16 + 256 + 8 + 4 + 20 + 4);
    assert_eq!(GroupSummary::parse(&summary.to_bytes()), Some(summary));
    let new = NewGroup { uuid: [1; 16], aik: Box::new([2; 256]), binding: Box::new([3; 256]) };
    assert_eq!(NewGroup::parse(&new.to_bytes()), Some(new));
    let registered = Registration { dh: Box::new([1; 256]), blob: [2; 32], quote: vec![3; 256] };
    assert_eq!(Registration::parse(&registered.to_bytes()), Some(registered));
}
