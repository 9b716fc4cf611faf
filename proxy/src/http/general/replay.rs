//! The body of a request that may have to be sent again: what has been read of it is kept, and each attempt
//! begins with that.

use std::cell::RefCell;
use std::fmt;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::HeaderMap;
use http_body::{Body, Frame, SizeHint};
use weft_core::traffic::BodyKept;

use super::asked::{AskedError, RequestBody};
use super::incoming::{BrokenBody, Incoming};
use super::progress::Progress;

/// Pieces that are kept beside the bytes' bound: honest senders have fewer, and each costs some bytes of its own.
const PIECES_MAX: usize = 4_096;

/// A body for as many attempts as there are. Dropping it does not end the one under way.
pub(crate) struct Replay(Rc<RefCell<Source>>);

/// What comes from the caller.
type Coming = Pin<Box<dyn Body<Data = Bytes, Error = AskedError>>>;

/// Where all attempts get it from.
struct Source {
    body: Coming,
    /// What was read, in order; empty once it is not kept any more.
    kept: Vec<Piece>,
    room: usize,
    state: State,
    /// The attempt that is under way: those before it get nothing any more.
    attempt: u32,
}

/// What there is of the body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// The caller broke it off.
    Broken,
    /// All that was read.
    Kept,
    /// What is not read yet.
    Lost,
}

#[derive(Debug, Clone)]
enum Piece {
    Data(Bytes),
    Trailers(HeaderMap),
}

/// One attempt's reading of the body.
pub(crate) struct Reading {
    source: Rc<RefCell<Source>>,
    attempt: u32,
    /// Pieces that this attempt has had of those that are kept.
    had: usize,
}

impl Replay {
    /// Keeps at most so many bytes of a body.
    pub(crate) fn new(
        body: impl Body<Data = Bytes, Error = AskedError> + 'static,
        room: usize,
    ) -> Self {
        let (body, kept, state) = (Box::pin(body), Vec::new(), State::Kept);
        Self(Rc::new(RefCell::new(Source { body, kept, room, state, attempt: 0 })))
    }

    /// Returns the body for the next attempt, which begins where the first one began.
    pub(crate) fn begin(&self) -> RequestBody {
        let attempt = {
            let source = &mut *self.0.borrow_mut();
            source.attempt += 1;
            source.attempt
        };
        let reading = Reading { source: self.0.clone(), attempt, had: 0 };
        // What comes from the caller is counted and bounded where it is read for the first time.
        RequestBody::new(Incoming::Again(reading), Rc::new(Progress::default()), u64::MAX)
    }

    /// Whether another attempt would have all of it.
    pub(crate) fn state(&self) -> BodyKept {
        match self.0.borrow().state {
            State::Broken | State::Lost => BodyKept::No,
            State::Kept => BodyKept::Yes,
        }
    }

    /// Whether all of it has come from the caller.
    pub(crate) fn is_over(&self) -> bool {
        self.0.borrow().body.is_end_stream()
    }

    /// Whether the caller has broken it off.
    pub(crate) fn is_broken(&self) -> bool {
        self.0.borrow().state == State::Broken
    }

    /// Keeps nothing any more: there will be no other attempt. What the one under way has not had yet stays.
    pub(crate) fn forget(&self) {
        self.0.borrow_mut().room = 0;
    }
}

impl fmt::Debug for Reading {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { attempt, had, .. } = self;
        f.debug_struct("Reading")
            .field("attempt", attempt)
            .field("had", had)
            .finish_non_exhaustive()
    }
}

impl Source {
    fn keep(&mut self, frame: &Frame<Bytes>) {
        if self.state != State::Kept {
            return;
        }
        let piece = match (frame.data_ref(), frame.trailers_ref()) {
            (Some(data), _) => Piece::Data(data.clone()),
            (None, Some(trailers)) => Piece::Trailers(trailers.clone()),
            (None, None) => return,
        };
        let bytes = piece.bytes();
        if bytes > self.room || self.kept.len() >= PIECES_MAX {
            (self.state, self.kept) = (State::Lost, Vec::new());
            return;
        }
        self.room -= bytes;
        self.kept.push(piece);
    }
}

impl Piece {
    fn bytes(&self) -> usize {
        match self {
            Self::Data(data) => data.len(),
            Self::Trailers(fields) => {
                fields.iter().map(|(name, value)| name.as_str().len() + value.len()).sum()
            }
        }
    }

    fn frame(&self) -> Frame<Bytes> {
        match self {
            Self::Data(data) => Frame::data(data.clone()),
            Self::Trailers(fields) => Frame::trailers(fields.clone()),
        }
    }
}

impl Body for Reading {
    type Data = Bytes;
    type Error = BrokenBody;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BrokenBody>>> {
        let this = &mut *self;
        let source = &mut *this.source.borrow_mut();
        if source.attempt != this.attempt {
            return Poll::Ready(Some(Err(BrokenBody::Superseded)));
        }
        if let Some(piece) = source.kept.get(this.had) {
            this.had += 1;
            return Poll::Ready(Some(Ok(piece.frame())));
        }
        match ready!(source.body.as_mut().poll_frame(cx)) {
            Some(Ok(frame)) => {
                source.keep(&frame);
                this.had = source.kept.len();
                Poll::Ready(Some(Ok(frame)))
            }
            Some(Err(error)) => {
                source.state = State::Broken;
                Poll::Ready(Some(Err(BrokenBody::Asked(Box::new(error)))))
            }
            None => Poll::Ready(None),
        }
    }

    fn is_end_stream(&self) -> bool {
        let source = self.source.borrow();
        source.attempt != self.attempt
            || self.had >= source.kept.len() && source.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        let source = self.source.borrow();
        let (left, rest) =
            (source.kept.get(self.had..).unwrap_or_default(), source.body.size_hint());
        let has_trailers = left.iter().any(|piece| matches!(piece, Piece::Trailers(_)));
        let Some(rest) = rest.exact().filter(|_| !has_trailers) else {
            // Framed by its length it would lose them.
            return SizeHint::default();
        };
        let bytes: usize = left.iter().map(Piece::bytes).sum();
        SizeHint::with_exact(rest + bytes as u64)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;
    use std::task::Waker;

    use super::*;

    /// Reads until nothing more is there.
    fn read(body: &mut RequestBody) -> Vec<u8> {
        let mut cx = Context::from_waker(Waker::noop());
        let mut all = Vec::new();
        while let Poll::Ready(Some(Ok(frame))) = Pin::new(&mut *body).poll_frame(&mut cx) {
            all.extend(frame.into_data().expect("no trailers"));
        }
        all
    }

    struct Pieces(VecDeque<&'static str>);

    impl Body for Pieces {
        type Data = Bytes;
        type Error = AskedError;

        fn poll_frame(
            mut self: Pin<&mut Self>,
            _cx: &mut Context<'_>,
        ) -> Poll<Option<Result<Frame<Bytes>, AskedError>>> {
            let piece = self.0.pop_front().map(|piece| Bytes::from_static(piece.as_bytes()));
            Poll::Ready(piece.map(|piece| Ok(Frame::data(piece))))
        }

        fn is_end_stream(&self) -> bool {
            self.0.is_empty()
        }

        fn size_hint(&self) -> SizeHint {
            SizeHint::with_exact(self.0.iter().map(|piece| piece.len() as u64).sum())
        }
    }

    fn source(pieces: &[&'static str]) -> Pieces {
        Pieces(pieces.iter().copied().collect())
    }

    #[test]
    fn each_attempt_has_the_whole_body_while_it_fits() {
        let replay = Replay::new(source(&["ab", "cd", "e"]), 5);
        let mut first = replay.begin();
        assert_eq!(first.size_hint().exact(), Some(5));
        let mut cx = Context::from_waker(Waker::noop());
        assert!(Pin::new(&mut first).poll_frame(&mut cx).is_ready());
        let mut second = replay.begin();
        assert!(read(&mut first).is_empty(), "nothing is for an attempt that has ended");
        assert_eq!(second.size_hint().exact(), Some(5));
        assert_eq!(read(&mut second), b"abcde");
        assert_eq!(replay.state(), BodyKept::Yes);
        assert!(second.is_end_stream());
        assert_eq!(read(&mut replay.begin()), b"abcde");
    }

    #[test]
    fn a_body_that_is_too_long_goes_on_once() {
        let replay = Replay::new(source(&["ab", "cd", "e"]), 4);
        let mut first = replay.begin();
        assert_eq!(read(&mut first), b"abcde");
        assert_eq!(replay.state(), BodyKept::No);
    }
}
