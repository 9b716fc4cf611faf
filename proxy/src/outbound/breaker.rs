//! What a target may be asked at once, by all workers of the proxy: requests, those that wait, connections and
//! further attempts. What is beyond is refused at once.
//!
//! Who finds a place takes no lock; who waits for one stands in a queue that all workers share.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use weft_core::config_entry::{Protocol, UpstreamLimits};
use weft_core::traffic::Gauge;

use super::route::{Plan, flow};
use crate::http::Refusal;
use crate::workload::UpstreamTarget;

/// Requests that wait for a connection at once, where connections are limited and nothing else is said.
///
/// **Source**: Envoy: `CircuitBreakers.Thresholds.max_pending_requests`.
const PENDING_DEFAULT: u32 = 1_024;
/// The cause of connections of bytes that are too many.
pub(super) const CONNECTION_LIMIT: &str = "upstream-connection-limit";

/// Counts what goes on with one target, and refuses what would be too much.
#[derive(Debug)]
pub(crate) struct Breaker {
    limits: UpstreamLimits,
    protocol: Protocol,
    requests: Gauge,
    pending: Gauge,
    retries: Gauge,
    /// One permit for each connection; `None` where there may be any number.
    connections: Option<Arc<Semaphore>>,
}

/// What there is too much of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Overflow {
    Connections,
    Pending,
    Requests,
}

/// A place in a gauge, given back when it is dropped.
#[derive(Debug)]
pub(crate) struct Place(Arc<Breaker>, Gauged);

#[derive(Debug, Clone, Copy)]
enum Gauged {
    Pending,
    Requests,
    Retries,
}

/// What a request or connection has taken, until it ends.
#[derive(Debug, Default)]
pub(crate) struct Admitted {
    _request: Option<Place>,
    connection: Option<OwnedSemaphorePermit>,
}

impl Breaker {
    /// Makes one that counts from nothing; `None` where nothing is limited.
    pub(crate) fn new(limits: &UpstreamLimits, protocol: Protocol) -> Option<Arc<Self>> {
        if *limits == UpstreamLimits::default() {
            return None;
        }
        let has_places = match protocol {
            Protocol::Http | Protocol::Tcp | Protocol::Udp => true,
            // Their requests share connections.
            Protocol::Grpc | Protocol::Http2 => false,
        };
        let most = limits.max_connections.filter(|_| has_places);
        let places = most.map(|most| usize::try_from(most).unwrap_or(usize::MAX));
        let places = places.map(|most| Arc::new(Semaphore::new(most.min(Semaphore::MAX_PERMITS))));
        let pending = limits.max_pending_requests.or(most.map(|_| PENDING_DEFAULT));
        Some(Arc::new(Self {
            limits: limits.clone(),
            protocol,
            requests: Gauge::new(limits.max_concurrent_requests),
            pending: Gauge::new(pending),
            retries: Gauge::new(limits.max_concurrent_retries),
            connections: places,
        }))
    }

    /// Whether it was made of these limits.
    pub(crate) fn is_of(&self, limits: &UpstreamLimits, protocol: Protocol) -> bool {
        self.limits == *limits && self.protocol == protocol
    }

    /// Returns how much of what is limited there is, with its limit.
    pub(crate) fn standing(&self) -> Vec<(&'static str, u32, u32)> {
        let connections = self.connections.as_ref().and_then(|places| {
            let most = self.limits.max_connections?;
            let left = u32::try_from(places.available_permits()).unwrap_or(u32::MAX);
            Some(("connections", most.saturating_sub(left), most))
        });
        let gauges = [
            ("pending_requests", &self.pending),
            ("requests", &self.requests),
            ("retries", &self.retries),
        ];
        let counted = gauges
            .into_iter()
            .filter_map(|(name, gauge)| gauge.standing().map(|(count, most)| (name, count, most)));
        connections.into_iter().chain(counted).collect()
    }

    fn gauge(&self, of: Gauged) -> &Gauge {
        match of {
            Gauged::Pending => &self.pending,
            Gauged::Requests => &self.requests,
            Gauged::Retries => &self.retries,
        }
    }

    fn take(self: &Arc<Self>, of: Gauged) -> Option<Place> {
        self.gauge(of).enter().then(|| Place(self.clone(), of))
    }

    /// Takes a place for a further attempt.
    pub(super) fn retry(self: &Arc<Self>) -> Option<Place> {
        self.take(Gauged::Retries)
    }

    /// Takes a place for a request that waits for a connection.
    pub(super) fn pending(self: &Arc<Self>) -> Result<Place, Overflow> {
        self.take(Gauged::Pending).ok_or(Overflow::Pending)
    }

    /// Takes a place for a connection of bytes. Nobody waits for one: it may be held for ever.
    pub(super) fn connection(self: &Arc<Self>) -> Result<Admitted, Overflow> {
        let place = self.connections.as_ref().map(|places| places.clone().try_acquire_owned());
        let connection = place.transpose().map_err(|_| Overflow::Connections)?;
        Ok(Admitted { _request: None, connection })
    }

    /// Takes what a request needs; it waits for a connection for so long.
    async fn request(
        self: &Arc<Self>,
        limit: Duration,
        waits: impl FnOnce(),
    ) -> Result<Admitted, Overflow> {
        let _request = Some(self.take(Gauged::Requests).ok_or(Overflow::Requests)?);
        let Some(places) = &self.connections else {
            return Ok(Admitted { _request, connection: None });
        };
        if let Ok(place) = places.clone().try_acquire_owned() {
            return Ok(Admitted { _request, connection: Some(place) });
        }
        waits();
        let _pending = self.pending()?;
        let place = tokio::time::timeout(limit, places.clone().acquire_owned()).await;
        let place = place.map_err(|_| Overflow::Pending)?;
        Ok(Admitted { _request, connection: place.ok() })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.gauge(self.1).leave();
    }
}

impl Overflow {
    /// Refuses what is too much. Nobody tries it again: that would be more of it.
    pub(super) fn refusal(self, target: &UpstreamTarget) -> Refusal {
        let (cause, what) = match self {
            Self::Connections => (CONNECTION_LIMIT, "connections (MaxConnections)"),
            Self::Pending => {
                ("upstream-pending-limit", "requests that wait for one (MaxPendingRequests)")
            }
            Self::Requests => ("upstream-request-limit", "requests (MaxConcurrentRequests)"),
        };
        let message = format!("{} has as many {what} of this proxy as it may have", target.id);
        let told = http::HeaderName::from_static("x-envoy-overloaded");
        Refusal::new(503, cause, message)
            .with_retry_after()
            .with_field(told, http::HeaderValue::from_static("true"))
    }
}

impl Plan {
    /// Whether the request has yet to take something of what its target is limited to.
    pub(super) fn is_limited(&self) -> bool {
        self.admitted.is_none() && self.target().breaker.is_some()
    }

    /// Takes what the request needs of that.
    pub(super) async fn admit(&mut self) -> Result<(), Refusal> {
        let Some(breaker) = self.target().breaker.clone() else { return Ok(()) };
        let waits = || {
            let place = (self.upstream, self.target);
            flow(&self.worker, &self.local, place, self.route).overflowed();
        };
        let admitted = breaker.request(self.connect_timeout, waits).await;
        let admitted = admitted.map_err(|overflow| overflow.refusal(self.target()))?;
        self.admitted = Some(Box::new(admitted));
        Ok(())
    }

    /// Takes a place for a request that needs a new connection, until it has it.
    /// One that has a place among limited connections has waited already.
    pub(super) fn wait(&self) -> Result<Option<Box<Place>>, Refusal> {
        if self.admitted.as_ref().is_some_and(|admitted| admitted.connection.is_some()) {
            return Ok(None);
        }
        let waiting = self.target().breaker.as_ref().map(Breaker::pending).transpose();
        let waiting = waiting.map_err(|overflow| overflow.refusal(self.target()))?;
        Ok(waiting.map(Box::new))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LONG: Duration = Duration::from_secs(60);

    fn breaker(limits: &UpstreamLimits) -> Arc<Breaker> {
        Breaker::new(limits, Protocol::Http).expect("something is limited")
    }

    fn at_once(breaker: &Arc<Breaker>) -> Option<Result<Admitted, Overflow>> {
        use futures::FutureExt as _;
        breaker.request(LONG, || {}).now_or_never()
    }

    #[tokio::test(start_paused = true)]
    async fn who_finds_no_connection_waits_while_there_is_room_to() {
        let limits = UpstreamLimits {
            max_connections: Some(1),
            max_pending_requests: Some(1),
            ..UpstreamLimits::default()
        };
        let breaker = breaker(&limits);
        let first = at_once(&breaker).expect("at once").expect("a place");
        let second = breaker.clone();
        let second = tokio::spawn(async move { second.request(LONG, || {}).await });
        tokio::task::yield_now().await;
        assert_eq!(at_once(&breaker).expect("at once").err(), Some(Overflow::Pending));
        assert_eq!(breaker.standing(), [("connections", 1, 1), ("pending_requests", 1, 1)]);
        drop(first);
        let second = second.await.expect("no panic").expect("the place of the first");
        // Nobody leaves: the wait has an end.
        assert_eq!(breaker.request(LONG, || {}).await.err(), Some(Overflow::Pending));
        drop(second);
        assert_eq!(breaker.standing(), [("connections", 0, 1), ("pending_requests", 0, 1)]);
    }

    #[test]
    fn requests_are_counted_until_they_end_and_share_connections_of_http2() {
        let limits = UpstreamLimits {
            max_connections: Some(1),
            max_concurrent_requests: Some(2),
            max_concurrent_retries: Some(1),
            ..UpstreamLimits::default()
        };
        let breaker = Breaker::new(&limits, Protocol::Http2).expect("something is limited");
        let two: Vec<_> = (0..2).map(|_| at_once(&breaker).expect("at once")).collect();
        assert!(two.iter().all(Result::is_ok));
        assert_eq!(at_once(&breaker).expect("at once").err(), Some(Overflow::Requests));
        drop(two);
        assert!(at_once(&breaker).expect("at once").is_ok());
        let retry = breaker.retry();
        assert!(retry.is_some() && breaker.retry().is_none());
        drop(retry);
        assert!(breaker.retry().is_some());
        assert!(Breaker::new(&UpstreamLimits::default(), Protocol::Http).is_none());
    }
}
