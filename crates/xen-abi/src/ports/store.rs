//! Xenstore as a driver sees it.

use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;

/// Why a xenstore request failed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum StoreError {
    /// ENOENT: no such node.
    NoEntry,
    /// EACCES: not ours to touch.
    Access,
    /// EEXIST: there already.
    Exists,
    /// EAGAIN: the transaction met another change and must be run again.
    Again,
    /// A path or value that the protocol cannot carry, or a reply that breaks it.
    Malformed,
    /// xenstored did not answer in time.
    TimedOut,
    /// Any other error that xenstored named.
    Other,
}

impl fmt::Display for StoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NoEntry => "no such xenstore node",
            Self::Access => "xenstore denies access",
            Self::Exists => "it exists in xenstore already",
            Self::Again => "the xenstore transaction met another change",
            Self::Malformed => "malformed xenstore path, value or reply",
            Self::TimedOut => "xenstored does not answer",
            Self::Other => "xenstored reported an error",
        })
    }
}

impl core::error::Error for StoreError {}

/// An open transaction.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TransactionId(pub u32);

/// A watch that fired.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct WatchEvent {
    /// The node that changed, in the form the watch was registered (relative stays relative).
    pub path: String,
    /// The token given at registration.
    pub token: String,
}

/// Xenstore. Requests wait for xenstored, for a bounded time; relative paths mean this domain's own directory.
pub trait Store {
    /// The value of a node; `None` for `tx` means outside any transaction.
    fn read(&mut self, tx: Option<TransactionId>, path: &str) -> Result<Vec<u8>, StoreError>;

    /// Writes a node, making it if needed.
    fn write(&mut self, tx: Option<TransactionId>, path: &str, value: &[u8]) -> Result<(), StoreError>;

    /// Removes a node and all below it.
    fn remove(&mut self, tx: Option<TransactionId>, path: &str) -> Result<(), StoreError>;

    /// The names of the children of a node.
    fn list(&mut self, tx: Option<TransactionId>, path: &str) -> Result<Vec<String>, StoreError>;

    /// Asks to be told of changes at and below `path`; fires once at registration. Asking again for the same is no error, and fires
    /// again: the answer to an earlier request may have been lost.
    fn watch(&mut self, path: &str, token: &str) -> Result<(), StoreError>;

    /// Ends a watch. Events already queued may still come.
    fn unwatch(&mut self, path: &str, token: &str) -> Result<(), StoreError>;

    /// The oldest watch event whose token starts with `token_prefix`; others stay queued for their owners.
    fn next_watch_event(&mut self, token_prefix: &str) -> Option<WatchEvent>;

    /// Opens a transaction.
    fn begin(&mut self) -> Result<TransactionId, StoreError>;

    /// Ends it: `commit` false throws the changes away. [`StoreError::Again`] means run it again.
    fn end(&mut self, tx: TransactionId, commit: bool) -> Result<(), StoreError>;
}
