//! `weft capture test`: a call to a reserved virtual address, and what became of it, in words.

use std::io;
use std::net::SocketAddr;
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use serde_json::json;
use tokio::io::AsyncReadExt;
use weft_core::catalog::{PROBE_IP, PROBE_IPV6};
use weft_runtime::net;

use crate::output::{OutputArgs, print_json, print_line};

/// How long a call may take: a proxy of this host answers at once.
const LIMIT: Duration = Duration::from_secs(5);
/// The longest line that a proxy says.
const LINE_BYTES_MAX: u64 = 512;
/// Any port does.
const PORT: u16 = 1;

/// Flags of `weft capture test`.
#[derive(Debug, Args)]
pub(super) struct TestArgs {
    /// Try IPv6 instead of IPv4
    #[arg(long)]
    ipv6: bool,
    #[command(flatten)]
    output: OutputArgs,
}

/// What became of the call.
#[derive(Debug)]
struct Found {
    /// The service whose proxy took it.
    service: Option<String>,
    words: String,
}

pub(super) async fn run(args: TestArgs) -> anyhow::Result<ExitCode> {
    let address = match args.ipv6 {
        true => SocketAddr::from((PROBE_IPV6, PORT)),
        false => SocketAddr::from((PROBE_IP, PORT)),
    };
    let found = call(address).await;
    if args.output.json {
        print_json(&json!({
            "Address": address.to_string(), "Service": found.service, "Says": found.words,
        }))?;
    } else {
        print_line(&found.words)?;
    }
    Ok(if found.service.is_some() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

async fn call(address: SocketAddr) -> Found {
    let failed = |words: String| Found { service: None, words };
    let stream = match net::connect_tcp(address, LIMIT).await {
        Ok(stream) => stream,
        Err(error) => return failed(explain(address, &error)),
    };
    let mut said = String::new();
    let mut limited = stream.take(LINE_BYTES_MAX);
    let read = tokio::time::timeout(LIMIT, limited.read_to_string(&mut said)).await;
    match said.trim().strip_prefix("weft ") {
        Some(service) => Found {
            service: Some(service.to_owned()),
            words: format!("ok    the call to {address} was taken by the proxy of {service}"),
        },
        None => failed(format!(
            "FAIL  the call to {address} was taken by something that is no proxy of weft, or by an \
             older one: {}",
            match read {
                Ok(Err(error)) => error.to_string(),
                Ok(Ok(_)) | Err(_) => format!("it says {said:?}"),
            }
        )),
    }
}

fn explain(address: SocketAddr, error: &io::Error) -> String {
    let uid = net::own_uid();
    let cause = match error.kind() {
        io::ErrorKind::ConnectionRefused => {
            "rules redirect it, and no proxy listens on their port: see `weft capture show` for the \
             port, `weft ps` for the proxy, and whether its service has Mode = \"transparent\""
                .to_owned()
        }
        io::ErrorKind::TimedOut | io::ErrorKind::PermissionDenied => format!(
            "no rule redirects calls of the user {uid}: see `weft capture show`, and run this as the \
             user whose calls are captured"
        ),
        io::ErrorKind::HostUnreachable | io::ErrorKind::NetworkUnreachable => format!(
            "no rule redirects calls of the user {uid}, or this host has no route for the address: \
             a default route does, as does `ip route add 240.0.0.0/4 dev lo`"
        ),
        other => format!("{other}"),
    };
    format!("FAIL  the call to {address} led nowhere ({error}): {cause}")
}
