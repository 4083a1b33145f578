//! Transport sessions, as far as they encrypt one command with MGF1.

use super::commands::Reply;
use super::state::{Code, Result, State};
use alloc::vec;
use tpm_crypto::{hmac_sha1, mgf1_sha1, sha1};
use tpm_wire::{Reader, Writer};

/// TPM_TRANSPORT_PUBLIC: encryption with MGF1.
const PUBLIC: [u8; 12] = [0x00, 0x1e, 0, 0, 0, 1, 0, 0, 0, 7, 0, 1];
/// Handle of every session's first transport.
const FIRST: u8 = 7;

impl State {
    pub(super) fn establish_transport(
        &mut self,
        params: &[u8],
        p: &mut Reader<'_>,
        a: &mut Reader<'_>,
    ) -> Result<Reply> {
        let key = p.u32()?;
        let digest = sha1(&[&0xe6u32.to_be_bytes(), &params[4..]]);
        let (public, encrypted) = (p.array::<12>()?, p.sized32()?);
        let mut auth = self.auth(a)?;
        let secret = self.key_auth(key)?;
        self.check(&mut auth, secret, key, &digest, 1)?;
        if public != PUBLIC {
            return Err(Code(3));
        }
        let plain = self.ek.decrypt_oaep(&mut self.rng, encrypted).map_err(|_| Code(33))?;
        let Some((&[0, 0x1d], secret)) = plain.split_first_chunk::<2>() else { return Err(Code(3)) };
        let secret: [u8; 20] = secret.try_into().map_err(|_| Code(3))?;
        if !self.transports.is_empty() {
            return Err(Code(21));
        }
        let (handle, nonce_even) = (self.new_handle(FIRST), self.rng.bytes());
        self.transports.insert(handle, (secret, nonce_even));
        let mut out = vec![];
        Writer::new(&mut out).u32(0).u16(0x14).u64(77).u16(1).bytes(&self.tick_nonce).bytes(&nonce_even);
        Ok(Reply { handles: handle.to_be_bytes().to_vec(), out, auths: vec![auth] })
    }

    /// The whole response, for its digest is of another kind than that of other commands.
    pub(super) fn execute_transport(&mut self, p: &mut Reader<'_>, a: &mut Reader<'_>) -> Result<Reply> {
        let mut inner = p.sized32()?.to_vec();
        let auth = self.auth(a)?;
        let crypt = |even: &[u8; 20], direction: &[u8], data: &mut [u8]| {
            mgf1_sha1(&[even, &auth.nonce_odd, direction, &auth.key], data);
        };
        let (tag, ordinal) = match *inner {
            [_, tag, _, _, _, _, a, b, c, d, ..] => (tag, [a, b, c, d]),
            _ => return Err(Code(3)),
        };
        let sessions = usize::from(tag.saturating_sub(0xc1));
        let handles = usize::from(matches!(ordinal[3], 0x17 | 0x18));
        let end = inner.len().checked_sub(45 * sessions).ok_or(Code(3))?;
        let size = u32::try_from(inner.len()).unwrap_or(0).to_be_bytes();
        let data = inner.get_mut(10 + 4 * handles..end).ok_or(Code(3))?;
        crypt(&auth.nonce_even, b"in", data);
        let digest = sha1(&[&[0, 0, 0, 0xe7], &size, &sha1(&[&ordinal, data])]);
        let hmac = |digest: &[u8; 20], even: &[u8; 20]| hmac_sha1(&auth.key, &[digest, even, &auth.nonce_odd, &[0]]);
        if hmac(&digest, &auth.nonce_even) != auth.hmac || auth.going_on != 0 {
            return Err(Code(1));
        }
        self.transports.remove(&auth.handle);
        let mut response = self.execute(&inner);
        let end = response.len() - if response[6..10] == [0; 4] { 41 * sessions } else { 0 };
        let size = u32::try_from(response.len()).unwrap_or(0).to_be_bytes();
        let h2 = sha1(&[&response[6..10], &ordinal, &response[10..end]]);
        let next_even = self.rng.bytes();
        crypt(&next_even, b"out", &mut response[10..end]);
        // Ticks and locality.
        let front = [0, 0, 0, 0, 0, 0, 0, 77, 0, 0, 0, 0];
        let digest = sha1(&[&[0; 4], &[0, 0, 0, 0xe7], &front, &size, &h2]);
        let mut out = vec![];
        let mut w = Writer::new(&mut out);
        w.u16(0xc5).u32(10 + 12 + 4 + response.len() as u32 + 41).u32(0);
        w.bytes(&front).sized32(&response).bytes(&next_even).u8(0).bytes(&hmac(&digest, &next_even));
        Ok(Reply { handles: vec![], out, auths: vec![] })
    }
}
