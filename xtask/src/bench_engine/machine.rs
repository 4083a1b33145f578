//! A TPM prepared for the measurement, and the commands that are measured.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result};
use tpm_crypto::rsa::{DEFAULT_EXPONENT, RsaPublic};

use super::client::{Client, Secret, Session, sized, word};

const OWNER: Secret = [1; 20];
const SRK_AUTH: Secret = [2; 20];
const KEY_AUTH: Secret = [3; 20];
const DATA_AUTH: Secret = [4; 20];
const SRK: u32 = 0x4000_0000;
const KH_OWNER: u32 = 0x4000_0001;
const AREA: u32 = 0x1010;
const ET_KEY: u16 = 1;
const ET_OWNER: u16 = 2;
const STORAGE: u16 = 0x11;
const SIGNING: u16 = 0x10;
/// `TPM_NV_PER_AUTHREAD` and `TPM_NV_PER_AUTHWRITE`.
const PER_AUTH: u32 = 0x0004_0004;

/// A measured command: the time of one execution.
pub type Command = fn(&mut Machine) -> Result<Duration>;

/// The commands, how often each is executed, and their names.
pub const ROWS: &[(&str, usize, Command)] = &[
    ("GetRandom, 16 bytes", 3000, |m| m.timed(0x46, &[&[0, 0, 0, 16]])),
    ("PCRRead", 3000, |m| m.timed(0x15, &[&[0; 4]])),
    ("Extend", 3000, |m| m.timed(0x14, &[&[0, 0, 0, 16], &[7; 20]])),
    ("OIAP", 2000, Machine::oiap),
    ("OSAP, SRK", 2000, Machine::osap),
    ("CreateWrapKey, RSA-1024", 40, |m| m.create_key(1024)),
    ("CreateWrapKey, RSA-2048", 30, |m| m.create_key(2048)),
    ("LoadKey2, RSA-2048", 150, Machine::load_key),
    ("Sign, RSA-2048", 200, Machine::sign),
    ("Quote, RSA-2048, 8 PCRs", 200, Machine::quote),
    ("Seal, 32 bytes", 500, Machine::seal),
    ("Unseal, 32 bytes", 200, Machine::unseal),
    NV_WRITE,
    ("NV_ReadValueAuth, 32 bytes", 2000, Machine::nv_read),
];

/// The command that changes persistent state.
pub const NV_WRITE: (&str, usize, Command) = ("NV_WriteValueAuth, 32 bytes", 500, Machine::nv_write);

/// A TPM with an owner, a loaded signing key, sealed data and an NV area.
pub struct Machine {
    client: Client,
    srk: Session,
    signer: Session,
    data: Session,
    area: Session,
    key: u32,
    key_blob: Vec<u8>,
    sealed: Vec<u8>,
}

/// A `TPM_KEY` to be made (part 2, section 10.2).
fn template(usage: u16, bits: u32) -> Vec<u8> {
    let (enc, sig): (u16, u16) = if usage == STORAGE { (3, 1) } else { (1, 2) };
    let head = [1, 1, 0, 0];
    let parms = [&12u32.to_be_bytes()[..], &bits.to_be_bytes(), &2u32.to_be_bytes(), &[0; 4]].concat();
    let algorithm = [&1u32.to_be_bytes()[..], &enc.to_be_bytes(), &sig.to_be_bytes(), &parms].concat();
    [&head[..], &usage.to_be_bytes(), &[0; 4], &[1], &algorithm, &[0; 12]].concat()
}

impl Machine {
    /// Prepares a TPM that has no owner yet.
    pub fn prepare(socket: &Path) -> Result<Self> {
        let mut client = Client::new(socket)?;
        take_ownership(&mut client)?;
        let mut owner = client.osap(ET_OWNER, KH_OWNER, &OWNER)?;
        let hidden = owner.hide(&DATA_AUTH);
        let every_locality = [&[0, 3, 0, 0, 0, 0x1f][..], &[0; 20]].concat();
        let attributes = [&[0, 0x17][..], &PER_AUTH.to_be_bytes(), &[0; 3], &32u32.to_be_bytes()].concat();
        let public = [&[0, 0x18][..], &AREA.to_be_bytes(), &every_locality, &every_locality, &attributes].concat();
        client.authorized(0xcc, &[], &[&public, &hidden], &mut [&mut owner], 0)?;
        let [srk, signer] = [client.oiap(&SRK_AUTH)?, client.oiap(&KEY_AUTH)?];
        let [data, area] = [client.oiap(&DATA_AUTH)?, client.oiap(&DATA_AUTH)?];
        let mut machine = Self { client, srk, signer, data, area, key: 0, key_blob: Vec::new(), sealed: Vec::new() };
        machine.create_key(2048)?;
        machine.key = machine.load()?;
        machine.seal()?;
        machine.nv_write()?;
        Ok(machine)
    }

    fn timed(&mut self, ordinal: u32, parameters: &[&[u8]]) -> Result<Duration> {
        self.client.plain(ordinal, parameters)?;
        Ok(self.client.last)
    }

    /// `TPM_FlushSpecific`, not measured.
    fn flush(&mut self, handle: u32, kind: u32) -> Result<()> {
        self.client.plain(0xba, &[&handle.to_be_bytes(), &kind.to_be_bytes()]).map(drop)
    }

    fn oiap(&mut self) -> Result<Duration> {
        let session = self.client.oiap(&OWNER)?;
        let time = self.client.last;
        self.flush(session.handle, 2)?;
        Ok(time)
    }

    fn osap(&mut self) -> Result<Duration> {
        let session = self.client.osap(ET_KEY, SRK, &SRK_AUTH)?;
        let time = self.client.last;
        self.flush(session.handle, 2)?;
        Ok(time)
    }

    fn create_key(&mut self, bits: u32) -> Result<Duration> {
        let mut session = self.client.osap(ET_KEY, SRK, &SRK_AUTH)?;
        let hidden = session.hide(&KEY_AUTH);
        let parameters: [&[u8]; 3] = [&hidden, &[0; 20], &template(SIGNING, bits)];
        let blob = self.client.authorized(0x1f, &[SRK], &parameters, &mut [&mut session], 0)?;
        if bits == 2048 {
            self.key_blob = blob;
        }
        Ok(self.client.last)
    }

    fn load(&mut self) -> Result<u32> {
        let out = self.client.authorized(0x41, &[SRK], &[&self.key_blob], &mut [&mut self.srk], 1)?;
        word(&out, 0)
    }

    fn load_key(&mut self) -> Result<Duration> {
        let key = self.load()?;
        let time = self.client.last;
        self.flush(key, 1)?;
        Ok(time)
    }

    fn sign(&mut self) -> Result<Duration> {
        let digest: [u8; 20] = self.client.random();
        self.client.authorized(0x3c, &[self.key], &[&sized(&digest)], &mut [&mut self.signer], 0)?;
        Ok(self.client.last)
    }

    fn quote(&mut self) -> Result<Duration> {
        let nonce: [u8; 20] = self.client.random();
        self.client.authorized(0x16, &[self.key], &[&nonce, &[0, 3, 0xff, 0, 0]], &mut [&mut self.signer], 0)?;
        Ok(self.client.last)
    }

    fn seal(&mut self) -> Result<Duration> {
        let mut session = self.client.osap(ET_KEY, SRK, &SRK_AUTH)?;
        let hidden = session.hide(&DATA_AUTH);
        let parameters: [&[u8]; 3] = [&hidden, &[0; 4], &sized(&[5; 32])];
        self.sealed = self.client.authorized(0x17, &[SRK], &parameters, &mut [&mut session], 0)?;
        Ok(self.client.last)
    }

    fn unseal(&mut self) -> Result<Duration> {
        let out = self.client.authorized(0x18, &[SRK], &[&self.sealed], &mut [&mut self.srk, &mut self.data], 0)?;
        anyhow::ensure!(out == sized(&[5; 32]), "something else was unsealed");
        Ok(self.client.last)
    }

    fn nv_write(&mut self) -> Result<Duration> {
        // Other bytes each time: the same ones would be no change.
        let data: [u8; 32] = self.client.random();
        let parameters: [&[u8]; 3] = [&AREA.to_be_bytes(), &[0; 4], &sized(&data)];
        self.client.authorized(0xce, &[], &parameters, &mut [&mut self.area], 0)?;
        Ok(self.client.last)
    }

    fn nv_read(&mut self) -> Result<Duration> {
        let parameters: [&[u8]; 3] = [&AREA.to_be_bytes(), &[0; 4], &32u32.to_be_bytes()];
        self.client.authorized(0xd0, &[], &parameters, &mut [&mut self.area], 0)?;
        Ok(self.client.last)
    }
}

/// `TPM_TakeOwnership`, after making an endorsement key where there is none.
pub fn take_ownership(client: &mut Client) -> Result<()> {
    let nonce: [u8; 20] = client.random();
    let pubek = match client.plain(0x7c, &[&nonce]) {
        Ok(pubek) => pubek,
        Err(_) => {
            let parms = template(STORAGE, 2048);
            client.plain(0x78, &[&nonce, parms.get(11..35).unwrap_or_default()])?
        }
    };
    // TPM_PUBKEY: 24 bytes of parameters, then the modulus.
    let size = word(&pubek, 24)? as usize;
    let modulus = pubek.get(28..28 + size).context("a TPM_PUBKEY that is too short")?;
    let key = RsaPublic::new(modulus, DEFAULT_EXPONENT)?;
    let owner = sized(&key.encrypt_oaep(client.rng(), &OWNER)?);
    let srk = sized(&key.encrypt_oaep(client.rng(), &SRK_AUTH)?);
    let mut session = client.oiap(&OWNER)?;
    client.authorized(0x0d, &[], &[&[0, 5], &owner, &srk, &template(STORAGE, 2048)], &mut [&mut session], 0)?;
    client.plain(0xba, &[&session.handle.to_be_bytes(), &2u32.to_be_bytes()]).map(drop)
}
