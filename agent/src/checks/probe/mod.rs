//! One run of one probe: what was found, in Consul's words. One file for each kind that needs
//! more than a connection.

mod dbus;
mod docker;
mod grpc;
mod http;
mod script;
mod systemd;
mod tail;
mod tls;

use std::fmt::Display;
use std::path::PathBuf;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite};
use weft_core::catalog::CheckStatus;
use weft_runtime::http::ping_h2;
use weft_runtime::net;

use crate::local::{CheckPlan, Probe, TlsProbe};
pub(super) use tls::ProbeTls;
use tls::Protocol;

/// Where the Docker daemon listens unless configured otherwise.
pub(crate) const DOCKER_SOCKET: &str = "/var/run/docker.sock";

/// What one run found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Finding {
    pub(super) status: CheckStatus,
    pub(super) output: String,
}

impl Finding {
    pub(super) fn passing(output: impl Into<String>) -> Self {
        Self { status: CheckStatus::Passing, output: output.into() }
    }

    pub(super) fn critical(output: impl Into<String>) -> Self {
        Self { status: CheckStatus::Critical, output: output.into() }
    }

    /// From the exit status of a command: 0 passes, 1 warns, all else is critical.
    ///
    /// **Source**: Consul: docs/services/usage/checks#script-checks.
    fn of_exit(code: Option<i64>, output: String) -> Self {
        let status = match code {
            Some(0) => CheckStatus::Passing,
            Some(1) => CheckStatus::Warning,
            Some(_) | None => CheckStatus::Critical,
        };
        Self { status, output }
    }
}

/// What probes share.
#[derive(Debug)]
pub(super) struct Tools {
    /// TLS configurations.
    pub(super) tls: ProbeTls,
    /// The Docker daemon's socket.
    pub(super) docker_socket: PathBuf,
    /// The socket of the system's message bus.
    pub(super) bus_socket: PathBuf,
}

impl Tools {
    pub(super) fn new(docker_socket: PathBuf) -> Self {
        Self { tls: ProbeTls::default(), docker_socket, bus_socket: dbus::SYSTEM_BUS.into() }
    }
}

/// Runs the probe once, within its time-out. Reports of applications, and what others are
/// probed for, are not awaited here: `None`.
///
/// # Cancel safety
/// Dropping it ends what it started, commands included.
pub(super) async fn run(plan: &CheckPlan, tools: &Tools) -> Option<Finding> {
    let limit = plan.timeout();
    let finding = match &plan.probe {
        Probe::Alias(_) | Probe::Ttl { .. } => return None,
        Probe::Docker { container, args } => {
            let bytes_max = plan.output_bytes_max();
            docker::run(&tools.docker_socket, (container, args), (bytes_max, limit)).await
        }
        Probe::Grpc(target) => within(limit, Box::pin(grpc::run(plan, target, tools))).await,
        Probe::H2ping { address, tls } => {
            within(limit, h2ping(address, tls.as_ref(), tools, limit)).await
        }
        Probe::Http(request) => http::run(plan, request, &tools.tls).await,
        Probe::OsService { unit } => within(limit, systemd::run(&tools.bus_socket, unit)).await,
        Probe::Script { args } => script::run(args, plan.output_bytes_max(), limit).await,
        Probe::Tcp { address, tls } => {
            within(limit, tcp(address, tls.as_ref(), tools, limit)).await
        }
        Probe::Udp { address } => udp(address, limit).await,
    };
    Some(finding)
}

/// Says through which door of a proxy a service was asked, if it was.
fn through(plan: &CheckPlan) -> String {
    plan.through.map(|door| format!(" through {door}")).unwrap_or_default()
}

async fn within(limit: Duration, probe: impl Future<Output = Finding>) -> Finding {
    match tokio::time::timeout(limit, probe).await {
        Ok(finding) => finding,
        Err(_) => Finding::critical(format!("no answer within {} ms", limit.as_millis())),
    }
}

async fn tcp(address: &str, tls: Option<&TlsProbe>, tools: &Tools, limit: Duration) -> Finding {
    let failed = |error: &dyn Display| Finding::critical(format!("TCP connect {address}: {error}"));
    let stream = match net::connect_host(address, limit).await {
        Ok(stream) => stream,
        Err(error) => return failed(&error),
    };
    if let Some(tls) = tls
        && let Err(error) = tools.tls.shake(stream, (address, tls), Protocol::Any).await
    {
        return failed(&error);
    }
    Finding::passing(format!("TCP connect {address}: Success"))
}

async fn h2ping(address: &str, tls: Option<&TlsProbe>, tools: &Tools, limit: Duration) -> Finding {
    let stream = match connect(address, tls, tools, limit).await {
        Ok(stream) => stream,
        Err(error) => return Finding::critical(format!("HTTP2 ping {address}: {error}")),
    };
    match ping_h2(stream).await {
        Ok(()) => Finding::passing("HTTP2 ping was successful"),
        Err(error) => Finding::critical(format!("HTTP2 ping {address}: {error}")),
    }
}

/// A connection to something that speaks HTTP/2.
trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Stream for T {}

async fn connect(
    address: &str,
    tls: Option<&TlsProbe>,
    tools: &Tools,
    limit: Duration,
) -> Result<Box<dyn Stream>, String> {
    let stream = net::connect_host(address, limit).await.map_err(|error| error.to_string())?;
    match tls {
        None => Ok(Box::new(stream)),
        Some(tls) => {
            let shaken = tools.tls.shake(stream, (address, tls), Protocol::Http2).await;
            Ok(Box::new(shaken?))
        }
    }
}

/// Silence passes, as most services on UDP do not answer what they do not understand; what the
/// system refuses is critical.
///
/// **Source**: Consul: docs/services/usage/checks#udp-checks.
async fn udp(address: &str, limit: Duration) -> Finding {
    let exchange = async {
        let found = net::lookup(address).await?;
        let target = found.into_iter().next().ok_or(std::io::ErrorKind::NotFound)?;
        let any = match target.is_ipv4() {
            true => ([0, 0, 0, 0], 0).into(),
            false => ([0; 16], 0).into(),
        };
        let socket = net::bind_udp(any).await?;
        socket.connect(target).await?;
        socket.send(&[]).await?;
        let mut byte = [0];
        socket.recv(&mut byte).await
    };
    match tokio::time::timeout(limit, exchange).await {
        Ok(Ok(_)) | Err(_) => Finding::passing(format!("UDP connect {address}: Success")),
        Ok(Err(error)) => Finding::critical(format!("UDP connect {address}: {error}")),
    }
}

#[cfg(test)]
mod tests;
