//! The PV console ring (`public/io/console.h`), output only.

use super::space::{position, room};
use crate::time::clock::{MachineClock, poll_timeout};
use crate::xen::hypercall::{self, PARAM_CONSOLE_PAGE, PARAM_CONSOLE_PORT, event};
use crate::xen::page::{RawPage, toolstack_page};
use crate::xen::shared_info;
use core::fmt::{self, Write};
use core::time::Duration;
use xen_abi::{Clock, Instant, SharedPage};

/// `out`, behind `in` of 1024 bytes.
const OUT: usize = 1024;
const OUT_CONSUMER: usize = OUT + 2048 + 8;
const OUT_PRODUCER: usize = OUT + 2048 + 12;

/// How long one message waits for the reader altogether.
const PATIENCE: Duration = Duration::from_secs(2);
/// How long at a time, in case a signal is missed.
const NAP: Duration = Duration::from_millis(10);
/// More than the mark for lost text needs.
const MARK_ROOM: u32 = 64;

/// The ring. Text that finds no room in time is lost, and a mark says so once there is room. After that nothing is waited for
/// until the reader has read again, so that a dead reader costs [`PATIENCE`] once.
pub struct ConsoleRing {
    page: RawPage,
    port: u32,
    clock: MachineClock,
    producer: u32,
    lost: u32,
    /// Until when the message under way waits; set by its first wait.
    patience: Option<Instant>,
}

impl ConsoleRing {
    /// Finds it by the domain's HVM parameters; a domain may have none.
    ///
    /// # Safety
    /// To be called once.
    pub unsafe fn open(clock: MachineClock) -> Option<Self> {
        let param = |index| hypercall::param(index).ok().filter(|&value| value != 0);
        let (frame, port) = param(PARAM_CONSOLE_PAGE).zip(param(PARAM_CONSOLE_PORT))?;
        // SAFETY: the parameter names the page that the console daemon shares with us for good; called once.
        let page = unsafe { toolstack_page(frame) }?;
        let producer = page.load_u32(OUT_PRODUCER).ok()?;
        Some(Self { page, port: port as u32, clock, producer, lost: 0, patience: None })
    }

    /// Prints one message.
    pub fn print(&mut self, text: fmt::Arguments<'_>) {
        self.patience = None;
        if self.lost > 0 && self.room() > MARK_ROOM {
            let lost = core::mem::take(&mut self.lost);
            let _ = write!(self, "\n[{lost} bytes of output lost]\n");
        }
        let _ = self.write_fmt(text);
        self.show();
    }

    /// Waits for the reader to have read everything, for a bounded time.
    pub fn drain(&mut self) {
        self.patience = None;
        while self.room() < super::space::OUT_SIZE && self.nap() {}
    }

    fn room(&self) -> u32 {
        self.page.load_u32(OUT_CONSUMER).map_or(0, |consumer| room(consumer, self.producer))
    }

    /// Lets the reader see what was put.
    fn show(&self) {
        let _ = self.page.store_u32(OUT_PRODUCER, self.producer);
        let _ = event::send(self.port);
    }

    /// Waits a little for the reader; false once this message has waited long enough.
    fn nap(&mut self) -> bool {
        let now = self.clock.now();
        let until = *self.patience.get_or_insert(now + PATIENCE);
        if now >= until {
            return false;
        }
        self.show();
        hypercall::poll(&[self.port], poll_timeout((now + NAP).min(until)));
        shared_info::take_pending(self.port);
        true
    }

    /// Puts one byte, waiting for room if need be. True if it went in.
    fn put(&mut self, byte: u8) -> bool {
        while self.room() == 0 {
            if !self.nap() {
                return false;
            }
        }
        let done = self.page.write(OUT + position(self.producer), &[byte]);
        self.producer = self.producer.wrapping_add(1);
        done.is_ok()
    }
}

impl Write for ConsoleRing {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for byte in text.bytes() {
            // Once a byte is lost all are, up to the mark: no text with holes in it.
            let fits = self.lost == 0 && (byte != b'\n' || self.put(b'\r')) && self.put(byte);
            if !fits {
                self.lost = self.lost.saturating_add(1);
            }
        }
        Ok(())
    }
}
