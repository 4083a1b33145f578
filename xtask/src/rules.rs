//! The design's rules about who may use whom, and where `unsafe` may stand.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result};
use serde_json::Value;

use crate::paths::Paths;
use crate::process;

/// Packages of this workspace, and which others of it each may use (arrows point down only). `xen-guest` is for images:
/// an optional dependency of the packages that have one.
const MAY_USE: &[(&str, &[&str])] = &[
    ("xen-abi", &[]),
    ("xen-guest", &["xen-abi"]),
    ("tpm-wire", &[]),
    ("tpm-crypto", &[]),
    ("tpm12", &["tpm-wire", "tpm-crypto"]),
    ("vault", &["xen-abi", "tpm-crypto"]),
    ("frontback", &["xen-abi"]),
    ("tpm_tis", &["xen-abi", "tpm-wire", "xen-guest"]),
    ("vtpm-stubdom", &["xen-abi", "tpm-wire", "tpm-crypto", "tpm12", "vault", "frontback", "xen-guest"]),
    ("vtpmmgr", &["xen-abi", "tpm-wire", "tpm-crypto", "vault", "frontback", "tpm_tis", "xen-guest"]),
    ("vtpm-host", &["xen-abi", "tpm-wire", "tpm-crypto", "tpm12", "vault"]),
    ("attest", &["tpm-wire", "tpm-crypto"]),
    ("vtpmctl", &["attest", "tpm-wire", "tpm-crypto"]),
    ("xtask", &["tpm-crypto"]),
];

/// External crates with one door each: only the package named may use them.
const DOORS: &[(&str, &[&str])] = &[
    (
        "tpm-crypto",
        &[
            "sha1",
            "sha2",
            "hmac",
            "hkdf",
            "pbkdf2",
            "aes",
            "ctr",
            "aes-gcm-siv",
            "rsa",
            "crypto-bigint",
            "crypto-primes",
            "rand_core",
        ],
    ),
    ("xen-guest", &["spin", "x86_64", "linked_list_allocator", "pvh"]),
    ("vtpmctl", &["clap_complete", "der", "pkcs1", "pkcs8"]),
    ("xtask", &["indicatif"]),
];

/// Longer files are named in the report.
const LONG: usize = 600;

/// What was found.
#[derive(Default)]
pub struct Findings {
    /// Broken rules.
    pub broken: Vec<String>,
    /// Remarks that break no rule.
    pub remarks: Vec<String>,
}

/// Checks dependencies, `unsafe`, and file lengths.
pub fn check(paths: &Paths) -> Result<Findings> {
    let text = process::check(
        Command::new("cargo").current_dir(&paths.root).args(["metadata", "--format-version", "1", "--no-deps"]),
        "cargo metadata",
        Duration::from_secs(300),
    )?;
    let metadata: Value = serde_json::from_str(&text).context("cannot read cargo's metadata")?;
    let mut findings = Findings::default();
    for package in metadata["packages"].as_array().context("no packages in cargo's metadata")? {
        dependencies(package, &mut findings);
        roots(package, &mut findings)?;
    }
    let mut files = Vec::new();
    sources(&paths.root, &mut files)?;
    for file in files {
        let text = std::fs::read_to_string(&file).with_context(|| format!("cannot read {}", file.display()))?;
        let name = paths.show(&file);
        if !unsafe_allowed(&name)
            && let Some(line) = unsafe_line(&text)
        {
            findings.broken.push(format!("{name}:{line}: unsafe outside xen-guest and the images' main.rs"));
        }
        let lines = text.lines().count();
        if lines > LONG {
            findings.remarks.push(format!("{name}: {lines} lines"));
        }
    }
    Ok(findings)
}

fn dependencies(package: &Value, findings: &mut Findings) {
    let name = package["name"].as_str().unwrap_or_default();
    let Some((_, allowed)) = MAY_USE.iter().find(|(package, _)| *package == name) else {
        findings.broken.push(format!("{name}: a package without a rule (xtask/src/rules.rs)"));
        return;
    };
    for dependency in package["dependencies"].as_array().into_iter().flatten() {
        let used = dependency["name"].as_str().unwrap_or_default();
        // Tests may use what they need to play the other side.
        if dependency["kind"].as_str() == Some("dev") || used == name {
            continue;
        }
        let ours = MAY_USE.iter().any(|(package, _)| *package == used);
        if ours && !allowed.contains(&used) {
            findings.broken.push(format!("{name} may not use {used}"));
        }
        if used == "xen-guest" && dependency["optional"].as_bool() != Some(true) {
            findings.broken.push(format!("{name}: xen-guest must be optional (feature image)"));
        }
        if let Some((door, _)) = DOORS.iter().find(|(_, crates)| crates.contains(&used))
            && *door != name
        {
            findings.broken.push(format!("{name} may not use {used}: that is for {door} alone"));
        }
    }
}

/// Every library but xen-guest forbids `unsafe` at its root.
fn roots(package: &Value, findings: &mut Findings) -> Result<()> {
    let name = package["name"].as_str().unwrap_or_default();
    for target in package["targets"].as_array().into_iter().flatten() {
        let kinds = target["kind"].as_array().into_iter().flatten();
        let mut kinds = kinds.filter_map(Value::as_str);
        if name == "xen-guest" || !kinds.any(|kind| kind == "lib") {
            continue;
        }
        let root = target["src_path"].as_str().unwrap_or_default();
        let text = std::fs::read_to_string(root).with_context(|| format!("cannot read {root}"))?;
        if !text.contains("#![forbid(unsafe_code)]") {
            findings.broken.push(format!("{name}: {root} lacks #![forbid(unsafe_code)]"));
        }
    }
    Ok(())
}

/// All Rust sources of the checkout.
fn sources(dir: &Path, files: &mut Vec<PathBuf>) -> Result<()> {
    for entry in std::fs::read_dir(dir).with_context(|| format!("cannot read {}", dir.display()))? {
        let path = entry?.path();
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        if path.is_dir() {
            if !name.starts_with('.') && name != "target" {
                sources(&path, files)?;
            }
        } else if name.ends_with(".rs") {
            files.push(path);
        }
    }
    Ok(())
}

/// `name` is relative to the checkout.
fn unsafe_allowed(name: &str) -> bool {
    const IMAGES: [&str; 4] = [
        "vtpm-stubdom/src/main.rs",
        "vtpmmgr/src/main.rs",
        "vtpmmgr/src/bin/crowd/main.rs",
        "tpm_tis/src/bin/tis-probe/main.rs",
    ];
    name.starts_with("crates/xen-guest/") || IMAGES.contains(&name)
}

/// The first line that uses the keyword, outside comments and strings.
fn unsafe_line(text: &str) -> Option<usize> {
    let key = concat!("un", "safe");
    text.lines()
        .position(|line| {
            let code = line.split("//").next().unwrap_or_default();
            let code: String = code.split('"').step_by(2).collect();
            code.split(|c: char| !c.is_alphanumeric() && c != '_').any(|word| word == key)
        })
        .map(|line| line + 1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn broken(package: &Value) -> usize {
        let mut findings = Findings::default();
        dependencies(package, &mut findings);
        findings.broken.len()
    }

    #[test]
    fn arrows_point_down_only() {
        let package = |name: &str, used: &str, kind: Value, optional: bool| json!({ "name": name, "dependencies": [{ "name": used, "kind": kind, "optional": optional }] });
        assert_eq!(broken(&package("vault", "xen-abi", Value::Null, false)), 0);
        assert_eq!(broken(&package("vault", "frontback", Value::Null, false)), 1);
        assert_eq!(broken(&package("vault", "frontback", json!("dev"), false)), 0);
        assert_eq!(broken(&package("vtpmmgr", "xen-guest", Value::Null, true)), 0);
        assert_eq!(broken(&package("vtpmmgr", "xen-guest", Value::Null, false)), 1);
        assert_eq!(broken(&package("tpm12", "sha1", Value::Null, false)), 1);
        assert_eq!(broken(&package("newcomer", "log", Value::Null, false)), 1);
    }

    #[test]
    fn the_keyword_is_found_in_code_only() {
        let key = concat!("un", "safe");
        assert_eq!(unsafe_line(&format!("fn f() {{\n    {key} {{ g() }}\n}}")), Some(2));
        assert_eq!(unsafe_line(&format!("// {key}\nlet a = \"{key}\";\n#![forbid({key}_code)]")), None);
    }
}
