//! The local certificate authority, and the certificates that a TPM 1.2 leaves its factory with (TCG Credential Profiles for
//! TPM Family 1.2, revision 8, sections 3.2 and 3.3; the forms are those of swtpm's tools, so that whoever reads theirs reads
//! these).

use super::der::*;
use anyhow::{Context, Result, anyhow};
use rustix::fs::OFlags;
use sec1::EcPrivateKey;
use sec1::der::pem::{LineEnding, decode_vec, encode_string};
use std::fs::{DirBuilder, OpenOptions};
use std::io::{ErrorKind, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};
use tpm_crypto::ecc::{P256Private, P256Public};
use tpm_crypto::rsa::RsaPublic;
use tpm_crypto::{Drbg, sha1, sha256};
use zeroize::Zeroizing;

const NAME: &str = "vtpm-host-localca";
const KEY_FILE: &str = "signkey.pem";
const CERTIFICATE_FILE: &str = "issuercert.pem";

const ECDSA_SHA256: &[u32] = &[1, 2, 840, 10045, 4, 3, 2];
const EC_PUBLIC_KEY: &[u32] = &[1, 2, 840, 10045, 2, 1];
const PRIME256V1: &[u32] = &[1, 2, 840, 10045, 3, 1, 7];
const RSA_ENCRYPTION: &[u32] = &[1, 2, 840, 113_549, 1, 1, 1];
const COMMON_NAME: &[u32] = &[2, 5, 4, 3];

/// The engine as certificates name it: `TPM_CAP_PROP_MANUFACTURER`, model, version.
const TPM: [(&[u32], &str); 3] =
    [(&[2, 23, 133, 2, 1], "id:58565452"), (&[2, 23, 133, 2, 2], "vtpm-host"), (&[2, 23, 133, 2, 3], "id:00000001")];

/// What a certificate is about.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// The endorsement key is in a TPM of this make.
    Endorsement,
    /// The TPM is part of this platform.
    Platform,
}

/// A certificate authority in a folder of its own.
pub struct Authority {
    key: P256Private,
}

impl Authority {
    /// Opens the authority in `folder`, or makes it.
    pub fn open(folder: &Path, rng: &mut Drbg) -> Result<Self> {
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(folder)
            .with_context(|| format!("cannot make the authority's folder {}", folder.display()))?;
        let path = folder.join(KEY_FILE);
        match std::fs::read(&path).map(Zeroizing::new) {
            Ok(text) => {
                let key = read_key(&text).with_context(|| format!("{} is no P-256 key", path.display()))?;
                Ok(Self { key })
            }
            Err(error) if error.kind() == ErrorKind::NotFound => {
                let authority = Self { key: P256Private::generate(rng) };
                let certificate = authority.own_certificate(rng)?;
                let pem = encode_string("CERTIFICATE", LineEnding::LF, &certificate).map_err(|error| anyhow!(error))?;
                create(&folder.join(CERTIFICATE_FILE), 0o644, pem.as_bytes(), true)?;
                // The key comes last: what has a key has a certificate.
                let pem = encode_string("EC PRIVATE KEY", LineEnding::LF, &write_key(&authority.key));
                let pem = Zeroizing::new(pem.map_err(|error| anyhow!(error))?);
                create(&path, 0o600, pem.as_bytes(), false)?;
                log::info!("made a local certificate authority in {}", folder.display());
                Ok(authority)
            }
            Err(error) => Err(error).with_context(|| format!("cannot read {}", path.display())),
        }
    }

    fn key_id(&self) -> [u8; 20] {
        sha1(&[&point(&self.key.public())])
    }

    fn own_certificate(&self, rng: &mut Drbg) -> Result<Vec<u8>> {
        let spki = sequence(&[sequence(&[oid(EC_PUBLIC_KEY), oid(PRIME256V1)]), bits(&point(&self.key.public()), 0)]);
        let extensions = [
            extension(&[2, 5, 29, 19], true, &sequence(&[boolean(true)])),
            // keyCertSign, cRLSign.
            extension(&[2, 5, 29, 15], true, &bits(&[0x06], 1)),
            extension(&[2, 5, 29, 14], false, &octets(&self.key_id())),
        ];
        self.certify(&name(&[(COMMON_NAME, NAME)]), &spki, &extensions, rng)
    }

    /// A certificate of this kind for a TPM's endorsement key. `machine` is the common name, if the machine has one.
    pub fn issue(&self, kind: Kind, key: &RsaPublic, machine: Option<&str>, rng: &mut Drbg) -> Result<Vec<u8>> {
        let number = sequence(&[integer(&key.modulus()), integer(&key.exponent().to_be_bytes())]);
        let spki = sequence(&[sequence(&[oid(RSA_ENCRYPTION), null()]), bits(&number, 0)]);
        let (names, purpose): (&[(&[u32], &str)], u32) = match kind {
            Kind::Endorsement => (&TPM, 1),
            Kind::Platform => {
                (&[(&[2, 23, 133, 2, 4], "vtpm-host"), (&[2, 23, 133, 2, 5], "QEMU"), (&[2, 23, 133, 2, 6], "1")], 2)
            }
        };
        let mut extensions = vec![
            extension(&[2, 5, 29, 37], false, &sequence(&[oid(&[2, 23, 133, 8, purpose])])),
            extension(&[2, 5, 29, 17], true, &sequence(&[explicit(4, &name(names))])),
            extension(&[2, 5, 29, 19], true, &sequence(&[])),
            extension(&[2, 5, 29, 35], false, &sequence(&[tagged(0x80, &self.key_id())])),
            // keyEncipherment.
            extension(&[2, 5, 29, 15], true, &bits(&[0x20], 5)),
        ];
        if kind == Kind::Endorsement {
            // tPMSpecification: family, level, revision.
            let specification = sequence(&[text("1.2"), integer(&[2]), integer(&[116])]);
            let attribute = sequence(&[oid(&[2, 23, 133, 2, 16]), set(&specification)]);
            extensions.push(extension(&[2, 5, 29, 9], false, &sequence(&[attribute])));
        }
        let subject = machine.map_or_else(|| sequence(&[]), |machine| name(&[(COMMON_NAME, machine)]));
        self.certify(&subject, &spki, &extensions, rng)
    }

    fn certify(&self, subject: &[u8], spki: &[u8], extensions: &[Vec<u8>], rng: &mut Drbg) -> Result<Vec<u8>> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).context("the clock is before 1970")?.as_secs();
        let mut serial: [u8; 16] = rng.bytes();
        // Positive and of full length, whatever came.
        serial[0] = serial[0] & 0x7f | 0x40;
        let algorithm = sequence(&[oid(ECDSA_SHA256)]);
        let content = sequence(&[
            explicit(0, &integer(&[2])),
            integer(&serial),
            algorithm.clone(),
            name(&[(COMMON_NAME, NAME)]),
            sequence(&[time(now), never()]),
            subject.to_vec(),
            spki.to_vec(),
            explicit(3, &sequence(extensions)),
        ]);
        let (r, s) = self.key.sign(&sha256(&[&content]));
        Ok(sequence(&[content, algorithm, bits(&sequence(&[integer(&r), integer(&s)]), 0)]))
    }
}

/// Name: one attribute in each part.
fn name(attributes: &[(&[u32], &str)]) -> Vec<u8> {
    let parts: Vec<Vec<u8>> =
        attributes.iter().map(|(kind, value)| set(&sequence(&[oid(kind), text(value)]))).collect();
    sequence(&parts)
}

fn extension(kind: &[u32], critical: bool, value: &[u8]) -> Vec<u8> {
    let mut parts = vec![oid(kind)];
    if critical {
        parts.push(boolean(true));
    }
    parts.push(octets(value));
    sequence(&parts)
}

/// An uncompressed point.
fn point(key: &P256Public) -> Vec<u8> {
    let (x, y) = key.coordinates();
    [&[4][..], &x, &y].concat()
}

/// ECPrivateKey (RFC 5915).
fn write_key(key: &P256Private) -> Zeroizing<Vec<u8>> {
    let number = Zeroizing::new(octets(&key.to_bytes()[..]));
    let public = bits(&point(&key.public()), 0);
    let parts =
        Zeroizing::new([&integer(&[1])[..], &number, &explicit(0, &oid(PRIME256V1)), &explicit(1, &public)].concat());
    Zeroizing::new(tagged(0x30, &parts))
}

fn read_key(text: &[u8]) -> Result<P256Private> {
    let (_, bytes) = decode_vec(text).map_err(|error| anyhow!(error))?;
    let bytes = Zeroizing::new(bytes);
    let key = EcPrivateKey::try_from(&bytes[..]).map_err(|error| anyhow!(error))?;
    let number = key.private_key.try_into().context("not 32 bytes")?;
    P256Private::from_bytes(number).map_err(|error| anyhow!(error))
}

fn create(path: &Path, mode: u32, content: &[u8], replace: bool) -> Result<()> {
    let mut options = OpenOptions::new();
    options.write(true).mode(mode).custom_flags(OFlags::NOFOLLOW.bits() as i32);
    if replace {
        options.create(true).truncate(true)
    } else {
        options.create_new(true)
    };
    let written = options.open(path).and_then(|mut file| {
        file.write_all(content)?;
        file.sync_all()
    });
    written.with_context(|| format!("cannot write {}", path.display()))
}

/// Writes a certificate where the operator asked for it.
pub fn export(path: &Path, certificate: &[u8]) -> Result<()> {
    create(path, 0o640, certificate, true)
}
