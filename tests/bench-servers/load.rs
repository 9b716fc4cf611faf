//! Closed loops: each client asks again as soon as it has its answer.

use std::time::{Duration, Instant};

use anyhow::Context;
use weft_tests::histogram::Histogram;

use crate::cells::Work;
use crate::peers::{Cluster, Door};
use crate::wire::Wire;

/// What one measurement saw.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    /// How long it took.
    pub(crate) seconds: f64,
    /// Latencies of what was answered.
    pub(crate) latencies: Histogram,
    /// The first failure, in words.
    pub(crate) failure: Option<String>,
}

/// Runs clients against a cluster for a time.
pub(crate) fn saturate(
    cluster: &Cluster,
    work: &Work,
    clients: usize,
    time: Duration,
) -> anyhow::Result<Seen> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let doors = cluster.doors(work.at);
        let connecting = (0..clients).map(|client| connect(doors[client % doors.len()]));
        let wires = futures::future::try_join_all(connecting).await.context("connecting")?;
        let start = Instant::now();
        let loops = wires
            .into_iter()
            .enumerate()
            .map(|(client, wire)| closed_loop(wire, cluster, work, client, start + time));
        let parts = futures::future::join_all(loops).await;
        let mut seen = Seen { seconds: start.elapsed().as_secs_f64(), ..Seen::default() };
        for (latencies, failure) in parts {
            seen.latencies.merge(&latencies);
            seen.failure = seen.failure.or(failure);
        }
        Ok(seen)
    })
}

/// Opens a client's connection.
pub(crate) async fn connect(door: Door) -> anyhow::Result<Wire> {
    match door {
        Door::Http(address) => Wire::http(address).await,
        Door::Grpc(address) => Wire::grpc(address).await,
    }
}

async fn closed_loop(
    mut wire: Wire,
    cluster: &Cluster,
    work: &Work,
    client: usize,
    end: Instant,
) -> (Histogram, Option<String>) {
    let mut latencies = Histogram::default();
    for round in 0.. {
        let Some(request) = (work.request)(cluster.kind, client, round) else { break };
        let start = Instant::now();
        if start >= end {
            break;
        }
        match wire.ask(&request).await {
            Ok(_) => latencies.record(start.elapsed()),
            Err(error) => return (latencies, Some(format!("{error:#}"))),
        }
    }
    (latencies, None)
}
