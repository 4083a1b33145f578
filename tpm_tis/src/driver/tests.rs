//! The driver against an honest chip and against one that misbehaves in every way it knows.

use super::*;
use crate::desk::POLLS_PER_STEP;
use crate::error::Wait;
use crate::fake::{Answering, FakeTis, Faults, NoiseBus, Slow};
use crate::timeouts::DEFAULT_DURATION;
use alloc::vec;

type Echo = Answering<fn(u8, &[u8]) -> Vec<u8>>;

/// A packet of `len` bytes whose content shows where it was cut or shifted.
fn packet(tag: u16, len: usize) -> Vec<u8> {
    let mut out = tag.to_be_bytes().to_vec();
    out.extend((len as u32).to_be_bytes());
    out.extend((6..len).map(|i| (i * 7 % 251) as u8));
    out
}

/// Answers with as many bytes as the command has, and the locality in the last one.
fn echo(locality: u8, command: &[u8]) -> Vec<u8> {
    let mut out = packet(0xc4, command.len());
    *out.last_mut().unwrap() = locality;
    out
}

fn chip() -> FakeTis<Echo> {
    FakeTis::new(Answering(echo))
}

fn faulty(faults: Faults) -> FakeTis<Echo> {
    chip().with_faults(faults)
}

fn driver() -> Tis {
    Tis::new(0, Timeouts::DEFAULT).unwrap()
}

struct Outcome {
    result: Result<Vec<u8>, TisError>,
    took: Duration,
}

/// Steps the driver at its deadlines until there is a result; `before` sees every step.
fn drive<B: TisBus>(
    tis: &mut Tis,
    bus: &mut B,
    ticket: Ticket,
    mut before: impl FnMut(&mut Tis, &mut B, Instant),
) -> Outcome {
    let start = Instant::from_millis(1_000_000);
    let mut now = start;
    for _ in 0..2_000_000 {
        before(tis, bus, now);
        tis.step(bus, now);
        if let Some(result) = tis.take(ticket) {
            return Outcome { result, took: now.since(start) };
        }
        now = now.max(tis.deadline().expect("a command under way has a deadline"));
    }
    panic!("the driver does not come to an end");
}

fn run_for<B: TisBus>(tis: &mut Tis, bus: &mut B, command: &[u8], duration: Duration) -> Outcome {
    let ticket = tis.submit(command, duration).unwrap();
    drive(tis, bus, ticket, |_, _, _| {})
}

fn run<B: TisBus>(tis: &mut Tis, bus: &mut B, command: &[u8]) -> Outcome {
    run_for(tis, bus, command, DEFAULT_DURATION)
}

/// One command of 30 bytes against a chip with these faults; the driver must keep to the specification all the same.
fn against(faults: Faults) -> (Result<Vec<u8>, TisError>, u32) {
    let mut bus = faulty(faults);
    let outcome = run(&mut driver(), &mut bus, &packet(0xc1, 30));
    assert_eq!(bus.violations, Vec::<&str>::new());
    assert!(outcome.took <= Timeouts::DEFAULT.longest(DEFAULT_DURATION));
    (outcome.result, bus.started)
}

#[test]
fn commands_of_every_size_pass_and_responses_come_back_whole() {
    let (mut tis, mut bus) = (driver(), chip());
    for len in (10..64).chain([255, 256, 257, 1024, 4088, 4095, 4096]) {
        let outcome = run(&mut tis, &mut bus, &packet(0xc1, len));
        assert_eq!(outcome.result, Ok(echo(0, &packet(0xc1, len))), "{len} bytes");
        assert!(outcome.took < Duration::from_millis(20), "{len} bytes took {:?}", outcome.took);
    }
    assert_eq!(bus.violations, Vec::<&str>::new());
}

#[test]
fn burst_counts_of_any_kind_are_kept() {
    for burst in [1, 2, 3, 7, 10, 63, 64, 4096, 0xffff] {
        for burst_pauses in [0, 1, 5, 40] {
            let mut bus = faulty(Faults { burst: Some(burst), burst_pauses, ..Faults::default() });
            let outcome = run(&mut driver(), &mut bus, &packet(0xc1, 300));
            assert_eq!(outcome.result, Ok(echo(0, &packet(0xc1, 300))), "burst {burst}, pauses {burst_pauses}");
            assert_eq!(bus.violations, Vec::<&str>::new());
        }
    }
}

#[test]
fn a_burst_count_of_zero_ends_within_the_timeouts_and_the_command_did_not_start() {
    let mut bus = faulty(Faults { burst: Some(0), ..Faults::default() });
    let outcome = run(&mut driver(), &mut bus, &packet(0xc1, 30));
    assert_eq!((outcome.result, bus.started), (Err(TisError::TimedOut(Wait::Burst)), 0));
    assert!(outcome.took >= Timeouts::DEFAULT.d * 2 && outcome.took < Duration::from_secs(3), "{:?}", outcome.took);
}

#[test]
fn every_locality_talks_through_its_own_page() {
    for locality in 0..5 {
        let (mut tis, mut bus) = (Tis::new(locality, Timeouts::DEFAULT).unwrap(), chip());
        assert_eq!(run(&mut tis, &mut bus, &packet(0xc1, 12)).result.unwrap().last(), Some(&locality));
        assert_eq!(bus.active_locality(), Some(locality));
    }
    for locality in [5, 6, 255] {
        assert_eq!(Tis::new(locality, Timeouts::DEFAULT).err(), Some(BadLocality(locality)));
    }
}

#[test]
fn only_whole_packets_are_taken_and_only_one_at_a_time() {
    let (mut tis, mut bus) = (driver(), chip());
    let mut lying = packet(0xc1, 20);
    lying[5] = 21;
    for bad in [&packet(0xc1, 20)[..9], &[], &packet(0xc1, 20)[..19], &lying, &packet(0xc1, 4097)] {
        assert_eq!(tis.submit(bad, DEFAULT_DURATION), Err(SubmitError::Malformed));
    }
    assert_eq!(tis.deadline(), None);
    tis.step(&mut bus, Instant::from_millis(5));
    assert_eq!(bus.accesses, 0, "nothing to do, nothing touched");
    let ticket = tis.submit(&packet(0xc1, 20), DEFAULT_DURATION).unwrap();
    assert_eq!(tis.submit(&packet(0xc1, 20), DEFAULT_DURATION), Err(SubmitError::Busy));
    assert!(drive(&mut tis, &mut bus, ticket, |_, _, _| {}).result.is_ok());
    assert_eq!(tis.take(ticket), None, "a result is given once");
    assert!(run(&mut tis, &mut bus, &packet(0xc1, 20)).result.is_ok());
}

/// A bus that reads as zeros.
struct Zeros;

impl TisBus for Zeros {
    fn read8(&mut self, _offset: usize) -> u8 {
        0
    }

    fn read32(&mut self, _offset: usize) -> u32 {
        0
    }

    fn write8(&mut self, _offset: usize, _value: u8) {}

    fn write32(&mut self, _offset: usize, _value: u32) {}
}

#[test]
fn an_empty_bus_is_no_chip_and_a_crb_is_named_as_one() {
    let empty = Faults { ones: Some((0, u64::MAX)), ..Faults::default() };
    assert_eq!(against(empty), (Err(TisError::NoChip), 0));
    assert_eq!(run(&mut driver(), &mut Zeros, &packet(0xc1, 30)).result, Err(TisError::NoChip));
    let mut tis = driver();
    let mut crb = chip().with_interface_id(0x0002_5811);
    assert_eq!(run(&mut tis, &mut crb, &packet(0xc1, 30)).result, Err(TisError::NotFifo(0x0002_5811)));
    assert_eq!(tis.identity(), None);
    assert_eq!(
        against(Faults { access_invalid: true, ..Faults::default() }).0,
        Err(TisError::TimedOut(Wait::AccessValid))
    );
}

#[test]
fn the_chip_is_identified() {
    let (mut tis, mut bus) = (driver(), chip());
    run(&mut tis, &mut bus, &packet(0xc1, 30)).result.unwrap();
    let id = tis.identity().unwrap();
    assert_eq!((id.vendor, id.device, id.revision, id.family()), (0xf4ce, 1, 1, crate::Family::Tpm12));
    let (mut tis, mut bus) = (driver(), FakeTis::new20(Answering(echo)));
    run(&mut tis, &mut bus, &packet(0x8001, 30)).result.unwrap();
    assert_eq!(tis.identity().unwrap().family(), crate::Family::Tpm20);
}

#[test]
fn a_glitch_of_ones_anywhere_never_runs_a_command_twice_and_never_hangs() {
    let whole = {
        let mut bus = chip();
        run(&mut driver(), &mut bus, &packet(0xc1, 14)).result.unwrap();
        bus.accesses
    };
    for from in 0..whole + 4 {
        for count in [1, 2, 3, 300] {
            let mut bus = faulty(Faults { ones: Some((from, count)), ..Faults::default() });
            let mut tis = driver();
            let outcome = run_for(&mut tis, &mut bus, &packet(0xc1, 14), Duration::from_secs(5));
            assert!(bus.started <= 1, "started {} times with {count} from {from}", bus.started);
            assert!(outcome.took <= Timeouts::DEFAULT.longest(Duration::from_secs(5)));
            // A FIFO byte that falls into the glitch cannot be told from a true one, but the length holds.
            assert!(outcome.result.is_err() || outcome.result.unwrap().len() == 14, "{count} from {from}");
            bus.faults = Faults::default();
            assert!(run(&mut tis, &mut bus, &packet(0xc1, 14)).result.is_ok(), "after {count} from {from}");
        }
    }
}

#[test]
fn a_chip_that_goes_away_for_good_is_an_error_at_any_point() {
    let whole = {
        let mut bus = chip();
        run(&mut driver(), &mut bus, &packet(0xc1, 14)).result.unwrap();
        bus.accesses
    };
    // The last two accesses come after the response was checked as complete.
    for from in 0..whole - 2 {
        let mut bus = faulty(Faults { ones: Some((from, u64::MAX)), ..Faults::default() });
        let outcome = run_for(&mut driver(), &mut bus, &packet(0xc1, 14), Duration::from_secs(5));
        assert_eq!(outcome.result, Err(TisError::NoChip), "from access {from}");
    }
}

#[test]
fn a_stuck_status_ends_in_an_error() {
    for status in [0, 0x80, 0x90, 0x98, 0xc0, 0xc8, 0x0001_0088, 0x0001_00c8, 0x0001_00d8, 0xffff_ff7f, u32::MAX] {
        let (result, started) = {
            let mut bus = faulty(Faults { stuck_status: Some(status), ..Faults::default() });
            let outcome = run_for(&mut driver(), &mut bus, &packet(0xc1, 30), Duration::from_secs(5));
            assert!(outcome.took <= Timeouts::DEFAULT.longest(Duration::from_secs(5)), "{status:#x}");
            (outcome.result, bus.started)
        };
        assert!(result.is_err() && started == 0, "{status:#x}: {result:?}");
    }
    assert_eq!(
        against(Faults { status_clear: 0x40, ..Faults::default() }).0,
        Err(TisError::TimedOut(Wait::CommandReady))
    );
    assert_eq!(
        against(Faults { status_clear: 0x80, ..Faults::default() }).0,
        Err(TisError::TimedOut(Wait::StatusValid))
    );
}

#[test]
fn expect_must_hold_until_the_last_byte_and_not_longer() {
    for end in 2..30 {
        let faults = Faults { expect_ends_at: Some(end), ..Faults::default() };
        assert_eq!(against(faults), (Err(TisError::CommandCut), 0), "Expect gone after {end} of 30 bytes");
    }
    assert_eq!(against(Faults { expect_stays: true, ..Faults::default() }), (Err(TisError::CommandOpen), 0));
}

#[test]
fn a_response_size_that_cannot_be_is_refused_without_reading_on() {
    for size in [0, 1, 9, 4097, 4106, 0xffff, 0x7fff_ffff, 0x8000_0000, u32::MAX] {
        let faults = Faults { response_size: Some(size), ..Faults::default() };
        assert_eq!(against(faults), (Err(TisError::BadSize(size)), 1));
    }
}

#[test]
fn a_response_that_is_shorter_or_longer_than_its_header_says_is_refused() {
    for missing in 1..=30 {
        let faults = Faults { missing, ..Faults::default() };
        // Without a single byte there is no `dataAvail`, so the command never ends.
        let want = if missing == 30 { TisError::TimedOut(Wait::Response) } else { TisError::ResponseCut };
        assert_eq!(against(faults), (Err(want), 1), "{missing} missing");
    }
    for surplus in [1, 2, 100, 4096] {
        assert_eq!(against(Faults { surplus, ..Faults::default() }), (Err(TisError::ResponseOpen), 1));
    }
    assert_eq!(against(Faults { response_size: Some(29), ..Faults::default() }).0, Err(TisError::ResponseOpen));
    assert_eq!(against(Faults { response_size: Some(31), ..Faults::default() }).0, Err(TisError::ResponseCut));
}

#[test]
fn a_response_garbled_once_is_read_again_and_the_command_not_repeated() {
    for wrong in [
        Faults { response_size: Some(9), ..Faults::default() },
        Faults { missing: 5, ..Faults::default() },
        Faults { surplus: 5, ..Faults::default() },
    ] {
        let want = (Ok(echo(0, &packet(0xc1, 30))), 1);
        assert_eq!(against(Faults { wrong_once: true, ..wrong }), want);
    }
}

#[test]
fn early_data_is_not_taken_for_a_response_and_late_data_is_awaited() {
    let late = Faults { late_data: 50, ..Faults::default() };
    assert_eq!(against(late).0, Ok(echo(0, &packet(0xc1, 30))));
    let mut bus = faulty(Faults { early_data: true, burst: Some(8), ..Faults::default() });
    let outcome = run_for(&mut driver(), &mut bus, &packet(0xc1, 30), Duration::from_secs(5));
    assert!(outcome.result.is_err(), "dataAvail that never goes away: {:?}", outcome.result);
}

#[test]
fn a_locality_that_is_never_granted_is_refused_and_the_request_withdrawn() {
    let mut bus = chip();
    bus.request_from(1);
    let outcome = run(&mut driver(), &mut bus, &packet(0xc1, 30));
    assert_eq!(outcome.result, Err(TisError::LocalityRefused));
    bus.release_from(1);
    assert_eq!(bus.active_locality(), None, "the driver's request is gone");
    assert_eq!(against(Faults { refuse_locality: true, ..Faults::default() }), (Err(TisError::LocalityRefused), 0));
}

#[test]
fn a_locality_given_up_in_time_is_used() {
    let mut bus = chip();
    bus.request_from(2);
    let mut tis = driver();
    let ticket = tis.submit(&packet(0xc1, 30), DEFAULT_DURATION).unwrap();
    let outcome = drive(&mut tis, &mut bus, ticket, |_, bus, now| {
        if now.as_millis() >= 1_000_500 {
            bus.release_from(2);
        }
    });
    assert!(outcome.result.is_ok());
    assert_eq!((bus.active_locality(), bus.violations), (Some(0), Vec::new()));
}

#[test]
fn the_locality_is_kept_unless_another_one_asks() {
    let (mut tis, mut bus) = (driver(), chip());
    run(&mut tis, &mut bus, &packet(0xc1, 30)).result.unwrap();
    assert_eq!(bus.active_locality(), Some(0));
    bus.request_from(3);
    assert_eq!(bus.active_locality(), Some(0));
    run(&mut tis, &mut bus, &packet(0xc1, 30)).result.unwrap();
    assert_eq!(bus.active_locality(), Some(3), "given up for the one that waits");
    bus.release_from(3);
    run(&mut tis, &mut bus, &packet(0xc1, 30)).result.unwrap();
    tis.leave();
    tis.step(&mut bus, Instant::from_millis(2_000_000));
    assert_eq!((bus.active_locality(), tis.deadline(), bus.violations), (None, None, Vec::new()));
}

#[test]
fn a_locality_taken_on_the_way_in_costs_one_more_try_and_later_the_command() {
    for after in 0..30 {
        let mut bus = faulty(Faults { take_locality_after: Some(after), burst: Some(4), ..Faults::default() });
        let mut tis = driver();
        let ticket = tis.submit(&packet(0xc1, 30), Duration::from_secs(5)).unwrap();
        // The one that took it leaves soon after.
        let outcome = drive(&mut tis, &mut bus, ticket, |_, bus, now| {
            if now.as_millis() > 1_000_100 {
                bus.release_from(4);
            }
        });
        assert_eq!(outcome.result, Ok(echo(0, &packet(0xc1, 30))), "taken after {after} bytes");
        assert_eq!((bus.started, bus.is_seized(0)), (1, false));
    }
    // 30 bytes in, then 30 out: the response is no longer to be had, and the command must not run again.
    for after in 30..60 {
        let mut bus = faulty(Faults { take_locality_after: Some(after), burst: Some(4), ..Faults::default() });
        let outcome = run_for(&mut driver(), &mut bus, &packet(0xc1, 30), Duration::from_secs(5));
        assert_eq!((outcome.result, bus.started), (Err(TisError::LocalityLost), 1), "taken after {after} bytes");
    }
    let faults = Faults { take_locality_in_execution: true, ..Faults::default() };
    assert_eq!(against(faults), (Err(TisError::LocalityLost), 1));
}

#[test]
fn a_command_that_never_ends_is_given_up_and_the_driver_works_again_with_the_chip() {
    let (mut tis, mut bus) = (driver(), faulty(Faults { never_finishes: true, ..Faults::default() }));
    let outcome = run_for(&mut tis, &mut bus, &packet(0xc1, 30), Duration::from_secs(7));
    assert_eq!(outcome.result, Err(TisError::TimedOut(Wait::Response)));
    assert!(outcome.took >= Duration::from_secs(7) && outcome.took < Duration::from_secs(10), "{:?}", outcome.took);
    assert_eq!((bus.started, bus.active_locality()), (1, None));
    bus.faults = Faults::default();
    assert_eq!(run(&mut tis, &mut bus, &packet(0xc1, 30)).result, Ok(echo(0, &packet(0xc1, 30))));
    assert_eq!(bus.violations, Vec::<&str>::new());
}

#[test]
fn a_command_dropped_by_a_reset_is_an_error_at_once() {
    let mut bus = faulty(Faults { drop_commands: 1, ..Faults::default() });
    let outcome = run(&mut driver(), &mut bus, &packet(0xc1, 30));
    assert_eq!(outcome.result, Err(TisError::Dropped));
    assert!(outcome.took < Duration::from_millis(100));
}

#[test]
fn both_ways_out_of_completion_are_understood() {
    for eager_ready in [false, true] {
        let (mut tis, mut bus) = (driver(), faulty(Faults { eager_ready, ..Faults::default() }));
        for _ in 0..3 {
            let outcome = run(&mut tis, &mut bus, &packet(0xc1, 30));
            assert!(outcome.result.is_ok() && outcome.took < Duration::from_millis(20));
        }
        assert_eq!(bus.violations, Vec::<&str>::new());
    }
}

#[test]
fn cancelling_ends_a_long_command_by_the_family_s_own_means() {
    let cancel_at = |tis: &mut Tis, ticket, now: Instant| {
        if now.as_millis() > 1_000_050 {
            tis.cancel(ticket);
        }
    };
    let mut bus = FakeTis::new(Slow::new(Answering(echo), 100_000));
    let mut tis = driver();
    let ticket = tis.submit(&packet(0xc1, 30), DEFAULT_DURATION).unwrap();
    let outcome = drive(&mut tis, &mut bus, ticket, |tis, _, now| cancel_at(tis, ticket, now));
    assert_eq!((outcome.result, bus.engine.cancelled), (Err(TisError::Cancelled), 1));
    assert!(outcome.took < Duration::from_secs(1), "{:?}", outcome.took);
    assert_eq!(bus.violations, Vec::<&str>::new());

    let mut bus = FakeTis::new20(Slow::new(Answering(echo), 100_000));
    let mut tis = driver();
    let ticket = tis.submit(&packet(0x8001, 30), DEFAULT_DURATION).unwrap();
    let outcome = drive(&mut tis, &mut bus, ticket, |tis, _, now| cancel_at(tis, ticket, now));
    assert_eq!(outcome.result, Ok(vec![0x80, 0x01, 0, 0, 0, 10, 0, 0, 9, 9]), "TPM_RC_CANCELED");
    assert_eq!((bus.engine.cancelled, bus.violations), (1, Vec::new()));
}

#[test]
fn a_chip_deaf_to_cancel_holds_the_driver_for_timeout_b_only() {
    for new in [FakeTis::new, FakeTis::new20] {
        let mut bus = new(Slow::new(Answering(echo as fn(u8, &[u8]) -> Vec<u8>), u32::MAX));
        bus.faults = Faults { never_finishes: true, ..Faults::default() };
        let mut tis = driver();
        let ticket = tis.submit(&packet(0xc1, 30), DEFAULT_DURATION).unwrap();
        let outcome = drive(&mut tis, &mut bus, ticket, |tis, _, now| {
            if now.as_millis() > 1_000_050 {
                tis.cancel(ticket);
            }
        });
        assert_eq!(outcome.result, Err(TisError::Cancelled));
        assert!(outcome.took < Duration::from_secs(5), "{:?}", outcome.took);
    }
}

#[test]
fn a_cancel_before_the_start_means_the_command_never_runs() {
    let (mut tis, mut bus) = (driver(), chip());
    let ticket = tis.submit(&packet(0xc1, 30), DEFAULT_DURATION).unwrap();
    tis.cancel(ticket);
    let outcome = drive(&mut tis, &mut bus, ticket, |_, _, _| {});
    assert_eq!((outcome.result, bus.started), (Err(TisError::Cancelled), 0));
    assert!(run(&mut tis, &mut bus, &packet(0xc1, 30)).result.is_ok());
}

#[test]
fn a_cancel_while_the_driver_gives_up_means_no_second_try() {
    let mut bus = faulty(Faults { expect_stays: true, ..Faults::default() });
    let mut tis = driver();
    let ticket = tis.submit(&packet(0xc1, 30), DEFAULT_DURATION).unwrap();
    let outcome = drive(&mut tis, &mut bus, ticket, |tis, _, now| {
        // Expect is awaited for TIMEOUT_C (750 ms), then commandReady.
        if now.as_millis() > 1_000_760 {
            tis.cancel(ticket);
        }
    });
    assert_eq!((outcome.result, bus.started), (Err(TisError::CommandOpen), 0));
    assert!(outcome.took < Duration::from_millis(1200), "{:?}", outcome.took);
}

#[test]
fn an_abandoned_command_leaves_no_result_and_a_free_driver() {
    let mut bus = FakeTis::new(Slow::new(Answering(echo), 100_000));
    let mut tis = driver();
    let ticket = tis.submit(&packet(0xc1, 30), DEFAULT_DURATION).unwrap();
    let mut now = Instant::from_millis(1_000_000);
    for _ in 0..50 {
        tis.step(&mut bus, now);
        now = now.max(tis.deadline().unwrap());
    }
    assert_eq!(bus.started, 1);
    tis.abandon(ticket);
    while tis.is_busy() {
        tis.step(&mut bus, now);
        now = now + Duration::from_millis(1);
        assert!(now.as_millis() < 1_010_000, "the driver stays busy");
    }
    assert_eq!((tis.take(ticket), bus.engine.cancelled), (None, 1));

    // Abandoned when the result is there already.
    let mut bus = chip();
    let ticket = tis.submit(&packet(0xc1, 30), DEFAULT_DURATION).unwrap();
    while tis.deadline().is_some() {
        tis.step(&mut bus, now);
        now = now + Duration::from_millis(1);
    }
    tis.abandon(ticket);
    assert!(!tis.is_busy());
}

#[test]
fn one_step_does_a_bounded_amount_of_work() {
    let mut bus = faulty(Faults { burst: Some(1), ..Faults::default() });
    let mut tis = driver();
    tis.submit(&packet(0xc1, 4096), DEFAULT_DURATION).unwrap();
    let (now, mut steps) = (Instant::from_millis(1_000_000), 0);
    while bus.started == 0 {
        let before = bus.accesses;
        tis.step(&mut bus, now);
        assert!(bus.accesses - before < 2000, "{} accesses in one step", bus.accesses - before);
        steps += 1;
        assert!(steps < 100);
    }
    assert!(steps > 10);
}

#[test]
fn a_chip_that_lets_one_byte_through_now_and_then_does_not_hold_the_driver() {
    // Each byte comes just within the burst timeout: 4096 of them would take most of an hour.
    let polls_per_millisecond = POLLS_PER_STEP + 1;
    let burst_pauses = 700 * polls_per_millisecond;
    let mut bus = faulty(Faults { burst: Some(1), burst_pauses, ..Faults::default() });
    let outcome = run(&mut driver(), &mut bus, &packet(0xc1, 4096));
    assert_eq!((outcome.result, bus.started), (Err(TisError::TimedOut(Wait::Transfer)), 0));
    assert!(outcome.took <= Timeouts::DEFAULT.longest(DEFAULT_DURATION), "{:?}", outcome.took);
}

#[test]
fn noise_never_panics_and_always_ends() {
    let duration = Duration::from_secs(5);
    let (mut whole, mut failed) = (0, 0);
    for seed in 0..3000 {
        let mut tis = driver();
        let mut bus = NoiseBus::new(seed);
        for len in [10, 30, 4096] {
            let outcome = run_for(&mut tis, &mut bus, &packet(0xc1, len), duration);
            assert!(outcome.took <= Timeouts::DEFAULT.longest(duration), "seed {seed}: {:?}", outcome.took);
            match outcome.result {
                Ok(response) => {
                    assert!(tpm_wire::ResponseHeader::parse(&response).is_ok(), "seed {seed}");
                    whole += 1;
                }
                Err(_) => failed += 1,
            }
        }
    }
    assert!(whole > 0 && failed > 0, "the noise reaches both ends: {whole} whole, {failed} failed");
}
