//! A message on its way out: what is there of a body is put down together and leaves together.

use std::cell::RefCell;
use std::error::Error;
use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker, ready};

use bytes::Bytes;
use h2::Reason;
use http_body::Body;
use weft_core::traffic::message::{InvalidMessage, write_end, write_reset};
use weft_runtime::task::TaskTree;

use super::channel::Channel;
use super::head;

/// A body whose head has been put down.
#[derive(Debug)]
pub(super) struct Upload<B> {
    channel: Rc<Channel>,
    body: B,
    has_all: bool,
}

/// States why a message did not leave whole.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Broken<E> {
    #[error("its body broke off")]
    Body(#[source] E),
    #[error("the stream broke off")]
    Stream(#[from] io::Error),
    #[error("its trailers are too long")]
    Trailers(#[from] InvalidMessage),
}

impl<E: Error + 'static> Broken<E> {
    /// Returns the reason that HTTP/2 has for it.
    pub(super) fn reason(&self) -> Reason {
        let mut cause: Option<&(dyn Error + 'static)> = self.source();
        while let Some(error) = cause {
            if let Some(reason) = error.downcast_ref::<h2::Error>().and_then(h2::Error::reason) {
                return reason;
            }
            cause = error.source();
        }
        Reason::INTERNAL_ERROR
    }
}

impl<B: Body<Data = Bytes> + Unpin> Upload<B>
where
    B::Error: Error + 'static,
{
    pub(super) fn new(channel: &Rc<Channel>, body: B) -> Self {
        Self { channel: channel.clone(), body, has_all: false }
    }

    /// Ready when the message has left whole.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Broken<B::Error>>> {
        while !self.has_all {
            if self.channel.is_full() {
                ready!(self.channel.poll_flush(cx))?;
            }
            if self.body.is_end_stream() {
                self.end();
                break;
            }
            match Pin::new(&mut self.body).poll_frame(cx) {
                Poll::Pending => {
                    ready!(self.channel.poll_flush(cx))?;
                    return Poll::Pending;
                }
                Poll::Ready(None) => self.end(),
                Poll::Ready(Some(Err(error))) => return Poll::Ready(Err(Broken::Body(error))),
                Poll::Ready(Some(Ok(frame))) => match frame.into_data() {
                    Ok(data) => self.channel.put_data(data),
                    Err(frame) => {
                        if let Ok(trailers) = frame.into_trailers() {
                            self.channel.put(|out| head::write_trailers(out, &trailers))?;
                            self.end();
                        }
                    }
                },
            }
        }
        ready!(self.channel.poll_flush(cx))?;
        Poll::Ready(Ok(()))
    }

    fn end(&mut self) {
        self.has_all = true;
        self.channel.put(write_end);
    }

    /// Tells the peer why there will be no more, as far as it listens.
    pub(super) fn give_up(&self, reason: Reason) -> impl Future<Output = ()> + use<B> {
        let channel = self.channel.clone();
        channel.put(|out| write_reset(out, reason.into()));
        async move {
            // Who hears nothing learns it by the stream's end.
            let _ = poll_fn(|cx| channel.poll_flush(cx)).await;
        }
    }
}

/// A request that goes on while its answer comes; it ends when nobody wants the answer any more.
#[derive(Debug)]
pub(super) struct Going<B> {
    shared: Rc<Shared<B>>,
}

#[derive(Debug)]
struct Shared<B> {
    upload: RefCell<Option<Upload<B>>>,
    waker: RefCell<Option<Waker>>,
}

impl<B: Body<Data = Bytes> + Unpin + 'static> Going<B>
where
    B::Error: Error + 'static,
{
    /// Goes on with a request in a task of its own.
    pub(super) fn start(upload: Upload<B>, tasks: &TaskTree) -> Self {
        let shared =
            Rc::new(Shared { upload: RefCell::new(Some(upload)), waker: RefCell::default() });
        let going = shared.clone();
        tasks.spawn_local("rest of a request", async move {
            let ended = poll_fn(|cx| {
                let upload = &mut *going.upload.borrow_mut();
                let Some(going_on) = upload else { return Poll::Ready(None) };
                *going.waker.borrow_mut() = Some(cx.waker().clone());
                let ended = ready!(going_on.poll(cx)).map_err(|broken| broken.reason());
                Poll::Ready(upload.take().map(|upload| (upload, ended)))
            });
            match ended.await {
                Some((upload, Ok(()))) => upload.channel.note_sent(),
                Some((upload, Err(reason))) => upload.give_up(reason).await,
                None => {}
            }
        });
        Self { shared }
    }
}

impl<B> Drop for Going<B> {
    fn drop(&mut self) {
        let upload = self.shared.upload.borrow_mut().take();
        drop(upload);
        if let Some(waker) = self.shared.waker.take() {
            waker.wake();
        }
    }
}
