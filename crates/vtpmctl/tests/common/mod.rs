//! A machine in one process behind sockets: a chip, the manager, a vTPM with its guest; and the program under test.
#![allow(dead_code)] // each test program uses a part of it

pub mod chip;
pub mod fronts;
pub mod world;

use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

/// A new folder, removed when dropped.
pub struct Folder(pub PathBuf);

impl Folder {
    pub fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("vtpmctl-{}-{number}", std::process::id()));
        let _ = std::fs::remove_dir_all(&path);
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    /// The path as an argument.
    pub fn arg(&self, name: &str) -> String {
        self.path(name).display().to_string()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// A key of the test data.
pub fn key(name: &str) -> String {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data").join(name).display().to_string()
}

/// What became of a run.
pub struct Ran {
    pub code: i32,
    pub out: String,
    pub err: String,
}

impl Ran {
    fn of(output: Output) -> Self {
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        Self { code: output.status.code().unwrap(), out: text(output.stdout), err: text(output.stderr) }
    }

    /// It did what it was told.
    #[track_caller]
    pub fn done(self) -> String {
        assert_eq!((self.code, self.err.as_str()), (0, ""), "{}", self.out);
        self.out
    }

    /// It did, and printed JSON.
    #[track_caller]
    pub fn json(self) -> Value {
        let out = self.done();
        serde_json::from_str(&out).unwrap_or_else(|error| panic!("{error}: {out}"))
    }

    /// It ended with this code and said this.
    #[track_caller]
    pub fn fails(self, code: i32, says: &str) {
        assert!(self.code == code && self.err.contains(says), "code {}: {}{}", self.code, self.out, self.err);
        assert!(self.err.starts_with("vtpmctl: ") || code == 2, "{}", self.err);
        assert_eq!(self.out, "", "a failure prints no result");
    }
}

/// Runs the program.
pub fn vtpmctl<S: AsRef<str>>(arguments: &[S]) -> Ran {
    let arguments = arguments.iter().map(AsRef::as_ref);
    let output = Command::new(env!("CARGO_BIN_EXE_vtpmctl")).args(arguments).stdin(Stdio::null()).output().unwrap();
    Ran::of(output)
}
