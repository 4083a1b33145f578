//! The driver against an honest chip and against one that misbehaves in every way it knows.

mod recovery;

use super::*;
use crate::error::Wait;
use crate::fake::{Answering, CrbFaults, FakeCrb, NoiseBus, Slow};
use crate::timeouts::DEFAULT_DURATION;
use crate::{Family, Interface, LOCALITY_SIZE};
use alloc::vec;

type Echo = Answering<fn(u8, &[u8]) -> Vec<u8>>;

/// A packet of `len` bytes whose content shows where it was cut or shifted.
fn packet(tag: u16, len: usize) -> Vec<u8> {
    let mut out = tag.to_be_bytes().to_vec();
    out.extend((len as u32).to_be_bytes());
    out.extend((6..len).map(|i| (i * 7 % 251) as u8));
    out
}

fn command(len: usize) -> Vec<u8> {
    packet(0x8001, len)
}

/// Answers with the command and another code, and the locality in the last byte.
fn echo(locality: u8, command: &[u8]) -> Vec<u8> {
    let mut out = command.to_vec();
    out[6] = !out[6];
    *out.last_mut().unwrap() = locality;
    out
}

fn chip() -> FakeCrb<Echo> {
    FakeCrb::new(Answering(echo))
}

fn faulty(faults: CrbFaults) -> FakeCrb<Echo> {
    chip().with_faults(faults)
}

fn driver() -> Crb {
    Crb::new(0, Timeouts::DEFAULT).unwrap()
}

struct Outcome {
    result: Result<Vec<u8>, TisError>,
    took: Duration,
}

/// Steps the driver at its deadlines until there is a result; `before` sees every step.
fn drive<B: TisBus>(
    crb: &mut Crb,
    bus: &mut B,
    ticket: Ticket,
    mut before: impl FnMut(&mut Crb, &mut B, Instant),
) -> Outcome {
    let start = Instant::from_millis(1_000_000);
    let mut now = start;
    for _ in 0..2_000_000 {
        before(crb, bus, now);
        crb.step(bus, now);
        if let Some(result) = crb.take(ticket) {
            return Outcome { result, took: now.since(start) };
        }
        now = now.max(crb.deadline().expect("a command under way has a deadline"));
    }
    panic!("the driver does not come to an end");
}

fn run_for<B: TisBus>(crb: &mut Crb, bus: &mut B, command: &[u8], duration: Duration) -> Outcome {
    let ticket = crb.submit(command, duration).unwrap();
    drive(crb, bus, ticket, |_, _, _| {})
}

fn run<B: TisBus>(crb: &mut Crb, bus: &mut B, command: &[u8]) -> Outcome {
    run_for(crb, bus, command, DEFAULT_DURATION)
}

/// One command of 30 bytes against a chip with these faults; the driver must keep to the specification all the same.
fn against(faults: CrbFaults) -> (Result<Vec<u8>, TisError>, u32) {
    let mut bus = faulty(faults);
    let outcome = run(&mut driver(), &mut bus, &command(30));
    assert_eq!(bus.violations, Vec::<&str>::new());
    assert!(outcome.took <= Timeouts::DEFAULT.longest(DEFAULT_DURATION));
    (outcome.result, bus.started)
}

fn good() -> (Result<Vec<u8>, TisError>, u32) {
    (Ok(echo(0, &command(30))), 1)
}

#[test]
fn commands_of_every_size_pass_and_responses_come_back_whole() {
    let (mut crb, mut bus) = (driver(), chip());
    for len in (10..64).chain([255, 256, 257, 1024, 3965, 3966, 3967, 3968]) {
        let outcome = run(&mut crb, &mut bus, &command(len));
        assert_eq!(outcome.result, Ok(echo(0, &command(len))), "{len} bytes");
        assert!(outcome.took < Duration::from_millis(20), "{len} bytes took {:?}", outcome.took);
        assert!(bus.is_idle() && bus.active_locality().is_none(), "the chip is left idle and free");
    }
    assert_eq!(bus.violations, Vec::<&str>::new());
}

#[test]
fn a_command_longer_than_the_buffer_is_refused_before_a_byte_is_written() {
    let (mut crb, mut bus) = (driver(), chip());
    for len in [3969, 4096] {
        assert_eq!(run(&mut crb, &mut bus, &command(len)).result, Err(TisError::CommandTooLong(3968)));
    }
    assert_eq!((bus.started, bus.violations.len(), bus.active_locality()), (0, 0, None));
    assert!(run(&mut crb, &mut bus, &command(30)).result.is_ok());
    let small = CrbFaults { command_buffer: Some((BASE + 0x80, 31)), ..CrbFaults::default() };
    let mut bus = faulty(small);
    assert_eq!(run(&mut driver(), &mut bus, &command(29)).result, Err(TisError::CommandTooLong(28)));
    assert!(run(&mut driver(), &mut bus, &command(28)).result.is_ok());
}

#[test]
fn every_locality_talks_through_its_own_page_and_only_where_there_are_more() {
    for locality in 0..5 {
        let (mut crb, mut bus) = (Crb::new(locality, Timeouts::DEFAULT).unwrap(), chip());
        assert_eq!(run(&mut crb, &mut bus, &command(12)).result.unwrap().last(), Some(&locality));
        assert_eq!((bus.active_locality(), bus.violations), (None, Vec::new()));
        let (mut crb, mut bus) =
            (Crb::new(locality, Timeouts::DEFAULT).unwrap(), chip().with_interface_id(0x0002_5811));
        let want = if locality == 0 { Ok(echo(0, &command(12))) } else { Err(TisError::NoLocality(locality)) };
        assert_eq!(run(&mut crb, &mut bus, &command(12)).result, want);
    }
    for locality in [5, 6, 255] {
        assert_eq!(Crb::new(locality, Timeouts::DEFAULT).err(), Some(BadLocality(locality)));
    }
}

#[test]
fn only_whole_packets_are_taken_and_only_one_at_a_time() {
    let (mut crb, mut bus) = (driver(), chip());
    let mut lying = command(20);
    lying[5] = 21;
    for bad in [&command(20)[..9], &[], &command(20)[..19], &lying, &command(4097)] {
        assert_eq!(crb.submit(bad, DEFAULT_DURATION), Err(SubmitError::Malformed));
    }
    assert_eq!(crb.deadline(), None);
    crb.leave();
    crb.step(&mut bus, Instant::from_millis(5));
    assert_eq!(bus.accesses, 0, "nothing to do, nothing touched");
    let ticket = crb.submit(&command(20), DEFAULT_DURATION).unwrap();
    assert_eq!(crb.submit(&command(20), DEFAULT_DURATION), Err(SubmitError::Busy));
    assert!(drive(&mut crb, &mut bus, ticket, |_, _, _| {}).result.is_ok());
    assert_eq!(crb.take(ticket), None, "a result is given once");
    assert!(run(&mut crb, &mut bus, &command(20)).result.is_ok());
}

/// A bus that reads as one value, and counts writes.
struct Constant(u32, u32);

impl TisBus for Constant {
    fn read8(&mut self, _offset: usize) -> u8 {
        self.0.to_le_bytes()[0]
    }

    fn read32(&mut self, _offset: usize) -> u32 {
        self.0
    }

    fn write8(&mut self, _offset: usize, _value: u8) {
        self.1 += 1;
    }

    fn write32(&mut self, _offset: usize, _value: u32) {
        self.1 += 1;
    }
}

#[test]
fn an_empty_bus_is_no_chip_and_a_fifo_is_named_and_neither_is_written_to() {
    for (value, want) in
        [(0, TisError::NoChip), (u32::MAX, TisError::NoChip), (0x0008_2100, TisError::NotCrb(0x0008_2100))]
    {
        let mut bus = Constant(value, 0);
        let mut crb = driver();
        assert_eq!(run(&mut crb, &mut bus, &command(30)).result, Err(want));
        crb.leave();
        crb.step(&mut bus, Instant::from_millis(9_000_000));
        assert_eq!((bus.1, crb.identity()), (0, None));
    }
}

#[test]
fn the_chip_is_identified() {
    let (mut crb, mut bus) = (driver(), chip());
    run(&mut crb, &mut bus, &command(30)).result.unwrap();
    let id = crb.identity().unwrap();
    assert_eq!((id.vendor, id.device, id.revision), (0xf4ce, 2, 3));
    assert_eq!((id.family(), id.interface()), (Family::Tpm20, Interface::Crb));
}

#[test]
fn buffers_may_lie_apart_and_anywhere_in_the_window() {
    for (from, to) in [(0x80, 0x880), (0x1080, 0x4f80), (0x2080, 0x84)] {
        let faults = CrbFaults {
            command_buffer: Some((BASE + from, 0x40)),
            response_buffer: Some((BASE + to, 0x40)),
            ..CrbFaults::default()
        };
        assert_eq!(against(faults), good(), "{from:#x} {to:#x}");
    }
    // The same chip at another address of the machine.
    let base = 0xfe00_0000;
    let named = Some((base + 0x80, 0xf80));
    let faults = CrbFaults { command_buffer: named, response_buffer: named, ..CrbFaults::default() };
    let elsewhere = Err(TisError::BadBuffer { start: base + 0x80, size: 0xf80 });
    assert_eq!(run(&mut driver(), &mut faulty(faults.clone()), &command(30)).result, elsewhere);
    let mut bus = faulty(faults);
    let mut at_base = driver().at(base);
    let result = run_for(&mut at_base, &mut bus, &command(30), Duration::from_secs(1)).result;
    // The fake keeps no memory there, so the command cannot be run; the driver has taken the address.
    assert!(result.is_err() && result != elsewhere, "{result:?}");
}

#[test]
fn a_buffer_outside_the_window_is_refused_and_nothing_written() {
    for (start, size) in [
        (BASE + 0x7c, 0x40),
        (BASE, 0xf80),
        (BASE + 0x80, 0xf84),
        (BASE + 0x80, 8),
        (BASE + 0x82, 0x40),
        (BASE + 0x5080, 0x40),
        (0x7ff0_0000, 0x1000),
        (BASE + (1 << 32) + 0x80, 0x40),
        (0, 0),
        (u64::MAX, u32::MAX),
    ] {
        let want = (Err(TisError::BadBuffer { start, size }), 0);
        assert_eq!(against(CrbFaults { command_buffer: Some((start, size)), ..CrbFaults::default() }), want);
        assert_eq!(against(CrbFaults { response_buffer: Some((start, size)), ..CrbFaults::default() }), want);
    }
}

#[test]
fn a_glitch_of_ones_anywhere_never_runs_a_command_twice_and_never_hangs() {
    let whole = {
        let mut bus = chip();
        run(&mut driver(), &mut bus, &command(14)).result.unwrap();
        bus.accesses
    };
    let mut survived = 0;
    for from in 0..whole + 4 {
        for count in [1, 2, 3, 300] {
            let mut bus = faulty(CrbFaults { ones: Some((from, count)), ..CrbFaults::default() });
            let mut crb = driver();
            let outcome = run_for(&mut crb, &mut bus, &command(14), Duration::from_secs(5));
            assert!(bus.started <= 1, "started {} times with {count} from {from}", bus.started);
            assert!(outcome.took <= Timeouts::DEFAULT.longest(Duration::from_secs(5)));
            survived += u32::from(outcome.result.is_ok());
            bus.faults = CrbFaults::default();
            assert!(run(&mut crb, &mut bus, &command(14)).result.is_ok(), "after {count} from {from}");
        }
    }
    assert!(survived > 20, "{survived}");
}

#[test]
fn a_chip_that_goes_away_for_good_is_an_error_until_the_response_was_checked() {
    let whole = {
        let mut bus = chip();
        run(&mut driver(), &mut bus, &command(14)).result.unwrap();
        bus.accesses
    };
    let mut ends = Vec::new();
    for from in 0..whole {
        let mut bus = faulty(CrbFaults { ones: Some((from, u64::MAX)), ..CrbFaults::default() });
        let outcome = run_for(&mut driver(), &mut bus, &command(14), Duration::from_secs(5));
        ends.push(outcome.result);
    }
    let failed = ends.iter().take_while(|end| **end != Ok(echo(0, &command(14)))).count();
    // goIdle, three looks of it, CTRL_REQ, relinquish.
    assert!(ends.len() - failed <= 12, "{failed} of {}", ends.len());
    for (from, end) in ends.iter().enumerate().take(failed) {
        let ones_for_size = *end == Err(TisError::BadSize(u32::MAX));
        assert!(*end == Err(TisError::NoChip) || ones_for_size, "from access {from}: {end:?}");
    }
}

#[test]
fn stuck_registers_end_in_an_error_or_a_response() {
    let registers =
        [0x00, 0x08, 0x0c, 0x30, 0x34, 0x40, 0x44, 0x48, 0x4c, 0x58, 0x5c, 0x60, 0x64, 0x68, 0x6c, 0x80, 0x84];
    for register in registers {
        for value in [0, 1, 2, 3, 0x80, 0xff, 0x8000_0000, u32::MAX - 1, u32::MAX] {
            let mut bus = faulty(CrbFaults { stuck: vec![(register, value)], ..CrbFaults::default() });
            let mut crb = driver();
            let outcome = run_for(&mut crb, &mut bus, &command(30), Duration::from_secs(5));
            assert!(outcome.took <= Timeouts::DEFAULT.longest(Duration::from_secs(5)), "{register:#x} {value:#x}");
            assert!(bus.started <= 1, "{register:#x} {value:#x}");
            // A stuck `Start` or `tpmIdle` is how the driver would learn that the chip is busy.
            let expected = |what: &&str| matches!(register, 0x0c | 0x40 | 0x44 | 0x4c) || what.is_empty();
            assert!(bus.violations.iter().all(expected), "{register:#x} {value:#x}: {:?}", bus.violations);
            bus.faults = CrbFaults::default();
            assert!(run(&mut crb, &mut bus, &command(30)).result.is_ok(), "after {register:#x} {value:#x}");
        }
    }
    let stuck = |register, value| against(CrbFaults { stuck: vec![(register, value)], ..CrbFaults::default() }).0;
    assert_eq!(stuck(0x00, 0), Err(TisError::TimedOut(Wait::AccessValid)));
    assert_eq!(stuck(0x00, u32::MAX), Err(TisError::NoChip));
    assert_eq!(stuck(0x0c, 0), Err(TisError::LocalityRefused));
    assert_eq!(stuck(0x44, 2), Err(TisError::TimedOut(Wait::CommandReady)));
    assert_eq!(stuck(0x4c, 1), Err(TisError::TimedOut(Wait::CommandReady)));
}

#[test]
fn a_response_size_that_cannot_be_is_refused_and_a_garbled_one_read_again() {
    for size in [0, 1, 9, 3969, 4096, 4097, 0xffff, 0x7fff_ffff, 0x8000_0000, u32::MAX] {
        let faults = CrbFaults { response_size: Some(size), ..CrbFaults::default() };
        assert_eq!(against(faults.clone()), (Err(TisError::BadSize(size)), 1));
        assert_eq!(against(CrbFaults { wrong_once: true, ..faults }), good());
    }
    // Longer than a short buffer.
    let faults = CrbFaults { response_buffer: Some((BASE + 0x880, 28)), ..CrbFaults::default() };
    assert_eq!(against(faults), (Err(TisError::BadSize(30)), 1));
}

#[test]
fn a_chip_that_ran_nothing_is_not_taken_for_one_that_answered() {
    assert_eq!(against(CrbFaults { mute: true, ..CrbFaults::default() }), (Err(TisError::Dropped), 1));
    let mut bus = faulty(CrbFaults { drop_commands: 1, ..CrbFaults::default() });
    let mut crb = driver();
    let outcome = run(&mut crb, &mut bus, &command(30));
    assert_eq!((outcome.result, bus.started, bus.violations.len()), (Err(TisError::Dropped), 0, 0));
    assert!(outcome.took < Duration::from_millis(100));
    assert!(run(&mut crb, &mut bus, &command(30)).result.is_ok());
}

#[test]
fn a_fatal_error_is_named_and_gone_after_a_reset() {
    let mut bus = faulty(CrbFaults { fails: true, ..CrbFaults::default() });
    let mut crb = driver();
    for _ in 0..2 {
        let outcome = run(&mut crb, &mut bus, &command(30));
        assert_eq!((outcome.result, bus.started), (Err(TisError::Failed), 1), "no second command is started");
        assert_eq!(bus.violations, Vec::<&str>::new());
        assert!(outcome.took < Duration::from_millis(100));
    }
    assert!(run(&mut crb, &mut chip(), &command(30)).result.is_ok());
}

#[test]
fn a_slow_chip_is_awaited_and_one_that_never_gets_ready_given_up() {
    assert_eq!(against(CrbFaults { slow_ready: 500, ..CrbFaults::default() }), good());
    assert_eq!(against(CrbFaults { never_idle: true, ..CrbFaults::default() }), good());
    let (result, started) = against(CrbFaults { never_ready: true, ..CrbFaults::default() });
    assert_eq!((result, started), (Err(TisError::TimedOut(Wait::CommandReady)), 0));
}

#[test]
fn one_step_does_a_bounded_amount_of_work() {
    let mut bus = FakeCrb::new(Slow::new(Answering(echo), 5));
    let mut crb = driver();
    crb.submit(&command(3968), DEFAULT_DURATION).unwrap();
    let mut now = Instant::from_millis(1_000_000);
    while crb.deadline().is_some() {
        let before = bus.accesses;
        crb.step(&mut bus, now);
        assert!(bus.accesses - before < 2500, "{} accesses in one step", bus.accesses - before);
        now = now + Duration::from_millis(1);
    }
    assert_eq!(bus.started, 1);
}

#[test]
fn noise_never_panics_always_ends_and_stays_in_the_window() {
    struct Inside(NoiseBus);
    impl TisBus for Inside {
        fn read8(&mut self, _offset: usize) -> u8 {
            panic!("8-bit read");
        }

        fn read32(&mut self, offset: usize) -> u32 {
            assert!(offset.is_multiple_of(4) && offset < 5 * LOCALITY_SIZE, "read at {offset:#x}");
            self.0.read32(offset)
        }

        fn write8(&mut self, _offset: usize, _value: u8) {
            panic!("8-bit write");
        }

        fn write32(&mut self, offset: usize, _value: u32) {
            let known = [regs::LOC_CTRL, regs::CTRL_REQ, regs::CTRL_CANCEL, regs::CTRL_START].contains(&offset);
            let buffer = offset % LOCALITY_SIZE >= regs::DATA_BUFFER && offset < 5 * LOCALITY_SIZE;
            assert!(offset.is_multiple_of(4) && (known || buffer), "write at {offset:#x}");
        }
    }
    let duration = Duration::from_secs(5);
    let (mut whole, mut failed) = (0, 0);
    for seed in 0..3000 {
        let mut crb = driver();
        let mut bus = Inside(NoiseBus::new_crb(seed));
        for len in [10, 30, 1000] {
            let outcome = run_for(&mut crb, &mut bus, &command(len), duration);
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
