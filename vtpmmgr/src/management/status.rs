//! What the manager and its chip are.

use super::{Answer, Office, Roots, count};
use crate::anchor::MonotonicCounter;
use crate::args::Rollback;
use crate::policy::Peer;
use crate::state::State;
use tpm_wire::Transport;
use tpm_wire::mgr::{ChipPcrs, PcrValues, Refused, RollbackMode, Status, code, status_flags};
use xen_abi::BlockDevice;
use zeroize::Zeroizing;

pub async fn status<B: BlockDevice, C: MonotonicCounter + Clone, T: Transport>(
    office: &Office<'_, B, C, T>,
    roots: &Roots,
) -> Answer {
    let flag = |holds: bool, flag: u8| if holds { flag } else { 0 };
    let labels = office.members.borrow().iter().any(|member| member.peer != Peer::Unchecked);
    let flags = flag(!office.chip_fails.get(), status_flags::CHIP_ANSWERS)
        | flag(labels, status_flags::LABELS)
        | flag(roots.is_sealed(), status_flags::SEALED)
        | flag(roots.has_recovery(), status_flags::RECOVERY);
    let (info, [major, minor]) = (office.info, office.info.firmware);
    let look = |state: &State| {
        let status = Status {
            chip_version: info.version.code(),
            vendor: info.vendor,
            firmware: u64::from(major) << 32 | u64::from(minor),
            bank: info.bank.id(),
            flags,
            rollback: match office.rollback {
                Rollback::Off => RollbackMode::Off,
                Rollback::Periodic => RollbackMode::Periodic,
                Rollback::Strict => RollbackMode::Strict,
            },
            counter: state.anchor().map_or(0, |anchor| anchor.value),
            uptime: office.timer.now().since(office.began).as_secs(),
            boot_id: info.boot_id,
            groups: count(state.groups().len()),
            vtpms: count(state.count()),
            connected: count(office.members.borrow().len()),
            version: env!("CARGO_PKG_VERSION").into(),
        };
        Ok(Zeroizing::new(status.to_bytes()))
    };
    office.state(look).await
}

/// The PCRs now, in the bank that the manager uses: what a list for the present configuration says.
pub async fn chip_pcrs<B: BlockDevice, C: MonotonicCounter + Clone, T: Transport>(
    office: &Office<'_, B, C, T>,
    mask: u32,
) -> Answer {
    let selection = super::groups::selection(mask)?;
    let values = office.chip_said(office.chip.pcr_values(selection).await)?;
    if !values.iter().map(|(pcr, _)| *pcr).eq(selection.iter()) {
        return Err(Refused(code::FAIL));
    }
    let values = values.into_iter().map(|(_, value)| value.to_vec()).collect();
    Ok(Zeroizing::new(ChipPcrs(PcrValues { bank: office.info.bank.id(), mask, values }).to_bytes()))
}
