//! Where the state lies: a folder (lock, key, vault) or one file or block device.
//!
//! There is no manager here to keep the vault's key. Unless `--key` gives one, it lies beside the vault, readable by the owner
//! only: whoever can read it has the TPM. The lock is held as long as the state is in use.

use crate::disk::FileDisk;
use anyhow::{Context, Result, anyhow, bail, ensure};
use rustix::fs::{FallocateFlags, FlockOperation, OFlags, fallocate, flock};
use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{ErrorKind, Read, Write};
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use vault::VaultKey;
use zeroize::Zeroizing;

/// Bytes of a new vault file.
const VAULT_SIZE: u64 = 2 * 1024 * 1024;
const KEY_SIZE: usize = 32;

/// What `--tpmstate` names.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Place {
    /// A folder, made if it does not exist.
    Folder(PathBuf),
    /// A file, made if it does not exist, or a block device.
    File(PathBuf),
}

impl Place {
    fn show(&self) -> String {
        match self {
            Self::Folder(path) => format!("the state folder {}", path.display()),
            Self::File(path) => format!("the state file {}", path.display()),
        }
    }

    fn vault(&self) -> PathBuf {
        match self {
            Self::Folder(path) => path.join("tpm.vault"),
            Self::File(path) => path.clone(),
        }
    }

    fn key(&self) -> PathBuf {
        match self {
            Self::Folder(path) => path.join("vault.key"),
            Self::File(path) => {
                let mut name = path.clone().into_os_string();
                name.push(".key");
                name.into()
            }
        }
    }

    /// Whether a TPM was ever kept here.
    #[must_use]
    pub fn has_vault(&self) -> bool {
        let path = self.vault();
        path.metadata().is_ok_and(|found| found.len() > 0 || found.file_type().is_block_device())
    }

    /// Takes everything of a TPM away.
    pub fn clear(&self) -> Result<()> {
        let _lock = self.lock()?;
        for path in [self.vault(), self.key()] {
            match std::fs::remove_file(&path) {
                Err(error) if error.kind() != ErrorKind::NotFound => {
                    return Err(error).with_context(|| format!("cannot remove {}", path.display()));
                }
                _ => {}
            }
        }
        Ok(())
    }

    fn lock(&self) -> Result<File> {
        let file = match self {
            Self::Folder(path) => open(&path.join("lock"), true, 0o600)?,
            Self::File(path) => open(path, true, 0o600)?,
        };
        if flock(&file, FlockOperation::NonBlockingLockExclusive).is_err() {
            bail!("another vtpm-host uses {}", self.show());
        }
        Ok(file)
    }
}

/// An open place.
pub struct Home {
    /// The vault's key.
    pub key: VaultKey,
    /// The file that holds the vault, or will.
    pub disk: FileDisk,
    /// To be held as long as the state is in use.
    pub lock: Lock,
}

/// The lock; given back when dropped.
pub struct Lock(#[expect(dead_code, reason = "it is held, not used")] File);

impl Home {
    /// Opens `place`, making what it lacks with the file mode bits `mode`. `given` is the key of `--key`. A vault without its
    /// key is refused: nothing that exists is ever replaced here.
    pub fn open(place: &Place, given: Option<&VaultKey>, mode: u32) -> Result<Self> {
        if let Place::Folder(folder) = place {
            DirBuilder::new()
                .recursive(true)
                .mode(0o700)
                .create(folder)
                .with_context(|| format!("cannot make the state folder {}", folder.display()))?;
        }
        let vault = place.vault();
        let existed = place.has_vault();
        let device = vault.metadata().is_ok_and(|found| found.file_type().is_block_device());
        let lock = place.lock()?;
        let file = open(&vault, true, mode)?;
        let key = match given {
            Some(key) => {
                let other = place.key();
                ensure!(
                    !other.exists(),
                    "{} exists, so the state was made without --key: start it without --key",
                    other.display()
                );
                VaultKey::from_bytes(key.as_bytes())
            }
            None if device => bail!("{} is a block device: state on one needs --key", vault.display()),
            None => read_key(&place.key(), existed)?,
        };
        if !device && file.metadata()?.len() == 0 {
            // All of the room is taken now: a disk that gets full later must not stop a TPM.
            if fallocate(&file, FallocateFlags::empty(), 0, VAULT_SIZE).is_err() {
                file.set_len(VAULT_SIZE).with_context(|| format!("no room for {}", vault.display()))?;
            }
            file.sync_all()?;
            sync_parent(&vault)?;
        }
        Ok(Self { key, disk: FileDisk::new(file)?, lock: Lock(lock) })
    }
}

/// The key at `path`; a new one if neither key nor vault is there.
fn read_key(path: &Path, vault_exists: bool) -> Result<VaultKey> {
    let mut bytes = Zeroizing::new([0; KEY_SIZE]);
    match open(path, false, 0o600) {
        Ok(mut file) => {
            let length = file.metadata()?.len();
            ensure!(
                length == KEY_SIZE as u64,
                "{} has {length} bytes, not {KEY_SIZE}: put the right key back",
                path.display()
            );
            file.read_exact(&mut bytes[..]).with_context(|| format!("cannot read {}", path.display()))?;
        }
        Err(error) if not_found(&error) => {
            ensure!(
                !vault_exists,
                "{} is missing, and there is a vault that needs it: put the key back, give the --key that it was made with, or take an empty place for a new TPM",
                path.display()
            );
            getrandom::fill(&mut bytes[..]).map_err(|error| anyhow!("the kernel gives no random bytes: {error}"))?;
            write_key(path, &bytes)?;
        }
        Err(error) => return Err(error),
    }
    Ok(VaultKey::from_bytes(&bytes))
}

/// The key appears under its name whole or not at all.
fn write_key(path: &Path, bytes: &[u8; KEY_SIZE]) -> Result<()> {
    let unfinished = path.with_extension("key.new");
    let written = (|| {
        let mut file = open(&unfinished, true, 0o600)?;
        file.set_len(0)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        std::fs::rename(&unfinished, path)?;
        anyhow::Ok(())
    })();
    written.with_context(|| format!("cannot write {}", path.display()))?;
    sync_parent(path)
}

fn sync_parent(path: &Path) -> Result<()> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    File::open(folder)?.sync_all().with_context(|| format!("cannot make changes in {} durable", folder.display()))
}

fn open(path: &Path, create: bool, mode: u32) -> Result<File> {
    OpenOptions::new()
        .read(true)
        .write(true)
        .create(create)
        .truncate(false)
        .mode(mode)
        .custom_flags(OFlags::NOFOLLOW.bits() as i32)
        .open(path)
        .with_context(|| format!("cannot open {}", path.display()))
}

fn not_found(error: &anyhow::Error) -> bool {
    error.downcast_ref::<std::io::Error>().is_some_and(|error| error.kind() == ErrorKind::NotFound)
}
