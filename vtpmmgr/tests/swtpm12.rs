//! The manager's use of a TPM 1.2 chip, against swtpm: another implementation of the specification than ours.

use core::pin::pin;
use core::time::Duration;
use frontback::looper::{Timer, Turn, turn};
use std::cell::RefCell;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Instant as Wall;
use tpm_crypto::rsa::RsaPublic;
use tpm_crypto::{Drbg, sha1};
use tpm_wire::{Transport, TransportError};
use vtpmmgr::args::{AuthChoice, OWNER_WELL_KNOWN, SRK_WELL_KNOWN};
use vtpmmgr::hardware::{
    ChipError, Counter, Hardware, KeyNumbers, PcrSelection, RootKey, Sealed, Secret, Settings, Version,
};
use xen_abi::Instant;

/// A swtpm process with its state in a folder; power is cut when this is dropped.
struct Swtpm {
    process: Child,
    link: RefCell<UnixStream>,
}

impl Swtpm {
    /// Switches the chip on, as the machine's power does; nobody has sent TPM_Startup.
    fn on(folder: &Path) -> Self {
        let socket = folder.join("socket");
        let _ = std::fs::remove_file(&socket);
        let process = Command::new("swtpm")
            .args(["socket", "--flags", "not-need-init"])
            .arg("--tpmstate")
            .arg(format!("dir={}", folder.display()))
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
                Err(error) if start.elapsed() > Duration::from_secs(30) => panic!("swtpm does not listen: {error}"),
                Err(_) => std::thread::sleep(Duration::from_millis(10)),
            }
        };
        Self { process, link: RefCell::new(link) }
    }
}

impl Drop for Swtpm {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

impl Transport for &Swtpm {
    async fn transmit(&self, command: &[u8]) -> Result<Vec<u8>, TransportError> {
        let mut link = self.link.borrow_mut();
        let mut response = vec![0; 10];
        let exchange = |link: &mut UnixStream, response: &mut Vec<u8>| {
            link.write_all(command)?;
            link.read_exact(response)?;
            let size = u32::from_be_bytes([response[2], response[3], response[4], response[5]]);
            response.resize(size.clamp(10, 4096) as usize, 0);
            link.read_exact(&mut response[10..])
        };
        exchange(&mut link, &mut response).map_err(|_| TransportError::Gone)?;
        Ok(response)
    }
}

/// A folder for the chip's state, removed in the end.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("vtpmmgr-{name}-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&path);
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// Switches the chip on and does `work` with it. Waits are skipped, except those that the chip itself asks for.
fn powered<O>(
    folder: &Folder,
    settings: &Settings,
    work: impl AsyncFnOnce(&Hardware<'_, &Swtpm>, &mut Drbg) -> Result<O, ChipError>,
) -> Result<O, ChipError> {
    let swtpm = Swtpm::on(&folder.0);
    let timer = Timer::new(Instant::from_millis(0));
    let mut rng = Drbg::new(&[7; 48], b"swtpm").unwrap();
    let work = async {
        let chip = Hardware::detect(&swtpm, &timer, settings.clone()).await?;
        assert_eq!(chip.version(), Version::V12);
        work(&chip, &mut rng).await
    };
    let mut work = pin!(work);
    let start = Wall::now();
    loop {
        let now = Instant::from_millis(start.elapsed().as_millis() as u64);
        match turn(&mut (), now, &[], &timer, work.as_mut()) {
            Turn::Done(output) => return output,
            Turn::Wait(Some(at)) if at > now => std::thread::sleep(at.since(now)),
            Turn::Wait(_) => (),
        }
    }
}

fn fixed() -> Settings {
    Settings {
        owner_auth: AuthChoice::Fixed(OWNER_WELL_KNOWN),
        srk_auth: AuthChoice::Fixed(SRK_WELL_KNOWN),
        ..Settings::from(&vtpmmgr::args::Options::default())
    }
}

fn pcrs(text: &str) -> PcrSelection {
    PcrSelection::parse(text).unwrap()
}

fn verify(key: &KeyNumbers, digest: &[u8; 20], signature: &[u8]) {
    let KeyNumbers::Rsa { modulus, exponent } = key else { panic!("an RSA key was expected") };
    assert_eq!((modulus.len(), *exponent), (256, 65537));
    assert_eq!(RsaPublic::new(modulus, *exponent).unwrap().verify_pkcs1_sha1(digest, signature), Ok(()));
}

#[test]
fn the_life_of_a_chip() {
    let folder = Folder::new("life");
    let random = Settings { owner_auth: AuthChoice::Random, srk_auth: AuthChoice::Random, ..fixed() };
    let secret = [0x5a; 32];
    let code = [0x33; 20];

    // First start.
    let made = powered(&folder, &random, async |chip, rng| {
        let info = chip.start().await?;
        assert!(!info.owned && info.vendor == *b"IBM\0");
        let new = chip.create_root(rng).await?;
        assert!(chip.start().await?.owned);
        let counter = chip.counter_create(&new.key, new.owner.as_ref(), rng).await?;
        let (ak, binding) = chip.ak_create(&new.key, new.owner.as_ref(), &[0x1a; 20], rng).await?;
        let public = chip.ak_public(&ak)?;
        let contents = sha1(&[&[1, 1, 0, 0, 0, 0, 0, 0x79], &[0x1a; 20], &public.encoded]);
        verify(&public.numbers, &contents, &binding);
        chip.extend12(10, &[1; 20]).await?;
        let condition = chip.pcr_condition(pcrs("0-7,10")).await?;
        let to_pcrs = chip.seal(&new.key, &secret, Some(&condition), None, rng).await?;
        let to_code = chip.seal(&new.key, &secret, None, Some(&code), rng).await?;
        assert_eq!(chip.unseal(&new.key, &to_pcrs, None, rng).await?[..], secret);
        let stored = (new.key.to_bytes(), counter.to_bytes(), to_pcrs.to_bytes(), to_code.to_bytes());
        Ok((stored, new.owner, ak, info.boot_id))
    });
    let ((root, counter, to_pcrs, to_code), owner, ak, boot) = made.unwrap();
    let root = RootKey::parse(&root).unwrap();
    let counter = Counter::parse(&counter).unwrap();
    let (to_pcrs, to_code) = (Sealed::parse(&to_pcrs).unwrap(), Sealed::parse(&to_code).unwrap());

    // The machine is started anew; the argument random does not matter any more.
    let second = powered(&folder, &random, async |chip, rng| {
        let info = chip.start().await?;
        assert!(info.owned && info.boot_id != boot);
        assert_eq!(chip.start().await?.boot_id, info.boot_id);
        assert_eq!(chip.unseal(&root, &to_pcrs, None, rng).await, Err(ChipError::PcrMismatch));
        assert_eq!(chip.unseal(&root, &to_code, Some(&code), rng).await?[..], secret);
        let wrong = chip.unseal(&root, &to_code, Some(&[0x34; 20]), rng).await;
        assert_eq!(wrong, Err(ChipError::WrongSecret(Secret::Blob)));
        // PCR 10 becomes what it was.
        let extended = chip.extend12(10, &[1; 20]).await?;
        assert_eq!(extended, sha1(&[&[0; 20], &[1; 20]]));
        assert_eq!(chip.vtpm_pcr(10).await?, extended);
        assert_eq!(chip.unseal(&root, &to_pcrs, None, rng).await?[..], secret);
        let now = chip.pcr_condition(pcrs("10")).await?;
        chip.extend12(10, &[1; 20]).await?;
        assert_eq!(chip.unseal(&root, &to_pcrs, None, rng).await, Err(ChipError::PcrMismatch));
        assert_eq!(now.differing(&chip.pcr_condition(pcrs("10")).await?), pcrs("10"));

        let first = chip.counter_read(&root, &counter, rng).await?;
        assert_eq!(chip.counter_increment(&root, &counter, rng).await?, first + 1);
        assert_eq!(chip.counter_increment(&root, &counter, rng).await?, first + 2);
        let other = chip.counter_create(&root, owner.as_ref(), rng).await?;
        assert_eq!(chip.counter_increment(&root, &other, rng).await, Err(ChipError::CounterTaken));

        let quote = chip.quote(&root, &ak, &[0xe0; 20], pcrs("0,10"), rng).await?;
        verify(&chip.ak_public(&ak)?.numbers, &sha1(&[&quote.attest]), &quote.signature);
        let values: Vec<u8> = quote.pcrs.iter().flat_map(|(_, value)| value.clone()).collect();
        let composite = sha1(&[&[0, 3, 1, 4, 0, 0, 0, 0, 40], &values]);
        assert_eq!(quote.attest, [&[1, 1, 0, 0][..], b"QUOT", &composite, &[0xe0; 20]].concat());

        // What a privacy CA sends.
        let ek = chip.ek_public(owner.as_ref(), rng).await?;
        let KeyNumbers::Rsa { modulus, exponent } = &ek.numbers else { panic!("an RSA key was expected") };
        let session_key = [&[0, 0, 0, 6, 0, 1, 0, 16][..], &[0x77; 16]].concat();
        let contents = [&session_key[..], &sha1(&[&chip.ak_public(&ak)?.encoded])].concat();
        let encrypted = RsaPublic::new(modulus, *exponent).unwrap().encrypt_oaep(rng, &contents).unwrap();
        assert_eq!(chip.activate(&root, owner.as_ref(), &ak, &encrypted, rng).await?[..], session_key);

        // An area of 16 bytes for the owner.
        let pcr_info = [&[0, 3, 0, 0, 0, 0x1f][..], &[0; 20]].concat();
        let rest = [0, 0x17, 0, 2, 0, 2, 0, 0, 0, 0, 0, 0, 16];
        let area = [&[0, 0x18, 0, 0, 0x20, 0][..], &pcr_info, &pcr_info, &rest].concat();
        chip.nv_define(owner.as_ref(), &area, &[0; 20], rng).await?;
        chip.nv_write(owner.as_ref(), 0x2000, 4, b"data", rng).await?;
        assert_eq!(chip.nv_read(owner.as_ref(), 0x2000, 4, 4, rng).await?[..], b"data"[..]);

        assert_eq!(chip.random(500).await?.len(), 500);
        assert!(matches!(chip.vtpm_pcr(24).await, Err(ChipError::Refused { ordinal: 0x15, code: 2 })));
        Ok(first + 2)
    });
    let stepped = second.unwrap();

    // Once more, with a secret that is not the owner's.
    let third = powered(&folder, &fixed(), async |chip, rng| {
        chip.start().await?;
        assert_eq!(chip.counter_read(&root, &counter, rng).await?, stepped);
        let refused = chip.counter_create(&root, None, rng).await.map(drop);
        assert_eq!(refused, Err(ChipError::WrongSecret(Secret::Owner)));
        assert_eq!(chip.unseal(&root, &to_code, Some(&code), rng).await?[..], secret);
        let new = chip.create_root(rng).await.map(drop);
        assert_eq!(new, Err(ChipError::WrongSecret(Secret::Srk)));
        chip.counter_increment(&root, &counter, rng).await
    });
    assert_eq!(third, Ok(stepped + 1));
}

#[test]
fn an_owned_chip_is_used_with_the_secret_given_and_another_chip_knows_nothing() {
    let (folder, other) = (Folder::new("owned"), Folder::new("other"));
    let make = |folder: &Folder| {
        powered(folder, &fixed(), async |chip, rng| {
            chip.start().await?;
            let new = chip.create_root(rng).await?;
            assert!(new.owner.is_none());
            let sealed = chip.seal(&new.key, b"mine", None, None, rng).await?;
            Ok((new.key, sealed))
        })
        .unwrap()
    };
    let (first, sealed) = make(&folder);
    // A second manager's disk on the same chip.
    let (second, _) = make(&folder);
    let (strange, _) = make(&other);
    let result = powered(&folder, &fixed(), async |chip, rng| {
        chip.start().await?;
        assert_eq!(chip.unseal(&first, &sealed, None, rng).await?[..], b"mine"[..]);
        assert!(matches!(chip.unseal(&second, &sealed, None, rng).await, Err(ChipError::NotOurs { .. })));
        assert!(matches!(chip.unseal(&strange, &sealed, None, rng).await, Err(ChipError::NotOurs { .. })));
        // Nothing is left in the chip: this many would not fit.
        for _ in 0..20 {
            chip.unseal(&first, &sealed, None, rng).await?;
        }
        Ok(())
    });
    assert_eq!(result, Ok(()));
}
