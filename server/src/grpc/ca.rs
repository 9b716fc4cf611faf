//! `weft.v1.Ca`: certificates for members that already have one.

use std::time::Duration;

use parking_lot::Mutex;
use tonic::{Request, Response, Status};
use weft_core::ca::csr;
use weft_core::ca::renewal::Turns;
use weft_core::name::ServiceName;
use weft_proto::grpc::v1 as wire;
use weft_runtime::clock;

use super::{caller, status};
use crate::ca::{Signed, Signer};
use crate::read::{Consistency, Reader};

pub(super) struct CaService {
    pub(super) signer: Signer,
    pub(super) reader: Reader,
    pub(super) leaf_lifetime: Duration,
    /// Signatures for services; agents and servers come rarely.
    pub(super) turns: Mutex<Turns>,
}

#[tonic::async_trait]
impl wire::ca_server::Ca for CaService {
    async fn sign_leaf(
        &self,
        request: Request<wire::SignLeafRequest>,
    ) -> Result<Response<wire::SignReply>, Status> {
        let caller = caller::member(&request)?;
        let node = caller::node(&caller)?;
        let wire::SignLeafRequest { service, csr_der } = request.into_inner();
        let service = ServiceName::parse(&service)
            .map_err(|error| Status::invalid_argument(error.to_string()))?;
        // As of now: an agent asks right after it has registered, perhaps at another server.
        let state = self
            .reader
            .state(Consistency::Default)
            .await
            .map_err(|error| status::of_consensus(&error))?;
        let id = csr::judge_service(&caller, &service, state.node(&node).as_ref())
            .and_then(|id| match state.is_barred(&id) {
                true => Err(csr::CsrRefusal::Revoked { id }),
                false => Ok(id),
            })
            .map_err(|refusal| Status::permission_denied(refusal.to_string()))?;
        let settings = state.ca_settings().cloned().unwrap_or_default();
        self.turn(settings.signatures_per_second()).await?;
        let lifetime = state.ca_terms(self.leaf_lifetime).leaf;
        let signed = self
            .signer
            .sign(csr_der.into(), id, lifetime)
            .await
            .map_err(|error| status::of_signer(&error))?;
        Ok(Response::new(reply(signed)))
    }

    async fn renew(
        &self,
        request: Request<wire::RenewRequest>,
    ) -> Result<Response<wire::SignReply>, Status> {
        let caller = caller::member(&request)?;
        let csr = request.into_inner().csr_der;
        let signed = self
            .signer
            .sign(csr.into(), caller, self.reader.newest().ca_terms(self.leaf_lifetime).member())
            .await
            .map_err(|error| status::of_signer(&error))?;
        Ok(Response::new(reply(signed)))
    }
}

impl CaService {
    /// Waits for a turn, or sends the caller away until later; 0 turns a second are any number.
    async fn turn(&self, per_second: u32) -> Result<(), Status> {
        if per_second == 0 {
            return Ok(());
        }
        let turn = {
            let mut turns = self.turns.lock();
            turns.set_rate(per_second);
            turns.take(clock::instant())
        };
        let wait = turn.map_err(|many| Status::resource_exhausted(many.to_string()))?;
        if !wait.is_zero() {
            tokio::time::sleep(wait).await;
        }
        Ok(())
    }
}

fn reply(signed: Signed) -> wire::SignReply {
    wire::SignReply {
        certificate_pem: signed.chain_pem,
        valid_after_ms: signed.valid_after.0,
        valid_before_ms: signed.valid_before.0,
    }
}
