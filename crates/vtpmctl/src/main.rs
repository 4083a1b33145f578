//! The operator's tool for a manager: its vTPMs, its groups and their signed lists, quotes and their verification.
//!
//! `cli` is the command line, `commands` do what it says, `manager` speaks to the manager over a `link`, `files` are the files that
//! go between the machines, `keys` are PEM keys, `guest` is the half that runs in a guest. How to use it: docs/vtpmctl.md.
#![forbid(unsafe_code)]

mod cli;
mod commands;
mod error;
mod files;
mod guest;
mod keys;
mod link;
mod manager;
mod output;
mod values;

use clap::Parser;
use std::process::ExitCode;

fn main() -> ExitCode {
    match commands::run(cli::Cli::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("vtpmctl: {error}");
            error.exit_code()
        }
    }
}
