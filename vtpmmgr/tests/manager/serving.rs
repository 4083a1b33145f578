//! Many at once, and those that misbehave among them.

use crate::rig::*;
use frontback::tpmback::FrontId;
use std::collections::BTreeSet;
use tpm_wire::mgr::*;
use vault::fake::FlakyDisk;
use xen_abi::DiskError;

fn uuid(n: u16) -> [u8; 16] {
    let mut uuid = [0x55; 16];
    uuid[..2].copy_from_slice(&n.to_be_bytes());
    uuid
}

fn record(n: u16) -> Vec<u8> {
    n.to_be_bytes().repeat(32)
}

/// Registers vTPMs 0 to `count` - 1, each with a record.
fn register(m: &mut Running<'_>, count: u16) {
    for n in 0..count {
        m.attach(front(1000, n.into()), uuid(n));
        assert_eq!(m.ask(front(1000, n.into()), &save(&record(n))).1, 0);
    }
    m.detach(front(1000, u64::from(count) - 1));
}

#[test]
fn a_thousand_registered_and_a_hundred_connected() {
    let world = World::new();
    manage(&world, |mut m| {
        register(&mut m, 1000);
        m.stop();
    });
    manage(&world.restart(), |mut m| {
        for n in 0..100 {
            m.attach(front(10 + n, 1), uuid(7 * n));
        }
        // Everybody loads, saves and asks the chip at once; nobody is left out and nobody gets another's record.
        for round in 0..3u16 {
            for n in 0..100 {
                let command = match round {
                    0 => load(),
                    1 => save(&record(5000 + n)),
                    _ => packet(0x00c1, 0x46, &[0, 0, 0, 16]),
                };
                m.send(front(10 + n, 1), &command);
            }
            let mut answered = BTreeSet::new();
            for _ in 0..20_000 {
                m.turn();
                for (to, answer) in m.answers() {
                    let n = to.domid.0 - 10;
                    assert_eq!(answer[6..10], [0; 4]);
                    assert!(round != 0 || answer[10..] == record(7 * n));
                    assert!(answered.insert(n), "one answer for each");
                }
            }
            assert_eq!(answered.len(), 100);
        }
        assert_eq!(m.ask(front(12, 1), &load()).2, record(5002));
        // The whole list comes in pages that fit a packet, in both forms.
        let (mut uuids, mut entries) = (Vec::new(), Vec::new());
        while uuids.len() < 16 * 1000 {
            let page = m.manage(&Management::VtpmList { index: 0, offset: (uuids.len() / 16) as u32 });
            assert_eq!(page[..4], 1000u32.to_be_bytes());
            uuids.extend_from_slice(&page[4..]);
        }
        while entries.len() < 1000 {
            let page = m.manage(&Management::VtpmList2 { index: 0, offset: entries.len() as u32 });
            entries.extend(VtpmPage::parse(&page).unwrap().entries);
        }
        assert!(
            uuids.chunks(16).eq((0..1000).map(uuid)) && entries.iter().map(|entry| entry.uuid).eq((0..1000).map(uuid))
        );
        let connected = |entry: &&VtpmEntry| entry.flags & vtpm_flags::CONNECTED != 0;
        assert_eq!(entries.iter().filter(connected).count(), 100);
        let status = Status::parse(&m.manage(&Management::Status)).unwrap();
        assert_eq!((status.vtpms, status.connected), (1000, 101));
        m.stop();
    });
}

#[test]
fn a_flood_of_nonsense_and_a_reader_that_stopped_harm_nobody_else() {
    let world = World::new();
    manage(&world, |mut m| {
        for n in [2, 3, 4] {
            m.attach(front(n, 1), uuid(n));
        }
        let nonsense: [Vec<u8>; 6] = [
            vec![0; 10],
            packet(TAG_REQ, 1, &[0; 4078]),
            packet(0xffff, u32::MAX, &[]),
            packet(TAG_REQ2, ORD_GROUP_CREATE, &[0xff; 4000]),
            packet(TAG_REQ, 4, &[0xff; 29]),
            [&packet(TAG_REQ, 2, &[])[..9], &[0xff; 30]].concat(),
        ];
        for round in 0..200u16 {
            m.send(front(2, 1), &nonsense[usize::from(round) % nonsense.len()]);
            // One that never takes its answers: the page holds one, and there is no second request before it is taken.
            if round == 0 {
                m.send(front(3, 1), &load());
            }
            assert_eq!(m.ask_among(front(4, 1), &save(&record(round))), 0);
        }
        assert_eq!(m.ask(front(4, 1), &load()).2, record(199));
        let shown = VtpmShow::parse(&m.manage(&Management::VtpmShow { uuid: uuid(4) })).unwrap();
        assert_eq!(shown.flags, vtpm_flags::RECORD | vtpm_flags::CONNECTED);
        assert_eq!(m.refused(&Management::VtpmShow { uuid: uuid(2) }), code::BAD_PARAMETER);
        m.stop();
    });
}

#[test]
fn what_needs_no_chip_goes_on_while_it_is_dead_and_comes_back_with_it() {
    let world = World::new();
    manage(&world, |mut m| {
        for n in [2, 3] {
            m.attach(front(n, 1), uuid(n));
            assert_eq!(m.ask(front(n, 1), &save(&record(n))).1, 0);
        }
        let random = packet(0x00c1, 0x46, &[0, 0, 0, 8]);
        let quote = QuoteRequest { data: [0; 20], pcrs: 1, flags: 1 }.to_packet();
        assert_eq!(m.ask(front(2, 1), &quote).1, 0);
        world.chip.set_dead(true);
        for command in [&random, &quote, &packet(0x00c1, 0x15, &[0; 4])] {
            m.send(front(2, 1), command);
            for round in 0..30 {
                assert_eq!(m.ask_among(front(3, 1), &save(&record(round))), 0);
            }
            assert_eq!(m.wait_for(front(2, 1)), code::FAIL);
        }
        let status = Status::parse(&m.manage(&Management::Status)).unwrap();
        assert_eq!(status.flags & status_flags::CHIP_ANSWERS, 0);
        assert_eq!(m.refused(&Management::ChipPcrs { pcrs: 1 }), code::FAIL);
        world.chip.set_dead(false);
        assert_eq!(m.ask(front(2, 1), &random).1, 0);
        assert_eq!(m.ask(front(2, 1), &quote).1, 0);
        let status = Status::parse(&m.manage(&Management::Status)).unwrap();
        assert_eq!(status.flags & status_flags::CHIP_ANSWERS, status_flags::CHIP_ANSWERS);
        m.stop();
    });
}

#[test]
fn a_uuid_is_open_once() {
    let world = World::new();
    manage(&world, |mut m| {
        m.attach(front(2, 1), uuid(2));
        assert_eq!(m.ask(front(2, 1), &save(&record(2))).1, 0);
        m.attach(front(3, 1), uuid(2));
        m.send(front(3, 1), &load());
        assert_eq!(m.ask_among(front(2, 1), &load()), 0);
        assert_eq!(*m.fronts.refused.borrow(), [front(3, 1)]);
        // The admin's UUID is no exception.
        m.attach(front(4, 1), ADMIN);
        m.send(front(4, 1), &Management::Status.to_packet());
        m.manage(&Management::Status);
        assert_eq!(*m.fronts.refused.borrow(), [front(3, 1), front(4, 1)]);
        m.stop();
    });
}

#[test]
fn a_disk_that_fails_refuses_the_command_and_keeps_what_was_told() {
    let world = World::new();
    let disk = FlakyDisk::from_image(world.disk.image());
    manage_on(&world, disk.clone(), Default::default(), |mut m| {
        m.attach(front(2, 1), uuid(2));
        assert_eq!(m.ask(front(2, 1), &save(&record(2))).1, 0);
        for command in [
            Management::GroupCreate { saa: None, label: [0; 20] },
            Management::VtpmNew { index: 0, uuid: Some(uuid(9)) },
            Management::VtpmEdit { uuid: uuid(2), index: 0, flags: vtpm_flags::LOCKED },
            Management::RecoveryCode,
            Management::GroupKeys { index: 0 },
        ] {
            for later in [0, 1] {
                disk.fail_at(disk.operations() + later, DiskError::Io);
                assert_eq!(m.refused(&command), code::FAIL, "{:x}", command.ordinal());
            }
            disk.fail_at(disk.operations(), DiskError::Io);
            assert_eq!(m.ask(front(2, 1), &save(&record(7))).1, code::FAIL);
            assert_eq!(m.ask(front(2, 1), &load()).2, record(2));
            assert_eq!(m.manage(&Management::GroupList), [0, 0, 0, 1]);
            assert_eq!(m.refused(&Management::VtpmShow { uuid: uuid(9) }), code::BAD_PARAMETER);
        }
        m.stop();
    });
}

impl Running<'_> {
    /// Asks while others ask too, and gives the code.
    pub fn ask_among(&mut self, front: FrontId, command: &[u8]) -> u32 {
        self.send(front, command);
        self.wait_for(front)
    }

    /// The code of the next answer to this front end; others stay where they are.
    pub fn wait_for(&mut self, front: FrontId) -> u32 {
        for _ in 0..100_000 {
            let mut answers = self.fronts.answers.borrow_mut();
            if let Some(at) = answers.iter().position(|(to, _)| *to == front) {
                let (_, answer) = answers.remove(at);
                return u32::from_be_bytes(answer[6..10].try_into().unwrap());
            }
            drop(answers);
            self.turn();
        }
        panic!("no answer");
    }
}
