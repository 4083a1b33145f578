//! The machine: a thread with the manager and a vTPM in it, as their images run them.

use super::chip::{Chip, Version};
use super::fronts::{InnerLink, SocketFronts};
use super::{Folder, Ran, vtpmctl};
use frontback::looper::{Timer, turn};
use std::cell::Cell;
use std::pin::pin;
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant as Wall};
use tpm12::Tpm12;
use vault::fake::FlakyDisk;
use vtpm_stubdom::{Ports, Waits};
use vtpmmgr::life::Ports as ManagerPorts;
use vtpmmgr::policy::NoLabels;
use xen_abi::{DiskError, EntropySource, Instant, NoEntropy};

pub const ADMIN: [u8; 16] = [0xad; 16];
pub const PLAIN: [u8; 16] = [0x01; 16];
pub const GUEST: [u8; 16] = [0x9e; 16];
pub const GUEST_UUID: &str = "9e9e9e9e-9e9e-9e9e-9e9e-9e9e9e9e9e9e";

/// Sectors of each disk: 2 MiB.
const SECTORS: usize = 4096;

struct Cpu(u8);

impl EntropySource for Cpu {
    fn fill(&mut self, out: &mut [u8]) -> Result<(), NoEntropy> {
        for byte in out {
            self.0 = self.0.wrapping_mul(5).wrapping_add(1);
            *byte = self.0;
        }
        Ok(())
    }
}

/// What stands on the consoles.
static LINES: Mutex<Vec<String>> = Mutex::new(Vec::new());

struct Console;

impl log::Log for Console {
    fn enabled(&self, _: &log::Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &log::Record<'_>) {
        LINES.lock().unwrap().push(format!("{} {}: {}", record.level(), record.target(), record.args()));
    }

    fn flush(&self) {}
}

/// A machine that runs.
pub struct World {
    pub version: Version,
    pub folder: Folder,
    stop: Arc<AtomicBool>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl World {
    /// Switched on, with the manager serving.
    pub fn new(version: Version) -> Self {
        if log::set_logger(&Console).is_ok() {
            log::set_max_level(log::LevelFilter::Info);
        }
        let folder = Folder::new();
        let stop = Arc::new(AtomicBool::new(false));
        let (path, stopped) = (folder.0.clone(), stop.clone());
        let thread = Some(std::thread::spawn(move || live(version, &path, &stopped)));
        let world = Self { version, folder, stop, thread };
        let start = Wall::now();
        while !["admin", "plain", "guest"].iter().all(|name| world.folder.path(name).exists()) {
            let dead = world.thread.as_ref().is_some_and(std::thread::JoinHandle::is_finished);
            assert!(!dead && start.elapsed() < Duration::from_secs(60), "the machine does not start");
            std::thread::sleep(Duration::from_millis(5));
        }
        world
    }

    fn over<S: AsRef<str>>(&self, socket: &str, arguments: &[S]) -> Ran {
        let mut all = vec!["--socket".to_owned(), self.folder.arg(socket)];
        all.extend(arguments.iter().map(|argument| argument.as_ref().to_owned()));
        let ran = vtpmctl(&all);
        if ran.code == 3 {
            eprintln!("{:#?}", LINES.lock().unwrap());
        }
        ran
    }

    /// As the admin.
    pub fn admin<S: AsRef<str>>(&self, arguments: &[S]) -> Ran {
        self.over("admin", arguments)
    }

    /// As somebody without rights.
    pub fn plain<S: AsRef<str>>(&self, arguments: &[S]) -> Ran {
        self.over("plain", arguments)
    }

    /// In the guest.
    pub fn guest<S: AsRef<str>>(&self, arguments: &[S]) -> Ran {
        self.over("guest", arguments)
    }
}

impl Drop for World {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        let ended = self.thread.take().map(std::thread::JoinHandle::join);
        if !std::thread::panicking() {
            assert!(matches!(ended, Some(Ok(()))), "the machine died");
        }
    }
}

fn live(version: Version, folder: &std::path::Path, stopped: &AtomicBool) {
    let zero = Instant::from_millis(0);
    let (fronts, guests) = (Rc::new(SocketFronts::default()), SocketFronts::default());
    let chip = Chip::new(version);
    chip.extend(4);
    let stop = Cell::new(false);
    let (manager_time, vtpm_time) = (Timer::new(zero), Timer::new(zero));
    let options = vtpmmgr::args::parse("admin_uuid=adadadad-adad-adad-adad-adadadadadad").unwrap();
    let disk = async { Ok::<_, DiskError>(FlakyDisk::new(SECTORS)) };
    let ports = ManagerPorts { fronts: &fronts, labels: &NoLabels, disk, way: chip, cpu: Cpu(3), timer: &manager_time };
    let manager = vtpmmgr::life::live(&options, ports, |_| (), || stop.get());
    let asked = || stop.get();
    let waits = Waits::new(&vtpm_time, &asked);
    let link = InnerLink::new(&fronts, 7, GUEST);
    let disk = async { Ok::<_, DiskError>(FlakyDisk::new(SECTORS)) };
    let ports = Ports { link, disk, entropy: Cpu(5), guests: &guests, waits: &waits };
    let vtpm = vtpm_stubdom::run::<Tpm12, _, _, _, _, _>(vtpm_stubdom::args::Options::parse(""), ports);
    let (mut manager, mut vtpm) = (pin!(manager), pin!(vtpm));
    let start = Wall::now();
    let (mut manages, mut lives) = (true, true);
    guests.open(&folder.join("guest"), 8, [0; 16]);
    fronts.open(&folder.join("plain"), 2, PLAIN);
    fronts.open(&folder.join("admin"), 1, ADMIN);
    while manages || lives {
        stop.set(stopped.load(Ordering::Relaxed));
        let busy = fronts.pump() | guests.pump();
        let now = Instant::from_millis(u64::try_from(start.elapsed().as_millis()).unwrap());
        let before = Wall::now();
        manages = manages
            && !matches!(turn(&mut (), now, &[], &manager_time, manager.as_mut()), frontback::looper::Turn::Done(()));
        lives =
            lives && !matches!(turn(&mut (), now, &[], &vtpm_time, vtpm.as_mut()), frontback::looper::Turn::Done(()));
        // Nothing was worked at: nothing is missed by waiting a little.
        if !busy && before.elapsed() < Duration::from_micros(300) {
            std::thread::sleep(Duration::from_micros(300));
        }
    }
}

/// Makes the guest the owner of its vTPM, with the well-known secret, as tpm_takeownership does.
pub fn take_ownership(world: &World) {
    use std::io::{Read, Write};
    let mut stream = std::os::unix::net::UnixStream::connect(world.folder.path("guest")).unwrap();
    let mut ask = |tag: u16, ordinal: u32, body: &[u8]| {
        let size = (10 + body.len()) as u32;
        let packet = [&tag.to_be_bytes()[..], &size.to_be_bytes(), &ordinal.to_be_bytes(), body].concat();
        stream.write_all(&packet).unwrap();
        let mut head = [0; 10];
        stream.read_exact(&mut head).unwrap();
        let mut rest = vec![0; u32::from_be_bytes(head[2..6].try_into().unwrap()) as usize - 10];
        stream.read_exact(&mut rest).unwrap();
        assert_eq!(head[6..], [0; 4], "ordinal {ordinal:#x}");
        rest
    };
    let pubek = ask(0xc1, 0x7c, &[0; 20]);
    let modulus = &pubek[pubek.len() - 20 - 256..pubek.len() - 20];
    let ek = tpm_crypto::rsa::RsaPublic::new(modulus, 65537).unwrap();
    let mut rng = tpm_crypto::Drbg::new(&[1; 48], b"").unwrap();
    let mut secret = || [&[0, 0, 1, 0][..], &ek.encrypt_oaep(&mut rng, &[0; 20]).unwrap()].concat();
    // A storage key of 2048 bits, OAEP, with authorization.
    let srk: [&[u8]; 6] = [
        &[1, 1, 0, 0, 0, 0x11, 0, 0, 0, 0, 1, 0, 0, 0, 1, 0, 3, 0, 1],
        &[0, 0, 0, 12, 0, 0, 8, 0, 0, 0, 0, 2, 0, 0, 0, 0],
        &[0; 4],
        &[0; 4],
        &[0; 4],
        &[],
    ];
    let parameters = [&[0, 5][..], &secret(), &secret(), &srk.concat()].concat();
    let session = ask(0xc1, 0x0a, &[]);
    let (handle, even) = session.split_at(4);
    let digest = tpm_crypto::sha1(&[&[0, 0, 0, 0x0d], &parameters]);
    let proof = tpm_crypto::hmac_sha1(&[0; 20], &[&digest, even, &[3; 20], &[0]]);
    ask(0xc2, 0x0d, &[&parameters[..], handle, &[3; 20], &[0], &proof].concat());
}
