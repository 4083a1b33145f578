use crate::auth::lockout::THRESHOLD;
use crate::dispatch::table::ord;
use crate::testing::client::*;
use crate::testing::owned;

#[test]
fn the_owner_ends_a_lockout_in_one_try() {
    for (secret, ends) in [(OWNER, true), ([0; 20], false)] {
        let mut tpm = owned();
        for _ in 0..THRESHOLD {
            let mut auth = oiap(&mut tpm, [9; 20]);
            call(&mut tpm, ord::GET_PUB_KEY, &[SRK], &[], &mut [&mut auth]).unwrap_err();
        }
        let mut auth = oiap(&mut tpm, secret);
        let reset = call(&mut tpm, ord::RESET_LOCK_VALUE, &[], &[], &mut [&mut auth]);
        assert_eq!(reset.err(), if ends { None } else { Some(1) });
        let mut auth = oiap(&mut tpm, OWNER);
        let again = call(&mut tpm, ord::RESET_LOCK_VALUE, &[], &[], &mut [&mut auth]);
        assert_eq!(again.err(), if ends { None } else { Some(0x803) });
        let mut auth = oiap(&mut tpm, OWNER);
        let used = call(&mut tpm, ord::DISABLE_OWNER_CLEAR, &[], &[], &mut [&mut auth]);
        assert_eq!(used.err(), if ends { None } else { Some(0x803) });
    }
}
