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
use frontback::xenstore::Client;
use tpm_tis::{ChipLink, LOCALITIES, LOCALITY_SIZE, Timeouts, TisBus};
use vtpmmgr::args::{self, Irq};
use vtpmmgr::chip12::Chip;
use vtpmmgr::{MALFORMED, refuse, run};
use xen_abi::{Clock, Instant};
use xen_guest::{Guest, Mmio, Shutdown, set_log_level, shutdown};

/// How long the disk's back end may take to say goodbye.
const CLOSING_TIME: Duration = Duration::from_secs(3);

xen_guest::entry!(main);

fn main(guest: Guest) {
    let Guest { command_line, clock, mut entropy, xen } = guest;
    let Some(xen) = xen else {
        log::error!(target: "vtpmmgr", "There is no Xen here; this image is a domain: start it with xl create");
        shutdown(Shutdown::Crash)
    };
    let options = args::parse(&command_line);
    let (iomem, locality) =
        options.as_ref().map_or((args::DEFAULT_IOMEM, 0), |options| (options.iomem, options.locality));
    if let Ok(options) = &options {
        set_log_level(options.log_level);
        if options.irq == Irq::Wanted {
            log::info!(target: "vtpmmgr", "tpmirq=: a PVH domain gets no interrupt of the TPM; it is polled");
        }
    }
    let mut xen = xen.with_store(Client::new);
    let timer = Timer::new(clock.now());
    let back = RefCell::new(TpmBack::new(&MALFORMED));
    let disk = RefCell::new(BlkFront::new());
    let watch = RefCell::new(ShutdownWatch::new());
    let registers = Mmio::map(iomem, u64::from(LOCALITIES) * LOCALITY_SIZE as u64);
    // The arguments allow localities that exist only.
    let tis = RefCell::new(tpm_tis::Chip::new(locality, Timeouts::DEFAULT).expect("a locality from 0 to 4").at(iomem));
    let bus = RefCell::new(Bus { tis: &tis, registers: registers.as_ref().ok() });
    let drivers: [&RefCell<dyn Driver<_>>; 4] = [&watch, &back, &disk, &bus];

    let stop = || watch.borrow().requested().is_some();
    let chip = Chip::new(ChipLink::new(&tis), &timer);
    let mut life = Box::pin(async {
        let options = match (&options, &registers) {
            (Ok(options), Ok(_)) => options,
            (Err(error), _) => return refuse(&back, error, &stop).await,
            (_, Err(error)) => return refuse(&back, error, &stop).await,
        };
        let raise = |timeouts| tis.borrow_mut().set_timeouts(Timeouts::DEFAULT.raised_to(timeouts));
        let on_chip = |info: &vtpmmgr::chip12::ChipInfo| info.timeouts.into_iter().for_each(raise);
        run(options, &back, Disk::open_durable(&disk), &chip, &mut entropy, on_chip, &stop).await;
    });
    while let Turn::Wait(deadline) = turn(&mut xen, clock.now(), &drivers, &timer, life.as_mut()) {
        xen.wait(deadline);
    }
    drop(life);

    back.borrow_mut().close(&mut xen);
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
