//! Pages and grants, with the bookkeeping that finds leaks.

use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::rc::Rc;
use alloc::vec::Vec;
use core::cell::RefCell;
use xen_abi::{Access, DomId, GrantError, GrantRef, OutOfPage, PAGE_SIZE, SharedPage};

/// `GNTST_bad_gntref`.
const BAD_GNTREF: i16 = -3;
/// `GNTST_permission_denied`.
const PERMISSION_DENIED: i16 = -8;

type Bytes = [u8; PAGE_SIZE];
type Hook = Box<dyn FnMut(&mut Bytes, usize, usize)>;

/// A page; a handle, cheap to clone.
#[derive(Clone)]
pub struct FakePage(Rc<Cell>);

struct Cell {
    bytes: RefCell<Box<Bytes>>,
    after_peer_read: RefCell<Option<Hook>>,
}

impl Default for FakePage {
    fn default() -> Self {
        Self::new()
    }
}

impl FakePage {
    /// A zeroed page.
    pub fn new() -> Self {
        Self(Rc::new(Cell { bytes: RefCell::new(Box::new([0; PAGE_SIZE])), after_peer_read: RefCell::new(None) }))
    }

    /// After every read by whoever mapped the page, `hook` gets its bytes, and the offset and length of what was read: a
    /// hostile owner who changes the page between two reads.
    pub fn after_peer_read(&self, hook: impl FnMut(&mut [u8; PAGE_SIZE], usize, usize) + 'static) {
        *self.0.after_peer_read.borrow_mut() = Some(Box::new(hook));
    }

    /// Every byte reads as it is once, and as 0xff from then on.
    pub fn readable_once(&self) {
        self.after_peer_read(|bytes, offset, length| {
            if let Some(read) = bytes.get_mut(offset..offset + length) {
                read.fill(0xff);
            }
        });
    }

    fn get(&self, offset: usize, out: &mut [u8], peer: bool) -> Result<(), OutOfPage> {
        let end = offset.checked_add(out.len()).ok_or(OutOfPage)?;
        out.copy_from_slice(self.0.bytes.borrow().get(offset..end).ok_or(OutOfPage)?);
        if peer && let Some(hook) = self.0.after_peer_read.borrow_mut().as_mut() {
            hook(&mut self.0.bytes.borrow_mut(), offset, out.len());
        }
        Ok(())
    }

    fn put(&self, offset: usize, data: &[u8]) -> Result<(), OutOfPage> {
        let end = offset.checked_add(data.len()).ok_or(OutOfPage)?;
        self.0.bytes.borrow_mut().get_mut(offset..end).ok_or(OutOfPage)?.copy_from_slice(data);
        Ok(())
    }
}

/// A page that a domain granted.
pub struct GrantedPage {
    page: FakePage,
    reference: GrantRef,
}

impl GrantedPage {
    /// The grant reference.
    pub fn reference(&self) -> GrantRef {
        self.reference
    }

    /// The page itself.
    pub fn page(&self) -> &FakePage {
        &self.page
    }
}

/// A page that a domain mapped.
pub struct MappedPage {
    page: FakePage,
    of: DomId,
    reference: GrantRef,
}

macro_rules! shared_page {
    ($type:ty, $self:ident => $page:expr, $peer:expr) => {
        impl SharedPage for $type {
            fn read(&$self, offset: usize, out: &mut [u8]) -> Result<(), OutOfPage> {
                $page.get(offset, out, $peer)
            }
            fn write(&$self, offset: usize, data: &[u8]) -> Result<(), OutOfPage> {
                $page.put(offset, data)
            }
            fn load_u8(&$self, offset: usize) -> Result<u8, OutOfPage> {
                let mut byte = [0];
                $page.get(offset, &mut byte, $peer)?;
                Ok(byte[0])
            }
            fn store_u8(&$self, offset: usize, value: u8) -> Result<(), OutOfPage> {
                $page.put(offset, &[value])
            }
            fn load_u32(&$self, offset: usize) -> Result<u32, OutOfPage> {
                let mut bytes = [0; 4];
                if offset % 4 != 0 {
                    return Err(OutOfPage);
                }
                $page.get(offset, &mut bytes, $peer)?;
                Ok(u32::from_ne_bytes(bytes))
            }
            fn store_u32(&$self, offset: usize, value: u32) -> Result<(), OutOfPage> {
                if offset % 4 != 0 {
                    return Err(OutOfPage);
                }
                $page.put(offset, &value.to_ne_bytes())
            }
            fn fence(&$self) {}
        }
    };
}

shared_page!(FakePage, self => self, false);
shared_page!(GrantedPage, self => self.page, false);
shared_page!(MappedPage, self => self.page, true);

struct Entry {
    page: FakePage,
    to: DomId,
    access: Access,
    live: bool,
}

#[derive(Default)]
pub(super) struct GrantTable {
    entries: BTreeMap<(DomId, GrantRef), Entry>,
    mapped: Vec<(DomId, DomId, GrantRef)>,
    mapped_twice: Vec<(DomId, DomId, GrantRef)>,
    next: u32,
}

impl GrantTable {
    pub(super) fn grant(&mut self, owner: DomId, to: DomId, access: Access) -> Result<GrantedPage, GrantError> {
        self.next += 1;
        let reference = GrantRef(self.next + 7);
        let page = FakePage::new();
        self.entries.insert((owner, reference), Entry { page: page.clone(), to, access, live: true });
        Ok(GrantedPage { page, reference })
    }

    pub(super) fn revoke(&mut self, owner: DomId, page: GrantedPage) {
        if let Some(entry) = self.entries.get_mut(&(owner, page.reference)) {
            assert!(entry.live, "domain {owner} ends grant {} twice", page.reference);
            entry.live = false;
        }
    }

    pub(super) fn map(&mut self, who: DomId, of: DomId, reference: GrantRef) -> Result<MappedPage, GrantError> {
        let entry = self.entries.get(&(of, reference)).filter(|entry| entry.live);
        let entry = entry.ok_or(GrantError::Refused(BAD_GNTREF))?;
        if entry.to != who || entry.access == Access::Read {
            return Err(GrantError::Refused(PERMISSION_DENIED));
        }
        let mapping = (who, of, reference);
        if self.mapped.contains(&mapping) {
            self.mapped_twice.push(mapping);
        }
        self.mapped.push(mapping);
        Ok(MappedPage { page: entry.page.clone(), of, reference })
    }

    pub(super) fn unmap(&mut self, who: DomId, page: MappedPage) {
        let mapping = (who, page.of, page.reference);
        let position = self.mapped.iter().position(|other| *other == mapping);
        self.mapped.remove(position.expect("a mapped page"));
    }

    pub(super) fn destroy(&mut self, id: DomId) {
        self.entries.retain(|(owner, _), _| *owner != id);
        self.mapped.retain(|(who, _, _)| *who != id);
    }

    pub(super) fn assert_nothing_held(&self, id: DomId) {
        let granted: Vec<_> = self
            .entries
            .iter()
            .filter(|((owner, _), entry)| *owner == id && entry.live)
            .map(|(key, _)| key.1)
            .collect();
        assert!(granted.is_empty(), "domain {id} still grants {granted:?}");
        let mapped: Vec<_> = self.mapped.iter().filter(|(who, _, _)| *who == id).collect();
        assert!(mapped.is_empty(), "domain {id} still maps {mapped:?}");
        let twice: Vec<_> = self.mapped_twice.iter().filter(|(who, _, _)| *who == id).collect();
        assert!(twice.is_empty(), "domain {id} mapped a page twice: {twice:?}");
    }
}
