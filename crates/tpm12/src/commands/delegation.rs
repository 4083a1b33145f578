//! Delegation (part 3, section 19).

use crate::auth::session::Entity;
use crate::call::Call;
use crate::codes::{self, Code};
use crate::structs::AuthData;
use crate::structs::delegate::DelegatePublic;
use crate::structs::key::Key;
use crate::tpm::Tpm;

impl Tpm {
    /// The secret that an OIAP session for the owner is verified with.
    pub(crate) fn delegated_owner_secret(&self, _ordinal: u32, owner: &AuthData) -> Result<AuthData, Code> {
        Ok(owner.clone())
    }

    /// Whether a delegation allows a command.
    pub(crate) fn check_delegation(&self, _: &DelegatePublic, _ordinal: u32, _entity: &Entity) -> Result<(), Code> {
        Err(codes::DISABLED_CMD)
    }

    /// Whether a certified migratable key is used through a delegation that its owner has not allowed.
    pub(crate) fn is_restricted_delegation(&self, _: &Call<'_>, _index: usize, _: &Key) -> Result<bool, Code> {
        Ok(false)
    }

    /// The delegation that the owner pointer points to.
    pub(crate) fn owner_pointer_delegation(&self) -> Option<(DelegatePublic, AuthData)> {
        None
    }
}
