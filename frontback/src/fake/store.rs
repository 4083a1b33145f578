//! The tree of xenstore with owners and readers, as xenstored keeps it.

use super::{Change, DOM0};
use alloc::collections::BTreeMap;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use xen_abi::{DomId, StoreError};

#[derive(Clone)]
struct Node {
    value: Vec<u8>,
    owner: DomId,
    readers: Vec<DomId>,
}

/// All nodes by absolute path; the root exists always and belongs to dom0.
#[derive(Clone, Default)]
pub(super) struct Tree {
    nodes: BTreeMap<String, Node>,
    generation: u64,
}

fn parent(path: &str) -> &str {
    match path.rfind('/') {
        Some(0) | None => "/",
        Some(end) => &path[..end],
    }
}

impl Tree {
    pub(super) fn generation(&self) -> u64 {
        self.generation
    }

    pub(super) fn exists(&self, path: &str) -> bool {
        path == "/" || self.nodes.contains_key(path)
    }

    pub(super) fn value(&self, path: &str) -> Option<&[u8]> {
        self.nodes.get(path).map(|node| node.value.as_slice())
    }

    fn may(&self, who: DomId, path: &str, write: bool) -> bool {
        who == DOM0
            || self.nodes.get(path).is_some_and(|node| node.owner == who || !write && node.readers.contains(&who))
    }

    /// What `who` hears of a node that is not there: ENOENT only if it may read the nearest node above.
    fn absent(&self, who: DomId, path: &str, write: bool) -> StoreError {
        let mut above = parent(path);
        while !self.exists(above) {
            above = parent(above);
        }
        if self.may(who, above, write) { StoreError::NoEntry } else { StoreError::Access }
    }

    fn check(&self, who: DomId, path: &str, write: bool) -> Result<(), StoreError> {
        match (self.exists(path), self.may(who, path, write)) {
            (false, _) => Err(self.absent(who, path, write)),
            (true, false) => Err(StoreError::Access),
            (true, true) => Ok(()),
        }
    }

    pub(super) fn check_write(&self, who: DomId, path: &str) -> Result<(), StoreError> {
        self.check(who, path, true)
    }

    pub(super) fn read(&self, who: DomId, path: &str) -> Result<Vec<u8>, StoreError> {
        self.check(who, path, false)?;
        Ok(self.value(path).unwrap_or_default().to_vec())
    }

    pub(super) fn list(&self, who: DomId, path: &str) -> Result<Vec<String>, StoreError> {
        self.check(who, path, false)?;
        let prefix = if path == "/" { "/".to_string() } else { alloc::format!("{path}/") };
        let below = self.nodes.range(prefix.clone()..).map(|(name, _)| name);
        let names = below.map_while(|name| name.strip_prefix(&prefix)).filter(|name| !name.contains('/'));
        Ok(names.map(ToString::to_string).collect())
    }

    /// A node's new parents and the node itself take owner and readers from the nearest node above, except that what an
    /// unprivileged domain makes is its own.
    pub(super) fn write(&mut self, who: DomId, path: &str, value: &[u8]) -> Result<(), StoreError> {
        if let Some(node) = self.nodes.get_mut(path) {
            if who != DOM0 && node.owner != who {
                return Err(StoreError::Access);
            }
            node.value = value.to_vec();
            self.generation += 1;
            return Ok(());
        }
        match self.absent(who, path, true) {
            StoreError::NoEntry => {}
            refused => return Err(refused),
        }
        let mut above = parent(path);
        let mut missing = alloc::vec![path];
        while !self.exists(above) {
            missing.push(above);
            above = parent(above);
        }
        let (owner, readers) = match self.nodes.get(above) {
            Some(node) if who == DOM0 => (node.owner, node.readers.clone()),
            Some(node) => (who, node.readers.clone()),
            None => (DOM0, Vec::new()),
        };
        for name in missing {
            self.nodes.insert(name.to_string(), Node { value: Vec::new(), owner, readers: readers.clone() });
        }
        if let Some(node) = self.nodes.get_mut(path) {
            node.value = value.to_vec();
        }
        self.generation += 1;
        Ok(())
    }

    /// Makes an empty node with these permissions, as the toolstack does.
    pub(super) fn make(&mut self, path: &str, owner: DomId, readers: &[DomId]) {
        if !self.exists(path) {
            self.write(DOM0, path, b"").expect("dom0 may write anything");
        }
        if let Some(node) = self.nodes.get_mut(path) {
            node.owner = owner;
            node.readers = readers.to_vec();
        }
        self.generation += 1;
    }

    pub(super) fn readers(&self, path: &str) -> Vec<DomId> {
        self.nodes.get(path).map_or_else(Vec::new, |node| {
            let mut readers = node.readers.clone();
            readers.push(node.owner);
            readers
        })
    }

    /// Removes a node and all below it; a missing one is no change.
    pub(super) fn remove(&mut self, path: &str) -> Vec<Change> {
        let prefix = alloc::format!("{path}/");
        let doomed: Vec<String> =
            self.nodes.keys().filter(|name| *name == path || name.starts_with(&prefix)).cloned().collect();
        let mut changes = Vec::new();
        for name in doomed {
            let readers = self.readers(&name);
            self.nodes.remove(&name);
            changes.push(Change { path: name, readers });
        }
        self.generation += 1;
        changes
    }
}
