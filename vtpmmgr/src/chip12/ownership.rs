//! Taking ownership of a chip that has no owner.

use super::codes::{self, ord};
use super::{Chip, ChipError, short};
use crate::args::AuthData;
use alloc::vec::Vec;
use tpm_crypto::rsa::RsaPublic;
use tpm_crypto::{Drbg, ct_eq, sha1};
use tpm_wire::{Reader, Transport, Truncated, Writer};

/// `TPM_PID_OWNER` (part 2, section 4.5).
const PID_OWNER: u16 = 5;
/// `TPM_ALG_RSA`.
const ALG_RSA: u32 = 1;
/// `TPM_ES_RSAESOAEP_SHA1_MGF1`.
const ES_OAEP: u16 = 3;
/// `TPM_SS_NONE`.
const SS_NONE: u16 = 1;
/// Bits of every key the manager has made.
const KEY_BITS: u32 = 2048;
/// The public exponent where a structure leaves it empty.
const DEFAULT_EXPONENT: u32 = 65537;

/// The version in a TPM_KEY.
const VERSION_1_1: [u8; 4] = [1, 1, 0, 0];
/// `TPM_AUTH_ALWAYS`.
const AUTH_ALWAYS: u8 = 1;

/// TPM_KEY_PARMS of a 2048-bit OAEP key with two primes and the default exponent (part 2, sections 10.1 and 10.1.1).
fn key_parms(w: &mut Writer<'_>) {
    w.u32(ALG_RSA).u16(ES_OAEP).u16(SS_NONE).u32(12).u32(KEY_BITS).u32(2).u32(0);
}

/// TPM_KEY of a storage key that is to be made: not migratable, secret always needed, no PCRs (part 2, section 10.2).
pub(super) fn storage_key_template() -> Vec<u8> {
    const STORAGE: u16 = 0x0011;
    let mut key = Vec::new();
    let mut w = Writer::new(&mut key);
    w.bytes(&VERSION_1_1).u16(STORAGE).u32(0).u8(AUTH_ALWAYS);
    key_parms(&mut w);
    // No PCR information, no public key yet, no private key yet.
    w.u32(0).u32(0).u32(0);
    key
}

/// TPM_KEY of an identity key that is to be made: for signatures with SHA-1 and PKCS #1 v1.5, not migratable, secret always
/// needed, no PCRs (part 3, section 15.1).
pub(super) fn identity_key_template() -> Vec<u8> {
    const IDENTITY: u16 = 0x0012;
    const ES_NONE: u16 = 1;
    const SS_SHA1: u16 = 2;
    let mut key = Vec::new();
    let mut w = Writer::new(&mut key);
    w.bytes(&VERSION_1_1).u16(IDENTITY).u32(0).u8(AUTH_ALWAYS);
    w.u32(ALG_RSA).u16(ES_NONE).u16(SS_SHA1).u32(12).u32(KEY_BITS).u32(2).u32(0);
    // No PCR information, no public key yet, no private key yet.
    w.u32(0).u32(0).u32(0);
    key
}

impl<T: Transport> Chip<'_, T> {
    /// Takes ownership with these secrets; has the chip make an endorsement key first if it was delivered without. May take
    /// more than a minute on a real chip, which makes the storage root key meanwhile.
    pub async fn take_ownership(&self, owner: &AuthData, srk: &AuthData, rng: &mut Drbg) -> Result<(), ChipError> {
        let ek = match self.read_pubek(rng).await {
            Err(ChipError::Refused { code: codes::NO_ENDORSEMENT, .. }) => {
                self.create_ek(rng).await?;
                self.read_pubek(rng).await?
            }
            other => other?,
        };
        let malformed = |_| ChipError::Malformed { ordinal: ord::READ_PUBEK };
        let owner_enc = ek.encrypt_oaep(rng, &owner.0).map_err(malformed)?;
        let srk_enc = ek.encrypt_oaep(rng, &srk.0).map_err(malformed)?;
        let mut params = Vec::new();
        Writer::new(&mut params).u16(PID_OWNER).sized32(&owner_enc).sized32(&srk_enc).bytes(&storage_key_template());
        let session = self.oiap(&owner.0, rng).await?;
        self.call_authorized([session], ord::TAKE_OWNERSHIP, &[], &params, 0).await?;
        Ok(())
    }

    /// Has the chip make an endorsement key (part 3, section 14.1).
    async fn create_ek(&self, rng: &mut Drbg) -> Result<(), ChipError> {
        let nonce: [u8; 20] = rng.bytes();
        let mut params = Vec::new();
        key_parms(Writer::new(&mut params).bytes(&nonce));
        self.call(ord::CREATE_EK, &params).await.map(drop)
    }

    /// The public endorsement key (part 3, section 14.4), with the checksum that ties it to this request verified.
    async fn read_pubek(&self, rng: &mut Drbg) -> Result<RsaPublic, ChipError> {
        let encoded = self.pubek(rng).await?;
        let (modulus, exponent) = rsa_pubkey(&encoded).map_err(short(ord::READ_PUBEK))?;
        RsaPublic::new(modulus, exponent).map_err(|_| ChipError::Malformed { ordinal: ord::READ_PUBEK })
    }

    /// The same as the chip gives it: a TPM_PUBKEY.
    pub(super) async fn pubek(&self, rng: &mut Drbg) -> Result<Vec<u8>, ChipError> {
        let nonce: [u8; 20] = rng.bytes();
        let out = self.call(ord::READ_PUBEK, &nonce).await?;
        let malformed = ChipError::Malformed { ordinal: ord::READ_PUBEK };
        let (pubkey, checksum) = out.split_last_chunk::<20>().ok_or(malformed)?;
        if !ct_eq(&sha1(&[pubkey, &nonce]), checksum) {
            return Err(ChipError::NotAuthentic { ordinal: ord::READ_PUBEK });
        }
        Ok(pubkey.to_vec())
    }
}

/// Modulus and exponent of a TPM_PUBKEY (part 2, section 10.5) that holds a 2048-bit RSA key.
pub(super) fn rsa_pubkey(bytes: &[u8]) -> Result<(&[u8], u32), Truncated> {
    let mut r = Reader::new(bytes);
    let algorithm = r.u32()?;
    r.bytes(2 + 2)?;
    let mut parms = Reader::new(r.sized32()?);
    let (bits, _primes) = (parms.u32()?, parms.u32()?);
    let exponent = match parms.sized32()? {
        [] => DEFAULT_EXPONENT,
        bytes if bytes.len() <= 4 => bytes.iter().fold(0, |value, byte| value << 8 | u32::from(*byte)),
        _ => return Err(Truncated),
    };
    let modulus = r.sized32()?;
    if algorithm == ALG_RSA && bits == KEY_BITS && modulus.len() == KEY_BITS as usize / 8 && r.is_empty() {
        Ok((modulus, exponent))
    } else {
        Err(Truncated)
    }
}
