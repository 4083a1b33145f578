//! A machine in one process: a chip, the manager's domain, vTPM domains and Linux guests, wired as the images wire them.

use core::cell::RefCell;
use core::pin::Pin;
use core::time::Duration;
use frontback::blkfront::{BlkFront, Disk};
use frontback::fake::{BlkBack, DOM0, FakeDomain, LinuxTpmFront, Machine, RamDisk, Recv, VbdOptions};
use frontback::looper::{Driver, Timer, Turn, turn};
use frontback::shutdown::ShutdownWatch;
use frontback::tpmback::TpmBack;
use frontback::tpmfront::TpmFront;
use std::rc::Rc;
use tpm_tis::fake::FakeTis;
use tpm_tis::{Timeouts, Tis, TisLink};
use tpm_wire::{Engine, Progress};
use tpm12::Tpm12;
use vault::fake::{Fate, FlakyDisk};
use vtpm_stubdom::{FrontLink, Ports, Waits};
use vtpmmgr::fake::FakeChip;
use vtpmmgr::hardware::ChipInfo;
use vtpmmgr::life::{Ports as ManagerPorts, live};
use vtpmmgr::policy::NoLabels;
use vtpmmgr::way::FrontWay;
use xen_abi::{BlockDevice, DiskError, DomId, EntropySource, Instant, NoEntropy};
use zeroize::Zeroizing;

/// Sectors of each disk: 512 KiB.
const SECTORS: usize = 1024;

type AnyDriver = RefCell<dyn Driver<FakeDomain>>;

/// Drivers and futures point at each other and a test is short: they are never freed.
fn leak<T>(value: T) -> &'static T {
    Box::leak(Box::new(value))
}

/// A domain with an image of ours in it.
struct Domain {
    xen: FakeDomain,
    timer: &'static Timer,
    drivers: Vec<&'static AnyDriver>,
    life: Pin<Box<dyn Future<Output = ()>>>,
    /// Closes the connections once `life` has ended.
    close: Box<dyn FnMut(&mut FakeDomain)>,
    /// What is still stepped after that.
    disk: Option<&'static AnyDriver>,
    ended: bool,
}

/// The hardware TPM.
#[derive(Clone)]
pub enum HardwareTpm {
    /// The manager's model of a chip.
    Model(FakeChip),
    /// Our own engine.
    Engine(Rc<RefCell<Tpm12>>),
}

impl HardwareTpm {
    fn power_cycle(&self) {
        match self {
            Self::Model(chip) => chip.power_cycle(),
            // A chip's permanent state is its own business, and in place at once.
            Self::Engine(tpm) => tpm.borrow_mut().reset_for_new_guest(),
        }
    }
}

impl Engine for HardwareTpm {
    fn execute(&mut self, locality: u8, command: &[u8], response: &mut Vec<u8>) -> Progress {
        match self {
            Self::Model(chip) => {
                *response = chip.execute(command).expect("no fault was asked for");
                Progress::Done
            }
            Self::Engine(tpm) => tpm.borrow_mut().execute(locality, command, response),
        }
    }

    fn resume(&mut self, response: &mut Vec<u8>) -> Progress {
        match self {
            Self::Model(_) => Progress::Done,
            Self::Engine(tpm) => tpm.borrow_mut().resume(response),
        }
    }

    fn cancel(&mut self) {
        if let Self::Engine(tpm) = self {
            tpm.borrow_mut().cancel();
        }
    }

    fn staged(&mut self) -> Option<Zeroizing<Vec<u8>>> {
        if let Self::Engine(tpm) = self { tpm.borrow_mut().staged() } else { None }
    }

    fn committed(&mut self) {
        if let Self::Engine(tpm) = self {
            tpm.borrow_mut().committed();
        }
    }

    fn discard(&mut self) {
        unreachable!("a chip's state is in place at once");
    }
}

/// What outlives the machine's power: chip and disks.
pub struct Things {
    pub chip: HardwareTpm,
    pub manager_disk: FlakyDisk,
    pub disks: [FlakyDisk; 2],
}

impl Things {
    pub fn new() -> Self {
        let blank = || FlakyDisk::new(SECTORS);
        Self { chip: HardwareTpm::Model(FakeChip::new(1, 0)), manager_disk: blank(), disks: [blank(), blank()] }
    }

    /// As [`Self::new`], with our own engine for a chip.
    pub fn with_engine() -> Self {
        let rng = tpm_crypto::Drbg::new(&[9; 48], b"").unwrap();
        let mut making = Tpm12::manufacture(rng, tpm12::Options::default());
        let mut tpm = loop {
            if let Some(tpm) = making.step() {
                break tpm;
            }
        };
        tpm.committed();
        tpm.reset_for_new_guest();
        Self { chip: HardwareTpm::Engine(Rc::new(RefCell::new(tpm))), ..Self::new() }
    }

    /// The power fails: what was not flushed meets `fate`.
    pub fn power_cycle(&mut self, fate: Fate) {
        self.chip.power_cycle();
        self.manager_disk = self.manager_disk.restarted(fate);
        self.disks = self.disks.each_ref().map(|disk| disk.restarted(fate));
    }
}

/// The machine while it runs.
pub struct Stack {
    pub machine: Machine,
    pub now: Instant,
    next_domid: u16,
    domains: Vec<Domain>,
    block_backs: Vec<BlkBack>,
    guests: Vec<Guest>,
}

/// A Linux guest.
struct Guest {
    id: DomId,
    front: LinuxTpmFront,
}

/// A processor's random generator that counts.
struct Cpu(u8);

impl EntropySource for Cpu {
    fn fill(&mut self, out: &mut [u8]) -> Result<(), NoEntropy> {
        for byte in out {
            self.0 = self.0.wrapping_mul(5).wrapping_add(1);
            *byte = self.0;
        }
        Ok(())
    }
}

/// The chip at its registers, and its driver.
struct ChipBus<B> {
    tis: &'static RefCell<Tis>,
    bus: B,
}

impl<X, B: tpm_tis::TisBus> Driver<X> for ChipBus<B> {
    fn step(&mut self, _: &mut X, now: Instant) {
        self.tis.borrow_mut().step(&mut self.bus, now);
    }

    fn deadline(&self) -> Option<Instant> {
        self.tis.borrow().deadline()
    }
}

pub fn uuid(number: usize) -> String {
    format!("ac0a5b9e-cbe2-4c07-b43b-00000000000{number}")
}

impl Stack {
    /// The machine is switched on; the manager starts.
    pub fn boot(things: &Things) -> Self {
        let mut stack = Self {
            machine: Machine::new(),
            now: Instant::from_millis(0),
            next_domid: 1,
            domains: Vec::new(),
            block_backs: Vec::new(),
            guests: Vec::new(),
        };
        stack.start_manager(things);
        stack
    }

    fn domid(&mut self) -> DomId {
        self.next_domid += 1;
        DomId(self.next_domid - 1)
    }

    pub fn start_manager(&mut self, things: &Things) -> DomId {
        let id = self.domid();
        let timer = leak(Timer::new(self.now));
        let back = leak(RefCell::new(TpmBack::new(&vtpmmgr::requests::MALFORMED)));
        let watch = leak(RefCell::new(ShutdownWatch::new()));
        let tis = leak(RefCell::new(Tis::new(0, Timeouts::DEFAULT).unwrap()));
        let bus = leak(RefCell::new(ChipBus { tis, bus: FakeTis::new(things.chip.clone()) }));
        let options = leak(vtpmmgr::args::parse("").unwrap());
        let disk = things.manager_disk.clone();
        let life = async move {
            let raise = |timeouts| tis.borrow_mut().set_timeouts(Timeouts::DEFAULT.raised_to(timeouts));
            let on_chip = |info: &ChipInfo| info.timeouts.into_iter().for_each(raise);
            let (way, disk) = (TisLink::new(tis), async move { Ok::<_, DiskError>(disk) });
            let ports = ManagerPorts { fronts: back, labels: &NoLabels, disk, way, cpu: Cpu(3), timer };
            live(options, ports, on_chip, || watch.borrow().requested().is_some()).await;
        };
        let drivers: Vec<&'static AnyDriver> = vec![watch, back, bus];
        let close = Box::new(|xen: &mut FakeDomain| back.borrow_mut().close(xen));
        self.start(id, timer, drivers, Box::pin(life), close);
        id
    }

    /// A manager whose chip is the vTPM in the domain `chip`, on `disk`.
    pub fn start_manager_behind(&mut self, disk: &FlakyDisk, chip: DomId) -> DomId {
        let id = self.domid();
        self.machine.domain(id);
        let timer = leak(Timer::new(self.now));
        let back = leak(RefCell::new(TpmBack::new(&vtpmmgr::requests::MALFORMED)));
        let front = leak(RefCell::new(TpmFront::new(0)));
        let watch = leak(RefCell::new(ShutdownWatch::new()));
        let options = leak(vtpmmgr::args::parse("tpmdriver=tpmfront").unwrap());
        let disk = disk.clone();
        let life = async move {
            let (way, disk) = (FrontWay::new(front, 0), async move { Ok::<_, DiskError>(disk) });
            let ports = ManagerPorts { fronts: back, labels: &NoLabels, disk, way, cpu: Cpu(7), timer };
            live(options, ports, |_| (), || watch.borrow().requested().is_some()).await;
        };
        let drivers: Vec<&'static AnyDriver> = vec![watch, back, front];
        let close = Box::new(|xen: &mut FakeDomain| {
            back.borrow_mut().close(xen);
            front.borrow_mut().close(xen);
        });
        self.machine.xl_vtpm_attach(id, chip, 0, "00000000-0000-0000-0000-000000000000");
        self.start(id, timer, drivers, Box::pin(life), close);
        id
    }

    /// A vTPM domain whose disk is a block device of dom0's, under the UUID of number 0.
    pub fn start_vtpm_on_blkfront(&mut self, disk: &Rc<RefCell<RamDisk>>, manager: DomId) -> DomId {
        let id = self.domid();
        self.machine.domain(id);
        self.machine.xl_vbd_attach(id, DOM0, 51712, VbdOptions { writable: true });
        self.block_backs.push(BlkBack::new(&self.machine, DOM0, id, 51712, disk));
        let driver = leak(RefCell::new(BlkFront::new()));
        self.vtpm(id, manager, 0, "", Disk::open_durable(driver), Some(driver))
    }

    /// A vTPM domain on disk `number`, under its UUID.
    pub fn start_vtpm(&mut self, things: &Things, manager: DomId, number: usize) -> DomId {
        self.start_vtpm_with(things, manager, number, "")
    }

    /// A vTPM domain on that disk, under the UUID of `number`.
    pub fn start_vtpm_on(&mut self, disk: &FlakyDisk, manager: DomId, number: usize) -> DomId {
        let id = self.domid();
        self.machine.domain(id);
        let disk = disk.clone();
        self.vtpm(id, manager, number, "", async move { Ok(disk) }, None)
    }

    pub fn start_vtpm_with(
        &mut self,
        things: &Things,
        manager: DomId,
        number: usize,
        arguments: &'static str,
    ) -> DomId {
        let id = self.domid();
        self.machine.domain(id);
        let disk = things.disks[number].clone();
        self.vtpm(id, manager, number, arguments, async move { Ok(disk) }, None)
    }

    fn vtpm<B: BlockDevice + 'static>(
        &mut self,
        id: DomId,
        manager: DomId,
        number: usize,
        arguments: &'static str,
        disk: impl Future<Output = Result<B, DiskError>> + 'static,
        disk_driver: Option<&'static RefCell<BlkFront<FakeDomain>>>,
    ) -> DomId {
        let timer = leak(Timer::new(self.now));
        let back = leak(RefCell::new(TpmBack::new(&vtpm_stubdom::MALFORMED)));
        let front = leak(RefCell::new(TpmFront::new(0)));
        let watch = leak(RefCell::new(ShutdownWatch::new()));
        let stop: &'static dyn Fn() -> bool = leak(|| watch.borrow().requested().is_some());
        let waits = leak(Waits::new(timer, stop));
        let ports = Ports { link: FrontLink(front), disk, entropy: Cpu(id.0 as u8), guests: back, waits };
        let options = vtpm_stubdom::args::Options::parse(arguments);
        let life = Box::pin(vtpm_stubdom::run::<Tpm12, _, _, _, _, _>(options, ports));
        let mut drivers: Vec<&'static AnyDriver> = vec![watch, back, front];
        drivers.extend(disk_driver.map(|driver| driver as &AnyDriver));
        let close = Box::new(move |xen: &mut FakeDomain| {
            back.borrow_mut().close(xen);
            front.borrow_mut().close(xen);
            if let Some(disk) = disk_driver {
                disk.borrow_mut().close();
            }
        });
        self.machine.xl_vtpm_attach(id, manager, 0, &uuid(number));
        self.start(id, timer, drivers, life, close);
        if let (Some(driver), Some(domain)) = (disk_driver, self.domains.last_mut()) {
            domain.disk = Some(driver);
        }
        id
    }

    fn start(
        &mut self,
        id: DomId,
        timer: &'static Timer,
        drivers: Vec<&'static AnyDriver>,
        life: Pin<Box<dyn Future<Output = ()>>>,
        close: Box<dyn FnMut(&mut FakeDomain)>,
    ) {
        let xen = self.machine.domain(id);
        self.domains.push(Domain { xen, timer, drivers, life, close, disk: None, ended: false });
    }

    /// A Linux guest with that vTPM; its driver probes at once.
    pub fn start_guest(&mut self, vtpm: DomId) -> DomId {
        let id = self.domid();
        self.machine.domain(id);
        self.attach(id, vtpm);
        id
    }

    /// As [`Self::start_guest`], in place of others, which are destroyed.
    pub fn start_guest_of(&mut self, others: &[DomId], vtpm: DomId) -> DomId {
        others.iter().for_each(|other| self.destroy(*other));
        self.start_guest(vtpm)
    }

    /// A guest that lives on gets another back end: `xl vtpm-detach`, `xl vtpm-attach`.
    pub fn attach_again(&mut self, guest: DomId, vtpm: DomId) {
        self.guests.retain(|known| known.id != guest);
        self.machine.xl_vtpm_detach_finish(guest, 0);
        self.attach(guest, vtpm);
    }

    /// A vTPM that lives on gets another manager.
    pub fn attach_manager(&mut self, vtpm: DomId, manager: DomId, number: usize) {
        self.machine.xl_vtpm_detach_finish(vtpm, 0);
        self.machine.xl_vtpm_attach(vtpm, manager, 0, &uuid(number));
    }

    /// `xl vtpm-attach`.
    pub fn attach(&mut self, guest: DomId, vtpm: DomId) {
        self.machine.xl_vtpm_attach(guest, vtpm, 0, "00000000-0000-0000-0000-000000000000");
        let mut front = LinuxTpmFront::new(&self.machine.domain(guest), 0);
        front.probe();
        self.guests.push(Guest { id: guest, front });
    }

    /// One turn of every domain, a millisecond each.
    pub fn turn(&mut self) {
        for domain in &mut self.domains {
            if domain.ended {
                if let Some(disk) = domain.disk {
                    disk.borrow_mut().step(&mut domain.xen, self.now);
                }
                continue;
            }
            let life = Pin::new(&mut domain.life);
            if let Turn::Done(()) = turn(&mut domain.xen, self.now, &domain.drivers, domain.timer, life) {
                domain.ended = true;
                (domain.close)(&mut domain.xen);
            }
        }
        for back in &mut self.block_backs {
            back.step();
        }
        for guest in &mut self.guests {
            guest.front.follow();
        }
        self.now = self.now + Duration::from_millis(1);
    }

    /// Turns until `done`, for at most `seconds` of the machine's time.
    pub fn turn_until(&mut self, seconds: u64, mut done: impl FnMut(&mut Self) -> bool) -> bool {
        let end = self.now + Duration::from_secs(seconds);
        while self.now < end {
            if done(self) {
                return true;
            }
            self.turn();
        }
        done(self)
    }

    pub fn front(&mut self, guest: DomId) -> &mut LinuxTpmFront {
        &mut self.guests.iter_mut().find(|known| known.id == guest).expect("a guest").front
    }

    /// Sends a command and waits for what comes of it, for at most ten minutes.
    pub fn try_ask(&mut self, guest: DomId, command: &[u8]) -> Option<Vec<u8>> {
        self.front(guest).send(command);
        let mut response = None;
        self.turn_until(600, |stack| {
            match stack.front(guest).recv() {
                Recv::Running => return false,
                Recv::Response(bytes) => response = Some(bytes),
                Recv::Cancelled => {}
            }
            true
        });
        response
    }

    pub fn ask(&mut self, guest: DomId, command: &[u8]) -> Vec<u8> {
        self.try_ask(guest, command).expect("a response")
    }

    /// `xl destroy`, of any domain.
    pub fn destroy(&mut self, id: DomId) {
        self.machine.destroy(id);
        self.domains.retain(|domain| domain.xen.id() != id);
        self.guests.retain(|guest| guest.id != id);
    }

    /// `xl shutdown` of a domain of ours; it ends by itself and holds nothing any more.
    pub fn shut_down(&mut self, id: DomId) {
        let dom0 = self.machine.domain(DomId(0));
        dom0.put(&format!("/local/domain/{id}/control/shutdown"), "poweroff");
        let ended = |stack: &mut Self| stack.domains.iter().any(|domain| domain.xen.id() == id && domain.ended);
        assert!(self.turn_until(60, ended), "domain {id} did not stop");
        // The disk's back end says goodbye.
        (0..100).for_each(|_| self.turn());
        self.machine.assert_nothing_held(id);
        self.destroy(id);
    }

    /// The guest unloads its driver and loads it again.
    pub fn reload_driver(&mut self, guest: DomId, vtpm: DomId) {
        self.front(guest).remove();
        assert!(
            self.turn_until(10, |stack| stack.machine.vtpm_back_state(guest, vtpm, 0) == Some(2)),
            "not in InitWait"
        );
        let front = self.front(guest);
        front.set_state(1);
        front.probe();
    }
}

/// TPM 1.2 commands, and what a good response holds.
pub mod tpm {
    /// A command without authorization.
    pub fn command(ordinal: u32, params: &[u8]) -> Vec<u8> {
        let size = u32::try_from(10 + params.len()).unwrap();
        [&[0, 0xc1][..], &size.to_be_bytes(), &ordinal.to_be_bytes(), params].concat()
    }

    pub fn extend(pcr: u32, digest: [u8; 20]) -> Vec<u8> {
        command(0x14, &[&pcr.to_be_bytes()[..], &digest].concat())
    }

    pub fn pcr_read(pcr: u32) -> Vec<u8> {
        command(0x15, &pcr.to_be_bytes())
    }

    pub fn random(bytes: u32) -> Vec<u8> {
        command(0x46, &bytes.to_be_bytes())
    }

    /// An area that is written with physical presence, which is not asked for as long as NV is not locked.
    pub fn nv_define(index: u32, size: u32) -> Vec<u8> {
        let pcr_info = [&[0, 3, 0, 0, 0, 0x1f][..], &[0; 20]].concat();
        let attributes = [&[0, 0x17][..], &1u32.to_be_bytes()].concat();
        let public =
            [&[0, 0x18][..], &index.to_be_bytes(), &pcr_info, &pcr_info, &attributes, &[0, 0, 0], &size.to_be_bytes()];
        command(0xcc, &[&public.concat()[..], &[0; 20]].concat())
    }

    pub fn nv_write(index: u32, offset: u32, data: &[u8]) -> Vec<u8> {
        let size = u32::try_from(data.len()).unwrap();
        command(0xcd, &[&index.to_be_bytes()[..], &offset.to_be_bytes(), &size.to_be_bytes(), data].concat())
    }

    pub fn nv_read(index: u32, offset: u32, size: u32) -> Vec<u8> {
        command(0xcf, &[index.to_be_bytes(), offset.to_be_bytes(), size.to_be_bytes()].concat())
    }

    /// The parameters of a response that reports success.
    pub fn good(response: &[u8]) -> &[u8] {
        assert_eq!(response[..2], [0, 0xc4], "{response:x?}");
        assert_eq!(response[6..10], [0; 4], "{response:x?}");
        assert_eq!(response[2..6], u32::try_from(response.len()).unwrap().to_be_bytes());
        &response[10..]
    }
}
