//! A small client of its own: it computes and verifies authorizations as a TSS does, with nothing of the engine's code.

use super::{execute, send};
use crate::Tpm12;
use crate::dispatch::table::ord;
use alloc::vec::Vec;
use tpm_crypto::rsa::RsaPublic;
use tpm_crypto::{aes_ctr, hmac_sha1, sha1};
use tpm_wire::ResponseHeader;

pub(crate) const OWNER: [u8; 20] = [0x01; 20];
pub(crate) const SRK_AUTH: [u8; 20] = [0x02; 20];
pub(crate) const KEY_AUTH: [u8; 20] = [0x03; 20];
pub(crate) const MIGRATION_AUTH: [u8; 20] = [0x04; 20];
pub(crate) const SRK: u32 = 0x4000_0000;

/// One end of a session.
#[derive(Clone)]
pub(crate) struct Auth {
    pub handle: u32,
    pub even: [u8; 20],
    pub key: [u8; 20],
    pub keep: bool,
    pub odd: [u8; 20],
    pub aes: bool,
}

/// Opens an OIAP session that will be used with `secret`.
pub(crate) fn oiap(tpm: &mut Tpm12, secret: [u8; 20]) -> Auth {
    let out = send(tpm, ord::OIAP, &[]).unwrap();
    let handle = u32::from_be_bytes(out[..4].try_into().unwrap());
    Auth { handle, even: out[4..24].try_into().unwrap(), key: secret, keep: true, odd: [0x55; 20], aes: false }
}

/// Opens an OSAP session for an entity.
pub(crate) fn osap(tpm: &mut Tpm12, kind: u16, value: u32, secret: [u8; 20]) -> Auth {
    let odd = [0x66; 20];
    let out = send(tpm, ord::OSAP, &[&kind.to_be_bytes(), &value.to_be_bytes(), &odd]).unwrap();
    let handle = u32::from_be_bytes(out[..4].try_into().unwrap());
    let key = hmac_sha1(&secret, &[&out[24..44], &odd]);
    let aes = kind >> 8 == 6;
    Auth { handle, even: out[4..24].try_into().unwrap(), key, keep: true, odd: [0x55; 20], aes }
}

impl Auth {
    /// Encrypts a new authorization; the second of a command is masked with the odd nonce.
    pub(crate) fn encrypt(&self, secret: &[u8; 20], second: bool) -> [u8; 20] {
        let nonce = if second { &self.odd } else { &self.even };
        let mut out = *secret;
        if self.aes {
            aes_ctr(self.key[..16].try_into().unwrap(), nonce[..16].try_into().unwrap(), &mut out);
        } else {
            out.iter_mut().zip(sha1(&[&self.key, nonce])).for_each(|(byte, mask)| *byte ^= mask);
        }
        out
    }

    fn hmac(&self, digest: &[u8; 20]) -> [u8; 20] {
        hmac_sha1(&self.key, &[digest, &self.even, &self.odd, &[self.keep.into()]])
    }
}

/// A command with authorizations, ready to send.
pub(crate) fn authorized(ordinal: u32, handles: &[u32], parameters: &[&[u8]], auths: &[&mut Auth]) -> Vec<u8> {
    let parameters = parameters.concat();
    let digest = sha1(&[&ordinal.to_be_bytes(), &parameters]);
    let mut body: Vec<u8> = handles.iter().flat_map(|handle| handle.to_be_bytes()).collect();
    body.extend(&parameters);
    for auth in auths {
        body.extend(auth.handle.to_be_bytes());
        body.extend(auth.odd);
        body.push(auth.keep.into());
        body.extend(auth.hmac(&digest));
    }
    let tag = 0xc1 + auths.len() as u16;
    let size = 10 + body.len() as u32;
    [&tag.to_be_bytes()[..], &size.to_be_bytes(), &ordinal.to_be_bytes(), &body].concat()
}

/// Sends a command with authorizations at a locality and verifies those of the response. `out_handle`: a handle that the
/// response's HMAC does not cover comes first (it is returned with the rest).
pub(crate) fn call_at(
    tpm: &mut Tpm12,
    locality: u8,
    ordinal: u32,
    handles: &[u32],
    parameters: &[&[u8]],
    auths: &mut [&mut Auth],
    out_handle: bool,
) -> Result<Vec<u8>, u32> {
    let packet = authorized(ordinal, handles, parameters, auths);
    let response = execute(tpm, locality, &packet);
    check_response(&response, ordinal, auths, out_handle)
}

/// Takes a response apart and verifies its authorizations.
pub(crate) fn check_response(
    response: &[u8],
    ordinal: u32,
    auths: &mut [&mut Auth],
    out_handle: bool,
) -> Result<Vec<u8>, u32> {
    let (header, body) = ResponseHeader::parse(response).unwrap();
    if header.code.get() != 0 {
        return Err(header.code.get());
    }
    assert_eq!(header.tag.get(), 0xc4 + auths.len() as u16);
    let (out, mut trailer) = body.split_at(body.len() - 41 * auths.len());
    let covered = if out_handle { &out[4..] } else { out };
    let digest = sha1(&[&[0; 4], &ordinal.to_be_bytes(), covered]);
    for auth in auths {
        let (even, keep, hmac) = (&trailer[..20], trailer[20] == 1, &trailer[21..41]);
        auth.even = even.try_into().unwrap();
        assert!(!keep || auth.keep);
        auth.keep = keep;
        assert_eq!(auth.hmac(&digest), hmac, "the response's authorization");
        trailer = &trailer[41..];
    }
    Ok(out.to_vec())
}

/// The same at locality 0, without an output handle.
pub(crate) fn call(
    tpm: &mut Tpm12,
    ordinal: u32,
    handles: &[u32],
    parameters: &[&[u8]],
    auths: &mut [&mut Auth],
) -> Result<Vec<u8>, u32> {
    call_at(tpm, 0, ordinal, handles, parameters, auths, false)
}

/// A byte string behind its size.
pub(crate) fn sized(data: &[u8]) -> Vec<u8> {
    [&(data.len() as u32).to_be_bytes()[..], data].concat()
}

/// A `TPM_KEY` template.
pub(crate) fn template(usage: u16, flags: u32, auth_usage: u8, enc: u16, sig: u16, bits: u32) -> Vec<u8> {
    template_with(&[1, 1, 0, 0], usage, flags, auth_usage, enc, sig, bits, &[])
}

/// A `TPM_KEY12` template with PCR information.
pub(crate) fn template12(usage: u16, flags: u32, enc: u16, sig: u16, bits: u32, pcr: &[u8]) -> Vec<u8> {
    template_with(&[0, 0x28, 0, 0], usage, flags, 1, enc, sig, bits, pcr)
}

#[expect(clippy::too_many_arguments, reason = "a template has so many fields")]
fn template_with(head: &[u8], usage: u16, flags: u32, auth: u8, enc: u16, sig: u16, bits: u32, pcr: &[u8]) -> Vec<u8> {
    let parms = [bits.to_be_bytes(), 2u32.to_be_bytes(), [0; 4]].concat();
    [
        head,
        &usage.to_be_bytes(),
        &flags.to_be_bytes(),
        &[auth],
        &1u32.to_be_bytes(),
        &enc.to_be_bytes(),
        &sig.to_be_bytes(),
        &sized(&parms),
        &sized(pcr),
        &[0; 8],
    ]
    .concat()
}

pub(crate) fn storage_template(flags: u32) -> Vec<u8> {
    template(0x11, flags, 1, 3, 1, 2048)
}

pub(crate) fn signing_template(sig: u16, bits: u32) -> Vec<u8> {
    template(0x10, 0, 1, 1, sig, bits)
}

/// Modulus of a `TPM_PUBKEY` or the public part at the end of a key blob without PCR information.
pub(crate) fn public_of(key: &[u8]) -> RsaPublic {
    // The modulus is the only field whose size equals the key length that the parameters give.
    let bits_at = key.windows(4).position(|w| w == 12u32.to_be_bytes()).unwrap() + 4;
    let size = u32::from_be_bytes(key[bits_at..bits_at + 4].try_into().unwrap()) / 8;
    let at = key.windows(4).skip(bits_at).position(|w| w == size.to_be_bytes()).unwrap() + bits_at + 4;
    RsaPublic::new(&key[at..at + size as usize], 65537).unwrap()
}

/// Takes ownership with [`OWNER`] and [`SRK_AUTH`].
pub(crate) fn take_ownership(tpm: &mut Tpm12) -> Result<Vec<u8>, u32> {
    let ek = public_of(&send(tpm, ord::READ_PUBEK, &[&[0; 20]]).unwrap());
    let mut rng = super::rng(77);
    let (owner, srk) = (ek.encrypt_oaep(&mut rng, &OWNER).unwrap(), ek.encrypt_oaep(&mut rng, &SRK_AUTH).unwrap());
    let mut auth = oiap(tpm, OWNER);
    auth.keep = false;
    let parameters: [&[u8]; 4] = [&[0, 5], &sized(&owner), &sized(&srk), &storage_template(0)];
    call(tpm, ord::TAKE_OWNERSHIP, &[], &parameters, &mut [&mut auth])
}

/// Makes a key under a parent; the wrapped key.
pub(crate) fn create_key(tpm: &mut Tpm12, parent: u32, parent_auth: [u8; 20], template: &[u8]) -> Result<Vec<u8>, u32> {
    let mut auth = osap(tpm, 1, parent, parent_auth);
    let (usage, migration) = (auth.encrypt(&KEY_AUTH, false), auth.encrypt(&MIGRATION_AUTH, true));
    call(tpm, ord::CREATE_WRAP_KEY, &[parent], &[&usage, &migration, template], &mut [&mut auth])
}

/// Loads a key; its handle.
pub(crate) fn load_key(tpm: &mut Tpm12, parent: u32, parent_auth: [u8; 20], key: &[u8]) -> Result<u32, u32> {
    let mut auth = oiap(tpm, parent_auth);
    auth.keep = false;
    let out = call_at(tpm, 0, ord::LOAD_KEY2, &[parent], &[key], &mut [&mut auth], true)?;
    Ok(u32::from_be_bytes(out[..4].try_into().unwrap()))
}

/// Makes and loads a key under the storage root key.
pub(crate) fn new_key(tpm: &mut Tpm12, template: &[u8]) -> (u32, Vec<u8>) {
    let key = create_key(tpm, SRK, SRK_AUTH, template).unwrap();
    (load_key(tpm, SRK, SRK_AUTH, &key).unwrap(), key)
}
