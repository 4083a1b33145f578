//! The factory: what `swtpm_setup` does, for a TPM 1.2.

mod certificates;
mod client;
mod der;

use crate::home::Place;
use crate::logger;
use crate::options::keys;
use crate::process::{become_user, find_user};
use crate::storage::generator;
use crate::tpm::{Keeping, Start, Tpm};
use anyhow::{Context, Result, bail, ensure};
use certificates::{Authority, Kind, export};
use clap::Args;
use log::LevelFilter;
use std::path::PathBuf;
use tpm_crypto::sha1;
use tpm12::StartupType;
use zeroize::Zeroizing;

/// `TPM_NV_INDEX_EKCert` and `TPM_NV_INDEX_PlatformCert` (part 2, section 19.1.2).
const EK_CERTIFICATE: u32 = 0x1000_f000;
const PLATFORM_CERTIFICATE: u32 = 0x1000_f002;
/// Mode of new state files.
const MODE: u32 = 0o600;
/// swtpm_setup's passwords where none is given.
const OWNER_PASSWORD: &str = "ooo";
const SRK_PASSWORD: &str = "sss";

const CAPABILITIES: &str = concat!(
    r#"{ "type": "swtpm_setup", "features": [ "tpm-1.2", "cmdarg-keyfile-fd", "cmdarg-pwdfile-fd", "tpm12-not-need-root", "#,
    r#""cmdarg-write-ek-cert-files" ], "version": ""#,
    env!("CARGO_PKG_VERSION"),
    r#"" }"#
);

/// `vtpm-host setup`.
#[derive(Args)]
pub struct Options {
    /// Where the state is to lie: a folder, dir://PATH or file://PATH
    #[arg(long, alias = "tpmstate", value_name = "PATH")]
    tpm_state: Option<String>,
    /// A TPM 2.0 (not built yet)
    #[arg(long)]
    tpm2: bool,
    /// Make the endorsement key (every new TPM has one)
    #[arg(long)]
    createek: bool,
    /// Take ownership
    #[arg(long)]
    take_ownership: bool,
    /// The owner's password
    #[arg(long, value_name = "PASSWORD", default_value = OWNER_PASSWORD)]
    ownerpass: String,
    /// The owner's secret is 20 zero bytes
    #[arg(long)]
    owner_well_known: bool,
    /// The storage root key's password
    #[arg(long, value_name = "PASSWORD", default_value = SRK_PASSWORD)]
    srkpass: String,
    /// The storage root key's secret is 20 zero bytes
    #[arg(long)]
    srk_well_known: bool,
    /// Put a certificate of the endorsement key into the TPM
    #[arg(long)]
    create_ek_cert: bool,
    /// Put a platform certificate into the TPM
    #[arg(long)]
    create_platform_cert: bool,
    /// Lock the NV storage: from then on its areas' attributes count
    #[arg(long)]
    lock_nvram: bool,
    /// Say at the end what was made
    #[arg(long)]
    display: bool,
    /// Put a new TPM in the place of the one that is there
    #[arg(long)]
    overwrite: bool,
    /// Leave a TPM that is there alone, without an error
    #[arg(long)]
    not_overwrite: bool,
    /// The machine's name in certificates
    #[arg(long, alias = "vm-id", value_name = "NAME")]
    vmid: Option<String>,
    /// Write the endorsement key's certificate (DER) into this folder, too
    #[arg(long, value_name = "FOLDER")]
    write_ek_cert_files: Option<PathBuf>,
    /// The certificate authority's folder, made if it does not exist (default: /var/lib/vtpm-host-localca for root, else
    /// vtpm-host-localca in $XDG_DATA_HOME or ~/.local/share)
    #[arg(long, value_name = "FOLDER", env = "VTPM_HOST_LOCALCA")]
    localca: Option<PathBuf>,
    /// Append log lines to this file
    #[arg(long, value_name = "PATH")]
    logfile: Option<PathBuf>,
    /// Protect the state with the key in this file (hexadecimal digits)
    #[arg(long, value_name = "PATH")]
    keyfile: Option<PathBuf>,
    /// The same from a descriptor
    #[arg(long, value_name = "N")]
    keyfile_fd: Option<i32>,
    /// Protect the state with a key from the passphrase in this file
    #[arg(long, value_name = "PATH")]
    pwdfile: Option<PathBuf>,
    /// The same from a descriptor
    #[arg(long, value_name = "N")]
    pwdfile_fd: Option<i32>,
    /// aes-cbc, aes-128-cbc or aes-256-cbc: how long the key is
    #[arg(long, value_name = "CIPHER", default_value = "aes-128-cbc")]
    cipher: String,
    /// Go on as this user
    #[arg(long, value_name = "USER")]
    runas: Option<String>,
    /// Say in JSON what this program can do, and end
    #[arg(long)]
    print_capabilities: bool,
    /// Taken for swtpm_setup's sake and not used: the TPM is made in this process
    #[arg(long, value_name = "PROGRAM", hide = true)]
    tpm: Option<String>,
    /// As --tpm
    #[arg(long, value_name = "PROGRAM", hide = true)]
    swtpm_ioctl: Option<String>,
    /// As --tpm: there is no configuration file
    #[arg(long, value_name = "PATH", hide = true)]
    config: Option<PathBuf>,
    /// As --tpm: a TPM 1.2 has one bank
    #[arg(long, value_name = "BANKS", hide = true)]
    pcr_banks: Option<String>,
    /// As --tpm
    #[arg(long, value_name = "PATH", hide = true)]
    tcsd_system_ps_file: Option<PathBuf>,
}

fn secret(password: &str, well_known: bool) -> Zeroizing<[u8; 20]> {
    Zeroizing::new(if well_known { [0; 20] } else { sha1(&[password.as_bytes()]) })
}

/// `TCG_PCCLIENT_STORED_CERT` with a `TCG_FULL_CERT` (PC Client Implementation Specification 1.21, section 7.4.5).
fn stored(certificate: &[u8]) -> Result<Vec<u8>> {
    let length = u16::try_from(certificate.len() + 2).context("the certificate is too long")?;
    Ok([&[0x10, 0x01, 0x00][..], &length.to_be_bytes(), &[0x10, 0x02], certificate].concat())
}

impl Options {
    /// Makes the TPM that the options ask for.
    pub fn run(self) -> Result<()> {
        if self.print_capabilities {
            println!("{CAPABILITIES}");
            return Ok(());
        }
        ensure!(
            !self.tpm2,
            "--tpm2: the TPM 2.0 engine is not part of this version; without --tpm2 this makes a TPM 1.2"
        );
        let target = match &self.logfile {
            Some(path) => logger::Target::File { path: path.clone(), truncate: false },
            None => logger::Target::StandardError,
        };
        logger::start(LevelFilter::Info, target, "")?;
        if let Some(user) = &self.runas {
            become_user(&find_user(user)?)?;
        }
        let place = self.place()?;
        if place.has_vault() {
            if self.not_overwrite {
                log::info!("there is a TPM, and it stays as it is");
                return Ok(());
            }
            ensure!(
                self.overwrite,
                "there is a TPM already: say --overwrite for a new one in its place, or --not-overwrite to keep it"
            );
            place.clear()?;
        }
        let key = self.key()?.map(|key| keys::vault_key(&key));
        let keeping =
            Keeping { place: place.clone(), mode: MODE, key, migration_key: None, incoming: false, release: false };
        let mut tpm = Tpm::open(keeping, tpm12::Options::default())?;
        let made = tpm.start(Start::Now(StartupType::Clear)).and_then(|()| self.furnish(&mut tpm));
        if made.is_err() {
            // Half of a TPM must not pass for one at the next try.
            drop(tpm);
            place.clear()?;
        }
        made
    }

    fn place(&self) -> Result<Place> {
        let text = self.tpm_state.as_deref().context("--tpm-state is missing: say where the state is to lie")?;
        let place = match text.split_once("://") {
            Some(("dir", path)) => Place::Folder(path.into()),
            Some(("file", path)) => Place::File(path.into()),
            Some(_) => bail!("--tpm-state {text}: possible are a folder, dir://PATH and file://PATH"),
            None => Place::Folder(text.into()),
        };
        let (Place::Folder(path) | Place::File(path)) = &place;
        ensure!(!path.as_os_str().is_empty(), "--tpm-state: the path is empty");
        Ok(place)
    }

    fn key(&self) -> Result<Option<Zeroizing<Vec<u8>>>> {
        let sources = [
            self.keyfile.as_ref().map(|path| format!("file={}", path.display())),
            self.keyfile_fd.map(|fd| format!("fd={fd}")),
            self.pwdfile.as_ref().map(|path| format!("pwdfile={}", path.display())),
            self.pwdfile_fd.map(|fd| format!("pwdfd={fd}")),
        ];
        let sources: Vec<String> = sources.into_iter().flatten().collect();
        match &sources[..] {
            [] => Ok(None),
            [source] => Ok(Some(keys::read(&format!("{source},mode={}", self.cipher))?)),
            _ => bail!("only one of --keyfile, --keyfile-fd, --pwdfile and --pwdfile-fd is possible"),
        }
    }

    /// Certificates, owner, lock.
    fn furnish(&self, tpm: &mut Tpm) -> Result<()> {
        let mut rng = generator(b"vtpm-host setup")?;
        let endorsement = client::endorsement_key(tpm, &mut rng)?;
        let mut made = vec!["endorsement key of 2048 bits".to_owned()];
        let kinds = [
            (self.create_ek_cert || self.create_platform_cert, Kind::Endorsement, EK_CERTIFICATE),
            (self.create_platform_cert, Kind::Platform, PLATFORM_CERTIFICATE),
        ];
        if kinds.iter().any(|(wanted, ..)| *wanted) {
            let authority = Authority::open(&self.authority_folder()?, &mut rng)?;
            for (_, kind, index) in kinds.into_iter().filter(|(wanted, ..)| *wanted) {
                let certificate = authority.issue(kind, &endorsement, self.vmid.as_deref(), &mut rng)?;
                client::write_area(tpm, index, &stored(&certificate)?)
                    .with_context(|| format!("the {kind:?} certificate"))?;
                made.push(format!("{kind:?} certificate in NV area {index:#x}"));
                if let (Kind::Endorsement, Some(folder)) = (kind, &self.write_ek_cert_files) {
                    export(&folder.join("ek-rsa2048.crt"), &certificate)?;
                }
            }
        }
        if self.take_ownership {
            let owner = secret(&self.ownerpass, self.owner_well_known);
            let srk = secret(&self.srkpass, self.srk_well_known);
            client::take_ownership(tpm, &owner, &srk, &mut rng).context("taking ownership")?;
            made.push("owner and storage root key".to_owned());
        }
        if self.lock_nvram {
            client::lock(tpm).context("locking the NV storage")?;
            made.push("NV storage locked".to_owned());
        }
        log::info!("made a TPM 1.2: {}", made.join(", "));
        if self.display {
            println!("TPM 1.2: {}", made.join(", "));
        }
        Ok(())
    }

    fn authority_folder(&self) -> Result<PathBuf> {
        const NAME: &str = "vtpm-host-localca";
        if let Some(folder) = &self.localca {
            return Ok(folder.clone());
        }
        if nix::unistd::Uid::effective().is_root() {
            return Ok(PathBuf::from("/var/lib").join(NAME));
        }
        let data = std::env::var_os("XDG_DATA_HOME").map(PathBuf::from);
        let home = || std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".local/share"));
        let folder =
            data.or_else(home).context("neither --localca nor HOME says where the certificate authority is")?;
        Ok(folder.join(NAME))
    }
}
