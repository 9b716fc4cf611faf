//! Who takes part: servers come as learners, become voters, move, go.
//!
//! Changes go one after another, each applied before the next: openraft panics under rapid churn
//! (its issue 1544).

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use openraft::ChangeMembers;
use tracing::info;
use weft_core::autopilot::ClusterHealth;
use weft_runtime::clock;

use super::call::{Call, CallError, Report, Said};
use super::consensus::Consensus;
use super::error::{MembersError, ProposeError};
use super::leadership::leads;
use super::lease::LEADERLESS_AFTER;
use super::network::LEADER_LIMIT;
use super::types::{Member, NodeId};

/// Voters that a new cluster gets at once: with three it survives the loss of one.
const VOTERS_AT_ONCE: usize = 3;
/// The time for a server to say how it is.
const REPORT_LIMIT: Duration = Duration::from_millis(500);
/// The time for a new leader's first look at the servers.
const FIRST_LOOK_LIMIT: Duration = Duration::from_secs(3);

/// A server of the cluster, as this server knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Peer {
    pub(crate) id: NodeId,
    pub(crate) member: Member,
    pub(crate) is_voter: bool,
    pub(crate) is_leader: bool,
}

/// How the leader sees a server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Sighting {
    pub(crate) peer: Peer,
    /// How long ago it answered the leader; `None` for never.
    pub(crate) last_contact: Option<Duration>,
    /// What it says of itself; `None` when it did not answer.
    pub(crate) report: Option<Report>,
}

impl Consensus {
    /// Returns every server, by id, and the index of the entry that says so.
    pub(crate) fn peers(&self) -> (u64, Vec<Peer>) {
        let metrics = self.raft.metrics();
        let metrics = metrics.borrow();
        let config = &metrics.membership_config;
        let index = config.log_id().map_or(0, |at| at.index);
        let peers = config.nodes().map(|(id, member)| Peer {
            id: *id,
            member: member.clone(),
            is_voter: config.voter_ids().any(|voter| voter == *id),
            is_leader: metrics.current_leader == Some(*id),
        });
        (index, peers.collect())
    }

    /// Looks at every server, as the leader.
    pub(crate) async fn sightings(&self) -> Vec<Sighting> {
        let (_, peers) = self.peers();
        let vote = self.raft.metrics().borrow().vote;
        let looks = peers.into_iter().map(|peer| async move {
            if peer.id == self.id {
                let report = Some(self.report());
                return Sighting { peer, last_contact: Some(Duration::ZERO), report };
            }
            let said = self.links.call(&peer.member.address, &Call::Report, REPORT_LIMIT).await;
            let report = match said {
                Ok(Said::Report(report)) => Some(report),
                Ok(_) | Err(_) => None,
            };
            let last = self.links.acks.last(&vote, peer.id);
            let last_contact = last.map(|at| clock::instant().duration_since(at));
            Sighting { peer, last_contact, report }
        });
        futures::future::join_all(looks).await
    }

    /// Shows what autopilot sees, to whoever asks while this server leads.
    pub(crate) fn publish_health(&self, health: ClusterHealth) {
        let term = self.raft.metrics().borrow().current_term;
        self.health.send_replace((term, health));
    }

    /// Returns what the leader's autopilot last saw.
    ///
    /// # Errors
    /// [`MembersError`] when there is no leader to ask.
    pub(crate) async fn health(&self) -> Result<ClusterHealth, MembersError> {
        match self.at_leader(Call::Health).await? {
            Said::Health(health) => Ok(health),
            other => Err(ProposeError::Unanswered(format!("it said {other:?}")).into()),
        }
    }

    /// A leader that was just elected takes a moment for its first look.
    pub(super) async fn health_here(&self) -> Result<ClusterHealth, ProposeError> {
        let term = self.raft.metrics().borrow().current_term;
        let mut health = self.health.subscribe();
        let looked = health.wait_for(|(of, _)| *of == term);
        match tokio::time::timeout(FIRST_LOOK_LIMIT, looked).await {
            Ok(Ok(seen)) => Ok(seen.1.clone()),
            Ok(Err(_)) => Err(ProposeError::Stopped),
            Err(_) => Err(ProposeError::NoLeader(None)),
        }
    }

    /// Says how this server is.
    pub(super) fn report(&self) -> Report {
        let metrics = self.raft.metrics();
        let metrics = metrics.borrow();
        Report {
            term: metrics.current_term,
            last_index: metrics.last_log_index.unwrap_or_default(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
        }
    }

    /// Asks the server at an address, or the leader that it names, to take this one in.
    pub(crate) async fn join(&self, address: &str, me: Member) -> Result<(), MembersError> {
        let call = Call::Enter(self.id, me);
        match self.links.call(address, &call, LEADER_LIMIT).await {
            Err(CallError::Propose(ProposeError::NoLeader(Some(leader)))) => {
                self.links.call(&leader.address, &call, LEADER_LIMIT).await?;
            }
            said => drop(said?),
        }
        Ok(())
    }

    /// Tells the cluster under which name and address this server is found now, when that is
    /// not what it knows.
    pub(crate) async fn readdress(&self, me: Member) -> Result<(), MembersError> {
        let known = {
            let metrics = self.raft.metrics();
            let metrics = metrics.borrow();
            metrics.membership_config.membership().get_node(&self.id).cloned()
        };
        if known.is_none_or(|known| known == me) {
            return Ok(());
        }
        self.at_leader(Call::Readdress(self.id, me)).await.map(drop)
    }

    /// Removes a server, here or at the leader.
    pub(crate) async fn remove(&self, id: NodeId) -> Result<(), MembersError> {
        match self.at_leader(Call::Remove(id)).await {
            // It handed over first; the new leader removes it.
            Err(MembersError::Consensus(ProposeError::NoLeader(Some(_)))) => {
                self.at_leader(Call::Remove(id)).await.map(drop)
            }
            outcome => outcome.map(drop),
        }
    }

    /// Hands leadership over, here or at the leader.
    pub(crate) async fn transfer(&self, to: Option<NodeId>) -> Result<(), MembersError> {
        self.at_leader(Call::Transfer(to)).await.map(drop)
    }

    /// Asks the leader, which may be this server.
    pub(super) async fn at_leader(&self, call: Call) -> Result<Said, MembersError> {
        let standing = self.standing();
        if standing.is_leader {
            return Ok(self.answer(call).await?);
        }
        let leader = standing.leader.ok_or(ProposeError::NoLeader(None))?;
        match self.links.call(&leader.address, &call, LEADER_LIMIT).await {
            // It knows better than this server who leads.
            Err(CallError::Propose(ProposeError::NoLeader(Some(other)))) => {
                Ok(self.links.call(&other.address, &call, LEADER_LIMIT).await?)
            }
            said => Ok(said?),
        }
    }

    /// Takes a server in: as a learner first, so that it has the log before its vote counts.
    /// The first three of a cluster become voters at once, later ones when autopilot finds them
    /// stable, read replicas never.
    pub(super) async fn enter(&self, id: NodeId, member: Member) -> Result<(), MembersError> {
        let _one_at_a_time = self.membership.lock().await;
        self.must_lead()?;
        self.replace_namesake(id, &member).await?;
        info!(id, name = member.name, address = member.address, "a server comes as a learner");
        let is_read_replica = member.is_read_replica;
        let added = tokio::time::timeout(LEADER_LIMIT, self.raft.add_learner(id, member, true));
        let late = |_| ProposeError::Unanswered("the server did not catch up yet".to_owned());
        added.await.map_err(late)?.map_err(ProposeError::from)?;
        let voters = self.peers().1.iter().filter(|peer| peer.is_voter).count();
        if is_read_replica || voters >= VOTERS_AT_ONCE {
            return Ok(());
        }
        self.change(ChangeMembers::AddVoterIds(BTreeSet::from([id]))).await
    }

    /// A server that lost its data directory comes back under its name with another id: the old
    /// one is gone for good.
    async fn replace_namesake(&self, id: NodeId, member: &Member) -> Result<(), MembersError> {
        let (_, peers) = self.peers();
        let namesake = peers
            .into_iter()
            .find(|peer| peer.id != id && peer.member.name.eq_ignore_ascii_case(&member.name));
        let Some(old) = namesake else { return Ok(()) };
        if old.id == self.id || self.is_in_contact(old.id) {
            return Err(MembersError::NameTaken { name: member.name.clone() });
        }
        info!(id = old.id, name = old.member.name, "a server comes back without its data");
        self.take_out(old.id).await
    }

    /// Gives learners a vote. As the leader.
    pub(crate) async fn promote(&self, ids: BTreeSet<NodeId>) -> Result<(), MembersError> {
        let _one_at_a_time = self.membership.lock().await;
        self.must_lead()?;
        self.change(ChangeMembers::AddVoterIds(ids)).await
    }

    pub(super) async fn set_member(&self, id: NodeId, member: Member) -> Result<(), MembersError> {
        let _one_at_a_time = self.membership.lock().await;
        self.must_lead()?;
        info!(id, name = member.name, address = member.address, "a server moved");
        self.change(ChangeMembers::SetNodes(BTreeMap::from([(id, member)]))).await
    }

    /// Removes a server, as the leader. Itself it removes by handing over.
    pub(super) async fn remove_here(&self, id: NodeId) -> Result<(), MembersError> {
        self.must_lead()?;
        if id == self.id {
            let leader = self.transfer_here(None).await.map_err(|error| match error {
                MembersError::NotTransferred(reason) => MembersError::Endangers(format!(
                    "the server leads, and nobody else can: {reason}"
                )),
                error => error,
            })?;
            return Err(ProposeError::NoLeader(Some(leader)).into());
        }
        self.remove_as_leader(id).await
    }

    /// Removes another server, as the leader.
    pub(crate) async fn remove_as_leader(&self, id: NodeId) -> Result<(), MembersError> {
        let _one_at_a_time = self.membership.lock().await;
        self.must_lead()?;
        self.take_out(id).await
    }

    async fn take_out(&self, id: NodeId) -> Result<(), MembersError> {
        let (_, peers) = self.peers();
        let Some(peer) = peers.iter().find(|peer| peer.id == id) else {
            return Err(MembersError::Unknown { what: format!("a server with id {id:016x}") });
        };
        info!(id, name = peer.member.name, address = peer.member.address, "removing a server");
        if !peer.is_voter {
            return self.change(ChangeMembers::RemoveNodes(BTreeSet::from([id]))).await;
        }
        let left: Vec<NodeId> = peers
            .iter()
            .filter(|peer| peer.is_voter && peer.id != id)
            .map(|peer| peer.id)
            .collect();
        let heard = left.iter().filter(|id| **id == self.id || self.is_in_contact(**id)).count();
        if heard <= left.len() / 2 {
            return Err(MembersError::Endangers(format!(
                "without {:?}, {} of {} voters would be in contact, which is no majority",
                peer.member.name,
                heard,
                left.len()
            )));
        }
        self.change(ChangeMembers::RemoveVoters(BTreeSet::from([id]))).await
    }

    /// Whether a server answered this leader a moment ago.
    fn is_in_contact(&self, id: NodeId) -> bool {
        let vote = self.raft.metrics().borrow().vote;
        let last = self.links.acks.last(&vote, id);
        last.is_some_and(|at| clock::instant().duration_since(at) < LEADERLESS_AFTER)
    }

    fn must_lead(&self) -> Result<(), MembersError> {
        let metrics = self.raft.metrics();
        if leads(self.id, &metrics.borrow()) {
            return Ok(());
        }
        Err(ProposeError::NoLeader(self.standing().leader).into())
    }

    async fn change(&self, change: ChangeMembers<NodeId, Member>) -> Result<(), MembersError> {
        let changed = self.raft.change_membership(change, false);
        let late = |_| ProposeError::Unanswered("no majority agreed in time".to_owned());
        let changed = tokio::time::timeout(LEADER_LIMIT, changed).await.map_err(late)?;
        changed.map_err(ProposeError::from)?;
        Ok(())
    }
}
