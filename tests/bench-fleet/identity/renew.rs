//! Hosts with services, and the moment at which all their certificates are signed again.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use futures::stream::{self, StreamExt, TryStreamExt};
use rcgen::{CertificateParams, KeyPair, PKCS_ECDSA_P256_SHA256};
use tonic::codegen::Service;
use weft_core::ca::renewal::{Output, Renewal};
use weft_core::time::Timestamp;
use weft_proto::grpc::v1 as wire;
use weft_runtime::entropy;

use super::sign::request;
use super::{percentiles, show};
use crate::agent::{Agent, anonymous};
use crate::server::Server;
use crate::waiters::get;

const HOSTS: usize = 50;
/// Services of each host, a certificate for each.
const SERVICES: usize = 200;
/// Requests that are made beforehand, each with a key of its own.
const REQUESTS: usize = 64;
/// A day, as certificates live when nothing else is said.
const LIFETIME: Duration = Duration::from_secs(24 * 3600);
/// How often somebody else asks the server meanwhile.
const OTHERS_EVERY: Duration = Duration::from_millis(5);

/// An agent with its services.
#[derive(Clone)]
pub(super) struct Host {
    agent: Agent,
    services: Arc<[String]>,
    requests: Arc<[Vec<u8>]>,
}

impl Host {
    /// Has a certificate of one of its services signed.
    pub(super) async fn sign(&self, number: usize) -> Result<(), tonic::Status> {
        let service = &self.services[number % self.services.len()];
        let csr = self.requests[number % self.requests.len()].clone();
        let mut ca = wire::ca_client::CaClient::new(self.agent.channel.clone());
        ca.sign_leaf(request(service, csr)).await.map(drop)
    }
}

impl Host {
    /// Writes at a page of the API.
    pub(super) async fn put(&self, path: &str, body: String) -> anyhow::Result<()> {
        let mut channel = self.agent.channel.clone();
        let body = tonic::body::Body::new(http_body_util::Full::new(body.into()));
        let request = http::Request::put(path).body(body)?;
        std::future::poll_fn(|context| channel.poll_ready(context)).await?;
        let answer = channel.call(request).await?;
        ensure!(answer.status() == 200, "{path}: {}", answer.status());
        Ok(())
    }
}

/// Has every host join and register.
pub(super) async fn join(server: &Server) -> anyhow::Result<Vec<Host>> {
    let requests: anyhow::Result<Vec<Vec<u8>>> = (0..REQUESTS).map(|_| csr()).collect();
    let requests: Arc<[Vec<u8>]> = requests?.into();
    let token = server.join_token();
    let door = anonymous(&token)?;
    let joining = (0..HOSTS).map(|number| {
        let (door, token, requests) = (door.clone(), token.clone(), requests.clone());
        async move {
            let agent = Agent::join(door, &token, number).await?;
            let services: Vec<String> =
                (0..SERVICES).map(|at| format!("service-{number}-{at}")).collect();
            agent.register(&services, "passing").await?;
            anyhow::Ok(Host { agent, services: services.into(), requests })
        }
    });
    stream::iter(joining).buffered(8).try_collect().await
}

fn csr() -> anyhow::Result<Vec<u8>> {
    let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
    Ok(CertificateParams::default().serialize_request(&key)?.der().to_vec())
}

/// Has every certificate signed again as after a change of roots, each at the moment that its
/// holder's renewal draws, and asks the server for something else meanwhile.
pub(super) async fn measure(server: &Server, hosts: &[Host]) -> anyhow::Result<()> {
    let others = hosts.first().context("a host")?.agent.another_channel();
    let quiet = ask_others(others.clone(), Duration::from_secs(5)).await?;
    let (before, start) = (server.usage(), Instant::now());
    let mut tasks = tokio::task::JoinSet::new();
    for host in hosts {
        for number in 0..SERVICES {
            tasks.spawn(renewed(host.clone(), number, start));
        }
    }
    let busy = tokio::spawn(ask_others(others, Duration::from_secs(30)));
    let mut times = Vec::new();
    while let Some(done) = tasks.join_next().await {
        times.push(done?.context("signing again")?);
    }
    let (elapsed, cpu) = (start.elapsed(), server.usage().cpu - before.cpu);
    let busy = busy.await??;
    let figure = format!("{:.1} s", elapsed.as_secs_f64());
    show(&format!("{} certificates signed again within", times.len()), &figure, "spread");
    let share = 100.0 * cpu.as_secs_f64() / elapsed.as_secs_f64();
    show("meanwhile the server used of a core", &format!("{share:.0} %"), "");
    show("a signature meanwhile, p50 / p99 / longest", &percentiles(times), "p99 10 ms");
    show("a read of the API every 5 ms before, p50 / p99 / longest", &percentiles(quiet), "");
    show("and meanwhile", &percentiles(busy), "p99 10 ms");
    Ok(())
}

/// Follows one certificate from the change of roots to the next signature; returns how long that
/// took.
async fn renewed(host: Host, number: usize, start: Instant) -> anyhow::Result<Duration> {
    let now = || Timestamp(1_000_000_000).saturating_add(start.elapsed());
    let mut renewal = Renewal::new(Box::new(entropy::rng()));
    renewal.poll_output();
    renewal.handle_certificate(now(), now().saturating_add(LIFETIME), now());
    renewal.handle_roots_changed(now());
    loop {
        let due = renewal.poll_timeout().context("a renewal waits for a moment")?;
        tokio::time::sleep(due.since(now())).await;
        renewal.handle_timeout(now());
        while let Some(output) = renewal.poll_output() {
            let Output::Request = output else { continue };
            let asked = Instant::now();
            match host.sign(number).await {
                Ok(()) => return Ok(asked.elapsed()),
                Err(status) if status.code() == tonic::Code::ResourceExhausted => {
                    renewal.handle_busy(now());
                }
                Err(status) => return Err(status.into()),
            }
        }
    }
}

/// Asks for a service's instances at an even pace.
async fn ask_others(
    channel: tonic::transport::Channel,
    time: Duration,
) -> anyhow::Result<Vec<Duration>> {
    let (start, mut times) = (Instant::now(), Vec::new());
    let mut beat = tokio::time::interval(OTHERS_EVERY);
    while start.elapsed() < time {
        beat.tick().await;
        let asked = Instant::now();
        get(channel.clone(), "/v1/health/service/service-1-1").await?;
        times.push(asked.elapsed());
    }
    Ok(times)
}
