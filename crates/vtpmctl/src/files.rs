//! The files that go between machines: JSON objects with a `format` and a `version`. docs/formats/attestation.md lists them.

use crate::error::Error;
use crate::values::{self, exactly, hex, show_bank, show_flags, show_pcrs, show_uuid, unhex};
use attest::{Bank, Subject, pcr_indices};
use serde_json::{Map, Value, json};
use std::io::Write;
use std::path::Path;
use tpm_wire::mgr::{GroupKeys, PcrValues};
use zeroize::Zeroizing;

const VERSION: u64 = 1;

/// The longest file that is read.
const LIMIT: u64 = 1 << 20;

/// A file that is one of ours.
struct Fields<'a> {
    path: &'a Path,
    object: Map<String, Value>,
}

/// Reads a whole file of at most a mebibyte.
pub fn read(path: &Path) -> Result<Zeroizing<Vec<u8>>, Error> {
    use std::io::Read;
    let fail = |error: std::io::Error| Error::Input(format!("cannot read {}: {error}", path.display()));
    let mut bytes = Zeroizing::new(Vec::new());
    std::fs::File::open(path).map_err(fail)?.take(LIMIT + 1).read_to_end(&mut bytes).map_err(fail)?;
    if bytes.len() as u64 > LIMIT {
        return Err(Error::Input(format!("{} is too long to be a file of this program", path.display())));
    }
    Ok(bytes)
}

/// Writes a file, or prints it if there is no name.
pub fn write(out: Option<&Path>, output: &crate::output::Output, value: &Value) -> Result<(), Error> {
    let text = format!("{value:#}\n");
    let Some(path) = out else { return output.print(&text) };
    std::fs::write(path, text).map_err(|error| Error::Input(format!("cannot write {}: {error}", path.display())))
}

/// Writes a new file that only its owner can read; never over another.
pub fn write_secret(path: &Path, value: &Value) -> Result<(), Error> {
    use std::os::unix::fs::OpenOptionsExt;
    let text = Zeroizing::new(format!("{value:#}\n"));
    let file = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
    let written = file.and_then(|mut file| file.write_all(text.as_bytes()));
    written.map_err(|error| Error::Input(format!("cannot write {}: {error}", path.display())))
}

impl<'a> Fields<'a> {
    fn open(path: &'a Path, format: &str) -> Result<Self, Error> {
        let text = read(path)?;
        let object = match serde_json::from_slice(&text) {
            Ok(Value::Object(object)) => object,
            _ => return Err(Error::Input(format!("{}: not a JSON object", path.display()))),
        };
        let fields = Self { path, object };
        if fields.text("format")? != format {
            return Err(fields.bad("format", &format!("{format} is wanted")));
        }
        match fields.object.get("version").and_then(Value::as_u64) {
            Some(VERSION) => Ok(fields),
            _ => Err(fields.bad("version", "another than this program knows")),
        }
    }

    fn bad(&self, field: &str, why: &str) -> Error {
        Error::Input(format!("{}: \"{field}\": {why}", self.path.display()))
    }

    fn text(&self, field: &str) -> Result<&str, Error> {
        self.object.get(field).and_then(Value::as_str).ok_or_else(|| self.bad(field, "missing"))
    }

    fn parsed<T>(&self, field: &str, parse: impl Fn(&str) -> Result<T, String>) -> Result<T, Error> {
        parse(self.text(field)?).map_err(|why| self.bad(field, &why))
    }

    /// An object of PCRs and their values, ascending.
    fn pcrs(&self, field: &str) -> Result<Vec<(u8, Vec<u8>)>, Error> {
        let object = self.object.get(field).and_then(Value::as_object).ok_or_else(|| self.bad(field, "missing"))?;
        let mut pcrs = Vec::new();
        for (index, value) in object {
            let pair = value.as_str().ok_or_else(|| self.bad(field, "values are strings"))?;
            pcrs.push(values::pcr_value(&format!("{index}={pair}")).map_err(|why| self.bad(field, &why))?);
        }
        pcrs.sort();
        Ok(pcrs)
    }
}

fn object_of<V: AsRef<[u8]>>(pcrs: &[(u8, V)]) -> Value {
    Value::Object(pcrs.iter().map(|(index, value)| (index.to_string(), json!(hex(value.as_ref())))).collect())
}

/// PCRs and their values, as JSON.
pub fn pcr_object<V: AsRef<[u8]>>(pcrs: &[(u8, V)]) -> Value {
    object_of(pcrs)
}

/// `vtpm-pcrs`: values of the chip's PCRs.
pub fn pcrs_to_json(values: &PcrValues) -> Value {
    let pcrs: Vec<_> = pcr_indices(values.mask).zip(&values.values).collect();
    let bank = Bank::from_id(values.bank).map_or("unknown", show_bank);
    json!({ "format": "vtpm-pcrs", "version": VERSION, "bank": bank, "pcrs": object_of(&pcrs) })
}

/// See [`pcrs_to_json`].
pub fn pcrs_from_file(path: &Path) -> Result<PcrValues, Error> {
    let fields = Fields::open(path, "vtpm-pcrs")?;
    let bank = fields.parsed("bank", values::bank)?;
    let pcrs = fields.pcrs("pcrs")?;
    if pcrs.iter().any(|(_, value)| value.len() != bank.size()) {
        return Err(fields.bad("pcrs", "a value is not as long as the bank's"));
    }
    let mask = pcrs.iter().fold(0, |mask, (index, _)| mask | 1 << index);
    Ok(PcrValues { bank: bank.id(), mask, values: pcrs.into_iter().map(|(_, value)| value).collect() })
}

/// A signed list.
pub struct Update {
    /// Of the C stack's form.
    pub legacy: bool,
    /// The list.
    pub list: Vec<u8>,
    /// The signature over it (or over the signed part of a list of the C stack's form).
    pub signature: Vec<u8>,
}

impl Update {
    /// `vtpm-update`.
    pub fn to_json(&self) -> Value {
        let form = if self.legacy { "legacy" } else { "2" };
        json!({
            "format": "vtpm-update", "version": VERSION, "form": form,
            "list": hex(&self.list), "signature": hex(&self.signature),
        })
    }

    /// See [`Self::to_json`].
    pub fn from_file(path: &Path) -> Result<Self, Error> {
        let fields = Fields::open(path, "vtpm-update")?;
        let legacy = match fields.text("form")? {
            "legacy" => true,
            "2" => false,
            _ => return Err(fields.bad("form", "legacy or 2 is wanted")),
        };
        Ok(Self { legacy, list: fields.parsed("list", unhex)?, signature: fields.parsed("signature", unhex)? })
    }
}

/// A quote and what was asked for.
pub struct Quote {
    /// GET_QUOTE or GROUP_QUOTE.
    pub subject: Subject,
    /// The nonce.
    pub nonce: [u8; 20],
    /// The chip's PCRs.
    pub pcrs: u32,
    /// The flags.
    pub flags: u32,
    /// The answer's body.
    pub answer: Vec<u8>,
}

impl Quote {
    /// `vtpm-quote`.
    pub fn to_json(&self) -> Value {
        let subject = if self.subject == Subject::Group { "group" } else { "vtpm" };
        json!({
            "format": "vtpm-quote", "version": VERSION, "subject": subject, "nonce": hex(&self.nonce),
            "pcrs": show_pcrs(self.pcrs), "flags": show_flags(self.flags), "answer": hex(&self.answer),
        })
    }

    /// See [`Self::to_json`].
    pub fn from_file(path: &Path) -> Result<Self, Error> {
        let fields = Fields::open(path, "vtpm-quote")?;
        let subject = match fields.text("subject")? {
            "group" => Subject::Group,
            "vtpm" => Subject::Vtpm,
            _ => return Err(fields.bad("subject", "vtpm or group is wanted")),
        };
        Ok(Self {
            subject,
            nonce: fields.parsed("nonce", exactly)?,
            pcrs: fields.parsed("pcrs", values::pcrs)?,
            flags: fields.parsed("flags", values::flags)?,
            answer: fields.parsed("answer", unhex)?,
        })
    }
}

/// What a guest got from TPM_DeepQuote or TPM_ParentSignEK, and what it asked for.
pub struct Statement<T> {
    /// Its own PCRs, or its endorsement key.
    pub of: T,
    /// The nonce.
    pub nonce: [u8; 20],
    /// The chip's PCRs.
    pub pcrs: u32,
    /// The flags.
    pub flags: u32,
    /// The answer.
    pub answer: Vec<u8>,
}

/// A vTPM's own PCRs.
pub type OwnPcrs = Vec<(u8, [u8; 20])>;

impl<T> Statement<T> {
    fn json(&self, format: &str, name: &str, of: Value) -> Value {
        json!({
            "format": format, "version": VERSION, name: of, "nonce": hex(&self.nonce),
            "pcrs": show_pcrs(self.pcrs), "flags": show_flags(self.flags), "answer": hex(&self.answer),
        })
    }

    fn read(fields: &Fields<'_>, of: T) -> Result<Self, Error> {
        Ok(Self {
            of,
            nonce: fields.parsed("nonce", exactly)?,
            pcrs: fields.parsed("pcrs", values::pcrs)?,
            flags: fields.parsed("flags", values::flags)?,
            answer: fields.parsed("answer", unhex)?,
        })
    }
}

impl Statement<OwnPcrs> {
    /// `vtpm-deep-quote`.
    pub fn to_json(&self) -> Value {
        self.json("vtpm-deep-quote", "own", object_of(&self.of))
    }

    /// See [`Self::to_json`].
    pub fn from_file(path: &Path) -> Result<Self, Error> {
        let fields = Fields::open(path, "vtpm-deep-quote")?;
        let own = fields.pcrs("own")?.into_iter().map(|(index, value)| Some((index, value.try_into().ok()?)));
        let own = own.collect::<Option<_>>().ok_or_else(|| fields.bad("own", "values have 20 bytes"))?;
        Self::read(&fields, own)
    }
}

impl Statement<Vec<u8>> {
    /// `vtpm-endorsement`.
    pub fn to_json(&self) -> Value {
        self.json("vtpm-endorsement", "key", json!(hex(&self.of)))
    }

    /// See [`Self::to_json`].
    pub fn from_file(path: &Path) -> Result<Self, Error> {
        let fields = Fields::open(path, "vtpm-endorsement")?;
        let key = fields.parsed("key", unhex)?;
        Self::read(&fields, key)
    }
}

/// `vtpm-keys`: what a verifier starts from.
pub fn keys_to_json(keys: &GroupKeys) -> Value {
    json!({
        "format": "vtpm-keys", "version": VERSION, "group": show_uuid(&keys.uuid), "attestation": hex(&keys.attestation),
        "binding": hex(&keys.binding), "endorsement": hex(&keys.endorsement),
    })
}

/// See [`keys_to_json`].
pub fn keys_from_file(path: &Path) -> Result<GroupKeys, Error> {
    let fields = Fields::open(path, "vtpm-keys")?;
    Ok(GroupKeys {
        uuid: fields.parsed("group", values::uuid)?,
        attestation: fields.parsed("attestation", unhex)?,
        binding: fields.parsed("binding", unhex)?,
        endorsement: fields.parsed("endorsement", unhex)?,
    })
}

/// `vtpm-challenge` and `vtpm-answer`: a blob for the chip, and what it gave for it.
pub fn blob_to_json(format: &str, blob: &[u8]) -> Value {
    json!({ "format": format, "version": VERSION, "blob": hex(blob) })
}

/// See [`blob_to_json`].
pub fn blob_from_file(path: &Path, format: &str) -> Result<Vec<u8>, Error> {
    Fields::open(path, format)?.parsed("blob", unhex)
}

/// `vtpm-challenge-secret`: what the answer to a challenge has to show, and for which key it speaks then.
pub struct ChallengeSecret {
    /// TPM 2.0.
    pub v20: bool,
    /// The secret.
    pub secret: Zeroizing<[u8; attest::SECRET_SIZE]>,
    /// Fingerprint of the attestation key.
    pub attestation: [u8; 32],
    /// Fingerprint of the endorsement key.
    pub endorsement: [u8; 32],
}

impl ChallengeSecret {
    /// The file.
    pub fn to_json(&self) -> Value {
        json!({
            "format": "vtpm-challenge-secret", "version": VERSION, "chip": if self.v20 { "2.0" } else { "1.2" },
            "secret": hex(&self.secret[..]), "attestation": hex(&self.attestation), "endorsement": hex(&self.endorsement),
        })
    }

    /// See [`Self::to_json`].
    pub fn from_file(path: &Path) -> Result<Self, Error> {
        let fields = Fields::open(path, "vtpm-challenge-secret")?;
        let v20 = match fields.text("chip")? {
            "2.0" => true,
            "1.2" => false,
            _ => return Err(fields.bad("chip", "1.2 or 2.0 is wanted")),
        };
        Ok(Self {
            v20,
            secret: Zeroizing::new(fields.parsed("secret", exactly)?),
            attestation: fields.parsed("attestation", exactly)?,
            endorsement: fields.parsed("endorsement", exactly)?,
        })
    }
}
