//! NV counters (TPM 2.0 Library, part 3, section 31; part 1, section 37.2.4).

use super::root::{owner_secret, wrong_owner};
use super::session::{Auth, name_of, permanent};
use super::{Chip, ChipError, Name, read, refusal};
use crate::args::AuthData;
use crate::hardware::{Counter, RootKey, Settings, Version};
use alloc::vec::Vec;
use tpm_crypto::Drbg;
use tpm_wire::v20::{alg, cc, handle, nv, rc, rh, session};
use tpm_wire::{Reader, Transport, Truncated, Writer};
use zeroize::Zeroizing;

/// The form of [`Stored`] that this software writes.
const FORMAT: u8 = 1;
/// Bytes in a counter.
const SIZE: u16 = 8;
/// The last NV index of the owner's range.
const LAST_INDEX: u32 = handle::NV_OWNER | 0x3f_ffff;

/// Index and secret of a counter.
struct Stored {
    index: u32,
    auth: AuthData,
}

impl Stored {
    /// Format (1), index (4), secret (20).
    fn store(&self) -> Result<Counter, ChipError> {
        let mut out = Zeroizing::new(Vec::with_capacity(25));
        Writer::new(&mut out).u8(FORMAT).u32(self.index).bytes(&self.auth.0);
        Counter::new(Version::V20, out)
    }

    fn of(stored: &Counter) -> Result<Self, ChipError> {
        let mut r = Reader::new(stored.body(Version::V20)?);
        let read = (|| Ok((r.u8()?, r.u32()?, r.array()?)))().map_err(|_: Truncated| stored.bad())?;
        match read {
            (FORMAT, index @ handle::NV_OWNER..=LAST_INDEX, auth) if r.is_empty() => {
                Ok(Self { index, auth: AuthData(auth) })
            }
            _ => Err(stored.bad()),
        }
    }

    /// TPMS_NV_PUBLIC (part 2, section 13.5).
    fn public(&self, written: bool) -> Vec<u8> {
        let attributes = nv::COUNTER | nv::AUTHREAD | nv::AUTHWRITE | nv::NO_DA | if written { nv::WRITTEN } else { 0 };
        let mut public = Vec::new();
        Writer::new(&mut public).u32(self.index).u16(alg::SHA256).u32(attributes).sized16(&[]).u16(SIZE);
        public
    }

    /// The index's Name. It is not asked for but computed: an index that is not exactly this does not take the secret.
    fn name(&self, written: bool) -> Name {
        name_of(&self.public(written))
    }
}

/// A refusal that means that the index is not there, or is another one at the same place.
fn gone(error: ChipError, command: u32) -> ChipError {
    match refusal(&error, command) {
        Some(rc::HANDLE | rc::AUTH_FAIL | rc::BAD_AUTH | rc::NV_AUTHORIZATION) => ChipError::NoCounter,
        _ => error,
    }
}

impl<T: Transport> Chip<'_, T> {
    /// Makes a counter at a free index and steps it once, since a counter that was never stepped has no value. Index and secret
    /// are drawn once, into `drawn`: if the chip's answer was lost, the next attempt finds the counter there.
    pub(crate) async fn counter_create(
        &self,
        settings: &Settings,
        root: &RootKey,
        owner: &AuthData,
        drawn: &mut Option<Zeroizing<[u8; 24]>>,
        rng: &mut Drbg,
    ) -> Result<Counter, ChipError> {
        if let Some(content) = drawn.as_ref() {
            let stored = from_drawn(content);
            match self.step_anew(settings, root, &stored, rng).await {
                Err(ChipError::NoCounter) => (),
                result => return result.and_then(|()| stored.store()),
            }
        }
        let taken = self.handles(handle::NV_OWNER).await?;
        let index = (handle::NV_OWNER..=LAST_INDEX).find(|index| !taken.contains(index));
        let index = index.ok_or(ChipError::Unsupported { what: "another NV index" })?;
        let mut content = Zeroizing::new([0; 24]);
        let (place, auth) = content.split_at_mut(4);
        place.copy_from_slice(&index.to_be_bytes());
        rng.fill(auth);
        let stored = from_drawn(&content);
        *drawn = Some(content);
        self.define(settings, root, owner, &stored, rng).await?;
        self.step_anew(settings, root, &stored, rng).await?;
        stored.store()
    }

    /// TPM2_NV_DefineSpace (section 31.3).
    async fn define(
        &self,
        settings: &Settings,
        root: &RootKey,
        owner: &AuthData,
        stored: &Stored,
        rng: &mut Drbg,
    ) -> Result<(), ChipError> {
        let public = stored.public(false);
        let mut params = Zeroizing::new(Vec::with_capacity(2 + 20 + 2 + public.len()));
        Writer::new(&mut params).sized16(super::session::stripped(&stored.auth.0)).sized16(&public);
        self.with_root(settings, root, rng, async |root, rng| {
            let session = self.session(root, rng).await?;
            let auth = Auth::hmac(&session, owner_secret(owner), session::DECRYPT);
            let name = permanent(rh::OWNER);
            let result = self.call_authorized(&[auth], cc::NV_DEFINE_SPACE, &[(rh::OWNER, &name)], &params, 0).await;
            result.map(drop).map_err(wrong_owner)
        })
        .await
    }

    /// The first step of a counter that may have been made already, or even stepped.
    async fn step_anew(
        &self,
        settings: &Settings,
        root: &RootKey,
        stored: &Stored,
        rng: &mut Drbg,
    ) -> Result<(), ChipError> {
        match self.step(settings, root, stored, false, rng).await {
            // Its Name is another one once it was stepped.
            Err(ChipError::NoCounter) => self.value(settings, root, stored, rng).await.map(drop),
            other => other,
        }
    }

    /// TPM2_NV_Increment (section 31.8).
    async fn step(
        &self,
        settings: &Settings,
        root: &RootKey,
        stored: &Stored,
        written: bool,
        rng: &mut Drbg,
    ) -> Result<(), ChipError> {
        const CODE: u32 = cc::NV_INCREMENT;
        let name = stored.name(written);
        self.with_root(settings, root, rng, async |root, rng| {
            let session = self.session(root, rng).await?;
            let auth = Auth::hmac(&session, &stored.auth.0, 0);
            let handles: [(u32, &[u8]); 2] = [(stored.index, &name), (stored.index, &name)];
            self.call_authorized(&[auth], CODE, &handles, &[], 0).await.map(drop).map_err(|error| gone(error, CODE))
        })
        .await
    }

    /// TPM2_NV_Read (section 31.13).
    async fn value(
        &self,
        settings: &Settings,
        root: &RootKey,
        stored: &Stored,
        rng: &mut Drbg,
    ) -> Result<u64, ChipError> {
        const CODE: u32 = cc::NV_READ;
        let name = stored.name(true);
        let mut params = Vec::new();
        Writer::new(&mut params).u16(SIZE).u16(0);
        let out = self
            .with_root(settings, root, rng, async |root, rng| {
                let session = self.session(root, rng).await?;
                let auth = Auth::hmac(&session, &stored.auth.0, session::ENCRYPT);
                let handles: [(u32, &[u8]); 2] = [(stored.index, &name), (stored.index, &name)];
                let result = self.call_authorized(&[auth], CODE, &handles, &params, 0).await;
                Ok(result.map_err(|error| gone(error, CODE))?.1)
            })
            .await?;
        read(&out, CODE, |r| r.sized16()?.try_into().map(u64::from_be_bytes).map_err(|_| Truncated))
    }

    pub(crate) async fn counter_read(
        &self,
        settings: &Settings,
        root: &RootKey,
        counter: &Counter,
        rng: &mut Drbg,
    ) -> Result<u64, ChipError> {
        self.value(settings, root, &Stored::of(counter)?, rng).await
    }

    /// Steps the counter and reads it, each with an HMAC on the answer.
    pub(crate) async fn counter_increment(
        &self,
        settings: &Settings,
        root: &RootKey,
        counter: &Counter,
        rng: &mut Drbg,
    ) -> Result<u64, ChipError> {
        let stored = Stored::of(counter)?;
        self.step(settings, root, &stored, true, rng).await?;
        self.value(settings, root, &stored, rng).await
    }

    /// TPM2_NV_UndefineSpace (section 31.4).
    pub(crate) async fn counter_delete(
        &self,
        settings: &Settings,
        root: &RootKey,
        owner: &AuthData,
        counter: &Counter,
        rng: &mut Drbg,
    ) -> Result<(), ChipError> {
        const CODE: u32 = cc::NV_UNDEFINE_SPACE;
        let stored = Stored::of(counter)?;
        match self.value(settings, root, &stored, rng).await {
            // Not there any more, or somebody else's.
            Err(ChipError::NoCounter) => return Ok(()),
            other => other.map(drop)?,
        }
        self.with_root(settings, root, rng, async |root, rng| {
            let session = self.session(root, rng).await?;
            let auth = Auth::hmac(&session, owner_secret(owner), 0);
            let (hierarchy, name) = (permanent(rh::OWNER), stored.name(true));
            let handles: [(u32, &[u8]); 2] = [(rh::OWNER, &hierarchy), (stored.index, &name)];
            self.call_authorized(&[auth], CODE, &handles, &[], 0).await.map(drop).map_err(wrong_owner)
        })
        .await
    }
}

fn from_drawn(content: &[u8; 24]) -> Stored {
    let mut auth = AuthData([0; 20]);
    let (index, rest) = content.split_first_chunk::<4>().unwrap_or((&[0; 4], &[]));
    auth.0.iter_mut().zip(rest).for_each(|(to, from)| *to = *from);
    Stored { index: u32::from_be_bytes(*index), auth }
}
