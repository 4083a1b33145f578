//! The one path that every command takes.

pub(crate) mod table;

use crate::call::{AUTH_IN_SIZE, AUTH_OUT_SIZE, AuthIn, Call, ParentQuote, Stop, Wrapped};
use crate::codes::{self, Code};
use crate::commands::audit;
use crate::structs::Digest;
use crate::tpm::Tpm;
use crate::wire::Wire;
use alloc::vec::Vec;
use table::{ACTIVE, Command, ENABLED, NV_UNLOCKED, OWNER, POST_INIT, SELF_TESTED};
use tpm_crypto::rsa::RsaPrivate;
use tpm_crypto::sha1;
use tpm_wire::v12::{TAG_RQU_AUTH1_COMMAND, TAG_RQU_AUTH2_COMMAND, TAG_RQU_COMMAND, TAG_RSP_COMMAND};
use tpm_wire::{CommandHeader, HEADER_SIZE, MAX_PACKET, Reader, ResponseHeader, Writer};
use zeroize::Zeroizing;

/// How an execution ended.
pub(crate) enum Outcome {
    /// With this response.
    Response(Zeroizing<Vec<u8>>),
    /// Nowhere: it needs a new RSA key first.
    NeedsKey { bits: u32, exponent: u32 },
    /// Nowhere: it needs a quote of the hardware TPM first.
    NeedsParent(ParentQuote),
}

/// What was made for a command since it was tried before.
#[derive(Default)]
pub(crate) struct Supplies {
    pub key: Option<RsaPrivate>,
    pub parent_answer: Option<Vec<u8>>,
}

/// A response that is nothing but a return code.
pub(crate) fn error_response(code: Code) -> [u8; HEADER_SIZE] {
    ResponseHeader::bare(TAG_RSP_COMMAND, code.0)
}

/// Executes a command, `wrapped` in a transport session or not.
pub(crate) fn run(tpm: &mut Tpm, locality: u8, packet: &[u8], supplies: Supplies, wrapped: Option<Wrapped>) -> Outcome {
    match try_run(tpm, locality, packet, supplies, wrapped) {
        Ok(response) => Outcome::Response(response),
        Err(Stop::NeedsKey { bits, exponent }) => Outcome::NeedsKey { bits, exponent },
        Err(Stop::NeedsParent(quote)) => Outcome::NeedsParent(quote),
        Err(Stop::Error(code)) => Outcome::Response(Zeroizing::new(error_response(code).to_vec())),
    }
}

fn try_run(
    tpm: &mut Tpm,
    locality: u8,
    packet: &[u8],
    supplies: Supplies,
    wrapped: Option<Wrapped>,
) -> Result<Zeroizing<Vec<u8>>, Stop> {
    if locality > 4 {
        return Err(codes::BAD_LOCALITY.into());
    }
    if packet.len() > MAX_PACKET {
        return Err(codes::SIZE.into());
    }
    let (header, body) = CommandHeader::parse(packet).map_err(|_| codes::BAD_PARAM_SIZE)?;
    let (tag, ordinal) = (header.tag.get(), header.ordinal.get());
    let auth_count = match tag {
        TAG_RQU_COMMAND => 0,
        TAG_RQU_AUTH1_COMMAND => 1,
        TAG_RQU_AUTH2_COMMAND => 2,
        _ => return Err(codes::BADTAG.into()),
    };
    let command = table::find(ordinal, &tpm.options).ok_or(codes::BAD_ORDINAL)?;
    available(tpm, command)?;
    if command.auths & 1 << auth_count == 0 {
        return Err(codes::BADTAG.into());
    }
    let audited = tpm.permanent.audited.contains(&ordinal);
    let mut call = parse(command, locality, body, auth_count, audited, wrapped)?;
    (call.new_key, call.parent_answer) = (supplies.key, supplies.parent_answer);

    let result = (command.handler)(tpm, &mut call);
    let result = match result {
        Ok(()) => Ok(()),
        Err(Stop::Error(code)) => Err(code),
        Err(interrupted) => return Err(interrupted),
    };
    settle(tpm, command, &call);
    match result.and_then(|()| respond(tpm, &call, auth_count)) {
        Ok(response) => Ok(response),
        Err(code) => {
            if call.whole && code != codes::DEFEND_LOCK_RUNNING {
                for auth in call.auths.iter().flatten() {
                    tpm.close_session(auth.handle);
                    tpm.end_transport(auth.handle);
                }
            }
            Err(code.into())
        }
    }
}

/// Whether the TPM is in a state in which this command runs (part 1, section 9; part 3, section 2).
fn available(tpm: &Tpm, command: &Command) -> Result<(), Code> {
    let (flags, when) = (&tpm.permanent.flags, command.when);
    if tpm.volatile.post_initialise && when & POST_INIT == 0 {
        return Err(codes::INVALID_POSTINIT);
    }
    if tpm.volatile.failed && when & SELF_TESTED != 0 {
        return Err(codes::FAILEDSELFTEST);
    }
    // NV storage needs no enabled and activated TPM until it is locked (part 3, section 20).
    if when & NV_UNLOCKED != 0 && !flags.nv_locked {
        return Ok(());
    }
    if when & ENABLED != 0 && flags.disable {
        return Err(codes::DISABLED);
    }
    if when & ACTIVE != 0 && tpm.volatile.flags.deactivated {
        return Err(codes::DEACTIVATED);
    }
    if when & OWNER != 0 && !tpm.permanent.has_owner() {
        return Err(codes::NOSRK);
    }
    Ok(())
}

/// Takes a command apart: handles, parameters, authorizations.
fn parse<'a>(
    command: &Command,
    locality: u8,
    body: &'a [u8],
    auth_count: usize,
    audited: bool,
    wrapped: Option<Wrapped>,
) -> Result<Call<'a>, Code> {
    let trailer = auth_count * AUTH_IN_SIZE;
    let (inner, trailer) =
        body.len().checked_sub(trailer).and_then(|at| body.split_at_checked(at)).ok_or(codes::BAD_PARAM_SIZE)?;
    let (mut r, mut trailer) = (Reader::new(inner), Reader::new(trailer));
    let mut handles = [0; 2];
    for handle in handles.iter_mut().take(command.handles) {
        *handle = r.u32()?;
    }
    let mut auths = [None; 2];
    for auth in auths.iter_mut().take(auth_count) {
        *auth = Some(AuthIn::get(&mut trailer)?);
    }
    Ok(Call {
        ordinal: command.ordinal,
        locality,
        handles,
        in_digest: match auth_count > 0 || audited {
            true => sha1(&[&command.ordinal.to_be_bytes(), r.rest()]),
            false => [0; 20],
        },
        params: r,
        auths,
        proofs: [None, None],
        whole: false,
        wrapped,
        audited,
        out: Zeroizing::default(),
        out_digest: None,
        out_handle: None,
        new_key: None,
        parent_answer: None,
    })
}

/// What every command but a few does to state that is only good for the next command.
fn settle(tpm: &mut Tpm, command: &Command, call: &Call<'_>) {
    use table::ord;
    // Part 3, section 13: any other command ends a hash sequence; a wrapped one counts for itself.
    let keeps_hash = [ord::SHA1_START, ord::SHA1_UPDATE, ord::EXECUTE_TRANSPORT].contains(&command.ordinal);
    if !keeps_hash {
        tpm.hash = None;
    }
    // Part 3, section 3.3: what was saved is good only if nothing happens before the next start.
    let keeps_saved = [ord::STARTUP, ord::SAVE_STATE, ord::INIT].contains(&command.ordinal);
    if !keeps_saved && tpm.permanent.saved_state.is_some() {
        tpm.permanent.edit().saved_state = None;
    }
    // Part 3, section 24: a command that does not go to the exclusive transport session ends it.
    let exclusive = tpm.volatile.exclusive;
    let own = match command.ordinal {
        ord::ESTABLISH_TRANSPORT => true,
        ord::EXECUTE_TRANSPORT | ord::RELEASE_TRANSPORT_SIGNED => {
            call.auths.iter().flatten().last().is_some_and(|auth| auth.handle == exclusive)
        }
        _ => call.wrapped.is_some(),
    };
    if exclusive != 0 && !own {
        tpm.end_transport(exclusive);
    }
}

fn respond(tpm: &mut Tpm, call: &Call<'_>, auth_count: usize) -> Result<Zeroizing<Vec<u8>>, Code> {
    if call.proofs.iter().flatten().count() != auth_count {
        return Err(codes::FAIL);
    }
    let plain = || sha1(&[&0u32.to_be_bytes(), &call.ordinal.to_be_bytes(), &call.out]);
    // Nobody looks at the digest of what is neither authorized nor audited.
    let needed = auth_count > 0 || call.audited;
    let out_digest: Digest = if needed { call.out_digest.unwrap_or_else(plain) } else { [0; 20] };
    audit::record(tpm, call, &out_digest)?;
    let handle_size = if call.out_handle.is_some() { 4 } else { 0 };
    let size = HEADER_SIZE + handle_size + call.out.len() + auth_count * AUTH_OUT_SIZE;
    if size > MAX_PACKET {
        return Err(codes::FAIL);
    }
    let mut response = Zeroizing::new(Vec::with_capacity(size));
    let mut w = Writer::new(&mut response);
    w.u16(TAG_RSP_COMMAND + auth_count as u16).u32(size as u32).u32(0);
    if let Some(handle) = call.out_handle {
        w.u32(handle);
    }
    w.bytes(&call.out);
    tpm.authorize_response(call, &out_digest, &mut response);
    Ok(response)
}

#[cfg(test)]
mod tests;
