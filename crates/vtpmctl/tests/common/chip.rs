//! A chip of either version: our own TPM 1.2, or swtpm's TPM 2.0.

use super::Folder;
use std::cell::RefCell;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use tpm_crypto::Drbg;
use tpm_wire::{Engine, Progress, Transport, TransportError};
use tpm12::{Options, Tpm12};

/// Which.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Version {
    V12,
    V20,
}

pub enum Chip {
    Engine(RefCell<Box<Tpm12>>),
    Swtpm(RefCell<Swtpm>),
}

pub struct Swtpm {
    process: Child,
    link: UnixStream,
    _folder: Folder,
}

impl Drop for Swtpm {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

impl Chip {
    /// A new one, powered.
    pub fn new(version: Version) -> Self {
        match version {
            Version::V12 => {
                let mut making = Tpm12::manufacture(Drbg::new(&[9; 48], b"").unwrap(), Options::default());
                let mut tpm = loop {
                    if let Some(tpm) = making.step() {
                        break tpm;
                    }
                };
                tpm.committed();
                tpm.reset_for_new_guest();
                Self::Engine(RefCell::new(Box::new(tpm)))
            }
            Version::V20 => Self::Swtpm(RefCell::new(swtpm())),
        }
    }

    /// Extends a PCR as the firmware would, in all banks.
    pub fn extend(&self, index: u8) {
        let command = match self {
            Self::Engine(_) => [&[0, 0xc1, 0, 0, 0, 34, 0, 0, 0, 0x14, 0, 0, 0, index][..], &[7; 20]].concat(),
            Self::Swtpm(_) => {
                let digests = [&[0, 0, 0, 2, 0, 4][..], &[7; 20], &[0, 0xb], &[7; 32]].concat();
                let auth = [0, 0, 0, 9, 0x40, 0, 0, 9, 0, 0, 0, 0, 0];
                let size = (10 + 4 + auth.len() + digests.len()) as u32;
                [&[0x80, 2][..], &size.to_be_bytes(), &[0, 0, 1, 0x82, 0, 0, 0, index], &auth, &digests].concat()
            }
        };
        let response = self.exchange(&command).unwrap();
        assert_eq!(response[6..10], [0; 4], "the chip does not extend");
    }

    fn exchange(&self, command: &[u8]) -> Result<Vec<u8>, TransportError> {
        match self {
            Self::Engine(tpm) => {
                let mut tpm = tpm.borrow_mut();
                let mut response = Vec::new();
                let mut progress = tpm.execute(0, command, &mut response);
                while progress == Progress::Working {
                    progress = tpm.resume(&mut response);
                }
                if tpm.staged().is_some() {
                    tpm.committed();
                }
                Ok(response)
            }
            Self::Swtpm(swtpm) => {
                let link = &mut swtpm.borrow_mut().link;
                let mut read = || -> std::io::Result<Vec<u8>> {
                    link.write_all(command)?;
                    let mut response = vec![0; 10];
                    link.read_exact(&mut response)?;
                    let size = u32::from_be_bytes(response[2..6].try_into().unwrap()) as usize;
                    response.resize(size, 0);
                    link.read_exact(&mut response[10..])?;
                    Ok(response)
                };
                read().map_err(|_| TransportError::Gone)
            }
        }
    }
}

impl Transport for Chip {
    async fn transmit(&self, command: &[u8]) -> Result<Vec<u8>, TransportError> {
        self.exchange(command)
    }
}

fn swtpm() -> Swtpm {
    let folder = Folder::new();
    let socket = folder.path("socket");
    let process = Command::new("swtpm")
        .args(["socket", "--tpm2", "--flags", "not-need-init,startup-clear"])
        .arg("--tpmstate")
        .arg(format!("dir={}", folder.0.display()))
        .arg("--server")
        .arg(format!("type=unixio,path={}", socket.display()))
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("swtpm is needed for this test: install the package swtpm");
    let start = Instant::now();
    let link = loop {
        match UnixStream::connect(&socket) {
            Ok(link) => break link,
            Err(error) if start.elapsed() > Duration::from_secs(60) => panic!("swtpm does not listen: {error}"),
            Err(_) => std::thread::sleep(Duration::from_millis(5)),
        }
    };
    Swtpm { process, link, _folder: folder }
}
