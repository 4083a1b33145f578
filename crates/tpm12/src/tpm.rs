//! The TPM: its state, and the questions that many commands ask of it.

use crate::Options;
use crate::auth::lockout;
use crate::codes::{self, Code};
use crate::state::Tracked;
use crate::state::permanent::Permanent;
use crate::state::volatile::{LoadedKey, Volatile};
use crate::structs::key::{FLAG_PCR_IGNORED_ON_READ, Key};
use crate::structs::pcr::{PCR_COUNT, PcrInfoShort, Selection};
use crate::structs::{AuthData, Digest};
use alloc::rc::Rc;
use tpm_crypto::{Drbg, Sha1, ct_eq};

/// Handle of the storage root key.
pub(crate) const KH_SRK: u32 = 0x4000_0000;
/// Handle of a transport session without a key.
pub(crate) const KH_TRANSPORT: u32 = 0x4000_0003;
/// Handle of the endorsement key.
pub(crate) const KH_EK: u32 = 0x4000_0006;

/// Keys loaded at a time.
pub(crate) const MAX_KEYS: usize = 20;
/// Places that a key kept by the owner may not take.
pub(crate) const FREE_KEYS: usize = 2;

/// A hash sequence, and the transport session it was started in (0 for none).
pub(crate) struct HashSequence {
    pub hash: Sha1,
    pub transport: u32,
}

/// Everything a TPM is.
pub(crate) struct Tpm {
    pub permanent: Tracked<Permanent>,
    pub volatile: Volatile,
    pub hash: Option<HashSequence>,
    pub rng: Drbg,
    pub options: Options,
    /// The endorsement key was made in this run.
    pub new_endorsement_key: bool,
}

impl Tpm {
    /// A TPM before `TPM_Startup`.
    pub(crate) fn new(permanent: Permanent, mut rng: Drbg, options: Options) -> Self {
        let volatile = Volatile::fresh(&mut rng, 0, lockout::at_power_on(permanent.failed_auths));
        Self { permanent: Tracked::new(permanent), volatile, hash: None, rng, options, new_endorsement_key: false }
    }

    /// Whether physical presence is asserted: by command only, a vTPM has no pin (part 1, section 10).
    pub(crate) fn physical_presence(&self) -> bool {
        self.permanent.flags.physical_presence_cmd_enable && self.volatile.flags.physical_presence
    }

    /// `TPM_BAD_PRESENCE` without it.
    pub(crate) fn need_physical_presence(&self) -> Result<(), Code> {
        if self.physical_presence() { Ok(()) } else { Err(codes::BAD_PRESENCE) }
    }

    /// A loaded key, or the storage root key.
    pub(crate) fn key(&self, handle: u32) -> Result<Rc<Key>, Code> {
        self.loaded_key(handle).map(|loaded| loaded.key)
    }

    /// The same with what the TPM knows about it beside.
    pub(crate) fn loaded_key(&self, handle: u32) -> Result<LoadedKey, Code> {
        if handle == KH_SRK {
            let key = self.permanent.srk.clone().ok_or(codes::NOSRK)?;
            return Ok(LoadedKey { handle, key, parent_pcr_status: false, owner_evict: false });
        }
        self.volatile.keys.iter().find(|key| key.handle == handle).cloned().ok_or(codes::INVALID_KEYHANDLE)
    }

    /// A key for the use of its private part: PCRs and locality must fit (part 1, section 26).
    pub(crate) fn key_to_use(&self, handle: u32, locality: u8) -> Result<Rc<Key>, Code> {
        let key = self.key(handle)?;
        self.check_key_pcrs(&key, locality)?;
        Ok(key)
    }

    /// A key for reading its public part, for which it may ignore PCRs.
    pub(crate) fn key_to_read(&self, handle: u32, locality: u8) -> Result<Rc<Key>, Code> {
        let key = self.key(handle)?;
        if !key.blob.has(FLAG_PCR_IGNORED_ON_READ) {
            self.check_key_pcrs(&key, locality)?;
        }
        Ok(key)
    }

    fn check_key_pcrs(&self, key: &Key, locality: u8) -> Result<(), Code> {
        match key.blob.restriction()? {
            None => Ok(()),
            Some(restriction) => {
                let (selection, digest, localities) = restriction.release();
                self.check_pcrs(selection, digest)?;
                if localities >> locality & 1 == 1 { Ok(()) } else { Err(codes::BAD_LOCALITY) }
            }
        }
    }

    /// `TPM_WRONGPCRVAL` unless the selected PCRs have this composite hash; no selection always fits.
    pub(crate) fn check_pcrs(&self, selection: &Selection, digest: &Digest) -> Result<(), Code> {
        if selection.is_empty() || self.volatile.pcrs.composite_hash(selection) == *digest {
            Ok(())
        } else {
            Err(codes::WRONGPCRVAL)
        }
    }

    /// The same for the short form, which names localities too.
    pub(crate) fn check_short(&self, info: &PcrInfoShort, locality: u8, wrong_locality: Code) -> Result<(), Code> {
        self.check_pcrs(&info.selection, &info.digest_at_release)?;
        if info.locality_at_release >> locality & 1 == 1 { Ok(()) } else { Err(wrong_locality) }
    }

    /// Puts a key into a free place.
    pub(crate) fn add_key(&mut self, key: Rc<Key>, parent_pcr_status: bool, handle: u32) -> Result<(), Code> {
        if self.volatile.keys.len() >= MAX_KEYS {
            return Err(codes::NOSPACE);
        }
        self.volatile.keys.push(LoadedKey { handle, key, parent_pcr_status, owner_evict: false });
        Ok(())
    }

    /// Takes a key away, and the sessions that were opened for it.
    pub(crate) fn remove_key(&mut self, handle: u32) -> Result<(), Code> {
        let loaded = self.volatile.keys.iter().find(|key| key.handle == handle).ok_or(codes::INVALID_KEYHANDLE)?;
        if loaded.owner_evict {
            return Err(codes::KEY_OWNER_CONTROL);
        }
        let entity = crate::auth::session::Entity::key(loaded.key.pub_data_digest);
        self.volatile.keys.retain(|key| key.handle != handle);
        self.close_sessions_of(&entity);
        Ok(())
    }

    /// Whether this is the TPM's own proof.
    pub(crate) fn is_proof(&self, proof: &AuthData) -> bool {
        ct_eq(&**proof, &*self.permanent.proofs.tpm_proof)
    }

    /// The value of a PCR.
    pub(crate) fn pcr(&self, index: u32) -> Result<&Digest, Code> {
        usize::try_from(index).ok().and_then(|i| self.volatile.pcrs.0.get(i)).ok_or(codes::BADINDEX)
    }

    /// A PCR for changing.
    pub(crate) fn pcr_mut(&mut self, index: u32) -> Result<&mut Digest, Code> {
        let index = usize::try_from(index).ok().filter(|i| *i < PCR_COUNT);
        index.and_then(|i| self.volatile.pcrs.0.get_mut(i)).ok_or(codes::BADINDEX)
    }
}

impl Tpm {
    /// After the permanent state went back: what rests on the lost state goes too.
    pub(crate) fn drop_orphans(&mut self) {
        let kept: alloc::vec::Vec<u32> = self.permanent.owner_evict.iter().map(|key| key.handle).collect();
        self.volatile.keys.retain(|key| !key.owner_evict || kept.contains(&key.handle));
        self.volatile.keys.iter_mut().for_each(|key| key.owner_evict = kept.contains(&key.handle));
        self.volatile.sessions.clear();
    }
}
