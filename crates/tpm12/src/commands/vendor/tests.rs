use crate::dispatch::table::ord;
use crate::testing::client::*;
use crate::testing::{commit, finish, owned, rng, send};
use crate::{Options, ParentQuote, StartupType, Tpm12};
use alloc::vec::Vec;
use tpm_crypto::sha1;
use tpm_wire::{Engine, Progress};

fn deep(tpm: &mut Tpm12, ordinal: u32, parameters: &[&[u8]], answer: Option<&[u8]>) -> Result<Vec<u8>, u32> {
    let mut auth = oiap(tpm, OWNER);
    let packet = authorized(ordinal, &[], parameters, &[&mut auth]);
    let mut response = Vec::new();
    if tpm.execute(0, &packet, &mut response) == Progress::Working {
        assert!(tpm.parent_request().is_some());
        assert_eq!(tpm.resume(&mut response), Progress::Working, "nothing goes on without the manager");
        assert_eq!(tpm.answer_parent_request(answer, &mut response), Progress::Done);
    }
    assert_eq!(tpm.parent_request(), None);
    check_response(&response, ordinal, &mut [&mut auth], false)
}

#[test]
fn a_deep_quote_is_asked_of_the_manager() {
    let mut tpm = owned();
    let (own, parents) = ([0, 3, 1, 0, 0], [0, 3, 0, 2, 0]);
    let parameters: [&[u8]; 4] = [&[9; 20], &own, &parents, &[0, 0, 0, 7]];
    let mut auth = oiap(&mut tpm, OWNER);
    let packet = authorized(ord::DEEP_QUOTE, &[], &parameters, &[&mut auth]);
    assert_eq!(tpm.execute(0, &packet, &mut Vec::new()), Progress::Working);
    let composite = sha1(&[&own, &[0, 0, 0, 20], &[0; 20]]);
    let nonce = sha1(&[&[0; 4], b"DQUT", &[9; 20], &own, &[1], &composite]);
    assert_eq!(tpm.parent_request(), Some(&ParentQuote { nonce, selection: parents.to_vec(), flags: 7 }));
    tpm.cancel();
    assert_eq!(tpm.parent_request(), None);
    assert_eq!(deep(&mut tpm, ord::DEEP_QUOTE, &parameters, Some(b"quote")), Ok(b"quote".to_vec()));
    assert_eq!(deep(&mut tpm, ord::DEEP_QUOTE, &parameters, None), Err(9));
    let too_long = alloc::vec![1; 5000];
    assert_eq!(deep(&mut tpm, ord::DEEP_QUOTE, &parameters, Some(&too_long)), Err(9));
}

#[test]
fn the_endorsement_key_is_vouched_for_in_its_first_run_only() {
    let parameters: [&[u8]; 2] = [&[9; 20], &[0, 3, 0, 2, 0]];
    assert_eq!(deep(&mut owned(), ord::PARENT_SIGN_EK, &parameters, None), Err(8));
    let options = Options { parent_quotes: true, ..Options::default() };
    let mut tpm = finish(Tpm12::manufacture(rng(50), options));
    tpm.startup(StartupType::Clear).unwrap();
    let pubek = send(&mut tpm, ord::READ_PUBEK, &[&[9; 20]]).unwrap();
    take_ownership(&mut tpm).unwrap();
    let mut auth = oiap(&mut tpm, OWNER);
    let packet = authorized(ord::PARENT_SIGN_EK, &[], &parameters, &[&mut auth]);
    assert_eq!(tpm.execute(0, &packet, &mut Vec::new()), Progress::Working);
    let request = tpm.parent_request().unwrap();
    assert_eq!((&request.nonce[..], request.flags), (&pubek[pubek.len() - 20..], 0));
    tpm.cancel();
    let with_flags: [&[u8]; 3] = [parameters[0], parameters[1], &[0, 0, 0, 5]];
    let packet = authorized(ord::PARENT_SIGN_EK, &[], &with_flags, &[&mut oiap(&mut tpm, OWNER)]);
    assert_eq!(tpm.execute(0, &packet, &mut Vec::new()), Progress::Working);
    assert_eq!(tpm.parent_request().unwrap().flags, 5);
    for rest in [&[0; 1][..], &[0; 3], &[0; 5]] {
        let odd: [&[u8]; 3] = [parameters[0], parameters[1], rest];
        assert_eq!(deep(&mut tpm, ord::PARENT_SIGN_EK, &odd, None), Err(0x19));
    }
    let state = commit(&mut tpm).unwrap();
    let mut tpm = Tpm12::load(&state, rng(51), options).unwrap();
    tpm.startup(StartupType::Clear).unwrap();
    assert_eq!(deep(&mut tpm, ord::PARENT_SIGN_EK, &parameters, None), Err(8));
    let mut tpm = Tpm12::load(&state, rng(51), Options::default()).unwrap();
    tpm.startup(StartupType::Clear).unwrap();
    assert_eq!(deep(&mut tpm, ord::PARENT_SIGN_EK, &parameters, None), Err(10), "without a manager");
}
