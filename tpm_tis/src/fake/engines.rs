//! Small engines to put into a fake chip.

use alloc::vec::Vec;
use tpm_wire::{Engine, Progress};
use zeroize::Zeroizing;

/// Answers each command at once by a function of locality and command.
pub struct Answering<F>(pub F);

impl<F: FnMut(u8, &[u8]) -> Vec<u8>> Engine for Answering<F> {
    fn execute(&mut self, locality: u8, command: &[u8], response: &mut Vec<u8>) -> Progress {
        *response = (self.0)(locality, command);
        Progress::Done
    }

    fn resume(&mut self, _response: &mut Vec<u8>) -> Progress {
        Progress::Done
    }

    fn cancel(&mut self) {}

    fn staged(&mut self) -> Option<Zeroizing<Vec<u8>>> {
        None
    }

    fn committed(&mut self) {}

    fn discard(&mut self) {}
}

/// Another engine, whose every command takes `steps` calls of [`Engine::resume`] first.
pub struct Slow<E> {
    inner: E,
    steps: u32,
    left: u32,
    answer: Vec<u8>,
    /// How often [`Engine::cancel`] was called.
    pub cancelled: u32,
}

impl<E: Engine> Slow<E> {
    /// Slows `inner` down.
    pub fn new(inner: E, steps: u32) -> Self {
        Self { inner, steps, left: 0, answer: Vec::new(), cancelled: 0 }
    }
}

impl<E: Engine> Engine for Slow<E> {
    fn execute(&mut self, locality: u8, command: &[u8], _response: &mut Vec<u8>) -> Progress {
        self.left = self.steps;
        if self.inner.execute(locality, command, &mut self.answer) == Progress::Working {
            while self.inner.resume(&mut self.answer) == Progress::Working {}
        }
        Progress::Working
    }

    fn resume(&mut self, response: &mut Vec<u8>) -> Progress {
        if self.left > 0 {
            self.left -= 1;
            return Progress::Working;
        }
        response.clone_from(&self.answer);
        Progress::Done
    }

    fn cancel(&mut self) {
        self.cancelled += 1;
    }

    fn staged(&mut self) -> Option<Zeroizing<Vec<u8>>> {
        self.inner.staged()
    }

    fn committed(&mut self) {
        self.inner.committed();
    }

    fn discard(&mut self) {
        self.inner.discard();
    }
}
