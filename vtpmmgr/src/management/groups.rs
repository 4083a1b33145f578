//! Groups: make, show, delete; their attestation keys; giving a group's key to its approval agent and taking it back.

use super::{Answer, GroupName, Office, at, count};
use crate::anchor::MonotonicCounter;
use crate::attest::{evidence, group_info};
use crate::hardware::{AttestationKey, KeyNumbers, PcrSelection, PublicKey, Version};
use crate::policy::{Exchange, check_value, group_marks, hidden, key_of, saa_of, verify_legacy};
use crate::state::{ApprovalKey, Change, Group, GroupAk, GroupKey, State, Uuid};
use alloc::boxed::Box;
use alloc::vec::Vec;
use tpm_crypto::{Drbg, sha1};
use tpm_wire::mgr::{
    Condition, DH_SIZE, GroupKeys, GroupShow, GroupSummary, NewGroup, Refused, Registration, SaaKey, code, group_flags,
    group_quote_preimage,
};
use tpm_wire::{Transport, Writer};
use xen_abi::BlockDevice;
use zeroize::Zeroizing;

/// GROUP_NEW of the C stack: completes the first group if it has no approval key yet, else makes another one.
pub async fn new_legacy<B: BlockDevice, C: MonotonicCounter + Clone, T: Transport>(
    office: &Office<'_, B, C, T>,
    rng: &mut Drbg,
    label: [u8; 20],
    modulus: &[u8; 256],
) -> Answer {
    // The answer has room for a TPM 1.2's keys only; GROUP_CREATE and GROUP_KEYS are for every chip.
    if office.info.version != Version::V12 {
        return Err(Refused(code::DISABLED_CMD));
    }
    let approver = key_of(&SaaKey::legacy(modulus).ok_or(Refused(code::BAD_PARAMETER))?)?;
    let look = |state: &State| {
        let first = state.groups().first().filter(|first| first.approver.is_none());
        Ok((first.map(|first| first.uuid), state.owner().cloned()))
    };
    let (first, owner) = office.state(look).await?;
    let made = office.chip.ak_create(office.root, owner.as_ref(), &label, rng).await;
    let (key, binding) = office.chip_said(made)?;
    let public = office.chip_said(office.chip.ak_public(&key))?;
    let ak = GroupAk { key, binding };
    let (aik, binding) = match (public.numbers, <[u8; 256]>::try_from(&ak.binding[..])) {
        (KeyNumbers::Rsa { modulus, .. }, Ok(binding)) => {
            (modulus.try_into().map_err(|_| Refused(code::FAIL))?, binding)
        }
        _ => return Err(Refused(code::FAIL)),
    };
    let fill = |group: &mut Group| {
        (group.approver, group.privacy_ca, group.ak) = (Some(approver), label, Some(ak));
    };
    let uuid = match first {
        Some(uuid) => {
            let complete = |group: &mut Group| match group.approver {
                Some(_) => Err(Refused(code::FAIL)),
                None => {
                    fill(group);
                    Ok(())
                }
            };
            office.edit_group(&uuid, complete).await?;
            uuid
        }
        None => put_new(office, rng, fill).await?.0,
    };
    Ok(Zeroizing::new(NewGroup { uuid, aik: Box::new(aik), binding: Box::new(binding) }.to_bytes()))
}

/// GROUP_CREATE: a group of any kind. Its attestation key is made when it is first needed.
pub async fn create<B: BlockDevice, C: MonotonicCounter + Clone, T: Transport>(
    office: &Office<'_, B, C, T>,
    rng: &mut Drbg,
    saa: Option<&SaaKey>,
    label: [u8; 20],
) -> Answer {
    let approver = saa.map(key_of).transpose()?;
    let fill = |group: &mut Group| (group.approver, group.privacy_ca) = (approver, label);
    let (uuid, index) = put_new(office, rng, fill).await?;
    let mut body = Zeroizing::new(uuid.to_vec());
    Writer::new(&mut body).u32(index);
    Ok(body)
}

/// Makes a group; gives its UUID and index.
async fn put_new<B: BlockDevice, C: MonotonicCounter + Clone, T: Transport>(
    office: &Office<'_, B, C, T>,
    rng: &mut Drbg,
    fill: impl FnOnce(&mut Group),
) -> Result<(Uuid, u32), Refused> {
    let mut group = Group::new(rng);
    let uuid = group.uuid;
    fill(&mut group);
    let mut store = office.store.lock().await;
    store.apply(Change::PutGroup(Box::new(group))).await.map_err(|error| office.disk_error(error))?;
    office.policy.borrow_mut().is_new(uuid);
    log::info!(target: "vtpmmgr", "group {} was made", GroupName(&uuid));
    Ok((uuid, super::index_of(store.state(), &uuid)))
}

/// GROUP_SET_KEY: once. Another approval agent would be another owner of the group.
pub async fn set_key<B: BlockDevice, C: MonotonicCounter + Clone, T: Transport>(
    office: &Office<'_, B, C, T>,
    index: u32,
    saa: &SaaKey,
) -> Result<(), Refused> {
    let approver = key_of(saa)?;
    let uuid = office.state(|state| Ok(at(state, index)?.uuid)).await?;
    let edit = |group: &mut Group| match group.approver {
        Some(_) => Err(Refused(code::DISABLED_CMD)),
        None => {
            group.approver = Some(approver);
            Ok(())
        }
    };
    office.edit_group(&uuid, edit).await
}

pub async fn delete<B: BlockDevice, C: MonotonicCounter + Clone, T: Transport>(
    office: &Office<'_, B, C, T>,
    index: u32,
) -> Result<(), Refused> {
    let mut store = office.store.lock().await;
    let state = store.settled().await.map_err(|error| office.disk_error(error))?;
    let uuid = at(state, index)?.uuid;
    store.apply(Change::DeleteGroup(uuid)).await.map_err(|error| office.disk_error(error))?;
    office.policy.borrow_mut().forget(&uuid);
    log::info!(target: "vtpmmgr", "group {} was deleted by the admin", GroupName(&uuid));
    Ok(())
}

pub async fn show_legacy<B: BlockDevice, C: MonotonicCounter + Clone, T: Transport>(
    office: &Office<'_, B, C, T>,
    index: u32,
) -> Answer {
    let look = |state: &State| {
        let group = at(state, index)?;
        let saa = match &group.approver {
            Some(ApprovalKey::Rsa(modulus)) => modulus[..].try_into().unwrap_or([0; 256]),
            Some(ApprovalKey::P256(_)) | None => [0; 256],
        };
        let composites = group.config.pcrs.iter().filter_map(|condition| condition.digest[..].try_into().ok());
        let summary = GroupSummary {
            uuid: group.uuid,
            saa: Box::new(saa),
            sequence: group.config.sequence,
            composites: composites.collect(),
            kernels: group.config.kernels.clone(),
        };
        Ok(Zeroizing::new(summary.to_bytes()))
    };
    office.state(look).await
}

pub async fn show<B: BlockDevice, C: MonotonicCounter + Clone, T: Transport>(
    office: &Office<'_, B, C, T>,
    index: u32,
) -> Answer {
    let look = |state: &State| {
        let group = at(state, index)?;
        let flag = |holds: bool, flag: u32| if holds { flag } else { 0 };
        let sealed = matches!(group.key, GroupKey::Sealed(_));
        let condition = |condition: &crate::hardware::PcrCondition| Condition {
            bank: condition.bank.id(),
            mask: condition.selection.mask(),
            digest: condition.digest.to_vec(),
        };
        let show = GroupShow {
            uuid: group.uuid,
            flags: flag(office.policy.borrow().is_open(group), group_flags::OPEN)
                | flag(sealed, group_flags::SEALED)
                | flag(group.ak.is_some(), group_flags::HAS_KEY)
                | flag(group.flags & group_marks::REGISTERED != 0, group_flags::REGISTERED),
            vtpms: count(state.vtpms_of(&group.uuid).count()),
            saa: group.approver.as_ref().map(saa_of),
            sequence: group.config.sequence,
            conditions: group.config.pcrs.iter().map(condition).collect(),
            kernels: group.config.kernels.clone(),
        };
        Ok(Zeroizing::new(show.to_bytes()))
    };
    office.state(look).await
}

/// A public key of the chip as answers carry it: a TPM 1.2's modulus, a 2.0's `TPMT_PUBLIC`.
pub fn public_bytes(version: Version, public: PublicKey) -> Vec<u8> {
    match (version, public.numbers) {
        (Version::V12, KeyNumbers::Rsa { modulus, .. }) => modulus,
        _ => public.encoded,
    }
}

pub async fn keys<B: BlockDevice, C: MonotonicCounter + Clone, T: Transport>(
    office: &Office<'_, B, C, T>,
    rng: &mut Drbg,
    index: u32,
) -> Answer {
    let (uuid, owner) = office.state(|state| Ok((at(state, index)?.uuid, state.owner().cloned()))).await?;
    let ak = office.attestation_key(&uuid, rng).await?;
    let version = office.info.version;
    let attestation = public_bytes(version, office.chip_said(office.chip.ak_public(&ak.key))?);
    // Some chips tell their endorsement key to nobody; the rest is of use without it.
    let endorsement = match office.chip.ek_public(owner.as_ref(), rng).await {
        Ok(public) => public_bytes(version, public),
        Err(error) => {
            log::warn!(target: "vtpmmgr", "the endorsement key: {error}");
            Vec::new()
        }
    };
    Ok(Zeroizing::new(GroupKeys { uuid, attestation, binding: ak.binding, endorsement }.to_bytes()))
}

pub async fn activate<B: BlockDevice, C: MonotonicCounter + Clone, T: Transport>(
    office: &Office<'_, B, C, T>,
    rng: &mut Drbg,
    index: u32,
    blob: &[u8],
) -> Answer {
    let look = |state: &State| {
        let ak = at(state, index)?.ak.clone().ok_or(Refused(code::FAIL))?;
        Ok((ak.key, state.owner().cloned()))
    };
    let (key, owner) = office.state(look).await?;
    activated(office, rng, owner.as_ref(), &key, blob).await
}

/// What the chip opens for this key: a TPM 1.2's `TPM_SYMMETRIC_KEY`, a TPM 2.0's secret behind its 16-bit length, as the chip gives it.
pub async fn activated<B: BlockDevice, C: MonotonicCounter + Clone, T: Transport>(
    office: &Office<'_, B, C, T>,
    rng: &mut Drbg,
    owner: Option<&crate::args::AuthData>,
    key: &AttestationKey,
    blob: &[u8],
) -> Answer {
    let outcome = office.chip.activate(office.root, owner, key, blob, rng).await;
    office.chip_said(outcome)
}

/// A mask that a message carried.
pub fn selection(mask: u32) -> Result<PcrSelection, Refused> {
    PcrSelection::from_mask(mask).ok_or(Refused(code::BAD_PARAMETER))
}

/// GROUP_QUOTE: that the group has this list. Whether the group is open does not matter.
pub async fn quote<B: BlockDevice, C: MonotonicCounter + Clone, T: Transport>(
    office: &Office<'_, B, C, T>,
    rng: &mut Drbg,
    index: u32,
    nonce: &[u8; 20],
    pcrs: u32,
) -> Answer {
    let uuid = office.state(|state| Ok(at(state, index)?.uuid)).await?;
    let ak = office.attestation_key(&uuid, rng).await?;
    let look = |state: &State| {
        let group = state.group(&uuid).ok_or(Refused(code::BADINDEX))?;
        Ok([sha1(&[&group.uuid]), group_info(group)])
    };
    let hashes = office.state(look).await?;
    let external = sha1(&[&group_quote_preimage(nonce, &hashes)]);
    let outcome = office.chip.quote(office.root, &ak.key, &external, selection(pcrs)?, rng).await;
    Ok(Zeroizing::new(evidence(office.chip_said(outcome)?, hashes.to_vec()).to_bytes()))
}

/// GROUP_REGISTER: gives the group's key to its approval agent, hidden by a secret that only the two know, with the chip's word for it.
/// Only in the run that made the group, and once: so the agent knows that the key has never been anywhere else.
pub async fn register<B: BlockDevice, C: MonotonicCounter + Clone, T: Transport>(
    office: &Office<'_, B, C, T>,
    rng: &mut Drbg,
    index: u32,
    dh: &[u8; DH_SIZE],
    signature: &[u8; 256],
    pcrs: u32,
) -> Answer {
    let look = |state: &State| {
        let group = at(state, index)?;
        // The first group's key lies in the manager's own secret, which has a recovery code.
        if index == 0 || !office.policy.borrow().can_register(group) {
            return Err(Refused(code::DISABLED_CMD));
        }
        verify_legacy(group, dh, signature)?;
        let key = office.policy.borrow().group_key(group).map_err(|_| Refused(code::AUTHFAIL))?;
        Ok((group.uuid, key))
    };
    let (uuid, key) = office.state(look).await?;
    let exchange = Exchange::new(rng);
    let secret = exchange.shared(dh).ok_or(Refused(code::BAD_PARAMETER))?;
    let (ours, blob) = (exchange.public(), hidden(&secret, &key));
    let ak = office.attestation_key(&uuid, rng).await?;
    let external = sha1(&[b"REGR", dh, &ours, &blob]);
    let outcome = office.chip.quote(office.root, &ak.key, &external, selection(pcrs)?, rng).await;
    let quote = office.chip_said(outcome)?;
    let mark = |group: &mut Group| {
        group.flags |= group_marks::REGISTERED;
        group.recovery = check_value(&key).to_vec();
        Ok(())
    };
    office.edit_group(&uuid, mark).await?;
    let quote = match quote.version {
        Version::V12 => quote.signature,
        Version::V20 => evidence(quote, Vec::new()).to_bytes(),
    };
    Ok(Zeroizing::new(Registration { dh: Box::new(ours), blob, quote }.to_bytes()))
}

/// GROUP_RECOVER1: a new half of a key exchange, vouched for by an attestation key of no group.
pub async fn recover<B: BlockDevice, C: MonotonicCounter + Clone, T: Transport>(
    office: &Office<'_, B, C, T>,
    rng: &mut Drbg,
    index: u32,
    key: &[u8],
    nonce: &[u8; 20],
    pcrs: u32,
) -> Answer {
    let look = |state: &State| {
        let group = at(state, index)?;
        if group.flags & group_marks::REGISTERED == 0 || office.policy.borrow().is_open(group) {
            return Err(Refused(code::DISABLED_CMD));
        }
        Ok(group.uuid)
    };
    let uuid = office.state(look).await?;
    let key = AttestationKey::parse(key).ok_or(Refused(code::BAD_PARAMETER))?;
    let exchange = Exchange::new(rng);
    let ours = exchange.public();
    let external = sha1(&[b"RCVR", nonce, &ours]);
    let outcome = office.chip.quote(office.root, &key, &external, selection(pcrs)?, rng).await;
    let quote = office.chip_said(outcome)?;
    office.policy.borrow_mut().begin_recovery(uuid, exchange);
    let quote = match quote.version {
        Version::V12 => quote.signature,
        Version::V20 => evidence(quote, Vec::new()).to_bytes(),
    };
    Ok(Zeroizing::new([&ours[..], &quote].concat()))
}

/// GROUP_RECOVER2: the group is open until the manager stops; a signed list makes that last.
pub async fn recovered<B: BlockDevice, C: MonotonicCounter + Clone, T: Transport>(
    office: &Office<'_, B, C, T>,
    index: u32,
    dh: &[u8; DH_SIZE],
    blob: &[u8; 32],
) -> Result<(), Refused> {
    let group = office.state(|state| Ok(at(state, index)?.clone())).await?;
    office.policy.borrow_mut().end_recovery(&group, dh, blob)?;
    log::info!(target: "vtpmmgr", "group {} was opened by its approval agent", GroupName(&group.uuid));
    Ok(())
}
