//! Step 6: one user always gets one version.

use std::time::Duration;

use super::Tour;
use crate::cmd::demo::load::{self, Target};
use crate::cmd::demo::mesh::{AGENT, Mesh};
use crate::cmd::demo::topology;

const REQUESTS: u64 = 200;

const WORKERS: u64 = 8;

/// By weight alone one request in ten goes to v2, so this many in a row are no accident.
const PROBES: u64 = 10;

const EFFECT_LIMIT: Duration = Duration::from_secs(10);

pub(super) async fn show(tour: &mut Tour) -> anyhow::Result<()> {
    tour.report.step("Routing: the user jason always gets reviews v2").await;
    tour.suspect(&[AGENT, "productpage-1-sidecar"]);
    let entry = topology::router();
    let path = tour.mesh.write("service-router-reviews.json", &format!("{entry:#}\n"))?;
    let api = tour.mesh.api.url("/v1/config");
    tour.report.command(&format!("curl -s -X PUT --data @{} {api}", path.display()));
    tour.mesh.api.put("/v1/config", &entry).await?;
    let target = Target { headers: vec![("end-user", "jason")], ..tour.reviews() };
    let look = async |mesh: &Mesh| {
        let tally = load::exactly(&mesh.web, &target, PROBES, 1).await;
        let hits = tally.versions.get("v2").copied().unwrap_or(0);
        if hits == PROBES { Ok(()) } else { Err(format!("{hits} of {PROBES} went to v2")) }
    };
    let what = "requests of jason go to v2";
    tour.mesh.eventually(&mut tour.report, what, EFFECT_LIMIT, look).await?;

    tour.report.command(&format!("curl -s -H 'end-user: jason' {}", target.url));
    let tally = load::exactly(&tour.mesh.web, &target, REQUESTS, WORKERS).await;
    let hits = tally.versions.get("v2").copied().unwrap_or(0);
    let observed = format!("{hits} of {REQUESTS} {}", tally.failures_in_words());
    let claim = "with the header end-user: jason every request goes to v2";
    tour.report.claim(claim, hits == REQUESTS, observed.trim_end())?;

    let front = Target { headers: target.headers.clone(), ..tour.product() };
    tour.report.command(&format!("curl -s -H 'end-user: jason' {}", front.url));
    let version = load::request(&tour.mesh.web, &front).await.map_err(anyhow::Error::msg)?;
    let observed = format!("reviews {}", version.as_deref().unwrap_or("of no version"));
    let holds = version.as_deref() == Some("v2");
    tour.report.claim("through the front as well, which hands the header on", holds, observed)?;
    Ok(())
}
