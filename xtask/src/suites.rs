//! `cargo xtask test suites`: other people's TPM 1.2 programs against our engine.
//!
//! tpm-tools, through TrouSerS's daemon tcsd, use a TPM that vtpm-host serves, as an administrator would: from the first
//! start over ownership, sealed data, NV areas, lockout and a power cut to the clearing of the TPM.

mod stack;

use anyhow::Result;

use self::stack::{Place, Stack};
use crate::build;
use crate::debian;
use crate::packages;
use crate::paths::{Paths, fresh_dir};
use crate::test_tis::Tally;
use crate::ui::{Step, say};

/// `TSC_PhysicalPresence(TPM_PHYSICAL_PRESENCE_PRESENT)` (TPM Main 1.2, part 3, section 6.6).
const PRESENT: &[u8] = &[0, 0xc1, 0, 0, 0, 12, 0x40, 0, 0, 0x0a, 0, 8];
/// More wrong passwords than any TPM takes before it locks itself.
const GUESSES: usize = 64;

/// `TPM_Extend` of PCR 16 with a digest of zeros (section 16.1).
fn extend_16() -> Vec<u8> {
    [&[0, 0xc1, 0, 0, 0, 34, 0, 0, 0, 0x14, 0, 0, 0, 16][..], &[0; 20]].concat()
}

/// `TPM_NV_DefineSpace` of `TPM_NV_INDEX_LOCK`, with which a platform's maker ends the making: from then on the
/// authorizations of NV areas count (section 20.1; the structures: part 2, sections 8.3 and 19.3).
fn lock_nv() -> Vec<u8> {
    let every_locality = [&[0, 3, 0, 0, 0, 0x1f][..], &[0; 20]].concat();
    let header = [0, 0xc1, 0, 0, 0, 101, 0, 0, 0, 0xcc];
    let index = [0, 0x18, 0xff, 0xff, 0xff, 0xff];
    let rest = [&[0, 0x17][..], &[0; 31]].concat();
    [&header[..], &index, &every_locality, &every_locality, &rest].concat()
}

/// Runs the tools through four starts of one TPM; prints one line per step.
pub fn run(paths: &Paths) -> Result<Tally> {
    packages::need(&[packages::SUITES, packages::XEN])?;
    let pool = debian::pool(paths)?;
    let host = build::vtpm_host(paths)?.program;
    let dir = std::path::absolute(paths.logs().join("suites"))?;
    fresh_dir(&dir)?;
    let place = Place { pool: &pool, host: &host, dir: &dir };
    let mut tally = Tally::default();
    let step = Step::begin("tpm-tools and TrouSerS on vtpm-host");
    std::fs::write(dir.join("plain"), "a secret of the administrator\n")?;
    let starts: [(&[Vec<u8>], Part); 4] = [
        (&[PRESENT.to_vec(), lock_nv()], first_start),
        (&[extend_16()], after_a_power_cut),
        (&[PRESENT.to_vec()], with_presence_again),
        (&[], after_the_clearing),
    ];
    for (firmware, part) in starts {
        let stack = Stack::start(&place, firmware)?;
        part(&mut Script { stack: &stack, tally: &mut tally })?;
    }
    step.done();
    say(format!("suites: logs in {}", paths.show(&dir)));
    Ok(tally)
}

/// What is done after one start.
type Part = fn(&mut Script<'_>) -> Result<()>;

/// The steps of one start.
struct Script<'a> {
    stack: &'a Stack<'a>,
    tally: &'a mut Tally,
}

impl Script<'_> {
    /// A tool must succeed and write all of `says`.
    fn ok(&mut self, title: &str, command: &str, says: &[&str]) -> Result<()> {
        self.ok_typing(title, command, "", says)
    }

    /// The same, with passwords typed.
    fn ok_typing(&mut self, title: &str, command: &str, input: &str, says: &[&str]) -> Result<()> {
        let said = self.stack.tool(command, input)?;
        let good = said.status == Some(0) && says.iter().all(|words| said.text.contains(words));
        self.count(good, title, command, &format!("status {:?}, wanted 0 and {says:?}:\n{}", said.status, said.text));
        Ok(())
    }

    /// The TPM (or the TSS) must refuse with the error code `code`; 0 if the tool does not show it.
    fn refused(&mut self, title: &str, command: &str, input: &str, code: u32) -> Result<()> {
        let said = self.stack.tool(command, input)?;
        let shown = code == 0 || said.text.contains(&format!("code={code:04x}"));
        let good = said.status.is_some_and(|status| status != 0 && status != 124) && shown;
        self.count(good, title, command, &format!("status {:?}, wanted code {code:#x}:\n{}", said.status, said.text));
        Ok(())
    }

    /// A file must hold what was sealed.
    fn unsealed(&mut self, title: &str, command: &str) -> Result<()> {
        self.ok(title, command, &["a secret of the administrator"])
    }

    fn count(&mut self, good: bool, title: &str, command: &str, complaint: &str) {
        if good {
            println!("ok {title} ({command})");
            self.tally.passed += 1;
        } else {
            println!("FAILED {title} ({command}): {complaint}");
            self.tally.failed += 1;
        }
    }
}

/// A new TPM, somebody present.
fn first_start(t: &mut Script<'_>) -> Result<()> {
    t.ok(
        "version",
        "tpm_version",
        &["TPM 1.2 Version Info", "Spec Level:          2", "TPM Version:         01010000"],
    )?;
    t.ok("self test", "tpm_selftest", &["TPM Test Results: 00"])?;
    t.ok("EK readable without owner", "tpm_getpubek", &["Public Endorsement Key", "Key Size:          2048 bits"])?;
    t.refused("EK made once only", "tpm_createek", "", 8)?;
    t.refused("no lockout to reset without owner", "tpm_resetdalock -z", "", 0x12)?;
    t.ok("ownership forbidden", "tpm_setownable -p", &[])?;
    t.refused("no owner then", "tpm_takeownership -y -z", "", 0x0b)?;
    t.ok("ownership allowed", "tpm_setownable -a", &[])?;
    t.ok("take ownership", "tpm_takeownership -y -z", &[])?;
    t.refused("one owner only", "tpm_takeownership -y -z", "", 8)?;
    opt_in(t)?;
    endorsement_and_srk(t)?;
    nv(t)?;
    seal(t)?;
    passwords(t)?;
    lockout(t)?;
    // Last of this start: nothing else works afterwards.
    t.ok_typing("operator password set", "tpm_setoperatorauth", "operator\noperator\n", &[])?;
    t.ok("deactivated until the next start", "tpm_setactive -i -t", &[])?;
    t.refused("deactivated", "tpm_sealdata -z -i plain -o nothing", "", 6)
}

fn opt_in(t: &mut Script<'_>) -> Result<()> {
    t.ok("enabled", "tpm_setenable -s -z", &["Disabled status: false"])?;
    t.ok("owner disables", "tpm_setenable -d -z", &[])?;
    t.refused("disabled", "tpm_sealdata -z -i plain -o nothing", "", 7)?;
    t.ok("owner enables", "tpm_setenable -e -z", &[])?;
    // Disabling with presence is left out: tcsd doesn't know TPM_PhysicalDisable and sends the TPM nothing.
    t.ok("presence enables", "tpm_setenable -e -f", &[])?;
    let active = "Persistent Deactivated Status: false";
    t.ok("active", "tpm_setactive -s -z", &[active, "Volatile Deactivated Status: false"])?;
    t.ok("deactivated from the next start", "tpm_setactive -i", &[])?;
    t.ok(
        "not yet",
        "tpm_setactive -s -z",
        &["Persistent Deactivated Status: true", "Volatile Deactivated Status: false"],
    )?;
    t.ok("activated again", "tpm_setactive -a", &[])?;
    t.ok("active again", "tpm_setactive -s -z", &[active])?;
    t.ok("ownable", "tpm_setownable -s -z", &["Ownable status: true"])?;
    t.ok(
        "presence seen",
        "tpm_setpresence -s -z",
        &["Command Enable: true", "Physical Presence: true", "Lock: false"],
    )?;
    t.ok("clearable", "tpm_setclearable -s -z", &["Owner Clear Disabled: false", "Force Clear Disabled: false"])
}

fn endorsement_and_srk(t: &mut Script<'_>) -> Result<()> {
    t.ok("EK for the owner only", "tpm_restrictpubek -s -z", &["readable by: owner"])?;
    t.ok("restrict the EK", "tpm_restrictpubek -r -z", &[])?;
    t.ok("owner reads the EK", "tpm_getpubek -z", &["Key Size:          2048 bits"])?;
    t.refused("others don't", "tpm_getpubek", "wrong\n", 1)?;
    t.ok("SRK for the owner only", "tpm_restrictsrk -s -z", &["readable with: owner auth"])?;
    t.ok("SRK opened", "tpm_restrictsrk -a -z", &[])?;
    t.ok("SRK readable", "tpm_restrictsrk -s -z", &["readable with: SRK auth"])?;
    t.ok("SRK closed", "tpm_restrictsrk -r -z", &[])?;
    t.ok("SRK not readable", "tpm_restrictsrk -s -z", &["readable with: owner auth"])
}

fn nv(t: &mut Script<'_>) -> Result<()> {
    t.ok("owner's area", "tpm_nvdefine -y -i 0x1010 -s 32 -p OWNERREAD|OWNERWRITE", &["Successfully created"])?;
    t.refused("owner's password counts", "tpm_nvdefine -i 0x1015 -s 32 -p OWNERREAD -o wrong", "", 1)?;
    t.ok("written", "tpm_nvwrite -z -i 0x1010 -n 2 -s 5 -d hello", &["Successfully wrote 5 bytes at offset 2"])?;
    t.ok("read", "tpm_nvread -z -i 0x1010 -n 2 -s 5", &["68 65 6c 6c 6f"])?;
    t.ok("rest untouched", "tpm_nvread -z -i 0x1010 -s 3", &["ff ff 68"])?;
    t.refused("past the end", "tpm_nvwrite -z -i 0x1010 -n 30 -s 3 -d end", "", 0)?;
    t.refused("wrong owner", "tpm_nvread --password=wrong -i 0x1010", "", 1)?;
    t.ok(
        "area with a password",
        "tpm_nvdefine -y -i 0x1011 -s 8 -a door -p AUTHREAD|AUTHWRITE",
        &["Successfully created"],
    )?;
    t.ok(
        "written with the password",
        "tpm_nvwrite --password=door -i 0x1011 -d 12345678",
        &["Successfully wrote 8 bytes"],
    )?;
    t.ok("read with the password", "tpm_nvread --password=door -i 0x1011", &["31 32 33 34 35 36 37 38"])?;
    t.refused("wrong password", "tpm_nvread --password=window -i 0x1011", "", 1)?;
    t.ok(
        "locked by an empty write",
        "tpm_nvdefine -y -i 0x1012 -s 4 -p OWNERWRITE|WRITE_STCLEAR",
        &["Successfully created"],
    )?;
    t.ok("written before the lock", "tpm_nvwrite -z -i 0x1012 -d lock", &["Successfully wrote 4 bytes"])?;
    t.ok("lock", "tpm_nvwrite -z -i 0x1012 -s 0", &[])?;
    t.refused("until the next start", "tpm_nvwrite -z -i 0x1012 -d open", "", 0x3c)?;
    t.ok(
        "area bound to a PCR",
        "tpm_nvdefine -y -i 0x1013 -s 4 -r 16 -p OWNERREAD|OWNERWRITE",
        &["Successfully created"],
    )?;
    t.ok("written whatever the PCR", "tpm_nvwrite -z -i 0x1013 -d pcr!", &["Successfully wrote 4 bytes"])?;
    t.ok("read while it matches", "tpm_nvread -z -i 0x1013", &["70 63 72 21"])?;
    t.ok("list", "tpm_nvinfo -n", &["0x00001010", "0x00001011", "0x00001012", "0x00001013"])?;
    t.ok("area described", "tpm_nvinfo -i 0x1011", &["0x00040004 (AUTHREAD|AUTHWRITE)", "Size          : 8 (0x8)"])?;
    t.ok("area bound to a PCR described", "tpm_nvinfo -i 0x1013", &["PCRs\t : 16"])?;
    t.ok("area for release", "tpm_nvdefine -y -i 0x1014 -s 2000 -p OWNERREAD|OWNERWRITE", &["Successfully created"])?;
    t.ok("released", "tpm_nvrelease -y -i 0x1014", &["Successfully released"])?;
    t.refused("gone", "tpm_nvread -z -i 0x1014", "", 0)?;
    t.refused("not released twice", "tpm_nvrelease -y -i 0x1014", "", 0)
}

fn seal(t: &mut Script<'_>) -> Result<()> {
    t.ok("seal", "tpm_sealdata -z -i plain -o sealed", &[])?;
    t.unsealed("unseal", "tpm_unsealdata -z -i sealed")?;
    t.ok("seal to PCRs", "tpm_sealdata -z -p 0 -p 16 -i plain -o sealed-pcr", &[])?;
    t.unsealed("unseal while they match", "tpm_unsealdata -z -i sealed-pcr")?;
    t.refused("wrong SRK password", "tpm_unsealdata -i sealed", "wrong\n", 0)
}

fn passwords(t: &mut Script<'_>) -> Result<()> {
    t.ok_typing("owner's password", "tpm_changeownerauth -o -z", "captain\ncaptain\n", &[])?;
    t.refused("the old one is refused", "tpm_restrictsrk -s -z", "", 1)?;
    t.ok_typing("the new one taken", "tpm_restrictsrk -s", "captain\n", &["readable with"])?;
    t.ok_typing("SRK's password", "tpm_changeownerauth -s", "captain\nroots\nroots\n", &[])?;
    t.refused("the SRK's old one is refused", "tpm_sealdata -z -i plain -o nothing", "", 1)?;
    t.ok_typing("unseal with the new one", "tpm_unsealdata -i sealed", "roots\n", &["a secret of the administrator"])?;
    t.ok_typing("back to the known secrets", "tpm_changeownerauth -o -s -r", "captain\n", &[])?;
    t.unsealed("unseal as before", "tpm_unsealdata -z -i sealed")
}

/// Wrong passwords until the TPM locks itself; the owner opens it.
fn lockout(t: &mut Script<'_>) -> Result<()> {
    let guess = "tpm_nvread --password=guess -i 0x1011";
    let mut locked = false;
    for _ in 0..GUESSES {
        let said = t.stack.tool(guess, "")?;
        locked = said.text.contains("code=0803");
        if locked {
            break;
        }
    }
    t.count(locked, "locked after many wrong passwords", guess, "TPM_DEFEND_LOCK_RUNNING never came");
    t.ok("owner resets the lock", "tpm_resetdalock -z", &[])?;
    t.ok("the right password works", "tpm_nvread --password=door -i 0x1011", &["31 32 33 34"])
}

/// The same TPM after a power cut; nobody present, PCR 16 extended.
fn after_a_power_cut(t: &mut Script<'_>) -> Result<()> {
    t.ok("active after the start", "tpm_setactive -s -z", &["Volatile Deactivated Status: false"])?;
    t.ok("nobody present", "tpm_setpresence -s -z", &["Physical Presence: false"])?;
    t.refused("operator's password only with presence", "tpm_setoperatorauth -z", "", 0x2d)?;
    t.ok("NV survived", "tpm_nvread -z -i 0x1010 -n 2 -s 5", &["68 65 6c 6c 6f"])?;
    t.ok("its password too", "tpm_nvread --password=door -i 0x1011", &["31 32 33 34"])?;
    t.ok("the start opens the locked area", "tpm_nvwrite -z -i 0x1012 -d open", &["Successfully wrote 4 bytes"])?;
    t.refused("no reading with another PCR", "tpm_nvread -z -i 0x1013", "", 0x18)?;
    t.unsealed("sealed data survived", "tpm_unsealdata -z -i sealed")?;
    t.refused("no unsealing with another PCR", "tpm_unsealdata -z -i sealed-pcr", "", 0)?;
    t.refused("no clearing without presence", "tpm_clear -f", "", 0x2d)?;
    t.ok("clearing by the owner forbidden", "tpm_setclearable -o -z", &[])?;
    t.refused("so the owner can't", "tpm_clear -z", "", 5)
}

/// The same TPM, somebody present.
fn with_presence_again(t: &mut Script<'_>) -> Result<()> {
    t.ok("still forbidden to the owner", "tpm_setclearable -s -z", &["Owner Clear Disabled: true"])?;
    t.ok("cleared with presence", "tpm_clear -f", &["Successfuly Cleared"])?;
    t.ok("enable after the clearing", "tpm_setenable -e -f", &[])?;
    t.ok("activate after the clearing", "tpm_setactive -a", &[])
}

/// The cleared TPM gets a new owner.
fn after_the_clearing(t: &mut Script<'_>) -> Result<()> {
    t.ok("an area that was not the owner's stays", "tpm_nvread --password=door -i 0x1011", &["31 32 33 34"])?;
    t.refused("the owner's areas are gone", "tpm_nvread -z -i 0x1010", "", 0)?;
    t.refused("nothing to unseal with", "tpm_unsealdata -z -i sealed", "", 0)?;
    t.ok_typing("ownership with passwords", "tpm_takeownership", "new\nnew\nroots\nroots\n", &[])?;
    t.ok_typing("seal for the new owner", "tpm_sealdata -i plain -o sealed-new", "roots\n", &[])?;
    t.ok_typing(
        "unseal for the new owner",
        "tpm_unsealdata -i sealed-new",
        "roots\n",
        &["a secret of the administrator"],
    )?;
    t.refused("the former owner's data stays shut", "tpm_unsealdata -i sealed", "roots\n", 0)?;
    t.refused("not cleared with a wrong password", "tpm_clear", "old\n", 1)?;
    t.ok_typing("cleared by the owner", "tpm_clear", "new\n", &["Successfuly Cleared"])
}
