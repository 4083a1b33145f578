//! Migration structures (part 2, sections 5.10, 10.8 and 11; the blob: part 3, section 11.1).

use super::key::{PubKey, StoreAsymKey};
use super::{AuthData, Digest};
use crate::codes::{self, Code};
use crate::wire::{Tag, Wire, wire_struct};
use alloc::vec::Vec;
use tpm_crypto::{hmac_sha1, mgf1_sha1};
use tpm_wire::{Reader, Writer};
use zeroize::{Zeroize, Zeroizing};

/// `TPM_MS_MIGRATE`.
pub(crate) const MS_MIGRATE: u16 = 1;
/// `TPM_MS_REWRAP`.
pub(crate) const MS_REWRAP: u16 = 2;
/// `TPM_MS_RESTRICT_MIGRATE`.
pub(crate) const MS_RESTRICT_MIGRATE: u16 = 4;
/// `TPM_MS_RESTRICT_APPROVE`.
pub(crate) const MS_RESTRICT_APPROVE: u16 = 5;

wire_struct! {
    /// `TPM_MIGRATIONKEYAUTH` (section 5.10): the owner's word that keys may go to this key.
    pub(crate) struct MigrationKeyAuth {
        key: PubKey,
        scheme: u16,
        digest: Digest,
    }
}

wire_struct! {
    /// `TPM_CMK_AUTH` (section 11.5): what a migration selection authority signs.
    pub(crate) struct CmkAuth {
        authority: Digest,
        destination: Digest,
        source: Digest,
    }
}

wire_struct! {
    /// `TPM_CMK_MIGAUTH` (section 11.1).
    pub(crate) struct CmkMigAuth {
        tag: Tag<0x0033>,
        msa_digest: Digest,
        pub_key_digest: Digest,
    }
}

wire_struct! {
    /// `TPM_CMK_SIGTICKET` (section 11.2).
    pub(crate) struct CmkSigTicket {
        tag: Tag<0x0034>,
        ver_key_digest: Digest,
        signed_data: Digest,
    }
}

wire_struct! {
    /// `TPM_CMK_MA_APPROVAL` (section 11.4).
    pub(crate) struct CmkMaApproval {
        tag: Tag<0x0035>,
        authority: Digest,
    }
}

/// HMAC of a structure, as the tickets of chapter 11 are made.
pub(crate) fn ticket(proof: &AuthData, content: &impl Wire) -> Digest {
    hmac_sha1(&**proof, &[&content.to_bytes()])
}

/// `TPM_MSA_COMPOSITE` (section 11.3): one authority or more.
pub(crate) struct MsaComposite(pub Vec<Digest>);

impl Wire for MsaComposite {
    fn put(&self, w: &mut Writer<'_>) {
        self.0.put(w);
    }

    fn get(r: &mut Reader<'_>) -> Result<Self, Code> {
        let list: Vec<Digest> = Wire::get(r)?;
        if list.is_empty() { Err(codes::INVALID_STRUCTURE) } else { Ok(Self(list)) }
    }
}

wire_struct! {
    /// `TPM_MIGRATE_ASYMKEY` (section 10.8): a private key but for its first 16 bytes, which are the seed of the OAEP encoding.
    pub(crate) struct MigrateAsymKey {
        payload: u8,
        usage_auth: AuthData,
        pub_data_digest: Digest,
        part: Zeroizing<Vec<u8>>,
    }
}

/// Size of an OAEP seed, and of the label's hash.
const HASH: usize = 20;

/// The OAEP encoding of a private key that is to leave: the seed is the length and the first 16 bytes of its prime, the label's
/// hash says who may use it at its destination (part 3, section 11.1, action 6).
pub(crate) fn encode(store: &StoreAsymKey, payload: u8, label: &AuthData) -> Result<Zeroizing<Vec<u8>>, Code> {
    let prime = store.prime.to_secret();
    let (seed, part) = prime.split_first_chunk::<HASH>().ok_or(codes::BAD_KEY_PROPERTY)?;
    let message = MigrateAsymKey {
        payload,
        usage_auth: store.usage_auth.clone(),
        pub_data_digest: store.pub_data_digest,
        part: Zeroizing::new(part.to_vec()),
    };
    let message = message.to_secret();
    let mut out = Zeroizing::new(Vec::with_capacity(2 * HASH + 1 + message.len()));
    Writer::new(&mut out).bytes(seed).bytes(&**label).u8(1).bytes(&message);
    let (seed, block) = out.split_at_mut(HASH);
    mgf1_sha1(&[seed], block);
    mgf1_sha1(&[block], seed);
    Ok(out)
}

/// Takes [`encode`]'s work apart. The label's hash becomes the migration authorization. There is one error for whatever is
/// wrong: what is decoded was masked by its sender.
pub(crate) fn decode(encoded: &mut Zeroizing<Vec<u8>>) -> Result<StoreAsymKey, Code> {
    let (seed, block) = encoded.split_at_mut_checked(HASH).ok_or(codes::DECRYPT_ERROR)?;
    mgf1_sha1(&[block], seed);
    mgf1_sha1(&[seed], block);
    let (label, padded) = block.split_first_chunk::<HASH>().ok_or(codes::DECRYPT_ERROR)?;
    let at = padded.iter().position(|byte| *byte != 0).ok_or(codes::DECRYPT_ERROR)?;
    let message = padded.get(at..).and_then(|rest| rest.strip_prefix(&[1])).ok_or(codes::DECRYPT_ERROR)?;
    let message = MigrateAsymKey::from_bytes(message, codes::DECRYPT_ERROR).map_err(|_| codes::DECRYPT_ERROR)?;
    let mut prime = Zeroizing::new(Vec::with_capacity(HASH + message.part.len()));
    Writer::new(&mut prime).bytes(seed).bytes(&message.part);
    let prime = Vec::<u8>::from_bytes(&prime, codes::DECRYPT_ERROR).map_err(|_| codes::DECRYPT_ERROR)?;
    let MigrateAsymKey { payload, usage_auth, pub_data_digest, part: _ } = message;
    let migration_auth = Zeroizing::new(*label);
    Ok(StoreAsymKey { payload, usage_auth, migration_auth, pub_data_digest, prime: Zeroizing::new(prime) })
}

/// XORs a mask of the same length; `TPM_BAD_PARAMETER` if it has another one.
pub(crate) fn mask(data: &mut [u8], mask: &[u8]) -> Result<(), Code> {
    if data.len() != mask.len() {
        data.zeroize();
        return Err(codes::BAD_PARAMETER);
    }
    data.iter_mut().zip(mask).for_each(|(byte, mask)| *byte ^= mask);
    Ok(())
}
