//! Buckets of tokens, each in one word that all threads of a proxy share: no lock, and the sum over the
//! threads is exact.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crate::limits;

/// Words of one set: a key is looked for in one set alone.
const WAYS: usize = 4;
/// Parts of an interval in which the time of the last fill is noted: a fill comes late by at most one.
const TICKS_PER_INTERVAL: u32 = 128;
/// Bits of a word: tokens, then ticks, then what tells keys of a set apart.
const TOKEN_BITS: u32 = 20;
const TICK_BITS: u32 = 28;
const TICKS_MASK: u32 = (1 << TICK_BITS) - 1;
/// Ticks by which one thread's clock may be behind what another has written. What seems longer ago than all
/// ticks but these was written later.
const BEHIND_MAX: u32 = 1 << 10;

/// What a bucket lets through.
///
/// In any time T there are at most `max + per_fill · (T / interval + 1)` tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    /// Tokens that it holds at most, and at first.
    pub max: u32,
    /// Tokens of each fill.
    pub per_fill: u32,
    /// From the first token that is taken out of a full bucket to the first fill, and from fill to fill.
    pub interval: Duration,
}

/// One bucket, or one for each of so many keys.
#[derive(Debug)]
pub(super) struct Buckets {
    rate: Rate,
    began: Instant,
    /// Nanoseconds of a tick.
    tick_ns: u64,
    seed: u64,
    /// Zero is a word of no key.
    words: Box<[AtomicU64]>,
}

/// What a word says.
#[derive(Debug, Clone, Copy)]
struct Bucket {
    /// Never zero.
    tag: u16,
    /// When it was filled last, or began to be less than full.
    filled: u32,
    tokens: u32,
}

impl Bucket {
    fn read(word: u64) -> Option<Self> {
        let tag = (word >> (TOKEN_BITS + TICK_BITS)) as u16;
        let filled = (word >> TOKEN_BITS) as u32 & TICKS_MASK;
        let tokens = word as u32 & limits::RATE_TOKENS_MAX;
        (tag != 0).then_some(Self { tag, filled, tokens })
    }

    fn word(self) -> u64 {
        let tag = u64::from(self.tag) << (TOKEN_BITS + TICK_BITS);
        tag | u64::from(self.filled & TICKS_MASK) << TOKEN_BITS | u64::from(self.tokens)
    }

    /// Returns the ticks since it was filled.
    fn age(self, tick: u32) -> u32 {
        let age = tick.wrapping_sub(self.filled) & TICKS_MASK;
        if age > TICKS_MASK - BEHIND_MAX { 0 } else { age }
    }
}

impl Buckets {
    /// Makes one bucket.
    pub(super) fn one(rate: Rate, at: (u64, Instant)) -> Self {
        Self::new(rate, at, 1)
    }

    /// Makes a bucket for each key. Of more keys than there is room for, those are forgotten that have asked
    /// longest ago; who is forgotten begins with a full bucket.
    pub(super) fn many(rate: Rate, at: (u64, Instant)) -> Self {
        Self::new(rate, at, limits::RATE_KEYS_MAX)
    }

    fn new(rate: Rate, (seed, began): (u64, Instant), count: usize) -> Self {
        let words = (0..count).map(|_| AtomicU64::new(0)).collect();
        let tick_ns = nanoseconds(rate.interval).div_ceil(TICKS_PER_INTERVAL.into()).max(1);
        Self { rate, began, tick_ns, seed, words }
    }

    pub(super) fn rate(&self) -> Rate {
        self.rate
    }

    pub(super) fn seed(&self) -> u64 {
        self.seed
    }

    /// Takes a token of the bucket of a key, given by a hash.
    ///
    /// # Errors
    /// How long it takes until there is one.
    pub(super) fn take(&self, key: u64, now: Instant) -> Result<(), Duration> {
        let (set, tag) = self.place(key);
        let (tick, part) = self.tick(now);
        // Each further turn follows another thread's success.
        loop {
            let (word, seen) = self.find(set, tag, tick);
            let full = Bucket { tag, filled: tick.wrapping_add(1), tokens: self.rate.max };
            let bucket = match Bucket::read(seen).filter(|bucket| bucket.tag == tag) {
                Some(bucket) => self.filled(bucket, tick).unwrap_or(full),
                None => full,
            };
            let Some(tokens) = bucket.tokens.checked_sub(1) else {
                return Err(self.wait(bucket, (tick, part)));
            };
            let next = Bucket { tokens, ..bucket }.word();
            let order = (Ordering::Relaxed, Ordering::Relaxed);
            if word.compare_exchange_weak(seen, next, order.0, order.1).is_ok() {
                return Ok(());
            }
        }
    }

    /// Puts a token back that was taken for nothing.
    pub(super) fn give_back(&self, key: u64) {
        let (set, tag) = self.place(key);
        for word in set {
            let returned = word.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |seen| {
                let bucket = Bucket::read(seen).filter(|bucket| bucket.tag == tag)?;
                let tokens = (bucket.tokens + 1).min(self.rate.max);
                Some(Bucket { tokens, ..bucket }.word())
            });
            if returned.is_ok() {
                return;
            }
        }
    }

    /// Returns the set of a key, and what tells it apart there.
    fn place(&self, key: u64) -> (&[AtomicU64], u16) {
        let sets = self.words.len().div_ceil(WAYS);
        let set = (key >> 16) as usize % sets * WAYS;
        let end = (set + WAYS).min(self.words.len());
        (&self.words[set..end], (key as u16).max(1))
    }

    /// Returns the word of a key with what it says; without one, that which is to be taken.
    fn find<'a>(&self, set: &'a [AtomicU64], tag: u16, tick: u32) -> (&'a AtomicU64, u64) {
        let mut oldest = None;
        for word in set {
            let seen = word.load(Ordering::Relaxed);
            let age = match Bucket::read(seen) {
                Some(bucket) if bucket.tag == tag => return (word, seen),
                Some(bucket) => bucket.age(tick),
                None => u32::MAX,
            };
            if oldest.is_none_or(|(before, _, _)| age > before) {
                oldest = Some((age, word, seen));
            }
        }
        let (_, word, seen) = oldest.expect("no set is empty");
        (word, seen)
    }

    /// Returns a bucket with the fills that have come by now; `None` when it is full.
    fn filled(&self, bucket: Bucket, tick: u32) -> Option<Bucket> {
        let fills = bucket.age(tick) / TICKS_PER_INTERVAL;
        let more = u64::from(fills) * u64::from(self.rate.per_fill);
        let tokens = u64::from(bucket.tokens) + more;
        let tokens = u32::try_from(tokens).ok().filter(|tokens| *tokens < self.rate.max)?;
        let filled = bucket.filled.wrapping_add(fills * TICKS_PER_INTERVAL);
        Some(Bucket { filled, tokens, ..bucket })
    }

    /// Returns how many ticks have passed, and how much of the next.
    fn tick(&self, now: Instant) -> (u32, Duration) {
        let elapsed = nanoseconds(now.saturating_duration_since(self.began));
        let part = Duration::from_nanos(elapsed % self.tick_ns);
        ((elapsed / self.tick_ns) as u32 & TICKS_MASK, part)
    }

    /// Returns how long an empty bucket waits for its next fill.
    fn wait(&self, bucket: Bucket, (tick, part): (u32, Duration)) -> Duration {
        let left = match bucket.age(tick) {
            // It began within this tick, or after it as another thread's clock has it.
            0 => TICKS_PER_INTERVAL + (bucket.filled.wrapping_sub(tick) & TICKS_MASK),
            age => TICKS_PER_INTERVAL - age % TICKS_PER_INTERVAL,
        };
        Duration::from_nanos(self.tick_ns).saturating_mul(left).saturating_sub(part)
    }
}

fn nanoseconds(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}
