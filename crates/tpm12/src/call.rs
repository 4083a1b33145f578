//! A command in execution: its parts, and what becomes its response.

use crate::codes::{self, Code};
use crate::structs::delegate::DelegatePublic;
use crate::structs::{AuthData, Digest, Nonce};
use crate::wire::Wire;
use alloc::vec::Vec;
use tpm_crypto::rsa::RsaPrivate;
use tpm_wire::{Reader, Writer};
use zeroize::Zeroizing;

/// Why a handler gave up.
pub(crate) enum Stop {
    /// The command fails with this code.
    Error(Code),
    /// The command needs a new RSA key; it is executed again from its start when there is one. A handler that asks for a key
    /// has changed nothing before it does.
    NeedsKey { bits: u32, exponent: u32 },
    /// The command needs a quote of the hardware TPM; it is executed again when there is one, under the same rule.
    NeedsParent(ParentQuote),
}

/// A quote that the manager is to get from the hardware TPM.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ParentQuote {
    /// What is signed along.
    pub nonce: [u8; 20],
    /// `TPM_PCR_SELECTION` of the hardware TPM's PCRs: 16-bit size and bit map.
    pub selection: Vec<u8>,
    /// The manager's extra information flags.
    pub flags: u32,
}

impl From<Code> for Stop {
    fn from(code: Code) -> Self {
        Self::Error(code)
    }
}

impl From<tpm_wire::Truncated> for Stop {
    fn from(truncated: tpm_wire::Truncated) -> Self {
        Self::Error(truncated.into())
    }
}

/// What handlers return.
pub(crate) type Done = Result<(), Stop>;

/// The authorization trailer of a command.
#[derive(Clone, Copy)]
pub(crate) struct AuthIn {
    pub handle: u32,
    pub nonce_odd: Nonce,
    pub keep: bool,
    pub hmac: Digest,
}

/// Bytes in an authorization trailer.
pub(crate) const AUTH_IN_SIZE: usize = 45;

/// Bytes in the authorization trailer of a response.
pub(crate) const AUTH_OUT_SIZE: usize = 41;

impl Wire for AuthIn {
    fn put(&self, w: &mut Writer<'_>) {
        w.u32(self.handle).bytes(&self.nonce_odd).u8(self.keep.into()).bytes(&self.hmac);
    }

    fn get(r: &mut Reader<'_>) -> Result<Self, Code> {
        Ok(Self { handle: r.u32()?, nonce_odd: r.array()?, keep: bool::get(r)?, hmac: r.array()? })
    }
}

/// A verified authorization: what is needed to authorize the response.
pub(crate) struct Proof {
    pub handle: u32,
    pub key: AuthData,
    /// The even nonce that the command was authorized with.
    pub nonce_even: Nonce,
    pub nonce_odd: Nonce,
    /// Whether the session goes on.
    pub keep: bool,
    pub protocol: u16,
    pub adip: u8,
    /// The even nonce of the response, where a command needs to know it beforehand.
    pub next_even: Option<Nonce>,
    /// The delegation that it rests on.
    pub delegation: Option<DelegatePublic>,
}

/// The transport session around a wrapped command.
#[derive(Clone, Copy)]
pub(crate) struct Wrapped {
    pub handle: u32,
    /// Whether the session hides parameters.
    pub encrypted: bool,
}

/// A command in execution.
pub(crate) struct Call<'a> {
    pub ordinal: u32,
    pub locality: u8,
    /// The key or other handles before the parameters; zeros where there are none.
    pub handles: [u32; 2],
    /// The parameters that are not read yet.
    pub params: Reader<'a>,
    /// SHA-1 of ordinal and parameters; zeros for a command that is neither authorized nor audited.
    pub in_digest: Digest,
    pub auths: [Option<AuthIn>; 2],
    pub proofs: [Option<Proof>; 2],
    /// All parameters were read: from here on the command's sessions end if it fails.
    pub whole: bool,
    pub wrapped: Option<Wrapped>,
    /// Whether it is recorded in the audit digest.
    pub audited: bool,
    /// Output parameters.
    pub out: Zeroizing<Vec<u8>>,
    /// What the response's authorizations cover, if that is not return code, ordinal and output parameters.
    pub out_digest: Option<Digest>,
    /// An output handle that is no part of the output digest.
    pub out_handle: Option<u32>,
    /// A key that was generated for this command.
    pub new_key: Option<RsaPrivate>,
    /// The quote that this command asked for.
    pub parent_answer: Option<Vec<u8>>,
}

impl Call<'_> {
    /// The next parameter.
    pub(crate) fn get<T: Wire>(&mut self) -> Result<T, Code> {
        T::get(&mut self.params)
    }

    /// The next parameter, a structure behind its 32-bit size.
    pub(crate) fn get_sized<T: Wire>(&mut self) -> Result<T, Code> {
        T::from_bytes(self.params.sized32()?, codes::BAD_PARAM_SIZE)
    }

    /// All parameters were read; `TPM_BAD_PARAM_SIZE` if some are left.
    pub(crate) fn end(&mut self) -> Result<(), Code> {
        self.whole = self.params.is_empty();
        if self.whole { Ok(()) } else { Err(codes::BAD_PARAM_SIZE) }
    }

    /// The only parameter.
    pub(crate) fn only<T: Wire>(&mut self) -> Result<T, Code> {
        let value = self.get()?;
        self.end()?;
        Ok(value)
    }

    /// Appends an output parameter.
    pub(crate) fn put(&mut self, value: &impl Wire) -> &mut Self {
        value.put(&mut Writer::new(&mut self.out));
        self
    }

    /// Appends a byte string behind its 32-bit size.
    pub(crate) fn put_sized(&mut self, bytes: &[u8]) -> &mut Self {
        Writer::new(&mut self.out).sized32(bytes);
        self
    }

    /// The generated key, or the wish for one.
    pub(crate) fn generated_key(&mut self, bits: u32, exponent: u32) -> Result<RsaPrivate, Stop> {
        match self.new_key.take() {
            Some(key) if key.size() * 8 == bits as usize && key.public().exponent() == exponent => Ok(key),
            _ => Err(Stop::NeedsKey { bits, exponent }),
        }
    }

    /// Whether the command came with `count` authorizations.
    pub(crate) fn has_auths(&self, count: usize) -> bool {
        self.auths.iter().flatten().count() == count
    }

    /// Decrypts a new authorization with the `index`th session.
    pub(crate) fn decrypt_auth(&mut self, index: usize, encrypted: &[u8; 20], second: bool) -> Result<AuthData, Code> {
        let proof = self.proofs.get_mut(index).and_then(Option::as_mut).ok_or(codes::AUTHFAIL)?;
        proof.decrypt(encrypted, second)
    }

    /// Ends the `index`th session with this command, as commands do that take an encrypted authorization.
    pub(crate) fn end_session(&mut self, index: usize) {
        if let Some(proof) = self.proofs.get_mut(index).and_then(Option::as_mut) {
            proof.keep = false;
        }
    }
}
