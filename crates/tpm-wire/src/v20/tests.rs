use super::*;
use crate::{Reader, Truncated, Writer};
use alloc::string::ToString;
use alloc::vec::Vec;

#[test]
fn response_codes_are_taken_apart() {
    // TPM_RC_VALUE for parameter 1, TPM_RC_HANDLE for handle 2, TPM_RC_AUTH_FAIL for session 1 (part 2, section 6.6.2).
    let examples = [
        (0x1c4, rc::VALUE, Some(rc::Blamed::Parameter(1)), "TPM_RC_VALUE for parameter 1"),
        (0x28b, rc::HANDLE, Some(rc::Blamed::Handle(2)), "TPM_RC_HANDLE for handle 2"),
        (0x98e, rc::AUTH_FAIL, Some(rc::Blamed::Session(1)), "TPM_RC_AUTH_FAIL for session 1"),
        (0x9a2, rc::BAD_AUTH, Some(rc::Blamed::Session(1)), "TPM_RC_BAD_AUTH for session 1"),
        (0xfc4, rc::VALUE, Some(rc::Blamed::Parameter(15)), "TPM_RC_VALUE for parameter 15"),
        (0x084, rc::VALUE, None, "TPM_RC_VALUE"),
        (0x100, rc::INITIALIZE, None, "TPM_RC_INITIALIZE"),
        (0x922, rc::RETRY, None, "TPM_RC_RETRY"),
        (0x918, rc::REFERENCE_S0, None, "TPM_RC_REFERENCE_S0"),
        (0, 0, None, "TPM_RC_SUCCESS"),
        (0x1e, 0x1e, None, "TPM_RC_BAD_TAG"),
        // A resource manager's layer number in the upper bits: not the chip's code.
        (0xb_01c4, 0xb_01c4, None, "an error"),
    ];
    for (code, kind, blamed, text) in examples {
        assert_eq!((rc::kind(code), rc::blamed(code)), (kind, blamed), "{code:#x}");
        assert_eq!(rc::Described(code).to_string(), text);
    }
    let busy: Vec<u32> = (0..0x1000).filter(|code| rc::is_busy(*code)).collect();
    assert_eq!(busy, [0x908, 0x909, 0x90a, 0x920, 0x922, 0x923]);
}

fn ecc<'a>(x: &'a [u8], y: &'a [u8]) -> Public<'a> {
    let parms = EccParms { symmetric: Symmetric::AES_128_CFB, scheme: Scheme::Null, curve: curve::NIST_P256 };
    Public { name_alg: alg::SHA256, attributes: 0x30472, policy: &[], unique: Unique::Ecc(parms, x, y) }
}

#[test]
fn public_areas_read_back_and_cut_ones_do_not() {
    let signing = Scheme::Hash { scheme: alg::RSASSA, hash: alg::SHA256 };
    let rsa = RsaParms { symmetric: Symmetric::Null, scheme: signing, bits: 2048, exponent: 0 };
    let areas = [
        ecc(&[1; 32], &[2; 32]),
        Public { unique: Unique::Rsa(rsa, &[3; 256]), policy: &[4; 32], ..ecc(&[], &[]) },
        Public { unique: Unique::Data(&[5; 32]), ..ecc(&[], &[]) },
    ];
    for area in areas {
        let mut bytes = Vec::new();
        area.put(&mut Writer::new(&mut bytes));
        assert_eq!(Public::parse(&bytes), Ok(area));
        for cut in 0..bytes.len() {
            assert_eq!(Public::parse(&bytes[..cut]), Err(Truncated));
        }
        bytes.push(0);
        assert_eq!(Public::parse(&bytes), Err(Truncated));
    }
    // The storage root key template of the Provisioning Guidance, byte for byte.
    let mut bytes = Vec::new();
    ecc(&[], &[]).put(&mut Writer::new(&mut bytes));
    assert_eq!(bytes, *b"\0\x23\0\x0b\0\x03\x04\x72\0\0\0\x06\0\x80\0\x43\0\x10\0\x03\0\x10\0\0\0\0");
}

#[test]
fn selections_of_pcrs() {
    let mut bytes = Vec::new();
    PcrBank { hash: alg::SHA256, mask: 0x80_0001 }.put_list(&mut Writer::new(&mut bytes));
    assert_eq!(bytes, [0, 0, 0, 1, 0, 0x0b, 3, 1, 0, 0x80]);
    let read = |bytes: &[u8]| {
        let mut all = Vec::new();
        PcrBank::list(&mut Reader::new(bytes), |bank| all.push((bank.hash, bank.mask))).map(|()| all)
    };
    assert_eq!(read(&bytes), Ok([(0x0b, 0x80_0001)].to_vec()));
    assert_eq!(read(&[0, 0, 0, 2, 0, 4, 0, 0, 0x0b, 5, 1, 2, 3, 4, 0]), Ok([(4, 0), (0x0b, 0x0403_0201)].to_vec()));
    assert_eq!(read(&[0, 0, 0, 1, 0, 4, 5, 0, 0, 0, 0, 1]), Err(Truncated), "PCR 32");
    assert_eq!(read(&[0xff; 40]), Err(Truncated));
}

#[test]
fn attestations_and_signatures() {
    let mut bytes = Vec::new();
    let mut w = Writer::new(&mut bytes);
    w.u32(ATTEST_MAGIC).u16(ST_ATTEST_QUOTE).sized16(b"signer").sized16(b"nonce");
    w.u64(1000).u32(7).u32(3).u8(1).u64(0x1234);
    PcrBank { hash: alg::SHA256, mask: 5 }.put_list(&mut w);
    w.sized16(&[9; 32]);
    let attest = Attest::parse(&bytes).unwrap();
    assert_eq!((attest.signer, attest.extra_data, attest.firmware), (&b"signer"[..], &b"nonce"[..], 0x1234));
    assert_eq!(attest.clock, ClockInfo { clock: 1000, reset_count: 7, restart_count: 3, safe: true });
    assert_eq!(attest.attested, Attested::Quote { pcrs: PcrBank { hash: 11, mask: 5 }, digest: &[9; 32] });
    for cut in 0..bytes.len() {
        assert_eq!(Attest::parse(&bytes[..cut]), Err(Truncated));
    }
    let mut other = bytes.clone();
    other[3] ^= 1;
    assert_eq!(Attest::parse(&other), Err(Truncated), "not made by a TPM");
    other = bytes.clone();
    other[5] = 0x14;
    assert_eq!(Attest::parse(&other), Err(Truncated), "another kind");

    let mut bytes = Vec::new();
    Writer::new(&mut bytes).u16(alg::ECDSA).u16(alg::SHA256).sized16(&[1; 32]).sized16(&[2; 31]);
    assert_eq!(Signature::parse(&bytes), Ok(Signature::Ecdsa { hash: 11, r: &[1; 32], s: &[2; 31] }));
    bytes.push(0);
    assert_eq!(Signature::parse(&bytes), Err(Truncated));
    bytes[1] = 0x1a;
    assert_eq!(Signature::parse(&bytes), Err(Truncated));
}
