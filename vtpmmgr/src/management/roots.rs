//! The manager's own secret: under which conditions the chip gives it back.

use super::{Answer, Office};
use crate::anchor::MonotonicCounter;
use crate::args::AuthData;
use crate::hardware::{PcrCondition, PcrSelection};
use crate::label::{Label, MAX_ROOTS, When};
use crate::sealing::{reseal, seal};
use tpm_crypto::Drbg;
use tpm_wire::Transport;
use tpm_wire::mgr::{Refused, code};
use vault::{MAX_JOURNAL_LABEL, VaultKey};
use xen_abi::BlockDevice;
use zeroize::Zeroizing;

/// The disk's label, which holds sealed copies of the disk's key, and what the operator said about them.
pub struct Roots {
    label: Label,
    own: PcrSelection,
}

impl Roots {
    /// The label of the open disk, and `seal_pcrs=`.
    pub const fn new(label: Label, own: PcrSelection) -> Self {
        Self { label, own }
    }

    /// Whether the secret is sealed to PCRs.
    pub fn is_sealed(&self) -> bool {
        self.label.conditions().next().is_some()
    }

    /// Whether there is a recovery code.
    pub fn has_recovery(&self) -> bool {
        self.label.roots.iter().any(|root| root.when == When::Code)
    }

    /// Has the chip give the secret back under the conditions of a list that was approved for the first group, beside the machine's present
    /// configuration: a list for tomorrow locks nobody out today. The conditions of the list before, which this one replaces, are gone.
    /// Without `seal_pcrs=` there is nothing to do.
    ///
    /// # Errors
    /// `SIZE` if there is no room for so many conditions.
    pub async fn approve<B: BlockDevice, C: MonotonicCounter + Clone, T: Transport>(
        &mut self,
        office: &Office<'_, B, C, T>,
        conditions: &[PcrCondition],
        rng: &mut Drbg,
    ) -> Result<(), Refused> {
        let own =
            if self.own.is_empty() { None } else { Some(office.chip_said(office.chip.pcr_condition(self.own).await)?) };
        let key = root_key(office).await;
        let sealed = reseal(office.chip, &self.label, &key, own.as_ref(), conditions, rng).await;
        match office.chip_said(sealed)? {
            Some(label) => self.relabel(office, label).await,
            None => Ok(()),
        }
    }

    /// The disk first: what is remembered here is what it holds.
    async fn relabel<B: BlockDevice, C: MonotonicCounter + Clone, T: Transport>(
        &mut self,
        office: &Office<'_, B, C, T>,
        label: Label,
    ) -> Result<(), Refused> {
        let bytes = label.to_bytes();
        if label.roots.len() > MAX_ROOTS || bytes.len() > MAX_JOURNAL_LABEL {
            return Err(Refused(code::SIZE));
        }
        office.store.lock().await.relabel(&bytes).await.map_err(|error| office.disk_error(error))?;
        self.label = label;
        Ok(())
    }
}

/// The disk's key, to have while the chip works and others use the disk.
async fn root_key<B: BlockDevice, C: MonotonicCounter + Clone, T: Transport>(office: &Office<'_, B, C, T>) -> VaultKey {
    VaultKey::from_bytes(office.store.lock().await.root().as_bytes())
}

/// RECOVERY_CODE: a copy of the secret for whoever has the code, which is told here and nowhere else. The copy before it is gone.
pub async fn recovery_code<B: BlockDevice, C: MonotonicCounter + Clone, T: Transport>(
    office: &Office<'_, B, C, T>,
    roots: &mut Roots,
    rng: &mut Drbg,
) -> Answer {
    let code = AuthData(rng.bytes());
    let key = root_key(office).await;
    let copy = seal(office.chip, &roots.label.key, &key, When::Code, Some(&code), rng).await;
    let copy = office.chip_said(copy)?;
    let others = roots.label.roots.iter().filter(|root| root.when != When::Code).cloned();
    let label = Label { key: roots.label.key.clone(), roots: others.chain([copy]).collect() };
    roots.relabel(office, label).await?;
    log::info!(target: "vtpmmgr", "the admin was given a new recovery code; the one before it is void");
    Ok(Zeroizing::new(code.0.to_vec()))
}
