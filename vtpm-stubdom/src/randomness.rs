//! The seed of the vTPM's random generator.

use crate::Refusal;
use crate::manager::{Link, Manager, ManagerError};
use crate::wait::Waits;
use core::time::Duration;
use tpm_crypto::Drbg;
use xen_abi::EntropySource;
use zeroize::Zeroizing;

/// Bytes from each source: what the generator needs if it were the only one.
const SHARE: usize = Drbg::ENTROPY_MIN;

/// How long the hardware TPM is waited for where the CPU's generator works.
const PATIENCE: Duration = Duration::from_secs(60);

/// A generator seeded by the CPU and by the hardware TPM; one of them may fail, both may not.
pub async fn gather(
    cpu: &mut impl EntropySource,
    manager: &Manager<'_, impl Link>,
    waits: &Waits<'_>,
) -> Result<Drbg, Refusal> {
    let mut seed = Zeroizing::new([0; 2 * SHARE]);
    let (from_cpu, from_chip) = seed.split_at_mut(SHARE);
    let cpu = cpu.fill(from_cpu);
    let chip = match cpu {
        Ok(()) => waits.within(PATIENCE, manager.random(from_chip)).await.unwrap_or(Err(ManagerError::Late)),
        Err(_) => manager.random(from_chip).await,
    };
    match (cpu, chip) {
        (_, Err(ManagerError::Stopped)) => return Err(Refusal::Manager(ManagerError::Stopped)),
        (Ok(()), Ok(())) => {}
        (Err(_), Ok(())) => {
            log::warn!(target: "vtpm", "the CPU has no random generator; seeding from the hardware TPM alone")
        }
        (Ok(()), Err(error)) => log::warn!(target: "vtpm", "{error}; seeding from the CPU alone"),
        (Err(cpu), Err(chip)) => return Err(Refusal::NoRandomness { cpu, chip }),
    }
    // A source that failed has added nothing that counts, and nothing that harms.
    Drbg::new(&seed[..], b"vtpm-stubdom").map_err(|_| Refusal::NoRandomness {
        cpu: xen_abi::NoEntropy,
        chip: ManagerError::Malformed { what: "GetRandom" },
    })
}
