//! One client of the control channel: its messages, taken apart as they come, and what they do.

use crate::blob::Kind;
use crate::channel::{Channel, Received};
use crate::kept::{MAX_BLOB, Secret};
use crate::tpm::{FAIL, Refused, Tpm};
use crate::wire::*;
use std::os::fd::OwnedFd;
use tpm_wire::{Reader, Truncated};

const BAD_PARAMETER: u32 = 3;
const BAD_ORDINAL: u32 = 10;
const BAD_PARAM_SIZE: u32 = 25;
const IO_ERROR: u32 = 31;
const BAD_LOCALITY: u32 = 61;

/// The command channel's largest packet in bytes; smaller ones can't be asked for, as answers do not get smaller by that.
pub const BUFFER_SIZE: u32 = 4096;

const CAPABILITIES: u32 = CAP_INIT
    | CAP_SHUTDOWN
    | CAP_GET_ESTABLISHED
    | CAP_SET_LOCALITY
    | CAP_HASHING
    | CAP_CANCEL
    | CAP_STORE_VOLATILE
    | CAP_RESET_ESTABLISHED
    | CAP_GET_STATE_BLOB
    | CAP_SET_STATE_BLOB
    | CAP_STOP
    | CAP_GET_CONFIG
    | CAP_SET_DATA_FD
    | CAP_SET_BUFFER_SIZE
    | CAP_GET_INFO
    | CAP_LOCK_STORAGE;

/// What the control channel reaches.
pub struct Desk<'a> {
    /// The TPM.
    pub tpm: &'a mut Tpm,
    /// `--locality reject-locality-4`.
    pub reject_locality_4: bool,
    /// A command channel is open.
    pub has_data: bool,
    /// The one that a client passed.
    pub new_data: &'a mut Option<OwnedFd>,
    /// A client asked for the end.
    pub shutdown: &'a mut bool,
}

/// Where in its stream a client is.
enum Mode {
    /// Before a command.
    Idle,
    /// In the data of `HASH_DATA`: bytes to come, and the answer so far.
    Hash { left: u32, code: u32 },
    /// In the blob of `SET_STATEBLOB`.
    Blob { kind: Kind, left: usize, bytes: Secret },
    /// In a blob that will not be taken.
    Skip { left: u32, code: u32 },
}

/// A client.
pub struct Client {
    /// Its connection.
    pub channel: Channel,
    /// It went away.
    pub gone: bool,
    mode: Mode,
    /// Bytes of padding that may still come.
    padding: usize,
    /// The blob that is read in pieces.
    blob: Option<(Kind, Secret)>,
}

fn code(outcome: Result<(), Refused>) -> u32 {
    match outcome {
        Ok(()) => 0,
        Err(Refused { code, reason }) => {
            log::error!("control channel: {reason:#}");
            code
        }
    }
}

impl Client {
    /// A client that has just come.
    pub fn new(fd: OwnedFd) -> Self {
        Self { channel: Channel::new(fd), gone: false, mode: Mode::Idle, padding: 0, blob: None }
    }

    /// Takes what has come and does it; false if the client is gone.
    pub fn serve(&mut self, desk: &mut Desk<'_>) -> bool {
        let received = self.channel.receive();
        while let Some(answer) = self.step(desk) {
            if let Err(error) = self.channel.send(&answer) {
                log::warn!("a control client is dropped, it does not take its answer: {error}");
                if desk.tpm.is_released() {
                    // Perhaps the state did not go out after all.
                    let _ = code(desk.tpm.lock_storage(0));
                }
                return false;
            }
        }
        if received == Received::Gone && !matches!(self.mode, Mode::Idle) {
            log::warn!("a control client went away inside a message, which is ignored");
        }
        received != Received::Gone
    }

    /// Whether this client asks to cancel the command under way. Whatever else it asks waits until that has ended.
    pub fn cancels(&mut self) -> bool {
        self.channel.receive();
        self.drop_padding();
        let cancel = (Command::Cancel as u32).to_be_bytes();
        if !matches!(self.mode, Mode::Idle) || !self.channel.inbox.starts_with(&cancel) {
            return false;
        }
        self.take(cancel.len());
        // Should the client be gone, the next turn will notice.
        let _ = self.channel.send(&Command::Cancel.answer(0));
        true
    }

    fn take(&mut self, count: usize) -> Secret {
        let count = count.min(self.channel.inbox.len());
        Secret::new(self.channel.inbox.drain(..count).collect())
    }

    /// QEMU sends four bytes where one is meant. The other three are zeros, and no command's number begins with four: so it
    /// can be told what they are even if they come late.
    fn drop_padding(&mut self) {
        if self.padding > 0 && self.channel.inbox.len() > self.padding {
            if self.channel.inbox.iter().take(self.padding + 1).all(|byte| *byte == 0) {
                self.channel.inbox.drain(..self.padding);
            }
            self.padding = 0;
        }
    }

    /// Does one thing, if all of it has come; its answer.
    fn step(&mut self, desk: &mut Desk<'_>) -> Option<Vec<u8>> {
        match &mut self.mode {
            Mode::Idle => self.command(desk),
            Mode::Hash { left, code: outcome } => {
                let count = usize::try_from(*left).unwrap_or(usize::MAX).min(self.channel.inbox.len());
                let data = Secret::new(self.channel.inbox.drain(..count).collect());
                *left = left.saturating_sub(count as u32);
                if *outcome == 0 && !data.is_empty() {
                    *outcome = code(desk.tpm.platform(|engine| engine.hash_data(&data)));
                }
                let (left, outcome) = (*left, *outcome);
                (left == 0).then(|| self.done(Command::HashData, outcome))
            }
            Mode::Skip { left, code } => {
                let count = usize::try_from(*left).unwrap_or(usize::MAX).min(self.channel.inbox.len());
                self.channel.inbox.drain(..count);
                *left = left.saturating_sub(count as u32);
                let (left, code) = (*left, *code);
                (left == 0).then(|| self.done(Command::SetStateBlob, code))
            }
            Mode::Blob { kind, left, bytes } => {
                let count = (*left).min(self.channel.inbox.len());
                bytes.extend(self.channel.inbox.drain(..count));
                *left -= count;
                if *left > 0 {
                    return None;
                }
                let outcome = desk.tpm.put_blob(*kind, bytes);
                let outcome = outcome.map_err(|Refused { code, reason }| Refused {
                    code,
                    reason: reason.context(format!("the {kind:?} state is refused")),
                });
                Some(self.done(Command::SetStateBlob, code(outcome)))
            }
        }
    }

    fn done(&mut self, command: Command, code: u32) -> Vec<u8> {
        self.mode = Mode::Idle;
        command.answer(code)
    }

    fn command(&mut self, desk: &mut Desk<'_>) -> Option<Vec<u8>> {
        self.drop_padding();
        let number = u32::from_be_bytes(*self.channel.inbox.first_chunk()?);
        let Some(command) = Command::from_number(number) else {
            log::warn!("control channel: there is no command {number:#x}");
            // Where the next one begins can't be known.
            self.channel.inbox.clear();
            return Some(BAD_ORDINAL.to_be_bytes().to_vec());
        };
        if self.channel.inbox.len() < 4 + command.body() {
            return None;
        }
        self.take(4);
        let body = self.take(command.body());
        self.padding = command.padding();
        // Another client's padding may hold anything, but it comes with its message.
        let rest = self.channel.inbox.len();
        if rest <= self.padding && self.channel.inbox.iter().any(|byte| *byte != 0) {
            self.channel.inbox.clear();
            self.padding -= rest;
        }
        log::debug!("control channel: {command:?}");
        self.carry_out(command, &body, desk).unwrap_or_else(|Truncated| Some(command.answer(BAD_PARAM_SIZE)))
    }

    /// The answer, unless more has to come first.
    fn carry_out(&mut self, command: Command, body: &[u8], desk: &mut Desk<'_>) -> Result<Option<Vec<u8>>, Truncated> {
        let mut body = Reader::new(body);
        let tpm = &mut *desk.tpm;
        let mut words: Vec<u32> = Vec::new();
        let outcome = match command {
            Command::GetCapability => {
                words.push(CAPABILITIES);
                0
            }
            Command::Init => code(tpm.power_on(body.u32()? & INIT_DELETE_VOLATILE != 0)),
            Command::Shutdown => {
                tpm.stop();
                *desk.shutdown = true;
                0
            }
            Command::Stop => {
                tpm.stop();
                0
            }
            Command::GetEstablished => {
                words.push(u32::from(tpm.established()) << 24);
                0
            }
            Command::ResetEstablished => {
                let locality = body.u8()?;
                code(tpm.platform(|engine| engine.reset_established(locality)))
            }
            Command::SetLocality => match body.u8()? {
                4 if desk.reject_locality_4 => BAD_LOCALITY,
                locality @ 0..=4 => {
                    tpm.locality = locality;
                    0
                }
                _ => BAD_LOCALITY,
            },
            Command::HashStart => code(tpm.platform(tpm12::Tpm12::hash_start)),
            Command::HashData => {
                let outcome = if tpm.is_running() { 0 } else { FAIL };
                self.mode = Mode::Hash { left: body.u32()?, code: outcome };
                return Ok(self.step(desk));
            }
            Command::HashEnd => code(tpm.platform(tpm12::Tpm12::hash_end)),
            // None is under way, else it would have been seen there.
            Command::Cancel => 0,
            Command::StoreVolatile => code(tpm.store_volatile()),
            Command::GetStateBlob => return Ok(Some(self.get_blob(&mut body, tpm)?)),
            Command::SetStateBlob => {
                self.mode = set_blob(&mut body)?;
                return Ok(self.step(desk));
            }
            Command::GetConfig => {
                let file = if tpm.has_key() { CONFIG_FILE_KEY } else { 0 };
                words.push(file | if tpm.has_migration_key() { CONFIG_MIGRATION_KEY } else { 0 });
                0
            }
            Command::SetDataFd => match self.channel.passed.take() {
                None => BAD_PARAMETER,
                Some(_) if desk.has_data || desk.new_data.is_some() => {
                    log::error!("control channel: a second command channel is refused");
                    IO_ERROR
                }
                Some(fd) => {
                    *desk.new_data = Some(fd);
                    0
                }
            },
            Command::SetBufferSize => {
                words.extend([BUFFER_SIZE; 3]);
                if body.u32()? != 0 && tpm.is_running() { BAD_ORDINAL } else { 0 }
            }
            Command::GetInfo => return Ok(Some(get_info(body.u64()?, body.u32()?))),
            Command::LockStorage => code(tpm.lock_storage(body.u32()?)),
        };
        let mut answer = command.answer(outcome);
        for (place, word) in answer.chunks_exact_mut(4).skip(1).zip(words) {
            place.copy_from_slice(&word.to_be_bytes());
        }
        Ok(Some(answer))
    }

    fn get_blob(&mut self, body: &mut Reader<'_>, tpm: &mut Tpm) -> Result<Vec<u8>, Truncated> {
        let (_, number, offset) = (body.u32()?, body.u32()?, body.u32()?);
        let refused = |code| Ok(Command::GetStateBlob.answer(code));
        let Some(kind) = Kind::from_number(number) else { return refused(BAD_PARAMETER) };
        if offset == 0 || self.blob.as_ref().is_none_or(|(last, _)| *last != kind) {
            match tpm.blob(kind) {
                Ok(blob) => self.blob = Some((kind, blob)),
                Err(Refused { code, reason }) => {
                    log::error!("the {kind:?} state is not given out: {reason:#}");
                    return refused(code);
                }
            }
        }
        let blob = self.blob.as_ref().map(|(_, blob)| &blob[..]).unwrap_or_default();
        let Some(piece) = usize::try_from(offset).ok().and_then(|offset| blob.get(offset..)) else {
            return refused(BAD_PARAMETER);
        };
        if kind == Kind::SaveState {
            // The last one. Who gets this answer may have the other side take the lock at once.
            tpm.went_out();
        }
        let flags = if tpm.has_migration_key() && !blob.is_empty() { STATE_ENCRYPTED } else { 0 };
        let mut answer = Vec::with_capacity(16 + piece.len());
        // No blob is longer than a vault.
        for word in [0, flags, blob.len() as u32, piece.len() as u32] {
            answer.extend_from_slice(&word.to_be_bytes());
        }
        answer.extend_from_slice(piece);
        Ok(answer)
    }
}

fn set_blob(body: &mut Reader<'_>) -> Result<Mode, Truncated> {
    let (_, number, length) = (body.u32()?, body.u32()?, body.u32()?);
    let size = usize::try_from(length).unwrap_or(usize::MAX);
    Ok(match Kind::from_number(number) {
        None => Mode::Skip { left: length, code: BAD_PARAMETER },
        Some(_) if size > MAX_BLOB => Mode::Skip { left: length, code: BAD_PARAM_SIZE },
        Some(kind) => Mode::Blob { kind, left: size, bytes: Secret::new(Vec::with_capacity(size)) },
    })
}

fn get_info(flags: u64, offset: u32) -> Vec<u8> {
    let mut parts = Vec::new();
    if flags & INFO_SPECIFICATION != 0 {
        parts.push(r#""TPMSpecification":{"family":"1.2","level":2,"revision":116}"#);
    }
    if flags & INFO_ATTRIBUTES != 0 {
        // The engine's TPM_CAP_PROP_MANUFACTURER and version, as a certificate names them.
        parts.push(r#""TPMAttributes":{"manufacturer":"id:58565452","version":"id:00000001","model":"vtpm-host"}"#);
    }
    let text = format!("{{{}}}", parts.join(","));
    let Some(piece) = usize::try_from(offset).ok().and_then(|offset| text.as_bytes().get(offset..)) else {
        return Command::GetInfo.answer(BAD_PARAMETER);
    };
    let mut answer = Vec::with_capacity(12 + piece.len());
    for word in [0, text.len() as u32, piece.len() as u32] {
        answer.extend_from_slice(&word.to_be_bytes());
    }
    answer.extend_from_slice(piece);
    answer
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};
    use std::os::unix::net::UnixStream;

    fn answer(peer: &mut UnixStream) -> Option<[u8; 4]> {
        peer.set_nonblocking(true).unwrap();
        let mut word = [0; 4];
        peer.read_exact(&mut word).ok().map(|()| word)
    }

    #[test]
    fn a_command_under_way_is_cancelled_by_that_command_alone() {
        let (mut peer, ours) = UnixStream::pair().unwrap();
        let mut client = Client::new(ours.into());
        assert!(!client.cancels());
        peer.write_all(&[0, 0, 0]).unwrap();
        assert!(!client.cancels() && answer(&mut peer).is_none(), "not all of it is there");
        peer.write_all(&[9]).unwrap();
        assert!(client.cancels());
        assert_eq!(answer(&mut peer), Some([0; 4]));
        assert!(!client.cancels(), "once");

        // What comes before it waits for the end of the command, and so does it.
        peer.write_all(&[0, 0, 0, 1, 0, 0, 0, 9]).unwrap();
        assert!(!client.cancels() && answer(&mut peer).is_none());
        client.channel.inbox.clear();
        client.mode = Mode::Blob { kind: Kind::Permanent, left: 4, bytes: Secret::default() };
        peer.write_all(&[0, 0, 0, 9]).unwrap();
        assert!(!client.cancels(), "that is a blob");
        drop(peer);
        assert!(!client.cancels());
    }
}
