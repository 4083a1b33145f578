//! Checking evidence, and challenges.

use crate::cli::{Pinned, Verify};
use crate::error::Error;
use crate::files::{self, ChallengeSecret, Quote, Statement, Update};
use crate::keys::approval_key;
use crate::output::{Output, table};
use crate::values::{hex, show_bank, show_pcrs, show_uuid};
use attest::{
    Bank, Chain, Claims, Credential, Deep, Endorsement, EndorsementKey, GroupInfo, QuoteKey, Quoted, Request, Subject,
};
use serde_json::{Value, json};
use std::path::Path;
use tpm_crypto::{ct_eq, sha1, sha256};
use tpm_wire::mgr::{ConfigList, LegacyList, PcrValues};

/// Does what `verify` says.
pub fn run(command: Verify, output: &Output) -> Result<(), Error> {
    match command {
        Verify::Quote { file, uuid, pinned } => quote(&Quote::from_file(&file)?, uuid, &pinned, output),
        Verify::Chain { endorsement, deep_quote, uuid, own_pcr, pinned } => {
            let endorsement = Statement::<Vec<u8>>::from_file(&endorsement)?;
            let deep = Statement::<files::OwnPcrs>::from_file(&deep_quote)?;
            chain(&endorsement, &deep, uuid, &own_pcr, &pinned, output)
        }
        Verify::Challenge { answer, secret } => {
            let secret = ChallengeSecret::from_file(&secret)?;
            let answer = files::blob_from_file(&answer, "vtpm-answer")?;
            if !Credential::is_answered(&secret.secret, secret.v20, &answer) {
                return Err(Error::Unproven("the answer does not show the challenge's secret".into()));
            }
            let (attestation, endorsement) = (hex(&secret.attestation), hex(&secret.endorsement));
            let value = json!({ "verified": true, "attestation_key": attestation, "endorsement_key": endorsement });
            let text = table(&[
                ("verified", "the attestation key is in the chip with that endorsement key".into()),
                ("attestation key", attestation),
                ("endorsement key", endorsement),
            ]);
            output.show(&value, &text)
        }
    }
}

/// A public key in a file: one that `group keys` wrote, or the chip's structure as it is.
fn attestation_key(path: &Path) -> Result<QuoteKey, Error> {
    let bytes = files::read(path)?;
    let encoded = if bytes.starts_with(b"{") { files::keys_from_file(path)?.attestation } else { bytes.to_vec() };
    QuoteKey::parse(&encoded).map_err(|error| Error::Unproven(format!("{}: {error}", path.display())))
}

/// What the verifier wants to hear, of a chip of this version.
fn claims(pinned: &Pinned, uuid: Option<[u8; 16]>, v20: bool) -> Result<Claims, Error> {
    let key = pinned.group_key.as_deref().map(approval_key).transpose()?.map(|key| key.bytes().to_vec());
    let group = match &pinned.group_list {
        None => None,
        Some(path) => Some(group_info(Update::from_file(path)?, key.clone(), v20)?),
    };
    // The list says the key as well; asking for both is not needed.
    let group_key = key.filter(|_| group.is_none());
    Ok(Claims { uuid, label_hash: pinned.label.as_ref().map(|label| sha1(&[label.as_bytes()])), group, group_key })
}

fn group_info(update: Update, key: Option<Vec<u8>>, v20: bool) -> Result<GroupInfo, Error> {
    let broken = |_| Error::Input("the update's list is malformed".into());
    if update.legacy {
        let LegacyList { sequence, conditions, kernels } = LegacyList::parse(&update.list).map_err(broken)?;
        let conditions = conditions.into_iter().map(|(_, digest)| digest.to_vec()).collect();
        return Ok(GroupInfo { key, sequence, conditions, kernels });
    }
    let ConfigList { sequence, conditions, kernels, .. } = ConfigList::parse(&update.list).map_err(broken)?;
    let digest = |values: &PcrValues| match v20 {
        true => Ok(sha256(&[&values.values.concat()]).to_vec()),
        false => super::sign::composite(values).map(|(_, digest)| digest.to_vec()),
    };
    let conditions = conditions.iter().map(digest).collect::<Result<_, _>>()?;
    Ok(GroupInfo { key, sequence, conditions, kernels })
}

/// The chip's PCRs have the values that are wanted.
fn expected(pinned: &Pinned, quoted: &Quoted) -> Result<(), Error> {
    if let Some(path) = &pinned.expect {
        let wanted = files::pcrs_from_file(path)?;
        if wanted.bank != quoted.bank.id() {
            return Err(Error::Input(format!("{}: values of another bank than --bank", path.display())));
        }
        for (index, value) in attest::pcr_indices(wanted.mask).zip(&wanted.values) {
            quoted.expect(index, value)?;
        }
    }
    pinned.expect_pcr.iter().try_for_each(|(index, value)| Ok(quoted.expect(*index, value)?))
}

/// The file says what it was asked for with; it has to be what the verifier asked for.
fn asked_for(pinned: &Pinned, nonce: &[u8; 20], pcrs: u32) -> Result<(), Error> {
    if !ct_eq(&pinned.nonce, nonce) {
        return Err(Error::Unproven("it was made for another nonce than --nonce".into()));
    }
    if pinned.pcrs != pcrs {
        let (found, wanted) = (show_pcrs(pcrs), show_pcrs(pinned.pcrs));
        return Err(Error::Unproven(format!("it is over PCRs {found} and not {wanted} (--pcrs)")));
    }
    Ok(())
}

/// A TPM 1.2 has one bank, whatever the default is.
fn bank(pinned: &Pinned, key: &QuoteKey) -> Bank {
    if key.is_v20() { pinned.bank } else { Bank::Sha1 }
}

fn quote(quote: &Quote, uuid: Option<[u8; 16]>, pinned: &Pinned, output: &Output) -> Result<(), Error> {
    asked_for(pinned, &quote.nonce, quote.pcrs)?;
    let key = attestation_key(&pinned.key)?;
    let claims = claims(pinned, uuid, key.is_v20())?;
    let Quote { subject, nonce: data, pcrs, flags, .. } = *quote;
    let request = Request { subject, data, pcrs, bank: bank(pinned, &key), flags, claims: &claims };
    let quoted = attest::verify(&key, &request, &quote.answer)?;
    expected(pinned, &quoted)?;
    let about = if subject == Subject::Group { "group" } else { "vTPM" };
    let mut value = quoted_json(&quoted);
    let object = value.as_object_mut().ok_or(Error::Malformed("the quote"))?;
    object.insert("verified".into(), true.into());
    object.insert("attestation_key".into(), hex(&key.fingerprint()).into());
    object.insert("about".into(), about.into());
    object.insert("uuid".into(), uuid.map(|uuid| show_uuid(&uuid)).into());
    let mut rows = vec![("verified", format!("a quote about a {about}"))];
    rows.extend(uuid.map(|uuid| ("UUID", show_uuid(&uuid))));
    rows.push(("attestation key", hex(&key.fingerprint())));
    output.show(&value, &(table(&rows) + &quoted_text("chip", &quoted)))
}

fn chain(
    endorsement: &Statement<Vec<u8>>,
    deep: &Statement<files::OwnPcrs>,
    uuid: [u8; 16],
    own_pcr: &[(u8, Vec<u8>)],
    pinned: &Pinned,
    output: &Output,
) -> Result<(), Error> {
    asked_for(pinned, &deep.nonce, deep.pcrs)?;
    let key = attestation_key(&pinned.key)?;
    let claims = claims(pinned, None, key.is_v20())?;
    let vtpm_key = EndorsementKey::parse(&endorsement.of)?;
    let Statement { nonce, pcrs, flags, ref answer, .. } = *endorsement;
    let then = Endorsement { key: &vtpm_key, nonce, pcrs, flags, answer };
    let Statement { nonce, pcrs, flags, ref answer, ref of } = *deep;
    let now = Deep { nonce, own: of, pcrs, flags, answer };
    let bank = bank(pinned, &key);
    let proven = Chain { key: &key, uuid, bank, claims: &claims, endorsement: then, deep: now }.verify()?;
    expected(pinned, &proven.now)?;
    for (index, value) in own_pcr {
        let found = proven.own.iter().find(|(known, _)| known == index);
        if !found.is_some_and(|(_, found)| ct_eq(found, value)) {
            return Err(Error::Unproven(format!("PCR {index} of the vTPM has another value than expected")));
        }
    }
    let value = json!({
        "verified": true, "uuid": show_uuid(&uuid), "attestation_key": hex(&key.fingerprint()),
        "vtpm": { "endorsement_key": hex(&vtpm_key.fingerprint()), "pcrs": files::pcr_object(&proven.own) },
        "chip": quoted_json(&proven.now), "chip_when_the_key_was_made": quoted_json(&proven.then),
    });
    let mut rows = vec![
        ("verified", "this vTPM has this endorsement key and these PCRs".to_owned()),
        ("UUID", show_uuid(&uuid)),
        ("attestation key", hex(&key.fingerprint())),
        ("endorsement key", hex(&vtpm_key.fingerprint())),
    ];
    rows.extend(proven.own.iter().map(|(index, value)| ("vTPM's PCR", format!("{index:2} {}", hex(value)))));
    let text = table(&rows) + &quoted_text("chip", &proven.now) + &quoted_text("then", &proven.then);
    output.show(&value, &text)
}

fn quoted_json(quoted: &Quoted) -> Value {
    let clock = quoted.clock.map(|clock| {
        json!({ "milliseconds": clock.clock, "resets": clock.reset_count, "restarts": clock.restart_count, "safe": clock.safe })
    });
    json!({
        "bank": show_bank(quoted.bank), "pcrs": files::pcr_object(&quoted.pcrs), "clock": clock,
        "firmware": quoted.firmware.map(|firmware| format!("{firmware:016x}")),
    })
}

fn quoted_text(name: &str, quoted: &Quoted) -> String {
    let mut text: String =
        quoted.pcrs.iter().map(|(index, value)| format!("{name}'s PCR {index:2} {}\n", hex(value))).collect();
    if let Some(clock) = quoted.clock {
        text += &format!("{name}'s clock: powered for {} ms\n", clock.clock);
    }
    text
}

/// `challenge`
pub fn challenge(
    keys: &Path,
    endorsement: Option<&Path>,
    out: &Path,
    secret: &Path,
    output: &Output,
) -> Result<(), Error> {
    let keys = files::keys_from_file(keys)?;
    let key = QuoteKey::parse(&keys.attestation)?;
    let ek = match endorsement {
        Some(path) => files::read(path)?.to_vec(),
        None if keys.endorsement.is_empty() => {
            return Err(Error::Input("the chip does not tell its endorsement key: give it with --endorsement".into()));
        }
        None => keys.endorsement,
    };
    let ek = EndorsementKey::parse(&ek)?;
    let made = Credential::new(&ek, &key, &mut super::random()?).map_err(|error| Error::Input(error.to_string()))?;
    let kept = ChallengeSecret {
        v20: key.is_v20(),
        secret: made.secret,
        attestation: key.fingerprint(),
        endorsement: ek.fingerprint(),
    };
    files::write_secret(secret, &kept.to_json())?;
    files::write(Some(out), output, &files::blob_to_json("vtpm-challenge", &made.blob))
}
