//! How many requests may be under way at one instance: a fixed number, or one that follows how long answers
//! take; and who goes first when that is too many. One gate is shared by the threads of a proxy, without a
//! lock.
//!
//! **Source**: Envoy: adaptive concurrency filter, gradient controller; Netflix: concurrency-limits,
//! Gradient2. Differs: the time without any load is not measured by stopping others now and then; it is the
//! shortest that was seen of late, and what is seen while the limit is at its least.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use super::RequestView;
use crate::config_entry::{AdaptiveConcurrency, LoadLimits, RequestPriority};
use crate::limits;

/// Steps of one doubling of latency: a step is some percent more, less than what answers may vary.
const STEPS_PER_DOUBLING: u32 = 16;
/// Steps from a microsecond to more than an hour.
const STEPS: usize = 16 * 32;
/// Answers without which nothing is learnt of a window; it is made longer.
const SAMPLES_MIN: u32 = 20;
/// What the limit is at first, within its range.
const FIRST: u32 = 100;
/// Bounds of one change, as a factor.
const GRADIENT_MIN: f64 = 0.5;
const GRADIENT_MAX: f64 = 2.0;
/// The share of the limit that the least important requests have; those between are between.
const LEAST_SHARE: f64 = 0.5;
/// Parts of the way to what is seen now that the shortest latency takes back in a window without load.
const FORGETS: u64 = 16;

/// A door with room for so many requests.
#[derive(Debug)]
pub struct Gate {
    limits: LoadLimits,
    began: Instant,
    in_flight: AtomicU32,
    /// The most of them in this window.
    peak: AtomicU32,
    /// What is let through at present.
    limit: AtomicU32,
    /// Nanoseconds after `began`.
    window_ends: AtomicU64,
    /// Answers of this window, by how long they took.
    seen: [AtomicU32; STEPS],
    /// Nanoseconds; 0 until it is known.
    shortest: AtomicU64,
    typical: AtomicU64,
    refused: [AtomicU64; limits::PRIORITY_LEVELS_MAX],
}

/// How a gate stands, for those who watch.
#[derive(Debug, Clone, PartialEq)]
pub struct GateStanding<'a> {
    /// Requests under way.
    pub in_flight: u32,
    /// How many there may be.
    pub limit: u32,
    /// How long answers take without any load, zero while that is not known.
    pub shortest: Duration,
    /// How long they took in the last window.
    pub typical: Duration,
    /// Requests that were refused, by what they say of themselves; empty where nothing is asked.
    pub refused: Vec<(&'a str, u64)>,
}

impl Gate {
    /// Makes a gate; `None` where there is no limit.
    pub fn new(limits: &LoadLimits, now: Instant) -> Option<Self> {
        let fixed = Some(limits.max_concurrent_requests).filter(|most| *most > 0);
        let first = limits.adaptive.as_ref().map(|adaptive| {
            let (min, max) = adaptive.range();
            FIRST.clamp(min, max)
        });
        let limit = [fixed, first].into_iter().flatten().min()?;
        Some(Self {
            limits: limits.clone(),
            began: now,
            in_flight: AtomicU32::new(0),
            peak: AtomicU32::new(0),
            limit: AtomicU32::new(limit),
            window_ends: AtomicU64::new(0),
            seen: std::array::from_fn(|_| AtomicU32::new(0)),
            shortest: AtomicU64::new(0),
            typical: AtomicU64::new(0),
            refused: std::array::from_fn(|_| AtomicU64::new(0)),
        })
    }

    /// Whether it was made of these limits.
    pub fn is_of(&self, limits: &LoadLimits) -> bool {
        self.limits == *limits
    }

    /// Lets a request in until [`Self::leave`]; whether there was room.
    pub fn enter<R: RequestView + ?Sized>(&self, request: &R) -> bool {
        let level = self.level(request);
        let allowed = self.share(level);
        let entered = self.in_flight.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |count| {
            (count < allowed).then_some(count + 1)
        });
        match entered {
            Ok(before) => {
                self.peak.fetch_max(before + 1, Ordering::Relaxed);
                true
            }
            Err(_) => {
                self.refused[level].fetch_add(1, Ordering::Relaxed);
                // Who is refused shows that the limit is in use.
                self.peak.fetch_max(self.limit.load(Ordering::Relaxed), Ordering::Relaxed);
                false
            }
        }
    }

    /// Takes note that a request has got its answer, and how long that took.
    pub fn answered(&self, latency: Duration, now: Instant) {
        let Some(adaptive) = &self.limits.adaptive else { return };
        self.seen[step(latency)].fetch_add(1, Ordering::Relaxed);
        let now = nanoseconds(now.saturating_duration_since(self.began));
        let ends = self.window_ends.load(Ordering::Relaxed);
        let next = now.saturating_add(nanoseconds(adaptive.window()));
        let order = (Ordering::Relaxed, Ordering::Relaxed);
        if now >= ends && self.window_ends.compare_exchange(ends, next, order.0, order.1).is_ok() {
            // One thread alone comes here for each window.
            self.turn(adaptive);
        }
    }

    /// Takes note that nobody waits for an answer any more; what took no time was not answered by the
    /// instance, and says nothing of it.
    pub fn given_up(&self, waited: Duration, now: Instant) {
        if nanoseconds(waited) > self.shortest.load(Ordering::Relaxed) {
            self.answered(waited, now);
        }
    }

    /// Takes note that a request is no longer under way.
    pub fn leave(&self) {
        self.in_flight.fetch_sub(1, Ordering::Relaxed);
    }

    /// Tells how it stands.
    pub fn standing(&self) -> GateStanding<'_> {
        let levels = match &self.limits.priority {
            Some(priority) => priority.levels.iter().map(String::as_str).collect(),
            None => vec![""],
        };
        let refused = levels.into_iter().zip(&self.refused);
        GateStanding {
            in_flight: self.in_flight.load(Ordering::Relaxed),
            limit: self.limit.load(Ordering::Relaxed),
            shortest: Duration::from_nanos(self.shortest.load(Ordering::Relaxed)),
            typical: Duration::from_nanos(self.typical.load(Ordering::Relaxed)),
            refused: refused.map(|(name, count)| (name, count.load(Ordering::Relaxed))).collect(),
        }
    }

    /// Returns how important a request is, 0 for the most.
    fn level<R: RequestView + ?Sized>(&self, request: &R) -> usize {
        let Some(RequestPriority { header, levels, default }) = &self.limits.priority else {
            return 0;
        };
        let find = |word: &[u8]| levels.iter().position(|level| level.as_bytes() == word);
        let mut level = None;
        request.each_header(header, &mut |value| level = level.or(find(value.trim_ascii())));
        let last = levels.len().min(limits::PRIORITY_LEVELS_MAX).saturating_sub(1);
        level.or_else(|| find(default.as_bytes())).unwrap_or(last).min(last)
    }

    /// Returns how many may be under way for one of this level to be let in, at least 1.
    fn share(&self, level: usize) -> u32 {
        let limit = self.limit.load(Ordering::Relaxed);
        let count = self.limits.priority.as_ref().map_or(1, |priority| priority.levels.len());
        if level == 0 || count < 2 {
            return limit;
        }
        let less = (1.0 - LEAST_SHARE) * level as f64 / (count - 1) as f64;
        // Of at most a million, so that nothing is cut off.
        ((f64::from(limit) * (1.0 - less)) as u32).max(1)
    }

    /// Ends a window: sets the limit by what was seen in it.
    fn turn(&self, adaptive: &AdaptiveConcurrency) {
        let counts = self.seen.each_ref().map(|count| count.load(Ordering::Relaxed));
        let total: u32 = counts.iter().sum();
        if total < SAMPLES_MIN {
            return;
        }
        for (sum, count) in self.seen.iter().zip(counts) {
            sum.fetch_sub(count, Ordering::Relaxed);
        }
        let typical = median(&counts, total);
        self.typical.store(typical, Ordering::Relaxed);
        let peak = self.peak.swap(self.in_flight.load(Ordering::Relaxed), Ordering::Relaxed);
        let (min, max) = adaptive.range();
        let fixed = self.limits.max_concurrent_requests;
        let max = if fixed == 0 { max } else { max.min(fixed) };
        let limit = self.limit.load(Ordering::Relaxed);
        let shortest = match self.shortest.load(Ordering::Relaxed) {
            0 => typical,
            before if typical <= before => typical,
            // Nothing waits for others now: that is how long it takes by itself.
            _ if limit <= min => typical,
            before if peak < limit / 2 => before + (typical - before) / FORGETS,
            before => before,
        };
        self.shortest.store(shortest, Ordering::Relaxed);
        let gradient = shortest as f64 * adaptive.tolerance() / typical as f64;
        let gradient = gradient.clamp(GRADIENT_MIN, GRADIENT_MAX);
        let before = f64::from(limit);
        let next = before * gradient + before.sqrt();
        // What nobody uses does not grow.
        let next = if peak < limit / 2 { next.min(before) } else { next };
        self.limit.store((next as u32).clamp(min.min(max), max), Ordering::Relaxed);
    }
}

/// Returns the step of a latency.
fn step(latency: Duration) -> usize {
    let us = u64::try_from(latency.as_micros()).unwrap_or(u64::MAX).max(1);
    let doubling = us.ilog2();
    // What is above the power of two, in its parts.
    let part = (u128::from(us - (1 << doubling)) * u128::from(STEPS_PER_DOUBLING)) >> doubling;
    let step = (doubling * STEPS_PER_DOUBLING) as usize + part as usize;
    step.min(STEPS - 1)
}

/// Returns the middle of a step.
///
/// **Units**: nanoseconds.
fn latency_of(step: usize) -> u64 {
    let (doubling, part) = (step / STEPS_PER_DOUBLING as usize, step % STEPS_PER_DOUBLING as usize);
    let start = (1_u64 << doubling) * 1_000;
    start + start * (2 * part as u64 + 1) / (2 * u64::from(STEPS_PER_DOUBLING))
}

fn median(counts: &[u32], total: u32) -> u64 {
    let mut below = 0;
    let found = counts.iter().position(|count| {
        below += count;
        below * 2 >= total
    });
    latency_of(found.unwrap_or(STEPS - 1))
}

fn nanoseconds(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests;
