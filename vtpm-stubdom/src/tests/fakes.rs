//! The peers of the story: an engine of six commands, a manager that can misbehave, front ends that only keep notes.

use crate::args::Startup;
use crate::{EngineOptions, GuestTpm, Guests, Link, LoadError, ParentRequest, Rejection};
use core::cell::{Cell, RefCell};
use frontback::tpmback::{Event, FrontId, Request};
use std::collections::{BTreeMap, VecDeque};
use std::rc::Rc;
use std::string::{String, ToString};
use std::vec::Vec;
use tpm_crypto::Drbg;
use tpm_wire::mgr::{ORD_GET_BOOT_ID, ORD_GET_QUOTE, ORD_LOADHASHKEY, ORD_SAVEHASHKEY, TAG_REQ, TAG_RSP};
use tpm_wire::{CommandHeader, Engine, Progress, ResponseHeader, Transport, TransportError};
use xen_abi::{EntropySource, NoEntropy};
use zeroize::Zeroizing;

/// Extends the only PCR (a list of bytes) with the body.
pub const EXTEND: u32 = 0x14;
/// Gives the PCR.
pub const READ: u32 = 0x15;
/// Appends the body to the NV area.
pub const WRITE: u32 = 0xcd;
/// Gives the NV area.
pub const GET: u32 = 0xcf;
/// As `WRITE`, after as many steps as the first byte says.
pub const SLOW_WRITE: u32 = 0xce;
/// Appends the body to the NV area and gives the hardware TPM's quote over it.
pub const DEEP_QUOTE: u32 = 0x2000_0016;
/// What it asks for.
pub const SELECTION: [u8; 5] = [0, 3, 1, 0, 0];
pub const FLAGS: u32 = 0x0102_0304;

pub fn command(ordinal: u32, body: &[u8]) -> Vec<u8> {
    crate::manager::packet(0xc1, ordinal, body)
}

pub fn ok(body: &[u8]) -> Vec<u8> {
    let mut response = ResponseHeader::bare(0xc4, 0).to_vec();
    response[5] += body.len() as u8;
    response.extend(body);
    response
}

pub fn error(code: u32) -> Vec<u8> {
    ResponseHeader::bare(0xc4, code).to_vec()
}

/// An engine. State: `NV` followed by the NV bytes.
pub struct FakeTpm {
    nv: Vec<u8>,
    committed: Option<Vec<u8>>,
    pcr: Vec<u8>,
    startup: Option<Startup>,
    slow: Option<(u8, Vec<u8>)>,
    deep: Option<Vec<u8>>,
}

impl FakeTpm {
    fn state(&self) -> Vec<u8> {
        [b"NV", &self.nv[..]].concat()
    }
}

impl Engine for FakeTpm {
    fn execute(&mut self, locality: u8, command: &[u8], response: &mut Vec<u8>) -> Progress {
        assert_eq!(locality, 0);
        assert!(self.startup.is_some(), "a command before the TPM was started");
        let (header, body) = CommandHeader::parse(command).expect("the tests send whole commands");
        *response = match header.ordinal.get() {
            EXTEND => {
                self.pcr.extend(body);
                ok(b"")
            }
            READ => ok(&self.pcr),
            WRITE => {
                self.nv.extend(body);
                ok(b"")
            }
            GET => ok(&self.nv),
            SLOW_WRITE => {
                self.slow = Some((body[0], body[1..].to_vec()));
                return Progress::Working;
            }
            DEEP_QUOTE => {
                self.deep = Some(body.to_vec());
                return Progress::Working;
            }
            _ => error(10),
        };
        Progress::Done
    }

    fn resume(&mut self, response: &mut Vec<u8>) -> Progress {
        let (steps, body) = self.slow.as_mut().expect("resumed without a command");
        *steps -= 1;
        if *steps > 0 {
            return Progress::Working;
        }
        self.nv.extend(&*body);
        self.slow = None;
        *response = ok(b"");
        Progress::Done
    }

    fn cancel(&mut self) {
        assert!(self.slow.take().is_some() || self.deep.take().is_some(), "cancelled without a command");
    }

    fn staged(&mut self) -> Option<Zeroizing<Vec<u8>>> {
        let state = self.state();
        (self.committed.as_ref() != Some(&state)).then(|| Zeroizing::new(state))
    }

    fn committed(&mut self) {
        self.committed = Some(self.state());
    }

    fn discard(&mut self) {
        self.nv = self.committed.clone().expect("nothing was ever committed")[2..].to_vec();
    }
}

impl GuestTpm for FakeTpm {
    const KIND: u8 = 0xfa;
    type Manufacture = u8;

    fn manufacture(mut rng: Drbg, _: EngineOptions) -> u8 {
        rng.bytes::<1>();
        3
    }

    fn step(making: &mut u8) -> Option<Self> {
        *making -= 1;
        (*making == 0).then(|| Self {
            nv: Vec::new(),
            committed: None,
            pcr: Vec::new(),
            startup: None,
            slow: None,
            deep: None,
        })
    }

    fn load(state: &[u8], _: Drbg, _: EngineOptions) -> Result<Self, LoadError> {
        let nv = state.strip_prefix(b"NV").ok_or_else(|| LoadError("not NV".to_string()))?.to_vec();
        Ok(Self { nv, committed: Some(state.to_vec()), pcr: Vec::new(), startup: None, slow: None, deep: None })
    }

    /// An NV area that begins with `count` counts starts, to have a start that changes the persistent state.
    fn init(&mut self, startup: Startup) {
        if self.nv.starts_with(b"count") {
            self.nv.push(b'i');
        }
        self.pcr = if startup == Startup::Deactivated { b"deactivated".to_vec() } else { Vec::new() };
        self.startup = Some(startup);
    }

    fn set_time(&mut self, _: u64) {}

    fn set_pcr(&mut self, index: u32, value: &[u8; 20]) {
        self.pcr.extend([index as u8, value[0]]);
    }

    fn save_volatile(&mut self) -> Zeroizing<Vec<u8>> {
        Zeroizing::new([b"PCR", &self.pcr[..]].concat())
    }

    fn resume_volatile(&mut self, volatile: &[u8]) -> Result<(), LoadError> {
        self.pcr = volatile.strip_prefix(b"PCR").ok_or_else(|| LoadError("not PCR".to_string()))?.to_vec();
        self.startup = Some(Startup::Save);
        Ok(())
    }

    fn parent_request(&self) -> Option<ParentRequest> {
        let nonce = self.deep.as_ref()?.first().copied().unwrap_or_default();
        Some(ParentRequest { nonce: [nonce; 20], selection: SELECTION.to_vec(), flags: FLAGS })
    }

    fn answer_parent_request(&mut self, answer: Option<&[u8]>, response: &mut Vec<u8>) -> Progress {
        let body = self.deep.take().expect("answered without a request");
        *response = match answer {
            Some(quote) => {
                self.nv.extend(body);
                ok(quote)
            }
            None => error(9),
        };
        Progress::Done
    }

    fn rejection(reason: Rejection) -> [u8; 10] {
        ResponseHeader::bare(0xc4, if reason == Rejection::Failure { 9 } else { 61 })
    }
}

/// What the manager does with the next requests, first come, first served; afterwards it is honest.
#[derive(Clone, Debug)]
pub enum Trick {
    /// Gone before it read the request.
    GoneBefore,
    /// Does what is asked, and is gone before the answer.
    GoneAfter,
    /// Never answers.
    Silence,
    /// Answers these bytes.
    Answer(Vec<u8>),
    /// Does what is asked, and answers these bytes.
    DoAndAnswer(Vec<u8>),
}

#[derive(Clone)]
pub struct FakeManager(pub Rc<ManagerState>);

pub struct ManagerState {
    pub uuid: Cell<Option<[u8; 16]>>,
    pub boot: Cell<u8>,
    pub records: RefCell<BTreeMap<[u8; 16], Vec<u8>>>,
    /// Ordinal and what to do about it.
    pub tricks: RefCell<Vec<(u32, VecDeque<Trick>)>>,
    pub asked: RefCell<Vec<u32>>,
    pub saves: Cell<u32>,
    /// Power fails at this save, before or after it is recorded.
    pub cut_at_save: Cell<Option<(u32, bool)>>,
    pub cut: Cell<bool>,
}

pub const UUID: [u8; 16] = [0xab; 16];

impl FakeManager {
    pub fn new() -> Self {
        Self(Rc::new(ManagerState {
            uuid: Cell::new(Some(UUID)),
            boot: Cell::new(1),
            records: RefCell::default(),
            tricks: RefCell::default(),
            asked: RefCell::default(),
            saves: Cell::new(0),
            cut_at_save: Cell::new(None),
            cut: Cell::new(false),
        }))
    }

    pub fn record(&self) -> Option<Vec<u8>> {
        self.0.records.borrow().get(&self.0.uuid.get().unwrap()).cloned()
    }

    pub fn set_record(&self, record: Option<Vec<u8>>) {
        let mut records = self.0.records.borrow_mut();
        match record {
            Some(record) => records.insert(UUID, record),
            None => records.remove(&UUID),
        };
    }

    pub fn play(&self, ordinal: u32, tricks: impl IntoIterator<Item = Trick>) {
        self.0.tricks.borrow_mut().push((ordinal, tricks.into_iter().collect()));
    }

    fn trick(&self, ordinal: u32) -> Option<Trick> {
        let mut tricks = self.0.tricks.borrow_mut();
        tricks.iter_mut().filter(|(of, _)| *of == ordinal).find_map(|(_, tricks)| tricks.pop_front())
    }

    fn honest(&self, command: &[u8]) -> Result<Vec<u8>, TransportError> {
        let (header, body) = CommandHeader::parse(command).expect("the vTPM sends whole packets");
        let reply = |tag: u16, body: &[u8]| {
            let mut response = ok(body);
            response[..2].copy_from_slice(&tag.to_be_bytes());
            Ok(response)
        };
        match (header.tag.get(), header.ordinal.get()) {
            (0xc1, 0x46) => {
                let want = u32::from_be_bytes(body.try_into().unwrap());
                // A chip gives as much as it likes.
                let n = want.min(20);
                let mut out = n.to_be_bytes().to_vec();
                out.extend((0..n).map(|i| i as u8));
                reply(0xc4, &out)
            }
            (0xc1, 0x15) => reply(0xc4, &[0x40 + body[3]; 20]),
            (TAG_REQ, ORD_GET_BOOT_ID) => reply(TAG_RSP, &[self.0.boot.get(); 20]),
            (TAG_REQ, ORD_GET_QUOTE) => reply(TAG_RSP, &[b"quote of ", body].concat()),
            (TAG_REQ, ORD_LOADHASHKEY) => match self.record() {
                Some(record) => reply(TAG_RSP, &record),
                None => Ok(ResponseHeader::bare(TAG_RSP, 3).to_vec()),
            },
            (TAG_REQ, ORD_SAVEHASHKEY) => {
                let number = self.0.saves.replace(self.0.saves.get() + 1);
                let cut = self.0.cut_at_save.get().filter(|(at, _)| *at == number);
                if cut.is_none_or(|(_, recorded)| recorded) {
                    self.0.records.borrow_mut().insert(self.0.uuid.get().unwrap(), body.to_vec());
                }
                if cut.is_some() {
                    self.0.cut.set(true);
                    return Err(TransportError::Gone);
                }
                reply(TAG_RSP, b"")
            }
            // This vTPM is not the administrator's.
            (0xc1, 0x14) => Ok(ResponseHeader::bare(0xc4, 8).to_vec()),
            (0x1c2, _) => Ok(ResponseHeader::bare(0x1c5, 1).to_vec()),
            other => panic!("the vTPM sent {other:x?}"),
        }
    }
}

impl Transport for FakeManager {
    async fn transmit(&self, command: &[u8]) -> Result<Vec<u8>, TransportError> {
        let mut first = true;
        // Never at once.
        core::future::poll_fn(|_| {
            if core::mem::replace(&mut first, false) { core::task::Poll::Pending } else { core::task::Poll::Ready(()) }
        })
        .await;
        if self.0.cut.get() {
            return core::future::pending().await;
        }
        let ordinal = CommandHeader::parse(command).expect("the vTPM sends whole packets").0.ordinal.get();
        self.0.asked.borrow_mut().push(ordinal);
        match self.trick(ordinal) {
            None => self.honest(command),
            Some(Trick::GoneBefore) => Err(TransportError::Gone),
            Some(Trick::GoneAfter) => self.honest(command).and(Err(TransportError::Gone)),
            Some(Trick::Silence) => core::future::pending().await,
            Some(Trick::Answer(bytes)) => Ok(bytes),
            Some(Trick::DoAndAnswer(bytes)) => self.honest(command).and(Ok(bytes)),
        }
    }
}

impl Link for FakeManager {
    fn uuid(&self) -> Option<[u8; 16]> {
        self.0.uuid.get()
    }
}

/// Front ends that keep notes.
#[derive(Default)]
pub struct FakeGuests {
    pub events: RefCell<VecDeque<Event>>,
    pub requests: RefCell<VecDeque<Request>>,
    pub responses: RefCell<Vec<(FrontId, Vec<u8>)>>,
    pub cancelled: Cell<bool>,
    pub abandoned: RefCell<Vec<FrontId>>,
    pub refused: RefCell<Vec<(FrontId, String)>>,
    pub refused_all: Cell<bool>,
}

impl Guests for FakeGuests {
    fn next_event(&self) -> Option<Event> {
        self.events.borrow_mut().pop_front()
    }

    fn next_request(&self) -> Option<Request> {
        self.requests.borrow_mut().pop_front()
    }

    fn respond(&self, front: FrontId, response: &[u8]) {
        self.responses.borrow_mut().push((front, response.to_vec()));
    }

    fn is_cancelled(&self, _: FrontId) -> bool {
        self.cancelled.get()
    }

    fn abandon(&self, front: FrontId) {
        self.abandoned.borrow_mut().push(front);
    }

    fn refuse(&self, front: FrontId, reason: &str) {
        self.refused.borrow_mut().push((front, reason.to_string()));
    }

    fn refuse_all(&self, _: &str) {
        self.refused_all.set(true);
    }
}

/// A CPU with a counter for a random generator, or with none.
pub struct FakeCpu {
    pub works: bool,
}

impl EntropySource for FakeCpu {
    fn fill(&mut self, out: &mut [u8]) -> Result<(), NoEntropy> {
        std::thread_local!(static CALLS: Cell<u8> = const { Cell::new(0) });
        let call = CALLS.get().wrapping_add(1);
        CALLS.set(call);
        out.fill(call);
        if self.works { Ok(()) } else { Err(NoEntropy) }
    }
}
