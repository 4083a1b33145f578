//! A software TPM as a normal program, with swtpm's command line and control channel.
//!
//! `options` understands the command line, `home`, `storage` and `kept` keep the state (lock, key, vault), `tpm` is a TPM's
//! life, `control` and `wire` are the control channel, `blob` what goes to another host, and `server` is the loop.
#![forbid(unsafe_code)]

mod blob;
mod channel;
mod control;
mod disk;
mod home;
mod kept;
mod logger;
mod options;
mod process;
mod ready;
mod sandbox;
mod server;
mod storage;
mod tpm;
mod wire;

use clap::Parser;
use std::process::ExitCode;

fn main() -> ExitCode {
    match options::Cli::parse().run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("vtpm-host: {error:#}");
            ExitCode::FAILURE
        }
    }
}
