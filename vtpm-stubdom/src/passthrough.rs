//! Commands that a guest may send to the hardware TPM, through the manager, and the one question that the vTPM itself answers.
//!
//! A guest's packet with the manager's request tag 0x01C1 in place of 0x00C1 means the hardware TPM. As in the C stack, GetRandom,
//! PCRRead and Extend are passed on with the tag 0x00C1, and the response comes back as it is. GET_BOOT_ID is answered here: a
//! manager whose chip is this vTPM must tell its own vTPMs the same start of the machine, whatever becomes of its domain. Every
//! other ordinal is answered TPM_BAD_ORDINAL: the vTPM's own business with the manager is not the guest's.
//!
//! Management requests (0x01C2) are passed on as they are. The manager looks at the UUID of this vTPM, which the guest cannot
//! change, and obeys only those that its `admin_uuid=` names; the same goes for Extend.

use crate::instance::BOOT_ID_SIZE;
use crate::manager::{Link, Manager, ORD_GET_RANDOM, ORD_PCR_READ, packet};
use alloc::vec::Vec;
use tpm_wire::mgr::{ORD_GET_BOOT_ID, TAG_REQ, TAG_REQ2, TAG_RSP, TAG_RSP2};
use tpm_wire::v12::{TAG_RQU_COMMAND, TAG_RSP_COMMAND};
use tpm_wire::{CommandHeader, HEADER_SIZE, ResponseHeader, Writer};

/// TPM Main, part 2, section 17.
const ORD_EXTEND: u32 = 0x14;
/// TPM Main, part 2, section 16.
const FAIL: u32 = 9;
const BAD_ORDINAL: u32 = 10;
const BAD_PARAM_SIZE: u32 = 0x19;

/// The answer to a request that is no packet: TPM_BAD_PARAM_SIZE.
pub const MALFORMED: [u8; 10] = [0, TAG_RSP_COMMAND as u8, 0, 0, 0, 10, 0, 0, 0, BAD_PARAM_SIZE as u8];

/// The response, if `command` is meant for the hardware TPM or asks for `start_id`, which names this start of the machine.
pub async fn answer(
    command: &[u8],
    manager: &Manager<'_, impl Link>,
    start_id: &[u8; BOOT_ID_SIZE],
) -> Option<Vec<u8>> {
    let (header, body) = CommandHeader::parse(command).ok()?;
    let refuse = |code| Some(ResponseHeader::bare(TAG_RSP_COMMAND, code).to_vec());
    match header.tag.get() {
        TAG_REQ => {}
        TAG_REQ2 => {
            let response = manager.forward(command).await;
            return Some(response.unwrap_or_else(|| ResponseHeader::bare(TAG_RSP2, FAIL).to_vec()));
        }
        _ => return None,
    }
    let ordinal = header.ordinal.get();
    if ordinal == ORD_GET_BOOT_ID && body.is_empty() {
        const SIZE: usize = HEADER_SIZE + BOOT_ID_SIZE;
        let mut response = Vec::with_capacity(SIZE);
        Writer::new(&mut response).u16(TAG_RSP).u32(SIZE as u32).u32(0).bytes(start_id);
        return Some(response);
    }
    let size = match ordinal {
        ORD_GET_RANDOM | ORD_PCR_READ => 4,
        ORD_EXTEND => 24,
        _ => return refuse(BAD_ORDINAL),
    };
    if body.len() != size {
        return refuse(BAD_PARAM_SIZE);
    }
    match manager.forward(&packet(TAG_RQU_COMMAND, ordinal, body)).await {
        Some(response) => Some(response),
        None => refuse(FAIL),
    }
}
