//! Guest instances: whose PCRs the TPM holds (docs/decisions/0003-guest-instance.md).
//!
//! | the front end that attaches | PCRs |
//! |---|---|
//! | is of the instance that the TPM holds | kept: a driver reload, a kexec, a crashed driver |
//! | is of another instance | a durable mark is written, then all is reset as at power-on |
//! | is of the marked instance, and a clean stop saved its volatile state | the save is durably used up, then restored |
//! | is of the marked instance, and nothing was saved | refused: it may have extended PCRs that are lost |
//! | is of an instance that was marked earlier, since the machine started | refused, for the same reason |
//! | is the first after a start with `save`, and there is a saved state | as restored, under its own mark |

use crate::saved::Saved;
use core::fmt;
use xen_abi::DomId;

/// Bytes in a boot id.
pub const BOOT_ID_SIZE: usize = 20;

/// One life of one domain.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Instance {
    /// Which start of the machine, from the manager.
    pub boot: [u8; BOOT_ID_SIZE],
    /// The front end's domain.
    pub domid: DomId,
}

impl fmt::Display for Instance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "domain {}", self.domid)
    }
}

/// What is due when a front end attaches.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Admission {
    /// The TPM holds this guest's state.
    Keep,
    /// A new guest: mark, then reset.
    Reset,
    /// Use up the saved volatile state, then restore it.
    Restore,
    /// This guest was attached when the vTPM stopped, and its PCRs were not saved.
    RefuseUnsaved,
    /// Another guest was served since, and this one's PCRs went with that.
    RefuseReplaced,
}

/// The table above. `held` is the instance whose volatile state the running TPM holds; `continues` is the operator's word
/// (`save`) that the first guest after the start is the one whose state was saved.
pub fn admission(guest: Instance, held: Option<Instance>, saved: &Saved, continues: bool) -> Admission {
    if held == Some(guest) {
        return Admission::Keep;
    }
    let marked = saved.open == Some(guest);
    if saved.volatile.is_some() && held.is_none() && (marked || continues) {
        Admission::Restore
    } else if marked {
        Admission::RefuseUnsaved
    } else if saved.open.is_some_and(|open| open.boot == guest.boot) && saved.earlier.contains(&guest.domid) {
        Admission::RefuseReplaced
    } else {
        Admission::Reset
    }
}

/// The mark for `guest`: in the vault before its first command is served.
pub fn marked(guest: Instance, saved: &Saved) -> Saved {
    let (mut next, before) = (saved.clone(), saved.open);
    next.volatile = None;
    next.open = Some(guest);
    match before {
        Some(before) if before.boot == guest.boot => {
            if before != guest {
                next.earlier.push(before.domid);
            }
            // After Xen has run through all numbers, one may come again, and is the newest now.
            next.earlier.retain(|domid| *domid != guest.domid);
        }
        _ => next.earlier.clear(),
    }
    next
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::saved::Secret;

    fn guest(boot: u8, domid: u16) -> Instance {
        Instance { boot: [boot; BOOT_ID_SIZE], domid: DomId(domid) }
    }

    fn saved(open: Option<Instance>, volatile: bool) -> Saved {
        let earlier = if open.is_some() { std::vec![DomId(3)] } else { std::vec![] };
        Saved {
            engine_kind: 1,
            open,
            earlier,
            volatile: volatile.then(|| Secret::new(b"pcrs".to_vec())),
            engine: Secret::default(),
        }
    }

    #[test]
    fn every_row_of_the_table() {
        let (a, b) = (guest(1, 5), guest(1, 6));
        for volatile in [false, true] {
            for open in [None, Some(a), Some(b)] {
                let saved = saved(open, volatile);
                assert_eq!(admission(a, Some(a), &saved, false), Admission::Keep);
            }
            assert_eq!(admission(b, Some(a), &saved(Some(a), volatile), false), Admission::Reset);
            assert_eq!(admission(a, None, &saved(None, volatile), false), Admission::Reset);
            assert_eq!(admission(b, None, &saved(Some(a), volatile), false), Admission::Reset);
        }
        assert_eq!(admission(a, None, &saved(Some(a), true), false), Admission::Restore);
        assert_eq!(admission(a, None, &saved(Some(a), false), false), Admission::RefuseUnsaved);
        assert_eq!(admission(b, None, &saved(Some(a), true), true), Admission::Restore);
        assert_eq!(admission(b, None, &saved(Some(a), false), true), Admission::Reset);
    }

    #[test]
    fn who_was_served_earlier_is_remembered_until_the_machine_restarts() {
        let (a, b, c) = (guest(1, 5), guest(1, 6), guest(1, 7));
        let first = marked(a, &saved(None, true));
        assert!(first.open == Some(a) && first.earlier.is_empty() && first.volatile.is_none());
        assert!(marked(a, &first).earlier.is_empty());
        let third = marked(c, &marked(b, &first));
        assert_eq!(third.earlier, [DomId(5), DomId(6)]);
        for held in [None, Some(c)] {
            assert_eq!(admission(a, held, &third, false), Admission::RefuseReplaced);
            assert_eq!(admission(b, held, &third, false), Admission::RefuseReplaced);
            assert_eq!(admission(guest(1, 8), held, &third, false), Admission::Reset);
            assert_eq!(admission(guest(2, 5), held, &third, false), Admission::Reset);
        }
        assert!(marked(guest(2, 9), &third).earlier.is_empty());
    }

    #[test]
    fn the_same_domain_number_after_a_restart_of_the_machine_is_another_instance() {
        assert_eq!(admission(guest(2, 5), None, &saved(Some(guest(1, 5)), true), false), Admission::Reset);
        assert_eq!(admission(guest(2, 5), None, &saved(Some(guest(1, 5)), false), false), Admission::Reset);
    }
}
