//! Groups.

use crate::cli::Group;
use crate::error::Error;
use crate::files::{self, Quote, Update};
use crate::keys::approval_key;
use crate::manager::Manager;
use crate::output::{Output, columns, table};
use crate::values::{hex, show_pcrs, show_uuid};
use attest::{Bank, Subject};
use serde_json::{Value, json};
use tpm_wire::mgr::{GROUP_QUOTE_FLAGS, GroupShow, LegacyList, Management, SaaKey, group_flags};

/// Does what `group` says.
pub fn run(manager: &mut Manager, command: Group, output: &Output) -> Result<(), Error> {
    match command {
        Group::List => list(manager, output),
        Group::Show { index } => {
            let group = manager.group(index)?;
            output.show(&to_json(index, &group), &to_text(index, &group))
        }
        Group::Create { key, label } => {
            let saa = key.as_deref().map(approval_key).transpose()?;
            let (uuid, index) = manager.create(&Management::GroupCreate { saa, label })?;
            let uuid = show_uuid(&uuid);
            output.show(&json!({ "index": index, "uuid": uuid }), &format!("{index} {uuid}\n"))
        }
        Group::SetKey { index, key } => {
            let saa = approval_key(&key)?;
            manager.tell("GROUP_SET_KEY", &Management::GroupSetKey { index, saa })
        }
        Group::Update { index, file } => update(manager, index, Update::from_file(&file)?),
        Group::Delete { index } => manager.tell("GROUP_DEL", &Management::GroupDelete { index }),
        Group::Keys { index, out } => {
            let keys = manager.keys(index)?;
            files::write(out.as_deref(), output, &files::keys_to_json(&keys))
        }
        Group::Activate { index, challenge, out } => {
            let blob = files::blob_from_file(&challenge, "vtpm-challenge")?;
            let answer = manager.activate(index, blob)?;
            files::write(out.as_deref(), output, &files::blob_to_json("vtpm-answer", &answer))
        }
        Group::Quote { index, wanted } => {
            let nonce = super::evidence::nonce(&wanted)?;
            let answer = manager.group_quote(index, nonce, wanted.pcrs)?;
            let quote = Quote { subject: Subject::Group, nonce, pcrs: wanted.pcrs, flags: GROUP_QUOTE_FLAGS, answer };
            files::write(wanted.out.as_deref(), output, &quote.to_json())
        }
    }
}

/// Sends a signed list, of whichever form it has.
fn update(manager: &mut Manager, index: u32, update: Update) -> Result<(), Error> {
    let Update { legacy, list, signature } = update;
    if !legacy {
        return manager.tell("GROUP_UPDATE", &Management::GroupUpdate2 { index, signature, list });
    }
    let broken = || Error::Input("the update's list or signature is not of the C stack's form".into());
    let list = LegacyList::parse(&list).map_err(|_| broken())?;
    let signature: [u8; 256] = signature.try_into().map_err(|_| broken())?;
    manager.tell("GROUP_UPDATE", &Management::GroupUpdate { index, signature: Box::new(signature), list })
}

fn list(manager: &mut Manager, output: &Output) -> Result<(), Error> {
    let count = manager.groups()?;
    let groups = (0..count).map(|index| Ok((index, manager.group(index)?))).collect::<Result<Vec<_>, Error>>()?;
    let value: Vec<Value> = groups.iter().map(|(index, group)| to_json(*index, group)).collect();
    let row = |(index, group): &(u32, GroupShow)| {
        vec![
            index.to_string(),
            show_uuid(&group.uuid),
            group.vtpms.to_string(),
            key_kind(group.saa.as_ref()),
            names(group.flags).join(","),
        ]
    };
    let rows: Vec<_> = groups.iter().map(row).collect();
    output.show(&json!(value), &columns(&["INDEX", "UUID", "VTPMS", "APPROVAL KEY", "FLAGS"], &rows))
}

fn names(flags: u32) -> Vec<&'static str> {
    let names = [
        ("open", group_flags::OPEN),
        ("sealed", group_flags::SEALED),
        ("attestation-key", group_flags::HAS_KEY),
        ("registered", group_flags::REGISTERED),
    ];
    names.iter().filter(|(_, flag)| flags & flag != 0).map(|(name, _)| *name).collect()
}

fn key_kind(key: Option<&SaaKey>) -> String {
    match key {
        None => "none".into(),
        Some(SaaKey::Rsa(modulus)) => format!("RSA-{}", modulus.len() * 8),
        Some(SaaKey::EcdsaP256(_)) => "P-256".into(),
    }
}

fn bank(id: u16) -> String {
    Bank::from_id(id).map_or_else(|| format!("{id:#x}"), |bank| crate::values::show_bank(bank).into())
}

fn to_json(index: u32, group: &GroupShow) -> Value {
    let conditions: Vec<Value> = group
        .conditions
        .iter()
        .map(|condition| {
            json!({ "bank": bank(condition.bank), "pcrs": show_pcrs(condition.mask), "digest": hex(&condition.digest) })
        })
        .collect();
    let key = group.saa.as_ref().map(|key| json!({ "kind": key_kind(Some(key)), "key": hex(key.bytes()) }));
    json!({
        "index": index, "uuid": show_uuid(&group.uuid), "flags": names(group.flags), "vtpms": group.vtpms,
        "approval_key": key, "sequence": group.sequence, "conditions": conditions,
        "kernels": group.kernels.iter().map(|kernel| hex(kernel)).collect::<Vec<_>>(),
    })
}

fn to_text(index: u32, group: &GroupShow) -> String {
    let mut rows = vec![
        ("group", format!("{index} ({})", show_uuid(&group.uuid))),
        ("flags", names(group.flags).join(",")),
        ("vTPMs", group.vtpms.to_string()),
        ("approval key", key_kind(group.saa.as_ref())),
        ("list", if group.sequence == 0 { "none".into() } else { format!("sequence {}", group.sequence) }),
    ];
    for condition in &group.conditions {
        let pcrs = show_pcrs(condition.mask);
        rows.push(("opens with", format!("PCRs {pcrs} ({}), {}", bank(condition.bank), hex(&condition.digest))));
    }
    for kernel in &group.kernels {
        rows.push(("is for", format!("label with hash {}", hex(kernel))));
    }
    table(&rows)
}
