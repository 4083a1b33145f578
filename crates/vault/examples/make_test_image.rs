//! Makes a vault for `tests/data`, with a fixed owner, key and randomness: `make_test_image FILE`.

use std::error::Error;
use tpm_crypto::Drbg;
use vault::fake::{RamDisk, block_on};
use vault::{Kind, Over, Owner, Vault, VaultKey};

fn main() -> Result<(), Box<dyn Error>> {
    let path = std::env::args().nth(1).ok_or("which file shall it be written to?")?;
    let disk = RamDisk::new(128);
    let key = VaultKey::from_bytes(&std::array::from_fn(|i| i as u8));
    let owner = Owner { kind: Kind::Vtpm, uuid: std::array::from_fn(|i| 0xa0 + i as u8) };
    let mut rng = Drbg::new(&[0x11; 64], b"test image").map_err(|error| error.to_string())?;

    let created = Vault::create(disk.clone(), owner, &key, b"label one", b"first state", Over::Blank, &mut rng);
    let (mut vault, _) = block_on(created)?;
    let second = block_on(vault.write(&[2; 1000], &mut rng))?;
    vault.confirm(second);
    let third = block_on(vault.write_with_label(b"label two", b"third state", &mut rng))?;
    std::fs::write(path, disk.image())?;
    for generation in [second, third] {
        println!("sequence {}, identity {:02x?}", generation.sequence, generation.identity);
    }
    Ok(())
}
