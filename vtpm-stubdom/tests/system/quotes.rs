//! A guest that has its PCRs and its endorsement key vouched for by the chip, through its vTPM and the manager.

use super::stack::{Stack, Things, tpm};
use super::{Console, LINES, ONE, said};
use frontback::fake::Recv;
use tpm_crypto::rsa::RsaPublic;
use tpm_crypto::{Drbg, hmac_sha1, sha1};
use xen_abi::DomId;

const DEEP_QUOTE: u32 = 0x2000_0016;
const PARENT_SIGN_EK: u32 = 0x2000_007c;
/// The owner's secret.
const OWNER: [u8; 20] = [0x42; 20];
/// vTPM 0's UUID.
const UUID: [u8; 16] = [0xac, 0x0a, 0x5b, 0x9e, 0xcb, 0xe2, 0x4c, 0x07, 0xb4, 0x3b, 0, 0, 0, 0, 0, 0];

/// A command with the owner's authorization, in a new session.
fn authorized(stack: &mut Stack, guest: DomId, ordinal: u32, parameters: &[u8]) -> Vec<u8> {
    let session = tpm::good(&stack.ask(guest, &tpm::command(0x0a, &[]))).to_vec();
    let (handle, even) = session.split_at(4);
    let digest = sha1(&[&ordinal.to_be_bytes(), parameters]);
    let proof = hmac_sha1(&OWNER, &[&digest, even, &[3; 20], &[0]]);
    let mut packet = tpm::command(ordinal, &[parameters, handle, &[3; 20], &[0], &proof].concat());
    packet[1] = 0xc2;
    packet
}

fn take_ownership(stack: &mut Stack, guest: DomId) {
    let pubek = tpm::good(&stack.ask(guest, &tpm::command(0x7c, &[0; 20]))).to_vec();
    let ek = RsaPublic::new(&pubek[pubek.len() - 276..pubek.len() - 20], 65537).unwrap();
    let mut rng = Drbg::new(&[1; 48], b"").unwrap();
    let mut secret = |value: &[u8]| [&[0, 0, 1, 0][..], &ek.encrypt_oaep(&mut rng, value).unwrap()].concat();
    let srk: [&[u8]; 3] = [
        &[1, 1, 0, 0, 0, 0x11, 0, 0, 0, 0, 1, 0, 0, 0, 1, 0, 3, 0, 1],
        &[0, 0, 0, 12, 0, 0, 8, 0, 0, 0, 0, 2, 0, 0, 0, 0],
        &[0; 12],
    ];
    let parameters = [&[0, 5][..], &secret(&OWNER), &secret(&[0; 20]), &srk.concat()].concat();
    let packet = authorized(stack, guest, 0x0d, &parameters);
    assert_eq!(stack.ask(guest, &packet)[6..10], [0; 4]);
}

/// Nonce, the vTPM's PCR 3, the chip's PCRs 4 and 16, the UUID's flag.
fn deep_quote() -> Vec<u8> {
    [&[9; 20][..], &[0, 3, 8, 0, 0], &[0, 3, 0x10, 0, 1], &[0, 0, 0, 1]].concat()
}

/// What the manager answered: one hash and two PCRs.
fn check(response: &[u8]) {
    assert_eq!(response[6..10], [0; 4], "code");
    let body = &response[10..response.len() - 41];
    assert_eq!(body.len(), 256 + 20 + 2 * 20);
    assert_eq!(body[256..276], sha1(&[&UUID]));
    assert_eq!(body[276..296], [0; 20]);
}

#[test]
fn a_guest_is_vouched_for_by_the_chip() {
    let _ = log::set_logger(&Console);
    log::set_max_level(log::LevelFilter::Info);
    LINES.take();
    let things = Things::with_engine();
    let mut stack = Stack::boot(&things);
    let vtpm = stack.start_vtpm(&things, DomId(1), 0);
    let guest = stack.start_guest(vtpm);
    take_ownership(&mut stack, guest);
    for (ordinal, parameters) in
        [(DEEP_QUOTE, deep_quote()), (PARENT_SIGN_EK, [&[9; 20][..], &[0, 3, 0x10, 0, 1], &[0, 0, 0, 1]].concat())]
    {
        let packet = authorized(&mut stack, guest, ordinal, &parameters);
        check(&stack.ask(guest, &packet));
    }
    // The C stack's form of the second: nobody is named.
    let packet = authorized(&mut stack, guest, PARENT_SIGN_EK, &[&[9; 20][..], &[0, 3, 0, 0, 0]].concat());
    assert_eq!(stack.ask(guest, &packet).len(), 10 + 256 + 41);
    // Flags that do not exist.
    let mut parameters = deep_quote();
    parameters[33] = 16;
    let packet = authorized(&mut stack, guest, DEEP_QUOTE, &parameters);
    assert_eq!(stack.ask(guest, &packet)[6..10], [0, 0, 0, 9]);
    assert!(said("A quote of the hardware TPM failed: the manager answers GET_QUOTE with error 0x5"));
    // A guest cannot have data of its choice signed.
    let mut packet = tpm::command(4, &[&[9; 20][..], &[0, 3, 0, 0, 0], &[0, 0, 0, 1]].concat());
    packet[..2].copy_from_slice(&[0x01, 0xc1]);
    assert_eq!(stack.ask(guest, &packet)[6..10], [0, 0, 0, 10]);

    // Without a manager the command fails or waits until the guest gives it up; everything else goes on.
    stack.destroy(DomId(1));
    let packet = authorized(&mut stack, guest, DEEP_QUOTE, &deep_quote());
    stack.front(guest).send(&packet);
    for _ in 0..2000 {
        stack.turn();
    }
    if stack.front(guest).recv() == Recv::Running {
        stack.front(guest).cancel();
        assert!(stack.turn_until(60, |stack| stack.front(guest).recv() != Recv::Running));
    }
    tpm::good(&stack.ask(guest, &tpm::extend(10, ONE)));
    // With a new one it works again, and the endorsement key is still of this run.
    let manager = stack.start_manager(&things);
    stack.attach_manager(vtpm, manager, 0);
    let packet = authorized(&mut stack, guest, DEEP_QUOTE, &deep_quote());
    check(&stack.ask(guest, &packet));
    // In another run of the vTPM it is vouched for no more.
    stack.destroy(guest);
    stack.shut_down(vtpm);
    let vtpm = stack.start_vtpm(&things, manager, 0);
    let guest = stack.start_guest(vtpm);
    let parameters = [&[9; 20][..], &[0, 3, 0, 0, 0], &[0, 0, 0, 1]].concat();
    let packet = authorized(&mut stack, guest, PARENT_SIGN_EK, &parameters);
    assert_eq!(stack.ask(guest, &packet)[6..10], [0, 0, 0, 8]);
}
