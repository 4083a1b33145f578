//! Log lines on the console, in the forms that the vTPM documentation promises.

use super::clean::Clean;
use super::prefix::Prefix;
use core::fmt::{self, Write};
use log::{LevelFilter, Log, Metadata, Record};

struct ConsoleLogger;

/// Directs the `log` crate to the console, at level "info" to begin with.
pub fn init() {
    if log::set_logger(&ConsoleLogger).is_ok() {
        log::set_max_level(LevelFilter::Info);
    }
}

/// Changes the level from which on lines are shown.
pub fn set_level(level: LevelFilter) {
    log::set_max_level(level);
}

impl Log for ConsoleLogger {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.level() <= log::max_level()
    }

    fn log(&self, record: &Record<'_>) {
        let prefix = Prefix(record.level(), record.target());
        super::write(format_args!("{prefix}{}\n", Message(record)));
    }

    fn flush(&self) {}
}

/// The text, made harmless.
struct Message<'a>(&'a Record<'a>);

impl fmt::Display for Message<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Clean(f).write_fmt(*self.0.args())
    }
}
