//! The form of every TPM 1.2 command (TPM Main 1.2, part 3), so that a random one is understood beyond its first field.

use super::client::{AUTH, Client, sized};
use crate::input::Input;

/// Ordinal, key handles, other handles, authorizations, parameters: one letter each, see [`field`].
pub type Row = (u32, u8, u8, usize, &'static str);

/// The commands.
#[rustfmt::skip]
pub const ROWS: &[Row] = &[
    (0x0c, 1, 0, 2, "qeyX"), (0x0d, 0, 0, 1, "wSSK"), (0x0e, 1, 0, 1, "np"), (0x0f, 1, 1, 1, "wnSX"), (0x10, 0, 0, 1, "qey"),
    (0x11, 0, 0, 0, "sHnX"), (0x12, 0, 0, 1, "unS"), (0x13, 1, 0, 1, "eKnn"), (0x14, 0, 0, 0, "in"), (0x15, 0, 0, 0, "i"),
    (0x16, 1, 0, 1, "nP"), (0x17, 1, 0, 1, "eIS"), (0x18, 1, 0, 2, "x"), (0x19, 0, 0, 1, "cn"), (0x1a, 0, 0, 0, "c"),
    (0x1b, 1, 0, 1, "wxnXSSSX"), (0x1c, 0, 0, 1, "d"), (0x1d, 0, 0, 1, "n"), (0x1e, 1, 0, 1, "X"), (0x1f, 1, 0, 1, "eeK"),
    (0x20, 1, 0, 1, "x"), (0x21, 1, 0, 1, ""), (0x22, 1, 0, 0, ""), (0x23, 1, 0, 1, "urb"), (0x24, 1, 0, 1, "nnnxXS"),
    (0x25, 1, 0, 1, "uX"), (0x28, 1, 0, 2, "wxX"), (0x29, 0, 1, 1, "bSS"), (0x2a, 1, 0, 1, "XS"), (0x2b, 0, 0, 1, "wu"),
    (0x2c, 0, 0, 1, "b"), (0x2d, 0, 0, 1, "XXS"), (0x2e, 0, 0, 1, ""), (0x2f, 0, 0, 0, "nu"), (0x30, 0, 0, 0, "n"),
    (0x31, 0, 1, 1, "bSS"), (0x32, 2, 0, 2, "n"), (0x33, 2, 0, 2, "nn"), (0x3c, 1, 0, 1, "S"), (0x3d, 1, 0, 1, "eIS"),
    (0x3e, 1, 0, 1, "nPb"), (0x3f, 0, 0, 1, "gQF"), (0x40, 0, 0, 1, ""), (0x41, 1, 0, 1, "x"), (0x46, 0, 0, 0, "c"),
    (0x47, 0, 0, 0, "S"), (0x50, 0, 0, 0, ""), (0x53, 0, 0, 0, ""), (0x54, 0, 0, 0, ""), (0x5a, 0, 0, 0, ""),
    (0x5b, 0, 0, 1, ""), (0x5c, 0, 0, 1, ""), (0x5d, 0, 0, 0, ""), (0x5e, 0, 0, 0, ""), (0x65, 0, 0, 0, "gQ"),
    (0x66, 0, 0, 1, ""), (0x6e, 0, 0, 1, "b"), (0x6f, 0, 0, 0, ""), (0x70, 0, 0, 0, ""), (0x71, 0, 0, 0, "b"),
    (0x72, 0, 0, 0, "b"), (0x73, 0, 0, 1, ""), (0x74, 0, 0, 0, "a"), (0x75, 0, 0, 0, "wc"), (0x78, 0, 0, 0, "np"),
    (0x79, 0, 0, 2, "enK"), (0x7a, 1, 0, 2, "X"), (0x7c, 0, 0, 0, "n"), (0x7d, 0, 0, 1, ""), (0x7e, 0, 0, 1, ""),
    (0x7f, 0, 0, 0, "npbn"), (0x80, 0, 0, 0, "n"), (0x81, 0, 0, 1, "H"), (0x85, 0, 0, 0, "c"), (0x86, 1, 0, 1, "bn"),
    (0x8d, 0, 0, 1, "gb"), (0x96, 0, 1, 0, ""), (0x97, 0, 0, 0, ""), (0x98, 0, 0, 0, ""), (0x99, 0, 0, 0, "w"),
    (0x9a, 1, 0, 1, "cd"), (0xa0, 0, 0, 0, ""), (0xa1, 0, 0, 0, "Z"), (0xa2, 0, 0, 0, "S"), (0xa3, 0, 0, 0, "iS"),
    (0xaa, 0, 0, 1, "S"), (0xb4, 1, 0, 0, ""), (0xb5, 0, 0, 0, "X"), (0xb6, 0, 1, 0, ""), (0xb7, 0, 0, 0, "X"),
    (0xb8, 0, 1, 0, "rm"), (0xb9, 0, 1, 0, "bX"), (0xba, 0, 1, 0, "r"), (0xc8, 0, 0, 0, "P"), (0xcc, 0, 0, 1, "Ne"),
    (0xcd, 0, 0, 1, "vcS"), (0xce, 0, 0, 1, "vcS"), (0xcf, 0, 0, 1, "vcc"), (0xd0, 0, 0, 1, "vcc"), (0xd1, 0, 0, 1, "X"),
    (0xd2, 0, 0, 1, "rrF"), (0xd4, 1, 0, 1, "De"), (0xd5, 0, 0, 1, "bDe"), (0xd6, 0, 0, 0, "X"), (0xd8, 0, 0, 1, "cX"),
    (0xdb, 0, 0, 0, ""), (0xdc, 0, 0, 1, "el"), (0xdd, 0, 0, 1, "H"), (0xde, 0, 0, 0, "H"), (0xdf, 0, 0, 1, "H"),
    (0xe0, 0, 0, 1, "H"), (0xe6, 1, 0, 1, "TA"), (0xe6, 0, 0, 0, "tTB"), (0xe8, 1, 0, 2, "n"), (0xf1, 0, 0, 0, ""),
    (0xf2, 1, 0, 1, "nn"), (0x2000_0016, 0, 0, 1, "nPPg"), (0x2000_007c, 0, 0, 1, "nP"), (0x4000_000a, 0, 0, 0, "f"),
    (0x4000_000b, 0, 0, 0, ""),
];

/// Commands whose output is the input of others, or that others must follow at once.
pub const FOLLOWING: &[(u32, &[u32])] = &[
    (0x0e, &[0x0f]),
    (0x17, &[0x18, 0x0c]),
    (0x1f, &[0x41, 0x20, 0x0c]),
    (0x28, &[0x2a, 0x25]),
    (0x2b, &[0x28]),
    (0x2c, &[0x2d]),
    (0x3d, &[0x18]),
    (0x79, &[0x41]),
    (0xa0, &[0xa1, 0xa2, 0xa3]),
    (0xa1, &[0xa1, 0xa2, 0xa3]),
    (0xb4, &[0xb5]),
    (0xb6, &[0xb7]),
    (0xb8, &[0xb9]),
    (0xcc, &[0xce, 0xd0]),
    (0xd2, &[0xd4, 0xd5]),
    (0xd4, &[0xd6, 0x11]),
    (0xd5, &[0xd6, 0xd8, 0x11]),
];

/// A field of a command, for the session that `encrypt` belongs to.
pub fn field(letter: char, input: &mut Input<'_>, client: &Client, encrypt: impl Fn(bool) -> [u8; 20]) -> Vec<u8> {
    match letter {
        'b' => vec![input.u8() % 4],
        'w' => u16::from(input.choose(&[5u8, 4, 3, 1, 2, 0, 6, 8, 10, 11])).to_be_bytes().to_vec(),
        'q' => vec![0, input.choose(&[4, 4, 4, 3, 5])],
        'y' => vec![0, input.choose(&[5, 3, 2, 4, 1])],
        's' => vec![input.choose(&[0, 0, 6]), input.choose(&[7, 8, 9, 1])],
        'i' => u32::from(input.u8() % 26).to_be_bytes().to_vec(),
        'g' => u32::from(input.u8() % 28).to_be_bytes().to_vec(),
        'r' => u32::from(1 + input.u8() % 7).to_be_bytes().to_vec(),
        't' => 0x4000_0003u32.to_be_bytes().to_vec(),
        'f' => (1u16 << (input.u8() % 10)).to_be_bytes().to_vec(),
        'c' => input.near(20).to_be_bytes().to_vec(),
        'd' => input.u32().to_be_bytes().to_vec(),
        'l' => input.array::<4>().to_vec(),
        'm' => input.array::<16>().to_vec(),
        'n' => [input.u8(); 20].to_vec(),
        'a' => AUTH.to_vec(),
        'e' => encrypt(input.flag()).to_vec(),
        'H' => client.handle(input).to_be_bytes().to_vec(),
        'v' => nv_index(input).to_be_bytes().to_vec(),
        'x' => blob(input, client),
        'X' => sized(&blob(input, client)),
        'u' => input.choose(&client.public_keys),
        'S' => sized(input.bytes(false)),
        'Z' => sized(&vec![input.u8(); 64 * usize::from(input.u8() % 4)]),
        'Q' => sized(&input.near(0x120).to_be_bytes()),
        'F' => sized(&[input.u8() & 1][..usize::from(input.u8() < 200)]),
        'A' => sized(&client.transport_secret),
        'B' => sized(&AUTH),
        'P' => selection(input),
        'I' => sized(&pcr_info(input)),
        'K' => [&template(input)[..], &sized(&pcr_info(input)), &[0; 8]].concat(),
        'p' => parms(input),
        'N' => nv_public(input),
        'D' => delegate_public(input),
        'T' => {
            [&[0, 0x1e, 0, 0, 0, input.u8() % 8, 0, 0, 0][..], &[input.choose(&[1, 6, 7]), 0, input.u8() % 4]].concat()
        }
        other => unreachable!("field {other}"),
    }
}

fn nv_index(input: &mut Input<'_>) -> u32 {
    input.choose(&[0x1000, 0x1000, 0x1001, 0, u32::MAX, 0x1000_0001, 0xf004, 0x0001_1001, 0x1000_1000])
}

/// Something that the TPM made, mostly as it was.
fn blob(input: &mut Input<'_>, client: &Client) -> Vec<u8> {
    let newest = client.blobs.last().filter(|_| client.follows).cloned();
    let mut blob = newest.unwrap_or_else(|| input.choose(&client.blobs));
    match input.u8() {
        0..128 => {}
        128..208 => drop(blob.drain(..blob.len().min(4))),
        208..232 => blob.truncate(input.u8().into()),
        _ => {
            let at = input.below(blob.len().max(1));
            blob.iter_mut().skip(at).take(1).for_each(|byte| *byte = input.u8());
        }
    }
    blob
}

fn selection(input: &mut Input<'_>) -> Vec<u8> {
    let size = input.choose(&[3u8, 3, 3, 2, 0, 1, 4]);
    // PCRs 16 and 23 may be reset by everybody.
    let bits = input.choose(&[[0, 0, 1, 0], [0, 0, 0x80, 0], [0xff; 4], input.clone().array()]);
    [&[0, size][..], &bits[..size.into()]].concat()
}

fn pcr_info(input: &mut Input<'_>) -> Vec<u8> {
    let digest = if input.flag() { [0; 20] } else { input.array() };
    match input.u8() % 4 {
        0 => [selection(input), digest.to_vec(), [0; 20].to_vec()].concat(),
        1 => {
            let localities = [0, 6, input.u8() | 1, input.u8() | 1];
            [&localities[..], &selection(input), &selection(input), &[0; 20], &digest].concat()
        }
        _ => Vec::new(),
    }
}

fn parms(input: &mut Input<'_>) -> Vec<u8> {
    let bits: u32 = input.choose(&[512, 512, 512, 768, 1024, 2048, 0, 513]);
    let [enc, sig] = [input.u8() % 5, input.u8() % 5];
    let (primes, exponent) = (input.choose(&[2u32, 2, 2, 3]), input.choose(&[&[][..], &[], &[1, 0, 1], &[3]]));
    let rsa = [&bits.to_be_bytes()[..], &primes.to_be_bytes(), &sized(exponent)].concat();
    [&[0, 0, 0, input.choose(&[1, 1, 1, 6]), 0, enc, 0, sig][..], &sized(&rsa)].concat()
}

fn template(input: &mut Input<'_>) -> Vec<u8> {
    let version = input.choose(&[[1, 1, 0, 0], [0, 0x28, 0, 0], [1, 2, 0, 0]]);
    let usage = input.choose(&[0x10u8, 0x11, 0x12, 0x13, 0x14, 0x15, 0x16]);
    [&version[..], &[0, usage, 0, 0, 0, input.u8() % 32, input.choose(&[1, 0, 3, 17])], &parms(input)].concat()
}

fn short_info(input: &mut Input<'_>) -> Vec<u8> {
    [&selection(input)[..], &[input.u8() % 32], &[0; 20]].concat()
}

fn nv_public(input: &mut Input<'_>) -> Vec<u8> {
    let index = nv_index(input).to_be_bytes();
    let (read, write) = (short_info(input), short_info(input));
    let bits =
        input.choose(&[0x0002_0002u32, 0x0004_0004, 1, 0x8000_e007]) ^ u32::from(input.rarely(4)) << (input.u8() % 32);
    let size = if input.flag() { input.near(2048) } else { 20 };
    let end = [&[0, 0x17][..], &bits.to_be_bytes(), &[0, 0, 0], &size.to_be_bytes()].concat();
    [&[0, 0x18][..], &index, &read, &write, &end].concat()
}

fn delegate_public(input: &mut Input<'_>) -> Vec<u8> {
    let kind = [0, 0x1a, 0, 0, 0, 1 + input.u8() % 2];
    let numbers = [[input.u8(); 4], [0; 4], [0, 0, 0, input.u8() % 4], [0, 0, 0, input.u8() % 4]].concat();
    [&[0, 0x1b, input.u8()][..], &short_info(input), &kind, &numbers].concat()
}
