//! Which specification a chip follows.

use super::{ChipError, Version};
use tpm_wire::{ResponseHeader, Transport, TransportError};

/// TPM2_GetCapability of one property, TPM_PT_TOTAL_COMMANDS (TPM 2.0, part 3, section 30.2), with TPM_ST_NO_SESSIONS.
const GET_CAPABILITY_20: [u8; 22] =
    [0x80, 0x01, 0, 0, 0, 22, 0, 0, 0x01, 0x7a, 0, 0, 0, 6, 0, 0, 0x01, 0x29, 0, 0, 0, 1];
/// TPM_ST_NO_SESSIONS.
const ST_NO_SESSIONS: u16 = 0x8001;

/// Asks with a command of TPM 2.0: only a TPM 2.0 chip answers with a tag of TPM 2.0, started or not. A TPM 1.2 chip answers
/// TPM_BADTAG.
pub async fn version(transport: &impl Transport) -> Result<Version, ChipError> {
    let response = transport.transmit(&GET_CAPABILITY_20).await?;
    let (header, _) = ResponseHeader::parse(&response).map_err(|_| TransportError::Garbled)?;
    match (header.tag.get(), header.code.get()) {
        (ST_NO_SESSIONS, _) => Ok(Version::V20),
        (tpm_wire::v12::TAG_RSP_COMMAND, code) if code != 0 => Ok(Version::V12),
        _ => Err(TransportError::Garbled.into()),
    }
}
