//! The manager, as its admin speaks to it.

use crate::error::Error;
use crate::link::Link;
use tpm_wire::mgr::{
    ALL_GROUPS, ChipPcrs, GroupKeys, GroupShow, Management, QuoteRequest, Status, TAG_RSP, TAG_RSP2, VtpmEntry,
    VtpmPage, VtpmShow, code,
};
use tpm_wire::{Reader, ResponseHeader, v12};
use zeroize::Zeroizing;

/// A connection to a manager.
pub struct Manager(Link);

impl Manager {
    /// Speaks over `link`.
    pub fn new(link: Link) -> Self {
        Self(link)
    }

    fn ask(&mut self, what: &'static str, packet: &[u8]) -> Result<Zeroizing<Vec<u8>>, Error> {
        let response = self.0.transmit(packet)?;
        let (header, body) = ResponseHeader::parse(&response).map_err(|_| Error::Malformed(what))?;
        match (header.tag.get(), header.code.get()) {
            (TAG_RSP | TAG_RSP2, 0) => Ok(Zeroizing::new(body.to_vec())),
            (tag @ (TAG_RSP | TAG_RSP2 | v12::TAG_RSP_COMMAND), code) if code != 0 => {
                let no_rights = tag == TAG_RSP2 && code == code::AUTHFAIL;
                Err(Error::Refused { what, code, no_rights })
            }
            _ => Err(Error::Malformed(what)),
        }
    }

    fn command<T>(
        &mut self,
        what: &'static str,
        command: &Management,
        parse: impl FnOnce(&[u8]) -> Option<T>,
    ) -> Result<T, Error> {
        let body = self.ask(what, &command.to_packet())?;
        parse(&body).ok_or(Error::Malformed(what))
    }

    /// A command without an answer.
    pub fn tell(&mut self, what: &'static str, command: &Management) -> Result<(), Error> {
        self.command(what, command, |body| body.is_empty().then_some(()))
    }

    /// The manager at a glance.
    pub fn status(&mut self) -> Result<Status, Error> {
        self.command("STATUS", &Management::Status, Status::parse)
    }

    /// The vTPMs of a group, or all.
    pub fn vtpms(&mut self, group: Option<u32>) -> Result<Vec<VtpmEntry>, Error> {
        let index = group.unwrap_or(ALL_GROUPS);
        let mut all = Vec::new();
        loop {
            let offset = u32::try_from(all.len()).unwrap_or(u32::MAX);
            let page = self.command("VTPM_LIST", &Management::VtpmList2 { index, offset }, VtpmPage::parse)?;
            let (total, last) = (page.total as usize, page.entries.is_empty());
            all.extend(page.entries);
            // One that was deleted meanwhile makes the list end earlier.
            if all.len() >= total || last {
                return Ok(all);
            }
        }
    }

    /// All about a vTPM.
    pub fn vtpm(&mut self, uuid: [u8; 16]) -> Result<VtpmShow, Error> {
        self.command("VTPM_SHOW", &Management::VtpmShow { uuid }, VtpmShow::parse)
    }

    /// Makes a vTPM known; its UUID.
    pub fn add(&mut self, index: u32, uuid: Option<[u8; 16]>) -> Result<[u8; 16], Error> {
        self.command("VTPM_NEW", &Management::VtpmNew { index, uuid }, |body| body.try_into().ok())
    }

    /// How many groups there are.
    pub fn groups(&mut self) -> Result<u32, Error> {
        self.command("GROUP_LIST", &Management::GroupList, |body| body.try_into().ok().map(u32::from_be_bytes))
    }

    /// All about a group.
    pub fn group(&mut self, index: u32) -> Result<GroupShow, Error> {
        self.command("GROUP_SHOW", &Management::GroupShow2 { index }, GroupShow::parse)
    }

    /// Makes a group; its UUID and index.
    pub fn create(&mut self, command: &Management) -> Result<([u8; 16], u32), Error> {
        self.command("GROUP_CREATE", command, |body| {
            let mut from = Reader::new(body);
            let made = (from.array().ok()?, from.u32().ok()?);
            from.is_empty().then_some(made)
        })
    }

    /// The keys that a verifier starts from.
    pub fn keys(&mut self, index: u32) -> Result<GroupKeys, Error> {
        self.command("GROUP_KEYS", &Management::GroupKeys { index }, GroupKeys::parse)
    }

    /// The answer to a challenge.
    pub fn activate(&mut self, index: u32, blob: Vec<u8>) -> Result<Vec<u8>, Error> {
        let command = Management::GroupActivate { index, blob };
        self.command("GROUP_ACTIVATE", &command, |body| Some(body.to_vec()))
    }

    /// The chip's PCRs now.
    pub fn pcrs(&mut self, pcrs: u32) -> Result<ChipPcrs, Error> {
        let wanted = |found: &ChipPcrs| found.0.mask == pcrs;
        self.command("CHIP_PCRS", &Management::ChipPcrs { pcrs }, |body| ChipPcrs::parse(body).filter(wanted))
    }

    /// A quote about a group.
    pub fn group_quote(&mut self, index: u32, nonce: [u8; 20], pcrs: u32) -> Result<Vec<u8>, Error> {
        let command = Management::GroupQuote { index, nonce, pcrs };
        self.command("GROUP_QUOTE", &command, |body| Some(body.to_vec()))
    }

    /// A quote about the vTPM that this domain is to the manager.
    pub fn quote(&mut self, request: &QuoteRequest) -> Result<Vec<u8>, Error> {
        Ok(self.ask("GET_QUOTE", &request.to_packet())?.to_vec())
    }

    /// A new recovery code.
    pub fn recovery_code(&mut self) -> Result<Zeroizing<[u8; 20]>, Error> {
        let parse = |body: &[u8]| body.try_into().ok().map(Zeroizing::new);
        self.command("RECOVERY_CODE", &Management::RecoveryCode, parse)
    }
}
