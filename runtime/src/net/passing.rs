//! Listening sockets that go from one process to another, over a unix socket or from the
//! service manager.
//!
//! The kernel passes the socket itself, with the connections that wait in it: nobody who
//! connects notices. What is said beside it is the caller's affair.

use std::collections::VecDeque;
use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixListener as StdUnixListener;

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, recvmsg, sendmsg,
};
use rustix::process::{PidfdFlags, PidfdGetfdFlags, getpid, pidfd_getfd, pidfd_open};
use tokio::io::Interest;

use weft_core::local_address::{LocalAddress, SocketPath};

use super::{LocalListener, TcpListener, UnixListener, UnixStream};

/// Descriptors in one message; the kernel takes up to 253 (`SCM_MAX_FD`).
pub const PASSED_MAX: usize = 64;
/// The most descriptors that one message of another program could bring.
const KERNEL_PASSED_MAX: usize = 253;
/// Bytes of one message.
const MESSAGE_BYTES_MAX: usize = 64 << 10;
/// The bytes of a message's length.
const LENGTH_BYTES: usize = 4;
/// The first descriptor that the service manager passes.
///
/// **Source**: systemd: sd_listen_fds(3).
const ACTIVATED_FIRST: i32 = 3;
/// Sockets that a service manager passes at most: a thousand upstreams and more.
const ACTIVATED_MAX: i32 = 4096;

/// A listening stream socket that belongs to no runtime yet.
#[derive(Debug)]
pub struct ListeningSocket {
    descriptor: OwnedFd,
    address: LocalAddress,
}

/// A message with the descriptors that came along.
#[derive(Debug)]
pub struct Passed {
    /// What was said.
    pub bytes: Vec<u8>,
    /// In the order in which they were sent; at most [`PASSED_MAX`].
    pub descriptors: Vec<OwnedFd>,
}

/// The end of a unix socket over which messages with descriptors come.
///
/// Each message has its length before it, in four bytes, and the number of its descriptors in
/// one more.
#[derive(Debug)]
pub struct Passage {
    stream: UnixStream,
    bytes: Vec<u8>,
    descriptors: VecDeque<OwnedFd>,
}

impl ListeningSocket {
    /// Takes a descriptor that somebody else has opened.
    ///
    /// # Errors
    /// `InvalidInput` when it is no listening socket of TCP, or a unix one at a path; those of the
    /// operating system.
    pub fn adopt(descriptor: OwnedFd) -> io::Result<Self> {
        let wrong = |what: &str| io::Error::new(io::ErrorKind::InvalidInput, what.to_owned());
        let address = {
            let socket = socket2::SockRef::from(&descriptor);
            if socket.r#type()? != socket2::Type::STREAM || !socket.is_listener()? {
                return Err(wrong("a descriptor that was passed is no listening stream socket"));
            }
            socket.set_nonblocking(true)?;
            let address = socket.local_addr()?;
            let path = address.as_pathname().and_then(|path| path.to_str());
            let path = path.and_then(|path| SocketPath::parse(path).ok());
            match (address.as_socket(), path) {
                (Some(address), _) => LocalAddress::Tcp(address),
                (None, Some(path)) => LocalAddress::Unix(path),
                (None, None) => return Err(wrong("a socket that was passed has no address")),
            }
        };
        Ok(Self { descriptor, address })
    }

    /// Returns a second handle of a socket in use.
    ///
    /// # Errors
    /// Those of the operating system, such as too many open files.
    pub fn of(listener: &TcpListener) -> io::Result<Self> {
        Self::adopt(listener.as_fd().try_clone_to_owned()?)
    }

    /// Returns where it listens.
    pub fn address(&self) -> &LocalAddress {
        &self.address
    }

    /// Returns a second handle of the same socket: connections go to whoever accepts first.
    ///
    /// # Errors
    /// Those of the operating system, such as too many open files.
    pub fn try_clone(&self) -> io::Result<Self> {
        Ok(Self { descriptor: self.descriptor.try_clone()?, address: self.address.clone() })
    }

    /// Gives it to the runtime of the calling thread.
    ///
    /// # Errors
    /// Those of the operating system.
    /// # Panics
    /// Outside a runtime.
    pub fn into_listener(self) -> io::Result<LocalListener> {
        match self.address {
            LocalAddress::Tcp(_) => {
                TcpListener::from_std(self.descriptor.into()).map(LocalListener::Tcp)
            }
            LocalAddress::Unix(_) => {
                UnixListener::from_std(self.descriptor.into()).map(LocalListener::Unix)
            }
        }
    }

    /// Returns the descriptor, to be passed on.
    pub fn into_descriptor(self) -> OwnedFd {
        self.descriptor
    }
}

/// Takes a unix listener that another process has opened.
///
/// # Errors
/// `InvalidInput` when it is none; those of the operating system.
/// # Panics
/// Outside a runtime.
pub fn adopt_unix_listener(descriptor: OwnedFd) -> io::Result<UnixListener> {
    let socket = socket2::SockRef::from(&descriptor);
    if socket.domain()? != socket2::Domain::UNIX || !socket.is_listener()? {
        let what = "a descriptor that was passed is no listening unix socket";
        return Err(io::Error::new(io::ErrorKind::InvalidInput, what));
    }
    socket.set_nonblocking(true)?;
    UnixListener::from_std(StdUnixListener::from(descriptor))
}

impl Passage {
    /// Uses a connection for messages.
    pub fn new(stream: UnixStream) -> Self {
        Self { stream, bytes: Vec::new(), descriptors: VecDeque::new() }
    }

    /// Returns the connection.
    pub fn stream(&self) -> &UnixStream {
        &self.stream
    }

    /// Sends a message with descriptors; they stay open here.
    ///
    /// # Errors
    /// `InvalidInput` when it is too large; those of the operating system.
    /// # Cancel safety
    /// None: a message that was begun is cut off.
    pub async fn send(&mut self, bytes: &[u8], descriptors: &[OwnedFd]) -> io::Result<()> {
        if bytes.len() > MESSAGE_BYTES_MAX || descriptors.len() > PASSED_MAX {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "the message is too large"));
        }
        let mut message = (bytes.len() as u32).to_be_bytes().to_vec();
        message.push(descriptors.len() as u8);
        message.extend_from_slice(bytes);
        let borrowed: Vec<_> = descriptors.iter().map(AsFd::as_fd).collect();
        let mut sent = 0;
        while sent < message.len() {
            let send = || {
                let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(PASSED_MAX))];
                let mut control = SendAncillaryBuffer::new(&mut space);
                // They go with the first byte.
                if sent == 0 && !borrowed.is_empty() {
                    control.push(SendAncillaryMessage::ScmRights(&borrowed));
                }
                let slices = [IoSlice::new(&message[sent..])];
                Ok(sendmsg(&self.stream, &slices, &mut control, SendFlags::NOSIGNAL)?)
            };
            sent += self.stream.async_io(Interest::WRITABLE, send).await?;
        }
        Ok(())
    }

    /// Waits for the next message; `None` when the other end has closed.
    ///
    /// # Errors
    /// `InvalidData` for what no peer of ours sends; those of the operating system.
    /// # Cancel safety
    /// What came of a message is kept for the next call.
    pub async fn receive(&mut self) -> io::Result<Option<Passed>> {
        loop {
            if let Some(passed) = self.take()? {
                return Ok(Some(passed));
            }
            let stream = &self.stream;
            let receive = || {
                let mut bytes = [0; 4096];
                let mut space =
                    [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(KERNEL_PASSED_MAX))];
                let mut control = RecvAncillaryBuffer::new(&mut space);
                let mut slices = [IoSliceMut::new(&mut bytes)];
                let flags = RecvFlags::CMSG_CLOEXEC;
                let received = recvmsg(stream, &mut slices, &mut control, flags)?;
                let mut descriptors = Vec::new();
                for message in control.drain() {
                    if let RecvAncillaryMessage::ScmRights(rights) = message {
                        descriptors.extend(rights);
                    }
                }
                if received.flags.contains(ReturnFlags::CTRUNC) {
                    let what = "descriptors were lost: there are too many open files";
                    return Err(io::Error::other(what));
                }
                Ok((bytes[..received.bytes].to_vec(), descriptors))
            };
            let (bytes, descriptors) = stream.async_io(Interest::READABLE, receive).await?;
            self.descriptors.extend(descriptors);
            match (bytes.is_empty(), self.bytes.is_empty()) {
                (true, true) => return Ok(None),
                (true, false) => return Err(io::ErrorKind::UnexpectedEof.into()),
                (false, _) => self.bytes.extend_from_slice(&bytes),
            }
        }
    }

    /// Takes a message that is complete.
    fn take(&mut self) -> io::Result<Option<Passed>> {
        let wrong = |what: &str| io::Error::new(io::ErrorKind::InvalidData, what.to_owned());
        let Some((head, rest)) = self.bytes.split_first_chunk::<LENGTH_BYTES>() else {
            return Ok(None);
        };
        let length = u32::from_be_bytes(*head) as usize;
        if length > MESSAGE_BYTES_MAX {
            return Err(wrong("a message is too large"));
        }
        let Some((&count, rest)) = rest.split_first() else { return Ok(None) };
        let count = usize::from(count);
        if rest.len() < length {
            return Ok(None);
        }
        if count > PASSED_MAX || count > self.descriptors.len() {
            return Err(wrong("a message came without the descriptors that it tells of"));
        }
        let bytes = rest[..length].to_vec();
        self.bytes.drain(..LENGTH_BYTES + 1 + length);
        let descriptors = self.descriptors.drain(..count).collect();
        Ok(Some(Passed { bytes, descriptors }))
    }
}

/// Returns the sockets that the service manager has opened for this process, with the names
/// that it gives them; none when there is no such manager.
///
/// # Errors
/// When what the environment says is not so, or the kernel does not let them be taken.
///
/// **Source**: systemd: sd_listen_fds(3), `FileDescriptorName=` of systemd.socket(5).
pub fn activated() -> io::Result<Vec<(String, ListeningSocket)>> {
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse::<i32>().ok());
    let is_ours = number("LISTEN_PID") == Some(std::process::id().cast_signed());
    let Some(count) = number("LISTEN_FDS").filter(|count| is_ours && *count > 0) else {
        return Ok(Vec::new());
    };
    if count > ACTIVATED_MAX {
        let what = format!("LISTEN_FDS={count} is more than {ACTIVATED_MAX}");
        return Err(io::Error::new(io::ErrorKind::InvalidInput, what));
    }
    let names = std::env::var("LISTEN_FDNAMES").unwrap_or_default();
    let mut names = names.split(':');
    // Duplicates, as a process owns its descriptors only by what it has opened itself.
    let this = pidfd_open(getpid(), PidfdFlags::empty())?;
    (ACTIVATED_FIRST..ACTIVATED_FIRST + count)
        .map(|number| {
            let name = names.next().unwrap_or_default().to_owned();
            let socket = pidfd_getfd(&this, number, PidfdGetfdFlags::empty())
                .map_err(io::Error::from)
                .and_then(ListeningSocket::adopt);
            let socket = socket.map_err(|error| {
                let text = format!("LISTEN_FDS: descriptor {number} {name:?}: {error}");
                io::Error::new(error.kind(), text)
            });
            Ok((name, socket?))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;
    use std::time::Duration;

    use super::*;
    use crate::net::{bind_tcp, bind_tcp_shared, connect_tcp};

    const LIMIT: Duration = Duration::from_secs(5);

    async fn listener() -> TcpListener {
        bind_tcp(SocketAddr::from(([127, 0, 0, 1], 0))).await.expect("a free port")
    }

    fn ends() -> (Passage, Passage) {
        let (a, b) = UnixStream::pair().expect("a pair");
        (Passage::new(a), Passage::new(b))
    }

    #[tokio::test]
    async fn a_connection_that_waits_survives_the_move() {
        let (mut giver, mut taker) = ends();
        let listener = listener().await;
        let address = listener.local_addr().expect("bound");
        let _waits = connect_tcp(address, LIMIT).await.expect("it waits in the backlog");
        let passed = ListeningSocket::of(&listener).expect("a handle");
        giver.send(b"here", &[passed.into_descriptor()]).await.expect("sent");
        drop((giver, listener));
        let mut passed = taker.receive().await.expect("readable").expect("a message");
        assert_eq!((passed.bytes.as_slice(), passed.descriptors.len()), (&b"here"[..], 1));
        let socket = ListeningSocket::adopt(passed.descriptors.remove(0)).expect("a listener");
        assert_eq!(*socket.address(), address.into());
        let listener = socket.into_listener().expect("in this runtime");
        tokio::time::timeout(LIMIT, listener.accept()).await.expect("it waits").expect("whole");
        assert!(taker.receive().await.expect("the end").is_none());
    }

    #[tokio::test]
    async fn many_messages_with_many_sockets_keep_their_order() {
        let (mut giver, mut taker) = ends();
        let first = bind_tcp_shared(SocketAddr::from(([127, 0, 0, 1], 0))).expect("a free port");
        let address = first.local_addr().expect("bound");
        let sending = async {
            for round in 0..8_usize {
                let handles: Vec<OwnedFd> = (0..round * 9)
                    .map(|_| ListeningSocket::of(&first).expect("a handle").into_descriptor())
                    .collect();
                giver.send(&vec![round as u8; round * 8000], &handles).await.expect("sent");
            }
        };
        let receiving = async {
            for round in 0..8_usize {
                let passed = taker.receive().await.expect("readable").expect("a message");
                assert_eq!(passed.bytes, vec![round as u8; round * 8000]);
                assert_eq!(passed.descriptors.len(), round * 9);
                for descriptor in passed.descriptors {
                    let socket = ListeningSocket::adopt(descriptor).expect("a listener");
                    assert_eq!(*socket.address(), address.into());
                }
            }
        };
        tokio::join!(sending, receiving);
    }

    async fn write(stream: &UnixStream, bytes: &[u8]) {
        stream.writable().await.expect("writable");
        assert_eq!(stream.try_write(bytes).expect("written"), bytes.len());
    }

    #[tokio::test]
    async fn what_does_not_fit_is_refused() {
        let (mut giver, mut taker) = ends();
        giver.send(&vec![0; MESSAGE_BYTES_MAX + 1], &[]).await.expect_err("too large");
        let (a, mut b) = ends();
        write(a.stream(), &u32::MAX.to_be_bytes()).await;
        let error = b.receive().await.expect_err("a length beyond all bounds");
        assert_eq!(error.kind(), io::ErrorKind::InvalidData);
        let (a, mut b) = ends();
        write(a.stream(), &[0, 0, 0, 1, 9, b'x']).await;
        let error = b.receive().await.expect_err("descriptors that did not come");
        assert_eq!(error.kind(), io::ErrorKind::InvalidData);
        write(giver.stream(), &[0, 0]).await;
        drop(giver);
        let error = taker.receive().await.expect_err("cut off");
        assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
        let (a, b) = UnixStream::pair().expect("a pair");
        for stream in [a, b] {
            let handle = stream.as_fd().try_clone_to_owned().expect("a handle");
            ListeningSocket::adopt(handle).expect_err("it does not listen");
        }
        let unix = tempfile::tempdir().expect("a folder");
        let unix = UnixListener::bind(unix.path().join("s")).expect("a socket");
        let handle = unix.as_fd().try_clone_to_owned().expect("a handle");
        let passed = ListeningSocket::adopt(handle).expect("it listens");
        assert!(matches!(passed.address(), LocalAddress::Unix(_)), "{passed:?}");
        let handle = unix.as_fd().try_clone_to_owned().expect("a handle");
        adopt_unix_listener(handle).expect("but one of unix");
    }
}
