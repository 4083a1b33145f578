//! Authorization sessions (part 3, section 18).

use crate::codes::{self, Code};
use crate::structs::delegate::DelegatePublic;
use crate::structs::{AuthData, Digest, Nonce};
use crate::tpm::Tpm;
use crate::wire::wire_struct;

pub(crate) const PID_OIAP: u16 = 1;
pub(crate) const PID_OSAP: u16 = 2;
pub(crate) const PID_ADIP: u16 = 3;
pub(crate) const PID_ADCP: u16 = 4;
pub(crate) const PID_OWNER: u16 = 5;
pub(crate) const PID_DSAP: u16 = 6;
pub(crate) const PID_TRANSPORT: u16 = 7;

pub(crate) const ET_KEYHANDLE: u8 = 1;
pub(crate) const ET_OWNER: u8 = 2;
pub(crate) const ET_DATA: u8 = 3;
pub(crate) const ET_SRK: u8 = 4;
pub(crate) const ET_KEY: u8 = 5;
pub(crate) const ET_DEL_OWNER_BLOB: u16 = 7;
pub(crate) const ET_DEL_ROW: u16 = 8;
pub(crate) const ET_DEL_KEY_BLOB: u16 = 9;
pub(crate) const ET_COUNTER: u8 = 10;
pub(crate) const ET_NV: u8 = 11;

/// ADIP with XOR.
pub(crate) const ENC_XOR: u8 = 0;
/// ADIP with AES-128 in counter mode.
pub(crate) const ENC_AES128_CTR: u8 = 6;

wire_struct! {
    /// What a session was opened for.
    #[derive(Clone, PartialEq, Eq)]
    pub(crate) struct Entity {
        kind: u8,
        id: Digest,
    }
}

impl Entity {
    /// The TPM's owner.
    pub(crate) const OWNER: Self = Self { kind: ET_OWNER, id: [0; 20] };
    /// Data whose authorization is known only from inside a blob: no OSAP session can be for it.
    pub(crate) const BLOB: Self = Self { kind: ET_DATA, id: [0; 20] };

    /// The key with this digest of its public part.
    pub(crate) fn key(pub_data_digest: Digest) -> Self {
        Self { kind: ET_KEYHANDLE, id: pub_data_digest }
    }

    /// A counter.
    pub(crate) fn counter(id: u32) -> Self {
        Self::numbered(ET_COUNTER, id)
    }

    /// An NV area.
    pub(crate) fn nv(index: u32) -> Self {
        Self::numbered(ET_NV, index)
    }

    fn numbered(kind: u8, number: u32) -> Self {
        let mut id = [0; 20];
        id[..4].copy_from_slice(&number.to_be_bytes());
        Self { kind, id }
    }
}

wire_struct! {
    /// An open session.
    #[derive(Clone)]
    pub(crate) struct Session {
        handle: u32,
        protocol: u16,
        nonce_even: Nonce,
        /// OSAP and DSAP: the shared secret.
        shared: AuthData,
        /// OSAP and DSAP: what it is for.
        entity: Entity,
        adip: u8,
        /// DSAP: what it allows.
        delegation: Option<DelegatePublic>,
    }
}

/// Sessions at a time.
pub(crate) const MAX_SESSIONS: usize = 16;

impl Tpm {
    /// Opens a session with a fresh handle and even nonce; `TPM_RESOURCES` if there is no room.
    pub(crate) fn open_session(&mut self, session: Session) -> Result<(u32, Nonce), Code> {
        if self.volatile.sessions.len() >= MAX_SESSIONS {
            return Err(codes::RESOURCES);
        }
        // Both from one request: most of the time of a command as short as TPM_OIAP is the generator's.
        let [a, b, c, d, nonce_even @ ..]: [u8; 24] = self.rng.bytes();
        let first = HandleKind::Auth.handle([a, b, c, d]);
        let handle = if self.handle_in_use(first) { self.new_handle(HandleKind::Auth) } else { first };
        self.volatile.sessions.push(Session { handle, nonce_even, ..session });
        Ok((handle, nonce_even))
    }

    /// The session with this handle.
    pub(crate) fn session(&self, handle: u32) -> Result<&Session, Code> {
        self.volatile.sessions.iter().find(|session| session.handle == handle).ok_or(codes::INVALID_AUTHHANDLE)
    }

    /// Ends a session if it is there.
    pub(crate) fn close_session(&mut self, handle: u32) {
        self.volatile.sessions.retain(|session| session.handle != handle);
    }

    /// Ends the OSAP and DSAP sessions of an entity, whose authorization or existence has changed.
    pub(crate) fn close_sessions_of(&mut self, entity: &Entity) {
        self.volatile.sessions.retain(|session| session.protocol == PID_OIAP || session.entity != *entity);
    }

    /// The same with the saved ones (part 3, section 17.2, action 8): they hold a secret that is none any more. Whose a saved one
    /// is stands inside of its blob, so all of them end.
    pub(crate) fn revoke_sessions_of(&mut self, entity: &Entity) {
        self.close_sessions_of(entity);
        self.volatile.contexts.clear();
    }

    /// A handle that nothing has.
    pub(crate) fn new_handle(&mut self, kind: HandleKind) -> u32 {
        loop {
            let handle = kind.handle(self.rng.bytes());
            if !self.handle_in_use(handle) {
                return handle;
            }
        }
    }

    /// Whether anything has this handle.
    pub(crate) fn handle_in_use(&self, handle: u32) -> bool {
        let volatile = &self.volatile;
        volatile.keys.iter().any(|key| key.handle == handle)
            || volatile.sessions.iter().any(|session| session.handle == handle)
            || volatile.transports.iter().any(|session| session.handle == handle)
            || volatile.daa.iter().any(|session| session.handle == handle)
            || self.permanent.counters.iter().any(|counter| counter.id == handle)
    }
}

/// The first byte of a handle tells what it is, as an aid in traces.
#[derive(Clone, Copy)]
pub(crate) enum HandleKind {
    Key = 0x01,
    Auth = 0x02,
    Transport = 0x03,
    Daa = 0x06,
}

impl HandleKind {
    /// The handle of this kind that random bytes make.
    fn handle(self, random: [u8; 4]) -> u32 {
        (self as u32) << 24 | (u32::from_be_bytes(random) & 0x00ff_ffff)
    }
}
