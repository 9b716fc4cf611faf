//! The gRPC services, one file each; thin: convert, call the doors, convert.

mod ca;
mod caller;
mod catalog;
mod join;
mod status;
mod traffic;
mod watch;

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use serde::de::DeserializeOwned;
use tonic::Status;
use tonic::service::Routes;
use weft_core::config_entry::IntentionAction;
use weft_core::limits;
use weft_proto::envelope;
use weft_proto::grpc::v1 as wire;
use weft_runtime::http::{Body, empty};
use weft_runtime::task::TaskTree;

use crate::ca::Signer;
use crate::join::Admission;
use crate::presence::Presences;
use crate::propose::Proposer;
use crate::raft::{Consensus, RaftService};
use crate::read::Reader;
use crate::watch::{Hub, Views, fan_out};

/// Bytes of one message of an agent: a registration, or a request to sign.
const MESSAGE_BYTES_MAX: usize = limits::API_BODY_BYTES_MAX;

/// What the services work with.
pub(crate) struct Services {
    pub(crate) admission: Admission,
    pub(crate) consensus: Consensus,
    pub(crate) hub: Arc<Hub>,
    pub(crate) proposer: Proposer,
    pub(crate) reader: Reader,
    pub(crate) signer: Signer,
    pub(crate) default_intention: IntentionAction,
    pub(crate) leaf_lifetime: Duration,
    pub(crate) presences: Presences,
}

/// Puts all services behind one door.
pub(crate) fn routes(services: Services, tasks: &TaskTree) -> Routes {
    let Services { proposer, reader, signer, .. } = services;
    let join = join::JoinService { admission: services.admission };
    let catalog = catalog::CatalogService { proposer, reader: reader.clone() };
    let leaf_lifetime = services.leaf_lifetime;
    let ca = ca::CaService { signer, reader, leaf_lifetime, turns: Mutex::default() };
    let views = Views::new(services.hub.clone(), services.default_intention, tasks.child("views"));
    tasks.spawn("fan-out", fan_out(services.hub.clone(), views.clone(), tasks.clone()));
    let watch = watch::WatchService {
        hub: services.hub,
        tasks: tasks.child("watch"),
        views,
        catch_up_limit: watch::CATCH_UP_LIMIT,
        presences: services.presences,
    };
    let traffic = traffic::TrafficService { consensus: services.consensus.clone() };
    Routes::new(RaftService::server(services.consensus))
        .add_service(wire::join_server::JoinServer::new(join).max_decoding_message_size(64 << 10))
        .add_service(
            wire::catalog_server::CatalogServer::new(catalog)
                .max_decoding_message_size(MESSAGE_BYTES_MAX),
        )
        .add_service(
            wire::traffic_server::TrafficServer::new(traffic)
                .max_decoding_message_size(MESSAGE_BYTES_MAX),
        )
        .add_service(wire::ca_server::CaServer::new(ca).max_decoding_message_size(64 << 10))
        .add_service(watch)
}

/// Answers a gRPC caller that the door turns away.
pub(crate) fn denied(reason: &str) -> ::http::Response<Body> {
    Status::permission_denied(reason).into_http::<tonic::body::Body>().map(|_| empty())
}

fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Status> {
    envelope::decode(bytes).map_err(|error| Status::invalid_argument(error.to_string()))
}
