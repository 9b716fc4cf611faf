//! The agent from top to bottom: everything that it is made of, in the order in which it
//! starts.

use std::fs::File;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tracing::{error, info};
use weft_core::catalog::Node;
use weft_core::index::Index;
use weft_runtime::http::ApiAudit;
use weft_runtime::task::{TaskFailure, TaskTree};
use weft_runtime::telemetry::audit::{AuditError, AuditLog, AuditOptions};

use crate::acl::{Acl, Tokens};
use crate::checks::{Ask, Checks, ExternalMeans, ExternalMetrics, Means, Tell, start_external};
use crate::config::{Config, ExternalChecks};
use crate::contact::Contact;
use crate::dns::{DnsError, DnsParts, DnsSite, Names};
use crate::grpc::{
    Calls, ProxyDoorError, WorkloadDoorError, WorkloadSources, serve_proxies, serve_workloads,
};
use crate::http::{Addresses, DoorError, Parts};
use crate::join::{JoinError, join};
use crate::jwks::KeySets;
use crate::leaf::{KeptLeaves, Leaves};
use crate::local::{Local, LocalError, OpenError, Place};
use crate::metrics::Metrics;
use crate::proxycfg::{Proxies, Sources};
use crate::reload::Reloader;
use crate::servers::{MemberError, Membership, Servers};
use crate::views::Views;
use crate::{dns, http, proxycfg, roots, sync};

/// How long servers may take to confirm what is known from an earlier run, before it is served
/// unconfirmed: a server that is there needs milliseconds.
const SETTLE_LIMIT: Duration = Duration::from_secs(2);

/// The agent.
#[derive(Debug)]
pub struct Agent;

/// A running agent. It ends with the tasks that it was started on, not with this handle.
#[derive(Debug)]
pub struct AgentHandle {
    addresses: Addresses,
    dns_addr: Option<SocketAddr>,
    proxy_socket: PathBuf,
    local: Local,
    reloader: Reloader,
    /// Held as long as the agent runs, so that no other one uses the data directory.
    _lock: File,
}

/// Says why an agent did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The audit log cannot be kept.
    #[error(transparent)]
    Audit(#[from] AuditError),
    /// What stands in files cannot be registered.
    #[error("the services of the configuration cannot be registered")]
    Configured(#[source] LocalError),
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
    /// A door of the HTTP API cannot be opened.
    #[error(transparent)]
    Http(#[from] DoorError),
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
    /// The socket of the Workload API cannot be opened.
    #[error(transparent)]
    WorkloadDoor(#[from] WorkloadDoorError),
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
        let acl = open_acl(&config, &servers, &tasks).await?;
        let docker_socket = config.checks.docker_socket.clone();
        let means = Means { ask: ask_by(&servers, &acl), docker_socket };
        let checks = Checks::start(local.clone(), means, &tasks);
        let node = (node(&config, &membership), config.locality.clone());
        register_configured(&config, &local).await?;
        sync::start(node, local.clone(), servers.clone(), metrics.clone(), &tasks);
        check_external(&config, (&servers, &acl), &metrics, &tasks);

        let contact = Contact::start(views.clone(), (&config, &metrics), &tasks).await?;
        // Whom we serve: from what servers say now, or said last.
        views.settled(SETTLE_LIMIT).await;
        let known = (&local, &views, &leaves);
        let proxies = open_sockets(&config, known, (&membership, &metrics), &tasks).await?;
        proxycfg::rollouts::start(proxies.clone(), servers.clone(), &tasks);
        let tools = (metrics.registry(), &tasks);
        let names = Names::start(views.clone(), &tasks);
        let parts = dns_parts((&views, names.clone()), &acl, &servers);
        let dns_addr =
            dns::start(&config.dns, dns_site(&config, &membership), parts, tools).await?;
        let reloader = Reloader::new(config.clone(), local.clone(), tasks.clone());
        let parts = Parts {
            config: config.clone(),
            audit: open_audit(&config, &metrics, &tasks)?,
            reloader: reloader.clone(),
            acl,
            local: local.clone(),
            checks,
            servers,
            views,
            names,
            contact,
            leaves,
            proxies,
            metrics,
            dns_addr,
            tasks: tasks.clone(),
        };
        let addresses = http::start(parts).await?;

        let Membership { node, datacenter, .. } = &*membership;
        let shown = |addr: Option<SocketAddr>| addr.map_or("off".to_owned(), |a| a.to_string());
        let (http, dns) = (shown(addresses.http), shown(dns_addr));
        info!(%node, %datacenter, %http, %dns, "agent is ready");
        let proxy_socket = config.proxy_socket.clone();
        Ok(AgentHandle { addresses, dns_addr, proxy_socket, local, reloader, _lock: lock })
    }
}

impl AgentHandle {
    /// Returns where the HTTP API listens; `None` when it is off.
    pub fn http_addr(&self) -> Option<SocketAddr> {
        self.addresses.http
    }

    /// Returns where the HTTP API listens with TLS; `None` when it is off.
    pub fn https_addr(&self) -> Option<SocketAddr> {
        self.addresses.https
    }

    /// Returns where DNS is answered; `None` when it is off.
    pub fn dns_addr(&self) -> Option<SocketAddr> {
        self.dns_addr
    }

    /// Returns the unix socket for local proxies.
    pub fn proxy_socket(&self) -> &Path {
        &self.proxy_socket
    }

    /// Returns what reads the configuration's files again.
    pub fn reloader(&self) -> &Reloader {
        &self.reloader
    }

    /// Returns what is registered on this host.
    pub fn local(&self) -> &Local {
        &self.local
    }
}

/// Opens the doors for what runs on this host with certificates: its proxies, and processes that
/// have them themselves.
async fn open_sockets(
    config: &Config,
    (local, views, leaves): (&Local, &Views, &Leaves),
    (membership, metrics): (&Arc<Membership>, &Metrics),
    tasks: &TaskTree,
) -> Result<Proxies, StartError> {
    let kept = (config.data_dir.join("jwks"), membership.cluster_id.as_str());
    let keys = KeySets::start(kept, metrics.registry(), tasks).await?;
    let sources = Sources { views: views.clone(), keys, leaves: leaves.clone() };
    let addresses = (config.bind_addr, config.advertise_addr);
    let place = (membership.as_ref(), addresses, config.locality.clone());
    let proxies = Proxies::start(local, sources, place, tasks);
    serve_proxies(&config.proxy_socket, (proxies.clone(), config.host_proxy.clone()), tasks)?;
    if let Some(workload_api) = &config.workload_api {
        let (local, membership) = (local.clone(), membership.clone());
        let (leaves, views) = (leaves.clone(), views.clone());
        let sources = WorkloadSources { local, leaves, views, membership };
        serve_workloads(workload_api, sources, (metrics.registry(), tasks))?;
    }
    Ok(proxies)
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
        expose_ports: config.expose_ports.clone(),
        data_dir: config.data_dir.clone(),
        scripts: config.checks.scripts,
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
    Ok(Leaves::start(
        calls,
        views,
        (membership, kept, config.leaf_key),
        (metrics.registry(), tasks),
    ))
}

/// What stands in files is registered as it says, whatever was registered before; what is wrong
/// there is told, and keeps nothing else from starting.
async fn register_configured(config: &Config, local: &Local) -> Result<(), StartError> {
    let mut definitions = config.definitions.clone();
    definitions.services.extend(config.external_checks.iter().map(ExternalChecks::announcement));
    let registered = local.register_configured(definitions).await;
    for fault in registered.map_err(StartError::Configured)? {
        error!(%fault, "a definition in the configuration is wrong and was passed over");
    }
    Ok(())
}

/// Who judges callers, with the tokens that were set in an earlier run.
async fn open_acl(
    config: &Arc<Config>,
    servers: &Servers,
    tasks: &TaskTree,
) -> Result<Acl, StartError> {
    let of_tokens = config.clone();
    let open = move || Tokens::open(&of_tokens.acl, &of_tokens.data_dir);
    let tokens = tasks
        .blocking(open)
        .await?
        .map_err(|error| StartError::Tokens { reason: crate::servers::reason(&error) })?;
    Ok(Acl::new(servers.clone(), config.acl.clone(), tokens))
}

/// How checks ask servers about other nodes, in the agent's own name.
fn ask_by(servers: &Servers, acl: &Acl) -> Ask {
    let (servers, acl) = (servers.clone(), acl.clone());
    Arc::new(move |path| {
        let (servers, token) = (servers.clone(), acl.agent_token());
        Box::pin(async move { servers.ask(&path, token.as_ref()).await })
    })
}

/// Has this agent take its part of the checks of hosts without one, if it is told to.
fn check_external(
    config: &Config,
    (servers, acl): (&Servers, &Acl),
    metrics: &Metrics,
    tasks: &TaskTree,
) {
    let Some(settings) = config.external_checks.clone() else { return };
    let (of_tell, of_token) = (servers.clone(), acl.clone());
    let tell: Tell = Arc::new(move |operations| {
        let (servers, token) = (of_tell.clone(), of_token.agent_token());
        Box::pin(async move { servers.transact(operations, token.as_ref()).await })
    });
    let means = ExternalMeans {
        ask: ask_by(servers, acl),
        tell,
        node: servers.membership().node.clone(),
        metrics: ExternalMetrics::register(metrics.registry()),
    };
    start_external(settings, means, tasks);
}

fn dns_site(config: &Config, membership: &Membership) -> DnsSite {
    DnsSite {
        datacenter: membership.datacenter.clone(),
        address: config.advertise_addr,
        locality: config.locality.clone().filter(|_| config.dns.prefers_near),
    }
}

fn dns_parts((views, names): (&Views, Names), acl: &Acl, servers: &Servers) -> DnsParts {
    let (acl, servers) = (Some(acl.clone()), Some(servers.clone()));
    DnsParts { views: views.clone(), names, acl, servers }
}

/// Opens the audit log, if one is to be kept.
fn open_audit(
    config: &Config,
    metrics: &Metrics,
    tasks: &TaskTree,
) -> Result<Option<ApiAudit>, AuditError> {
    let Some(audit) = &config.audit else { return Ok(None) };
    let options = AuditOptions {
        path: audit.path.clone(),
        rotate_bytes: audit.rotate_bytes,
        rotate_files_max: audit.rotate_files_max,
    };
    let log = AuditLog::open(options, tasks)?;
    log.register(metrics.registry());
    let node = config.node_name.to_string();
    Ok(Some(ApiAudit { log, is_enforced: audit.is_enforced, node }))
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

#[cfg(test)]
mod tests;
