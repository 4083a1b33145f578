//! The manager's own secret: under which conditions the chip gives it back.

use super::{Answer, Office};
use crate::anchor::MonotonicCounter;
use crate::hardware::PcrCondition;
use crate::label::{Label, SealedRoot, When};
use alloc::vec::Vec;
use tpm_crypto::Drbg;
use tpm_wire::Transport;
use tpm_wire::mgr::{Refused, code};
use vault::MAX_JOURNAL_LABEL;
use xen_abi::BlockDevice;
use zeroize::Zeroizing;

/// The disk's key, and the label that holds sealed copies of it.
pub struct Roots {
    secret: Zeroizing<[u8; 32]>,
    label: Label,
}

impl Roots {
    /// The key that opened the disk, and its label.
    pub const fn new(secret: Zeroizing<[u8; 32]>, label: Label) -> Self {
        Self { secret, label }
    }

    /// Whether the secret is sealed to PCRs.
    pub fn is_sealed(&self) -> bool {
        self.label.conditions().next().is_some()
    }

    /// Whether there is a recovery code.
    pub fn has_recovery(&self) -> bool {
        self.label.roots.iter().any(|root| root.when == When::Code)
    }

    /// Has the chip give the secret back under the conditions of a list that was approved for the first group. `known` are those of the list
    /// before, which this one replaces.
    ///
    /// Of the conditions that came from no list (`seal_pcrs=`), the one that the machine meets now stays, so that a list for tomorrow
    /// locks nobody out today; the next list takes it away once the machine has started as approved. A list without conditions leaves the
    /// secret sealed to what stays, or, if that is nothing, to no PCRs.
    ///
    /// # Errors
    /// `WRONG_PCR` if a disk that was sealed to no PCRs would not open again as the machine is now. `SIZE` if there is no room for so many
    /// conditions.
    pub async fn approve<B: BlockDevice, C: MonotonicCounter + Clone, T: Transport>(
        &mut self,
        office: &Office<'_, B, C, T>,
        known: &[PcrCondition],
        conditions: &[PcrCondition],
        rng: &mut Drbg,
    ) -> Result<(), Refused> {
        let mut roots = Vec::new();
        let mut opens_now = false;
        for root in &self.label.roots {
            match &root.when {
                When::Code => roots.push(root.clone()),
                When::Pcrs(own) if !known.contains(own) && self.is_met(office, own).await? => {
                    opens_now = true;
                    roots.push(root.clone());
                }
                When::Pcrs(_) | When::Always => {}
            }
        }
        for condition in conditions {
            opens_now |= self.is_met(office, condition).await?;
            if !roots.iter().any(|root| root.when == When::Pcrs(condition.clone())) {
                roots.push(self.sealed(office, When::Pcrs(condition.clone()), None, rng).await?);
            }
        }
        if conditions.is_empty() && !opens_now {
            roots.push(self.sealed(office, When::Always, None, rng).await?);
        } else if !opens_now {
            log::warn!(
                target: "vtpmmgr",
                "the list for the manager's own group is refused: with none of its configurations would the manager open again as this machine \
                 is now; sign one that has the present configuration too"
            );
            return Err(Refused(code::WRONG_PCR));
        }
        self.relabel(office, roots).await
    }

    async fn is_met<B: BlockDevice, C: MonotonicCounter + Clone, T: Transport>(
        &self,
        office: &Office<'_, B, C, T>,
        condition: &PcrCondition,
    ) -> Result<bool, Refused> {
        let now = office.chip_said(office.chip.pcr_condition(condition.selection).await)?;
        Ok(condition.is_met_by(&now))
    }

    async fn sealed<B: BlockDevice, C: MonotonicCounter + Clone, T: Transport>(
        &self,
        office: &Office<'_, B, C, T>,
        when: When,
        auth: Option<&[u8; 20]>,
        rng: &mut Drbg,
    ) -> Result<SealedRoot, Refused> {
        let condition = match &when {
            When::Pcrs(condition) => Some(condition),
            When::Always | When::Code => None,
        };
        let sealed = office.chip.seal(office.root, &self.secret[..], condition, auth, rng).await;
        Ok(SealedRoot { sealed: office.chip_said(sealed)?, when })
    }

    /// The disk first: what is remembered here is what it holds.
    async fn relabel<B: BlockDevice, C: MonotonicCounter + Clone, T: Transport>(
        &mut self,
        office: &Office<'_, B, C, T>,
        roots: Vec<SealedRoot>,
    ) -> Result<(), Refused> {
        let label = Label { key: self.label.key.clone(), roots };
        let bytes = label.to_bytes();
        if label.roots.len() > crate::label::MAX_ROOTS || bytes.len() > MAX_JOURNAL_LABEL {
            return Err(Refused(code::SIZE));
        }
        office.store.lock().await.relabel(&bytes).await.map_err(|error| office.disk_error(error))?;
        self.label = label;
        Ok(())
    }
}

/// RECOVERY_CODE: a copy of the secret for whoever has the code, which is told here and nowhere else. The copy before it is gone.
pub async fn recovery_code<B: BlockDevice, C: MonotonicCounter + Clone, T: Transport>(
    office: &Office<'_, B, C, T>,
    roots: &mut Roots,
    rng: &mut Drbg,
) -> Answer {
    let code = Zeroizing::new(rng.bytes::<20>());
    let copy = roots.sealed(office, When::Code, Some(&code), rng).await?;
    let others = roots.label.roots.iter().filter(|root| root.when != When::Code).cloned();
    let all = others.chain([copy]).collect();
    roots.relabel(office, all).await?;
    log::info!(target: "vtpmmgr", "the admin was given a new recovery code; the one before it is void");
    Ok(Zeroizing::new(code.to_vec()))
}
