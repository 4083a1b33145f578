//! The ways to the chip: registers of this machine, or the TPM of another domain.

use alloc::vec::Vec;
use core::cell::RefCell;
use core::time::Duration;
use frontback::tpmfront::{self, FrontError, TpmFront};
use tpm_wire::mgr::{ORD_GET_BOOT_ID, TAG_REQ, TAG_RSP};
use tpm_wire::{HEADER_SIZE, ResponseHeader, Transport, TransportError, Writer};
use xen_abi::Xen;

/// How long one command may take. The vTPM at the other end may be making a key, or waiting for its own manager.
const ANSWER_TIME: Duration = Duration::from_secs(240);

/// A TPM in another domain, through `device/vtpm/0`. One command at a time.
pub struct FrontWay<'a, X: Xen> {
    front: &'a RefCell<TpmFront<X>>,
    locality: u8,
}

impl<'a, X: Xen> FrontWay<'a, X> {
    /// Commands go out at `locality`; a vTPM of this project has locality 0 only.
    pub const fn new(front: &'a RefCell<TpmFront<X>>, locality: u8) -> Self {
        Self { front, locality }
    }
}

impl<X: Xen> Transport for FrontWay<'_, X> {
    async fn transmit(&self, command: &[u8]) -> Result<Vec<u8>, TransportError> {
        let answer = tpmfront::transmit(self.front, self.locality, command, ANSWER_TIME).await;
        let response = answer.map_err(|error| match error {
            FrontError::Gone => TransportError::Gone,
            FrontError::TimedOut | FrontError::Cancelled | FrontError::Busy => TransportError::TimedOut,
            FrontError::Garbled => TransportError::Garbled,
            FrontError::BadLength => TransportError::TooLong,
        })?;
        ResponseHeader::parse(&response).map_err(|_| TransportError::Garbled)?;
        Ok(response)
    }
}

/// One of two ways, chosen at start.
pub enum Either<A, B> {
    /// The first.
    First(A),
    /// The second.
    Second(B),
}

impl<A: Transport, B: Transport> Transport for Either<A, B> {
    async fn transmit(&self, command: &[u8]) -> Result<Vec<u8>, TransportError> {
        match self {
            Self::First(way) => way.transmit(command).await,
            Self::Second(way) => way.transmit(command).await,
        }
    }
}

/// Asks a vTPM of this project, at the other end of `way`, which start of the machine this is. `None` if what is there refuses
/// the question, as every other TPM does: then its own count of starts is all there is.
///
/// It is for the manager behind another domain. That domain's TPM counts a new start whenever the manager's own domain is made
/// anew, and guests whose vTPMs took that for a restart of the machine would see fresh PCRs while they live.
pub async fn start_of_machine(way: &impl Transport) -> Result<Option<[u8; 20]>, TransportError> {
    let mut command = Vec::with_capacity(HEADER_SIZE);
    Writer::new(&mut command).u16(TAG_REQ).u32(HEADER_SIZE as u32).u32(ORD_GET_BOOT_ID);
    let response = way.transmit(&command).await?;
    let (header, body) = ResponseHeader::parse(&response).map_err(|_| TransportError::Garbled)?;
    match (header.code.get(), header.tag.get(), <[u8; 20]>::try_from(body)) {
        (0, TAG_RSP, Ok(id)) => Ok(Some(id)),
        (0, _, _) => Err(TransportError::Garbled),
        _ => Ok(None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec;
    use core::future::Future;
    use core::pin::pin;
    use core::task::{Context, Poll, Waker};
    use frontback::fake::{FakeDomain, Machine};
    use frontback::looper::Driver;
    use frontback::tpmback::{ANNOUNCEMENT, TpmBack};
    use xen_abi::{DomId, Instant};

    const MANAGER: DomId = DomId(4);
    const OTHER: DomId = DomId(3);

    /// This manager's front end, and the domain with the TPM.
    struct Rig {
        machine: Machine,
        own: FakeDomain,
        front: RefCell<TpmFront<FakeDomain>>,
        theirs: FakeDomain,
        back: TpmBack<FakeDomain>,
        now: Instant,
    }

    impl Rig {
        fn new() -> Self {
            let machine = Machine::new();
            let (own, theirs) = (machine.domain(MANAGER), machine.domain(OTHER));
            machine.xl_vtpm_attach(MANAGER, OTHER, 0, "00112233-4455-6677-8899-aabbccddeeff");
            let back = TpmBack::new(&[0, 0xc4, 0, 0, 0, 10, 0, 0, 0, 3]);
            Self { machine, own, front: RefCell::new(TpmFront::new(0)), theirs, back, now: Instant::from_millis(1) }
        }

        /// What comes of one command; `tpm` answers it, or is taken away with the command in it.
        fn ask(
            &mut self,
            locality: u8,
            command: &[u8],
            tpm: impl Fn(u8, &[u8]) -> Option<Vec<u8>>,
        ) -> Result<Vec<u8>, TransportError> {
            let Self { machine, own, front, theirs, back, now } = self;
            let way = FrontWay::new(front, locality);
            let mut work = pin!(way.transmit(command));
            loop {
                front.borrow_mut().step(own, *now);
                back.step(theirs, *now);
                while back.next_event().is_some() {}
                while let Some(request) = back.next_request() {
                    match tpm(request.locality, &request.command) {
                        Some(answer) => back.respond(request.front, &answer),
                        None => machine.xl_vtpm_detach_finish(MANAGER, 0),
                    }
                }
                if let Poll::Ready(outcome) = work.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
                    return outcome;
                }
                *now = *now + Duration::from_millis(10);
                assert!(*now < Instant::from_millis(1_000_000), "no end");
            }
        }
    }

    #[test]
    fn both_versions_pass_whole_and_at_the_right_locality() {
        let mut rig = Rig::new();
        for tag in [[0, 0xc4], [0x80, 1]] {
            let answer = [&tag[..], &[0, 0, 0, 12, 0, 0, 0, 0, 7, 7]].concat();
            let long = [&tag[..], &4088_u32.to_be_bytes(), &[0; 4082]].concat();
            for answer in [answer, long] {
                let got = rig.ask(2, &[9; 22], |locality, command| {
                    assert_eq!((locality, command), (2, &[9; 22][..]));
                    Some(answer.clone())
                });
                assert_eq!(got, Ok(answer));
            }
        }
        assert!(rig.now >= Instant::from_millis(1) + ANNOUNCEMENT);
    }

    #[test]
    fn what_is_no_answer_is_an_error_and_the_next_command_goes_through() {
        let mut rig = Rig::new();
        let short = vec![0, 0xc4, 0, 0, 0, 99, 0, 0, 0, 0];
        assert_eq!(rig.ask(0, &[1; 10], |_, _| Some(short.clone())), Err(TransportError::Garbled));
        assert_eq!(rig.ask(0, &[1; 10], |_, _| None), Err(TransportError::Gone));
        rig.machine.xl_vtpm_attach(MANAGER, OTHER, 0, "00112233-4455-6677-8899-aabbccddeeff");
        let good = vec![0, 0xc4, 0, 0, 0, 10, 0, 0, 0, 0];
        assert_eq!(rig.ask(0, &[1; 10], |_, _| Some(good.clone())), Ok(good.clone()));
        assert_eq!(rig.ask(0, &[1; 4089], |_, _| unreachable!("it does not fit")), Err(TransportError::TooLong));
    }

    #[test]
    fn a_domain_that_never_comes_is_an_error_in_time() {
        let mut rig = Rig::new();
        rig.machine.xl_vtpm_detach_finish(MANAGER, 0);
        assert_eq!(rig.ask(0, &[1; 10], |_, _| None), Err(TransportError::TimedOut));
        assert!(rig.now >= Instant::from_millis(240_000) && rig.now < Instant::from_millis(241_000));
    }

    struct Fixed(Result<Vec<u8>, TransportError>);

    impl Transport for Fixed {
        async fn transmit(&self, command: &[u8]) -> Result<Vec<u8>, TransportError> {
            assert_eq!(command, [1, 0xc1, 0, 0, 0, 10, 0, 0, 0, 0x80]);
            self.0.clone()
        }
    }

    #[test]
    fn the_start_of_the_machine_is_the_other_vtpms_word() {
        let ask = |answer| {
            let way = Fixed(answer);
            let mut work = pin!(start_of_machine(&way));
            match work.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
                Poll::Ready(outcome) => outcome,
                Poll::Pending => panic!("nothing to wait for"),
            }
        };
        let good = [&[1, 0xc4, 0, 0, 0, 30, 0, 0, 0, 0][..], &[5; 20]].concat();
        assert_eq!(ask(Ok(good.clone())), Ok(Some([5; 20])));
        // A TPM 1.2 or 2.0 that knows no such command.
        for refusal in [[0, 0xc4, 0, 0, 0, 10, 0, 0, 0, 0x1e], [0, 0xc4, 0, 0, 0, 10, 0, 0, 0, 10]] {
            assert_eq!(ask(Ok(refusal.to_vec())), Ok(None));
        }
        for cut in 0..good.len() {
            assert_eq!(ask(Ok(good[..cut].to_vec())), Err(TransportError::Garbled));
        }
        let mut other = good.clone();
        other[0] = 0;
        assert_eq!(ask(Ok(other)), Err(TransportError::Garbled));
        let long = [&[1, 0xc4, 0, 0, 0, 31, 0, 0, 0, 0][..], &[5; 21]].concat();
        assert_eq!(ask(Ok(long)), Err(TransportError::Garbled));
        assert_eq!(ask(Err(TransportError::Gone)), Err(TransportError::Gone));
    }
}
