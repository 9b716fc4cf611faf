//! The clusters that are measured: one or three servers of a kind on loopback, each with its own
//! data directory, with the settings that its makers recommend for speed and full durability.

mod consul;
mod etcd;
mod node;
mod weft;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::bail;
use weft_tests::{Api, proc};

use crate::cells::{self, At, INSTANCES, SEEDED};
use crate::load::connect;
use crate::wire::Request;
use node::Node;

/// How long a cluster may take until it serves.
const START_LIMIT: Duration = Duration::from_secs(30);
const PAUSE: Duration = Duration::from_millis(50);

/// A program that is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Kind {
    Consul,
    Etcd,
    Weft,
}

/// In the order of the table: ours first.
pub(crate) const KINDS: [Kind; 3] = [Kind::Weft, Kind::Consul, Kind::Etcd];

impl Kind {
    /// Its name.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Consul => "consul",
            Self::Etcd => "etcd",
            Self::Weft => "weft",
        }
    }
}

/// Where the programs are.
#[derive(Debug, Clone)]
pub(crate) struct Programs {
    /// Ours.
    pub(crate) weft: PathBuf,
    /// The folder of the peers'.
    pub(crate) peers: PathBuf,
}

/// Where clients come in.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Door {
    Grpc(SocketAddr),
    Http(SocketAddr),
}

/// A running cluster; it ends with this value.
pub(crate) struct Cluster {
    pub(crate) kind: Kind,
    pub(crate) version: String,
    nodes: Vec<Node>,
    /// The place of the leader in `nodes`, as of the last look.
    leader: usize,
}

impl Cluster {
    /// Starts servers and waits until one of them leads.
    ///
    /// # Errors
    /// When the program is missing, or does not come to serve.
    pub(crate) fn start(
        kind: Kind,
        servers: usize,
        folder: &Path,
        programs: &Programs,
    ) -> anyhow::Result<Self> {
        let (version, nodes) = match kind {
            Kind::Consul => consul::start(servers, folder, &programs.peers.join("consul"))?,
            Kind::Etcd => etcd::start(servers, folder, &programs.peers.join("etcd"))?,
            Kind::Weft => weft::start(servers, folder, &programs.weft)?,
        };
        let mut cluster = Self { kind, version, nodes, leader: 0 };
        cluster.find_leader()?;
        cluster.seed();
        Ok(cluster)
    }

    /// The doors of the servers to ask.
    pub(crate) fn doors(&self, at: At) -> Vec<Door> {
        let door = |node: &Node| match self.kind {
            Kind::Consul | Kind::Weft => Door::Http(node.door),
            Kind::Etcd => Door::Grpc(node.door),
        };
        match at {
            At::Any => self.nodes.iter().map(door).collect(),
            At::Leader => vec![door(&self.nodes[self.leader])],
        }
    }

    /// Looks who leads now.
    ///
    /// # Errors
    /// When nobody does for some time.
    pub(crate) fn find_leader(&mut self) -> anyhow::Result<()> {
        let start = Instant::now();
        loop {
            let found = self.nodes.iter().position(|node| match self.kind {
                Kind::Consul | Kind::Weft => says_it_leads(node),
                Kind::Etcd => etcd::leads(node),
            });
            if let Some(leader) = found {
                self.leader = leader;
                return Ok(());
            }
            if let Some(ended) = self.nodes.iter_mut().find_map(Node::last_words) {
                bail!("a server ended: {ended}");
            }
            if start.elapsed() > START_LIMIT {
                bail!("nobody leads after {} s", START_LIMIT.as_secs());
            }
            std::thread::sleep(PAUSE);
        }
    }

    /// The processor time of all servers so far, in seconds.
    pub(crate) fn cpu_seconds(&self) -> f64 {
        self.nodes.iter().map(|node| proc::cpu_seconds(node.pid())).sum()
    }

    /// The resident memory of the largest server, in megabytes.
    pub(crate) fn rss_mb(&self) -> f64 {
        self.nodes.iter().map(|node| proc::rss_mb(node.pid())).fold(0.0, f64::max)
    }

    /// Writes the keys and instances that are read. What cannot be written cannot be read
    /// either, and its cells say so.
    fn seed(&self) {
        let keys = (0..SEEDED).filter_map(|number| cells::seed(self.kind, number));
        let instances = (0..INSTANCES).filter_map(|at| cells::instance(self.kind, at, 8080));
        let groups: [Vec<Request>; 2] = [keys.collect(), instances.collect()];
        for error in groups
            .iter()
            .filter_map(|group| group.iter().find_map(|request| self.ask(request).err()))
        {
            eprintln!("{}: {error:#}", self.kind.name());
        }
    }

    fn ask(&self, request: &Request) -> anyhow::Result<()> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(async {
            let mut wire = connect(self.doors(At::Leader)[0]).await?;
            wire.ask(request).await.map(drop)
        })
    }
}

/// Whether a server with Consul's API says that the leader is itself.
fn says_it_leads(node: &Node) -> bool {
    let Ok(answer) = Api::new(node.door).get("/v1/status/leader") else { return false };
    let leader = answer.body.trim().trim_matches('"').to_owned();
    answer.status == 200 && leader.parse::<SocketAddr>().is_ok_and(|at| at == node.peer_door)
}
