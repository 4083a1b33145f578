//! Keys (part 2, sections 10 and 5.8).

use super::pcr::PcrRestriction;
use super::{AuthData, Digest};
use crate::codes::{self, Code};
use crate::wire::{Tag, Version11, Wire, wire_struct};
use alloc::vec::Vec;
use tpm_crypto::rsa::{DEFAULT_EXPONENT, RsaPrivate, RsaPublic};
use tpm_crypto::sha1;
use tpm_wire::{Reader, Writer};
use zeroize::Zeroizing;

pub(crate) const ALG_RSA: u32 = 1;
pub(crate) const ALG_SHA: u32 = 4;
pub(crate) const ALG_HMAC: u32 = 5;
pub(crate) const ALG_AES128: u32 = 6;
pub(crate) const ALG_MGF1: u32 = 7;
pub(crate) const ALG_XOR: u32 = 10;

pub(crate) const ES_NONE: u16 = 1;
pub(crate) const ES_RSAESPKCS: u16 = 2;
pub(crate) const ES_RSAESOAEP: u16 = 3;
pub(crate) const ES_SYM_CTR: u16 = 4;
/// `TPM_ES_SYM_OFB`.
pub(crate) const ES_SYM_OFB: u16 = 5;

pub(crate) const SS_NONE: u16 = 1;
pub(crate) const SS_SHA1: u16 = 2;
pub(crate) const SS_DER: u16 = 3;
pub(crate) const SS_INFO: u16 = 4;

pub(crate) const KEY_SIGNING: u16 = 0x10;
pub(crate) const KEY_STORAGE: u16 = 0x11;
pub(crate) const KEY_IDENTITY: u16 = 0x12;
pub(crate) const KEY_AUTHCHANGE: u16 = 0x13;
pub(crate) const KEY_BIND: u16 = 0x14;
pub(crate) const KEY_LEGACY: u16 = 0x15;
pub(crate) const KEY_MIGRATE: u16 = 0x16;

pub(crate) const FLAG_MIGRATABLE: u32 = 2;
pub(crate) const FLAG_VOLATILE: u32 = 4;
pub(crate) const FLAG_PCR_IGNORED_ON_READ: u32 = 8;
pub(crate) const FLAG_MIGRATE_AUTHORITY: u32 = 16;
pub(crate) const FLAG_MASK: u32 = 31;

pub(crate) const AUTH_NEVER: u8 = 0;
pub(crate) const AUTH_ALWAYS: u8 = 1;
pub(crate) const AUTH_PRIV_USE_ONLY: u8 = 3;

pub(crate) const PT_ASYM: u8 = 1;
pub(crate) const PT_MIGRATE: u8 = 3;
pub(crate) const PT_MAINT: u8 = 4;
pub(crate) const PT_MIGRATE_RESTRICTED: u8 = 6;
pub(crate) const PT_MIGRATE_EXTERNAL: u8 = 7;
pub(crate) const PT_CMK_MIGRATE: u8 = 8;

/// `TPM_KEY_PARMS` with its algorithm-specific part still as bytes (section 10.1).
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct KeyParms {
    pub algorithm: u32,
    pub enc_scheme: u16,
    pub sig_scheme: u16,
    pub parms: Vec<u8>,
}

impl Wire for KeyParms {
    fn put(&self, w: &mut Writer<'_>) {
        w.u32(self.algorithm).u16(self.enc_scheme).u16(self.sig_scheme).sized32(&self.parms);
    }

    fn get(r: &mut Reader<'_>) -> Result<Self, Code> {
        Ok(Self { algorithm: r.u32()?, enc_scheme: r.u16()?, sig_scheme: r.u16()?, parms: Wire::get(r)? })
    }
}

impl KeyParms {
    /// Parameters of an RSA key with the default exponent.
    pub(crate) fn rsa(bits: u32, enc_scheme: u16, sig_scheme: u16) -> Self {
        let mut parms = Vec::new();
        Writer::new(&mut parms).u32(bits).u32(2).u32(0);
        Self { algorithm: ALG_RSA, enc_scheme, sig_scheme, parms }
    }

    /// Key length in bits and public exponent, if this is an RSA key of two primes (`TPM_RSA_KEY_PARMS`, section 10.1.1).
    pub(crate) fn rsa_details(&self) -> Result<(u32, u32), Code> {
        if self.algorithm != ALG_RSA {
            return Err(codes::BAD_KEY_PROPERTY);
        }
        let mut r = Reader::new(&self.parms);
        let (bits, primes, exponent) = (r.u32()?, r.u32()?, r.sized32()?);
        if primes != 2 || !r.is_empty() || exponent.len() > 4 {
            return Err(codes::BAD_KEY_PROPERTY);
        }
        let value = exponent.iter().fold(0, |value, byte| value << 8 | u32::from(*byte));
        Ok((bits, if exponent.is_empty() { DEFAULT_EXPONENT } else { value }))
    }
}

wire_struct! {
    /// `TPM_PUBKEY` (section 10.4).
    #[derive(Clone, PartialEq, Eq)]
    pub(crate) struct PubKey {
        parms: KeyParms,
        modulus: Vec<u8>,
    }
}

impl PubKey {
    /// The key in a form that can encrypt and verify.
    pub(crate) fn rsa(&self) -> Result<RsaPublic, Code> {
        let (bits, exponent) = self.parms.rsa_details()?;
        let key = RsaPublic::new(&self.modulus, exponent).map_err(|_| codes::BAD_KEY_PROPERTY)?;
        if key.size() * 8 == bits as usize { Ok(key) } else { Err(codes::BAD_KEY_PROPERTY) }
    }

    /// SHA-1 of the external form.
    pub(crate) fn digest(&self) -> Digest {
        sha1(&[&self.to_bytes()])
    }
}

/// `TPM_KEY` (section 10.2) or `TPM_KEY12` (section 10.3), told apart by their first bytes.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct KeyBlob {
    pub v12: bool,
    pub usage: u16,
    pub flags: u32,
    pub auth_data_usage: u8,
    pub parms: KeyParms,
    pub pcr_info: Vec<u8>,
    pub modulus: Vec<u8>,
    pub enc_data: Vec<u8>,
}

impl KeyBlob {
    fn put_public(&self, w: &mut Writer<'_>) {
        match self.v12 {
            true => {
                Tag::<0x0028>.put(w);
                w.u16(0);
            }
            false => Version11.put(w),
        }
        w.u16(self.usage).u32(self.flags).u8(self.auth_data_usage);
        self.parms.put(w);
        w.sized32(&self.pcr_info).sized32(&self.modulus);
    }

    /// What `pubDataDigest` is made of: everything but the encrypted part.
    pub(crate) fn public_digest(&self) -> Digest {
        let mut out = Vec::new();
        self.put_public(&mut Writer::new(&mut out));
        sha1(&[&out])
    }

    /// The public key structure.
    pub(crate) fn public(&self) -> PubKey {
        PubKey { parms: self.parms.clone(), modulus: self.modulus.clone() }
    }

    /// The PCR restriction, if there is one.
    pub(crate) fn restriction(&self) -> Result<Option<PcrRestriction>, Code> {
        PcrRestriction::parse(&self.pcr_info, self.v12)
    }

    /// Whether this TPM makes and loads keys like this: usage, schemes and sizes fit together (section 5.8.1; part 3,
    /// section 10.4, action 8).
    pub(crate) fn check_properties(&self) -> Result<(), Code> {
        let (bits, exponent) = self.parms.rsa_details()?;
        let (enc, sig) = (self.parms.enc_scheme, self.parms.sig_scheme);
        let encrypts = enc == ES_RSAESOAEP || enc == ES_RSAESPKCS;
        let signs = [SS_SHA1, SS_DER, SS_INFO].contains(&sig);
        let schemes = match self.usage {
            KEY_SIGNING => enc == ES_NONE && signs,
            KEY_STORAGE | KEY_MIGRATE | KEY_AUTHCHANGE => enc == ES_RSAESOAEP && sig == SS_NONE,
            KEY_IDENTITY => enc == ES_NONE && sig == SS_SHA1,
            KEY_BIND => encrypts && sig == SS_NONE,
            KEY_LEGACY => encrypts && signs,
            _ => false,
        };
        let strong = matches!(self.usage, KEY_STORAGE | KEY_MIGRATE | KEY_IDENTITY);
        let size = match strong {
            true => bits == 2048 && exponent == DEFAULT_EXPONENT,
            false => (512..=2048).contains(&bits) && bits % 16 == 0 && exponent >= 3 && exponent % 2 == 1,
        };
        let auth = matches!(self.auth_data_usage, AUTH_NEVER | AUTH_ALWAYS | AUTH_PRIV_USE_ONLY);
        if !schemes || !size || !auth {
            return Err(codes::BAD_KEY_PROPERTY);
        }
        self.restriction()?.map_or(Ok(()), |restriction| restriction.check())
    }

    /// Whether all bits of `flag` are set.
    pub(crate) fn has(&self, flag: u32) -> bool {
        self.flags & flag == flag
    }
}

impl Wire for KeyBlob {
    fn put(&self, w: &mut Writer<'_>) {
        self.put_public(w);
        w.sized32(&self.enc_data);
    }

    fn get(r: &mut Reader<'_>) -> Result<Self, Code> {
        let v12 = match r.array()? {
            [0x00, 0x28, 0, 0] => true,
            // Revision numbers below the two version bytes are the creator's and of no consequence (section 5.1).
            [1, 1, _, _] => false,
            [0x00, 0x28, _, _] => return Err(codes::BAD_PARAMETER),
            _ => return Err(codes::BAD_VERSION),
        };
        let (usage, flags, auth_data_usage) = (r.u16()?, r.u32()?, r.u8()?);
        if flags & !FLAG_MASK != 0 {
            return Err(codes::BAD_KEY_PROPERTY);
        }
        let parms = Wire::get(r)?;
        let (pcr_info, modulus, enc_data) = (Wire::get(r)?, Wire::get(r)?, Wire::get(r)?);
        Ok(Self { v12, usage, flags, auth_data_usage, parms, pcr_info, modulus, enc_data })
    }
}
impl crate::wire::Record for KeyBlob {}

wire_struct! {
    /// `TPM_STORE_ASYMKEY` (section 10.6): what a parent encrypts.
    #[derive(Clone)]
    pub(crate) struct StoreAsymKey {
        payload: u8,
        usage_auth: AuthData,
        migration_auth: AuthData,
        pub_data_digest: Digest,
        prime: Zeroizing<Vec<u8>>,
    }
}

impl StoreAsymKey {
    /// Whether it is a key that could be loaded. Sealed data looks the same but for the payload type.
    pub(crate) fn is_key(&self) -> bool {
        [PT_ASYM, PT_MIGRATE_RESTRICTED, PT_MIGRATE_EXTERNAL].contains(&self.payload)
    }
}

/// A key with its private part ready for use.
pub(crate) struct Key {
    pub blob: KeyBlob,
    pub payload: u8,
    pub usage_auth: AuthData,
    pub migration_auth: AuthData,
    pub pub_data_digest: Digest,
    pub rsa: RsaPrivate,
}

impl Key {
    /// Joins the public and the private part; they must belong together.
    pub(crate) fn join(blob: KeyBlob, store: StoreAsymKey) -> Result<Self, Code> {
        let (bits, exponent) = blob.parms.rsa_details()?;
        let rsa = RsaPrivate::from_prime(&blob.modulus, &store.prime, exponent).map_err(|_| codes::BAD_KEY_PROPERTY)?;
        if rsa.size() * 8 != bits as usize {
            return Err(codes::BAD_KEY_PROPERTY);
        }
        let StoreAsymKey { payload, usage_auth, migration_auth, pub_data_digest, prime: _ } = store;
        Ok(Self { blob, payload, usage_auth, migration_auth, pub_data_digest, rsa })
    }

    /// The private part.
    pub(crate) fn store(&self) -> StoreAsymKey {
        StoreAsymKey {
            payload: self.payload,
            usage_auth: self.usage_auth.clone(),
            migration_auth: self.migration_auth.clone(),
            pub_data_digest: self.pub_data_digest,
            prime: self.rsa.prime(),
        }
    }
}

impl Key {
    /// Fills a template with a new key: its public part, and the PCRs of the moment.
    pub(crate) fn create(
        mut blob: KeyBlob,
        rsa: RsaPrivate,
        payload: u8,
        usage_auth: AuthData,
        migration_auth: AuthData,
    ) -> Self {
        blob.modulus = rsa.public().modulus();
        blob.enc_data.clear();
        let pub_data_digest = blob.public_digest();
        Self { blob, payload, usage_auth, migration_auth, pub_data_digest, rsa }
    }

    /// Whether a key can be put under this one.
    pub(crate) fn is_storage(&self) -> bool {
        self.blob.usage == KEY_STORAGE
    }

    /// Whether it may leave the TPM.
    pub(crate) fn is_migratable(&self) -> bool {
        self.blob.has(FLAG_MIGRATABLE)
    }
}

impl Wire for Key {
    fn put(&self, w: &mut Writer<'_>) {
        self.blob.put(w);
        self.store().put(w);
    }

    fn get(r: &mut Reader<'_>) -> Result<Self, Code> {
        Self::join(KeyBlob::get(r)?, StoreAsymKey::get(r)?)
    }
}
