//! The manager's use of a TPM 2.0 chip, against swtpm: another implementation of the specification.

mod attacks;
mod bus;
mod keys;
mod life;
mod start;

use bus::{Bus, drive};
use frontback::looper::Timer;
use tpm_crypto::{Drbg, sha256};
use tpm_wire::Writer;
use vtpmmgr::args::{AuthChoice, AuthData, OWNER_WELL_KNOWN, SRK_WELL_KNOWN};
use vtpmmgr::hardware::{Bank, ChipError, Digest, Hardware, PcrCondition, PcrSelection, RootKey, Settings, Version};
use xen_abi::Instant;

/// What the command line says if it says nothing.
fn settings() -> Settings {
    Settings {
        owner_auth: AuthChoice::Fixed(OWNER_WELL_KNOWN),
        srk_auth: AuthChoice::Fixed(SRK_WELL_KNOWN),
        srk_handle: None,
        locality: 0,
    }
}

fn secret(byte: u8) -> AuthChoice {
    AuthChoice::Fixed(AuthData([byte; 20]))
}

/// A start of the manager with the chip as it is. Nothing may be left behind in the chip.
fn session<O>(
    bus: &Bus,
    settings: &Settings,
    work: impl AsyncFnOnce(&Hardware<'_, &Bus>, &mut Drbg) -> Result<O, ChipError>,
) -> Result<O, ChipError> {
    let timer = Timer::new(Instant::from_millis(0));
    // Sessions of two starts have no secrets in common.
    let mut seed = [0; 48];
    std::io::Read::read_exact(&mut std::fs::File::open("/dev/urandom").unwrap(), &mut seed).unwrap();
    let mut rng = Drbg::new(&seed, b"swtpm20").unwrap();
    let result = drive(&timer, async {
        let chip = Hardware::detect(bus, &timer, settings.clone()).await?;
        assert_eq!(chip.version(), Version::V20);
        chip.provide_entropy(&rng.bytes::<48>());
        chip.start().await?;
        work(&chip, &mut rng).await
    });
    bus.assert_clean("after a start of the manager");
    result
}

/// The key for the disk, through its stored form.
fn stored(root: &RootKey) -> RootKey {
    RootKey::parse(&root.to_bytes()).unwrap()
}

/// The root key of a chip that nobody has used.
fn new_root(bus: &Bus, settings: &Settings) -> Result<RootKey, ChipError> {
    session(bus, settings, async |chip, rng| Ok(stored(&chip.create_root(rng).await?.key)))
}

fn pcrs(text: &str) -> PcrSelection {
    PcrSelection::parse(text).unwrap()
}

/// Extends a PCR of the SHA-256 bank, as firmware does.
fn extend(bus: &Bus, pcr: u32, digest: &[u8; 32]) {
    let mut params = Vec::new();
    Writer::new(&mut params).u32(1).u16(0x0b).bytes(digest);
    bus.raw(0x182, &[pcr], &[b""], &params).unwrap();
}

/// The condition that these PCRs of the SHA-256 bank have these values.
fn condition(selection: PcrSelection, values: &[[u8; 32]]) -> PcrCondition {
    PcrCondition {
        bank: Bank::Sha256,
        selection,
        digest: Digest::from_slice(&sha256(&[values.as_flattened()])).unwrap(),
        values: values.iter().map(|value| Digest::from_slice(value).unwrap()).collect(),
    }
}
