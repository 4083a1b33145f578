//! The state folder: a lock, the vault's key, the vault.
//!
//! There is no manager here to keep the key, so it lies beside the vault, readable by the owner only: whoever can read the
//! folder has the TPM. `DIR/lock` is held as long as the program runs.

use crate::disk::FileDisk;
use anyhow::{Context, Result, bail, ensure};
use rustix::fs::{FlockOperation, OFlags, flock};
use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{ErrorKind, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use vault::VaultKey;
use zeroize::Zeroizing;

/// Bytes of a new vault file.
const VAULT_SIZE: u64 = 2 * 1024 * 1024;
const KEY_SIZE: usize = 32;

/// An open state folder.
pub struct Home {
    /// The vault's key.
    pub key: VaultKey,
    /// The file that holds the vault, or will.
    pub disk: FileDisk,
    /// To be held as long as the state is in use.
    pub lock: Lock,
}

/// The folder's lock; given back when dropped.
pub struct Lock(#[expect(dead_code, reason = "it is held, not used")] File);

impl Home {
    /// Opens `folder`, making what it lacks. A folder with a vault and no key, or the other way round after the vault was in
    /// use, is refused by the vault's own checks: nothing that exists is ever replaced here.
    pub fn open(folder: &Path) -> Result<Self> {
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(folder)
            .with_context(|| format!("cannot make the state folder {}", folder.display()))?;
        let lock = open(&folder.join("lock"), true)?;
        if flock(&lock, FlockOperation::NonBlockingLockExclusive).is_err() {
            bail!("another vtpm-host uses the state folder {}", folder.display());
        }
        let vault = folder.join("tpm.vault");
        let key = read_key(folder, vault.exists())?;
        let file = open(&vault, true)?;
        if file.metadata()?.len() == 0 {
            file.set_len(VAULT_SIZE).with_context(|| format!("no room for {}", vault.display()))?;
            file.sync_all()?;
            sync(folder)?;
        }
        Ok(Self { key, disk: FileDisk::new(file)?, lock: Lock(lock) })
    }
}

/// The key in `folder`; a new one if neither key nor vault is there.
fn read_key(folder: &Path, vault_exists: bool) -> Result<VaultKey> {
    let path = folder.join("vault.key");
    let mut bytes = Zeroizing::new([0; KEY_SIZE]);
    match open(&path, false) {
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
                "{} is missing, and there is a vault that needs it: put the key back, or take an empty folder for a new TPM",
                path.display()
            );
            getrandom::fill(&mut bytes[..])
                .map_err(|error| anyhow::anyhow!("the kernel gives no random bytes: {error}"))?;
            write_key(folder, &path, &bytes)?;
        }
        Err(error) => return Err(error),
    }
    Ok(VaultKey::from_bytes(&bytes))
}

/// The key appears under its name whole or not at all.
fn write_key(folder: &Path, path: &Path, bytes: &[u8; KEY_SIZE]) -> Result<()> {
    let unfinished: PathBuf = folder.join("vault.key.new");
    let mut file = open(&unfinished, true)?;
    file.set_len(0)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    std::fs::rename(&unfinished, path)?;
    sync(folder)
}

fn sync(folder: &Path) -> Result<()> {
    File::open(folder)?.sync_all().with_context(|| format!("cannot make changes in {} durable", folder.display()))
}

fn open(path: &Path, create: bool) -> Result<File> {
    OpenOptions::new()
        .read(true)
        .write(true)
        .create(create)
        .truncate(false)
        .mode(0o600)
        .custom_flags(OFlags::NOFOLLOW.bits() as i32)
        .open(path)
        .with_context(|| format!("cannot open {}", path.display()))
}

fn not_found(error: &anyhow::Error) -> bool {
    error.downcast_ref::<std::io::Error>().is_some_and(|error| error.kind() == ErrorKind::NotFound)
}
