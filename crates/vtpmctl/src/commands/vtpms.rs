//! vTPMs.

use crate::cli::Edit;
use crate::error::Error;
use crate::manager::Manager;
use crate::output::{Output, columns, table};
use crate::values::{hex, show_uuid};
use serde_json::{Value, json};
use tpm_wire::mgr::{Management, VtpmShow, vtpm_flags};

/// Names of what a vTPM is.
const FLAGS: [(&str, u32); 4] = [
    ("admin", vtpm_flags::ADMIN),
    ("record", vtpm_flags::RECORD),
    ("connected", vtpm_flags::CONNECTED),
    ("locked", vtpm_flags::LOCKED),
];

fn names(flags: u32) -> Vec<&'static str> {
    FLAGS.iter().filter(|(_, flag)| flags & flag != 0).map(|(name, _)| *name).collect()
}

/// `list`
pub fn list(manager: &mut Manager, group: Option<u32>, output: &Output) -> Result<(), Error> {
    let all = manager.vtpms(group)?;
    let value: Vec<Value> = all
        .iter()
        .map(|vtpm| json!({ "uuid": show_uuid(&vtpm.uuid), "group": vtpm.index, "flags": names(vtpm.flags) }))
        .collect();
    let rows: Vec<_> = all
        .iter()
        .map(|vtpm| vec![show_uuid(&vtpm.uuid), vtpm.index.to_string(), names(vtpm.flags).join(",")])
        .collect();
    output.show(&json!(value), &columns(&["UUID", "GROUP", "FLAGS"], &rows))
}

/// `show`
pub fn show(manager: &mut Manager, uuid: [u8; 16], output: &Output) -> Result<(), Error> {
    let VtpmShow { index, group, flags, label } = manager.vtpm(uuid)?;
    let label = (label != [0; 20]).then(|| hex(&label));
    let value = json!({
        "uuid": show_uuid(&uuid), "group": index, "group_uuid": show_uuid(&group), "flags": names(flags), "label_hash": label,
    });
    let flags = names(flags).join(",");
    let text = table(&[
        ("UUID", show_uuid(&uuid)),
        ("group", format!("{index} ({})", show_uuid(&group))),
        ("flags", if flags.is_empty() { "none".into() } else { flags }),
        ("label's hash", label.unwrap_or_else(|| "unknown (not connected, or Xen has no FLASK)".into())),
    ]);
    output.show(&value, &text)
}

/// `add`
pub fn add(manager: &mut Manager, group: u32, uuid: Option<[u8; 16]>, output: &Output) -> Result<(), Error> {
    let made = manager.add(group, uuid)?;
    super::show_id(&made, output)
}

/// `edit`
pub fn edit(manager: &mut Manager, edit: &Edit) -> Result<(), Error> {
    let before = manager.vtpm(edit.uuid)?;
    let flags = if edit.lock {
        vtpm_flags::LOCKED
    } else if edit.unlock {
        0
    } else {
        before.flags & vtpm_flags::LOCKED
    };
    let index = edit.group.unwrap_or(before.index);
    manager.tell("VTPM_EDIT", &Management::VtpmEdit { uuid: edit.uuid, index, flags })
}

/// `delete`
pub fn delete(manager: &mut Manager, uuid: [u8; 16]) -> Result<(), Error> {
    manager.tell("VTPM_DEL", &Management::VtpmDelete { uuid })
}
