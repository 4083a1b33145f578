//! The life of a vTPM.

use crate::args::{ArgError, Options};
use crate::guests::Guests;
use crate::manager::{Link, Manager};
use crate::open::Opening;
use crate::randomness;
use crate::refusal::Refusal;
use crate::serve::Service;
use crate::tpm::GuestTpm;
use crate::wait::{Stopped, Waits};
use vault::VaultError;
use xen_abi::{BlockDevice, DiskError, EntropySource};

/// What a vTPM is connected to.
pub struct Ports<'a, L, D, E, G> {
    /// To the manager.
    pub link: L,
    /// Gives the disk as soon as it is usable.
    pub disk: D,
    /// The CPU's random generator.
    pub entropy: E,
    /// The front ends.
    pub guests: &'a G,
    /// Time, and the request to stop.
    pub waits: &'a Waits<'a>,
}

/// Lives until a stop is requested. If there can be no service, says why on the console, refuses every front end, and
/// waits for the stop.
pub async fn run<'a, T, L, D, B, E, G>(options: Result<Options, ArgError>, ports: Ports<'a, L, D, E, G>)
where
    T: GuestTpm,
    L: Link + 'a,
    B: BlockDevice + 'a,
    D: Future<Output = Result<B, DiskError>>,
    E: EntropySource,
    G: Guests,
{
    let (guests, waits) = (ports.guests, ports.waits);
    match waits.unless_stopped(start::<T, L, D, B, E, G>(options, ports)).await {
        Ok(Ok(service)) => service.serve().await,
        Ok(Err(refusal)) => {
            log::error!(target: "vtpm", "No service: {refusal}");
            guests.refuse_all("this vTPM does not serve, for the reason given above");
            waits.stop_requested().await;
        }
        Err(Stopped) => log::info!(target: "vtpm", "Stopped before the vTPM was open"),
    }
}

async fn start<'a, T, L, D, B, E, G>(
    options: Result<Options, ArgError>,
    ports: Ports<'a, L, D, E, G>,
) -> Result<Service<'a, T, L, B, G>, Refusal>
where
    T: GuestTpm,
    L: Link + 'a,
    B: BlockDevice + 'a,
    D: Future<Output = Result<B, DiskError>>,
    E: EntropySource,
    G: Guests,
{
    let Ports { link, disk, mut entropy, guests, waits } = ports;
    let options = options.map_err(Refusal::Arguments)?;
    log::set_max_level(options.log_level);
    let manager = Manager::new(link, waits);
    let uuid = manager.connected().await;
    // First what the manager answers by itself: from then on it serves, and only the chip can be slow.
    let boot = manager.boot_id().await?;
    let rng = randomness::gather(&mut entropy, &manager, waits).await?;
    let disk = waits.saying("the disk (disk= line of this domain)", disk).await.map_err(VaultError::Disk)?;
    let (tpm, store) = Opening { manager, disk, uuid, options, rng, waits }.open::<T>().await?;
    let start_id = tpm_crypto::sha1(&[&boot, &uuid]);
    Ok(Service { tpm, store, guests, options, boot, start_id, waits, failing: None })
}
