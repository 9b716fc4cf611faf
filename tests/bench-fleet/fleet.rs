//! All agents: joining, registering, watching.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use futures::stream::{self, StreamExt, TryStreamExt};
use tokio::sync::mpsc;
use weft_proto::grpc::v1 as wire;
use weft_proto::grpc::v1::watch_event::Answer;

use crate::agent::{self, Agent};
use crate::server::Server;
use crate::{Plan, SETTLE, show};

/// What every agent watches, beside services of its own.
const SHARED: &str = "shared";
/// Requests of the fleet under way at once: the server is to be busy, not buried.
const AT_ONCE: usize = 128;
/// The time for a change to reach everybody.
const SPREAD_LIMIT: Duration = Duration::from_secs(60);

/// The agents of all hosts.
pub(crate) struct Fleet {
    agents: Vec<Agent>,
}

/// What reached one agent.
struct Told {
    at: Instant,
    is_delta: bool,
}

impl Fleet {
    /// Has every agent ask for its certificate.
    pub(crate) async fn join(server: &Server, plan: &Plan) -> anyhow::Result<Self> {
        let token = Arc::new(server.join_token());
        let door = agent::anonymous(&token)?;
        let start = Instant::now();
        let joining = (0..plan.agents).map(|number| {
            let (door, token) = (door.clone(), token.clone());
            async move { Agent::join(door, &token, number).await }
        });
        let agents: Vec<Agent> = stream::iter(joining).buffered(AT_ONCE).try_collect().await?;
        let rate = plan.agents as f64 / start.elapsed().as_secs_f64();
        println!("{:<46} {rate:>8.0} a second", "agents joined, a certificate each");
        server.show_memory("before anything is registered");
        Ok(Self { agents })
    }

    /// Registers every host whole, as agents do at their start.
    pub(crate) async fn register(&self, server: &Server, plan: &Plan) -> anyhow::Result<()> {
        let (start, before) = (Instant::now(), server.usage());
        let registering = self.agents.iter().map(|agent| {
            let services = services(agent.number, plan);
            async move { agent.register(&services, "passing").await }
        });
        let done: Vec<u64> = stream::iter(registering).buffered(AT_ONCE).try_collect().await?;
        let elapsed = start.elapsed().as_secs_f64();
        let cpu = (server.usage().cpu - before.cpu).as_secs_f64() / plan.instances as f64;
        println!(
            "{:<46} {:>8.0} hosts, {:.0} instances a second, {:.0} µs of CPU each",
            "registered over a connection each",
            done.len() as f64 / elapsed,
            plan.instances as f64 / elapsed,
            cpu * 1e6
        );
        tokio::time::sleep(SETTLE).await;
        let held = format!("{} hosts, {} instances", plan.agents, plan.instances);
        server.show_memory(&held);
        Ok(())
    }

    /// Asks for the names of all services.
    pub(crate) async fn list(&self, _server: &Server) -> anyhow::Result<()> {
        let agent = self.agents.first().context("an agent")?;
        let mut times = Vec::new();
        let mut bytes = 0;
        for _ in 0..50 {
            let start = Instant::now();
            bytes = crate::waiters::get(agent.channel.clone(), "/v1/catalog/services").await?.1;
            times.push(start.elapsed());
        }
        show(&format!("GET /v1/catalog/services, {} kB", bytes / 1000), times);
        Ok(())
    }

    /// Opens every agent's stream and changes what they all watch; returns one of them.
    pub(crate) async fn watch(self, server: &Server, plan: &Plan) -> anyhow::Result<Agent> {
        let before = server.usage().resident;
        let first = self.agents.first().context("an agent")?.clone();
        let (told, mut heard) = mpsc::unbounded_channel();
        let ready = Arc::new(AtomicUsize::new(0));
        let start = Instant::now();
        let mut tasks = tokio::task::JoinSet::new();
        for agent in self.agents {
            let own = services(agent.number, plan);
            tasks.spawn(follow(agent, own, ready.clone(), told.clone()));
        }
        while ready.load(Ordering::SeqCst) < plan.agents {
            ensure!(start.elapsed() < 10 * SPREAD_LIMIT, "the streams are not open in time");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        println!(
            "{:<46} {:>8.1} s",
            "every stream has its values after",
            start.elapsed().as_secs_f64()
        );
        tokio::time::sleep(SETTLE).await;
        let resident = server.show_memory("with a connection and a stream for each");
        let each = resident.saturating_sub(before) / plan.agents.max(1) as u64;
        println!("{:<46} {:>8.1} kB", "of that for each agent", each as f64 / 1e3);

        let (mut asked, mut acknowledged, mut deltas) = (Vec::new(), Vec::new(), 0);
        let cpu = server.usage().cpu;
        let own = services(first.number, plan);
        for change in 0..plan.changes {
            let status = if change % 2 == 0 { "critical" } else { "passing" };
            let start = Instant::now();
            let mut changed = own.clone();
            changed.retain(|service| service == SHARED);
            first.register(&changed, status).await?;
            let written = Instant::now();
            for _ in 0..plan.agents {
                let told = tokio::time::timeout(SPREAD_LIMIT, heard.recv());
                let told: Told = told.await.context("not everybody was told")?.context("told")?;
                asked.push(told.at - start);
                acknowledged.push(told.at.saturating_duration_since(written));
                deltas += usize::from(told.is_delta);
            }
        }
        let cpu = (server.usage().cpu - cpu).as_secs_f64() / (plan.changes * plan.agents) as f64;
        show("a change at every agent, from the request", asked);
        show("a change at every agent, from its answer", acknowledged);
        println!("{:<46} {:>8.1} µs", "server's CPU for each agent told", cpu * 1e6);
        println!("{:<46} {deltas:>8}", "told as a difference");
        for name in ["watch_looks", "watch_looks_in_vain", "watch_values_sent", "watch_sent_bytes"]
        {
            let figure = server.figure(&format!("weft_server_{name}_total"));
            println!("{:<46} {figure:>8}", format!("weft_server_{name}_total"));
        }
        tasks.shutdown().await;
        Ok(first)
    }
}

/// The services of a host: one instance of the shared one is on the first host.
fn services(host: usize, plan: &Plan) -> Vec<String> {
    let from = host * plan.instances / plan.agents;
    let to = (host + 1) * plan.instances / plan.agents;
    let mut services: Vec<String> =
        (from..to).map(|at| format!("service-{:04}", at % plan.services)).collect();
    if host == 0 {
        services.push(SHARED.to_owned());
    }
    services
}

/// Watches what all watch, the trust bundle and two services; tells each change of the first.
async fn follow(
    agent: Agent,
    own: Vec<String>,
    ready: Arc<AtomicUsize>,
    told: mpsc::UnboundedSender<Told>,
) -> anyhow::Result<()> {
    let (requests, stream) = mpsc::channel(8);
    let mut client = wire::watch_client::WatchClient::new(agent.channel.clone())
        .max_decoding_message_size(64 << 20);
    let mut watched = vec![(wire::Topic::Service, SHARED), (wire::Topic::Roots, "")];
    watched.extend(own.iter().take(2).map(|service| (wire::Topic::Service, service.as_str())));
    let count = watched.len();
    for (id, (topic, key)) in watched.into_iter().enumerate() {
        let start = wire::WatchStart {
            id: id as u64,
            topic: topic.into(),
            key: key.to_owned(),
            takes_deltas: true,
            ..wire::WatchStart::default()
        };
        let request = Some(wire::watch_request::Request::Start(start));
        requests.send(wire::WatchRequest { request }).await?;
    }
    let requested = tokio_stream::wrappers::ReceiverStream::new(stream);
    let mut events = client.watch(requested).await?.into_inner();
    for _ in 0..count {
        events.message().await?.context("a first value")?;
    }
    ready.fetch_add(1, Ordering::SeqCst);
    while let Some(event) = events.message().await? {
        if event.id == 0 {
            let is_delta = matches!(event.answer, Some(Answer::Delta(_)));
            told.send(Told { at: Instant::now(), is_delta })?;
        }
    }
    drop(requests);
    Ok(())
}
