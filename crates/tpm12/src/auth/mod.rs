//! Authorization in one place: verifying a command's HMACs, decrypting new authorizations (ADIP), authorizing the response.

pub(crate) mod lockout;
pub(crate) mod session;

use crate::call::{Call, Proof};
use crate::codes::{self, Code};
use crate::structs::key::{AUTH_NEVER, AUTH_PRIV_USE_ONLY, Key};
use crate::structs::{AuthData, Digest, Nonce};
use crate::tpm::Tpm;
use session::{ENC_AES128_CTR, ENC_XOR, Entity, PID_OIAP, PID_TRANSPORT, Session};
use tpm_crypto::{aes_ctr, ct_eq, hmac_sha1, sha1};
use tpm_wire::Writer;
use zeroize::Zeroizing;

/// Which sessions a command takes.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Protocol {
    /// Any.
    Any,
    /// OIAP only.
    Oiap,
    /// OSAP or DSAP: the command needs the shared secret.
    Osap,
}

/// What a key is about to be used for, as far as authorization cares.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum KeyUse {
    /// Its private part.
    Private,
    /// Its public part only.
    Public,
}

impl Tpm {
    /// Verifies the `index`th authorization of a command against the secret of an entity.
    pub(crate) fn authorize(
        &mut self,
        call: &mut Call<'_>,
        index: usize,
        secret: &AuthData,
        entity: &Entity,
        protocol: Protocol,
    ) -> Result<(), Code> {
        let failed = if index == 0 { codes::AUTHFAIL } else { codes::AUTH2FAIL };
        let auth = call.auths.get(index).copied().flatten().ok_or(codes::BADTAG)?;
        self.check_lockout()?;
        let session = self.session(auth.handle)?.clone();
        let twice =
            index == 1 && call.auths.first().copied().flatten().is_some_and(|first| first.handle == auth.handle);
        if twice {
            return Err(codes::INVALID_AUTHHANDLE);
        }
        let oiap = session.protocol == PID_OIAP;
        if protocol == Protocol::Oiap && !oiap || protocol == Protocol::Osap && oiap {
            return Err(codes::BAD_MODE);
        }
        // An owner pointer makes a delegation of what an OIAP session takes for the owner.
        let pointed = self.owner_pointer_delegation().filter(|_| oiap && *entity == Entity::OWNER);
        let (key, delegation) = match pointed {
            Some((public, secret)) => (secret, Some(public)),
            None if oiap => (secret.clone(), None),
            None if session.entity != *entity => return Err(failed),
            None => (session.shared.clone(), session.delegation.clone()),
        };
        if let Some(delegation) = &delegation {
            self.check_delegation(delegation, call.ordinal, entity, call.locality)?;
        }
        let proof = Proof { delegation, ..Proof::new(&session, auth, key) };
        if !ct_eq(&proof.hmac(&call.in_digest, &session.nonce_even), &auth.hmac) {
            self.count_failure();
            return Err(failed);
        }
        if let Some(place) = call.proofs.get_mut(index) {
            *place = Some(proof);
        }
        Ok(())
    }

    /// Verifies the owner's authorization as the `index`th of a command.
    pub(crate) fn authorize_owner(&mut self, call: &mut Call<'_>, index: usize) -> Result<(), Code> {
        self.authorize_owner_by(call, index, Protocol::Any)
    }

    /// The same with a session of a given kind.
    pub(crate) fn authorize_owner_by(
        &mut self,
        call: &mut Call<'_>,
        index: usize,
        protocol: Protocol,
    ) -> Result<(), Code> {
        let secret = self.permanent.owner_auth.clone().ok_or(codes::AUTHFAIL)?;
        self.authorize(call, index, &secret, &Entity::OWNER, protocol)
    }

    /// Verifies the authorization to use a key as the `index`th of a command. A command without it may use a key that needs
    /// none (part 2, section 5.9).
    pub(crate) fn authorize_key(
        &mut self,
        call: &mut Call<'_>,
        index: usize,
        key: &Key,
        usage: KeyUse,
    ) -> Result<(), Code> {
        self.authorize_key_by(call, index, key, usage, Protocol::Any)
    }

    /// The same with a session of a given kind.
    pub(crate) fn authorize_key_by(
        &mut self,
        call: &mut Call<'_>,
        index: usize,
        key: &Key,
        usage: KeyUse,
        protocol: Protocol,
    ) -> Result<(), Code> {
        if call.auths.get(index).copied().flatten().is_none() {
            return needs_no_auth(key, usage);
        }
        if self.is_restricted_delegation(call, index, key)? {
            return Err(codes::INVALID_KEYUSAGE);
        }
        self.authorize(call, index, &key.usage_auth, &Entity::key(key.pub_data_digest), protocol)
    }

    /// Authorizes the use of two keys. With two authorizations each has its own; with one it is the second key's; a key
    /// without one must need none.
    pub(crate) fn authorize_keys(
        &mut self,
        call: &mut Call<'_>,
        first: (&Key, KeyUse),
        second: (&Key, KeyUse),
    ) -> Result<(), Code> {
        let both = call.has_auths(2);
        if both {
            self.authorize_key(call, 0, first.0, first.1)?;
        } else {
            needs_no_auth(first.0, first.1)?;
        }
        self.authorize_key(call, usize::from(both), second.0, second.1)
    }

    /// Appends the authorization of the response for every proof, rolls the nonces, ends what is to end.
    pub(crate) fn authorize_response(
        &mut self,
        call: &Call<'_>,
        out_digest: &Digest,
        response: &mut alloc::vec::Vec<u8>,
    ) {
        for proof in call.proofs.iter().flatten() {
            let nonce_even: Nonce = proof.next_even.unwrap_or_else(|| self.rng.bytes());
            let hmac = proof.hmac(out_digest, &nonce_even);
            Writer::new(response).bytes(&nonce_even).u8(proof.keep.into()).bytes(&hmac);
            if proof.protocol == PID_TRANSPORT {
                match self.volatile.transports.iter_mut().find(|session| session.handle == proof.handle) {
                    Some(session) if proof.keep => session.nonce_even = nonce_even,
                    _ => self.end_transport(proof.handle),
                }
                continue;
            }
            match self.volatile.sessions.iter_mut().find(|session| session.handle == proof.handle) {
                Some(session) if proof.keep => session.nonce_even = nonce_even,
                _ => self.close_session(proof.handle),
            }
        }
    }
}

impl Proof {
    fn new(session: &Session, auth: crate::call::AuthIn, key: AuthData) -> Self {
        Self {
            handle: auth.handle,
            key,
            nonce_even: session.nonce_even,
            nonce_odd: auth.nonce_odd,
            keep: auth.keep,
            protocol: session.protocol,
            adip: session.adip,
            next_even: None,
            delegation: None,
        }
    }

    /// The HMAC over a parameter digest (part 1, section 18).
    pub(crate) fn hmac(&self, digest: &Digest, nonce_even: &Nonce) -> Digest {
        hmac_sha1(&*self.key, &[digest, nonce_even, &self.nonce_odd, &[self.keep.into()]])
    }

    /// Decrypts a new authorization (ADIP; part 1, section 18.6). The first of a command is masked with the even nonce,
    /// the second with the odd one. The session ends with the command.
    pub(crate) fn decrypt(&mut self, encrypted: &[u8; 20], second: bool) -> Result<AuthData, Code> {
        if self.protocol == PID_OIAP {
            return Err(codes::BAD_MODE);
        }
        self.keep = false;
        let nonce = if second { &self.nonce_odd } else { &self.nonce_even };
        adip(self.adip, &self.key, nonce, encrypted)
    }
}

/// `TPM_AUTHFAIL` unless a key may be used without its authorization (`TPM_AUTH_DATA_USAGE`, part 2, section 5.9).
pub(crate) fn needs_no_auth(key: &Key, usage: KeyUse) -> Result<(), Code> {
    match (key.blob.auth_data_usage, usage) {
        (AUTH_NEVER, _) | (AUTH_PRIV_USE_ONLY, KeyUse::Public) => Ok(()),
        _ => Err(codes::AUTHFAIL),
    }
}

/// One direction of ADIP is the other.
pub(crate) fn adip(scheme: u8, shared: &AuthData, nonce: &Nonce, data: &[u8; 20]) -> Result<AuthData, Code> {
    let mut out = Zeroizing::new(*data);
    match scheme {
        ENC_XOR => {
            let mask = Zeroizing::new(sha1(&[&**shared, nonce]));
            out.iter_mut().zip(mask.iter()).for_each(|(byte, mask)| *byte ^= mask);
        }
        ENC_AES128_CTR => {
            let (mut key, mut iv) = (Zeroizing::new([0; 16]), [0; 16]);
            key.iter_mut().zip(shared.iter()).for_each(|(to, from)| *to = *from);
            iv.iter_mut().zip(nonce).for_each(|(to, from)| *to = *from);
            aes_ctr(&key, &iv, &mut *out);
        }
        _ => return Err(codes::FAIL),
    }
    Ok(out)
}

/// The shared secret of an OSAP or DSAP session (part 3, section 18.2).
pub(crate) fn shared_secret(secret: &AuthData, even: &Nonce, odd: &Nonce) -> AuthData {
    Zeroizing::new(hmac_sha1(&**secret, &[even, odd]))
}

/// Whether an ADIP scheme is known.
pub(crate) fn known_scheme(scheme: u8) -> bool {
    matches!(scheme, ENC_XOR | ENC_AES128_CTR)
}

#[cfg(test)]
mod tests;
