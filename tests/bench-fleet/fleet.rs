//! All agents: joining, registering, watching.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, anyhow, bail};
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

    /// Opens every agent's stream.
    pub(crate) async fn watch(self, server: &Server, plan: &Plan) -> anyhow::Result<Watching> {
        let before = server.usage().resident;
        let first = self.agents.first().context("an agent")?.clone();
        let (told, heard) = mpsc::unbounded_channel();
        let start = Instant::now();
        let opening = self.agents.iter().cloned().map(|agent| {
            let own = services(agent.number, plan);
            async move {
                let number = agent.number;
                open(agent, own).await.with_context(|| format!("the stream of agent {number}"))
            }
        });
        let mut opened = stream::iter(opening).buffer_unordered(AT_ONCE);
        let mut streams = tokio::task::JoinSet::new();
        while let Some(stream) = opened.try_next().await? {
            streams.spawn(stream.tell(told.clone()));
        }
        drop(opened);
        println!(
            "{:<46} {:>8.1} s",
            "every stream has its values after",
            start.elapsed().as_secs_f64()
        );
        tokio::time::sleep(SETTLE).await;
        let resident = server.show_memory("with a connection and a stream for each");
        let each = resident.saturating_sub(before) / plan.agents.max(1) as u64;
        println!("{:<46} {:>8.1} kB", "of that for each agent", each as f64 / 1e3);
        Ok(Watching { fleet: self, first, streams, heard })
    }
}

/// A fleet whose streams are open.
pub(crate) struct Watching {
    fleet: Fleet,
    first: Agent,
    /// Each ends with the reason.
    streams: tokio::task::JoinSet<anyhow::Error>,
    heard: mpsc::UnboundedReceiver<Told>,
}

impl Watching {
    /// Shows what a fleet costs on which nothing happens: streams with their signs of life, and
    /// of each agent one comparison of all that it has within the time.
    pub(crate) async fn rest(&mut self, server: &Server, time: Duration) -> anyhow::Result<()> {
        let (cpu, start) = (server.usage().cpu, Instant::now());
        let pause = time / u32::try_from(self.fleet.agents.len().max(1))?;
        let mut turns = tokio::time::interval(pause);
        for agent in &self.fleet.agents {
            tokio::select! {
                // Cancel-safe: a turn that is not taken comes again.
                _ = turns.tick() => agent.compare().await?,
                Some(ended) = self.streams.join_next() => return Err(ended?.context("a stream")),
            }
        }
        let share = (server.usage().cpu - cpu).as_secs_f64() / start.elapsed().as_secs_f64();
        println!("{:<46} {:>8.2} % of a core", "server's CPU while nothing happens", share * 1e2);
        Ok(())
    }

    /// Changes what all agents watch.
    pub(crate) async fn change(&mut self, server: &Server, plan: &Plan) -> anyhow::Result<()> {
        let (mut asked, mut acknowledged, mut deltas) = (Vec::new(), Vec::new(), 0);
        let cpu = server.usage().cpu;
        let mut own = services(self.first.number, plan);
        own.retain(|service| service == SHARED);
        for change in 0..plan.changes {
            let status = if change % 2 == 0 { "critical" } else { "passing" };
            let start = Instant::now();
            self.first.register(&own, status).await?;
            let written = Instant::now();
            for _ in 0..plan.agents {
                let told: Told = tokio::select! {
                    // Cancel-safe: what is not taken stays in its queue.
                    told = self.heard.recv() => told.context("nobody is left to be told")?,
                    Some(ended) = self.streams.join_next() => {
                        return Err(ended?.context("a stream"));
                    }
                    () = tokio::time::sleep(SPREAD_LIMIT) => bail!("not everybody was told"),
                };
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
        Ok(())
    }

    /// Ends the streams; returns one of the agents.
    pub(crate) async fn end(mut self) -> Agent {
        self.streams.shutdown().await;
        self.first
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

/// A stream that has its first values.
struct Open {
    agent: Agent,
    events: tonic::Streaming<wire::WatchEvent>,
    /// Ends the stream when it is dropped.
    requests: mpsc::Sender<wire::WatchRequest>,
}

/// Watches what all watch, the trust bundle and two services.
async fn open(agent: Agent, own: Vec<String>) -> anyhow::Result<Open> {
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
    let mut events = client.watch(requested).await.context("opening")?.into_inner();
    for at in 0..count {
        let first = events.message().await.with_context(|| format!("first value {at}"))?;
        first.with_context(|| format!("the stream ended before first value {at}"))?;
    }
    Ok(Open { agent, events, requests })
}

impl Open {
    /// Tells each change of what all watch; returns why there are no more.
    async fn tell(mut self, told: mpsc::UnboundedSender<Told>) -> anyhow::Error {
        let number = self.agent.number;
        let end = loop {
            match self.events.message().await {
                Ok(Some(event)) if event.id == 0 => {
                    let is_delta = matches!(event.answer, Some(Answer::Delta(_)));
                    if told.send(Told { at: Instant::now(), is_delta }).is_err() {
                        break anyhow!("nobody listens");
                    }
                }
                Ok(Some(_)) => {}
                Ok(None) => break anyhow!("the server ended it"),
                Err(status) => break status.into(),
            }
        };
        drop(self.requests);
        end.context(format!("agent {number}"))
    }
}
