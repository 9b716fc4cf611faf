//! Where a request spent its time until the head of its answer came.

use std::fmt;
use std::time::Duration;

/// The field by which a calling proxy asks the called one for its part, and gets it with the answer.
/// It never reaches a service.
pub const TIMING_FIELD: &str = "x-weft-timing";
/// What it says when it asks.
pub const TIMING_ASKED: &str = "1";

/// What a called proxy has measured.
///
/// **Shape**: as text `proxy=12;application=3400`, in microseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CalledLatency {
    /// In the proxy itself: judging, waiting for keys and authorisers.
    pub proxy: Duration,
    /// From handing the request to its service to the head of the answer.
    pub application: Duration,
}

/// Where the time of a request went, as the proxy sees it that measures.
///
/// What is known adds up to the time from the head of the request to the head of its answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LatencySplit {
    /// In the proxy that measures.
    pub proxy: Duration,
    /// On the way between both proxies and back, connecting included; `None` at the called side, and
    /// where the called proxy has not said what its own part is.
    pub network: Option<Duration>,
    /// In the called proxy; `None` as before.
    pub remote_proxy: Option<Duration>,
    /// In the application that was called; `None` where only its proxy could tell and has not.
    pub application: Option<Duration>,
}

impl CalledLatency {
    /// Reads what a called proxy has said; `None` for anything else.
    pub fn parse(text: &[u8]) -> Option<Self> {
        let text = std::str::from_utf8(text).ok()?;
        let (proxy, application) = text.strip_prefix("proxy=")?.split_once(";application=")?;
        let micros = |text: &str| text.parse().ok().map(Duration::from_micros);
        Some(Self { proxy: micros(proxy)?, application: micros(application)? })
    }
}

impl fmt::Display for CalledLatency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { proxy, application } = self;
        write!(f, "proxy={};application={}", proxy.as_micros(), application.as_micros())
    }
}

impl LatencySplit {
    /// Splits at the called side: what was spent before the request was handed to the service, and
    /// since.
    pub fn called(proxy: Duration, application: Duration) -> Self {
        Self { proxy, network: None, remote_proxy: None, application: Some(application) }
    }

    /// Splits at the calling side: what was spent before the request was handed to a connection, and
    /// since, of which the called proxy says what its part is.
    pub fn calling(proxy: Duration, since: Duration, told: Option<CalledLatency>) -> Self {
        // What does not fit into the time that has passed is not believed.
        let told = told.filter(|told| {
            told.proxy.checked_add(told.application).is_some_and(|part| part <= since)
        });
        Self {
            proxy,
            network: told.map(|told| since - told.proxy - told.application),
            remote_proxy: told.map(|told| told.proxy),
            application: told.map(|told| told.application),
        }
    }

    /// Returns what the calling proxy is told; `None` where the split is one of the calling side.
    pub fn told(&self) -> Option<CalledLatency> {
        let (Some(application), None) = (self.application, self.network) else { return None };
        Some(CalledLatency { proxy: self.proxy, application })
    }

    /// Returns the parts that are known, with their names.
    pub fn parts(&self) -> impl Iterator<Item = (LatencyPart, Duration)> {
        let parts = [
            (LatencyPart::Application, self.application),
            (LatencyPart::Network, self.network),
            (LatencyPart::Proxy, Some(self.proxy)),
            (LatencyPart::RemoteProxy, self.remote_proxy),
        ];
        parts.into_iter().filter_map(|(part, time)| Some((part, time?)))
    }
}

/// A part of a request's time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum LatencyPart {
    /// In the application that was called.
    Application,
    /// Between both proxies.
    Network,
    /// In the proxy that measures.
    Proxy,
    /// In the called proxy.
    RemoteProxy,
}

impl LatencyPart {
    /// All of them, in order.
    pub const ALL: [Self; 4] = [Self::Application, Self::Network, Self::Proxy, Self::RemoteProxy];

    /// Returns its name in labels and attributes.
    pub fn word(self) -> &'static str {
        match self {
            Self::Application => "application",
            Self::Network => "network",
            Self::Proxy => "proxy",
            Self::RemoteProxy => "remote_proxy",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn us(us: u64) -> Duration {
        Duration::from_micros(us)
    }

    #[test]
    fn what_a_called_proxy_says_is_read_or_is_nothing() {
        let told = CalledLatency { proxy: us(12), application: us(3400) };
        assert_eq!(told.to_string(), "proxy=12;application=3400");
        assert_eq!(CalledLatency::parse(told.to_string().as_bytes()), Some(told));
        for text in ["", "1", "proxy=1", "proxy=;application=1", "proxy=-1;application=1", "\u{e9}"]
        {
            assert_eq!(CalledLatency::parse(text.as_bytes()), None, "{text}");
        }
        let longest = format!("proxy={};application=1", u64::MAX);
        assert!(CalledLatency::parse(longest.as_bytes()).is_some());
        assert_eq!(CalledLatency::parse(format!("{longest}0;application=1").as_bytes()), None);
    }

    #[test]
    fn the_parts_add_up_and_what_cannot_be_is_not_believed() {
        let told = |proxy, application| {
            Some(CalledLatency { proxy: us(proxy), application: us(application) })
        };
        let split = LatencySplit::calling(us(10), us(100), told(5, 70));
        assert_eq!(split.parts().map(|(_, time)| time).sum::<Duration>(), us(110));
        assert_eq!(split.network, Some(us(25)));
        assert_eq!(split.told(), None);
        for told in [None, told(50, 51), told(u64::MAX, u64::MAX)] {
            let split = LatencySplit::calling(us(10), us(100), told);
            let alone = vec![(LatencyPart::Proxy, us(10))];
            assert_eq!(split.parts().collect::<Vec<_>>(), alone, "{told:?}");
        }
        let split = LatencySplit::called(us(5), us(70));
        assert_eq!(split.told(), told(5, 70));
    }
}
