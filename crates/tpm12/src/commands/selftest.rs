//! Self test (part 3, section 4).

use crate::call::{Call, Done};
use crate::codes;
use crate::tpm::Tpm;
use tpm_crypto::{hmac_sha1, sha1};

impl Tpm {
    /// Known answers of what everything else rests on. The compiler cannot know them, and a wrong one stops the TPM.
    fn self_test(&mut self) {
        let sha1_abc = [
            0xa9, 0x99, 0x3e, 0x36, 0x47, 0x06, 0x81, 0x6a, 0xba, 0x3e, 0x25, 0x71, 0x78, 0x50, 0xc2, 0x6c, 0x9c, 0xd0,
            0xd8, 0x9d,
        ];
        // RFC 2202, case 2.
        let hmac_jefe = [
            0xef, 0xfc, 0xdf, 0x6a, 0xe5, 0xeb, 0x2f, 0xa2, 0xd2, 0x74, 0x16, 0xd5, 0xf1, 0x84, 0xdf, 0x9c, 0x25, 0x9a,
            0x7c, 0x79,
        ];
        let (a, b): ([u8; 20], [u8; 20]) = (self.rng.bytes(), self.rng.bytes());
        let hashes = sha1(&[b"abc"]) == sha1_abc;
        let macs = hmac_sha1(b"Jefe", &[b"what do ya want for nothing?"]) == hmac_jefe;
        let rsa = self.permanent.ek.clone().is_none_or(|ek| {
            let signed = ek.sign_pkcs1_sha1(&mut self.rng, &sha1_abc);
            signed.is_ok_and(|signature| ek.public().verify_pkcs1_sha1(&sha1_abc, &signature).is_ok())
        });
        self.volatile.failed = !(hashes && macs && rsa && a != b);
    }
}

/// `TPM_SelfTestFull` (section 4.1).
pub(crate) fn tpm_self_test_full(tpm: &mut Tpm, call: &mut Call<'_>) -> Done {
    call.end()?;
    tpm.self_test();
    if tpm.volatile.failed { Err(codes::FAILEDSELFTEST.into()) } else { Ok(()) }
}

/// `TPM_ContinueSelfTest` (section 4.2): everything is tested before the answer.
pub(crate) fn tpm_continue_self_test(tpm: &mut Tpm, call: &mut Call<'_>) -> Done {
    tpm_self_test_full(tpm, call)
}

/// `TPM_GetTestResult` (section 4.3): one byte, 0 for passed.
pub(crate) fn tpm_get_test_result(tpm: &mut Tpm, call: &mut Call<'_>) -> Done {
    call.end()?;
    call.put_sized(&[tpm.volatile.failed.into()]);
    Ok(())
}
