//! The chip's own commands that the admin may use.

use super::groups::{activated, public_bytes};
use super::{Answer, Office};
use crate::anchor::MonotonicCounter;
use crate::hardware::AttestationKey;
use alloc::vec::Vec;
use tpm_crypto::Drbg;
use tpm_wire::mgr::{Refused, code};
use tpm_wire::{HEADER_SIZE, MAX_PACKET, Transport, Writer};
use xen_abi::BlockDevice;
use zeroize::Zeroizing;

/// Bytes of an area that fit an answer.
const MAX_READ: u32 = (MAX_PACKET - HEADER_SIZE - 4) as u32;

pub async fn make_identity<B: BlockDevice, C: MonotonicCounter + Clone, T: Transport>(
    office: &Office<'_, B, C, T>,
    rng: &mut Drbg,
    label: &[u8; 20],
) -> Answer {
    let owner = office.state(|state| Ok(state.owner().cloned())).await?;
    let made = office.chip.ak_create(office.root, owner.as_ref(), label, rng).await;
    let (key, binding) = office.chip_said(made)?;
    let public = public_bytes(office.info.version, office.chip_said(office.chip.ak_public(&key))?);
    let key = key.to_bytes();
    let mut body = Zeroizing::new(Vec::with_capacity(12 + key.len() + public.len() + binding.len()));
    Writer::new(&mut body).sized32(&key).sized32(&public).sized32(&binding);
    Ok(body)
}

pub async fn activate_identity<B: BlockDevice, C: MonotonicCounter + Clone, T: Transport>(
    office: &Office<'_, B, C, T>,
    rng: &mut Drbg,
    key: &[u8],
    blob: &[u8],
) -> Answer {
    let key = AttestationKey::parse(key).ok_or(Refused(code::BAD_PARAMETER))?;
    let owner = office.state(|state| Ok(state.owner().cloned())).await?;
    activated(office, rng, owner.as_ref(), &key, blob).await
}

pub async fn read_pubek<B: BlockDevice, C: MonotonicCounter + Clone, T: Transport>(
    office: &Office<'_, B, C, T>,
    rng: &mut Drbg,
) -> Answer {
    let owner = office.state(|state| Ok(state.owner().cloned())).await?;
    let public = office.chip_said(office.chip.ek_public(owner.as_ref(), rng).await)?;
    let mut body = Zeroizing::default();
    Writer::new(&mut body).sized32(&public_bytes(office.info.version, public));
    Ok(body)
}

pub async fn nv_define<B: BlockDevice, C: MonotonicCounter + Clone, T: Transport>(
    office: &Office<'_, B, C, T>,
    rng: &mut Drbg,
    public: &[u8],
    auth: &[u8; 20],
) -> Result<(), Refused> {
    let owner = office.state(|state| Ok(state.owner().cloned())).await?;
    office.chip_said(office.chip.nv_define(owner.as_ref(), public, auth, rng).await)
}

pub async fn nv_write<B: BlockDevice, C: MonotonicCounter + Clone, T: Transport>(
    office: &Office<'_, B, C, T>,
    rng: &mut Drbg,
    index: u32,
    offset: u32,
    data: &[u8],
) -> Result<(), Refused> {
    let owner = office.state(|state| Ok(state.owner().cloned())).await?;
    office.chip_said(office.chip.nv_write(owner.as_ref(), index, offset, data, rng).await)
}

pub async fn nv_read<B: BlockDevice, C: MonotonicCounter + Clone, T: Transport>(
    office: &Office<'_, B, C, T>,
    rng: &mut Drbg,
    index: u32,
    offset: u32,
    size: u32,
) -> Answer {
    let owner = office.state(|state| Ok(state.owner().cloned())).await?;
    let outcome = office.chip.nv_read(owner.as_ref(), index, offset, size.min(MAX_READ), rng).await;
    let data = office.chip_said(outcome)?;
    let mut body = Zeroizing::new(Vec::with_capacity(4 + data.len()));
    Writer::new(&mut body).sized32(&data);
    Ok(body)
}
