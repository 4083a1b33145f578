//! Migration (part 3, section 11). [`cmk`] has the commands for certified migratable keys.

pub(crate) mod cmk;

use crate::auth::session::Entity;
use crate::auth::{KeyUse, Protocol, needs_no_auth};
use crate::call::{Call, Done};
use crate::codes::{self, Code};
use crate::structs::key::{ES_RSAESOAEP, KEY_MIGRATE, Key, PT_ASYM, PT_MIGRATE, PubKey, StoreAsymKey};
use crate::structs::migration::{CmkMigAuth, MS_MIGRATE, MS_REWRAP, MigrationKeyAuth, decode, encode, mask, ticket};
use crate::structs::{AuthData, Digest};
use crate::tpm::Tpm;
use crate::wire::{Tag, Wire};
use alloc::vec::Vec;
use tpm_crypto::rsa::DEFAULT_EXPONENT;
use tpm_crypto::{ct_eq, sha1};

/// `TPM_CMK_MIGAUTH`'s HMAC: what the migration authorization of a certified migratable key is (part 2, section 5.17). Only this
/// TPM can make it.
pub(crate) fn migration_auth(tpm: &Tpm, msa_digest: &Digest, pub_key_digest: &Digest) -> Digest {
    let content = CmkMigAuth { tag: Tag, msa_digest: *msa_digest, pub_key_digest: *pub_key_digest };
    ticket(&tpm.permanent.proofs.tpm_proof, &content)
}

/// `TPM_MA_SOURCE` unless a key was made for this set of migration authorities.
pub(crate) fn check_migration_auth(tpm: &Tpm, key: &Key, msa_digest: &Digest) -> Result<(), Code> {
    let want = migration_auth(tpm, msa_digest, &key.blob.public().digest());
    if ct_eq(&want, &*key.migration_auth) { Ok(()) } else { Err(codes::MA_SOURCE) }
}

/// What a certificate says of the migration authority.
pub(crate) fn migration_authority(msa_digest: &Digest, payload: u8) -> Digest {
    sha1(&[msa_digest, &[payload]])
}

impl Tpm {
    /// The digest by which the TPM knows again a destination that the owner has authorized (section 11.3, actions 7 and 8).
    fn migration_digest(&self, key: &PubKey, scheme: u16) -> Digest {
        sha1(&[&key.to_bytes(), &scheme.to_be_bytes(), &*self.permanent.proofs.tpm_proof])
    }

    /// Whether the owner has authorized this destination.
    fn check_destination(&self, auth: &MigrationKeyAuth) -> Result<(), Code> {
        let own = self.migration_digest(&auth.key, auth.scheme);
        if ct_eq(&own, &auth.digest) { Ok(()) } else { Err(codes::MIGRATEFAIL) }
    }

    /// Answers with a private key for another TPM: a random mask, and the masked encoding encrypted to the destination.
    fn send_away(
        &mut self,
        call: &mut Call<'_>,
        destination: &PubKey,
        store: &StoreAsymKey,
        payload: u8,
        label: &AuthData,
    ) -> Done {
        let destination = destination.rsa()?;
        let mut encoded = encode(store, payload, label)?;
        let mut random = alloc::vec![0; encoded.len()];
        self.rng.fill(&mut random);
        mask(&mut encoded, &random)?;
        let out = destination.encrypt_oaep(&mut self.rng, &encoded).map_err(|_| codes::BAD_DATASIZE)?;
        call.put_sized(&random).put_sized(&out);
        Ok(())
    }

    /// Takes in what another TPM's [`Self::send_away`] answered.
    fn take_in(&mut self, parent: &Key, data: &[u8], random: &[u8]) -> Result<StoreAsymKey, Code> {
        let mut encoded = parent.rsa.decrypt_oaep(&mut self.rng, data).map_err(|_| codes::DECRYPT_ERROR)?;
        mask(&mut encoded, random)?;
        decode(&mut encoded)
    }
}

/// `TPM_CreateMigrationBlob` (section 11.1): with the authorizations of the parent and of the migration, or of the migration alone
/// if the parent needs none.
pub(crate) fn tpm_create_migration_blob(tpm: &mut Tpm, call: &mut Call<'_>) -> Done {
    let kind: u16 = call.get()?;
    let destination: MigrationKeyAuth = call.get()?;
    let enc_data: Vec<u8> = call.only()?;
    let [handle, _] = call.handles;
    let parent = tpm.key_to_use(handle, call.locality)?;
    let both = call.has_auths(2);
    if both {
        tpm.authorize_key(call, 0, &parent, KeyUse::Private)?;
    } else {
        needs_no_auth(&parent, KeyUse::Private)?;
    }
    if !parent.is_storage() {
        return Err(codes::INVALID_KEYUSAGE.into());
    }
    let store = tpm.unwrap(&parent, &enc_data)?;
    if store.payload != PT_ASYM {
        return Err(codes::BAD_MIGRATION.into());
    }
    // A key that may not migrate has the TPM's proof in this place, which nobody knows.
    tpm.authorize(call, usize::from(both), &store.migration_auth, &Entity::BLOB, Protocol::Oiap)?;
    tpm.check_destination(&destination)?;
    match kind {
        // The owner has authorized the destination for one scheme (section 11.3).
        MS_MIGRATE | MS_REWRAP if kind != destination.scheme => Err(codes::BAD_MODE.into()),
        MS_MIGRATE => tpm.send_away(call, &destination.key, &store, PT_MIGRATE, &store.migration_auth),
        MS_REWRAP => {
            let plain = store.to_secret();
            let out = destination.key.rsa()?.encrypt_oaep(&mut tpm.rng, &plain).map_err(|_| codes::BAD_DATASIZE)?;
            call.put_sized(&[]).put_sized(&out);
            Ok(())
        }
        _ => Err(codes::BAD_PARAMETER.into()),
    }
}

/// `TPM_ConvertMigrationBlob` (section 11.2).
pub(crate) fn tpm_convert_migration_blob(tpm: &mut Tpm, call: &mut Call<'_>) -> Done {
    let (data, random): (Vec<u8>, Vec<u8>) = (call.get()?, call.only()?);
    let [handle, _] = call.handles;
    let parent = tpm.key_to_use(handle, call.locality)?;
    tpm.authorize_key(call, 0, &parent, KeyUse::Private)?;
    if !parent.is_storage() {
        return Err(codes::INVALID_KEYUSAGE.into());
    }
    let mut store = tpm.take_in(&parent, &data, &random)?;
    if store.payload != PT_MIGRATE {
        return Err(codes::BAD_MIGRATION.into());
    }
    store.payload = PT_ASYM;
    let wrapped = tpm.wrap(&parent, &store)?;
    call.put_sized(&wrapped);
    Ok(())
}

/// `TPM_AuthorizeMigrationKey` (section 11.3).
pub(crate) fn tpm_authorize_migration_key(tpm: &mut Tpm, call: &mut Call<'_>) -> Done {
    let scheme: u16 = call.get()?;
    let key: PubKey = call.only()?;
    let (bits, exponent) = key.parms.rsa_details()?;
    if bits < 2048 || exponent != DEFAULT_EXPONENT {
        return Err(codes::BAD_KEY_PROPERTY.into());
    }
    tpm.authorize_owner(call, 0)?;
    if key.parms.enc_scheme != ES_RSAESOAEP {
        return Err(codes::INAPPROPRIATE_ENC.into());
    }
    key.rsa()?;
    let digest = tpm.migration_digest(&key, scheme);
    call.put(&MigrationKeyAuth { key, scheme, digest });
    Ok(())
}

/// `TPM_MigrateKey` (section 11.4): a migration authority passes a blob on.
pub(crate) fn tpm_migrate_key(tpm: &mut Tpm, call: &mut Call<'_>) -> Done {
    let destination: PubKey = call.get()?;
    let data: Vec<u8> = call.only()?;
    let [handle, _] = call.handles;
    let authority = tpm.key_to_use(handle, call.locality)?;
    tpm.authorize_key(call, 0, &authority, KeyUse::Private)?;
    if authority.blob.usage != KEY_MIGRATE {
        return Err(codes::INVALID_KEYUSAGE.into());
    }
    if authority.blob.parms.enc_scheme != ES_RSAESOAEP {
        return Err(codes::BAD_KEY_PROPERTY.into());
    }
    let destination = destination.rsa()?;
    let plain = authority.rsa.decrypt_oaep(&mut tpm.rng, &data).map_err(|_| codes::DECRYPT_ERROR)?;
    let out = destination.encrypt_oaep(&mut tpm.rng, &plain).map_err(|_| codes::BAD_DATASIZE)?;
    call.put_sized(&out);
    Ok(())
}

#[cfg(test)]
mod tests;
