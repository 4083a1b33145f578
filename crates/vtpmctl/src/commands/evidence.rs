//! Getting PCRs and quotes.

use crate::cli::{Guest, Wanted};
use crate::error::Error;
use crate::files::{self, Quote};
use crate::guest::{Ask, VirtualTpm, owner_auth};
use crate::link::Link;
use crate::manager::Manager;
use crate::output::Output;
use attest::Subject;
use std::path::Path;
use tpm_wire::mgr::QuoteRequest;

/// The nonce given, or a new one.
pub fn nonce(wanted: &Wanted) -> Result<[u8; 20], Error> {
    match wanted.nonce {
        Some(nonce) => Ok(nonce),
        None => Ok(super::random()?.bytes()),
    }
}

/// `pcrs`
pub fn pcrs(manager: &mut Manager, pcrs: u32, out: Option<&Path>, output: &Output) -> Result<(), Error> {
    let values = manager.pcrs(pcrs)?;
    files::write(out, output, &files::pcrs_to_json(&values.0))
}

/// `quote`
pub fn quote(manager: &mut Manager, wanted: &Wanted, flags: u32, output: &Output) -> Result<(), Error> {
    let (nonce, pcrs) = (nonce(wanted)?, wanted.pcrs);
    let answer = manager.quote(&QuoteRequest { data: nonce, pcrs, flags })?;
    let quote = Quote { subject: Subject::Vtpm, nonce, pcrs, flags, answer };
    files::write(wanted.out.as_deref(), output, &quote.to_json())
}

/// `guest`
pub fn guest(link: Link, command: Guest, output: &Output) -> Result<(), Error> {
    let rng = super::random()?;
    let (value, out) = match command {
        Guest::DeepQuote { wanted, own, flags, owner_auth: auth } => {
            let ask = Ask { nonce: nonce(&wanted)?, pcrs: wanted.pcrs, flags };
            let statement = VirtualTpm::new(link, owner_auth(&auth)?, rng).deep_quote(&ask, own)?;
            (statement.to_json(), wanted.out)
        }
        Guest::Endorsement { wanted, flags, owner_auth: auth } => {
            let ask = Ask { nonce: nonce(&wanted)?, pcrs: wanted.pcrs, flags };
            let statement = VirtualTpm::new(link, owner_auth(&auth)?, rng).endorsement(&ask)?;
            (statement.to_json(), wanted.out)
        }
    };
    files::write(out.as_deref(), output, &value)
}
