use super::*;
use alloc::string::ToString;
use alloc::vec;

fn pcrs(text: &str) -> PcrSelection {
    PcrSelection::parse(text).unwrap()
}

#[test]
fn selections_are_read_and_shown() {
    for (text, mask, shown) in [
        ("0", 1, "0"),
        ("23", 1 << 23, "23"),
        ("0-7,14", 0x40ff, "0-7,14"),
        ("14,0,1,2", 0x4007, "0-2,14"),
        ("8-8,10,11", 0x0d00, "8,10-11"),
        ("0-23", 0xff_ffff, "0-23"),
    ] {
        let selection = pcrs(text);
        assert_eq!((selection.mask(), selection.to_string().as_str()), (mask, shown));
        assert_eq!(pcrs(shown), selection);
        assert_eq!(PcrSelection::from_bytes(&selection.to_bytes()), Some(selection));
        assert_eq!(selection.iter().count(), selection.len());
    }
    for text in
        ["", ",", "0,", "24", "256", "-1", "1-", "-", "3-1", "0-24", "1,1", "0-3,2", "+1", " 1", "1 ", "0x1", "a"]
    {
        assert_eq!(PcrSelection::parse(text), None, "{text:?}");
    }
    assert_eq!(PcrSelection::NONE.to_string(), "");
}

#[test]
fn selections_on_the_wire_have_no_pcr_above_23() {
    assert_eq!(PcrSelection::from_bytes(&[]), Some(PcrSelection::NONE));
    assert_eq!(PcrSelection::from_bytes(&[1, 0x80]), Some(pcrs("0,15")));
    assert_eq!(PcrSelection::from_bytes(&[0, 0, 0x80, 0, 0, 0]), Some(pcrs("23")));
    for bytes in [&[0, 0, 0, 1][..], &[0, 0, 0, 0, 1], &[0xff; 32]] {
        assert_eq!(PcrSelection::from_bytes(bytes), None);
    }
    assert_eq!(PcrSelection::from_mask(1 << 24), None);
    assert_eq!(PcrSelection::NONE.with(24), PcrSelection::NONE);
    assert!(!pcrs("0-23").contains(24) && !pcrs("0-23").contains(255));
}

fn condition(bank: Bank, list: &str, values: Vec<Digest>) -> PcrCondition {
    let digest = Digest::from_slice(&[values.len() as u8; 32][..if bank == Bank::Sha1 { 20 } else { 32 }]).unwrap();
    PcrCondition { bank, selection: pcrs(list), digest, values }
}

fn value(bank: Bank, byte: u8) -> Digest {
    Digest::from_iter(core::iter::repeat_n(byte, bank.size()))
}

#[test]
fn conditions_read_back_and_odd_ones_are_refused() {
    for bank in [Bank::Sha1, Bank::Sha256, Bank::Sha384] {
        for values in [vec![], vec![value(bank, 1), value(bank, 2), value(bank, 3)]] {
            let condition = condition(bank, "0,4,23", values);
            let mut bytes = vec![];
            condition.put(&mut Writer::new(&mut bytes));
            assert!(bytes.len() <= PcrCondition::MAX_SIZE);
            assert_eq!(PcrCondition::get(&mut Reader::new(&bytes)).as_ref(), Ok(&condition));
            for cut in 0..bytes.len() {
                assert_eq!(PcrCondition::get(&mut Reader::new(&bytes[..cut])), Err(Truncated));
            }
            let count = 7 + condition.digest.len();
            // An unknown bank, a PCR above 23, no PCR, a digest of another length, another number of values.
            for (at, byte) in [(1, 0x0d), (2, 1), (6, 48), (6, 0), (count, 2), (count, 4)] {
                let mut odd = bytes.clone();
                odd[at] = byte;
                odd.resize(PcrCondition::MAX_SIZE, 0);
                assert_eq!(PcrCondition::get(&mut Reader::new(&odd)), Err(Truncated), "byte {at} = {byte}");
            }
            bytes[2..6].fill(0);
            assert_eq!(PcrCondition::get(&mut Reader::new(&bytes)), Err(Truncated));
        }
    }
}

#[test]
fn differing_pcrs_are_named() {
    let bank = Bank::Sha256;
    let now = condition(bank, "0,4,23", vec![value(bank, 1), value(bank, 2), value(bank, 3)]);
    assert!(now.is_met_by(&now) && now.differing(&now).is_empty());
    let mut other = now.clone();
    other.digest[0] ^= 1;
    other.values[1] = value(bank, 9);
    assert_eq!(other.differing(&now), pcrs("4"));
    other.values[2] = value(bank, 9);
    assert_eq!((other.differing(&now), now.differing(&other)), (pcrs("4,23"), pcrs("4,23")));
    // Only the digest is known, or says something else than the values.
    let bare = PcrCondition { values: vec![], ..other.clone() };
    assert_eq!(bare.differing(&now), pcrs("0,4,23"));
    let odd = PcrCondition { values: now.values.clone(), ..other };
    assert_eq!(odd.differing(&now), pcrs("0,4,23"));
}
