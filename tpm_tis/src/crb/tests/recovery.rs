//! Localities that come and go, commands that do not end, cancelling, and glitches in mid-command.

use super::*;

#[test]
fn a_locality_that_is_never_granted_is_refused_and_the_request_withdrawn() {
    let mut bus = chip();
    bus.request_from(1);
    let outcome = run(&mut driver(), &mut bus, &command(30));
    assert_eq!(outcome.result, Err(TisError::LocalityRefused));
    bus.release_from(1);
    assert_eq!(bus.active_locality(), None, "the driver's request is gone");
    assert_eq!(
        against(CrbFaults { refuse_locality: true, ..CrbFaults::default() }),
        (Err(TisError::LocalityRefused), 0)
    );
}

#[test]
fn a_locality_given_up_in_time_is_used_and_given_back_to_one_that_waits() {
    let mut bus = chip();
    bus.request_from(2);
    let mut crb = driver();
    let ticket = crb.submit(&command(30), DEFAULT_DURATION).unwrap();
    let outcome = drive(&mut crb, &mut bus, ticket, |_, bus, now| {
        if now.as_millis() >= 1_000_500 && bus.active_locality() == Some(2) {
            bus.release_from(2);
            bus.request_from(3);
        }
    });
    assert_eq!((outcome.result, bus.active_locality()), (Ok(echo(0, &command(30))), Some(3)));
    bus.release_from(3);
    assert!(run(&mut crb, &mut bus, &command(30)).result.is_ok());
    assert_eq!((bus.active_locality(), bus.violations), (None, Vec::new()));
}

#[test]
fn a_locality_taken_on_the_way_in_costs_one_more_try_and_later_the_command() {
    let (whole, mut tries, mut lost) = (60, 0, 0);
    for at in 0..whole {
        let mut bus = faulty(CrbFaults { take_locality_at: Some(at), ..CrbFaults::default() });
        let mut crb = driver();
        let ticket = crb.submit(&command(30), Duration::from_secs(5)).unwrap();
        // The one that took it leaves soon after.
        let outcome = drive(&mut crb, &mut bus, ticket, |_, bus, now| {
            if now.as_millis() > 1_000_100 {
                bus.release_from(4);
            }
        });
        assert!(bus.started <= 1, "access {at}");
        match outcome.result {
            Ok(response) => {
                assert_eq!(response, echo(0, &command(30)), "access {at}");
                tries += u32::from(bus.is_seized(0) || outcome.took >= Duration::from_millis(100));
            }
            Err(TisError::LocalityLost | TisError::Dropped) => lost += 1,
            other => panic!("access {at}: {other:?}"),
        }
        bus.release_from(4);
        assert!(run(&mut crb, &mut bus, &command(30)).result.is_ok() && !bus.is_seized(0));
    }
    assert!(tries >= 8 && lost >= 8, "{tries} tried again, {lost} lost");
    let faults = CrbFaults { take_locality_in_execution: true, ..CrbFaults::default() };
    assert_eq!(against(faults), (Err(TisError::LocalityLost), 1));
}

#[test]
fn a_command_that_never_ends_is_given_up_and_the_driver_works_again_with_the_chip() {
    let (mut crb, mut bus) = (driver(), faulty(CrbFaults { never_finishes: true, ..CrbFaults::default() }));
    let outcome = run_for(&mut crb, &mut bus, &command(30), Duration::from_secs(7));
    assert_eq!(outcome.result, Err(TisError::TimedOut(Wait::Response)));
    assert!(outcome.took >= Duration::from_secs(7) && outcome.took < Duration::from_secs(10), "{:?}", outcome.took);
    assert_eq!((bus.started, bus.active_locality()), (1, None));
    // The chip is still busy with it: nothing may be written over it.
    let outcome = run_for(&mut crb, &mut bus, &command(30), Duration::from_secs(7));
    assert_eq!((outcome.result, bus.started), (Err(TisError::TimedOut(Wait::CommandReady)), 1));
    bus.faults = CrbFaults::default();
    assert_eq!(run(&mut crb, &mut bus, &command(30)).result, Ok(echo(0, &command(30))));
    assert_eq!(bus.violations, Vec::<&str>::new());
}

/// A chip whose locality 0 has somebody's command in its buffer.
fn left_behind(steps: u32) -> FakeCrb<Slow<Echo>> {
    let mut bus = FakeCrb::new(Slow::new(Answering(echo as fn(u8, &[u8]) -> Vec<u8>), steps));
    bus.request_from(0);
    bus.write32(regs::CTRL_REQ, regs::ctrl_req::CMD_READY);
    for (at, word) in [[0x80, 1, 0, 0], [0, 12, 0, 0], [1, 2, 3, 4]].into_iter().enumerate() {
        bus.write32(0x80 + 4 * at, u32::from_le_bytes(word));
    }
    bus
}

#[test]
fn what_others_left_behind_does_no_harm() {
    // A command that was not started, and `Cancel` set.
    let mut bus = left_behind(3);
    bus.write32(regs::CTRL_CANCEL, regs::INVOKE);
    let outcome = run(&mut driver(), &mut bus, &command(30));
    assert_eq!((outcome.result, bus.started, bus.violations), (Ok(echo(0, &command(30))), 1, Vec::new()));

    // A command that runs: it is cancelled.
    let mut bus = left_behind(u32::MAX);
    bus.write32(regs::CTRL_START, regs::INVOKE);
    assert_eq!((bus.started, bus.violations.len()), (1, 0));
    let mut crb = driver();
    let ticket = crb.submit(&command(30), DEFAULT_DURATION).unwrap();
    for ms in 0..20 {
        crb.step(&mut bus, Instant::from_millis(1_000_000 + ms));
    }
    assert_eq!((bus.started, bus.engine.cancelled), (2, 1), "the one ended, ours began");
    crb.abandon(ticket);
}

#[test]
fn cancelling_ends_a_long_command() {
    let mut bus = FakeCrb::new(Slow::new(Answering(echo), 100_000));
    let mut crb = driver();
    let ticket = crb.submit(&command(30), DEFAULT_DURATION).unwrap();
    let outcome = drive(&mut crb, &mut bus, ticket, |crb, _, now| {
        if now.as_millis() > 1_000_050 {
            crb.cancel(ticket);
        }
    });
    assert_eq!(outcome.result, Ok(vec![0x80, 0x01, 0, 0, 0, 10, 0, 0, 9, 9]), "TPM_RC_CANCELED");
    assert!(outcome.took < Duration::from_millis(200), "{:?}", outcome.took);
    assert_eq!((bus.engine.cancelled, bus.violations.clone()), (1, Vec::new()));
    assert_eq!(bus.read32(regs::CTRL_CANCEL), 0, "the cancel does not stay");

    // One that ends nevertheless gives its response.
    let mut bus = FakeCrb::new(Slow::new(Answering(echo), 100));
    bus.faults.deaf = true;
    let ticket = crb.submit(&command(30), DEFAULT_DURATION).unwrap();
    let outcome = drive(&mut crb, &mut bus, ticket, |crb, _, _| crb.cancel(ticket));
    assert_eq!((outcome.result, bus.started), (Err(TisError::Cancelled), 0), "before the start it never runs");
    let ticket = crb.submit(&command(30), DEFAULT_DURATION).unwrap();
    let outcome = drive(&mut crb, &mut bus, ticket, |crb, bus, _| {
        if bus.started > 0 {
            crb.cancel(ticket);
        }
    });
    assert_eq!((outcome.result, bus.violations), (Ok(echo(0, &command(30))), Vec::new()));
}

#[test]
fn a_chip_deaf_to_cancel_holds_the_driver_for_timeout_b_and_a_bit() {
    let mut bus = faulty(CrbFaults { never_finishes: true, ..CrbFaults::default() });
    let mut crb = driver();
    let ticket = crb.submit(&command(30), DEFAULT_DURATION).unwrap();
    let outcome = drive(&mut crb, &mut bus, ticket, |crb, _, now| {
        if now.as_millis() > 1_000_050 {
            crb.cancel(ticket);
        }
    });
    assert_eq!(outcome.result, Err(TisError::Cancelled));
    assert!(outcome.took < Duration::from_secs(5), "{:?}", outcome.took);
}

#[test]
fn an_abandoned_command_leaves_no_result_and_a_free_driver() {
    let mut bus = FakeCrb::new(Slow::new(Answering(echo), 100_000));
    let mut crb = driver();
    let ticket = crb.submit(&command(30), DEFAULT_DURATION).unwrap();
    let mut now = Instant::from_millis(1_000_000);
    for _ in 0..50 {
        crb.step(&mut bus, now);
        now = now.max(crb.deadline().unwrap());
    }
    assert_eq!(bus.started, 1);
    crb.abandon(ticket);
    while crb.is_busy() {
        crb.step(&mut bus, now);
        now = now + Duration::from_millis(1);
        assert!(now.as_millis() < 1_010_000, "the driver stays busy");
    }
    assert_eq!((crb.take(ticket), bus.engine.cancelled, bus.active_locality()), (None, 1, None));

    // Abandoned when the result is there already.
    let mut bus = chip();
    let ticket = crb.submit(&command(30), DEFAULT_DURATION).unwrap();
    while crb.deadline().is_some() {
        crb.step(&mut bus, now);
        now = now + Duration::from_millis(1);
    }
    crb.abandon(ticket);
    assert!(!crb.is_busy());
}

#[test]
fn a_cancel_of_ours_does_not_stay_for_the_next_user() {
    let mut bus = FakeCrb::new(Slow::new(Answering(echo), 100_000));
    let outcome = run_for(&mut driver(), &mut bus, &command(30), Duration::from_millis(50));
    assert_eq!(outcome.result, Err(TisError::TimedOut(Wait::Response)));
    assert_eq!((bus.engine.cancelled, bus.read32(regs::CTRL_CANCEL)), (1, 0));
    assert_eq!((bus.is_idle(), bus.active_locality(), bus.violations), (true, None, Vec::new()));
}

#[test]
fn a_glitch_in_mid_command_is_waited_out() {
    let mut bus = FakeCrb::new(Slow::new(Answering(echo), 200));
    let mut crb = driver();
    let ticket = crb.submit(&command(30), DEFAULT_DURATION).unwrap();
    let outcome = drive(&mut crb, &mut bus, ticket, |_, bus, _| {
        if bus.started > 0 && bus.faults.ones.is_none() {
            bus.faults.ones = Some((bus.accesses, 50));
        }
    });
    assert_eq!((outcome.result, bus.started), (Ok(echo(0, &command(30))), 1));
}

#[test]
fn a_reset_at_any_point_costs_the_command_at_most_and_never_gives_a_wrong_response() {
    let whole = {
        let mut bus = chip();
        run(&mut driver(), &mut bus, &command(30)).result.unwrap();
        bus.accesses
    };
    for reset_keeps_locality in [false, true] {
        let (mut passed, mut failed) = (0, 0);
        for at in 0..whole + 2 {
            let faults = CrbFaults { reset_at: Some(at), reset_keeps_locality, ..CrbFaults::default() };
            let (mut crb, mut bus) = (driver(), faulty(faults));
            let outcome = run_for(&mut crb, &mut bus, &command(30), Duration::from_secs(5));
            assert!(bus.started <= 1, "access {at}");
            match outcome.result {
                Ok(response) => {
                    assert_eq!(response, echo(0, &command(30)), "access {at}");
                    passed += 1;
                }
                Err(TisError::LocalityLost | TisError::Dropped | TisError::BadSize(u32::MAX)) => failed += 1,
                Err(other) => panic!("access {at}: {other}"),
            }
            assert!(run(&mut crb, &mut bus, &command(30)).result.is_ok(), "after access {at}");
        }
        assert!(passed >= 8 && failed >= 8, "{passed} passed, {failed} failed");
    }
}
