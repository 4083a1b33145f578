//! The program's one loop: control clients, one command channel, signals.

use crate::channel::{Channel, Received};
use crate::control::{BUFFER_SIZE, Client, Desk};
use crate::tpm::Tpm;
use anyhow::{Context, Result};
use nix::sys::signalfd::SignalFd;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::net::{SocketFlags, accept_with};
use std::os::fd::{AsFd, OwnedFd};
use tpm_wire::HEADER_SIZE;

/// Control clients at a time; more wait until one leaves.
const MOST_CLIENTS: usize = 8;
/// `SetLocality` as the vTPM proxy's kernel sends it (Linux `uapi/linux/vtpm_proxy.h`).
const PROXY_SET_LOCALITY: u32 = 0x2000_1000;

/// What the command line says about serving.
#[derive(Default)]
pub struct Rules {
    /// End when the command channel ends.
    pub terminate: bool,
    /// End when the control client that was passed at the start ends.
    pub terminate_with_control: bool,
    /// Close the command channel after each response.
    pub disconnect: bool,
    /// `--locality reject-locality-4`.
    pub reject_locality_4: bool,
    /// `--locality allow-set-locality`: the command channel may set the locality.
    pub allow_set_locality: bool,
}

/// The program's ends of all connections.
#[derive(Default)]
pub struct Ends {
    /// Where control clients connect.
    pub control: Option<OwnedFd>,
    /// A control client that is connected.
    pub control_client: Option<OwnedFd>,
    /// Where the command channel's clients connect.
    pub data: Option<OwnedFd>,
    /// A command channel that is open.
    pub data_client: Option<OwnedFd>,
}

/// Everything that is served.
pub struct Server {
    tpm: Tpm,
    rules: Rules,
    control: Option<OwnedFd>,
    data: Option<OwnedFd>,
    clients: Vec<Client>,
    commands: Option<Channel>,
    signals: SignalFd,
    ended: bool,
}

/// What poll found.
#[derive(Default)]
struct Ready {
    signal: bool,
    control: bool,
    data: bool,
    commands: bool,
    clients: Vec<bool>,
}

impl Server {
    /// Puts everything together.
    pub fn new(tpm: Tpm, rules: Rules, ends: Ends, signals: SignalFd) -> Self {
        Self {
            tpm,
            rules,
            control: ends.control,
            data: ends.data,
            clients: ends.control_client.into_iter().map(Client::new).collect(),
            commands: ends.data_client.map(Channel::new),
            signals,
            ended: false,
        }
    }

    /// Serves until a signal, a control client or the end of a connection says that it is over. No command is cut off by that,
    /// and nothing that was acknowledged is lost.
    pub fn serve(&mut self) -> Result<()> {
        while !self.ended {
            let ready = self.wait()?;
            if ready.signal {
                log::info!("a signal ends the program");
                self.tpm.stop();
                return Ok(());
            }
            self.serve_clients(&ready.clients);
            if ready.control
                && let Some(fd) = accept(self.control.as_ref())
            {
                self.clients.push(Client::new(fd));
            }
            if ready.data
                && self.commands.is_none()
                && let Some(fd) = accept(self.data.as_ref())
            {
                self.commands = Some(Channel::new(fd));
            }
            if ready.commands && !self.ended {
                self.serve_commands();
            }
        }
        Ok(())
    }

    fn wait(&self) -> Result<Ready> {
        let control = self.control.as_ref().filter(|_| self.clients.len() < MOST_CLIENTS);
        let data = self.data.as_ref().filter(|_| self.commands.is_none());
        let fixed = [Some(self.signals.as_fd()), control.map(AsFd::as_fd), data.map(AsFd::as_fd)];
        let commands = self.commands.as_ref().map(AsFd::as_fd);
        let clients = self.clients.iter().map(|client| Some(client.channel.as_fd()));
        let all: Vec<_> = fixed.into_iter().chain([commands]).chain(clients).collect();
        let mut polled: Vec<PollFd<'_>> =
            all.iter().flatten().map(|fd| PollFd::from_borrowed_fd(*fd, PollFlags::IN)).collect();
        match poll(&mut polled, None) {
            Ok(_) => {}
            Err(rustix::io::Errno::INTR) => return Ok(Ready::default()),
            Err(error) => return Err(error).context("cannot wait for clients"),
        }
        let mut found = polled.iter().map(|fd| !fd.revents().is_empty());
        let mut each = all.iter().map(|fd| fd.is_some() && found.next().unwrap_or(false));
        let mut next = || each.next().unwrap_or(false);
        let (signal, control, data, commands) = (next(), next(), next(), next());
        Ok(Ready { signal, control, data, commands, clients: each.collect() })
    }

    fn serve_clients(&mut self, ready: &[bool]) {
        let mut new_data = None;
        for (at, _) in ready.iter().enumerate().filter(|(_, ready)| **ready) {
            let Some(client) = self.clients.get_mut(at) else { continue };
            let mut desk = Desk {
                tpm: &mut self.tpm,
                reject_locality_4: self.rules.reject_locality_4,
                has_data: self.commands.is_some(),
                new_data: &mut new_data,
                shutdown: &mut self.ended,
            };
            if !client.serve(&mut desk) {
                client.gone = true;
            }
        }
        if self.clients.iter().any(|client| client.gone) && self.rules.terminate_with_control {
            self.ended = true;
        }
        self.clients.retain(|client| !client.gone);
        if let Some(fd) = new_data {
            self.commands = Some(Channel::new(fd));
        }
    }

    fn serve_commands(&mut self) {
        let Some(channel) = &mut self.commands else { return };
        let gone = channel.receive() == Received::Gone;
        let outcome = answer_all(&mut self.tpm, channel, &mut self.clients, &self.rules);
        if let Err(error) = &outcome {
            log::warn!("the command channel is closed: {error:#}");
        }
        if gone || !matches!(outcome, Ok(true)) {
            if gone && !channel.inbox.is_empty() {
                log::warn!("the command channel ended inside a command, which is ignored");
            }
            self.commands = None;
            self.ended |= self.rules.terminate;
        }
    }
}

fn accept(listener: Option<&OwnedFd>) -> Option<OwnedFd> {
    match accept_with(listener?, SocketFlags::CLOEXEC) {
        Ok(fd) => Some(fd),
        Err(error) => {
            log::warn!("a client went away before it was accepted: {error}");
            None
        }
    }
}

/// Answers the commands that have come whole; false if the channel is to be closed now.
fn answer_all(tpm: &mut Tpm, channel: &mut Channel, clients: &mut [Client], rules: &Rules) -> Result<bool> {
    while let Some(command) = next_command(&mut channel.inbox)? {
        let response = match proxied_locality(&command) {
            Some(locality) if rules.allow_set_locality => set_locality(tpm, locality, rules),
            _ => tpm.execute(&command, || clients.iter_mut().any(Client::cancels)),
        };
        channel.send(response).context("the response is not taken")?;
        if rules.disconnect {
            return Ok(false);
        }
    }
    Ok(true)
}

/// The next whole command. A stream whose framing is lost is an error.
fn next_command(inbox: &mut Vec<u8>) -> Result<Option<Vec<u8>>> {
    let Some([_, _, a, b, c, d, ..]) = inbox.first_chunk::<HEADER_SIZE>().copied() else { return Ok(None) };
    let size = u32::from_be_bytes([a, b, c, d]);
    anyhow::ensure!(
        (HEADER_SIZE as u32..=BUFFER_SIZE).contains(&size),
        "a command that says it has {size} bytes (possible are {HEADER_SIZE} to {BUFFER_SIZE}); where the next begins can't be known"
    );
    if inbox.len() < size as usize {
        return Ok(None);
    }
    Ok(Some(inbox.drain(..size as usize).collect()))
}

/// The locality that the kernel's vTPM proxy sets with this command.
fn proxied_locality(command: &[u8]) -> Option<u8> {
    let (header, body) = tpm_wire::CommandHeader::parse(command).ok()?;
    match body {
        [locality] if header.ordinal.get() == PROXY_SET_LOCALITY => Some(*locality),
        _ => None,
    }
}

fn set_locality<'a>(tpm: &'a mut Tpm, locality: u8, rules: &Rules) -> &'a [u8] {
    const BAD_LOCALITY: u32 = 61;
    let allowed = locality < 4 || locality == 4 && !rules.reject_locality_4;
    if allowed {
        tpm.locality = locality;
    }
    tpm.bare(if allowed { 0 } else { BAD_LOCALITY })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_is_taken_whole_or_the_client_is_dropped() {
        let whole = [0, 0xc1, 0, 0, 0, 12, 0, 0, 0, 0x50, 1, 2];
        for cut in 0..whole.len() {
            assert_eq!(next_command(&mut whole[..cut].to_vec()).unwrap(), None, "{cut} bytes");
        }
        let mut two = [whole, whole].concat();
        assert_eq!(next_command(&mut two).unwrap().unwrap(), whole);
        assert_eq!(two, whole);
        for size in [0u32, 9, BUFFER_SIZE + 1, u32::MAX] {
            let mut bad = whole.to_vec();
            bad[2..6].copy_from_slice(&size.to_be_bytes());
            assert!(next_command(&mut bad).is_err(), "size {size}");
        }
    }

    #[test]
    fn the_proxys_command_is_told_from_others() {
        let mut command = [0, 0xc1, 0, 0, 0, 11, 0x20, 0, 0x10, 0, 3];
        assert_eq!(proxied_locality(&command), Some(3));
        command[9] = 1;
        assert_eq!(proxied_locality(&command), None);
        assert_eq!(proxied_locality(&command[..10]), None);
    }
}
