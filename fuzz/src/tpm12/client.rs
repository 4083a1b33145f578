//! A client that knows every secret (they are all [`AUTH`]), and holds the TPM to its word after each command.

use super::grammar::{FOLLOWING, ROWS, field};
use crate::input::Input;
use tpm_crypto::{Drbg, aes_ctr, hmac_sha1, sha1};
use tpm_wire::{Engine, Progress, ResponseHeader};
use tpm12::{Options, Tpm12};

/// Owner, keys, data and NV areas: all have this authorization.
pub const AUTH: [u8; 20] = [7; 20];
/// Entities with fixed handles.
pub const FIXED: [u32; 7] = [0x4000_0000, 0x4000_0001, 0x4000_0003, 0x4000_0004, 0x4000_0005, 0x4000_0006, 0];
/// All commands exist.
pub fn options() -> Options {
    Options { maintenance_commands: true, parent_quotes: true }
}

const EXECUTE_TRANSPORT: u32 = 0xe7;
const ESTABLISH_TRANSPORT: u32 = 0xe6;
/// Their first output is the handle of a key.
const LOADING: [u32; 4] = [0x20, 0x41, 0xb5, 0xb9];

/// A generator that can be repeated.
pub fn rng(seed: u8) -> Drbg {
    Drbg::new(&[seed; 48], b"fuzz").expect("enough bytes")
}

/// A byte string behind its size.
pub fn sized(data: &[u8]) -> Vec<u8> {
    [&(data.len() as u32).to_be_bytes()[..], data].concat()
}

/// One end of an authorization or transport session.
#[derive(Clone)]
pub struct Session {
    handle: u32,
    open: bool,
    even: [u8; 20],
    key: [u8; 20],
    aes: bool,
    transport: bool,
}

impl Session {
    fn encrypt(&self, second: bool) -> [u8; 20] {
        let nonce = if second { &ODD } else { &self.even };
        let mut out = AUTH;
        if self.aes {
            aes_ctr(self.key[..16].try_into().unwrap(), nonce[..16].try_into().unwrap(), &mut out);
        } else {
            out.iter_mut().zip(sha1(&[&self.key, nonce])).for_each(|(byte, mask)| *byte ^= mask);
        }
        out
    }
}

const ODD: [u8; 20] = [0x55; 20];

/// The client and its TPM.
pub struct Client {
    /// The TPM.
    pub tpm: Tpm12,
    /// Loaded keys.
    pub keys: Vec<u32>,
    /// Other numbers that the TPM gave: counters, families and the like.
    pub handles: Vec<u32>,
    /// What the TPM made; never empty.
    pub blobs: Vec<Vec<u8>>,
    /// Public keys of loaded keys.
    pub public_keys: Vec<Vec<u8>>,
    /// The command that succeeded last, and whether the present one goes on with what it gave.
    last: u32,
    /// See above.
    pub follows: bool,
    /// A `TPM_TRANSPORT_AUTH` of [`AUTH`], encrypted for one of the keys.
    pub transport_secret: Vec<u8>,
    /// What the manager says when it is asked for a quote.
    pub parent_answer: Option<Vec<u8>>,
    /// Sessions believed to be open.
    pub sessions: Vec<Session>,
    /// The newest permanent state that was seen, and a TPM that was loaded from it.
    pub permanent: Vec<u8>,
    committed: Vec<u8>,
    /// After so many steps a long computation is cancelled.
    pub patience: usize,
    mirror: Tpm12,
}

impl Client {
    /// A client of the TPM with this permanent state, not started.
    pub fn new(permanent: &[u8], seed: u8) -> Self {
        let load = |seed| Tpm12::load(permanent, rng(seed), options()).expect("a good state");
        let (permanent, committed) = (permanent.to_vec(), permanent.to_vec());
        let (tpm, mirror) = (load(seed), load(1));
        Self {
            tpm,
            keys: vec![],
            handles: vec![],
            last: 0,
            follows: false,
            public_keys: vec![],
            blobs: vec![vec![0; 4]],
            transport_secret: vec![],
            parent_answer: None,
            sessions: vec![],
            permanent,
            committed,
            patience: 40,
            mirror,
        }
    }

    /// A handle that may exist.
    pub fn handle(&self, input: &mut Input<'_>) -> u32 {
        let choice = input.below(32);
        let sessions = self.sessions.iter().map(|session| session.handle);
        let all: Vec<u32> = self.keys.iter().chain(&self.handles).copied().chain(FIXED).chain(sessions).collect();
        all.get(choice % (all.len() + 1)).copied().unwrap_or(0x0101_0101)
    }

    fn key_handle(&self, input: &mut Input<'_>) -> u32 {
        if input.rarely(8) { self.handle(input) } else { input.choose(&[&self.keys[..], &[FIXED[0]; 4]].concat()) }
    }

    /// Executes a command and checks the response's form and the TPM's state. If it succeeded: the output, and the authorizations
    /// behind it.
    pub fn execute(&mut self, locality: u8, packet: &[u8]) -> Option<(Vec<u8>, Vec<u8>)> {
        let before = (self.tpm.staged(), self.tpm.save_volatile());
        let mut response = vec![0xee; 3];
        let mut progress = self.tpm.execute(locality, packet, &mut response);
        for _ in 0..self.patience {
            if progress == Progress::Done {
                break;
            }
            progress = match self.tpm.parent_request() {
                Some(_) => self.tpm.answer_parent_request(self.parent_answer.as_deref(), &mut response),
                None => self.tpm.resume(&mut response),
            };
        }
        if progress == Progress::Working {
            self.tpm.cancel();
            assert!(before == (self.tpm.staged(), self.tpm.save_volatile()), "a cancelled command left a trace");
            return None;
        }
        assert!(response.len() <= tpm_wire::MAX_PACKET);
        let (header, body) = ResponseHeader::parse(&response).expect("a response whose size field is its length");
        if header.code.get() != 0 {
            assert!(body.is_empty() && header.tag.get() == 0xc4, "an error is ten bytes");
        }
        self.check_state();
        if header.code.get() != 0 {
            return None;
        }
        let tag = u16::from_be_bytes([packet[0], packet[1]]);
        assert_eq!(header.tag.get(), tag + 3, "a command is answered in its own form");
        let auths = usize::from(tag - 0xc1);
        let (out, trailers) = body.split_at(body.len().checked_sub(41 * auths).expect("a trailer for each session"));
        Some((out.to_vec(), trailers.to_vec()))
    }

    /// What was staged becomes durable.
    pub fn commit(&mut self) {
        self.check_state();
        self.tpm.committed();
        self.committed.clone_from(&self.permanent);
    }

    /// What was staged is lost; what is durable goes on.
    pub fn discard(&mut self) {
        self.tpm.discard();
        self.permanent.clone_from(&self.committed);
        self.mirror = Tpm12::load(&self.committed, rng(1), options()).expect("a committed state loads");
    }

    /// A stop of the domain under a living guest, and its next start.
    pub fn restart(&mut self, seed: u8) {
        self.commit();
        let volatile = self.tpm.save_volatile();
        self.tpm = Tpm12::load(&self.permanent, rng(seed), options()).expect("a state that was saved");
        self.tpm.restore_volatile(&volatile).expect("a volatile state that was saved");
    }

    /// What is saved loads, and is the same when it is saved again.
    pub fn check_state(&mut self) {
        if let Some(staged) = self.tpm.staged().filter(|staged| **staged != self.permanent) {
            self.mirror = Tpm12::load(&staged, rng(1), options()).expect("a staged state loads");
            self.permanent = staged.to_vec();
        }
        let volatile = self.tpm.save_volatile();
        self.mirror.restore_volatile(&volatile).expect("a saved volatile state loads");
        assert!(self.mirror.save_volatile() == volatile, "a volatile state is the same when it is saved again");
    }

    /// The permanent state is the same in the TPM and in one that was loaded from it: both change one flag and are saved.
    pub fn check_permanent(&mut self) {
        let states = [&mut self.tpm, &mut self.mirror].map(|tpm| {
            tpm.reset_for_new_guest();
            let mut response = Vec::new();
            // TSC_ORD_ResetEstablishmentBit
            let _ = tpm.execute(3, &[0, 0xc1, 0, 0, 0, 10, 0x40, 0, 0, 0x0b], &mut response);
            tpm.staged()
        });
        let [ours, mirrored] = states;
        assert!(mirrored.is_none() || ours == mirrored, "a permanent state is the same when it is saved again");
    }

    /// Opens a session: `OIAP`, or `OSAP` for an entity.
    pub fn open(&mut self, kind: Option<(u16, u32)>) {
        let parameters = match kind {
            None => vec![],
            Some((kind, value)) => [&kind.to_be_bytes()[..], &value.to_be_bytes(), &ODD].concat(),
        };
        let ordinal = if kind.is_some() { 0x0b } else { 0x0a };
        let Some((out, _)) = self.execute(0, &packet(0xc1, ordinal, &parameters)) else { return };
        let key = if kind.is_some() { hmac_sha1(&AUTH, &[&out[24..44], &ODD]) } else { AUTH };
        self.note_session(&out[..4], &out[4..24], key, kind.is_some_and(|(kind, _)| kind >> 8 == 6));
    }

    fn note_session(&mut self, handle: &[u8], even: &[u8], key: [u8; 20], aes: bool) {
        let handle = u32::from_be_bytes(handle.try_into().unwrap());
        self.sessions.push(Session { handle, open: true, even: even.try_into().unwrap(), key, aes, transport: false });
    }

    /// A command authorized with the sessions in `with` (places in [`Self::sessions`]). `digest` is what the authorizations cover.
    fn authorized(&self, ordinal: u32, body: &[u8], digest: &[u8; 20], with: &[usize], keep: bool) -> Vec<u8> {
        let mut body = body.to_vec();
        for session in with.iter().filter_map(|at| self.sessions.get(*at)) {
            let hmac = hmac_sha1(&session.key, &[digest, &session.even, &ODD, &[keep.into()]]);
            body.extend([&session.handle.to_be_bytes()[..], &ODD, &[keep.into()], &hmac].concat());
        }
        packet(0xc1 + with.len() as u16, ordinal, &body)
    }

    /// A random row of the grammar, filled in: handles, parameters, and the places of its sessions.
    fn row(&mut self, input: &mut Input<'_>) -> (u32, Vec<u8>, Vec<u8>, Vec<usize>) {
        let next = FOLLOWING.iter().find(|(first, _)| *first == self.last).map(|(_, next)| *next);
        let next = next.filter(|_| input.flag()).map(|next| input.choose(next));
        let row = next.and_then(|next| ROWS.iter().find(|row| row.0 == next));
        self.follows = row.is_some();
        let (ordinal, keys, others, auths, letters) = *row.unwrap_or(&ROWS[input.below(ROWS.len())]);
        let keys = (0..keys).map(|_| self.key_handle(input)).collect::<Vec<_>>();
        let handles = keys.into_iter().chain((0..others).map(|_| self.handle(input)).collect::<Vec<_>>());
        let handles: Vec<u8> = handles.flat_map(u32::to_be_bytes).collect();
        let auths = if input.rarely(8) { input.below(3) } else { auths };
        let with = self.choose_sessions(auths, letters.contains('e'), &handles, input);
        let encrypt = |second| with.last().and_then(|at| self.sessions.get(*at)).map_or(AUTH, |s| s.encrypt(second));
        let parameters = letters.chars().flat_map(|letter| field(letter, input, self, encrypt)).collect();
        (ordinal, handles, parameters, with)
    }

    /// Places of sessions for a command: mostly fresh ones of the right kind, else any.
    fn choose_sessions(&mut self, auths: usize, secret: bool, handles: &[u8], input: &mut Input<'_>) -> Vec<usize> {
        let entity = handles.first_chunk::<4>().map(|handle| u32::from_be_bytes(*handle));
        let kind = if input.rarely(4) { 0x0600 } else { 0 } | if entity.is_some() { 1 } else { 2 };
        (0..auths)
            .map(|number| {
                if input.rarely(4) && !self.sessions.is_empty() {
                    return input.below(self.sessions.len());
                }
                // The session that a new authorization is encrypted for comes last where there are two.
                self.open((secret && number + 1 == auths).then(|| (kind, entity.unwrap_or(0x4000_0001))));
                self.sessions.len().saturating_sub(1)
            })
            .collect()
    }

    /// Sends a random command, perhaps wrapped in a transport session, perhaps damaged.
    pub fn act(&mut self, input: &mut Input<'_>) {
        self.parent_answer = (!input.rarely(4)).then(|| vec![7; 256 + input.below(4)]);
        let (ordinal, handles, parameters, mut with) = self.row(input);
        let digest = sha1(&[&ordinal.to_be_bytes(), &parameters]);
        let transport = self.sessions.iter().any(|session| session.transport);
        let wrap = if transport { input.rarely(2) } else { input.rarely(64) };
        let (keep, locality) = (input.rarely(4), input.u8() / 52);
        let body = [&handles[..], &parameters].concat();
        let mut command = self.authorized(ordinal, &body, &digest, &with, keep);
        let inside = if wrap { std::mem::replace(&mut with, vec![self.transport(input)]) } else { vec![] };
        if wrap {
            let wrapped = sized(&command);
            let digest = sha1(&[&EXECUTE_TRANSPORT.to_be_bytes(), &wrapped[..4], &digest]);
            command = self.authorized(EXECUTE_TRANSPORT, &wrapped, &digest, &with, keep);
        }
        if input.rarely(16) {
            let at = input.below(command.len());
            command[at] = input.u8();
        }
        let done = self.execute(locality, &command);
        self.learn(ordinal, done, &with, &inside);
    }

    /// Sends a command without damage, with the first `auths` sessions; `None` if it failed.
    pub fn send(&mut self, ordinal: u32, handles: &[u32], parameters: &[u8], auths: usize) -> Option<Vec<u8>> {
        let handles: Vec<u8> = handles.iter().flat_map(|handle| handle.to_be_bytes()).collect();
        let digest = sha1(&[&ordinal.to_be_bytes(), parameters]);
        let with: Vec<usize> = (0..auths).collect();
        let command = self.authorized(ordinal, &[&handles[..], parameters].concat(), &digest, &with, true);
        let done = self.execute(0, &command);
        self.learn(ordinal, done.clone(), &with, &[]);
        done.map(|(out, _)| out)
    }

    /// The last session's form of [`AUTH`].
    pub fn encrypted(&self) -> [u8; 20] {
        self.sessions.last().map_or(AUTH, |session| session.encrypt(false))
    }

    /// The place of a transport session, if there is one.
    fn transport(&self, input: &mut Input<'_>) -> usize {
        let place = self.sessions.iter().rposition(|session| session.transport);
        place.unwrap_or_else(|| input.below(self.sessions.len().max(1)))
    }

    /// Takes note of new nonces, handles and blobs. Of the sessions `inside` a transport session nothing is known any more.
    fn learn(&mut self, ordinal: u32, done: Option<(Vec<u8>, Vec<u8>)>, with: &[usize], inside: &[usize]) {
        let done_well = done.is_some();
        let (out, trailers) = done.unwrap_or_default();
        for at in with.iter().chain(inside) {
            self.sessions.get_mut(*at).into_iter().for_each(|session| session.open = false);
        }
        for (at, trailer) in with.iter().zip(trailers.as_chunks::<41>().0) {
            if let (Some(session), 1) = (self.sessions.get_mut(*at), trailer[20]) {
                session.open = true;
                session.even = trailer[..20].try_into().unwrap();
            }
        }
        self.sessions.retain(|session| session.open);
        if let Some((handle, rest)) = out.split_first_chunk::<4>() {
            if ordinal == ESTABLISH_TRANSPORT && rest.len() >= 20 {
                self.note_session(handle, &rest[rest.len() - 20..], AUTH, false);
                self.sessions.iter_mut().rev().take(1).for_each(|session| session.transport = true);
            }
            let list = if LOADING.contains(&ordinal) { &mut self.keys } else { &mut self.handles };
            list.push(u32::from_be_bytes(*handle));
            list.drain(..list.len().saturating_sub(6));
        }
        if done_well {
            self.last = ordinal;
        }
        if out.len() > 20 {
            self.blobs.push(out);
            self.blobs.drain(..self.blobs.len().saturating_sub(12));
        }
    }
}

/// A packet.
pub fn packet(tag: u16, ordinal: u32, body: &[u8]) -> Vec<u8> {
    let size = 10 + body.len() as u32;
    [&tag.to_be_bytes()[..], &size.to_be_bytes(), &ordinal.to_be_bytes(), body].concat()
}
