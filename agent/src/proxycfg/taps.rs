//! Those who watch requests and connections of this host's proxies live: whom each wants to see, and
//! the way of what the proxies have seen to them.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::{mpsc, watch};
use weft_core::name::ServiceName;
use weft_core::traffic::tap::{TapEvent, TapFilter, TapRate};
use weft_runtime::clock;

/// Watchers at once: each costs the proxies a look at every request.
const TAPS_MAX: usize = 8;
/// Events that wait for one of them; those beyond are lost, and counted.
const EVENTS_MAX: usize = 1_024;
/// How often one is told at least how much it has missed.
const TOLD_EVERY: Duration = Duration::from_secs(1);

/// What somebody wants to see.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct TapWish {
    /// Whose proxies are to look.
    pub(crate) service: ServiceName,
    pub(crate) filter: TapFilter,
    /// Events a second at most.
    pub(crate) rate: u32,
}

/// What somebody is told.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Told {
    Event(Box<TapEvent>),
    /// So many were not told, as there were too many or the reader was too slow.
    Missed(u64),
}

/// All who watch. Clones share them.
#[derive(Debug, Clone, Default)]
pub(crate) struct Taps(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    open: Mutex<BTreeMap<u64, Open>>,
    next_id: AtomicU64,
    /// Rises with each change.
    changes: watch::Sender<u64>,
}

#[derive(Debug)]
struct Open {
    wish: TapWish,
    /// Over all proxies.
    rate: TapRate,
    events: mpsc::Sender<Box<TapEvent>>,
    missed: u64,
}

/// What one who watches is told; proxies look no more once it is dropped.
#[derive(Debug)]
pub(crate) struct TapStream {
    id: u64,
    events: mpsc::Receiver<Box<TapEvent>>,
    taps: Taps,
    /// An event that comes after what was missed before it.
    next: Option<Box<TapEvent>>,
}

/// States that as many watch as may.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{TAPS_MAX} watch proxies of this host already; end one of them")]
pub(crate) struct TooManyTaps;

impl Taps {
    /// Begins to watch.
    ///
    /// # Errors
    /// [`TooManyTaps`].
    pub(crate) fn open(&self, wish: TapWish) -> Result<TapStream, TooManyTaps> {
        let (sender, events) = mpsc::channel(EVENTS_MAX);
        let id = self.0.next_id.fetch_add(1, Ordering::Relaxed);
        {
            let mut open = self.0.open.lock();
            if open.len() >= TAPS_MAX {
                return Err(TooManyTaps);
            }
            let rate = TapRate::new(wish.rate, clock::instant());
            open.insert(id, Open { wish, rate, events: sender, missed: 0 });
        }
        self.0.changes.send_modify(|change| *change += 1);
        Ok(TapStream { id, events, taps: self.clone(), next: None })
    }

    /// Returns what tells the proxies' streams that wishes have changed.
    pub(crate) fn announcer(&self) -> watch::Sender<u64> {
        self.0.changes.clone()
    }

    /// Returns what tells that others watch.
    pub(crate) fn changes(&self) -> watch::Receiver<u64> {
        self.0.changes.subscribe()
    }

    /// Returns who wants to see something of a service, by number.
    pub(crate) fn of(&self, service: &ServiceName) -> Vec<(u64, TapWish)> {
        let open = self.0.open.lock();
        let of_it = open.iter().filter(|(_, open)| open.wish.service == *service);
        of_it.map(|(id, open)| (*id, open.wish.clone())).collect()
    }

    /// Takes what a proxy of a service has seen for one who watches, and how much it has left out.
    pub(crate) fn deliver(
        &self,
        (id, service): (u64, &ServiceName),
        events: impl IntoIterator<Item = TapEvent>,
        missed: u64,
    ) {
        let now = clock::instant();
        let mut open = self.0.open.lock();
        // It may have gone meanwhile; and nobody speaks for another service.
        let Some(open) = open.get_mut(&id).filter(|open| open.wish.service == *service) else {
            return;
        };
        open.missed = open.missed.saturating_add(missed);
        for event in events {
            let is_sent =
                open.rate.take(1, now) == 1 && open.events.try_send(Box::new(event)).is_ok();
            open.missed += u64::from(!is_sent);
        }
    }

    fn take_missed(&self, id: u64) -> u64 {
        let mut open = self.0.open.lock();
        open.get_mut(&id).map_or(0, |open| std::mem::take(&mut open.missed))
    }
}

impl TapStream {
    /// Waits for the next thing to tell.
    ///
    /// # Cancel safety
    /// May be dropped and called again at any time.
    pub(crate) async fn next(&mut self) -> Told {
        loop {
            if let Some(event) = self.next.take() {
                return Told::Event(event);
            }
            // The sender lives for as long as this does; without it there is nothing but time.
            self.next = tokio::time::timeout(TOLD_EVERY, self.events.recv()).await.ok().flatten();
            match self.taps.take_missed(self.id) {
                0 => {}
                missed => return Told::Missed(missed),
            }
        }
    }
}

impl Drop for TapStream {
    fn drop(&mut self) {
        self.taps.0.open.lock().remove(&self.id);
        self.taps.0.changes.send_modify(|change| *change += 1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use weft_core::log_format::LogRecord;
    use weft_core::traffic::tap::TapKind;

    fn name(text: &str) -> ServiceName {
        ServiceName::parse(text).expect("a name")
    }

    fn event(status: u16) -> TapEvent {
        let record = LogRecord { status, ..LogRecord::default() };
        TapEvent::of(TapKind::Request, &record, ("web", "spiffe://web"))
    }

    #[tokio::test(start_paused = true)]
    async fn who_reads_too_slowly_is_told_how_much_is_missing() {
        let taps = Taps::default();
        let mut changes = taps.changes();
        let wish = TapWish { service: name("web"), filter: TapFilter::default(), rate: 2_000 };
        let mut stream = taps.open(wish.clone()).expect("the first");
        assert!(changes.has_changed().expect("alive"));
        changes.mark_unchanged();
        let id = stream.id;
        assert_eq!(taps.of(&name("web")), [(id, wish)]);
        assert_eq!(taps.of(&name("shop")), []);
        taps.deliver((id, &name("shop")), [event(1)], 5);
        let many = u16::try_from(EVENTS_MAX).expect("few") + 3;
        taps.deliver((id, &name("web")), (0..many).map(event), 4);
        assert_eq!(stream.next().await, Told::Missed(7), "before what comes after it");
        for status in 0..many - 3 {
            assert_eq!(stream.next().await, Told::Event(Box::new(event(status))));
        }
        taps.deliver((id, &name("web")), [], 2);
        assert_eq!(stream.next().await, Told::Missed(2), "also when nothing else comes");
        drop(stream);
        assert!(taps.of(&name("web")).is_empty() && changes.has_changed().expect("alive"));
    }

    #[tokio::test(start_paused = true)]
    async fn a_rate_is_over_all_proxies_and_few_watch_at_once() {
        let taps = Taps::default();
        let wish = TapWish { service: name("web"), filter: TapFilter::default(), rate: 3 };
        let mut all: Vec<TapStream> =
            (0..TAPS_MAX).map(|_| taps.open(wish.clone()).expect("room")).collect();
        assert_eq!(taps.open(wish).err(), Some(TooManyTaps));
        let stream = &mut all[0];
        for _ in 0..2 {
            taps.deliver((stream.id, &name("web")), [event(1), event(2)], 0);
        }
        assert_eq!(stream.next().await, Told::Missed(1));
        for status in [1, 2, 1] {
            assert_eq!(stream.next().await, Told::Event(Box::new(event(status))));
        }
    }
}
