//! Authorization sessions (TPM Main 1.2, part 1, section 8): OIAP and OSAP, ADIP, and commands with one or two of them.
//!
//! A session is used for one command and ended by it, so nonces never roll; the price is one short command more for each.

use super::codes::{ord, rt};
use super::tunnel::Tunnel;
use super::{Chip, ChipError, accept, ended, short};
use alloc::vec::Vec;
use tpm_crypto::{Drbg, ct_eq, hmac_sha1, sha1};
use tpm_wire::{HEADER_SIZE, Reader, Transport, Writer, v12};
use zeroize::Zeroizing;

/// Bytes behind a response's parameters for each session: nonceEven, continueAuthSession, resAuth.
pub(super) const TRAILER: usize = 20 + 1 + 20;

/// `TPM_ENTITY_TYPE` with the XOR form of ADIP (part 2, section 4.3).
#[derive(Clone, Copy)]
pub enum Entity {
    /// A loaded key.
    Key(u32),
    /// The storage root key.
    Srk,
    /// The owner.
    Owner,
}

/// A session, good for one command.
pub struct Session {
    pub(super) handle: u32,
    pub(super) nonce_even: [u8; 20],
    pub(super) nonce_odd: [u8; 20],
    /// The HMAC key: the entity's secret (OIAP), the shared secret derived from it (OSAP), or a transport session's own.
    pub(super) key: Zeroizing<[u8; 20]>,
}

impl Session {
    /// The first new secret of a command, encrypted (ADIP; part 1, section 8.6): mask from nonceEven.
    pub fn encrypt_first(&self, secret: &[u8; 20]) -> [u8; 20] {
        self.mask(&self.nonce_even, secret)
    }

    /// The second one: mask from nonceOdd.
    pub fn encrypt_second(&self, secret: &[u8; 20]) -> [u8; 20] {
        self.mask(&self.nonce_odd, secret)
    }

    fn mask(&self, nonce: &[u8; 20], secret: &[u8; 20]) -> [u8; 20] {
        let mask = Zeroizing::new(sha1(&[self.key.as_slice(), nonce]));
        core::array::from_fn(|i| secret[i] ^ mask[i])
    }

    /// inAuth: HMAC over the digest of the command and the nonces, with continueAuthSession false.
    fn authorize(&self, digest: &[u8; 20]) -> [u8; 20] {
        hmac_sha1(self.key.as_slice(), &[digest, &self.nonce_even, &self.nonce_odd, &[0]])
    }

    /// The session's part of a command with this digest: handle, nonceOdd, continueAuthSession, inAuth.
    pub(super) fn put(&self, w: &mut Writer<'_>, digest: &[u8; 20]) {
        w.u32(self.handle).bytes(&self.nonce_odd).u8(0).bytes(&self.authorize(digest));
    }

    /// Checks resAuth with the new nonceEven that came with it.
    pub(super) fn verify(&self, digest: &[u8; 20], trailer: &[u8; TRAILER]) -> bool {
        let (rest, auth) = trailer.split_at(21);
        let (nonce_even, going_on) = rest.split_at(20);
        ct_eq(&hmac_sha1(self.key.as_slice(), &[digest, nonce_even, &self.nonce_odd, going_on]), auth)
    }
}

impl<T: Transport> Chip<'_, T> {
    /// Opens an object-independent session for an entity with the secret `auth` (part 3, section 18.1).
    pub(super) async fn oiap(&self, auth: &[u8; 20], rng: &mut Drbg) -> Result<Session, ChipError> {
        let out = self.call(ord::OIAP, &[]).await?;
        let mut r = Reader::new(&out);
        let (handle, nonce_even) = (r.u32().map_err(short(ord::OIAP))?, r.array().map_err(short(ord::OIAP))?);
        ended(&r, ord::OIAP)?;
        Ok(Session { handle, nonce_even, nonce_odd: rng.bytes(), key: Zeroizing::new(*auth) })
    }

    /// Opens an object-specific session (part 3, section 18.2).
    pub(super) async fn osap(&self, entity: Entity, auth: &[u8; 20], rng: &mut Drbg) -> Result<Session, ChipError> {
        let (kind, value) = match entity {
            Entity::Key(handle) => (0x0001, handle),
            Entity::Srk => (0x0004, super::codes::KH_SRK),
            Entity::Owner => (0x0002, super::codes::KH_OWNER),
        };
        let nonce_odd_osap: [u8; 20] = rng.bytes();
        let mut params = Vec::new();
        Writer::new(&mut params).u16(kind).u32(value).bytes(&nonce_odd_osap);
        let out = self.call(ord::OSAP, &params).await?;
        let mut r = Reader::new(&out);
        let handle = r.u32().map_err(short(ord::OSAP))?;
        let nonce_even = r.array().map_err(short(ord::OSAP))?;
        let nonce_even_osap: [u8; 20] = r.array().map_err(short(ord::OSAP))?;
        ended(&r, ord::OSAP)?;
        let key = Zeroizing::new(hmac_sha1(auth, &[&nonce_even_osap, &nonce_odd_osap]));
        Ok(Session { handle, nonce_even, nonce_odd: rng.bytes(), key })
    }

    /// A command with one or two sessions: `handles` go in front of `params` and are not part of the digest. Returns the
    /// response's parameters after its first `out_handles` handles (these, too, are outside the digest), once every
    /// session's HMAC has been found right; the handles come first in the returned pair.
    pub(super) async fn call_authorized<const S: usize>(
        &self,
        sessions: [Session; S],
        ordinal: u32,
        handles: &[u32],
        params: &[u8],
        out_handles: usize,
    ) -> Result<(Vec<u32>, Zeroizing<Vec<u8>>), ChipError> {
        self.call_authorized_through(None, sessions, ordinal, handles, params, out_handles).await
    }

    /// As [`Self::call_authorized`], through a transport session if there is one.
    pub(super) async fn call_authorized_through<const S: usize>(
        &self,
        tunnel: Option<Tunnel>,
        sessions: [Session; S],
        ordinal: u32,
        handles: &[u32],
        params: &[u8],
        out_handles: usize,
    ) -> Result<(Vec<u32>, Zeroizing<Vec<u8>>), ChipError> {
        let result = self.exchange_authorized(tunnel, &sessions, ordinal, handles, params, out_handles).await;
        if result.is_err() {
            // The chip ends a session with every refusal, but not when it never understood the command or when the
            // answer was lost: sessions are few, so none is left behind.
            for session in &sessions {
                let _ = self.flush(session.handle, rt::AUTH).await;
            }
        }
        result
    }

    /// Ends a session that is not going to be used.
    pub(super) async fn abandon(&self, session: Session) {
        // A chip that does not answer is noticed by the next command.
        let _ = self.flush(session.handle, rt::AUTH).await;
    }

    async fn exchange_authorized(
        &self,
        tunnel: Option<Tunnel>,
        sessions: &[Session],
        ordinal: u32,
        handles: &[u32],
        params: &[u8],
        out_handles: usize,
    ) -> Result<(Vec<u32>, Zeroizing<Vec<u8>>), ChipError> {
        let (tag, response_tag) = match sessions.len() {
            1 => (v12::TAG_RQU_AUTH1_COMMAND, v12::TAG_RSP_AUTH1_COMMAND),
            _ => (v12::TAG_RQU_AUTH2_COMMAND, v12::TAG_RSP_AUTH2_COMMAND),
        };
        let digest = sha1(&[&ordinal.to_be_bytes(), params]);
        // Room for everything at once: a vector that grows leaves copies of a secret behind.
        let mut body = Zeroizing::new(Vec::with_capacity(4 * handles.len() + params.len() + 45 * sessions.len()));
        let mut w = Writer::new(&mut body);
        for handle in handles {
            w.u32(*handle);
        }
        w.bytes(params);
        for session in sessions {
            session.put(&mut w, &digest);
        }
        let packet = self.packet(tag, ordinal, &body);
        let data = HEADER_SIZE + 4 * handles.len()..packet.len() - 45 * sessions.len();
        let mut response = match tunnel {
            Some(tunnel) => self.send_through(tunnel, &packet, data, sessions.len()).await?,
            None => self.transmit(&packet).await?,
        };
        accept(&response, ordinal, response_tag)?;

        let malformed = ChipError::Malformed { ordinal };
        let (_, body) = response.split_at_checked(HEADER_SIZE).ok_or(malformed)?;
        let end = body.len().checked_sub(TRAILER * sessions.len()).ok_or(malformed)?;
        let (front, trailers) = body.split_at_checked(end).ok_or(malformed)?;
        let (handle_bytes, out) = front.split_at_checked(4 * out_handles).ok_or(malformed)?;
        let digest = sha1(&[&0u32.to_be_bytes(), &ordinal.to_be_bytes(), out]);
        for (session, trailer) in sessions.iter().zip(trailers.as_chunks::<TRAILER>().0) {
            if !session.verify(&digest, trailer) {
                return Err(ChipError::NotAuthentic { ordinal });
            }
        }
        let handles = handle_bytes.as_chunks::<4>().0.iter().map(|h| u32::from_be_bytes(*h)).collect();
        let start = HEADER_SIZE + 4 * out_handles;
        let length = out.len();
        response.drain(..start);
        response.truncate(length);
        Ok((handles, response))
    }
}
