//! Monotonic counters (part 3, section 25).

use crate::auth::Protocol;
use crate::auth::session::Entity;
use crate::call::{Call, Done};
use crate::codes::{self, Code};
use crate::commands::capability::MAX_COUNTERS;
use crate::state::permanent::Counter;
use crate::state::volatile::{COUNTER_RELEASED, NO_COUNTER};
use crate::tpm::Tpm;
use tpm_wire::Writer;

impl Tpm {
    fn counter(&self, id: u32) -> Result<&Counter, Code> {
        self.permanent.counters.iter().find(|counter| counter.id == id).ok_or(codes::BAD_COUNTER)
    }

    fn release_counter(&mut self, id: u32) {
        self.permanent.edit().counters.retain(|counter| counter.id != id);
        self.close_sessions_of(&Entity::counter(id));
        if self.volatile.active_counter == id {
            self.volatile.active_counter = COUNTER_RELEASED;
        }
    }
}

/// `TPM_COUNTER_VALUE` (part 2, section 13.1).
fn put_value(call: &mut Call<'_>, counter: &Counter) {
    Writer::new(&mut call.out).u16(0x000e).bytes(&counter.label).u32(counter.value);
}

/// `TPM_CreateCounter` (section 25.1): a new counter starts above every value that any counter ever had.
pub(crate) fn tpm_create_counter(tpm: &mut Tpm, call: &mut Call<'_>) -> Done {
    let (enc_auth, label): ([u8; 20], [u8; 4]) = (call.get()?, call.only()?);
    tpm.authorize_owner_by(call, 0, Protocol::Osap)?;
    if tpm.permanent.counters.len() >= MAX_COUNTERS {
        return Err(codes::RESOURCES.into());
    }
    let auth = call.decrypt_auth(0, &enc_auth, false)?;
    let (id, value) = (tpm.permanent.next_counter_id, tpm.permanent.counter_floor);
    let value = value.checked_add(1).ok_or(codes::RESOURCES)?;
    let counter = Counter { id, label, value, auth };
    call.put(&id);
    put_value(call, &counter);
    let permanent = tpm.permanent.edit();
    permanent.counters.push(counter);
    permanent.counter_floor = value;
    // Identifiers near the top have meanings of their own; nobody gets there.
    permanent.next_counter_id = (id + 1) & 0x00ff_ffff;
    Ok(())
}

/// `TPM_IncrementCounter` (section 25.2): one counter only between two starts.
pub(crate) fn tpm_increment_counter(tpm: &mut Tpm, call: &mut Call<'_>) -> Done {
    let id: u32 = call.only()?;
    let secret = tpm.counter(id)?.auth.clone();
    tpm.authorize(call, 0, &secret, &Entity::counter(id), Protocol::Any)?;
    if tpm.volatile.active_counter != NO_COUNTER && tpm.volatile.active_counter != id {
        return Err(codes::BAD_COUNTER.into());
    }
    let value = tpm.counter(id)?.value.checked_add(1).ok_or(codes::BAD_COUNTER)?;
    tpm.volatile.active_counter = id;
    let permanent = tpm.permanent.edit();
    permanent.counter_floor = permanent.counter_floor.max(value);
    if let Some(counter) = permanent.counters.iter_mut().find(|counter| counter.id == id) {
        counter.value = value;
        put_value(call, counter);
    }
    Ok(())
}

/// `TPM_ReadCounter` (section 25.3).
pub(crate) fn tpm_read_counter(tpm: &mut Tpm, call: &mut Call<'_>) -> Done {
    let id: u32 = call.only()?;
    put_value(call, tpm.counter(id)?);
    Ok(())
}

/// `TPM_ReleaseCounter` (section 25.4).
pub(crate) fn tpm_release_counter(tpm: &mut Tpm, call: &mut Call<'_>) -> Done {
    let id: u32 = call.only()?;
    let secret = tpm.counter(id)?.auth.clone();
    tpm.authorize(call, 0, &secret, &Entity::counter(id), Protocol::Any)?;
    tpm.release_counter(id);
    // An OSAP session for the counter ends with it.
    if call.proofs.iter().flatten().any(|proof| proof.protocol != crate::auth::session::PID_OIAP) {
        call.end_session(0);
    }
    Ok(())
}

/// `TPM_ReleaseCounterOwner` (section 25.5).
pub(crate) fn tpm_release_counter_owner(tpm: &mut Tpm, call: &mut Call<'_>) -> Done {
    let id: u32 = call.only()?;
    tpm.authorize_owner(call, 0)?;
    tpm.counter(id)?;
    tpm.release_counter(id);
    Ok(())
}

#[cfg(test)]
mod tests;
