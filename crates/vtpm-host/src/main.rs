//! A software TPM as a normal program: an engine behind a socket, with swtpm's `socket` command line.
//!
//! `options` understands the command line, `home` keeps the state folder (lock, key, vault), `server` carries packets, and
//! `tpm` executes them and makes every change durable before its answer goes out.
#![forbid(unsafe_code)]

mod disk;
mod home;
mod logger;
mod options;
mod ready;
mod server;
mod tpm;

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
