//! The table of commands: everything that is known of a command before its parameters are read.

use crate::Options;
use crate::call::{Call, Done};
use crate::commands::*;
use crate::tpm::Tpm;

/// Ordinals (part 2, section 17).
pub(crate) mod ord {
    macro_rules! ordinals {
        ($($name:ident = $value:expr),* $(,)?) => { $(pub(crate) const $name: u32 = $value;)* };
    }
    ordinals! {
        OIAP = 0x0a, OSAP = 0x0b, CHANGE_AUTH = 0x0c, TAKE_OWNERSHIP = 0x0d, CHANGE_AUTH_ASYM_START = 0x0e,
        CHANGE_AUTH_ASYM_FINISH = 0x0f, CHANGE_AUTH_OWNER = 0x10, DSAP = 0x11, CMK_CREATE_TICKET = 0x12,
        CMK_CREATE_KEY = 0x13, EXTEND = 0x14, PCR_READ = 0x15, QUOTE = 0x16, SEAL = 0x17, UNSEAL = 0x18,
        DIR_WRITE_AUTH = 0x19, DIR_READ = 0x1a, CMK_CREATE_BLOB = 0x1b, CMK_SET_RESTRICTIONS = 0x1c, CMK_APPROVE_MA = 0x1d,
        UNBIND = 0x1e, CREATE_WRAP_KEY = 0x1f, LOAD_KEY = 0x20, GET_PUB_KEY = 0x21, EVICT_KEY = 0x22,
        KEY_CONTROL_OWNER = 0x23, CMK_CONVERT_MIGRATION = 0x24, MIGRATE_KEY = 0x25, CREATE_MIGRATION_BLOB = 0x28,
        DAA_JOIN = 0x29, CONVERT_MIGRATION_BLOB = 0x2a, AUTHORIZE_MIGRATION_KEY = 0x2b, CREATE_MAINTENANCE_ARCHIVE = 0x2c,
        LOAD_MAINTENANCE_ARCHIVE = 0x2d, KILL_MAINTENANCE_FEATURE = 0x2e, LOAD_MANU_MAINT_PUB = 0x2f,
        READ_MANU_MAINT_PUB = 0x30, DAA_SIGN = 0x31, CERTIFY_KEY = 0x32, CERTIFY_KEY2 = 0x33, SIGN = 0x3c, SEALX = 0x3d,
        QUOTE2 = 0x3e, SET_CAPABILITY = 0x3f, RESET_LOCK_VALUE = 0x40, LOAD_KEY2 = 0x41, GET_RANDOM = 0x46,
        STIR_RANDOM = 0x47, SELF_TEST_FULL = 0x50, CONTINUE_SELF_TEST = 0x53, GET_TEST_RESULT = 0x54, RESET = 0x5a,
        OWNER_CLEAR = 0x5b, DISABLE_OWNER_CLEAR = 0x5c, FORCE_CLEAR = 0x5d, DISABLE_FORCE_CLEAR = 0x5e,
        GET_CAPABILITY = 0x65, GET_CAPABILITY_OWNER = 0x66, OWNER_SET_DISABLE = 0x6e, PHYSICAL_ENABLE = 0x6f,
        PHYSICAL_DISABLE = 0x70, SET_OWNER_INSTALL = 0x71, PHYSICAL_SET_DEACTIVATED = 0x72, SET_TEMP_DEACTIVATED = 0x73,
        SET_OPERATOR_AUTH = 0x74, SET_OWNER_POINTER = 0x75, CREATE_ENDORSEMENT_KEY_PAIR = 0x78, MAKE_IDENTITY = 0x79,
        ACTIVATE_IDENTITY = 0x7a, READ_PUBEK = 0x7c, OWNER_READ_PUBEK = 0x7d, DISABLE_PUBEK_READ = 0x7e,
        CREATE_REVOCABLE_EK = 0x7f, REVOKE_TRUST = 0x80, OWNER_READ_INTERNAL_PUB = 0x81, GET_AUDIT_DIGEST = 0x85,
        GET_AUDIT_DIGEST_SIGNED = 0x86, SET_ORDINAL_AUDIT_STATUS = 0x8d, TERMINATE_HANDLE = 0x96, INIT = 0x97,
        SAVE_STATE = 0x98, STARTUP = 0x99, SET_REDIRECTION = 0x9a, SHA1_START = 0xa0, SHA1_UPDATE = 0xa1,
        SHA1_COMPLETE = 0xa2, SHA1_COMPLETE_EXTEND = 0xa3, FIELD_UPGRADE = 0xaa, SAVE_KEY_CONTEXT = 0xb4,
        LOAD_KEY_CONTEXT = 0xb5, SAVE_AUTH_CONTEXT = 0xb6, LOAD_AUTH_CONTEXT = 0xb7, SAVE_CONTEXT = 0xb8,
        LOAD_CONTEXT = 0xb9, FLUSH_SPECIFIC = 0xba, PCR_RESET = 0xc8, NV_DEFINE_SPACE = 0xcc, NV_WRITE_VALUE = 0xcd,
        NV_WRITE_VALUE_AUTH = 0xce, NV_READ_VALUE = 0xcf, NV_READ_VALUE_AUTH = 0xd0, DELEGATE_UPDATE_VERIFICATION = 0xd1,
        DELEGATE_MANAGE = 0xd2, DELEGATE_CREATE_KEY_DELEGATION = 0xd4, DELEGATE_CREATE_OWNER_DELEGATION = 0xd5,
        DELEGATE_VERIFY_DELEGATION = 0xd6, DELEGATE_LOAD_OWNER_DELEGATION = 0xd8, DELEGATE_READ_TABLE = 0xdb,
        CREATE_COUNTER = 0xdc, INCREMENT_COUNTER = 0xdd, READ_COUNTER = 0xde, RELEASE_COUNTER = 0xdf,
        RELEASE_COUNTER_OWNER = 0xe0, ESTABLISH_TRANSPORT = 0xe6, EXECUTE_TRANSPORT = 0xe7,
        RELEASE_TRANSPORT_SIGNED = 0xe8, GET_TICKS = 0xf1, TICK_STAMP_BLOB = 0xf2, TSC_PHYSICAL_PRESENCE = 0x4000_000a,
        TSC_RESET_ESTABLISHMENT_BIT = 0x4000_000b, DEEP_QUOTE = 0x2000_0016, PARENT_SIGN_EK = 0x2000_007c,
    }
}

/// Runs before `TPM_Startup`, too.
pub(crate) const POST_INIT: u8 = 1;
/// Runs only if the self test has not failed.
pub(crate) const SELF_TESTED: u8 = 2;
/// Not in a disabled TPM.
pub(crate) const ENABLED: u8 = 4;
/// Not in a deactivated TPM.
pub(crate) const ACTIVE: u8 = 8;
/// Only with an owner.
pub(crate) const OWNER: u8 = 16;
/// As if enabled and activated while NV storage is not locked.
pub(crate) const NV_UNLOCKED: u8 = 32;

/// Whenever the TPM works at all.
const ANY: u8 = SELF_TESTED;
/// Enabled and activated.
const UP: u8 = SELF_TESTED | ENABLED | ACTIVE;
/// Enabled, activated and owned.
const FULL: u8 = UP | OWNER;

/// Without authorization.
const A0: u8 = 1;
/// With one.
const A1: u8 = 2;
/// With two.
const A2: u8 = 4;

/// A row.
pub(crate) struct Command {
    pub ordinal: u32,
    pub handler: fn(&mut Tpm, &mut Call<'_>) -> Done,
    /// Handles before the parameters, which are no part of the parameter digest.
    pub handles: usize,
    /// How many of them are key handles.
    pub keys: usize,
    /// Bit n: may come with n authorizations.
    pub auths: u8,
    /// When it may run.
    pub when: u8,
}

/// `handles` and `keys` in one letter or two, for a table that fits the eye.
const NONE: (usize, usize) = (0, 0);
const KEY: (usize, usize) = (1, 1);
const KEYS: (usize, usize) = (2, 2);
const HANDLE: (usize, usize) = (1, 0);

macro_rules! table {
    ($($ordinal:ident, $handler:path, $handles:expr, $auths:expr, $when:expr;)*) => {
        &[$(Command {
            ordinal: ord::$ordinal,
            handler: $handler,
            handles: $handles.0,
            keys: $handles.1,
            auths: $auths,
            when: $when,
        },)*]
    };
}

/// The commands, in the order of the specification's part 3.
static COMMANDS: &[Command] = table! {
    INIT, startup::tpm_init, NONE, A0, POST_INIT;
    STARTUP, startup::tpm_startup, NONE, A0, POST_INIT;
    SAVE_STATE, startup::tpm_save_state, NONE, A0, ANY;
    SELF_TEST_FULL, selftest::tpm_self_test_full, NONE, A0, 0;
    CONTINUE_SELF_TEST, selftest::tpm_continue_self_test, NONE, A0, 0;
    GET_TEST_RESULT, selftest::tpm_get_test_result, NONE, A0, 0;
    SET_OWNER_INSTALL, optin::tpm_set_owner_install, NONE, A0, UP;
    OWNER_SET_DISABLE, optin::tpm_owner_set_disable, NONE, A1, ANY | OWNER;
    PHYSICAL_ENABLE, optin::tpm_physical_enable, NONE, A0, ANY;
    PHYSICAL_DISABLE, optin::tpm_physical_disable, NONE, A0, ANY | ENABLED;
    PHYSICAL_SET_DEACTIVATED, optin::tpm_physical_set_deactivated, NONE, A0, ANY | ENABLED;
    SET_TEMP_DEACTIVATED, optin::tpm_set_temp_deactivated, NONE, A0 | A1, ANY | ACTIVE;
    SET_OPERATOR_AUTH, optin::tpm_set_operator_auth, NONE, A0, UP;
    TAKE_OWNERSHIP, ownership::tpm_take_ownership, NONE, A1, ANY | ENABLED;
    OWNER_CLEAR, ownership::tpm_owner_clear, NONE, A1, FULL;
    FORCE_CLEAR, ownership::tpm_force_clear, NONE, A0, UP;
    DISABLE_OWNER_CLEAR, ownership::tpm_disable_owner_clear, NONE, A1, FULL;
    DISABLE_FORCE_CLEAR, ownership::tpm_disable_force_clear, NONE, A0, UP;
    TSC_PHYSICAL_PRESENCE, ownership::tsc_physical_presence, NONE, A0, ANY;
    TSC_RESET_ESTABLISHMENT_BIT, ownership::tsc_reset_establishment_bit, NONE, A0, ANY;
    GET_CAPABILITY, capability::tpm_get_capability, NONE, A0, 0;
    SET_CAPABILITY, capability::set::tpm_set_capability, NONE, A0 | A1, ANY;
    GET_CAPABILITY_OWNER, capability::set::tpm_get_capability_owner, NONE, A1, FULL;
    GET_AUDIT_DIGEST, audit::tpm_get_audit_digest, NONE, A0, UP;
    GET_AUDIT_DIGEST_SIGNED, audit::tpm_get_audit_digest_signed, KEY, A0 | A1, FULL;
    SET_ORDINAL_AUDIT_STATUS, audit::tpm_set_ordinal_audit_status, NONE, A1, FULL;
    FIELD_UPGRADE, admin::tpm_field_upgrade, NONE, A0 | A1 | A2, FULL;
    SET_REDIRECTION, admin::tpm_set_redirection, KEY, A0 | A1 | A2, FULL;
    RESET_LOCK_VALUE, admin::tpm_reset_lock_value, NONE, A1, FULL;
    SEAL, storage::tpm_seal, KEY, A1, FULL;
    UNSEAL, storage::tpm_unseal, KEY, A1 | A2, FULL;
    UNBIND, storage::tpm_unbind, KEY, A0 | A1, FULL;
    CREATE_WRAP_KEY, storage::tpm_create_wrap_key, KEY, A1, FULL;
    LOAD_KEY2, storage::tpm_load_key2, KEY, A0 | A1, FULL;
    GET_PUB_KEY, storage::tpm_get_pub_key, KEY, A0 | A1, FULL;
    SEALX, storage::tpm_sealx, KEY, A1, FULL;
    CREATE_MIGRATION_BLOB, migration::tpm_create_migration_blob, KEY, A1 | A2, FULL;
    CONVERT_MIGRATION_BLOB, migration::tpm_convert_migration_blob, KEY, A0 | A1, FULL;
    AUTHORIZE_MIGRATION_KEY, migration::tpm_authorize_migration_key, NONE, A1, FULL;
    MIGRATE_KEY, migration::tpm_migrate_key, KEY, A0 | A1, FULL;
    CMK_SET_RESTRICTIONS, migration::cmk::tpm_cmk_set_restrictions, NONE, A1, FULL;
    CMK_APPROVE_MA, migration::cmk::tpm_cmk_approve_ma, NONE, A1, FULL;
    CMK_CREATE_KEY, migration::cmk::tpm_cmk_create_key, KEY, A1, FULL;
    CMK_CREATE_TICKET, migration::cmk::tpm_cmk_create_ticket, NONE, A1, FULL;
    CMK_CREATE_BLOB, migration::cmk::tpm_cmk_create_blob, KEY, A1, FULL;
    CMK_CONVERT_MIGRATION, migration::cmk::tpm_cmk_convert_migration, KEY, A1, FULL;
    CREATE_MAINTENANCE_ARCHIVE, maintenance::tpm_create_maintenance_archive, NONE, A1, FULL;
    LOAD_MAINTENANCE_ARCHIVE, maintenance::tpm_load_maintenance_archive, NONE, A1, FULL;
    KILL_MAINTENANCE_FEATURE, maintenance::tpm_kill_maintenance_feature, NONE, A1, FULL;
    LOAD_MANU_MAINT_PUB, maintenance::tpm_load_manu_maint_pub, NONE, A0, UP;
    READ_MANU_MAINT_PUB, maintenance::tpm_read_manu_maint_pub, NONE, A0, UP;
    SHA1_START, crypto::tpm_sha1_start, NONE, A0, ANY;
    SHA1_UPDATE, crypto::tpm_sha1_update, NONE, A0, ANY;
    SHA1_COMPLETE, crypto::tpm_sha1_complete, NONE, A0, ANY;
    SHA1_COMPLETE_EXTEND, crypto::tpm_sha1_complete_extend, NONE, A0, ANY;
    SIGN, crypto::tpm_sign, KEY, A0 | A1, FULL;
    GET_RANDOM, crypto::tpm_get_random, NONE, A0, UP;
    STIR_RANDOM, crypto::tpm_stir_random, NONE, A0, UP;
    CERTIFY_KEY, certify::tpm_certify_key, KEYS, A0 | A1 | A2, FULL;
    CERTIFY_KEY2, certify::tpm_certify_key2, KEYS, A0 | A1 | A2, FULL;
    CREATE_ENDORSEMENT_KEY_PAIR, endorsement::tpm_create_endorsement_key_pair, NONE, A0, UP;
    CREATE_REVOCABLE_EK, endorsement::tpm_create_revocable_ek, NONE, A0, UP;
    REVOKE_TRUST, endorsement::tpm_revoke_trust, NONE, A0, UP;
    READ_PUBEK, endorsement::tpm_read_pubek, NONE, A0, UP;
    OWNER_READ_INTERNAL_PUB, endorsement::tpm_owner_read_internal_pub, NONE, A1, FULL;
    MAKE_IDENTITY, identity::tpm_make_identity, NONE, A1 | A2, FULL;
    ACTIVATE_IDENTITY, identity::tpm_activate_identity, KEY, A1 | A2, FULL;
    EXTEND, pcr::tpm_extend, NONE, A0, ANY;
    PCR_READ, pcr::tpm_pcr_read, NONE, A0, UP;
    PCR_RESET, pcr::tpm_pcr_reset, NONE, A0, ANY;
    QUOTE, pcr::tpm_quote, KEY, A0 | A1, FULL;
    QUOTE2, pcr::tpm_quote2, KEY, A0 | A1, FULL;
    CHANGE_AUTH, auth_change::tpm_change_auth, KEY, A2, FULL;
    CHANGE_AUTH_OWNER, auth_change::tpm_change_auth_owner, NONE, A1, FULL;
    OIAP, sessions::tpm_oiap, NONE, A0, ANY;
    OSAP, sessions::tpm_osap, NONE, A0, ANY | OWNER;
    DSAP, delegation::tpm_dsap, NONE, A0, ANY | OWNER;
    SET_OWNER_POINTER, delegation::tpm_set_owner_pointer, NONE, A0, FULL;
    DELEGATE_MANAGE, delegation::tpm_delegate_manage, NONE, A0 | A1, UP;
    DELEGATE_CREATE_KEY_DELEGATION, delegation::tpm_delegate_create_key_delegation, KEY, A1, FULL;
    DELEGATE_CREATE_OWNER_DELEGATION, delegation::tpm_delegate_create_owner_delegation, NONE, A1, FULL;
    DELEGATE_LOAD_OWNER_DELEGATION, delegation::tpm_delegate_load_owner_delegation, NONE, A0 | A1, UP;
    DELEGATE_READ_TABLE, delegation::tpm_delegate_read_table, NONE, A0, UP;
    DELEGATE_UPDATE_VERIFICATION, delegation::tpm_delegate_update_verification, NONE, A1, FULL;
    DELEGATE_VERIFY_DELEGATION, delegation::tpm_delegate_verify_delegation, NONE, A0, FULL;
    NV_DEFINE_SPACE, nv::tpm_nv_define_space, NONE, A0 | A1, UP | NV_UNLOCKED;
    NV_WRITE_VALUE, nv::tpm_nv_write_value, NONE, A0 | A1, ANY;
    NV_WRITE_VALUE_AUTH, nv::tpm_nv_write_value_auth, NONE, A1, UP;
    NV_READ_VALUE, nv::tpm_nv_read_value, NONE, A0 | A1, ANY;
    NV_READ_VALUE_AUTH, nv::tpm_nv_read_value_auth, NONE, A1, UP;
    KEY_CONTROL_OWNER, key_mgmt::tpm_key_control_owner, KEY, A1, FULL;
    SAVE_CONTEXT, key_mgmt::tpm_save_context, HANDLE, A0, FULL;
    LOAD_CONTEXT, key_mgmt::tpm_load_context, HANDLE, A0, FULL;
    FLUSH_SPECIFIC, eviction::tpm_flush_specific, HANDLE, A0, ANY;
    GET_TICKS, timing::tpm_get_ticks, NONE, A0, UP;
    TICK_STAMP_BLOB, timing::tpm_tick_stamp_blob, KEY, A0 | A1, FULL;
    ESTABLISH_TRANSPORT, transport::tpm_establish_transport, KEY, A0 | A1, FULL;
    EXECUTE_TRANSPORT, transport::tpm_execute_transport, NONE, A1, FULL;
    RELEASE_TRANSPORT_SIGNED, transport::tpm_release_transport_signed, KEY, A1 | A2, FULL;
    CREATE_COUNTER, counter::tpm_create_counter, NONE, A1, FULL;
    INCREMENT_COUNTER, counter::tpm_increment_counter, NONE, A1, FULL;
    READ_COUNTER, counter::tpm_read_counter, NONE, A0, UP;
    RELEASE_COUNTER, counter::tpm_release_counter, NONE, A1, UP;
    RELEASE_COUNTER_OWNER, counter::tpm_release_counter_owner, NONE, A1, FULL;
    DAA_JOIN, daa::tpm_daa_join, HANDLE, A1, FULL;
    DAA_SIGN, daa::tpm_daa_sign, HANDLE, A1, FULL;
    SAVE_KEY_CONTEXT, key_mgmt::tpm_save_key_context, KEY, A0, UP;
    LOAD_KEY_CONTEXT, key_mgmt::tpm_load_key_context, NONE, A0, UP;
    SAVE_AUTH_CONTEXT, key_mgmt::tpm_save_auth_context, HANDLE, A0, UP;
    LOAD_AUTH_CONTEXT, key_mgmt::tpm_load_auth_context, NONE, A0, UP;
    EVICT_KEY, deprecated::tpm_evict_key, KEY, A0, FULL;
    TERMINATE_HANDLE, deprecated::tpm_terminate_handle, HANDLE, A0, ANY;
    DIR_WRITE_AUTH, deprecated::tpm_dir_write_auth, NONE, A1, FULL;
    DIR_READ, deprecated::tpm_dir_read, NONE, A0, UP;
    RESET, deprecated::tpm_reset, NONE, A0, ANY;
    OWNER_READ_PUBEK, deprecated::tpm_owner_read_pubek, NONE, A1, FULL;
    DISABLE_PUBEK_READ, deprecated::tpm_disable_pubek_read, NONE, A1, FULL;
    LOAD_KEY, deprecated::tpm_load_key, KEY, A0 | A1, FULL;
    CHANGE_AUTH_ASYM_START, deprecated::asym::tpm_change_auth_asym_start, KEY, A0 | A1, FULL;
    CHANGE_AUTH_ASYM_FINISH, deprecated::asym::tpm_change_auth_asym_finish, KEYS, A0 | A1, FULL;
    DEEP_QUOTE, vendor::tpm_deep_quote, NONE, A1, FULL;
    PARENT_SIGN_EK, vendor::tpm_parent_sign_ek, NONE, A1, FULL;
};

/// The row of an ordinal, if this TPM has the command.
pub(crate) fn find(ordinal: u32, options: &Options) -> Option<&'static Command> {
    let exists = match ordinal {
        ord::CREATE_MAINTENANCE_ARCHIVE..=ord::READ_MANU_MAINT_PUB => options.maintenance_commands,
        ord::DEEP_QUOTE | ord::PARENT_SIGN_EK => options.parent_quotes,
        _ => true,
    };
    known(ordinal).filter(|_| exists)
}

/// The row of an ordinal even if the owner's options leave the command out: its form is known all the same.
pub(crate) fn known(ordinal: u32) -> Option<&'static Command> {
    COMMANDS.iter().find(|command| command.ordinal == ordinal)
}
