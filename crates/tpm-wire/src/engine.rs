//! The one door into a TPM engine.

use alloc::vec::Vec;
use zeroize::Zeroizing;

/// How far a command has come.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[must_use]
pub enum Progress {
    /// The response is complete in the buffer given.
    Done,
    /// A long computation is under way: call [`Engine::resume`] again, or [`Engine::cancel`].
    Working,
}

/// A TPM. It does no I/O and has no clock; its owner makes staged state durable before it lets a response out.
pub trait Engine {
    /// Starts `command` at `locality` (0 to 4). The response replaces the content of `response` and is at most
    /// [`crate::MAX_PACKET`] bytes. Any bytes are allowed as `command`; a malformed one gets the specification's error.
    fn execute(&mut self, locality: u8, command: &[u8], response: &mut Vec<u8>) -> Progress;

    /// Goes on with a command that was [`Progress::Working`], for a few milliseconds.
    fn resume(&mut self, response: &mut Vec<u8>) -> Progress;

    /// Gives up a command that was [`Progress::Working`]; the state is as if it had never come.
    fn cancel(&mut self);

    /// The whole persistent state in its external form, if it changed since [`Self::committed`]; the same bytes until then.
    fn staged(&mut self) -> Option<Zeroizing<Vec<u8>>>;

    /// What [`Self::staged`] gave is durable now.
    fn committed(&mut self);

    /// What [`Self::staged`] gave could not be made durable: go back to the last committed state.
    fn discard(&mut self);
}
