//! The request and its way through the page.

use super::FrontError;
use crate::tpmif;
use alloc::vec::Vec;
use core::time::Duration;
use xen_abi::{Instant, SharedPage};

enum Stage {
    Empty,
    /// Not in a page yet.
    Queued {
        locality: u8,
        command: Vec<u8>,
    },
    /// In the page.
    Sent,
    Done(Result<Vec<u8>, FrontError>),
}

pub(super) struct Exchange {
    stage: Stage,
    /// How long the request has; becomes `until` in the next step, which knows the time.
    timeout: Option<Duration>,
    until: Option<Instant>,
    /// The page still holds a request that was given up.
    draining: bool,
    signal_due: bool,
}

impl Exchange {
    pub(super) const fn new() -> Self {
        Self { stage: Stage::Empty, timeout: None, until: None, draining: false, signal_due: false }
    }

    pub(super) fn submit(&mut self, locality: u8, command: &[u8], timeout: Duration) -> Result<(), FrontError> {
        if !matches!(self.stage, Stage::Empty) {
            return Err(FrontError::Busy);
        }
        if !(tpmif::MIN_PACKET..=tpmif::MAX_PACKET).contains(&command.len()) {
            return Err(FrontError::BadLength);
        }
        self.stage = Stage::Queued { locality, command: command.to_vec() };
        self.timeout = Some(timeout);
        self.until = None;
        Ok(())
    }

    pub(super) fn take_outcome(&mut self) -> Option<Result<Vec<u8>, FrontError>> {
        match core::mem::replace(&mut self.stage, Stage::Empty) {
            Stage::Done(outcome) => Some(outcome),
            other => {
                self.stage = other;
                None
            }
        }
    }

    pub(super) fn cancel(&mut self, page: Option<&impl SharedPage>) {
        if let (Stage::Sent, Some(page)) = (&self.stage, page) {
            self.give_up(page);
        }
        self.stage = Stage::Empty;
    }

    pub(super) fn ring_is_gone(&mut self) {
        self.draining = false;
        self.signal_due = false;
        if matches!(self.stage, Stage::Sent) {
            self.stage = Stage::Done(Err(FrontError::Gone));
        }
    }

    fn give_up(&mut self, page: &impl SharedPage) {
        tpmif::set_state(page, tpmif::STATE_CANCEL);
        self.draining = true;
        self.signal_due = true;
    }

    /// Moves on; true if the back end is to be signalled.
    pub(super) fn step(&mut self, page: Option<&impl SharedPage>, now: Instant) -> bool {
        if let Some(timeout) = self.timeout.take() {
            self.until = Some(now + timeout);
        }
        if let Some(page) = page {
            self.look(page);
        }
        let too_late = self.until.is_some_and(|until| now >= until);
        if too_late && matches!(self.stage, Stage::Queued { .. } | Stage::Sent) {
            if let (Stage::Sent, Some(page)) = (&self.stage, page) {
                self.give_up(page);
            }
            self.stage = Stage::Done(Err(FrontError::TimedOut));
        }
        core::mem::take(&mut self.signal_due)
    }

    fn look(&mut self, page: &impl SharedPage) {
        let state = tpmif::state(page);
        let at_rest = matches!(state, tpmif::STATE_IDLE | tpmif::STATE_FINISH);
        if at_rest {
            self.draining = false;
        }
        match &self.stage {
            Stage::Sent if at_rest => {
                self.stage = Stage::Done(match state {
                    tpmif::STATE_IDLE => Err(FrontError::Cancelled),
                    _ => tpmif::take_packet(page).map(|(_, response)| response).map_err(|bad| {
                        log::error!(target: "tpmfront", "the back end answers with {bad}");
                        FrontError::Garbled
                    }),
                });
            }
            Stage::Queued { locality, command } if !self.draining => {
                // The length was checked when it was submitted.
                self.stage = match tpmif::put_request(page, *locality, command) {
                    Ok(()) => Stage::Sent,
                    Err(_) => Stage::Done(Err(FrontError::BadLength)),
                };
                tpmif::set_state(page, tpmif::STATE_SUBMIT);
                self.signal_due = true;
            }
            _ => {}
        }
    }

    pub(super) fn deadline(&self, connected: bool) -> Option<Instant> {
        let sendable = connected && !self.draining && matches!(self.stage, Stage::Queued { .. });
        if self.timeout.is_some() || self.signal_due || sendable {
            return Some(Instant::from_millis(0));
        }
        self.until.filter(|_| matches!(self.stage, Stage::Queued { .. } | Stage::Sent))
    }
}
