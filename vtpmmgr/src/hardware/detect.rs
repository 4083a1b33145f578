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

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec::Vec;
    use core::pin::pin;
    use core::task::{Context, Poll, Waker};

    struct Answers(Result<&'static [u8], TransportError>);

    impl Transport for Answers {
        async fn transmit(&self, command: &[u8]) -> Result<Vec<u8>, TransportError> {
            assert!(tpm_wire::CommandHeader::parse(command).is_ok());
            self.0.map(<[u8]>::to_vec)
        }
    }

    fn asked(answer: Result<&'static [u8], TransportError>) -> Result<Version, ChipError> {
        let transport = Answers(answer);
        match pin!(version(&transport)).poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(version) => version,
            Poll::Pending => panic!("nothing here waits"),
        }
    }

    #[test]
    fn the_answers_tag_tells_the_version() {
        // TPM_BADTAG of TPM 1.2; TPM_RC_INITIALIZE and TPM_RC_SUCCESS of TPM 2.0.
        assert_eq!(asked(Ok(&[0, 0xc4, 0, 0, 0, 10, 0, 0, 0, 30])), Ok(Version::V12));
        assert_eq!(asked(Ok(&[0x80, 1, 0, 0, 0, 10, 0, 0, 1, 0])), Ok(Version::V20));
        let found = &[0x80, 1, 0, 0, 0, 27, 0, 0, 0, 0, 0, 0, 0, 0, 6, 0, 0, 0, 1, 0, 0, 1, 0x29, 0, 0, 0, 70];
        assert_eq!(asked(Ok(found)), Ok(Version::V20));
    }

    #[test]
    fn anything_else_is_no_answer() {
        let garbled = Err(ChipError::Transport(TransportError::Garbled));
        for odd in
            [&[][..], &[0; 10], &[0xff; 10], &[0, 0xc4, 0, 0, 0, 10, 0, 0, 0, 0], &[0, 0xc4, 0, 0, 0, 11, 0, 0, 0, 30]]
        {
            assert_eq!(asked(Ok(odd)), garbled);
        }
        assert_eq!(asked(Err(TransportError::Gone)), Err(ChipError::Transport(TransportError::Gone)));
    }
}
