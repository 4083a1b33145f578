//! The verifier of quotes: whatever is sent to it, it proves nothing that was not signed, and nothing that was not asked for.

use crate::input::Input;
use attest::{Bank, Claims, EndorsementKey, QuoteKey, Quoted, Request, Subject, verify};
use tpm_crypto::ecc::P256Private;
use tpm_crypto::{sha1, sha256};

/// The bytes of a structure behind its 16-bit length.
fn sized(bytes: &[u8]) -> Vec<u8> {
    [&(bytes.len() as u16).to_be_bytes()[..], bytes].concat()
}

fn key() -> P256Private {
    P256Private::from_bytes(&[7; 32]).expect("a number that is a key")
}

/// `TPMT_PUBLIC` of the key that signs.
fn public() -> Vec<u8> {
    let (x, y) = key().public().coordinates();
    let head = [0, 0x23, 0, 0x0b, 0, 5, 0, 0x72, 0, 0, 0, 0x10, 0, 0x18, 0, 0x0b, 0, 3, 0, 0x10];
    [&head[..], &sized(&x), &sized(&y)].concat()
}

/// A `TPMS_ATTEST` and its signature, as they stand in an answer.
fn signed(attest: &[u8]) -> Vec<u8> {
    let (r, s) = key().sign(&sha256(&[attest]));
    [sized(attest), sized(&[&[0, 0x18, 0, 0x0b][..], &sized(&r), &sized(&s)].concat())].concat()
}

/// What was asked for, and what an honest chip and manager answer.
struct Honest {
    flags: u32,
    pcrs: u32,
    behind: Vec<u8>,
    /// Before the qualifying data, between it and the selection, behind the selection.
    attest: [Vec<u8>; 4],
}

impl Honest {
    fn new(input: &mut Input<'_>) -> Self {
        let (flags, pcrs) = (u32::from(input.u8() % 16), input.u32() >> 8);
        let hashes: Vec<u8> = (0..flags.count_ones()).flat_map(|n| [n as u8; 20]).collect();
        let values: Vec<u8> = (0..pcrs.count_ones()).flat_map(|n| [n as u8; 32]).collect();
        let external = sha1(&[&flags.to_be_bytes(), &[9; 20], &hashes]);
        let head = [&[0xff, 0x54, 0x43, 0x47, 0x80, 0x18][..], &sized(&[0; 34])].concat();
        let clock = [&[0; 25][..], &[0, 0, 0, 1]].concat();
        let selection = [&[0, 0x0b, 3][..], &pcrs.to_le_bytes()[..3]].concat();
        let middle = [sized(&external), clock].concat();
        let attest = [head, middle, selection, sized(&sha256(&[&values]))];
        Self { flags, pcrs, behind: [hashes, values].concat(), attest }
    }

    fn verify(&self, answer: &[u8]) -> Option<Quoted> {
        let (claims, bank) = (Claims::default(), Bank::Sha256);
        let subject = Subject::Vtpm;
        let request = Request { subject, data: [9; 20], pcrs: self.pcrs, bank, flags: self.flags, claims: &claims };
        verify(&QuoteKey::parse(&public()).expect("a key for quotes"), &request, answer).ok()
    }

    /// Whatever is proven is what the honest ones said.
    fn check(&self, proven: &Quoted) {
        let values = proven.pcrs.iter().flat_map(|(_, value)| value.clone());
        let said: Vec<u8> = proven.hashes.iter().flat_map(|(_, hash)| *hash).chain(values).collect();
        assert!(said == self.behind, "something else was proven than was signed");
        assert!(proven.pcrs.iter().fold(0, |mask, (index, _)| mask | 1 << index) == self.pcrs);
    }
}

/// Changes some bytes, the length, or nothing; whether it did.
fn spoil(input: &mut Input<'_>, bytes: &mut Vec<u8>) -> bool {
    let before = bytes.clone();
    for _ in 0..input.u8() % 4 {
        let at = input.below(bytes.len().clamp(1, 65536));
        match (input.u8() % 4, bytes.get_mut(at)) {
            (0, Some(byte)) => *byte = input.u8(),
            (1, Some(_)) => drop(bytes.remove(at)),
            (2, Some(_)) => bytes.insert(at, input.u8()),
            (_, _) => bytes.truncate(at),
        }
    }
    *bytes != before
}

/// Offers the input as a key, as an answer that was tampered with, or as a signed structure that is no honest quote.
pub fn run(data: &[u8]) {
    let mut input = Input::new(data);
    match input.u8() % 4 {
        0 => {
            let mut bytes = if input.flag() { public() } else { input.bytes(true).to_vec() };
            spoil(&mut input, &mut bytes);
            if let Ok(key) = QuoteKey::parse(&bytes) {
                assert!(key.encoded() == bytes || bytes.len() == 256, "another form of the same key");
            }
            if let Ok(key) = EndorsementKey::parse(&bytes) {
                assert!(key.encoded() == bytes || bytes.len() == 256, "another form of the same key");
            }
        }
        1 | 2 => {
            let honest = Honest::new(&mut input);
            let mut answer = [signed(&honest.attest.concat()), honest.behind.clone()].concat();
            let spoilt = spoil(&mut input, &mut answer);
            match honest.verify(&answer) {
                Some(proven) => honest.check(&proven),
                None => assert!(spoilt, "an honest quote was refused"),
            }
        }
        _ => {
            // Signed, but with a part that is something else.
            let honest = Honest::new(&mut input);
            let mut attest = honest.attest.clone();
            let part = input.below(attest.len());
            let (mut behind, spoilt) = (honest.behind.clone(), spoil(&mut input, &mut attest[part]));
            let spoilt_behind = input.flag() && spoil(&mut input, &mut behind);
            let proven = honest.verify(&[signed(&attest.concat()), behind].concat());
            // Clock, signer and firmware are the chip's business.
            if let Some(proven) = &proven {
                honest.check(proven);
                assert!(part < 2 || !spoilt, "a selection or digest that was not asked for");
            }
            assert!(proven.is_some() || spoilt || spoilt_behind, "an honest quote was refused");
        }
    }
}
