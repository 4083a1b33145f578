//! Starting the chip and asking it about itself.

use super::codes::{self, ord, rt};
use super::{Chip, ChipError, ended, short};
use crate::hardware::{Bank, ChipInfo, Outlook, Version};
use alloc::vec::Vec;
use tpm_crypto::sha1;
use tpm_wire::{Reader, Transport, Truncated, Writer};
use zeroize::Zeroizing;

/// `TPM_CAPABILITY_AREA` and sub-capabilities (part 2, section 21).
mod cap {
    pub const PROPERTY: u32 = 0x05;
    pub const HANDLE: u32 = 0x14;
    pub const VERSION_VAL: u32 = 0x1a;
    pub const PROP_OWNER: u32 = 0x111;
    pub const PROP_TIS_TIMEOUT: u32 = 0x115;
}

impl<T: Transport> Chip<'_, T> {
    /// Starts the chip if the firmware has not, frees what others left behind in it, and asks what it is.
    pub(crate) async fn identify(&self) -> Result<ChipInfo, ChipError> {
        self.startup().await?;
        let version = self.capability(cap::VERSION_VAL, &[]).await?;
        let (revision, vendor, firmware) = version_info(&version).map_err(short(ord::GET_CAPABILITY))?;
        self.make_ready().await?;
        Ok(ChipInfo {
            version: Version::V12,
            vendor,
            firmware,
            revision,
            boot_id: self.boot_id().await?,
            owned: self.owned().await?,
            timeouts: self.property(cap::PROP_TIS_TIMEOUT).await.ok().and_then(|out| numbers(&out)),
            bank: Bank::Sha1,
        })
    }

    /// Makes a chip ready that did not answer as it should: starts it if it was reset (and says so) and frees what is left in it.
    pub(crate) async fn restart(&self) -> Result<bool, ChipError> {
        let was_reset = self.startup().await?;
        self.make_ready().await?;
        Ok(was_reset)
    }

    /// TPM_Startup (part 3, section 3.2): whether it was needed.
    async fn startup(&self) -> Result<bool, ChipError> {
        const ST_CLEAR: u16 = 1;
        match self.call(ord::STARTUP, &ST_CLEAR.to_be_bytes()).await {
            Ok(_) => Ok(true),
            Err(ChipError::Refused { code: codes::INVALID_POSTINIT, .. }) => Ok(false),
            Err(error) => Err(error),
        }
    }

    async fn make_ready(&self) -> Result<(), ChipError> {
        // A chip that has not finished its self test answers most commands with "needs self test"; asking early lets it work
        // while nothing waits. Some chips refuse the command when they are done.
        match self.call(ord::CONTINUE_SELF_TEST, &[]).await {
            Ok(_) | Err(ChipError::Refused { .. }) => (),
            Err(error) => return Err(error),
        }
        for resource in [rt::KEY, rt::AUTH, rt::TRANS] {
            self.flush_all(resource).await?;
        }
        Ok(())
    }

    /// Whether the chip has an owner.
    pub(super) async fn owned(&self) -> Result<bool, ChipError> {
        match self.property(cap::PROP_OWNER).await?.as_slice() {
            [owned] => Ok(*owned != 0),
            _ => Err(ChipError::Malformed { ordinal: ord::GET_CAPABILITY }),
        }
    }

    /// `count` bytes from the chip's random generator. A chip may give fewer at a time, but never none.
    pub async fn random(&self, count: usize) -> Result<Zeroizing<Vec<u8>>, ChipError> {
        let malformed = ChipError::Malformed { ordinal: ord::GET_RANDOM };
        let mut all = Zeroizing::new(Vec::with_capacity(count));
        while let Some(missing) = count.checked_sub(all.len()).filter(|missing| *missing > 0) {
            let asked = u32::try_from(missing).map_err(|_| malformed)?;
            let out = self.call(ord::GET_RANDOM, &asked.to_be_bytes()).await?;
            let mut r = Reader::new(&out);
            let bytes = r.sized32().map_err(short(ord::GET_RANDOM))?;
            if bytes.is_empty() || bytes.len() > missing || !r.is_empty() {
                return Err(malformed);
            }
            all.extend_from_slice(bytes);
        }
        Ok(all)
    }

    async fn boot_id(&self) -> Result<[u8; 20], ChipError> {
        let out = self.call(ord::GET_TICKS, &[]).await?;
        // TPM_CURRENT_TICKS: tag, currentTicks, tickRate, tickNonce (part 2, section 15.1).
        let mut r = Reader::new(&out);
        let nonce = (|| {
            r.bytes(2 + 8 + 2)?;
            r.array::<20>()
        })()
        .map_err(short(ord::GET_TICKS))?;
        ended(&r, ord::GET_TICKS)?;
        Ok(sha1(&[b"vtpmmgr: start of the machine", &nonce]))
    }

    async fn property(&self, property: u32) -> Result<Vec<u8>, ChipError> {
        self.capability(cap::PROPERTY, &property.to_be_bytes()).await
    }

    async fn capability(&self, area: u32, sub: &[u8]) -> Result<Vec<u8>, ChipError> {
        let mut params = Vec::new();
        Writer::new(&mut params).u32(area).sized32(sub);
        let out = self.call(ord::GET_CAPABILITY, &params).await?;
        let mut r = Reader::new(&out);
        let answer = r.sized32().map_err(short(ord::GET_CAPABILITY))?;
        ended(&r, ord::GET_CAPABILITY)?;
        Ok(answer.to_vec())
    }

    /// Frees every key slot or session of one kind; the chip has few, and the manager owns it.
    async fn flush_all(&self, resource: u32) -> Result<(), ChipError> {
        for handle in self.handles(resource).await? {
            self.flush(handle, resource).await?;
        }
        Ok(())
    }

    /// The handles of one kind that are in use (TPM_KEY_HANDLE_LIST, part 2, section 5.6).
    pub(super) async fn handles(&self, resource: u32) -> Result<Vec<u32>, ChipError> {
        let list = match self.capability(cap::HANDLE, &resource.to_be_bytes()).await {
            Ok(list) => list,
            // Not every chip lists every kind.
            Err(ChipError::Refused { code, .. }) if super::outlook(code) == Outlook::Final => return Ok(Vec::new()),
            Err(error) => return Err(error),
        };
        let mut r = Reader::new(&list);
        let count = r.u16().map_err(short(ord::GET_CAPABILITY))?;
        (0..count).map(|_| r.u32().map_err(short(ord::GET_CAPABILITY))).collect()
    }
}

/// Specification level × 256 + errata revision, vendor, firmware revision from a TPM_CAP_VERSION_INFO: tag, version (major,
/// minor, revMajor, revMinor), specLevel, errataRev, vendor, vendor's own part (part 2, section 21.6).
fn version_info(bytes: &[u8]) -> Result<(u32, [u8; 4], [u32; 2]), Truncated> {
    let mut r = Reader::new(bytes);
    r.bytes(2 + 2)?;
    let firmware = [u32::from(r.u8()?), u32::from(r.u8()?)];
    let revision = u32::from(r.u16()?) << 8 | u32::from(r.u8()?);
    Ok((revision, r.array()?, firmware))
}

/// A fixed list of 32-bit numbers and nothing else.
fn numbers<const N: usize>(bytes: &[u8]) -> Option<[u32; N]> {
    let (words, []) = bytes.as_chunks::<4>() else { return None };
    let words: &[[u8; 4]; N] = words.try_into().ok()?;
    Some(words.map(u32::from_be_bytes))
}
