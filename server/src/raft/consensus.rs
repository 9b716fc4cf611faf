//! What the rest of the server sees of consensus: propose, read index, members, standing.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use openraft::error::{CheckIsLeaderError, ClientWriteError, InitializeError, RaftError};
use openraft::storage::RaftLogStorage;
use openraft::{ChangeMembers, SnapshotPolicy};
use serde::{Deserialize, Serialize};
use tracing::info;
use weft_core::index::Index;
use weft_core::session::SessionId;
use weft_core::state::{Answer, Command};
use weft_proto::envelope;
use weft_proto::grpc::v1::RaftMessage;
use weft_runtime::clock;
use weft_runtime::disk::Disk;
use weft_runtime::store::Store;
use weft_runtime::task::TaskTree;
use weft_runtime::tls::ClientTlsCell;

use super::barrier::Barrier;
use super::fold::Fold;
use super::leadership::Leadership;
use super::log::{Log, LogDamage};
use super::network::Links;
use super::snapshot::SnapshotDamage;
use super::state_machine::Audience;
use super::storage::Storage;
use super::types::{Member, NodeId, Raft, StorageError, Vote};
use crate::config::StorageConfig;
use crate::leader::Renewals;

/// Bytes of one piece of a snapshot on its way to a follower, which answers each of them.
const SNAPSHOT_PIECE_BYTES: u64 = 1 << 20;
/// The leader's sign of life.
///
/// **Units**: milliseconds. With the election times below a new leader is there within 3 s.
const HEARTBEAT_MS: u64 = 150;
const ELECTION_MS_MIN: u64 = 750;
const ELECTION_MS_MAX: u64 = 1_500;
/// How long a request to the leader may take.
const LEADER_LIMIT: Duration = Duration::from_secs(10);

/// States why a write or a confirmed read was not carried out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum ProposeError {
    /// The leader's disk has less room than is kept in reserve.
    #[error(
        "the leader's disk is nearly full (less than {reserve} bytes free): the servers take no \
         writes until there is room in its data directory"
    )]
    DiskFull {
        /// Bytes kept in reserve.
        reserve: u64,
    },
    /// Another server leads, or none does.
    #[error("No cluster leader")]
    NoLeader(Option<Member>),
    /// The leader cannot reach a majority.
    #[error("the leader cannot reach a majority of the servers")]
    NoQuorum,
    /// Consensus has stopped, by order or because its storage failed.
    #[error("this server has stopped taking part in consensus")]
    Stopped,
    /// The log of this server failed.
    #[error(
        "this server has stopped taking part in consensus, as its log failed: {reason}; mend the \
         disk and restart it"
    )]
    StorageFailed {
        /// What failed.
        reason: String,
    },
    /// The command does not fit into an entry.
    #[error("the request takes {bytes} bytes, more than one replicated entry may have")]
    TooLarge {
        /// Its size.
        bytes: usize,
    },
    /// The leader did not answer in time; the write may or may not have happened.
    #[error("the leader did not answer: {0}")]
    Unanswered(String),
}

impl From<RaftError<NodeId, ClientWriteError<NodeId, Member>>> for ProposeError {
    fn from(error: RaftError<NodeId, ClientWriteError<NodeId, Member>>) -> Self {
        match error {
            RaftError::APIError(ClientWriteError::ForwardToLeader(to)) => {
                Self::NoLeader(to.leader_node)
            }
            RaftError::APIError(ClientWriteError::ChangeMembershipError(error)) => {
                Self::Unanswered(error.to_string())
            }
            RaftError::Fatal(_) => Self::Stopped,
        }
    }
}

impl From<RaftError<NodeId, CheckIsLeaderError<NodeId, Member>>> for ProposeError {
    fn from(error: RaftError<NodeId, CheckIsLeaderError<NodeId, Member>>) -> Self {
        match error {
            RaftError::APIError(CheckIsLeaderError::ForwardToLeader(to)) => {
                Self::NoLeader(to.leader_node)
            }
            RaftError::APIError(CheckIsLeaderError::QuorumNotEnough(_)) => Self::NoQuorum,
            RaftError::Fatal(_) => Self::Stopped,
        }
    }
}

/// States why consensus did not start.
#[derive(Debug, thiserror::Error)]
pub enum ConsensusError {
    /// The log cannot be used.
    #[error(transparent)]
    Log(#[from] LogDamage),
    /// openraft refused.
    #[error("consensus cannot start: {0}")]
    Refused(String),
    /// The newest snapshot cannot be used.
    #[error(transparent)]
    Snapshot(#[from] SnapshotDamage),
}

/// What a server asks of the leader.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum ToLeader {
    AddVoter(NodeId, Member),
    Propose(Command),
    ReadIndex,
    Readdress(NodeId, Member),
    RenewSession(SessionId),
}

/// What the leader answers.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum FromLeader {
    Added,
    Applied(Index, Answer),
    ReadIndex(Index),
    Renewed,
}

/// Where this server stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Standing {
    /// Whether it leads.
    pub(crate) is_leader: bool,
    /// Who leads, as far as it knows.
    pub(crate) leader: Option<Member>,
    /// How long ago it heard from the leader; zero at the leader itself.
    pub(crate) last_contact: Duration,
}

/// What consensus needs to start.
pub(crate) struct ConsensusOptions<'a> {
    pub(crate) id: NodeId,
    pub(crate) disk: Arc<dyn Disk>,
    pub(crate) store: &'a Store,
    /// The directory with the log's files and those of snapshots in it.
    pub(crate) dir: &'a Path,
    pub(crate) storage: StorageConfig,
    pub(crate) audience: Arc<dyn Audience>,
    pub(crate) tls: ClientTlsCell,
}

/// This server's part in consensus. Clones share it.
#[derive(Clone)]
pub(crate) struct Consensus {
    pub(super) raft: Raft,
    id: NodeId,
    storage: Storage,
    fold: Fold,
    barrier: Barrier,
    links: Links,
    /// Since `started`, in milliseconds, when a leader was last heard of.
    heard: Arc<AtomicU64>,
    started: Instant,
    /// Changes of membership go one after another: openraft panics under rapid churn (its
    /// issue 1544). Held across awaits on purpose: the next one must wait for the last.
    membership: Arc<tokio::sync::Mutex<()>>,
    renewals: Renewals,
}

impl Consensus {
    /// Opens log and state, and takes part.
    pub(crate) async fn start(
        options: ConsensusOptions<'_>,
        tasks: &TaskTree,
    ) -> Result<Self, ConsensusError> {
        let ConsensusOptions { id, disk, store, dir, storage, audience, tls } = options;
        let (store, dir) = (store.clone(), dir.to_owned());
        let of_storage = tasks.clone();
        let opened = tasks
            .blocking(move || Storage::open((disk, &dir), &store, audience, storage, &of_storage));
        let (storage, log, machine) =
            opened.await.map_err(|failure| ConsensusError::Refused(failure.message))??;
        let config = openraft::Config {
            cluster_name: "weft".to_owned(),
            heartbeat_interval: HEARTBEAT_MS,
            election_timeout_min: ELECTION_MS_MIN,
            election_timeout_max: ELECTION_MS_MAX,
            // A piece of a snapshot on a slow link.
            install_snapshot_timeout: 10_000,
            max_payload_entries: 1024,
            snapshot_max_chunk_size: SNAPSHOT_PIECE_BYTES,
            // Both are the affair of `storage`, which counts bytes too.
            snapshot_policy: SnapshotPolicy::Never,
            max_in_snapshot_log_to_keep: u64::MAX,
            ..openraft::Config::default()
        };
        let refused = |error: &dyn std::error::Error| ConsensusError::Refused(error.to_string());
        let config = config.validate().map_err(|error| refused(&error))?;
        let links = Links::new(tls);
        forget_leadership(log.clone(), id).await.map_err(|error| refused(&error))?;
        let raft = Raft::new(id, Arc::new(config), links.clone(), log, machine)
            .await
            .map_err(|error| refused(&error))?;
        // Consensus runs on a task of its own: until it has answered once, nobody knows whether
        // this server is a member, and one that is would ask in vain to be taken in.
        raft.is_initialized().await.map_err(|error| refused(&error))?;
        storage.start(&raft, tasks);
        Ok(Self {
            storage,
            fold: Fold::start(raft.clone(), tasks),
            barrier: Barrier::start(raft.clone(), tasks),
            raft,
            id,
            links,
            heard: Arc::default(),
            started: clock::instant(),
            membership: Arc::default(),
            renewals: Renewals::default(),
        })
    }

    /// Makes this server the first of a new cluster; does nothing when it belongs to one.
    pub(crate) async fn found(&self, me: Member) -> Result<(), ConsensusError> {
        // Asked first, since the library logs the refusal of a second founding as an error.
        let founded = self.raft.is_initialized().await;
        if founded.map_err(|error| ConsensusError::Refused(error.to_string()))? {
            return Ok(());
        }
        match self.raft.initialize(BTreeMap::from([(self.id, me)])).await {
            Ok(()) | Err(RaftError::APIError(InitializeError::NotAllowed(_))) => Ok(()),
            Err(error) => Err(ConsensusError::Refused(error.to_string())),
        }
    }

    /// Writes a command: here when this server leads, else at the leader.
    ///
    /// # Errors
    /// [`ProposeError`]; only after [`ProposeError::Unanswered`] may the write have happened.
    pub(crate) async fn propose(&self, command: Command) -> Result<(Index, Answer), ProposeError> {
        match self.lead(command.clone()).await {
            Err(ProposeError::NoLeader(Some(leader))) => {
                match self.ask(&leader, &ToLeader::Propose(command)).await? {
                    FromLeader::Applied(index, answer) => {
                        self.wait_applied(index).await?;
                        Ok((index, answer))
                    }
                    other => Err(ProposeError::Unanswered(format!("it said {other:?}"))),
                }
            }
            outcome => outcome,
        }
    }

    /// Gives a session its whole time again: here when this server leads, else at the leader.
    ///
    /// # Errors
    /// [`ProposeError`] when no leader took note.
    pub(crate) async fn renew(&self, session: SessionId) -> Result<(), ProposeError> {
        let standing = self.standing();
        if standing.is_leader {
            self.renewals.note(session);
            return Ok(());
        }
        let leader = standing.leader.ok_or(ProposeError::NoLeader(None))?;
        self.ask(&leader, &ToLeader::RenewSession(session)).await.map(drop)
    }

    /// Returns the renewals that have come in.
    pub(crate) fn renewals(&self) -> &Renewals {
        &self.renewals
    }

    /// Writes a command when this server leads, and passes it on to nobody else.
    ///
    /// # Errors
    /// As [`Consensus::propose`].
    pub(crate) async fn propose_here(
        &self,
        command: Command,
    ) -> Result<(Index, Answer), ProposeError> {
        self.lead(command).await
    }

    /// Proposes a command at this server, unless its disk has no room.
    async fn lead(&self, command: Command) -> Result<(Index, Answer), ProposeError> {
        if let Err(refusal) = self.storage.admit()
            && self.standing().is_leader
        {
            return Err(refusal);
        }
        self.fold.propose(command).await.map_err(|error| self.storage.explain(error))
    }

    /// Returns what is stored, and how that goes.
    pub(crate) fn storage(&self) -> &Storage {
        &self.storage
    }

    /// Follows whether this server leads.
    pub(crate) fn leadership(&self) -> Leadership {
        Leadership { id: self.id, metrics: self.raft.metrics(), term: 0 }
    }

    /// Waits until the local state has every write that was acknowledged before the call.
    ///
    /// # Errors
    /// [`ProposeError`] when no leader could confirm it.
    pub(crate) async fn read_barrier(&self) -> Result<(), ProposeError> {
        match self.barrier.pass().await {
            Err(ProposeError::NoLeader(Some(leader))) => {
                match self.ask(&leader, &ToLeader::ReadIndex).await? {
                    FromLeader::ReadIndex(index) => self.wait_applied(index).await,
                    other => Err(ProposeError::Unanswered(format!("it said {other:?}"))),
                }
            }
            outcome => outcome.map(drop),
        }
    }

    /// Returns where this server stands.
    pub(crate) fn standing(&self) -> Standing {
        let metrics = self.raft.metrics();
        let metrics = metrics.borrow();
        let is_leader = metrics.current_leader == Some(self.id);
        let members = metrics.membership_config.membership();
        let leader = metrics.current_leader.and_then(|id| members.get_node(&id)).cloned();
        let last_contact = if is_leader {
            Duration::ZERO
        } else {
            let heard = Duration::from_millis(self.heard.load(Ordering::Relaxed));
            clock::instant().duration_since(self.started).saturating_sub(heard)
        };
        Standing { is_leader, leader, last_contact }
    }

    /// Whether this server alone decides.
    pub(crate) fn is_sole_voter(&self) -> bool {
        let metrics = self.raft.metrics();
        let metrics = metrics.borrow();
        metrics.membership_config.voter_ids().eq([self.id])
    }

    /// Returns every server, by id.
    pub(crate) fn members(&self) -> Vec<Member> {
        let metrics = self.raft.metrics();
        let metrics = metrics.borrow();
        metrics.membership_config.nodes().map(|(_, member)| member.clone()).collect()
    }

    /// Returns whether this server belongs to a cluster.
    pub(crate) fn is_member(&self) -> bool {
        self.raft.metrics().borrow().membership_config.nodes().next().is_some()
    }

    /// Waits until some server leads.
    ///
    /// # Errors
    /// [`ProposeError::NoLeader`] when none does within the limit.
    pub(crate) async fn wait_for_leader(&self, limit: Duration) -> Result<(), ProposeError> {
        let mut metrics = self.raft.metrics();
        let wait = metrics.wait_for(|metrics| metrics.current_leader.is_some());
        match tokio::time::timeout(limit, wait).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(_)) => Err(ProposeError::Stopped),
            Err(_) => Err(ProposeError::NoLeader(None)),
        }
    }

    /// Asks the server at an address, or the leader that it names, to take this one in.
    pub(crate) async fn join(&self, address: &str, me: Member) -> Result<(), ProposeError> {
        let request = ToLeader::AddVoter(self.id, me);
        let first = Member { name: String::new(), address: address.to_owned() };
        match self.ask(&first, &request).await {
            Err(ProposeError::NoLeader(Some(leader))) => self.ask(&leader, &request).await?,
            outcome => outcome?,
        };
        Ok(())
    }

    /// Tells the cluster under which name and address this server is found now, when that is
    /// not what it knows.
    pub(crate) async fn readdress(&self, me: Member) -> Result<(), ProposeError> {
        let known = {
            let metrics = self.raft.metrics();
            let metrics = metrics.borrow();
            metrics.membership_config.membership().get_node(&self.id).cloned()
        };
        if known.is_none_or(|known| known == me) {
            return Ok(());
        }
        let request = ToLeader::Readdress(self.id, me.clone());
        match self.set_member(self.id, me).await {
            Err(ProposeError::NoLeader(Some(leader))) => {
                self.ask(&leader, &request).await.map(drop)
            }
            outcome => outcome,
        }
    }

    /// Answers another server; this one must lead.
    pub(super) async fn answer(&self, request: ToLeader) -> Result<FromLeader, ProposeError> {
        match request {
            ToLeader::AddVoter(id, member) => {
                self.add_voter(id, member).await.map(|()| FromLeader::Added)
            }
            ToLeader::Propose(command) => {
                let (index, answer) = self.lead(command).await?;
                Ok(FromLeader::Applied(index, answer))
            }
            ToLeader::ReadIndex => self.barrier.pass().await.map(FromLeader::ReadIndex),
            ToLeader::Readdress(id, member) => {
                self.set_member(id, member).await.map(|()| FromLeader::Added)
            }
            ToLeader::RenewSession(session) => {
                let standing = self.standing();
                if !standing.is_leader {
                    return Err(ProposeError::NoLeader(standing.leader));
                }
                self.renewals.note(session);
                Ok(FromLeader::Renewed)
            }
        }
    }

    /// Notes that a leader was heard of.
    pub(super) fn heard_of_leader(&self) {
        let since = clock::instant().duration_since(self.started);
        self.heard.store(u64::try_from(since.as_millis()).unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    /// Stops taking part; the storage is free once every clone is dropped.
    pub(crate) async fn stop(&self) {
        if let Err(error) = self.raft.shutdown().await {
            tracing::warn!(%error, "consensus did not end by itself");
        }
    }

    /// A learner first, so that it has the log before its vote counts.
    async fn add_voter(&self, id: NodeId, member: Member) -> Result<(), ProposeError> {
        let _one_at_a_time = self.membership.lock().await;
        info!(id, name = member.name, address = member.address, "adding a server");
        self.raft.add_learner(id, member, true).await?;
        let voters = ChangeMembers::AddVoterIds(BTreeSet::from([id]));
        self.raft.change_membership(voters, false).await?;
        Ok(())
    }

    async fn set_member(&self, id: NodeId, member: Member) -> Result<(), ProposeError> {
        let _one_at_a_time = self.membership.lock().await;
        info!(id, name = member.name, address = member.address, "a server moved");
        let nodes = ChangeMembers::SetNodes(BTreeMap::from([(id, member)]));
        self.raft.change_membership(nodes, true).await?;
        Ok(())
    }

    async fn ask(&self, leader: &Member, request: &ToLeader) -> Result<FromLeader, ProposeError> {
        let mut client = self.links.client(&leader.address);
        let message = RaftMessage { body: envelope::encode(request) };
        let reply = tokio::time::timeout(LEADER_LIMIT, client.propose(message))
            .await
            .map_err(|_| ProposeError::Unanswered("in time".to_owned()))?
            .map_err(|status| ProposeError::Unanswered(status.message().to_owned()))?;
        envelope::decode::<Result<FromLeader, ProposeError>>(&reply.into_inner().body)
            .map_err(|error| ProposeError::Unanswered(error.to_string()))?
    }

    async fn wait_applied(&self, index: Index) -> Result<(), ProposeError> {
        self.raft
            .wait(Some(LEADER_LIMIT))
            .applied_index_at_least(Some(index.0), "an answer from the leader")
            .await
            .map(drop)
            .map_err(|error| ProposeError::Unanswered(error.to_string()))
    }
}

/// A leader that restarts asks to be elected again. openraft would let it lead on in its old term,
/// in which it has no entry after the restart: it knew then which of its entries are committed
/// only by a mark that may be old, and answered confirmed reads from a state that lacks
/// acknowledged writes.
///
/// **Source**: Spec: Raft §8 (a leader commits an entry of its own before it serves reads).
async fn forget_leadership(mut log: Log, id: NodeId) -> Result<(), StorageError> {
    match log.read_vote().await? {
        Some(vote) if vote.committed && vote.leader_id.node_id == id => {
            log.save_vote(&Vote { committed: false, ..vote }).await
        }
        Some(_) | None => Ok(()),
    }
}
