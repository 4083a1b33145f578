//! Configuration lists: whose signature they need, and which of them come in time.

use crate::hardware::{Bank, Digest, PcrCondition, PcrSelection, Version};
use crate::state::{ApprovalKey, Config, Group};
use alloc::vec::Vec;
use tpm_crypto::ecc::P256Public;
use tpm_crypto::rsa::{DEFAULT_EXPONENT, RsaPublic};
use tpm_crypto::{sha1, sha256};
use tpm_wire::mgr::{ConfigList, LegacyList, PcrValues, Refused, SaaKey, code};

/// A list that was approved.
pub struct Approval {
    /// The group's configuration from now on.
    pub config: Config,
    /// The list is the one that the group has.
    pub is_known: bool,
}

/// Checks a list of our form: signature, group, sequence, and that the chip has such PCRs.
///
/// # Errors
/// `AUTHFAIL` for a signature that is not the agent's (or no agent), `BAD_PARAMETER` for another group's list or a malformed one, `SIZE`, `FAIL`
/// for an older list, `DISABLED_CMD` for PCRs that this chip does not have.
pub fn approve(group: &Group, list: &[u8], signature: &[u8], chip: Version, bank: Bank) -> Result<Approval, Refused> {
    let refused = Refused(code::AUTHFAIL);
    let digest = sha256(&[list]);
    let good = match group.approver.as_ref().ok_or(refused)? {
        ApprovalKey::Rsa(modulus) => RsaPublic::new(modulus, DEFAULT_EXPONENT)
            .is_ok_and(|key| key.verify_pkcs1_sha256(&digest, signature).is_ok()),
        ApprovalKey::P256(point) => match (point.split_at_checked(32), signature.split_at_checked(32)) {
            (Some((x, y)), Some((r, s))) if s.len() == 32 => {
                P256Public::new(x, y).is_ok_and(|key| key.verify(&digest, r, s).is_ok())
            }
            _ => false,
        },
    };
    if !good {
        return Err(refused);
    }
    let list = ConfigList::parse(list)?;
    if list.group != group.uuid {
        return Err(Refused(code::BAD_PARAMETER));
    }
    let pcrs = list.conditions.iter().map(|values| condition_of(values, chip, bank)).collect::<Result<_, _>>()?;
    in_time(group, Config { sequence: list.sequence, pcrs, kernels: list.kernels })
}

/// Checks a list of the C stack's form, which only a group with an RSA key of 2048 bits can have. On a TPM 2.0 chip it can name labels, but no
/// PCRs: its composites are TPM 1.2's.
///
/// # Errors
/// As [`approve`].
pub fn approve_legacy(
    group: &Group,
    list: &LegacyList,
    signature: &[u8; 256],
    chip: Version,
) -> Result<Approval, Refused> {
    verify_legacy(group, &list.signed_part(), signature)?;
    let condition = |(mask, composite): &(u32, [u8; 20])| {
        let selection = PcrSelection::from_mask(*mask).filter(|selection| !selection.is_empty());
        let digest = Digest::from_slice(composite).map_err(|_| Refused(code::BAD_PARAMETER))?;
        if chip != Version::V12 {
            return Err(Refused(code::DISABLED_CMD));
        }
        let selection = selection.ok_or(Refused(code::BAD_PARAMETER))?;
        Ok(PcrCondition { bank: Bank::Sha1, selection, digest, values: Vec::new() })
    };
    let pcrs = list.conditions.iter().map(condition).collect::<Result<_, _>>()?;
    in_time(group, Config { sequence: list.sequence, pcrs, kernels: list.kernels.clone() })
}

/// Checks a signature of the C stack's form over `data`.
///
/// # Errors
/// `AUTHFAIL`.
pub fn verify_legacy(group: &Group, data: &[u8], signature: &[u8; 256]) -> Result<(), Refused> {
    let Some(ApprovalKey::Rsa(modulus)) = &group.approver else { return Err(Refused(code::AUTHFAIL)) };
    let key = RsaPublic::new(modulus, DEFAULT_EXPONENT).map_err(|_| Refused(code::AUTHFAIL))?;
    key.verify_pkcs1_sha1(&sha1(&[data]), signature).map_err(|_| Refused(code::AUTHFAIL))
}

/// A list must be newer than the group's, or the same once more: a list that was signed long ago and replaced since has no effect.
fn in_time(group: &Group, config: Config) -> Result<Approval, Refused> {
    let known = &group.config;
    let same_pcrs = known.pcrs.len() == config.pcrs.len()
        && known.pcrs.iter().zip(&config.pcrs).all(|(old, new)| old.is_met_by(new));
    let is_known = known.sequence == config.sequence && same_pcrs && known.kernels == config.kernels;
    let first = *known == Config::default();
    if config.sequence > known.sequence || is_known || first {
        Ok(Approval { config, is_known })
    } else {
        log::warn!(
            target: "vtpmmgr",
            "a configuration list with sequence {} is refused: the group has one with sequence {}", config.sequence, known.sequence
        );
        Err(Refused(code::FAIL))
    }
}

/// The condition that these values are, for a chip of this version.
///
/// # Errors
/// `BAD_PARAMETER` for values of no PCR, `DISABLED_CMD` for a bank that the manager does not use on this chip.
pub fn condition_of(values: &PcrValues, chip: Version, bank: Bank) -> Result<PcrCondition, Refused> {
    let bad = Refused(code::BAD_PARAMETER);
    let given = Bank::from_id(values.bank).ok_or(bad)?;
    if given != bank {
        return Err(Refused(code::DISABLED_CMD));
    }
    let selection = PcrSelection::from_mask(values.mask).filter(|selection| !selection.is_empty()).ok_or(bad)?;
    let digests = values.values.iter().map(|value| Digest::from_slice(value)).collect::<Result<Vec<_>, _>>();
    let digests = digests.map_err(|_| bad)?;
    if digests.len() != selection.len() || digests.iter().any(|digest| digest.len() != bank.size()) {
        return Err(bad);
    }
    let all = digests.iter().flatten().copied().collect::<Vec<u8>>();
    let digest = match chip {
        Version::V12 => {
            let size = u32::try_from(all.len()).map_err(|_| bad)?;
            let composite: [&[u8]; 4] = [&[0, 3], &selection.to_bytes(), &size.to_be_bytes(), &all];
            Digest::from_slice(&sha1(&composite))
        }
        Version::V20 => Digest::from_slice(&sha256(&[&all])),
    };
    Ok(PcrCondition { bank, selection, digest: digest.map_err(|_| bad)?, values: digests })
}

/// The stored form of an approval key.
///
/// # Errors
/// `BAD_PARAMETER` for numbers that are no key.
pub fn key_of(saa: &SaaKey) -> Result<ApprovalKey, Refused> {
    let bad = Refused(code::BAD_PARAMETER);
    match saa {
        SaaKey::Rsa(modulus) => {
            RsaPublic::new(modulus, DEFAULT_EXPONENT).map_err(|_| bad)?;
            Ok(ApprovalKey::Rsa(modulus.clone()))
        }
        SaaKey::EcdsaP256(point) => {
            let (x, y) = point.split_at(32);
            P256Public::new(x, y).map_err(|_| bad)?;
            Ok(ApprovalKey::P256(*point))
        }
    }
}

/// The form of an approval key in messages.
pub fn saa_of(key: &ApprovalKey) -> SaaKey {
    match key {
        ApprovalKey::Rsa(modulus) => SaaKey::Rsa(modulus.clone()),
        ApprovalKey::P256(point) => SaaKey::EcdsaP256(*point),
    }
}
