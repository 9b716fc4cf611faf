//! `weft.v1.Traffic`: what proxies have measured.

use tonic::{Request, Response, Status};
use weft_core::rollout::RolloutReport;
use weft_proto::grpc::v1 as wire;

use super::caller;
use crate::raft::Consensus;

pub(super) struct TrafficService {
    pub(super) consensus: Consensus,
}

#[tonic::async_trait]
impl wire::traffic_server::Traffic for TrafficService {
    async fn report_rollouts(
        &self,
        request: Request<wire::RolloutReports>,
    ) -> Result<Response<wire::RolloutReply>, Status> {
        // Agents alone have proxies.
        caller::node(&caller::member(&request)?)?;
        let reports: Vec<RolloutReport> = super::decode(&request.into_inner().reports)?;
        let told = self.consensus.measured(reports).await;
        // Kept by the agent, and told again.
        told.map_err(|error| Status::unavailable(error.to_string()))?;
        Ok(Response::new(wire::RolloutReply {}))
    }
}
