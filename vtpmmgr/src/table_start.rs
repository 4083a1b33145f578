//! From power-on to an open vault: what the disk holds, what the chip says, and whether the two belong together.

use crate::args::{AuthChoice, AuthData, Options};
use crate::chip12::{Chip, ChipError, ChipInfo, StorageKey, refusals};
use crate::table_label::{Label, LabelError};
use crate::records::{StateError, Table};
use crate::table_store::Store;
use core::fmt;
use tpm_crypto::{Drbg, DrbgError, ct_eq};
use tpm_wire::Transport;
use vault::{Content, Expect, Header, Kind, Over, Owner, Vault, VaultError, VaultKey};
use xen_abi::{BlockDevice, EntropySource};

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
    /// The chip.
    Chip(ChipError),
    /// The chip does not take the storage root key's secret.
    SrkAuth,
    /// `srk_auth=random` for a chip whose owner has chosen a secret before.
    SrkAuthChosen,
    /// The chip has no owner, but the disk was made with one that had.
    ChipCleared,
    /// The chip cannot open what is on the disk.
    OtherChip(ChipError),
    /// The root secret is sealed for another locality.
    Locality {
        /// The locality it is sealed for.
        sealed: u8,
        /// The locality the manager works at.
        given: u8,
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
            Self::Chip(error) => error.fmt(f),
            Self::SrkAuth => f.write_str(
                "the TPM chip does not accept the secret of its storage root key: give the right one with srk_auth= \
                 (if nobody knows it, or the chip has another owner now, only clearing the chip in the firmware helps, which ends all it has sealed)",
            ),
            Self::SrkAuthChosen => f.write_str(
                "the TPM chip has an owner already, so the secret of its storage root key cannot be drawn at random: give it with srk_auth=",
            ),
            Self::ChipCleared => f.write_str(
                "the TPM chip has no owner, but the manager's disk was sealed by an owned chip: the chip was cleared, or the disk \
                 is from another machine; its keys cannot be had back here, put the disk back into its machine or attach a blank one",
            ),
            Self::OtherChip(error) => write!(
                f,
                "this TPM chip cannot open the manager's disk: the disk is from another machine, or the chip was cleared and has a \
                 new owner ({error})",
            ),
            Self::Locality { sealed, given } => write!(
                f,
                "the manager's disk is sealed for locality {sealed} and the chip is used at locality {given}: set tpmlocality={sealed}",
            ),
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

impl From<ChipError> for StartError {
    fn from(error: ChipError) -> Self {
        Self::Chip(error)
    }
}

/// A manager that is ready to serve.
pub struct Ready<B> {
    /// The records.
    pub store: Store<B>,
    /// What the chip is.
    pub chip: ChipInfo,
}

/// Looks at the disk, starts the chip, and opens the vault, or makes one on a blank disk (and takes ownership of a chip that
/// has no owner).
///
/// The order matters: a disk that cannot be used is found before the chip is touched, a new vault is written only after the
/// chip has shown that it gives the key back, and nothing is written to a disk that holds anything but an unfinished vault.
pub async fn open<B: BlockDevice, T: Transport>(
    options: &Options,
    disk: B,
    chip: &Chip<'_, T>,
    cpu: &mut impl EntropySource,
    on_chip: impl FnOnce(&ChipInfo),
) -> Result<Ready<B>, StartError> {
    let content = vault::probe(&disk).await?;
    match &content {
        Content::Foreign => return Err(VaultError::Foreign.into()),
        Content::Vault(header) if header.owner.kind != Kind::Manager => {
            return Err(StartError::NotManagers(header.owner));
        }
        Content::Vault(_) | Content::Blank => (),
    }
    let info = chip.start().await?;
    on_chip(&info);
    let [a, b, c, d] = info.vendor.map(|byte| if byte.is_ascii_graphic() { char::from(byte) } else { ' ' });
    log::info!(
        target: "vtpmmgr",
        "TPM 1.2 chip, vendor {a}{b}{c}{d}, firmware {}.{}, specification level {} errata {}",
        info.firmware[0], info.firmware[1], info.spec_level, info.errata,
    );
    let mut rng = seed(chip, cpu).await?;
    let (vault, table) = match content {
        Content::Vault(Header { owner, unfinished: false, label, .. }) => {
            open_known(options, disk, owner, &label, chip, &info, &mut rng).await?
        }
        Content::Vault(Header { owner, .. }) => {
            log::info!(target: "vtpmmgr", "the creation of the vault on this disk was cut off; starting over");
            create(options, disk, owner, Over::UnfinishedCreation, chip, &info, &mut rng).await?
        }
        Content::Blank | Content::Foreign => {
            let owner = Owner { kind: Kind::Manager, uuid: random_uuid(&mut rng) };
            create(options, disk, owner, Over::Blank, chip, &info, &mut rng).await?
        }
    };
    let store_rng =
        Drbg::new(&*zeroize::Zeroizing::new(rng.bytes::<48>()), b"vtpmmgr store").map_err(StartError::Entropy)?;
    let store = Store::new(vault, table, store_rng);
    Ok(Ready { store, chip: info })
}

/// The random generator: seeded by the processor and by the chip, so that one of them alone being weak or broken is no harm.
async fn seed<T: Transport>(chip: &Chip<'_, T>, cpu: &mut impl EntropySource) -> Result<Drbg, StartError> {
    let mut material = zeroize::Zeroizing::new([0; 96]);
    let (from_chip, from_cpu) = material.split_at_mut(48);
    from_chip.copy_from_slice(&chip.random(48).await?);
    if let Err(error) = cpu.fill(from_cpu) {
        log::warn!(target: "vtpmmgr", "randomness comes from the TPM chip alone: {error}");
    }
    Drbg::new(&*material, b"vtpmmgr").map_err(StartError::Entropy)
}

/// A version 4 UUID (RFC 9562, section 5.4).
fn random_uuid(rng: &mut Drbg) -> [u8; 16] {
    let mut uuid: [u8; 16] = rng.bytes();
    uuid[6] = uuid[6] & 0x0f | 0x40;
    uuid[8] = uuid[8] & 0x3f | 0x80;
    uuid
}

/// The secret that `choice` stands for, and the same again if it was drawn now and has to be kept.
fn choose(choice: &AuthChoice, rng: &mut Drbg) -> (AuthData, Option<AuthData>) {
    match choice {
        AuthChoice::Fixed(auth) => (auth.clone(), None),
        AuthChoice::Random => {
            let auth = AuthData(rng.bytes());
            (auth.clone(), Some(auth))
        }
    }
}

/// First start: an owner if there is none, a storage key, a root secret sealed under it, and only then the vault.
async fn create<B: BlockDevice, T: Transport>(
    options: &Options,
    disk: B,
    owner: Owner,
    over: Over,
    chip: &Chip<'_, T>,
    info: &ChipInfo,
    rng: &mut Drbg,
) -> Result<(Vault<B>, Table), StartError> {
    let (srk, srk_drawn, owner_drawn) = if info.owned {
        let AuthChoice::Fixed(srk) = &options.srk_auth else { return Err(StartError::SrkAuthChosen) };
        log::info!(target: "vtpmmgr", "the TPM chip has an owner; using its storage root key with the given srk_auth");
        (srk.clone(), None, None)
    } else {
        let (srk, srk_drawn) = choose(&options.srk_auth, rng);
        let (auth, owner_drawn) = choose(&options.owner_auth, rng);
        log::info!(target: "vtpmmgr", "the TPM chip has no owner; taking ownership, which can take some minutes");
        chip.take_ownership(&auth, &srk, rng).await?;
        (srk, srk_drawn, owner_drawn)
    };
    log::info!(target: "vtpmmgr", "making a storage key and a vault on this blank disk");
    let key = chip.create_storage_key(&srk, rng).await.map_err(srk_refused)?;
    let root = VaultKey::random(rng);
    let handle = chip.load(&srk, &key, rng).await.map_err(srk_refused)?;
    let sealed = chip.seal_at(handle, &key, options.locality, root.as_bytes(), rng).await?;
    let back = chip.unseal_at(handle, &key, &sealed, rng).await.map_err(|error| match error {
        ChipError::Refused { code: refusals::BAD_LOCALITY, .. } => StartError::SealBroken,
        other => StartError::Chip(other),
    })?;
    if !ct_eq(&back[..], root.as_bytes()) {
        return Err(StartError::SealBroken);
    }
    chip.unload(handle).await?;

    let label = Label { locality: options.locality, srk_auth: srk_drawn, key, root: sealed };
    let table = Table::new(owner_drawn.as_ref());
    let (vault, _) = Vault::create(disk, owner, &root, &label.to_bytes(), table.bytes(), over, rng).await?;
    Ok((vault, table))
}

/// Every later start: the chip gives the root secret back, which opens the vault.
async fn open_known<B: BlockDevice, T: Transport>(
    options: &Options,
    disk: B,
    owner: Owner,
    label: &[u8],
    chip: &Chip<'_, T>,
    info: &ChipInfo,
    rng: &mut Drbg,
) -> Result<(Vault<B>, Table), StartError> {
    if label.is_empty() {
        return Err(VaultError::Damaged { what: "none of its states is whole" }.into());
    }
    let label = Label::parse(label).map_err(StartError::Label)?;
    if !info.owned {
        return Err(StartError::ChipCleared);
    }
    let srk = match (&label.srk_auth, &options.srk_auth) {
        (Some(kept), _) => kept,
        (None, AuthChoice::Fixed(given)) => given,
        (None, AuthChoice::Random) => return Err(StartError::SrkAuthChosen),
    };
    let handle = chip.load(srk, &label.key, rng).await.map_err(|error| other_chip(srk_refused(error)))?;
    let root = unseal(options, chip, handle, &label.key, &label, rng).await;
    chip.unload(handle).await?;
    let (vault, state) = Vault::open(disk, owner, &VaultKey::from_bytes(&*root?), Expect::Newest).await?;
    let table = Table::parse(state).map_err(StartError::State)?;
    Ok((vault, table))
}

async fn unseal<T: Transport>(
    options: &Options,
    chip: &Chip<'_, T>,
    handle: u32,
    key: &StorageKey,
    label: &Label,
    rng: &mut Drbg,
) -> Result<zeroize::Zeroizing<[u8; 32]>, StartError> {
    chip.unseal_at(handle, key, &label.root, rng).await.map_err(|error| match error {
        ChipError::Refused { code: refusals::BAD_LOCALITY, .. } => {
            StartError::Locality { sealed: label.locality, given: options.locality }
        }
        other => other_chip(StartError::Chip(other)),
    })
}

/// A refusal of the storage root key's secret, told apart from other errors.
fn srk_refused(error: ChipError) -> StartError {
    match error {
        ChipError::Refused { code: refusals::AUTHFAIL, .. } => StartError::SrkAuth,
        other => StartError::Chip(other),
    }
}

/// A refusal to load or unseal means that the blobs are not this chip's, unless the code names a passing state of the chip.
fn other_chip(error: StartError) -> StartError {
    match error {
        StartError::Chip(error @ ChipError::Refused { code, .. }) if !refusals::PASSING.contains(&code) => {
            StartError::OtherChip(error)
        }
        other => other,
    }
}
