//! Log lines as tests see them: kept per thread, for each test runs in its own.

extern crate std;

use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::cell::RefCell;
use std::sync::Once;
use std::thread_local;

struct Capture;

thread_local! {
    static LINES: RefCell<Vec<String>> = const { RefCell::new(Vec::new()) };
}

impl log::Log for Capture {
    fn enabled(&self, _metadata: &log::Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &log::Record<'_>) {
        if record.level() <= log::Level::Info {
            let line = alloc::format!("{} {}: {}", record.level(), record.target(), record.args());
            LINES.with_borrow_mut(|lines| lines.push(line.to_string()));
        }
    }

    fn flush(&self) {}
}

/// Starts to keep lines.
pub fn start() {
    static START: Once = Once::new();
    START.call_once(|| {
        log::set_logger(&Capture).expect("the only logger");
        log::set_max_level(log::LevelFilter::Debug);
    });
    LINES.with_borrow_mut(Vec::clear);
}

/// The lines since the last call, of level info and above.
pub fn take() -> Vec<String> {
    LINES.with_borrow_mut(core::mem::take)
}
