//! The lane for the chip: what vTPMs ask of the hardware, and quotes.

use super::{ChipWork, Desk, Job};
use crate::anchor::MonotonicCounter;
use crate::attest::{evidence, hashes};
use crate::hardware::PcrSelection;
use crate::management::{Member, Office};
use crate::opening::open_groups;
use crate::policy::PeerLabels;
use crate::requests::code;
use crate::state::State;
use alloc::vec::Vec;
use frontback::tpmback::Fronts;
use tpm_crypto::{Drbg, sha1};
use tpm_wire::mgr::{self, QuoteRequest, Refused, external_data_preimage};
use tpm_wire::{Transport, Writer, v12};
use xen_abi::BlockDevice;
use zeroize::Zeroizing;

/// What vTPMs ask of the hardware.
pub async fn chip_lane<F: Fronts, L: PeerLabels, B: BlockDevice, C: MonotonicCounter + Clone, T: Transport>(
    desk: &Desk<'_, F, L>,
    office: &Office<'_, B, C, T>,
    rng: &mut Drbg,
) {
    while let Some(Job { member, work }) = desk.next(&desk.chip).await {
        let (tag, outcome) = match work {
            ChipWork::Random(count) => (v12::TAG_RSP_COMMAND, random(office, count).await),
            ChipWork::PcrRead(index) => (v12::TAG_RSP_COMMAND, pcr_read(office, index).await),
            ChipWork::Extend { index, digest } => (v12::TAG_RSP_COMMAND, extend(office, &member, index, &digest).await),
            ChipWork::Quote(request) => (mgr::TAG_RSP, quote(office, rng, &member, &request).await),
            ChipWork::Open(work) => {
                open_groups(office, rng).await;
                if !office.policy.borrow().is_unsure() && !desk.closing.get() {
                    desk.disk.borrow_mut().push_back(Job { member, work });
                    office.timer.wake_at(office.timer.now());
                    continue;
                }
                (mgr::TAG_RSP, Err(Refused(code::FAIL)))
            }
        };
        desk.answer(member.front, tag, &outcome);
    }
}

async fn random<B: BlockDevice, C: MonotonicCounter + Clone, T: Transport>(
    office: &Office<'_, B, C, T>,
    count: u32,
) -> Result<Zeroizing<Vec<u8>>, Refused> {
    let bytes = office.chip_said(office.chip.vtpm_random(count).await)?;
    let mut body = Zeroizing::new(Vec::with_capacity(4 + bytes.len()));
    Writer::new(&mut body).sized32(&bytes);
    Ok(body)
}

async fn pcr_read<B: BlockDevice, C: MonotonicCounter + Clone, T: Transport>(
    office: &Office<'_, B, C, T>,
    index: u32,
) -> Result<Zeroizing<Vec<u8>>, Refused> {
    existing(index)?;
    office.chip_said(office.chip.vtpm_pcr(index).await).map(|value| Zeroizing::new(value.to_vec()))
}

async fn extend<B: BlockDevice, C: MonotonicCounter + Clone, T: Transport>(
    office: &Office<'_, B, C, T>,
    member: &Member,
    index: u32,
    digest: &[u8; 20],
) -> Result<Zeroizing<Vec<u8>>, Refused> {
    existing(index)?;
    let is_admin = |state: &State| office.policy.borrow().check_admin(state, &member.uuid, &member.peer);
    office.state(is_admin).await.map_err(|_| Refused(code::DISABLED_CMD))?;
    office.chip_said(office.chip.extend12(index, digest).await).map(|value| Zeroizing::new(value.to_vec()))
}

/// `TPM_BADINDEX` for a PCR that no chip has: not every chip of version 2.0 says so in these words.
fn existing(pcr: u32) -> Result<(), Refused> {
    if pcr < PcrSelection::COUNT.into() { Ok(()) } else { Err(Refused(code::BADINDEX)) }
}

/// GET_QUOTE: the chip's word for this vTPM, by its group's attestation key.
async fn quote<B: BlockDevice, C: MonotonicCounter + Clone, T: Transport>(
    office: &Office<'_, B, C, T>,
    rng: &mut Drbg,
    member: &Member,
    request: &QuoteRequest,
) -> Result<Zeroizing<Vec<u8>>, Refused> {
    let uuid = member.uuid;
    let look = |state: &State| {
        let policy = office.policy.borrow();
        let served = policy.serve(state, &uuid, &member.peer)?;
        Ok((served.group.uuid, hashes(request.flags, &uuid, served.measurement, served.group)?))
    };
    // What cannot be vouched for is refused before a key is made for it.
    let (group, _) = office.state(look).await?;
    let ak = office.attestation_key(&group, rng).await?;
    let (now, hashes) = office.state(look).await?;
    if now != group {
        return Err(Refused(code::FAIL));
    }
    let external = sha1(&[&external_data_preimage(request.flags, &request.data, &hashes)]);
    let selection = PcrSelection::from_mask(request.pcrs).ok_or(Refused(code::BAD_PARAMETER))?;
    let outcome = office.chip.quote(office.root, &ak.key, &external, selection, rng).await;
    Ok(Zeroizing::new(evidence(office.chip_said(outcome)?, hashes).to_bytes()))
}
