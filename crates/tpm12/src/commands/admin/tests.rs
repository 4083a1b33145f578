use crate::Tpm12;
use crate::auth::lockout::THRESHOLD;
use crate::dispatch::table::ord;
use crate::testing::client::*;
use crate::testing::{owned, send};

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
        assert_eq!(again.err(), if ends { None } else { Some(1) });
        let mut auth = oiap(&mut tpm, OWNER);
        let used = call(&mut tpm, ord::DISABLE_OWNER_CLEAR, &[], &[], &mut [&mut auth]);
        assert_eq!(used.err(), if ends { None } else { Some(0x803) });
    }
}

fn reset(tpm: &mut Tpm12, secret: [u8; 20]) -> Option<u32> {
    let mut auth = oiap(tpm, secret);
    auth.keep = false;
    call(tpm, ord::RESET_LOCK_VALUE, &[], &[], &mut [&mut auth]).err()
}

#[test]
fn the_owner_may_try_again_when_the_lockout_is_over() {
    let mut tpm = owned();
    assert_eq!(reset(&mut tpm, [0; 20]), Some(1));
    assert_eq!(reset(&mut tpm, OWNER), None, "nothing was locked");
    let lock = |tpm: &mut Tpm12| {
        for _ in 0..THRESHOLD {
            let mut auth = oiap(tpm, [9; 20]);
            call(tpm, ord::GET_PUB_KEY, &[SRK], &[], &mut [&mut auth]).unwrap_err();
        }
    };
    lock(&mut tpm);
    let mut stranger = Auth { handle: 0x0200_0000, ..oiap(&mut tpm, OWNER) };
    let unknown = call(&mut tpm, ord::RESET_LOCK_VALUE, &[], &[], &mut [&mut stranger]);
    assert_eq!(unknown, Err(34), "no try of the owner's");
    assert_eq!(reset(&mut tpm, [0; 20]), Some(1));
    assert_eq!(reset(&mut tpm, OWNER), Some(1));
    // Two seconds for the failure after the threshold; the one after that locks anew, and the owner has another try.
    tpm.set_time(2_000_001);
    let mut auth = oiap(&mut tpm, [9; 20]);
    call(&mut tpm, ord::GET_PUB_KEY, &[SRK], &[], &mut [&mut auth]).unwrap_err();
    assert_eq!(read_locked(&mut tpm), Some(0x803));
    assert_eq!(reset(&mut tpm, OWNER), None);
    assert_eq!(read_locked(&mut tpm), Some(12), "authorized, not readable");
    assert!(send(&mut tpm, ord::RESET, &[]).is_ok());
}

fn read_locked(tpm: &mut Tpm12) -> Option<u32> {
    let mut auth = oiap(tpm, SRK_AUTH);
    auth.keep = false;
    call(tpm, ord::GET_PUB_KEY, &[SRK], &[], &mut [&mut auth]).err()
}
