//! Consensus over gRPC: openraft's messages in envelopes, one shared channel per server.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use openraft::error::{InstallSnapshotError, RPCError, RaftError, RemoteError, Unreachable};
use openraft::network::{RPCOption, RaftNetwork, RaftNetworkFactory};
use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, InstallSnapshotRequest, InstallSnapshotResponse,
    VoteRequest, VoteResponse,
};
use parking_lot::Mutex;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tonic::transport::Channel;
use weft_proto::envelope;
use weft_proto::grpc::v1::RaftMessage;
use weft_proto::grpc::v1::raft_client::RaftClient;
use weft_runtime::rpc;
use weft_runtime::tls::ClientTlsCell;

use super::types::{Member, NodeId, TypeConfig};

/// Bytes of one message between servers: a full entry, or a piece of a snapshot, with a margin.
pub(crate) const MESSAGE_BYTES_MAX: usize = 64 << 20;

/// The channels to the other servers. Clones share them.
#[derive(Clone)]
pub(crate) struct Links {
    /// Shows who we are, and takes servers of the mesh only.
    tls: ClientTlsCell,
    /// One for each address that was ever a member's: a handful.
    channels: Arc<Mutex<BTreeMap<String, Channel>>>,
}

impl Links {
    pub(crate) fn new(tls: ClientTlsCell) -> Self {
        Self { tls, channels: Arc::default() }
    }

    /// Returns a client of the server at an address; cheap.
    pub(crate) fn client(&self, address: &str) -> RaftClient<Channel> {
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
}

impl RaftNetworkFactory<TypeConfig> for Links {
    type Network = Link;

    async fn new_client(&mut self, target: NodeId, node: &Member) -> Link {
        Link { target, client: self.client(&node.address) }
    }
}

/// The way to one other server.
pub(crate) struct Link {
    target: NodeId,
    client: RaftClient<Channel>,
}

/// Which method a message is for.
#[derive(Clone, Copy)]
enum Method {
    Append,
    InstallSnapshot,
    Vote,
}

impl Link {
    async fn call<Q, A, E>(
        &mut self,
        method: Method,
        request: &Q,
        limit: Duration,
    ) -> Result<A, RPCError<NodeId, Member, E>>
    where
        Q: Serialize,
        A: DeserializeOwned,
        E: std::error::Error + DeserializeOwned,
    {
        let mut request = tonic::Request::new(RaftMessage { body: envelope::encode(request) });
        request.set_timeout(limit);
        let call = async {
            match method {
                Method::Append => self.client.append(request).await,
                Method::InstallSnapshot => self.client.install_snapshot(request).await,
                Method::Vote => self.client.vote(request).await,
            }
        };
        let reply = match tokio::time::timeout(limit, call).await {
            Ok(Ok(reply)) => reply.into_inner(),
            Ok(Err(status)) => return Err(Unreachable::new(&status).into()),
            Err(late) => return Err(Unreachable::new(&late).into()),
        };
        let outcome: Result<A, E> = envelope::decode(&reply.body)
            .map_err(|error| RPCError::Unreachable(Unreachable::new(&error)))?;
        outcome.map_err(|error| RemoteError::new(self.target, error).into())
    }
}

type Failure<E = openraft::error::Infallible> = RPCError<NodeId, Member, RaftError<NodeId, E>>;

impl RaftNetwork<TypeConfig> for Link {
    async fn append_entries(
        &mut self,
        rpc: AppendEntriesRequest<TypeConfig>,
        option: RPCOption,
    ) -> Result<AppendEntriesResponse<NodeId>, Failure> {
        self.call(Method::Append, &rpc, option.hard_ttl()).await
    }

    async fn install_snapshot(
        &mut self,
        rpc: InstallSnapshotRequest<TypeConfig>,
        option: RPCOption,
    ) -> Result<InstallSnapshotResponse<NodeId>, Failure<InstallSnapshotError>> {
        self.call(Method::InstallSnapshot, &rpc, option.hard_ttl()).await
    }

    async fn vote(
        &mut self,
        rpc: VoteRequest<NodeId>,
        option: RPCOption,
    ) -> Result<VoteResponse<NodeId>, Failure> {
        self.call(Method::Vote, &rpc, option.hard_ttl()).await
    }
}
