//! Opening the groups whose keys are sealed to PCRs of their own.

use crate::anchor::MonotonicCounter;
use crate::hardware::{ChipError, PcrCondition, Sealed};
use crate::management::{GroupName, Office, encrypt_records};
use crate::policy::Key;
use crate::state::{GroupKey, Uuid};
use alloc::vec::Vec;
use tpm_crypto::Drbg;
use tpm_wire::Transport;
use xen_abi::BlockDevice;
use zeroize::Zeroizing;

/// Opens every sealed group that the chip opens as the machine is now. The others stay closed: their vTPMs get `TPM_WRONGPCRVAL`, and the
/// admin can open them with their approval agent's help.
pub async fn open_groups<B: BlockDevice, C: MonotonicCounter + Clone, T: Transport>(
    office: &Office<'_, B, C, T>,
    rng: &mut Drbg,
) {
    let sealed = office.state(|state| {
        let groups = state.groups().iter();
        let sealed = groups.filter_map(|group| match &group.key {
            GroupKey::Sealed(seals) => Some((group.uuid, seals.clone())),
            GroupKey::Plain(_) => None,
        });
        Ok(sealed.collect::<Vec<_>>())
    });
    // An error was said on the console.
    let Ok(sealed) = sealed.await else { return };
    let closed = |(uuid, _): &(Uuid, _)| !office.policy.borrow().has_key(uuid);
    let sealed: Vec<_> = sealed.into_iter().filter(closed).collect();
    let mut unsure = false;
    for (uuid, seals) in sealed {
        match open(office, &seals, rng).await {
            Ok(Some(key)) => {
                office.policy.borrow_mut().open(uuid, key);
                log::info!(target: "vtpmmgr", "group {} is open", GroupName(&uuid));
                // What a power cut left as it was.
                if encrypt_records(office, rng, &uuid).await.is_err() {
                    log::warn!(target: "vtpmmgr", "group {}: some records are not encrypted with its key yet", GroupName(&uuid));
                }
            }
            Ok(None) => say_closed(office, &uuid, &seals).await,
            Err(error) => {
                unsure = true;
                log::error!(target: "vtpmmgr", "group {} stays closed until it is asked for again: {error}", GroupName(&uuid));
            }
        }
    }
    office.policy.borrow_mut().set_unsure(unsure);
}

/// The group's key, if the chip is as one of the conditions says.
async fn open<B: BlockDevice, C: MonotonicCounter + Clone, T: Transport>(
    office: &Office<'_, B, C, T>,
    seals: &[(PcrCondition, Sealed)],
    rng: &mut Drbg,
) -> Result<Option<Key>, ChipError> {
    for (condition, sealed) in seals {
        let now = office.chip.pcr_condition(condition.selection).await?;
        if !condition.is_met_by(&now) {
            continue;
        }
        match office.chip.unseal(office.root, sealed, None, rng).await {
            Ok(secret) => {
                let key = <[u8; 32]>::try_from(&secret[..]).map(Zeroizing::new);
                return key.map(Some).map_err(|_| ChipError::BadForm { what: "a group's sealed key" });
            }
            // The PCRs moved in between, or are not what the chip said they are.
            Err(ChipError::PcrMismatch) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(None)
}

/// Names the PCRs that differ from each condition.
async fn say_closed<B: BlockDevice, C: MonotonicCounter + Clone, T: Transport>(
    office: &Office<'_, B, C, T>,
    uuid: &Uuid,
    seals: &[(PcrCondition, Sealed)],
) {
    for (at, (condition, _)) in (1..).zip(seals) {
        if let Ok(now) = office.chip.pcr_condition(condition.selection).await {
            log::warn!(
                target: "vtpmmgr",
                "group {} is closed: PCRs {} differ from its configuration {at}", GroupName(uuid), condition.differing(&now)
            );
        }
    }
}
