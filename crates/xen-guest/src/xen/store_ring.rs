//! The raw connection to xenstored.

use super::hypercall::{self, PARAM_STORE_PAGE, PARAM_STORE_PORT, event};
use super::page::{RawPage, toolstack_page};
use super::shared_info;
use crate::time::clock::{MachineClock, poll_timeout};
use core::sync::atomic::{AtomicBool, Ordering};
use xen_abi::{Clock, EventPort, Instant, StoreRing};

/// Set when a wait for an answer took the port's pending mark. What came with it may also concern drivers that had their turn
/// already, so the loop must not sleep before another turn.
static STIRRED: AtomicBool = AtomicBool::new(false);

/// The page and port that libxl made for xenstore.
#[derive(Debug)]
pub struct XenStoreRing {
    page: RawPage,
    port: EventPort,
    clock: MachineClock,
}

impl XenStoreRing {
    /// Finds them by the domain's HVM parameters.
    ///
    /// # Panics
    /// If the domain has none, which no toolstack brings about.
    ///
    /// # Safety
    /// To be called once.
    pub(crate) unsafe fn open(clock: MachineClock) -> Self {
        let param = |index| hypercall::param(index).ok().filter(|&value| value != 0);
        let (frame, port) = param(PARAM_STORE_PAGE).zip(param(PARAM_STORE_PORT)).expect("no xenstore page or port");
        // SAFETY: the parameter names the page that xenstored shares with us for good; called once.
        let page = unsafe { toolstack_page(frame) }.expect("the xenstore page cannot be mapped");
        Self { page, port: EventPort(port as u32), clock }
    }

    /// The port on which xenstored signals.
    pub fn port(&self) -> EventPort {
        self.port
    }
}

impl StoreRing for XenStoreRing {
    type Page = RawPage;

    fn page(&self) -> &RawPage {
        &self.page
    }

    fn notify(&mut self) {
        // xenstored restarting shows as an answer that does not come.
        let _ = event::send(self.port.0);
    }

    fn now(&self) -> Instant {
        self.clock.now()
    }

    fn wait(&mut self, until: Instant) {
        if !shared_info::is_pending(self.port.0) {
            hypercall::poll(&[self.port.0], poll_timeout(until));
        }
        if shared_info::take_pending(self.port.0) {
            STIRRED.store(true, Ordering::Relaxed);
        }
    }
}

/// Whether xenstored signalled since the loop last asked.
pub(super) fn take_news(port: EventPort) -> bool {
    let stirred = STIRRED.swap(false, Ordering::Relaxed);
    shared_info::take_pending(port.0) || stirred
}
