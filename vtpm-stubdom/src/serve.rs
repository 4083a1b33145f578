//! Serving: guests come and go, commands are answered, changes are durable before their answers go out.

use crate::args::{Options, Startup};
use crate::guests::Guests;
use crate::instance::{Admission, BOOT_ID_SIZE, Instance, admission, marked};
use crate::manager::{Link, ManagerError};
use crate::passthrough;
use crate::saved::{Saved, Secret};
use crate::store::{Store, StoreError};
use crate::tpm::{GuestTpm, Rejection};
use crate::wait::Waits;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use frontback::tpmback::{Event, FrontId, Request};
use tpm_wire::durable::{self, Keeper, Outcome, Turn};
use xen_abi::{BlockDevice, DomId};

/// The one locality that guests have (docs/decisions/0006-guest-locality.md).
const GUEST_LOCALITY: u8 = 0;

/// A vTPM that is open.
pub struct Service<'a, T, L, B, G> {
    /// The engine, not started.
    pub tpm: T,
    /// What keeps it.
    pub store: Store<'a, L, B>,
    /// The front ends.
    pub guests: &'a G,
    /// The arguments.
    pub options: Options,
    /// Which start of the machine this is.
    pub boot: [u8; BOOT_ID_SIZE],
    /// The same as guests are told it: no two vTPMs tell the same, so that it does not show who shares a machine.
    pub start_id: [u8; BOOT_ID_SIZE],
    /// Time, and the request to stop.
    pub waits: &'a Waits<'a>,
    /// What changes fail with, until one succeeds: said once, as a guest can go on trying for ever.
    pub failing: Option<StoreError>,
}

/// The store, as the engine's keeper.
struct Keeping<'s, 'a, L, B> {
    store: &'s mut Store<'a, L, B>,
    failing: &'s mut Option<StoreError>,
}

impl<L: Link, B: BlockDevice> Keeper for Keeping<'_, '_, L, B> {
    type Error = StoreError;

    async fn keep(&mut self, engine: Secret) -> Result<(), StoreError> {
        self.store.write(Saved { engine, ..self.store.saved().clone() }).await?;
        if self.failing.take().is_some() {
            log::info!(target: "vtpm", "Changes are durable again");
        }
        Ok(())
    }
}

/// Who is being served.
#[derive(Default)]
struct Attendance {
    /// The instance whose volatile state the engine holds.
    held: Option<Instance>,
    /// Connections that are served: all of one domain.
    fronts: Vec<FrontId>,
    /// The guest whose wish for another locality was said, once.
    astray: Option<DomId>,
    /// What the last quote of the hardware TPM failed with: said once, as a guest can go on asking for ever.
    quoteless: Option<ManagerError>,
}

impl<T: GuestTpm, L: Link, B: BlockDevice, G: Guests> Service<'_, T, L, B, G> {
    /// Serves until a stop is requested, then saves what a guest that lives on needs.
    pub async fn serve(mut self) {
        let mut attendance = Attendance::default();
        while !self.waits.stopping() {
            if let Some(event) = self.guests.next_event() {
                self.take(event, &mut attendance).await;
            } else if let Some(request) = self.guests.next_request() {
                self.answer(request, &mut attendance).await;
            } else {
                let mut looked = false;
                self.waits.until(|| core::mem::replace(&mut looked, true).then_some(())).await;
            }
        }
        self.save(attendance.held).await;
    }

    async fn take(&mut self, event: Event, attendance: &mut Attendance) {
        match event {
            Event::Detached { front } => attendance.fronts.retain(|served| *served != front),
            Event::Attached { front, .. } => {
                let other = attendance.fronts.iter().find(|served| served.domid != front.domid);
                let outcome = match other {
                    Some(other) => Err(format!("domain {} is attached, and a vTPM serves one guest", other.domid)),
                    None => self.admit(Instance { boot: self.boot, domid: front.domid }, &mut attendance.held).await,
                };
                match outcome {
                    Ok(()) => attendance.fronts.push(front),
                    Err(reason) => self.guests.refuse(front, &reason),
                }
            }
        }
    }

    /// Sees to it that the engine holds the volatile state that `guest` is to see, or says why it can't.
    async fn admit(&mut self, guest: Instance, held: &mut Option<Instance>) -> Result<(), String> {
        let saved = self.store.saved();
        let continues = self.options.startup == Startup::Save;
        let due = admission(guest, *held, saved, continues);
        log::debug!(target: "vtpm", "{guest} attaches: {due:?}");
        match due {
            Admission::Keep => return Ok(()),
            Admission::RefuseReplaced => {
                return Err(format!(
                    "another guest was served since {guest} was, and its PCRs are gone: reboot the guest"
                ));
            }
            Admission::RefuseUnsaved => {
                return Err(format!(
                    "{guest} is still the guest that was attached when this vTPM stopped without saving its PCRs: reboot the guest"
                ));
            }
            Admission::Reset | Admission::Restore => {}
        }
        let hardware_pcrs = if due == Admission::Reset { self.read_hardware_pcrs().await? } else { Vec::new() };
        let saved = self.store.saved();
        let marked = marked(guest, saved);
        let volatile = saved.volatile.clone();
        self.store.write(marked).await.map_err(|error| format!("cannot note that {guest} is attached: {error}"))?;
        // Until it holds the new guest's state the engine holds nobody's.
        *held = None;
        match volatile.filter(|_| due == Admission::Restore) {
            Some(volatile) => {
                self.tpm
                    .resume_volatile(&volatile)
                    .map_err(|error| format!("the PCRs saved for {guest} are refused: {error}"))?;
                log::info!(target: "vtpm", "Restored the PCRs of {guest}");
            }
            None => self.start_for_new_guest(&hardware_pcrs),
        }
        self.make_durable().await.map_err(|error| format!("cannot start the TPM for {guest}: {error}"))?;
        *held = Some(guest);
        Ok(())
    }

    /// The values that `hwinitpcr` asks for.
    async fn read_hardware_pcrs(&self) -> Result<Vec<(u32, [u8; 20])>, String> {
        let mut values = Vec::new();
        for index in self.options.hardware_pcrs.iter() {
            let value = self.store.manager().hardware_pcr(index).await;
            let value =
                value.map_err(|error| format!("hwinitpcr: cannot read PCR {index} of the hardware TPM: {error}"))?;
            values.push((index, value));
        }
        Ok(values)
    }

    fn start_for_new_guest(&mut self, pcrs: &[(u32, [u8; 20])]) {
        self.tpm.init(match self.options.startup {
            Startup::Save => Startup::Clear,
            startup => startup,
        });
        pcrs.iter().for_each(|(index, value)| self.tpm.set_pcr(*index, value));
    }

    async fn answer(&mut self, request: Request, attendance: &mut Attendance) {
        let Request { front, locality, command } = request;
        if !attendance.fronts.contains(&front) {
            return self.guests.respond(front, &T::rejection(Rejection::Failure));
        }
        if locality != GUEST_LOCALITY {
            if attendance.astray.replace(front.domid) != Some(front.domid) {
                log::warn!(target: "vtpm", "domain {} asks for locality {locality}; guests have locality {GUEST_LOCALITY} only", front.domid);
            }
            return self.guests.respond(front, &T::rejection(Rejection::BadLocality));
        }
        let guests = self.guests;
        let cancelled = || guests.is_cancelled(front);
        match self.waits.unless(cancelled, passthrough::answer(&command, self.store.manager(), &self.start_id)).await {
            Some(Some(response)) => return self.guests.respond(front, &response),
            Some(None) => {}
            None => return self.guests.abandon(front),
        }
        let mut response = Vec::new();
        self.tpm.set_time(self.waits.now().as_millis().saturating_mul(1000));
        let Self { tpm, store, waits, failing, .. } = self;
        let mut keeping = Keeping { store, failing };
        let quoteless = &mut attendance.quoteless;
        let turn = async |tpm: &mut T, keeping: &Keeping<'_, '_, L, B>, response: &mut Vec<u8>| {
            if let Some(request) = tpm.parent_request() {
                return match waits.unless(cancelled, keeping.store.manager().quote(&request)).await {
                    Some(Ok(quote)) => {
                        *quoteless = None;
                        Turn::Came(tpm.answer_parent_request(Some(&quote), response))
                    }
                    None | Some(Err(ManagerError::Stopped)) => Turn::Cancel,
                    Some(Err(error)) => {
                        if quoteless.replace(error) != Some(error) {
                            log::warn!(target: "vtpm", "A quote of the hardware TPM failed: {error}");
                        }
                        Turn::Came(tpm.answer_parent_request(None, response))
                    }
                };
            }
            waits.next_turn().await;
            if cancelled() || waits.grace_is_over() { Turn::Cancel } else { Turn::Resume }
        };
        match durable::execute(tpm, &mut keeping, (locality, &command), &mut response, turn).await {
            Outcome::Answered => guests.respond(front, &response),
            Outcome::Cancelled | Outcome::NotKept(StoreError::Undecided) => guests.abandon(front),
            Outcome::NotKept(error) => {
                if failing.replace(error) != Some(error) {
                    log::error!(target: "vtpm", "A command failed, its change is not made: {error}");
                }
                guests.respond(front, &T::rejection(Rejection::Failure));
            }
        }
    }

    /// Makes what the engine staged durable, or has it forget the change.
    async fn make_durable(&mut self) -> Result<(), StoreError> {
        durable::keep(&mut self.tpm, &mut Keeping { store: &mut self.store, failing: &mut self.failing }).await
    }

    /// At a clean stop: the volatile state of the guest that was served, which may go on running without us.
    async fn save(&mut self, held: Option<Instance>) {
        let outcome = match held {
            None => Ok(()),
            Some(guest) => {
                let volatile = Some(self.tpm.save_volatile());
                self.store.write(Saved { open: Some(guest), volatile, ..self.store.saved().clone() }).await
            }
        };
        match outcome {
            Ok(()) => log::info!(target: "vtpm", "Stopped; everything is saved"),
            Err(error) => {
                let note = "the guest's PCRs are not saved, it has to be rebooted before it is served again";
                log::error!(target: "vtpm", "Stopped, but {note}: {error}");
            }
        }
    }
}
