//! Step 7: an instance is killed; answers leave it out, requests go on, and it comes back.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use weft_runtime::clock;

use super::{Tour, millis};
use crate::cmd::demo::dns::{self, Kind, Record};
use crate::cmd::demo::load::{self, Load, Target};
use crate::cmd::demo::mesh::{AGENT, Mesh, sidecar_name};

const VICTIM: &str = "details-1";

/// One check interval, a failed run, and the way to the answers.
const LEAVES_LIMIT: Duration = Duration::from_secs(10);

const RETURNS_LIMIT: Duration = Duration::from_secs(20);

/// Requests sent after the instance has left the answers.
const REQUESTS_AFTER: u64 = 100;

const WORKERS: usize = 2;
const PACE: Duration = Duration::from_millis(20);

pub(super) async fn show(tour: &mut Tour) -> anyhow::Result<()> {
    tour.report.step("Failure: an instance is killed").await;
    let sidecar = sidecar_name(VICTIM);
    tour.suspect(&[AGENT, &sidecar, "productpage-1-sidecar"]);
    let port = tour.mesh.topology.app("productpage-1").upstream_port("details");
    let details = Target { url: format!("http://127.0.0.1:{port}/details/0"), headers: Vec::new() };
    let load = Load::start(&tour.tasks, &tour.mesh.web, &details, WORKERS, PACE);

    let pids = [tour.mesh.pid(VICTIM), tour.mesh.pid(&sidecar)];
    let pids: Vec<String> = pids.iter().flatten().map(u32::to_string).collect();
    tour.report.say(&format!("While productpage calls details, {VICTIM} dies with its sidecar:"));
    tour.report.command(&format!("kill -9 {}", pids.join(" ")));
    let killed = clock::instant();
    tour.mesh.kill(&sidecar).await?;
    tour.mesh.kill(VICTIM).await?;
    leaves_answers(tour, killed).await?;

    let during = load.stop().await;
    let after = load::exactly(&tour.mesh.web, &details, REQUESTS_AFTER, 2).await;
    let observed = format!(
        "{} of {REQUESTS_AFTER} answered by details-2; while it died: {} sent, {} failed {}",
        after.answered,
        during.sent(),
        during.failed,
        during.failures_in_words(),
    );
    let holds = after.failed == 0;
    tour.report.claim("requests go on without it", holds, observed.trim_end())?;

    tour.mesh.restart(VICTIM)?;
    tour.mesh.restart(&sidecar)?;
    let back = clock::instant();
    let look = async |mesh: &Mesh| {
        for service in ["details", "details-sidecar-proxy"] {
            let found = mesh.api.passing(service).await.map_err(|e| format!("{e:#}"))?;
            if found.len() != 2 {
                return Err(format!("{} of 2 {service}", found.len()));
            }
        }
        Ok(())
    };
    let what = format!("{VICTIM} is back");
    tour.mesh.eventually(&mut tour.report, &what, RETURNS_LIMIT, look).await?;
    let observed = format!("passing {} after its restart", millis(back.elapsed()));
    tour.report.claim("restarted, it is back among the answers", true, observed)?;
    Ok(())
}

/// Waits until neither DNS nor the HTTP API names the victim any more.
async fn leaves_answers(tour: &mut Tour, killed: std::time::Instant) -> anyhow::Result<()> {
    let dns_port = tour.mesh.topology.dns_port;
    let agent = SocketAddr::from((Ipv4Addr::LOCALHOST, dns_port));
    let gone = tour.mesh.topology.app(VICTIM).port;
    let url = tour.mesh.api.url("/v1/health/service/details?passing");
    tour.report.command(&format!("curl -s '{url}'"));
    tour.report
        .command(&format!("dig +short @127.0.0.1 -p {dns_port} _details._tcp.service.mesh SRV"));
    let mut left_api = None;
    let mut left_dns = None;
    let look = async |mesh: &Mesh| {
        if left_api.is_none() {
            let found = mesh.api.passing("details").await.map_err(|e| format!("{e:#}"))?;
            let named = found.iter().any(|address| address.port() == gone);
            left_api = (!named && found.len() == 1).then(|| killed.elapsed());
        }
        if left_dns.is_none() {
            let name = "_details._tcp.service.mesh";
            let records = dns::ask(agent, name, Kind::Srv).await.map_err(|e| format!("{e:#}"))?;
            let names =
                |record: &Record| matches!(record, Record::Srv { port, .. } if *port == gone);
            left_dns = (records.len() == 1 && !records.iter().any(names)).then(|| killed.elapsed());
        }
        match (left_api, left_dns) {
            (Some(api), Some(dns)) => Ok((api, dns)),
            (None, _) => Err("the catalog names it".to_owned()),
            (Some(_), None) => Err("DNS names it".to_owned()),
        }
    };
    let what = format!("{VICTIM} has left all answers");
    let waited = tour.mesh.eventually(&mut tour.report, &what, LEAVES_LIMIT, look).await;
    let ((api, dns), _) = waited?;
    let observed = format!("catalog after {}, DNS after {}", millis(api), millis(dns));
    tour.report.claim("it leaves the answers", true, observed)?;
    Ok(())
}
