//! The PV console ring (`public/io/console.h`), output only.

use super::space::{position, room};
use crate::time::clock::{MachineClock, poll_timeout};
use crate::xen::hypercall::{self, PARAM_CONSOLE_PAGE, PARAM_CONSOLE_PORT, event};
use crate::xen::page::{RawPage, toolstack_page};
use crate::xen::shared_info;
use core::fmt;
use core::time::Duration;
use xen_abi::{Clock, SharedPage};

/// `out`, behind `in` of 1024 bytes.
const OUT: usize = 1024;
const OUT_CONSUMER: usize = OUT + 2048 + 8;
const OUT_PRODUCER: usize = OUT + 2048 + 12;

/// How long one piece of text waits for the reader altogether.
const PATIENCE: Duration = Duration::from_millis(200);

/// The ring. Text that finds no room in time is lost, and a mark says so once there is room.
pub struct ConsoleRing {
    page: RawPage,
    port: u32,
    clock: MachineClock,
    producer: u32,
    lost: u32,
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
        Some(Self { page, port: port as u32, clock, producer, lost: 0 })
    }

    /// Puts one byte, waiting until `patience` says enough. True if it went in.
    fn put(&mut self, byte: u8, patience: &mut Patience) -> bool {
        loop {
            let Ok(consumer) = self.page.load_u32(OUT_CONSUMER) else { return false };
            if room(consumer, self.producer) > 0 {
                break;
            }
            if !patience.wait(self) {
                return false;
            }
        }
        let done = self.page.write(OUT + position(self.producer), &[byte]);
        self.producer = self.producer.wrapping_add(1);
        done.is_ok()
    }

    /// Shows the reader what was put.
    fn flush(&self) {
        let _ = self.page.store_u32(OUT_PRODUCER, self.producer);
        let _ = event::send(self.port);
    }

    fn put_text(&mut self, text: &str, patience: &mut Patience) {
        for byte in text.bytes() {
            let fits = self.lost == 0 && (byte != b'\n' || self.put(b'\r', patience)) && self.put(byte, patience);
            if !fits {
                self.lost = self.lost.saturating_add(1);
            }
        }
        self.flush();
    }
}

impl fmt::Write for ConsoleRing {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let mut patience = Patience { until: None };
        let room = self.page.load_u32(OUT_CONSUMER).map_or(0, |consumer| room(consumer, self.producer));
        if self.lost > 0 && room > MARK_ROOM {
            let lost = core::mem::take(&mut self.lost);
            write!(Marked(self, &mut patience), "\n[{lost} bytes of output lost]\n")?;
        }
        self.put_text(text, &mut patience);
        Ok(())
    }
}

/// More than a mark needs.
const MARK_ROOM: u32 = 64;

/// Writes without looking for lost text first.
struct Marked<'a>(&'a mut ConsoleRing, &'a mut Patience);

impl fmt::Write for Marked<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.0.put_text(text, self.1);
        Ok(())
    }
}

/// One bound for all waits of one piece of text.
struct Patience {
    until: Option<xen_abi::Instant>,
}

impl Patience {
    /// Waits a little for the reader; false once the time is up.
    fn wait(&mut self, ring: &ConsoleRing) -> bool {
        let now = ring.clock.now();
        let until = *self.until.get_or_insert(now + PATIENCE);
        if now >= until {
            return false;
        }
        ring.flush();
        shared_info::take_pending(ring.port);
        // The reader signals after it has read; a signal between the check and here only costs the wait.
        hypercall::poll(&[ring.port], poll_timeout((now + Duration::from_millis(10)).min(until)));
        true
    }
}
