//! `--key` and `--migration-key`: key material from a file or a descriptor.
//!
//! The forms and derivations are swtpm's. What is done with the bytes is not: state at rest is the vault's (AES-256-GCM-SIV),
//! and blobs are sealed in the same way, whichever mode is named; the mode says how long the key is.

use super::pairs::Pairs;
use crate::process::adopt;
use anyhow::{Context, Result, bail, ensure};
use std::fs::File;
use std::io::Read;
use std::path::Path;
use tpm_crypto::{hkdf_sha256, pbkdf2_sha512, sha512};
use vault::VaultKey;
use zeroize::Zeroizing;

/// swtpm's salt and number of rounds.
const SALT: &[u8] = b"swtpm";
const ROUNDS: u32 = 1000;
/// Bytes of a passphrase that count, as in swtpm.
const PASSPHRASE: u64 = 32;
/// A file that is longer than this is no key.
const LONGEST: u64 = 4096;

/// Reads the key that `text` tells of.
pub fn read(text: &str) -> Result<Zeroizing<Vec<u8>>> {
    let known = &["file", "fd", "pwdfile", "pwdfd", "mode", "format", "kdf"];
    let pairs = Pairs::parse(text, known, &["remove"])?;
    let sources: Vec<&str> = ["file", "fd", "pwdfile", "pwdfd"].into_iter().filter(|key| pairs.has(key)).collect();
    let [source] = sources[..] else { bail!("exactly one of file=, fd=, pwdfile= and pwdfd= is needed") };
    let size = match pairs.get("mode") {
        None | Some("aes-cbc" | "aes-128-cbc") => 16,
        Some("aes-256-cbc") => 32,
        Some(other) => bail!("mode={other}: possible are aes-cbc, aes-128-cbc and aes-256-cbc"),
    };
    let is_passphrase = source.starts_with("pwd");
    let misplaced = if is_passphrase { "format" } else { "kdf" };
    ensure!(!pairs.has(misplaced), "{misplaced}= has no meaning with {source}=");
    let path = pairs.get(source).filter(|_| source.ends_with("file")).map(Path::new);
    let file = match path {
        Some(path) => File::open(path).with_context(|| format!("cannot open the key file {}", path.display()))?,
        None => File::from(adopt(pairs.number(source)?.context("a descriptor is missing")?)?),
    };
    let mut bytes = Zeroizing::new(Vec::new());
    file.take(LONGEST + 1).read_to_end(&mut bytes).context("cannot read the key")?;
    ensure!(bytes.len() as u64 <= LONGEST, "the key file has more than {LONGEST} bytes: it is no key");
    let key = match (is_passphrase, pairs.get("format").or(pairs.get("kdf"))) {
        (true, None | Some("pbkdf2")) => {
            let mut key = Zeroizing::new(vec![0; size]);
            pbkdf2_sha512(passphrase(&bytes)?, SALT, ROUNDS, &mut key);
            key
        }
        (true, Some("sha512")) => {
            let hash = Zeroizing::new(sha512(passphrase(&bytes)?));
            Zeroizing::new(hash.get(..size).unwrap_or_default().to_vec())
        }
        (true, Some(other)) => bail!("kdf={other}: possible are sha512 and pbkdf2"),
        (false, None | Some("hex")) => hex(&bytes)?,
        (false, Some("binary")) => bytes,
        (false, Some(other)) => bail!("format={other}: possible are hex and binary"),
    };
    ensure!(
        key.len() == size,
        "the key has {} bytes, and the mode needs {size}: choose mode=aes-cbc for 16 or mode=aes-256-cbc for 32",
        key.len()
    );
    if let Some(path) = path.filter(|_| pairs.is_on("remove").unwrap_or(false)) {
        std::fs::remove_file(path).with_context(|| format!("cannot remove the key file {}", path.display()))?;
    }
    pairs.is_on("remove")?;
    Ok(key)
}

/// The vault's key that comes of `--key`.
pub fn vault_key(key: &[u8]) -> VaultKey {
    let mut out = Zeroizing::new([0; 32]);
    hkdf_sha256(key, b"vtpm-host", b"vault", &mut out[..]);
    VaultKey::from_bytes(&out)
}

fn passphrase(bytes: &[u8]) -> Result<&[u8]> {
    ensure!(!bytes.is_empty(), "the passphrase is empty");
    Ok(bytes.get(..PASSPHRASE as usize).unwrap_or(bytes))
}

/// Hexadecimal digits with an optional 0x before and white space after them.
fn hex(text: &[u8]) -> Result<Zeroizing<Vec<u8>>> {
    let text = text.trim_ascii_end();
    let text = text.strip_prefix(b"0x").unwrap_or(text);
    let digit = |byte: u8| char::from(byte).to_digit(16).map(|digit| digit as u8);
    let (pairs, rest) = text.as_chunks::<2>();
    let bytes: Option<Vec<u8>> = pairs.iter().map(|[high, low]| Some(digit(*high)? << 4 | digit(*low)?)).collect();
    match bytes {
        Some(bytes) if rest.is_empty() => Ok(Zeroizing::new(bytes)),
        _ => bail!("the key is not an even number of hexadecimal digits; for raw bytes say format=binary"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(content: &[u8], options: &str) -> Result<Vec<u8>> {
        let path = std::env::temp_dir().join(format!(
            "vtpm-host-key-{}-{:?}",
            std::process::id(),
            std::thread::current().id()
        ));
        std::fs::write(&path, content).unwrap();
        let source = if options.contains("kdf") || options.contains("pass") { "pwdfile" } else { "file" };
        let outcome = read(&format!("{source}={}{}", path.display(), options.replace(",pass", "")));
        let _ = std::fs::remove_file(&path);
        outcome.map(|key| key.to_vec())
    }

    #[test]
    fn keys_come_in_all_their_forms() {
        let digits = "00112233445566778899aabbccddeeff";
        let bytes: Vec<u8> = (0..16).map(|i| i * 0x11).collect();
        assert_eq!(key(digits.as_bytes(), "").unwrap(), bytes);
        assert_eq!(key(format!("0x{digits}\n").as_bytes(), ",format=hex,mode=aes-128-cbc").unwrap(), bytes);
        assert_eq!(key(&bytes, ",format=binary,mode=aes-cbc").unwrap(), bytes);
        assert_eq!(key(&[7; 32], ",format=binary,mode=aes-256-cbc").unwrap(), [7; 32]);
        assert_eq!(key(b"abc", ",kdf=sha512").unwrap(), sha512(b"abc")[..16]);
        assert_eq!(key(b"abc", ",pass").unwrap(), key(b"abc", ",kdf=pbkdf2").unwrap());
        assert_ne!(key(b"abc", ",pass").unwrap(), key(b"abd", ",pass").unwrap());
        assert_eq!(key(b"abc", ",kdf=sha512,mode=aes-256-cbc").unwrap().len(), 32);
        for (content, options) in [
            (&b""[..], ""),
            (b"", ",pass"),
            (b"0011", ""),
            (b"0x0", ""),
            (b"zz112233445566778899aabbccddeeff", ""),
            (&[7; 16], ",format=binary,mode=aes-256-cbc"),
            (&[7; 17], ",format=binary"),
            (&[b'0'; 5000], ""),
            (b"abc", ",kdf=md5"),
            (b"abc", ",kdf=sha512,format=hex"),
            (b"00", ",format=base64"),
            (b"00", ",mode=aes-ctr"),
        ] {
            assert!(key(content, options).is_err(), "{options}");
        }
        for bad in ["", "file=/nonexistent", "file=/a,fd=3", "mode=aes-cbc", "fd=-1", "fd=x"] {
            assert!(read(bad).is_err(), "{bad}");
        }
    }
}
