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

/// The counter of a sidecar's metrics that is shown as rates, and the labels of its two sides.
const REQUESTS: &str = "weft_proxy_requests_total";
const INBOUND: &str = "direction=\"inbound\"";
const OUTBOUND: &str = "direction=\"outbound\"";

/// One line of the table.
#[derive(Debug, Clone, PartialEq)]
struct Row {
    id: &'static str,
    version: &'static str,
    is_healthy: bool,
    port: u16,
    sidecar_port: u16,
    pid: Option<u32>,
    sidecar_pid: Option<u32>,
    rates: Option<Rates>,
}

/// Requests per second that a sidecar takes from the mesh and brings into it.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Rates {
    inbound: f64,
    outbound: f64,
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
        for fallen in tour.mesh.fallen() {
            tour.report.note(&fallen);
            // What is above must stay: the table goes on below it.
            drawn = 0;
        }
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
        format!("The mesh stays up; a request every {} ms keeps it busy.", PACE.as_millis()),
        format!("  the front          http://127.0.0.1:{page}/productpage"),
        format!("  the front, jason's http://127.0.0.1:{page}/productpage?u=jason"),
        format!("  through a sidecar  curl -s http://127.0.0.1:{reviews}/reviews/0"),
        format!("  HTTP API           curl -s http://127.0.0.1:{http}/v1/catalog/services"),
        format!("  DNS                dig @127.0.0.1 -p {dns} reviews.service.mesh SRV"),
        format!("  metrics            curl -s http://127.0.0.1:{admin}/metrics"),
        "Kill what you like; Ctrl-C ends everything.".to_owned(),
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
        let rates = match requests(mesh, app).await {
            Some(totals) => counters.rates(app.id, totals, clock::instant()),
            None => None,
        };
        rows.push(Row {
            id: app.id,
            version: app.version,
            is_healthy: passing[app.service].contains(&app.port),
            port: app.port,
            sidecar_port: app.sidecar_port,
            pid: mesh.pid(app.id),
            sidecar_pid: mesh.pid(&sidecar_name(app.id)),
            rates,
        });
    }
    rows
}

/// Returns how many requests a sidecar has taken from the mesh and brought into it.
async fn requests(mesh: &Mesh, app: &App) -> Option<Rates> {
    let url = format!("http://127.0.0.1:{}/metrics", app.admin_port);
    let reply = mesh.web.get(&url).await.ok().filter(|reply| reply.status == 200)?;
    let sum = |side| sum_of(&reply.body, REQUESTS, side);
    Some(Rates { inbound: sum(INBOUND), outbound: sum(OUTBOUND) })
}

/// Adds up the samples of a metric that carry a label, in the text form of Prometheus.
fn sum_of(text: &str, metric: &str, label: &str) -> f64 {
    text.lines()
        .filter(|line| line.starts_with(metric) && line.contains(label))
        .filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok())
        .sum()
}

/// The last counts of each sidecar, and when they were read.
#[derive(Debug, Default)]
struct Counters(BTreeMap<&'static str, (Rates, Instant)>);

impl Counters {
    /// Takes counts and returns the rates since the last ones; none after a restart.
    fn rates(&mut self, id: &'static str, totals: Rates, now: Instant) -> Option<Rates> {
        let (last, at) = self.0.insert(id, (totals, now))?;
        let seconds = now.duration_since(at).as_secs_f64();
        let restarted = totals.inbound < last.inbound || totals.outbound < last.outbound;
        (!restarted && seconds > 0.0).then(|| Rates {
            inbound: (totals.inbound - last.inbound) / seconds,
            outbound: (totals.outbound - last.outbound) / seconds,
        })
    }
}

/// Draws the table within 80 columns; ports and process ids are those of app and sidecar.
fn drawing(rows: &[Row]) -> Vec<String> {
    let line = |row: &Row| {
        let health = if row.is_healthy { "passing" } else { "critical" };
        let rate = |pick: fn(Rates) -> f64| {
            row.rates.map_or("–".to_owned(), |rates| format!("{:.1}", pick(rates)))
        };
        let pid = |pid: Option<u32>| pid.map_or("–".to_owned(), |pid| pid.to_string());
        format!(
            "{:<14} {:<7} {:<8} {:>7} {:>7} {:>13} {:>15}",
            row.id,
            row.version,
            health,
            rate(|rates| rates.inbound),
            rate(|rates| rates.outbound),
            format!("{}/{}", row.port, row.sidecar_port),
            format!("{}/{}", pid(row.pid), pid(row.sidecar_pid)),
        )
    };
    let heading = format!(
        "{:<14} {:<7} {:<8} {:>7} {:>7} {:>13} {:>15}",
        "INSTANCE", "VERSION", "HEALTH", "IN/S", "OUT/S", "PORT/SIDECAR", "PID/SIDECAR"
    );
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
        let mut after = |seconds: u64, total: f64| {
            let totals = Rates { inbound: total, outbound: 0.0 };
            let rates = counters.rates("a", totals, start + Duration::from_secs(seconds));
            rates.map(|rates| rates.inbound)
        };
        assert_eq!(after(0, 10.0), None);
        assert_eq!(after(2, 30.0), Some(10.0));
        assert_eq!(after(3, 5.0), None);
        assert_eq!(after(4, 6.0), Some(1.0));
    }

    #[test]
    fn an_instance_that_is_not_listed_shows_as_critical() {
        let row = Row {
            id: "productpage-1",
            version: "v1",
            is_healthy: false,
            port: 65_535,
            sidecar_port: 65_535,
            pid: Some(4_194_304),
            sidecar_pid: None,
            rates: None,
        };
        let lines = drawing(&[row]);
        assert_eq!(lines.len(), 2);
        assert!(lines[1].contains("critical") && lines[1].contains('–'), "{}", lines[1]);
        assert!(lines.iter().all(|line| line.chars().count() <= 80), "{lines:?}");
    }
}
