//! Signed configuration lists: what a group's key is sealed to, and which domains may use the group.

use super::roots::Roots;
use super::{GroupName, Office, at};
use crate::anchor::MonotonicCounter;
use crate::policy::{Approval, approve, approve_legacy};
use crate::state::{Change, Group, GroupKey, State, Uuid, Vtpm};
use alloc::vec::Vec;
use tpm_crypto::Drbg;
use tpm_wire::Transport;
use tpm_wire::mgr::{LegacyList, Refused, code};
use xen_abi::BlockDevice;

/// Records that are encrypted anew in one write.
const BATCH: usize = 64;

pub async fn legacy<B: BlockDevice, C: MonotonicCounter + Clone, T: Transport>(
    office: &Office<'_, B, C, T>,
    roots: &mut Roots,
    rng: &mut Drbg,
    index: u32,
    signature: &[u8; 256],
    list: &LegacyList,
) -> Result<(), Refused> {
    let version = office.info.version;
    let check = |group: &Group| approve_legacy(group, list, signature, version);
    update(office, roots, rng, index, check).await
}

pub async fn modern<B: BlockDevice, C: MonotonicCounter + Clone, T: Transport>(
    office: &Office<'_, B, C, T>,
    roots: &mut Roots,
    rng: &mut Drbg,
    index: u32,
    signature: &[u8],
    list: &[u8],
) -> Result<(), Refused> {
    let (version, bank) = (office.info.version, office.info.bank);
    let check = |group: &Group| approve(group, list, signature, version, bank);
    update(office, roots, rng, index, check).await
}

async fn update<B: BlockDevice, C: MonotonicCounter + Clone, T: Transport>(
    office: &Office<'_, B, C, T>,
    roots: &mut Roots,
    rng: &mut Drbg,
    index: u32,
    check: impl Fn(&Group) -> Result<Approval, Refused>,
) -> Result<(), Refused> {
    let look = |state: &State| {
        let group = at(state, index)?;
        let approval = check(group)?;
        // Whoever cannot open the group cannot seal its key anew either.
        let key = office.policy.borrow().group_key(group).map_err(|_| Refused(code::AUTHFAIL))?;
        Ok((group.uuid, approval, key))
    };
    let (uuid, Approval { config, is_known }, key) = office.state(look).await?;
    if is_known {
        return Ok(());
    }
    let sequence = config.sequence;
    if index == 0 {
        // The first group's conditions are the manager's own.
        roots.approve(office, &config.pcrs, rng).await?;
        office.edit_group(&uuid, |group| newer(group, sequence).map(|()| group.config = config)).await?;
    } else {
        let mut seals = Vec::with_capacity(config.pcrs.len());
        for condition in &config.pcrs {
            let sealed = office.chip.seal(office.root, &key[..], Some(condition), None, rng).await;
            seals.push((condition.clone(), office.chip_said(sealed)?));
        }
        let is_sealed = !seals.is_empty();
        let form = if is_sealed { GroupKey::Sealed(seals) } else { GroupKey::Plain(key.clone()) };
        let edit = |group: &mut Group| {
            newer(group, sequence)?;
            (group.key, group.config) = (form, config);
            Ok(())
        };
        office.edit_group(&uuid, edit).await?;
        if is_sealed {
            office.policy.borrow_mut().open(uuid, key);
            encrypt_records(office, rng, &uuid).await?;
        }
    }
    log::info!(target: "vtpmmgr", "group {} has the configuration list {sequence} now", GroupName(&uuid));
    Ok(())
}

/// Only this lane changes lists; still, what was checked must hold when it is written.
fn newer(group: &Group, sequence: u64) -> Result<(), Refused> {
    if sequence >= group.config.sequence { Ok(()) } else { Err(Refused(code::FAIL)) }
}

/// Encrypts the records of a group that was not sealed before with the key that now is. Until it is done a record may have either form: both
/// can be read while the group is open.
pub async fn encrypt_records<B: BlockDevice, C: MonotonicCounter + Clone, T: Transport>(
    office: &Office<'_, B, C, T>,
    rng: &mut Drbg,
    group: &Uuid,
) -> Result<(), Refused> {
    loop {
        let mut store = office.store.lock().await;
        let state = store.settled().await.map_err(|error| office.disk_error(error))?;
        let is_plain = |vtpm: &Vtpm| vtpm.record.as_ref().is_some_and(|record| !record.is_sealed());
        let plain = state.vtpms_of(group).filter(|(_, vtpm)| is_plain(vtpm)).take(BATCH);
        let mut changes = Vec::new();
        for (uuid, vtpm) in plain {
            let Some(record) = &vtpm.record else { continue };
            let record = record.open(uuid, group, None).map_err(|_| Refused(code::FAIL))?;
            let group = state.group(group).ok_or(Refused(code::FAIL))?;
            let record = office.policy.borrow().keep(&record, uuid, group, rng)?;
            changes.push(Change::PutVtpm { uuid: *uuid, vtpm: Vtpm { record: Some(record), ..vtpm.clone() } });
        }
        if changes.is_empty() {
            return Ok(());
        }
        store.apply_all(changes).await.map_err(|error| office.disk_error(error))?;
    }
}
