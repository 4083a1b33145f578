//! Identity creation and activation (part 3, section 15).

use crate::auth::{KeyUse, Protocol, needs_no_auth};
use crate::call::{Call, Done};
use crate::codes::{self, Code};
use crate::commands::storage::set_creation;
use crate::dispatch::table::ord;
use crate::structs::Digest;
use crate::structs::key::{FLAG_MIGRATABLE, KEY_IDENTITY, Key, KeyBlob, PT_ASYM};
use crate::structs::pcr::PcrInfoShort;
use crate::tpm::{KH_SRK, Tpm};
use crate::wire::{Tag, Wire, wire_struct};
use alloc::vec::Vec;
use tpm_crypto::sha1;
use tpm_wire::{Reader, Writer};
use zeroize::Zeroizing;

/// `TPM_EK_TYPE_ACTIVATE`.
const EK_TYPE_ACTIVATE: u16 = 1;

/// `TPM_MakeIdentity` (section 15.1).
pub(crate) fn tpm_make_identity(tpm: &mut Tpm, call: &mut Call<'_>) -> Done {
    let (enc_auth, label): ([u8; 20], Digest) = (call.get()?, call.get()?);
    let mut blob: KeyBlob = call.only()?;
    blob.check_properties()?;
    let srk = tpm.key_to_use(KH_SRK, call.locality)?;
    let owner = usize::from(call.has_auths(2));
    if owner == 1 {
        tpm.authorize_key(call, 0, &srk, KeyUse::Private)?;
    } else {
        needs_no_auth(&srk, KeyUse::Private)?;
    }
    tpm.authorize_owner_by(call, owner, Protocol::Osap)?;
    if blob.usage != KEY_IDENTITY || blob.has(FLAG_MIGRATABLE) {
        return Err(codes::INVALID_KEYUSAGE.into());
    }
    let usage_auth = call.decrypt_auth(owner, &enc_auth, false)?;
    let (bits, exponent) = blob.parms.rsa_details()?;
    let rsa = call.generated_key(bits, exponent)?;
    set_creation(tpm, call, &mut blob)?;
    let key = Key::create(blob, rsa, PT_ASYM, usage_auth, tpm.permanent.proofs.tpm_proof.clone());
    // `TPM_IDENTITY_CONTENTS` (part 2, section 12.5).
    let mut contents = Vec::new();
    let mut w = Writer::new(&mut contents);
    w.bytes(&[1, 1, 0, 0]).u32(ord::MAKE_IDENTITY).bytes(&label);
    key.blob.public().put(&mut w);
    let binding = tpm.sign_digest(&key, &sha1(&[&contents]))?;
    let wrapped = KeyBlob { enc_data: tpm.wrap(&srk, &key.store())?, ..key.blob.clone() };
    call.end_session(0);
    call.put(&wrapped).put(&binding);
    Ok(())
}

/// `TPM_SYMMETRIC_KEY` (part 2, section 10.8).
pub(crate) struct SymmetricKey {
    algorithm: u32,
    scheme: u16,
    data: Zeroizing<Vec<u8>>,
}

impl Wire for SymmetricKey {
    fn put(&self, w: &mut Writer<'_>) {
        w.u32(self.algorithm).u16(self.scheme).u16(self.data.len() as u16).bytes(&self.data);
    }

    fn get(r: &mut Reader<'_>) -> Result<Self, Code> {
        let (algorithm, scheme, size) = (r.u32()?, r.u16()?, r.u16()?);
        Ok(Self { algorithm, scheme, data: Zeroizing::new(r.bytes(size.into())?.to_vec()) })
    }
}

wire_struct! {
    /// `TPM_ASYM_CA_CONTENTS` (part 2, section 12.8).
    pub(crate) struct CaContents {
        session_key: SymmetricKey,
        id_digest: Digest,
    }
}

wire_struct! {
    /// `TPM_EK_BLOB` (part 2, section 12.1).
    pub(crate) struct EkBlob {
        tag: Tag<0x000c>,
        kind: u16,
        blob: Zeroizing<Vec<u8>>,
    }
}

wire_struct! {
    /// `TPM_EK_BLOB_ACTIVATE` (part 2, section 12.2).
    pub(crate) struct EkBlobActivate {
        tag: Tag<0x002b>,
        session_key: SymmetricKey,
        id_digest: Digest,
        pcr_info: PcrInfoShort,
    }
}

/// `TPM_ActivateIdentity` (section 15.2).
pub(crate) fn tpm_activate_identity(tpm: &mut Tpm, call: &mut Call<'_>) -> Done {
    let blob: Vec<u8> = call.only()?;
    let [handle, _] = call.handles;
    let owner = usize::from(call.has_auths(2));
    let key = tpm.key_to_use(handle, call.locality)?;
    if owner == 1 {
        tpm.authorize_key(call, 0, &key, KeyUse::Private)?;
    } else {
        needs_no_auth(&key, KeyUse::Private)?;
    }
    tpm.authorize_owner(call, owner)?;
    if key.blob.usage != KEY_IDENTITY {
        return Err(codes::BAD_PARAMETER.into());
    }
    let ek = tpm.permanent.ek.clone().ok_or(codes::NO_ENDORSEMENT)?;
    let plain = ek.decrypt_oaep(&mut tpm.rng, &blob).map_err(|_| codes::DECRYPT_ERROR)?;
    let digest = key.blob.public().digest();
    let session_key = if plain.starts_with(&[0x00, 0x0c]) {
        let outer = EkBlob::from_bytes(&plain, codes::INVALID_STRUCTURE)?;
        if outer.kind != EK_TYPE_ACTIVATE {
            return Err(codes::BAD_TYPE.into());
        }
        let inner = EkBlobActivate::from_bytes(&outer.blob, codes::INVALID_STRUCTURE)?;
        if inner.id_digest != digest {
            return Err(codes::BAD_PARAMETER.into());
        }
        tpm.check_short(&inner.pcr_info, call.locality, codes::BAD_LOCALITY)?;
        inner.session_key
    } else {
        // The structure of TPM 1.1 has no tag of its own.
        let contents = CaContents::from_bytes(&plain, codes::INVALID_STRUCTURE)?;
        if contents.id_digest != digest {
            return Err(codes::BAD_PARAMETER.into());
        }
        contents.session_key
    };
    call.put(&session_key);
    Ok(())
}

#[cfg(test)]
mod tests;
