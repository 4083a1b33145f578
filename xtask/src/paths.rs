//! Where things are: the checkout, the target folder, the rig's cache and logs.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

/// The folders the front door works with.
#[derive(Clone)]
pub struct Paths {
    /// The checkout.
    pub root: PathBuf,
    /// Cargo's target folder (`CARGO_TARGET_DIR` or `target`).
    pub target: PathBuf,
}

impl Paths {
    /// Finds the folders of this checkout.
    pub fn find() -> Result<Self> {
        let root =
            Path::new(env!("CARGO_MANIFEST_DIR")).parent().context("the xtask folder has no parent")?.to_path_buf();
        let target = match std::env::var_os("CARGO_TARGET_DIR") {
            Some(dir) => std::path::absolute(dir)?,
            None => root.join("target"),
        };
        Ok(Self { root, target })
    }

    /// The rig's cache: everything in it can be deleted and is made again.
    pub fn rig(&self) -> PathBuf {
        self.target.join("rig")
    }

    /// Serial logs and guest consoles of the last runs.
    pub fn logs(&self) -> PathBuf {
        self.rig().join("logs")
    }

    /// The release images.
    pub fn images(&self) -> PathBuf {
        self.target.join("images")
    }

    /// The rig's scripts in the checkout.
    pub fn scripts(&self) -> PathBuf {
        self.root.join("xtask").join("rig")
    }

    /// `path` for the reader: relative to the checkout where it lies in it.
    pub fn show(&self, path: &Path) -> String {
        path.strip_prefix(&self.root).unwrap_or(path).display().to_string()
    }
}

/// Creates `dir` with its parents, with the folder's name in the error.
pub fn make_dir(dir: &Path) -> Result<()> {
    std::fs::create_dir_all(dir).with_context(|| format!("cannot create {}", dir.display()))
}

/// Deletes `dir` with everything in it and creates it anew.
pub fn fresh_dir(dir: &Path) -> Result<()> {
    if dir.exists() {
        std::fs::remove_dir_all(dir).with_context(|| format!("cannot empty {}", dir.display()))?;
    }
    make_dir(dir)
}
