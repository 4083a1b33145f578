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
use tpm12::Tpm12;
use vtpm_stubdom::args::Options;
use vtpm_stubdom::{FrontLink, MALFORMED, Ports, Waits, run};
use xen_abi::Clock;
use xen_guest::{Guest, Shutdown, shutdown};

/// How long the disk's back end may take to say goodbye.
const CLOSING_TIME: Duration = Duration::from_secs(3);

xen_guest::entry!(main);

fn main(guest: Guest) {
    let Guest { command_line, clock, entropy, xen } = guest;
    let Some(xen) = xen else {
        log::error!(target: "vtpm", "There is no Xen here; this image is a domain: start it with xl create");
        shutdown(Shutdown::Crash)
    };
    let mut xen = xen.with_store(Client::new);
    let timer = Timer::new(clock.now());
    let back = RefCell::new(TpmBack::new(&MALFORMED));
    let front = RefCell::new(TpmFront::new(0));
    let disk = RefCell::new(BlkFront::new());
    let watch = RefCell::new(ShutdownWatch::new());
    let drivers: [&RefCell<dyn Driver<_>>; 4] = [&watch, &back, &front, &disk];

    let stop = || watch.borrow().requested().is_some();
    let waits = Waits::new(&timer, &stop);
    let usable = Disk::open_durable(&disk);
    let ports = Ports { link: FrontLink(&front), disk: usable, entropy, guests: &back, waits: &waits };
    let mut life = Box::pin(run::<Tpm12, _, _, _, _, _>(Options::parse(&command_line), ports));
    while let Turn::Wait(deadline) = turn(&mut xen, clock.now(), &drivers, &timer, life.as_mut()) {
        xen.wait(deadline);
    }
    drop(life);

    back.borrow_mut().close(&mut xen);
    front.borrow_mut().close(&mut xen);
    disk.borrow_mut().close();
    let mut gone = Box::pin(waits.until(|| (disk.borrow().status() == Status::Closed).then_some(())));
    let latest = clock.now() + CLOSING_TIME;
    while let Turn::Wait(deadline) = turn(&mut xen, clock.now(), &[&disk], &timer, gone.as_mut()) {
        if clock.now() >= latest {
            break;
        }
        xen.wait(Some(deadline.map_or(latest, |deadline| deadline.min(latest))));
    }
    let reboot = watch.borrow().requested() == Some(Request::Reboot);
    shutdown(if reboot { Shutdown::Reboot } else { Shutdown::Poweroff })
}
