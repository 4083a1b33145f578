//! The way to a manager or a TPM: a character device that takes a packet and gives one, or a socket that carries a stream of them.

use crate::error::Error;
use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;
use tpm_wire::{HEADER_SIZE, MAX_PACKET, ResponseHeader};
use zeroize::Zeroizing;

/// How long a socket may be silent. A device's driver has time-outs of its own.
const PATIENCE: Duration = Duration::from_secs(600);

/// An open way.
pub enum Link {
    /// `/dev/tpm0` or the like.
    Device(File),
    /// A Unix socket.
    Socket(UnixStream),
}

impl Link {
    /// Opens a character device.
    pub fn device(path: &Path) -> Result<Self, Error> {
        let opened = OpenOptions::new().read(true).write(true).open(path);
        opened.map(Self::Device).map_err(|error| {
            let hint = match error.kind() {
                std::io::ErrorKind::NotFound => {
                    "is this domain connected to the manager (xl vtpm-attach), and the driver xen-tpmfront loaded?"
                }
                std::io::ErrorKind::PermissionDenied => "root may open it",
                _ => "does another program, such as tcsd or a resource manager, have it open?",
            };
            Error::Unreachable(format!("cannot open {}: {error}; {hint}", path.display()))
        })
    }

    /// Connects to a Unix socket.
    pub fn socket(path: &Path) -> Result<Self, Error> {
        let connect = || {
            let stream = UnixStream::connect(path)?;
            stream.set_read_timeout(Some(PATIENCE))?;
            Ok(stream)
        };
        connect().map(Self::Socket).map_err(|error: std::io::Error| {
            Error::Unreachable(format!("cannot connect to {}: {error}", path.display()))
        })
    }

    /// One packet out, one packet back.
    pub fn transmit(&mut self, command: &[u8]) -> Result<Zeroizing<Vec<u8>>, Error> {
        if command.len() > MAX_PACKET {
            return Err(Error::Input(format!("the command has {} bytes; {MAX_PACKET} can be sent", command.len())));
        }
        let response = match self {
            Self::Device(device) => on_device(device, command),
            Self::Socket(stream) => on_stream(stream, command),
        };
        let response = response.map_err(|error| Error::Unreachable(format!("no answer: {error}")))?;
        match ResponseHeader::parse(&response) {
            Ok(_) => Ok(response),
            Err(_) => Err(Error::Malformed("the answer's header")),
        }
    }
}

fn on_device(device: &mut File, command: &[u8]) -> std::io::Result<Zeroizing<Vec<u8>>> {
    // The driver takes a whole command in one write and gives a whole response in one read.
    if device.write(command)? != command.len() {
        return Err(std::io::Error::other("the driver took a part of the command only"));
    }
    let mut response = Zeroizing::new(vec![0; MAX_PACKET + 1]);
    let length = device.read(&mut response)?;
    response.truncate(length);
    Ok(response)
}

fn on_stream(stream: &mut (impl Read + Write), command: &[u8]) -> std::io::Result<Zeroizing<Vec<u8>>> {
    stream.write_all(command)?;
    let mut response = Zeroizing::new(vec![0; HEADER_SIZE]);
    stream.read_exact(&mut response)?;
    let size = match response.as_slice() {
        [_, _, a, b, c, d, ..] => u32::from_be_bytes([*a, *b, *c, *d]) as usize,
        _ => 0,
    };
    if !(HEADER_SIZE..=MAX_PACKET).contains(&size) {
        return Err(std::io::Error::other(format!("an answer that says it has {size} bytes")));
    }
    let mut body = Zeroizing::new(vec![0; size - HEADER_SIZE]);
    stream.read_exact(&mut body)?;
    response.extend_from_slice(&body);
    Ok(response)
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Peer(Vec<u8>, std::io::Cursor<Vec<u8>>);

    impl Read for Peer {
        fn read(&mut self, out: &mut [u8]) -> std::io::Result<usize> {
            let n = out.len().min(3);
            self.1.read(&mut out[..n])
        }
    }

    impl Write for Peer {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.extend(&bytes[..bytes.len().min(7)]);
            Ok(bytes.len().min(7))
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_stream_in_pieces_and_one_that_lies() {
        let ask = |answer: &[u8]| {
            let mut peer = Peer(Vec::new(), std::io::Cursor::new(answer.to_vec()));
            let result = on_stream(&mut peer, b"a whole command");
            assert_eq!(peer.0, b"a whole command");
            result.ok().map(|bytes| bytes.to_vec())
        };
        let good = [1, 0xc4, 0, 0, 0, 12, 0, 0, 0, 0, 5, 6];
        assert_eq!(ask(&good).unwrap(), good);
        assert_eq!(ask(&[&good[..], &[9, 9]].concat()).unwrap(), good);
        for cut in 0..good.len() {
            assert_eq!(ask(&good[..cut]), None);
        }
        for size in [0u32, 9, MAX_PACKET as u32 + 1, u32::MAX] {
            let mut bad = good;
            bad[2..6].copy_from_slice(&size.to_be_bytes());
            assert_eq!(ask(&bad), None, "{size}");
        }
    }
}
