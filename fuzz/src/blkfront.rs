//! blkfront against a hostile back end: anything in xenstore and on the ring. Every request ends in its time, and nothing is
//! held once the driver is closed.

use crate::input::Input;
use core::cell::RefCell;
use core::task::{Context, Poll, Waker};
use core::time::Duration;
use frontback::blkfront::{BlkFront, Disk, Status};
use frontback::fake::{DOM0, FakeDomain, Machine, MappedPage, VbdOptions};
use frontback::looper::Driver;
use std::pin::pin;
use xen_abi::{BlockDevice, DiskError, DomId, EventChannels, EventPort, GrantRef, Grants, Instant, SharedPage, Store};

const FRONT: DomId = DomId(7);
const DIR: &str = "/local/domain/0/backend/vbd/7/768";
const KEYS: [&str; 7] = ["state", "sectors", "sector-size", "info", "feature-flush-cache", "feature-barrier", "mode"];
const VALUES: [&str; 12] =
    ["4", "2", "512", "0", "1", "5", "6", "r", "", "36028797018963968", "18446744073709551616", "x"];

struct Back(FakeDomain, Option<(MappedPage, EventPort)>, u32);

impl Back {
    fn put(&mut self, key: &str, value: &[u8]) {
        let _ = self.0.write(None, &format!("{DIR}/{key}"), value);
    }

    fn number(&mut self, key: &str) -> Option<u32> {
        let value = self.0.read(None, &format!("/local/domain/7/device/vbd/768/{key}")).ok()?;
        String::from_utf8(value).ok()?.parse().ok()
    }

    fn connect(&mut self) -> Option<()> {
        let (ring, port) = (GrantRef(self.number("ring-ref")?), EventPort(self.number("event-channel")?));
        let (page, port) = (self.0.map(FRONT, ring).ok()?, self.0.bind_interdomain(FRONT, port).ok()?);
        self.1 = Some((page, port));
        Some(())
    }

    fn act(&mut self, input: &mut Input<'_>) {
        match input.u8() % 12 {
            0 => self.put(input.choose(&KEYS), input.choose(&VALUES).as_bytes()),
            1 => self.put(input.choose(&KEYS), input.bytes(false)),
            2..5 if self.1.is_none() => {
                // An honest handshake.
                for (key, value) in [("sectors", "500"), ("feature-flush-cache", "1"), ("feature-barrier", "1")] {
                    self.put(key, value.as_bytes());
                }
                let state = if self.connect().is_some() { "4" } else { "2" };
                self.put("state", state.as_bytes());
            }
            kind => {
                let Some((page, port)) = &self.1 else { return };
                let offset = 64 + (self.2 % 32) as usize * 112;
                let mut response = [0; 16];
                page.read(offset + 8, &mut response[..8]).unwrap();
                response[10..12].copy_from_slice(&input.choose(&[0i16, 0, 0, -1, -2, 77]).to_ne_bytes());
                if kind == 11 {
                    response[usize::from(input.u8() % 16)] ^= input.u8();
                }
                page.write(offset, &response).unwrap();
                self.2 = self.2.wrapping_add(1);
                let ahead = if input.rarely(16) { input.near(32) } else { 0 };
                page.store_u32(8, self.2.wrapping_add(ahead)).unwrap();
                page.store_u32(4, input.near(self.2)).unwrap();
                self.0.notify(*port);
            }
        }
    }
}

async fn use_disk(driver: &RefCell<BlkFront<FakeDomain>>) -> Result<(), DiskError> {
    let disk = Disk::open(driver).await?;
    let mut data = vec![1; 60_000 / 512 * 512];
    for sector in [0, 300, disk.sectors().wrapping_sub(1), u64::MAX] {
        let _ = disk.write(sector, &data).await;
        let _ = disk.flush().await;
        let _ = disk.read(sector, &mut data[..1024]).await;
    }
    disk.read(5, &mut data).await
}

/// Lets the back end act as the input says, while a user reads and writes.
pub fn run(data: &[u8]) {
    let (mut input, machine) = (Input::new(data), Machine::new());
    let (mut domain, mut now) = (machine.domain(FRONT), Instant::from_millis(1));
    machine.xl_vbd_attach(FRONT, DOM0, 768, VbdOptions { writable: !input.rarely(8) });
    let mut back = Back(machine.domain(DOM0), None, 0);
    let driver = RefCell::new(BlkFront::new());
    let mut user = pin!(use_disk(&driver));
    let mut done = false;
    for _ in 0..2000 {
        if input.is_empty() {
            driver.borrow_mut().close();
            now = now + Duration::from_secs(1);
        } else if input.u8() < 200 {
            back.act(&mut input);
        } else {
            now = now + Duration::from_millis(input.u16().into());
        }
        driver.borrow_mut().step(&mut domain, now);
        done = done || matches!(user.as_mut().poll(&mut Context::from_waker(Waker::noop())), Poll::Ready(_));
        if input.is_empty() && done && driver.borrow().status() == Status::Closed {
            break;
        }
    }
    assert!(!input.is_empty() || done && driver.borrow().status() == Status::Closed, "requests that never end");
    if input.is_empty() {
        machine.assert_nothing_held(FRONT);
    }
}
