//! Which permission bit stands for which command (part 2, sections 20.2.1 and 20.2.3). The second word of permissions is unused.

use crate::dispatch::table::ord;

/// The bit of `TPM_DELEGATE_*`: what a delegated owner may do.
pub(super) fn owner_permission(ordinal: u32) -> Option<u32> {
    Some(match ordinal {
        ord::SET_ORDINAL_AUDIT_STATUS => 30,
        ord::DIR_WRITE_AUTH => 29,
        ord::CMK_APPROVE_MA => 28,
        ord::NV_WRITE_VALUE => 27,
        ord::CMK_CREATE_TICKET => 26,
        ord::NV_READ_VALUE => 25,
        ord::DELEGATE_LOAD_OWNER_DELEGATION => 24,
        ord::DAA_JOIN => 23,
        ord::AUTHORIZE_MIGRATION_KEY => 22,
        ord::CREATE_MAINTENANCE_ARCHIVE => 21,
        ord::LOAD_MAINTENANCE_ARCHIVE => 20,
        ord::KILL_MAINTENANCE_FEATURE => 19,
        ord::OWNER_READ_INTERNAL_PUB => 18,
        ord::RESET_LOCK_VALUE => 17,
        ord::OWNER_CLEAR => 16,
        ord::DISABLE_OWNER_CLEAR => 15,
        ord::NV_DEFINE_SPACE => 14,
        ord::OWNER_SET_DISABLE => 13,
        ord::SET_CAPABILITY => 12,
        ord::MAKE_IDENTITY => 11,
        ord::ACTIVATE_IDENTITY => 10,
        ord::OWNER_READ_PUBEK => 9,
        ord::DISABLE_PUBEK_READ => 8,
        ord::SET_REDIRECTION => 7,
        ord::FIELD_UPGRADE => 6,
        ord::DELEGATE_UPDATE_VERIFICATION => 5,
        ord::CREATE_COUNTER => 4,
        ord::RELEASE_COUNTER_OWNER => 3,
        ord::DELEGATE_MANAGE => 2,
        ord::DELEGATE_CREATE_OWNER_DELEGATION => 1,
        ord::DAA_SIGN => 0,
        ord::KEY_CONTROL_OWNER => 31,
        _ => return None,
    })
}

/// The bit of `TPM_KEY_DELEGATE_*`: what may be done with a delegated key.
pub(super) fn key_permission(ordinal: u32) -> Option<u32> {
    Some(match ordinal {
        ord::CMK_CONVERT_MIGRATION => 28,
        ord::TICK_STAMP_BLOB => 27,
        ord::CHANGE_AUTH_ASYM_START => 26,
        ord::CHANGE_AUTH_ASYM_FINISH => 25,
        ord::CMK_CREATE_KEY => 24,
        ord::MIGRATE_KEY => 23,
        ord::LOAD_KEY2 => 22,
        ord::ESTABLISH_TRANSPORT => 21,
        ord::RELEASE_TRANSPORT_SIGNED => 20,
        ord::QUOTE2 => 19,
        ord::SEALX => 18,
        ord::MAKE_IDENTITY => 17,
        ord::ACTIVATE_IDENTITY => 16,
        ord::GET_AUDIT_DIGEST_SIGNED => 15,
        ord::SIGN => 14,
        ord::CERTIFY_KEY2 => 13,
        ord::CERTIFY_KEY => 12,
        ord::CREATE_WRAP_KEY => 11,
        ord::CMK_CREATE_BLOB => 10,
        ord::CREATE_MIGRATION_BLOB => 9,
        ord::CONVERT_MIGRATION_BLOB => 8,
        ord::DELEGATE_CREATE_KEY_DELEGATION => 7,
        ord::CHANGE_AUTH => 6,
        ord::GET_PUB_KEY => 5,
        ord::UNBIND => 4,
        ord::QUOTE => 3,
        ord::UNSEAL => 2,
        ord::SEAL => 1,
        ord::LOAD_KEY => 0,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Part 2, sections 20.2.1 and 20.2.3: every bit stands for one command, and what only the owner in person may do has none.
    #[test]
    fn bits_and_commands_belong_together_one_to_one() {
        for (permission, bits) in [(owner_permission as fn(u32) -> Option<u32>, 0..32), (key_permission, 0..29)] {
            for bit in bits {
                let ordinals = (0..0x100).filter(|ordinal| permission(*ordinal) == Some(bit));
                assert_eq!(ordinals.count(), 1, "bit {bit}");
            }
        }
        let in_person =
            [ord::TAKE_OWNERSHIP, ord::CHANGE_AUTH_OWNER, ord::CMK_SET_RESTRICTIONS, ord::GET_CAPABILITY_OWNER];
        for ordinal in in_person.into_iter().chain([ord::DEEP_QUOTE, ord::PARENT_SIGN_EK]) {
            assert_eq!((owner_permission(ordinal), key_permission(ordinal)), (None, None));
        }
    }
}
