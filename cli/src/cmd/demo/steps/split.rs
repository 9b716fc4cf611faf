//! Step 5: nine requests in ten to v1, one to v2, counted.

use std::time::Duration;

use super::{Tour, millis};
use crate::cmd::demo::load;
use crate::cmd::demo::mesh::{AGENT, Mesh};
use crate::cmd::demo::topology;

const REQUESTS: u64 = 1_000;

/// Requests at a time; enough to keep two cores busy.
const WORKERS: u64 = 8;

/// With three versions in turn, one in three requests would go to v3. That none of this many
/// does has a chance below one in a million unless the splitter is in force.
const PROBES: u64 = 40;

const EFFECT_LIMIT: Duration = Duration::from_secs(10);

pub(super) async fn show(tour: &mut Tour) -> anyhow::Result<()> {
    tour.report.step("Traffic: 90 % to reviews v1, 10 % to v2").await;
    tour.suspect(&[AGENT, "productpage-1-sidecar"]);
    let entry = topology::splitter();
    let path = tour.mesh.write("service-splitter-reviews.json", &format!("{entry:#}\n"))?;
    let api = tour.mesh.api.url("/v1/config");
    tour.report.command(&format!("curl -s -X PUT --data @{} {api}", path.display()));
    tour.mesh.api.put("/v1/config", &entry).await?;
    let target = tour.reviews();
    let look = async |mesh: &Mesh| {
        let tally = load::exactly(&mesh.web, &target, PROBES, 1).await;
        let strays = PROBES
            - tally.versions.get("v1").unwrap_or(&0)
            - tally.versions.get("v2").unwrap_or(&0);
        if strays == 0 { Ok(()) } else { Err(format!("{strays} of {PROBES} went elsewhere")) }
    };
    let what = "no request goes to v3 any more";
    tour.mesh.eventually(&mut tour.report, what, EFFECT_LIMIT, look).await?;

    let url = &target.url;
    tour.report.command(&format!(
        "for i in $(seq {REQUESTS}); do curl -s {url}; done | grep -o '\"version\": \"v.\"' | \
         sort | uniq -c"
    ));
    tour.report.progress(&format!("{REQUESTS} requests"));
    let started = tour.report.elapsed();
    let tally = load::exactly(&tour.mesh.web, &target, REQUESTS, WORKERS).await;
    let took = tour.report.elapsed() - started;
    let count = |version: &str| *tally.versions.get(version).unwrap_or(&0);
    let observed = format!(
        "v1 {}, v2 {}, v3 {}, failed {} in {}{}",
        count("v1"),
        count("v2"),
        count("v3"),
        tally.failed,
        millis(took),
        if tally.failed == 0 { String::new() } else { format!(" ({})", tally.failures_in_words()) },
    );
    let deviation = four_deviations(REQUESTS, 0.1);
    let holds = tally.failed == 0
        && count("v1") + count("v2") == REQUESTS
        && count("v2").abs_diff(REQUESTS / 10) <= deviation;
    let claim = format!("of {REQUESTS} requests, 100 ± {deviation} go to v2, the rest to v1");
    tour.report.claim(claim, holds, observed)?;
    Ok(())
}

/// Returns four standard deviations of a count of independent choices: a bound that a fair
/// splitter misses once in sixteen thousand runs.
fn four_deviations(requests: u64, share: f64) -> u64 {
    let variance = requests as f64 * share * (1.0 - share);
    (4.0 * variance.sqrt()).floor() as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bound_is_four_percent_of_a_thousand_requests() {
        assert_eq!(four_deviations(1_000, 0.1), 37);
    }
}
