//! The thread that puts lines down.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;
use std::sync::mpsc::Receiver;
use std::time::{Duration, Instant};

use tracing::warn;
use weft_runtime::clock;

use super::sink::{Place, Sink};
use super::{LineCounts, Logged};
use crate::http::chain;

/// Bytes of lines that are put down at once.
const BATCH_BYTES: usize = 64 << 10;
/// How long the thread rests before it looks again: until then nobody who has a line need wake it.
const REST: Duration = Duration::from_millis(10);
/// How long a place that gets no lines is kept open.
const IDLE_MAX: Duration = Duration::from_secs(60);
/// How often it is said that a place takes nothing.
const TELL_EVERY: Duration = Duration::from_secs(30);

/// One place with the lines for it.
struct Out {
    sink: Sink,
    lines: String,
    count: u64,
    used: Instant,
    told: Option<Instant>,
}

/// Writes until nobody can send lines any more.
pub(super) fn run(lines: &Receiver<Box<Logged>>, counts: &LineCounts) {
    let mut outs: BTreeMap<Place, Out> = BTreeMap::new();
    while let Ok(first) = lines.recv() {
        let now = clock::instant();
        let mut next = Some(first);
        while let Some(logged) = next {
            next = lines.try_recv().ok();
            // Those who watch are shown theirs elsewhere.
            let Some(plan) = &logged.plan else { continue };
            let place = &plan.place;
            let out = match outs.get_mut(place) {
                Some(out) => out,
                None => outs.entry(place.clone()).or_insert_with(|| Out::new(place)),
            };
            out.used = now;
            out.count += 1;
            plan.format.write(&plan.scope, &logged.record, &mut out.lines);
            out.lines.push('\n');
            if out.lines.len() >= BATCH_BYTES {
                out.put_down(place, counts);
            }
        }
        outs.iter_mut().for_each(|(place, out)| out.put_down(place, counts));
        outs.retain(|_, out| now < out.used + IDLE_MAX);
        std::thread::sleep(REST);
    }
}

impl Out {
    fn new(place: &Place) -> Self {
        let sink = Sink::new(place.clone());
        Self { sink, lines: String::new(), count: 0, used: clock::instant(), told: None }
    }

    fn put_down(&mut self, place: &Place, counts: &LineCounts) {
        if self.count == 0 {
            return;
        }
        let (became, count) = match self.sink.write(&self.lines) {
            Ok(()) => (&counts.written, self.count),
            Err(error) => {
                let now = clock::instant();
                if self.told.is_none_or(|told| now >= told + TELL_EVERY) {
                    self.told = Some(now);
                    warn!(?place, reason = chain(&error), "access log lines are lost");
                }
                (&counts.failed, self.count)
            }
        };
        became.fetch_add(count, Ordering::Relaxed);
        self.lines.clear();
        self.count = 0;
    }
}
