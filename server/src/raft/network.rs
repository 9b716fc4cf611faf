//! Consensus over gRPC: openraft's messages in envelopes, one shared channel per server.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use openraft::error::{InstallSnapshotError, RPCError, RaftError, RemoteError, Unreachable};
use openraft::network::{RPCOption, RaftNetwork, RaftNetworkFactory};
use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, InstallSnapshotRequest, InstallSnapshotResponse,
    VoteRequest, VoteResponse,
};
use parking_lot::Mutex;
use serde::de::DeserializeOwned;
use tonic::transport::Channel;
use weft_proto::envelope;
use weft_proto::grpc::v1::RaftMessage;
use weft_proto::grpc::v1::raft_client::RaftClient;
use weft_runtime::tls::ClientTlsCell;
use weft_runtime::{clock, rpc};

use super::call::{Call, CallError, Said};
use super::error::ProposeError;
use super::lease::Acks;
use super::long_append::{LONG_APPEND_BYTES, LONG_APPEND_LIMIT, LongAppend};
use super::tidings::Tidings;
use super::types::{LogId, Member, NodeId, TypeConfig, Vote};

/// Bytes of one message between servers: a full entry, or a piece of a snapshot, with a margin.
pub(crate) const MESSAGE_BYTES_MAX: usize = 64 << 20;
/// How long a request to the leader may take.
pub(super) const LEADER_LIMIT: Duration = Duration::from_secs(10);

/// The channels to the other servers. Clones share them.
#[derive(Clone)]
pub(crate) struct Links {
    /// Shows who we are, and takes servers of the mesh only.
    tls: ClientTlsCell,
    /// One for each address that was ever a member's: a handful.
    channels: Arc<Mutex<BTreeMap<String, Channel>>>,
    /// Addresses to which nothing is sent: how tests part servers.
    cut: Arc<Mutex<BTreeSet<String>>>,
    /// Who answered this server as leader, and when.
    pub(super) acks: Acks,
    pub(super) tidings: Tidings,
}

impl Links {
    pub(crate) fn new(tls: ClientTlsCell) -> Self {
        Self {
            tls,
            channels: Arc::default(),
            cut: Arc::default(),
            acks: Acks::default(),
            tidings: Tidings::default(),
        }
    }

    /// Sends nothing to these addresses from now on, and again to all others.
    pub(crate) fn cut(&self, addresses: BTreeSet<String>) {
        *self.cut.lock() = addresses;
    }

    /// Returns a client of the server at an address; cheap.
    fn client(&self, address: &str) -> RaftClient<Channel> {
        let mut channels = self.channels.lock();
        let channel = match channels.get(address) {
            Some(channel) => channel.clone(),
            None => {
                let channel = rpc::channel_tls(address, self.tls.clone());
                channels.insert(address.to_owned(), channel.clone());
                channel
            }
        };
        RaftClient::new(channel)
            .max_decoding_message_size(MESSAGE_BYTES_MAX)
            .max_encoding_message_size(MESSAGE_BYTES_MAX)
    }

    fn check(&self, address: &str) -> Result<(), tonic::Status> {
        if self.cut.lock().contains(address) {
            return Err(tonic::Status::unavailable("cut off"));
        }
        Ok(())
    }

    /// Asks the server at an address, within a time.
    pub(super) async fn call(
        &self,
        address: &str,
        call: &Call,
        limit: Duration,
    ) -> Result<Said, CallError> {
        let unanswered = |text: &str| ProposeError::Unanswered(text.to_owned());
        self.check(address).map_err(|status| unanswered(status.message()))?;
        let mut client = self.client(address);
        let message = RaftMessage { body: envelope::encode(call) };
        let reply = tokio::time::timeout(limit, client.propose(message))
            .await
            .map_err(|_| unanswered("in time"))?
            .map_err(|status| unanswered(status.message()))?;
        // An answer under way when the servers were parted is lost too.
        self.check(address).map_err(|status| unanswered(status.message()))?;
        envelope::decode::<Result<Said, CallError>>(&reply.into_inner().body)
            .map_err(|error| unanswered(&error.to_string()))?
    }

    /// Sends an append and notes who follows.
    pub(super) async fn append(
        &self,
        (target, address): (NodeId, &str),
        vote: Vote,
        message: Bytes,
        limit: Duration,
    ) -> Result<AppendEntriesResponse<NodeId>, Failure> {
        self.check_lead(&vote)?;
        let sent = clock::instant();
        let answer = self.exchange(Method::Append, (target, address), message, limit).await?;
        if !matches!(answer, AppendEntriesResponse::HigherVote(_)) {
            self.acks.note(&vote, target, sent);
        }
        Ok(answer)
    }

    /// Tells a server that this one leads; the answer renews the lease. Returns whether the
    /// server follows.
    pub(super) async fn pulse(
        &self,
        (target, address): (NodeId, &str),
        vote: &Vote,
        limit: Duration,
    ) -> bool {
        let rpc = AppendEntriesRequest::<TypeConfig> {
            vote: *vote,
            prev_log_id: None,
            entries: Vec::new(),
            leader_commit: None,
        };
        let answer = self.append((target, address), *vote, envelope::encode(&rpc), limit).await;
        answer.is_ok_and(|answer| !matches!(answer, AppendEntriesResponse::HigherVote(_)))
    }

    /// Asks whether a server hears this one, which leads in name only; that is noted, and renews
    /// nothing.
    pub(super) async fn reach(
        &self,
        (target, address): (NodeId, &str),
        vote: &Vote,
        limit: Duration,
    ) {
        let sent = clock::instant();
        if self.call(address, &Call::Report, limit).await.is_ok() {
            self.acks.note_reached(vote, target, sent);
        }
    }

    /// Who leads in name only says nothing as a leader.
    fn check_lead(&self, vote: &Vote) -> Result<(), Unreachable> {
        match self.acks.may_lead(vote) {
            true => Ok(()),
            false => Err(Unreachable::new(&ProposeError::NoQuorum)),
        }
    }

    async fn exchange<A, E>(
        &self,
        method: Method,
        (target, address): (NodeId, &str),
        message: Bytes,
        limit: Duration,
    ) -> Result<A, RPCError<NodeId, Member, E>>
    where
        A: DeserializeOwned,
        E: std::error::Error + DeserializeOwned,
    {
        self.check(address).map_err(|status| Unreachable::new(&status))?;
        let mut client = self.client(address);
        let mut request = tonic::Request::new(RaftMessage { body: message });
        request.set_timeout(limit);
        let call = async {
            match method {
                Method::Append => client.append(request).await,
                Method::InstallSnapshot => client.install_snapshot(request).await,
                Method::Vote => client.vote(request).await,
            }
        };
        let reply = match tokio::time::timeout(limit, call).await {
            Ok(Ok(reply)) => reply.into_inner(),
            Ok(Err(status)) => return Err(Unreachable::new(&status).into()),
            Err(late) => return Err(Unreachable::new(&late).into()),
        };
        self.check(address).map_err(|status| Unreachable::new(&status))?;
        let outcome: Result<A, E> = envelope::decode(&reply.body)
            .map_err(|error| RPCError::Unreachable(Unreachable::new(&error)))?;
        outcome.map_err(|error| RemoteError::new(target, error).into())
    }
}

impl RaftNetworkFactory<TypeConfig> for Links {
    type Network = Link;

    async fn new_client(&mut self, target: NodeId, node: &Member) -> Link {
        let (address, long_append) = (node.address.clone(), LongAppend::default());
        Link { target, address, links: self.clone(), told: None, long_append }
    }
}

/// The way to one other server.
pub(crate) struct Link {
    target: NodeId,
    address: String,
    links: Links,
    /// What the follower has been told is committed, or is about to be.
    told: Option<LogId>,
    long_append: LongAppend,
}

/// Which method a message is for.
#[derive(Clone, Copy)]
enum Method {
    Append,
    InstallSnapshot,
    Vote,
}

pub(super) type Failure<E = openraft::error::Infallible> =
    RPCError<NodeId, Member, RaftError<NodeId, E>>;

impl RaftNetwork<TypeConfig> for Link {
    async fn append_entries(
        &mut self,
        rpc: AppendEntriesRequest<TypeConfig>,
        option: RPCOption,
    ) -> Result<AppendEntriesResponse<NodeId>, Failure> {
        // What is under way says what was committed when it was sent, and no more.
        if let Some(answer) = self.long_append.resume(&rpc).await {
            return answer;
        }
        let to = (self.target, self.address.as_str());
        let is_news = rpc.leader_commit > self.told;
        self.told = self.told.max(rpc.leader_commit);
        if rpc.entries.is_empty() && is_news {
            // Not yet sent, and it is no sign of life: those that are have nothing new to say.
            self.links.tidings.owe(to, rpc);
            return Ok(AppendEntriesResponse::Success);
        }
        self.links.tidings.settle(self.target);
        let message = envelope::encode(&rpc);
        if message.len() <= LONG_APPEND_BYTES {
            return self.links.append(to, rpc.vote, message, option.hard_ttl()).await;
        }
        let (links, target, address) = (self.links.clone(), self.target, self.address.clone());
        let vote = rpc.vote;
        let answer = Box::pin(async move {
            links.append((target, &address), vote, message, LONG_APPEND_LIMIT).await
        });
        self.long_append.send(&rpc, answer).await
    }

    async fn install_snapshot(
        &mut self,
        rpc: InstallSnapshotRequest<TypeConfig>,
        option: RPCOption,
    ) -> Result<InstallSnapshotResponse<NodeId>, Failure<InstallSnapshotError>> {
        self.links.check_lead(&rpc.vote)?;
        let to = (self.target, self.address.as_str());
        let message = envelope::encode(&rpc);
        self.links.exchange(Method::InstallSnapshot, to, message, option.hard_ttl()).await
    }

    async fn vote(
        &mut self,
        rpc: VoteRequest<NodeId>,
        option: RPCOption,
    ) -> Result<VoteResponse<NodeId>, Failure> {
        let to = (self.target, self.address.as_str());
        let message = envelope::encode(&rpc);
        self.links.exchange(Method::Vote, to, message, option.hard_ttl()).await
    }
}
