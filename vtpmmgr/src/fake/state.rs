//! What the chip remembers, and its sessions.

use super::ek;
use alloc::collections::BTreeMap;
use alloc::vec::Vec;
use tpm_crypto::rsa::RsaPrivate;
use tpm_crypto::{Drbg, hmac_sha1, sha1};
use tpm_wire::{Reader, Writer};

/// Session and key slots.
const SLOTS: usize = 3;

pub struct State {
    pub rng: Drbg,
    /// The key that the chip's own blobs are encrypted with; new with every owner.
    pub proof: [u8; 32],
    pub ek: RsaPrivate,
    pub has_ek: bool,
    pub started: bool,
    pub locality: u8,
    /// Seals something other than what it is given.
    pub defect: bool,
    /// Owner's and storage root key's secrets.
    pub owner: Option<([u8; 20], [u8; 20])>,
    pub sessions: BTreeMap<u32, Session>,
    /// Secrets of loaded keys.
    pub keys: BTreeMap<u32, [u8; 20]>,
    /// Transport sessions: their secrets and nonces.
    pub transports: BTreeMap<u32, ([u8; 20], [u8; 20])>,
    /// PCR n starts as n in every byte.
    pub pcrs: [[u8; 20]; 24],
    pub counters: Vec<Counter>,
    /// The counter that was stepped since the last start; another one cannot be.
    pub active_counter: Option<u32>,
    pub tick_nonce: [u8; 20],
}

/// A monotonic counter.
pub struct Counter {
    pub id: u32,
    pub label: [u8; 4],
    pub value: u32,
    pub auth: [u8; 20],
}

pub struct Session {
    nonce_even: [u8; 20],
    /// The shared secret of an OSAP session and the entity it is for.
    pub osap: Option<([u8; 20], u32)>,
}

/// A return code.
pub struct Code(pub u32);

impl From<tpm_wire::Truncated> for Code {
    fn from(_: tpm_wire::Truncated) -> Self {
        Self(25)
    }
}

pub type Result<T> = core::result::Result<T, Code>;

impl State {
    pub fn new(seed: u8, locality: u8) -> Self {
        let mut rng = Drbg::new(&[seed; 48], b"fake chip").expect("48 bytes are enough");
        Self {
            proof: rng.bytes(),
            tick_nonce: rng.bytes(),
            rng,
            ek: RsaPrivate::from_prime(&ek::MODULUS, &ek::PRIME, 65537).expect("the test key is sound"),
            has_ek: false,
            started: false,
            locality,
            defect: false,
            owner: None,
            sessions: BTreeMap::new(),
            keys: BTreeMap::new(),
            transports: BTreeMap::new(),
            pcrs: core::array::from_fn(|index| [index as u8; 20]),
            counters: Vec::new(),
            active_counter: None,
        }
    }

    pub fn power_cycle(&mut self) {
        self.started = false;
        self.sessions.clear();
        self.keys.clear();
        self.transports.clear();
        self.pcrs = core::array::from_fn(|index| [index as u8; 20]);
        self.active_counter = None;
        self.tick_nonce = self.rng.bytes();
    }

    pub fn clear(&mut self) {
        self.power_cycle();
        self.owner = None;
        self.counters.clear();
        self.proof = self.rng.bytes();
    }

    pub fn open_slots(&self) -> (usize, usize) {
        (self.sessions.len() + self.transports.len(), self.keys.len())
    }

    pub fn new_handle(&mut self, first: u8) -> u32 {
        u32::from_be_bytes(self.rng.bytes()) & 0x00ff_ffff | u32::from(first) << 24
    }

    /// Opens a session; returns its handle and nonce.
    pub fn open_session(&mut self, osap: Option<([u8; 20], u32)>) -> Result<(u32, [u8; 20])> {
        if self.sessions.len() >= SLOTS {
            return Err(Code(21));
        }
        let (handle, nonce_even) = (self.new_handle(2), self.rng.bytes());
        self.sessions.insert(handle, Session { nonce_even, osap });
        Ok((handle, nonce_even))
    }

    pub fn load_key(&mut self, auth: [u8; 20]) -> Result<u32> {
        if self.keys.len() >= SLOTS {
            return Err(Code(21));
        }
        let handle = self.new_handle(5);
        self.keys.insert(handle, auth);
        Ok(handle)
    }

    /// The secret of a key by its handle, the storage root key included.
    pub fn key_auth(&self, handle: u32) -> Result<[u8; 20]> {
        match (handle, self.owner) {
            (0x4000_0000, Some((_, srk))) => Ok(srk),
            (0x4000_0000, None) => Err(Code(18)),
            (0x4000_0001, Some((owner, _))) => Ok(owner),
            (0x4000_0001, None) => Err(Code(18)),
            _ => self.keys.get(&handle).copied().ok_or(Code(12)),
        }
    }
}

/// The authorization part of a command: one session's 45 bytes.
#[derive(Clone, Copy)]
pub struct Auth {
    pub handle: u32,
    pub nonce_odd: [u8; 20],
    pub going_on: u8,
    pub hmac: [u8; 20],
    pub nonce_even: [u8; 20],
    pub key: [u8; 20],
}

impl State {
    /// Reads one session's part and finds the session.
    pub fn auth(&self, r: &mut Reader<'_>) -> Result<Auth> {
        let (handle, nonce_odd, going_on, hmac) = (r.u32()?, r.array()?, r.u8()?, r.array()?);
        if let Some((key, nonce_even)) = self.transports.get(&handle) {
            return Ok(Auth { handle, nonce_odd, going_on, hmac, nonce_even: *nonce_even, key: *key });
        }
        let session = self.sessions.get(&handle).ok_or(Code(34))?;
        let key = session.osap.map_or([0; 20], |(shared, _)| shared);
        Ok(Auth { handle, nonce_odd, going_on, hmac, nonce_even: session.nonce_even, key })
    }

    /// Checks a command's HMAC for an entity with the secret `auth`; `entity` is what an OSAP session must be for.
    pub fn check(&self, auth: &mut Auth, secret: [u8; 20], entity: u32, digest: &[u8; 20], refusal: u32) -> Result<()> {
        match self.sessions.get(&auth.handle).and_then(|s| s.osap) {
            Some((_, of)) if of != entity => return Err(Code(refusal)),
            Some(_) => (),
            None => auth.key = secret,
        }
        let want = hmac_sha1(&auth.key, &[digest, &auth.nonce_even, &auth.nonce_odd, &[auth.going_on]]);
        if want == auth.hmac && auth.going_on == 0 { Ok(()) } else { Err(Code(refusal)) }
    }

    /// Decrypts a new secret sent with ADIP.
    pub fn decrypt_auth(auth: &Auth, encrypted: &[u8; 20], first: bool) -> [u8; 20] {
        let mask = sha1(&[&auth.key, if first { &auth.nonce_even } else { &auth.nonce_odd }]);
        core::array::from_fn(|i| encrypted[i] ^ mask[i])
    }

    /// The response's part for a session, which ends with it.
    pub fn answer_auth(&mut self, auth: &Auth, digest: &[u8; 20], out: &mut Vec<u8>) {
        self.sessions.remove(&auth.handle);
        let nonce_even: [u8; 20] = self.rng.bytes();
        let hmac = hmac_sha1(&auth.key, &[digest, &nonce_even, &auth.nonce_odd, &[0]]);
        Writer::new(out).bytes(&nonce_even).u8(0).bytes(&hmac);
    }
}
