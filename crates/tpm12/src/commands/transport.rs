//! Transport sessions (part 3, section 24).

use crate::auth::KeyUse;
use crate::auth::session::{HandleKind, PID_TRANSPORT};
use crate::call::{Call, Done, Proof, Stop, Wrapped};
use crate::codes::{self, Code};
use crate::commands::capability::MAX_TRANSPORTS;
use crate::commands::crypto::sign_info;
use crate::commands::eviction::RT_KEY;
use crate::commands::timing::CurrentTicks;
use crate::dispatch::table::{self, Command, ord};
use crate::dispatch::{self, Outcome, Supplies};
use crate::structs::key::{
    ALG_AES128, ALG_MGF1, ES_SYM_CTR, ES_SYM_OFB, KEY_LEGACY, KEY_SIGNING, KEY_STORAGE, SS_INFO, SS_SHA1,
};
use crate::structs::{AuthData, Digest, Nonce};
use crate::tpm::{KH_EK, KH_TRANSPORT, Tpm};
use crate::wire::{Tag, Wire, wire_struct};
use alloc::vec::Vec;
use core::ops::Range;
use tpm_crypto::{aes_ctr, aes_ofb, ct_eq, mgf1_sha1, sha1};
use tpm_wire::v12::TAG_RQU_COMMAND;
use tpm_wire::{HEADER_SIZE, Reader, ResponseHeader};
use zeroize::Zeroizing;

/// `TPM_TRANSPORT_ENCRYPT`.
const ENCRYPT: u32 = 1;
/// `TPM_TRANSPORT_LOG`.
const LOG: u32 = 2;
/// `TPM_TRANSPORT_EXCLUSIVE`.
const EXCLUSIVE: u32 = 4;

wire_struct! {
    /// `TPM_TRANSPORT_PUBLIC` (part 2, section 13.1).
    #[derive(Clone)]
    pub(crate) struct TransportPublic {
        tag: Tag<0x001e>,
        attributes: u32,
        algorithm: u32,
        scheme: u16,
    }
}

wire_struct! {
    /// `TPM_TRANSPORT_INTERNAL` (part 2, section 13.2).
    #[derive(Clone)]
    pub(crate) struct TransportSession {
        handle: u32,
        auth: AuthData,
        public: TransportPublic,
        nonce_even: Nonce,
        log: Digest,
    }
}

wire_struct! {
    /// `TPM_TRANSPORT_AUTH` (part 2, section 13.5).
    pub(crate) struct TransportAuth {
        tag: Tag<0x001d>,
        auth: AuthData,
    }
}

impl TransportSession {
    fn has(&self, attribute: u32) -> bool {
        self.public.attributes & attribute != 0
    }

    /// Adds a `TPM_TRANSPORT_LOG_IN` (part 2, section 13.3).
    fn log_in(&mut self, parameters: &Digest, keys: &Digest) {
        if self.has(LOG) {
            self.log = sha1(&[&self.log, &[0x00, 0x10], parameters, keys]);
        }
    }

    /// Adds a `TPM_TRANSPORT_LOG_OUT` (part 2, section 13.4).
    fn log_out(&mut self, ticks: &CurrentTicks, parameters: &Digest, locality: u8) {
        if self.has(LOG) {
            let locality = u32::from(locality).to_be_bytes();
            self.log = sha1(&[&self.log, &[0x00, 0x11], &ticks.to_bytes(), parameters, &locality]);
        }
    }

    /// Encrypts or decrypts parameters in one direction (`in` or `out`).
    fn crypt(&self, even: &Nonce, odd: &Nonce, direction: &[u8], data: &mut [u8]) {
        match self.public.algorithm {
            _ if !self.has(ENCRYPT) => {}
            ALG_MGF1 => mgf1_sha1(&[even, odd, direction, &*self.auth], data),
            _ => {
                let (mut key, mut iv) = (Zeroizing::new([0; 16]), [0; 16]);
                key.iter_mut().zip(self.auth.iter()).for_each(|(to, from)| *to = *from);
                mgf1_sha1(&[even, odd, direction], &mut iv);
                let cipher = if self.public.scheme == ES_SYM_OFB { aes_ofb } else { aes_ctr };
                cipher(&key, &iv, data);
            }
        }
    }
}

impl Tpm {
    /// The session with this handle.
    pub(crate) fn transport(&self, handle: u32) -> Result<&TransportSession, Code> {
        self.volatile.transports.iter().find(|session| session.handle == handle).ok_or(codes::INVALID_AUTHHANDLE)
    }

    /// Ends a session if it is there.
    pub(crate) fn end_transport(&mut self, handle: u32) {
        self.volatile.transports.retain(|session| session.handle != handle);
        if self.volatile.exclusive == handle {
            self.volatile.exclusive = 0;
        }
    }

    /// Verifies the transport session's own authorization, the `index`th of a command, over a digest.
    fn authorize_transport(
        &mut self,
        call: &mut Call<'_>,
        index: usize,
        session: &TransportSession,
        digest: &Digest,
    ) -> Result<(), Code> {
        let auth = call.auths.get(index).copied().flatten().ok_or(codes::BADTAG)?;
        self.check_lockout()?;
        let proof = Proof {
            handle: session.handle,
            key: session.auth.clone(),
            nonce_even: session.nonce_even,
            nonce_odd: auth.nonce_odd,
            keep: auth.keep,
            protocol: PID_TRANSPORT,
            adip: 0,
            next_even: Some(self.rng.bytes()),
            delegation: None,
        };
        if !ct_eq(&proof.hmac(digest, &session.nonce_even), &auth.hmac) {
            self.count_failure();
            return Err(if index == 0 { codes::AUTHFAIL } else { codes::AUTH2FAIL });
        }
        if let Some(place) = call.proofs.get_mut(index) {
            *place = Some(proof);
        }
        Ok(())
    }

    /// `pubKeyHash` of a log entry: the keys that a wrapped command names.
    fn key_hash(&self, command: &Command, handles: &[u32], data: &[u8]) -> Result<Digest, Code> {
        let digest = |handle: u32| -> Result<Digest, Code> {
            let modulus = match handle {
                KH_EK => self.pubek()?.modulus,
                _ => self.key(handle)?.blob.modulus.clone(),
            };
            // `TPM_STORE_PUBKEY`.
            Ok(sha1(&[&(modulus.len() as u32).to_be_bytes(), &modulus]))
        };
        let first_word = || Reader::new(data).u32();
        let names_key = match command.ordinal {
            ord::FLUSH_SPECIFIC | ord::SAVE_CONTEXT => first_word() == Ok(RT_KEY),
            _ => command.keys > 0,
        };
        match (handles, command.ordinal) {
            (_, ord::OWNER_READ_INTERNAL_PUB) => Ok(sha1(&[&digest(first_word()?)?])),
            (&[handle], _) if names_key => Ok(sha1(&[&digest(handle)?])),
            (&[one, two], _) if names_key => Ok(sha1(&[&digest(one)?, &digest(two)?])),
            _ => Ok([0; 20]),
        }
    }
}

/// `TPM_EstablishTransport` (section 24.1).
pub(crate) fn tpm_establish_transport(tpm: &mut Tpm, call: &mut Call<'_>) -> Done {
    let public: TransportPublic = call.get()?;
    let secret: Zeroizing<Vec<u8>> = call.only()?;
    let [handle, _] = call.handles;
    let encrypts = public.attributes & ENCRYPT != 0;
    let auth = if handle == KH_TRANSPORT {
        if !call.has_auths(0) {
            return Err(codes::BADTAG.into());
        }
        if encrypts {
            return Err(codes::BAD_SCHEME.into());
        }
        AuthData::from_bytes(&secret, codes::BAD_PARAM_SIZE)?
    } else {
        let key = tpm.key_to_use(handle, call.locality)?;
        if ![KEY_STORAGE, KEY_LEGACY].contains(&key.blob.usage) {
            return Err(codes::INVALID_KEYUSAGE.into());
        }
        tpm.authorize_key(call, 0, &key, KeyUse::Private)?;
        let plain = key.rsa.decrypt_oaep(&mut tpm.rng, &secret).map_err(|_| codes::DECRYPT_ERROR)?;
        TransportAuth::from_bytes(&plain, codes::INVALID_STRUCTURE)?.auth
    };
    if encrypts {
        match public.algorithm {
            ALG_MGF1 => {}
            ALG_AES128 if [ES_SYM_CTR, ES_SYM_OFB].contains(&public.scheme) => {}
            ALG_AES128 => return Err(codes::INAPPROPRIATE_ENC.into()),
            _ => return Err(codes::BAD_KEY_PROPERTY.into()),
        }
    }
    if tpm.volatile.transports.len() >= MAX_TRANSPORTS {
        return Err(codes::RESOURCES.into());
    }
    let handle = tpm.new_handle(HandleKind::Transport);
    let nonce_even: Nonce = tpm.rng.bytes();
    let (ticks, locality) = (tpm.ticks(), u32::from(call.locality).to_be_bytes());
    let parameters = sha1(&[
        &ord::ESTABLISH_TRANSPORT.to_be_bytes(),
        &public.to_bytes(),
        &(secret.len() as u32).to_be_bytes(),
        &secret,
    ]);
    let mut session = TransportSession { handle, auth, public, nonce_even, log: [0; 20] };
    session.log_in(&parameters, &[0; 20]);
    let ordinal = ord::ESTABLISH_TRANSPORT.to_be_bytes();
    let out = sha1(&[&[0; 4], &ordinal, &locality, &ticks.to_bytes(), &nonce_even]);
    session.log_out(&ticks, &out, call.locality);
    // Establishing one ends an exclusive session like any other command does.
    tpm.end_transport(tpm.volatile.exclusive);
    if session.has(EXCLUSIVE) {
        tpm.volatile.exclusive = handle;
    }
    tpm.volatile.transports.push(session);
    call.out_handle = Some(handle);
    call.put(&locality).put(&ticks).put(&nonce_even);
    Ok(())
}

/// A wrapped command or response, taken apart: the table's row, its handles, and where the data is that is encrypted and logged.
struct Parts {
    command: &'static Command,
    handles: Vec<u32>,
    data: Range<usize>,
}

/// Section 24.2, action 2.
fn take_apart(packet: &[u8]) -> Result<Parts, Code> {
    let mut r = Reader::new(packet);
    let (tag, size, ordinal) = (r.u16()?, r.u32()?, r.u32()?);
    let command = table::known(ordinal).ok_or(codes::BAD_PARAMETER)?;
    let auths = tag.checked_sub(TAG_RQU_COMMAND).filter(|auths| *auths <= 2).ok_or(codes::BAD_PARAMETER)?;
    let handles = (0..command.handles).map(|_| r.u32()).collect::<Result<Vec<u32>, _>>()?;
    let end = packet.len().checked_sub(usize::from(auths) * crate::call::AUTH_IN_SIZE);
    let start = HEADER_SIZE + command.handles * 4;
    let start = match ordinal {
        ord::OIAP | ord::OSAP => packet.len(),
        // Only what names the delegation is encrypted: after type, handle, nonce and size.
        ord::DSAP => HEADER_SIZE + 30,
        _ => start,
    };
    let data = end.filter(|end| start <= *end).map(|end| start..end).ok_or(codes::BAD_PARAMETER)?;
    if size as usize == packet.len() { Ok(Parts { command, handles, data }) } else { Err(codes::BAD_PARAMETER) }
}

/// Where a response's data is, by the same rules.
fn response_data(command: &Command, response: &[u8]) -> Range<usize> {
    let (code, tag) = match ResponseHeader::parse(response) {
        Ok((header, _)) => (header.code.get(), header.tag.get()),
        Err(_) => return 0..0,
    };
    let skip = match command.ordinal {
        ord::OIAP | ord::OSAP | ord::DSAP => response.len(),
        ord::LOAD_KEY2 | ord::LOAD_CONTEXT | ord::LOAD_KEY_CONTEXT | ord::LOAD_AUTH_CONTEXT => HEADER_SIZE + 4,
        _ => HEADER_SIZE,
    };
    let trailer = usize::from(tag.saturating_sub(tpm_wire::v12::TAG_RSP_COMMAND)) * crate::call::AUTH_OUT_SIZE;
    match response.len().checked_sub(trailer) {
        Some(end) if code == 0 && skip <= end => skip..end,
        _ => response.len()..response.len(),
    }
}

/// `TPM_ExecuteTransport` (section 24.2).
pub(crate) fn tpm_execute_transport(tpm: &mut Tpm, call: &mut Call<'_>) -> Done {
    let wrapped: Zeroizing<Vec<u8>> = call.only()?;
    let auth = call.auths.first().copied().flatten().ok_or(codes::BADTAG)?;
    let mut session = tpm.transport(auth.handle)?.clone();
    let parts = take_apart(&wrapped)?;
    let (even, odd) = (session.nonce_even, auth.nonce_odd);
    let mut inner = Zeroizing::new(wrapped.to_vec());
    session.crypt(&even, &odd, b"in", inner.get_mut(parts.data.clone()).unwrap_or_default());
    let data = inner.get(parts.data.clone()).unwrap_or_default();
    let inner_ordinal = parts.command.ordinal.to_be_bytes();
    let h1 = sha1(&[&inner_ordinal, data]);
    call.in_digest = sha1(&[&call.ordinal.to_be_bytes(), &(wrapped.len() as u32).to_be_bytes(), &h1]);
    let digest = call.in_digest;
    tpm.authorize_transport(call, 0, &session, &digest)?;
    if [ord::ESTABLISH_TRANSPORT, ord::EXECUTE_TRANSPORT, ord::RELEASE_TRANSPORT_SIGNED]
        .contains(&parts.command.ordinal)
    {
        return Err(codes::NO_WRAP_TRANSPORT.into());
    }
    if session.has(LOG) {
        let keys = tpm.key_hash(parts.command, &parts.handles, data)?;
        session.log_in(&h1, &keys);
    }
    let around = Wrapped { handle: session.handle, encrypted: session.has(ENCRYPT) };
    let supplies = Supplies { key: call.new_key.take(), parent_answer: call.parent_answer.take() };
    let mut response = match dispatch::run(tpm, call.locality, &inner, supplies, Some(around)) {
        Outcome::Response(response) => response,
        Outcome::NeedsKey { bits, exponent } => return Err(Stop::NeedsKey { bits, exponent }),
        Outcome::NeedsParent(quote) => return Err(Stop::NeedsParent(quote)),
    };
    let ticks = tpm.ticks();
    let data = response_data(parts.command, &response);
    let code = response.get(6..10).unwrap_or_default().to_vec();
    let h2 = sha1(&[&code, &inner_ordinal, response.get(data.clone()).unwrap_or_default()]);
    session.log_out(&ticks, &h2, call.locality);
    let (now, locality) = (ticks.ticks.to_be_bytes(), u32::from(call.locality).to_be_bytes());
    let size = (response.len() as u32).to_be_bytes();
    call.out_digest = Some(sha1(&[&[0; 4], &call.ordinal.to_be_bytes(), &now, &locality, &size, &h2]));
    let proof = call.proofs.first_mut().and_then(Option::as_mut).ok_or(codes::FAIL)?;
    let next_even = proof.next_even.ok_or(codes::FAIL)?;
    session.crypt(&next_even, &odd, b"out", response.get_mut(data).unwrap_or_default());
    // The command inside may have ended the session.
    match tpm.volatile.transports.iter_mut().find(|known| known.handle == session.handle) {
        Some(known) => known.log = session.log,
        None => proof.keep = false,
    }
    call.put(&now).put(&locality).put_sized(&response);
    Ok(())
}

/// `TPM_ReleaseTransportSigned` (section 24.3).
pub(crate) fn tpm_release_transport_signed(tpm: &mut Tpm, call: &mut Call<'_>) -> Done {
    let replay: Nonce = call.only()?;
    let [handle, _] = call.handles;
    let key = tpm.key_to_use(handle, call.locality)?;
    if ![SS_SHA1, SS_INFO].contains(&key.blob.parms.sig_scheme) {
        return Err(codes::INAPPROPRIATE_SIG.into());
    }
    let index = usize::from(call.has_auths(2));
    if index == 1 {
        tpm.authorize_key(call, 0, &key, KeyUse::Private)?;
    } else {
        crate::auth::needs_no_auth(&key, KeyUse::Private)?;
    }
    if key.blob.usage != KEY_SIGNING {
        return Err(codes::INVALID_KEYUSAGE.into());
    }
    let auth = call.auths.get(index).copied().flatten().ok_or(codes::BADTAG)?;
    let mut session = tpm.transport(auth.handle)?.clone();
    let digest = call.in_digest;
    tpm.authorize_transport(call, index, &session, &digest)?;
    if !session.has(LOG) {
        return Err(codes::BAD_MODE.into());
    }
    let ticks = tpm.ticks();
    session.log_out(&ticks, &sha1(&[&call.ordinal.to_be_bytes(), &replay]), call.locality);
    let signature = tpm.sign_digest(&key, &sha1(&[&sign_info(*b"TRAN", &replay, &session.log)]))?;
    call.end_session(index);
    call.put(&u32::from(call.locality)).put(&ticks).put(&signature);
    Ok(())
}

#[cfg(test)]
mod tests;
