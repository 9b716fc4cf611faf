//! A connection that the host has redirected here: led to the upstream whose virtual address it was
//! for, passed on as it is, or refused. `core::traffic` decides.

use std::collections::BTreeSet;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tracing::{debug, warn};
use weft_core::traffic::{CapturedCall, Course};
use weft_runtime::net::{self, TcpStream};

use super::accept;
use crate::http::chain;
use crate::listen::{Live, Worker};
use crate::tcp::{Tally, copy_both};
use crate::transport::{Buffer, Timer};

/// How long to wait for whoever was called outside the mesh; a chain's default is the same.
const CONNECT_LIMIT: Duration = Duration::from_secs(5);

/// The connections that this process has made to where captured ones were to go. One of them that is
/// captured itself would go in a circle.
///
/// Looked at once for each connection that is passed on, by all workers: what one makes, another
/// may get.
#[derive(Debug, Default)]
pub(crate) struct Onward {
    /// Their own ends.
    open: Mutex<BTreeSet<SocketAddr>>,
    is_warned: AtomicBool,
}

impl Onward {
    fn has(&self, end: SocketAddr) -> bool {
        self.open.lock().unwrap_or_else(PoisonError::into_inner).contains(&end)
    }

    /// Says once that the rules redirect what this process itself sends.
    fn warn(&self, called: SocketAddr) {
        if !self.is_warned.swap(true, Ordering::Relaxed) {
            warn!(
                %called,
                "a connection of this proxy was redirected to it; the host's rules must leave out its user"
            );
        }
    }
}

/// One of them, while it is open.
struct Passing {
    onward: Arc<Onward>,
    end: SocketAddr,
}

impl Passing {
    fn new(onward: &Arc<Onward>, stream: &TcpStream) -> io::Result<Self> {
        let end = stream.local_addr()?;
        onward.open.lock().unwrap_or_else(PoisonError::into_inner).insert(end);
        Ok(Self { onward: onward.clone(), end })
    }
}

impl Drop for Passing {
    fn drop(&mut self) {
        self.onward.open.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.end);
    }
}

/// Serves one connection to its end.
pub(crate) async fn accept_captured(
    worker: Rc<Worker>,
    stream: TcpStream,
    taken_at: SocketAddr,
    live: Rc<Live>,
) {
    match course(&worker, &stream, taken_at) {
        Course::Upstream(number) => {
            worker.captured_counts().led.add(1);
            let bind = worker.current().workload.upstreams[number].bind.clone();
            accept(worker, stream, bind, live).await;
        }
        Course::Elsewhere(called) => {
            worker.captured_counts().passed.add(1);
            Box::pin(pass_on(&worker, stream, called, &live)).await;
        }
        Course::Probe => answer_probe(&worker, &stream),
        Course::Refused(cause) => {
            debug!(%taken_at, cause, "captured connection refused");
            worker.captured_counts().refused.add(1);
            refuse(&stream);
        }
    }
}

fn course(worker: &Worker, stream: &TcpStream, taken_at: SocketAddr) -> Course {
    let called = match net::original_destination(stream) {
        Ok(called) => called,
        // Whoever calls the port itself was not redirected.
        Err(error) => {
            debug!(error = chain(&error), "a captured connection does not tell where it was to go");
            return Course::Refused("not-captured");
        }
    };
    let is_own = stream.peer_addr().is_ok_and(|peer| worker.onward.has(peer));
    if is_own {
        worker.onward.warn(called);
    }
    let local = worker.current();
    let captured = local.workload.snapshot.captured.as_ref();
    let destinations_only = captured.is_some_and(|captured| captured.destinations_only);
    let call = CapturedCall { called, taken_at, is_own, destinations_only };
    call.course(local.workload.upstreams.iter().map(|upstream| upstream.virtual_ip))
}

/// Says who took the call, in one line.
fn answer_probe(worker: &Worker, stream: &TcpStream) {
    let line = format!("weft {}\n", worker.current().workload.snapshot.service);
    // An empty socket has room for it; whoever has left meanwhile does not want it.
    let _ = stream.try_write(line.as_bytes());
}

/// Carries bytes to where the connection was to go, as if it had not been redirected.
async fn pass_on(worker: &Worker, mut stream: TcpStream, called: SocketAddr, live: &Live) {
    let (mut there, _passing) = match reach(worker, called).await {
        Ok(reached) => reached,
        Err(error) => {
            debug!(%called, error = chain(&error), "captured connection leads nowhere");
            worker.captured_counts().unreached.add(1);
            return refuse(&stream);
        }
    };
    live.set_busy(true);
    let tally = Tally::default();
    let (from_caller, from_called) = (Buffer::default(), Buffer::default());
    let how = (live.limits(), &tally);
    let ends = ((&mut stream, from_caller), (&mut there, from_called));
    if let Some(error) = copy_both(ends.0, ends.1, how, Timer::default()).await {
        debug!(%called, error = chain(&error), "captured connection broke off");
    }
}

async fn reach(worker: &Worker, called: SocketAddr) -> io::Result<(TcpStream, Passing)> {
    let stream = net::connect_tcp(called, CONNECT_LIMIT).await?;
    let passing = Passing::new(&worker.onward, &stream)?;
    Ok((stream, passing))
}

/// Has the caller see that nobody is there, instead of an end that looks like an answer.
fn refuse(stream: &TcpStream) {
    // Where it cannot be set the connection is broken already.
    let _ = stream.set_zero_linger();
}
