//! Monotonic counters (TPM Main 1.2, part 3, section 25).

use super::codes::{self, ord};
use super::root::wrong;
use super::session::Entity;
use super::{Chip, ChipError, accept, ended, short};
use crate::args::AuthData;
use crate::hardware::{Counter, RootKey, Secret, Settings, Version};
use alloc::vec::Vec;
use tpm_crypto::Drbg;
use tpm_wire::{HEADER_SIZE, Reader, Transport, Truncated, Writer, v12};
use zeroize::Zeroizing;

/// The form of [`Stored`] that this software writes.
const FORMAT: u8 = 1;
/// The first byte of the labels that the manager gives; three random ones follow.
const LABEL: u8 = b'v';

/// Identifier and secret of a counter.
struct Stored {
    id: u32,
    auth: AuthData,
}

impl Stored {
    /// Format (1), identifier (4), secret (20).
    fn store(&self) -> Result<Counter, ChipError> {
        let mut out = Zeroizing::new(Vec::with_capacity(25));
        Writer::new(&mut out).u8(FORMAT).u32(self.id).bytes(&self.auth.0);
        Counter::new(Version::V12, out)
    }

    fn of(stored: &Counter) -> Result<Self, ChipError> {
        let mut r = Reader::new(stored.body(Version::V12)?);
        let read = (|| Ok((r.u8()?, r.u32()?, r.array()?)))().map_err(|_: Truncated| stored.bad())?;
        match read {
            (FORMAT, id, auth) if r.is_empty() => Ok(Self { id, auth: AuthData(auth) }),
            _ => Err(stored.bad()),
        }
    }
}

/// TPM_COUNTER_VALUE (part 2, section 13.1): tag, label, value.
fn value(r: &mut Reader<'_>) -> Result<([u8; 4], u32), Truncated> {
    r.u16()?;
    Ok((r.array()?, r.u32()?))
}

/// Label and value in an answer to TPM_ReadCounter.
fn value_in(answer: Result<Zeroizing<Vec<u8>>, ChipError>) -> Result<([u8; 4], u32), ChipError> {
    let out = answer.map_err(|error| match error {
        ChipError::Refused { code: codes::BAD_COUNTER, .. } => ChipError::NoCounter,
        other => other,
    })?;
    let mut r = Reader::new(&out);
    let read = value(&mut r).map_err(short(ord::READ_COUNTER))?;
    ended(&r, ord::READ_COUNTER)?;
    Ok(read)
}

impl<T: Transport> Chip<'_, T> {
    /// Makes a counter. Label and secret are drawn once, into `drawn`: if the chip's answer was lost, the next attempt finds
    /// the counter by its label.
    pub(crate) async fn counter_create(
        &self,
        _settings: &Settings,
        _root: &RootKey,
        owner: &AuthData,
        drawn: &mut Option<Zeroizing<[u8; 24]>>,
        rng: &mut Drbg,
    ) -> Result<Counter, ChipError> {
        let again = drawn.is_some();
        let content = drawn.get_or_insert_with(|| {
            let mut content = Zeroizing::new(rng.bytes::<24>());
            content[0] = LABEL;
            content
        });
        let (label, auth) =
            content.split_first_chunk::<4>().ok_or(ChipError::Malformed { ordinal: ord::CREATE_COUNTER })?;
        let auth = AuthData(auth.try_into().map_err(|_| ChipError::Malformed { ordinal: ord::CREATE_COUNTER })?);
        if again && let Some(id) = self.counter_labelled(*label).await? {
            return Stored { id, auth }.store();
        }
        let session = self.osap(Entity::Owner, &owner.0, rng).await?;
        let mut params = Vec::new();
        Writer::new(&mut params).bytes(&session.encrypt_first(&auth.0)).bytes(label);
        let (_, out) = self
            .call_authorized([session], ord::CREATE_COUNTER, &[], &params, 0)
            .await
            .map_err(|error| wrong(error, Secret::Owner))?;
        let mut r = Reader::new(&out);
        let id = r.u32().map_err(short(ord::CREATE_COUNTER))?;
        value(&mut r).map_err(short(ord::CREATE_COUNTER))?;
        ended(&r, ord::CREATE_COUNTER)?;
        Stored { id, auth }.store()
    }

    /// The counter with this label, if the chip lists its counters and has one.
    async fn counter_labelled(&self, label: [u8; 4]) -> Result<Option<u32>, ChipError> {
        for id in self.handles(codes::rt::COUNTER).await? {
            match self.counter_value(id).await {
                Ok((found, _)) if found == label => return Ok(Some(id)),
                Ok(_) | Err(ChipError::NoCounter) => (),
                Err(error) => return Err(error),
            }
        }
        Ok(None)
    }

    /// TPM_ReadCounter (section 25.3), whose answer anything between manager and chip can change.
    async fn counter_value(&self, id: u32) -> Result<([u8; 4], u32), ChipError> {
        value_in(self.call(ord::READ_COUNTER, &id.to_be_bytes()).await)
    }

    /// The value as the chip says it, without proof.
    pub(crate) async fn counter_glance(&self, counter: &Counter) -> Result<u64, ChipError> {
        let (_, value) = self.counter_value(Stored::of(counter)?.id).await?;
        Ok(value.into())
    }

    /// The value, read through a transport session.
    pub(crate) async fn counter_read(
        &self,
        settings: &Settings,
        root: &RootKey,
        counter: &Counter,
        rng: &mut Drbg,
    ) -> Result<u64, ChipError> {
        let id = Stored::of(counter)?.id.to_be_bytes();
        let packet = self.packet(v12::TAG_RQU_COMMAND, ord::READ_COUNTER, &id);
        let answer = self.with_root(settings, root, rng, async |handle, key, rng| {
            let tunnel = self.tunnel(handle, key, rng).await?;
            let mut answer = self.send_through(tunnel, &packet, HEADER_SIZE..packet.len(), 0).await?;
            accept(&answer, ord::READ_COUNTER, v12::TAG_RSP_COMMAND)?;
            answer.drain(..HEADER_SIZE);
            Ok(answer)
        });
        Ok(value_in(answer.await)?.1.into())
    }

    /// TPM_IncrementCounter (section 25.2). The chip may take one step in five seconds only, and is asked again until it does.
    pub(crate) async fn counter_increment(
        &self,
        _settings: &Settings,
        _root: &RootKey,
        counter: &Counter,
        rng: &mut Drbg,
    ) -> Result<u64, ChipError> {
        let Stored { id, auth } = Stored::of(counter)?;
        let session = self.oiap(&auth.0, rng).await?;
        let result = self.call_authorized([session], ord::INCREMENT_COUNTER, &[], &id.to_be_bytes(), 0).await;
        let out = match result {
            Err(ChipError::Refused { code: codes::BAD_COUNTER, .. }) => {
                // It exists, or this says that it does not; then it is not the one that was stepped first.
                self.counter_value(id).await?;
                return Err(ChipError::CounterTaken);
            }
            // Another counter with the same identifier, on a chip that was cleared.
            Err(ChipError::Refused { code: codes::AUTHFAIL, .. }) => return Err(ChipError::NoCounter),
            other => other?.1,
        };
        let mut r = Reader::new(&out);
        let (_, value) = value(&mut r).map_err(short(ord::INCREMENT_COUNTER))?;
        ended(&r, ord::INCREMENT_COUNTER)?;
        Ok(value.into())
    }

    /// TPM_ReleaseCounter (section 25.4).
    pub(crate) async fn counter_delete(
        &self,
        _settings: &Settings,
        _root: &RootKey,
        _owner: &AuthData,
        counter: &Counter,
        rng: &mut Drbg,
    ) -> Result<(), ChipError> {
        let Stored { id, auth } = Stored::of(counter)?;
        let session = self.oiap(&auth.0, rng).await?;
        match self.call_authorized([session], ord::RELEASE_COUNTER, &[], &id.to_be_bytes(), 0).await {
            Ok(_) | Err(ChipError::Refused { code: codes::BAD_COUNTER, .. }) => Ok(()),
            Err(error) => Err(error),
        }
    }
}
