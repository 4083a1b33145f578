//! A swtpm process as the chip, and a bus before it that records, garbles, loses and cuts power.

use core::pin::pin;
use core::time::Duration;
use frontback::looper::{Timer, Turn, turn};
use std::cell::{Cell, RefCell};
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Instant as Wall;
use tpm_wire::{Transport, TransportError, Writer};
use xen_abi::Instant;

/// A process, and the way to it. Power is cut when this is dropped.
struct Swtpm {
    process: Child,
    link: UnixStream,
}

impl Drop for Swtpm {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// What happens to one command.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Trouble {
    /// This bit of the response is flipped: byte, mask.
    Flip(usize, u8),
    /// The chip does it and the answer is lost.
    AnswerLost,
    /// Power fails just before it.
    Reset,
    /// The chip answers this code without doing it.
    Refuse(u32),
}

/// A chip, its memory, and the wires to it.
pub struct Bus {
    folder: PathBuf,
    chip: RefCell<Option<Swtpm>>,
    /// Every packet in both directions.
    pub seen: RefCell<Vec<Vec<u8>>>,
    /// Commands until trouble comes, and which; with `true` it comes at every command with that code from then on.
    trouble: Cell<Option<(usize, Trouble)>>,
    /// Trouble with every command of this code.
    always: Cell<Option<(u32, Trouble)>>,
    /// The chip says that it has no elliptic curves.
    pub no_ecc: Cell<bool>,
}

static NEXT: AtomicU32 = AtomicU32::new(0);

impl Bus {
    /// A new chip, switched on.
    pub fn new() -> Self {
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let folder = std::env::temp_dir().join(format!("vtpmmgr-swtpm20-{}-{number}", std::process::id()));
        let _ = std::fs::remove_dir_all(&folder);
        std::fs::create_dir_all(&folder).unwrap();
        let bus = Self {
            folder,
            chip: RefCell::default(),
            seen: RefCell::default(),
            trouble: Cell::default(),
            always: Cell::default(),
            no_ecc: Cell::default(),
        };
        bus.power_cycle();
        bus
    }

    /// Switches it off and on; nobody has sent TPM2_Startup.
    pub fn power_cycle(&self) {
        self.chip.take();
        let socket = self.folder.join("socket");
        let _ = std::fs::remove_file(&socket);
        let process = Command::new("swtpm")
            .args(["socket", "--tpm2", "--flags", "not-need-init"])
            .arg("--tpmstate")
            .arg(format!("dir={}", self.folder.display()))
            .arg("--server")
            .arg(format!("type=unixio,path={}", socket.display()))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("swtpm is needed for this test: install the package swtpm");
        let start = Wall::now();
        let link = loop {
            match UnixStream::connect(&socket) {
                Ok(link) => break link,
                Err(error) if start.elapsed() > Duration::from_secs(60) => panic!("swtpm does not listen: {error}"),
                Err(_) => std::thread::sleep(Duration::from_millis(5)),
            }
        };
        *self.chip.borrow_mut() = Some(Swtpm { process, link });
    }

    /// Exchanges the chips of two machines, switched on as they are.
    pub fn swap(&self, other: &Self) {
        self.chip.swap(&other.chip);
    }

    /// Trouble with the command after `after` more.
    pub fn trouble(&self, after: usize, trouble: Trouble) {
        self.trouble.set(Some((after, trouble)));
    }

    /// Whether the trouble has come.
    pub fn is_quiet(&self) -> bool {
        self.trouble.get().is_none()
    }

    /// Trouble with every command of this code, or none any more.
    pub fn always(&self, trouble: Option<(u32, Trouble)>) {
        self.always.set(trouble);
    }

    fn exchange(&self, command: &[u8]) -> Result<Vec<u8>, TransportError> {
        let mut chip = self.chip.borrow_mut();
        let link = &mut chip.as_mut().ok_or(TransportError::Gone)?.link;
        let mut response = vec![0; 10];
        let mut work = || {
            link.write_all(command)?;
            link.read_exact(&mut response)?;
            let size = u32::from_be_bytes([response[2], response[3], response[4], response[5]]);
            response.resize(size.clamp(10, 4096) as usize, 0);
            link.read_exact(&mut response[10..])
        };
        work().map_err(|_| TransportError::Gone)?;
        Ok(response)
    }

    /// A command of the test's own: with the empty password for as many handles as `sessions` says. Returns what follows the header
    /// (and the parameters' size, if there are sessions).
    pub fn raw(&self, code: u32, handles: &[u32], passwords: &[&[u8]], params: &[u8]) -> Result<Vec<u8>, u32> {
        let mut body = Vec::new();
        handles.iter().for_each(|handle| body.extend(handle.to_be_bytes()));
        let mut area = Vec::new();
        for password in passwords {
            Writer::new(&mut area).u32(0x4000_0009).u16(0).u8(1).sized16(password);
        }
        if !passwords.is_empty() {
            body.extend((area.len() as u32).to_be_bytes());
            body.extend(area);
        }
        body.extend(params);
        let mut command = Vec::new();
        let tag = if passwords.is_empty() { 0x8001 } else { 0x8002 };
        Writer::new(&mut command).u16(tag).u32(10 + body.len() as u32).u32(code).bytes(&body);
        let response = self.exchange(&command).unwrap();
        match u32::from_be_bytes(response[6..10].try_into().unwrap()) {
            0 => Ok(response[10..].to_vec()),
            code => Err(code),
        }
    }

    /// Handles of this kind that are in use.
    pub fn handles(&self, first: u32) -> Vec<u32> {
        let mut params = Vec::new();
        Writer::new(&mut params).u32(1).u32(first).u32(64);
        let out = match self.raw(0x17a, &[], &[], &params) {
            // Not started yet: nothing is loaded.
            Err(0x100) => return Vec::new(),
            out => out.unwrap(),
        };
        out[9..].chunks_exact(4).map(|h| u32::from_be_bytes(h.try_into().unwrap())).collect()
    }

    /// Fails if an object or a session is left in the chip.
    pub fn assert_clean(&self, what: &str) {
        for first in [0x8000_0000, 0x0200_0000, 0x0300_0000] {
            assert_eq!(self.handles(first), [], "left behind: {what}");
        }
    }

    /// Whether these bytes ever went over the wires.
    pub fn leaked(&self, secret: &[u8]) -> bool {
        assert!(secret.len() >= 8);
        self.seen.borrow().iter().any(|packet| packet.windows(secret.len()).any(|window| window == secret))
    }
}

impl Drop for Bus {
    fn drop(&mut self) {
        self.chip.take();
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

impl Transport for &Bus {
    async fn transmit(&self, command: &[u8]) -> Result<Vec<u8>, TransportError> {
        self.seen.borrow_mut().push(command.to_vec());
        let code = u32::from_be_bytes(command[6..10].try_into().unwrap());
        let mut trouble = self.always.get().filter(|(which, _)| *which == code).map(|(_, trouble)| trouble);
        match self.trouble.take() {
            Some((0, once)) => trouble = Some(once),
            Some((after, once)) => self.trouble.set(Some((after - 1, once))),
            None => (),
        }
        match trouble {
            Some(Trouble::Reset) => self.power_cycle(),
            Some(Trouble::Refuse(code)) => {
                let mut response = vec![0x80, 1, 0, 0, 0, 10];
                response.extend(code.to_be_bytes());
                return Ok(response);
            }
            _ => (),
        }
        let mut response = self.exchange(command)?;
        if self.no_ecc.get() && command.get(6..14) == Some(&[0, 0, 1, 0x7a, 0, 0, 0, 8]) {
            response = vec![0x80, 1, 0, 0, 0, 19, 0, 0, 0, 0, 0, 0, 0, 0, 8, 0, 0, 0, 0];
        }
        self.seen.borrow_mut().push(response.clone());
        match trouble {
            Some(Trouble::AnswerLost) => Err(TransportError::TimedOut),
            Some(Trouble::Flip(at, mask)) => {
                if let Some(byte) = response.get_mut(at) {
                    *byte ^= mask;
                }
                // The driver takes as many bytes as the chip has; a size that says something else is garbage.
                let size = u32::from_be_bytes(response[2..6].try_into().unwrap());
                if size as usize == response.len() { Ok(response) } else { Err(TransportError::Garbled) }
            }
            _ => Ok(response),
        }
    }
}

/// Polls to the end. Waits cost no time.
pub fn drive<O>(timer: &Timer, work: impl Future<Output = O>) -> O {
    let mut work = pin!(work);
    let mut now = Instant::from_millis(0);
    for _ in 0..10_000_000 {
        match turn(&mut (), now, &[], timer, work.as_mut()) {
            Turn::Done(output) => return output,
            Turn::Wait(Some(at)) => now = now.max(at),
            Turn::Wait(None) => (),
        }
    }
    panic!("the chip client waits for ever");
}
