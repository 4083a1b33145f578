//! The command line.

use crate::values;
use attest::Bank;
use clap::{Args, Parser, Subcommand};
use std::path::PathBuf;

/// The operator's tool for a vtpmmgr domain: vTPMs, groups, signed lists, quotes and their verification.
///
/// Exit codes: 0 done; 1 the manager (or TPM) refused or answered nonsense; 2 wrong command line; 3 it is not reached; 4 evidence proves
/// nothing; 5 a file cannot be used.
#[derive(Parser)]
#[command(version, max_term_width = 110)]
pub struct Cli {
    /// The device that connects this domain to the manager (guest: to its vTPM)
    #[arg(long, global = true, default_value = "/dev/tpm0", value_name = "PATH")]
    pub device: PathBuf,
    /// A Unix socket in place of the device: a stream of packets
    #[arg(long, global = true, value_name = "PATH", conflicts_with = "device")]
    pub socket: Option<PathBuf>,
    /// Print JSON
    #[arg(long, global = true)]
    pub json: bool,
    /// What to do
    #[command(subcommand)]
    pub command: Command,
}

/// What to do.
#[derive(Subcommand)]
pub enum Command {
    /// The manager and its chip at a glance
    Status,
    /// List the vTPMs
    List {
        /// Of this group alone
        #[arg(long, value_name = "INDEX")]
        group: Option<u32>,
    },
    /// Show a vTPM
    Show {
        /// Its UUID
        #[arg(value_parser = values::uuid)]
        uuid: [u8; 16],
    },
    /// Make a vTPM known before it comes; prints its UUID
    Add {
        /// Its group
        #[arg(long, value_name = "INDEX", default_value_t = 0)]
        group: u32,
        /// Its UUID; drawn if not given
        #[arg(long, value_parser = values::uuid)]
        uuid: Option<[u8; 16]>,
    },
    /// Move a vTPM to another group, lock or unlock it
    Edit(Edit),
    /// Forget a vTPM and its key: what is on its disk cannot be opened any more
    Delete {
        /// Its UUID
        #[arg(value_parser = values::uuid)]
        uuid: [u8; 16],
        /// Yes, for ever
        #[arg(long, required = true)]
        forever: bool,
    },
    /// Groups: their keys, lists and quotes
    #[command(subcommand)]
    Group(Group),
    /// The chip's PCRs now, as `sign` takes them
    Pcrs {
        /// Which, as in 0-7,14
        #[arg(long, value_parser = values::pcrs, default_value = "all")]
        pcrs: u32,
        /// Write them here
        #[arg(long, value_name = "FILE")]
        out: Option<PathBuf>,
    },
    /// Sign a group's list: on which PCRs it may be opened and which domains may use it. Needs no manager
    Sign(Sign),
    /// A quote of the chip about the vTPM that this domain is to the manager
    Quote {
        /// What is asked for
        #[command(flatten)]
        wanted: Wanted,
        /// What else the manager is to vouch for: uuid, label, group, group-key
        #[arg(long, value_parser = values::flags, default_value = "uuid")]
        flags: u32,
    },
    /// In a guest: proofs of its own vTPM through its manager's chip
    #[command(subcommand)]
    Guest(Guest),
    /// Make a challenge that only the chip with this endorsement key can answer, if the attestation key is in it. Needs no manager
    Challenge {
        /// What `group keys` wrote
        keys: PathBuf,
        /// The endorsement key as the chip's maker or a certificate gives it, if the one in KEYS is not to be believed: TPMT_PUBLIC,
        /// TPM_PUBKEY, or a modulus of 256 bytes
        #[arg(long, value_name = "FILE")]
        endorsement: Option<PathBuf>,
        /// Write the challenge here, for `group activate`
        #[arg(long, value_name = "FILE")]
        out: PathBuf,
        /// Keep the secret here, for `verify challenge`
        #[arg(long, value_name = "FILE")]
        secret: PathBuf,
    },
    /// Check evidence. Needs no manager
    #[command(subcommand)]
    Verify(Verify),
    /// Make a code that opens the manager's disk when the PCRs do not; it is shown once and replaces an earlier one
    RecoveryCode,
    /// Print a shell's completion script
    Completions {
        /// The shell
        shell: clap_complete::Shell,
    },
}

/// `edit`
#[derive(Args)]
pub struct Edit {
    /// Its UUID
    #[arg(value_parser = values::uuid)]
    pub uuid: [u8; 16],
    /// Its group from now on
    #[arg(long, value_name = "INDEX", required_unless_present_any = ["lock", "unlock"])]
    pub group: Option<u32>,
    /// Give it neither its key nor quotes
    #[arg(long, conflicts_with = "unlock")]
    pub lock: bool,
    /// Serve it again
    #[arg(long)]
    pub unlock: bool,
}

/// `group`
#[derive(Subcommand)]
pub enum Group {
    /// List the groups
    List,
    /// Show a group
    Show {
        /// Its index
        index: u32,
    },
    /// Make a group; prints its index and UUID
    Create {
        /// Who signs its lists: a PEM file with a public (or private) key, RSA of 2048 or 3072 bits, or P-256
        #[arg(long, value_name = "PEM")]
        key: Option<PathBuf>,
        /// What the binding of its attestation key names, for a privacy CA: 20 bytes
        #[arg(long, value_parser = values::digest, default_value = "0000000000000000000000000000000000000000")]
        label: [u8; 20],
    },
    /// Name the approval key of a group that has none
    SetKey {
        /// Its index
        index: u32,
        /// As for `create`
        #[arg(long, value_name = "PEM")]
        key: PathBuf,
    },
    /// Give a group a signed list
    Update {
        /// Its index
        index: u32,
        /// What `sign` wrote
        file: PathBuf,
    },
    /// Delete a group that has no vTPMs; those behind it move up
    Delete {
        /// Its index
        index: u32,
    },
    /// A group's attestation key and the chip's endorsement key, which a verifier starts from
    Keys {
        /// Its index
        index: u32,
        /// Write them here
        #[arg(long, value_name = "FILE")]
        out: Option<PathBuf>,
    },
    /// Answer a challenge
    Activate {
        /// Its index
        index: u32,
        /// What `challenge` wrote
        challenge: PathBuf,
        /// Write the answer here
        #[arg(long, value_name = "FILE")]
        out: Option<PathBuf>,
    },
    /// A quote of the chip about a group and its list
    Quote {
        /// Its index
        index: u32,
        /// What is asked for
        #[command(flatten)]
        wanted: Wanted,
    },
}

/// What a quote is asked for with.
#[derive(Args)]
pub struct Wanted {
    /// The verifier's nonce: 20 bytes; drawn if not given
    #[arg(long, value_parser = values::digest)]
    pub nonce: Option<[u8; 20]>,
    /// The chip's PCRs, as in 0-7,14
    #[arg(long, value_parser = values::pcrs, default_value = "0-7")]
    pub pcrs: u32,
    /// Write the quote here
    #[arg(long, value_name = "FILE")]
    pub out: Option<PathBuf>,
}

/// `sign`
#[derive(Args)]
pub struct Sign {
    /// The approval key: a PEM file with a private key
    #[arg(long, value_name = "PEM")]
    pub key: PathBuf,
    /// The UUID of the group it is for (`group show`)
    #[arg(long, value_parser = values::uuid, required_unless_present = "legacy")]
    pub group: Option<[u8; 16]>,
    /// Greater than that of the list before; the time (in seconds) if not given
    #[arg(long)]
    pub sequence: Option<u64>,
    /// A file of PCR values (`pcrs --out`) on which the group may be opened; several may be given, or none
    #[arg(long, value_name = "FILE")]
    pub pcrs: Vec<PathBuf>,
    /// The XSM label of a domain that may use the group; several may be given, or none for all
    #[arg(long, value_name = "LABEL")]
    pub label: Vec<String>,
    /// The same as a SHA-1 hash
    #[arg(long, value_name = "HASH", value_parser = values::digest)]
    pub kernel: Vec<[u8; 20]>,
    /// A list of the C stack's form, for GROUP_UPDATE
    #[arg(long, conflicts_with = "group")]
    pub legacy: bool,
    /// Write it here
    #[arg(long, value_name = "FILE")]
    pub out: PathBuf,
}

/// `guest`
#[derive(Subcommand)]
pub enum Guest {
    /// Prove which PCRs this guest's vTPM has (TPM_DeepQuote)
    DeepQuote {
        /// What is asked for
        #[command(flatten)]
        wanted: Wanted,
        /// The vTPM's own PCRs
        #[arg(long, value_parser = values::pcrs, default_value = "all")]
        own: u32,
        /// What else the manager is to vouch for
        #[arg(long, value_parser = values::flags, default_value = "uuid")]
        flags: u32,
        /// The owner's secret: well-known (20 zeros), hash: and 40 hexadecimal digits, text: and a password, or file: and a file that holds one of these
        #[arg(long, value_name = "AUTH", default_value = "well-known")]
        owner_auth: String,
    },
    /// Prove which endorsement key this guest's vTPM has, in the run in which the key was made (TPM_ParentSignEK)
    Endorsement {
        /// What is asked for
        #[command(flatten)]
        wanted: Wanted,
        /// What else the manager is to vouch for
        #[arg(long, value_parser = values::flags, default_value = "uuid")]
        flags: u32,
        /// The owner's secret, as for `deep-quote`
        #[arg(long, value_name = "AUTH", default_value = "well-known")]
        owner_auth: String,
    },
}

/// What a verifier pins.
#[derive(Args)]
pub struct Pinned {
    /// The attestation key: what `group keys` wrote, or TPMT_PUBLIC, TPM_PUBKEY, or a modulus of 256 bytes
    #[arg(long, value_name = "FILE")]
    pub key: PathBuf,
    /// The nonce that was asked with
    #[arg(long, value_parser = values::digest)]
    pub nonce: [u8; 20],
    /// The PCRs that were asked for
    #[arg(long, value_parser = values::pcrs, default_value = "0-7")]
    pub pcrs: u32,
    /// The bank (sha1 on a TPM 1.2)
    #[arg(long, value_parser = values::bank, default_value = "sha256")]
    pub bank: Bank,
    /// Values that the chip's PCRs must have: what `pcrs` wrote
    #[arg(long, value_name = "FILE")]
    pub expect: Option<PathBuf>,
    /// A value that a PCR of the chip must have, as in 7=0123...; several may be given
    #[arg(long, value_name = "PCR=VALUE", value_parser = values::pcr_value)]
    pub expect_pcr: Vec<(u8, Vec<u8>)>,
    /// The XSM label that the domain must have
    #[arg(long, value_name = "LABEL")]
    pub label: Option<String>,
    /// The approval key that the group must have, a PEM file
    #[arg(long, value_name = "PEM")]
    pub group_key: Option<PathBuf>,
    /// The list that the group must have: what `sign` wrote
    #[arg(long, value_name = "FILE", requires = "group_key")]
    pub group_list: Option<PathBuf>,
}

/// `verify`
#[derive(Subcommand)]
pub enum Verify {
    /// A quote about a vTPM or a group
    Quote {
        /// What `quote` or `group quote` wrote
        file: PathBuf,
        /// The UUID that the vTPM (or group) must have
        #[arg(long, value_parser = values::uuid)]
        uuid: Option<[u8; 16]>,
        /// The rest
        #[command(flatten)]
        pinned: Pinned,
    },
    /// The chain from the chip to a guest's PCRs
    Chain {
        /// What `guest endorsement` wrote
        endorsement: PathBuf,
        /// What `guest deep-quote` wrote
        deep_quote: PathBuf,
        /// The UUID that the vTPM must have
        #[arg(long, value_parser = values::uuid)]
        uuid: [u8; 16],
        /// A value that a PCR of the vTPM must have, as in 10=0123...; several may be given
        #[arg(long, value_name = "PCR=VALUE", value_parser = values::pcr_value)]
        own_pcr: Vec<(u8, Vec<u8>)>,
        /// The rest
        #[command(flatten)]
        pinned: Pinned,
    },
    /// The answer to a challenge: whether the attestation key is in the chip with that endorsement key
    Challenge {
        /// What `group activate` wrote
        answer: PathBuf,
        /// What `challenge` kept
        #[arg(long, value_name = "FILE")]
        secret: PathBuf,
    },
}
