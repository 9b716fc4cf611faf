//! Step 4: a call that no intention allows is refused; one write allows it, one forbids it again.

use std::time::Duration;

use serde_json::json;
use weft_runtime::clock;

use super::{Tour, millis};
use crate::cmd::demo::mesh::{AGENT, Mesh};

/// Policy reaches proxies in milliseconds; this is where the tour stops hoping.
const EFFECT_LIMIT: Duration = Duration::from_secs(10);

const PATH: &str = "/v1/connect/intentions/exact?source=reviews&destination=ratings";

pub(super) async fn show(tour: &mut Tour) -> anyhow::Result<()> {
    tour.report.step("Policy: a call is refused by default, then allowed").await;
    tour.suspect(&[AGENT, "ratings-1-sidecar", "reviews-v2-sidecar"]);
    let port = tour.mesh.topology.app("reviews-v2").upstream_port("ratings");
    let url = format!("http://127.0.0.1:{port}/ratings/0");
    tour.report.say("No intention lets reviews call ratings, so their sidecar refuses:");
    tour.report.command(&format!("curl -i {url}"));
    let reply = tour.mesh.web.get(&url).await?;
    let refused = reply.status == 403;
    let observed = format!("HTTP {} {}", reply.status, reply.first_line());
    tour.report.claim("reviews may not call ratings", refused, observed)?;

    for (action, status, claim) in [
        ("allow", 200, "one PUT allows it"),
        ("deny", 403, "another one forbids it, on live connections too"),
        ("allow", 200, "and it is allowed again"),
    ] {
        let body = json!({ "Action": action });
        let api = tour.mesh.api.url(PATH);
        tour.report.command(&format!("curl -s -X PUT --data '{body}' '{api}'"));
        let written = clock::instant();
        tour.mesh.api.put(PATH, &body).await?;
        let look = async |mesh: &Mesh| match mesh.web.get(&url).await {
            Ok(reply) if reply.status == status => Ok(()),
            Ok(reply) => Err(format!("HTTP {}", reply.status)),
            Err(error) => Err(format!("{error:#}")),
        };
        let what = format!("the call gets {status}");
        tour.mesh.eventually(&mut tour.report, &what, EFFECT_LIMIT, look).await?;
        let observed = format!("HTTP {status}, {} after the PUT began", millis(written.elapsed()));
        tour.report.claim(claim, true, observed)?;
    }
    Ok(())
}
