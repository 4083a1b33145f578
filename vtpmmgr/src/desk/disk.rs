//! The lane for the disk: records of vTPMs.

use super::{ChipWork, Desk, DiskWork, Job};
use crate::anchor::MonotonicCounter;
use crate::management::{Member, Office, vtpm_name};
use crate::policy::PeerLabels;
use crate::requests::{Record, code};
use crate::state::{Change, State, Vtpm};
use alloc::vec::Vec;
use frontback::tpmback::Fronts;
use tpm_crypto::Drbg;
use tpm_wire::Transport;
use tpm_wire::mgr::{self, Refused};
use xen_abi::BlockDevice;
use zeroize::Zeroizing;

/// SAVEHASHKEY and LOADHASHKEY, one after another in the order in which they came.
pub async fn disk_lane<F: Fronts, L: PeerLabels, B: BlockDevice, C: MonotonicCounter + Clone, T: Transport>(
    desk: &Desk<'_, F, L>,
    office: &Office<'_, B, C, T>,
    rng: &mut Drbg,
) {
    while let Some(Job { member, work }) = desk.next(&desk.disk).await {
        let outcome = match &work {
            DiskWork::Save(record) => save(office, rng, &member, record).await.map(|()| Zeroizing::default()),
            DiskWork::Load => load(office, &member).await,
        };
        if outcome == Err(Refused(code::WRONG_PCR)) && office.policy.borrow().is_unsure() {
            desk.chip.borrow_mut().push_back(Job { member, work: ChipWork::Open(work) });
            office.timer.wake_at(office.timer.now());
            continue;
        }
        desk.answer(member.front, mgr::TAG_RSP, &outcome);
    }
}

/// Keeps a record. A vTPM that is not known yet becomes one of the first group.
async fn save<B: BlockDevice, C: MonotonicCounter + Clone, T: Transport>(
    office: &Office<'_, B, C, T>,
    rng: &mut Drbg,
    member: &Member,
    record: &Record,
) -> Result<(), Refused> {
    let uuid = member.uuid;
    let mut store = office.store.lock().await;
    let state = store.settled().await.map_err(|error| office.disk_error(error))?;
    let vtpm = {
        let policy = office.policy.borrow();
        let (group, flags) = match policy.serve(state, &uuid, &member.peer) {
            Ok(served) => (served.group, served.vtpm.flags),
            Err(Refused(code::BAD_PARAMETER)) => {
                let first = state.groups().first().ok_or(Refused(code::FAIL))?;
                policy.check(first, &member.peer)?;
                (first, 0)
            }
            Err(refused) => return Err(refused),
        };
        Vtpm { group: group.uuid, flags, record: Some(policy.keep(&record.0, &uuid, group, rng)?) }
    };
    store.apply(Change::PutVtpm { uuid, vtpm }).await.map_err(|error| office.disk_error(error))?;
    office.disk_works();
    Ok(())
}

/// Gives a record back.
async fn load<B: BlockDevice, C: MonotonicCounter + Clone, T: Transport>(
    office: &Office<'_, B, C, T>,
    member: &Member,
) -> Result<Zeroizing<Vec<u8>>, Refused> {
    let uuid = member.uuid;
    let look = |state: &State| {
        let policy = office.policy.borrow();
        let served = policy.serve(state, &uuid, &member.peer)?;
        let record = served.vtpm.record.as_ref().ok_or(Refused(code::BAD_PARAMETER))?;
        let key = policy.group_key(served.group)?;
        record.open(&uuid, &served.group.uuid, Some(&key)).map_err(|error| {
            log::error!(target: "vtpmmgr", "{}: {error}", vtpm_name(&uuid));
            Refused(code::FAIL)
        })
    };
    let record = office.state(look).await?;
    office.disk_works();
    Ok(record)
}
