//! The commands that a factory sends to a TPM 1.2.

use crate::tpm::Tpm;
use anyhow::{Context, Result, bail, ensure};
use tpm_crypto::rsa::RsaPublic;
use tpm_crypto::{Drbg, ct_eq, hmac_sha1, sha1};
use tpm_wire::{Reader, ResponseHeader, Writer};

const TAG_RQU_COMMAND: u16 = 0xc1;
const TAG_RQU_AUTH1: u16 = 0xc2;
const ORD_OIAP: u32 = 0x0a;
const ORD_TAKE_OWNERSHIP: u32 = 0x0d;
const ORD_READ_PUBEK: u32 = 0x7c;
const ORD_NV_DEFINE_SPACE: u32 = 0xcc;
const ORD_NV_WRITE_VALUE: u32 = 0xcd;

/// `TPM_NV_INDEX_LOCK`.
const INDEX_LOCK: u32 = 0xffff_ffff;
/// The owner reads and writes.
const OWNER_ONLY: u32 = 0x0002_0002;

fn send(tpm: &mut Tpm, tag: u16, ordinal: u32, parameters: &[u8]) -> Result<Vec<u8>> {
    let mut command = Vec::new();
    let size = u32::try_from(parameters.len() + 10)?;
    Writer::new(&mut command).u16(tag).u32(size).u32(ordinal).bytes(parameters);
    let response = tpm.execute(&command, || false);
    let (header, body) = ResponseHeader::parse(response)?;
    ensure!(header.code.get() == 0, "the TPM answers {:#x} to its command {ordinal:#x}", header.code.get());
    Ok(body.to_vec())
}

/// The public endorsement key (`TPM_ReadPubek`).
pub fn endorsement_key(tpm: &mut Tpm, rng: &mut Drbg) -> Result<RsaPublic> {
    let nonce: [u8; 20] = rng.bytes();
    let body = send(tpm, TAG_RQU_COMMAND, ORD_READ_PUBEK, &nonce)?;
    let (key, checksum) = body.split_last_chunk::<20>().context("a short answer")?;
    ensure!(sha1(&[key, &nonce]) == *checksum, "the endorsement key's checksum is wrong");
    // `TPM_PUBKEY`: algorithm, schemes, parameters, modulus.
    let mut reader = Reader::new(key);
    reader.bytes(8)?;
    reader.sized32()?;
    Ok(RsaPublic::new(reader.sized32()?, 65537)?)
}

/// Defines an area that the owner alone reads and writes, and fills it.
pub fn write_area(tpm: &mut Tpm, index: u32, content: &[u8]) -> Result<()> {
    define(tpm, index, OWNER_ONLY, u32::try_from(content.len())?)?;
    for (at, piece) in (0u32..).zip(content.chunks(1024)) {
        let mut parameters = Vec::new();
        Writer::new(&mut parameters).u32(index).u32(at * 1024).sized32(piece);
        send(tpm, TAG_RQU_COMMAND, ORD_NV_WRITE_VALUE, &parameters)?;
    }
    Ok(())
}

/// From now on the areas' attributes count (part 3, section 20.1).
pub fn lock(tpm: &mut Tpm) -> Result<()> {
    define(tpm, INDEX_LOCK, 0, 0)
}

fn define(tpm: &mut Tpm, index: u32, permission: u32, size: u32) -> Result<()> {
    // `TPM_PCR_INFO_SHORT` that asks for nothing.
    let any_pcr = [&[0, 3, 0, 0, 0, 0x1f][..], &[0; 20]].concat();
    let mut parameters = Vec::new();
    let mut writer = Writer::new(&mut parameters);
    writer.u16(0x18).u32(index).bytes(&any_pcr).bytes(&any_pcr).u16(0x17).u32(permission);
    writer.bytes(&[0; 3]).u32(size).bytes(&[0; 20]);
    send(tpm, TAG_RQU_COMMAND, ORD_NV_DEFINE_SPACE, &parameters)?;
    Ok(())
}

/// `TPM_TakeOwnership`, with a storage root key of 2048 bits.
pub fn take_ownership(tpm: &mut Tpm, owner: &[u8; 20], srk: &[u8; 20], rng: &mut Drbg) -> Result<()> {
    let endorsement = endorsement_key(tpm, rng)?;
    let session = send(tpm, TAG_RQU_COMMAND, ORD_OIAP, &[])?;
    let mut reader = Reader::new(&session);
    let (handle, even) = (reader.u32()?, reader.array::<20>()?);
    let mut parameters = Vec::new();
    let mut writer = Writer::new(&mut parameters);
    // `TPM_PID_OWNER`, both secrets, and the template of the key: `TPM_KEY` of version 1.1, storage, RSAES-OAEP.
    writer.u16(5).sized32(&endorsement.encrypt_oaep(rng, owner)?).sized32(&endorsement.encrypt_oaep(rng, srk)?);
    writer.bytes(&[1, 1, 0, 0]).u16(0x0011).u32(0).u8(1).u32(1).u16(3).u16(1);
    writer.u32(12).u32(2048).u32(2).u32(0).u32(0).u32(0).u32(0);
    let odd: [u8; 20] = rng.bytes();
    let digest = sha1(&[&ORD_TAKE_OWNERSHIP.to_be_bytes(), &parameters]);
    let hmac = hmac_sha1(owner, &[&digest, &even, &odd, &[0]]);
    Writer::new(&mut parameters).u32(handle).bytes(&odd).u8(0).bytes(&hmac);
    let body = send(tpm, TAG_RQU_AUTH1, ORD_TAKE_OWNERSHIP, &parameters)?;
    let (out, trailer) = body.split_at_checked(body.len().saturating_sub(41)).context("a short answer")?;
    let Some((even, [keep, hmac @ ..])) = trailer.split_first_chunk::<20>() else { bail!("a short answer") };
    let digest = sha1(&[&[0; 4], &ORD_TAKE_OWNERSHIP.to_be_bytes(), out]);
    let expected = hmac_sha1(owner, &[&digest, even, &odd, &[*keep]]);
    ensure!(ct_eq(&expected, hmac), "the TPM's answer to TPM_TakeOwnership is not authentic");
    Ok(())
}
