//! Starting a server, top to bottom: directory, cluster, identity, consensus, door.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use std::{fs, io};

use tracing::{info, warn};
use weft_core::ca::{CaSettings, MemberRole};
use weft_core::identity::SpiffeId;
use weft_core::lease::LeaseTimes;
use weft_core::time::Timestamp;
use weft_proto::join_token::JoinToken;
use weft_runtime::backoff::Backoff;
use weft_runtime::http::{ApiAudit, ServeOptions, serve};
use weft_runtime::rpc::GrpcOrApi;
use weft_runtime::store::{self, Store, StoreError};
use weft_runtime::task::{TaskFailure, TaskTree};
use weft_runtime::telemetry::audit::{AuditError, AuditLog, AuditOptions};
use weft_runtime::tls::{CertificateFileError, ClientTlsCell};
use weft_runtime::{clock, disk, entropy, net};

use crate::ca::{Shelf, Signer, SignerError};
use crate::config::Config;
use crate::door::Door;
use crate::enter;
use crate::grpc;
use crate::http;
use crate::http::door::{ApiAddresses, ApiDoors};
use crate::join::{Admission, JoinError, Terms};
use crate::keeper;
use crate::leader;
use crate::membership::{
    self, Membership, MembershipError, MembershipTable, Recalled, recall, seal_key_path,
};
use crate::metrics::{self, Metrics};
use crate::presence::{self, Presences};
use crate::propose::{Proposer, WriteError};
use crate::raft::{Consensus, ConsensusError, ConsensusOptions, Member, MembersError, NodeId};
use crate::read::Reader;
use crate::watch::Hub;

/// Connections at the RPC door: those of 8,000 hosts, below a usual limit of 20,000 open files.
const RPC_CONNECTIONS_MAX: usize = 16_384;
/// How long the token printed at the first start is good for.
const FIRST_TOKEN_LIFETIME: Duration = Duration::from_secs(24 * 3600);
/// The files for them in the data directory, for the owner's eyes only.
const AGENT_TOKEN_FILE: &str = "join-token";
const SERVER_TOKEN_FILE: &str = "server-join-token";
/// The pauses before it is tried again to make one.
const TOKEN_PAUSE_MIN: Duration = Duration::from_secs(1);
const TOKEN_PAUSE_MAX: Duration = Duration::from_secs(30);

/// States why the server did not start. Nothing was changed unless it says so.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The audit log cannot be kept.
    #[error(transparent)]
    Audit(#[from] AuditError),
    /// An address cannot be listened on.
    #[error("cannot listen on {address}: {source}")]
    Bind {
        /// The address.
        address: SocketAddr,
        /// The system's words.
        source: io::Error,
    },
    /// Consensus did not start.
    #[error(transparent)]
    Consensus(#[from] ConsensusError),
    /// The data directory cannot be used.
    #[error("data_dir: cannot use {path:?}: {source}")]
    DataDir {
        /// The directory.
        path: PathBuf,
        /// The system's words.
        source: io::Error,
    },
    /// The replicated state is of another cluster than the data directory says.
    #[error(
        "data_dir: the directory belongs to cluster {directory}, but the replicated state to \
         {state}; it was put together from two servers"
    )]
    ForeignState {
        /// What the directory says.
        directory: String,
        /// What the state says.
        state: String,
    },
    /// The API cannot be served with TLS.
    #[error(transparent)]
    Https(#[from] CertificateFileError),
    /// Work was cut short.
    #[error("{0}")]
    Interrupted(String),
    /// The first join token was not made.
    #[error("cannot make the first join token")]
    JoinToken(#[source] JoinError),
    /// This server has no cluster.
    #[error(transparent)]
    Membership(#[from] MembershipError),
    /// The founding was not written.
    #[error("the new cluster could not be written")]
    NotFounded(#[source] WriteError),
    /// The cluster did not take this server in.
    #[error("the cluster did not take this server in")]
    NotTakenIn(#[source] MembersError),
    /// This server has no certificate.
    #[error(transparent)]
    Signer(#[from] SignerError),
    /// The store cannot be used.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl From<TaskFailure> for StartError {
    fn from(failure: TaskFailure) -> Self {
        Self::Interrupted(failure.message)
    }
}

/// The control plane.
#[derive(Debug)]
pub struct Server;

/// A running server. It runs until the tasks that it was started under are cancelled.
#[derive(Clone)]
pub struct ServerHandle {
    rpc_addr: SocketAddr,
    telemetry_addr: Option<SocketAddr>,
    api: ApiAddresses,
    cluster_id: String,
    admission: Admission,
    consensus: Consensus,
    tasks: TaskTree,
    join_token_path: PathBuf,
}

impl std::fmt::Debug for ServerHandle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ServerHandle").field("rpc_addr", &self.rpc_addr).finish_non_exhaustive()
    }
}

impl ServerHandle {
    /// Returns where the RPC door listens.
    pub fn rpc_addr(&self) -> SocketAddr {
        self.rpc_addr
    }

    /// Returns where metrics are served, if anywhere.
    pub fn telemetry_addr(&self) -> Option<SocketAddr> {
        self.telemetry_addr
    }

    /// Returns where the HTTP API is served without TLS, if anywhere.
    pub fn http_addr(&self) -> Option<SocketAddr> {
        self.api.http
    }

    /// Returns where the HTTP API is served with TLS, if anywhere.
    pub fn https_addr(&self) -> Option<SocketAddr> {
        self.api.https
    }

    /// Returns the id of the cluster.
    pub fn cluster_id(&self) -> &str {
        &self.cluster_id
    }

    /// Returns the file with the join token of the first start.
    pub fn join_token_path(&self) -> &Path {
        &self.join_token_path
    }

    /// Waits until the server is told to end, or ends itself because it was removed from its
    /// cluster.
    pub async fn ended(&self) {
        self.tasks.cancelled().await;
    }

    /// Waits until this server knows of a leader, for a limited time.
    pub async fn led(&self, limit: Duration) {
        if let Err(error) = self.consensus.wait_for_leader(limit).await {
            info!(%error, "no leader is known yet");
        }
    }

    /// Hands leadership over to another server, if this one leads: called before the tasks are
    /// cancelled, it spares the cluster an election.
    pub async fn hand_over(&self) {
        self.consensus.hand_over().await;
    }

    /// Sends nothing to the servers at these addresses from now on, and again to all others: to
    /// try out what a cluster does that is parted.
    pub fn cut_off(&self, addresses: BTreeSet<String>) {
        self.consensus.cut_off(addresses);
    }

    /// Makes a token that is good for any number of hosts for a day.
    ///
    /// # Errors
    /// [`JoinError`] when it cannot be written.
    pub async fn mint_join_token(&self, role: MemberRole) -> Result<JoinToken, JoinError> {
        self.mint(Terms::new(role, None, FIRST_TOKEN_LIFETIME)).await
    }

    /// Makes a token that is good for one host for a day.
    ///
    /// # Errors
    /// [`JoinError`] when it cannot be written.
    pub async fn mint_single_join_token(&self, role: MemberRole) -> Result<JoinToken, JoinError> {
        self.mint_join_tokens(role, 1, FIRST_TOKEN_LIFETIME).await
    }

    /// Makes a token that is good for some hosts for some time.
    ///
    /// # Errors
    /// [`JoinError`] when it cannot be written.
    pub async fn mint_join_tokens(
        &self,
        role: MemberRole,
        uses: u32,
        lifetime: Duration,
    ) -> Result<JoinToken, JoinError> {
        self.mint(Terms::new(role, Some(uses), lifetime)).await
    }

    async fn mint(&self, terms: Terms) -> Result<JoinToken, JoinError> {
        self.admission.mint(terms).await.map(|(token, _)| token)
    }
}

#[cfg(feature = "sim")]
impl ServerHandle {
    /// Returns the state as of the last entry applied here.
    pub fn state(&self) -> Arc<weft_core::state::State> {
        self.admission.newest()
    }

    /// Returns the last index applied here and the whole state, written down.
    pub fn state_written(&self) -> (u64, Vec<u8>) {
        let state = self.state();
        let written = weft_proto::envelope::encode(&state.to_snapshot());
        (state.index().0, written.to_vec())
    }
}

impl Server {
    /// Starts a server and returns once it serves.
    ///
    /// # Errors
    /// [`StartError`]; all that was started has been told to end.
    pub async fn start(config: Config, tasks: TaskTree) -> Result<ServerHandle, StartError> {
        let process = tasks;
        let tasks = process.child("server");
        // Boxed once here: it is large, and every caller would carry it.
        let outcome = Box::pin(start(config, &tasks)).await;
        if outcome.is_err() {
            tasks.cancel();
        } else {
            let (server, whole) = (tasks.token(), process.clone());
            // A server that ends by itself, as one that was removed, leaves nothing to run for.
            process.spawn("end of the server", async move {
                server.cancelled().await;
                whole.cancel();
            });
        }
        outcome
    }
}

async fn start(config: Config, tasks: &TaskTree) -> Result<ServerHandle, StartError> {
    // First what may fail without a trace: an address in use changes nothing on disk.
    let (listener, rpc_addr) = bind(config.bind_addr).await?;
    let telemetry = bind_telemetry(&config).await?;
    let doors = ApiDoors::bind(&config.http, tasks).await?;
    let store = open_store(&config, tasks).await?;
    let table = MembershipTable::open(&store)?;
    let (membership, seal) = belong(&config, &table, tasks).await?;
    let (node, cluster) = (config.node_name.clone(), membership.cluster.clone());
    let id = SpiffeId::server(cluster.trust_domain.clone(), cluster.datacenter.clone(), node);
    let signer = make_signer(&config, &store, &membership, (&id, &seal), tasks).await?;

    let me = member(&config, rpc_addr);
    let hub = Arc::<Hub>::default();
    let storage = (&store, membership.node_id, &me);
    let consensus = agree(&config, storage, hub.clone(), signer.client_tls(), tasks).await?;

    let proposer = Proposer::new(consensus.clone(), hub.clone());
    let reader = Reader::new(consensus.clone(), hub.clone(), tasks.clone());
    let admission = Admission::new(proposer.clone(), reader.clone(), signer.clone());
    let presences = Presences::new();
    let metrics = Metrics::new(&consensus, &hub, &presences);
    signer.register(metrics.registry());
    let services = grpc::Services {
        admission: admission.clone(),
        consensus: consensus.clone(),
        hub: hub.clone(),
        proposer: proposer.clone(),
        reader: reader.clone(),
        signer: signer.clone(),
        default_intention: config.default_intention,
        leaf_lifetime: config.leaf_lifetime,
        presences: presences.clone(),
    };
    let api = http::Api::new(
        admission.clone(),
        (proposer.clone(), reader),
        (seal, metrics.clone(), open_audit(&config, tasks)?),
        &config,
        tasks,
    );
    let door = Door::new(hub.clone(), GrpcOrApi::new(grpc::routes(services, tasks), api.clone()));
    let (tls, tree) = (signer.server_tls(), tasks.child("rpc"));
    let options = rpc_options(config.lease);
    tasks.spawn("rpc", async move { serve(listener, Some(tls), door, options, &tree).await });

    enter::enter(&config, &membership, &consensus, &proposer, &hub, me.clone()).await?;
    enter::follow_address(consensus.clone(), me, tasks);
    let (duties, pen) = ((config.acl.first_token(), config.lease), (signer, config.leaf_lifetime));
    leader::start(consensus.clone(), hub.clone(), duties, pen.clone(), tasks);
    presence::start(presences, consensus.clone(), config.lease, tasks);
    keeper::start(pen, membership, hub, table, tasks);
    let addresses = doors.open(&api, &config.http, tasks);
    let telemetry_addr = telemetry.map(|(listener, address)| {
        metrics::start(listener, metrics, tasks);
        address
    });
    leave_tokens(&config.data_dir, &admission, tasks).await;
    info!(%rpc_addr, cluster = cluster.id, "server started");
    Ok(ServerHandle {
        rpc_addr,
        telemetry_addr,
        api: addresses,
        cluster_id: cluster.id,
        admission,
        consensus,
        tasks: tasks.clone(),
        join_token_path: config.data_dir.join(AGENT_TOKEN_FILE),
    })
}

/// Takes this server's part in consensus.
async fn agree(
    config: &Config,
    (store, id, me): (&Store, NodeId, &Member),
    hub: Arc<Hub>,
    tls: ClientTlsCell,
    tasks: &TaskTree,
) -> Result<Consensus, StartError> {
    let options = ConsensusOptions {
        id,
        disk: disk::system(),
        store,
        dir: &config.data_dir,
        storage: config.storage.clone(),
        audience: hub,
        tls,
    };
    let consensus = Consensus::start(options, &tasks.child("consensus")).await?;
    consensus.found_at(me.clone());
    stop_with(&consensus, tasks);
    enter::leave_when_removed(consensus.clone(), tasks);
    Ok(consensus)
}

fn rpc_options(lease: LeaseTimes) -> ServeOptions {
    // Every agent may come to this server when the others are away, with two connections.
    // Bodies are bounded by each route.
    ServeOptions {
        connections_max: RPC_CONNECTIONS_MAX,
        body_bytes_max: usize::MAX,
        // A host that died without a word is found out by this.
        keepalive: lease.ping(),
        ..ServeOptions::default()
    }
}

/// Makes this server's certificates.
async fn make_signer(
    config: &Config,
    store: &Store,
    membership: &Membership,
    (id, seal): (&SpiffeId, &crate::ca::SealKey),
    tasks: &TaskTree,
) -> Result<Signer, StartError> {
    let (tree, shelf) = (tasks.child("ca"), Shelf::open(store)?);
    // As long as they would live without settings, which are not known yet.
    let terms = CaSettings::default().terms(config.leaf_lifetime);
    let trusted = (&membership.root, &membership.bundle());
    Ok(Signer::make(id, seal, trusted, Some(shelf), (terms, &tree)).await?)
}

/// This server as the others are to know it.
fn member(config: &Config, rpc_addr: SocketAddr) -> Member {
    let advertised = config.advertise_addr.clone().unwrap_or_else(|| rpc_addr.to_string());
    Member {
        name: config.node_name.to_string(),
        address: advertised,
        is_read_replica: config.read_replica,
    }
}

pub(crate) async fn bind(
    address: SocketAddr,
) -> Result<(net::MemberListener, SocketAddr), StartError> {
    let failed = |source| StartError::Bind { address, source };
    let listener = net::listen_members(address).await.map_err(failed)?;
    let bound = listener.local_addr().map_err(failed)?;
    Ok((listener, bound))
}

async fn bind_telemetry(
    config: &Config,
) -> Result<Option<(net::MemberListener, SocketAddr)>, StartError> {
    match config.telemetry_addr {
        Some(address) => bind(address).await.map(Some),
        None => Ok(None),
    }
}

async fn open_store(config: &Config, tasks: &TaskTree) -> Result<Store, StartError> {
    let dir = config.data_dir.clone();
    let opened = tasks.blocking(move || {
        // Keys and the catalog are nobody else's to read.
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&dir)
            .map_err(|source| StartError::DataDir { path: dir.clone(), source })?;
        Ok::<_, StartError>(Store::open(&dir.join("store"))?)
    });
    opened.await?
}

/// Finds out which cluster this server belongs to; founds or joins one when it has none.
async fn belong(
    config: &Config,
    table: &MembershipTable,
    tasks: &TaskTree,
) -> Result<(Membership, crate::ca::SealKey), StartError> {
    let (of_recall, table_of_recall) = (config.clone(), table.clone());
    match tasks.blocking(move || recall(&of_recall, &table_of_recall)).await?? {
        Recalled::Member(membership, seal) => Ok((*membership, seal)),
        Recalled::MustJoin(token) => {
            let (membership, seal) = membership::join(&config.node_name, &token).await?;
            let (kept, key, table) = (membership.clone(), seal.clone(), table.clone());
            let path = seal_key_path(&config.data_dir);
            let keep = tasks.blocking(move || {
                key.write(&path).map_err(MembershipError::from)?;
                table.write(&kept).map_err(MembershipError::from)
            });
            keep.await??;
            Ok((membership, seal))
        }
    }
}

/// Leaves tokens in the server's data directory, one for agents and one for servers, unless good
/// ones are there. At once where there is a leader, and otherwise as soon as there is one.
async fn leave_tokens(dir: &Path, admission: &Admission, tasks: &TaskTree) {
    let Err(error) = try_leave_tokens(dir, admission, tasks).await else { return };
    warn!(%error, "no join tokens are left in the data directory yet");
    let (dir, admission, tree) = (dir.to_owned(), admission.clone(), tasks.clone());
    tasks.spawn("join tokens", async move {
        let mut backoff = Backoff::new(TOKEN_PAUSE_MIN, TOKEN_PAUSE_MAX, entropy::rng());
        loop {
            tokio::select! {
                () = tokio::time::sleep(backoff.next()) => {}
                () = tree.cancelled() => return,
            }
            if try_leave_tokens(&dir, &admission, &tree).await.is_ok() {
                return;
            }
        }
    });
}

async fn try_leave_tokens(
    dir: &Path,
    admission: &Admission,
    tasks: &TaskTree,
) -> Result<(), StartError> {
    for (role, file) in
        [(MemberRole::Agent, AGENT_TOKEN_FILE), (MemberRole::Server, SERVER_TOKEN_FILE)]
    {
        let (path, now) = (dir.join(file), clock::wall());
        let of_look = path.clone();
        if tasks.blocking(move || has_good_token(&of_look, now)).await? {
            continue;
        }
        let description = format!("left in the file {file} of a server");
        let terms = Terms { description, ..Terms::new(role, None, FIRST_TOKEN_LIFETIME) };
        let (token, _) = admission.mint(terms).await.map_err(StartError::JoinToken)?;
        info!(?path, %role, "join token written");
        let text = format!("{token}\n");
        let write = tasks.blocking(move || store::write_file(&path, 0o600, text.as_bytes()));
        write.await??;
    }
    Ok(())
}

/// Whether the file holds a token that hosts can still join with.
fn has_good_token(path: &Path, now: Timestamp) -> bool {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    text.trim().parse::<JoinToken>().is_ok_and(|token| token.expires > now)
}

/// Ends consensus when the server is told to end, which frees its storage.
fn stop_with(consensus: &Consensus, tasks: &TaskTree) {
    let (consensus, token) = (consensus.clone(), tasks.token());
    tasks.spawn("end of consensus", async move {
        token.cancelled().await;
        consensus.stop().await;
    });
}

/// Opens the audit log, if one is to be kept.
fn open_audit(config: &Config, tasks: &TaskTree) -> Result<Option<ApiAudit>, StartError> {
    let Some(audit) = &config.audit else { return Ok(None) };
    let options = AuditOptions {
        path: audit.path.clone(),
        rotate_bytes: audit.rotate_bytes,
        rotate_files_max: audit.rotate_files_max,
    };
    let log = AuditLog::open(options, tasks)?;
    let node = config.node_name.to_string();
    Ok(Some(ApiAudit { log, is_enforced: audit.is_enforced, node }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_that_is_over_or_no_token_is_written_anew() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("join-token");
        let token = JoinToken {
            servers: vec!["127.0.0.1:8300".to_owned()],
            root_fingerprint: "ab".repeat(32),
            secret: vec![7; 32],
            role: MemberRole::Agent,
            expires: Timestamp(1_000),
        };
        assert!(!has_good_token(&path, Timestamp(0)), "there is no file");
        fs::write(&path, format!("{token}\n")).expect("a file");
        assert!(has_good_token(&path, Timestamp(999)));
        assert!(!has_good_token(&path, Timestamp(1_000)), "it is over");
        fs::write(&path, "weft1-damaged").expect("a file");
        assert!(!has_good_token(&path, Timestamp(0)));
    }
}
