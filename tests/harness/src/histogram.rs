//! Latencies in buckets that grow with the value: quantiles within 2 %, whatever the range.

use std::time::Duration;

/// Steps in each doubling: 64 give an error of at most 1/64.
const STEPS: u64 = 64;
const STEP_BITS: u32 = STEPS.trailing_zeros();

/// Counts of latencies, in nanoseconds.
#[derive(Debug, Clone, Default)]
pub struct Histogram {
    counts: Vec<u64>,
    total: u64,
}

impl Histogram {
    /// Counts one latency.
    pub fn record(&mut self, latency: Duration) {
        let nanos = u64::try_from(latency.as_nanos()).unwrap_or(u64::MAX);
        let bucket = bucket_of(nanos);
        if bucket >= self.counts.len() {
            self.counts.resize(bucket + 1, 0);
        }
        self.counts[bucket] += 1;
        self.total += 1;
    }

    /// Adds the counts of another one.
    pub fn merge(&mut self, other: &Self) {
        if other.counts.len() > self.counts.len() {
            self.counts.resize(other.counts.len(), 0);
        }
        for (mine, theirs) in self.counts.iter_mut().zip(&other.counts) {
            *mine += theirs;
        }
        self.total += other.total;
    }

    /// How many latencies were counted.
    pub fn total(&self) -> u64 {
        self.total
    }

    /// The latency that this share of all stays within, in microseconds; 0 when there is none.
    pub fn quantile_us(&self, share: f64) -> f64 {
        let wanted = ((self.total as f64) * share).ceil().max(1.0) as u64;
        let mut seen = 0;
        for (bucket, count) in self.counts.iter().enumerate() {
            seen += count;
            if seen >= wanted {
                return middle_of(bucket) / 1_000.0;
            }
        }
        0.0
    }
}

fn bucket_of(nanos: u64) -> usize {
    let magnitude = (nanos.max(1)).ilog2();
    if magnitude < STEP_BITS {
        return nanos as usize;
    }
    let shift = magnitude - STEP_BITS;
    let step = (nanos >> shift) - STEPS;
    ((u64::from(shift) + 1) * STEPS + step) as usize
}

fn middle_of(bucket: usize) -> f64 {
    let bucket = bucket as u64;
    if bucket < STEPS {
        return bucket as f64;
    }
    let shift = bucket / STEPS - 1;
    let low = (STEPS + bucket % STEPS) << shift;
    low as f64 + ((1_u64 << shift) as f64) / 2.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_within_two_percent() {
        let mut histogram = Histogram::default();
        for micros in 1..=10_000 {
            histogram.record(Duration::from_micros(micros));
        }
        for (share, wanted) in [(0.5, 5_000.0), (0.99, 9_900.0), (1.0, 10_000.0)] {
            let got = histogram.quantile_us(share);
            assert!((got - wanted).abs() / wanted < 0.02, "{share}: {got}");
        }
        assert_eq!(Histogram::default().quantile_us(0.5), 0.0);
    }
}
