use super::{ENCRYPT, EXCLUSIVE, LOG};
use crate::Tpm12;
use crate::dispatch::table::ord;
use crate::testing::client::*;
use crate::testing::{command, execute, owned, rng, send};
use alloc::vec::Vec;
use tpm_crypto::{aes_ctr, aes_ofb, hmac_sha1, mgf1_sha1, sha1};

const SECRET: [u8; 20] = [0x5e; 20];
const ODD: [u8; 20] = [0x3c; 20];

/// Algorithm and encryption scheme.
type Cipher = (u32, u16);
const MGF1: Cipher = (7, 1);
const CTR: Cipher = (6, 4);
const OFB: Cipher = (6, 5);

/// The client's end of a transport session, written from the specification a second time.
struct Session {
    handle: u32,
    even: [u8; 20],
    attributes: u32,
    cipher: Cipher,
    log: [u8; 20],
    keep: bool,
}

fn public(attributes: u32, algorithm: u32, scheme: u16) -> Vec<u8> {
    [&[0, 0x1e][..], &attributes.to_be_bytes(), &algorithm.to_be_bytes(), &scheme.to_be_bytes()].concat()
}

fn establish(tpm: &mut Tpm12, attributes: u32, cipher: Cipher) -> Session {
    let key = {
        let mut auth = oiap(tpm, OWNER);
        auth.keep = false;
        public_of(&call(tpm, ord::OWNER_READ_INTERNAL_PUB, &[], &[&SRK.to_be_bytes()], &mut [&mut auth]).unwrap())
    };
    let secret = key.encrypt_oaep(&mut rng(5), &[&[0, 0x1d][..], &SECRET].concat()).unwrap();
    let public = public(attributes, cipher.0, cipher.1);
    let mut auth = oiap(tpm, SRK_AUTH);
    auth.keep = false;
    let parameters: [&[u8]; 2] = [&public, &sized(&secret)];
    let out = call_at(tpm, 0, ord::ESTABLISH_TRANSPORT, &[SRK], &parameters, &mut [&mut auth], true).unwrap();
    let ordinal = ord::ESTABLISH_TRANSPORT.to_be_bytes();
    let log_in = sha1(&[&ordinal, &public, &sized(&secret)]);
    let log = sha1(&[&[0; 20], &[0, 0x10], &log_in, &[0; 20]]);
    let log_out = sha1(&[&[0; 4], &ordinal, &out[4..]]);
    let log = sha1(&[&log, &[0, 0x11], &out[8..40], &log_out, &out[4..8]]);
    let handle = u32::from_be_bytes(out[..4].try_into().unwrap());
    Session { handle, even: out[40..60].try_into().unwrap(), attributes, cipher, log, keep: true }
}

impl Session {
    fn crypt(&self, even: &[u8; 20], direction: &[u8], data: &mut [u8]) {
        if self.attributes & ENCRYPT == 0 {
        } else if self.cipher == MGF1 {
            mgf1_sha1(&[even, &ODD, direction, &SECRET], data);
        } else {
            let mut iv = [0; 16];
            mgf1_sha1(&[even, &ODD, direction], &mut iv);
            let cipher = if self.cipher == OFB { aes_ofb } else { aes_ctr };
            cipher(SECRET[..16].try_into().unwrap(), &iv, data);
        }
    }

    /// Sends `inner`, whose data begins at `at` and is followed by `auths` authorizations; the inner response, whose data begins
    /// at `out_at`. `keys` is the hash of the keys it names.
    fn execute(
        &mut self,
        tpm: &mut Tpm12,
        inner: &[u8],
        at: usize,
        auths: usize,
        out_at: usize,
        keys: [u8; 20],
    ) -> Result<Vec<u8>, u32> {
        let ordinal = ord::EXECUTE_TRANSPORT.to_be_bytes();
        let end = inner.len() - 45 * auths;
        let h1 = sha1(&[&inner[6..10], &inner[at..end]]);
        let mut hidden = inner.to_vec();
        self.crypt(&self.even.clone(), b"in", &mut hidden[at..end]);
        let digest = sha1(&[&ordinal, &(inner.len() as u32).to_be_bytes(), &h1]);
        let hmac = hmac_sha1(&SECRET, &[&digest, &self.even, &ODD, &[self.keep.into()]]);
        let trailer = [&self.handle.to_be_bytes()[..], &ODD, &[self.keep.into()], &hmac].concat();
        let mut packet = command(ord::EXECUTE_TRANSPORT, &[&sized(&hidden), &trailer]);
        packet[1] = 0xc2;
        let response = execute(tpm, 0, &packet);
        if response[9] != 0 {
            return Err(response[9].into());
        }
        let (out, trailer) = response[10..].split_at(response.len() - 10 - 41);
        self.even = trailer[..20].try_into().unwrap();
        self.keep = trailer[20] == 1;
        let mut wrapped = out[16..].to_vec();
        let end = wrapped.len() - if wrapped[9] == 0 { 41 * auths } else { 0 };
        let out_at = out_at.min(end);
        self.crypt(&self.even.clone(), b"out", &mut wrapped[out_at..end]);
        let h2 = sha1(&[&wrapped[6..10], &inner[6..10], &wrapped[out_at..end]]);
        let digest = sha1(&[&[0; 4], &ordinal, &out[..16], &h2]);
        let want = hmac_sha1(&SECRET, &[&digest, &self.even, &ODD, &[self.keep.into()]]);
        assert_eq!(trailer[21..], want);
        self.log = sha1(&[&self.log, &[0, 0x10], &h1, &keys]);
        let ticks = [&[0, 0x14][..], &out[..8], &[0, 1], &nonce_of(tpm)].concat();
        self.log = sha1(&[&self.log, &[0, 0x11], &ticks, &h2, &out[8..12]]);
        Ok(wrapped)
    }
}

/// The tick session's nonce, without a command that would end an exclusive session.
fn nonce_of(tpm: &Tpm12) -> [u8; 20] {
    tpm.tick_nonce()
}

#[test]
fn commands_run_inside_in_the_clear_and_with_either_cipher() {
    for (attributes, cipher) in [(0, MGF1), (ENCRYPT, MGF1), (ENCRYPT, CTR), (ENCRYPT, OFB), (ENCRYPT | LOG, CTR)] {
        let mut tpm = owned();
        let mut session = establish(&mut tpm, attributes, cipher);
        let inner = command(ord::EXTEND, &[&[0, 0, 0, 1], &[7; 20]]);
        let out = session.execute(&mut tpm, &inner, 10, 0, 10, [0; 20]).unwrap();
        assert_eq!(out[10..], sha1(&[&[0; 20], &[7; 20]]));
        let inner = command(ord::PCR_READ, &[&[0, 0, 0, 1]]);
        assert_eq!(session.execute(&mut tpm, &inner, 10, 0, 10, [0; 20]).unwrap()[10..], out[10..]);
        let failing = command(ord::PCR_READ, &[&[0, 0, 0, 99]]);
        assert_eq!(session.execute(&mut tpm, &failing, 10, 0, 10, [0; 20]).unwrap()[9], 2);
        session.keep = false;
        assert!(session.execute(&mut tpm, &inner, 10, 0, 10, [0; 20]).is_ok());
        session.keep = true;
        assert_eq!(session.execute(&mut tpm, &inner, 10, 0, 10, [0; 20]), Err(34));
    }
}

#[test]
fn authorized_commands_and_key_generation_run_inside() {
    let mut tpm = owned();
    let mut session = establish(&mut tpm, ENCRYPT, CTR);
    let opened = session.execute(&mut tpm, &command(ord::OIAP, &[]), 10, 0, 34, [0; 20]).unwrap();
    let handle = u32::from_be_bytes(opened[10..14].try_into().unwrap());
    let even = opened[14..34].try_into().unwrap();
    let mut auth = Auth { handle, even, key: SRK_AUTH, keep: true, odd: [0x55; 20], aes: false };
    let key = create_key(&mut tpm, SRK, SRK_AUTH, &signing_template(2, 512)).unwrap();
    let inner = authorized(ord::LOAD_KEY2, &[SRK], &[&key], &[&mut auth]);
    let out = session.execute(&mut tpm, &inner, 14, 1, 14, [0; 20]).unwrap();
    assert!(check_response(&out, ord::LOAD_KEY2, &mut [&mut auth], true).is_ok());

    let mut auth = osap(&mut tpm, 1, SRK, SRK_AUTH);
    let (usage, migration) = (auth.encrypt(&KEY_AUTH, false), auth.encrypt(&MIGRATION_AUTH, true));
    let parameters: [&[u8]; 3] = [&usage, &migration, &signing_template(2, 512)];
    let inner = authorized(ord::CREATE_WRAP_KEY, &[SRK], &parameters, &[&mut auth]);
    let out = session.execute(&mut tpm, &inner, 14, 1, 10, [0; 20]).unwrap();
    let key = check_response(&out, ord::CREATE_WRAP_KEY, &mut [&mut auth], false).unwrap();
    assert!(load_key(&mut tpm, SRK, SRK_AUTH, &key).is_ok());
}

#[test]
fn the_log_is_signed_at_the_end() {
    let mut tpm = owned();
    let (signing, key) = new_key(&mut tpm, &signing_template(2, 1024));
    let mut session = establish(&mut tpm, LOG, MGF1);
    let modulus = public_of(&key).modulus();
    let keys = sha1(&[&sha1(&[&sized(&modulus)])]);
    let inner = command(ord::SAVE_CONTEXT, &[&signing.to_be_bytes(), &[0, 0, 0, 1], &[0; 16]]);
    session.execute(&mut tpm, &inner, 14, 0, 10, keys).unwrap();
    let inner = command(ord::GET_RANDOM, &[&[0, 0, 0, 9]]);
    session.execute(&mut tpm, &inner, 10, 0, 10, [0; 20]).unwrap();
    let mut auth = oiap(&mut tpm, KEY_AUTH);
    let mut own = Auth { handle: session.handle, even: session.even, key: SECRET, keep: true, odd: ODD, aes: false };
    let out =
        call(&mut tpm, ord::RELEASE_TRANSPORT_SIGNED, &[signing], &[&[9; 20]], &mut [&mut auth, &mut own]).unwrap();
    assert!(!own.keep);
    let end = sha1(&[&ord::RELEASE_TRANSPORT_SIGNED.to_be_bytes(), &[9; 20]]);
    let log = sha1(&[&session.log, &[0, 0x11], &out[4..36], &end, &out[..4]]);
    let info = [&[0, 5][..], b"TRAN", &[9; 20], &sized(&log)].concat();
    assert_eq!(public_of(&key).verify_pkcs1_sha1(&sha1(&[&info]), &out[40..]), Ok(()));
    assert_eq!(session.execute(&mut tpm, &inner, 10, 0, 10, [0; 20]), Err(34));
}

#[test]
fn an_exclusive_session_ends_with_the_first_command_beside_it() {
    let mut tpm = owned();
    let inner = command(ord::PCR_READ, &[&[0, 0, 0, 1]]);
    let mut session = establish(&mut tpm, EXCLUSIVE, MGF1);
    assert!(session.execute(&mut tpm, &inner, 10, 0, 10, [0; 20]).is_ok());
    assert!(session.execute(&mut tpm, &inner, 10, 0, 10, [0; 20]).is_ok());
    send(&mut tpm, ord::PCR_READ, &[&[0, 0, 0, 1]]).unwrap();
    assert_eq!(session.execute(&mut tpm, &inner, 10, 0, 10, [0; 20]), Err(34));
}

#[test]
fn an_exclusive_session_is_not_put_away_to_run_other_commands_meanwhile() {
    let (kind, label) = (4u32.to_be_bytes(), [0; 16]);
    for exclusive in [0, EXCLUSIVE] {
        let mut tpm = owned();
        let mut session = establish(&mut tpm, LOG | exclusive, MGF1);
        let save = command(ord::SAVE_CONTEXT, &[&session.handle.to_be_bytes(), &kind, &label]);
        if exclusive != 0 {
            let inside = session.execute(&mut tpm, &save, 14, 0, 10, [0; 20]).unwrap();
            assert_eq!(inside[6..10], [0, 0, 0, 53]);
        }
        let saved = send(&mut tpm, ord::SAVE_CONTEXT, &[&session.handle.to_be_bytes(), &kind, &label]);
        assert_eq!(saved.err(), (exclusive != 0).then_some(53));
        let ticks = command(ord::GET_TICKS, &[]);
        assert_eq!(session.execute(&mut tpm, &ticks, 10, 0, 10, [0; 20]), Err(34), "it is gone either way");
    }
}

#[test]
fn a_hash_sequence_stays_where_it_began() {
    let mut tpm = owned();
    let mut session = establish(&mut tpm, 0, MGF1);
    let (start, complete) = (command(ord::SHA1_START, &[]), command(ord::SHA1_COMPLETE, &[&sized(b"abc")]));
    session.execute(&mut tpm, &start, 10, 0, 10, [0; 20]).unwrap();
    let out = session.execute(&mut tpm, &complete, 10, 0, 10, [0; 20]).unwrap();
    assert_eq!(out[10..], sha1(&[b"abc"]));
    session.execute(&mut tpm, &start, 10, 0, 10, [0; 20]).unwrap();
    assert_eq!(send(&mut tpm, ord::SHA1_COMPLETE, &[&sized(b"abc")]), Err(26));
}

#[test]
fn what_cannot_be_wrapped_or_established_is_refused() {
    let mut tpm = owned();
    let mut execute_in_new = |inner: &[u8]| establish(&mut tpm, 0, MGF1).execute(&mut tpm, inner, 10, 0, 10, [0; 20]);
    assert_eq!(execute_in_new(&command(ord::EXECUTE_TRANSPORT, &[])), Err(47));
    assert_eq!(execute_in_new(&command(0x55, &[])), Err(3));
    let mut lying = command(ord::PCR_READ, &[&[0; 4]]);
    lying[5] = 99;
    assert_eq!(execute_in_new(&lying), Err(3));
    let mut no_room = command(ord::PCR_READ, &[&[0; 4]]);
    no_room[1] = 0xc3;
    assert_eq!(execute_in_new(&no_room), Err(3));

    let without_key = 0x4000_0003u32.to_be_bytes();
    let mut establish = |public: &[u8], secret: &[u8]| {
        send(&mut tpm, ord::ESTABLISH_TRANSPORT, &[&without_key, public, &sized(secret)]).err()
    };
    assert_eq!(establish(&public(ENCRYPT, 7, 1), &SECRET), Some(42));
    assert_eq!(establish(&public(0, 7, 1), &SECRET[1..]), Some(25));
    assert_eq!(establish(&public(0, 7, 1), &SECRET), None);
    for (algorithm, scheme, code) in [(6, 1, 14), (6, 6, 14), (9, 4, 40), (1, 1, 40)] {
        let (handle, key) = new_key(&mut tpm, &template(0x15, 0, 0, 3, 2, 1024));
        let plain = [&[0, 0x1d][..], &SECRET].concat();
        let secret = public_of(&key).encrypt_oaep(&mut rng(3), &plain).unwrap();
        let parameters: [&[u8]; 3] = [&handle.to_be_bytes(), &public(ENCRYPT, algorithm, scheme), &sized(&secret)];
        assert_eq!(send(&mut tpm, ord::ESTABLISH_TRANSPORT, &parameters), Err(code));
    }
}

#[test]
fn a_command_that_the_options_leave_out_says_so_itself() {
    let mut tpm = crate::testing::stranger();
    let mut session = establish(&mut tpm, ENCRYPT, MGF1);
    let inner = command(ord::KILL_MAINTENANCE_FEATURE, &[]);
    assert_eq!(session.execute(&mut tpm, &inner, 10, 0, 10, [0; 20]).unwrap()[9], 10);
}
