//! Consensus as other servers call it. Who calls was checked at the door.

use openraft::raft::{AppendEntriesResponse, VoteRequest};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tonic::{Request, Response, Status};
use weft_proto::envelope;
use weft_proto::grpc::v1::RaftMessage;
use weft_proto::grpc::v1::raft_server::{Raft as RaftRpc, RaftServer};
use weft_runtime::clock;

use super::consensus::Consensus;
use super::network::MESSAGE_BYTES_MAX;
use super::types::NodeId;

/// The gRPC service.
pub(crate) struct RaftService {
    consensus: Consensus,
}

impl RaftService {
    pub(crate) fn server(consensus: Consensus) -> RaftServer<Self> {
        RaftServer::new(Self { consensus })
            .max_decoding_message_size(MESSAGE_BYTES_MAX)
            .max_encoding_message_size(MESSAGE_BYTES_MAX)
    }
}

#[tonic::async_trait]
impl RaftRpc for RaftService {
    async fn append(&self, request: Request<RaftMessage>) -> Result<Response<RaftMessage>, Status> {
        let came = clock::instant();
        let outcome = self.consensus.raft.append_entries(read(request)?).await;
        // One that was deposed is no leader.
        if outcome.as_ref().is_ok_and(|said| !matches!(said, AppendEntriesResponse::HigherVote(_)))
        {
            self.consensus.contact.heard_at(came);
        }
        reply(&outcome)
    }

    async fn vote(&self, request: Request<RaftMessage>) -> Result<Response<RaftMessage>, Status> {
        let request: VoteRequest<NodeId> = read(request)?;
        if !self.consensus.may_vote(&request.vote) {
            return Err(Status::unavailable("this server has just started; ask again"));
        }
        reply(&self.consensus.raft.vote(request).await)
    }

    async fn install_snapshot(
        &self,
        request: Request<RaftMessage>,
    ) -> Result<Response<RaftMessage>, Status> {
        let came = clock::instant();
        let outcome = self.consensus.raft.install_snapshot(read(request)?).await;
        if outcome.is_ok() {
            self.consensus.contact.heard_at(came);
        }
        reply(&outcome)
    }

    async fn propose(
        &self,
        request: Request<RaftMessage>,
    ) -> Result<Response<RaftMessage>, Status> {
        reply(&self.consensus.answer(read(request)?).await)
    }
}

fn read<T: DeserializeOwned>(request: Request<RaftMessage>) -> Result<T, Status> {
    envelope::decode(&request.into_inner().body)
        .map_err(|error| Status::invalid_argument(error.to_string()))
}

fn reply<T: Serialize>(value: &T) -> Result<Response<RaftMessage>, Status> {
    Ok(Response::new(RaftMessage { body: envelope::encode(value) }))
}
