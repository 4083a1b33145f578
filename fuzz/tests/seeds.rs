//! Every target with the inputs kept in `corpus/`, and with a number of inputs made from fixed seeds: no campaign, but each
//! target runs and its oracle holds.

use std::fs;
use std::path::Path;

/// Inputs of up to 2 KiB made from seeds, for each target.
const MADE: u64 = 60;

/// xorshift64* (Vigna 2016): only has to be uneven and repeatable.
fn noise(seed: u64, length: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = || {
        state ^= state >> 12;
        state ^= state << 25;
        state ^= state >> 27;
        (state.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 56) as u8
    };
    // Small numbers and zeros are frequent in real inputs.
    (0..length).map(|_| if next() & 3 == 0 { next() & 3 } else { next() }).collect()
}

fn replay(name: &str) {
    let (_, target) = fuzz::TARGETS.iter().find(|(known, _)| *known == name).expect("a target of that name");
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(name);
    let kept = fs::read_dir(&folder).into_iter().flatten();
    let mut files: Vec<_> = kept.map(|entry| entry.expect("a readable folder").path()).collect();
    files.sort();
    for file in files {
        println!("{}", file.display());
        target(&fs::read(&file).expect("a readable file"));
    }
    for seed in 0..MADE {
        println!("seed {seed}");
        target(&noise(seed, (seed as usize * 37) % 2048));
    }
}

macro_rules! targets {
    ($($test:ident $name:literal),* $(,)?) => {
        $(#[test]
        fn $test() {
            replay($name);
        })*

        #[test]
        fn every_target_is_here() {
            let names: Vec<_> = fuzz::TARGETS.iter().map(|(name, _)| *name).collect();
            assert_eq!(names, [$($name),*]);
        }
    };
}

targets! {
    tpm12 "tpm12",
    tpm12_state "tpm12-state",
    vault "vault",
    journal "journal",
    manager "manager",
    manager_formats "manager-formats",
    xenstore "xenstore",
    tpmback "tpmback",
    blkfront "blkfront",
    tis "tis",
    stubdom "stubdom",
    attest "attest",
}
