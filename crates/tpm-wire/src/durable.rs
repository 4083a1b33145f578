//! The one way of a command through an engine: executed, its change made durable, and only then answered.

use crate::{Engine, Progress};
use alloc::vec::Vec;
use zeroize::Zeroizing;

/// Where an engine's state lies.
#[allow(async_fn_in_trait)] // one thread, no Send bound wanted
pub trait Keeper {
    /// Why a state could not be kept.
    type Error;

    /// Makes `state` durable in place of the last one. After an error the last one stands, or nobody can tell; in both cases
    /// the change was not acknowledged.
    async fn keep(&mut self, state: Zeroizing<Vec<u8>>) -> Result<(), Self::Error>;
}

/// What is to be done with a command that is [`Progress::Working`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Turn {
    /// [`Engine::resume`].
    Resume,
    /// Give it up.
    Cancel,
    /// The engine was given what it waited for, and this is how far it came.
    Came(Progress),
}

/// What became of a command.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[must_use]
pub enum Outcome<E> {
    /// The response is in the buffer, and what it acknowledges is durable.
    Answered,
    /// It was given up, and the state is as if it had never come. The buffer is empty.
    Cancelled,
    /// Its change was not made durable, and the engine has forgotten it. The buffer is empty.
    NotKept(E),
}

/// Executes `command` at `locality`. Between two steps of a long command `turn` says how to go on.
pub async fn execute<T: Engine, K: Keeper>(
    engine: &mut T,
    keeper: &mut K,
    (locality, command): (u8, &[u8]),
    response: &mut Vec<u8>,
    mut turn: impl AsyncFnMut(&mut T, &K, &mut Vec<u8>) -> Turn,
) -> Outcome<K::Error> {
    let mut progress = engine.execute(locality, command, response);
    while progress == Progress::Working {
        progress = match turn(engine, keeper, response).await {
            Turn::Resume => engine.resume(response),
            Turn::Came(progress) => progress,
            Turn::Cancel => {
                engine.cancel();
                response.clear();
                return Outcome::Cancelled;
            }
        };
    }
    match keep(engine, keeper).await {
        Ok(()) => Outcome::Answered,
        Err(error) => {
            response.clear();
            Outcome::NotKept(error)
        }
    }
}

/// Makes what `engine` staged durable, or has it forget the change.
pub async fn keep<T: Engine, K: Keeper>(engine: &mut T, keeper: &mut K) -> Result<(), K::Error> {
    let Some(state) = engine.staged() else { return Ok(()) };
    let outcome = keeper.keep(state).await;
    match &outcome {
        Ok(()) => engine.committed(),
        Err(_) => engine.discard(),
    }
    outcome
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec;
    use core::pin::pin;
    use core::task::{Context, Poll, Waker};

    /// Takes as many steps as the command's first byte says; its second byte becomes the state, if it is not 0.
    #[derive(Default)]
    struct Counting {
        left: u8,
        next: u8,
        state: u8,
        staged: bool,
        cancelled: bool,
    }

    impl Counting {
        fn step(&mut self, response: &mut Vec<u8>) -> Progress {
            if let Some(left) = self.left.checked_sub(1) {
                self.left = left;
                return Progress::Working;
            }
            self.staged = self.next != 0;
            *response = vec![self.next];
            Progress::Done
        }
    }

    impl Engine for Counting {
        fn execute(&mut self, _: u8, command: &[u8], response: &mut Vec<u8>) -> Progress {
            (self.left, self.next) = (command[0], command[1]);
            self.step(response)
        }

        fn resume(&mut self, response: &mut Vec<u8>) -> Progress {
            self.step(response)
        }

        fn cancel(&mut self) {
            self.cancelled = true;
        }

        fn staged(&mut self) -> Option<Zeroizing<Vec<u8>>> {
            self.staged.then(|| Zeroizing::new(vec![self.next]))
        }

        fn committed(&mut self) {
            (self.staged, self.state) = (false, self.next);
        }

        fn discard(&mut self) {
            self.staged = false;
        }
    }

    #[derive(Default)]
    struct Shelf {
        kept: Vec<u8>,
        full: bool,
    }

    impl Keeper for Shelf {
        type Error = &'static str;

        async fn keep(&mut self, state: Zeroizing<Vec<u8>>) -> Result<(), &'static str> {
            if self.full {
                return Err("full");
            }
            self.kept.extend_from_slice(&state);
            Ok(())
        }
    }

    fn now<T>(future: impl Future<Output = T>) -> T {
        match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(value) => value,
            Poll::Pending => panic!("nothing here waits"),
        }
    }

    #[test]
    fn an_answer_comes_after_its_state_is_kept_or_not_at_all() {
        let (mut engine, mut shelf, mut response, mut turns) = (Counting::default(), Shelf::default(), vec![], 0);
        let mut run = |engine: &mut _, shelf: &mut _, response: &mut _, command: &[u8], last: Turn| {
            now(execute(engine, shelf, (0, command), response, async |_, _, _| {
                turns += 1;
                if turns % 3 == 0 { last } else { Turn::Resume }
            }))
        };
        assert_eq!(run(&mut engine, &mut shelf, &mut response, &[3, 7], Turn::Resume), Outcome::Answered);
        assert_eq!((&response[..], &shelf.kept[..], engine.state), (&[7][..], &[7][..], 7));

        assert_eq!(run(&mut engine, &mut shelf, &mut response, &[3, 8], Turn::Cancel), Outcome::Cancelled);
        assert!(response.is_empty() && engine.cancelled && shelf.kept == [7]);

        let came = Turn::Came(Progress::Done);
        assert_eq!(run(&mut engine, &mut shelf, &mut response, &[9, 0], came), Outcome::Answered);
        assert_eq!(shelf.kept, [7], "nothing changed, nothing is written");

        shelf.full = true;
        assert_eq!(run(&mut engine, &mut shelf, &mut response, &[0, 9], came), Outcome::NotKept("full"));
        assert!(response.is_empty() && !engine.staged);
        assert_eq!(engine.state, 7);
    }
}
