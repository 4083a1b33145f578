//! A file tree in memory, written as the uncompressed "newc" archive that Linux unpacks into its first root.
//!
//! Source: Linux, Documentation/driver-api/early-userspace/buffer-format.rst. Uncompressed on purpose: the machine is
//! emulated, and copying is far cheaper there than unpacking.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use anyhow::{Context, Result};

enum Node {
    Dir,
    File { mode: u32, bytes: Vec<u8> },
    Link(String),
    Char { major: u32, minor: u32 },
}

/// The tree; paths are relative to the root and have no leading slash.
#[derive(Default)]
pub struct Tree {
    nodes: BTreeMap<String, Node>,
}

impl Tree {
    fn insert(&mut self, path: &str, node: Node) {
        let path = path.trim_matches('/');
        for (at, _) in path.match_indices('/') {
            if let Some(parent) = path.get(..at) {
                self.nodes.entry(parent.to_owned()).or_insert(Node::Dir);
            }
        }
        self.nodes.insert(path.to_owned(), node);
    }

    /// Adds an empty folder.
    pub fn dir(&mut self, path: &str) {
        let path = path.trim_matches('/');
        if !self.nodes.contains_key(path) {
            self.insert(path, Node::Dir);
        }
    }

    /// Adds a file with the given permission bits.
    pub fn file(&mut self, path: &str, mode: u32, bytes: impl Into<Vec<u8>>) {
        self.insert(path, Node::File { mode, bytes: bytes.into() });
    }

    /// Adds a symbolic link.
    pub fn link(&mut self, path: &str, to: &str) {
        self.insert(path, Node::Link(to.to_owned()));
    }

    /// Adds a character device.
    pub fn device(&mut self, path: &str, major: u32, minor: u32) {
        self.insert(path, Node::Char { major, minor });
    }

    /// True when there is something at `path` itself.
    pub fn has(&self, path: &str) -> bool {
        self.nodes.contains_key(path.trim_matches('/'))
    }

    /// Adds a file or a whole folder of the host; symbolic links are followed.
    pub fn copy(&mut self, from: &Path, path: &str) -> Result<()> {
        let meta = std::fs::metadata(from).with_context(|| format!("cannot read {}", from.display()))?;
        if meta.is_dir() {
            self.dir(path);
            for entry in std::fs::read_dir(from).with_context(|| format!("cannot read {}", from.display()))? {
                let entry = entry?;
                let name = entry.file_name();
                let name = name.to_str().with_context(|| format!("{}: name is not UTF-8", entry.path().display()))?;
                self.copy(&entry.path(), &format!("{path}/{name}"))?;
            }
        } else {
            let bytes = std::fs::read(from).with_context(|| format!("cannot read {}", from.display()))?;
            self.file(path, meta.permissions().mode() & 0o7777, bytes);
        }
        Ok(())
    }

    /// Writes the archive.
    pub fn write(&self, out: &mut impl Write) -> io::Result<()> {
        for (inode, (path, node)) in (1u32..).zip(&self.nodes) {
            match node {
                Node::Dir => entry(out, inode, path, 0o040_755, &[], (0, 0))?,
                Node::File { mode, bytes } => entry(out, inode, path, 0o100_000 | mode, bytes, (0, 0))?,
                Node::Link(to) => entry(out, inode, path, 0o120_777, to.as_bytes(), (0, 0))?,
                Node::Char { major, minor } => entry(out, inode, path, 0o020_600, &[], (*major, *minor))?,
            }
        }
        entry(out, 0, "TRAILER!!!", 0, &[], (0, 0))
    }
}

fn entry(out: &mut impl Write, inode: u32, path: &str, mode: u32, bytes: &[u8], device: (u32, u32)) -> io::Result<()> {
    let size = u32::try_from(bytes.len()).map_err(|_| io::Error::other(format!("{path}: larger than 4 GiB")))?;
    // magic, then inode, mode, uid, gid, links, mtime, size, device major and minor, rdev major and minor, name size, check
    let header = format!(
        "070701{inode:08x}{mode:08x}{0:08x}{0:08x}{1:08x}{0:08x}{size:08x}{0:08x}{0:08x}{2:08x}{3:08x}{4:08x}{0:08x}",
        0,
        1,
        device.0,
        device.1,
        path.len() + 1
    );
    out.write_all(header.as_bytes())?;
    out.write_all(path.as_bytes())?;
    out.write_all(&[0])?;
    pad(out, header.len() + path.len() + 1)?;
    out.write_all(bytes)?;
    pad(out, bytes.len())
}

fn pad(out: &mut impl Write, written: usize) -> io::Result<()> {
    let missing = written.next_multiple_of(4) - written;
    out.write_all([0u8; 3].get(..missing).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_archive_is_laid_out_as_linux_reads_it() {
        let mut tree = Tree::default();
        tree.file("a/b", 0o755, "hello");
        tree.link("c", "a/b");
        assert!(tree.has("a") && tree.has("/a/b") && !tree.has("d"));
        let mut out = Vec::new();
        tree.write(&mut out).unwrap();
        assert_eq!(out.len() % 4, 0);
        let text = String::from_utf8(out).unwrap();
        // The folder comes before what is in it. A header has 110 bytes; name and content are padded to 4.
        let names: Vec<&str> = text.split("070701").skip(1).map(|entry| entry.get(104..).unwrap()).collect();
        assert_eq!(names, ["a\0", "a/b\0\0\0hello\0\0\0", "c\0a/b\0", "TRAILER!!!\0\0\0\0"]);
        let file = text.split("070701").nth(2).unwrap();
        assert_eq!(file.get(8..16), Some("000081ed"), "a regular file, mode 755");
        assert_eq!(file.get(48..56), Some("00000005"), "its size");
        assert_eq!(file.get(88..96), Some("00000004"), "the length of its name with the final zero");
    }
}
