//! Serving: lanes for the disk, the chip and management, that work side by side.
//!
//! Front ends are taken in turn by the driver, and each has at most one request open, so a lane's queue is never longer than
//! the number of front ends and nobody can push another one back by more than one request. What needs no chip goes on while the
//! chip is silent, and what needs no disk while the disk is.

mod admin;
mod chip;
mod disk;

use crate::anchor::MonotonicCounter;
use crate::args::Rollback;
use crate::hardware::{ChipInfo, Hardware, RootKey};
use crate::management::{Lock, Member, Office, Roots, vtpm_name};
use crate::opening::open_groups;
use crate::policy::{Peer, PeerLabels, Policy};
use crate::requests::{self, Message, Record, code};
use crate::state::Uuid;
use crate::store::Store;
use admin::{counter_lane, management_lane};
use alloc::boxed::Box;
use alloc::collections::VecDeque;
use alloc::vec::Vec;
use chip::chip_lane;
use core::cell::{Cell, RefCell};
use core::future::{Future, poll_fn};
use core::pin::Pin;
use core::task::Poll;
use disk::disk_lane;
use frontback::looper::Timer;
use frontback::tpmback::{Event, FrontId, Fronts};
use tpm_crypto::Drbg;
use tpm_wire::Transport;
use tpm_wire::mgr::{self, Management, QuoteRequest, Refused};
use xen_abi::BlockDevice;
use zeroize::Zeroizing;

/// All that serving needs beside the front ends.
pub struct Service<'a, B, C, T> {
    /// The open disk.
    pub store: Store<B, C>,
    /// The chip.
    pub chip: &'a Hardware<'a, T>,
    /// What the chip's keys of the manager lie under.
    pub root: &'a RootKey,
    /// The chip as it was at start.
    pub info: &'a ChipInfo,
    /// What the disk's label holds.
    pub roots: Roots,
    /// `admin_uuid=`.
    pub admins: &'a [Uuid],
    /// `rollback=`.
    pub rollback: Rollback,
    /// The disk was made in this run: so was the first group.
    pub is_new: bool,
    /// Randomness.
    pub rng: Drbg,
    /// Time.
    pub timer: &'a Timer,
}

/// A request that waits for its turn.
struct Job<W> {
    member: Member,
    work: W,
}

enum DiskWork {
    Save(Record),
    Load,
}

enum ChipWork {
    Random(u32),
    PcrRead(u32),
    Extend {
        index: u32,
        digest: [u8; 20],
    },
    Quote(QuoteRequest),
    /// Open the groups that a failing chip left closed, then do this.
    Open(DiskWork),
}

type Queue<W> = RefCell<VecDeque<Job<W>>>;

/// Where requests wait.
struct Desk<'a, F, L> {
    fronts: &'a F,
    labels: &'a L,
    disk: Queue<DiskWork>,
    chip: Queue<ChipWork>,
    management: Queue<Management>,
    /// No more requests are taken; the lanes end when they are empty.
    closing: Cell<bool>,
}

/// Serves the vTPMs until `stop` says so; what was taken in until then is finished and answered.
pub async fn serve<F: Fronts, L: PeerLabels, B: BlockDevice, C: MonotonicCounter + Clone, T: Transport>(
    service: Service<'_, B, C, T>,
    fronts: &F,
    labels: &L,
    stop: impl Fn() -> bool,
) {
    let Service { store, chip, root, info, mut roots, admins, rollback, is_new, mut rng, timer } = service;
    let mut policy = Policy::new(admins);
    if let Some(first) = store.state().groups().first().filter(|_| is_new) {
        policy.is_new(first.uuid);
    }
    let office = Office {
        store: Lock::new(store, timer),
        chip,
        root,
        info,
        policy: RefCell::new(policy),
        members: RefCell::default(),
        timer,
        began: timer.now(),
        rollback,
        chip_fails: Cell::new(false),
        disk_fails: Cell::new(None),
    };
    let desk = Desk {
        fronts,
        labels,
        disk: RefCell::default(),
        chip: RefCell::default(),
        management: RefCell::default(),
        closing: Cell::new(false),
    };
    let Ok([mut for_disk, mut for_chip, mut for_management]) = forks(&mut rng) else { return };
    // Before anybody is served: a vTPM of a group that is about to open is not told that it is closed.
    open_groups(&office, &mut for_chip).await;
    let intake = poll_fn(|_| {
        if stop() {
            desk.closing.set(true);
            timer.wake_at(timer.now());
            return Poll::Ready(());
        }
        desk.take_events(&office);
        desk.take_requests(&office);
        Poll::Pending
    });
    // Boxed, so that the big state machines of the lanes lie in the heap and not on the small stack.
    all([
        Box::pin(intake),
        Box::pin(management_lane(&desk, &office, &mut roots, &mut for_management)),
        Box::pin(disk_lane(&desk, &office, &mut for_disk)),
        Box::pin(chip_lane(&desk, &office, &mut for_chip)),
        Box::pin(counter_lane(&desk, &office)),
    ])
    .await;
    let mut store = office.store.lock().await;
    if let Err(error) = store.stop(timer.now()).await {
        log::warn!(target: "vtpmmgr", "the last step of the counter before this stop: {error}");
    }
}

/// A generator for each lane: a lane waits for the chip with its own in hand.
fn forks<const N: usize>(rng: &mut Drbg) -> Result<[Drbg; N], tpm_crypto::DrbgError> {
    let fork = |_| Drbg::new(&*Zeroizing::new(rng.bytes::<48>()), b"vtpmmgr lane");
    let made = (0..N).map(fork).collect::<Result<Vec<_>, _>>()?;
    made.try_into().map_err(|_| tpm_crypto::DrbgError)
}

impl<F: Fronts, L: PeerLabels> Desk<'_, F, L> {
    fn take_events<B, C, T>(&self, office: &Office<'_, B, C, T>) {
        let mut members = office.members.borrow_mut();
        while let Some(event) = self.fronts.next_event() {
            match event {
                Event::Attached { front, uuid } => {
                    // A front end that connects anew replaces its own earlier connection, never somebody else's.
                    members.retain(|old| (old.front.domid, old.front.devid) != (front.domid, front.devid));
                    if members.iter().any(|other| other.uuid == uuid) {
                        self.fronts.refuse(front, "this vTPM (UUID) is in use by another front end");
                    } else {
                        let peer = Peer::of(self.labels, front);
                        log::info!(target: "vtpmmgr", "{} is connected, front end {}/{}", vtpm_name(&uuid), front.domid, front.devid);
                        members.push(Member { front, uuid, peer });
                    }
                }
                Event::Detached { front } => members.retain(|old| old.front != front),
            }
        }
    }

    fn take_requests<B: BlockDevice, C: MonotonicCounter + Clone, T: Transport>(&self, office: &Office<'_, B, C, T>) {
        while let Some(request) = self.fronts.next_request() {
            let front = request.front;
            let member = office.members.borrow().iter().find(|member| member.front == front).cloned();
            // A request of a connection that was refused or is gone.
            let Some(member) = member else {
                self.fronts.abandon(front);
                continue;
            };
            let command = Zeroizing::new(request.command);
            let answered = match Message::parse(&command) {
                Ok(message) => self.sort(office, member, message),
                Err(refusal) => Err((refusal.tag, Refused(refusal.code))),
            };
            if let Err((tag, Refused(code))) = answered {
                log::debug!(
                    target: "vtpmmgr",
                    "front end {}/{}: request refused with code {code}", front.domid, front.devid
                );
                self.fronts.respond(front, &requests::error(tag, code));
            }
        }
    }

    /// Answers what needs neither disk nor chip, and puts the rest where it waits.
    fn sort<B: BlockDevice, C: MonotonicCounter + Clone, T: Transport>(
        &self,
        office: &Office<'_, B, C, T>,
        member: Member,
        message: Message,
    ) -> Result<(), (u16, Refused)> {
        let (front, tag) = (member.front, message.response_tag());
        let is_admin = office.policy.borrow().is_admin(&member.uuid);
        let for_chip = |member, work| self.chip.borrow_mut().push_back(Job { member, work });
        match message {
            Message::BootId => self.fronts.respond(front, &requests::success(tag, &office.info.boot_id)),
            Message::BootHash => {
                let hash = member.peer.hash().ok_or((tag, Refused(code::FAIL)))?;
                self.fronts.respond(front, &requests::success(tag, &hash));
            }
            Message::Save(record) => {
                self.disk.borrow_mut().push_back(Job { member, work: DiskWork::Save(record) });
            }
            // Behind the saves, not past them: what a vTPM saved before it was restarted is what it must be given.
            Message::Load => self.disk.borrow_mut().push_back(Job { member, work: DiskWork::Load }),
            Message::Random(count) => for_chip(member, ChipWork::Random(count)),
            Message::PcrRead(index) => for_chip(member, ChipWork::PcrRead(index)),
            Message::Extend { index, digest } if is_admin => {
                for_chip(member, ChipWork::Extend { index, digest });
            }
            Message::Extend { .. } => return Err((tag, Refused(code::DISABLED_CMD))),
            Message::Quote(request) => for_chip(member, ChipWork::Quote(request)),
            Message::Management { ordinal, body } if is_admin => match Management::parse(ordinal, &body.0) {
                Ok(work) => self.management.borrow_mut().push_back(Job { member, work }),
                Err(Refused(code::BAD_ORDINAL)) => return Err((mgr::TAG_RSP2, Refused(code::BAD_ORDINAL))),
                Err(refused) => return Err((tag, refused)),
            },
            Message::Management { .. } => return Err((mgr::TAG_RSP2, Refused(code::AUTHFAIL))),
        }
        Ok(())
    }

    /// The next job of a lane that is still wanted, or `None` once the service closes and the lane is empty.
    async fn next<W>(&self, lane: &Queue<W>) -> Option<Job<W>> {
        poll_fn(|_| {
            loop {
                let job = lane.borrow_mut().pop_front();
                match job {
                    Some(job) if self.fronts.is_cancelled(job.member.front) => self.fronts.abandon(job.member.front),
                    Some(job) => return Poll::Ready(Some(job)),
                    None if self.closing.get() => return Poll::Ready(None),
                    None => return Poll::Pending,
                }
            }
        })
        .await
    }

    fn answer(&self, front: FrontId, tag: u16, outcome: &Result<Zeroizing<Vec<u8>>, Refused>) {
        match outcome {
            Ok(body) => self.fronts.respond(front, &requests::success(tag, body)),
            Err(Refused(code)) => self.fronts.respond(front, &requests::error(tag, *code)),
        }
    }
}

/// Polls all of `parts` at every turn, until each has ended.
async fn all<const N: usize>(parts: [Pin<Box<dyn Future<Output = ()> + '_>>; N]) {
    let mut parts = parts.map(Some);
    poll_fn(|context| {
        for part in &mut parts {
            if part.as_mut().is_some_and(|future| future.as_mut().poll(context).is_ready()) {
                *part = None;
            }
        }
        if parts.iter().all(Option::is_none) { Poll::Ready(()) } else { Poll::Pending }
    })
    .await;
}
