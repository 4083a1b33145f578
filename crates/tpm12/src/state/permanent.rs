//! `TPM_PERMANENT_FLAGS` and `TPM_PERMANENT_DATA` (part 2, sections 7.1 and 7.4).

use crate::structs::AuthData;
use crate::structs::delegate::{DelegateRow, Family};
use crate::structs::key::{Key, PubKey};
use crate::structs::nv::NvArea;
use crate::wire::{Record, Wire, wire_struct};
use alloc::rc::Rc;
use alloc::vec::Vec;
use tpm_crypto::Drbg;
use tpm_crypto::rsa::RsaPrivate;
use tpm_wire::{Reader, Writer};
use zeroize::Zeroizing;

wire_struct! {
    /// `TPM_PERMANENT_FLAGS` without its tag, in the specification's order.
    #[derive(Clone)]
    pub(crate) struct PermanentFlags {
        disable: bool,
        ownership: bool,
        deactivated: bool,
        read_pubek: bool,
        disable_owner_clear: bool,
        allow_maintenance: bool,
        physical_presence_lifetime_lock: bool,
        physical_presence_hw_enable: bool,
        physical_presence_cmd_enable: bool,
        cekp_used: bool,
        tpm_post: bool,
        tpm_post_lock: bool,
        fips: bool,
        operator: bool,
        enable_revoke_ek: bool,
        nv_locked: bool,
        read_srk_pub: bool,
        tpm_established: bool,
        maintenance_done: bool,
        disable_full_da_logic_info: bool,
    }
}

impl Default for PermanentFlags {
    /// As a vTPM leaves the factory: enabled and activated, since nobody can press a key at its boot.
    fn default() -> Self {
        Self {
            disable: false,
            ownership: true,
            deactivated: false,
            read_pubek: true,
            disable_owner_clear: false,
            allow_maintenance: true,
            physical_presence_lifetime_lock: false,
            physical_presence_hw_enable: false,
            physical_presence_cmd_enable: true,
            cekp_used: false,
            tpm_post: false,
            tpm_post_lock: false,
            fips: false,
            operator: false,
            enable_revoke_ek: false,
            nv_locked: false,
            read_srk_pub: false,
            tpm_established: false,
            maintenance_done: false,
            disable_full_da_logic_info: false,
        }
    }
}

wire_struct! {
    /// A monotonic counter (`TPM_COUNTER_VALUE`, section 13.1, and its authorization).
    pub(crate) struct Counter {
        id: u32,
        label: [u8; 4],
        value: u32,
        auth: AuthData,
    }
}

wire_struct! {
    /// A key that the owner holds in the TPM (`TPM_KeyControlOwner`).
    pub(crate) struct OwnerEvictKey {
        handle: u32,
        key: Rc<Key>,
        parent_pcr_status: bool,
    }
}

wire_struct! {
    /// Secrets that change when the TPM is cleared.
    pub(crate) struct Proofs {
        tpm_proof: AuthData,
        context_key: Zeroizing<[u8; 16]>,
        delegate_key: Zeroizing<[u8; 16]>,
        daa_proof: AuthData,
        daa_blob_key: Zeroizing<[u8; 16]>,
    }
}

impl Proofs {
    /// New ones.
    pub(crate) fn random(rng: &mut Drbg) -> Self {
        Self {
            tpm_proof: Zeroizing::new(rng.bytes()),
            context_key: Zeroizing::new(rng.bytes()),
            delegate_key: Zeroizing::new(rng.bytes()),
            daa_proof: Zeroizing::new(rng.bytes()),
            daa_blob_key: Zeroizing::new(rng.bytes()),
        }
    }
}

/// The parts of the permanent state, in the order in which they are stored.
pub(crate) struct Permanent {
    /// The engine level that the TPM was made with.
    pub level: u16,
    pub flags: PermanentFlags,
    /// The endorsement key.
    pub ek: Option<Rc<RsaPrivate>>,
    /// What `TPM_RevokeTrust` must present, if the endorsement key is revocable.
    pub ek_reset: AuthData,
    pub daa_seed: AuthData,
    pub proofs: Proofs,
    /// The owner's authorization; there is an owner if it is there.
    pub owner_auth: Option<AuthData>,
    pub srk: Option<Rc<Key>>,
    pub operator_auth: Option<AuthData>,
    pub dir: [u8; 20],
    pub maintenance_pub: Option<PubKey>,
    /// Ordinals that are audited.
    pub audited: Vec<u32>,
    pub audit_counter: u32,
    pub families: Vec<Family>,
    pub last_family_id: u32,
    pub delegate_rows: Vec<Option<DelegateRow>>,
    /// `TPM_CMK_DELEGATE` restrictions.
    pub restrict_delegate: u32,
    /// NV writes made without an owner (at most 64).
    pub no_owner_nv_writes: u32,
    pub nv: Vec<NvArea>,
    pub counters: Vec<Counter>,
    pub next_counter_id: u32,
    /// No counter is ever created with a smaller value.
    pub counter_floor: u32,
    pub owner_evict: Vec<OwnerEvictKey>,
    /// What `TPM_SaveState` put away.
    pub saved_state: Option<Zeroizing<Vec<u8>>>,
    /// Wrong authorizations, once they are so many that they lock: a restart must not be a way around the delay.
    pub failed_auths: u32,
}

/// Rows of the delegation table (section 20.10 wants two at least).
pub(crate) const DELEGATE_ROWS: usize = 4;

impl Permanent {
    /// A TPM that has never been used.
    pub(crate) fn manufacture(rng: &mut Drbg, ek: RsaPrivate) -> Self {
        Self {
            level: super::LEVEL,
            flags: PermanentFlags::default(),
            ek: Some(Rc::new(ek)),
            ek_reset: Zeroizing::new([0; 20]),
            daa_seed: Zeroizing::new(rng.bytes()),
            proofs: Proofs::random(rng),
            owner_auth: None,
            srk: None,
            operator_auth: None,
            dir: [0; 20],
            maintenance_pub: None,
            audited: crate::commands::audit::AUDITED_BY_DEFAULT.to_vec(),
            audit_counter: 0,
            families: Vec::new(),
            last_family_id: 0,
            delegate_rows: core::iter::repeat_with(|| None).take(DELEGATE_ROWS).collect(),
            restrict_delegate: 0,
            no_owner_nv_writes: 0,
            nv: Vec::new(),
            counters: Vec::new(),
            next_counter_id: 0,
            counter_floor: 0,
            owner_evict: Vec::new(),
            saved_state: None,
            failed_auths: 0,
        }
    }

    /// Whether `TPM_TakeOwnership` has run.
    pub(crate) fn has_owner(&self) -> bool {
        self.owner_auth.is_some()
    }
}

impl Record for Option<DelegateRow> {}

impl Wire for Rc<Key> {
    fn put(&self, w: &mut Writer<'_>) {
        (**self).put(w);
    }

    fn get(r: &mut Reader<'_>) -> Result<Self, crate::codes::Code> {
        Key::get(r).map(Rc::new)
    }
}

/// Exponent, modulus, one prime.
impl Wire for Rc<RsaPrivate> {
    fn put(&self, w: &mut Writer<'_>) {
        let public = self.public();
        w.u32(public.exponent()).sized32(&public.modulus()).sized32(&self.prime());
    }

    fn get(r: &mut Reader<'_>) -> Result<Self, crate::codes::Code> {
        let (exponent, modulus, prime) = (r.u32()?, r.sized32()?, r.sized32()?);
        let key = RsaPrivate::from_prime(modulus, prime, exponent);
        key.map(Rc::new).map_err(|_| crate::codes::BAD_KEY_PROPERTY)
    }
}
