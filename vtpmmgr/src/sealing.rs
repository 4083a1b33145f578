//! The root secret and the chip: sealing copies of it, getting it back, and keeping the copies in step with what was approved.

use crate::args::AuthData;
use crate::hardware::{ChipError, Hardware, PcrCondition, PcrSelection, RootKey, Secret};
use crate::label::{Label, SealedRoot, When};
use alloc::vec::Vec;
use tpm_crypto::{Drbg, ct_eq};
use tpm_wire::Transport;
use vault::VaultKey;

/// Has the chip seal a copy of `root`. A copy for [`When::Code`] takes the `code`.
pub async fn seal<T: Transport>(
    chip: &Hardware<'_, T>,
    key: &RootKey,
    root: &VaultKey,
    when: When,
    code: Option<&AuthData>,
    rng: &mut Drbg,
) -> Result<SealedRoot, ChipError> {
    let condition = match &when {
        When::Pcrs(condition) => Some(condition),
        When::Always | When::Code => None,
    };
    let sealed = chip.seal(key, root.as_bytes(), condition, code.map(|code| &code.0), rng).await?;
    Ok(SealedRoot { when, sealed })
}

/// Whether the chip gives `root` back from a copy that it should be able to open now.
pub async fn gives_back<T: Transport>(
    chip: &Hardware<'_, T>,
    key: &RootKey,
    copy: &SealedRoot,
    root: &VaultKey,
    code: Option<&AuthData>,
    rng: &mut Drbg,
) -> Result<bool, ChipError> {
    let back = chip.unseal(key, &copy.sealed, code.map(|code| &code.0), rng).await?;
    Ok(ct_eq(&back, root.as_bytes()))
}

/// What unsealing came to.
pub enum Unsealed {
    /// The root secret, from a copy for the PCRs as they are, or for any.
    Root(VaultKey),
    /// The root secret, by the recovery code.
    Recovered(VaultKey),
    /// The PCRs are not as in any copy; these differ from the nearest.
    Closed(PcrSelection),
    /// As `Closed`, and the recovery code is not the right one, or there is none for this disk.
    WrongCode(PcrSelection),
}

/// Has the chip give the root secret back, from whichever copy it opens.
pub async fn unseal<T: Transport>(
    chip: &Hardware<'_, T>,
    label: &Label,
    code: Option<&AuthData>,
    rng: &mut Drbg,
) -> Result<Unsealed, ChipError> {
    let now = conditions_now(chip, label).await?;
    for copy in label.candidates(&now, code.is_some()) {
        let by_code = copy.when == When::Code;
        let auth = code.filter(|_| by_code).map(|code| &code.0);
        match chip.unseal(&label.key, &copy.sealed, auth, rng).await {
            Ok(secret) => {
                let secret = secret.first_chunk().filter(|secret| secret.len() == 32);
                let root = VaultKey::from_bytes(secret.ok_or(ChipError::BadForm { what: "the sealed secret" })?);
                return Ok(if by_code { Unsealed::Recovered(root) } else { Unsealed::Root(root) });
            }
            // The PCRs moved in between, or are not what the chip said they are.
            Err(ChipError::PcrMismatch) => {}
            Err(ChipError::WrongSecret(Secret::Blob)) if by_code => {}
            Err(error) => return Err(error),
        }
    }
    let differing = label.differing(&now);
    Ok(if code.is_some() { Unsealed::WrongCode(differing) } else { Unsealed::Closed(differing) })
}

/// The PCRs that the label has conditions on, as they are.
async fn conditions_now<T: Transport>(chip: &Hardware<'_, T>, label: &Label) -> Result<Vec<PcrCondition>, ChipError> {
    let mut now = Vec::new();
    for selection in label.selections() {
        now.push(chip.pcr_condition(selection).await?);
    }
    Ok(now)
}

/// The label that belongs to these conditions: the manager's `own` (`None` without `seal_pcrs=`) and those that were `approved`; the
/// copy for the recovery code stays. Copies that are there already are kept as they are. `None` if nothing changes.
///
/// Without `own` the root secret is sealed to no PCR at all, whatever was approved.
pub async fn reseal<T: Transport>(
    chip: &Hardware<'_, T>,
    label: &Label,
    root: &VaultKey,
    own: Option<&PcrCondition>,
    approved: &[PcrCondition],
    rng: &mut Drbg,
) -> Result<Option<Label>, ChipError> {
    let mut wanted: Vec<When> = Vec::new();
    match own {
        None => wanted.push(When::Always),
        Some(own) => {
            wanted.push(When::Pcrs(own.clone()));
            for condition in approved {
                let same = |when: &When| matches!(when, When::Pcrs(other) if condition.is_met_by(other));
                if !wanted.iter().any(same) {
                    wanted.push(When::Pcrs(condition.clone()));
                }
            }
        }
    }
    let mut roots = Vec::new();
    for when in wanted {
        let same = |known: &&SealedRoot| match (&known.when, &when) {
            (When::Always, When::Always) => true,
            (When::Pcrs(known), When::Pcrs(wanted)) => known.is_met_by(wanted),
            _ => false,
        };
        match label.roots.iter().find(same) {
            Some(known) => roots.push(known.clone()),
            None => roots.push(seal(chip, &label.key, root, when, None, rng).await?),
        }
    }
    roots.extend(label.roots.iter().filter(|known| known.when == When::Code).cloned());
    let new = Label { key: label.key.clone(), roots };
    Ok((new != *label).then_some(new))
}
