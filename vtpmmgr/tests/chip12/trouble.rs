//! A chip that loses, garbles and forgets: what is asked of it is done once, and nothing is left behind in it.

use super::*;
use core::future::poll_fn;
use core::pin::pin;
use core::task::Poll;
use core::time::Duration;

const TROUBLES: [Trouble; 10] = [
    Trouble::Lost,
    Trouble::AnswerLost,
    Trouble::Garbage,
    Trouble::Flip(0),
    Trouble::Flip(20),
    Trouble::Flip(42),
    Trouble::ResetBefore,
    Trouble::ResetAfter,
    Trouble::AnswerLostInReset,
    Trouble::NoRoom,
];

/// Does `work` once without trouble, then with each trouble at each of its commands; `work` checks its own outcome.
fn everywhere(work: impl AsyncFn(&Kit, &Hardware<'_, Bus>, &Bus, &mut Drbg, Option<Trouble>) -> Result<(), ChipError>) {
    let kit = kit();
    let run = |at: usize, trouble: Option<Trouble>| {
        let bus = Bus::load(&kit.state);
        let mut sent = 0;
        let result = with_chip(&bus, settings(), async |chip, _, rng| {
            let before = bus.seen().len();
            if let Some(trouble) = trouble {
                bus.trouble(at, trouble);
            }
            let result = work(kit, chip, &bus, rng, trouble).await;
            assert!(bus.untroubled(), "command {at} was never sent");
            sent = bus.seen().len() - before;
            result
        });
        assert_eq!(result, Ok(()), "{trouble:?} at command {at} of {:x?}", bus.seen());
        // A session may be left whose handle the answer did not bring; the next operation that needs its place frees it.
        let left = matches!(trouble, Some(Trouble::Flip(_)));
        assert!(bus.open() == 0 || left, "{trouble:?} at command {at}");
        sent
    };
    let commands = run(0, None);
    for at in 0..commands {
        for trouble in TROUBLES {
            run(at, Some(trouble));
        }
    }
}

#[test]
fn sealing_and_unsealing() {
    everywhere(async |kit, chip, _, rng, _| {
        assert_eq!(chip.unseal(&kit.root, &kit.sealed, None, rng).await?[..], SECRET);
        Ok(())
    });
    everywhere(async |kit, chip, _, rng, _| {
        let sealed = chip.seal(&kit.root, &SECRET, None, None, rng).await?;
        assert_eq!(chip.unseal(&kit.root, &sealed, None, rng).await?[..], SECRET);
        Ok(())
    });
}

#[test]
fn counters_are_stepped_once() {
    everywhere(async |kit, chip, _, rng, _| {
        let stepped = chip.counter_increment(&kit.root, &kit.counter, rng).await?;
        let now = chip.counter_read(&kit.root, &kit.counter, rng).await?;
        assert_eq!((stepped, now), (2, 2), "the kit's counter stands at 1");
        Ok(())
    });
}

#[test]
fn counters_are_made_once() {
    everywhere(async |kit, chip, bus, rng, trouble| {
        let counter = chip.counter_create(&kit.root, None, rng).await?;
        // A chip that was reset after the last command lists nothing.
        if !matches!(trouble, Some(Trouble::Flip(_) | Trouble::ResetAfter)) {
            assert_eq!(bus.handles(6), 2, "the kit's counter and this one");
        }
        chip.counter_increment(&kit.root, &counter, rng).await.map(drop)
    });
}

#[test]
fn quotes_and_pcrs() {
    everywhere(async |kit, chip, _, rng, _| {
        let quote = chip.quote(&kit.root, &kit.ak, &[3; 20], pcrs("1,2"), rng).await?;
        check_quote(kit, &Bus::load(&kit.state), &quote, &[3; 20]);
        Ok(())
    });
    everywhere(async |_, chip, _, _, trouble| {
        let value = chip.extend12(12, &[4; 20]).await?;
        let want = sha1(&[&[0; 20], &[4; 20]]);
        if !matches!(trouble, Some(Trouble::Flip(_))) {
            assert_eq!(value, want, "extended once");
        }
        let now = chip.vtpm_pcr(12).await?;
        let reset = matches!(trouble, Some(Trouble::ResetBefore | Trouble::ResetAfter | Trouble::AnswerLostInReset));
        assert!(now == want || (reset && now == [0; 20]) || matches!(trouble, Some(Trouble::Flip(_))), "{trouble:?}");
        Ok(())
    });
}

#[test]
fn a_chip_that_stays_away_costs_one_question_and_is_found_again() {
    let kit = kit();
    let bus = Bus::load(&kit.state);
    let result = with_chip(&bus, settings(), async |chip, timer, rng| {
        bus.set_dead(true);
        let (start, sent) = (timer.now(), bus.seen().len());
        let gone = Err(ChipError::Transport(TransportError::TimedOut));
        assert_eq!(chip.unseal(&kit.root, &kit.sealed, None, rng).await.map(drop), gone);
        assert!(timer.now().since(start) < Duration::from_secs(10));
        assert_eq!(bus.seen().len() - sent, 7, "four attempts, and a start before each but the first");
        for _ in 0..3 {
            let (start, sent) = (timer.now(), bus.seen().len());
            assert_eq!(chip.vtpm_random(4).await.map(drop), gone);
            assert_eq!((timer.now().since(start), bus.seen().len() - sent), (Duration::ZERO, 1));
        }
        // It comes back, and was reset meanwhile.
        bus.reset();
        bus.set_dead(false);
        assert_eq!(chip.unseal(&kit.root, &kit.sealed, None, rng).await?[..], SECRET);
        // And it gets all its chances again.
        bus.trouble(1, Trouble::Lost);
        assert_eq!(chip.unseal(&kit.root, &kit.sealed, None, rng).await?[..], SECRET);
        Ok(())
    });
    assert_eq!(result, Ok(()));
    assert_eq!(bus.open(), 0);
}

#[test]
fn a_chip_that_is_not_there_yet_is_waited_for() {
    let bus = Bus::load(&kit().state);
    let timer = timer();
    bus.trouble(0, Trouble::Lost);
    bus.trouble(0, Trouble::Garbage);
    assert!(drive(&timer, Hardware::detect(bus.clone(), &timer, settings())).0.is_ok());
    bus.set_dead(true);
    let (result, time) = drive(&timer, Hardware::detect(bus.clone(), &timer, settings()));
    assert_eq!(result.err(), Some(ChipError::Transport(TransportError::TimedOut)));
    assert!(time < Duration::from_secs(10));
}

#[test]
fn sessions_that_others_left_are_cleared_away_when_there_is_no_room() {
    let kit = kit();
    let bus = Bus::load(&kit.state);
    let result = with_chip(&bus, settings(), async |chip, _, rng| {
        // TPM_OIAP, until it is refused.
        while bus.raw(&[0, 0xc1, 0, 0, 0, 10, 0, 0, 0, 0x0a])[9] == 0 {}
        assert_eq!(chip.unseal(&kit.root, &kit.sealed, None, rng).await?[..], SECRET);
        Ok(())
    });
    assert_eq!(result, Ok(()));
    assert_eq!(bus.open(), 0);
}

#[test]
fn operations_take_turns_and_one_that_is_given_up_stops_no_other() {
    let kit = kit();
    let bus = Bus::load(&kit.state);
    let result = with_chip(&bus, settings(), async |chip, _, rng| {
        // The bus itself notices two commands at once.
        let mut other = super::bus::rng(7);
        let mut first = pin!(chip.unseal(&kit.root, &kit.sealed, None, rng));
        let mut second = pin!(chip.counter_increment(&kit.root, &kit.counter, &mut other));
        let (mut one, mut two, mut turns) = (None, None, 0);
        poll_fn(|context| {
            turns += 1;
            // Whoever waits was polled before the other ends.
            if turns > 1
                && two.is_none()
                && let Poll::Ready(output) = second.as_mut().poll(context)
            {
                two = Some(output);
            }
            if one.is_none()
                && let Poll::Ready(output) = first.as_mut().poll(context)
            {
                one = Some(output);
            }
            if one.is_some() && two.is_some() { Poll::Ready(()) } else { Poll::Pending }
        })
        .await;
        assert!(one.unwrap().is_ok_and(|secret| secret[..] == SECRET) && two.unwrap() == Ok(2));
        Ok(())
    });
    assert_eq!(result, Ok(()));

    for polls in 1..12 {
        let result = with_chip(&bus, settings(), async |chip, timer, rng| {
            let mut left = polls;
            {
                let mut given_up = pin!(chip.unseal(&kit.root, &kit.sealed, None, rng));
                poll_fn(|context| {
                    left -= 1;
                    if given_up.as_mut().poll(context).is_ready() || left == 0 {
                        Poll::Ready(())
                    } else {
                        Poll::Pending
                    }
                })
                .await;
            }
            bus.let_in();
            timer.sleep(Duration::from_millis(1)).await;
            assert_eq!(chip.unseal(&kit.root, &kit.sealed, None, rng).await?[..], SECRET);
            Ok(())
        });
        assert_eq!(result, Ok(()), "given up after {polls} turns");
    }
}

/// TPM_ExecuteTransport.
const EXECUTE_TRANSPORT: u32 = 0xe7;

#[test]
fn what_is_sealed_cannot_be_read_on_the_way() {
    let kit = kit();
    let bus = Bus::load(&kit.state);
    // Random, so that no part of it turns up by chance.
    let secret: [u8; 32] = super::bus::rng(8).bytes();
    let result = with_chip(&bus, settings(), async |chip, _, rng| {
        let sealed = chip.seal(&kit.root, &secret, None, None, rng).await?;
        assert_eq!(chip.unseal(&kit.root, &sealed, None, rng).await?[..], secret);
        Ok(())
    });
    assert_eq!(result, Ok(()));
    let (bytes, seen) = (bus.bytes(), bus.seen());
    assert_eq!(seen.iter().filter(|ordinal| **ordinal == EXECUTE_TRANSPORT).count(), 2);
    assert!(bytes.windows(16).all(|window| secret.windows(16).all(|part| part != window)));
}

/// Does `work` once for every byte of the answer to its TPM_ExecuteTransport, with that byte changed.
fn with_every_byte_changed(work: impl AsyncFn(&Kit, &Hardware<'_, Bus>, &mut Drbg) -> Result<(), ChipError>) {
    let kit = kit();
    let bus = Bus::load(&kit.state);
    let result = with_chip(&bus, settings(), async |chip, _, rng| {
        let tunnels =
            |since: usize| bus.seen()[since..].iter().filter(|ordinal| **ordinal == EXECUTE_TRANSPORT).count();
        // Once without trouble, to see which command it is.
        let start = bus.seen().len();
        work(kit, chip, rng).await?;
        let at = bus.seen()[start..].iter().position(|ordinal| *ordinal == EXECUTE_TRANSPORT).unwrap();
        for from_end in 0.. {
            bus.trouble(at, Trouble::Flip(from_end));
            let start = bus.seen().len();
            work(kit, chip, rng).await?;
            if tunnels(start) == 1 {
                // There is no such byte behind the header.
                assert!(from_end >= 60, "a change of byte -{from_end} was not noticed");
                break;
            }
        }
        Ok(())
    });
    assert_eq!(result, Ok(()));
}

#[test]
fn what_comes_through_a_tunnel_cannot_be_changed() {
    with_every_byte_changed(async |kit, chip, rng| {
        assert_eq!(chip.unseal(&kit.root, &kit.sealed, None, rng).await?[..], SECRET);
        Ok(())
    });
    with_every_byte_changed(async |kit, chip, rng| {
        assert_eq!(chip.counter_read(&kit.root, &kit.counter, rng).await?, 1);
        Ok(())
    });
}
