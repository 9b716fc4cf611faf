//! Step 1: everything comes up, is registered over the HTTP API and passes its checks.

use std::time::Duration;

use serde_json::Value;

use super::{Tour, millis};
use crate::cmd::demo::listeners;
use crate::cmd::demo::load;
use crate::cmd::demo::mesh::{AGENT, Mesh, SERVER};
use crate::cmd::demo::topology::{self, SERVICES};

/// A server that starts makes keys and a log; seconds at most, more on a busy machine.
const START_LIMIT: Duration = Duration::from_secs(30);

/// Checks run every second, and everything starts at once on a few cores.
const HEALTHY_LIMIT: Duration = Duration::from_secs(45);

pub(super) async fn show(tour: &mut Tour) -> anyhow::Result<()> {
    tour.report.step("A mesh comes up: server, agent, seven apps, a sidecar for each").await;
    tour.suspect(&[SERVER]);
    let server = tour.mesh.server()?;
    tour.mesh.start(server)?;
    let look = async |mesh: &Mesh| match std::fs::metadata(mesh.join_token()) {
        Ok(file) if file.len() > 0 => Ok(()),
        Ok(_) | Err(_) => Err("no join token".to_owned()),
    };
    let what = "the server has made its CA and written a join token";
    tour.mesh.eventually(&mut tour.report, what, START_LIMIT, look).await?;

    tour.suspect(&[AGENT, SERVER]);
    let agent = tour.mesh.agent()?;
    tour.mesh.start(agent)?;
    let look = async |mesh: &Mesh| match mesh.api.get("/v1/catalog/services").await {
        Ok(_) => Ok(()),
        Err(error) => Err(format!("{error:#}")),
    };
    let what = "the agent has joined and the catalog answers";
    tour.mesh.eventually(&mut tour.report, what, START_LIMIT, look).await?;

    configure(tour).await?;
    start_apps(tour).await?;
    tour.suspect(&[AGENT, SERVER, "productpage-1-sidecar", "details-1-sidecar"]);
    wait_until_healthy(tour).await?;
    front_answers(tour).await?;
    only_on_loopback(tour)
}

/// Writes the config entries: protocols, the versions of `reviews`, who may call whom.
async fn configure(tour: &mut Tour) -> anyhow::Result<()> {
    let text = tour.mesh.workdir().path().display().to_string();
    tour.report.say(&format!("work directory: {text} (data, logs, what is registered)"));
    for entry in topology::config_entries() {
        let word = |field: &str| entry[field].as_str().unwrap_or_default().to_owned();
        let name = format!("{}-{}.json", word("Kind"), word("Name"));
        let path = tour.mesh.write(&name, &format!("{entry:#}\n"))?;
        tour.mesh.api.put("/v1/config", &entry).await?;
        if word("Kind") == "service-resolver" {
            let url = tour.mesh.api.url("/v1/config");
            tour.report.command(&format!("curl -s -X PUT --data @{} {url}", path.display()));
        }
    }
    Ok(())
}

/// Registers and starts every app, and its sidecar.
async fn start_apps(tour: &mut Tour) -> anyhow::Result<()> {
    let apps = tour.mesh.topology.apps.clone();
    for app in &apps {
        tour.mesh.start(Mesh::app(app))?;
        let body = app.registration();
        let path = tour.mesh.write(&format!("{}.json", app.id), &format!("{body:#}\n"))?;
        tour.mesh.api.put("/v1/agent/service/register", &body).await?;
        let sidecar = tour.mesh.sidecar(app);
        if app.id == "reviews-v2" {
            let url = tour.mesh.api.url("/v1/agent/service/register");
            tour.report.command(&format!("curl -s -X PUT --data @{} {url}", path.display()));
            tour.report.command(&format!("weft {}", sidecar.args.join(" ")));
        }
        tour.mesh.start(sidecar)?;
    }
    Ok(())
}

async fn wait_until_healthy(tour: &mut Tour) -> anyhow::Result<()> {
    let wanted = 2 * tour.mesh.topology.apps.len();
    let look = async |mesh: &Mesh| {
        let mut passing = 0;
        let mut missing = Vec::new();
        for service in SERVICES {
            for name in [service.to_owned(), format!("{service}-sidecar-proxy")] {
                let found = mesh.api.passing(&name).await.map_err(|e| format!("{e:#}"))?.len();
                passing += found;
                if found < mesh.topology.instances_of(service) {
                    missing.push(name);
                }
            }
        }
        let all = passing == wanted;
        if all { Ok(()) } else { Err(format!("{passing}/{wanted}, no {}", missing.join(", "))) }
    };
    let what = "all instances pass";
    tour.mesh.eventually(&mut tour.report, what, HEALTHY_LIMIT, look).await?;
    let url = tour.mesh.api.url("/v1/health/service/reviews?passing");
    tour.report.command(&format!("curl -s '{url}'"));
    let observed = format!(
        "{wanted} of {wanted} instances, {} processes, {} after the start",
        tour.mesh.count(),
        millis(tour.report.elapsed())
    );
    tour.report.claim("every app and every sidecar passes its checks", true, observed)?;
    Ok(())
}

/// The front's answer needs every link of the mesh but `reviews → ratings`.
async fn front_answers(tour: &mut Tour) -> anyhow::Result<()> {
    let target = tour.product();
    let look = async |mesh: &Mesh| load::request(&mesh.web, &target).await;
    let what = "the front answers with details and reviews";
    tour.mesh.eventually(&mut tour.report, what, START_LIMIT, look).await?;
    tour.report.command(&format!("curl -s {}", target.url));
    let reply = tour.mesh.web.get(&target.url).await?;
    let body: Value = serde_json::from_str(&reply.body)?;
    let (details, reviews) = (&body["details"]["instance"], &body["reviews"]["instance"]);
    let holds = details.is_string() && reviews.is_string();
    let observed = format!("HTTP {}, details by {details}, reviews by {reviews}", reply.status);
    tour.report.claim("the front answers through the mesh", holds, observed)?;
    Ok(())
}

/// Looks at the sockets of all processes, whatever their configuration says.
fn only_on_loopback(tour: &mut Tour) -> anyhow::Result<()> {
    let found = listeners::of(&tour.mesh.pids());
    let outside: Vec<String> =
        found.iter().filter(|address| !address.ip().is_loopback()).map(|a| a.to_string()).collect();
    let observed = match outside.as_slice() {
        [] => format!("{} listeners, all on loopback", found.len()),
        outside => format!("also on {}", outside.join(", ")),
    };
    let holds = outside.is_empty() && !found.is_empty();
    tour.report.claim("nothing listens beyond loopback", holds, observed)?;
    Ok(())
}
