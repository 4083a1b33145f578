//! From power-on to an open disk: what the disk holds, what the chip says, and whether the two belong together.

use crate::anchor::{AnchorError, MonotonicCounter};
use crate::args::{AuthData, Options, Rollback};
use crate::hardware::{ChipError, ChipInfo, Counter, Hardware, PcrCondition, PcrSelection, RootKey, Version};
use crate::label::{Label, LabelError, When};
use crate::sealing::{Unsealed, gives_back, reseal, seal, unseal};
use crate::state::{Change, Group, State, StateError};
use crate::store::{Store, StoreError};
use alloc::boxed::Box;
use alloc::rc::Rc;
use core::cell::RefCell;
use core::fmt;
use frontback::looper::Timer;
use tpm_crypto::{Drbg, DrbgError};
use tpm_wire::Transport;
use vault::{Content, Header, Journal, Kind, Over, Owner, VaultError, VaultKey, probe_journal};
use xen_abi::{BlockDevice, EntropySource};
use zeroize::Zeroizing;

/// Why the manager does not serve. Each is one clear line; the disk is as it was.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum StartError {
    /// The disk, or the vault on it.
    Vault(VaultError),
    /// The vault on the disk is not a manager's.
    NotManagers(Owner),
    /// The sealed key on the disk.
    Label(LabelError),
    /// The records on the disk.
    State(StateError),
    /// A change that the manager makes when it starts.
    Store(StoreError),
    /// The disk and the chip's counter.
    Anchor(AnchorError),
    /// The counter cannot be made.
    Counter(ChipError),
    /// The chip.
    Chip(ChipError),
    /// The chip has no owner, but the disk was made with one that had.
    ChipCleared,
    /// The chip cannot open what is on the disk.
    OtherChip(ChipError),
    /// The machine was started with something else than the disk is sealed to.
    Pcrs {
        /// The PCRs that differ from the nearest of the configurations.
        differing: PcrSelection,
        /// A recovery code was given, and is not the right one.
        wrong_code: bool,
    },
    /// The chip gave back something other than what it was given to seal.
    SealBroken,
    /// Too little entropy.
    Entropy(DrbgError),
}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Vault(error) => write!(f, "the manager's disk cannot be used: {error}"),
            Self::NotManagers(owner) => {
                write!(f, "the disk belongs to {owner}, not to a manager: attach the manager's disk")
            }
            Self::Label(error) => write!(f, "the manager's disk cannot be used: {error}"),
            Self::State(error) => write!(f, "the manager's disk cannot be used: {error}"),
            Self::Store(error) => write!(f, "the manager's disk cannot be used: {error}"),
            Self::Anchor(error) => error.fmt(f),
            Self::Counter(error) => write!(
                f,
                "the counter that tells an older copy of the manager's disk from this one cannot be made: {error}; \
                 with rollback=off the manager does without"
            ),
            Self::Chip(error) => error.fmt(f),
            Self::ChipCleared => f.write_str(
                "the TPM chip has no owner, but the manager's disk was sealed by an owned chip: the chip was cleared, or the disk \
                 is from another machine; its keys cannot be had back here, put the disk back into its machine or attach a blank one",
            ),
            Self::OtherChip(error) => write!(
                f,
                "this TPM chip cannot open the manager's disk: the disk is from another machine, or the chip was cleared and has a \
                 new owner ({error})",
            ),
            Self::Pcrs { differing, wrong_code } => {
                write!(
                    f,
                    "the manager's disk stays closed: this machine was started with something else than it is sealed to, PCRs {differing} differ"
                )?;
                f.write_str(if *wrong_code {
                    "; the code in recover= is not the right one"
                } else {
                    "; start what was approved, or give the recovery code with recover="
                })
            }
            Self::SealBroken => {
                f.write_str("the TPM chip does not give back what it sealed: it is defective, nothing was written")
            }
            Self::Entropy(error) => error.fmt(f),
        }
    }
}

impl core::error::Error for StartError {}

impl From<VaultError> for StartError {
    fn from(error: VaultError) -> Self {
        Self::Vault(error)
    }
}

impl From<StateError> for StartError {
    fn from(error: StateError) -> Self {
        Self::State(error)
    }
}

impl From<ChipError> for StartError {
    fn from(error: ChipError) -> Self {
        Self::Chip(error)
    }
}

impl From<StoreError> for StartError {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Vault(error) => Self::Vault(error),
            StoreError::Anchor(error) => Self::Anchor(error),
            StoreError::Change(_) => Self::Store(error),
        }
    }
}

/// The counter of a manager's disk, on the chip.
pub struct ChipCounter<'a, T> {
    chip: &'a Hardware<'a, T>,
    key: RootKey,
    counter: Counter,
    rng: RefCell<Drbg>,
}

impl<'a, T> ChipCounter<'a, T> {
    fn new(chip: &'a Hardware<'a, T>, key: &RootKey, counter: &Counter, rng: &mut Drbg) -> Result<Self, StartError> {
        let rng = RefCell::new(fork(rng, b"vtpmmgr counter")?);
        Ok(Self { chip, key: key.clone(), counter: counter.clone(), rng })
    }

    /// A generator that a wait for the chip can hold on to.
    fn fork(&self) -> Result<Drbg, ChipError> {
        // The seed is as long as a generator wants it, so this does not fail.
        fork(&mut self.rng.borrow_mut(), b"vtpmmgr counter step").map_err(|_| ChipError::NoCounter)
    }
}

impl<T: Transport> MonotonicCounter for ChipCounter<'_, T> {
    async fn read(&self) -> Result<u64, ChipError> {
        let mut rng = self.fork()?;
        self.chip.counter_read(&self.key, &self.counter, &mut rng).await
    }

    async fn increment(&self) -> Result<u64, ChipError> {
        let mut rng = self.fork()?;
        self.chip.counter_increment(&self.key, &self.counter, &mut rng).await
    }
}

/// A manager that is ready to serve.
pub struct Ready<'a, B, T> {
    /// The state and its disk.
    pub store: Store<B, Rc<ChipCounter<'a, T>>>,
    /// What the chip is.
    pub info: ChipInfo,
    /// The disk's label: what the chip's keys lie under, and the copies of the root secret.
    pub label: Label,
    /// The disk was made in this run.
    pub is_new: bool,
    /// Randomness for whatever comes.
    pub rng: Drbg,
}

/// A disk that was opened or made, before it is tied to the chip's counter.
struct Opened<B> {
    journal: Journal<B>,
    state: State,
    label: Label,
    is_new: bool,
}

/// Looks at the disk, starts the chip, and opens the journal, or makes one on a blank disk (and takes ownership of a TPM 1.2 chip
/// that has no owner).
///
/// The order matters: a disk that cannot be used is found before the chip is touched, a new journal is written only after the
/// chip has shown that it gives the key back, and nothing is written to a disk that holds anything but an unfinished vault.
pub async fn open<'a, B: BlockDevice, T: Transport>(
    options: &Options,
    disk: B,
    chip: &'a Hardware<'a, T>,
    timer: &Timer,
    cpu: &mut impl EntropySource,
    on_chip: impl FnOnce(&ChipInfo),
) -> Result<Ready<'a, B, T>, StartError> {
    let content = inspect(&disk).await?;
    let info = chip.start().await?;
    on_chip(&info);
    say_chip(&info);
    let mut rng = seed(chip, cpu).await?;
    let opened = match content {
        Content::Vault(Header { owner, unfinished: false, label, .. }) => {
            open_known(options, disk, owner, &label, chip, &info, &mut rng).await?
        }
        Content::Vault(Header { owner, .. }) => {
            log::info!(target: "vtpmmgr", "the creation of the vault on this disk was cut off; starting over");
            create(options, disk, owner, Over::UnfinishedCreation, chip, &mut rng).await?
        }
        Content::Blank | Content::Foreign => {
            let owner = Owner { kind: Kind::Manager, uuid: random_uuid(&mut rng) };
            create(options, disk, owner, Over::Blank, chip, &mut rng).await?
        }
    };
    let Opened { journal, state, mut label, is_new } = opened;
    let mut store = Store::new(journal, state, fork(&mut rng, b"vtpmmgr store")?);
    tie(options, &mut store, &label.key, chip, timer, &mut rng).await?;
    if !is_new {
        renew(options, &mut store, &mut label, chip, &mut rng).await?;
    }
    Ok(Ready { store, info, label, is_new, rng })
}

/// What the disk holds, if the manager can use it.
pub async fn inspect<B: BlockDevice>(disk: &B) -> Result<Content, StartError> {
    let content = probe_journal(disk).await?;
    match &content {
        Content::Foreign => Err(VaultError::Foreign.into()),
        Content::Vault(header) if header.owner.kind != Kind::Manager => Err(StartError::NotManagers(header.owner)),
        Content::Vault(_) | Content::Blank => Ok(content),
    }
}

fn say_chip(info: &ChipInfo) {
    let [a, b, c, d] = info.vendor.map(|byte| if byte.is_ascii_graphic() { char::from(byte) } else { ' ' });
    match info.version {
        Version::V12 => log::info!(
            target: "vtpmmgr",
            "TPM 1.2 chip, vendor {a}{b}{c}{d}, firmware {}.{}, specification level {} errata {}",
            info.firmware[0], info.firmware[1], info.revision / 256, info.revision % 256,
        ),
        Version::V20 => log::info!(
            target: "vtpmmgr",
            "TPM 2.0 chip, vendor {a}{b}{c}{d}, firmware {:08x}{:08x}, specification revision {}.{:02}",
            info.firmware[0], info.firmware[1], info.revision / 100, info.revision % 100,
        ),
    }
}

/// The random generator: seeded by the processor and by the chip, so that one of them alone being weak or broken is no harm.
async fn seed<T: Transport>(chip: &Hardware<'_, T>, cpu: &mut impl EntropySource) -> Result<Drbg, StartError> {
    let mut material = Zeroizing::new([0; 96]);
    let (from_chip, from_cpu) = material.split_at_mut(48);
    // The chip's bytes travel under secrets of the processor's, which are good for nothing else.
    let mut for_the_way = Zeroizing::new([0; 48]);
    match cpu.fill(&mut *for_the_way).and_then(|()| cpu.fill(from_cpu)) {
        Ok(()) => chip.provide_entropy(&*for_the_way),
        Err(error) => log::warn!(target: "vtpmmgr", "randomness comes from the TPM chip alone: {error}"),
    }
    let random = chip.random(48).await?;
    from_chip.iter_mut().zip(random.iter()).for_each(|(to, from)| *to = *from);
    Drbg::new(&*material, b"vtpmmgr").map_err(StartError::Entropy)
}

fn fork(rng: &mut Drbg, name: &[u8]) -> Result<Drbg, StartError> {
    Drbg::new(&*Zeroizing::new(rng.bytes::<48>()), name).map_err(StartError::Entropy)
}

/// A version 4 UUID (RFC 9562, section 5.4).
fn random_uuid(rng: &mut Drbg) -> [u8; 16] {
    let mut uuid: [u8; 16] = rng.bytes();
    uuid[6] = uuid[6] & 0x0f | 0x40;
    uuid[8] = uuid[8] & 0x3f | 0x80;
    uuid
}

/// The PCRs of `seal_pcrs=` as they are now.
async fn own_condition<T: Transport>(
    options: &Options,
    chip: &Hardware<'_, T>,
) -> Result<Option<PcrCondition>, ChipError> {
    match PcrSelection::from_mask(options.seal_pcrs) {
        Some(selection) if !selection.is_empty() => chip.pcr_condition(selection).await.map(Some),
        _ => Ok(None),
    }
}

/// First start: a storage key (and an owner, if a TPM 1.2 chip has none), a root secret sealed under it, a first group, and only
/// then the disk.
async fn create<B: BlockDevice, T: Transport>(
    options: &Options,
    disk: B,
    owner: Owner,
    over: Over,
    chip: &Hardware<'_, T>,
    rng: &mut Drbg,
) -> Result<Opened<B>, StartError> {
    log::info!(target: "vtpmmgr", "making a storage key and a vault on this blank disk");
    let made = chip.create_root(rng).await?;
    let root = VaultKey::random(rng);
    let when = own_condition(options, chip).await?.map_or(When::Always, When::Pcrs);
    let copy = seal(chip, &made.key, &root, when, None, rng).await?;
    match gives_back(chip, &made.key, &copy, &root, None, rng).await {
        Ok(true) => {}
        Ok(false) | Err(ChipError::Locality { .. }) => return Err(StartError::SealBroken),
        Err(error) => return Err(error.into()),
    }
    let label = Label { key: made.key, roots: alloc::vec![copy] };
    let mut state = State::default();
    for change in [Change::Owner(made.owner), Change::PutGroup(Box::new(Group::new(rng)))] {
        state.apply(change).map_err(StoreError::Change)?;
    }
    if options.rollback != Rollback::Off {
        // Before there is a disk that could be copied.
        let counter = make_counter(chip, &label.key, state.owner(), rng).await?;
        state.apply(Change::Anchor(Some(counter))).map_err(StoreError::Change)?;
    }
    let journal = Journal::create(disk, owner, &root, &label.to_bytes(), state.parts(), over, rng).await?;
    Ok(Opened { journal, state, label, is_new: true })
}

/// A new counter, with the value that it starts at.
async fn make_counter<T: Transport>(
    chip: &Hardware<'_, T>,
    key: &RootKey,
    owner: Option<&AuthData>,
    rng: &mut Drbg,
) -> Result<crate::state::Anchor, StartError> {
    let counter = chip.counter_create(key, owner, rng).await.map_err(StartError::Counter)?;
    let value = chip.counter_read(key, &counter, rng).await.map_err(StartError::Counter)?;
    Ok(crate::state::Anchor { counter, value })
}

/// Every later start: the chip gives the root secret back, which opens the journal.
async fn open_known<B: BlockDevice, T: Transport>(
    options: &Options,
    disk: B,
    owner: Owner,
    label: &[u8],
    chip: &Hardware<'_, T>,
    info: &ChipInfo,
    rng: &mut Drbg,
) -> Result<Opened<B>, StartError> {
    if label.is_empty() {
        return Err(VaultError::Damaged { what: "none of its checkpoints is whole" }.into());
    }
    let label = Label::parse(label).map_err(StartError::Label)?;
    if info.version == Version::V12 && !info.owned {
        return Err(StartError::ChipCleared);
    }
    let unsealed = unseal(chip, &label, options.recover.as_ref(), rng).await.map_err(|error| match error {
        ChipError::NotOurs { .. } | ChipError::OtherRoot | ChipError::BadForm { .. } => StartError::OtherChip(error),
        other => StartError::Chip(other),
    })?;
    let root = match unsealed {
        Unsealed::Root(root) => root,
        Unsealed::Recovered(root) => {
            log::warn!(target: "vtpmmgr", "the manager's disk was opened with the recovery code");
            root
        }
        Unsealed::Closed(differing) => return Err(StartError::Pcrs { differing, wrong_code: false }),
        Unsealed::WrongCode(differing) => return Err(StartError::Pcrs { differing, wrong_code: true }),
    };
    let mut state = State::default();
    let journal = Journal::open(disk, owner, &root, |part| state.replay(part).map_err(StartError::State)).await?;
    if state.groups().is_empty() {
        return Err(StateError::Malformed.into());
    }
    Ok(Opened { journal, state, label, is_new: false })
}

/// Ties the disk to the chip's counter, as `rollback=` says.
async fn tie<'a, B: BlockDevice, T: Transport>(
    options: &Options,
    store: &mut Store<B, Rc<ChipCounter<'a, T>>>,
    key: &RootKey,
    chip: &'a Hardware<'a, T>,
    timer: &Timer,
    rng: &mut Drbg,
) -> Result<(), StartError> {
    if options.rollback == Rollback::Off {
        log::warn!(
            target: "vtpmmgr",
            "rollback=off: nothing tells an older copy of the manager's disk from this one, nor the older copies of vTPMs' disks that go with it"
        );
        return Ok(());
    }
    let counter = match store.state().anchor() {
        Some(anchor) => anchor.counter.clone(),
        // The disk was made with rollback=off.
        None => make_counter(chip, key, store.state().owner(), rng).await?.counter,
    };
    let reached = Rc::new(ChipCounter::new(chip, key, &counter, rng)?);
    Ok(store.tie(&counter, reached, options.rollback, timer.now()).await?)
}

/// Keeps the label in step: with `seal_pcrs=`, which may have changed, with the PCRs under which the disk was just opened, and with what
/// the first group's agent has approved.
async fn renew<B: BlockDevice, T: Transport>(
    options: &Options,
    store: &mut Store<B, Rc<ChipCounter<'_, T>>>,
    label: &mut Label,
    chip: &Hardware<'_, T>,
    rng: &mut Drbg,
) -> Result<(), StartError> {
    let own = own_condition(options, chip).await?;
    let approved = store.state().groups().first().map(|group| group.config.pcrs.clone()).unwrap_or_default();
    let Some(new) = reseal(chip, label, store.root(), own.as_ref(), &approved, rng).await? else { return Ok(()) };
    store.relabel(&new.to_bytes()).await?;
    let count = new.conditions().count();
    match own {
        Some(own) => log::info!(
            target: "vtpmmgr",
            "the manager's disk is sealed to PCRs {} as they are now; configurations that open it: {count}", own.selection
        ),
        None => log::info!(target: "vtpmmgr", "the manager's disk is no longer sealed to PCRs"),
    }
    *label = new;
    Ok(())
}
