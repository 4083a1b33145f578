//! A manager over a chip that is our own engine, a disk in memory, and front ends that do as the test says.

use crate::bus::{Bus, drive, rng, timer};
use frontback::looper::{Timer, Turn, turn};
use frontback::tpmback::{Event, FrontId, Fronts, Request};
use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, VecDeque};
use std::rc::Rc;
use std::sync::OnceLock;
use tpm_wire::mgr::{Management, TAG_REQ, TAG_REQ2, TAG_RSP, TAG_RSP2};
use tpm_wire::{ResponseHeader, Transport, Writer};
use vault::fake::RamDisk;
use vault::{Journal, Kind, Over, Owner, VaultKey};
use vtpmmgr::anchor::MonotonicCounter;
use vtpmmgr::args::{AuthChoice, OWNER_WELL_KNOWN, Options, Rollback, SRK_WELL_KNOWN};
use vtpmmgr::desk::{Service, serve};
use vtpmmgr::hardware::{ChipError, Hardware, PcrSelection, RootKey, Settings};
use vtpmmgr::label::{Label, SealedRoot, When};
use vtpmmgr::management::Roots;
use vtpmmgr::policy::PeerLabels;
use vtpmmgr::state::{Change, Group, State};
use vtpmmgr::store::Store;
use xen_abi::{BlockDevice, DomId, Instant, LabelError};
use zeroize::Zeroizing;

pub const ADMIN: [u8; 16] = [0xad; 16];
pub const SECRET: [u8; 32] = [0x77; 32];
const OWNER: Owner = Owner { kind: Kind::Manager, uuid: [0x4d; 16] };

pub fn settings() -> Settings {
    Settings {
        owner_auth: AuthChoice::Fixed(OWNER_WELL_KNOWN),
        srk_auth: AuthChoice::Fixed(SRK_WELL_KNOWN),
        ..Settings::from(&Options::default())
    }
}

/// An owned TPM 1.2, made once, and the manager's root key in it.
fn kit() -> &'static (Vec<u8>, RootKey) {
    static KIT: OnceLock<(Vec<u8>, RootKey)> = OnceLock::new();
    KIT.get_or_init(|| {
        let (bus, timer, mut rng) = (Bus::new(1), timer(), rng(1));
        let made = drive(&timer, async {
            let chip = Hardware::detect(bus.clone(), &timer, settings()).await?;
            chip.start().await?;
            chip.create_root(&mut rng).await
        });
        (bus.state(), made.0.unwrap().key)
    })
}

/// A machine's chip and the manager's disk.
#[derive(Clone)]
pub struct World<T = Bus> {
    pub chip: T,
    pub disk: RamDisk,
    pub root: RootKey,
    pub made_now: bool,
    /// `seal_pcrs=`.
    pub seal_pcrs: u32,
}

impl World {
    /// A machine that was just set up.
    pub fn new() -> Self {
        let (state, root) = kit();
        World::with(Bus::load(state), root.clone())
    }

    /// Switches the machine off and on; the disk stays.
    pub fn restart(&self) -> Self {
        let chip = Bus::load(&self.stored());
        // TPM_Startup(ST_CLEAR), as the firmware does.
        chip.raw(&[0, 0xc1, 0, 0, 0, 12, 0, 0, 0, 0x99, 0, 1]);
        World { chip, made_now: false, ..self.clone() }
    }

    fn stored(&self) -> Vec<u8> {
        let state = self.chip.state();
        if state.is_empty() { kit().0.clone() } else { state }
    }
}

impl<T: Transport + Clone> World<T> {
    /// A machine with this chip, which nobody has used.
    pub fn on(chip: T) -> Self {
        let (timer, mut rng) = (timer(), rng(2));
        let made = drive(&timer, async {
            let hardware = Hardware::detect(chip.clone(), &timer, settings()).await?;
            hardware.start().await?;
            hardware.create_root(&mut rng).await
        });
        World::with(chip, made.0.unwrap().key)
    }

    /// A disk for this chip, with nothing but the first group.
    pub fn with(chip: T, root: RootKey) -> Self {
        let (disk, timer, mut rng) = (RamDisk::new(8192), timer(), rng(3));
        let made = drive(&timer, async {
            let hardware = Hardware::detect(chip.clone(), &timer, settings()).await.unwrap();
            hardware.start().await.unwrap();
            let sealed = hardware.seal(&root, &SECRET, None, None, &mut rng).await.unwrap();
            let label = Label { key: root.clone(), roots: vec![SealedRoot { when: When::Always, sealed }] };
            let mut state = State::default();
            state.apply(Change::PutGroup(Box::new(Group::new(&mut rng)))).ok().unwrap();
            let key = VaultKey::from_bytes(&SECRET);
            Journal::create(disk.clone(), OWNER, &key, &label.to_bytes(), state.parts(), Over::Blank, &mut rng).await
        });
        assert!(made.0.is_ok());
        Self { chip, disk, root, made_now: true, seal_pcrs: 0 }
    }

    /// What is on the disk.
    pub fn state(&self) -> State {
        let (mut state, key) = (State::default(), VaultKey::from_bytes(&SECRET));
        let journal = Journal::open(self.disk.clone(), OWNER, &key, |part| {
            assert!(state.replay(part).is_ok());
            Ok::<_, vault::VaultError>(())
        });
        assert!(vault::fake::block_on(journal).is_ok());
        state
    }

    /// Tries to have the chip open the disk's label, with `code` if it comes to that.
    pub fn unseal(&self, code: Option<&[u8; 20]>) -> Option<Zeroizing<Vec<u8>>> {
        let (timer, mut rng) = (timer(), rng(4));
        drive(&timer, async {
            let hardware = Hardware::detect(self.chip.clone(), &timer, settings()).await.unwrap();
            hardware.start().await.unwrap();
            let vault::Content::Vault(header) = vault::probe_journal(&self.disk).await.unwrap() else {
                panic!("a disk")
            };
            let label = Label::parse(&header.label).unwrap();
            let mut now = Vec::new();
            for selection in label.selections() {
                now.push(hardware.pcr_condition(selection).await.unwrap());
            }
            for root in label.candidates(&now, code.is_some()) {
                let auth = code.filter(|_| root.when == When::Code);
                if let Ok(secret) = hardware.unseal(&self.root, &root.sealed, auth, &mut rng).await {
                    return Some(secret);
                }
            }
            None
        })
        .0
    }
}

/// Front ends that do as the test says, and the labels of their domains.
#[derive(Default)]
pub struct FakeFronts {
    events: RefCell<VecDeque<Event>>,
    requests: RefCell<VecDeque<Request>>,
    pub answers: RefCell<Vec<(FrontId, Vec<u8>)>>,
    pub gone: RefCell<Vec<FrontId>>,
    pub refused: RefCell<Vec<FrontId>>,
    /// By domain; `None` is a Xen without FLASK.
    pub labels: RefCell<Option<BTreeMap<u16, Vec<u8>>>>,
}

impl Fronts for FakeFronts {
    fn next_event(&self) -> Option<Event> {
        self.events.borrow_mut().pop_front()
    }
    fn next_request(&self) -> Option<Request> {
        self.requests.borrow_mut().pop_front()
    }
    fn respond(&self, front: FrontId, response: &[u8]) {
        self.answers.borrow_mut().push((front, response.to_vec()));
    }
    fn is_cancelled(&self, front: FrontId) -> bool {
        self.gone.borrow().contains(&front)
    }
    fn abandon(&self, front: FrontId) {
        self.gone.borrow_mut().push(front);
    }
    fn refuse(&self, front: FrontId, _: &str) {
        self.refused.borrow_mut().push(front);
    }
    fn refuse_all(&self, _: &str) {
        panic!("nothing here refuses everybody");
    }
}

impl PeerLabels for FakeFronts {
    fn label(&self, front: FrontId) -> Result<Option<Vec<u8>>, LabelError> {
        match &*self.labels.borrow() {
            None => Ok(None),
            Some(known) => known.get(&front.domid.0).cloned().map(Some).ok_or(LabelError(3)),
        }
    }
}

/// No counter: `rollback=off`.
#[derive(Clone)]
pub struct NoCounter;

impl MonotonicCounter for NoCounter {
    async fn read(&self) -> Result<u64, ChipError> {
        Err(ChipError::NoCounter)
    }
    async fn increment(&self) -> Result<u64, ChipError> {
        Err(ChipError::NoCounter)
    }
}

pub fn front(domid: u16, attach: u64) -> FrontId {
    FrontId { domid: DomId(domid), devid: 0, attach }
}

pub fn packet(tag: u16, ordinal: u32, body: &[u8]) -> Vec<u8> {
    let mut packet = Vec::new();
    Writer::new(&mut packet).u16(tag).u32(10 + body.len() as u32).u32(ordinal).bytes(body);
    packet
}

pub fn save(record: &[u8]) -> Vec<u8> {
    packet(TAG_REQ, 1, record)
}

pub fn load() -> Vec<u8> {
    packet(TAG_REQ, 2, &[])
}

/// A manager that is running.
pub struct Running<'a> {
    turn: Box<dyn FnMut() -> bool + 'a>,
    pub fronts: Rc<FakeFronts>,
    stop: Rc<Cell<bool>>,
}

impl Running<'_> {
    pub fn turn(&mut self) -> bool {
        (self.turn)()
    }

    pub fn attach(&mut self, front: FrontId, uuid: [u8; 16]) {
        self.fronts.events.borrow_mut().push_back(Event::Attached { front, uuid });
    }

    pub fn detach(&mut self, front: FrontId) {
        self.fronts.events.borrow_mut().push_back(Event::Detached { front });
        self.fronts.gone.borrow_mut().push(front);
    }

    pub fn send(&mut self, front: FrontId, command: &[u8]) {
        let request = Request { front, locality: 0, command: command.to_vec() };
        self.fronts.requests.borrow_mut().push_back(request);
    }

    pub fn answers(&mut self) -> Vec<(FrontId, Vec<u8>)> {
        std::mem::take(&mut *self.fronts.answers.borrow_mut())
    }

    /// Sends a command and waits for its answer: tag, code, body.
    pub fn ask(&mut self, front: FrontId, command: &[u8]) -> (u16, u32, Vec<u8>) {
        self.send(front, command);
        for _ in 0..100_000 {
            self.turn();
            if let Some((to, answer)) = self.answers().pop() {
                assert_eq!(to, front);
                assert!(answer.len() <= tpm_wire::MAX_PACKET);
                let (header, body) = ResponseHeader::parse(&answer).expect("a sound response");
                assert!(header.code.get() == 0 || body.is_empty());
                return (header.tag.get(), header.code.get(), body.to_vec());
            }
        }
        panic!("no answer");
    }

    /// Asks as the admin, who is connected as domain 1.
    pub fn admin(&mut self, command: &Management) -> (u32, Vec<u8>) {
        let (tag, code, body) = self.ask(front(1, 1), &command.to_packet());
        assert_eq!(tag, TAG_RSP, "what was looked at is answered so, as the C manager does");
        (code, body)
    }

    /// A management command that works.
    pub fn manage(&mut self, command: &Management) -> Vec<u8> {
        let (code, body) = self.admin(command);
        assert_eq!(code, 0, "{:x}", command.ordinal());
        body
    }

    /// The code of a management command that does not.
    pub fn refused(&mut self, command: &Management) -> u32 {
        let (code, _) = self.admin(command);
        assert_ne!(code, 0, "{:x}", command.ordinal());
        code
    }

    /// The code with which a management packet from somebody without rights is refused.
    pub fn without_rights(&mut self, front: FrontId, body: &[u8], ordinal: u32) {
        let (tag, code, _) = self.ask(front, &packet(TAG_REQ2, ordinal, body));
        assert_eq!((tag, code), (TAG_RSP2, 1));
    }

    pub fn stop(mut self) {
        self.stop.set(true);
        for _ in 0..100_000 {
            if !self.turn() {
                return;
            }
        }
        panic!("the manager does not end");
    }
}

/// Runs a manager in `world` whose admin is [`ADMIN`], connected as domain 1.
pub fn manage<T: Transport + Clone, O>(world: &World<T>, script: impl FnOnce(Running<'_>) -> O) -> O {
    manage_on(world, world.disk.clone(), Rc::default(), script)
}

/// The same with these front ends, and with this disk in place of the world's.
pub fn manage_on<T: Transport + Clone, B: BlockDevice, O>(
    world: &World<T>,
    disk: B,
    fronts: Rc<FakeFronts>,
    script: impl FnOnce(Running<'_>) -> O,
) -> O {
    let timer = Timer::new(Instant::from_millis(0));
    let stop = Rc::new(Cell::new(false));
    let (asked, for_service) = (stop.clone(), fronts.clone());
    let mut life = Box::pin(async {
        let fronts = for_service;
        let chip = Hardware::detect(world.chip.clone(), &timer, settings()).await.unwrap();
        let info = chip.start().await.unwrap();
        let mut state = State::default();
        let key = VaultKey::from_bytes(&SECRET);
        let journal = Journal::open(disk, OWNER, &key, |part| {
            assert!(state.replay(part).is_ok());
            Ok::<_, vault::VaultError>(())
        });
        let journal = journal.await.unwrap();
        let label = Label::parse(journal.label()).unwrap();
        let roots = Roots::new(label, PcrSelection::from_mask(world.seal_pcrs).unwrap());
        let store = Store::<_, NoCounter>::new(journal, state, rng(5));
        let service = Service {
            store,
            chip: &chip,
            root: &world.root,
            info: &info,
            roots,
            admins: &[ADMIN],
            rollback: Rollback::Off,
            is_new: world.made_now,
            rng: rng(6),
            timer: &timer,
        };
        serve(service, &*fronts, &*fronts, || asked.get()).await;
    });
    let mut now = Instant::from_millis(0);
    let mut ended = false;
    let turn = Box::new(|| {
        if !ended {
            match turn(&mut (), now, &[], &timer, life.as_mut()) {
                Turn::Done(()) => ended = true,
                Turn::Wait(at) => now = now.max(at.unwrap_or(now)),
            }
        }
        !ended
    });
    let mut running = Running { turn, fronts, stop };
    running.attach(front(1, 1), ADMIN);
    script(running)
}
