//! Carries packets between clients and the TPM: one client after the other, one command after the other.

use crate::options::Server;
use crate::tpm::Tpm;
use anyhow::{Context, Result};
use std::io::{BufReader, ErrorKind, Read, Write};
use std::net::TcpListener;
use std::os::unix::net::UnixListener;
use std::path::Path;
use tpm_wire::{HEADER_SIZE, MAX_PACKET};

/// Serves clients until the program is ended, or until the first has gone if `once`.
pub fn serve(mut tpm: Tpm, server: &Server, once: bool) -> Result<()> {
    match server {
        Server::Tcp(address) => {
            let listener = TcpListener::bind(address).with_context(|| format!("cannot listen on {address}"))?;
            println!("listening on {}", listener.local_addr()?);
            serve_each(&mut tpm, once, || {
                let (stream, _) = listener.accept()?;
                stream.set_nodelay(true)?;
                Ok(stream)
            })
        }
        Server::Unix(path) => {
            let listener = listen_unix(path)?;
            println!("listening on {}", path.display());
            serve_each(&mut tpm, once, || Ok(listener.accept()?.0))
        }
    }
}

/// Takes over the path of a socket that nobody listens on any more, and only of such a one.
fn listen_unix(path: &Path) -> Result<UnixListener> {
    use std::os::unix::{fs::FileTypeExt, net::UnixStream};
    let stale = path.symlink_metadata().is_ok_and(|found| found.file_type().is_socket())
        && UnixStream::connect(path).is_err_and(|error| error.kind() == ErrorKind::ConnectionRefused);
    if stale {
        std::fs::remove_file(path).with_context(|| format!("cannot remove the old socket {}", path.display()))?;
    }
    UnixListener::bind(path).with_context(|| format!("cannot listen on {}", path.display()))
}

fn serve_each<S: Read + Write>(tpm: &mut Tpm, once: bool, mut accept: impl FnMut() -> Result<S>) -> Result<()> {
    loop {
        let mut client = accept().context("cannot accept a client")?;
        if let Err(error) = converse(tpm, &mut client) {
            log::warn!("client dropped: {error:#}");
        }
        if once {
            return Ok(());
        }
    }
}

/// Answers commands until the client closes the connection.
pub fn converse(tpm: &mut Tpm, client: &mut (impl Read + Write)) -> Result<()> {
    let mut command = Vec::with_capacity(MAX_PACKET);
    // One system call brings a command, most of the time.
    let mut client = BufReader::with_capacity(MAX_PACKET, client);
    while read_command(&mut client, &mut command)? {
        client.get_mut().write_all(tpm.execute(&command)).context("cannot send the response")?;
    }
    Ok(())
}

/// Reads one command; false if the client closed the connection between two.
fn read_command(client: &mut impl Read, command: &mut Vec<u8>) -> Result<bool> {
    command.clear();
    let mut header = [0; HEADER_SIZE];
    if client.read(&mut header[..1]).context("cannot read a command")? == 0 {
        return Ok(false);
    }
    client.read_exact(&mut header[1..]).context("the connection ended inside a command")?;
    let [_, _, a, b, c, d, ..] = header;
    let size = u32::from_be_bytes([a, b, c, d]) as usize;
    anyhow::ensure!(
        (HEADER_SIZE..=MAX_PACKET).contains(&size),
        "a command that says it has {size} bytes (possible are {HEADER_SIZE} to {MAX_PACKET}); where the next begins can't be known"
    );
    command.extend_from_slice(&header);
    command.resize(size, 0);
    client.read_exact(&mut command[HEADER_SIZE..]).context("the connection ended inside a command")?;
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_is_read_whole_or_the_client_is_dropped() {
        let whole = [0, 0xc1, 0, 0, 0, 12, 0, 0, 0, 0x50, 1, 2];
        let mut command = Vec::new();
        assert!(read_command(&mut &whole[..], &mut command).unwrap());
        assert_eq!(command, whole);
        assert!(!read_command(&mut &[][..], &mut command).unwrap());
        for cut in 1..whole.len() {
            assert!(read_command(&mut &whole[..cut], &mut command).is_err(), "{cut} bytes");
        }
        for size in [0u32, 9, MAX_PACKET as u32 + 1, u32::MAX] {
            let mut bad = whole;
            bad[2..6].copy_from_slice(&size.to_be_bytes());
            assert!(read_command(&mut &bad[..], &mut command).is_err(), "size {size}");
        }
    }
}
