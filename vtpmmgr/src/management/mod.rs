//! Management commands, for vTPMs with the admin's rights: one at a time, each through the same door.
//!
//! A command's shape is checked by [`tpm_wire::mgr::Management::parse`], the sender's rights by [`crate::policy`], before anything here is
//! reached. What a command needs of the chip it asks first; the state is changed last, in one step, on what it is then.

mod chip;
mod groups;
mod office;
mod roots;
mod status;
mod update;
mod vtpms;

pub use office::{GroupName, Held, Lock, Member, Office, vtpm_name};
pub use roots::Roots;
pub use update::encrypt_records;

use crate::anchor::MonotonicCounter;
use crate::state::{Group, State};
use alloc::vec::Vec;
use tpm_crypto::Drbg;
use tpm_wire::Transport;
use tpm_wire::mgr::{Management, Refused, code};
use xen_abi::BlockDevice;
use zeroize::Zeroizing;

/// The body of an answer; some are secret.
pub type Answer = Result<Zeroizing<Vec<u8>>, Refused>;

/// Does what the admin asks.
pub async fn perform<B: BlockDevice, C: MonotonicCounter + Clone, T: Transport>(
    office: &Office<'_, B, C, T>,
    roots: &mut Roots,
    rng: &mut Drbg,
    command: Management,
) -> Answer {
    let nothing = |()| Zeroizing::default();
    match command {
        Management::GroupList => {
            office.state(|state| Ok(Zeroizing::new(count(state.groups().len()).to_be_bytes().to_vec()))).await
        }
        Management::GroupNew { label, saa } => groups::new_legacy(office, rng, label, &saa).await,
        Management::GroupCreate { saa, label } => groups::create(office, rng, saa.as_ref(), label).await,
        Management::GroupSetKey { index, saa } => groups::set_key(office, index, &saa).await.map(nothing),
        Management::GroupDelete { index } => groups::delete(office, index).await.map(nothing),
        Management::GroupShow { index } => groups::show_legacy(office, index).await,
        Management::GroupShow2 { index } => groups::show(office, index).await,
        Management::GroupKeys { index } => groups::keys(office, rng, index).await,
        Management::GroupActivate { index, blob } => groups::activate(office, rng, index, &blob).await,
        Management::GroupQuote { index, nonce, pcrs } => groups::quote(office, rng, index, &nonce, pcrs).await,
        Management::GroupUpdate { index, signature, list } => {
            update::legacy(office, roots, rng, index, &signature, &list).await.map(nothing)
        }
        Management::GroupUpdate2 { index, signature, list } => {
            update::modern(office, roots, rng, index, &signature, &list).await.map(nothing)
        }
        Management::GroupRegister { index, dh, signature, pcrs } => {
            groups::register(office, rng, index, &dh, &signature, pcrs).await
        }
        Management::GroupRecover1 { index, key, nonce, pcrs } => {
            groups::recover(office, rng, index, &key, &nonce, pcrs).await
        }
        Management::GroupRecover2 { index, dh, blob } => {
            groups::recovered(office, index, &dh, &blob).await.map(nothing)
        }
        Management::RecoveryCode => roots::recovery_code(office, roots, rng).await,
        Management::Status => status::status(office, roots).await,
        Management::ChipPcrs { pcrs } => status::chip_pcrs(office, pcrs).await,
        Management::VtpmList { index, offset } => vtpms::list_legacy(office, index, offset).await,
        Management::VtpmList2 { index, offset } => vtpms::list(office, index, offset).await,
        Management::VtpmShow { uuid } => vtpms::show(office, &uuid).await,
        Management::VtpmEdit { uuid, index, flags } => vtpms::edit(office, rng, &uuid, index, flags).await.map(nothing),
        Management::VtpmNew { index, uuid } => vtpms::new(office, rng, index, uuid).await,
        Management::VtpmDelete { uuid } => vtpms::delete(office, &uuid).await.map(nothing),
        Management::MakeIdentity { label } => chip::make_identity(office, rng, &label).await,
        Management::ActivateIdentity { key, blob } => chip::activate_identity(office, rng, &key, &blob).await,
        Management::ReadPubek => chip::read_pubek(office, rng).await,
        Management::NvDefineSpace { public, auth } => chip::nv_define(office, rng, &public, &auth).await.map(nothing),
        Management::NvWrite { index, offset, data } => {
            chip::nv_write(office, rng, index, offset, &data).await.map(nothing)
        }
        Management::NvRead { index, offset, size } => chip::nv_read(office, rng, index, offset, size).await,
    }
}

/// The group with this index.
fn at(state: &State, index: u32) -> Result<&Group, Refused> {
    let index = usize::try_from(index).map_err(|_| Refused(code::BADINDEX))?;
    state.groups().get(index).ok_or(Refused(code::BADINDEX))
}

/// The index of a group.
fn index_of(state: &State, uuid: &[u8; 16]) -> u32 {
    state.groups().iter().position(|group| group.uuid == *uuid).map_or(u32::MAX, count)
}

/// A number of things, all of which are far fewer than 2^32.
fn count(n: usize) -> u32 {
    u32::try_from(n).unwrap_or(u32::MAX)
}

/// A version 4 UUID (RFC 9562, section 5.4).
fn random_uuid(rng: &mut Drbg) -> [u8; 16] {
    let mut uuid: [u8; 16] = rng.bytes();
    uuid[6] = uuid[6] & 0x0f | 0x40;
    uuid[8] = uuid[8] & 0x3f | 0x80;
    uuid
}
