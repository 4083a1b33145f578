//! Bytes in and out of the interface page (`struct xenstore_domain_interface`): two byte rings of 1024, whose indices count
//! up without end and are taken modulo the size.

use alloc::vec;
use alloc::vec::Vec;
use xen_abi::io::xs_wire::*;
use xen_abi::{OutOfPage, SharedPage};

/// The other side's index is further from ours than the ring is long, or a message is longer than messages are.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Broken;

impl From<OutOfPage> for Broken {
    fn from(_: OutOfPage) -> Self {
        Self
    }
}

/// Puts as much of `data` into the request ring as there is room for; returns how much that was.
pub(super) fn send(page: &impl SharedPage, data: &[u8]) -> Result<usize, Broken> {
    let (producer, consumer) = (page.load_u32(OFFSET_REQ_PROD)?, page.load_u32(OFFSET_REQ_CONS)?);
    let used = producer.wrapping_sub(consumer) as usize;
    let room = RING_SIZE.checked_sub(used).ok_or(Broken)?;
    let now = data.get(..room.min(data.len())).ok_or(Broken)?;
    let start = producer as usize % RING_SIZE;
    let (first, second) = now.split_at(now.len().min(RING_SIZE - start));
    page.write(OFFSET_REQUESTS + start, first)?;
    page.write(OFFSET_REQUESTS, second)?;
    page.store_u32(OFFSET_REQ_PROD, producer.wrapping_add(now.len() as u32))?;
    Ok(now.len())
}

/// Takes as much of `out` from the response ring as is there; returns how much that was.
fn receive(page: &impl SharedPage, out: &mut [u8]) -> Result<usize, Broken> {
    let (producer, consumer) = (page.load_u32(OFFSET_RSP_PROD)?, page.load_u32(OFFSET_RSP_CONS)?);
    let there = producer.wrapping_sub(consumer) as usize;
    if there > RING_SIZE {
        return Err(Broken);
    }
    let length = there.min(out.len());
    let out = out.get_mut(..length).ok_or(Broken)?;
    let start = consumer as usize % RING_SIZE;
    let (first, second) = out.split_at_mut(length.min(RING_SIZE - start));
    page.read(OFFSET_RESPONSES + start, first)?;
    page.read(OFFSET_RESPONSES, second)?;
    page.store_u32(OFFSET_RSP_CONS, consumer.wrapping_add(length as u32))?;
    Ok(length)
}

/// A message: header and payload.
pub(super) type Message = (Header, Vec<u8>);

/// A message that may have come in part.
#[derive(Default)]
pub(super) struct Incoming {
    header: [u8; HEADER_SIZE],
    header_have: usize,
    body: Vec<u8>,
    body_have: usize,
}

impl Incoming {
    /// Takes what is there, and gives the message when it is whole; sets `taken` if anything was taken.
    pub(super) fn pump(&mut self, page: &impl SharedPage, taken: &mut bool) -> Result<Option<Message>, Broken> {
        if self.header_have < HEADER_SIZE {
            let got = receive(page, self.header.get_mut(self.header_have..).ok_or(Broken)?)?;
            *taken |= got > 0;
            self.header_have += got;
            if self.header_have < HEADER_SIZE {
                return Ok(None);
            }
            let header: Header = zerocopy::transmute!(self.header);
            let length = header.length as usize;
            if length > PAYLOAD_MAX {
                return Err(Broken);
            }
            self.body = vec![0; length];
        }
        let got = receive(page, self.body.get_mut(self.body_have..).ok_or(Broken)?)?;
        *taken |= got > 0;
        self.body_have += got;
        if self.body_have < self.body.len() {
            return Ok(None);
        }
        let whole = core::mem::take(self);
        Ok(Some((zerocopy::transmute!(whole.header), whole.body)))
    }
}
