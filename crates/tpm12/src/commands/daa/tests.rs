use crate::Tpm12;
use crate::dispatch::table::ord;
use crate::testing::client::*;
use crate::testing::{finish, fresh_state, owned, rng, send, stranger, tpm};
use crate::{Options, StartupType};
use alloc::boxed::Box;
use alloc::vec;
use alloc::vec::Vec;
use tpm_crypto::number::{add, mul_pow_mod};
use tpm_crypto::rsa::{DEFAULT_EXPONENT, KeyGen, RsaPrivate};
use tpm_crypto::sha1;

extern crate std;

/// A prime of 208 bits, a prime of 512 bits one above a multiple of it, and a number of that order.
const Q: &str = "e5e549469a5e6b9156e7a45c8f2d7e2d130254a8dc38bf76e315";
const GAMMA: &str = "dc45a40b0286fbf2c7ad0673e55b695bc5097de8d8e145a4d9f2e6d4789e8d07\
                     651fe320786e763c264ee156e2e2f7db38b342a2ed564c546e0765dec26562f5";
const W: &str = "0ea8de1f4add67570a1f032fd722695d8be7306e57dc96dbbf9a91cbfe5412d3\
                 51632e187d5aa0963d44079c9378c9103cf8aa69ab7774cfdecda34777df1dac";

fn hex(text: &str) -> Vec<u8> {
    (0..text.len()).step_by(2).map(|i| u8::from_str_radix(&text[i..i + 2], 16).unwrap()).collect()
}

/// An issuer: its root key, its own key, and its public parameters.
struct Issuer {
    root: RsaPrivate,
    own: RsaPrivate,
    n: Vec<u8>,
    r0: Vec<u8>,
    r1: Vec<u8>,
    s0: Vec<u8>,
    s1: Vec<u8>,
    gamma: Vec<u8>,
    w: Vec<u8>,
    settings: Vec<u8>,
}

/// One for each thread: a private key is not shared between threads.
fn issuer() -> &'static Issuer {
    std::thread_local!(static ISSUER: &'static Issuer = Box::leak(Box::new(make_issuer())));
    ISSUER.with(|issuer| *issuer)
}

fn make_issuer() -> Issuer {
    let mut rng = rng(111);
    let mut key = || {
        let mut generation = KeyGen::new(2048, DEFAULT_EXPONENT).unwrap();
        core::iter::repeat_with(|| generation.step(&mut rng)).flatten().next().unwrap()
    };
    let (root, own) = (key(), key());
    let n = key().public().modulus();
    let mut square = || {
        let root: [u8; 256] = rng.bytes();
        mul_pow_mod(&[1], &root, &[2], &n).unwrap().to_vec()
    };
    let (r0, r1, s0) = (square(), square(), square());
    // S1 carries on where the exponents of S0 end.
    let power = [&[1][..], &[0; 128]].concat();
    let s1 = mul_pow_mod(&[1], &s0, &power, &n).unwrap().to_vec();
    let (gamma, w) = (hex(GAMMA), [vec![0; 192], hex(W)].concat());
    let digests: Vec<u8> = [&r0, &r1, &s0, &s1, &n, &gamma].iter().flat_map(|value| sha1(&[value])).collect();
    let settings = [&[0, 0x2f][..], &digests, &hex(Q)].concat();
    Issuer { root, own, n, r0, r1, s0, s1, gamma, w, settings }
}

/// A product of powers modulo n.
fn product(issuer: &Issuer, factors: &[(&[u8], &[u8])]) -> Vec<u8> {
    factors
        .iter()
        .fold(vec![1], |product, (base, exponent)| mul_pow_mod(&product, base, exponent, &issuer.n).unwrap().to_vec())
}

/// The other side of a session.
struct Run<'a> {
    tpm: &'a mut Tpm12,
    ordinal: u32,
    handle: u32,
}

impl Run<'_> {
    fn stage(&mut self, stage: u8, input0: &[u8], input1: &[u8]) -> Result<Vec<u8>, u32> {
        let mut owner = oiap(self.tpm, OWNER);
        owner.keep = false;
        let parameters: [&[u8]; 3] = [&[stage], &sized(input0), &sized(input1)];
        let out = call(self.tpm, self.ordinal, &[self.handle], &parameters, &mut [&mut owner])?;
        assert_eq!(out[..4], (out.len() as u32 - 4).to_be_bytes());
        Ok(out[4..].to_vec())
    }

    fn start(&mut self, input: &[u8]) -> Result<(), u32> {
        let out = self.stage(0, input, &[])?;
        self.handle = u32::from_be_bytes(out.try_into().unwrap());
        Ok(())
    }
}

fn join(tpm: &mut Tpm12) -> Run<'_> {
    Run { tpm, ordinal: ord::DAA_JOIN, handle: 0 }
}

fn sign(tpm: &mut Tpm12) -> Run<'_> {
    Run { tpm, ordinal: ord::DAA_SIGN, handle: 0 }
}

/// Stages 0 to 2 of a join: a chain of two keys, the settings.
fn introduce(run: &mut Run<'_>, issuer: &Issuer) {
    run.start(&2u32.to_be_bytes()).unwrap();
    let (root, own) = (issuer.root.public().modulus(), issuer.own.public().modulus());
    let mut rng = rng(9);
    let chain = issuer.root.sign_pkcs1_sha1(&mut rng, &sha1(&[&own])).unwrap();
    assert_eq!(run.stage(1, &root, &[]), Ok(vec![]));
    assert_eq!(run.stage(1, &own, &chain), Ok(vec![]));
    let digest = sha1(&[&sha1(&[&root]), &issuer.settings]);
    let signature = issuer.own.sign_pkcs1_sha1(&mut rng, &digest).unwrap();
    assert_eq!(run.stage(2, &issuer.settings, &signature), Ok(vec![]));
}

/// What a platform has after a join.
struct Credential {
    /// R0^f0 R1^f1 S0^v0 S1^v1.
    public: Vec<u8>,
    v0: Vec<u8>,
    v1: Vec<u8>,
    tpm: Vec<u8>,
    /// w^f.
    e: Vec<u8>,
}

/// A whole join, with the issuer's checks.
fn full_join(tpm: &mut Tpm12, issuer: &Issuer) -> Credential {
    let mut owner = oiap(tpm, OWNER);
    let ek = call(tpm, ord::OWNER_READ_INTERNAL_PUB, &[], &[&0x4000_0006u32.to_be_bytes()], &mut [&mut owner]).unwrap();
    let mut run = join(tpm);
    introduce(&mut run, issuer);
    assert_eq!(run.stage(3, &7u32.to_be_bytes(), &[]), Ok(vec![]));
    for (stage, base) in [(4, &issuer.r0), (5, &issuer.r1), (6, &issuer.s0)] {
        assert_eq!(run.stage(stage, base, &issuer.n), Ok(vec![]));
    }
    let u = run.stage(7, &issuer.s1, &issuer.n).unwrap();
    assert_eq!(u.len(), 256);

    let cipher = public_of(&ek).encrypt_oaep(&mut rng(12), &[0x4e; 20]).unwrap();
    let digest = sha1(&[&u, &7u32.to_be_bytes(), &sha1(&[&issuer.root.public().modulus()])]);
    assert_eq!(run.stage(8, &cipher, &[]).unwrap(), sha1(&[&digest, &[0x4e; 20]]));

    for (stage, base) in [(9, &issuer.r0), (10, &issuer.r1), (11, &issuer.s0)] {
        assert_eq!(run.stage(stage, base, &issuer.n), Ok(vec![]));
    }
    let t = run.stage(12, &issuer.s1, &issuer.n).unwrap();
    assert_eq!(run.stage(13, &issuer.gamma, &issuer.w), Ok(vec![]));
    let e = run.stage(14, &issuer.gamma, &[]).unwrap();
    let e1 = run.stage(15, &issuer.gamma, &[]).unwrap();
    let nonce = run.stage(16, &[0x77; 20], &[]).unwrap();
    let c = sha1(&[&[0x77; 20], &nonce]);
    let (s0, s1) = (run.stage(17, &[], &[]).unwrap(), run.stage(18, &[], &[]).unwrap());
    let s2 = run.stage(19, &[], &[]).unwrap();
    assert_eq!(run.stage(20, &[], &[]).unwrap(), c);
    let s3 = run.stage(21, &[], &[]).unwrap();
    check_proof(issuer, &u, &t, &c, [&s0, &s1, &s2, &s3]);
    check_name(issuer, &e, &e1, &c, &s0, &s1);

    // The sum with the TPM's part is longer than v0: the rest is carried over into v1.
    let (u2, u3) = ([0xff; 128], [&[0; 30][..], &[0x33; 162]].concat());
    let (v0, v1) = (run.stage(22, &u2, &[]).unwrap(), run.stage(23, &u3, &[]).unwrap());
    let kept = run.stage(24, &[], &[]).unwrap();
    assert_eq!(run.stage(24, &[], &[]), Err(88), "the session is over");
    let public = product(issuer, &[(&u, &[1]), (&issuer.s0, &u2), (&issuer.s1, &u3)]);
    Credential { public, v0, v1, tpm: kept, e }
}

/// R0^s0 R1^s1 S0^s2 S1^s3 = T * U^c.
fn check_proof(issuer: &Issuer, public: &[u8], t: &[u8], c: &[u8], s: [&[u8]; 4]) {
    let bases = [&issuer.r0, &issuer.r1, &issuer.s0, &issuer.s1];
    let factors: Vec<(&[u8], &[u8])> = bases.iter().zip(s).map(|(base, s)| (&base[..], s)).collect();
    assert_eq!(product(issuer, &factors), product(issuer, &[(t, &[1]), (public, c)]));
}

/// w^(s0 + 2^104 s1) = E1 * E^c.
fn check_name(issuer: &Issuer, e: &[u8], e1: &[u8], c: &[u8], s0: &[u8], s1: &[u8]) {
    let shifted = [s1, &[0; 13]].concat();
    let left = mul_pow_mod(&[1], &issuer.w, &add(s0, &shifted), &issuer.gamma).unwrap();
    assert_eq!(*left, *mul_pow_mod(e1, e, c, &issuer.gamma).unwrap());
}

/// A whole signature with the verifier's checks; returns w^f.
fn full_sign(tpm: &mut Tpm12, issuer: &Issuer, credential: &Credential, selector: u8, message: &[u8]) -> Vec<u8> {
    let mut run = sign(tpm);
    run.start(&issuer.settings).unwrap();
    assert_eq!(run.stage(1, &credential.tpm, &[]), Ok(vec![]));
    for (stage, base) in [(2, &issuer.r0), (3, &issuer.r1), (4, &issuer.s0)] {
        assert_eq!(run.stage(stage, base, &issuer.n), Ok(vec![]));
    }
    let t = run.stage(5, &issuer.s1, &issuer.n).unwrap();
    assert_eq!(run.stage(6, &issuer.gamma, &issuer.w), Ok(vec![]));
    let e = run.stage(7, &issuer.gamma, &[]).unwrap();
    let e1 = run.stage(8, &issuer.gamma, &[]).unwrap();
    let nonce = run.stage(9, &[0x55; 20], &[]).unwrap();
    let c = run.stage(10, &[selector], message).unwrap();
    let signed = if selector == 1 { message.to_vec() } else { modulus(run.tpm, message) };
    assert_eq!(c, sha1(&[&sha1(&[&[0x55; 20], &nonce]), &[selector], &signed]));
    let (s0, s1) = (run.stage(11, &[], &[]).unwrap(), run.stage(12, &[], &[]).unwrap());
    let s2 = run.stage(13, &credential.v0, &[]).unwrap();
    assert_eq!(run.stage(14, &credential.v0, &[]), Ok(vec![]));
    let s3 = run.stage(15, &credential.v1, &[]).unwrap();
    check_proof(issuer, &credential.public, &t, &c, [&s0, &s1, &s2, &s3]);
    check_name(issuer, &e, &e1, &c, &s0, &s1);
    assert_eq!(run.stage(15, &credential.v1, &[]), Err(88), "the session is over");
    e
}

/// The modulus of a loaded key.
fn modulus(tpm: &mut Tpm12, handle: &[u8]) -> Vec<u8> {
    let handle = u32::from_be_bytes(handle.try_into().unwrap());
    let mut auth = oiap(tpm, KEY_AUTH);
    public_of(&call(tpm, ord::GET_PUB_KEY, &[handle], &[], &mut [&mut auth]).unwrap()).modulus()
}

#[test]
fn a_tpm_joins_and_signs_and_both_proofs_verify() {
    let (mut tpm, issuer) = (owned(), issuer());
    let credential = full_join(&mut tpm, issuer);
    let e = full_sign(&mut tpm, issuer, &credential, 1, &[0x11; 20]);
    assert_eq!(e, credential.e, "one name for one base");
    // The same issuer, root and count give the same secret for ever.
    assert_eq!(full_join(&mut tpm, issuer).e, credential.e);
    let mut other = Tpm12::load(fresh_state(), rng(3), Options::default()).unwrap();
    other.startup(StartupType::Clear).unwrap();
    take_ownership(&mut other).unwrap();
    assert_eq!(full_join(&mut other, issuer).e, credential.e, "an owner's change keeps the secret");
    let mut another = finish(Tpm12::manufacture(rng(31), Options::default()));
    another.startup(StartupType::Clear).unwrap();
    take_ownership(&mut another).unwrap();
    let theirs = full_join(&mut another, issuer);
    assert_ne!(theirs.e, credential.e, "another TPM has another secret");
    let mut run = sign(&mut another);
    run.start(&issuer.settings).unwrap();
    assert_eq!(run.stage(1, &credential.tpm, &[]), Err(81), "and opens no blobs of this one");
}

#[test]
fn what_is_kept_of_a_join_serves_its_tpm_and_issuer_only() {
    let (mut tpm, issuer) = (owned(), issuer());
    let credential = full_join(&mut tpm, issuer);
    let mut first = |settings: &[u8], kept: &[u8]| {
        let mut run = sign(&mut tpm);
        run.start(settings).unwrap();
        let result = run.stage(1, kept, &[]);
        if result.is_err() {
            assert_eq!(run.stage(1, kept, &[]), Err(88));
        } else {
            send(run.tpm, ord::FLUSH_SPECIFIC, &[&run.handle.to_be_bytes(), &8u32.to_be_bytes()]).unwrap();
        }
        result
    };
    assert_eq!(first(&issuer.settings, &credential.tpm), Ok(vec![]));
    let mut other = issuer.settings.clone();
    other[10] ^= 1;
    assert_eq!(first(&other, &credential.tpm), Err(83));
    for at in 0..credential.tpm.len() {
        let mut damaged = credential.tpm.clone();
        damaged[at] ^= 0x40;
        assert_eq!(first(&issuer.settings, &damaged), Err(81), "byte {at}");
    }
    for blob in [&credential.v0, &credential.v1, &Vec::new()] {
        assert_eq!(first(&issuer.settings, blob), Err(81));
    }
    let mut other = stranger();
    let mut run = sign(&mut other);
    run.start(&issuer.settings).unwrap();
    // This stranger was made from the same state: DAA secrets outlive owners, so its blobs open.
    assert_eq!(run.stage(1, &credential.tpm, &[]), Ok(vec![]));
}

#[test]
fn secrets_of_another_join_do_not_serve() {
    let (mut tpm, issuer) = (owned(), issuer());
    let (one, two) = (full_join(&mut tpm, issuer), full_join(&mut tpm, issuer));
    for (v0, code) in [(&two.v0, Err(81)), (&one.v1, Err(81)), (&one.v0, Ok(()))] {
        let mut run = sign(&mut tpm);
        run.start(&issuer.settings).unwrap();
        run.stage(1, &one.tpm, &[]).unwrap();
        for (stage, base) in [(2, &issuer.r0), (3, &issuer.r1), (4, &issuer.s0), (5, &issuer.s1)] {
            run.stage(stage, base, &issuer.n).unwrap();
        }
        run.stage(6, &issuer.gamma, &issuer.w).unwrap();
        run.stage(7, &issuer.gamma, &[]).unwrap();
        run.stage(8, &issuer.gamma, &[]).unwrap();
        run.stage(9, &[0; 20], &[]).unwrap();
        run.stage(10, &[1], &[0; 20]).unwrap();
        run.stage(11, &[], &[]).unwrap();
        run.stage(12, &[], &[]).unwrap();
        assert_eq!(run.stage(13, v0, &[]).map(|_| ()), code);
    }
}

#[test]
fn an_identity_key_can_be_signed_and_no_other_key() {
    let (mut tpm, issuer) = (owned(), issuer());
    let credential = full_join(&mut tpm, issuer);
    let (signing, _) = new_key(&mut tpm, &signing_template(2, 512));
    let identity = make_identity(&mut tpm);
    full_sign(&mut tpm, issuer, &credential, 0, &identity.to_be_bytes());
    for (selector, message, code) in [
        (&[0][..], &signing.to_be_bytes()[..], 82),
        (&[0], &[0; 4], 82),
        (&[0], &[0; 5], 82),
        (&[1], &[0; 19], 82),
        (&[2], &[0; 20], 81),
        (&[], &[0; 20], 81),
        (&[1, 1], &[0; 20], 81),
    ] {
        let mut run = sign(&mut tpm);
        run.start(&issuer.settings).unwrap();
        run.stage(1, &credential.tpm, &[]).unwrap();
        for (stage, base) in [(2, &issuer.r0), (3, &issuer.r1), (4, &issuer.s0), (5, &issuer.s1)] {
            run.stage(stage, base, &issuer.n).unwrap();
        }
        run.stage(6, &issuer.gamma, &issuer.w).unwrap();
        run.stage(7, &issuer.gamma, &[]).unwrap();
        run.stage(8, &issuer.gamma, &[]).unwrap();
        run.stage(9, &[0; 20], &[]).unwrap();
        assert_eq!(run.stage(10, selector, message), Err(code));
    }
}

fn make_identity(tpm: &mut Tpm12) -> u32 {
    let (mut srk, mut owner) = (oiap(tpm, SRK_AUTH), osap(tpm, 2, 0x4000_0001, OWNER));
    let usage = owner.encrypt(&KEY_AUTH, false);
    let template = template(0x12, 0, 1, 1, 2, 2048);
    let parameters: [&[u8]; 3] = [&usage, &[0; 20], &template];
    let out = call(tpm, ord::MAKE_IDENTITY, &[], &parameters, &mut [&mut srk, &mut owner]).unwrap();
    // The wrapped key comes first; the size of its encrypted part ends it.
    let modulus_at = template.len() - 4 + 256;
    load_key(tpm, SRK, SRK_AUTH, &out[..modulus_at + 260]).unwrap()
}

#[test]
fn stages_come_in_order_and_a_mistake_ends_the_session() {
    let (mut tpm, issuer) = (owned(), issuer());
    let mut run = join(&mut tpm);
    for (stage, code) in [(2, 85), (0xff, 85), (24, 85)] {
        run.start(&1u32.to_be_bytes()).unwrap();
        assert_eq!(run.stage(stage, &[], &[]), Err(code));
        assert_eq!(run.stage(1, &issuer.n, &[]), Err(88));
    }
    run.start(&1u32.to_be_bytes()).unwrap();
    let mut other = Run { ordinal: ord::DAA_SIGN, handle: run.handle, tpm: run.tpm };
    assert_eq!(other.stage(1, &[], &[]), Err(84), "a session of the other command");
    let mut run = join(&mut tpm);
    for bad in [&[][..], &[0; 3], &[0; 4], &[0, 0, 0, 0, 1]] {
        assert_eq!(run.start(bad), Err(81));
    }
    run.start(&1u32.to_be_bytes()).unwrap();
    let handle = run.handle;
    let mut wrong = oiap(&mut tpm, SRK_AUTH);
    let parameters: [&[u8]; 3] = [&[1], &sized(&issuer.n), &sized(&[])];
    assert_eq!(call(&mut tpm, ord::DAA_JOIN, &[handle], &parameters, &mut [&mut wrong]), Err(1));
    let mut sign = sign(&mut tpm);
    for bad in [&issuer.settings[1..], &[&issuer.settings[..], &[0]].concat(), &[]] {
        assert_eq!(sign.start(bad), Err(81));
    }
}

#[test]
fn issuers_are_checked() {
    let (mut tpm, issuer) = (owned(), issuer());
    let (root, own) = (issuer.root.public().modulus(), issuer.own.public().modulus());
    let good = issuer.root.sign_pkcs1_sha1(&mut rng(9), &sha1(&[&own])).unwrap();
    let mut second = |modulus: &[u8], signature: &[u8]| {
        let mut run = join(&mut tpm);
        run.start(&2u32.to_be_bytes()).unwrap();
        run.stage(1, &root, &[]).unwrap();
        let result = run.stage(1, modulus, signature);
        run.tpm.reset_for_new_guest();
        result
    };
    assert_eq!(second(&own, &good), Ok(vec![]));
    assert_eq!(second(&root, &good), Err(86));
    assert_eq!(second(&own[1..], &good), Err(81));
    assert_eq!(second(&own, &good[1..]), Err(82));
    assert_eq!(second(&own, &[0; 256]), Err(86));

    let digest = sha1(&[&sha1(&[&root]), &issuer.settings]);
    let (by_root, by_own) =
        (issuer.root.sign_pkcs1_sha1(&mut rng(9), &digest), issuer.own.sign_pkcs1_sha1(&mut rng(9), &digest));
    let (by_root, by_own) = (by_root.unwrap(), by_own.unwrap());
    let mut third = |settings: &[u8], signature: &[u8]| {
        let mut run = join(&mut tpm);
        run.start(&1u32.to_be_bytes()).unwrap();
        run.stage(1, &root, &[]).unwrap();
        let result = run.stage(2, settings, signature);
        run.tpm.reset_for_new_guest();
        result
    };
    assert_eq!(third(&issuer.settings, &by_root), Ok(vec![]));
    assert_eq!(third(&issuer.settings, &by_own), Err(86));
    assert_eq!(third(&issuer.settings[..147], &by_root), Err(81));
    assert_eq!(third(&issuer.settings, &[]), Err(82));
}

#[test]
fn numbers_must_be_the_issuers() {
    let (mut tpm, issuer) = (owned(), issuer());
    let mut fourth = |base: &[u8], modulus: &[u8]| {
        let mut run = join(&mut tpm);
        introduce(&mut run, issuer);
        run.stage(3, &[0; 4], &[]).unwrap();
        let result = run.stage(4, base, modulus);
        run.tpm.reset_for_new_guest();
        result
    };
    assert_eq!(fourth(&issuer.r0, &issuer.n), Ok(vec![]));
    assert_eq!(fourth(&issuer.r1, &issuer.n), Err(81));
    assert_eq!(fourth(&issuer.r0, &issuer.r0), Err(82));
    assert_eq!(fourth(&[], &[]), Err(81));
    let mut wrong_w = |w: &[u8]| {
        let mut run = join(&mut tpm);
        introduce(&mut run, issuer);
        run.stage(3, &[0; 4], &[]).unwrap();
        for (stage, base) in [(4, &issuer.r0), (5, &issuer.r1), (6, &issuer.s0), (7, &issuer.s1)] {
            run.stage(stage, base, &issuer.n).unwrap();
        }
        let mut owner = oiap(run.tpm, OWNER);
        let ek = [&0x4000_0006u32.to_be_bytes()[..]];
        let ek = call(run.tpm, ord::OWNER_READ_INTERNAL_PUB, &[], &ek, &mut [&mut owner]).unwrap();
        run.stage(8, &public_of(&ek).encrypt_oaep(&mut rng(1), &[1]).unwrap(), &[]).unwrap();
        for (stage, base) in [(9, &issuer.r0), (10, &issuer.r1), (11, &issuer.s0), (12, &issuer.s1)] {
            run.stage(stage, base, &issuer.n).unwrap();
        }
        let result = run.stage(13, &issuer.gamma, w);
        run.tpm.reset_for_new_guest();
        result
    };
    assert_eq!(wrong_w(&issuer.w), Ok(vec![]));
    assert_eq!(wrong_w(&[2; 256]), Err(87));
    assert_eq!(wrong_w(&[0; 256]), Err(87));
    assert_eq!(wrong_w(&issuer.w[1..]), Err(82));
}

#[test]
fn there_is_room_for_two_sessions_and_they_can_be_flushed() {
    let (mut tpm, issuer) = (owned(), issuer());
    let mut run = sign(&mut tpm);
    run.start(&issuer.settings).unwrap();
    let first = run.handle;
    run.start(&issuer.settings).unwrap();
    assert_eq!(run.start(&issuer.settings), Err(21));
    send(&mut tpm, ord::FLUSH_SPECIFIC, &[&first.to_be_bytes(), &8u32.to_be_bytes()]).unwrap();
    assert_eq!(send(&mut tpm, ord::FLUSH_SPECIFIC, &[&first.to_be_bytes(), &8u32.to_be_bytes()]), Err(88));
    sign(&mut tpm).start(&issuer.settings).unwrap();
}

#[test]
fn a_session_survives_a_stop_under_a_living_guest() {
    let (mut tpm, issuer) = (owned(), issuer());
    let mut run = join(&mut tpm);
    introduce(&mut run, issuer);
    run.stage(3, &[0; 4], &[]).unwrap();
    run.stage(4, &issuer.r0, &issuer.n).unwrap();
    let handle = run.handle;
    let saved = tpm.save_volatile();
    tpm.reset_for_new_guest();
    assert_eq!(Run { tpm: &mut tpm, ordinal: ord::DAA_JOIN, handle }.stage(5, &issuer.r1, &issuer.n), Err(88));
    tpm.restore_volatile(&saved).unwrap();
    assert_eq!(Run { tpm: &mut tpm, ordinal: ord::DAA_JOIN, handle }.stage(5, &issuer.r1, &issuer.n), Ok(vec![]));
}

#[test]
fn not_without_an_owner_nor_while_disabled() {
    let (mut unowned, mut disabled) = (tpm(), owned());
    disabled.assert_physical_presence();
    send(&mut disabled, ord::PHYSICAL_DISABLE, &[]).unwrap();
    for ordinal in [ord::DAA_JOIN, ord::DAA_SIGN] {
        assert_eq!(send(&mut unowned, ordinal, &[]), Err(18));
        assert_eq!(send(&mut disabled, ordinal, &[]), Err(7));
        let mut ready = owned();
        assert_eq!(send(&mut ready, ordinal, &[&[0; 13]]), Err(30));
        let mut owner = oiap(&mut ready, OWNER);
        assert_eq!(call(&mut ready, ordinal, &[0], &[&[0; 8]], &mut [&mut owner]), Err(25));
    }
}
