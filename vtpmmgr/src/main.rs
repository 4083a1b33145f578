//! The image: the real machine, wired to the story in the library.
#![no_std]
#![no_main]

extern crate alloc;

use alloc::boxed::Box;
use core::cell::RefCell;
use core::time::Duration;
use frontback::blkfront::{BlkFront, Disk, Status};
use frontback::looper::{Driver, Timer, Turn, turn};
use frontback::shutdown::{Request, ShutdownWatch};
use frontback::tpmback::TpmBack;
use frontback::tpmfront::TpmFront;
use frontback::xenstore::Client;
use tpm_tis::{ChipLink, LOCALITIES, LOCALITY_SIZE, Timeouts, TisBus};
use vtpmmgr::args::{self, Irq, Options};
use vtpmmgr::hardware::ChipInfo;
use vtpmmgr::life::{Ports, live};
use vtpmmgr::policy::BackLabels;
use vtpmmgr::refuse;
use vtpmmgr::requests::MALFORMED;
use vtpmmgr::way::{Either, FrontWay};
use xen_abi::{Clock, Instant};
use xen_guest::{Guest, Mmio, Shutdown, set_log_level, shutdown};

/// How long the disk's back end may take to say goodbye.
const CLOSING_TIME: Duration = Duration::from_secs(3);

xen_guest::entry!(main);

fn main(guest: Guest) {
    let Guest { command_line, clock, entropy, xen } = guest;
    let Some(xen) = xen else {
        log::error!(target: "vtpmmgr", "There is no Xen here; this image is a domain: start it with xl create");
        shutdown(Shutdown::Crash)
    };
    let given = args::parse(&command_line);
    let defaults = Options::default();
    let options = given.as_ref().unwrap_or(&defaults);
    set_log_level(options.log_level);
    match (options.driver, options.irq) {
        (_, Irq::Poll) => {}
        (args::Driver::Tis, Irq::Wanted) => {
            log::info!(target: "vtpmmgr", "tpmirq=: a PVH domain gets no interrupt of the TPM; it is polled");
        }
        (args::Driver::Front, Irq::Wanted) => {
            log::info!(target: "vtpmmgr", "tpmirq=: with tpmdriver=tpmfront there is no interrupt; the other domain signals");
        }
    }
    let mut xen = xen.with_store(Client::new);
    let timer = Timer::new(clock.now());
    let back = RefCell::new(TpmBack::new(&MALFORMED));
    let disk = RefCell::new(BlkFront::new());
    let watch = RefCell::new(ShutdownWatch::new());
    let behind = options.driver == args::Driver::Front;
    let registers = if behind {
        Ok(None)
    } else {
        Mmio::map(options.iomem, u64::from(LOCALITIES) * LOCALITY_SIZE as u64).map(Some)
    };
    // The arguments allow localities that exist only.
    let tis =
        tpm_tis::Chip::new(options.locality, Timeouts::DEFAULT).expect("a locality from 0 to 4").at(options.iomem);
    let tis = RefCell::new(tis);
    let bus = RefCell::new(Bus { tis: &tis, registers: registers.as_ref().ok().and_then(Option::as_ref) });
    let front = RefCell::new(TpmFront::new(0));
    let chip_driver: &RefCell<dyn Driver<_>> = if behind { &front } else { &bus };
    let drivers: [&RefCell<dyn Driver<_>>; 4] = [&watch, &back, &disk, chip_driver];

    let stop = || watch.borrow().requested().is_some();
    let way = if behind {
        Either::Second(FrontWay::new(&front, options.locality))
    } else {
        Either::First(ChipLink::new(&tis))
    };
    let labels = BackLabels { back: &back, labels: xen.ports.labels() };
    let mut life = Box::pin(async {
        if let Err(error) = &given {
            return refuse(&back, error, &stop).await;
        }
        if let Err(error) = &registers {
            return refuse(&back, error, &stop).await;
        }
        let raise = |timeouts| tis.borrow_mut().set_timeouts(Timeouts::DEFAULT.raised_to(timeouts));
        let on_chip = |info: &ChipInfo| info.timeouts.into_iter().for_each(raise);
        let disk = Disk::open_durable(&disk);
        let ports = Ports { fronts: &back, labels: &labels, disk, way, cpu: entropy, timer: &timer };
        live(options, ports, on_chip, &stop).await;
    });
    while let Turn::Wait(deadline) = turn(&mut xen, clock.now(), &drivers, &timer, life.as_mut()) {
        xen.wait(deadline);
    }
    drop(life);

    back.borrow_mut().close(&mut xen);
    if behind {
        front.borrow_mut().close(&mut xen);
    }
    tis.borrow_mut().leave();
    disk.borrow_mut().close();
    let gone = || disk.borrow().status() == Status::Closed && tis.borrow().deadline().is_none();
    let latest = clock.now() + CLOSING_TIME;
    while !gone() && clock.now() < latest {
        let idle = core::pin::pin!(core::future::pending::<()>());
        let Turn::Wait(deadline) = turn(&mut xen, clock.now(), &[&disk, &bus], &timer, idle) else { break };
        xen.wait(Some(deadline.map_or(latest, |deadline| deadline.min(latest))));
    }
    let reboot = watch.borrow().requested() == Some(Request::Reboot);
    shutdown(if reboot { Shutdown::Reboot } else { Shutdown::Poweroff })
}

/// The chip's driver on its registers; without registers every read gives ones, as on an empty bus.
struct Bus<'a> {
    tis: &'a RefCell<tpm_tis::Chip>,
    registers: Option<&'a Mmio>,
}

impl<X> Driver<X> for Bus<'_> {
    fn step(&mut self, _xen: &mut X, now: Instant) {
        self.tis.borrow_mut().step(&mut Registers(self.registers), now);
    }

    fn deadline(&self) -> Option<Instant> {
        self.tis.borrow().deadline()
    }
}

struct Registers<'a>(Option<&'a Mmio>);

impl TisBus for Registers<'_> {
    fn read8(&mut self, offset: usize) -> u8 {
        self.0.and_then(|mmio| mmio.read_u8(offset).ok()).unwrap_or(u8::MAX)
    }
    fn read32(&mut self, offset: usize) -> u32 {
        self.0.and_then(|mmio| mmio.read_u32(offset).ok()).unwrap_or(u32::MAX)
    }
    fn write8(&mut self, offset: usize, value: u8) {
        self.0.map(|mmio| mmio.write_u8(offset, value));
    }
    fn write32(&mut self, offset: usize, value: u32) {
        self.0.map(|mmio| mmio.write_u32(offset, value));
    }
}
