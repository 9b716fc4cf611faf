//! What the rest of the server sees of consensus: propose, read, standing. Who takes part is in
//! `membership`.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use openraft::SnapshotPolicy;
use openraft::error::{InitializeError, RaftError};
use openraft::storage::RaftLogStorage;
use parking_lot::Mutex;
use tokio::sync::watch;
use weft_core::autopilot::ClusterHealth;
use weft_core::index::Index;
use weft_core::state::{Answer, Command, GroupId};
use weft_runtime::clock;
use weft_runtime::disk::Disk;
use weft_runtime::store::Store;
use weft_runtime::task::TaskTree;
use weft_runtime::tls::ClientTlsCell;

use super::call::{Ballot, Call, CallError, Said};
use super::contact::Contact;
use super::courier::Courier;
use super::election::{Election, Pulse, Voter};
use super::entries::Entries;
use super::error::{ConsensusError, ProposeError};
use super::fold::{self, Fold};
use super::leadership::{Leadership, count_changes};
use super::lease::{ELECTION_SILENCE, is_without_majority};
use super::log::Log;
use super::network::Links;
use super::reads::{Barrier, Confirmer, Trust};
use super::recover::recover;
use super::restart::forget_leadership;
use super::state_machine::Audience;
use super::storage::Storage;
use super::tidings::Tidings;
use super::types::{Group, LogId, Member, NodeId, Raft, Vote};
use crate::config::StorageConfig;
use crate::leader::{LeaseBook, Renewals, RolloutBook};

/// Bytes of one piece of a snapshot on its way to a follower, which answers each of them.
const SNAPSHOT_PIECE_BYTES: u64 = 1 << 20;
/// openraft's own sign of life, which also tells followers what is committed; one and a half
/// times as long passes between two. It is the time for one append, too.
///
/// **Units**: milliseconds.
const HEARTBEAT_MS: u64 = 150;

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
    pub(super) id: NodeId,
    storage: Storage,
    /// Dropped when this server stops, which frees the storage.
    log: Arc<Mutex<Option<Log>>>,
    pub(super) links: Links,
    pub(super) contact: Contact,
    /// Whether this server is handing leadership over: it neither writes nor reads as leader.
    pub(super) resigned: Arc<AtomicBool>,
    /// Changes of membership go one after another: openraft panics under rapid churn (its
    /// issue 1544). Held across awaits on purpose: the next one must wait for the last.
    pub(super) membership: Arc<tokio::sync::Mutex<()>>,
    confirmer: Confirmer,
    courier: Courier,
    fold: Fold,
    by_lease: Barrier,
    by_majority: Barrier,
    removed: watch::Receiver<bool>,
    leader_changes: Arc<AtomicU64>,
    elections_refused: Arc<AtomicU64>,
    /// What autopilot last saw, in which term; kept while this server leads.
    pub(super) health: watch::Sender<(u64, ClusterHealth)>,
    pub(super) renewals: Renewals,
    pub(super) leases: LeaseBook,
    pub(super) rollouts: RolloutBook,
    /// Where this server is found now, which the cluster may not know yet.
    me: Arc<OnceLock<Member>>,
}

impl Consensus {
    /// Opens log and state, and takes part.
    pub(crate) async fn start(
        options: ConsensusOptions<'_>,
        tasks: &TaskTree,
    ) -> Result<Self, ConsensusError> {
        let ConsensusOptions { id, disk, store, dir, storage, audience, tls } = options;
        let (store, data_dir) = (store.clone(), dir.to_owned());
        let (of_storage, dir) = (tasks.clone(), data_dir.clone());
        let opened = tasks
            .blocking(move || Storage::open((disk, &dir), &store, audience, storage, &of_storage));
        let (storage, mut log, mut machine) =
            opened.await.map_err(|failure| ConsensusError::Refused(failure.message))??;
        recover(&data_dir, id, (&mut log, &mut machine), tasks).await?;
        let progress = machine.progress();
        let links = Links::new(tls);
        let refused = |error: &dyn std::error::Error| ConsensusError::Refused(error.to_string());
        let config = config().validate().map_err(|error| refused(&error))?;
        forget_leadership(log.clone(), id).await.map_err(|error| refused(&error))?;
        let raft = Raft::new(id, Arc::new(config), links.clone(), log.clone(), machine)
            .await
            .map_err(|error| refused(&error))?;
        // Consensus runs on a task of its own: until it has answered once, nobody knows whether
        // this server is a member, and one that is would ask in vain to be taken in.
        raft.is_initialized().await.map_err(|error| refused(&error))?;
        storage.start(&raft, tasks);
        Ok(Self::drive((id, raft, storage, log), links, progress, tasks))
    }

    /// Starts all that openraft leaves to us.
    fn drive(
        (id, raft, storage, log): (NodeId, Raft, Storage, Log),
        links: Links,
        progress: watch::Receiver<u64>,
        tasks: &TaskTree,
    ) -> Self {
        let (contact, resigned) = (Contact::new(), Arc::<AtomicBool>::default());
        let metrics = raft.metrics();
        let entries = Entries::start(raft.clone(), tasks);
        let confirmer = Confirmer {
            id,
            links: links.clone(),
            metrics: metrics.clone(),
            progress: progress.clone(),
            resigned: resigned.clone(),
        };
        let courier = Courier {
            id,
            entries,
            storage: storage.clone(),
            links: links.clone(),
            roles: raft.server_metrics(),
            progress,
            resigned: resigned.clone(),
        };
        let removed = watch::Sender::new(false);
        let consensus = Self {
            fold: Fold::start(courier.clone(), tasks),
            by_lease: Barrier::start(confirmer.clone(), Trust::Lease, tasks),
            by_majority: Barrier::start(confirmer.clone(), Trust::Majority, tasks),
            raft: raft.clone(),
            id,
            storage,
            log: Arc::new(Mutex::new(Some(log.clone()))),
            links: links.clone(),
            contact: contact.clone(),
            resigned: resigned.clone(),
            membership: Arc::default(),
            confirmer,
            courier,
            removed: removed.subscribe(),
            leader_changes: Arc::default(),
            elections_refused: Arc::default(),
            health: watch::Sender::default(),
            renewals: Renewals::default(),
            leases: LeaseBook::default(),
            rollouts: RolloutBook::default(),
            me: Arc::default(),
        };
        Tidings::start(&links, tasks);
        let roles = raft.server_metrics();
        let pulse = Pulse { id, links: links.clone(), contact: contact.clone(), roles, resigned };
        pulse.start(tasks);
        let refused = consensus.elections_refused.clone();
        Election { id, raft, log, links, contact, removed, refused }.start(tasks);
        let changes =
            count_changes(consensus.raft.server_metrics(), consensus.leader_changes.clone());
        let token = tasks.token();
        tasks.spawn("leader changes", async move {
            // What is not counted happened while the server ended.
            let _ = token.run_until_cancelled(changes).await;
        });
        consensus
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

    /// Has a command carried out, wherever the leader is, and waits until its answer is visible
    /// here. Held for a while when there is no leader, and sent again when the leader falls; it
    /// is carried out once.
    ///
    /// # Errors
    /// [`ProposeError`]; only after [`ProposeError::Unanswered`] may the write have happened.
    pub(crate) async fn propose(&self, command: Command) -> Result<(Index, Answer), ProposeError> {
        self.fold.propose(command).await
    }

    /// Writes a command when this server leads, and passes it on to nobody else.
    ///
    /// # Errors
    /// [`ProposeError`]; also after [`ProposeError::NoLeader`] the write may happen.
    pub(crate) async fn propose_here(
        &self,
        command: Command,
    ) -> Result<(Index, Answer), ProposeError> {
        let command = fold::encoded(command)?;
        // Never sent a second time, so it needs no name.
        let id = GroupId { origin: 0, number: 0, answered_below: 0 };
        let group = Group { id, commands: Arc::new(vec![command]) };
        let answered = self.courier.here(group).await?;
        let answer = answered.answers.first().cloned();
        let answer = answer.ok_or_else(|| ProposeError::Unanswered("with nothing".to_owned()))?;
        Ok((answered.index, answer))
    }

    /// Returns what is stored, and how that goes.
    pub(crate) fn storage(&self) -> &Storage {
        &self.storage
    }

    /// Follows whether this server leads.
    pub(crate) fn leadership(&self) -> Leadership {
        let (metrics, roles) = (self.raft.metrics(), self.raft.server_metrics());
        Leadership { id: self.id, metrics, roles, term: 0 }
    }

    /// Whether this server's state is the newest there is, without asking anybody: it leads, and
    /// its lease holds. The state to answer from must be taken before this is asked.
    pub(crate) fn has_lease(&self) -> bool {
        self.confirmer.has_lease()
    }

    /// Waits until the local state has every write that was acknowledged before the call, as
    /// far as the leader's lease can tell.
    ///
    /// # Errors
    /// [`ProposeError`] when no leader could confirm it.
    pub(crate) async fn lease_barrier(&self) -> Result<(), ProposeError> {
        self.by_lease.pass().await.map(drop)
    }

    /// Waits until the local state has every write that was acknowledged before the call, as a
    /// majority confirms.
    ///
    /// # Errors
    /// [`ProposeError`] when no majority could confirm it.
    pub(crate) async fn read_barrier(&self) -> Result<(), ProposeError> {
        self.by_majority.pass().await.map(drop)
    }

    /// Returns where this server stands.
    pub(crate) fn standing(&self) -> Standing {
        let metrics = self.raft.metrics();
        let metrics = metrics.borrow();
        let leads = metrics.current_leader == Some(self.id);
        if leads
            && is_without_majority(
                self.id,
                (&metrics.vote, &metrics.membership_config),
                &self.links.acks,
            )
        {
            // In name only: nobody else hears it.
            let last_contact =
                self.links.acks.confirmed(self.id, &metrics.vote, &metrics.membership_config);
            let since = |at: Instant| clock::instant().duration_since(at);
            let last_contact = last_contact.map_or(Duration::ZERO, since);
            return Standing { is_leader: false, leader: None, last_contact };
        }
        let members = metrics.membership_config.membership();
        let leader = metrics.current_leader.and_then(|id| members.get_node(&id)).cloned();
        let last_contact = if leads { Duration::ZERO } else { self.contact.silence() };
        // A leader that has been silent for so long leads nobody any more.
        let leader = leader.filter(|_| last_contact <= ELECTION_SILENCE * 2);
        Standing { is_leader: leads, leader, last_contact }
    }

    /// Returns how often the leader changed since this server started, and how often this server
    /// would have stood for election when too few would have voted.
    pub(crate) fn counts(&self) -> (u64, u64) {
        let read = |count: &AtomicU64| count.load(Ordering::Relaxed);
        (read(&self.leader_changes), read(&self.elections_refused))
    }

    /// Whether autopilot last saw every server healthy; `None` at a server that does not lead.
    pub(crate) fn is_cluster_healthy(&self) -> Option<bool> {
        let term = self.raft.metrics().borrow().current_term;
        let health = self.health.borrow();
        (self.standing().is_leader && health.0 == term).then(|| health.1.is_healthy())
    }

    /// Waits until this server learns that it was removed from the cluster.
    pub(crate) async fn removed(&self) {
        let mut removed = self.removed.clone();
        if removed.wait_for(|removed| *removed).await.is_err() {
            // Elections have ended with the server.
            std::future::pending::<()>().await;
        }
    }

    /// Sends nothing to these addresses from now on, and again to all others.
    pub(crate) fn cut_off(&self, addresses: BTreeSet<String>) {
        self.links.cut(addresses);
    }

    /// Says where this server is found from now on; once, before it answers anybody.
    pub(crate) fn found_at(&self, me: Member) {
        // Said twice, it was said before.
        let _ = self.me.set(me);
    }

    /// Returns every server, by id. This one is where it is, whatever the cluster knows of it so far: who
    /// asks right after it has moved must not be sent to where it was.
    pub(crate) fn members(&self) -> Vec<Member> {
        let metrics = self.raft.metrics();
        let metrics = metrics.borrow();
        let known = metrics.membership_config.nodes();
        let found = |(id, known): (&NodeId, &Member)| {
            let me = self.me.get().filter(|_| *id == self.id);
            me.unwrap_or(known).clone()
        };
        known.map(found).collect()
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

    /// Answers another server; this one must lead, where the call is for the leader.
    pub(super) async fn answer(&self, call: Call) -> Result<Said, CallError> {
        match call {
            Call::Attend(server, presence) => Ok(self.attend_here(server, presence)?),
            Call::Elect => {
                self.raft.trigger().elect().await.map_err(|_| ProposeError::Stopped)?;
                Ok(Said::Done)
            }
            Call::Enter(id, member) => Ok(self.enter(id, member).await.map(|()| Said::Done)?),
            Call::Health => Ok(Said::Health(self.health_here().await?)),
            Call::Measured(reports) => Ok(self.measured_here(reports)?),
            Call::MayElect { id, last } => Ok(Said::Ballot(self.judge(id, last).await?)),
            Call::Propose(group) => {
                let answered = self.courier.here(group).await?;
                // Who asked waits until it sees its writes.
                self.links.tidings.hurry();
                Ok(Said::Answered(answered))
            }
            Call::ReadIndex { by_lease } => {
                let barrier = if by_lease { &self.by_lease } else { &self.by_majority };
                self.must_lead_to_answer()?;
                Ok(Said::ReadIndex(barrier.pass().await?))
            }
            Call::Readdress(id, member) => {
                Ok(self.set_member(id, member).await.map(|()| Said::Done)?)
            }
            Call::Release(vote) => Ok(self.release(vote).await.map(|()| Said::Done)?),
            Call::Remove(id) => Ok(self.remove_here(id).await.map(|()| Said::Done)?),
            Call::Renew(session) => Ok(self.renew_here(session).await?),
            Call::Report => Ok(Said::Report(self.report())),
            Call::Transfer(to) => Ok(self.transfer_here(to).await.map(|_| Said::Done)?),
        }
    }

    /// A question to the leader is not passed on: who asked finds the leader.
    fn must_lead_to_answer(&self) -> Result<(), ProposeError> {
        let standing = self.standing();
        if standing.is_leader { Ok(()) } else { Err(ProposeError::NoLeader(standing.leader)) }
    }

    async fn judge(&self, id: NodeId, last: Option<LogId>) -> Result<Ballot, ProposeError> {
        let log = self.log.lock().clone();
        let mine = log.ok_or(ProposeError::Stopped)?.get_log_state().await;
        let voter = Voter {
            leads: self.confirmer.has_lease(),
            silence: self.contact.silence(),
            last: mine.map_err(|_| ProposeError::Stopped)?.last_log_id,
        };
        let metrics = self.raft.metrics();
        let is_member = metrics.borrow().membership_config.membership().get_node(&id).is_some();
        Ok(voter.judge(is_member, last))
    }

    /// Whether this server may vote: after a restart it may have forgotten that it promised a
    /// leader not to. A vote that the leader itself had it give breaks no promise.
    pub(super) fn may_vote(&self, asked: &Vote) -> bool {
        self.contact.age() > ELECTION_SILENCE || self.raft.metrics().borrow().vote == *asked
    }

    /// Hands leadership over if this server has it, so that nobody waits for an election.
    pub(crate) async fn hand_over(&self) {
        if !self.standing().is_leader || self.peers().1.len() < 2 {
            return;
        }
        match self.transfer_here(None).await {
            Ok(leader) => tracing::info!(to = leader.name, "leadership handed over"),
            Err(error) => tracing::info!(%error, "leadership was not handed over"),
        }
    }

    /// Stops taking part; the storage is free once every clone is dropped.
    pub(crate) async fn stop(&self) {
        self.log.lock().take();
        if let Err(error) = self.raft.shutdown().await {
            tracing::warn!(%error, "consensus did not end by itself");
        }
    }
}

fn config() -> openraft::Config {
    // Elections are ours (`election`); what is left of openraft's times is the silence after
    // which a voter votes.
    let silence = u64::try_from(ELECTION_SILENCE.as_millis()).expect("a second in milliseconds");
    openraft::Config {
        cluster_name: "weft".to_owned(),
        enable_elect: false,
        heartbeat_interval: HEARTBEAT_MS,
        election_timeout_min: silence - 1,
        election_timeout_max: silence,
        // A piece of a snapshot on a slow link.
        install_snapshot_timeout: 10_000,
        max_payload_entries: 1024,
        snapshot_max_chunk_size: SNAPSHOT_PIECE_BYTES,
        // Both are the affair of `storage`, which counts bytes too.
        snapshot_policy: SnapshotPolicy::Never,
        max_in_snapshot_log_to_keep: u64::MAX,
        ..openraft::Config::default()
    }
}
