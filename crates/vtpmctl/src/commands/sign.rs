//! Signing a group's list: what calc.pl was for, with a key of the operator's own.

use crate::cli::Sign;
use crate::error::Error;
use crate::files::{self, Update};
use crate::keys::signing_key;
use crate::output::Output;
use std::time::{SystemTime, UNIX_EPOCH};
use tpm_crypto::sha1;
use tpm_wire::mgr::{
    ConfigList, LEGACY_CONDITIONS, LEGACY_KERNELS, LegacyList, MAX_CONDITIONS, MAX_KERNELS, PcrValues,
};

/// `sign`
pub fn sign(options: &Sign, output: &Output) -> Result<(), Error> {
    let key = signing_key(&options.key)?;
    let mut rng = super::random()?;
    let conditions = options.pcrs.iter().map(|path| files::pcrs_from_file(path)).collect::<Result<Vec<_>, _>>()?;
    let labels = options.label.iter().map(|label| sha1(&[label.as_bytes()]));
    let kernels: Vec<[u8; 20]> = labels.chain(options.kernel.iter().copied()).collect();
    let limits = if options.legacy { (LEGACY_CONDITIONS, LEGACY_KERNELS) } else { (MAX_CONDITIONS, MAX_KERNELS) };
    if conditions.len() > limits.0 || kernels.len() > limits.1 {
        let text = format!("a list has at most {} sets of PCRs and {} labels", limits.0, limits.1);
        return Err(Error::Input(text));
    }
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_secs());
    let sequence = options.sequence.unwrap_or(now);
    let update = match options.group {
        Some(group) => {
            let list = ConfigList { group, sequence, conditions, kernels }.to_bytes();
            let signature = key.sign(&list, &mut rng)?;
            Update { legacy: false, list, signature }
        }
        None => {
            let conditions = conditions.iter().map(composite).collect::<Result<_, _>>()?;
            let list = LegacyList { sequence, conditions, kernels };
            let signature = key.sign_legacy(&list.signed_part(), &mut rng)?.to_vec();
            Update { legacy: true, list: list.to_bytes(), signature }
        }
    };
    files::write(Some(&options.out), output, &update.to_json())
}

/// Mask and SHA-1 of the `TPM_PCR_COMPOSITE` (TPM Main 1.2, part 2, section 8.2).
pub fn composite(values: &PcrValues) -> Result<(u32, [u8; 20]), Error> {
    if values.bank != attest::Bank::Sha1.id() {
        return Err(Error::Input("a TPM 1.2 has SHA-1 PCRs; these are of another bank".into()));
    }
    let [a, b, c, _] = values.mask.to_le_bytes();
    let values_bytes = values.values.concat();
    let length = u32::try_from(values_bytes.len()).unwrap_or(u32::MAX).to_be_bytes();
    Ok((values.mask, sha1(&[&[0, 3, a, b, c], &length, &values_bytes])))
}
