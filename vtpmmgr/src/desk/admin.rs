//! The lanes for the admin's commands and for the chip's counter.

use super::{Desk, Job};
use crate::anchor::MonotonicCounter;
use crate::management::{Office, Roots, perform};
use crate::policy::PeerLabels;
use crate::requests::code;
use crate::state::State;
use crate::store::Store;
use core::future::poll_fn;
use core::task::Poll;
use frontback::tpmback::Fronts;
use tpm_crypto::Drbg;
use tpm_wire::Transport;
use tpm_wire::mgr::{self, Refused};
use xen_abi::BlockDevice;

/// What the admin asks, one command after another.
pub async fn management_lane<F: Fronts, L: PeerLabels, B: BlockDevice, C: MonotonicCounter + Clone, T: Transport>(
    desk: &Desk<'_, F, L>,
    office: &Office<'_, B, C, T>,
    roots: &mut Roots,
    rng: &mut Drbg,
) {
    while let Some(Job { member, work }) = desk.next(&desk.management).await {
        let is_admin = |state: &State| office.policy.borrow().check_admin(state, &member.uuid, &member.peer);
        match office.state(is_admin).await {
            Ok(()) => {
                let outcome = perform(office, roots, rng, work).await;
                desk.answer(member.front, mgr::TAG_RSP, &outcome);
            }
            Err(refused @ Refused(code::AUTHFAIL)) => desk.answer(member.front, mgr::TAG_RSP2, &Err(refused)),
            Err(refused) => desk.answer(member.front, mgr::TAG_RSP, &Err(refused)),
        }
    }
}

/// With `rollback=periodic`: steps the chip's counter now and then. Whoever waits for the disk does not wait for the chip.
pub async fn counter_lane<F: Fronts, L, B: BlockDevice, C: MonotonicCounter + Clone, T: Transport>(
    desk: &Desk<'_, F, L>,
    office: &Office<'_, B, C, T>,
) {
    loop {
        let due = poll_fn(|_| {
            if desk.closing.get() {
                return Poll::Ready(false);
            }
            let now = office.timer.now();
            match office.store.peek(Store::next_step).flatten() {
                Some(due) if due <= now => Poll::Ready(true),
                Some(due) => {
                    office.timer.wake_at(due);
                    Poll::Pending
                }
                None => Poll::Pending,
            }
        });
        if !due.await {
            return;
        }
        let mut store = office.store.lock().await;
        let begun = store.begin_step(office.timer.now()).await;
        drop(store);
        match begun {
            Ok(Some(step)) => {
                let outcome = step.run().await;
                office.store.lock().await.finish_step(outcome);
            }
            Ok(None) => {}
            Err(error) => {
                office.disk_error(error);
            }
        }
    }
}
