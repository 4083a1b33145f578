//! The commands.

use super::state::{Auth, Code, Counter, Result, State};
use alloc::vec;
use alloc::vec::Vec;
use tpm_crypto::{aead, hmac_sha1, sha1};
use tpm_wire::{CommandHeader, Reader, ResponseHeader, Writer};

/// The template of every key that the manager has made: TPM_KEY, storage, 2048 bits, OAEP, secret always needed.
const STORAGE_KEY: [u8; 47] = [
    1, 1, 0, 0, 0, 0x11, 0, 0, 0, 0, 1, 0, 0, 0, 1, 0, 3, 0, 1, 0, 0, 0, 12, 0, 0, 8, 0, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0,
    0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
];
/// The template of an identity key: for signatures with SHA-1 and PKCS #1 v1.5.
pub(super) const IDENTITY_KEY: [u8; 47] = {
    let mut key = STORAGE_KEY;
    key[5] = 0x12;
    key[16] = 1;
    key[18] = 2;
    key
};
/// The tag of TPM_PCR_INFO_LONG.
const PCR_INFO_TAG: [u8; 2] = [0, 6];
/// TPM_PCR_SELECTION of no PCR.
const NO_PCRS: [u8; 5] = [0, 3, 0, 0, 0];

pub(super) struct Reply {
    pub handles: Vec<u8>,
    pub out: Vec<u8>,
    pub auths: Vec<Auth>,
}

/// TPM_COUNTER_VALUE.
pub(super) fn counter_value(counter: &Counter) -> Vec<u8> {
    let mut value = vec![];
    Writer::new(&mut value).u16(0x0e).bytes(&counter.label).u32(counter.value);
    value
}

fn plain(out: Vec<u8>) -> Result<Reply> {
    Ok(Reply { handles: vec![], out, auths: vec![] })
}

impl State {
    pub fn execute(&mut self, packet: &[u8]) -> Vec<u8> {
        let Ok((header, body)) = CommandHeader::parse(packet) else {
            return ResponseHeader::bare(0x00c4, 25).to_vec();
        };
        let (tag, ordinal) = (header.tag.get(), header.ordinal.get());
        let sessions = match tag {
            0x00c1 => 0,
            0x00c2 => 1,
            0x00c3 => 2,
            _ => return ResponseHeader::bare(0x00c4, 30).to_vec(),
        };
        let split = body.len().checked_sub(45 * sessions).and_then(|at| body.split_at_checked(at));
        let result = match split {
            Some((params, auths)) => self.dispatch(tag, ordinal, params, auths),
            None => Err(Code(25)),
        };
        match result {
            Ok(reply) if ordinal == 0xe7 => reply.out,
            Ok(reply) => self.respond(tag + 3, ordinal, &reply),
            Err(Code(code)) => {
                // A refused command ends its sessions.
                let mut r = Reader::new(split.map_or(&[], |(_, auths)| auths));
                while let Ok(part) = r.array::<45>() {
                    let handle = part.first_chunk().map_or(0, |h| u32::from_be_bytes(*h));
                    self.sessions.remove(&handle);
                }
                ResponseHeader::bare(0x00c4, code).to_vec()
            }
        }
    }

    fn respond(&mut self, tag: u16, ordinal: u32, reply: &Reply) -> Vec<u8> {
        let digest = sha1(&[&[0; 4], &ordinal.to_be_bytes(), &reply.out]);
        let mut body = [&reply.handles[..], &reply.out].concat();
        for auth in &reply.auths {
            self.answer_auth(auth, &digest, &mut body);
        }
        let mut packet = vec![];
        Writer::new(&mut packet).u16(tag).u32(body.len() as u32 + 10).u32(0).bytes(&body);
        packet
    }

    fn dispatch(&mut self, tag: u16, ordinal: u32, params: &[u8], auths: &[u8]) -> Result<Reply> {
        if ordinal == 0x99 {
            return if core::mem::replace(&mut self.started, true) { Err(Code(38)) } else { plain(vec![]) };
        }
        if !self.started {
            return Err(Code(38));
        }
        let mut p = Reader::new(params);
        let mut a = Reader::new(auths);
        let reply = match (tag, ordinal) {
            (0x00c1, 0x53) => plain(vec![])?,
            (0x00c1, 0x65) => self.capability(&mut p)?,
            (0x00c1, 0x46) => self.random(&mut p)?,
            (0x00c1, 0x15) => {
                let index = p.u32()? as usize;
                plain(self.pcrs.get(index).ok_or(Code(2))?.to_vec())?
            }
            (0x00c1, 0x14) => {
                let index = p.u32()? as usize;
                let pcr = self.pcrs.get_mut(index).ok_or(Code(2))?;
                *pcr = sha1(&[pcr, &p.array::<20>()?]);
                plain(pcr.to_vec())?
            }
            (0x00c2, 0xdc) => self.create_counter(params, &mut p, &mut a)?,
            (0x00c2, 0xdd) => self.increment_counter(params, &mut p, &mut a)?,
            (0x00c1, 0xde) => {
                let id = p.u32()?;
                plain(counter_value(self.counters.iter().find(|counter| counter.id == id).ok_or(Code(69))?))?
            }
            (0x00c2, 0xe6) => self.establish_transport(params, &mut p, &mut a)?,
            (0x00c2, 0xe7) => return self.execute_transport(&mut p, &mut a),
            (0x00c2, 0x16) => self.quote(params, &mut p, &mut a)?,
            (0x00c3, 0x79) => self.make_identity(params, &mut p, &mut a)?,
            (0x00c2, 0x81) => self.owner_read_internal_pub(params, &mut p, &mut a)?,
            (0x00c1, 0xf1) => {
                let mut out = vec![];
                Writer::new(&mut out).u16(0x14).u64(77).u16(1).bytes(&self.tick_nonce);
                plain(out)?
            }
            (0x00c1, 0xba) => self.flush(&mut p)?,
            (0x00c1, 0x0a) => self.oiap()?,
            (0x00c1, 0x0b) => self.osap(&mut p)?,
            (0x00c1, 0x78) => {
                p.array::<20>()?;
                p.bytes(24)?;
                self.has_ek = true;
                plain(vec![0; 284])?
            }
            (0x00c1, 0x7c) => self.read_pubek(&mut p)?,
            (0x00c2, 0x0d) => self.take_ownership(params, &mut p, &mut a)?,
            (0x00c2, 0x1f) => self.create_wrap_key(params, &mut p, &mut a)?,
            (0x00c2, 0x41) => self.load_key2(params, &mut p, &mut a)?,
            (0x00c2, 0x17) => self.seal(params, &mut p, &mut a)?,
            (0x00c3, 0x18) => self.unseal(params, &mut p, &mut a)?,
            _ => return Err(Code(10)),
        };
        if p.is_empty() { Ok(reply) } else { Err(Code(25)) }
    }

    fn capability(&mut self, p: &mut Reader<'_>) -> Result<Reply> {
        let (area, sub) = (p.u32()?, p.sized32()?);
        let sub = sub.first_chunk().map_or(0, |s| u32::from_be_bytes(*s));
        let mut answer = vec![];
        let mut w = Writer::new(&mut answer);
        match (area, sub) {
            (0x1a, _) => w.u16(0x30).bytes(&[1, 2, 7, 3]).u16(2).u8(3).bytes(b"FAKE").u16(0),
            (0x05, 0x111) => w.u8(self.owner.is_some().into()),
            (0x05, 0x115) => w.u32(750_000).u32(2_000_000).u32(750_000).u32(750_000),
            (0x05, 0x120) => w.u32(1_000_000).u32(3_000_000).u32(60_000_000),
            (0x14, 1) => {
                w.u16(self.keys.len() as u16);
                self.keys.keys().fold(&mut w, |w, handle| w.u32(*handle))
            }
            (0x14, 2) => {
                w.u16(self.sessions.len() as u16);
                self.sessions.keys().fold(&mut w, |w, handle| w.u32(*handle))
            }
            (0x14, 4) => {
                w.u16(self.transports.len() as u16);
                self.transports.keys().fold(&mut w, |w, handle| w.u32(*handle))
            }
            (0x14, 6) => {
                w.u16(self.counters.len() as u16);
                self.counters.iter().fold(&mut w, |w, counter| w.u32(counter.id))
            }
            _ => return Err(Code(0x2c)),
        };
        let mut out = vec![];
        Writer::new(&mut out).sized32(&answer);
        plain(out)
    }

    fn random(&mut self, p: &mut Reader<'_>) -> Result<Reply> {
        // Never more than 20 at a time, as some chips do.
        let mut bytes = vec![0; p.u32()?.min(20) as usize];
        self.rng.fill(&mut bytes);
        let mut out = vec![];
        Writer::new(&mut out).sized32(&bytes);
        plain(out)
    }

    fn flush(&mut self, p: &mut Reader<'_>) -> Result<Reply> {
        let (handle, kind) = (p.u32()?, p.u32()?);
        let found = match kind {
            1 => self.keys.remove(&handle).is_some(),
            2 => self.sessions.remove(&handle).is_some(),
            4 => self.transports.remove(&handle).is_some(),
            _ => false,
        };
        if found { plain(vec![]) } else { Err(Code(34)) }
    }

    fn oiap(&mut self) -> Result<Reply> {
        let (handle, nonce) = self.open_session(None)?;
        plain([&handle.to_be_bytes()[..], &nonce].concat())
    }

    fn osap(&mut self, p: &mut Reader<'_>) -> Result<Reply> {
        let (kind, value, nonce_odd) = (p.u16()?, p.u32()?, p.array::<20>()?);
        let entity = match kind {
            1 => value,
            2 => 0x4000_0001,
            4 => 0x4000_0000,
            _ => return Err(Code(3)),
        };
        let auth = self.key_auth(entity)?;
        let nonce_even_osap: [u8; 20] = self.rng.bytes();
        let shared = hmac_sha1(&auth, &[&nonce_even_osap, &nonce_odd]);
        let (handle, nonce) = self.open_session(Some((shared, entity)))?;
        plain([&handle.to_be_bytes()[..], &nonce, &nonce_even_osap].concat())
    }

    fn read_pubek(&mut self, p: &mut Reader<'_>) -> Result<Reply> {
        let nonce = p.array::<20>()?;
        if !self.has_ek {
            return Err(Code(35));
        }
        if self.owner.is_some() {
            return Err(Code(8));
        }
        let mut key = vec![];
        let mut w = Writer::new(&mut key);
        w.u32(1).u16(3).u16(1).u32(12).u32(2048).u32(2).u32(0).sized32(&self.ek.public().modulus());
        let checksum = sha1(&[&key, &nonce]);
        key.extend_from_slice(&checksum);
        plain(key)
    }

    fn take_ownership(&mut self, params: &[u8], p: &mut Reader<'_>, a: &mut Reader<'_>) -> Result<Reply> {
        if self.owner.is_some() {
            return Err(Code(20));
        }
        let (protocol, owner, srk) = (p.u16()?, p.sized32()?, p.sized32()?);
        if protocol != 5 || p.array::<47>()? != STORAGE_KEY {
            return Err(Code(3));
        }
        let mut decrypt = |encrypted: &[u8]| {
            let secret = self.ek.decrypt_oaep(&mut self.rng, encrypted).map_err(|_| Code(33))?;
            <[u8; 20]>::try_from(&secret[..]).map_err(|_| Code(3))
        };
        let (owner, srk) = (decrypt(owner)?, decrypt(srk)?);
        let mut auth = self.auth(a)?;
        self.check(&mut auth, owner, 0, &sha1(&[&0x0du32.to_be_bytes(), params]), 1)?;
        self.owner = Some((owner, srk));
        Ok(Reply { handles: vec![], out: vec![7; 303], auths: vec![auth] })
    }

    fn create_wrap_key(&mut self, params: &[u8], p: &mut Reader<'_>, a: &mut Reader<'_>) -> Result<Reply> {
        let parent = p.u32()?;
        let digest = sha1(&[&0x1fu32.to_be_bytes(), &params[4..]]);
        let (usage, _migration, template) = (p.array::<20>()?, p.array::<20>()?, p.array::<47>()?);
        let mut auth = self.auth(a)?;
        let secret = self.key_auth(parent)?;
        self.check(&mut auth, secret, parent, &digest, 1)?;
        if template != STORAGE_KEY {
            return Err(Code(3));
        }
        let usage = Self::decrypt_auth(&auth, &usage, true);
        Ok(Reply { handles: vec![], out: self.key(&STORAGE_KEY, &usage), auths: vec![auth] })
    }

    /// A TPM_KEY after this template; every key's public part is that of the one RSA key that the chip has.
    pub(super) fn key(&mut self, template: &[u8; 47], usage: &[u8; 20]) -> Vec<u8> {
        let wrapped = self.wrap(1, usage);
        let mut key = template[..39].to_vec();
        Writer::new(&mut key).sized32(&self.ek.public().modulus()).sized32(&wrapped);
        key
    }

    fn load_key2(&mut self, params: &[u8], p: &mut Reader<'_>, a: &mut Reader<'_>) -> Result<Reply> {
        let parent = p.u32()?;
        let digest = sha1(&[&0x41u32.to_be_bytes(), &params[4..]]);
        let blob = p.bytes(p.rest().len())?;
        let mut auth = self.auth(a)?;
        let secret = self.key_auth(parent)?;
        self.check(&mut auth, secret, parent, &digest, 1)?;
        // What precedes the private part, its length included.
        let private = blob.get(39 + 4 + 256 + 4..).ok_or(Code(33))?;
        let usage = self.unwrap(1, private, 33)?;
        let usage = usage.first_chunk::<20>().ok_or(Code(33))?;
        let handle = self.load_key(*usage)?;
        Ok(Reply { handles: handle.to_be_bytes().to_vec(), out: vec![], auths: vec![auth] })
    }

    fn seal(&mut self, params: &[u8], p: &mut Reader<'_>, a: &mut Reader<'_>) -> Result<Reply> {
        let key = p.u32()?;
        let digest = sha1(&[&0x17u32.to_be_bytes(), &params[4..]]);
        let (encrypted, info, data) = (p.array::<20>()?, p.sized32()?, p.sized32()?);
        let mut auth = self.auth(a)?;
        // Seal needs a session that is tied to the key.
        if self.sessions.get(&auth.handle).is_none_or(|s| s.osap.is_none()) {
            return Err(Code(1));
        }
        let secret = self.key_auth(key)?;
        self.check(&mut auth, secret, key, &digest, 1)?;
        let mut i = Reader::new(info);
        let (tag, _creation, release) = (i.array::<2>()?, i.u8()?, i.u8()?);
        let (at_creation, at_release) = (i.array::<5>()?, i.array::<5>()?);
        let (zero, digest) = (i.array::<20>()?, i.array::<20>()?);
        let sound = at_creation == NO_PCRS && at_release[..2] == NO_PCRS[..2] && zero == [0; 20] && i.is_empty();
        if tag != PCR_INFO_TAG || !sound || release == 0 {
            return Err(Code(3));
        }
        let blob_auth = Self::decrypt_auth(&auth, &encrypted, true);
        let mut content = [&[release][..], &blob_auth, &at_release, &digest, data].concat();
        if self.defect
            && let Some(last) = content.last_mut()
        {
            *last ^= 1;
        }
        Ok(Reply { handles: vec![], out: self.wrap(2, &content), auths: vec![auth] })
    }

    fn unseal(&mut self, params: &[u8], p: &mut Reader<'_>, a: &mut Reader<'_>) -> Result<Reply> {
        let key = p.u32()?;
        let digest = sha1(&[&0x18u32.to_be_bytes(), &params[4..]]);
        let blob = p.bytes(p.rest().len())?;
        let (mut parent, mut data) = (self.auth(a)?, self.auth(a)?);
        let secret = self.key_auth(key)?;
        self.check(&mut parent, secret, key, &digest, 1)?;
        let content = self.unwrap(2, blob, 19)?;
        let mut c = Reader::new(&content);
        let (release, blob_auth) = (c.u8()?, c.array::<20>()?);
        let (pcrs, composite) = (c.array::<5>()?, c.array::<20>()?);
        self.check(&mut data, blob_auth, 0, &digest, 29)?;
        if release >> self.locality & 1 == 0 {
            return Err(Code(61));
        }
        if pcrs != NO_PCRS && composite != sha1(&[&self.composite(pcrs)]) {
            return Err(Code(24));
        }
        let mut out = vec![];
        Writer::new(&mut out).sized32(c.rest());
        Ok(Reply { handles: vec![], out, auths: vec![parent, data] })
    }

    /// The chip's own encrypted form of a key (kind 1) or sealed data (kind 2).
    fn wrap(&mut self, kind: u8, content: &[u8]) -> Vec<u8> {
        let nonce: [u8; 12] = self.rng.bytes();
        [&nonce[..], &aead::seal(&self.proof, &nonce, &[kind], content)].concat()
    }

    fn unwrap(&self, kind: u8, blob: &[u8], refusal: u32) -> Result<Vec<u8>> {
        let (nonce, sealed) = blob.split_first_chunk::<12>().ok_or(Code(refusal))?;
        aead::open(&self.proof, nonce, &[kind], sealed).map(|plain| plain.to_vec()).map_err(|_| Code(refusal))
    }
}
