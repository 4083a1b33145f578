//! vTPMs: list, show, move and lock, make known, forget.

use super::{Answer, Office, at, count, index_of, random_uuid, vtpm_name};
use crate::anchor::MonotonicCounter;
use crate::policy::vtpm_marks;
use crate::state::{Change, State, Uuid, Vtpm};
use alloc::vec::Vec;
use tpm_crypto::Drbg;
use tpm_wire::mgr::{ALL_GROUPS, Refused, VtpmEntry, VtpmPage, VtpmShow, code, vtpm_flags};
use tpm_wire::{HEADER_SIZE, MAX_PACKET, Transport, Writer};
use xen_abi::BlockDevice;
use zeroize::Zeroizing;

/// UUIDs in one packet.
const PAGE: usize = (MAX_PACKET - HEADER_SIZE - 4) / 16;

pub async fn list_legacy<B: BlockDevice, C: MonotonicCounter + Clone, T: Transport>(
    office: &Office<'_, B, C, T>,
    index: u32,
    offset: u32,
) -> Answer {
    let look = |state: &State| {
        let group = at(state, index)?.uuid;
        let mut body = Zeroizing::new(Vec::with_capacity(4 + 16 * PAGE));
        let mut out = Writer::new(&mut body);
        out.u32(count(state.vtpms_of(&group).count()));
        for (uuid, _) in state.vtpms_of(&group).skip(usize::try_from(offset).unwrap_or(usize::MAX)).take(PAGE) {
            out.bytes(uuid);
        }
        Ok(body)
    };
    office.state(look).await
}

pub async fn list<B: BlockDevice, C: MonotonicCounter + Clone, T: Transport>(
    office: &Office<'_, B, C, T>,
    index: u32,
    offset: u32,
) -> Answer {
    let look = |state: &State| {
        let wanted = if index == ALL_GROUPS { None } else { Some(at(state, index)?.uuid) };
        let chosen = || state.vtpms().filter(|(_, vtpm)| wanted.is_none_or(|group| vtpm.group == group));
        let page = chosen().skip(usize::try_from(offset).unwrap_or(usize::MAX)).take(VtpmPage::MAX);
        let entries = page.map(|(uuid, vtpm)| VtpmEntry {
            uuid: *uuid,
            index: index_of(state, &vtpm.group),
            flags: flags(office, uuid, vtpm),
        });
        let page = VtpmPage { total: count(chosen().count()), entries: entries.collect() };
        Ok(Zeroizing::new(page.to_bytes()))
    };
    office.state(look).await
}

pub async fn show<B: BlockDevice, C: MonotonicCounter + Clone, T: Transport>(
    office: &Office<'_, B, C, T>,
    uuid: &Uuid,
) -> Answer {
    let members = office.members.borrow().iter().find(|member| member.uuid == *uuid).cloned();
    let label = members.and_then(|member| member.peer.hash()).unwrap_or_default();
    let look = |state: &State| {
        let vtpm = state.vtpm(uuid).ok_or(Refused(code::BAD_PARAMETER))?;
        let (index, group, flags) = (index_of(state, &vtpm.group), vtpm.group, flags(office, uuid, vtpm));
        Ok(Zeroizing::new(VtpmShow { index, group, flags, label }.to_bytes()))
    };
    office.state(look).await
}

fn flags<B: BlockDevice, C: MonotonicCounter + Clone, T: Transport>(
    office: &Office<'_, B, C, T>,
    uuid: &Uuid,
    vtpm: &Vtpm,
) -> u32 {
    let flag = |holds: bool, flag: u32| if holds { flag } else { 0 };
    flag(office.policy.borrow().is_admin(uuid), vtpm_flags::ADMIN)
        | flag(vtpm.record.is_some(), vtpm_flags::RECORD)
        | flag(office.is_connected(uuid), vtpm_flags::CONNECTED)
        | flag(vtpm.flags & vtpm_marks::LOCKED != 0, vtpm_flags::LOCKED)
}

/// Moves a vTPM to another group, whose key its record is encrypted with from then on, and locks or unlocks it.
pub async fn edit<B: BlockDevice, C: MonotonicCounter + Clone, T: Transport>(
    office: &Office<'_, B, C, T>,
    rng: &mut Drbg,
    uuid: &Uuid,
    index: u32,
    flags: u32,
) -> Result<(), Refused> {
    let mut store = office.store.lock().await;
    let state = store.settled().await.map_err(|error| office.disk_error(error))?;
    let vtpm = state.vtpm(uuid).ok_or(Refused(code::BAD_PARAMETER))?;
    let (old, new) = (state.group(&vtpm.group).ok_or(Refused(code::FAIL))?, at(state, index)?);
    let mut changed = vtpm.clone();
    if old.uuid != new.uuid {
        if office.is_connected(uuid) {
            return Err(Refused(code::FAIL));
        }
        let policy = office.policy.borrow();
        let closed = |_| Refused(code::AUTHFAIL);
        if let Some(record) = &vtpm.record {
            let key = policy.group_key(old).map_err(closed)?;
            let record = record.open(uuid, &old.uuid, Some(&key)).map_err(|_| Refused(code::FAIL))?;
            changed.record = Some(policy.keep(&record, uuid, new, rng).map_err(closed)?);
        }
        changed.group = new.uuid;
    }
    let locked = if flags & vtpm_flags::LOCKED == 0 { 0 } else { vtpm_marks::LOCKED };
    changed.flags = changed.flags & !vtpm_marks::LOCKED | locked;
    let change = Change::PutVtpm { uuid: *uuid, vtpm: changed };
    store.apply(change).await.map_err(|error| office.disk_error(error))
}

pub async fn new<B: BlockDevice, C: MonotonicCounter + Clone, T: Transport>(
    office: &Office<'_, B, C, T>,
    rng: &mut Drbg,
    index: u32,
    uuid: Option<Uuid>,
) -> Answer {
    let uuid = uuid.unwrap_or_else(|| random_uuid(rng));
    let mut store = office.store.lock().await;
    let state = store.settled().await.map_err(|error| office.disk_error(error))?;
    let group = at(state, index)?.uuid;
    if state.vtpm(&uuid).is_some() {
        return Err(Refused(code::FAIL));
    }
    let change = Change::PutVtpm { uuid, vtpm: Vtpm { group, flags: 0, record: None } };
    store.apply(change).await.map_err(|error| office.disk_error(error))?;
    Ok(Zeroizing::new(uuid.to_vec()))
}

pub async fn delete<B: BlockDevice, C: MonotonicCounter + Clone, T: Transport>(
    office: &Office<'_, B, C, T>,
    uuid: &Uuid,
) -> Result<(), Refused> {
    let mut store = office.store.lock().await;
    let state = store.settled().await.map_err(|error| office.disk_error(error))?;
    if state.vtpm(uuid).is_none() || office.is_connected(uuid) {
        return Err(Refused(code::FAIL));
    }
    store.apply(Change::DeleteVtpm(*uuid)).await.map_err(|error| office.disk_error(error))?;
    log::info!(target: "vtpmmgr", "{} was deleted by the admin", vtpm_name(uuid));
    Ok(())
}
