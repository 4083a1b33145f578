//! A block back end over a disk in memory, with faults on demand.

use super::{FakeDomain, Machine, MappedPage};
use alloc::format;
use alloc::rc::Rc;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::cell::RefCell;
use xen_abi::io::blkif::{self, Request, Response};
use xen_abi::{DomId, EventChannels, EventPort, GrantRef, Grants, SECTOR_SIZE, SharedPage, Store};
use zerocopy::{FromZeros, IntoBytes};

/// A disk that can lose power.
#[derive(Default)]
pub struct RamDisk {
    /// The content as the domain that wrote it sees it.
    pub data: Vec<u8>,
    /// Sectors overwritten since the last flush, oldest first, with what was there before.
    pub unflushed: Vec<(u64, [u8; SECTOR_SIZE])>,
    /// Requests to write so far.
    pub writes: u64,
    /// Flushes and barriers so far.
    pub flushes: u64,
}

impl RamDisk {
    /// A blank disk.
    pub fn new(sectors: u64) -> Rc<RefCell<Self>> {
        let data = alloc::vec![0; sectors as usize * SECTOR_SIZE];
        Rc::new(RefCell::new(Self { data, ..Self::default() }))
    }

    /// The power goes: of the sectors written since the last flush, those for which `keep` says no get their old content back.
    pub fn power_cut(&mut self, mut keep: impl FnMut(u64) -> bool) {
        for (sector, old) in core::mem::take(&mut self.unflushed).into_iter().rev() {
            if !keep(sector) {
                self.sector_mut(sector).copy_from_slice(&old);
            }
        }
    }

    fn sector_mut(&mut self, sector: u64) -> &mut [u8] {
        let start = sector as usize * SECTOR_SIZE;
        &mut self.data[start..start + SECTOR_SIZE]
    }
}

/// What the back end does wrong, from now on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fault {
    /// Nothing.
    None,
    /// Every request fails.
    IoError,
    /// Flushes are not supported, whatever was announced.
    NoFlush,
    /// Flushes and barriers are not supported, whatever was announced.
    NoFlushNoBarrier,
    /// Flushes are acknowledged and not done.
    LostFlush,
    /// No request is answered; the fault over, they are.
    Silent,
    /// Responses carry another request's number.
    WrongId,
    /// Each response comes twice.
    Twice,
    /// The producer index is this far ahead of what was answered.
    WildProducer(u32),
}

/// The back end of one disk.
pub struct BlkBack {
    domain: FakeDomain,
    front: DomId,
    dir: String,
    front_dir: String,
    disk: Rc<RefCell<RamDisk>>,
    /// What it does wrong.
    pub fault: Fault,
    /// Keys published at connect, `sectors` and the features among them; change them before the front end connects.
    pub keys: Vec<(String, String)>,
    ring: Option<(MappedPage, EventPort)>,
    answered: u32,
    taken: u32,
}

const ENTRIES: u32 = 32;

impl BlkBack {
    /// The back end in `back` of the disk that [`Machine::xl_vbd_attach`] made.
    pub fn new(machine: &Machine, back: DomId, front: DomId, vdev: u32, disk: &Rc<RefCell<RamDisk>>) -> Self {
        let sectors = disk.borrow().data.len() / SECTOR_SIZE;
        let keys = [
            ("sectors", sectors.to_string()),
            ("sector-size", "512".into()),
            ("info", "0".into()),
            ("feature-flush-cache", "1".into()),
            ("feature-barrier", "1".into()),
        ];
        Self {
            domain: machine.domain(back),
            front,
            dir: format!("/local/domain/{back}/backend/vbd/{front}/{vdev}"),
            front_dir: format!("/local/domain/{front}/device/vbd/{vdev}"),
            disk: disk.clone(),
            fault: Fault::None,
            keys: keys.map(|(key, value)| (key.to_string(), value)).to_vec(),
            ring: None,
            answered: 0,
            taken: 0,
        }
    }

    /// Publishes another value, or a new key.
    pub fn set_key(&mut self, key: &str, value: &str) {
        self.keys.retain(|(known, _)| known != key);
        self.keys.push((key.to_string(), value.to_string()));
    }

    /// Removes a key.
    pub fn without_key(&mut self, key: &str) {
        self.keys.retain(|(known, _)| known != key);
    }

    /// Its state in xenstore.
    pub fn state(&mut self) -> Option<u32> {
        self.number(&format!("{}/state", self.dir.clone()))
    }

    /// Sets its state in xenstore.
    pub fn set_state(&mut self, state: u32) {
        self.domain.put(&format!("{}/state", self.dir), &state.to_string());
    }

    fn number(&mut self, path: &str) -> Option<u32> {
        String::from_utf8(self.domain.read(None, path).ok()?).ok()?.parse().ok()
    }

    /// Follows the front end and serves what is on the ring.
    pub fn step(&mut self) {
        let front_state = self.number(&format!("{}/state", self.front_dir));
        match (self.state(), front_state) {
            (Some(1), Some(_)) => self.set_state(2),
            (Some(2), Some(3 | 4)) => self.connect(),
            (Some(4), Some(5)) => self.set_state(5),
            (Some(state), Some(6) | None) if state != 6 => {
                self.disconnect();
                self.set_state(6);
            }
            _ => {}
        }
        self.serve();
    }

    fn connect(&mut self) {
        let reference = self.number(&format!("{}/ring-ref", self.front_dir)).expect("a ring");
        let port = self.number(&format!("{}/event-channel", self.front_dir)).expect("a channel");
        let protocol = self.domain.read(None, &format!("{}/protocol", self.front_dir));
        assert_eq!(protocol.as_deref(), Ok(&b"x86_64-abi"[..]));
        let page = self.domain.map(self.front, GrantRef(reference)).expect("a grant");
        let port = self.domain.bind_interdomain(self.front, EventPort(port)).expect("a port");
        for (key, value) in &self.keys {
            self.domain.put(&format!("{}/{key}", self.dir), value);
        }
        self.ring = Some((page, port));
        (self.answered, self.taken) = (0, 0);
        self.set_state(4);
    }

    /// Lets go of the ring.
    pub fn disconnect(&mut self) {
        if let Some((page, port)) = self.ring.take() {
            self.domain.close(port);
            self.domain.unmap(page);
        }
    }

    fn serve(&mut self) {
        let Some((page, port)) = self.ring.take() else { return };
        self.domain.take_pending(port);
        let offset = |index: u32| 64 + (index % ENTRIES) as usize * blkif::ENTRY_SIZE;
        let produced = page.load_u32(0).expect("in the page");
        while self.fault != Fault::Silent && self.taken != produced {
            let mut request = Request::new_zeroed();
            page.read(offset(self.taken), request.as_mut_bytes()).expect("in the page");
            self.taken = self.taken.wrapping_add(1);
            let status = self.perform(&request);
            let id = if self.fault == Fault::WrongId { request.id ^ 0x100 } else { request.id };
            let response = Response { id, operation: request.operation, status, ..Response::new_zeroed() };
            for _ in 0..if self.fault == Fault::Twice { 2 } else { 1 } {
                page.write(offset(self.answered), response.as_bytes()).expect("in the page");
                self.answered = self.answered.wrapping_add(1);
            }
            let ahead = if let Fault::WildProducer(ahead) = self.fault { ahead } else { 0 };
            page.store_u32(8, self.answered.wrapping_add(ahead)).expect("in the page");
            self.domain.notify(port);
        }
        page.store_u32(4, self.taken.wrapping_add(1)).expect("in the page");
        self.ring = Some((page, port));
    }

    fn perform(&mut self, request: &Request) -> i16 {
        match (self.fault, request.operation) {
            (Fault::IoError, _) => return blkif::RSP_ERROR,
            (Fault::NoFlush | Fault::NoFlushNoBarrier, blkif::OP_FLUSH_DISKCACHE)
            | (Fault::NoFlushNoBarrier, blkif::OP_WRITE_BARRIER) => return blkif::RSP_EOPNOTSUPP,
            _ => {}
        }
        let mut disk = self.disk.borrow_mut();
        match request.operation {
            blkif::OP_FLUSH_DISKCACHE | blkif::OP_WRITE_BARRIER => {
                assert_eq!(request.nr_segments, 0, "a flush without data");
                disk.flushes += 1;
                if self.fault != Fault::LostFlush {
                    disk.unflushed.clear();
                }
                return blkif::RSP_OKAY;
            }
            blkif::OP_WRITE => disk.writes += 1,
            blkif::OP_READ => {}
            other => panic!("operation {other}"),
        }
        assert!((1..=blkif::MAX_SEGMENTS).contains(&request.nr_segments.into()), "{} segments", request.nr_segments);
        let mut sector = request.sector_number;
        for segment in &request.seg[..request.nr_segments.into()] {
            let data = self.domain.map(self.front, GrantRef(segment.gref)).expect("a granted page");
            assert!(segment.first_sect <= segment.last_sect && segment.last_sect < 8, "{segment:?}");
            for index in segment.first_sect..=segment.last_sect {
                let offset = usize::from(index) * SECTOR_SIZE;
                let mut buffer = [0; SECTOR_SIZE];
                if request.operation == blkif::OP_WRITE {
                    data.read(offset, &mut buffer).expect("in the page");
                    let place = disk.sector_mut(sector);
                    let old = place.try_into().expect("a sector");
                    place.copy_from_slice(&buffer);
                    disk.unflushed.push((sector, old));
                } else {
                    buffer.copy_from_slice(disk.sector_mut(sector));
                    data.write(offset, &buffer).expect("in the page");
                }
                sector += 1;
            }
            self.domain.unmap(data);
        }
        blkif::RSP_OKAY
    }
}
