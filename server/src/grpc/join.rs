//! `weft.v1.Join`: first certificates.

use tonic::{Request, Response, Status};
use weft_core::ca::MemberRole;
use weft_proto::grpc::v1 as wire;
use weft_runtime::clock;

use super::status;
use crate::join::{Admission, Admit};

pub(super) struct JoinService {
    pub(super) admission: Admission,
}

#[tonic::async_trait]
impl wire::join_server::Join for JoinService {
    async fn join(
        &self,
        request: Request<wire::JoinRequest>,
    ) -> Result<Response<wire::JoinReply>, Status> {
        let request = request.into_inner();
        let role = match request.role() {
            wire::Role::Agent => MemberRole::Agent,
            wire::Role::Server => MemberRole::Server,
            wire::Role::Unspecified => {
                return Err(Status::invalid_argument("role: say agent or server"));
            }
        };
        let wire::JoinRequest { secret, node_name, csr_der, .. } = request;
        let admit = Admit { secret: secret.into(), role, node_name, csr_der: csr_der.into() };
        let admitted =
            self.admission.admit(admit).await.map_err(|error| status::of_join(&error))?;
        Ok(Response::new(wire::JoinReply {
            certificate_pem: admitted.certificate_pem,
            roots_pem: admitted.bundle.roots_pem,
            trust_domain: admitted.bundle.trust_domain.to_string(),
            datacenter: admitted.cluster.datacenter.to_string(),
            servers: admitted.servers,
            cluster_id: admitted.cluster.id,
            seal_key: admitted.seal_key.into(),
            ca_root: admitted.ca_root,
            time_ms: clock::wall().0,
        }))
    }
}
