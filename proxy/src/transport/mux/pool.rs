//! The connections of one worker to one endpoint, each with many streams.

use std::cell::{Cell, RefCell};
use std::future::Future;
use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use weft_core::traffic::mux::{ALPN, StreamKind, Unopened};
use weft_runtime::task::TaskTree;

use super::begin;
use super::link::Link;
use crate::observe::MuxCounts;
use crate::transport::{ClientTls, HopWire, MuxStream};

/// Streams on each connection before another is opened beside it, where the peer has several
/// workers: the kernel gives each of its workers some of the connections.
const STREAMS_PER_LINK: usize = 32;
/// Connections opened for that reason.
const SPREAD_LINKS_MAX: usize = 8;
/// Connections to one endpoint, per worker: with 256 streams each, more than a worker has file
/// descriptors for.
const LINKS_MAX: usize = 64;

/// Connections to one endpoint under one identity.
#[derive(Default)]
pub(crate) struct MuxPool {
    links: RefCell<Vec<Link>>,
    /// Lets a storm of first requests open one connection, not one each. Async, as opening waits for
    /// the network.
    opening: tokio::sync::Mutex<()>,
    /// How often opening failed, and how it last did; who waited for one does not repeat it.
    failures: Cell<u64>,
    failure: RefCell<Option<(io::ErrorKind, String)>>,
    /// Whether who last answered has streams only as connections of their own.
    is_plain: Cell<bool>,
    is_retired: Cell<bool>,
}

impl std::fmt::Debug for MuxPool {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("MuxPool").field("links", &self.links.borrow().len()).finish_non_exhaustive()
    }
}

/// What a pool needs of the worker that it belongs to.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Host<'a> {
    pub(crate) tasks: &'a TaskTree,
    pub(crate) counts: &'a Arc<MuxCounts>,
    /// In this process.
    pub(crate) workers: u16,
}

impl MuxPool {
    /// Gets a stream, on a connection that is there or a new one; a connection of its own where the
    /// peer speaks nothing else.
    ///
    /// # Errors
    /// Those of `open`; `TimedOut` when another's attempt took longer than the limit.
    pub(crate) async fn wire<F: Future<Output = io::Result<ClientTls>>>(
        &self,
        kind: StreamKind,
        host: Host<'_>,
        limit: Duration,
        open: impl FnOnce() -> F,
    ) -> io::Result<HopWire> {
        if let Some(stream) = self.place(kind) {
            return Ok(HopWire::Mux(stream));
        }
        if !self.is_plain.get() {
            let failures = self.failures.get();
            let opening = tokio::time::timeout(limit, self.opening.lock()).await;
            let _opening = opening.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))?;
            if let Some(stream) = self.place(kind) {
                return Ok(HopWire::Mux(stream));
            }
            if let Some((kind, message)) = &*self.failure.borrow()
                && self.failures.get() != failures
            {
                // Else each one in the queue would wait for its own attempt after all before it.
                return Err(io::Error::new(*kind, message.clone()));
            }
            if !self.is_plain.get() {
                if self.links.borrow().len() >= LINKS_MAX {
                    return Err(io::Error::other("as many connections as are allowed are full"));
                }
                return match open().await {
                    Ok(tls) => self.keep(tls, kind, host),
                    Err(error) => {
                        self.failures.set(failures.wrapping_add(1));
                        *self.failure.borrow_mut() = Some((error.kind(), error.to_string()));
                        Err(error)
                    }
                };
            }
        }
        let tls = open().await?;
        self.keep(tls, kind, host)
    }

    /// Opens a connection beside those that are there.
    ///
    /// # Errors
    /// Those of `open`.
    pub(crate) async fn spread<F: Future<Output = io::Result<ClientTls>>>(
        &self,
        host: Host<'_>,
        open: impl FnOnce() -> F,
    ) -> io::Result<()> {
        let Ok(_opening) = self.opening.try_lock() else { return Ok(()) };
        let tls = open().await?;
        if tls.get_ref().1.alpn_protocol() == Some(ALPN.as_bytes()) && !self.is_retired.get() {
            self.add(tls, host);
        }
        Ok(())
    }

    /// Whether another connection would let more of the peer's workers take part.
    pub(crate) fn wants_spread(&self) -> bool {
        let links = self.links.borrow();
        let Some(workers) = links.first().and_then(Link::peer_workers) else { return false };
        let wanted = usize::from(workers).saturating_mul(2).min(SPREAD_LINKS_MAX);
        workers > 1
            && links.len() < wanted
            && links.iter().map(Link::streams).sum::<usize>() >= links.len() * STREAMS_PER_LINK
            && self.opening.try_lock().is_ok()
    }

    /// Opens a stream where there are fewest.
    fn place(&self, kind: StreamKind) -> Option<MuxStream> {
        let mut links = self.links.borrow_mut();
        links.retain(|link| link.can_open() != Err(Unopened::Leaving));
        links.iter().min_by_key(|link| link.streams())?.open(kind).ok()
    }

    fn keep(&self, tls: ClientTls, kind: StreamKind, host: Host<'_>) -> io::Result<HopWire> {
        let is_plain = tls.get_ref().1.alpn_protocol() != Some(ALPN.as_bytes());
        self.is_plain.set(is_plain);
        if is_plain {
            return Ok(HopWire::Own(tls));
        }
        let link = self.add(tls, host);
        let stream = link.open(kind).map_err(io::Error::other)?;
        if self.is_retired.get() {
            link.leave();
        }
        Ok(HopWire::Mux(stream))
    }

    fn add(&self, tls: ClientTls, host: Host<'_>) -> Link {
        let (link, driving) = begin(tls, host.workers, host.counts);
        host.tasks.spawn_local("connection of streams", driving);
        self.links.borrow_mut().push(link.clone());
        link
    }

    /// Lets the connections end with their streams and takes no new ones.
    pub(crate) fn retire(&self) {
        self.is_retired.set(true);
        self.links.borrow_mut().drain(..).for_each(|link| link.leave());
    }

    /// Closes connections that have been without streams for too long.
    pub(crate) fn close_idle(&self, now: Instant, idle_max: Duration) {
        self.links.borrow_mut().retain(|link| {
            let is_idle = link.is_idle(now, idle_max);
            if is_idle {
                link.leave();
            }
            !is_idle
        });
    }
}
