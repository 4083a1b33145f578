//! What the vault holds: the engine's permanent state, and its volatile state if that was stored.
//!
//! The permanent state alone lies there as the engine gives it. With a volatile state beside it (docs/formats/vtpm-host.md):
//! 8 bytes of magic, 16-bit version, volatile state and permanent state behind 32-bit lengths, all big-endian.

use anyhow::{Result, bail, ensure};
use tpm_wire::{Reader, Writer};
use zeroize::Zeroizing;

/// Bytes that are wiped when dropped and never printed.
pub type Secret = Zeroizing<Vec<u8>>;

const MAGIC: &[u8; 8] = b"vTPMhost";
const VERSION: u16 = 1;

/// The content of the vault.
#[derive(Clone)]
pub struct Kept {
    /// The engine's permanent state.
    pub engine: Secret,
    /// PCRs, loaded keys and sessions that belong to it, waiting for the next INIT.
    pub volatile: Option<Secret>,
}

impl Kept {
    /// The bytes for the vault.
    pub fn encode(&self) -> Secret {
        let Some(volatile) = &self.volatile else { return self.engine.clone() };
        // Reserved whole: a vector that grows leaves unwiped copies behind.
        let mut out = Secret::new(Vec::with_capacity(32 + volatile.len() + self.engine.len()));
        Writer::new(&mut out).bytes(MAGIC).u16(VERSION).sized32(volatile).sized32(&self.engine);
        out
    }

    /// Reads them back.
    pub fn decode(bytes: Secret) -> Result<Self> {
        let mut reader = Reader::new(&bytes);
        if reader.array::<8>().ok().as_ref() != Some(MAGIC) {
            return Ok(Self { engine: bytes, volatile: None });
        }
        match reader.u16() {
            Ok(VERSION) => {}
            Ok(newer) if newer > VERSION => bail!(
                "the state has format {newer}, and this program knows up to {VERSION}: start it with the newer program"
            ),
            _ => bail!("the vault opens but the state in it is malformed; report this as a bug"),
        }
        let parts = reader.sized32().and_then(|volatile| Ok((volatile, reader.sized32()?)));
        match parts {
            Ok((volatile, engine)) if reader.is_empty() => {
                let volatile = Some(Secret::new(volatile.to_vec()));
                Ok(Self { engine: Secret::new(engine.to_vec()), volatile })
            }
            _ => bail!("the vault opens but the state in it is malformed; report this as a bug"),
        }
    }
}

/// Refuses what is too long to be a state of this program.
pub fn check_length(length: usize) -> Result<()> {
    ensure!(length <= MAX_BLOB, "a state of {length} bytes, and {MAX_BLOB} is the most");
    Ok(())
}

/// The longest state blob that is taken in, in bytes. Two of them fit into a vault.
pub const MAX_BLOB: usize = 480 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    fn secret(bytes: &[u8]) -> Secret {
        Secret::new(bytes.to_vec())
    }

    #[test]
    fn what_is_kept_reads_back() {
        for volatile in [None, Some(secret(b"")), Some(secret(b"pcrs"))] {
            let kept = Kept { engine: secret(b"XVTPM12P..."), volatile: volatile.clone() };
            let back = Kept::decode(kept.encode()).unwrap();
            assert_eq!((back.engine, back.volatile), (kept.engine, volatile));
        }
    }

    #[test]
    fn version_1_reads_for_ever() {
        let bytes = b"vTPMhost\0\x01\0\0\0\x04pcrs\0\0\0\x06engine";
        let kept = Kept { engine: secret(b"engine"), volatile: Some(secret(b"pcrs")) };
        assert_eq!(kept.encode()[..], bytes[..]);
    }

    #[test]
    fn every_damage_is_refused() {
        let good = Kept { engine: secret(b"engine"), volatile: Some(secret(b"pcrs")) }.encode();
        for cut in 8..good.len() {
            assert!(Kept::decode(secret(&good[..cut])).is_err(), "cut at {cut}");
        }
        for at in [10, 18] {
            for length in [0u32, 1, 7, 0xffff, u32::MAX] {
                let mut bad = good.clone();
                bad[at..at + 4].copy_from_slice(&length.to_be_bytes());
                assert!(Kept::decode(bad).is_err(), "{length} at {at}");
            }
        }
        let mut newer = good.clone();
        newer[9] = 2;
        assert!(Kept::decode(newer).err().unwrap().to_string().contains("newer program"));
        assert!(Kept::decode(secret(&[&good[..], b"x"].concat())).is_err());
        assert!(check_length(MAX_BLOB).is_ok() && check_length(MAX_BLOB + 1).is_err());
    }
}
