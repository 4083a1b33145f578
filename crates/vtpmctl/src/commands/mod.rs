//! What each command does.

mod evidence;
mod groups;
mod sign;
mod verify;
mod vtpms;

use crate::cli::{Cli, Command};
use crate::error::Error;
use crate::link::Link;
use crate::manager::Manager;
use crate::output::{Output, table};
use crate::values::{hex, show_uuid};
use clap::CommandFactory;
use serde_json::json;
use tpm_crypto::Drbg;
use tpm_wire::mgr::{RollbackMode, Status, status_flags};
use zeroize::Zeroizing;

/// Does what the command line says.
pub fn run(cli: Cli) -> Result<(), Error> {
    let output = Output { json: cli.json };
    let link = || match &cli.socket {
        Some(path) => Link::socket(path),
        None => Link::device(&cli.device),
    };
    let manager = || link().map(Manager::new);
    match cli.command {
        Command::Status => status(&mut manager()?, &output),
        Command::List { group } => vtpms::list(&mut manager()?, group, &output),
        Command::Show { uuid } => vtpms::show(&mut manager()?, uuid, &output),
        Command::Add { group, uuid } => vtpms::add(&mut manager()?, group, uuid, &output),
        Command::Edit(edit) => vtpms::edit(&mut manager()?, &edit),
        Command::Delete { uuid, forever: _ } => vtpms::delete(&mut manager()?, uuid),
        Command::Group(group) => groups::run(&mut manager()?, group, &output),
        Command::Pcrs { pcrs, out } => evidence::pcrs(&mut manager()?, pcrs, out.as_deref(), &output),
        Command::Sign(options) => sign::sign(&options, &output),
        Command::Quote { wanted, flags } => evidence::quote(&mut manager()?, &wanted, flags, &output),
        Command::Guest(guest) => evidence::guest(link()?, guest, &output),
        Command::Challenge { keys, endorsement, out, secret } => {
            verify::challenge(&keys, endorsement.as_deref(), &out, &secret, &output)
        }
        Command::Verify(what) => verify::run(what, &output),
        Command::RecoveryCode => recovery_code(&mut manager()?, &output),
        Command::Completions { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Cli::command(), "vtpmctl", &mut script);
            output.print(&String::from_utf8_lossy(&script))
        }
    }
}

/// A generator seeded by the kernel.
pub fn random() -> Result<Drbg, Error> {
    let mut seed = Zeroizing::new([0; 48]);
    let none = || Error::Input("the kernel gives no random bytes".into());
    getrandom::fill(&mut seed[..]).map_err(|_| none())?;
    Drbg::new(&seed[..], b"vtpmctl").map_err(|_| none())
}

fn status(manager: &mut Manager, output: &Output) -> Result<(), Error> {
    let status = manager.status()?;
    let Status { chip_version, vendor, firmware, bank, flags, rollback, counter, uptime, boot_id, .. } = status;
    let Status { groups, vtpms, connected, version, .. } = status;
    let chip = match chip_version {
        0x12 => "1.2".to_owned(),
        0x20 => "2.0".to_owned(),
        other => format!("{other:#x}"),
    };
    let letters = vendor.map(|byte| if byte.is_ascii_graphic() { char::from(byte) } else { ' ' });
    let vendor = letters.iter().collect::<String>().trim_end().to_owned();
    let (major, minor) = (firmware >> 32, firmware & 0xffff_ffff);
    let firmware = if chip_version == 0x12 {
        format!("{major}.{minor}")
    } else {
        format!("{}.{}.{}.{}", major >> 16, major & 0xffff, minor >> 16, minor & 0xffff)
    };
    let bank =
        attest::Bank::from_id(bank).map_or_else(|| format!("{bank:#x}"), |bank| crate::values::show_bank(bank).into());
    let rollback = match rollback {
        RollbackMode::Off => "off",
        RollbackMode::Periodic => "periodic",
        RollbackMode::Strict => "strict",
    };
    let has = |flag| flags & flag != 0;
    let (answers, labels, sealed, recovery) = (
        has(status_flags::CHIP_ANSWERS),
        has(status_flags::LABELS),
        has(status_flags::SEALED),
        has(status_flags::RECOVERY),
    );
    let value = json!({
        "version": version, "uptime_seconds": uptime, "boot_id": hex(&boot_id),
        "chip": { "tpm": chip, "vendor": vendor, "firmware": firmware, "bank": bank, "answers": answers },
        "rollback": { "mode": rollback, "counter": counter },
        "sealed_to_pcrs": sealed, "recovery_code": recovery, "labels_checked": labels,
        "groups": groups, "vtpms": vtpms, "connected": connected,
    });
    let (days, hours, minutes, seconds) = (uptime / 86_400, uptime / 3600 % 24, uptime / 60 % 60, uptime % 60);
    let yes = |answer, no: &str| if answer { "yes".to_owned() } else { no.to_owned() };
    let text = table(&[
        ("manager", format!("version {version}, up {days} days {hours:02}:{minutes:02}:{seconds:02}")),
        ("chip", format!("TPM {chip}, {vendor}, firmware {firmware}, bank {bank}")),
        ("chip answers", yes(answers, "no: requests that need it fail until it does")),
        ("this start", hex(&boot_id)),
        ("rollback", format!("{rollback}, counter {counter}")),
        ("sealed to PCRs", yes(sealed, "no")),
        ("recovery code", yes(recovery, "none")),
        ("labels checked", yes(labels, "no: Xen has no FLASK")),
        ("groups", groups.to_string()),
        ("vTPMs", format!("{vtpms}, {connected} connected")),
    ]);
    output.show(&value, &text)
}

fn recovery_code(manager: &mut Manager, output: &Output) -> Result<(), Error> {
    let code = manager.recovery_code()?;
    let code = Zeroizing::new(hex(&code[..]));
    // In groups, which is how it is written down; the manager does not mind the hyphens.
    let groups: Zeroizing<Vec<u8>> = Zeroizing::new(code.as_bytes().chunks(8).collect::<Vec<_>>().join(&b'-'));
    let text = format!(
        "{}\n\nThis is shown once. Keep it off this machine: whoever has it and the machine's chip and disk opens the manager.\n\
         To use it: extra=\"... recover=<code>\" for one start of the manager.\n",
        String::from_utf8_lossy(&groups)
    );
    output.show(&json!({ "recovery_code": code.as_str() }), &text)
}

/// A UUID, by itself on a line.
fn show_id(uuid: &[u8; 16], output: &Output) -> Result<(), Error> {
    let uuid = show_uuid(uuid);
    output.show(&json!({ "uuid": uuid }), &format!("{uuid}\n"))
}
