//! What needs Xen. Event channels can be shown by a domain that is its own peer; grants need two domains, as Xen moves a page that
//! its own owner maps.

use alloc::vec::Vec;
use core::time::Duration;
use xen_abi::{
    Access, Clock, DomId, EventChannels, EventPort, GrantError, GrantRef, Grants, Labels, SharedPage, StoreRing,
};
use xen_guest::{MachineClock, XenPorts, XenSide, XenStoreRing, heap_usage};

/// More than there are grant entries or places to map.
const CYCLES: usize = 1200;
const LINES: usize = 300;

/// Xenstore's ring, event channels, the wall clock, the console under load.
pub fn works(mut xen: XenSide, clock: MachineClock) {
    let me = own_domain(&mut xen.store_ring);
    log::info!(target: "smoke", "xenstore says this is domain {me}");
    assert!(clock.unix_seconds() > 1_500_000_000, "the wall clock is wrong");
    events(&mut xen.ports, me, clock);
    log::info!(target: "smoke", "event channels work");
    let near = xen.ports.alloc_unbound(me).expect("a port");
    let far = xen.ports.bind_interdomain(me, near).expect("the other end");
    match xen.ports.labels().peer_label(far).expect("FLASK says the label, or is not there") {
        Some(label) => log::info!(target: "smoke", "FLASK's label: {}", alloc::string::String::from_utf8_lossy(&label)),
        None => log::info!(target: "smoke", "this Xen has no FLASK"),
    }
    xen.ports.close(far);
    xen.ports.close(near);
    for line in 0..LINES {
        log::info!(target: "smoke", "line {line} of many, to fill the console's ring more than once");
    }
}

fn events(ports: &mut XenPorts, me: DomId, clock: MachineClock) {
    let near = ports.alloc_unbound(me).expect("a port");
    let far = ports.bind_interdomain(me, near).expect("the other end");
    ports.take_pending(near);
    ports.take_pending(far);
    assert!(!ports.take_pending(near) && !ports.take_pending(far), "a mark stays");

    ports.notify(near);
    assert!(ports.take_pending(far) && !ports.take_pending(far), "not signalled exactly once");
    assert!(!ports.take_pending(near), "signalled the sender");

    let start = clock.now();
    while clock.now() < start + Duration::from_millis(100) {
        ports.wait(Some(start + Duration::from_millis(100)));
    }
    ports.notify(far);
    let start = clock.now();
    ports.wait(Some(start + Duration::from_secs(600)));
    assert!(ports.take_pending(near), "the wait ended without its event");

    // More than one SCHEDOP_poll takes: no wait for ever.
    let crowd: Vec<_> = (0..200).map(|_| ports.alloc_unbound(me).expect("a port")).collect();
    ports.wait(None);
    crowd.into_iter().for_each(|port| ports.close(port));

    ports.close(far);
    ports.close(near);
    ports.close(near);
    assert!(ports.bind_interdomain(me, near).is_err(), "bound to a closed port");
    assert!(ports.bind_interdomain(DomId(0x7000), EventPort(1)).is_err(), "bound to nobody");
}

/// Lends pages to the domain that is made after this one, for [`borrow`] there.
pub fn lend(mut xen: XenSide) {
    let peer = DomId(own_domain(&mut xen.store_ring).0 + 1);
    let ports = &mut xen.ports;
    let heap = heap_usage().used;
    let page = ports.grant(peer, Access::ReadWrite).expect("a page");
    let reference = XenPorts::grant_ref(&page);
    let read_only = ports.grant(peer, Access::Read).expect("a page");
    page.write(100, LENDER).expect("in the page");
    assert!(page.read(4090, &mut [0; 7]).is_err() && page.load_u32(2).is_err(), "outside the page");
    let port = ports.alloc_unbound(peer).expect("a port");
    log::info!(target: "smoke", "lent {} {} {}", reference.0, XenPorts::grant_ref(&read_only).0, port.0);

    await_event(ports, port);
    let mut seen = [0; 4];
    page.read(4092, &mut seen).expect("in the page");
    assert_eq!(&seen, BORROWER);

    // Still mapped over there: neither the page nor its entry may be given out again.
    ports.revoke(page);
    let others: Vec<_> = (0..20).map(|_| ports.grant(peer, Access::Read).expect("a page")).collect();
    assert!(others.iter().all(|other| XenPorts::grant_ref(other) != reference), "an entry in use was given out");
    ports.notify(port);
    await_event(ports, port);
    let mut zeroes = [1; 4096];
    for other in others {
        other.read(0, &mut zeroes).expect("in the page");
        assert_eq!(zeroes, [0; 4096], "a page in use was given out");
        ports.revoke(other);
    }
    ports.revoke(read_only);
    for _ in 0..CYCLES {
        let page = ports.grant(peer, Access::ReadWrite).expect("an entry, page after page");
        ports.revoke(page);
    }
    ports.notify(port);
    ports.close(port);
    assert_eq!(heap_usage().used, heap, "pages were lost");
    log::info!(target: "smoke", "lending works");
}

/// Maps what [`lend`] lends in another domain: `borrow DOMAIN PAGE READ-ONLY-PAGE PORT`.
pub fn borrow(mut xen: XenSide, words: &[&str]) {
    let [lender, reference, read_only, port] = numbers(words);
    let lender = DomId(lender as u16);
    let ports = &mut xen.ports;
    let port = ports.bind_interdomain(lender, EventPort(port)).expect("the other end");
    ports.take_pending(port);
    let mut seen = [0; LENDER.len()];
    for _ in 0..CYCLES {
        let page = ports.map(lender, GrantRef(reference)).expect("a place, page after page");
        page.read(100, &mut seen).expect("in the page");
        assert_eq!(&seen, LENDER);
        ports.unmap(page);
    }
    let refused = |result: Result<_, GrantError>| matches!(result, Err(GrantError::Refused(_)));
    assert!(refused(ports.map(lender, GrantRef(read_only))), "mapped a read-only grant for writing");
    assert!(refused(ports.map(lender, GrantRef(500))), "mapped what is not granted");
    assert!(refused(ports.map(lender, GrantRef(u32::MAX))), "mapped what cannot be");
    assert!(refused(ports.map(DomId(0x7000), GrantRef(8))), "mapped from nobody");

    let page = ports.map(lender, GrantRef(reference)).expect("the page");
    page.write(4092, BORROWER).expect("in the page");
    ports.notify(port);
    await_event(ports, port);
    page.write(0, &[0xff; 4096]).expect("in the page");
    ports.unmap(page);
    ports.notify(port);
    await_event(ports, port);
    assert!(refused(ports.map(lender, GrantRef(reference))), "mapped what was revoked");
    ports.close(port);
    log::info!(target: "smoke", "borrowing works");
}

const LENDER: &[u8] = b"from the owner";
const BORROWER: &[u8] = b"back";

fn await_event(ports: &mut XenPorts, port: EventPort) {
    while !ports.take_pending(port) {
        ports.wait(None);
    }
}

fn numbers<const N: usize>(words: &[&str]) -> [u32; N] {
    let numbers: Vec<u32> = words.iter().filter_map(|word| word.parse().ok()).collect();
    numbers.try_into().expect("the numbers after the word")
}

/// This domain's number: an XS_READ of `domid`, by hand (`public/io/xs_wire.h`).
fn own_domain(ring: &mut XenStoreRing) -> DomId {
    const RESPONSES: usize = 1024;
    const REQUEST_PRODUCER: usize = 2048 + 4;
    const RESPONSE_CONSUMER: usize = 2048 + 8;
    const RESPONSE_PRODUCER: usize = 2048 + 12;
    let path = b"domid\0";
    let header = [2u32, 1, 0, path.len() as u32].map(u32::to_le_bytes);
    let start = ring.page().load_u32(REQUEST_PRODUCER).expect("in the page");
    let request = header.as_flattened().iter().chain(path);
    for (index, byte) in (start..).zip(request) {
        ring.page().write(index as usize % 1024, &[*byte]).expect("in the page");
    }
    ring.page().store_u32(REQUEST_PRODUCER, start + 22).expect("in the page");
    ring.notify();

    let from = ring.page().load_u32(RESPONSE_CONSUMER).expect("in the page");
    let until = ring.now() + Duration::from_secs(10);
    let mut answer = Vec::new();
    while answer.len() < 17 {
        assert!(ring.now() < until, "xenstored does not answer");
        ring.wait(until);
        let to = ring.page().load_u32(RESPONSE_PRODUCER).expect("in the page");
        answer.clear();
        for index in from..to.min(from + 64) {
            let byte = ring.page().load_u8(RESPONSES + index as usize % 1024).expect("in the page");
            answer.push(byte);
        }
        ring.page().store_u32(RESPONSE_CONSUMER, from).expect("in the page");
    }
    ring.page().store_u32(RESPONSE_CONSUMER, from + answer.len() as u32).expect("in the page");
    let digits = core::str::from_utf8(&answer[16..]).expect("digits");
    DomId(digits.parse().expect("a number"))
}
