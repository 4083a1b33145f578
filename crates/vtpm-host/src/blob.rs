//! State blobs as they go to another host (docs/formats/vtpm-host.md): 8 bytes of magic, 16-bit version, the blob's type, flags,
//! 32-bit length of what follows, all big-endian; then the state, or 12 bytes of nonce and the state sealed with AES-256-GCM-SIV,
//! the header as associated data.

use crate::kept::Secret;
use core::fmt;
use tpm_crypto::{Drbg, aead, hkdf_sha256};
use tpm_wire::{Reader, Writer};
use zeroize::Zeroizing;

const MAGIC: &[u8; 8] = b"vTPMblob";
const VERSION: u16 = 1;
const HEADER: usize = 16;
const SEALED: u8 = 1;

/// `PTM_BLOB_TYPE_*`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// What survives everything.
    Permanent = 1,
    /// What ends with a reset.
    Volatile = 2,
    /// What `TPM_SaveState` kept. This program keeps that with the permanent state, so the blob is always empty.
    SaveState = 3,
}

impl Kind {
    /// The kind that `number` stands for.
    pub fn from_number(number: u32) -> Option<Self> {
        [Self::Permanent, Self::Volatile, Self::SaveState].into_iter().find(|kind| *kind as u32 == number)
    }
}

/// The key that blobs are sealed with.
pub struct MigrationKey(Zeroizing<[u8; aead::KEY_SIZE]>);

impl MigrationKey {
    /// The key that comes of `--migration-key`.
    pub fn derive(key: &[u8]) -> Self {
        let mut out = Zeroizing::new([0; aead::KEY_SIZE]);
        hkdf_sha256(key, b"vtpm-host", b"state blobs", &mut out[..]);
        Self(out)
    }
}

/// Why a blob is refused.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum BlobError {
    /// It does not begin like one of this program.
    Foreign,
    /// A later version of this program made it.
    Newer(u16),
    /// It is of another type than it is said to be.
    OtherKind,
    /// Cut short, too long, or with flags that contradict each other.
    Malformed,
    /// It is sealed, and there is no migration key here.
    NoKey,
    /// It is not sealed, and there is a migration key here.
    NotSealed,
    /// Sealed with another key, or changed.
    WrongKey,
}

impl BlobError {
    /// `TPM_BAD_PARAMETER`, `TPM_BAD_VERSION`, `TPM_KEYNOTFOUND` or `TPM_DECRYPT_ERROR` (TPM Main, part 2, section 16).
    pub const fn code(self) -> u32 {
        match self {
            Self::Foreign | Self::OtherKind | Self::Malformed | Self::NotSealed => 3,
            Self::Newer(_) => 46,
            Self::NoKey => 13,
            Self::WrongKey => 33,
        }
    }
}

impl fmt::Display for BlobError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Foreign => f.write_str("it was not made by vtpm-host"),
            Self::Newer(found) => write!(
                f,
                "its format is {found}, and this program knows up to {VERSION}: migrate to a host with the newer program"
            ),
            Self::OtherKind => f.write_str("it is of another type than it is said to be"),
            Self::Malformed => f.write_str("it is damaged"),
            Self::NoKey => f.write_str("it is sealed: start this program with the --migration-key of the other side"),
            Self::NotSealed => f.write_str(
                "it is not sealed, but --migration-key is given here: give it on the other side, too, or on neither",
            ),
            Self::WrongKey => f.write_str("--migration-key is not the other side's, or the blob was changed"),
        }
    }
}

impl core::error::Error for BlobError {}

/// Wraps a state; sealed if there is a key.
pub fn wrap(kind: Kind, state: &[u8], key: Option<&MigrationKey>, rng: &mut Drbg) -> Secret {
    let mut out = Secret::new(Vec::with_capacity(HEADER + aead::NONCE_SIZE + state.len() + aead::TAG_SIZE));
    let header = |out: &mut Vec<u8>, flags, length: usize| {
        let length = u32::try_from(length).unwrap_or(u32::MAX);
        Writer::new(out).bytes(MAGIC).u16(VERSION).u8(kind as u8).u8(flags).u32(length);
    };
    match key {
        None => {
            header(&mut out, 0, state.len());
            out.extend_from_slice(state);
        }
        Some(MigrationKey(key)) => {
            header(&mut out, SEALED, aead::NONCE_SIZE + state.len() + aead::TAG_SIZE);
            let mut nonce = [0; aead::NONCE_SIZE];
            rng.fill(&mut nonce);
            let sealed = aead::seal(key, &nonce, &out, state);
            out.extend_from_slice(&nonce);
            out.extend_from_slice(&sealed);
        }
    }
    out
}

/// Takes the state out of what [`wrap`] made.
pub fn unwrap(kind: Kind, blob: &[u8], key: Option<&MigrationKey>) -> Result<Secret, BlobError> {
    let mut reader = Reader::new(blob);
    if reader.array::<8>().ok().as_ref() != Some(MAGIC) {
        return Err(BlobError::Foreign);
    }
    match reader.u16() {
        Ok(VERSION) => {}
        Ok(newer) if newer > VERSION => return Err(BlobError::Newer(newer)),
        _ => return Err(BlobError::Malformed),
    }
    let fields = (|| Ok((reader.u8()?, reader.u8()?, reader.u32()?)))();
    let (found, flags, length) = fields.map_err(|tpm_wire::Truncated| BlobError::Malformed)?;
    let header = blob.get(..HEADER).ok_or(BlobError::Malformed)?;
    if length as usize != reader.rest().len() {
        return Err(BlobError::Malformed);
    }
    if found != kind as u8 {
        return Err(BlobError::OtherKind);
    }
    match (flags, key) {
        (0, None) => Ok(Secret::new(reader.rest().to_vec())),
        (0, Some(_)) => Err(BlobError::NotSealed),
        (SEALED, None) => Err(BlobError::NoKey),
        (SEALED, Some(MigrationKey(key))) => {
            let nonce = reader.array().map_err(|_| BlobError::Malformed)?;
            aead::open(key, &nonce, header, reader.rest()).map_err(|aead::NotAuthentic| BlobError::WrongKey)
        }
        _ => Err(BlobError::Malformed),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `state` under the key that comes of sixteen sevens; OpenSSL seals it to the same bytes.
    const SEALED_STATE: [u8; 21] = [
        0xc3, 0xe3, 0xd7, 0xe5, 0xe6, 0xf5, 0x29, 0x1c, 0x7d, 0x5b, 0xd5, 0xba, 0x17, 0xdf, 0x04, 0xe9, 0xba, 0x73,
        0x9e, 0x5b, 0x60,
    ];

    fn rng() -> Drbg {
        Drbg::new(&[7; 48], b"").unwrap()
    }

    #[test]
    fn blobs_come_out_as_they_went_in() {
        let key = MigrationKey::derive(b"0123456789abcdef");
        for key in [None, Some(&key)] {
            for state in [&b""[..], b"state"] {
                let blob = wrap(Kind::Volatile, state, key, &mut rng());
                assert_eq!(unwrap(Kind::Volatile, &blob, key).unwrap()[..], *state);
                assert_eq!(unwrap(Kind::Permanent, &blob, key), Err(BlobError::OtherKind));
                for cut in 0..blob.len() {
                    assert!(unwrap(Kind::Volatile, &blob[..cut], key).is_err(), "cut at {cut}");
                }
                assert!(unwrap(Kind::Volatile, &[&blob[..], b"x"].concat(), key).is_err());
            }
        }
    }

    #[test]
    fn version_1_reads_for_ever() {
        let plain = b"vTPMblob\0\x01\x01\0\0\0\0\x05state";
        assert_eq!(wrap(Kind::Permanent, b"state", None, &mut rng())[..], plain[..]);
        let mut sealed = b"vTPMblob\0\x01\x02\x01\0\0\0\x21".to_vec();
        sealed.extend([0; 12]);
        sealed.extend(SEALED_STATE);
        let key = MigrationKey::derive(&[7; 16]);
        assert_eq!(unwrap(Kind::Volatile, &sealed, Some(&key)).unwrap()[..], b"state"[..]);
    }

    #[test]
    fn keys_and_blobs_have_to_match() {
        let (ours, theirs) = (MigrationKey::derive(b"ours"), MigrationKey::derive(b"theirs"));
        let plain = wrap(Kind::Permanent, b"secret", None, &mut rng());
        let sealed = wrap(Kind::Permanent, b"secret", Some(&ours), &mut rng());
        assert!(!sealed.windows(6).any(|window| window == b"secret"));
        assert_eq!(unwrap(Kind::Permanent, &plain, Some(&ours)), Err(BlobError::NotSealed));
        assert_eq!(unwrap(Kind::Permanent, &sealed, None), Err(BlobError::NoKey));
        assert_eq!(unwrap(Kind::Permanent, &sealed, Some(&theirs)), Err(BlobError::WrongKey));
        for at in 0..sealed.len() {
            let mut bad = sealed.clone();
            bad[at] ^= 1;
            assert!(unwrap(Kind::Permanent, &bad, Some(&ours)).is_err(), "byte {at}");
        }
    }

    #[test]
    fn headers_are_checked() {
        let good = wrap(Kind::Permanent, b"state", None, &mut rng());
        let with = |at: usize, bytes: &[u8]| {
            let mut blob = good.to_vec();
            blob[at..at + bytes.len()].copy_from_slice(bytes);
            unwrap(Kind::Permanent, &blob, None).err()
        };
        assert_eq!(with(0, b"X"), Some(BlobError::Foreign));
        assert_eq!(with(8, &[0, 2]), Some(BlobError::Newer(2)));
        assert_eq!(with(8, &[0, 0]), Some(BlobError::Malformed));
        for flags in [2, 3, 0xff] {
            assert_eq!(with(11, &[flags]), Some(BlobError::Malformed));
        }
        for length in [0u32, 1, 4, 6, 0xffff, 0x7fff_ffff, u32::MAX] {
            assert_eq!(with(12, &length.to_be_bytes()), Some(BlobError::Malformed), "{length}");
        }
        assert!([0, 4, u32::MAX].into_iter().all(|number| Kind::from_number(number).is_none()));
    }
}
