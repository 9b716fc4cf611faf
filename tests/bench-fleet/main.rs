//! A fleet against one server: simulated agents, each with a certificate, a connection and a
//! watch stream of its own, register their services, rest, and are told of a change. Beside them
//! two real agents show how soon one has in its DNS what the other is told. Then blocking queries
//! wait by the ten thousand.
//!
//! `cargo run --release -p weft-tests --bin weft-bench-fleet -- --agents 10000`; the server is
//! the `weft` beside this program, a process of its own. With the word `identity` it measures
//! that instead. Nothing is asserted; the figures are
//! printed. Both processes need some more open files than there are agents.

mod agent;
mod fleet;
mod hosts;
mod identity;
mod server;
mod waiters;

use std::time::Duration;

use anyhow::{Context, bail};

/// What is measured.
#[derive(Debug, Clone)]
pub(crate) struct Plan {
    /// Hosts, each with an agent.
    pub(crate) agents: usize,
    /// Service instances over all hosts.
    pub(crate) instances: usize,
    /// Names of services.
    pub(crate) services: usize,
    /// Changes of the instance that all agents watch.
    pub(crate) changes: usize,
    /// Blocking queries that wait for something that does not come.
    pub(crate) waiters: usize,
    /// How long nothing happens; each agent compares once meanwhile.
    pub(crate) rest: Duration,
    /// Registrations at one real agent, and failed checks, looked for in another's DNS.
    pub(crate) looks: usize,
}

impl Plan {
    fn parse(mut arguments: impl Iterator<Item = String>) -> anyhow::Result<Self> {
        let mut plan = Self {
            agents: 10_000,
            instances: 172_000,
            services: 4_096,
            changes: 20,
            waiters: 100_000,
            rest: Duration::from_secs(60),
            looks: 200,
        };
        while let Some(name) = arguments.next() {
            let value = arguments.next().with_context(|| format!("{name} wants a number"))?;
            let value: usize = value.parse().with_context(|| format!("{name}: {value:?}"))?;
            match name.as_str() {
                "--agents" => plan.agents = value,
                "--changes" => plan.changes = value,
                "--instances" => plan.instances = value,
                "--looks" => plan.looks = value,
                "--rest" => plan.rest = Duration::from_secs(value as u64),
                "--services" => plan.services = value,
                "--waiters" => plan.waiters = value,
                other => bail!(
                    "no such option: {other}; there are --agents, --changes, --instances, --looks, \
                     --rest (seconds), --services and --waiters"
                ),
            }
        }
        Ok(plan)
    }
}

fn main() -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    if std::env::args().nth(1).as_deref() == Some("identity") {
        return runtime.block_on(identity::measure());
    }
    let plan = Plan::parse(std::env::args().skip(1))?;
    runtime.block_on(async {
        let server = server::Server::start();
        let fleet = fleet::Fleet::join(&server, &plan).await?;
        fleet.register(&server, &plan).await?;
        fleet.list(&server).await?;
        let mut watching = fleet.watch(&server, &plan).await?;
        watching.rest(&server, plan.rest).await?;
        watching.change(&server, &plan).await?;
        hosts::measure(&server, plan.looks).await?;
        let agent = watching.end().await;
        waiters::wait(&server, &agent, &plan).await
    })
}

/// The pause after which what was set off is done, also on a machine that is busy.
pub(crate) const SETTLE: Duration = Duration::from_secs(3);

/// Shows times as they are in a table.
pub(crate) fn show(what: &str, mut times: Vec<Duration>) {
    times.sort_unstable();
    let at = |percent: usize| {
        let time = times.get((times.len() * percent / 100).min(times.len().saturating_sub(1)));
        time.map_or(0.0, |time| time.as_secs_f64() * 1e3)
    };
    let (half, most, all) = (at(50), at(99), at(100));
    let count = times.len();
    println!("{what:<46} p50 {half:>8.1} ms  p99 {most:>8.1} ms  max {all:>8.1} ms  of {count}");
}
