//! The grpc check.
//!
//! **Source**: Spec: grpc/grpc doc/health-checking.md.

use super::{Finding, Tools, connect, through};
use crate::grpc::ask_health;
use crate::local::{CheckPlan, GrpcProbe};

pub(super) async fn run(plan: &CheckPlan, target: &GrpcProbe, tools: &Tools) -> Finding {
    let GrpcProbe { address, service, tls } = target;
    let limit = plan.timeout();
    let called = plan.through.map(|door| door.to_string());
    let called = called.as_ref().unwrap_or(address);
    let asked = match connect(called, tls.as_ref(), tools, limit).await {
        Ok(stream) => ask_health(stream, address, service).await,
        Err(error) => Err(error),
    };
    let through = through(plan);
    match asked {
        Ok(()) => Finding::passing(format!("gRPC check {address}{through}: success")),
        Err(reason) => Finding::critical(format!("gRPC check {address}{through}: {reason}")),
    }
}
