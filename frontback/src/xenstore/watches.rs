//! Watches and their events, bounded: whoever can write below a watched path must not fill this domain's memory.

use alloc::collections::VecDeque;
use alloc::string::String;
use alloc::vec::Vec;
use xen_abi::WatchEvent;

struct Registration {
    path: String,
    token: String,
    /// An event did not fit the queue: owed to the owner, with the watch's own path.
    overflowed: bool,
}

#[derive(Default)]
pub(super) struct Watches {
    registered: Vec<Registration>,
    queue: VecDeque<WatchEvent>,
}

/// Events kept with their paths; of more than that, each watch keeps only that something changed.
pub(super) const MAX_QUEUED: usize = 128;

impl Watches {
    pub(super) fn register(&mut self, path: &str, token: &str) {
        self.registered.push(Registration { path: path.into(), token: token.into(), overflowed: false });
    }

    pub(super) fn is_registered(&self, path: &str, token: &str) -> bool {
        self.registered.iter().any(|watch| watch.path == path && watch.token == token)
    }

    /// Has a watch fire once more.
    pub(super) fn owe(&mut self, path: &str, token: &str) {
        let told = self.queue.iter().any(|event| event.path == path && event.token == token);
        let watch = self.registered.iter_mut().find(|watch| watch.path == path && watch.token == token);
        if let (false, Some(watch)) = (told, watch) {
            watch.overflowed = true;
        }
    }

    pub(super) fn forget(&mut self, path: &str, token: &str) {
        self.registered.retain(|watch| watch.path != path || watch.token != token);
        if !self.registered.iter().any(|watch| watch.token == token) {
            self.queue.retain(|event| event.token != token);
        }
    }

    /// An event's payload: path, NUL, token, NUL. What belongs to no watch is dropped.
    pub(super) fn arrived(&mut self, payload: &[u8]) {
        let mut parts = payload.split(|byte| *byte == 0).map(core::str::from_utf8);
        let (Some(Ok(path)), Some(Ok(token))) = (parts.next(), parts.next()) else { return };
        let belongs = |watch: &&mut Registration| {
            watch.token == token
                && path.strip_prefix(&watch.path).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        };
        let Some(watch) = self.registered.iter_mut().find(belongs) else { return };
        if self.queue.iter().any(|event| event.path == path && event.token == token) {
            return;
        }
        if self.queue.len() < MAX_QUEUED {
            self.queue.push_back(WatchEvent { path: path.into(), token: token.into() });
        } else {
            watch.overflowed = true;
        }
    }

    pub(super) fn next(&mut self, token_prefix: &str) -> Option<WatchEvent> {
        if let Some(position) = self.queue.iter().position(|event| event.token.starts_with(token_prefix)) {
            return self.queue.remove(position);
        }
        let owed = |watch: &&mut Registration| watch.overflowed && watch.token.starts_with(token_prefix);
        let watch = self.registered.iter_mut().find(owed)?;
        watch.overflowed = false;
        Some(WatchEvent { path: watch.path.clone(), token: watch.token.clone() })
    }
}
