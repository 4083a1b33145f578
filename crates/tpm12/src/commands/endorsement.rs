//! Endorsement key handling (part 3, section 14).

use crate::call::{Call, Done};
use crate::codes::{self, Code};
use crate::structs::Nonce;
use crate::structs::key::{ES_RSAESOAEP, KeyParms, PubKey, SS_NONE};
use crate::tpm::Tpm;
use crate::wire::Wire;
use tpm_crypto::sha1;

impl Tpm {
    /// The public endorsement key.
    pub(crate) fn pubek(&self) -> Result<PubKey, Code> {
        let public = self.permanent.ek.as_ref().ok_or(codes::NO_ENDORSEMENT)?.public();
        let bits = (public.size() * 8) as u32;
        Ok(PubKey { parms: KeyParms::rsa(bits, ES_RSAESOAEP, SS_NONE), modulus: public.modulus() })
    }
}

/// Answers with the public key and the checksum that binds it to the caller's nonce.
fn answer(call: &mut Call<'_>, key: &PubKey, nonce: &Nonce) {
    let checksum = sha1(&[&key.to_bytes(), nonce]);
    call.put(key).put(&checksum);
}

/// `TPM_ReadPubek` (section 14.4).
pub(crate) fn tpm_read_pubek(tpm: &mut Tpm, call: &mut Call<'_>) -> Done {
    let nonce: Nonce = call.only()?;
    if !tpm.permanent.flags.read_pubek {
        return Err(codes::DISABLED_CMD.into());
    }
    let key = tpm.pubek()?;
    answer(call, &key, &nonce);
    Ok(())
}
