//! Which requests get a fault.

use std::time::Duration;

use super::Mix64;
use crate::config_entry::{FaultAbort, RouteFault, Weight};

/// What was drawn for one request.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Injected<'a> {
    /// How long it waits.
    pub delay: Option<Duration>,
    /// What ends it.
    pub abort: Option<&'a FaultAbort>,
    /// How fast the body of its answer comes.
    ///
    /// **Units**: bytes in a second.
    pub bytes_per_second: Option<u64>,
}

impl<'a> Injected<'a> {
    /// Draws for one request.
    pub fn draw(fault: &'a RouteFault, random: &mut Mix64) -> Self {
        let mut is_drawn = |percent: Option<Weight>| {
            let percent = percent.unwrap_or(Weight::FULL);
            random.below(Weight::FULL.hundredths()) < percent.hundredths()
        };
        let delay = fault.delay.as_ref().filter(|delay| is_drawn(delay.percent));
        let abort = fault.abort.as_ref().filter(|abort| is_drawn(abort.percent));
        let limit = fault.rate_limit.as_ref().filter(|limit| is_drawn(limit.percent));
        let bytes_per_second = limit.map(|limit| limit.bytes_per_second);
        Self { delay: delay.map(|delay| delay.fixed.0), abort, bytes_per_second }
    }
}

impl FaultAbort {
    /// Returns the status of HTTP by which a request is ended.
    ///
    /// **Source**: google.rpc.Code, which names the status of HTTP for each of gRPC's.
    pub fn http_status(&self) -> u16 {
        match self.grpc_status {
            None => self.status,
            Some(1) => 499,
            Some(3 | 9 | 11) => 400,
            Some(4) => 504,
            Some(5) => 404,
            Some(6 | 10) => 409,
            Some(7) => 403,
            Some(8) => 429,
            Some(12) => 501,
            Some(14) => 503,
            Some(16) => 401,
            Some(_) => 500,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_many_are_drawn_as_the_percentages_say_and_each_by_itself() {
        let fault = serde_json::from_value(serde_json::json!({
            "Delay": { "Fixed": "2s", "Percent": 25 },
            "Abort": { "GrpcStatus": 14, "Percent": 0.5 },
            "RateLimit": { "BytesPerSecond": 1000, "Percent": 99.99 },
        }));
        let fault: RouteFault = fault.expect("a fault");
        let (mut random, rounds) = (Mix64::new(5), 200_000);
        let (mut delays, mut aborts, mut both, mut fast) = (0, 0, 0, 0);
        for _ in 0..rounds {
            let injected = Injected::draw(&fault, &mut random);
            delays += u32::from(injected.delay == Some(Duration::from_secs(2)));
            aborts += u32::from(injected.abort.is_some_and(|abort| abort.http_status() == 503));
            fast += u32::from(injected.bytes_per_second.is_none());
            both += u32::from(injected.delay.is_some() && injected.abort.is_some());
        }
        // Means of 50,000, 1,000, 250 and 20; five deviations are 970, 158, 79 and 23.
        assert!((49_000..=51_000).contains(&delays), "{delays}");
        assert!((842..=1_158).contains(&aborts), "{aborts}");
        assert!((171..=329).contains(&both), "{both}");
        assert!((1..=43).contains(&fast), "{fast}");
    }

    #[test]
    fn without_a_percentage_all_are_drawn_and_with_zero_none() {
        let mut random = Mix64::new(6);
        let abort = |percent| RouteFault {
            abort: Some(FaultAbort { status: 500, percent, ..FaultAbort::default() }),
            ..RouteFault::default()
        };
        let (all, none) = (abort(None), abort(Weight::from_hundredths(0)));
        for _ in 0..1_000 {
            assert!(Injected::draw(&all, &mut random).abort.is_some());
            assert!(Injected::draw(&none, &mut random).abort.is_none());
        }
    }
}
