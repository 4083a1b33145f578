//! Xen's own ordinals (`TPM_VENDOR_COMMAND` in the C vtpm-stubdom): the hardware TPM vouches for the virtual one. The engine works
//! out what is to be quoted; its owner gets the quote from the manager.

use crate::call::{Call, Done, ParentQuote, Stop};
use crate::codes::{self, Code};
use crate::structs::Nonce;
use crate::structs::pcr::{PcrInfoShort, Selection};
use crate::tpm::Tpm;
use crate::wire::Wire;
use tpm_crypto::sha1;

/// Asks for the manager's quote, or passes it on when it is there.
fn quote(call: &mut Call<'_>, nonce: [u8; 20], selection: &Selection, flags: u32) -> Done {
    match call.parent_answer.take() {
        Some(quote) => {
            call.out.extend_from_slice(&quote);
            Ok(())
        }
        None => Err(Stop::NeedsParent(ParentQuote { nonce, selection: selection.to_bytes(), flags })),
    }
}

/// `TPM_DeepQuote`: a quote of the hardware TPM over a quote of this one.
pub(crate) fn tpm_deep_quote(tpm: &mut Tpm, call: &mut Call<'_>) -> Done {
    let (external, own, parents): (Nonce, Selection, Selection) = (call.get()?, call.get()?, call.get()?);
    let flags: u32 = call.only()?;
    tpm.authorize_owner(call, 0)?;
    let digest_at_release = tpm.volatile.pcrs.composite_hash(&own);
    let short = PcrInfoShort { selection: own, locality_at_release: 1 << call.locality, digest_at_release };
    let nonce = sha1(&[&[0; 4], b"DQUT", &external, &short.to_bytes()]);
    quote(call, nonce, &parents, flags)
}

/// `TPM_ParentSignEK`: a quote of the hardware TPM over the endorsement key, in the run that made it. Flags behind the C stack's two
/// parameters are an extension: without them the quote does not say *which* vTPM has this key.
pub(crate) fn tpm_parent_sign_ek(tpm: &mut Tpm, call: &mut Call<'_>) -> Done {
    let (nonce, parents): (Nonce, Selection) = (call.get()?, call.get()?);
    let flags: u32 = if call.params.is_empty() { 0 } else { call.get()? };
    call.end()?;
    tpm.authorize_owner(call, 0)?;
    if !tpm.new_endorsement_key {
        return Err(codes::DISABLED_CMD.into());
    }
    let key: Result<_, Code> = tpm.pubek();
    let checksum = sha1(&[&key?.to_bytes(), &nonce]);
    quote(call, checksum, &parents, flags)
}

#[cfg(test)]
mod tests;
