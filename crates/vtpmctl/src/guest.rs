//! The half that runs in a guest: authorized commands of a TPM 1.2 owner (TPM Main 1.2, part 1, section 13; part 3).

use crate::error::Error;
use crate::files::{OwnPcrs, Statement};
use crate::link::Link;
use crate::values::exactly;
use attest::pcr_indices;
use std::path::Path;
use tpm_crypto::{Drbg, ct_eq, hmac_sha1, sha1};
use tpm_wire::v12::{TAG_RQU_AUTH1_COMMAND, TAG_RQU_COMMAND};
use tpm_wire::{HEADER_SIZE, Reader, ResponseHeader, Writer};
use zeroize::Zeroizing;

const ORD_OIAP: u32 = 0x0a;
const ORD_PCR_READ: u32 = 0x15;
const ORD_OWNER_READ_INTERNAL_PUB: u32 = 0x81;
/// Xen's own.
const ORD_DEEP_QUOTE: u32 = 0x2000_0016;
const ORD_PARENT_SIGN_EK: u32 = 0x2000_007c;
/// `TPM_KH_EK`.
const KH_EK: u32 = 0x4000_0006;

/// An owner's secret, wiped when dropped.
pub type OwnerAuth = Zeroizing<[u8; 20]>;

/// Reads `well-known`, `hash:`, `text:` or `file:`.
pub fn owner_auth(text: &str) -> Result<OwnerAuth, Error> {
    let bad =
        || Error::Input("--owner-auth: well-known, hash:<40 digits>, text:<password> or file:<path> is wanted".into());
    if text == "well-known" {
        return Ok(Zeroizing::new([0; 20]));
    }
    match text.split_once(':') {
        Some(("hash", digits)) => exactly(digits).map(Zeroizing::new).map_err(|_| bad()),
        Some(("text", password)) if !password.is_empty() => Ok(Zeroizing::new(sha1(&[password.as_bytes()]))),
        Some(("file", path)) => {
            let bytes = crate::files::read(Path::new(path))?;
            let inner = std::str::from_utf8(&bytes).map_err(|_| bad())?.trim_end_matches(['\r', '\n']);
            if inner.starts_with("file:") { Err(bad()) } else { owner_auth(inner) }
        }
        _ => Err(bad()),
    }
}

/// What a guest asks the chip for.
pub struct Ask {
    /// The nonce.
    pub nonce: [u8; 20],
    /// The chip's PCRs.
    pub pcrs: u32,
    /// The flags.
    pub flags: u32,
}

/// A guest's vTPM.
pub struct VirtualTpm {
    link: Link,
    owner: OwnerAuth,
    rng: Drbg,
}

impl VirtualTpm {
    /// The TPM behind `link`, and its owner's secret.
    pub fn new(link: Link, owner: OwnerAuth, rng: Drbg) -> Self {
        Self { link, owner, rng }
    }

    /// Proves the vTPM's PCRs `own`.
    pub fn deep_quote(&mut self, ask: &Ask, own: u32) -> Result<Statement<OwnPcrs>, Error> {
        let mut parameters = ask.nonce.to_vec();
        selection(&mut parameters, own);
        selection(&mut parameters, ask.pcrs);
        parameters.extend(ask.flags.to_be_bytes());
        let before = self.read_pcrs(own)?;
        let answer = self.authorized("TPM_DeepQuote", ORD_DEEP_QUOTE, &parameters)?;
        if self.read_pcrs(own)? != before {
            return Err(Error::Unreachable("the vTPM's PCRs changed meanwhile: try again".into()));
        }
        let Ask { nonce, pcrs, flags } = *ask;
        Ok(Statement { of: before, nonce, pcrs, flags, answer })
    }

    /// Proves the vTPM's endorsement key.
    pub fn endorsement(&mut self, ask: &Ask) -> Result<Statement<Vec<u8>>, Error> {
        let key = self.authorized("TPM_OwnerReadInternalPub", ORD_OWNER_READ_INTERNAL_PUB, &KH_EK.to_be_bytes())?;
        let mut parameters = ask.nonce.to_vec();
        selection(&mut parameters, ask.pcrs);
        // The C stack's command ends here, and its flags are none.
        if ask.flags != 0 {
            parameters.extend(ask.flags.to_be_bytes());
        }
        let answer = self.authorized("TPM_ParentSignEK", ORD_PARENT_SIGN_EK, &parameters)?;
        let Ask { nonce, pcrs, flags } = *ask;
        Ok(Statement { of: key, nonce, pcrs, flags, answer })
    }

    fn read_pcrs(&mut self, mask: u32) -> Result<OwnPcrs, Error> {
        let mut values = Vec::new();
        for index in pcr_indices(mask) {
            const WHAT: &str = "TPM_PCRRead";
            let body = self.ask(WHAT, TAG_RQU_COMMAND, ORD_PCR_READ, &u32::from(index).to_be_bytes())?;
            values.push((index, body.as_slice().try_into().map_err(|_| Error::Malformed(WHAT))?));
        }
        Ok(values)
    }

    fn ask(&mut self, what: &'static str, tag: u16, ordinal: u32, body: &[u8]) -> Result<Vec<u8>, Error> {
        let mut packet = Vec::new();
        let size = u32::try_from(HEADER_SIZE + body.len()).unwrap_or(u32::MAX);
        Writer::new(&mut packet).u16(tag).u32(size).u32(ordinal).bytes(body);
        let response = self.link.transmit(&packet)?;
        let (header, body) = ResponseHeader::parse(&response).map_err(|_| Error::Malformed(what))?;
        match header.code.get() {
            0 => Ok(body.to_vec()),
            code => Err(Error::Tpm { what, code }),
        }
    }

    /// A command with the owner's authorization, in a session of its own; the output parameters.
    fn authorized(&mut self, what: &'static str, ordinal: u32, parameters: &[u8]) -> Result<Vec<u8>, Error> {
        let malformed = || Error::Malformed(what);
        let session = self.ask("TPM_OIAP", TAG_RQU_COMMAND, ORD_OIAP, &[])?;
        let mut from = Reader::new(&session);
        let (handle, even): (u32, [u8; 20]) =
            (|| Some((from.u32().ok()?, from.array().ok()?)))().ok_or_else(malformed)?;
        let odd: [u8; 20] = self.rng.bytes();
        let digest = sha1(&[&ordinal.to_be_bytes(), parameters]);
        let proof = hmac_sha1(&self.owner[..], &[&digest, &even, &odd, &[0]]);
        let mut body = parameters.to_vec();
        Writer::new(&mut body).u32(handle).bytes(&odd).u8(0).bytes(&proof);
        let answer = self.ask(what, TAG_RQU_AUTH1_COMMAND, ordinal, &body)?;
        let (out, trailer) = answer.split_at_checked(answer.len().saturating_sub(41)).ok_or_else(malformed)?;
        let mut from = Reader::new(trailer);
        let read = (|| Some((from.array::<20>().ok()?, from.u8().ok()?, from.array::<20>().ok()?)))();
        let (even, keep, found) = read.ok_or_else(malformed)?;
        let digest = sha1(&[&[0; 4], &ordinal.to_be_bytes(), out]);
        let wanted = hmac_sha1(&self.owner[..], &[&digest, &even, &odd, &[keep]]);
        if ct_eq(&wanted, &found) { Ok(out.to_vec()) } else { Err(malformed()) }
    }
}

fn selection(out: &mut Vec<u8>, mask: u32) {
    let [a, b, c, _] = mask.to_le_bytes();
    out.extend([0, 3, a, b, c]);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn owners_secrets() {
        let read = |text: &str| owner_auth(text).ok().map(|auth| *auth);
        assert_eq!(read("well-known"), Some([0; 20]));
        assert_eq!(read(&format!("hash:{}", "0a".repeat(20))), Some([10; 20]));
        assert_eq!(read("text:secret:word"), Some(sha1(&[b"secret:word"])));
        for bad in ["", "wellknown", "hash:", "hash:00", "text:", "file:", "file:/nonexistent", "other:x"] {
            assert_eq!(read(bad), None, "{bad}");
        }
        let path = std::env::temp_dir().join(format!("vtpmctl-auth-{}", std::process::id()));
        std::fs::write(&path, "text:secret\n").unwrap();
        assert_eq!(read(&format!("file:{}", path.display())), Some(sha1(&[b"secret"])));
        std::fs::write(&path, format!("file:{}", path.display())).unwrap();
        assert_eq!(read(&format!("file:{}", path.display())), None, "a file that names itself");
        std::fs::remove_file(path).unwrap();
    }
}
