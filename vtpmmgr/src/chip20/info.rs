//! Starting the chip and asking it about itself.

use super::keys::{Kind, storage_template};
use super::session::{Auth, Session};
use super::{Chip, ChipError, read, refusal};
use crate::hardware::{Bank, ChipInfo, PcrSelection, Version};
use alloc::vec::Vec;
use tpm_crypto::{Drbg, sha1};
use tpm_wire::v20::{ClockInfo, PcrBank, cap, cc, curve, handle, pt, rc, rh, session, su};
use tpm_wire::{Reader, Transport, Truncated, Writer};
use zeroize::Zeroizing;

/// The most handles taken from one answer.
const MAX_HANDLES: u32 = 254;
/// The most random bytes asked for at once; a chip gives as many as its largest digest has, at most 64.
const MAX_RANDOM: usize = 64;

impl<T: Transport> Chip<'_, T> {
    /// Starts the chip if the firmware has not, frees what others left behind in it, and asks what it is.
    pub(crate) async fn identify(&self) -> Result<ChipInfo, ChipError> {
        self.restart().await?;
        let firmware = [self.property(pt::FIRMWARE_VERSION_1).await?, self.property(pt::FIRMWARE_VERSION_2).await?];
        Ok(ChipInfo {
            version: Version::V20,
            vendor: self.property(pt::MANUFACTURER).await?.to_be_bytes(),
            firmware,
            revision: self.property(pt::REVISION).await?,
            boot_id: self.boot_id().await?,
            owned: self.property(pt::PERMANENT).await? & 1 != 0,
            timeouts: None,
            bank: self.bank().await?,
        })
    }

    /// Starts a chip that was reset, and frees what is left in it; whether it had been reset.
    pub(crate) async fn restart(&self) -> Result<bool, ChipError> {
        self.known.take();
        let was_reset = match self.call(cc::STARTUP, &su::CLEAR.to_be_bytes()).await {
            Ok(_) => true,
            Err(error) if refusal(&error, cc::STARTUP) == Some(rc::INITIALIZE) => false,
            Err(error) => return Err(error),
        };
        // A chip that tests itself bit by bit is told to do what it has not done yet; some refuse when they are done.
        match self.call(cc::SELF_TEST, &[0]).await {
            Ok(_) | Err(ChipError::Refused { .. }) => (),
            Err(error) => return Err(error),
        }
        for first in [handle::TRANSIENT, handle::HMAC_SESSION, handle::POLICY_SESSION] {
            for handle in self.handles(first).await? {
                self.flush(handle).await;
            }
        }
        Ok(was_reset)
    }

    /// TPM2_Shutdown (part 3, section 9.4): power may fail now. A chip that loses it without this counts that as a failed guess if a
    /// secret that can be guessed was used since its start (part 1, section 19.8.6). It works on all the same.
    pub(crate) async fn shut_down(&self) {
        let _ = self.call(cc::SHUTDOWN, &su::CLEAR.to_be_bytes()).await;
    }

    /// TPM2_GetCapability (part 3, section 30.2): the union behind the capability's number.
    async fn capability<O>(
        &self,
        area: u32,
        property: u32,
        count: u32,
        fields: impl FnOnce(&mut Reader<'_>) -> Result<O, Truncated>,
    ) -> Result<O, ChipError> {
        let mut params = Vec::new();
        Writer::new(&mut params).u32(area).u32(property).u32(count);
        let out = self.call(cc::GET_CAPABILITY, &params).await?;
        read(&out, cc::GET_CAPABILITY, |r| {
            let (_more, found) = (r.u8()?, r.u32()?);
            if found == area { fields(r) } else { Err(Truncated) }
        })
    }

    /// A property; 0 if the chip does not have it.
    async fn property(&self, property: u32) -> Result<u32, ChipError> {
        self.capability(cap::TPM_PROPERTIES, property, 1, |r| {
            let mut value = 0;
            for _ in 0..r.u32()? {
                let (found, its) = (r.u32()?, r.u32()?);
                if found == property {
                    value = its;
                }
            }
            Ok(value)
        })
        .await
    }

    /// The handles in use from `first` on that are of the same kind.
    pub(super) async fn handles(&self, first: u32) -> Result<Vec<u32>, ChipError> {
        self.capability(cap::HANDLES, first, MAX_HANDLES, |r| (0..r.u32()?).map(|_| r.u32()).collect()).await
    }

    /// What kind of key the chip makes for the manager: P-256 if it can.
    pub(super) async fn key_kind(&self) -> Result<Kind, ChipError> {
        if let Some(kind) = self.kind.get() {
            return Ok(kind);
        }
        let curves: Result<Vec<u16>, _> =
            self.capability(cap::ECC_CURVES, 0, MAX_HANDLES, |r| (0..r.u32()?).map(|_| r.u16()).collect()).await;
        let kind = match curves {
            Ok(curves) if curves.contains(&curve::NIST_P256) => Kind::P256,
            // A chip without elliptic curves may not know the capability either.
            Ok(_) | Err(ChipError::Refused { .. }) => Kind::Rsa2048,
            Err(error) => return Err(error),
        };
        self.kind.set(Some(kind));
        Ok(kind)
    }

    /// The bank that the manager uses: the first of SHA-256, SHA-384 and SHA-1 that has all 24 PCRs.
    pub(super) async fn bank(&self) -> Result<Bank, ChipError> {
        if let Some(bank) = self.bank.get() {
            return Ok(bank);
        }
        let all = (1 << PcrSelection::COUNT) - 1;
        let mut banks = Vec::new();
        self.capability(cap::PCRS, 0, 1, |r| {
            PcrBank::list(r, |bank| {
                if bank.mask & all == all {
                    banks.push(bank.hash);
                }
            })
        })
        .await?;
        let bank = [Bank::Sha256, Bank::Sha384, Bank::Sha1].into_iter().find(|bank| banks.contains(&bank.id()));
        let bank = bank.ok_or(ChipError::Unsupported { what: "24 PCRs with SHA-256, SHA-384 or SHA-1" })?;
        self.bank.set(Some(bank));
        Ok(bank)
    }

    /// A name for this start of the chip. Two things in it are new with every TPM Reset: the count of resets, and the null
    /// hierarchy's seed, which shows in the Name of a primary key made from it and which no other chip has.
    async fn boot_id(&self) -> Result<[u8; 20], ChipError> {
        let out = self.call(cc::READ_CLOCK, &[]).await?;
        let clock = read(&out, cc::READ_CLOCK, |r| {
            r.u64()?;
            ClockInfo::get(r)
        })?;
        let kind = self.key_kind().await?;
        let primary = self.create_primary(rh::NULL, Auth::Empty, &storage_template(kind)).await?;
        self.unload(&primary).await;
        let counts = [clock.reset_count.to_be_bytes(), clock.restart_count.to_be_bytes()];
        Ok(sha1(&[b"vtpmmgr: start of the machine", &primary.name, counts.as_flattened()]))
    }

    /// `count` bytes from the chip's random generator. They travel encrypted once [`Chip::provide_entropy`] or an operation
    /// with a generator of its own was called: before that there is nothing to draw a session's secrets from.
    pub(crate) async fn random(&self, count: usize) -> Result<Zeroizing<Vec<u8>>, ChipError> {
        let mut all = Zeroizing::new(Vec::with_capacity(count));
        while let Some(missing) = count.checked_sub(all.len()).filter(|missing| *missing > 0) {
            let bytes = self.some_random(missing.min(MAX_RANDOM)).await?;
            all.extend_from_slice(&bytes);
        }
        Ok(all)
    }

    /// At most `count` bytes and never none (part 3, section 16.1).
    async fn some_random(&self, count: usize) -> Result<Zeroizing<Vec<u8>>, ChipError> {
        const CODE: u32 = cc::GET_RANDOM;
        let asked = u16::try_from(count).map_err(|_| ChipError::Malformed { ordinal: CODE })?.to_be_bytes();
        let seed = self.rng.borrow_mut().as_mut().map(|rng| Zeroizing::new(rng.bytes::<48>()));
        let out = match seed.and_then(|seed| Drbg::new(&*seed, b"vtpmmgr session").ok()) {
            None => self.call(CODE, &asked).await?,
            Some(mut rng) => {
                let opened = self.opened.borrow().clone();
                match opened.as_deref() {
                    Some((settings, root)) => {
                        self.with_root(settings, root, &mut rng, async |root, rng| {
                            let session = self.session(root, rng).await?;
                            self.random_in(&session, asked).await
                        })
                        .await?
                    }
                    None => {
                        let session = self.anonymous_session(&mut rng).await?;
                        self.random_in(&session, asked).await?
                    }
                }
            }
        };
        read(&out, CODE, |r| match r.sized16()? {
            bytes if (1..=count).contains(&bytes.len()) => Ok(Zeroizing::new(bytes.to_vec())),
            _ => Err(Truncated),
        })
    }

    /// TPM2_GetRandom with an encrypted answer.
    async fn random_in(&self, session: &Session, asked: [u8; 2]) -> Result<Zeroizing<Vec<u8>>, ChipError> {
        let auth = Auth::hmac(session, &[], session::ENCRYPT);
        Ok(self.call_authorized(&[auth], cc::GET_RANDOM, &[], &asked, 0).await?.1)
    }

    /// Seeds the sessions of [`Self::random`] from an operation's generator, once.
    pub(super) fn keep_randomness(&self, rng: &mut Drbg) {
        if self.rng.borrow().is_none() {
            self.provide_entropy(&*Zeroizing::new(rng.bytes::<48>()));
        }
    }

    /// At most `count` random bytes, as TPM_GetRandom gives them to a vTPM.
    pub(crate) async fn vtpm_random(&self, count: u32) -> Result<Zeroizing<Vec<u8>>, ChipError> {
        match usize::try_from(count).unwrap_or(usize::MAX).min(MAX_RANDOM) {
            0 => Ok(Zeroizing::default()),
            count => self.some_random(count).await,
        }
    }
}
