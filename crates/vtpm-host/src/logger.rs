//! Log lines on standard error or in a file.

use anyhow::{Context, Result};
use log::{LevelFilter, Log, Metadata, Record};
use std::fs::OpenOptions;
use std::io::{Write, stderr};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::Mutex;

struct Lines(Mutex<Box<dyn Write + Send>>);

impl Log for Lines {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.level() <= log::max_level()
    }

    fn log(&self, record: &Record<'_>) {
        if let Ok(mut out) = self.0.lock() {
            // Nobody is left to be told when the log itself can't be written.
            let _ = writeln!(out, "{}: {}", record.level().as_str().to_lowercase(), record.args());
        }
    }

    fn flush(&self) {}
}

/// Sends log lines up to `level` to `file` (appended, never through a symbolic link) or to standard error.
pub fn start(level: LevelFilter, file: Option<&Path>) -> Result<()> {
    let out: Box<dyn Write + Send> = match file {
        None => Box::new(stderr()),
        Some(path) => Box::new(
            OpenOptions::new()
                .append(true)
                .create(true)
                .mode(0o600)
                .custom_flags(rustix::fs::OFlags::NOFOLLOW.bits() as i32)
                .open(path)
                .with_context(|| format!("cannot open the log file {}", path.display()))?,
        ),
    };
    log::set_boxed_logger(Box::new(Lines(Mutex::new(out)))).context("a logger is set already")?;
    log::set_max_level(level);
    Ok(())
}
