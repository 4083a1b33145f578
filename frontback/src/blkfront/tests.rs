use super::*;
use crate::fake::{BlkBack, DOM0, FakeDomain, Fault, Machine, RamDisk, VbdOptions};
use crate::test_log;
use alloc::rc::Rc;
use alloc::vec;
use alloc::vec::Vec;
use core::cell::RefCell;
use core::future::Future;
use core::pin::{Pin, pin};
use core::task::{Context, Poll, Waker};
use core::time::Duration;
use xen_abi::{BlockDevice, DomId, Store};

const FRONT: DomId = DomId(7);
const VDEV: u32 = 768;
const SECTORS: u64 = 500;

struct Rig {
    machine: Machine,
    domain: FakeDomain,
    driver: RefCell<BlkFront<FakeDomain>>,
    back: BlkBack,
    disk: Rc<RefCell<RamDisk>>,
    now: Instant,
}

impl Rig {
    fn new(writable: bool) -> Self {
        test_log::start();
        let machine = Machine::new();
        let domain = machine.domain(FRONT);
        machine.xl_vbd_attach(FRONT, DOM0, VDEV, VbdOptions { writable });
        let disk = RamDisk::new(SECTORS);
        let back = BlkBack::new(&machine, DOM0, FRONT, VDEV, &disk);
        Self { machine, domain, driver: RefCell::new(BlkFront::new()), back, disk, now: Instant::from_millis(1000) }
    }

    fn connected() -> Self {
        let mut rig = Self::new(true);
        rig.settle();
        assert_eq!(rig.status(), Status::Ready);
        rig
    }

    fn status(&self) -> Status {
        self.driver.borrow().status()
    }

    fn disk(&self) -> Disk<'_, FakeDomain> {
        let mut open = pin!(Disk::open(&self.driver));
        match open.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(Ok(disk)) => disk,
            _ => panic!("not ready: {:?}", self.status()),
        }
    }

    fn step(&mut self) {
        self.driver.borrow_mut().step(&mut self.domain, self.now);
        self.back.step();
    }

    fn settle(&mut self) {
        for _ in 0..20 {
            self.step();
        }
    }
}

/// Runs a future on one of the rig's disks to its end.
macro_rules! run {
    ($rig:expr, |$disk:ident| $work:expr) => {{
        let driver = core::mem::replace(&mut $rig.driver, RefCell::new(BlkFront::new()));
        let outcome = {
            let $disk = opened(&driver);
            let mut work = pin!($work);
            drive(&mut $rig, &driver, work.as_mut())
        };
        $rig.driver = driver;
        outcome
    }};
}

fn opened<'a>(driver: &'a RefCell<BlkFront<FakeDomain>>) -> Disk<'a, FakeDomain> {
    let mut open = pin!(Disk::open(driver));
    match open.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(Ok(disk)) => disk,
        Poll::Ready(Err(error)) => panic!("{error}"),
        Poll::Pending => panic!("not connected"),
    }
}

fn drive<T>(rig: &mut Rig, driver: &RefCell<BlkFront<FakeDomain>>, mut work: Pin<&mut impl Future<Output = T>>) -> T {
    for _ in 0..1000 {
        if let Poll::Ready(outcome) = work.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
            return outcome;
        }
        driver.borrow_mut().step(&mut rig.domain, rig.now);
        rig.back.step();
    }
    panic!("no end");
}

fn pattern(length: usize, seed: u8) -> Vec<u8> {
    (0..length).map(|i| (i / 512) as u8 ^ (i as u8) ^ seed).collect()
}

#[test]
fn connects_and_tells_what_the_disk_is() {
    let rig = Rig::connected();
    assert_eq!(rig.disk().sectors(), SECTORS);
    assert!(rig.driver.borrow().can_flush() && !rig.driver.borrow().is_read_only());
    let lines = test_log::take();
    assert_eq!(lines, ["INFO blkfront: device/vbd/768: 500 sectors of 512 bytes, writable, with flush"]);
}

#[test]
fn waits_for_a_device_that_comes_late() {
    let machine = Machine::new();
    let mut domain = machine.domain(FRONT);
    let mut driver = BlkFront::new();
    driver.step(&mut domain, Instant::from_millis(0));
    assert_eq!((driver.status(), driver.deadline()), (Status::Connecting, None));
    machine.xl_vbd_attach(FRONT, DOM0, 768, VbdOptions { writable: true });
    let disk = RamDisk::new(8);
    let mut back = BlkBack::new(&machine, DOM0, FRONT, 768, &disk);
    for _ in 0..6 {
        driver.step(&mut domain, Instant::from_millis(0));
        back.step();
    }
    assert_eq!(driver.status(), Status::Ready);
}

#[test]
fn what_is_written_reads_back_at_every_size_and_place() {
    let mut rig = Rig::connected();
    // One sector, a page, an odd count, the most of one request, one more, and several requests.
    for (count, sector) in [(1, 0), (8, 3), (13, 487), (88, 9), (89, 100), (300, 200)] {
        let data = pattern(count * 512, count as u8);
        let written = run!(rig, |disk| disk.write(sector, &data));
        assert_eq!(written, Ok(()), "{count} sectors");
        let start = sector as usize * 512;
        assert!(rig.disk.borrow().data[start..start + data.len()] == data, "{count} sectors on the disk");
        let mut out = vec![0; data.len()];
        assert_eq!(run!(rig, |disk| disk.read(sector, &mut out)), Ok(()));
        assert!(out == data, "{count} sectors read");
    }
    rig.machine.domain(FRONT);
}

#[test]
fn nothing_outside_the_disk_is_touched() {
    let mut rig = Rig::connected();
    let data = vec![1; 1024];
    for (sector, length) in
        [(SECTORS, 512), (SECTORS - 1, 1024), (u64::MAX, 512), (0, 511), (0, 513), (u64::MAX - 1, 1024)]
    {
        let mut out = vec![0; length];
        assert_eq!(run!(rig, |disk| disk.read(sector, &mut out)), Err(DiskError::OutOfRange), "{sector} {length}");
        assert_eq!(run!(rig, |disk| disk.write(sector, &data[..length.min(1024)])), Err(DiskError::OutOfRange));
    }
    assert_eq!(rig.disk.borrow().writes, 0);
    assert_eq!(run!(rig, |disk| disk.write(SECTORS, &[])), Ok(()));
    assert_eq!(run!(rig, |disk| disk.write(SECTORS - 1, &data[..512])), Ok(()));
}

#[test]
fn flush_uses_what_the_back_end_has() {
    // Announced flush, announced barrier, what the back end then supports; outcome and whether it counts as able.
    let cases = [
        ("1", "1", Fault::None, Ok(()), true),
        ("1", "0", Fault::None, Ok(()), true),
        ("0", "1", Fault::None, Ok(()), true),
        ("0", "0", Fault::None, Err(DiskError::NoFlush), false),
        ("1", "1", Fault::NoFlush, Ok(()), true),
        ("1", "0", Fault::NoFlush, Err(DiskError::NoFlush), false),
        ("1", "1", Fault::NoFlushNoBarrier, Err(DiskError::NoFlush), false),
        ("1", "1", Fault::IoError, Err(DiskError::Io), true),
    ];
    for (cache, barrier, fault, expected, able) in cases {
        let mut rig = Rig::new(true);
        rig.back.set_key("feature-flush-cache", cache);
        rig.back.set_key("feature-barrier", barrier);
        rig.settle();
        run!(rig, |disk| disk.write(0, &[7; 512])).unwrap();
        assert_eq!(rig.disk.borrow().unflushed.len(), 1);
        rig.back.fault = fault;
        let flushed = run!(rig, |disk| disk.flush());
        assert_eq!(flushed, expected, "{cache} {barrier} {fault:?}");
        assert_eq!(rig.disk.borrow().unflushed.is_empty(), expected.is_ok());
        assert_eq!(rig.driver.borrow().can_flush(), able, "{cache} {barrier} {fault:?}");
    }
}

#[test]
fn a_read_only_disk_is_never_written() {
    for by_mode in [true, false] {
        let mut rig = Rig::new(!by_mode);
        if !by_mode {
            rig.back.set_key("info", "4");
        }
        rig.settle();
        assert!(rig.driver.borrow().is_read_only());
        assert_eq!(run!(rig, |disk| disk.write(0, &[1; 512])), Err(DiskError::ReadOnly));
        assert_eq!(run!(rig, |disk| async move { disk.read(0, &mut [0; 512]).await }), Ok(()));
        assert_eq!(rig.disk.borrow().writes, 0);
    }
}

#[test]
fn state_that_has_to_last_needs_a_disk_that_keeps_it() {
    let cases = [
        (true, "1", "0", None),
        (true, "0", "1", None),
        (true, "0", "0", Some(DiskError::NoFlush)),
        (false, "1", "1", Some(DiskError::ReadOnly)),
    ];
    for (writable, cache, barrier, refused) in cases {
        let mut rig = Rig::new(writable);
        rig.back.set_key("feature-flush-cache", cache);
        rig.back.set_key("feature-barrier", barrier);
        rig.settle();
        let mut open = pin!(Disk::open_durable(&rig.driver));
        match open.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(outcome) => assert_eq!(outcome.err(), refused, "{cache} {barrier}"),
            Poll::Pending => panic!("not ready: {:?}", rig.status()),
        }
    }
}

#[test]
fn an_error_of_the_disk_is_reported_and_the_next_request_served() {
    let mut rig = Rig::connected();
    rig.back.fault = Fault::IoError;
    assert_eq!(run!(rig, |disk| disk.write(0, &[1; 512])), Err(DiskError::Io));
    assert_eq!(run!(rig, |disk| async move { disk.read(0, &mut [1; 512]).await }), Err(DiskError::Io));
    rig.back.fault = Fault::None;
    assert_eq!(run!(rig, |disk| disk.write(0, &[1; 512])), Ok(()));
}

#[test]
fn a_back_end_that_lies_on_the_ring_is_given_up() {
    let wild = [1, 31, 32, 0x8000_0000, u32::MAX - 1].map(Fault::WildProducer);
    for fault in wild.into_iter().chain([Fault::WrongId, Fault::Twice]) {
        let mut rig = Rig::connected();
        test_log::take();
        rig.back.fault = fault;
        assert_eq!(run!(rig, |disk| disk.write(0, &[1; 512])), Err(DiskError::Gone), "{fault:?}");
        rig.settle();
        assert_eq!(rig.status(), Status::Failed(DiskError::Gone));
        let lines = test_log::take();
        assert!(lines.len() == 1 && lines[0].contains("given up"), "{fault:?}: {lines:?}");
        rig.back.disconnect();
        rig.machine.assert_nothing_held(FRONT);
    }
}

#[test]
fn a_silent_back_end_is_given_up_after_two_minutes() {
    let mut rig = Rig::connected();
    rig.back.fault = Fault::Silent;
    let driver = core::mem::replace(&mut rig.driver, RefCell::new(BlkFront::new()));
    let disk = opened(&driver);
    let mut write = pin!(disk.write(0, &[1; 512]));
    let mut context = Context::from_waker(Waker::noop());
    assert!(write.as_mut().poll(&mut context).is_pending());
    assert_eq!(driver.borrow().deadline(), Some(Instant::from_millis(0)), "the signal is due");
    driver.borrow_mut().step(&mut rig.domain, rig.now);
    let until = rig.now + Duration::from_secs(120);
    assert_eq!(driver.borrow().deadline(), Some(until));
    driver.borrow_mut().step(&mut rig.domain, until);
    assert_eq!(write.as_mut().poll(&mut context), Poll::Ready(Err(DiskError::Gone)));
}

#[test]
fn a_back_end_that_goes_takes_the_disk_along() {
    for state in [5, 6] {
        let mut rig = Rig::connected();
        rig.back.fault = Fault::Silent;
        let driver = core::mem::replace(&mut rig.driver, RefCell::new(BlkFront::new()));
        let disk = opened(&driver);
        let mut read_buffer = [0; 512];
        let mut read = pin!(disk.read(0, &mut read_buffer));
        let mut context = Context::from_waker(Waker::noop());
        assert!(read.as_mut().poll(&mut context).is_pending());
        rig.back.disconnect();
        rig.back.set_state(state);
        driver.borrow_mut().step(&mut rig.domain, rig.now);
        assert_eq!(read.as_mut().poll(&mut context), Poll::Ready(Err(DiskError::Gone)));
        assert_eq!(driver.borrow().status(), Status::Failed(DiskError::Gone));
        rig.machine.assert_nothing_held(FRONT);
    }
}

#[test]
fn a_request_given_up_does_not_disturb_the_next() {
    let mut rig = Rig::connected();
    rig.disk.borrow_mut().data[..512].fill(0xaa);
    rig.back.fault = Fault::Silent;
    let driver = core::mem::replace(&mut rig.driver, RefCell::new(BlkFront::new()));
    let disk = opened(&driver);
    let mut context = Context::from_waker(Waker::noop());
    {
        let data = [1; 1024];
        let mut given_up = pin!(disk.write(2, &data));
        assert!(given_up.as_mut().poll(&mut context).is_pending());
    }
    let mut out = [0; 512];
    {
        let mut read = pin!(disk.read(0, &mut out));
        for _ in 0..5 {
            assert!(read.as_mut().poll(&mut context).is_pending(), "its pages are in use");
            driver.borrow_mut().step(&mut rig.domain, rig.now);
            rig.back.step();
        }
        rig.back.fault = Fault::None;
        assert_eq!(drive(&mut rig, &driver, read.as_mut()), Ok(()));
    }
    assert_eq!(out, [0xaa; 512]);
    assert_eq!(rig.disk.borrow().data[1024..2048], [1; 1024], "it had been sent");
}

#[test]
fn two_users_take_turns() {
    let mut rig = Rig::connected();
    let (a, b) = (pattern(200 * 512, 1), pattern(200 * 512, 2));
    let both = run!(rig, |disk| async move {
        let mut first = pin!(disk.write(0, &a));
        let mut second = pin!(disk.write(200, &b));
        let mut done = [None, None];
        core::future::poll_fn(|context| {
            if done[0].is_none()
                && let Poll::Ready(outcome) = first.as_mut().poll(context)
            {
                done[0] = Some(outcome);
            }
            if done[1].is_none()
                && let Poll::Ready(outcome) = second.as_mut().poll(context)
            {
                done[1] = Some(outcome);
            }
            if done.iter().all(Option::is_some) { Poll::Ready(()) } else { Poll::Pending }
        })
        .await;
        done
    });
    assert_eq!(both, [Some(Ok(())), Some(Ok(()))]);
    let disk = rig.disk.borrow();
    assert!(
        disk.data[..200 * 512] == pattern(200 * 512, 1) && disk.data[200 * 512..400 * 512] == pattern(200 * 512, 2)
    );
}

#[test]
fn bad_properties_are_one_clear_line() {
    let cases = [
        ("sectors", None, "sectors is missing"),
        ("sectors", Some(""), "sectors is"),
        ("sectors", Some("0"), "a size of 0 sectors"),
        ("sectors", Some("18446744073709551615"), "cannot be"),
        ("sectors", Some("99999999999999999999"), "sectors is"),
        ("sectors", Some("-5"), "sectors is"),
        ("sector-size", Some("4096"), "4096 bytes"),
        ("sector-size", Some("0"), "0 bytes"),
        ("sector-size", Some("x"), "sector-size is"),
        ("info", Some("huge"), "info is"),
        ("feature-barrier", Some("yes"), "feature-barrier is"),
    ];
    for (key, value, words) in cases {
        let mut rig = Rig::new(true);
        match value {
            Some(value) => rig.back.set_key(key, value),
            None => rig.back.without_key(key),
        }
        rig.settle();
        assert_eq!(rig.status(), Status::Failed(DiskError::Gone), "{key} {value:?}");
        let lines = test_log::take();
        assert!(lines.len() == 1 && lines[0].contains(words), "{key} {value:?}: {lines:?}");
        rig.machine.assert_nothing_held(FRONT);
    }
    // Defaults for what is optional.
    let mut rig = Rig::new(true);
    for key in ["sector-size", "info", "feature-barrier", "feature-flush-cache"] {
        rig.back.without_key(key);
    }
    rig.settle();
    assert_eq!((rig.status(), rig.driver.borrow().can_flush()), (Status::Ready, false));
}

#[test]
fn a_malformed_back_end_path_fails() {
    let mut rig = Rig::new(true);
    rig.machine.domain(DOM0).put("/local/domain/7/device/vbd/768/backend", "not/absolute");
    rig.settle();
    assert_eq!(rig.status(), Status::Failed(DiskError::Gone));
}

#[test]
fn the_lowest_numbered_disk_is_ours() {
    let mut rig = Rig::new(true);
    rig.machine.xl_vbd_attach(FRONT, DOM0, 832, VbdOptions { writable: true });
    rig.machine.xl_vbd_attach(FRONT, DOM0, 5632, VbdOptions { writable: true });
    rig.settle();
    assert_eq!(rig.status(), Status::Ready);
    assert_eq!(rig.machine.read("/local/domain/7/device/vbd/832/state"), Some("1".into()));
}

#[test]
fn a_request_under_way_ends_before_the_disk_closes() {
    let mut rig = Rig::connected();
    rig.back.fault = Fault::Silent;
    let driver = core::mem::replace(&mut rig.driver, RefCell::new(BlkFront::new()));
    let disk = opened(&driver);
    let mut context = Context::from_waker(Waker::noop());
    let mut write = pin!(disk.write(0, &[9; 512]));
    assert!(write.as_mut().poll(&mut context).is_pending());
    driver.borrow_mut().close();
    for _ in 0..5 {
        driver.borrow_mut().step(&mut rig.domain, rig.now);
        rig.back.step();
    }
    assert_eq!(rig.machine.read("/local/domain/7/device/vbd/768/state"), Some("4".into()));
    let mut late = pin!(disk.flush());
    assert_eq!(late.as_mut().poll(&mut context), Poll::Ready(Err(DiskError::Gone)), "nothing new");
    rig.back.fault = Fault::None;
    assert_eq!(drive(&mut rig, &driver, write.as_mut()), Ok(()));
    for _ in 0..5 {
        driver.borrow_mut().step(&mut rig.domain, rig.now);
        rig.back.step();
    }
    assert_eq!(driver.borrow().status(), Status::Closed);
    assert_eq!(rig.disk.borrow().data[..512], [9; 512]);
    rig.machine.assert_nothing_held(FRONT);
}

#[test]
fn closing_gives_everything_back() {
    let mut rig = Rig::connected();
    run!(rig, |disk| disk.write(0, &[9; 512])).unwrap();
    rig.driver.borrow_mut().close();
    assert_eq!(rig.driver.borrow().deadline(), Some(Instant::from_millis(0)));
    rig.settle();
    assert_eq!(rig.status(), Status::Closed);
    assert_eq!(rig.back.state(), Some(6));
    rig.machine.assert_nothing_held(FRONT);
    assert_eq!(rig.driver.borrow().deadline(), None);
}

#[test]
fn closing_does_not_wait_for_a_back_end_that_does_not_follow() {
    let mut rig = Rig::connected();
    rig.driver.borrow_mut().close();
    rig.driver.borrow_mut().step(&mut rig.domain, rig.now);
    let deadline = rig.driver.borrow().deadline().unwrap();
    assert_eq!(rig.status(), Status::Ready);
    let until = if deadline.as_millis() == 0 {
        rig.driver.borrow_mut().step(&mut rig.domain, rig.now);
        rig.driver.borrow().deadline().unwrap()
    } else {
        deadline
    };
    rig.driver.borrow_mut().step(&mut rig.domain, until);
    assert_eq!(rig.status(), Status::Closed);
}

#[test]
fn closing_what_never_connected_is_done_at_once() {
    let mut rig = Rig::new(true);
    rig.machine.domain(DOM0).remove(None, "/local/domain/7/device/vbd").unwrap();
    rig.driver.borrow_mut().step(&mut rig.domain, rig.now);
    rig.driver.borrow_mut().close();
    rig.driver.borrow_mut().step(&mut rig.domain, rig.now);
    assert_eq!(rig.status(), Status::Closed);
}

#[test]
fn a_request_that_xenstored_loses_is_made_again_whichever_it_was() {
    for executed in [false, true] {
        for number in 0.. {
            let mut rig = Rig::new(true);
            rig.machine.lose_request(FRONT, number, executed);
            for _ in 0..3 {
                rig.settle();
                rig.now = rig.now + Duration::from_secs(1);
            }
            assert_eq!(rig.status(), Status::Ready, "{number}, executed: {executed}");
            run!(rig, |disk| disk.write(0, &[9; 512])).unwrap();
            rig.driver.borrow_mut().close();
            for _ in 0..4 {
                rig.settle();
                rig.now = rig.now + Duration::from_secs(1);
            }
            assert_eq!(rig.status(), Status::Closed, "{number}, executed: {executed}");
            rig.machine.assert_nothing_held(FRONT);
            if rig.machine.request_to_be_lost(FRONT) {
                assert!(number > 15, "{number} requests are too few for all this");
                break;
            }
        }
    }
}
