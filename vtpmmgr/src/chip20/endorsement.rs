//! The endorsement key, and credentials that are encrypted to it (TPM 2.0 Library, part 1, section 24).

use super::attest::Stored;
use super::keys::{Kind, Loaded, endorsement_template, public_key};
use super::root::Root;
use super::session::{Auth, Session, permanent};
use super::{Chip, ChipError, read, refusal};
use crate::args::AuthData;
use crate::hardware::{AttestationKey, PublicKey, RootKey, Settings};
use alloc::vec::Vec;
use tpm_crypto::Drbg;
use tpm_wire::v20::{Public, cc, handle, object, rc, rh, se, session};
use tpm_wire::{Reader, Transport, Truncated, Writer};
use zeroize::Zeroizing;

/// NV indices of the certificates for keys of the templates L-1 and L-2 (EK Credential Profile 2.3, section 2.2.1.4).
const RSA_CERTIFICATE: u32 = 0x01c0_0002;
const ECC_CERTIFICATE: u32 = 0x01c0_000a;

impl<T: Transport> Chip<'_, T> {
    /// The endorsement key: the one at 0x81010001 if there is one, else made from the template that the vendor's certificate is
    /// for, or P-256 where there is no certificate and the chip has elliptic curves. The endorsement hierarchy's secret has to be
    /// empty, as it is in a chip that nobody has set another in.
    async fn open_ek(&self, rng: &mut Drbg) -> Result<Loaded, ChipError> {
        if let Some(found) = self.read_public(handle::EK).await?
            && is_endorsement_key(&found.public)
        {
            return Ok(found);
        }
        let kind = if self.is_nv_defined(ECC_CERTIFICATE).await? {
            Kind::P256
        } else if self.is_nv_defined(RSA_CERTIFICATE).await? {
            Kind::Rsa2048
        } else {
            self.key_kind().await?
        };
        self.create_owned_primary(rh::ENDORSEMENT, &[], &endorsement_template(kind), rng).await
    }

    async fn is_nv_defined(&self, index: u32) -> Result<bool, ChipError> {
        Ok(self.handles(index).await?.first() == Some(&index))
    }

    /// The public endorsement key.
    pub(crate) async fn ek_public(
        &self,
        _settings: &Settings,
        _owner: &AuthData,
        rng: &mut Drbg,
    ) -> Result<PublicKey, ChipError> {
        let ek = self.open_ek(rng).await?;
        self.unload(&ek).await;
        public_key(&ek.public).ok_or(ChipError::Unsupported { what: "an endorsement key with P-256 or RSA" })
    }

    /// TPM2_ActivateCredential (part 3, section 12.5): from TPM2B_ID_OBJECT and TPM2B_ENCRYPTED_SECRET to the credential, a TPM2B_DIGEST.
    pub(crate) async fn activate(
        &self,
        settings: &Settings,
        root: &RootKey,
        _owner: &AuthData,
        ak: &AttestationKey,
        blob: &[u8],
        rng: &mut Drbg,
    ) -> Result<Zeroizing<Vec<u8>>, ChipError> {
        let mut r = Reader::new(blob);
        let sound = (|| Ok::<_, Truncated>((r.sized16()?, r.sized16()?)))().is_ok() && r.is_empty();
        if !sound {
            return Err(ChipError::BadForm { what: "the challenge" });
        }
        let Stored { auth, object } = Stored::of(ak)?;
        self.with_root(settings, root, rng, async |root, rng| {
            self.with_object(root, &object, rng, async |handle, name, rng| {
                let ek = self.open_ek(rng).await?;
                let result = self.activate_with(root, (handle, name), &auth, &ek, blob, rng).await;
                self.unload(&ek).await;
                result
            })
            .await
        })
        .await
    }

    async fn activate_with(
        &self,
        root: &Root,
        (ak, ak_name): (u32, &[u8]),
        ak_auth: &AuthData,
        ek: &Loaded,
        blob: &[u8],
        rng: &mut Drbg,
    ) -> Result<Zeroizing<Vec<u8>>, ChipError> {
        const CODE: u32 = cc::ACTIVATE_CREDENTIAL;
        let first = self.session(root, rng).await?;
        let second = match self.ek_session(root, ek, rng).await {
            Ok(session) => session,
            Err(error) => {
                self.flush(first.handle).await;
                return Err(error);
            }
        };
        let auths = [
            Auth::hmac(&first, &ak_auth.0, session::ENCRYPT),
            Auth::Session { session: &second, secret: &[], keyed: false, protect: 0 },
        ];
        let handles: [(u32, &[u8]); 2] = [(ak, ak_name), (ek.handle, &ek.name)];
        let (_, out) = self.call_authorized(&auths, CODE, &handles, blob, 0).await.map_err(|error| {
            match refusal(&error, CODE) {
                Some(rc::INTEGRITY | rc::VALUE | rc::SIZE | rc::ECC_POINT | rc::INSUFFICIENT) => {
                    ChipError::BadForm { what: "the challenge (it is for another chip or another key)" }
                }
                _ => error,
            }
        })?;
        read(&out, CODE, |r| r.sized16().map(drop))?;
        Ok(out)
    }

    /// A session that authorizes the use of the endorsement key: by its policy, or, with a key that has `userWithAuth`, by its
    /// empty secret.
    async fn ek_session(&self, root: &Root, ek: &Loaded, rng: &mut Drbg) -> Result<Session, ChipError> {
        const CODE: u32 = cc::POLICY_SECRET;
        let by_secret = Public::parse(&ek.public).is_ok_and(|public| public.attributes & object::USER_WITH_AUTH != 0);
        if by_secret {
            return self.session(root, rng).await;
        }
        let session = self.start_session(se::POLICY, root.handle, &root.key, rng).await?;
        let mut params = Vec::new();
        // No nonce, no cpHash, no policyRef, no expiration.
        Writer::new(&mut params).u16(0).u16(0).u16(0).u32(0);
        let endorsement = permanent(rh::ENDORSEMENT);
        // A session's handle is its Name, and it is not authorized.
        let policy = permanent(session.handle);
        let handles: [(u32, &[u8]); 2] = [(rh::ENDORSEMENT, &endorsement), (session.handle, &policy)];
        match self.call_authorized(&[Auth::Empty], CODE, &handles, &params, 0).await {
            Ok(_) => Ok(session),
            Err(error) => {
                self.flush(session.handle).await;
                Err(error)
            }
        }
    }
}

/// Whether what is at the endorsement key's handle is one: restricted to decryption and of this chip.
fn is_endorsement_key(public: &[u8]) -> bool {
    const WANTED: u32 =
        object::FIXED_TPM | object::FIXED_PARENT | object::SENSITIVE_DATA_ORIGIN | object::RESTRICTED | object::DECRYPT;
    Public::parse(public).is_ok_and(|found| found.attributes & (WANTED | object::SIGN) == WANTED)
        && public_key(public).is_some()
}
