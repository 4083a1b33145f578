//! Transport sessions (TPM Main 1.2, part 1, section 18; part 3, section 24): what passes through one is encrypted, and its
//! answer is authentic even where the command itself has no authorization.
//!
//! A secret is sealed and unsealed through one, so that it cannot be read between the manager and the chip; the value of
//! a counter is read through one, so that it cannot be forged there. The session's own secret goes to the chip encrypted with the public part of
//! the storage key, whose private part only the chip can use. As other sessions, it is good for one command.

use super::codes::{ord, rt};
use super::identity::public_of;
use super::ownership::rsa_pubkey;
use super::session::{Session, TRAILER};
use super::{Chip, ChipError, StorageKey, accept, ended, short};
use alloc::vec::Vec;
use core::ops::Range;
use tpm_crypto::rsa::RsaPublic;
use tpm_crypto::{Drbg, mgf1_sha1, sha1};
use tpm_wire::{HEADER_SIZE, Reader, ResponseHeader, Transport, Writer, v12};
use zeroize::Zeroizing;

/// TPM_TRANSPORT_PUBLIC (part 2, section 13.1): TPM_TRANSPORT_ENCRYPT with TPM_ALG_MGF1, the cipher that every chip has, and
/// TPM_ES_NONE.
const PUBLIC: [u8; 12] = [0x00, 0x1e, 0, 0, 0, 1, 0, 0, 0, 7, 0, 1];
/// The tag of TPM_TRANSPORT_AUTH (part 2, section 13.5).
const TAG_TRANSPORT_AUTH: [u8; 2] = [0x00, 0x1d];

/// A transport session, good for one command.
pub(super) struct Tunnel(Session);

impl Tunnel {
    /// Encrypts or decrypts in place what goes in the direction `in` or `out`.
    fn crypt(&self, nonce_even: &[u8; 20], direction: &[u8], data: &mut [u8]) {
        mgf1_sha1(&[nonce_even, &self.0.nonce_odd, direction, self.0.key.as_slice()], data);
    }
}

impl<T: Transport> Chip<'_, T> {
    /// Opens a transport session under the loaded storage key.
    pub(super) async fn tunnel(&self, handle: u32, key: &StorageKey, rng: &mut Drbg) -> Result<Tunnel, ChipError> {
        const ORDINAL: u32 = ord::ESTABLISH_TRANSPORT;
        let secret = Zeroizing::new(rng.bytes::<20>());
        let mut plain = Zeroizing::new(Vec::with_capacity(22));
        Writer::new(&mut plain).bytes(&TAG_TRANSPORT_AUTH).bytes(&secret[..]);
        // The key was parsed by the chip when it was loaded.
        let bad = ChipError::Malformed { ordinal: ord::CREATE_WRAP_KEY };
        let public = public_of(&key.blob).map_err(|_| bad)?;
        let (modulus, exponent) = rsa_pubkey(&public).map_err(|_| bad)?;
        let encrypted =
            RsaPublic::new(modulus, exponent).and_then(|key| key.encrypt_oaep(rng, &plain)).map_err(|_| bad)?;

        let session = self.oiap(&key.auth.0, rng).await?;
        let mut params = Vec::new();
        Writer::new(&mut params).bytes(&PUBLIC).sized32(&encrypted);
        let (handles, out) = self.call_authorized([session], ORDINAL, &[handle], &params, 1).await?;
        let handle = handles.first().copied().ok_or(ChipError::Malformed { ordinal: ORDINAL })?;
        // Locality, TPM_CURRENT_TICKS, transNonceEven.
        let mut r = Reader::new(&out);
        r.bytes(4 + 32).map_err(short(ORDINAL))?;
        let nonce_even = r.array().map_err(short(ORDINAL))?;
        ended(&r, ORDINAL)?;
        Ok(Tunnel(Session { handle, nonce_even, nonce_odd: rng.bytes(), key: secret }))
    }

    /// Ends a session that is not going to be used.
    pub(super) async fn close(&self, tunnel: Tunnel) {
        // A chip that does not take this is noticed by the next command.
        let _ = self.flush(tunnel.0.handle, rt::TRANS).await;
    }

    /// Sends a whole command through `tunnel`, which ends with it, and returns the whole response. `data` is where the command's
    /// parameters lie between its handles and its sessions; `sessions` is how many it has.
    pub(super) async fn send_through(
        &self,
        tunnel: Tunnel,
        command: &[u8],
        data: Range<usize>,
        sessions: usize,
    ) -> Result<Zeroizing<Vec<u8>>, ChipError> {
        let handle = tunnel.0.handle;
        let result = self.exchange_through(tunnel, command, data, sessions).await;
        if result.is_err() {
            // A chip that does not take this is noticed by the next command.
            let _ = self.flush(handle, rt::TRANS).await;
        }
        result
    }

    async fn exchange_through(
        &self,
        tunnel: Tunnel,
        command: &[u8],
        data: Range<usize>,
        sessions: usize,
    ) -> Result<Zeroizing<Vec<u8>>, ChipError> {
        const ORDINAL: u32 = ord::EXECUTE_TRANSPORT;
        let malformed = ChipError::Malformed { ordinal: ORDINAL };
        let session = &tunnel.0;
        let inner_ordinal = command.get(6..HEADER_SIZE).unwrap_or_default();
        let size = u32::try_from(command.len()).unwrap_or(u32::MAX).to_be_bytes();
        let h1 = sha1(&[inner_ordinal, command.get(data.clone()).unwrap_or_default()]);
        let digest = sha1(&[&ORDINAL.to_be_bytes(), &size, &h1]);
        let mut hidden = Zeroizing::new(command.to_vec());
        tunnel.crypt(&session.nonce_even, b"in", hidden.get_mut(data).unwrap_or_default());
        let mut body = Vec::with_capacity(4 + hidden.len() + 45);
        let mut w = Writer::new(&mut body);
        w.sized32(&hidden);
        session.put(&mut w, &digest);
        let response = self.transmit(&self.packet(v12::TAG_RQU_AUTH1_COMMAND, ORDINAL, &body)).await?;
        accept(&response, ORDINAL, v12::TAG_RSP_AUTH1_COMMAND)?;

        let (front, trailer) =
            response.get(HEADER_SIZE..).and_then(|body| body.split_last_chunk::<TRAILER>()).ok_or(malformed)?;
        let mut r = Reader::new(front);
        let ticks_and_locality = r.bytes(8 + 4).map_err(short(ORDINAL))?;
        let mut inner = Zeroizing::new(r.sized32().map_err(short(ORDINAL))?.to_vec());
        ended(&r, ORDINAL)?;
        let code = ResponseHeader::parse(&inner).map_err(|_| malformed)?.0.code.get();
        let trailers = if code == 0 { TRAILER * sessions } else { 0 };
        let end = inner.len().checked_sub(trailers).filter(|end| *end >= HEADER_SIZE).ok_or(malformed)?;
        let size = u32::try_from(inner.len()).unwrap_or(u32::MAX).to_be_bytes();
        let next_even = trailer.first_chunk::<20>().ok_or(malformed)?;
        let out = inner.get_mut(HEADER_SIZE..end).unwrap_or_default();
        tunnel.crypt(next_even, b"out", out);
        let h2 = sha1(&[&code.to_be_bytes(), inner_ordinal, out]);
        let digest = sha1(&[&0u32.to_be_bytes(), &ORDINAL.to_be_bytes(), ticks_and_locality, &size, &h2]);
        if session.verify(&digest, trailer) { Ok(inner) } else { Err(ChipError::NotAuthentic { ordinal: ORDINAL }) }
    }
}
