//! Chips that sign what they are told, so that every lie can be told.
#![allow(dead_code)] // each test program uses a part of it

use attest::{Bank, EndorsementKey, QuoteKey, Request, Subject};
use std::sync::OnceLock;
use tpm_crypto::ecc::P256Private;
use tpm_crypto::rsa::{KeyGen, RsaPrivate};
use tpm_crypto::{Drbg, sha1, sha256};
use tpm_wire::mgr::Evidence;

pub fn rng() -> Drbg {
    Drbg::new(&[5; 48], b"").unwrap()
}

pub fn rsa_key(seed: u8) -> RsaPrivate {
    let mut rng = Drbg::new(&[seed; 48], b"").unwrap();
    let mut making = KeyGen::new(2048, 65537).unwrap();
    loop {
        if let Some(key) = making.step(&mut rng) {
            return key;
        }
    }
}

/// An RSA key that every test of a program shares.
pub fn shared_rsa() -> RsaPrivate {
    static KEY: OnceLock<([u8; 256], Vec<u8>)> = OnceLock::new();
    let (modulus, prime) = KEY.get_or_init(|| {
        let key = rsa_key(1);
        (modulus(&key), key.prime().to_vec())
    });
    RsaPrivate::from_prime(modulus, prime, 65537).ok().unwrap()
}

pub fn modulus(key: &RsaPrivate) -> [u8; 256] {
    key.public().modulus().try_into().unwrap()
}

pub fn sized(bytes: &[u8]) -> Vec<u8> {
    [&(bytes.len() as u16).to_be_bytes()[..], bytes].concat()
}

/// Restricted, signing, user's authorization, made here and fixed here.
pub const AK: u32 = 1 << 18 | 1 << 16 | 1 << 6 | 1 << 5 | 1 << 4 | 1 << 1;

/// `TPMT_PUBLIC` of an ECDSA key.
pub fn ecc_public(key: &P256Private, attributes: u32, scheme: &[u16], curve: u16) -> Vec<u8> {
    let (x, y) = key.public().coordinates();
    let scheme: Vec<u8> = scheme.iter().flat_map(|part| part.to_be_bytes()).collect();
    [
        &[0, 0x23, 0, 0x0b][..],
        &attributes.to_be_bytes(),
        &[0, 0, 0, 0x10],
        &scheme,
        &curve.to_be_bytes(),
        &[0, 0x10],
        &sized(&x),
        &sized(&y),
    ]
    .concat()
}

/// `TPMT_PUBLIC` of an RSASSA key.
pub fn rsa_public(key: &RsaPrivate, attributes: u32) -> Vec<u8> {
    [
        &[0, 1, 0, 0x0b][..],
        &attributes.to_be_bytes(),
        &[0, 0, 0, 0x10, 0, 0x14, 0, 0x0b, 8, 0, 0, 0, 0, 0],
        &sized(&modulus(key)),
    ]
    .concat()
}

/// What a TPM 2.0 puts together before it signs.
#[derive(Clone)]
pub struct Attest {
    pub magic: u32,
    pub kind: u16,
    pub extra: Vec<u8>,
    pub banks: Vec<(u16, Vec<u8>)>,
    pub digest: Vec<u8>,
    pub behind: Vec<u8>,
}

impl Attest {
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut out = self.magic.to_be_bytes().to_vec();
        out.extend(self.kind.to_be_bytes());
        out.extend(sized(&[0; 34]));
        out.extend(sized(&self.extra));
        out.extend([0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 7, 0, 0, 0, 3, 1]);
        out.extend(0x0001_0002_0003_0004u64.to_be_bytes());
        out.extend((self.banks.len() as u32).to_be_bytes());
        for (bank, bitmap) in &self.banks {
            out.extend(bank.to_be_bytes());
            out.push(bitmap.len() as u8);
            out.extend(bitmap);
        }
        out.extend(sized(&self.digest));
        out.extend(&self.behind);
        out
    }
}

pub enum Signer {
    Rsa12(RsaPrivate),
    Rsa20(RsaPrivate),
    Ecc20(P256Private),
}

impl Signer {
    pub fn all() -> [Self; 3] {
        [Self::Rsa12(shared_rsa()), Self::Rsa20(shared_rsa()), Self::Ecc20(P256Private::generate(&mut rng()))]
    }

    pub fn key(&self) -> QuoteKey {
        let key = match self {
            Self::Rsa12(key) => QuoteKey::from_modulus(&modulus(key)),
            Self::Rsa20(key) => QuoteKey::parse(&rsa_public(key, AK)),
            Self::Ecc20(key) => QuoteKey::parse(&ecc_public(key, AK, &[0x18, 0x0b], 3)),
        };
        key.ok().unwrap()
    }

    pub fn bank(&self) -> Bank {
        if matches!(self, Self::Rsa12(_)) { Bank::Sha1 } else { Bank::Sha256 }
    }

    /// `TPMT_SIGNATURE` over `bytes`.
    pub fn signature_20(&self, bytes: &[u8]) -> Vec<u8> {
        let digest = sha256(&[bytes]);
        match self {
            Self::Rsa12(_) => unreachable!("a TPM 1.2"),
            Self::Rsa20(key) => {
                [&[0, 0x14, 0, 0x0b][..], &sized(&key.sign_pkcs1_sha256(&mut rng(), &digest).unwrap())].concat()
            }
            Self::Ecc20(key) => {
                let (r, s) = key.sign(&digest);
                [&[0, 0x18, 0, 0x0b][..], &sized(&r), &sized(&s)].concat()
            }
        }
    }

    /// An honest TPMS_ATTEST.
    pub fn attest(&self, request: &Request<'_>, hashes: &[[u8; 20]], pcrs: &[Vec<u8>]) -> Attest {
        let parts: Vec<&[u8]> = pcrs.iter().map(Vec::as_slice).collect();
        Attest {
            magic: 0xff54_4347,
            kind: 0x8018,
            extra: external(request, hashes).to_vec(),
            banks: vec![(request.bank.id(), request.pcrs.to_le_bytes()[..3].to_vec())],
            digest: sha256(&parts).to_vec(),
            behind: vec![],
        }
    }

    pub fn signed_20(&self, attest: &Attest, hashes: &[[u8; 20]], pcrs: &[Vec<u8>]) -> Vec<u8> {
        let attest = attest.to_bytes();
        let signature = self.signature_20(&attest);
        Evidence::Tpm20 { attest, signature, hashes: hashes.to_vec(), pcrs: pcrs.to_vec() }.to_bytes()
    }

    /// An honest answer.
    pub fn answer(&self, request: &Request<'_>, hashes: &[[u8; 20]], pcrs: &[Vec<u8>]) -> Vec<u8> {
        let Self::Rsa12(key) = self else {
            return self.signed_20(&self.attest(request, hashes, pcrs), hashes, pcrs);
        };
        let external = external(request, hashes);
        let values = pcrs.concat();
        let composite =
            sha1(&[&[0, 3], &request.pcrs.to_le_bytes()[..3], &(values.len() as u32).to_be_bytes(), &values]);
        let digest = sha1(&[&[1, 1, 0, 0], b"QUOT", &composite, &external]);
        let signature = key.sign_pkcs1_sha1(&mut rng(), &digest).unwrap();
        Evidence::Tpm12 { signature, hashes: hashes.to_vec(), pcrs: pcrs.to_vec() }.to_bytes()
    }
}

/// The external data, by the formulas of the documentation.
fn external(request: &Request<'_>, hashes: &[[u8; 20]]) -> [u8; 20] {
    let flags = request.flags.to_be_bytes();
    let head = if request.subject == Subject::Group { b"SHOW" } else { &flags };
    sha1(&[head, &request.data, &hashes.concat()])
}

/// Values for the PCRs of `mask`.
pub fn values(mask: u32, bank: Bank) -> Vec<Vec<u8>> {
    attest::pcr_indices(mask).map(|index| vec![index + 1; bank.size()]).collect()
}

/// A vTPM's endorsement key.
pub fn vtpm_ek(seed: u8) -> EndorsementKey {
    let mut modulus = [seed | 0x81; 256];
    modulus[255] |= 1;
    EndorsementKey::from_modulus(&modulus).ok().unwrap()
}
