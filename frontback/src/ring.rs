//! The request and response ring of `public/io/ring.h`, from the front end's side.
//!
//! One page: `req_prod`, `req_event`, `rsp_prod`, `rsp_event` (32 bits each), padding up to 64, then a power of two of entries, each
//! used first for a request and then for a response. Indices count up without end and are taken modulo the number of
//! entries. Our own indices are kept here; of the page only `rsp_prod` and `req_event` are read, and neither is believed.

use xen_abi::{OutOfPage, PAGE_SIZE, SharedPage};

const OFFSET_REQ_PROD: usize = 0;
const OFFSET_REQ_EVENT: usize = 4;
const OFFSET_RSP_PROD: usize = 8;
const OFFSET_RSP_EVENT: usize = 12;
const OFFSET_ENTRIES: usize = 64;

/// Why the ring cannot be used.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum RingError {
    /// Every entry holds a request without a response.
    Full,
    /// The back end claims more responses than there were requests.
    Overrun,
}

impl From<OutOfPage> for RingError {
    fn from(_: OutOfPage) -> Self {
        Self::Overrun
    }
}

/// The front end's indices.
#[derive(Debug)]
pub struct FrontRing {
    entries: u32,
    entry_size: usize,
    requests: u32,
    published: u32,
    responses: u32,
}

impl FrontRing {
    /// A ring of entries of `entry_size` bytes (1 to 2016) on a fresh page.
    pub fn new(page: &impl SharedPage, entry_size: usize) -> Result<Self, OutOfPage> {
        let fit = (PAGE_SIZE - OFFSET_ENTRIES).checked_div(entry_size).ok_or(OutOfPage)?;
        let entries = 1 << fit.checked_ilog2().ok_or(OutOfPage)?;
        for offset in [OFFSET_REQ_PROD, OFFSET_RSP_PROD] {
            page.store_u32(offset, 0)?;
        }
        for offset in [OFFSET_REQ_EVENT, OFFSET_RSP_EVENT] {
            page.store_u32(offset, 1)?;
        }
        Ok(Self { entries, entry_size, requests: 0, published: 0, responses: 0 })
    }

    fn offset(&self, index: u32) -> usize {
        OFFSET_ENTRIES + (index % self.entries) as usize * self.entry_size
    }

    /// Puts a request (at most an entry's bytes) into the ring; [`Self::publish`] shows it to the back end.
    pub fn push(&mut self, page: &impl SharedPage, request: &[u8]) -> Result<(), RingError> {
        if self.requests.wrapping_sub(self.responses) >= self.entries {
            return Err(RingError::Full);
        }
        let fits = request.get(..request.len().min(self.entry_size)).unwrap_or_default();
        page.write(self.offset(self.requests), fits)?;
        self.requests = self.requests.wrapping_add(1);
        Ok(())
    }

    /// Shows the requests pushed so far; true if the back end wants a signal.
    pub fn publish(&mut self, page: &impl SharedPage) -> Result<bool, RingError> {
        page.store_u32(OFFSET_REQ_PROD, self.requests)?;
        page.fence();
        let event = page.load_u32(OFFSET_REQ_EVENT)?;
        let new = self.requests.wrapping_sub(self.published);
        self.published = self.requests;
        Ok(self.requests.wrapping_sub(event) < new)
    }

    /// Copies the next response out; false if there is none. Asks for a signal for the next one.
    pub fn take(&mut self, page: &impl SharedPage, response: &mut [u8]) -> Result<bool, RingError> {
        if self.ready(page)? == 0 {
            page.store_u32(OFFSET_RSP_EVENT, self.responses.wrapping_add(1))?;
            page.fence();
            // One that came before the request for a signal would else wait for the next.
            if self.ready(page)? == 0 {
                return Ok(false);
            }
        }
        page.read(self.offset(self.responses), response)?;
        self.responses = self.responses.wrapping_add(1);
        Ok(true)
    }

    fn ready(&self, page: &impl SharedPage) -> Result<u32, RingError> {
        let ready = page.load_u32(OFFSET_RSP_PROD)?.wrapping_sub(self.responses);
        if ready > self.published.wrapping_sub(self.responses) { Err(RingError::Overrun) } else { Ok(ready) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fake::FakePage;

    fn respond(page: &FakePage, index: u32, entries: u32, byte: u8) {
        page.write(OFFSET_ENTRIES + (index % entries) as usize * 112, &[byte]).unwrap();
        page.store_u32(OFFSET_RSP_PROD, index.wrapping_add(1)).unwrap();
    }

    #[test]
    fn a_blkif_ring_has_32_entries_and_wraps() {
        let page = FakePage::new();
        let mut ring = FrontRing::new(&page, 112).unwrap();
        assert_eq!(ring.entries, 32);
        (ring.requests, ring.published, ring.responses) = (u32::MAX - 40, u32::MAX - 40, u32::MAX - 40);
        page.store_u32(OFFSET_RSP_PROD, u32::MAX - 40).unwrap();
        let mut out = [0];
        for round in 0..100u32 {
            let index = (u32::MAX - 40).wrapping_add(round);
            ring.push(&page, &[round as u8; 112]).unwrap();
            assert_eq!(ring.take(&page, &mut out), Ok(false));
            ring.publish(&page).unwrap();
            respond(&page, index, 32, !(round as u8));
            assert_eq!(ring.take(&page, &mut out), Ok(true));
            assert_eq!(out, [!(round as u8)]);
        }
    }

    #[test]
    fn a_full_ring_takes_no_more() {
        let page = FakePage::new();
        let mut ring = FrontRing::new(&page, 112).unwrap();
        for _ in 0..32 {
            ring.push(&page, &[1]).unwrap();
        }
        assert_eq!(ring.push(&page, &[1]), Err(RingError::Full));
    }

    #[test]
    fn more_responses_than_requests_are_an_overrun() {
        for claimed in [2, 33, 0x8000_0000, u32::MAX] {
            let page = FakePage::new();
            let mut ring = FrontRing::new(&page, 112).unwrap();
            ring.push(&page, &[1]).unwrap();
            ring.publish(&page).unwrap();
            page.store_u32(OFFSET_RSP_PROD, claimed).unwrap();
            assert_eq!(ring.take(&page, &mut [0]), Err(RingError::Overrun), "{claimed}");
        }
        // A request that was not shown yet cannot have a response.
        let page = FakePage::new();
        let mut ring = FrontRing::new(&page, 112).unwrap();
        ring.push(&page, &[1]).unwrap();
        page.store_u32(OFFSET_RSP_PROD, 1).unwrap();
        assert_eq!(ring.take(&page, &mut [0]), Err(RingError::Overrun));
    }

    #[test]
    fn the_back_end_says_when_it_wants_a_signal() {
        let page = FakePage::new();
        let mut ring = FrontRing::new(&page, 112).unwrap();
        ring.push(&page, &[1]).unwrap();
        assert_eq!(ring.publish(&page), Ok(true), "the first, as the page is made");
        ring.push(&page, &[1]).unwrap();
        assert_eq!(ring.publish(&page), Ok(false), "it is awake");
        page.store_u32(OFFSET_REQ_EVENT, 3).unwrap();
        ring.push(&page, &[1]).unwrap();
        assert_eq!(ring.publish(&page), Ok(true));
    }

    /// A page whose peer responds between our look and our request for a signal.
    struct Racing(FakePage);

    impl SharedPage for Racing {
        fn read(&self, offset: usize, out: &mut [u8]) -> Result<(), OutOfPage> {
            self.0.read(offset, out)
        }
        fn write(&self, offset: usize, data: &[u8]) -> Result<(), OutOfPage> {
            self.0.write(offset, data)
        }
        fn load_u8(&self, offset: usize) -> Result<u8, OutOfPage> {
            self.0.load_u8(offset)
        }
        fn store_u8(&self, offset: usize, value: u8) -> Result<(), OutOfPage> {
            self.0.store_u8(offset, value)
        }
        fn load_u32(&self, offset: usize) -> Result<u32, OutOfPage> {
            self.0.load_u32(offset)
        }
        fn store_u32(&self, offset: usize, value: u32) -> Result<(), OutOfPage> {
            if offset == OFFSET_RSP_EVENT {
                respond(&self.0, 0, 32, 9);
            }
            self.0.store_u32(offset, value)
        }
        fn fence(&self) {}
    }

    #[test]
    fn a_response_that_comes_while_a_signal_is_asked_for_is_not_missed() {
        let page = Racing(FakePage::new());
        let mut ring = FrontRing::new(&page.0, 112).unwrap();
        ring.push(&page, &[1]).unwrap();
        ring.publish(&page).unwrap();
        assert_eq!(ring.take(&page, &mut [0]), Ok(true));
    }

    #[test]
    fn entries_that_do_not_fit_a_page_make_no_ring() {
        let page = FakePage::new();
        assert!(FrontRing::new(&page, 0).is_err() && FrontRing::new(&page, 5000).is_err());
    }
}
