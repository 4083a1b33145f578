//! A test image: a domain with many vTPM devices, each of which plays one vTPM at the manager. `crowd N ROUNDS` waits until all N are
//! connected at once, then lets all of them save a record, ask for it back, and ask for random bytes, ROUNDS times. Every answer must
//! be the device's own. The last line says how many were served.
#![no_std]
#![no_main]

extern crate alloc;

use alloc::boxed::Box;
use alloc::vec::Vec;
use core::cell::RefCell;
use core::future::{Future, poll_fn};
use core::pin::Pin;
use core::task::Poll;
use core::time::Duration;
use frontback::looper::{Driver, Timer, Turn, turn};
use frontback::shutdown::ShutdownWatch;
use frontback::tpmfront::{TpmFront, transmit};
use frontback::xenstore::Client;
use tpm_wire::mgr::{ORD_LOADHASHKEY, ORD_SAVEHASHKEY, RECORD_MAX, TAG_REQ, TAG_RSP};
use tpm_wire::v12::{TAG_RQU_COMMAND, TAG_RSP_COMMAND};
use tpm_wire::{HEADER_SIZE, ResponseHeader, Writer};
use xen_abi::{Clock, Xen};
use xen_guest::{Guest, Shutdown, shutdown};

/// Longer than a hundred others take before it.
const ANSWER_TIME: Duration = Duration::from_secs(300);
const ORD_GET_RANDOM: u32 = 0x46;

xen_guest::entry!(main);

fn main(guest: Guest) {
    let Guest { command_line, clock, xen, .. } = guest;
    let numbers: Vec<u32> = command_line.split_whitespace().filter_map(|word| word.parse().ok()).collect();
    let (Some(xen), &[count, rounds]) = (xen, numbers.as_slice()) else {
        log::error!(target: "crowd", "this image is a domain with vtpm= lines; its arguments are their number and one of rounds");
        shutdown(Shutdown::Crash)
    };
    let mut xen = xen.with_store(Client::new);
    let timer = Timer::new(clock.now());
    let watch = RefCell::new(ShutdownWatch::new());
    let fronts: Vec<_> = (0..count).map(|devid| RefCell::new(TpmFront::new(devid))).collect();
    let mut drivers: Vec<&RefCell<dyn Driver<_>>> = Vec::new();
    drivers.push(&watch);
    drivers.extend(fronts.iter().map(|front| front as &RefCell<dyn Driver<_>>));
    let mut life = Box::pin(async {
        let connected = || fronts.iter().filter(|front| front.borrow().is_connected()).count();
        poll_fn(|_| if connected() == fronts.len() { Poll::Ready(()) } else { Poll::Pending }).await;
        log::info!(target: "crowd", "{count} connected at once");
        let lives = fronts.iter().zip(0..).map(|(front, number)| Box::pin(one(front, number, rounds)) as Life<'_>);
        let served = all(lives.collect()).await;
        log::info!(target: "crowd", "{served} of {count} served, {} still connected", connected());
        poll_fn(|_| if watch.borrow().requested().is_some() { Poll::Ready(()) } else { Poll::Pending }).await;
    });
    while let Turn::Wait(deadline) = turn(&mut xen, clock.now(), &drivers, &timer, life.as_mut()) {
        xen.wait(deadline);
    }
    drop(life);
    fronts.iter().for_each(|front| front.borrow_mut().close(&mut xen));
    shutdown(Shutdown::Poweroff)
}

type Life<'a> = Pin<Box<dyn Future<Output = bool> + 'a>>;

/// How many of `lives` end well; all are polled at every turn.
async fn all(mut lives: Vec<Life<'_>>) -> usize {
    let mut good = 0;
    poll_fn(|context| {
        lives.retain_mut(|life| match life.as_mut().poll(context) {
            Poll::Ready(well) => {
                good += usize::from(well);
                false
            }
            Poll::Pending => true,
        });
        if lives.is_empty() { Poll::Ready(()) } else { Poll::Pending }
    })
    .await;
    good
}

/// One vTPM's life; false, and a line, at the first answer that is not right.
async fn one<X: Xen>(front: &RefCell<TpmFront<X>>, number: u32, rounds: u32) -> bool {
    for round in 0..rounds {
        let record = [number as u8 ^ (round as u8).rotate_left(5); RECORD_MAX];
        let save = packet(TAG_REQ, ORD_SAVEHASHKEY, &record);
        let load = packet(TAG_REQ, ORD_LOADHASHKEY, &[]);
        let random = packet(TAG_RQU_COMMAND, ORD_GET_RANDOM, &[0, 0, 0, 16]);
        let saved = ask(front, &save, TAG_RSP).await;
        let loaded = ask(front, &load, TAG_RSP).await;
        let drawn = ask(front, &random, TAG_RSP_COMMAND).await;
        let right = saved.is_some_and(|body| body.is_empty())
            && loaded.is_some_and(|body| body == record)
            && drawn.is_some_and(|body| body.len() > 4);
        if !right {
            log::error!(target: "crowd", "vTPM {number}, round {round}: a wrong answer, or none");
            return false;
        }
    }
    true
}

async fn ask<X: Xen>(front: &RefCell<TpmFront<X>>, command: &[u8], tag: u16) -> Option<Vec<u8>> {
    let response = transmit(front, 0, command, ANSWER_TIME).await.ok()?;
    let (header, body) = ResponseHeader::parse(&response).ok()?;
    (header.tag.get() == tag && header.code.get() == 0).then(|| body.to_vec())
}

fn packet(tag: u16, ordinal: u32, body: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(HEADER_SIZE + body.len());
    Writer::new(&mut out).u16(tag).u32((HEADER_SIZE + body.len()) as u32).u32(ordinal).bytes(body);
    out
}
