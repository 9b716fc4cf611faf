//! The end of the tour: what runs, how it is, and how much it is asked, until Ctrl-C.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use weft_runtime::clock;

use super::load::Load;
use super::mesh::{Mesh, sidecar_name};
use super::steps::Tour;
use super::topology::{App, SERVICES};

/// How often the table is drawn: fast enough to see a kill, slow enough to read.
const DRAW_EVERY: Duration = Duration::from_secs(1);

/// Without a terminal the same table comes less often, as plain lines.
const PRINT_EVERY: Duration = Duration::from_secs(10);

/// A little traffic, so that there is something to see.
const PACE: Duration = Duration::from_millis(200);

/// The counter of a sidecar's metrics that is shown as a rate, and its label.
const REQUESTS: &str = "weft_proxy_requests_total";
const INBOUND: &str = "direction=\"inbound\"";

/// One line of the table.
#[derive(Debug, Clone, PartialEq)]
struct Row {
    id: String,
    version: &'static str,
    healthy: bool,
    app: String,
    sidecar: String,
    pids: String,
    rate: Option<f64>,
}

/// Shows the table until the future is dropped.
pub(super) async fn show(tour: &mut Tour) {
    let target = tour.product();
    let _load = Load::start(&tour.tasks, &tour.mesh.web, &target, 1, PACE);
    for line in addresses(&tour.mesh) {
        tour.report.note(&line);
    }
    let mut counters = Counters::default();
    let mut drawn = 0;
    loop {
        let rows = rows(&tour.mesh, &mut counters).await;
        let lines = drawing(&rows);
        tour.report.redraw(&lines, drawn);
        drawn = lines.len();
        let pause = if tour.report.is_terminal() { DRAW_EVERY } else { PRINT_EVERY };
        tokio::time::sleep(pause).await;
    }
}

/// Says what can be tried by hand now.
fn addresses(mesh: &Mesh) -> Vec<String> {
    let front = mesh.topology.app("productpage-1");
    let (page, reviews) = (front.port, front.upstream_port("reviews"));
    let (http, dns) = (mesh.topology.http_port, mesh.topology.dns_port);
    let admin = front.admin_port;
    vec![
        String::new(),
        format!("The mesh stays up. A request every {} ms keeps it awake.", PACE.as_millis()),
        format!("  the front       http://127.0.0.1:{page}/productpage   (and ?u=jason)"),
        format!("  through a sidecar  curl -s http://127.0.0.1:{reviews}/reviews/0"),
        format!("  HTTP API        curl -s http://127.0.0.1:{http}/v1/catalog/services"),
        format!("  DNS             dig @127.0.0.1 -p {dns} reviews.service.mesh SRV"),
        format!("  a sidecar's metrics  curl -s http://127.0.0.1:{admin}/metrics"),
        "Ctrl-C ends everything.".to_owned(),
        String::new(),
    ]
}

async fn rows(mesh: &Mesh, counters: &mut Counters) -> Vec<Row> {
    let mut passing = BTreeMap::new();
    for service in SERVICES {
        let ports: Vec<u16> = match mesh.api.passing(service).await {
            Ok(found) => found.iter().map(std::net::SocketAddr::port).collect(),
            Err(_) => Vec::new(),
        };
        passing.insert(service, ports);
    }
    let mut rows = Vec::with_capacity(mesh.topology.apps.len());
    for app in &mesh.topology.apps {
        let rate = match requests(mesh, app).await {
            Some(total) => counters.rate(app.id, total, clock::instant()),
            None => None,
        };
        let pid = |name: &str| mesh.pid(name).map_or("–".to_owned(), |pid| pid.to_string());
        rows.push(Row {
            id: app.id.to_owned(),
            version: app.version,
            healthy: passing[app.service].contains(&app.port),
            app: format!("127.0.0.1:{}", app.port),
            sidecar: format!("127.0.0.1:{}", app.sidecar_port),
            pids: format!("{} {}", pid(app.id), pid(&sidecar_name(app.id))),
            rate,
        });
    }
    rows
}

/// Returns how many requests a sidecar has taken from the mesh.
async fn requests(mesh: &Mesh, app: &App) -> Option<f64> {
    let url = format!("http://127.0.0.1:{}/metrics", app.admin_port);
    let reply = mesh.web.get(&url).await.ok().filter(|reply| reply.status == 200)?;
    Some(sum_of(&reply.body, REQUESTS, INBOUND))
}

/// Adds up the samples of a metric that carry a label, in the text form of Prometheus.
fn sum_of(text: &str, metric: &str, label: &str) -> f64 {
    text.lines()
        .filter(|line| line.starts_with(metric) && line.contains(label))
        .filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok())
        .sum()
}

/// The last count of each sidecar, and when it was read.
#[derive(Debug, Default)]
struct Counters(BTreeMap<&'static str, (f64, Instant)>);

impl Counters {
    /// Takes a count and returns the rate since the last one; none after a restart.
    fn rate(&mut self, id: &'static str, total: f64, now: Instant) -> Option<f64> {
        let (last, at) = self.0.insert(id, (total, now))?;
        let seconds = now.duration_since(at).as_secs_f64();
        (total >= last && seconds > 0.0).then(|| (total - last) / seconds)
    }
}

fn drawing(rows: &[Row]) -> Vec<String> {
    let heading = format!(
        "{:<15} {:<8} {:<9} {:>8}  {:<17} {:<17} {}",
        "INSTANCE", "VERSION", "HEALTH", "REQ/S IN", "APP", "SIDECAR", "PIDS"
    );
    let line = |row: &Row| {
        let health = if row.healthy { "passing" } else { "critical" };
        let rate = row.rate.map_or("–".to_owned(), |rate| format!("{rate:.1}"));
        format!(
            "{:<15} {:<8} {:<9} {:>8}  {:<17} {:<17} {}",
            row.id, row.version, health, rate, row.app, row.sidecar, row.pids
        )
    };
    std::iter::once(heading).chain(rows.iter().map(line)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_with_the_label_are_added_up() {
        let text = "# TYPE weft_proxy_requests counter\n\
                    weft_proxy_requests_total{direction=\"inbound\",status=\"200\"} 40\n\
                    weft_proxy_requests_total{direction=\"inbound\",status=\"403\"} 2\n\
                    weft_proxy_requests_total{direction=\"outbound\",status=\"200\"} 7\n";
        assert!((sum_of(text, REQUESTS, INBOUND) - 42.0).abs() < f64::EPSILON);
    }

    #[test]
    fn a_rate_needs_two_counts_and_starts_anew_after_a_restart() {
        let mut counters = Counters::default();
        let start = clock::instant();
        let second = Duration::from_secs(1);
        assert_eq!(counters.rate("a", 10.0, start), None);
        assert_eq!(counters.rate("a", 30.0, start + second * 2), Some(10.0));
        assert_eq!(counters.rate("a", 5.0, start + second * 3), None);
        assert_eq!(counters.rate("a", 6.0, start + second * 4), Some(1.0));
    }

    #[test]
    fn an_instance_that_is_not_listed_shows_as_critical() {
        let row = Row {
            id: "reviews-v1".to_owned(),
            version: "v1",
            healthy: false,
            app: "127.0.0.1:1".to_owned(),
            sidecar: "127.0.0.1:2".to_owned(),
            pids: "1 2".to_owned(),
            rate: None,
        };
        let lines = drawing(&[row]);
        assert_eq!(lines.len(), 2);
        assert!(lines[1].contains("critical") && lines[1].contains('–'), "{}", lines[1]);
    }
}
