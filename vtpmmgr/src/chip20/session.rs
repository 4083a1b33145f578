//! Sessions (TPM 2.0 Library, part 1, sections 19 and 21): salted, with HMACs both ways and encrypted parameters.
//!
//! A session is used for one command and ended by it. Its hash is SHA-256, its cipher AES-128 in feedback mode.

use super::keys::SaltKey;
use super::{Chip, ChipError, Name, accept, packet, read};
use alloc::vec::Vec;
use tpm_crypto::{Drbg, aes_cfb_decrypt, aes_cfb_encrypt, ct_eq, hmac_sha256, kdfa_sha256, sha256};
use tpm_wire::v20::{ST_SESSIONS, Symmetric, alg, cc, rh, se, session};
use tpm_wire::{HEADER_SIZE, Reader, Transport, Truncated, Writer};
use zeroize::Zeroizing;

/// Bytes in a nonce, in both directions.
const NONCE: usize = 32;

/// A session, good for one command.
pub(super) struct Session {
    pub handle: u32,
    nonce_tpm: [u8; NONCE],
    nonce_caller: [u8; NONCE],
    /// The session key.
    key: Zeroizing<[u8; 32]>,
}

/// How a command's handle is authorized, or what protects its parameters.
pub(super) enum Auth<'s> {
    /// The empty password.
    Empty,
    /// A session.
    Session {
        /// The session.
        session: &'s Session,
        /// The secret of what is authorized, or nothing.
        secret: &'s [u8],
        /// Whether the secret is part of the HMAC's key: not with a policy that does not ask for it.
        keyed: bool,
        /// `DECRYPT` and `ENCRYPT`, which the first session only may have.
        protect: u8,
    },
}

impl<'s> Auth<'s> {
    /// An HMAC session that authorizes with `secret`.
    pub const fn hmac(session: &'s Session, secret: &'s [u8], protect: u8) -> Self {
        Self::Session { session, secret, keyed: true, protect }
    }
}

/// A secret as the chip sees it: without zeros at its end (part 1, section 19.6.4.3).
pub(super) fn stripped(secret: &[u8]) -> &[u8] {
    let end = secret.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
    secret.get(..end).unwrap_or_default()
}

impl Session {
    /// sessionKey ‖ authValue.
    fn key_with(&self, secret: &[u8]) -> Zeroizing<Vec<u8>> {
        let secret = stripped(secret);
        let mut key = Zeroizing::new(Vec::with_capacity(self.key.len() + secret.len()));
        key.extend_from_slice(&*self.key);
        key.extend_from_slice(secret);
        key
    }

    /// Key and initial vector for a parameter (part 1, section 21.3).
    fn cipher(&self, secret: &[u8], newer: &[u8], older: &[u8]) -> Zeroizing<([u8; 16], [u8; 16])> {
        let mut material = Zeroizing::new([0; 32]);
        kdfa_sha256(&self.key_with(secret), b"CFB", newer, older, &mut *material);
        let mut out = Zeroizing::new(([0; 16], [0; 16]));
        let (key, iv) = material.split_at(16);
        out.0.copy_from_slice(key);
        out.1.copy_from_slice(iv);
        out
    }
}

/// The session key of a salted, unbound session (part 1, section 19.6.8).
pub(super) fn session_key(salt: &[u8], nonce_tpm: &[u8], nonce_caller: &[u8]) -> Zeroizing<[u8; 32]> {
    let mut key = Zeroizing::new([0; 32]);
    kdfa_sha256(salt, b"ATH", nonce_tpm, nonce_caller, &mut *key);
    key
}

/// The buffer of the TPM2B that `params` begin with.
fn first_buffer(params: &mut [u8]) -> Option<&mut [u8]> {
    let (size, rest) = params.split_first_chunk_mut::<2>()?;
    rest.get_mut(..usize::from(u16::from_be_bytes(*size)))
}

/// One session's part of an answer: nonceTPM, attributes, HMAC.
type Trailer<'b> = (&'b [u8], u8, &'b [u8]);

impl<T: Transport> Chip<'_, T> {
    /// Starts a session of `kind` that is salted with the loaded key `handle` (part 3, section 11.1).
    pub(super) async fn start_session(
        &self,
        kind: u8,
        handle: u32,
        key: &SaltKey,
        rng: &mut Drbg,
    ) -> Result<Session, ChipError> {
        const CODE: u32 = cc::START_AUTH_SESSION;
        let (salt, encrypted) = key.salt(rng).ok_or(ChipError::Malformed { ordinal: cc::READ_PUBLIC })?;
        let first_nonce: [u8; NONCE] = rng.bytes();
        let mut body = Vec::new();
        let mut w = Writer::new(&mut body);
        w.u32(handle).u32(rh::NULL).sized16(&first_nonce).sized16(&encrypted).u8(kind);
        Symmetric::AES_128_CFB.put(&mut w);
        w.u16(alg::SHA256);
        let out = self.call(CODE, &body).await?;
        let (handle, nonce_tpm) = read(&out, CODE, |r| {
            let handle = r.u32()?;
            Ok((handle, <[u8; NONCE]>::try_from(r.sized16()?).map_err(|_| Truncated)?))
        })?;
        let key = session_key(&*salt, &nonce_tpm, &first_nonce);
        Ok(Session { handle, nonce_tpm, nonce_caller: rng.bytes(), key })
    }

    /// [`Self::start_session`] for authorization by HMAC.
    pub(super) async fn hmac_session(&self, handle: u32, key: &SaltKey, rng: &mut Drbg) -> Result<Session, ChipError> {
        self.start_session(se::HMAC, handle, key, rng).await
    }

    /// A command with sessions. `handles` go in front of `params` with their Names (a hierarchy's Name is its handle). Returns
    /// the response's `out_handles` handles and its parameters, decrypted, once every session's HMAC has been found right.
    pub(super) async fn call_authorized(
        &self,
        auths: &[Auth<'_>],
        code: u32,
        handles: &[(u32, &[u8])],
        params: &[u8],
        out_handles: usize,
    ) -> Result<(Vec<u32>, Zeroizing<Vec<u8>>), ChipError> {
        let result = self.exchange_authorized(auths, code, handles, params, out_handles).await;
        if result.is_err() {
            // A refused command ends no session, and a lost answer leaves it open whether it did.
            for auth in auths {
                if let Auth::Session { session, .. } = auth {
                    self.flush(session.handle).await;
                }
            }
        }
        result
    }

    async fn exchange_authorized(
        &self,
        auths: &[Auth<'_>],
        code: u32,
        handles: &[(u32, &[u8])],
        params: &[u8],
        out_handles: usize,
    ) -> Result<(Vec<u32>, Zeroizing<Vec<u8>>), ChipError> {
        let malformed = ChipError::Malformed { ordinal: code };
        let mut params = Zeroizing::new(params.to_vec());
        if let Some(Auth::Session { session, secret, protect, .. }) = auths.first()
            && protect & session::DECRYPT != 0
            && let Some(buffer) = first_buffer(&mut params)
        {
            let cipher = session.cipher(secret, &session.nonce_caller, &session.nonce_tpm);
            aes_cfb_encrypt(&cipher.0, &cipher.1, buffer);
        }
        let mut names = Vec::new();
        let mut handle_area = Vec::new();
        for (handle, name) in handles {
            names.extend_from_slice(name);
            handle_area.extend_from_slice(&handle.to_be_bytes());
        }
        let cp_hash = sha256(&[&code.to_be_bytes(), &names, &params]);
        let mut area = Vec::new();
        for auth in auths {
            put_authorization(auth, &cp_hash, &mut Writer::new(&mut area));
        }
        let area_size = u32::try_from(area.len()).map_err(|_| malformed)?.to_be_bytes();
        let command = packet(ST_SESSIONS, code, &[&handle_area, &area_size, &area, &params]);
        let response = self.transmit(&command).await?;
        accept(&response, code, ST_SESSIONS)?;

        let body = response.get(HEADER_SIZE..).ok_or(malformed)?;
        let (out_handles, mut out, trailers) = read(body, code, |r| split_response(r, out_handles, auths.len()))?;
        let rp_hash = sha256(&[&0u32.to_be_bytes(), &code.to_be_bytes(), &out]);
        for (auth, trailer) in auths.iter().zip(&trailers) {
            if !is_authentic(auth, &rp_hash, *trailer) {
                return Err(ChipError::NotAuthentic { ordinal: code });
            }
        }
        if let (Some(Auth::Session { session, secret, protect, .. }), Some((nonce_tpm, ..))) =
            (auths.first(), trailers.first())
            && protect & session::ENCRYPT != 0
        {
            let cipher = session.cipher(secret, nonce_tpm, &session.nonce_caller);
            let buffer = first_buffer(&mut out).ok_or(malformed)?;
            aes_cfb_decrypt(&cipher.0, &cipher.1, buffer);
        }
        Ok((out_handles, out))
    }
}

/// TPMS_AUTH_COMMAND (part 2, section 10.13.2).
fn put_authorization(auth: &Auth<'_>, cp_hash: &[u8; 32], w: &mut Writer<'_>) {
    match auth {
        Auth::Empty => {
            w.u32(rh::PW).sized16(&[]).u8(session::CONTINUE).sized16(&[]);
        }
        Auth::Session { session, secret, keyed, protect } => {
            let key = session.key_with(if *keyed { secret } else { &[] });
            let hmac = hmac_sha256(&key, &[cp_hash, &session.nonce_caller, &session.nonce_tpm, &[*protect]]);
            w.u32(session.handle).sized16(&session.nonce_caller).u8(*protect).sized16(&hmac);
        }
    }
}

/// Checks TPMS_AUTH_RESPONSE (part 2, section 10.13.3).
fn is_authentic(auth: &Auth<'_>, rp_hash: &[u8; 32], (nonce_tpm, attributes, hmac): Trailer<'_>) -> bool {
    match auth {
        Auth::Empty => nonce_tpm.is_empty() && hmac.is_empty(),
        Auth::Session { session, secret, keyed, .. } => {
            let key = session.key_with(if *keyed { secret } else { &[] });
            let want = hmac_sha256(&key, &[rp_hash, nonce_tpm, &session.nonce_caller, &[attributes]]);
            nonce_tpm.len() == NONCE && ct_eq(&want, hmac)
        }
    }
}

/// Handles, parameters, and each session's trailer (part 1, section 18.8).
#[allow(clippy::type_complexity)] // three lists, taken apart at once by the only caller
fn split_response<'b>(
    r: &mut Reader<'b>,
    handles: usize,
    sessions: usize,
) -> Result<(Vec<u32>, Zeroizing<Vec<u8>>, Vec<Trailer<'b>>), Truncated> {
    let handles = (0..handles).map(|_| r.u32()).collect::<Result<_, _>>()?;
    let params = Zeroizing::new(r.sized32()?.to_vec());
    let trailers =
        (0..sessions).map(|_| Ok((r.sized16()?, r.u8()?, r.sized16()?))).collect::<Result<_, Truncated>>()?;
    Ok((handles, params, trailers))
}

/// The Name of a hierarchy: its handle.
pub(super) const fn permanent(handle: u32) -> [u8; 4] {
    handle.to_be_bytes()
}

/// The Name of an object, from its TPMT_PUBLIC.
pub(super) fn name_of(public: &[u8]) -> Name {
    let mut name = [0; 34];
    let (algorithm, digest) = name.split_at_mut(2);
    algorithm.copy_from_slice(&alg::SHA256.to_be_bytes());
    digest.copy_from_slice(&sha256(&[public]));
    name
}
