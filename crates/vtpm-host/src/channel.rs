//! A descriptor that packets come and go by: a socket, or a character device that keeps packets apart.

use rustix::io::Errno;
use rustix::net::sockopt::{self, Timeout};
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendFlags, recvmsg, send};
use std::io::{self, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

/// Bytes taken from the kernel at a time.
const PIECE: usize = 4096;
/// Bytes that wait here for the rest of a message; the others wait with the kernel.
const ENOUGH: usize = 16 * PIECE;
/// How long a peer may leave an answer lying until it counts as dead.
const PATIENCE: Duration = Duration::from_secs(10);

/// What [`Channel::receive`] found.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Received {
    /// Something new is in [`Channel::inbox`].
    Something,
    /// Nothing new; the peer is there.
    Nothing,
    /// The peer is gone.
    Gone,
}

/// One connection.
pub struct Channel {
    fd: OwnedFd,
    is_socket: bool,
    /// What came and was not used yet.
    pub inbox: Vec<u8>,
    /// A descriptor that came with it; of several the last.
    pub passed: Option<OwnedFd>,
}

impl Channel {
    /// A connection over `fd`.
    pub fn new(fd: OwnedFd) -> Self {
        let is_socket = sockopt::socket_type(&fd).is_ok();
        if is_socket {
            // None is vital, and the last two are for TCP only: a host that vanished must not keep its place for ever.
            let _ = sockopt::set_socket_timeout(&fd, Timeout::Send, Some(PATIENCE));
            let _ = sockopt::set_socket_keepalive(&fd, true);
            let _ = sockopt::set_tcp_nodelay(&fd, true);
        }
        Self { fd, is_socket, inbox: Vec::new(), passed: None }
    }

    /// Whether there is room for more input.
    pub fn has_room(&self) -> bool {
        self.inbox.len() < ENOUGH
    }

    /// Takes what has come, without waiting. Of a device only if `poll` says that there is something.
    pub fn receive(&mut self) -> Received {
        if !self.has_room() {
            return Received::Nothing;
        }
        let mut piece = [0; PIECE];
        let outcome =
            if self.is_socket { self.receive_message(&mut piece) } else { rustix::io::read(&self.fd, &mut piece) };
        match outcome {
            Ok(0) => Received::Gone,
            Ok(count) => {
                self.inbox.extend_from_slice(piece.get(..count).unwrap_or_default());
                Received::Something
            }
            Err(Errno::AGAIN | Errno::INTR) => Received::Nothing,
            Err(error) => {
                log::debug!("a connection ended: {error}");
                Received::Gone
            }
        }
    }

    fn receive_message(&mut self, piece: &mut [u8]) -> Result<usize, Errno> {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(4))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let flags = RecvFlags::DONTWAIT | RecvFlags::CMSG_CLOEXEC;
        let message = recvmsg(&self.fd, &mut [IoSliceMut::new(piece)], &mut control, flags)?;
        for item in control.drain() {
            if let RecvAncillaryMessage::ScmRights(descriptors) = item {
                descriptors.for_each(|fd| self.passed = Some(fd));
            }
        }
        Ok(message.bytes)
    }

    /// Sends all of `bytes`; an error if the peer is gone or does not take them in time.
    pub fn send(&self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            let outcome = if self.is_socket {
                send(&self.fd, bytes, SendFlags::NOSIGNAL)
            } else {
                rustix::io::write(&self.fd, bytes)
            };
            match outcome {
                Ok(count) => bytes = bytes.get(count..).unwrap_or_default(),
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => return Err(io::ErrorKind::TimedOut.into()),
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }
}

impl AsFd for Channel {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}
