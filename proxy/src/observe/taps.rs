//! Requests and connections that somebody watches while they happen, on their way to the agent.
//!
//! A worker asks at the beginning of each whether anybody watches, which is one read while nobody
//! does; what is to be seen goes through a bounded queue, and is lost and counted where that is full.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};

use arc_swap::ArcSwapOption;
use tokio::sync::mpsc;
use weft_core::log_format::LogRecord;
use weft_core::name::ServiceName;
use weft_core::traffic::RequestView;
use weft_core::traffic::tap::{TapEvent, TapFilter, TapKind};

/// Watchers at once: each costs a look at every request. Their marks fit into a byte.
pub(crate) const TAPS_MAX: usize = 8;
/// What waits to be told to the agent: as much as goes in some messages.
const WAITING_MAX: usize = 1024;

/// Who watches a workload.
#[derive(Debug, Default)]
pub(crate) struct Taps {
    is_watched: AtomicBool,
    set: ArcSwapOption<TapSet>,
}

/// All who watch, and the way to them.
#[derive(Debug)]
pub(crate) struct TapSet {
    taps: Vec<Tap>,
    service: String,
    identity: String,
    door: mpsc::Sender<Seen>,
}

/// One who watches.
#[derive(Debug)]
pub(crate) struct Tap {
    /// The agent's number for it.
    pub(crate) id: u64,
    filter: TapFilter,
    /// How many more may be told at present.
    pub(crate) budget: AtomicI64,
    /// How many were not told, as there were too many.
    pub(crate) missed: AtomicU64,
}

/// Something that was seen.
#[derive(Debug)]
pub(crate) struct Seen {
    set: Arc<TapSet>,
    /// A bit for each who wants it.
    marks: u8,
    kind: TapKind,
    record: Box<LogRecord>,
}

/// A request or connection that somebody may want to see at its end.
#[derive(Debug)]
pub(crate) struct Watched {
    set: Arc<TapSet>,
    marks: u8,
}

/// Who calls, and who is called, as far as it is known.
pub(crate) type Between<'a> = (Option<&'a ServiceName>, Option<&'a ServiceName>);

impl Taps {
    /// Whether anybody watches.
    pub(crate) fn is_watched(&self) -> bool {
        self.is_watched.load(Ordering::Relaxed)
    }

    /// Has others watch, or nobody.
    pub(crate) fn put(&self, set: Option<Arc<TapSet>>) {
        self.is_watched.store(set.is_some(), Ordering::Relaxed);
        self.set.store(set);
    }

    /// Returns a request if somebody wants to see it.
    pub(crate) fn request<R: RequestView + ?Sized>(
        &self,
        (request, path): (&R, &[u8]),
        (from, to): Between<'_>,
    ) -> Option<Watched> {
        let begins = |filter: &TapFilter| {
            filter.is_between(from, to)
                && filter.begins((request.method(), path), |name, visit| {
                    request.each_header(name, visit);
                })
        };
        self.watched(begins)
    }

    /// Returns a connection of bytes if somebody wants to see it.
    pub(crate) fn connection(&self, (from, to): Between<'_>) -> Option<Watched> {
        self.watched(|filter| !filter.is_of_requests() && filter.is_between(from, to))
    }

    fn watched(&self, wants: impl Fn(&TapFilter) -> bool) -> Option<Watched> {
        if !self.is_watched() {
            return None;
        }
        let set = self.set.load_full()?;
        let mut marks = 0;
        for (at, tap) in set.taps.iter().enumerate().filter(|(_, tap)| wants(&tap.filter)) {
            // Whether one with a status is wanted is known at its end alone.
            if tap.filter.status.is_some() || tap.budget.load(Ordering::Relaxed) > 0 {
                marks |= 1 << at;
            } else {
                tap.missed.fetch_add(1, Ordering::Relaxed);
            }
        }
        (marks != 0).then_some(Watched { set, marks })
    }
}

impl Watched {
    /// Shows it to all who want it and may still be told.
    pub(crate) fn show(&self, kind: TapKind, record: &LogRecord) {
        let mut marks = 0;
        for (at, tap) in self.set.taps.iter().enumerate() {
            let is_wanted = self.marks & 1 << at != 0 && tap.filter.ends(record.status);
            if !is_wanted {
                continue;
            }
            if tap.budget.fetch_sub(1, Ordering::Relaxed) > 0 {
                marks |= 1 << at;
            } else {
                tap.budget.fetch_add(1, Ordering::Relaxed);
                tap.missed.fetch_add(1, Ordering::Relaxed);
            }
        }
        if marks == 0 {
            return;
        }
        let record = Box::new(record.clone());
        let seen = Seen { set: self.set.clone(), marks, kind, record };
        if let Err(unsent) = self.set.door.try_send(seen) {
            unsent.into_inner().miss();
        }
    }
}

impl Seen {
    /// Returns it as it is told, and the agent's numbers for those who want it.
    pub(crate) fn told(&self) -> (TapEvent, impl Iterator<Item = u64>) {
        let set = &self.set;
        let own = (set.service.as_str(), set.identity.as_str());
        let event = TapEvent::of(self.kind, &self.record, own);
        (event, self.wanting().map(|tap| tap.id))
    }

    fn wanting(&self) -> impl Iterator<Item = &Tap> {
        let taps = self.set.taps.iter().enumerate();
        taps.filter(|(at, _)| self.marks & 1 << at != 0).map(|(_, tap)| tap)
    }

    fn miss(&self) {
        for tap in self.wanting() {
            tap.missed.fetch_add(1, Ordering::Relaxed);
        }
    }
}

impl TapSet {
    /// Makes the way to those who watch a service, and its other end.
    pub(crate) fn new(
        filters: impl IntoIterator<Item = (u64, TapFilter)>,
        (service, identity): (String, String),
    ) -> (Arc<Self>, mpsc::Receiver<Seen>) {
        let (door, seen) = mpsc::channel(WAITING_MAX);
        let tap = |(id, filter)| {
            let (budget, missed) = (AtomicI64::new(0), AtomicU64::new(0));
            Tap { id, filter, budget, missed }
        };
        let taps = filters.into_iter().take(TAPS_MAX).map(tap).collect();
        (Arc::new(Self { taps, service, identity, door }), seen)
    }

    /// Returns all who watch.
    pub(crate) fn taps(&self) -> &[Tap] {
        &self.taps
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(status: u16) -> LogRecord {
        LogRecord {
            status,
            direction: "inbound",
            protocol: Some("HTTP/1.1"),
            ..LogRecord::default()
        }
    }

    fn filter(words: &[(&'static str, &str)]) -> TapFilter {
        let mut filter = TapFilter::default();
        words.iter().for_each(|(field, text)| filter.add(field, text).expect("a filter"));
        filter
    }

    #[test]
    fn each_gets_what_it_wants_and_no_more_than_it_may() {
        let taps = Taps::default();
        assert!(taps.connection((None, None)).is_none(), "nobody watches");
        let failures = filter(&[("status", "5xx")]);
        let all = [(7, TapFilter::default()), (8, failures)];
        let (set, mut seen) = TapSet::new(all, ("web".to_owned(), "spiffe://web".to_owned()));
        taps.put(Some(set.clone()));
        assert!(taps.connection((None, None)).is_none(), "none may be told yet");
        assert_eq!(set.taps()[0].missed.swap(0, Ordering::Relaxed), 1);
        set.taps().iter().for_each(|tap| tap.budget.store(2, Ordering::Relaxed));
        let request = || taps.watched(|_| true).expect("both may want it");
        let both = [request(), request(), request()];
        for (watched, status) in both.iter().zip([200, 503, 503]) {
            watched.show(TapKind::Request, &record(status));
        }
        let told: Vec<_> = std::iter::from_fn(|| seen.try_recv().ok())
            .map(|it| {
                let (event, ids) = it.told();
                (event.status, ids.collect::<Vec<_>>())
            })
            .collect();
        assert_eq!(told, [(200, vec![7]), (503, vec![7, 8]), (503, vec![8])]);
        assert_eq!(set.taps()[0].missed.load(Ordering::Relaxed), 1);
        let late = request();
        drop(seen);
        set.taps()[1].budget.store(1, Ordering::Relaxed);
        late.show(TapKind::Request, &record(500));
        assert_eq!(set.taps()[1].missed.load(Ordering::Relaxed), 1, "nobody reads");
        taps.put(None);
        assert!(taps.connection((None, None)).is_none());
    }
}
