//! `weft.v1.Catalog`: registrations of an agent's own node.

use tonic::{Request, Response, Status};
use weft_core::catalog::{CatalogDeregistration, CatalogRegistration};
use weft_core::name::NodeName;
use weft_core::state::Command;
use weft_proto::envelope;
use weft_proto::grpc::v1 as wire;
use weft_runtime::clock;

use super::{caller, status};
use crate::propose::{Caller, Proposer};
use crate::read::{Consistency, Reader};

pub(super) struct CatalogService {
    pub(super) proposer: Proposer,
    pub(super) reader: Reader,
}

#[tonic::async_trait]
impl wire::catalog_server::Catalog for CatalogService {
    async fn register(
        &self,
        request: Request<wire::RegisterRequest>,
    ) -> Result<Response<wire::RegisterReply>, Status> {
        let caller = Caller::Member(caller::member(&request)?);
        let registration: CatalogRegistration = super::decode(&request.into_inner().registration)?;
        let written = self
            .proposer
            .write(&caller, Command::Register(registration))
            .await
            .map_err(|error| status::of_write(&error))?;
        Ok(Response::new(wire::RegisterReply { index: written.index.0 }))
    }

    async fn deregister(
        &self,
        request: Request<wire::DeregisterRequest>,
    ) -> Result<Response<wire::DeregisterReply>, Status> {
        let caller = Caller::Member(caller::member(&request)?);
        let deregistration: CatalogDeregistration =
            super::decode(&request.into_inner().deregistration)?;
        let written = self
            .proposer
            .write(&caller, Command::Deregister(deregistration))
            .await
            .map_err(|error| status::of_write(&error))?;
        Ok(Response::new(wire::DeregisterReply { index: written.index.0 }))
    }

    async fn servers(
        &self,
        request: Request<wire::ServersRequest>,
    ) -> Result<Response<wire::ServersReply>, Status> {
        caller::member(&request)?;
        let servers = self.reader.members().into_iter().map(|member| member.address).collect();
        Ok(Response::new(wire::ServersReply { servers, time_ms: clock::wall().0 }))
    }

    async fn node_state(
        &self,
        request: Request<wire::NodeStateRequest>,
    ) -> Result<Response<wire::NodeStateReply>, Status> {
        let own = caller::node(&caller::member(&request)?)?;
        let name = NodeName::parse(&request.into_inner().node_name)
            .map_err(|error| Status::invalid_argument(error.to_string()))?;
        if !name.as_str().eq_ignore_ascii_case(own.as_str()) {
            let reason = format!("an agent sees the state of its own node, {own:?}, only");
            return Err(Status::permission_denied(reason));
        }
        let state = self
            .reader
            .state(Consistency::Default)
            .await
            .map_err(|error| status::of_consensus(&error))?;
        let reply = match state.node(&name) {
            Some(node) => {
                wire::NodeStateReply { exists: true, registration: envelope::encode(&node) }
            }
            None => wire::NodeStateReply { exists: false, registration: Default::default() },
        };
        Ok(Response::new(reply))
    }
}
