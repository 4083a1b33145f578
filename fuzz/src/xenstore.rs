//! The xenstore client against a xenstored that puts anything on the ring: every call ends, in its time.

use crate::input::Input;
use core::cell::RefCell;
use core::time::Duration;
use frontback::fake::FakePage;
use frontback::xenstore::{Client, REPLY_TIME};
use xen_abi::io::xs_wire::{Header, OFFSET_REQ_PROD, OFFSET_RESPONSES, OFFSET_RSP_PROD, RING_SIZE, kind};
use xen_abi::{Instant, SharedPage, Store, StoreRing, TransactionId};
use zerocopy::IntoBytes;

/// The page, what xenstored will do, milliseconds, the number of the request under way.
struct Ring<'a>(FakePage, RefCell<Input<'a>>, u64, u32);

impl Ring<'_> {
    /// Appends bytes to the ring of responses, whether there is room or not.
    fn say(&self, bytes: &[u8]) {
        let mut producer = self.0.load_u32(OFFSET_RSP_PROD).unwrap();
        for byte in bytes {
            self.0.store_u8(OFFSET_RESPONSES + producer as usize % RING_SIZE, *byte).unwrap();
            producer = producer.wrapping_add(1);
        }
        self.0.store_u32(OFFSET_RSP_PROD, producer).unwrap();
    }

    fn message(&self, kind: u32) {
        let mut input = self.1.borrow_mut();
        let payload = match input.u8() {
            0..32 => &b"OK\0"[..],
            32..64 => b"ENOENT\0",
            64..96 => b"17\0",
            96..128 => b"device/vbd/0\0t/1\0",
            kind => input.bytes(kind > 240),
        };
        let length = if input.rarely(8) { input.near(4096) } else { payload.len() as u32 };
        let request = if input.rarely(8) { input.u32() } else { self.3 };
        drop(input);
        self.say(Header { kind, request, transaction: 0, length }.as_bytes());
        self.say(payload);
    }
}

impl StoreRing for Ring<'_> {
    type Page = FakePage;

    fn page(&self) -> &FakePage {
        &self.0
    }

    fn notify(&mut self) {
        let kinds = [kind::READ, kind::WATCH_EVENT, kind::ERROR, kind::DIRECTORY, kind::WRITE, kind::WATCH, 6, 7, 99];
        let action = self.1.borrow_mut().u8();
        match action {
            0..180 => self.message(kinds[usize::from(action) % kinds.len()]),
            180..200 => self.say(self.1.borrow_mut().bytes(false)),
            // All four indices, and what lies around them.
            200..212 => self.0.write(2048 + 4 * usize::from(action % 4), &self.1.borrow_mut().array::<4>()).unwrap(),
            212..230 => self.0.store_u32(2048, self.0.load_u32(OFFSET_REQ_PROD).unwrap()).unwrap(),
            _ => {}
        }
    }

    fn now(&self) -> Instant {
        Instant::from_millis(self.2)
    }

    fn wait(&mut self, until: Instant) {
        assert!(self.now() < until);
        self.2 += Duration::from_secs(1).as_millis() as u64;
        self.notify();
    }
}

/// Makes requests as the input says.
pub fn run(data: &[u8]) {
    let mut script = Input::new(data);
    let ops = script.bytes(false);
    let mut client = Client::new(Ring(FakePage::new(), RefCell::new(script), 0, 0));
    for &op in ops {
        client.ring_mut().3 += 1;
        let tx = (op & 0x80 != 0).then_some(TransactionId(17));
        let before = client.ring().now();
        // Any outcome is right, as long as there is one.
        let _ = match op % 8 {
            0 => client.read(tx, "a/b").err(),
            1 => client.write(tx, "a/b", &vec![op; usize::from(op) * 8]).err(),
            2 => client.list(tx, "a").err(),
            3 => client.watch("device/vbd", "t/1").err(),
            4 => client.unwatch("device/vbd", "t/1").err(),
            5 => client.begin().err(),
            6 => client.end(TransactionId(17), op & 8 == 0).err(),
            _ => client.next_watch_event("t/").and(None),
        };
        assert!(client.ring().now() <= before + REPLY_TIME + Duration::from_secs(1));
    }
}
