//! `TPM_STCLEAR_*` and `TPM_STANY_*` (part 2, sections 7.2, 7.3, 7.5 and 7.6): what ends with a start of the TPM.

use crate::auth::session::Session;
use crate::commands::daa::DaaSession;
use crate::commands::transport::TransportSession;
use crate::structs::key::Key;
use crate::structs::pcr::{Bank, PCR_COUNT};
use crate::structs::{Digest, Nonce};
use crate::wire::{Wire, wire_struct};
use alloc::rc::Rc;
use alloc::vec::Vec;
use tpm_crypto::Drbg;
use tpm_wire::{Reader, Writer};

wire_struct! {
    /// `TPM_STCLEAR_FLAGS` without its tag, in the specification's order.
    #[derive(Clone, Default)]
    pub(crate) struct ClearFlags {
        deactivated: bool,
        disable_force_clear: bool,
        physical_presence: bool,
        physical_presence_lock: bool,
        global_lock: bool,
    }
}

wire_struct! {
    /// A loaded key.
    #[derive(Clone)]
    pub(crate) struct LoadedKey {
        handle: u32,
        key: Rc<Key>,
        /// Whether the parent chain depends on PCRs.
        parent_pcr_status: bool,
        /// Held by the owner: never flushed or evicted by others.
        owner_evict: bool,
    }
}

wire_struct! {
    /// The dictionary attack defence.
    #[derive(Default)]
    pub(crate) struct Lockout {
        failures: u32,
        /// When the last failure was counted or forgiven, microseconds of the TPM's clock.
        counted_at: u64,
        /// Until when authorizations are refused.
        until: u64,
        /// One wrong `TPM_ResetLockValue` was tried.
        reset_used: bool,
    }
}

wire_struct! {
    /// The whole volatile state except a hash sequence.
    pub(crate) struct Volatile {
        /// Between `TPM_Init` and `TPM_Startup`.
        post_initialise: bool,
        /// The self test failed.
        failed: bool,
        flags: ClearFlags,
        tos_present: bool,
        pcrs: Bank,
        keys: Vec<LoadedKey>,
        sessions: Vec<Session>,
        transports: Vec<TransportSession>,
        /// The exclusive transport session, or 0.
        exclusive: u32,
        daa: Vec<DaaSession>,
        /// Counts of the session contexts that may still be loaded; 0 marks a free place.
        contexts: Vec<u32>,
        context_count: u32,
        /// In every saved context: those of an earlier start do not load.
        context_nonce: Nonce,
        active_counter: u32,
        /// `TPM_SetOwnerPointer`: 0, `TPM_ET_DEL_ROW` or `TPM_ET_DEL_OWNER_BLOB`, and the row.
        owner_pointer_type: u16,
        owner_pointer: u32,
        nv_read_locked: Vec<u32>,
        nv_write_locked: Vec<u32>,
        deferred_physical_presence: u32,
        audit_digest: Digest,
        tick_nonce: Nonce,
        /// The TPM's clock, microseconds.
        now: u64,
        /// The same at the start of the tick session.
        tick_start: u64,
        lockout: Lockout,
    }
}

/// No counter was used since the last start.
pub(crate) const NO_COUNTER: u32 = 0xffff_ffff;
/// The active counter was released: none may be used until the next start.
pub(crate) const COUNTER_RELEASED: u32 = 0xffff_fffe;

impl Volatile {
    /// After `TPM_Startup(ST_CLEAR)`, still waiting for it.
    pub(crate) fn fresh(rng: &mut Drbg, now: u64, lockout: Lockout) -> Self {
        let mut pcrs = [[0; 20]; PCR_COUNT];
        // PC Client specification: the PCRs of the dynamic launch are all ones until one has happened.
        pcrs.iter_mut().take(23).skip(17).for_each(|pcr| *pcr = [0xff; 20]);
        Self {
            post_initialise: true,
            failed: false,
            flags: ClearFlags::default(),
            tos_present: false,
            pcrs: Bank(pcrs),
            keys: Vec::new(),
            sessions: Vec::new(),
            transports: Vec::new(),
            exclusive: 0,
            daa: Vec::new(),
            contexts: Vec::new(),
            context_count: 0,
            context_nonce: rng.bytes(),
            active_counter: NO_COUNTER,
            owner_pointer_type: 0,
            owner_pointer: 0,
            nv_read_locked: Vec::new(),
            nv_write_locked: Vec::new(),
            deferred_physical_presence: 0,
            audit_digest: [0; 20],
            tick_nonce: rng.bytes(),
            now,
            tick_start: now,
            lockout,
        }
    }
}

impl Wire for Bank {
    fn put(&self, w: &mut Writer<'_>) {
        self.0.iter().for_each(|pcr| pcr.put(w));
    }

    fn get(r: &mut Reader<'_>) -> Result<Self, crate::codes::Code> {
        let mut pcrs = [[0; 20]; PCR_COUNT];
        for pcr in &mut pcrs {
            *pcr = r.array()?;
        }
        Ok(Self(pcrs))
    }
}
