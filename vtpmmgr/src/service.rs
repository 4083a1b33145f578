//! Serving the vTPMs: two lanes, one for the disk and one for the chip, that work side by side.
//!
//! Front ends are taken in turn by the driver, and each has at most one request open, so a lane's queue is never longer than
//! the number of front ends and nobody can push another one back by more than one request.

use crate::chip12::Chip;
use crate::messages::{self, Message, Record, code};
use crate::table_store::{Store, StoreError};
use alloc::boxed::Box;
use alloc::collections::VecDeque;
use alloc::vec::Vec;
use core::cell::{Cell, RefCell};
use core::future::{Future, poll_fn};
use core::pin::Pin;
use core::task::Poll;
use frontback::tpmback::{Event, FrontId, Fronts};
use tpm_wire::Transport;
use vault::{Kind, Owner, VaultError};
use xen_abi::BlockDevice;

/// A request on its way to the disk.
struct DiskJob {
    front: FrontId,
    uuid: [u8; 16],
    /// The record to keep, or `None` to give it back.
    save: Option<Record>,
}

/// A request on its way to the chip.
struct ChipJob {
    front: FrontId,
    ordinal: u32,
    command: [u8; 14],
}

/// What the three parts of the service share.
struct Desk<'a, F> {
    fronts: &'a F,
    /// Who is connected, and as which vTPM.
    open: RefCell<Vec<(FrontId, [u8; 16])>>,
    disk: RefCell<VecDeque<DiskJob>>,
    chip: RefCell<VecDeque<ChipJob>>,
    /// No more requests are taken; the lanes end when they are empty.
    closing: Cell<bool>,
}

/// Serves the vTPMs until `stop` says so; what was taken in until then is finished and answered.
pub async fn serve<F: Fronts, B: BlockDevice, T: Transport>(
    fronts: &F,
    mut store: Store<B>,
    chip: &Chip<'_, T>,
    boot_id: &[u8; 20],
    stop: impl Fn() -> bool,
) {
    let desk = Desk {
        fronts,
        open: RefCell::default(),
        disk: RefCell::default(),
        chip: RefCell::default(),
        closing: Cell::new(false),
    };
    let intake = poll_fn(|_| {
        if stop() {
            desk.closing.set(true);
            return Poll::Ready(());
        }
        desk.take_events();
        desk.take_requests(boot_id);
        Poll::Pending
    });
    // Boxed, so that the big state machines of the lanes lie in the heap and not on the small stack.
    all([Box::pin(intake), Box::pin(disk_lane(&desk, &mut store)), Box::pin(chip_lane(&desk, chip))]).await;
}

impl<F: Fronts> Desk<'_, F> {
    fn take_events(&self) {
        let mut open = self.open.borrow_mut();
        while let Some(event) = self.fronts.next_event() {
            match event {
                Event::Attached { front, uuid } => {
                    // A front end that connects anew replaces its own earlier connection, never somebody else's.
                    open.retain(|(old, _)| (old.domid, old.devid) != (front.domid, front.devid));
                    if open.iter().any(|(_, taken)| *taken == uuid) {
                        self.fronts.refuse(front, "this vTPM (UUID) is in use by another front end");
                    } else {
                        log::info!(target: "vtpmmgr", "{} is connected, front end {}/{}", vtpm(&uuid), front.domid, front.devid);
                        open.push((front, uuid));
                    }
                }
                Event::Detached { front } => open.retain(|(old, _)| *old != front),
            }
        }
    }

    fn take_requests(&self, boot_id: &[u8; 20]) {
        while let Some(request) = self.fronts.next_request() {
            let front = request.front;
            let uuid = self.open.borrow().iter().find(|(known, _)| *known == front).map(|(_, uuid)| *uuid);
            // A request of a connection that was refused or is gone.
            let Some(uuid) = uuid else {
                self.fronts.abandon(front);
                continue;
            };
            let command = zeroize::Zeroizing::new(request.command);
            match Message::parse(&command) {
                Ok(message @ Message::BootId) => {
                    self.fronts.respond(front, &messages::success(message.response_tag(), boot_id));
                }
                Ok(Message::Save(record)) => {
                    self.disk.borrow_mut().push_back(DiskJob { front, uuid, save: Some(record) });
                }
                // Behind the saves, not past them: what a vTPM saved before it was restarted is what it must be given.
                Ok(Message::Load) => self.disk.borrow_mut().push_back(DiskJob { front, uuid, save: None }),
                Ok(Message::Chip { ordinal, command }) => {
                    self.chip.borrow_mut().push_back(ChipJob { front, ordinal, command });
                }
                Err(refusal) => {
                    log::debug!(
                        target: "vtpmmgr",
                        "front end {}/{}: request refused with code {}", front.domid, front.devid, refusal.code
                    );
                    self.fronts.respond(front, &messages::error(refusal.tag, refusal.code));
                }
            }
        }
    }

    /// The next job of a lane that is still wanted, or `None` once the service closes and the lane is empty.
    async fn next<J>(&self, lane: &RefCell<VecDeque<J>>, front: impl Fn(&J) -> FrontId) -> Option<J> {
        poll_fn(|_| {
            loop {
                let job = lane.borrow_mut().pop_front();
                match job {
                    Some(job) if self.fronts.is_cancelled(front(&job)) => self.fronts.abandon(front(&job)),
                    Some(job) => return Poll::Ready(Some(job)),
                    None if self.closing.get() => return Poll::Ready(None),
                    None => return Poll::Pending,
                }
            }
        })
        .await
    }
}

/// SAVEHASHKEY and LOADHASHKEY, one after another in the order in which they came.
async fn disk_lane<F: Fronts, B: BlockDevice>(desk: &Desk<'_, F>, store: &mut Store<B>) {
    const TAG: u16 = tpm_wire::mgr::TAG_RSP;
    let mut failing = None;
    while let Some(job) = desk.next(&desk.disk, |job| job.front).await {
        let result = match &job.save {
            Some(record) => store.save(&job.uuid, &record.0).await.map(|()| Some(messages::success(TAG, &[]))),
            None => store.load(&job.uuid).await.map(|record| record.map(|bytes| messages::success(TAG, &bytes))),
        };
        match result {
            Ok(found) => {
                if failing.take().is_some() {
                    log::info!(target: "vtpmmgr", "the manager's disk takes records again");
                }
                match found {
                    Some(response) => desk.fronts.respond(job.front, &response),
                    None => desk.fronts.respond(job.front, &messages::error(TAG, code::BAD_PARAMETER)),
                }
            }
            Err(error) => {
                // Once for each new cause: a vTPM that tries again and again does not fill the console.
                if failing.replace(error) != Some(error) {
                    log::error!(target: "vtpmmgr", "a request of {} failed: {error}", vtpm(&job.uuid));
                }
                let code = match error {
                    StoreError::Full | StoreError::Vault(VaultError::TooLarge { .. }) => code::RESOURCES,
                    StoreError::Vault(_) => code::FAIL,
                };
                desk.fronts.respond(job.front, &messages::error(TAG, code));
            }
        }
    }
}

/// GetRandom and PCRRead of the hardware.
async fn chip_lane<F: Fronts, T: Transport>(desk: &Desk<'_, F>, chip: &Chip<'_, T>) {
    let mut failing = false;
    while let Some(job) = desk.next(&desk.chip, |job| job.front).await {
        match chip.forward(job.ordinal, &job.command).await {
            Ok(response) => {
                if core::mem::take(&mut failing) {
                    log::info!(target: "vtpmmgr", "the TPM chip answers again");
                }
                desk.fronts.respond(job.front, &response);
            }
            Err(error) => {
                // Once for each failure of the chip, not for each vTPM that meets it.
                if !core::mem::replace(&mut failing, true) {
                    log::error!(target: "vtpmmgr", "{error}; vTPMs that need the chip get TPM_FAIL until it answers");
                }
                let response = messages::error(tpm_wire::v12::TAG_RSP_COMMAND, code::FAIL);
                desk.fronts.respond(job.front, &response);
            }
        }
    }
}

/// The vTPM with this UUID, as it is called on the console.
const fn vtpm(uuid: &[u8; 16]) -> Owner {
    Owner { kind: Kind::Vtpm, uuid: *uuid }
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
