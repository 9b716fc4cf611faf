//! The agent from top to bottom: everything that it is made of, in the order in which it
//! starts.

use std::fs::File;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tracing::info;
use weft_core::catalog::Node;
use weft_core::index::Index;
use weft_runtime::task::{TaskFailure, TaskTree};

use crate::acl::{Acl, Tokens};
use crate::checks::Checks;
use crate::config::Config;
use crate::dns::{DnsError, DnsSite};
use crate::grpc::{Calls, ProxyDoorError, serve_proxies};
use crate::http::Parts;
use crate::join::{JoinError, join};
use crate::leaf::{KeptLeaves, Leaves};
use crate::local::{Local, LocalError, OpenError, Place};
use crate::metrics::Metrics;
use crate::proxycfg::{Proxies, Sources};
use crate::servers::{MemberError, Membership, Servers};
use crate::views::Views;
use crate::{dns, http, roots, sync};

/// How long servers may take to confirm what is known from an earlier run, before it is served
/// unconfirmed: a server that is there needs milliseconds.
const SETTLE_LIMIT: Duration = Duration::from_secs(2);

/// The agent.
#[derive(Debug)]
pub struct Agent;

/// A running agent. It ends with the tasks that it was started on, not with this handle.
#[derive(Debug)]
pub struct AgentHandle {
    http_addr: Option<SocketAddr>,
    dns_addr: Option<SocketAddr>,
    proxy_socket: PathBuf,
    local: Local,
    /// Held as long as the agent runs, so that no other one uses the data directory.
    _lock: File,
}

/// Says why an agent did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// A service from the configuration cannot be registered.
    #[error("services[{at}] of the configuration cannot be registered")]
    ConfiguredService {
        /// Its place in the configuration.
        at: usize,
        /// What is wrong.
        #[source]
        source: LocalError,
    },
    /// The data directory cannot be used.
    #[error("cannot use the data directory {} ({source})", path.display())]
    DataDir {
        /// The directory.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// Another agent runs in the data directory.
    #[error("another agent runs with the data directory {}", path.display())]
    DataDirInUse {
        /// The directory.
        path: PathBuf,
    },
    /// The DNS address cannot be opened.
    #[error(transparent)]
    Dns(#[from] DnsError),
    /// The HTTP API's address cannot be opened.
    #[error("the HTTP address {addr} cannot be opened")]
    Http {
        /// The address.
        addr: SocketAddr,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The tokens that were set in an earlier run cannot be used.
    #[error("{reason}")]
    Tokens {
        /// Why not.
        reason: String,
    },
    /// The host is no member of a cluster.
    #[error(transparent)]
    Join(#[from] JoinError),
    /// The registrations of an earlier run cannot be read.
    #[error(transparent)]
    Local(#[from] OpenError),
    /// The host's papers cannot be used.
    #[error(transparent)]
    Member(#[from] MemberError),
    /// The socket for proxies cannot be opened.
    #[error(transparent)]
    ProxyDoor(#[from] ProxyDoorError),
    /// A step failed.
    #[error("a step of the start failed")]
    Task(#[from] TaskFailure),
}

impl Agent {
    /// Starts an agent; it runs until the tasks are cancelled.
    ///
    /// # Errors
    /// [`StartError`]; what was already started is to be cancelled by the caller.
    pub async fn start(config: Config, tasks: TaskTree) -> Result<AgentHandle, StartError> {
        let config = Arc::new(config);
        let lock = lock_data_dir(&config.data_dir, &tasks).await?;
        let metrics = Metrics::new();

        // Who we are. A host that is refused finds nothing of its own written here.
        let member = join(&config, &tasks).await?;
        let local = open_local(&config, &tasks).await?;
        let servers = Servers::new(member, &config.data_dir)?;
        let membership = servers.membership();
        servers.keep_fresh(&tasks);

        // What we know of the mesh.
        let (channels, others) = (servers.clone(), servers.clone());
        let calls = Calls::new(move || channels.channel()).or_else(move || others.move_on());
        let calls = calls.moving_with(servers.moves());
        let kept = (config.data_dir.join("views"), membership.cluster_id.as_str());
        let views = Views::start_kept(calls.clone(), kept, &tasks).await?;
        tasks.spawn("roots", roots::follow(servers.clone(), views.clone(), tasks.clone()));
        let leaves = open_leaves((calls, views.clone()), &servers, (&config, &metrics), &tasks);
        let leaves = leaves.await?;

        // What we tell the mesh.
        let checks = Checks::start(local.clone(), &tasks);
        let node = node(&config, &membership);
        sync::start(node, local.clone(), servers.clone(), metrics.clone(), &tasks);
        register_configured(&config, &local).await?;

        // Whom we serve: from what servers say now, or said last.
        views.settled(SETTLE_LIMIT).await;
        let sources = Sources { views: views.clone(), leaves: leaves.clone() };
        let proxies = Proxies::start(&local, sources, (&membership, config.bind_addr), &tasks);
        serve_proxies(&config.proxy_socket, proxies, &tasks)?;
        let site =
            DnsSite { datacenter: membership.datacenter.clone(), address: config.advertise_addr };
        let tools = (metrics.registry(), &tasks);
        let dns_addr = dns::start(&config.dns, site, views.clone(), tools).await?;
        let of_tokens = config.clone();
        let open = move || Tokens::open(&of_tokens.acl, &of_tokens.data_dir);
        let tokens = tasks
            .blocking(open)
            .await?
            .map_err(|error| StartError::Tokens { reason: crate::servers::reason(&error) })?;
        let acl = Acl::new(servers.clone(), config.acl.clone(), tokens);
        let parts = Parts {
            config: config.clone(),
            acl,
            local: local.clone(),
            checks,
            servers,
            views,
            leaves,
            metrics,
            dns_addr,
            tasks: tasks.clone(),
        };
        let http_addr = serve_http(&config, parts).await?;

        let Membership { node, datacenter, .. } = &*membership;
        let shown = |addr: Option<SocketAddr>| addr.map_or("off".to_owned(), |a| a.to_string());
        let (http, dns) = (shown(http_addr), shown(dns_addr));
        info!(%node, %datacenter, %http, %dns, "agent is ready");
        let proxy_socket = config.proxy_socket.clone();
        Ok(AgentHandle { http_addr, dns_addr, proxy_socket, local, _lock: lock })
    }
}

impl AgentHandle {
    /// Returns where the HTTP API listens; `None` when it is off.
    pub fn http_addr(&self) -> Option<SocketAddr> {
        self.http_addr
    }

    /// Returns where DNS is answered; `None` when it is off.
    pub fn dns_addr(&self) -> Option<SocketAddr> {
        self.dns_addr
    }

    /// Returns the unix socket for local proxies.
    pub fn proxy_socket(&self) -> &Path {
        &self.proxy_socket
    }

    /// Returns what is registered on this host.
    pub fn local(&self) -> &Local {
        &self.local
    }
}

async fn lock_data_dir(data_dir: &Path, tasks: &TaskTree) -> Result<File, StartError> {
    let path = data_dir.to_owned();
    let locked = tasks.blocking(move || {
        std::fs::create_dir_all(&path)?;
        let file = File::options()
            .create(true)
            .truncate(false)
            .write(true)
            .open(path.join("agent.lock"))?;
        match file.try_lock() {
            Ok(()) => Ok(Some(file)),
            Err(std::fs::TryLockError::WouldBlock) => Ok(None),
            Err(std::fs::TryLockError::Error(error)) => Err(error),
        }
    });
    match locked.await? {
        Ok(Some(file)) => Ok(file),
        Ok(None) => Err(StartError::DataDirInUse { path: data_dir.to_owned() }),
        Err(source) => Err(StartError::DataDir { path: data_dir.to_owned(), source }),
    }
}

async fn open_local(config: &Config, tasks: &TaskTree) -> Result<Local, StartError> {
    let place = Place {
        node: config.node_name.clone(),
        bind_addr: config.bind_addr,
        data_dir: config.data_dir.clone(),
    };
    let tree = tasks.clone();
    Ok(tasks.blocking(move || Local::open(place, &tree)).await??)
}

async fn open_leaves(
    (calls, views): (Calls, Views),
    servers: &Servers,
    (config, metrics): (&Config, &Metrics),
    tasks: &TaskTree,
) -> Result<Leaves, TaskFailure> {
    // Of two records of the roots either may be the newer one.
    let seen = views.roots().current().value;
    let trusted = seen.iter().map(|bundle| (**bundle).clone()).chain([servers.trust()]).collect();
    let (folder, membership) = (config.data_dir.join("leaves"), servers.membership());
    let kept = KeptLeaves::open(folder, membership.clone(), trusted, tasks).await?;
    Ok(Leaves::start(calls, views, (membership, kept), (metrics.registry(), tasks)))
}

/// The services of the configuration stand as it says, whatever was registered before.
async fn register_configured(config: &Config, local: &Local) -> Result<(), StartError> {
    let registered = local.register_configured(config.services.clone()).await;
    registered.map_err(|(at, source)| StartError::ConfiguredService { at, source })
}

/// This host, as the catalog is to have it.
fn node(config: &Config, membership: &Membership) -> Node {
    let address = config.advertise_addr.to_string();
    let tags = match config.advertise_addr.is_ipv4() {
        true => ["lan", "lan_ipv4", "wan", "wan_ipv4"],
        false => ["lan", "lan_ipv6", "wan", "wan_ipv6"],
    };
    Node {
        id: membership.node_id.clone(),
        name: membership.node.clone(),
        tagged_addresses: tags.map(|tag| (tag.to_owned(), address.clone())).into(),
        address,
        datacenter: membership.datacenter.clone(),
        meta: config.node_meta.clone(),
        create_index: Index::default(),
        modify_index: Index::default(),
    }
}

async fn serve_http(config: &Config, parts: Parts) -> Result<Option<SocketAddr>, StartError> {
    let Some(addr) = config.http.addr else { return Ok(None) };
    let bound = http::start(addr, parts).await;
    bound.map(Some).map_err(|source| StartError::Http { addr, source })
}

#[cfg(test)]
mod tests;
