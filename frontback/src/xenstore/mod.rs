//! The xenstore client: requests and watches over the ring page that a domain shares with xenstored.

use alloc::string::String;
use alloc::vec::Vec;
use xen_abi::{Store, StoreError, StoreRing, TransactionId, WatchEvent};

/// A connection to xenstored.
pub struct Client<R: StoreRing> {
    ring: R,
}

impl<R: StoreRing> Client<R> {
    /// A client on a ring that nobody else uses.
    pub fn new(ring: R) -> Self {
        Self { ring }
    }

    /// The ring, for its owner's other needs.
    pub fn ring(&self) -> &R {
        &self.ring
    }
}

impl<R: StoreRing> Store for Client<R> {
    fn read(&mut self, _tx: Option<TransactionId>, _path: &str) -> Result<Vec<u8>, StoreError> {
        todo!()
    }
    fn write(&mut self, _tx: Option<TransactionId>, _path: &str, _value: &[u8]) -> Result<(), StoreError> {
        todo!()
    }
    fn remove(&mut self, _tx: Option<TransactionId>, _path: &str) -> Result<(), StoreError> {
        todo!()
    }
    fn list(&mut self, _tx: Option<TransactionId>, _path: &str) -> Result<Vec<String>, StoreError> {
        todo!()
    }
    fn watch(&mut self, _path: &str, _token: &str) -> Result<(), StoreError> {
        todo!()
    }
    fn unwatch(&mut self, _path: &str, _token: &str) -> Result<(), StoreError> {
        todo!()
    }
    fn next_watch_event(&mut self, _token_prefix: &str) -> Option<WatchEvent> {
        todo!()
    }
    fn begin(&mut self) -> Result<TransactionId, StoreError> {
        todo!()
    }
    fn end(&mut self, _tx: TransactionId, _commit: bool) -> Result<(), StoreError> {
        todo!()
    }
}
