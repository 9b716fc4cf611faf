//! Certificates that one server signs: keys and requests are made before.

use std::time::{Duration, Instant};

use anyhow::Context;
use weft_core::limits::LEAF_SIGNATURES_PER_SECOND;
use weft_proto::grpc::v1 as wire;

use super::renew::Host;
use super::show;
use crate::server::Server;

/// How long is measured.
const TIME: Duration = Duration::from_secs(6);
/// Requests under way at once on each connection.
const AT_ONCE: usize = 4;

/// Has certificates signed as fast as it goes.
pub(super) async fn measure(server: &Server, hosts: &[Host]) -> anyhow::Result<()> {
    limit(hosts, 0).await?;
    let (before, start) = (server.usage(), Instant::now());
    let mut tasks = tokio::task::JoinSet::new();
    for host in hosts {
        for lane in 0..AT_ONCE {
            let host = host.clone();
            tasks.spawn(async move {
                let (mut times, mut refused, mut number) = (Vec::new(), 0_u64, lane);
                while start.elapsed() < TIME {
                    let asked = Instant::now();
                    match host.sign(number).await {
                        Ok(()) => times.push(asked.elapsed()),
                        Err(status) if status.code() == tonic::Code::ResourceExhausted => {
                            refused += 1;
                        }
                        Err(status) => return Err(status),
                    }
                    number += AT_ONCE;
                }
                Ok((times, refused))
            });
        }
    }
    let (mut times, mut refused) = (Vec::new(), 0);
    while let Some(done) = tasks.join_next().await {
        let (some, more) = done?.context("signing")?;
        times.extend(some);
        refused += more;
    }
    let (elapsed, cpu) = (start.elapsed(), server.usage().cpu - before.cpu);
    times.sort_unstable();
    let rate = times.len() as f64 / elapsed.as_secs_f64();
    let each = cpu.as_secs_f64() / times.len().max(1) as f64;
    show(
        "certificates signed a second, both cores shared with the askers",
        &format!("{rate:.0}"),
        "",
    );
    show("CPU of the server for each, connection included", &format!("{:.0} µs", each * 1e6), "");
    show("so on two cores of its own, a second", &format!("{:.0}", 2.0 / each), "5,000");
    let p99 = times.get(times.len() * 99 / 100).copied().unwrap_or_default();
    show("p99 of a signature then", &format!("{:.1} ms", p99.as_secs_f64() * 1e3), "");
    if refused > 0 {
        show("asked to come back later", &refused.to_string(), "");
    }
    limit(hosts, LEAF_SIGNATURES_PER_SECOND).await
}

/// Has the server sign so many certificates a second; 0 is for any number.
async fn limit(hosts: &[Host], per_second: u32) -> anyhow::Result<()> {
    let host = hosts.first().context("a host")?;
    let settings = serde_json::json!({ "Config": { "CSRMaxPerSecond": per_second } });
    host.put("/v1/connect/ca/configuration", settings.to_string()).await
}

/// What is asked for.
pub(super) fn request(service: &str, csr_der: Vec<u8>) -> wire::SignLeafRequest {
    wire::SignLeafRequest { service: service.to_owned(), csr_der: csr_der.into() }
}
