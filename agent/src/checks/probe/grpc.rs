//! The grpc check.
//!
//! **Source**: Spec: grpc/grpc doc/health-checking.md.

use std::time::Duration;

use super::{Finding, Tools, connect};
use crate::grpc::ask_health;
use crate::local::GrpcProbe;

pub(super) async fn run(target: &GrpcProbe, tools: &Tools, limit: Duration) -> Finding {
    let GrpcProbe { address, service, tls } = target;
    let asked = match connect(address, tls.as_ref(), tools, limit).await {
        Ok(stream) => ask_health(stream, address, service).await,
        Err(error) => Err(error),
    };
    match asked {
        Ok(()) => Finding::passing(format!("gRPC check {address}: success")),
        Err(reason) => Finding::critical(format!("gRPC check {address}: {reason}")),
    }
}
