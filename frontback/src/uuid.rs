//! UUIDs as libxl writes them.

use core::fmt;

/// Not a UUID of the form `xxxxxxxx-xxxx-xxxx-xxxx-xxxxxxxxxxxx`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct MalformedUuid;

impl fmt::Display for MalformedUuid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("not a UUID of the form xxxxxxxx-xxxx-xxxx-xxxx-xxxxxxxxxxxx")
    }
}

impl core::error::Error for MalformedUuid {}

/// Reads the 36-character form; bytes come out in the order of the text.
pub fn parse_uuid(text: &[u8]) -> Result<[u8; 16], MalformedUuid> {
    let text: &[u8; 36] = text.try_into().map_err(|_| MalformedUuid)?;
    let mut uuid = [0; 16];
    let mut digits = 0;
    for (position, byte) in text.iter().enumerate() {
        if matches!(position, 8 | 13 | 18 | 23) {
            if *byte != b'-' {
                return Err(MalformedUuid);
            }
            continue;
        }
        let digit = char::from(*byte).to_digit(16).ok_or(MalformedUuid)? as u8;
        let slot = uuid.get_mut(digits / 2).ok_or(MalformedUuid)?;
        *slot = *slot << 4 | digit;
        digits += 1;
    }
    Ok(uuid)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_come_out_in_the_order_of_the_text() {
        let uuid = parse_uuid(b"00112233-4455-6677-8899-AabBccDDeeff");
        assert_eq!(
            uuid,
            Ok([0, 0x11, 0x22, 0x33, 0x44, 0x55, 0x66, 0x77, 0x88, 0x99, 0xaa, 0xbb, 0xcc, 0xdd, 0xee, 0xff])
        );
    }

    #[test]
    fn anything_else_is_refused() {
        let bad: [&[u8]; 8] = [
            b"",
            b"00112233445566778899aabbccddeeff",
            b"00112233-4455-6677-8899-aabbccddeef",
            b"00112233-4455-6677-8899-aabbccddeeff0",
            b"00112233-4455-6677-8899-aabbccddeefg",
            b"00112233+4455-6677-8899-aabbccddeeff",
            b"-0112233-4455-6677-8899-aabbccddeeff",
            &[0xff; 36],
        ];
        for text in bad {
            assert_eq!(parse_uuid(text), Err(MalformedUuid), "{text:?}");
        }
    }
}
