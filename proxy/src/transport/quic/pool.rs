//! The QUIC connection of one worker to one endpoint, and whether there is to be one.

use std::cell::{Cell, RefCell};
use std::future::Future;
use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::Notify;
use tracing::{debug, info};
use weft_core::config_entry::MeshTransport;
use weft_core::traffic::Mix64;
use weft_core::traffic::mux::StreamKind;
use weft_core::traffic::path::{ANSWER_LIMIT, Attempt, Choice, Path};
use weft_runtime::clock;
use weft_runtime::task::TaskTree;

use super::link::{Company, Dialled, Link, late};
use super::settings::CallerConfig;
use super::stream::QuicStream;
use crate::http::chain;
use crate::listen::seeded;
use crate::observe::{QuicCounts, Slot};

/// How long an attempt goes on for which nobody waits any more.
const ATTEMPT_LIMIT: Duration = Duration::from_secs(3);

/// A connection to one endpoint under one identity.
pub(crate) struct QuicPool {
    link: RefCell<Option<Link>>,
    path: RefCell<Path>,
    /// The attempt under way: when it began, and who is told of its end.
    attempt: RefCell<Option<(Instant, Rc<Notify>)>>,
    /// Lets many that wait ask once whether anybody is there. Async, as that takes a round trip.
    checking: tokio::sync::Mutex<()>,
    config: RefCell<CallerConfig>,
    random: RefCell<Mix64>,
    is_retired: Cell<bool>,
    /// Whether a connection has been left whose streams may wait for requests still.
    has_left: Cell<bool>,
    counts: Arc<QuicCounts>,
    /// Where it is shown what is spoken.
    slot: Slot,
}

impl std::fmt::Debug for QuicPool {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("QuicPool").field("path", &self.path).finish_non_exhaustive()
    }
}

/// Opens a connection; what it has to be told apart for is the caller's affair.
pub(crate) trait Dial: 'static {
    /// Opens it.
    fn dial(
        self,
        config: CallerConfig,
    ) -> impl Future<Output = io::Result<(Dialled, Company)>> + 'static;
}

impl QuicPool {
    /// Makes a pool without a connection.
    pub(crate) fn new(
        (policy, config): (MeshTransport, CallerConfig),
        counts: Arc<QuicCounts>,
        slot: Slot,
    ) -> Rc<Self> {
        Rc::new(Self {
            link: RefCell::default(),
            path: RefCell::new(Path::new(policy)),
            attempt: RefCell::default(),
            checking: tokio::sync::Mutex::default(),
            config: RefCell::new(config),
            random: RefCell::new(seeded()),
            is_retired: Cell::new(false),
            has_left: Cell::new(false),
            counts,
            slot,
        })
    }

    /// Takes what the configuration says now; connections that are there keep what they have.
    pub(crate) fn configure(&self, policy: MeshTransport, config: CallerConfig) {
        self.path.borrow_mut().handle_policy(policy);
        *self.config.borrow_mut() = config;
        if policy == MeshTransport::Tcp {
            self.leave();
        }
    }

    /// Gets a stream; `None` when TCP is to be taken.
    pub(crate) async fn stream<D: Dial>(
        self: &Rc<Self>,
        kind: StreamKind,
        tasks: &TaskTree,
        dial: impl FnOnce() -> D,
    ) -> Option<QuicStream> {
        if let Some(link) = self.usable() {
            let is_there = link.is_fresh() || self.check(&link).await;
            return link.open(kind, tasks).filter(|_| is_there);
        }
        if self.is_retired.get() {
            return None;
        }
        let choice = self.path.borrow_mut().handle_call(clock::instant());
        let started = match choice {
            Choice::Tcp => return None,
            Choice::TcpWhileTrying => {
                self.start(tasks, dial());
                return None;
            }
            Choice::Await => {
                let under_way = self.attempt.borrow().clone();
                under_way.unwrap_or_else(|| self.start(tasks, dial()))
            }
        };
        let (began, done) = started;
        let limit = (began + ANSWER_LIMIT).into();
        // Who is late is not told of an end; there is none without one.
        let _ = tokio::time::timeout_at(limit, done.notified()).await;
        let stream = self.usable().and_then(|link| link.open(kind, tasks));
        self.counts.fallbacks.add(u64::from(stream.is_none()));
        stream
    }

    /// Whether a call that found a waiting TCP connection had better take a stream here. Else a
    /// connection is tried where that is due.
    pub(crate) fn is_better<D: Dial>(
        self: &Rc<Self>,
        tasks: &TaskTree,
        dial: impl FnOnce() -> D,
    ) -> bool {
        if self.usable().is_some() {
            return true;
        }
        let is_free = !self.is_retired.get() && self.attempt.borrow().is_none();
        let is_due = is_free && self.path.borrow().is_wanted();
        if is_due && self.path.borrow_mut().handle_call(clock::instant()) != Choice::Tcp {
            self.start(tasks, dial());
        }
        false
    }

    /// Whether a connection has been left since this was asked last: streams on it that wait are to be
    /// given up, so that it can end.
    pub(crate) fn has_left(&self) -> bool {
        self.has_left.take()
    }

    /// Takes note of how long a TCP connection took to open.
    pub(crate) fn note_round_trip(&self, round_trip: Duration) {
        self.path.borrow_mut().handle_round_trip(round_trip);
    }

    /// Lets the connection end with its streams and opens no other.
    pub(crate) fn retire(&self) {
        self.is_retired.set(true);
        self.leave();
    }

    /// Closes a connection that has been without streams for too long.
    pub(crate) fn close_idle(&self, now: Instant, idle_max: Duration) {
        let is_idle = self.link.borrow().as_ref().is_some_and(|it| it.is_idle(now, idle_max));
        if is_idle {
            self.leave();
        }
    }

    fn leave(&self) {
        if let Some(link) = self.link.borrow_mut().take() {
            link.leave();
            self.has_left.set(true);
        }
        self.slot.say("tcp");
    }

    fn usable(&self) -> Option<Link> {
        let link = self.link.borrow().clone()?;
        if link.is_open() {
            return Some(link);
        }
        *self.link.borrow_mut() = None;
        self.has_left.set(true);
        self.slot.say("tcp");
        if link.has_fallen_silent() {
            self.fall_silent();
        }
        None
    }

    /// Whether the other end of a connection answers; else the connection gets no further streams.
    async fn check(&self, link: &Link) -> bool {
        let _checking = self.checking.lock().await;
        // Somebody else may have asked meanwhile.
        if !link.is_open() {
            return false;
        }
        if link.is_fresh() || link.check().await {
            return true;
        }
        self.leave();
        self.fall_silent();
        self.counts.fallbacks.add(1);
        false
    }

    fn fall_silent(&self) {
        let now = clock::instant();
        self.path.borrow_mut().handle_silence(&mut self.random.borrow_mut(), now);
        self.slot.say("tcp, no answer over UDP");
        info!(endpoint = %self.slot.address(), "no answer over UDP any more: TCP is spoken");
    }

    /// Begins an attempt.
    fn start(self: &Rc<Self>, tasks: &TaskTree, dial: impl Dial) -> (Instant, Rc<Notify>) {
        let started = (clock::instant(), Rc::new(Notify::new()));
        *self.attempt.borrow_mut() = Some(started.clone());
        let (pool, config, inner) = (self.clone(), self.config.borrow().clone(), tasks.clone());
        tasks.spawn_local("connection over QUIC", async move {
            let dialled = tokio::time::timeout(ATTEMPT_LIMIT, dial.dial(config)).await;
            pool.finish(dialled.unwrap_or_else(|_| Err(late())), &inner);
            let attempt = pool.attempt.borrow_mut().take();
            attempt.inspect(|(_, done)| done.notify_waiters());
        });
        started
    }

    fn finish(&self, dialled: io::Result<(Dialled, Company)>, tasks: &TaskTree) {
        let was_silent = self.path.borrow().is_silent();
        let (link, attempt) = match dialled {
            Ok((dialled, company)) => {
                let (link, attended) = Link::begin(dialled, company, &self.counts);
                tasks.spawn_local("connection over QUIC", attended);
                let attempt = Attempt::Answered(link.round_trip());
                (Some(link), attempt)
            }
            Err(error) => {
                self.counts.attempts_failed.add(1);
                let endpoint = self.slot.address();
                debug!(%endpoint, error = chain(&error), "no connection over QUIC");
                if !was_silent {
                    info!(%endpoint, error = chain(&error), "QUIC does not work: TCP is spoken");
                    self.slot.say("tcp, no answer over UDP");
                }
                match error.kind() {
                    io::ErrorKind::ConnectionRefused => (None, Attempt::Refused),
                    _ => (None, Attempt::Unanswered),
                }
            }
        };
        let (mut random, now) = (self.random.borrow_mut(), clock::instant());
        let is_wanted = self.path.borrow_mut().handle_attempt(attempt, &mut random, now);
        let Some(link) = link else { return };
        if !is_wanted || self.is_retired.get() {
            return link.leave();
        }
        if was_silent {
            self.counts.returns.add(1);
            info!(endpoint = %self.slot.address(), "QUIC is spoken again");
        }
        self.slot.say("quic");
        *self.link.borrow_mut() = Some(link);
    }
}

impl Drop for QuicPool {
    fn drop(&mut self) {
        self.leave();
    }
}
