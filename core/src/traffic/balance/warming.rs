//! How an endpoint that has come is led up to its share.

use std::time::Duration;

use crate::config_entry::SlowStart;

/// The least part of its share where nothing is said, in percent.
///
/// **Source**: Envoy: `SlowStartConfig.min_weight_percent`.
const LEAST_PERCENT_DEFAULT: u32 = 10;

/// What part of its share an endpoint gets, by its age.
#[derive(Debug, Clone)]
pub(super) struct Warming {
    window: Duration,
    exponent: f64,
    least: f64,
}

impl Warming {
    pub(super) fn new(settings: &SlowStart) -> Self {
        let aggression = if settings.aggression == 0 { 1_000 } else { settings.aggression };
        let least = settings.min_weight_percent;
        let least = if least == 0 { LEAST_PERCENT_DEFAULT } else { least };
        Self {
            window: settings.window.0,
            exponent: 1_000.0 / f64::from(aggression),
            least: f64::from(least) / 100.0,
        }
    }

    /// Returns the part of its share that is due to an endpoint of this age, above 0 and at most 1.
    ///
    /// **Source**: Envoy: slow start.
    pub(super) fn part(&self, age: Duration) -> f64 {
        if age >= self.window {
            return 1.0;
        }
        let over = age.as_secs_f64() / self.window.as_secs_f64();
        over.powf(self.exponent).max(self.least).min(1.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::Span;

    #[test]
    fn the_part_rises_to_the_whole_as_fast_as_is_said() {
        let second = Duration::from_secs(1);
        let part = |aggression, least, age: u32| {
            let window = Span(10 * second);
            let settings = SlowStart { window, aggression, min_weight_percent: least };
            Warming::new(&settings).part(age * second)
        };
        assert_eq!([0, 1, 5, 10, 11].map(|age| part(0, 0, age)), [0.1, 0.1, 0.5, 1.0, 1.0]);
        assert_eq!([0, 5].map(|age| part(1_000, 60, age)), [0.6, 0.6]);
        // The square root is early, the square is late.
        assert!((part(2_000, 1, 5) - 0.707).abs() < 1e-3 && (part(500, 1, 5) - 0.25).abs() < 1e-9);
    }
}
