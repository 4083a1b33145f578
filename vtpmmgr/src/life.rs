//! The life of a manager, from its arguments to its stop.

use crate::args::{Driver, Options};
use crate::desk::{Service, serve};
use crate::hardware::{ChipInfo, Hardware, PcrSelection};
use crate::management::Roots;
use crate::policy::PeerLabels;
use crate::start::{Ready, StartError, inspect, open};
use crate::{Fronts, Stop, refuse, unless, way};
use core::future::Future;
use frontback::looper::Timer;
use tpm_wire::Transport;
use xen_abi::{BlockDevice, DiskError, EntropySource};

/// What a manager is connected to.
pub struct Ports<'a, F, L, D, T, E> {
    /// The front ends.
    pub fronts: &'a F,
    /// The labels of their domains.
    pub labels: &'a L,
    /// Gives the disk as soon as it is usable.
    pub disk: D,
    /// To the chip.
    pub way: T,
    /// The processor's random generator.
    pub cpu: E,
    /// Time.
    pub timer: &'a Timer,
}

/// Starts, serves, and ends when `stop` says so and everything taken in is answered.
///
/// A manager that cannot start says why on the console, refuses its front ends, and waits for `stop`: the domain stays, so
/// that the reason can be read. `on_chip` is called once the chip has been asked what it is, before anything long is asked of it:
/// the place to tell its time-outs to the driver.
pub async fn live<F, L, B, D, T, E>(
    options: &Options,
    ports: Ports<'_, F, L, D, T, E>,
    on_chip: impl FnOnce(&ChipInfo),
    stop: impl Stop,
) where
    F: Fronts,
    L: PeerLabels,
    B: BlockDevice,
    D: Future<Output = Result<B, DiskError>>,
    T: Transport,
    E: EntropySource,
{
    let Ports { fronts, labels, disk, way, mut cpu, timer } = ports;
    let disk = match unless(&stop, disk).await {
        None => return,
        Some(Ok(disk)) => disk,
        Some(Err(error)) => return refuse(fronts, &StartError::Vault(error.into()), &stop).await,
    };
    // Before the chip is asked anything.
    if let Err(error) = inspect(&disk).await {
        return refuse(fronts, &error, &stop).await;
    }
    let chip = match unless(&stop, Hardware::detect(&way, timer, options.into())).await {
        None => return,
        Some(Ok(chip)) => chip,
        Some(Err(error)) => return refuse(fronts, &StartError::Chip(error), &stop).await,
    };
    let behind = match options.driver {
        Driver::Tis => Ok(None),
        Driver::Front => way::start_of_machine(&way).await,
    };
    let outcome = match behind {
        Ok(behind) => open(options, disk, &chip, timer, &mut cpu, on_chip).await.map(|ready| (ready, behind)),
        Err(error) => Err(StartError::Chip(error.into())),
    };
    let (ready, behind) = match outcome {
        Ok(ready) => ready,
        Err(error) => return refuse(fronts, &error, &stop).await,
    };
    let Ready { store, mut info, label, is_new, rng } = ready;
    if let Some(id) = behind {
        info.boot_id = id;
    }
    log::info!(target: "vtpmmgr", "{} vTPMs are known on this disk", store.state().vtpms().count());
    log::info!(target: "vtpmmgr", "Waiting for commands from vTPM's:");
    let root = label.key.clone();
    let roots = Roots::new(label, PcrSelection::from_mask(options.seal_pcrs).unwrap_or_default());
    let service = Service {
        store,
        chip: &chip,
        root: &root,
        info: &info,
        roots,
        admins: &options.admins,
        rollback: options.rollback,
        is_new,
        rng,
        timer,
    };
    serve(service, fronts, labels, stop).await;
    chip.shut_down().await;
}
