//! Step 8: the server is killed under traffic; nothing on the request path notices.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use serde_json::json;
use weft_runtime::clock;

use super::{Tour, millis};
use crate::cmd::demo::dns::{self, Kind};
use crate::cmd::demo::load::Load;
use crate::cmd::demo::mesh::{AGENT, Mesh, SERVER};

/// How long the mesh is without its server.
const OUTAGE: Duration = Duration::from_secs(3);

/// Traffic before the server dies and after it is back, so that both edges are in it.
const MARGIN: Duration = Duration::from_millis(500);

/// The time for a restart, an election with one voter, and the agent's next attempt to connect.
const BACK_LIMIT: Duration = Duration::from_secs(30);

const WORKERS: usize = 4;
const PACE: Duration = Duration::from_millis(40);

pub(super) async fn show(tour: &mut Tour) -> anyhow::Result<()> {
    tour.report.step("Failure: the server is killed while traffic goes on").await;
    tour.suspect(&[SERVER, AGENT, "productpage-1-sidecar"]);
    let target = tour.product();
    let load = Load::start(&tour.tasks, &tour.mesh.web, &target, WORKERS, PACE);
    tokio::time::sleep(MARGIN).await;

    let pid = tour.mesh.kill(SERVER).await?;
    tour.report.command(&format!("kill -9 {pid}"));
    let killed = clock::instant();
    let name = "_reviews._tcp.service.mesh";
    let agent = SocketAddr::from((Ipv4Addr::LOCALHOST, tour.mesh.topology.dns_port));
    while killed.elapsed() < OUTAGE {
        let (so_far, left) = (load.so_far(), OUTAGE.saturating_sub(killed.elapsed()));
        let told = format!(
            "no server for {:.1} s: {} requests, {} failed",
            killed.elapsed().as_secs_f64(),
            so_far.sent(),
            so_far.failed
        );
        tour.report.progress(&told);
        tokio::time::sleep(left.min(Duration::from_millis(100))).await;
    }
    let records = dns::ask(agent, name, Kind::Srv).await?;
    let claim = "DNS answers from what the agent knows";
    let observed = format!("{} SRV records after {}", records.len(), millis(killed.elapsed()));
    tour.report.claim(claim, records.len() == 3, observed)?;
    let outage = killed.elapsed();
    let back = restarts(tour).await?;

    tokio::time::sleep(MARGIN).await;
    let tally = load.stop().await;
    let observed = format!(
        "{} sent, {} failed, slowest {} ms, {} without a server {}",
        tally.sent(),
        tally.failed,
        tally.slowest.as_millis(),
        millis(outage + back),
        tally.failures_in_words(),
    );
    let holds = tally.failed == 0 && tally.answered > 0;
    tour.report.claim("no request fails", holds, observed.trim_end())?;
    Ok(())
}

/// Starts the server again and waits until a write is taken and read back; tells how long.
async fn restarts(tour: &mut Tour) -> anyhow::Result<Duration> {
    tour.mesh.restart(SERVER)?;
    let entry = json!({
        "Kind": "service-defaults",
        "Name": "ratings",
        "Protocol": "http",
        "Meta": { "written": "after the restart" },
    });
    let path = "/v1/config/service-defaults/ratings";
    let look = async |mesh: &Mesh| {
        mesh.api.put("/v1/config", &entry).await.map_err(|e| format!("{e:#}"))?;
        let read = mesh.api.get(path).await.map_err(|e| format!("{e:#}"))?;
        if read["Meta"]["written"] == entry["Meta"]["written"] {
            Ok(())
        } else {
            Err("the write is not there".to_owned())
        }
    };
    let what = "a write is taken again";
    let (_, took) = tour.mesh.eventually(&mut tour.report, what, BACK_LIMIT, look).await?;
    tour.report.command(&format!("curl -s {}", tour.mesh.api.url(path)));
    let claim = "restarted, the server has its state and takes a write";
    tour.report.claim(claim, true, format!("{} after the restart", millis(took)))?;
    Ok(took)
}
