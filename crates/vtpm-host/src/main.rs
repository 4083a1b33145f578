//! A software TPM as a normal program, with swtpm's command line and control channel.
//!
//! `options` understands the command line, `home`, `storage` and `kept` keep the state (lock, key, vault), `tpm` is a TPM's
//! life, `control` and `wire` are the control channel, `blob` what goes to another host, `server` is the
//! loop, `setup` the factory and `ioctl` a client of the control channel.
#![forbid(unsafe_code)]

mod blob;
mod channel;
mod control;
mod disk;
mod home;
mod ioctl;
mod kept;
mod logger;
mod options;
mod process;
mod ready;
mod sandbox;
mod server;
mod setup;
mod storage;
mod tpm;
mod wire;

use std::process::ExitCode;

fn main() -> ExitCode {
    match options::Cli::from_arguments(std::env::args_os()).run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("vtpm-host: {error:#}");
            ExitCode::FAILURE
        }
    }
}
