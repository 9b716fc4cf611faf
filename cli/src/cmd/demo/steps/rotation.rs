//! Step 9: a leaf is replaced under traffic; no request notices.

use std::collections::BTreeMap;
use std::time::Duration;

use super::{Tour, millis};
use crate::cmd::demo::load::Load;
use crate::cmd::demo::mesh::{AGENT, LEAF_LIFETIME, Mesh, sidecar_name};
use crate::cmd::demo::probe::Probe;

/// One whole lifetime: every leaf is renewed before it is over.
const ROTATION_LIMIT: Duration = Duration::from_secs(60);

/// Traffic after the rotation, for what fails late.
const MARGIN: Duration = Duration::from_secs(1);

const WORKERS: usize = 4;
const PACE: Duration = Duration::from_millis(40);

/// The sidecars of the load's path, at both of its ends: the front's brings requests into the
/// mesh, the others take them.
const WATCHED: [&str; 5] = ["productpage-1", "details-1", "details-2", "reviews-v1", "reviews-v2"];

pub(super) async fn show(tour: &mut Tour) -> anyhow::Result<()> {
    tour.report.step("Identity: a certificate is replaced while traffic goes on").await;
    tour.suspect(&[AGENT, "reviews-v1-sidecar", "productpage-1-sidecar"]);
    tour.report.say(&format!("Leaves live {LEAF_LIFETIME} here and are renewed past 60 %:"));
    let before = serials(&tour.mesh).await.map_err(anyhow::Error::msg)?;
    let target = tour.product();
    let load = Load::start(&tour.tasks, &tour.mesh.web, &target, WORKERS, PACE);
    let look = async |mesh: &Mesh| {
        let now = serials(mesh).await?;
        let changed = now.iter().find(|(id, serial)| before.get(*id) != Some(serial));
        match changed {
            Some((id, serial)) => Ok((id.to_owned(), serial.clone())),
            None => {
                let so_far = load.so_far();
                let (sent, failed) = (so_far.sent(), so_far.failed);
                Err(format!("{sent} requests, {failed} failed, serials as before"))
            }
        }
    };
    let what = "a sidecar presents a new certificate";
    let waited = tour.mesh.eventually(&mut tour.report, what, ROTATION_LIMIT, look).await;
    let ((id, new), took) = waited?;
    let old = before.get(id).cloned().unwrap_or_default();
    let port = tour.mesh.topology.app(id).sidecar_port;
    tour.report.command(&format!(
        "openssl s_client -connect 127.0.0.1:{port} </dev/null 2>/dev/null | \
         openssl x509 -noout -serial -dates"
    ));
    tour.report.seen(&format!("before  {old}\nafter   {new}"));
    let observed = format!("{}: {old} → {new} after {}", sidecar_name(id), millis(took));
    tour.report.claim("a sidecar's certificate is replaced", true, observed)?;

    tokio::time::sleep(MARGIN).await;
    let tally = load.stop().await;
    let observed = format!(
        "{} sent, {} failed, slowest {} ms {}",
        tally.sent(),
        tally.failed,
        tally.slowest.as_millis(),
        tally.failures_in_words(),
    );
    let holds = tally.failed == 0 && tally.answered > 0;
    tour.report.claim("no request fails meanwhile", holds, observed.trim_end())?;
    Ok(())
}

/// Returns the serial numbers that the watched sidecars present now.
async fn serials(mesh: &Mesh) -> Result<BTreeMap<&'static str, String>, String> {
    let probe = Probe::from_agent(&mesh.api, "productpage").await.map_err(|e| format!("{e:#}"))?;
    let mut serials = BTreeMap::new();
    for id in WATCHED {
        let port = mesh.topology.app(id).sidecar_port;
        let presented = probe.presented(port).await.map_err(|e| format!("{id}: {e:#}"))?;
        serials.insert(id, presented.serial);
    }
    Ok(serials)
}
