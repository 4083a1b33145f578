//! `xl shutdown`: the watch on `control/shutdown`.

use crate::looper::Driver;
use core::time::Duration;
use xen_abi::{Instant, StoreError, Xen};

/// What the toolstack asked for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Request {
    /// `poweroff` or `halt`: save and stop.
    PowerOff,
    /// `reboot`: save and stop, to be started again.
    Reboot,
}

/// Watches for a request to stop and acknowledges it.
#[derive(Debug, Default)]
pub struct ShutdownWatch {
    watching: bool,
    look: bool,
    retry_at: Option<Instant>,
    requested: Option<Request>,
}

impl ShutdownWatch {
    /// Not watching before the first step.
    pub const fn new() -> Self {
        Self { watching: false, look: false, retry_at: None, requested: None }
    }

    /// The request that came, if any; it stays.
    pub const fn requested(&self) -> Option<Request> {
        self.requested
    }
}

const PATH: &str = "control/shutdown";
const TOKEN: &str = "shutdown";
/// How long to wait after a failure of xenstored.
const RETRY: Duration = Duration::from_secs(1);

impl<X: Xen> Driver<X> for ShutdownWatch {
    fn step(&mut self, xen: &mut X, now: Instant) {
        if self.retry_at.is_some_and(|at| now < at) {
            return;
        }
        self.retry_at = None;
        if !self.watching {
            // Best effort: a toolstack that does not read the flag may still write the request.
            let _ = xen.write(None, "control/feature-poweroff", b"1");
            let _ = xen.write(None, "control/feature-reboot", b"1");
            self.watching = xen.watch(PATH, TOKEN).is_ok();
            if !self.watching {
                self.retry_at = Some(now + RETRY);
            }
        }
        while xen.next_watch_event(TOKEN).is_some() {
            self.look = true;
        }
        if !core::mem::take(&mut self.look) {
            return;
        }
        let request = match xen.read(None, PATH).as_deref() {
            Ok(b"poweroff" | b"halt") => Request::PowerOff,
            Ok(b"reboot") => Request::Reboot,
            Ok(b"") | Err(StoreError::NoEntry | StoreError::Access) => return,
            Err(_) => {
                self.look = true;
                self.retry_at = Some(now + RETRY);
                return;
            }
            Ok(_) => {
                log::warn!(target: "shutdown", "ignoring a request in {PATH} that is neither poweroff, halt nor reboot");
                return;
            }
        };
        // The empty value is the acknowledgement that libxl waits for.
        if let Err(error) = xen.write(None, PATH, b"") {
            log::warn!(target: "shutdown", "cannot acknowledge the request in {PATH}: {error}");
        }
        self.requested = Some(request);
    }

    fn deadline(&self) -> Option<Instant> {
        self.retry_at
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fake::{DOM0, Machine};
    use crate::test_log;
    use xen_abi::DomId;

    const FLAG: &str = "/local/domain/4/control/shutdown";

    fn step(machine: &Machine, watch: &mut ShutdownWatch) -> Option<Request> {
        watch.step(&mut machine.domain(DomId(4)), Instant::from_millis(0));
        watch.requested()
    }

    #[test]
    fn a_request_is_acknowledged_and_stays() {
        for (word, expected) in
            [("poweroff", Request::PowerOff), ("halt", Request::PowerOff), ("reboot", Request::Reboot)]
        {
            let (machine, mut watch) = (Machine::new(), ShutdownWatch::new());
            assert_eq!(step(&machine, &mut watch), None);
            assert_eq!(machine.read("/local/domain/4/control/feature-poweroff"), Some("1".into()));
            machine.domain(DOM0).put(FLAG, word);
            assert_eq!(step(&machine, &mut watch), Some(expected));
            assert_eq!(machine.read(FLAG), Some("".into()));
            assert_eq!(step(&machine, &mut watch), Some(expected), "the acknowledgement changes nothing");
        }
    }

    #[test]
    fn a_request_that_xenstored_loses_is_made_again() {
        for executed in [false, true] {
            for number in 0.. {
                let (machine, mut watch) = (Machine::new(), ShutdownWatch::new());
                let mut domain = machine.domain(DomId(4));
                machine.lose_request(DomId(4), number, executed);
                watch.step(&mut domain, Instant::from_millis(0));
                machine.domain(DOM0).put(FLAG, "poweroff");
                watch.step(&mut domain, Instant::from_millis(10));
                if let Some(at) = Driver::<crate::fake::FakeDomain>::deadline(&watch) {
                    watch.step(&mut domain, at);
                }
                assert_eq!(watch.requested(), Some(Request::PowerOff), "{number}, executed: {executed}");
                if machine.request_to_be_lost(DomId(4)) {
                    break;
                }
            }
        }
    }

    #[test]
    fn one_from_before_the_watch_is_seen() {
        let (machine, mut watch) = (Machine::new(), ShutdownWatch::new());
        machine.domain(DomId(4));
        machine.domain(DOM0).put(FLAG, "poweroff");
        assert_eq!(step(&machine, &mut watch), Some(Request::PowerOff));
    }

    #[test]
    fn other_words_are_ignored_with_a_line() {
        test_log::start();
        let (machine, mut watch) = (Machine::new(), ShutdownWatch::new());
        machine.domain(DomId(4));
        for word in ["suspend", "\u{1}", &"x".repeat(2000)] {
            machine.domain(DOM0).put(FLAG, word);
            assert_eq!(step(&machine, &mut watch), None);
            assert_eq!(machine.read(FLAG).as_deref(), Some(word), "not acknowledged");
        }
        let lines = test_log::take();
        assert!(lines.len() == 3 && lines.iter().all(|line| line.len() < 120), "{lines:?}");
    }
}
