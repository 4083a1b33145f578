//! Log lines on standard error, in a file, or nowhere.

use anyhow::{Context, Result};
use log::{LevelFilter, Log, Metadata, Record};
use std::fs::{File, OpenOptions};
use std::io::{Write, sink, stderr};
use std::os::fd::OwnedFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;
use std::sync::Mutex;

struct Lines {
    out: Mutex<Box<dyn Write + Send>>,
    prefix: String,
}

impl Log for Lines {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.level() <= log::max_level()
    }

    fn log(&self, record: &Record<'_>) {
        if !self.enabled(record.metadata()) {
            return;
        }
        if let Ok(mut out) = self.out.lock() {
            let line = format!("{}{}: {}\n", self.prefix, record.level().as_str().to_lowercase(), record.args());
            // Nobody is left to be told when the log itself can't be written.
            let _ = out.write_all(line.as_bytes());
        }
    }

    fn flush(&self) {}
}

/// Where lines go.
pub enum Target {
    /// Standard error.
    StandardError,
    /// A file; appended unless it is to be emptied first, never through a symbolic link.
    File {
        /// Its path.
        path: PathBuf,
        /// Whether it is emptied.
        truncate: bool,
    },
    /// An open descriptor.
    Descriptor(OwnedFd),
    /// Nowhere.
    Nowhere,
}

/// Sends log lines up to `level` to `target`, each behind `prefix`.
pub fn start(level: LevelFilter, target: Target, prefix: &str) -> Result<()> {
    let out: Box<dyn Write + Send> = match target {
        Target::StandardError => Box::new(stderr()),
        Target::Nowhere => Box::new(sink()),
        Target::Descriptor(fd) => Box::new(File::from(fd)),
        Target::File { path, truncate } => {
            let mut options = OpenOptions::new();
            options.create(true).mode(0o600).custom_flags(rustix::fs::OFlags::NOFOLLOW.bits() as i32);
            let options = if truncate { options.write(true).truncate(true) } else { options.append(true) };
            let file = options.open(&path);
            Box::new(file.with_context(|| format!("cannot open the log file {}", path.display()))?)
        }
    };
    let lines = Lines { out: Mutex::new(out), prefix: prefix.to_owned() };
    log::set_boxed_logger(Box::new(lines)).context("a logger is set already")?;
    log::set_max_level(level);
    Ok(())
}
