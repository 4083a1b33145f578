//! Direct anonymous attestation (part 3, section 26).
//!
//! Both commands are a sequence of stages on one session. Most stages are the same in both: they are in [`stages`].
//! A session is one piece here, so that its parts need no digests to be known by: `TPM_DAA_TPM_SETTINGS` is left for a session of
//! the other command.

mod join;
mod sign;
mod stages;

use crate::call::{Call, Done};
use crate::codes::{self, Code};
use crate::commands::capability::MAX_DAA;
use crate::structs::daa::{DaaBlob, DaaIssuer, DaaSensitive, DaaTpm};
use crate::structs::{AuthData, Digest};
use crate::tpm::Tpm;
use crate::wire::{Tag, Wire, wire_struct};
use alloc::vec::Vec;
use tpm_crypto::{aes_ctr, ct_eq, hmac_sha1};
use zeroize::Zeroizing;

wire_struct! {
    /// A DAA session: `TPM_DAA_CONTEXT`, `TPM_DAA_JOINDATA` and the two structures they refer to (part 2, section 22).
    #[derive(Default)]
    pub(crate) struct DaaSession {
        handle: u32,
        /// Of `TPM_DAA_Join`, not of `TPM_DAA_Sign`.
        joins: bool,
        stage: u8,
        issuer: DaaIssuer,
        tpm: DaaTpm,
        digest: Digest,
        context_seed: AuthData,
        /// `DAA_scratch`, if it is not `NULL`.
        scratch: Option<Zeroizing<Vec<u8>>>,
        u0: Zeroizing<Vec<u8>>,
        u1: Zeroizing<Vec<u8>>,
        digest_n0: Digest,
    }
}

/// The two data parameters of a stage.
struct Input<'a>(&'a [u8], &'a [u8]);

/// What a stage answers.
type Output = Result<Zeroizing<Vec<u8>>, Code>;

/// The answer of a stage that has none.
fn nothing() -> Output {
    Ok(Zeroizing::new(Vec::new()))
}

impl Tpm {
    /// Ends a session.
    pub(crate) fn end_daa(&mut self, handle: u32) -> Result<(), Code> {
        self.take_daa(handle).map(|_| ()).ok_or(codes::BAD_HANDLE)
    }

    fn take_daa(&mut self, handle: u32) -> Option<DaaSession> {
        let at = self.volatile.daa.iter().position(|session| session.handle == handle)?;
        Some(self.volatile.daa.remove(at))
    }

    /// Gives a new session its handle; the handle is the answer of stage 0.
    fn start_daa(&mut self, session: DaaSession) -> Output {
        if self.volatile.daa.len() >= MAX_DAA {
            return Err(codes::RESOURCES);
        }
        let handle = self.new_handle(crate::auth::session::HandleKind::Daa);
        self.volatile.daa.push(DaaSession { handle, stage: 1, ..session });
        Ok(Zeroizing::new(handle.to_be_bytes().to_vec()))
    }

    /// Encrypts a secret that the platform keeps for the TPM.
    fn wrap_daa(&mut self, kind: u32, data: Zeroizing<Vec<u8>>) -> Zeroizing<Vec<u8>> {
        let iv: [u8; 16] = self.rng.bytes();
        let mut sensitive = DaaSensitive { tag: Tag, data }.to_secret();
        aes_ctr(&self.permanent.proofs.daa_blob_key, &iv, &mut sensitive);
        let mut blob = DaaBlob {
            tag: Tag,
            kind,
            label: [0; 16],
            integrity: [0; 20],
            additional: iv.to_vec(),
            sensitive: sensitive.to_vec(),
        };
        blob.integrity = self.daa_integrity(&blob);
        Zeroizing::new(blob.to_bytes())
    }

    /// Decrypts what [`Self::wrap_daa`] made; `TPM_DAA_INPUT_DATA0` for everything else.
    fn unwrap_daa(&self, kind: u32, bytes: &[u8]) -> Result<Zeroizing<Vec<u8>>, Code> {
        let wrong = codes::DAA_INPUT_DATA0;
        let mut blob = DaaBlob::from_bytes(bytes, wrong).map_err(|_| wrong)?;
        let integrity = core::mem::take(&mut blob.integrity);
        let iv: [u8; 16] = blob.additional[..].try_into().map_err(|_| wrong)?;
        if !ct_eq(&self.daa_integrity(&blob), &integrity) || blob.kind != kind {
            return Err(wrong);
        }
        let mut sensitive = Zeroizing::new(blob.sensitive);
        aes_ctr(&self.permanent.proofs.daa_blob_key, &iv, &mut sensitive);
        DaaSensitive::from_bytes(&sensitive, wrong).map(|plain| plain.data).map_err(|_| wrong)
    }

    /// HMAC of a blob whose integrity field is zero.
    fn daa_integrity(&self, blob: &DaaBlob) -> Digest {
        hmac_sha1(&*self.permanent.proofs.daa_proof, &[&blob.to_bytes()])
    }
}

/// What both commands do around their stages. Whatever fails ends the session.
fn run(
    tpm: &mut Tpm,
    call: &mut Call<'_>,
    joins: bool,
    start: fn(&mut Tpm, &Input<'_>) -> Output,
    stage: fn(&mut Tpm, &Call<'_>, &mut DaaSession, &Input<'_>) -> Output,
    last: u8,
) -> Done {
    let number: u8 = call.get()?;
    let (input0, input1): (Zeroizing<Vec<u8>>, Zeroizing<Vec<u8>>) = (call.get()?, call.only()?);
    let input = Input(&input0, &input1);
    let [handle, _] = call.handles;
    let session = if number == 0 { None } else { tpm.take_daa(handle) };
    tpm.authorize_owner(call, 0)?;
    let output = if number == 0 {
        start(tpm, &input)?
    } else {
        let mut session = session.ok_or(codes::BAD_HANDLE)?;
        if session.stage != number {
            return Err(codes::DAA_STAGE.into());
        }
        if session.joins != joins {
            return Err(codes::DAA_TPM_SETTINGS.into());
        }
        let output = stage(tpm, call, &mut session, &input)?;
        if number < last {
            tpm.volatile.daa.push(session);
        }
        output
    };
    call.put_sized(&output);
    Ok(())
}

/// `TPM_DAA_Join` (section 26.1).
pub(crate) fn tpm_daa_join(tpm: &mut Tpm, call: &mut Call<'_>) -> Done {
    run(tpm, call, true, join::start, join::stage, 24)
}

/// `TPM_DAA_Sign` (section 26.2).
pub(crate) fn tpm_daa_sign(tpm: &mut Tpm, call: &mut Call<'_>) -> Done {
    run(tpm, call, false, sign::start, sign::stage, 15)
}

#[cfg(test)]
mod tests;
