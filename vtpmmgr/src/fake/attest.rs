//! Counters, identities and quotes.

use super::commands::{IDENTITY_KEY, Reply, counter_value};
use super::state::{Code, Counter, Result, State};
use alloc::vec;
use alloc::vec::Vec;
use tpm_crypto::sha1;
use tpm_wire::{Reader, Writer};

/// The owner's handle.
const OWNER: u32 = 0x4000_0001;
/// The storage root key's.
const SRK: u32 = 0x4000_0000;

impl State {
    /// TPM_PCR_COMPOSITE of the PCRs as they are.
    pub(super) fn composite(&self, selection: [u8; 5]) -> Vec<u8> {
        let chosen = |index: usize| selection[2 + index / 8] >> (index % 8) & 1 == 1;
        let values: Vec<u8> = (0..24).filter(|index| chosen(*index)).flat_map(|index| self.pcrs[index]).collect();
        let mut composite = vec![];
        Writer::new(&mut composite).bytes(&selection).sized32(&values);
        composite
    }

    pub(super) fn create_counter(&mut self, params: &[u8], p: &mut Reader<'_>, a: &mut Reader<'_>) -> Result<Reply> {
        let (encrypted, label) = (p.array::<20>()?, p.array::<4>()?);
        let mut auth = self.auth(a)?;
        let secret = self.key_auth(OWNER)?;
        self.check(&mut auth, secret, OWNER, &sha1(&[&0xdcu32.to_be_bytes(), params]), 1)?;
        if self.counters.len() >= 4 {
            return Err(Code(21));
        }
        let value = self.counters.iter().map(|counter| counter.value).max().unwrap_or(0) + 1;
        let id = self.counters.iter().map(|counter| counter.id).max().map_or(0, |id| id + 1);
        let counter = Counter { id, label, value, auth: Self::decrypt_auth(&auth, &encrypted, true) };
        let out = [&id.to_be_bytes()[..], &counter_value(&counter)].concat();
        self.counters.push(counter);
        Ok(Reply { handles: vec![], out, auths: vec![auth] })
    }

    pub(super) fn increment_counter(&mut self, params: &[u8], p: &mut Reader<'_>, a: &mut Reader<'_>) -> Result<Reply> {
        let id = p.u32()?;
        let mut auth = self.auth(a)?;
        let at = self.counters.iter().position(|counter| counter.id == id).ok_or(Code(69))?;
        self.check(&mut auth, self.counters[at].auth, 0, &sha1(&[&0xddu32.to_be_bytes(), params]), 1)?;
        if self.active_counter.is_some_and(|active| active != id) {
            return Err(Code(69));
        }
        self.active_counter = Some(id);
        self.counters[at].value += 1;
        Ok(Reply { handles: vec![], out: counter_value(&self.counters[at]), auths: vec![auth] })
    }

    pub(super) fn make_identity(&mut self, params: &[u8], p: &mut Reader<'_>, a: &mut Reader<'_>) -> Result<Reply> {
        let digest = sha1(&[&0x79u32.to_be_bytes(), params]);
        let (encrypted, label, template) = (p.array::<20>()?, p.array::<20>()?, p.array::<47>()?);
        let (mut srk, mut owner) = (self.auth(a)?, self.auth(a)?);
        let (srk_secret, owner_secret) = (self.key_auth(SRK)?, self.key_auth(OWNER)?);
        self.check(&mut srk, srk_secret, SRK, &digest, 1)?;
        self.check(&mut owner, owner_secret, OWNER, &digest, 29)?;
        if template != IDENTITY_KEY {
            return Err(Code(3));
        }
        let usage = Self::decrypt_auth(&owner, &encrypted, true);
        let mut out = self.key(&IDENTITY_KEY, &usage);
        // TPM_IDENTITY_CONTENTS: the public part is in the key, less its version, usage and PCR information.
        let public = [&out[11..35], &out[39..39 + 4 + 256]].concat();
        let contents = sha1(&[&[1, 1, 0, 0, 0, 0, 0, 0x79], &label, &public]);
        let binding = self.sign(&contents)?;
        Writer::new(&mut out).sized32(&binding);
        Ok(Reply { handles: vec![], out, auths: vec![srk, owner] })
    }

    pub(super) fn quote(&mut self, params: &[u8], p: &mut Reader<'_>, a: &mut Reader<'_>) -> Result<Reply> {
        let key = p.u32()?;
        let digest = sha1(&[&0x16u32.to_be_bytes(), &params[4..]]);
        let (external, selection) = (p.array::<20>()?, p.array::<5>()?);
        let mut auth = self.auth(a)?;
        let secret = self.key_auth(key)?;
        self.check(&mut auth, secret, key, &digest, 1)?;
        let mut out = self.composite(selection);
        let signature = self.sign(&sha1(&[&[1, 1, 0, 0], b"QUOT", &sha1(&[&out]), &external]))?;
        Writer::new(&mut out).sized32(&signature);
        Ok(Reply { handles: vec![], out, auths: vec![auth] })
    }

    pub(super) fn owner_read_internal_pub(
        &mut self,
        params: &[u8],
        p: &mut Reader<'_>,
        a: &mut Reader<'_>,
    ) -> Result<Reply> {
        let handle = p.u32()?;
        let mut auth = self.auth(a)?;
        let secret = self.key_auth(OWNER)?;
        self.check(&mut auth, secret, OWNER, &sha1(&[&0x81u32.to_be_bytes(), params]), 1)?;
        if handle != 0x4000_0006 {
            return Err(Code(3));
        }
        let mut out = vec![];
        let mut w = Writer::new(&mut out);
        w.u32(1).u16(3).u16(1).u32(12).u32(2048).u32(2).u32(0).sized32(&self.ek.public().modulus());
        Ok(Reply { handles: vec![], out, auths: vec![auth] })
    }

    fn sign(&mut self, digest: &[u8; 20]) -> Result<Vec<u8>> {
        self.ek.sign_pkcs1_sha1(&mut self.rng, digest).map_err(|_| Code(9))
    }
}
