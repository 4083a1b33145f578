//! Management commands, as their sender writes and the manager reads them.

use super::*;
use crate::header::HEADER_SIZE;
use alloc::boxed::Box;
use alloc::vec::Vec;
use zeroize::Zeroizing;

/// A command of the admin, tag [`TAG_REQ2`]. Groups are named by their index, as in the C stack: 0 to count - 1, and deleting one moves
/// those behind it up.
#[derive(Clone, PartialEq, Eq)]
pub enum Management {
    /// How many groups there are: 32 bits.
    GroupList,
    /// Make a group, or complete the first one if it has no key yet. Answer: [`NewGroup`].
    GroupNew {
        /// What the identity binding of its AIK names: a digest for the privacy CA.
        label: [u8; 20],
        /// RSA modulus.
        saa: Box<[u8; 256]>,
    },
    /// Delete a group that has no vTPMs; not the first.
    GroupDelete {
        /// The group's index.
        index: u32,
    },
    /// Pass the privacy CA's blob to the chip. Answer: TPM 1.2's `TPM_SYMMETRIC_KEY`; on a 2.0 chip the credential, 16-bit length first.
    GroupActivate {
        /// The group's index.
        index: u32,
        /// 1.2: the blob of TPM_ActivateIdentity; 2.0: `TPM2B_ID_OBJECT` ‖ `TPM2B_ENCRYPTED_SECRET`.
        blob: Vec<u8>,
    },
    /// Give the approval agent the group's key, and proof of where it is. Once, in the run that made the group. Answer: [`Registration`].
    GroupRegister {
        /// The group's index.
        index: u32,
        /// The agent's half of the key exchange.
        dh: Box<[u8; DH_SIZE]>,
        /// The agent's signature over it: RSASSA with SHA-1, as in the C stack.
        signature: Box<[u8; 256]>,
        /// What the proof quotes.
        pcrs: u32,
    },
    /// A signed list of the C stack's form.
    GroupUpdate {
        /// The group's index.
        index: u32,
        /// RSASSA-PKCS1-v1.5 with SHA-1 over [`LegacyList::signed_part`].
        signature: Box<[u8; 256]>,
        /// The list.
        list: LegacyList,
    },
    /// UUID, modulus (256 bytes) and configuration list, in the C stack's form.
    GroupShow {
        /// The group's index.
        index: u32,
    },
    /// Prove that an update has come. Answer: [`Evidence`] with the two hashes of [`GROUP_QUOTE_FLAGS`], signed as
    /// [`group_quote_preimage`] says.
    GroupQuote {
        /// The group's index.
        index: u32,
        /// The verifier's.
        nonce: [u8; 20],
        /// What it quotes.
        pcrs: u32,
    },
    /// Begin to open a closed group with the agent's help. Answer: half of a key exchange (256 bytes) and a quote by `key` over SHA-1 of
    /// `RCVR` ‖ nonce ‖ that half.
    GroupRecover1 {
        /// The group's index.
        index: u32,
        /// What MAKE_IDENTITY gave. (The C stack wanted a TPM_KEY without a length here, and never built it.)
        key: Vec<u8>,
        /// The agent's.
        nonce: [u8; 20],
        /// What the quote is of.
        pcrs: u32,
    },
    /// Open the group: the key, hidden as GROUP_REGISTER hid it.
    GroupRecover2 {
        /// The group's index.
        index: u32,
        /// The agent's half of the key exchange.
        dh: Box<[u8; DH_SIZE]>,
        /// The group's key exclusive-or SHA-256 of the shared secret.
        blob: Zeroizing<[u8; 32]>,
    },
    /// [`super::Status`].
    Status,
    /// Make a group. Answer: UUID, index (32 bits).
    GroupCreate {
        /// Who signs its lists, or nobody.
        saa: Option<SaaKey>,
        /// For the binding of its attestation key.
        label: [u8; 20],
    },
    /// [`super::GroupShow`].
    GroupShow2 {
        /// The group's index.
        index: u32,
    },
    /// A signed list of our form.
    GroupUpdate2 {
        /// The group's index.
        index: u32,
        /// Over the list: RSASSA-PKCS1-v1.5 with SHA-256, or ECDSA with SHA-256 as r ‖ s (64 bytes).
        signature: Vec<u8>,
        /// [`ConfigList::to_bytes`], as signed.
        list: Vec<u8>,
    },
    /// 20 bytes that open the manager's disk when the PCRs do not; they are shown once and replace those before.
    RecoveryCode,
    /// Name the approval agent of a group that has none.
    GroupSetKey {
        /// The group's index.
        index: u32,
        /// Its key.
        saa: SaaKey,
    },
    /// [`super::GroupKeys`].
    GroupKeys {
        /// The group's index.
        index: u32,
    },
    /// [`super::ChipPcrs`].
    ChipPcrs {
        /// Which, as a mask.
        pcrs: u32,
    },
    /// [`VtpmPage`].
    VtpmList2 {
        /// The group's index, or [`ALL_GROUPS`].
        index: u32,
        /// How many to leave out.
        offset: u32,
    },
    /// Count of the group's vTPMs (32 bits) and, from `offset` on, as many UUIDs as a packet holds.
    VtpmList {
        /// The group's index.
        index: u32,
        /// How many to leave out.
        offset: u32,
    },
    /// [`super::VtpmShow`].
    VtpmShow {
        /// The vTPM.
        uuid: [u8; 16],
    },
    /// Move a vTPM, which must not be connected, to another group, lock or unlock it.
    VtpmEdit {
        /// The vTPM.
        uuid: [u8; 16],
        /// Its group from now on.
        index: u32,
        /// [`vtpm_flags::LOCKED`] or nothing.
        flags: u32,
    },
    /// Make a vTPM known. Answer: its UUID.
    VtpmNew {
        /// Its group.
        index: u32,
        /// Its UUID, or a new one.
        uuid: Option<[u8; 16]>,
    },
    /// Forget a vTPM that is not connected, and its key.
    VtpmDelete {
        /// The vTPM.
        uuid: [u8; 16],
    },
    /// An attestation key of no group. Answer: length (32 bits) and bytes of the key, which only this chip can use, the same of its public
    /// part and of its binding.
    MakeIdentity {
        /// What the binding names.
        label: [u8; 20],
    },
    /// As GROUP_ACTIVATE, for such a key.
    ActivateIdentity {
        /// What MAKE_IDENTITY gave.
        key: Vec<u8>,
        /// The privacy CA's blob.
        blob: Vec<u8>,
    },
    /// The chip's endorsement key: length (32 bits) and bytes, a TPM 1.2's modulus or a 2.0's `TPMT_PUBLIC`.
    ReadPubek,
    /// Define a space in a TPM 1.2 chip.
    NvDefineSpace {
        /// `TPM_NV_DATA_PUBLIC`.
        public: Vec<u8>,
        /// The space's secret.
        auth: Zeroizing<[u8; 20]>,
    },
    /// Write to it, as the chip's owner.
    NvWrite {
        /// The chip's index of it.
        index: u32,
        /// Where.
        offset: u32,
        /// What.
        data: Vec<u8>,
    },
    /// Read from it, as the chip's owner. Answer: length (32 bits) and bytes.
    NvRead {
        /// The chip's index of it.
        index: u32,
        /// Where.
        offset: u32,
        /// How much.
        size: u32,
    },
}

impl Management {
    /// Reads a command's parameters, all of them; else a code.
    pub fn parse(ordinal: u32, body: &[u8]) -> Result<Self, Refused> {
        let mut from = Reader::new(body);
        let from = &mut from;
        let bad = Refused(code::BAD_PARAMETER);
        let command = match ordinal {
            ORD_GROUP_LIST => Self::GroupList,
            ORD_GROUP_NEW => Self::GroupNew { label: from.array()?, saa: Box::new(from.array()?) },
            ORD_GROUP_DEL => Self::GroupDelete { index: from.u32()? },
            ORD_GROUP_ACTIVATE => Self::GroupActivate { index: from.u32()?, blob: from.sized32()?.to_vec() },
            ORD_GROUP_REGISTER => Self::GroupRegister {
                index: from.u32()?,
                dh: Box::new(from.array()?),
                signature: Box::new(from.array()?),
                pcrs: read_selection(from)?,
            },
            ORD_GROUP_UPDATE => {
                let (index, signature) = (from.u32()?, Box::new(from.array()?));
                let list = LegacyList::parse(from.bytes(from.rest().len())?)?;
                Self::GroupUpdate { index, signature, list }
            }
            ORD_GROUP_SHOW => Self::GroupShow { index: from.u32()? },
            ORD_GROUP_QUOTE => {
                Self::GroupQuote { index: from.u32()?, nonce: from.array()?, pcrs: read_selection(from)? }
            }
            ORD_GROUP_RECOVER1 => Self::GroupRecover1 {
                index: from.u32()?,
                key: from.sized32()?.to_vec(),
                nonce: from.array()?,
                pcrs: read_selection(from)?,
            },
            ORD_GROUP_RECOVER2 => Self::GroupRecover2 {
                index: from.u32()?,
                dh: Box::new(from.array()?),
                blob: Zeroizing::new(from.array()?),
            },
            ORD_STATUS => Self::Status,
            ORD_GROUP_CREATE => Self::GroupCreate { saa: SaaKey::read(from).ok_or(bad)?, label: from.array()? },
            ORD_GROUP_SHOW2 => Self::GroupShow2 { index: from.u32()? },
            ORD_GROUP_UPDATE2 => Self::GroupUpdate2 {
                index: from.u32()?,
                signature: read16(from)?.to_vec(),
                list: read16(from)?.to_vec(),
            },
            ORD_RECOVERY_CODE => Self::RecoveryCode,
            ORD_GROUP_SET_KEY => {
                Self::GroupSetKey { index: from.u32()?, saa: SaaKey::read(from).flatten().ok_or(bad)? }
            }
            ORD_GROUP_KEYS => Self::GroupKeys { index: from.u32()? },
            ORD_CHIP_PCRS => match from.u32()? {
                pcrs @ 0..=0x00ff_ffff => Self::ChipPcrs { pcrs },
                _ => return Err(bad),
            },
            ORD_VTPM_LIST2 => Self::VtpmList2 { index: from.u32()?, offset: from.u32()? },
            ORD_VTPM_LIST => Self::VtpmList { index: from.u32()?, offset: from.u32()? },
            ORD_VTPM_SHOW => Self::VtpmShow { uuid: from.array()? },
            ORD_VTPM_EDIT => match (from.array()?, from.u32()?, from.u32()?) {
                (uuid, index, flags) if flags & !vtpm_flags::LOCKED == 0 => Self::VtpmEdit { uuid, index, flags },
                _ => return Err(bad),
            },
            ORD_VTPM_NEW => {
                let index = from.u32()?;
                Self::VtpmNew { index, uuid: if from.is_empty() { None } else { Some(from.array()?) } }
            }
            ORD_VTPM_DEL => Self::VtpmDelete { uuid: from.array()? },
            ORD_MAKE_IDENTITY => Self::MakeIdentity { label: from.array()? },
            ORD_ACTIVATE_IDENTITY => {
                Self::ActivateIdentity { key: from.sized32()?.to_vec(), blob: from.sized32()?.to_vec() }
            }
            ORD_READ_PUBEK => Self::ReadPubek,
            ORD_NV_DEFINE_SPACE => {
                Self::NvDefineSpace { public: from.sized32()?.to_vec(), auth: Zeroizing::new(from.array()?) }
            }
            ORD_NV_WRITE => Self::NvWrite { index: from.u32()?, offset: from.u32()?, data: from.sized32()?.to_vec() },
            ORD_NV_READ => Self::NvRead { index: from.u32()?, offset: from.u32()?, size: from.u32()? },
            _ => return Err(Refused(code::BAD_ORDINAL)),
        };
        end(from)?;
        Ok(command)
    }

    /// The command's ordinal.
    pub const fn ordinal(&self) -> u32 {
        match self {
            Self::GroupList => ORD_GROUP_LIST,
            Self::GroupNew { .. } => ORD_GROUP_NEW,
            Self::GroupDelete { .. } => ORD_GROUP_DEL,
            Self::GroupActivate { .. } => ORD_GROUP_ACTIVATE,
            Self::GroupRegister { .. } => ORD_GROUP_REGISTER,
            Self::GroupUpdate { .. } => ORD_GROUP_UPDATE,
            Self::GroupShow { .. } => ORD_GROUP_SHOW,
            Self::GroupQuote { .. } => ORD_GROUP_QUOTE,
            Self::GroupRecover1 { .. } => ORD_GROUP_RECOVER1,
            Self::GroupRecover2 { .. } => ORD_GROUP_RECOVER2,
            Self::Status => ORD_STATUS,
            Self::GroupCreate { .. } => ORD_GROUP_CREATE,
            Self::GroupShow2 { .. } => ORD_GROUP_SHOW2,
            Self::GroupUpdate2 { .. } => ORD_GROUP_UPDATE2,
            Self::RecoveryCode => ORD_RECOVERY_CODE,
            Self::GroupSetKey { .. } => ORD_GROUP_SET_KEY,
            Self::GroupKeys { .. } => ORD_GROUP_KEYS,
            Self::ChipPcrs { .. } => ORD_CHIP_PCRS,
            Self::VtpmList2 { .. } => ORD_VTPM_LIST2,
            Self::VtpmList { .. } => ORD_VTPM_LIST,
            Self::VtpmShow { .. } => ORD_VTPM_SHOW,
            Self::VtpmEdit { .. } => ORD_VTPM_EDIT,
            Self::VtpmNew { .. } => ORD_VTPM_NEW,
            Self::VtpmDelete { .. } => ORD_VTPM_DEL,
            Self::MakeIdentity { .. } => ORD_MAKE_IDENTITY,
            Self::ActivateIdentity { .. } => ORD_ACTIVATE_IDENTITY,
            Self::ReadPubek => ORD_READ_PUBEK,
            Self::NvDefineSpace { .. } => ORD_NV_DEFINE_SPACE,
            Self::NvWrite { .. } => ORD_NV_WRITE,
            Self::NvRead { .. } => ORD_NV_READ,
        }
    }

    /// The parameters behind the header.
    fn parameters(&self) -> Vec<u8> {
        let mut body = Vec::new();
        let mut out = Writer::new(&mut body);
        match self {
            Self::GroupList | Self::Status | Self::RecoveryCode | Self::ReadPubek => {}
            Self::GroupNew { label, saa } => {
                out.bytes(label).bytes(&saa[..]);
            }
            Self::GroupDelete { index }
            | Self::GroupShow { index }
            | Self::GroupShow2 { index }
            | Self::GroupKeys { index } => {
                out.u32(*index);
            }
            Self::GroupActivate { index, blob } => {
                out.u32(*index).sized32(blob);
            }
            Self::GroupRegister { index, dh, signature, pcrs } => {
                out.u32(*index).bytes(&dh[..]).bytes(&signature[..]);
                write_selection(&mut out, *pcrs);
            }
            Self::GroupUpdate { index, signature, list } => {
                out.u32(*index).bytes(&signature[..]).bytes(&list.to_bytes());
            }
            Self::GroupQuote { index, nonce, pcrs } => {
                out.u32(*index).bytes(nonce);
                write_selection(&mut out, *pcrs);
            }
            Self::GroupRecover1 { index, key, nonce, pcrs } => {
                out.u32(*index).sized32(key).bytes(nonce);
                write_selection(&mut out, *pcrs);
            }
            Self::GroupRecover2 { index, dh, blob } => {
                out.u32(*index).bytes(&dh[..]).bytes(&blob[..]);
            }
            Self::GroupCreate { saa, label } => {
                SaaKey::write(saa.as_ref(), &mut body);
                body.extend_from_slice(label);
            }
            Self::GroupUpdate2 { index, signature, list } => {
                out.u32(*index);
                sized16(&mut out, signature);
                sized16(&mut out, list);
            }
            Self::GroupSetKey { index, saa } => {
                out.u32(*index);
                SaaKey::write(Some(saa), &mut body);
            }
            Self::ChipPcrs { pcrs } => {
                out.u32(*pcrs);
            }
            Self::VtpmList { index, offset } | Self::VtpmList2 { index, offset } => {
                out.u32(*index).u32(*offset);
            }
            Self::VtpmShow { uuid } | Self::VtpmDelete { uuid } => {
                out.bytes(uuid);
            }
            Self::VtpmEdit { uuid, index, flags } => {
                out.bytes(uuid).u32(*index).u32(*flags);
            }
            Self::VtpmNew { index, uuid } => {
                out.u32(*index).bytes(uuid.as_ref().map_or(&[], |uuid| &uuid[..]));
            }
            Self::MakeIdentity { label } => {
                out.bytes(label);
            }
            Self::ActivateIdentity { key, blob } => {
                out.sized32(key).sized32(blob);
            }
            Self::NvDefineSpace { public, auth } => {
                out.sized32(public).bytes(&auth[..]);
            }
            Self::NvWrite { index, offset, data } => {
                out.u32(*index).u32(*offset).sized32(data);
            }
            Self::NvRead { index, offset, size } => {
                out.u32(*index).u32(*offset).u32(*size);
            }
        }
        body
    }

    /// The whole request. One of more than [`crate::MAX_PACKET`] bytes can't be sent.
    pub fn to_packet(&self) -> Zeroizing<Vec<u8>> {
        let body = Zeroizing::new(self.parameters());
        let size = HEADER_SIZE + body.len();
        let mut packet = Zeroizing::new(Vec::with_capacity(size));
        Writer::new(&mut packet)
            .u16(TAG_REQ2)
            .u32(u32::try_from(size).unwrap_or(u32::MAX))
            .u32(self.ordinal())
            .bytes(&body);
        packet
    }
}
