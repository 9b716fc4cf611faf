//! Requests that were judged by their content, kept while they last: when intentions change
//! they are judged again, and cut if they are no longer allowed.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::future::Future;
use std::pin::pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use weft_core::canonical_path::{CanonicalPath, UnclearPath};
use weft_core::intention::{Asked, Judge, Standing, Token};
use weft_core::traffic::RequestView;

use crate::http::h1::is_like;
use crate::listen::Caller;

/// A request of which every header can be seen.
pub(crate) trait WholeRequest: RequestView {
    /// Returns within what time a calling proxy wants the head of the answer, if it says so.
    fn told_timeout(&self) -> Option<Duration> {
        None
    }

    /// Whether a calling proxy says that it has sent the request before.
    fn is_further_attempt(&self) -> bool {
        false
    }

    /// Shows each header that is passed on, in order.
    fn each_field(&self, visit: &mut dyn FnMut(&[u8], &[u8]));
}

/// What of a request intentions judge.
#[derive(Debug)]
pub(crate) struct Kept {
    method: String,
    path: Result<CanonicalPath, UnclearPath>,
    /// As they were when it came: a stream does not end with its token's time.
    tokens: Rc<[Token]>,
    /// Names and values, one behind the other.
    text: Vec<u8>,
    /// Where each name begins, where it ends and its value begins, and where that ends.
    fields: Vec<(usize, usize, usize)>,
}

impl Kept {
    pub(super) fn new(
        request: &dyn WholeRequest,
        path: Result<&CanonicalPath, UnclearPath>,
        tokens: Rc<[Token]>,
    ) -> Self {
        let (mut text, mut fields) = (Vec::new(), Vec::new());
        request.each_field(&mut |name, value| {
            let start = text.len();
            text.extend_from_slice(name);
            let between = text.len();
            text.extend_from_slice(value);
            fields.push((start, between, text.len()));
        });
        Self { method: request.method().to_owned(), path: path.cloned(), tokens, text, fields }
    }
}

impl RequestView for Kept {
    fn method(&self) -> &str {
        &self.method
    }

    fn path(&self) -> &[u8] {
        self.path.as_ref().map_or(b"", CanonicalPath::as_bytes)
    }

    fn query(&self) -> Option<&[u8]> {
        None
    }

    fn has_disguised(&self, name: &str) -> bool {
        self.fields.iter().any(|(start, between, _)| {
            let field = &self.text[*start..*between];
            is_like(field, name.as_bytes()) && !field.eq_ignore_ascii_case(name.as_bytes())
        })
    }

    fn each_header(&self, name: &str, visit: &mut dyn FnMut(&[u8])) {
        for (start, between, end) in &self.fields {
            if self.text[*start..*between].eq_ignore_ascii_case(name.as_bytes()) {
                visit(&self.text[*between..*end]);
            }
        }
    }
}

/// The requests under way on one connection.
#[derive(Debug, Default)]
pub(crate) struct UnderWay {
    /// The one that has the connection for itself.
    alone: RefCell<Option<Kept>>,
    /// Whether the next one waits to be judged: nothing of it has gone on.
    is_waiting: Cell<bool>,
    /// Those that share it, by numbers of no meaning.
    streams: RefCell<BTreeMap<u64, Stream>>,
    next: Cell<u64>,
}

#[derive(Debug)]
struct Stream {
    /// `None` when its content played no part.
    kept: Option<Kept>,
    cut: Rc<Cut>,
}

impl UnderWay {
    /// Takes note of the request that has the connection until the next one comes; `None` when its
    /// content played no part.
    pub(super) fn set_alone(&self, kept: Option<Kept>) {
        *self.alone.borrow_mut() = kept;
    }

    /// Takes note of whether the request that has the connection waits to be judged.
    pub(super) fn set_waiting(&self, is_waiting: bool) {
        self.is_waiting.set(is_waiting);
    }

    /// Takes note of a request that shares the connection.
    pub(super) fn enter(self: &Rc<Self>, kept: Option<Kept>) -> Entered {
        let number = self.next.get();
        self.next.set(number + 1);
        let cut = Rc::new(Cut::default());
        self.streams.borrow_mut().insert(number, Stream { kept, cut: cut.clone() });
        Entered { under_way: self.clone(), number, cut }
    }

    /// Judges the request that has the connection for itself.
    pub(super) fn is_alone_allowed(&self, rules: &Rules<'_>) -> bool {
        self.is_waiting.get() || rules.allow(self.alone.borrow().as_ref())
    }

    /// Cuts the streams whose requests are no longer allowed; returns whether there were any.
    pub(super) fn cut_refused(&self, rules: &Rules<'_>) -> bool {
        let streams = self.streams.borrow();
        let refused = streams.values().filter(|stream| !rules.allow(stream.kept.as_ref()));
        refused.map(|stream| stream.cut.cut()).count() > 0
    }
}

/// By what one caller's requests are judged now.
pub(super) struct Rules<'a> {
    pub(super) judge: &'a Judge,
    pub(super) standing: Standing,
    pub(super) caller: &'a Caller,
    pub(super) port: Option<u16>,
}

impl Rules<'_> {
    /// What is not known of a request counts against it.
    fn allow(&self, kept: Option<&Kept>) -> bool {
        let request = kept.map(|kept| Asked {
            request: kept,
            path: kept.path.as_ref().map_err(|unclear| *unclear),
            tokens: &kept.tokens,
        });
        self.judge.evaluate(self.standing, &self.caller.call(self.port, request)).allowed
    }
}

/// A request that shares a connection, until this is dropped.
#[derive(Debug)]
pub(crate) struct Entered {
    under_way: Rc<UnderWay>,
    number: u64,
    pub(crate) cut: Rc<Cut>,
}

impl Drop for Entered {
    fn drop(&mut self) {
        self.under_way.streams.borrow_mut().remove(&self.number);
    }
}

/// Ends one stream from outside.
#[derive(Debug, Default)]
pub(crate) struct Cut {
    is_cut: Cell<bool>,
    /// Of the one who waits for the answer, and of the one who passes it on after that.
    waker: RefCell<Option<Waker>>,
}

impl Cut {
    fn cut(&self) {
        self.is_cut.set(true);
        if let Some(waker) = self.waker.borrow_mut().take() {
            waker.wake();
        }
    }

    /// Whether the stream has to end; who asks is woken when that changes.
    pub(crate) fn poll_is_cut(&self, cx: &Context<'_>) -> bool {
        *self.waker.borrow_mut() = Some(cx.waker().clone());
        self.is_cut.get()
    }

    /// Runs a future until it ends or is cut; `None` when it was cut.
    pub(crate) async fn guard<F: Future>(&self, future: F) -> Option<F::Output> {
        let mut future = pin!(future);
        std::future::poll_fn(|cx| match self.poll_is_cut(cx) {
            true => Poll::Ready(None),
            false => future.as_mut().poll(cx).map(Some),
        })
        .await
    }
}
