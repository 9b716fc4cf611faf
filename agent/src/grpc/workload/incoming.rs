//! Connections to the Workload API: each with the process that made it, and bounded by user.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use futures::Stream;
use parking_lot::Mutex;
use tracing::{info, warn};
use weft_core::limits;
use weft_runtime::net::{PeerProcess, UnixListener, UnixStream};

use super::metrics::WorkloadMetrics;
use crate::grpc::attested::Attested;
use crate::servers::reason;

/// How long nothing is accepted after the system would not: it has no room for more files.
const PAUSE: Duration = Duration::from_millis(100);

/// A connection, who made it, and its place.
pub(super) type Connection = Attested<Arc<PeerProcess>, Place>;

/// Takes connections for ever. Those that are not known or too many are closed.
pub(super) fn incoming(
    listener: UnixListener,
    metrics: WorkloadMetrics,
) -> impl Stream<Item = io::Result<Connection>> + Send {
    let places = Places::default();
    futures::stream::unfold((listener, places, metrics), |(listener, places, metrics)| async move {
        loop {
            match listener.accept().await {
                Ok((stream, _)) => match admit(stream, &places) {
                    Ok(connection) => return Some((Ok(connection), (listener, places, metrics))),
                    Err(reason) => {
                        info!(reason, "a connection to the Workload API is closed");
                        metrics.closed();
                    }
                },
                Err(error) => {
                    warn!(%error, "the Workload API cannot take a connection");
                    tokio::time::sleep(PAUSE).await;
                }
            }
        }
    })
}

fn admit(stream: UnixStream, places: &Places) -> Result<Connection, String> {
    let peer = PeerProcess::of(&stream).map_err(|error| reason(&error))?;
    let place = places.take(peer.uid())?;
    Ok(Attested::new(stream, Arc::new(peer), place))
}

/// The connections that are open, by user; clones share them.
#[derive(Debug, Default, Clone)]
struct Places {
    taken: Arc<Mutex<BTreeMap<u32, usize>>>,
}

/// Given back when it is dropped.
#[derive(Debug)]
pub(in crate::grpc) struct Place {
    places: Places,
    uid: u32,
}

impl Places {
    fn take(&self, uid: u32) -> Result<Place, String> {
        let mut taken = self.taken.lock();
        let all: usize = taken.values().sum();
        let own = taken.entry(uid).or_default();
        let (own_max, all_max) =
            (limits::WORKLOAD_CONNECTIONS_PER_USER_MAX, limits::WORKLOAD_CONNECTIONS_MAX);
        if *own >= own_max || all >= all_max {
            let reason = format!(
                "uid {uid} has {own} connections of {own_max}, all users {all} of {all_max}"
            );
            taken.retain(|_, count| *count > 0);
            return Err(reason);
        }
        *own += 1;
        Ok(Place { places: self.clone(), uid })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut taken = self.places.taken.lock();
        if let Some(count) = taken.get_mut(&self.uid) {
            *count -= 1;
        }
        taken.retain(|_, count| *count > 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_are_bounded_by_user_and_in_all() {
        let places = Places::default();
        let max = limits::WORKLOAD_CONNECTIONS_PER_USER_MAX;
        let mut held: Vec<Place> =
            (0..max).map(|_| places.take(1).expect("there is room")).collect();
        assert!(places.take(1).expect_err("one user has a bound").contains("uid 1 has 1000"));
        held.push(places.take(2).expect("another user has room"));
        held.remove(0);
        held.push(places.take(1).expect("a place was given back"));
        for uid in 3.. {
            match places.take(uid) {
                Ok(place) => held.push(place),
                Err(reason) => {
                    assert!(reason.contains("all users 4000 of 4000"), "{reason}");
                    break;
                }
            }
        }
        held.clear();
        assert!(places.taken.lock().is_empty());
    }
}
