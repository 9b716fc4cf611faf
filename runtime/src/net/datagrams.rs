//! Many datagrams with one system call each way.
//!
//! A server under load finds several datagrams waiting: taking them together costs one call, and
//! so does answering them. One that is alone is answered as fast as with a call of its own.

use std::io::{self, IoSlice, IoSliceMut};
use std::net::SocketAddr;
use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::socket::{MsgFlags, MultiHeaders, SockaddrStorage, recvmmsg, sendmmsg};
use socket2::{Protocol, SockRef, Type};

use super::{Sharing, named, open_socket};

/// Datagrams that are taken together: more save little, and the first would wait for the last.
const TOGETHER_MAX: usize = 32;
/// Bytes of a datagram that are taken; what is longer is cut.
const BYTES_MAX: usize = 4_096;

/// A UDP socket for one thread that takes datagrams, and others that only send. Clones are the
/// same socket.
#[derive(Debug, Clone)]
pub struct DatagramSocket(Arc<socket2::Socket>);

impl DatagramSocket {
    /// Opens a UDP socket on an address that other sockets of this user may share.
    ///
    /// # Errors
    /// Those of the operating system; the message names the address.
    pub fn bind_shared(address: SocketAddr) -> io::Result<Self> {
        let open = || {
            let socket = open_socket(address, Type::DGRAM, Protocol::UDP, Sharing::Shared)?;
            socket.set_nonblocking(false)?;
            socket.bind(&address.into())?;
            Ok(Self(Arc::new(socket)))
        };
        open().map_err(|error| named(error, "open UDP", address))
    }

    /// Sends one datagram; when the system has no room for it, it is lost, as datagrams may be.
    ///
    /// # Errors
    /// Those of the operating system.
    pub fn send_to(&self, bytes: &[u8], to: SocketAddr) -> io::Result<()> {
        let flags = MsgFlags::MSG_DONTWAIT.bits();
        SockRef::from(&*self.0).send_to_with_flags(bytes, &to.into(), flags).map(drop)
    }

    /// Makes the place in which datagrams are taken; a [`Batch::exchange`] waits for `limit` at
    /// most.
    ///
    /// # Errors
    /// Those of the operating system.
    pub fn batch(&self, limit: Duration) -> io::Result<Batch> {
        self.0.set_read_timeout(Some(limit))?;
        Ok(Batch {
            socket: self.clone(),
            incoming: MultiHeaders::preallocate(TOGETHER_MAX, None),
            outgoing: MultiHeaders::preallocate(TOGETHER_MAX, None),
            taken: std::array::from_fn(|_| vec![0; BYTES_MAX].into_boxed_slice()),
            answers: std::array::from_fn(|_| Vec::with_capacity(BYTES_MAX)),
        })
    }
}

/// A place in which datagrams are taken and answered, by one thread.
pub struct Batch {
    socket: DatagramSocket,
    incoming: MultiHeaders<SockaddrStorage>,
    outgoing: MultiHeaders<SockaddrStorage>,
    taken: [Box<[u8]>; TOGETHER_MAX],
    answers: [Vec<u8>; TOGETHER_MAX],
}

impl Batch {
    /// Waits for datagrams, has each answered, and sends the answers; returns how many came, none
    /// when the time was up. An answer that stays empty is not sent.
    ///
    /// # Errors
    /// Those of the operating system on taking; what cannot be sent is lost.
    pub fn exchange(
        &mut self,
        mut answer: impl FnMut(&[u8], SocketAddr, &mut Vec<u8>),
    ) -> io::Result<usize> {
        let mut callers = [None; TOGETHER_MAX];
        let mut lengths = [0; TOGETHER_MAX];
        let mut count = 0;
        {
            let mut slices = self.taken.each_mut().map(|bytes| [IoSliceMut::new(bytes)]);
            let flags = MsgFlags::MSG_WAITFORONE;
            let fd = self.socket.0.as_raw_fd();
            match recvmmsg(fd, &mut self.incoming, slices.iter_mut(), flags, None) {
                Ok(messages) => {
                    for message in messages {
                        (callers[count], lengths[count]) = (message.address, message.bytes);
                        count += 1;
                    }
                }
                Err(Errno::EAGAIN | Errno::EINTR) => return Ok(0),
                Err(error) => return Err(error.into()),
            }
        }
        let mut sent_to = [None; TOGETHER_MAX];
        let mut answered = 0;
        for at in 0..count {
            let Some((caller, address)) =
                callers[at].and_then(|caller| Some((caller, socket_address(&caller)?)))
            else {
                continue;
            };
            let into = &mut self.answers[answered];
            into.clear();
            answer(&self.taken[at][..lengths[at]], address, into);
            if !into.is_empty() {
                sent_to[answered] = Some(caller);
                answered += 1;
            }
        }
        self.send(&sent_to[..answered]);
        Ok(count)
    }

    fn send(&mut self, to: &[Option<SockaddrStorage>]) {
        let mut first = 0;
        while first < to.len() {
            let slices = self.answers.each_ref().map(|bytes| [IoSlice::new(bytes)]);
            let (fd, flags) = (self.socket.0.as_raw_fd(), MsgFlags::MSG_DONTWAIT);
            let (slices, to) = (slices[first..].iter(), &to[first..]);
            // A caller that cannot be reached must not keep others from their answers.
            first += match sendmmsg(fd, &mut self.outgoing, slices, to, [], flags) {
                Ok(sent) => sent.count().max(1),
                Err(_) => 1,
            };
        }
    }
}

pub(super) fn socket_address(address: &SockaddrStorage) -> Option<SocketAddr> {
    let v4 = || address.as_sockaddr_in().map(|v4| SocketAddr::from((v4.ip(), v4.port())));
    let v6 = || {
        address.as_sockaddr_in6().map(|v6| {
            std::net::SocketAddrV6::new(v6.ip(), v6.port(), v6.flowinfo(), v6.scope_id()).into()
        })
    };
    v4().or_else(v6)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::UdpSocket;

    #[test]
    fn datagrams_are_answered_together_and_a_silent_one_is_left_out() {
        for address in ["127.0.0.1:0", "[::1]:0"] {
            let socket = DatagramSocket::bind_shared(address.parse().expect("an address"));
            let socket = socket.expect("a free port");
            let here = socket.0.local_addr().expect("bound").as_socket().expect("an IP address");
            let mut batch = socket.batch(Duration::from_millis(1)).expect("a place");
            assert_eq!(batch.exchange(|_, _, _| {}).expect("nothing came"), 0);
            let client = UdpSocket::bind(address).expect("a free port");
            for byte in 0..40 {
                client.send_to(&[byte], here).expect("sent");
            }
            let mut count = 0;
            while count < 40 {
                let came = batch.exchange(|taken, caller, answer| {
                    assert_eq!(Some(caller), client.local_addr().ok());
                    if taken[0] % 2 == 0 {
                        answer.extend([taken[0], 1]);
                    }
                });
                count += came.expect("the socket works");
            }
            assert_eq!(count, 40);
            for byte in (0..40).step_by(2) {
                let mut answer = [0; 8];
                let length = client.recv(&mut answer).expect("an answer");
                assert_eq!(&answer[..length], [byte, 1]);
            }
            socket.send_to(b"later", client.local_addr().expect("bound")).expect("sent");
            let mut answer = [0; 8];
            assert_eq!(client.recv(&mut answer).expect("it came"), 5);
        }
    }
}
