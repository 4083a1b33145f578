//! A page that another domain, or the toolstack, can write at any moment.

use core::arch::asm;
use core::ptr::{self, NonNull};
use core::sync::atomic::{AtomicU8, AtomicU32, Ordering, fence};
use xen_abi::{OutOfPage, PAGE_SIZE, SharedPage};

/// The address of a mapped, writable page that is used through this type only, and never by reference.
#[derive(Debug)]
pub struct RawPage {
    at: NonNull<u8>,
}

// SAFETY: owns its page as a `Box` would, and every access is atomic or by assembly.
unsafe impl Send for RawPage {}

impl RawPage {
    /// The page at `address`.
    ///
    /// # Safety
    /// `address` must be that of a whole page, mapped writable for as long as this value lives, and no Rust reference to any of
    /// it may exist in that time.
    pub unsafe fn new(address: NonNull<u8>) -> Self {
        Self { at: address }
    }

    /// Its (physical) address.
    pub fn address(&self) -> u64 {
        self.at.addr().get() as u64
    }

    /// Its address as a pointer.
    pub fn as_ptr(&self) -> NonNull<u8> {
        self.at
    }

    /// The address of `len` bytes at `offset`, if they lie inside the page.
    fn range(&self, offset: usize, len: usize) -> Result<*mut u8, OutOfPage> {
        let end = offset.checked_add(len).ok_or(OutOfPage)?;
        if end > PAGE_SIZE {
            return Err(OutOfPage);
        }
        // SAFETY: inside the page.
        Ok(unsafe { self.at.as_ptr().add(offset) })
    }

    fn byte(&self, offset: usize) -> Result<&AtomicU8, OutOfPage> {
        // SAFETY: inside the page, which outlives `self`'s borrow and is reached by atomics or assembly only.
        self.range(offset, 1).map(|at| unsafe { AtomicU8::from_ptr(at) })
    }

    fn word(&self, offset: usize) -> Result<&AtomicU32, OutOfPage> {
        if !offset.is_multiple_of(4) {
            return Err(OutOfPage);
        }
        // SAFETY: as for `byte`, and aligned, since pages are.
        self.range(offset, 4).map(|at| unsafe { AtomicU32::from_ptr(at.cast()) })
    }
}

/// Copies bytes by an instruction that the compiler does not look into: it can neither repeat nor split nor elide it, whatever
/// another domain does to the memory meanwhile.
///
/// # Safety
/// `from` must be readable and `to` writable for `len` bytes, and they must not overlap.
unsafe fn copy(from: *const u8, to: *mut u8, len: usize) {
    // SAFETY: the caller's promise; the direction flag is clear throughout.
    unsafe {
        asm!(
            "rep movsb",
            inout("rcx") len => _,
            inout("rsi") from => _,
            inout("rdi") to => _,
            options(nostack, preserves_flags)
        );
    }
}

impl SharedPage for RawPage {
    fn read(&self, offset: usize, out: &mut [u8]) -> Result<(), OutOfPage> {
        let from = self.range(offset, out.len())?;
        // SAFETY: both in bounds; `out` is ours alone, so it is not part of the page.
        unsafe { copy(from, out.as_mut_ptr(), out.len()) };
        Ok(())
    }

    fn write(&self, offset: usize, data: &[u8]) -> Result<(), OutOfPage> {
        let to = self.range(offset, data.len())?;
        // SAFETY: both in bounds; no reference to the page exists, so `data` is not part of it.
        unsafe { copy(data.as_ptr(), to, data.len()) };
        Ok(())
    }

    fn load_u8(&self, offset: usize) -> Result<u8, OutOfPage> {
        Ok(self.byte(offset)?.load(Ordering::Acquire))
    }

    fn store_u8(&self, offset: usize, value: u8) -> Result<(), OutOfPage> {
        self.byte(offset)?.store(value, Ordering::Release);
        Ok(())
    }

    fn load_u32(&self, offset: usize) -> Result<u32, OutOfPage> {
        Ok(self.word(offset)?.load(Ordering::Acquire))
    }

    fn store_u32(&self, offset: usize, value: u32) -> Result<(), OutOfPage> {
        self.word(offset)?.store(value, Ordering::Release);
        Ok(())
    }

    fn fence(&self) {
        fence(Ordering::SeqCst);
    }
}

/// The page that Xen or the toolstack put at page number `frame`.
///
/// # Safety
/// To be called once for a frame, which must hold such a page for as long as the domain lives.
pub unsafe fn toolstack_page(frame: u64) -> Option<RawPage> {
    let address = frame.checked_mul(PAGE_SIZE as u64)?;
    crate::memory::paging::map_shared(address).ok()?;
    let at = NonNull::new(ptr::with_exposed_provenance_mut(usize::try_from(address).ok()?))?;
    // SAFETY: mapped a moment ago, for good; nothing else knows of it.
    Some(unsafe { RawPage::new(at) })
}
