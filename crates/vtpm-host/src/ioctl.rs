//! A client of the control channel: what `swtpm_ioctl` does.

use crate::blob::Kind;
use crate::control::BUFFER_SIZE;
use crate::kept::MAX_BLOB;
use crate::wire::{Command, INIT_DELETE_VOLATILE};
use anyhow::{Context, Result, bail, ensure};
use clap::{ArgGroup, Args};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

/// `vtpm-host ioctl`.
#[derive(Args)]
#[command(disable_help_flag = true, group(ArgGroup::new("command").required(true)))]
pub struct Options {
    /// The control channel as a TCP port, host and port each optional (default 127.0.0.1:6546)
    #[arg(long, value_name = "HOST:PORT")]
    tcp: Option<String>,
    /// The control channel as a Unix socket
    #[arg(long, value_name = "PATH", conflicts_with = "tcp")]
    unix: Option<PathBuf>,
    /// Which commands there are
    #[arg(short = 'c', group = "command")]
    capabilities: bool,
    /// Switch the TPM on; stored volatile state is used up
    #[arg(short = 'i', group = "command")]
    init: bool,
    /// Switch the TPM off
    #[arg(long, group = "command")]
    stop: bool,
    /// Switch the TPM off and end the program
    #[arg(short = 's', group = "command")]
    shutdown: bool,
    /// The establishment bit
    #[arg(short = 'e', group = "command")]
    established: bool,
    /// Reset the establishment bit from this locality
    #[arg(short = 'r', value_name = "LOCALITY", group = "command")]
    reset_established: Option<u8>,
    /// Store the volatile state
    #[arg(short = 'v', group = "command")]
    store_volatile: bool,
    /// Give up the command under way
    #[arg(short = 'C', group = "command")]
    cancel: bool,
    /// Set the locality, 0 to 4
    #[arg(short = 'l', value_name = "LOCALITY", group = "command")]
    locality: Option<u8>,
    /// Hash this in locality 4; - for standard input
    #[arg(short = 'h', value_name = "DATA", group = "command")]
    hash: Option<String>,
    /// Write a state blob (permanent, volatile or savestate) into a file
    #[arg(long, value_names = ["KIND", "FILE"], num_args = 2, group = "command")]
    save: Option<Vec<String>>,
    /// Put a state blob from a file into the TPM
    #[arg(long, value_names = ["KIND", "FILE"], num_args = 2, group = "command")]
    load: Option<Vec<String>>,
    /// Which keys are in use
    #[arg(short = 'g', group = "command")]
    config: bool,
    /// Set the buffer size, or 0 to be told it
    #[arg(short = 'b', value_name = "SIZE", group = "command")]
    buffer_size: Option<u32>,
    /// What TPM this is: 1 for the specification, 2 for the TPM's attributes, 3 for both
    #[arg(long, value_name = "FLAGS", group = "command")]
    info: Option<u64>,
    /// Lock the state again; so many tries, 10 ms apart
    #[arg(long, value_name = "TRIES", group = "command")]
    lock_storage: Option<u32>,
    /// Print help
    #[arg(long, action = clap::ArgAction::Help)]
    help: Option<bool>,
}

/// A connection.
struct Channel<S>(S);

impl<S: Read + Write> Channel<S> {
    /// A command, and the first words of its answer behind the return code, which is 0.
    fn ask(&mut self, command: Command, body: &[u8]) -> Result<Vec<u32>> {
        self.0.write_all(&[&(command as u32).to_be_bytes(), body].concat()).context("the control channel is gone")?;
        let mut answer = command.answer(0);
        self.0.read_exact(&mut answer).context("the control channel gives no answer")?;
        let (words, _) = answer.as_chunks::<4>();
        let mut words = words.iter().map(|word| u32::from_be_bytes(*word));
        let code = words.next().unwrap_or_default();
        ensure!(code == 0, "the TPM refuses {command:?}: code {code:#x}");
        Ok(words.collect())
    }

    fn rest(&mut self, length: u32) -> Result<Vec<u8>> {
        ensure!(length as usize <= 2 * MAX_BLOB, "an answer of {length} bytes, which no TPM has");
        let mut bytes = vec![0; length as usize];
        self.0.read_exact(&mut bytes).context("the answer ends early")?;
        Ok(bytes)
    }

    fn hash(&mut self, data: &[u8]) -> Result<()> {
        self.ask(Command::HashStart, &[])?;
        for piece in data.chunks(BUFFER_SIZE as usize) {
            self.ask(Command::HashData, &[&(piece.len() as u32).to_be_bytes(), piece].concat())?;
        }
        self.ask(Command::HashEnd, &[]).map(drop)
    }

    fn save(&mut self, kind: Kind, path: &Path) -> Result<()> {
        let body = [1u32, kind as u32, 0].map(u32::to_be_bytes).concat();
        let answer = self.ask(Command::GetStateBlob, &body)?;
        let blob = self.rest(answer.last().copied().unwrap_or_default())?;
        let mut file = std::fs::OpenOptions::new();
        let file = file.write(true).create(true).truncate(true).mode(0o600).open(path);
        file.and_then(|mut file| file.write_all(&blob)).with_context(|| format!("cannot write {}", path.display()))
    }

    fn load(&mut self, kind: Kind, path: &Path) -> Result<()> {
        let blob = std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
        ensure!(blob.len() <= MAX_BLOB, "{} has {} bytes, which no state has", path.display(), blob.len());
        let body = [0u32, kind as u32, blob.len() as u32].map(u32::to_be_bytes).concat();
        self.ask(Command::SetStateBlob, &[body, blob].concat()).map(drop)
    }

    fn carry_out(&mut self, options: &Options) -> Result<()> {
        let word = |words: &[u32]| words.first().copied().unwrap_or_default();
        if options.capabilities {
            println!("ptm capability is {:#x}", word(&self.ask(Command::GetCapability, &[])?));
        } else if options.init {
            self.ask(Command::Init, &INIT_DELETE_VOLATILE.to_be_bytes())?;
        } else if options.stop {
            self.ask(Command::Stop, &[])?;
        } else if options.shutdown {
            self.ask(Command::Shutdown, &[])?;
        } else if options.established {
            println!("tpmEstablished is {}", word(&self.ask(Command::GetEstablished, &[])?) >> 24);
        } else if let Some(locality) = options.reset_established {
            self.ask(Command::ResetEstablished, &[locality])?;
        } else if options.store_volatile {
            self.ask(Command::StoreVolatile, &[])?;
        } else if options.cancel {
            self.ask(Command::Cancel, &[])?;
        } else if let Some(locality) = options.locality {
            self.ask(Command::SetLocality, &[locality])?;
        } else if let Some(text) = &options.hash {
            let mut data = text.clone().into_bytes();
            if text == "-" {
                data.clear();
                std::io::stdin().lock().read_to_end(&mut data).context("cannot read standard input")?;
            }
            self.hash(&data)?;
        } else if let Some([kind, path]) = options.save.as_deref() {
            self.save(kind_named(kind)?, Path::new(path))?;
        } else if let Some([kind, path]) = options.load.as_deref() {
            self.load(kind_named(kind)?, Path::new(path))?;
        } else if options.config {
            println!("ptm configuration flags: {:#x}", word(&self.ask(Command::GetConfig, &[])?));
        } else if let Some(size) = options.buffer_size {
            if let [size, least, most] = self.ask(Command::SetBufferSize, &size.to_be_bytes())?[..] {
                println!("TPM buffersize: {size}\nminimum size  : {least}\nmaximum size  : {most}");
            }
        } else if let Some(flags) = options.info {
            let answer = self.ask(Command::GetInfo, &[&flags.to_be_bytes()[..], &[0; 8]].concat())?;
            let text = self.rest(answer.last().copied().unwrap_or_default())?;
            println!("{}", String::from_utf8_lossy(&text));
        } else if let Some(retries) = options.lock_storage {
            self.ask(Command::LockStorage, &retries.to_be_bytes())?;
        }
        Ok(())
    }
}

fn kind_named(name: &str) -> Result<Kind> {
    Ok(match name {
        "permanent" => Kind::Permanent,
        "volatile" => Kind::Volatile,
        "savestate" => Kind::SaveState,
        other => bail!("there is no state `{other}`: possible are permanent, volatile and savestate"),
    })
}

impl Options {
    /// Sends the command and prints the answer.
    pub fn run(self) -> Result<()> {
        match (&self.unix, &self.tcp) {
            (Some(path), _) => {
                let stream = UnixStream::connect(path).with_context(|| format!("cannot reach {}", path.display()))?;
                Channel(stream).carry_out(&self)
            }
            (None, Some(address)) => {
                let (host, port) = address.rsplit_once(':').unwrap_or((address, ""));
                let host = if host.is_empty() { "127.0.0.1" } else { host };
                let port =
                    if port.is_empty() { 6546 } else { port.parse().with_context(|| format!("no port: {port}"))? };
                let host = host.trim_start_matches('[').trim_end_matches(']');
                let stream = TcpStream::connect((host, port)).with_context(|| format!("cannot reach {address}"))?;
                Channel(stream).carry_out(&self)
            }
            (None, None) => bail!("where is the TPM? Give --unix or --tcp"),
        }
    }
}
