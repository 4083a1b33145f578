//! A ring in use: one page, one event channel, at most one request.

use super::{FrontId, Request, Shared};
use crate::tpmif::{self, BadPacket};
use crate::xenbus::{self, KeyError, State};
use alloc::format;
use alloc::string::String;
use xen_abi::{EventPort, GrantRef, StoreError, Xen};

/// What the front end published.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct Setup {
    ring: GrantRef,
    channel: EventPort,
}

impl Setup {
    /// Reads and checks it. The inner error is a line for the log; the outer one is xenstored's and worth another try.
    pub(super) fn read(xen: &mut impl Xen, dir: &str) -> Result<Result<Self, String>, StoreError> {
        let mut number = |key: &str| match xenbus::read_number(xen, dir, key) {
            Err(KeyError::Store(error)) => Err(error),
            other => Ok(other.map_err(|error| format!("{key} is {error}"))),
        };
        let numbers = [number("ring-ref")?, number("event-channel")?, number("feature-protocol-v2")?];
        Ok(match numbers {
            [Ok(ring), Ok(channel), Ok(1)] => Ok(Self { ring: GrantRef(ring), channel: EventPort(channel) }),
            [Ok(_), Ok(_), Ok(other)] => Err(format!("feature-protocol-v2 is {other}, only 1 is supported")),
            [Err(complaint), _, _] | [_, Err(complaint), _] | [_, _, Err(complaint)] => Err(complaint),
        })
    }
}

/// Where the request stands.
enum Job {
    None,
    /// Copied out, not taken yet.
    Ready(Request),
    /// The service works on it.
    Taken {
        cancelled: bool,
    },
}

pub(super) struct Connection<X: Xen> {
    page: X::Mapped,
    port: EventPort,
    pub(super) setup: Setup,
    pub(super) id: FrontId,
    pub(super) uuid: [u8; 16],
    /// The front end's state when last looked at.
    pub(super) front_state: State,
    /// Whether the service has taken the event.
    pub(super) told: bool,
    signal_due: bool,
    job: Job,
}

impl<X: Xen> Connection<X> {
    /// Maps and binds; the error is a line for the log.
    pub(super) fn open(
        xen: &mut X,
        setup: Setup,
        id: FrontId,
        uuid: [u8; 16],
        front_state: State,
    ) -> Result<Self, String> {
        let page = xen.map(id.domid, setup.ring).map_err(|error| format!("ring-ref {}: {error}", setup.ring))?;
        match xen.bind_interdomain(id.domid, setup.channel) {
            Ok(port) => {
                Ok(Self { page, port, setup, id, uuid, front_state, told: false, signal_due: false, job: Job::None })
            }
            Err(error) => {
                xen.unmap(page);
                Err(format!("event-channel {}: {error}", setup.channel))
            }
        }
    }

    /// Unbinds and unmaps, and tells the service if it knew of the connection.
    pub(super) fn take_down(self, shared: &mut Shared, xen: &mut X) {
        xen.close(self.port);
        xen.unmap(self.page);
        if self.told {
            shared.farewells.push(self.id);
        }
    }

    pub(super) fn port(&self) -> EventPort {
        self.port
    }

    /// Looks at the page once. A malformed request is answered here.
    pub(super) fn inspect(&mut self, malformed_reply: &[u8], xen: &mut X) -> Result<(), BadPacket> {
        match (&mut self.job, tpmif::state(&self.page)) {
            (Job::None, tpmif::STATE_SUBMIT) => match tpmif::take_packet(&self.page) {
                Ok((locality, command)) => {
                    self.job = Job::Ready(Request { front: self.id, locality, command });
                }
                Err(bad) => {
                    self.finish(malformed_reply, malformed_reply);
                    self.signal(xen);
                    return Err(bad);
                }
            },
            (Job::None | Job::Ready(_), tpmif::STATE_CANCEL) => {
                self.idle();
                self.signal(xen);
            }
            (Job::Taken { cancelled }, tpmif::STATE_CANCEL) => *cancelled = true,
            // Spurious signals, a second SUBMIT of a request that is known, states that only we may set.
            _ => {}
        }
        Ok(())
    }

    pub(super) fn has_request(&self) -> bool {
        self.told && matches!(self.job, Job::Ready(_))
    }

    pub(super) fn take_request(&mut self) -> Option<Request> {
        if !self.has_request() {
            return None;
        }
        match core::mem::replace(&mut self.job, Job::Taken { cancelled: false }) {
            Job::Ready(request) => Some(request),
            _ => None,
        }
    }

    pub(super) fn is_taken(&self) -> bool {
        matches!(self.job, Job::Taken { .. })
    }

    pub(super) fn is_cancelled(&self) -> bool {
        matches!(self.job, Job::Taken { cancelled: true })
    }

    /// Writes the response, or `fallback` if it does not fit.
    pub(super) fn finish(&mut self, response: &[u8], fallback: &[u8]) {
        let fits = (tpmif::MIN_PACKET..=tpmif::MAX_PACKET).contains(&response.len());
        let written = tpmif::put_response(&self.page, if fits { response } else { fallback });
        debug_assert!(written.is_ok(), "the reply of last resort fits the page");
        self.job = Job::None;
        tpmif::set_state(&self.page, tpmif::STATE_FINISH);
        self.signal_due = true;
    }

    /// Ends the request without a response.
    pub(super) fn idle(&mut self) {
        self.job = Job::None;
        tpmif::set_state(&self.page, tpmif::STATE_IDLE);
        self.signal_due = true;
    }

    pub(super) fn signal_due(&self) -> bool {
        self.signal_due
    }

    /// Signals, if there is something to signal.
    pub(super) fn signal(&mut self, xen: &mut X) {
        if core::mem::take(&mut self.signal_due) {
            xen.notify(self.port);
        }
    }
}
