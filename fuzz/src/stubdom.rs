//! A vTPM's start: its arguments, a vault with any state in it, and a manager that answers anything. A disk that is refused
//! is left as it was.

use crate::input::Input;
use core::cell::RefCell;
use frontback::looper::{Timer, Turn, turn};
use std::pin::pin;
use tpm_crypto::Drbg;
use tpm_wire::{Transport, TransportError};
use tpm12::Tpm12;
use vault::fake::{RamDisk, block_on};
use vault::{Kind, MIN_DISK, Over, Owner, Vault, VaultKey};
use vtpm_stubdom::args::Options;
use vtpm_stubdom::manager::{Link, Manager, Record};
use vtpm_stubdom::open::Opening;
use vtpm_stubdom::{GuestTpm, Waits};
use xen_abi::Instant;

const OWNER: Owner = Owner { kind: Kind::Vtpm, uuid: [5; 16] };

struct Hostile<'a>(RefCell<Input<'a>>, Vec<u8>);

impl Transport for Hostile<'_> {
    async fn transmit(&self, _: &[u8]) -> Result<Vec<u8>, TransportError> {
        let mut input = self.0.borrow_mut();
        let body = if input.rarely(4) { input.bytes(false) } else { &self.1 };
        let size = (10 + body.len() as u32).to_be_bytes();
        let mut packet = [&[1, 0xc4][..], &size, &[0; 4], body].concat();
        match input.u8() {
            0..200 => return Ok(packet),
            200..240 => packet[usize::from(input.u8()) % 10] ^= input.u8(),
            240 => return Err(TransportError::TimedOut),
            _ => packet.truncate(input.u8().into()),
        }
        Ok(packet)
    }
}

impl Link for Hostile<'_> {
    fn uuid(&self) -> Option<[u8; 16]> {
        Some(OWNER.uuid)
    }
}

/// Parses the first part of the input as arguments and opens a vault that holds the second.
pub fn run(data: &[u8]) {
    let mut input = Input::new(data);
    let arguments = String::from_utf8_lossy(input.bytes(false)).into_owned();
    let options = Options::parse(&arguments).unwrap_or_else(|error| {
        assert!(error.to_string().len() < 2000);
        Options::default()
    });
    let mut state = if input.flag() { [&b"vTPMstat\0\x01"[..], &[Tpm12::KIND]].concat() } else { vec![] };
    state.extend(input.bytes(true));
    let mut rng = Drbg::new(&[9; 48], b"fuzz").unwrap();
    let (disk, key) = (RamDisk::new(MIN_DISK as usize / 512), VaultKey::from_bytes(&[3; 32]));
    let made = block_on(Vault::create(disk.clone(), OWNER, &key, &[], &state, Over::Blank, &mut rng));
    let Ok((_, generation)) = made else { return };
    let (before, timer) = (disk.image(), Timer::new(Instant::from_millis(0)));
    let link = Hostile(RefCell::new(input), Record::encode(&key, generation).to_vec());
    let stop = || timer.now() > Instant::from_millis(20_000);
    let waits = Waits::new(&timer, &stop);
    let manager = Manager::new(&link, &waits);
    let opening = Opening { manager, disk: disk.clone(), uuid: OWNER.uuid, options, rng, waits: &waits };
    let mut work = pin!(opening.open::<Tpm12>());
    for second in 0..100 {
        if let Turn::Done(outcome) = turn(&mut (), Instant::from_millis(second * 1000), &[], &timer, work.as_mut()) {
            let refusal = outcome.err().map(|refusal| refusal.to_string());
            assert!(refusal.is_none_or(|line| !line.is_empty()) && disk.image() == before);
            return;
        }
    }
    panic!("opening does not end");
}
