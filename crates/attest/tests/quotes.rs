//! Quotes, honest and otherwise: the verifier's row of the attacks.

mod common;

use attest::{AttestError, Bank, Claims, GroupInfo, QuoteKey, Quoted, Request, Subject, verify};
use common::{AK, Signer, ecc_public, rng, rsa_public, shared_rsa, values};
use tpm_crypto::ecc::P256Private;
use tpm_crypto::sha1;
use tpm_wire::mgr::{GROUP_QUOTE_FLAGS, QUOTE_FLAGS, quote_flags};

const PCRS: u32 = 1 | 1 << 7 | 1 << 14 | 1 << 23;
const NONCE: [u8; 20] = [0x4e; 20];

fn claims() -> Claims {
    let group =
        GroupInfo { key: Some(vec![9; 256]), sequence: 3, conditions: vec![vec![1; 20]], kernels: vec![[2; 20]] };
    Claims { uuid: Some([0xaa; 16]), label_hash: Some([0xbb; 20]), group: Some(group), group_key: Some(vec![9; 256]) }
}

/// The hashes of [`claims`], by the formula of the documentation.
fn hashes() -> Vec<[u8; 20]> {
    let group = [&[9; 256][..], &[0, 0, 0, 0, 0, 0, 0, 3, 0, 0, 0, 1], &[1; 20], &[0, 0, 0, 1], &[2; 20]].concat();
    vec![sha1(&[&[0xaa; 16]]), sha1(&[&[0xbb; 20]]), sha1(&[&group]), sha1(&[&[9; 256]])]
}

fn request<'a>(signer: &Signer, claims: &'a Claims) -> Request<'a> {
    Request { subject: Subject::Vtpm, data: NONCE, pcrs: PCRS, bank: signer.bank(), flags: QUOTE_FLAGS, claims }
}

fn check(signer: &Signer, request: &Request<'_>, answer: &[u8]) -> Result<Quoted, AttestError> {
    verify(&signer.key(), request, answer)
}

#[test]
fn an_honest_quote_shows_pcrs_and_hashes() {
    for signer in Signer::all() {
        let claims = claims();
        let request = request(&signer, &claims);
        let pcrs = values(PCRS, signer.bank());
        let quoted = check(&signer, &request, &signer.answer(&request, &hashes(), &pcrs)).unwrap();
        let expected: Vec<(u8, Vec<u8>)> = [0, 7, 14, 23].into_iter().zip(pcrs).collect();
        assert_eq!((&quoted.pcrs, quoted.bank), (&expected, signer.bank()));
        let flags = [quote_flags::UUID, quote_flags::MEASUREMENT, quote_flags::GROUP_INFO, quote_flags::GROUP_PUBKEY];
        assert_eq!(quoted.hashes, flags.into_iter().zip(hashes()).collect::<Vec<_>>());
        assert_eq!(quoted.expect(7, &expected[1].1), Ok(()));
        assert_eq!(quoted.expect(7, &expected[0].1), Err(AttestError::Pcr { index: 7 }));
        assert_eq!(quoted.expect(8, &expected[1].1), Err(AttestError::Pcr { index: 8 }));
        let v20 = signer.key().is_v20();
        assert_eq!(quoted.clock.map(|clock| (clock.clock, clock.reset_count, clock.safe)), v20.then_some((1, 7, true)));
        assert_eq!(quoted.firmware, v20.then_some(0x0001_0002_0003_0004));
    }
}

#[test]
fn every_flipped_bit_and_every_other_length_is_refused() {
    for signer in Signer::all() {
        let claims = claims();
        let request = request(&signer, &claims);
        let answer = signer.answer(&request, &hashes(), &values(PCRS, signer.bank()));
        for at in 0..answer.len() {
            let mut bad = answer.clone();
            bad[at] ^= 1 << (at % 8);
            assert!(check(&signer, &request, &bad).is_err(), "byte {at}");
            assert!(check(&signer, &request, &answer[..at]).is_err(), "cut at {at}");
        }
        let behind = [&answer[..], &[0]].concat();
        assert_eq!(check(&signer, &request, &behind), Err(AttestError::Malformed { what: "the answer" }));
        assert!(check(&signer, &request, &[]).is_err());
    }
}

#[test]
fn an_old_quote_or_another_requests_is_refused() {
    for signer in Signer::all() {
        let claims = claims();
        let asked = request(&signer, &claims);
        let answer = signer.answer(&asked, &hashes(), &values(PCRS, signer.bank()));
        let other = if signer.key().is_v20() { AttestError::ExternalData } else { AttestError::Signature };
        assert_eq!(check(&signer, &Request { data: [0x4f; 20], ..asked }, &answer), Err(other), "replay");
        // Fewer PCRs than asked for, more, others.
        for pcrs in [PCRS & !1, PCRS | 2, PCRS << 1 & 0xff_ffff, 0] {
            let asked = Request { pcrs, ..asked };
            let v20 = signer.key().is_v20();
            let same_count = pcrs.count_ones() == PCRS.count_ones();
            let want = match (v20, same_count) {
                (true, _) => AttestError::Selection,
                (false, true) => AttestError::Signature,
                (false, false) => AttestError::Malformed { what: "the answer" },
            };
            assert_eq!(check(&signer, &asked, &answer), Err(want), "{pcrs:#x}");
        }
        // The other bank of the same chip.
        let bank = if signer.bank() == Bank::Sha1 { Bank::Sha256 } else { Bank::Sha1 };
        assert_eq!(check(&signer, &Request { bank, ..asked }, &answer), Err(AttestError::Bank { wanted: bank }));
        // Another key.
        let stranger = Signer::Ecc20(P256Private::from_bytes(&[3; 32]).ok().unwrap());
        assert!(verify(&stranger.key(), &asked, &answer).is_err());
        // Requests that nobody can have made.
        for bad in [Request { flags: 16, ..asked }, Request { pcrs: 1 << 24, ..asked }] {
            assert_eq!(check(&signer, &bad, &answer), Err(AttestError::Malformed { what: "the request" }));
        }
    }
}

#[test]
fn pcr_values_cannot_be_swapped_or_replaced() {
    for signer in Signer::all() {
        let claims = claims();
        let asked = request(&signer, &claims);
        let mut pcrs = values(PCRS, signer.bank());
        let honest = signer.answer(&asked, &hashes(), &pcrs);
        let whole = pcrs.concat().len();
        pcrs.swap(0, 1);
        let mut swapped = honest.clone();
        let at = honest.len() - whole;
        swapped[at..].copy_from_slice(&pcrs.concat());
        let want = if signer.key().is_v20() { AttestError::PcrValues } else { AttestError::Signature };
        assert_eq!(check(&signer, &asked, &swapped), Err(want));
    }
}

#[test]
fn a_manager_that_vouches_for_something_else() {
    for signer in Signer::all() {
        let wanted = claims();
        let asked = request(&signer, &wanted);
        let pcrs = values(PCRS, signer.bank());
        let names = ["UUID", "label", "group and configuration list", "group key"];
        for (at, what) in names.into_iter().enumerate() {
            let mut others = hashes();
            others[at] = [0x77; 20];
            let answer = signer.answer(&asked, &others, &pcrs);
            assert_eq!(check(&signer, &asked, &answer), Err(AttestError::Claim { what }));
            // Not asked for: no proof of what is wanted.
            let flags = QUOTE_FLAGS & !(1 << at);
            let mut fewer = hashes();
            fewer.remove(at);
            let asked = Request { flags, ..asked };
            let answer = signer.answer(&asked, &fewer, &pcrs);
            assert_eq!(check(&signer, &asked, &answer), Err(AttestError::NoClaim { what }));
        }
        // Hashes that go with other flags than were asked for.
        let fewer = Request { flags: quote_flags::UUID, ..asked };
        let answer = signer.answer(&fewer, &hashes()[..1], &pcrs);
        let more = Request { flags: quote_flags::MEASUREMENT, claims: &Claims::default(), ..asked };
        assert!(check(&signer, &more, &answer).is_err());
        let anything = Request { flags: quote_flags::UUID, claims: &Claims::default(), ..asked };
        assert_eq!(check(&signer, &anything, &answer).unwrap().hashes, [(1, hashes()[0])]);
    }
}

#[test]
fn a_groups_quote_is_none_of_a_vtpm() {
    for signer in Signer::all() {
        let claims = Claims { label_hash: None, group_key: None, ..claims() };
        let vtpms = Request { flags: GROUP_QUOTE_FLAGS, ..request(&signer, &claims) };
        let groups = Request { subject: Subject::Group, ..vtpms };
        let hashes = [hashes()[0], hashes()[2]];
        let pcrs = values(PCRS, signer.bank());
        let (answer, other) = (signer.answer(&groups, &hashes, &pcrs), signer.answer(&vtpms, &hashes, &pcrs));
        assert!(check(&signer, &groups, &answer).is_ok() && check(&signer, &vtpms, &other).is_ok());
        assert!(check(&signer, &groups, &other).is_err() && check(&signer, &vtpms, &answer).is_err());
        let bad = Request { flags: 1, ..groups };
        assert_eq!(check(&signer, &bad, &answer), Err(AttestError::Malformed { what: "the request" }));
    }
}

#[test]
fn what_a_tpm_2_0_signed_but_is_no_quote_of_what_was_asked_for() {
    for signer in Signer::all().into_iter().skip(1) {
        let claims = claims();
        let asked = request(&signer, &claims);
        let pcrs = values(PCRS, signer.bank());
        let honest = signer.attest(&asked, &hashes(), &pcrs);
        let result = |attest: &common::Attest| check(&signer, &asked, &signer.signed_20(attest, &hashes(), &pcrs));
        let changed = |change: &dyn Fn(&mut common::Attest)| {
            let mut attest = honest.clone();
            change(&mut attest);
            result(&attest)
        };
        let malformed = Err(AttestError::Malformed { what: "the TPMS_ATTEST" });
        assert!(result(&honest).is_ok());
        for magic in [0, 0xff54_4346, 0x4743_54ff] {
            assert_eq!(changed(&|attest| attest.magic = magic), Err(AttestError::NotGenerated));
        }
        for kind in [0x8014, 0x8016, 0x8017, 0x8019, 0x801a, 0x801c, 0] {
            assert_eq!(changed(&|attest| attest.kind = kind), Err(AttestError::NotAQuote { found: kind }));
        }
        for extra in [vec![], NONCE.to_vec(), [&honest.extra[..], &[0]].concat(), honest.extra[..19].to_vec()] {
            assert_eq!(changed(&|attest| attest.extra = extra.clone()), Err(AttestError::ExternalData));
        }
        assert_eq!(changed(&|attest| attest.behind = vec![0]), malformed);
        // Selections: a subset, in two halves, twice, none, of another bank, of PCRs that do not exist; a longer bitmap is the same.
        let bitmap = honest.banks[0].1.clone();
        assert_eq!(changed(&|attest| attest.banks[0].1[0] = 1), Err(AttestError::Selection));
        assert_eq!(changed(&|attest| attest.banks.push((4, bitmap.clone()))), malformed);
        assert_eq!(changed(&|attest| attest.banks.insert(0, (0xb, vec![0, 0, 0]))), malformed);
        assert_eq!(changed(&|attest| attest.banks.clear()), malformed);
        assert_eq!(changed(&|attest| attest.banks[0].0 = 4), Err(AttestError::Bank { wanted: Bank::Sha256 }));
        assert_eq!(changed(&|attest| attest.banks[0].0 = 0x27), malformed);
        assert_eq!(changed(&|attest| attest.banks[0].1.push(1)), malformed);
        assert!(changed(&|attest| attest.banks[0].1.push(0)).is_ok());
        for digest in [vec![], vec![0; 32], honest.digest[..31].to_vec(), sha1(&[b""]).to_vec()] {
            assert_eq!(changed(&|attest| attest.digest = digest.clone()), Err(AttestError::PcrValues));
        }
    }
}

#[test]
fn signatures_of_another_scheme() {
    let [_, rsa, ecc] = Signer::all();
    let claims = claims();
    let asked = request(&ecc, &claims);
    let pcrs = values(PCRS, Bank::Sha256);
    let attest = ecc.attest(&asked, &hashes(), &pcrs).to_bytes();
    let with = |signature: Vec<u8>| {
        let evidence =
            tpm_wire::mgr::Evidence::Tpm20 { attest: attest.clone(), signature, hashes: hashes(), pcrs: pcrs.clone() };
        check(&ecc, &asked, &evidence.to_bytes())
    };
    let good = ecc.signature_20(&attest);
    assert!(with(good.clone()).is_ok());
    assert_eq!(with(rsa.signature_20(&attest)), Err(AttestError::Scheme));
    for scheme in [[0, 0x10, 0, 0x0b], [0, 0x18, 0, 4], [0, 0x1a, 0, 0x0b], [0, 5, 0, 0x0b]] {
        assert_eq!(with([&scheme[..], &good[4..]].concat()), Err(AttestError::Scheme));
    }
    let zeros = [&[0, 0x18, 0, 0x0b, 0, 32][..], &[0; 32], &[0, 32], &[0; 32]].concat();
    assert_eq!(with(zeros), Err(AttestError::Signature));
    let what = "the TPMT_SIGNATURE";
    assert_eq!(with([&good[..], &[0]].concat()), Err(AttestError::Malformed { what }));
    assert_eq!(with(vec![]), Err(AttestError::Malformed { what }));
    assert_eq!(with(good[..40].to_vec()), Err(AttestError::Malformed { what }));
    // A TPM 1.2 key and a 2.0 answer, and the other way round.
    let [v12, ..] = Signer::all();
    let answer = ecc.answer(&asked, &hashes(), &pcrs);
    assert!(verify(&v12.key(), &Request { bank: Bank::Sha1, ..asked }, &answer).is_err());
    let answer = v12.answer(&Request { bank: Bank::Sha1, ..asked }, &hashes(), &values(PCRS, Bank::Sha1));
    assert!(verify(&ecc.key(), &Request { bank: Bank::Sha1, ..asked }, &answer).is_err());
}

#[test]
fn keys_that_sign_more_than_quotes_are_refused() {
    let ecc = P256Private::generate(&mut rng());
    let good = ecc_public(&ecc, AK, &[0x18, 0x0b], 3);
    assert!(QuoteKey::parse(&good).is_ok());
    let unfit = |bytes: &[u8]| matches!(QuoteKey::parse(bytes).err(), Some(AttestError::UnfitKey { .. }));
    // Not restricted, not signing, decrypting as well, made elsewhere, free to leave.
    for bit in [16, 18, 17, 5, 4, 1] {
        assert!(unfit(&ecc_public(&ecc, AK ^ 1 << bit, &[0x18, 0x0b], 3)), "bit {bit}");
        assert!(unfit(&rsa_public(&shared_rsa(), AK ^ 1 << bit)), "bit {bit}");
    }
    // No scheme, another, another hash, another curve.
    for (scheme, curve) in [(&[0x10][..], 3), (&[0x1a, 0x0b], 3), (&[0x18, 4], 3), (&[0x18, 0x0b], 4)] {
        assert!(unfit(&ecc_public(&ecc, AK, scheme, curve)), "{scheme:?} {curve}");
    }
    for cut in 0..good.len() {
        assert!(QuoteKey::parse(&good[..cut]).is_err());
    }
    assert!(QuoteKey::parse(&[&good[..], &[0]].concat()).is_err());
    let mut off_the_curve = good.clone();
    *off_the_curve.last_mut().unwrap() ^= 1;
    assert!(unfit(&off_the_curve));
    // TPM 1.2: an endorsement key's schemes, a signing key's, a short key.
    let modulus = common::modulus(&shared_rsa());
    let pubkey = |encryption: u8, signature: u8, bits: u16, modulus: &[u8]| {
        let parameters = [&[0, 0, 0, 12, 0, 0][..], &bits.to_be_bytes(), &[0, 0, 0, 2, 0, 0, 0, 0]].concat();
        let length = (modulus.len() as u32).to_be_bytes();
        [&[0, 0, 0, 1, 0, encryption, 0, signature][..], &parameters, &length, modulus].concat()
    };
    let good = pubkey(1, 2, 2048, &modulus);
    assert_eq!(QuoteKey::parse(&good).ok().unwrap().encoded(), QuoteKey::parse(&modulus).ok().unwrap().encoded());
    for bad in [pubkey(3, 1, 2048, &modulus), pubkey(1, 3, 2048, &modulus), pubkey(1, 2, 1024, &modulus[..128])] {
        assert!(unfit(&bad));
    }
    assert!(QuoteKey::parse(&pubkey(1, 2, 1024, &modulus)).is_err());
    for cut in (0..good.len()).filter(|cut| *cut != 256) {
        assert!(QuoteKey::parse(&good[..cut]).is_err(), "{cut}");
    }
}
