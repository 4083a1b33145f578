//! The few forms of DER (X.690) that certificates are made of.

/// A value under its tag.
pub fn tagged(tag: u8, content: &[u8]) -> Vec<u8> {
    let mut out = vec![tag];
    let length = content.len();
    if length < 0x80 {
        out.push(length as u8);
    } else {
        let bytes = length.to_be_bytes();
        let used = bytes.iter().skip_while(|byte| **byte == 0).count();
        out.push(0x80 | used as u8);
        out.extend(bytes.iter().skip(bytes.len() - used));
    }
    out.extend_from_slice(content);
    out
}

/// SEQUENCE.
pub fn sequence(parts: &[Vec<u8>]) -> Vec<u8> {
    tagged(0x30, &parts.concat())
}

/// SET of one value, which needs no sorting.
pub fn set(part: &[u8]) -> Vec<u8> {
    tagged(0x31, part)
}

/// A value under the context's own tag `number`.
pub fn explicit(number: u8, content: &[u8]) -> Vec<u8> {
    tagged(0xa0 | number, content)
}

/// INTEGER, from the big-endian bytes of a number that is not negative.
pub fn integer(bytes: &[u8]) -> Vec<u8> {
    let zeros = bytes.iter().take_while(|byte| **byte == 0).count();
    let bytes = bytes.get(zeros..).unwrap_or_default();
    let sign = if bytes.first().is_none_or(|byte| byte & 0x80 != 0) { &[0][..] } else { &[] };
    tagged(2, &[sign, bytes].concat())
}

/// BIT STRING that ends with `unused` bits that do not count.
pub fn bits(bytes: &[u8], unused: u8) -> Vec<u8> {
    tagged(3, &[&[unused], bytes].concat())
}

/// OCTET STRING.
pub fn octets(bytes: &[u8]) -> Vec<u8> {
    tagged(4, bytes)
}

/// NULL.
pub fn null() -> Vec<u8> {
    tagged(5, &[])
}

/// BOOLEAN.
pub fn boolean(value: bool) -> Vec<u8> {
    tagged(1, &[if value { 0xff } else { 0 }])
}

/// OBJECT IDENTIFIER.
pub fn oid(arcs: &[u32]) -> Vec<u8> {
    let mut content = Vec::new();
    if let [first, second, rest @ ..] = arcs {
        for arc in [&[first * 40 + second][..], rest].concat() {
            for at in (0..5).rev() {
                if at == 0 || arc >> (7 * at) != 0 {
                    content.push((arc >> (7 * at)) as u8 & 0x7f | if at > 0 { 0x80 } else { 0 });
                }
            }
        }
    }
    tagged(6, &content)
}

/// UTF8String.
pub fn text(value: &str) -> Vec<u8> {
    tagged(12, value.as_bytes())
}

/// A time, in seconds since 1970, in the form that X.509 wants for its year.
pub fn time(seconds: u64) -> Vec<u8> {
    let (days, rest) = (seconds / 86_400, seconds % 86_400);
    let (year, month, day) = date(days);
    let clock = format!("{month:02}{day:02}{:02}{:02}{:02}Z", rest / 3600, rest / 60 % 60, rest % 60);
    if (1950..2050).contains(&year) {
        tagged(23, format!("{:02}{clock}", year % 100).as_bytes())
    } else {
        tagged(24, format!("{year:04}{clock}").as_bytes())
    }
}

/// The time that stands for "never" (RFC 5280, section 4.1.2.5).
pub fn never() -> Vec<u8> {
    tagged(24, b"99991231235959Z")
}

/// Year, month and day of a day since 1970-01-01.
fn date(days: u64) -> (u64, u64, u64) {
    let leap = |year: u64| year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400));
    let (mut year, mut left) = (1970, days);
    loop {
        let length = if leap(year) { 366 } else { 365 };
        if left < length {
            break;
        }
        left -= length;
        year += 1;
    }
    let february = if leap(year) { 29 } else { 28 };
    for (month, length) in (1..).zip([31, february, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31]) {
        if left < length {
            return (year, month, left + 1);
        }
        left -= length;
    }
    (year, 12, 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forms_as_others_write_them() {
        assert_eq!(oid(&[1, 2, 840, 113_549, 1, 1, 1]), [6, 9, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 1, 1]);
        assert_eq!(oid(&[2, 5, 29, 17]), [6, 3, 0x55, 0x1d, 0x11]);
        assert_eq!(integer(&[0, 0]), [2, 1, 0]);
        assert_eq!(integer(&[0, 0x80]), [2, 2, 0, 0x80]);
        assert_eq!(integer(&[1, 0, 1]), [2, 3, 1, 0, 1]);
        assert_eq!(tagged(4, &[7; 200])[..4], [4, 0x81, 200, 7]);
        assert_eq!(tagged(4, &[7; 300])[..5], [4, 0x82, 1, 44, 7]);
        assert_eq!(time(951_782_400), [&[23, 13][..], b"000229000000Z"].concat());
        assert_eq!(time(2_524_608_000), [&[24, 15][..], b"20500101000000Z"].concat());
        assert_eq!(time(1_732_233_599), [&[23, 13][..], b"241121235959Z"].concat());
    }
}
