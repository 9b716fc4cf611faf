//! Clients that wait for a change: how long after the write is asked for has the last of them
//! its answer?

use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use futures::future::{join_all, try_join_all};
use weft_tests::histogram::Histogram;

use crate::cells::{self, At, SERVICE};
use crate::load::connect;
use crate::peers::{Cluster, Kind};
use crate::wire::{Request, Wire};

/// Those who wait.
pub(crate) const WATCHERS: usize = 500;
/// All of them wait before the change is made, however busy the machine.
const SETTLE: Duration = Duration::from_millis(300);
const ANSWER_LIMIT: Duration = Duration::from_secs(20);

/// The times from a change to the first and to the last answer, in milliseconds.
#[derive(Debug, Default)]
pub(crate) struct Woken {
    pub(crate) first: Vec<f64>,
    pub(crate) last: Vec<f64>,
    /// Each answer.
    pub(crate) each: Histogram,
}

/// Changes an instance some times while all wait for the health of its service.
pub(crate) fn wake(cluster: &Cluster, changes: u64) -> anyhow::Result<Woken> {
    ensure!(cluster.kind != Kind::Etcd, "etcd has no health of services");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let doors = cluster.doors(At::Leader);
        let mut writer = connect(doors[0]).await?;
        let connecting = (0..WATCHERS).map(|_| connect(doors[0]));
        let mut wires = try_join_all(connecting).await.context("connecting")?;
        let mut woken = Woken::default();
        for change in 0..changes {
            let index = index(&mut writer).await?;
            let wait = format!("/v1/health/service/{SERVICE}?index={index}&wait=60s");
            let wait = Request::Http { method: "GET", path: wait, body: Vec::new() };
            try_join_all(wires.iter_mut().map(|wire| wire.send(&wait))).await?;
            tokio::time::sleep(SETTLE).await;
            let port = 2_000 + change;
            let write = cells::instance(cluster.kind, 0, port).context("a registration")?;
            let start = Instant::now();
            let waiting = join_all(wires.iter_mut().map(|wire| answered(wire, start)));
            let both = futures::future::join(writer.ask(&write), waiting);
            let (written, times) = tokio::time::timeout(ANSWER_LIMIT, both).await?;
            written.context("the change")?;
            let times = times.into_iter().collect::<anyhow::Result<Vec<Duration>>>()?;
            times.iter().for_each(|time| woken.each.record(*time));
            let in_ms = |time: Option<&Duration>| time.map_or(0.0, |it| it.as_secs_f64() * 1e3);
            woken.first.push(in_ms(times.iter().min()));
            woken.last.push(in_ms(times.iter().max()));
        }
        Ok(woken)
    })
}

async fn answered(wire: &mut Wire, start: Instant) -> anyhow::Result<Duration> {
    wire.answer().await?;
    Ok(start.elapsed())
}

/// The index to wait on: a recent one of the whole catalog is never ahead of the service's own.
async fn index(wire: &mut Wire) -> anyhow::Result<u64> {
    let path = format!("/v1/health/service/{SERVICE}");
    wire.ask(&Request::Http { method: "GET", path, body: Vec::new() }).await?;
    wire.header("x-consul-index").and_then(|text| text.parse().ok()).context("an index")
}
