//! Blocking queries that wait over a few connections, as agents pass those of their hosts on.

use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use http_body_util::BodyExt;
use tonic::codegen::Service;
use tonic::transport::Channel;

use crate::agent::Agent;
use crate::server::Server;
use crate::{Plan, SETTLE, show};

/// Requests at once on one connection: what a server takes.
const PER_CONNECTION: usize = 4_000;
/// Those who wait for what does change.
const WOKEN: usize = 500;
const HOT: &str = "hot";

/// Asks for a path; returns the index and the number of bytes of the answer.
pub(crate) async fn get(mut channel: Channel, path: &str) -> anyhow::Result<(u64, usize)> {
    let mut request = http::Request::new(tonic::body::Body::empty());
    *request.uri_mut() = path.parse()?;
    std::future::poll_fn(|context| channel.poll_ready(context)).await?;
    let answer = channel.call(request).await?;
    ensure!(answer.status() == 200, "{path}: {}", answer.status());
    let index = answer.headers().get("x-consul-index").context("an index")?.to_str()?.parse()?;
    Ok((index, answer.into_body().collect().await?.to_bytes().len()))
}

/// Has queries wait for services that nobody registers, then for one that somebody does.
pub(crate) async fn wait(server: &Server, agent: &Agent, plan: &Plan) -> anyhow::Result<()> {
    // What the fleet held is gone once it is seen to be.
    tokio::time::sleep(2 * SETTLE).await;
    let before = server.show_memory("after the fleet has left");
    let mut tasks = tokio::task::JoinSet::new();
    let channels = plan.waiters.div_ceil(PER_CONNECTION);
    let channels: Vec<Channel> = (0..channels).map(|_| agent.another_channel()).collect();
    let (index, _) = get(agent.channel.clone(), "/v1/health/service/nobody").await?;
    for waiter in 0..plan.waiters {
        let channel = channels[waiter / PER_CONNECTION].clone();
        let path = format!("/v1/health/service/nobody-{waiter}?index={index}&wait=10m");
        tasks.spawn(async move { get(channel, &path).await });
    }
    let start = Instant::now();
    while server.figure("weft_server_blocking_waiters") < plan.waiters as f64 {
        ensure!(start.elapsed() < Duration::from_secs(300), "they do not all wait in time");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    tokio::time::sleep(SETTLE).await;
    let resident = server.show_memory(&format!("{} blocking queries wait", plan.waiters));
    let each = resident.saturating_sub(before) as f64 / plan.waiters.max(1) as f64;
    println!("{:<46} {each:>8.0} bytes", "for each, its HTTP/2 stream included");

    let before = server.figure("weft_server_blocking_wakeups_total");
    let (mut asked, mut acknowledged) = (Vec::new(), Vec::new());
    let hot = [HOT.to_owned()];
    let path = format!("/v1/health/service/{HOT}");
    for change in 0..plan.changes {
        let (index, _) = get(agent.channel.clone(), &path).await?;
        let mut woken = tokio::task::JoinSet::new();
        let channel = agent.another_channel();
        for _ in 0..WOKEN {
            let (channel, path) = (channel.clone(), format!("{path}?index={index}&wait=60s"));
            woken.spawn(async move { get(channel, &path).await.map(|_| Instant::now()) });
        }
        tokio::time::sleep(SETTLE / 4).await;
        let status = if change % 2 == 0 { "passing" } else { "critical" };
        let start = Instant::now();
        agent.register(&hot, status).await?;
        let written = Instant::now();
        while let Some(answered) = woken.join_next().await {
            let at = answered??;
            asked.push(at - start);
            acknowledged.push(at.saturating_duration_since(written));
        }
    }
    show(&format!("{WOKEN} of them answered, from the request"), asked);
    show(&format!("{WOKEN} of them answered, from its answer"), acknowledged);
    let woken = server.figure("weft_server_blocking_wakeups_total") - before;
    println!("{:<46} {woken:>8} for {}", "woken", WOKEN * plan.changes);
    let vain = server.figure("weft_server_blocking_wakeups_in_vain_total");
    println!("{:<46} {vain:>8}", "woken in vain");
    tasks.shutdown().await;
    let start = Instant::now();
    while server.figure("weft_server_blocking_waiters") > 0.0 {
        ensure!(start.elapsed() < Duration::from_secs(60), "waiters stay that were given up");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    server.show_memory("after they were given up");
    Ok(())
}
