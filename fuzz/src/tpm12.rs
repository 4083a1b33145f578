//! The TPM 1.2 engine with commands that make sense to it, one after another on the same TPM: valid headers, handles and sessions
//! that exist, authorizations that are right. The oracle is in [`client`]: no panic, the response's size field is its length,
//! an error is ten bytes, and after every command the state is saved, loaded, and found to be the same.

pub mod client;
pub mod grammar;
pub mod prepared;

use crate::input::Input;
use client::packet;
use tpm12::StartupType;

/// The most commands to one TPM.
const COMMANDS: usize = 24;

/// Lets the input act as guest and as owner of a TPM.
pub fn run(data: &[u8]) {
    let mut input = Input::new(data);
    let mut client = prepared::client(input.u8());
    for _ in 0..COMMANDS {
        if input.is_empty() {
            break;
        }
        match input.u8() {
            0..176 => client.act(&mut input),
            176..184 => client.open(None),
            184..208 => {
                let kind = input.choose(&[1, 2, 4, 5, 10, 11, 0x0601, 0x0602, 0x0604]);
                let value = client.handle(&mut input);
                client.open(Some((kind, value)));
            }
            208..212 => drop(client.execute(input.u8(), &packet(0xc1, input.u8().into(), input.bytes(false)))),
            212..216 => drop(client.execute(input.u8(), input.bytes(true))),
            216..228 => client.commit(),
            228..232 => client.discard(),
            232..238 => client.tpm.set_time(u64::from(input.u32()) << (input.u8() % 32)),
            238..246 => {
                let kind = input.choose(&[StartupType::Clear, StartupType::State, StartupType::Deactivated]);
                let _ = client.tpm.reset(kind);
                client.check_state();
            }
            _ => client.restart(input.u8()),
        }
    }
    client.check_state();
    client.check_permanent();
}
