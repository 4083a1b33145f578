//! Opening, making and writing a vault.

use crate::io::{Found, SlotStart, Survey, slot_bytes, slot_starts, survey};
use crate::slot::{OVERHEAD, build};
use crate::superblock::{COPIES, Copy, FORMAT, Layout, Stage, Superblock};
use crate::{Content, Expect, Generation, Header, MAX_LABEL, Over, Owner, VaultError, VaultKey};
use alloc::vec::Vec;
use core::cmp::Reverse;
use tpm_crypto::CryptoRng;
use xen_abi::{BlockDevice, DiskError, SECTOR_SIZE};
use zeroize::Zeroizing;

/// An open vault: the confirmed generation in one slot, the other slot to spare.
pub struct Vault<B> {
    disk: B,
    superblock: Superblock,
    key: VaultKey,
    /// The slot of the confirmed generation.
    slot: usize,
    confirmed: Generation,
    label: Vec<u8>,
    /// What is durable in the spare slot and waits to be confirmed, with its label if that is a new one.
    pending: Option<(Generation, Option<Vec<u8>>)>,
    /// The highest sequence that was ever given to a write.
    attempted: u64,
}

/// A generation that was read back and is authentic.
struct Opened {
    slot: usize,
    generation: Generation,
    label: Vec<u8>,
    state: Zeroizing<Vec<u8>>,
}

/// What became of one slot.
enum Slot {
    /// Nothing was ever written there.
    Empty,
    /// Not all of it is there; the sequence that it claims, if it has a header.
    Torn(Option<u64>),
    /// All there, but not made with this vault's key.
    Forged(u64),
    Authentic(Opened),
}

/// Finds out what is on `disk`, without a key and without writing. For whoever keeps a [`Vault`];
/// [`crate::probe_journal`] is the same for a [`crate::Journal`].
pub async fn probe<B: BlockDevice>(disk: &B) -> Result<Content, VaultError> {
    probe_as(disk, Layout::Slots).await
}

/// As [`probe`], with the `layout` that a blank disk is wanted for.
pub async fn probe_as<B: BlockDevice>(disk: &B, layout: Layout) -> Result<Content, VaultError> {
    let found = match survey(disk, layout).await? {
        Survey::Blank => return Ok(Content::Blank),
        Survey::Foreign => return Ok(Content::Foreign),
        Survey::Vault(found) => found,
    };
    let superblock = found.current;
    let label = match superblock.layout {
        Layout::Slots => slots_label(disk, &superblock).await?,
        Layout::Journal => crate::journal::newest_label(disk, &superblock).await?,
    };
    let unfinished = superblock.stage == Stage::Creating;
    Ok(Content::Vault(Header { format: FORMAT, owner: superblock.owner, unfinished, label }))
}

/// The label of the newest whole generation.
async fn slots_label<B: BlockDevice>(disk: &B, superblock: &Superblock) -> Result<Vec<u8>, VaultError> {
    let starts = slot_starts(disk, superblock).await?;
    let mut newest: Option<(u64, Vec<u8>)> = None;
    for (index, start) in starts.iter().enumerate() {
        let Some(header) = &start.header else { continue };
        let sequence = header.claims().sequence;
        if newest.as_ref().is_some_and(|(newest, _)| *newest >= sequence) {
            continue;
        }
        let bytes = slot_bytes(disk, superblock, index, start, header).await?;
        if let Some(whole) = header.whole(superblock, &bytes) {
            newest = Some((sequence, whole.label().to_vec()));
        }
    }
    Ok(newest.map(|(_, label)| label).unwrap_or_default())
}

impl<B: BlockDevice> Vault<B> {
    /// Makes a vault on `disk` with `state` as its first generation, which counts as confirmed.
    ///
    /// `label` is up to [`MAX_LABEL`] bytes that are readable without the key ([`probe`]) and authenticated with the state.
    /// Until this returns, the vault is marked unfinished on disk.
    ///
    /// # Errors
    /// [`VaultError::Exists`], [`VaultError::OtherOwner`], [`VaultError::WrongKey`] or [`VaultError::Foreign`] if the disk
    /// holds what `over` does not allow to replace; the disk is not written to then.
    pub async fn create(
        disk: B,
        owner: Owner,
        key: &VaultKey,
        label: &[u8],
        state: &[u8],
        over: Over,
        rng: &mut impl CryptoRng,
    ) -> Result<(Self, Generation), VaultError> {
        let mut superblock = Superblock::new(owner, key, Layout::Slots, disk.sectors(), rng)?;
        check_sizes(&superblock, label, state)?;
        match survey(&disk, Layout::Slots).await? {
            Survey::Blank => {}
            Survey::Foreign => return Err(VaultError::Foreign),
            Survey::Vault(found) => may_replace(&disk, &found, owner, key, over).await?,
        }

        write_superblocks(&disk, &superblock).await?;
        disk.write(superblock.slot_start(1), &[0; SECTOR_SIZE]).await?;
        let (generation, bytes) = build(&superblock, key, 1, label, state, rng);
        disk.write(superblock.slot_start(0), &bytes).await?;
        disk.flush().await?;
        superblock.stage = Stage::Complete;
        write_superblocks(&disk, &superblock).await?;

        let vault = Self {
            disk,
            superblock,
            key: VaultKey::from_bytes(key.as_bytes()),
            slot: 0,
            confirmed: generation,
            label: label.to_vec(),
            pending: None,
            attempted: generation.sequence,
        };
        Ok((vault, generation))
    }

    /// Opens the vault on `disk` and gives its state. Writes only after it was opened, and then only to put a lost copy of
    /// the superblock right.
    ///
    /// # Errors
    /// Each cause has its own [`VaultError`].
    pub async fn open(
        disk: B,
        owner: Owner,
        key: &VaultKey,
        expect: Expect,
    ) -> Result<(Self, Zeroizing<Vec<u8>>), VaultError> {
        let found = match survey(&disk, Layout::Slots).await? {
            Survey::Blank => return Err(VaultError::Blank),
            Survey::Foreign => return Err(VaultError::Foreign),
            Survey::Vault(found) => found,
        };
        let superblock = found.current;
        if superblock.owner != owner {
            return Err(VaultError::OtherOwner { found: superblock.owner });
        }
        if superblock.layout != Layout::Slots {
            return Err(VaultError::OtherLayout);
        }
        if superblock.stage == Stage::Creating {
            return Err(match expect {
                Expect::Exactly(Generation { sequence, .. }) => VaultError::RolledBack { found: 0, expected: sequence },
                Expect::Newest => VaultError::Unfinished,
            });
        }
        if !superblock.has_key(key) {
            return Err(VaultError::WrongKey);
        }
        let opened = match expect {
            Expect::Exactly(expected) => open_exactly(&disk, &superblock, key, expected).await?,
            Expect::Newest => open_newest(&disk, &superblock, key).await?,
        };
        heal(&disk, &found).await;
        let vault = Self {
            disk,
            superblock,
            key: VaultKey::from_bytes(key.as_bytes()),
            slot: opened.slot,
            confirmed: opened.generation,
            label: opened.label,
            pending: None,
            attempted: opened.generation.sequence,
        };
        Ok((vault, opened.state))
    }

    /// Writes `state` to the spare slot, under the confirmed label. It is durable there when this returns; the confirmed
    /// generation stays intact until [`Self::confirm`].
    ///
    /// Whoever records generations elsewhere must know what became of the last one (recorded or not) before the next
    /// call: it overwrites a generation that was not confirmed. After an error, or if the future is dropped, the confirmed
    /// generation still counts and this may be called again; but until then nobody knows which of the two an owner
    /// would find that opens [`Expect::Newest`].
    ///
    /// # Errors
    /// [`VaultError::TooLarge`] and [`VaultError::Disk`].
    pub async fn write(&mut self, state: &[u8], rng: &mut impl CryptoRng) -> Result<Generation, VaultError> {
        self.write_spare(None, state, rng).await
    }

    /// As [`Self::write`], with a new label that belongs to the new generation: both count from its confirmation on, or
    /// neither.
    pub async fn write_with_label(
        &mut self,
        label: &[u8],
        state: &[u8],
        rng: &mut impl CryptoRng,
    ) -> Result<Generation, VaultError> {
        self.write_spare(Some(label), state, rng).await
    }

    async fn write_spare(
        &mut self,
        new_label: Option<&[u8]>,
        state: &[u8],
        rng: &mut impl CryptoRng,
    ) -> Result<Generation, VaultError> {
        let label = new_label.unwrap_or(&self.label);
        check_sizes(&self.superblock, label, state)?;
        self.pending = None;
        let sequence = self.attempted.checked_add(1);
        self.attempted = sequence.ok_or(VaultError::Damaged { what: "its sequence numbers have run out" })?;
        let (generation, bytes) = build(&self.superblock, &self.key, self.attempted, label, state, rng);
        self.disk.write(self.superblock.slot_start(self.spare()), &bytes).await?;
        self.disk.flush().await?;
        self.pending = Some((generation, new_label.map(<[u8]>::to_vec)));
        Ok(generation)
    }

    /// From now on `generation`, which the last write returned, is the one to keep, and the other slot is the spare one.
    /// An owner that opens [`Expect::Newest`] calls this at once. Any other generation is ignored with a log line.
    pub fn confirm(&mut self, generation: Generation) {
        match self.pending.take() {
            Some((pending, label)) if pending == generation => {
                self.slot = self.spare();
                self.confirmed = generation;
                if let Some(label) = label {
                    self.label = label;
                }
            }
            other => {
                self.pending = other;
                log::error!(target: "vault", "state {} was confirmed but is not the one written last", generation.sequence);
            }
        }
    }

    /// The confirmed generation.
    pub const fn generation(&self) -> Generation {
        self.confirmed
    }

    /// The confirmed label.
    pub fn label(&self) -> &[u8] {
        &self.label
    }

    /// The longest state, in bytes, that fits beside the confirmed label.
    pub fn capacity(&self) -> usize {
        self.superblock.slot_size().saturating_sub(OVERHEAD).saturating_sub(self.label.len())
    }

    const fn spare(&self) -> usize {
        1 - self.slot
    }
}

fn check_sizes(superblock: &Superblock, label: &[u8], state: &[u8]) -> Result<(), VaultError> {
    if label.len() > MAX_LABEL {
        return Err(VaultError::TooLarge { size: label.len(), limit: MAX_LABEL });
    }
    let limit = superblock.slot_size().saturating_sub(OVERHEAD).saturating_sub(label.len());
    if state.len() > limit { Err(VaultError::TooLarge { size: state.len(), limit }) } else { Ok(()) }
}

/// Refuses unless `over` allows a new vault in place of the one found.
pub async fn may_replace<B: BlockDevice>(
    disk: &B,
    found: &Found,
    owner: Owner,
    key: &VaultKey,
    over: Over,
) -> Result<(), VaultError> {
    if let Some(other) = found.good().find(|copy| copy.owner != owner) {
        return Err(VaultError::OtherOwner { found: other.owner });
    }
    if over == Over::Blank {
        return Err(VaultError::Exists);
    }
    if let Some(found) = found.newer() {
        return Err(VaultError::NewerFormat { found });
    }
    for copy in found.good().filter(|copy| copy.stage == Stage::Complete) {
        if !copy.has_key(key) {
            return Err(VaultError::WrongKey);
        }
        if copy.layout != Layout::Slots {
            return Err(VaultError::Exists);
        }
        // Complete on disk, but the owner never heard of it: then it holds its first generation and nothing else.
        let [first, second] = slot_starts(disk, &copy).await?;
        let untouched = first.header.is_some_and(|header| header.claims().sequence == 1) && second.is_empty();
        if !untouched {
            return Err(VaultError::Exists);
        }
    }
    Ok(())
}

/// Writes both copies, one after the other, so that one of them is whole at any time.
pub async fn write_superblocks<B: BlockDevice>(disk: &B, superblock: &Superblock) -> Result<(), DiskError> {
    for sector in COPIES {
        disk.write(sector, &superblock.to_sector()).await?;
        disk.flush().await?;
    }
    Ok(())
}

/// Puts a copy of the superblock right that is broken or was left behind when creation ended. The vault is sound without it,
/// so a failure is only reported.
pub async fn heal<B: BlockDevice>(disk: &B, found: &Found) {
    for (copy, sector) in found.copies.iter().zip(COPIES) {
        if matches!(copy, Copy::Newer(_)) || *copy == Copy::Good(found.current) {
            continue;
        }
        log::warn!(target: "vault", "the superblock copy in sector {sector} is not whole and is written anew");
        let healed = async {
            disk.write(sector, &found.current.to_sector()).await?;
            disk.flush().await
        };
        if let Err(error) = healed.await {
            log::error!(target: "vault", "the superblock copy in sector {sector} could not be written: {error}");
        }
    }
}

async fn open_exactly<B: BlockDevice>(
    disk: &B,
    superblock: &Superblock,
    key: &VaultKey,
    expected: Generation,
) -> Result<Opened, VaultError> {
    let starts = slot_starts(disk, superblock).await?;
    let mut order = [(0, &starts[0]), (1, &starts[1])];
    order.sort_by_key(|(_, start)| start.claims() != Some(expected));
    let mut newest = None;
    let mut unreadable = false;
    for (index, start) in order {
        match read_slot(disk, superblock, key, index, start).await? {
            Slot::Authentic(opened) if opened.generation == expected => return Ok(opened),
            Slot::Authentic(opened) => newest = newest.max(Some(opened.generation.sequence)),
            Slot::Torn(claimed) => unreadable |= claimed.is_none_or(|claimed| claimed == expected.sequence),
            Slot::Forged(claimed) => unreadable |= claimed == expected.sequence,
            Slot::Empty => {}
        }
    }
    let expected = expected.sequence;
    Err(match newest {
        None => VaultError::Damaged { what: "no slot holds a whole state" },
        Some(_) if unreadable => VaultError::Damaged { what: "the current state does not authenticate" },
        Some(found) if found > expected => VaultError::Ahead { found, expected },
        Some(found) => VaultError::RolledBack { found, expected },
    })
}

async fn open_newest<B: BlockDevice>(disk: &B, superblock: &Superblock, key: &VaultKey) -> Result<Opened, VaultError> {
    let starts = slot_starts(disk, superblock).await?;
    let mut order = [(0, &starts[0]), (1, &starts[1])];
    order.sort_by_key(|(_, start)| Reverse(start.claims().map(|generation| generation.sequence)));
    for (index, start) in order {
        match read_slot(disk, superblock, key, index, start).await? {
            Slot::Authentic(opened) => return Ok(opened),
            // A torn write can't have the digest of all its bytes, so this is no trace of a power cut.
            Slot::Forged(_) => return Err(VaultError::Damaged { what: "the newest state does not authenticate" }),
            Slot::Torn(Some(claimed)) => {
                log::warn!(target: "vault", "slot {index} holds part of state {claimed}: taken for a write that power failed in");
            }
            Slot::Torn(None) | Slot::Empty => {}
        }
    }
    Err(VaultError::Damaged { what: "no slot holds a whole state" })
}

/// Reads slot `index` and finds out what it is.
async fn read_slot<B: BlockDevice>(
    disk: &B,
    superblock: &Superblock,
    key: &VaultKey,
    index: usize,
    start: &SlotStart,
) -> Result<Slot, VaultError> {
    let Some(header) = &start.header else {
        return Ok(if start.is_empty() { Slot::Empty } else { Slot::Torn(None) });
    };
    let generation = header.claims();
    let bytes = slot_bytes(disk, superblock, index, start, header).await?;
    let Some(whole) = header.whole(superblock, &bytes) else { return Ok(Slot::Torn(Some(generation.sequence))) };
    let Some(state) = whole.open(superblock, key) else { return Ok(Slot::Forged(generation.sequence)) };
    Ok(Slot::Authentic(Opened { slot: index, generation, label: whole.label().to_vec(), state }))
}
