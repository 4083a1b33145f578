//! The stages of `TPM_DAA_Sign` (part 3, section 26.2).

use super::{DaaSession, Input, Output, nothing};
use crate::call::Call;
use crate::codes::{self, Code};
use crate::structs::Digest;
use crate::structs::daa::{DaaIssuer, DaaTpm, R4_SIZE, RT_DAA_TPM, RT_DAA_V0, RT_DAA_V1};
use crate::structs::key::KEY_IDENTITY;
use crate::tpm::Tpm;
use crate::wire::Wire;
use tpm_crypto::sha1;
use zeroize::Zeroizing;

/// Stage 0: the issuer's settings.
pub(super) fn start(tpm: &mut Tpm, input: &Input<'_>) -> Output {
    let wrong = codes::DAA_INPUT_DATA0;
    let issuer = DaaIssuer::from_bytes(input.0, wrong).map_err(|_| wrong)?;
    tpm.start_daa(DaaSession { issuer, ..DaaSession::default() })
}

/// The other stages.
pub(super) fn stage(tpm: &mut Tpm, call: &Call<'_>, session: &mut DaaSession, input: &Input<'_>) -> Output {
    let output = match session.stage {
        1 => take_tpm(tpm, session, input),
        2 => session.commit_r0(tpm, input),
        3 => session.commit_r1(input),
        4 => session.commit_r2(input),
        5 => {
            let (x, exponent) = (session.issuer.s1, session.r(b"r4", R4_SIZE));
            session.finish(input, &x, &exponent)
        }
        6 => session.take_w(input),
        7 => session.give_e(input),
        8 => session.give_e1(input),
        9 => session.give_nonce(tpm, input),
        10 => take_message(tpm, call, session, input),
        11 => session.give_s0(),
        12 => session.give_s1(),
        13 => {
            let v0 = secret(tpm, RT_DAA_V0, input, &session.tpm.v0)?;
            session.give_s2(&v0)
        }
        14 => {
            let v0 = secret(tpm, RT_DAA_V0, input, &session.tpm.v0)?;
            session.keep_s12(&v0);
            nothing()
        }
        15 => {
            let v1 = secret(tpm, RT_DAA_V1, input, &session.tpm.v1)?;
            let r4 = session.r(b"r4", R4_SIZE);
            session.give_s3(&r4, &v1)
        }
        _ => Err(codes::DAA_STAGE),
    }?;
    session.stage += 1;
    Ok(output)
}

/// Stage 1: what the TPM has kept of its join, for the issuer of stage 0 only.
fn take_tpm(tpm: &Tpm, session: &mut DaaSession, input: &Input<'_>) -> Output {
    let wrong = codes::DAA_INPUT_DATA0;
    let plain = tpm.unwrap_daa(RT_DAA_TPM, input.0)?;
    session.tpm = DaaTpm::from_bytes(&plain, wrong).map_err(|_| wrong)?;
    if session.tpm.issuer != sha1(&[&session.issuer.to_bytes()]) {
        return Err(codes::DAA_ISSUER_SETTINGS);
    }
    nothing()
}

/// Stage 10: what is signed, a digest or the modulus of an identity key.
fn take_message(tpm: &Tpm, call: &Call<'_>, session: &mut DaaSession, input: &Input<'_>) -> Output {
    let wrong = codes::DAA_INPUT_DATA1;
    session.digest = match input.0 {
        [1] if input.1.len() == session.digest.len() => sha1(&[&session.digest, &[1], input.1]),
        [0] => {
            let handle = input.1.try_into().map(u32::from_be_bytes).map_err(|_| wrong)?;
            let key = tpm.key_to_use(handle, call.locality).map_err(|_| wrong)?;
            if key.blob.usage != KEY_IDENTITY {
                return Err(wrong);
            }
            sha1(&[&session.digest, &[0], &key.blob.modulus])
        }
        [1] => return Err(wrong),
        _ => return Err(codes::DAA_INPUT_DATA0),
    };
    Ok(Zeroizing::new(session.digest.to_vec()))
}

/// A secret of the join, which the session knows by its digest.
fn secret(tpm: &Tpm, kind: u32, input: &Input<'_>, digest: &Digest) -> Result<super::stages::Secret, Code> {
    let plain = tpm.unwrap_daa(kind, input.0)?;
    if sha1(&[&plain]) == *digest { Ok(plain) } else { Err(codes::DAA_INPUT_DATA0) }
}
