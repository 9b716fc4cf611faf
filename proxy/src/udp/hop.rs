//! How a session's datagrams go to the other proxy: in packets of their own where they fit and the
//! connection has such, else on the session's stream.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use weft_core::traffic::datagrams::{LEAVE, Piece, Reader, length_before};

use crate::transport::{Beside, Buffer, Wire};

/// Bytes that are put together for one write on the stream.
const TOGETHER_BYTES: usize = 16 << 10;
/// Datagrams, or reads from the stream, before others have their turn.
const TURN: usize = 32;

/// One session's way to the other proxy.
#[derive(Debug)]
pub(crate) struct Hop<W> {
    wire: W,
    input: Buffer,
    reader: Reader,
    /// For the stream; what stands before `sent` it has taken.
    output: Vec<u8>,
    sent: usize,
}

/// What an end of a session hears.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Heard {
    /// All that had come.
    All,
    /// The other end is through.
    End,
    /// There may be more.
    More,
}

impl<W: Wire> Hop<W> {
    /// Makes it of a stream that carries datagrams.
    pub(crate) fn new(wire: W) -> Self {
        let (input, reader) = (Buffer::default(), Reader::default());
        Self { wire, input, reader, output: Vec::new(), sent: 0 }
    }

    /// Sends a datagram; returns whether there was room.
    pub(super) fn send(&mut self, datagram: &[u8]) -> bool {
        match self.wire.send_beside(datagram) {
            Beside::Lost => return false,
            Beside::Sent => return true,
            Beside::Unfit => {}
        }
        let Some(length) = length_before(datagram) else { return false };
        self.output.extend(length);
        self.output.extend_from_slice(datagram);
        true
    }

    /// Asks the other end to open a new session for what comes.
    pub(super) fn send_leave(&mut self) {
        self.output.extend(LEAVE);
    }

    /// Ready when more can be put on the stream.
    pub(super) fn poll_room(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.output.len() - self.sent < TOGETHER_BYTES {
            return Poll::Ready(Ok(()));
        }
        self.poll_flush(cx)
    }

    /// Gives the stream what was put down. Ready when it has taken all.
    pub(super) fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.output.is_empty() {
            return Poll::Ready(Ok(()));
        }
        while self.sent < self.output.len() {
            let written = Pin::new(&mut self.wire).poll_write(cx, &self.output[self.sent..]);
            match ready!(written)? {
                0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                count => self.sent += count,
            }
        }
        ready!(Pin::new(&mut self.wire).poll_flush(cx))?;
        self.output.clear();
        self.output.shrink_to(TOGETHER_BYTES);
        self.sent = 0;
        Poll::Ready(Ok(()))
    }

    /// Shows what has come; `None` for the wish that a new session be opened.
    pub(super) fn poll_each(
        &mut self,
        cx: &mut Context<'_>,
        visit: &mut dyn FnMut(Option<&[u8]>),
    ) -> io::Result<Heard> {
        for _ in 0..TURN {
            let beside = match self.wire.poll_beside(cx) {
                Poll::Ready(datagram) => Some(datagram?),
                Poll::Pending => None,
            };
            if let Some(datagram) = beside {
                visit(Some(&datagram));
                continue;
            }
            match self.wire.poll_fill_ready(cx, &mut self.input) {
                Poll::Pending => {
                    self.input.release();
                    return Ok(Heard::All);
                }
                Poll::Ready(count) => {
                    if count? == 0 {
                        return Ok(Heard::End);
                    }
                }
            }
            let mut bytes = self.input.filled();
            let count = bytes.len();
            let wrong = |error| io::Error::new(io::ErrorKind::InvalidData, error);
            while let Some(piece) = self.reader.next(&mut bytes).map_err(wrong)? {
                match piece {
                    Piece::Datagram(datagram) => visit(Some(datagram)),
                    Piece::Leave => visit(None),
                }
            }
            self.input.consume(count);
        }
        Ok(Heard::More)
    }

    /// Returns how many datagrams that came found no room.
    pub(super) fn take_lost(&mut self) -> u64 {
        self.wire.take_lost()
    }

    /// Says that nothing follows. Whoever does not take that at once learns it when this is dropped.
    pub(super) fn finish(&mut self, cx: &mut Context<'_>) {
        let _ = self.poll_flush(cx);
        let _ = Pin::new(&mut self.wire).poll_shutdown(cx);
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use super::*;

    /// Hears what comes until there are so many.
    async fn hear<W: Wire>(hop: &mut Hop<W>, count: usize) -> Vec<Option<Vec<u8>>> {
        let mut came = Vec::new();
        poll_fn(|cx| {
            let heard = hop.poll_each(cx, &mut |it| came.push(it.map(<[u8]>::to_vec)));
            match heard.expect("readable") {
                Heard::All if came.len() < count => Poll::Pending,
                Heard::All | Heard::End => Poll::Ready(()),
                Heard::More => {
                    cx.waker().wake_by_ref();
                    Poll::Pending
                }
            }
        })
        .await;
        came
    }

    #[tokio::test]
    async fn datagrams_keep_their_bounds_on_a_stream() {
        let (near, far) = tokio::io::duplex(100);
        let (mut near, mut far) = (Hop::new(near), Hop::new(far));
        let sent = [Vec::new(), vec![1; 3], vec![2; 65_507], Vec::new(), vec![3; 1200]];
        for datagram in &sent {
            assert!(near.send(datagram));
        }
        near.send_leave();
        assert!(!near.send(&vec![0; 65_528]), "longer than any");
        let sending = poll_fn(|cx| near.poll_flush(cx));
        let (flushed, came) = tokio::join!(sending, hear(&mut far, 6));
        flushed.expect("sent");
        let want: Vec<_> = sent.into_iter().map(Some).chain([None]).collect();
        assert_eq!(came, want);
        poll_fn(|cx| {
            near.finish(cx);
            Poll::Ready(())
        })
        .await;
        assert!(hear(&mut far, 1).await.is_empty(), "the end");
    }

    #[tokio::test]
    async fn what_is_no_datagram_breaks_the_session() {
        use tokio::io::AsyncWriteExt;
        let (mut near, far) = tokio::io::duplex(100);
        let mut far = Hop::new(far);
        near.write_all(&[0xff, 0xfe]).await.expect("written");
        let heard = poll_fn(|cx| Poll::Ready(far.poll_each(cx, &mut |_| {}))).await;
        assert_eq!(heard.expect_err("none").kind(), io::ErrorKind::InvalidData);
    }
}
