//! Event channels of this domain, and waiting for them.

use super::bits::PortSet;
use super::hypercall::{self, DOMID_SELF, event};
use super::{shared_info, store_ring};
use crate::time::clock::{MachineClock, poll_timeout};
use core::time::Duration;
use xen_abi::{Clock, DomId, EventChannels, EventError, EventPort, Instant};

/// Ports that one SCHEDOP_poll takes.
const POLL_MAX: usize = 128;
/// How long to wait at most when there are more ports than that.
const CROWDED: Duration = Duration::from_millis(10);

/// The open ports.
#[derive(Debug)]
pub struct Events {
    open: PortSet,
    clock: MachineClock,
    store: Option<EventPort>,
}

impl Events {
    /// No port open but the store's.
    pub fn new(clock: MachineClock, store: Option<EventPort>) -> Self {
        Self { open: PortSet::EMPTY, clock, store }
    }

    /// Waits until an event of an open port or of xenstore is pending, or `deadline` has come; `None` is for ever. Coming back
    /// without either happens.
    pub fn wait(&mut self, deadline: Option<Instant>) {
        if self.store.is_some_and(store_ring::take_news) {
            return;
        }
        let mut ports = [0; POLL_MAX];
        let mut count = 0;
        let mut deadline = deadline;
        for port in self.open.iter().chain(self.store.map(|port| port.0)) {
            if shared_info::is_pending(port) {
                return;
            }
            match ports.get_mut(count) {
                Some(slot) => *slot = port,
                None => {
                    let soon = self.clock.now() + CROWDED;
                    deadline = Some(deadline.map_or(soon, |deadline| deadline.min(soon)));
                    break;
                }
            }
            count += 1;
        }
        hypercall::poll(&ports[..count], deadline.map_or(0, poll_timeout));
    }
}

impl EventChannels for Events {
    fn alloc_unbound(&mut self, remote: DomId) -> Result<EventPort, EventError> {
        let mut alloc = event::AllocUnbound { domain: DOMID_SELF, remote: remote.0, port: 0 };
        event::alloc_unbound(&mut alloc).map_err(EventError)?;
        self.open.insert(alloc.port);
        Ok(EventPort(alloc.port))
    }

    fn bind_interdomain(&mut self, remote: DomId, remote_port: EventPort) -> Result<EventPort, EventError> {
        let mut bind = event::BindInterdomain { remote: remote.0, pad: 0, remote_port: remote_port.0, local_port: 0 };
        event::bind_interdomain(&mut bind).map_err(EventError)?;
        self.open.insert(bind.local_port);
        Ok(EventPort(bind.local_port))
    }

    fn close(&mut self, port: EventPort) {
        if self.open.remove(port.0) {
            // It was ours and open, so Xen has no reason to refuse.
            let _ = event::close(port.0);
            shared_info::take_pending(port.0);
        }
    }

    fn notify(&mut self, port: EventPort) {
        // Without a peer there is nobody to tell.
        let _ = event::send(port.0);
    }

    fn take_pending(&mut self, port: EventPort) -> bool {
        shared_info::take_pending(port.0)
    }
}
