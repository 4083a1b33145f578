//! Grant table: sharing pages with other domains.

use crate::{DomId, GrantRef, SharedPage};
use core::fmt;

/// What the other domain may do with a granted page.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Access {
    /// Read only.
    Read,
    /// Read and write.
    ReadWrite,
}

/// Why a grant operation failed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum GrantError {
    /// No page, grant entry or address space left on our side.
    Exhausted,
    /// Xen refused the reference, with its `GNTST_*` status (negative): wrong domain, not granted, revoked.
    Refused(i16),
}

impl fmt::Display for GrantError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exhausted => f.write_str("no memory or grant entry left for a shared page"),
            Self::Refused(status) => write!(f, "grant refused by Xen (GNTST {status})"),
        }
    }
}

impl core::error::Error for GrantError {}

/// Pages shared by grant.
pub trait Grants {
    /// A page of ours that another domain may map.
    type Granted: SharedPage;
    /// A page of another domain that we mapped.
    type Mapped: SharedPage;

    /// Allocates a zeroed page and grants it to `to`.
    fn grant(&mut self, to: DomId, access: Access) -> Result<Self::Granted, GrantError>;

    /// The reference that the other domain needs to map `page`.
    fn grant_ref(page: &Self::Granted) -> GrantRef;

    /// Ends the grant. While the other domain still maps the page, the page is kept aside and never reused.
    fn revoke(&mut self, page: Self::Granted);

    /// Maps `grant` of domain `from`, read-write.
    fn map(&mut self, from: DomId, grant: GrantRef) -> Result<Self::Mapped, GrantError>;

    /// Unmaps a page.
    fn unmap(&mut self, page: Self::Mapped);
}
