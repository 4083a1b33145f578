//! Structures of TPM Main 1.2, part 2.

pub(crate) mod daa;
pub(crate) mod delegate;
pub(crate) mod key;
pub(crate) mod migration;
pub(crate) mod nv;
pub(crate) mod pcr;
pub(crate) mod seal;

use zeroize::Zeroizing;

/// `TPM_DIGEST` (section 5.4).
pub(crate) type Digest = [u8; 20];
/// `TPM_NONCE` (section 5.5).
pub(crate) type Nonce = [u8; 20];
/// `TPM_AUTHDATA` or `TPM_SECRET` (section 5.6): wiped when dropped.
pub(crate) type AuthData = Zeroizing<[u8; 20]>;
