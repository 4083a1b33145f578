//! The stages of `TPM_DAA_Join` (part 3, section 26.1).

use super::stages::{fixed, high, low};
use super::{DaaSession, Input, Output, nothing};
use crate::call::Call;
use crate::codes::{self, Code};
use crate::structs::daa::{
    DaaIssuer, DaaTpm, MODULUS_SIZE, POWER1, R3_SIZE, RT_DAA_TPM, RT_DAA_V0, RT_DAA_V1, U0_SIZE, U1_SIZE, V0_SIZE,
    V1_SIZE,
};
use crate::tpm::Tpm;
use crate::wire::Wire;
use alloc::vec;
use tpm_crypto::number::add;
use tpm_crypto::rsa::{DEFAULT_EXPONENT, RsaPublic};
use tpm_crypto::sha1;
use zeroize::Zeroizing;

/// A count, which may not be zero at the start.
fn count(data: &[u8]) -> Result<u32, Code> {
    data.try_into().map(u32::from_be_bytes).map_err(|_| codes::DAA_INPUT_DATA0)
}

/// Stage 0: how many links the issuer's chain of keys has.
pub(super) fn start(tpm: &mut Tpm, input: &Input<'_>) -> Output {
    let count = count(input.0)?;
    if count == 0 {
        return Err(codes::DAA_INPUT_DATA0);
    }
    let session = DaaSession { joins: true, tpm: DaaTpm { count, ..DaaTpm::default() }, ..DaaSession::default() };
    tpm.start_daa(session)
}

/// The other stages.
pub(super) fn stage(tpm: &mut Tpm, _: &Call<'_>, session: &mut DaaSession, input: &Input<'_>) -> Output {
    let DaaIssuer { r0, r1, s0, s1, .. } = session.issuer.clone();
    let output = match session.stage {
        1 => return follow_chain(tpm, session, input),
        2 => take_issuer(session, input),
        3 => {
            session.tpm.count = count(input.0)?;
            session.u0 = random(tpm, U0_SIZE);
            session.u1 = random(tpm, U1_SIZE);
            nothing()
        }
        4 => {
            session.scratch = None;
            let f0 = session.f0()?;
            session.accumulate(input, &r0, &f0).and_then(|()| nothing())
        }
        5 => {
            let f1 = session.f1()?;
            session.accumulate(input, &r1, &f1).and_then(|()| nothing())
        }
        6 => {
            let u0 = session.u0.clone();
            session.accumulate(input, &s0, &u0).and_then(|()| nothing())
        }
        7 => {
            let u1 = session.u1.clone();
            let out = session.finish(input, &s1, &u1)?;
            session.digest = sha1(&[&out, &session.tpm.count.to_be_bytes(), &session.digest_n0]);
            Ok(out)
        }
        8 => prove_ek(tpm, session, input),
        9 => session.commit_r0(tpm, input),
        10 => session.commit_r1(input),
        11 => session.commit_r2(input),
        12 => {
            let exponent = session.r(b"r3", R3_SIZE);
            session.finish(input, &s1, &exponent)
        }
        13 => session.take_w(input),
        14 => session.give_e(input),
        15 => session.give_e1(input),
        16 => session.give_nonce(tpm, input),
        17 => session.give_s0(),
        18 => session.give_s1(),
        19 => session.give_s2(&session.u0),
        20 => {
            let u0 = session.u0.clone();
            session.keep_s12(&u0);
            Ok(Zeroizing::new(session.digest.to_vec()))
        }
        21 => {
            let (r3, u1) = (session.r(b"r3", R3_SIZE), session.u1.clone());
            session.give_s3(&r3, &u1)
        }
        22 => keep_v0(tpm, session, input),
        23 => keep_v1(tpm, session, input),
        24 => Ok(tpm.wrap_daa(RT_DAA_TPM, session.tpm.to_secret())),
        _ => Err(codes::DAA_STAGE),
    }?;
    session.stage += 1;
    Ok(output)
}

fn random(tpm: &mut Tpm, size: usize) -> super::stages::Secret {
    let mut out = Zeroizing::new(vec![0; size]);
    tpm.rng.fill(&mut out);
    out
}

/// Whether the key in `DAA_scratch` has signed this.
fn check_signature(session: &DaaSession, data: &[u8], signature: &[u8]) -> Result<(), Code> {
    if signature.len() != MODULUS_SIZE {
        return Err(codes::DAA_INPUT_DATA1);
    }
    let modulus = session.scratch.as_ref().ok_or(codes::FAIL)?;
    let key = RsaPublic::new(modulus, DEFAULT_EXPONENT).map_err(|_| codes::DAA_ISSUER_VALIDITY)?;
    key.verify_pkcs1_sha1(&sha1(&[data]), signature).map_err(|_| codes::DAA_ISSUER_VALIDITY)
}

/// Stage 1, once for every link: the first key is the root by which the TPM's secret is made, every other one is signed by the one
/// before.
fn follow_chain(tpm: &Tpm, session: &mut DaaSession, input: &Input<'_>) -> Output {
    if input.0.len() != MODULUS_SIZE {
        return Err(codes::DAA_INPUT_DATA0);
    }
    if session.scratch.is_none() {
        session.digest_n0 = sha1(&[input.0]);
        session.tpm.rekey = Zeroizing::new(sha1(&[&*tpm.permanent.daa_seed, &session.digest_n0]));
    } else {
        check_signature(session, input.0, input.1)?;
    }
    session.scratch = Some(Zeroizing::new(input.0.to_vec()));
    session.tpm.count = session.tpm.count.checked_sub(1).ok_or(codes::DAA_STAGE)?;
    if session.tpm.count == 0 {
        session.stage += 1;
    }
    nothing()
}

/// Stage 2: the issuer's settings, signed by the last key of the chain.
fn take_issuer(session: &mut DaaSession, input: &Input<'_>) -> Output {
    let wrong = codes::DAA_INPUT_DATA0;
    let issuer = DaaIssuer::from_bytes(input.0, wrong).map_err(|_| wrong)?;
    check_signature(session, &[&session.digest_n0, input.0].concat(), input.1)?;
    session.tpm.issuer = sha1(&[input.0]);
    session.issuer = issuer;
    session.scratch = None;
    nothing()
}

/// Stage 8: what the issuer has encrypted to the endorsement key proves which TPM joins.
fn prove_ek(tpm: &mut Tpm, session: &mut DaaSession, input: &Input<'_>) -> Output {
    if input.0.len() != MODULUS_SIZE {
        return Err(codes::DAA_INPUT_DATA0);
    }
    let ek = tpm.permanent.ek.clone().ok_or(codes::NO_ENDORSEMENT)?;
    let nonce = ek.decrypt_oaep(&mut tpm.rng, input.0).map_err(|_| codes::DECRYPT_ERROR)?;
    let digest = core::mem::take(&mut session.digest);
    Ok(Zeroizing::new(sha1(&[&digest, &nonce]).to_vec()))
}

/// Stage 22: v0 = u2 + u0 modulo 2^1024; what is left over stays for v1.
fn keep_v0(tpm: &mut Tpm, session: &mut DaaSession, input: &Input<'_>) -> Output {
    if input.0.len() != V0_SIZE {
        return Err(codes::DAA_INPUT_DATA0);
    }
    let sum = add(input.0, &session.u0);
    let v0 = fixed(low(&sum, POWER1), V0_SIZE).ok_or(codes::FAIL)?;
    session.tpm.v0 = sha1(&[&v0]);
    session.scratch = Some(Zeroizing::new(high(&sum, POWER1).to_vec()));
    Ok(tpm.wrap_daa(RT_DAA_V0, v0))
}

/// Stage 23: v1 = u3 + u1 + what v0 left over.
fn keep_v1(tpm: &mut Tpm, session: &mut DaaSession, input: &Input<'_>) -> Output {
    if input.0.len() != V1_SIZE {
        return Err(codes::DAA_INPUT_DATA0);
    }
    let rest = session.scratch.take().ok_or(codes::FAIL)?;
    let sum = add(&add(input.0, &session.u1), &rest);
    // A sum of more bytes could not be told from its digest; an honest issuer's number is far smaller.
    let v1 = fixed(&sum, V1_SIZE).ok_or(codes::DAA_INPUT_DATA0)?;
    session.tpm.v1 = sha1(&[&v1]);
    Ok(tpm.wrap_daa(RT_DAA_V1, v1))
}
