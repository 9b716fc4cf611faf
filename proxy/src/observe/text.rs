//! Counts in Prometheus' text form.
//!
//! **Source**: Spec: Prometheus text exposition format 0.0.4.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::{Display, Write as _};
use std::sync::{Arc, Mutex, PoisonError};

use weft_core::log_format::LatencyPart;

use crate::handover::Standing;

use super::captured::CAPTURED_COUNTS;
use super::flows::Dialect;
use super::gate;
use super::metrics::{
    BySide, Counts, DURATION_BOUNDS_US, Durations, Labels, Metrics, MuxCounts, Pick, Registry,
    Series, Side,
};
use super::quic::QUIC_COUNTS;
use super::udp::{LOST, UDP_COUNTS};

/// Name, help and place of each plain count.
const COUNTS: [(&str, &str, Pick<Series>); 10] = [
    ("weft_proxy_sent_bytes_total", "Body bytes towards the service.", |s| &s.bytes_sent),
    ("weft_proxy_received_bytes_total", "Body bytes back from the service.", |s| &s.bytes_received),
    ("weft_proxy_connections_opened_total", "Connections opened.", |s| &s.connections_opened),
    ("weft_proxy_connections_closed_total", "Connections closed.", |s| &s.connections_closed),
    ("weft_proxy_handshake_failures_total", "TLS handshakes failed.", |s| &s.handshakes_failed),
    ("weft_proxy_denied_total", "Calls refused by intention.", |s| &s.denied),
    (
        "weft_proxy_dry_run_denied_total",
        "Calls let through by intentions that are tried out and would refuse them.",
        |s| &s.dry_run_denied,
    ),
    (
        "weft_proxy_ext_authz_allowed_total",
        "Requests that an external authoriser let through.",
        |s| &s.authorised,
    ),
    ("weft_proxy_ext_authz_denied_total", "Requests that an external authoriser refused.", |s| {
        &s.unauthorised
    }),
    (
        "weft_proxy_ext_authz_failures_total",
        "Questions to an external authoriser that got no answer.",
        |s| &s.authorisers_failed,
    ),
];

/// The same of connections of many streams.
const MUX_COUNTS: [(&str, &str, Pick<MuxCounts>); 8] = [
    ("weft_proxy_mux_connections_opened_total", "Connections of many streams opened.", |m| {
        &m.connections_opened
    }),
    ("weft_proxy_mux_connections_closed_total", "Connections of many streams closed.", |m| {
        &m.connections_closed
    }),
    ("weft_proxy_mux_streams_opened_total", "Streams opened.", |m| &m.streams_opened),
    ("weft_proxy_mux_streams_closed_total", "Streams closed.", |m| &m.streams_closed),
    ("weft_proxy_mux_sent_bytes_total", "Bytes of frames sent.", |m| &m.bytes_sent),
    ("weft_proxy_mux_received_bytes_total", "Bytes of frames received.", |m| &m.bytes_received),
    ("weft_proxy_mux_resets_received_total", "Streams that the peer broke off.", |m| {
        &m.resets_received
    }),
    ("weft_proxy_mux_violations_total", "Connections ended as the peer broke the rules.", |m| {
        &m.violations
    }),
];

/// Each series of each workload, with what every worker has counted.
type All<'a> = &'a [(Labels, Vec<Arc<Series>>)];

impl Metrics {
    /// Writes all counts.
    pub(crate) fn encode(&self) -> String {
        let (registry, workloads) = (&*self.0, self.workloads());
        let all: Vec<(Labels, Vec<Arc<Series>>)> =
            workloads.iter().flat_map(|it| it.all()).collect();
        let mut text = String::with_capacity(4096);
        write_workloads(&workloads, &mut text);
        write_process(registry, &mut text);
        write_plaintext(&workloads, &mut text);
        write_sides(&MUX_COUNTS, &workloads, |it| &it.mux, &mut text);
        write_sides(&QUIC_COUNTS, &workloads, |it| &it.quic, &mut text);
        write_sides(&UDP_COUNTS, &workloads, |it| &it.udp, &mut text);
        write_lost(&workloads, &mut text);
        write_sides(&CAPTURED_COUNTS, &workloads, |it| &it.captured, &mut text);
        let is_envoy_told = registry.dialects.get().is_some_and(|it| it.contains(&Dialect::Envoy));
        gate::write(&workloads, is_envoy_told, &mut text);
        write_requests(&all, &mut text);
        write_durations(&all, &mut text);
        for (name, help, pick) in COUNTS {
            head(&mut text, name, "counter", help);
            for (labels, workers) in &all {
                line(&mut text, name, &labels.text(""), sum(workers, pick));
            }
        }
        let help = "Requests and connections that failed, by cause.";
        write_words(("weft_proxy_failures_total", "cause", help), &all, |it| &it.causes, &mut text);
        let help = "What routes did with requests besides sending them on.";
        let name = "weft_proxy_route_actions_total";
        write_words((name, "action", help), &all, |it| &it.deeds, &mut text);
        let none = BTreeSet::new();
        registry.flows.encode(registry.dialects.get().unwrap_or(&none), &mut text);
        text
    }
}

/// Counts by words of the code.
type Words = Mutex<BTreeMap<&'static str, u64>>;

fn write_words(
    (name, label, help): (&str, &str, &str),
    all: All<'_>,
    pick: fn(&Series) -> &Words,
    text: &mut String,
) {
    head(text, name, "counter", help);
    for (labels, workers) in all {
        let mut sums: BTreeMap<&str, u64> = BTreeMap::new();
        for series in workers {
            let more = pick(series).lock().unwrap_or_else(PoisonError::into_inner);
            more.iter().for_each(|(word, count)| *sums.entry(word).or_default() += count);
        }
        for (word, count) in sums {
            line(text, name, &labels.text(&format!(",{label}=\"{word}\"")), count);
        }
    }
}

impl Counts {
    fn all(&self) -> Vec<(Labels, Vec<Arc<Series>>)> {
        let all = self.series.lock().unwrap_or_else(PoisonError::into_inner);
        let shown = all.iter();
        shown.map(|(labels, it)| (labels.clone(), it.values().cloned().collect())).collect()
    }

    /// Names the workload before other labels, where there are several.
    pub(super) fn labels(&self, more: &str) -> String {
        match (&*self.proxy, more) {
            ("", "") => String::new(),
            ("", more) => format!("{{{more}}}"),
            (proxy, "") => format!("{{proxy=\"{proxy}\"}}"),
            (proxy, more) => format!("{{proxy=\"{proxy}\",{more}}}"),
        }
    }
}

impl Labels {
    /// Names come from configuration and hold no character that would need an escape.
    fn text(&self, more: &str) -> String {
        let Self { proxy, source, side, service, target } = self;
        let named = |name: &str, value: &str| match value {
            "" => String::new(),
            value => format!(",{name}=\"{value}\""),
        };
        let proxy = named("proxy", proxy);
        match side {
            Side::Inbound => {
                format!("{{direction=\"inbound\"{proxy},service=\"{service}\"{more}}}")
            }
            Side::Outbound => {
                let source = named("service", source);
                format!(
                    "{{direction=\"outbound\"{proxy}{source},upstream=\"{service}\",\
                     target=\"{target}\"{more}}}"
                )
            }
        }
    }
}

/// Name, kind, help and value of each count of a workload as a whole.
type OfWorkload = (&'static str, &'static str, &'static str, fn(&Counts) -> f64);
const OF_WORKLOAD: [OfWorkload; 4] = [
    (
        "weft_proxy_snapshot_version",
        "gauge",
        "The version of the configuration in force.",
        |counts| counts.snapshot_version.value() as f64,
    ),
    (
        "weft_proxy_snapshots_refused_total",
        "counter",
        "Configurations that could not be put in force.",
        |counts| counts.snapshots_refused.value() as f64,
    ),
    (
        "weft_proxy_leaf_expiry_timestamp_seconds",
        "gauge",
        "When the leaf certificate expires.",
        |counts| counts.leaf_valid_before_ms.value() as f64 / 1000.0,
    ),
    (
        "weft_proxy_listeners_failed",
        "gauge",
        "Listeners that cannot be opened at present.",
        |counts| counts.listeners_failed.value() as f64,
    ),
];

fn write_workloads(workloads: &[Arc<Counts>], text: &mut String) {
    for (name, kind, help, value) in OF_WORKLOAD {
        head(text, name, kind, help);
        for counts in workloads {
            line(text, name, &counts.labels(""), value(counts));
        }
    }
}

fn write_process(registry: &Registry, text: &mut String) {
    let name = "weft_proxy_generation";
    let help = "How many processes had these listeners before; counts begin anew with each.";
    head(text, name, "gauge", help);
    line(text, name, "", registry.standing.get().map_or(0, Standing::generation) as f64);
    let help = "Spans for the collector of traces, by what became of them.";
    write_outcomes(("weft_proxy_spans_total", help), registry.spans.counts(), text);
    let help = "Lines of the access log, by what became of them.";
    write_outcomes(("weft_proxy_access_log_lines_total", help), registry.lines.counts(), text);
    if let Some(audit) = registry.audit.get() {
        let help = "Records of the audit log, by what became of them.";
        write_outcomes(("weft_proxy_audit_records_total", help), audit.counts(), text);
    }
}

fn write_outcomes((name, help): (&str, &str), counts: [(&str, u64); 3], text: &mut String) {
    head(text, name, "counter", help);
    for (outcome, count) in counts {
        line(text, name, &format!("{{outcome=\"{outcome}\"}}"), count);
    }
}

fn write_plaintext(workloads: &[Arc<Counts>], text: &mut String) {
    let reports: Vec<_> = workloads.iter().map(|it| (it, it.plaintext.report())).collect();
    let name = "weft_proxy_plaintext_connections_total";
    head(text, name, "counter", "Connections let through without mutual TLS, by source.");
    for (counts, report) in &reports {
        for (source, seen) in &report.sources {
            let labels = counts.labels(&format!("source=\"{source}\""));
            line(text, name, &labels, seen.connections);
        }
    }
    let name = "weft_proxy_plaintext_last_timestamp_seconds";
    head(text, name, "gauge", "When the last connection without mutual TLS came, by source.");
    for (counts, report) in &reports {
        for (source, seen) in &report.sources {
            let labels = counts.labels(&format!("source=\"{source}\""));
            line(text, name, &labels, seen.last.unix_seconds());
        }
    }
}

fn write_sides<C: Default>(
    each: &[(&str, &str, Pick<C>)],
    workloads: &[Arc<Counts>],
    of: fn(&Counts) -> &BySide<C>,
    text: &mut String,
) {
    for (name, help, pick) in each {
        head(text, name, "counter", help);
        for counts in workloads {
            for (side, count) in of(counts).sums(*pick) {
                line(text, name, &counts.labels(side_label(side)), count);
            }
        }
    }
}

fn write_lost(workloads: &[Arc<Counts>], text: &mut String) {
    let name = "weft_proxy_udp_datagrams_dropped_total";
    head(text, name, "counter", "Datagrams that were lost here, by why.");
    for counts in workloads {
        for (reason, pick) in LOST {
            for (side, count) in counts.udp.sums(pick) {
                let label = format!("{},reason=\"{reason}\"", side_label(side));
                line(text, name, &counts.labels(&label), count);
            }
        }
    }
}

fn side_label(side: Side) -> &'static str {
    match side {
        Side::Inbound => "direction=\"inbound\"",
        Side::Outbound => "direction=\"outbound\"",
    }
}

fn write_requests(all: All<'_>, text: &mut String) {
    let name = "weft_proxy_requests_total";
    head(text, name, "counter", "Requests by the class of their status.");
    for (labels, workers) in all {
        for (class, code) in ["none", "1xx", "2xx", "3xx", "4xx", "5xx"].iter().enumerate() {
            let count: u64 = workers.iter().map(|series| series.requests[class].value()).sum();
            if count > 0 {
                line(text, name, &labels.text(&format!(",code=\"{code}\"")), count);
            }
        }
    }
}

fn write_durations(all: All<'_>, text: &mut String) {
    let name = "weft_proxy_request_duration_seconds";
    head(text, name, "histogram", "From the head of a request to the end of its answer.");
    for (labels, workers) in all {
        let of: Vec<&Durations> = workers.iter().map(|series| &series.durations).collect();
        write_histogram((name, labels, ""), &of, text);
    }
    let name = "weft_proxy_request_latency_seconds";
    let help = "Where the time until the head of an answer went, of requests that were looked at.";
    head(text, name, "histogram", help);
    for (labels, workers) in all {
        for part in LatencyPart::ALL {
            let of = workers.iter().filter_map(|series| series.latencies.get());
            let of: Vec<&Durations> = of.map(|parts| &parts[part as usize]).collect();
            write_histogram((name, labels, &format!(",part=\"{}\"", part.word())), &of, text);
        }
    }
}

/// Writes what all workers have counted, if that is anything.
fn write_histogram(
    (name, labels, more): (&str, &Labels, &str),
    workers: &[&Durations],
    text: &mut String,
) {
    let bucket = |at: usize| -> u64 { workers.iter().map(|it| it.buckets[at].value()).sum() };
    if (0..=DURATION_BOUNDS_US.len()).all(|at| bucket(at) == 0) {
        return;
    }
    let mut below = 0;
    for (at, bound) in DURATION_BOUNDS_US.iter().enumerate() {
        below += bucket(at);
        let le = format!("{more},le=\"{}\"", *bound as f64 / 1e6);
        line(text, &format!("{name}_bucket"), &labels.text(&le), below);
    }
    below += bucket(DURATION_BOUNDS_US.len());
    line(text, &format!("{name}_bucket"), &labels.text(&format!("{more},le=\"+Inf\"")), below);
    let us: u64 = workers.iter().map(|it| it.us.value()).sum();
    line(text, &format!("{name}_sum"), &labels.text(more), us as f64 / 1e6);
    line(text, &format!("{name}_count"), &labels.text(more), below);
}

fn sum(workers: &[Arc<Series>], pick: Pick<Series>) -> u64 {
    workers.iter().map(|series| pick(series).value()).sum()
}

/// Begins a metric.
pub(super) fn head(text: &mut String, name: &str, kind: &str, help: &str) {
    // Writing into a String cannot fail.
    let _ = writeln!(text, "# HELP {name} {help}\n# TYPE {name} {kind}");
}

/// Writes one value; `labels` stand in braces, if there are any.
pub(super) fn line(
    text: &mut String,
    name: &str,
    labels: &(impl Display + ?Sized),
    value: impl Display,
) {
    let _ = writeln!(text, "{name}{labels} {value}");
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use weft_core::name::ServiceName;

    use super::*;
    use crate::http::Outcome;

    #[test]
    fn counts_of_all_workers_are_added_up() {
        let metrics = Metrics::default();
        let workload = metrics.workload("");
        let web = ServiceName::parse("web").expect("a name");
        for worker in 0..2 {
            let series = workload.worker(worker).inbound(&web);
            series.request(&Outcome {
                status: 200,
                cause: None,
                grpc_status: None,
                request_bytes: 1,
                response_bytes: 2,
                duration: Duration::from_micros(300),
            });
            series.request(&Outcome::refused(403, "denied", Duration::ZERO));
        }
        let text = metrics.encode();
        for want in [
            "weft_proxy_requests_total{direction=\"inbound\",service=\"web\",code=\"2xx\"} 2\n",
            "weft_proxy_requests_total{direction=\"inbound\",service=\"web\",code=\"4xx\"} 2\n",
            "weft_proxy_received_bytes_total{direction=\"inbound\",service=\"web\"} 4\n",
            "weft_proxy_failures_total{direction=\"inbound\",service=\"web\",cause=\"denied\"} 2\n",
            "_bucket{direction=\"inbound\",service=\"web\",le=\"0.00025\"} 2\n",
            "_bucket{direction=\"inbound\",service=\"web\",le=\"0.0005\"} 4\n",
            "_bucket{direction=\"inbound\",service=\"web\",le=\"+Inf\"} 4\n",
        ] {
            assert!(text.contains(want), "{want} is not in {text}");
        }
    }
    #[test]
    fn workloads_of_a_host_proxy_are_told_apart_and_go_with_the_last_who_counts() {
        let metrics = Metrics::default();
        let name = |text: &str| ServiceName::parse(text).expect("a name");
        let shop = metrics.workload("shop-proxy");
        let (web, api) = (metrics.workload("web-proxy"), name("api"));
        let target = weft_core::chain::TargetId::new(&api, "", &"dc1".parse().expect("a name"));
        for (workload, of, bytes) in [(&shop, "shop", 1), (&web, "web", 2)] {
            workload.applied(bytes + 6, 0);
            let series = workload.worker(0).outbound((&name(of), &api), &target);
            series.bytes_sent.add(bytes);
        }
        let text = metrics.encode();
        let outbound = |proxy: &str, of: &str| {
            format!(
                "weft_proxy_sent_bytes_total{{direction=\"outbound\",proxy=\"{proxy}\",\
                 service=\"{of}\",upstream=\"api\",target=\"{target}\"}}"
            )
        };
        for want in [
            format!("{} 1\n", outbound("shop-proxy", "shop")),
            format!("{} 2\n", outbound("web-proxy", "web")),
            "weft_proxy_snapshot_version{proxy=\"shop-proxy\"} 7\n".to_owned(),
            "weft_proxy_snapshot_version{proxy=\"web-proxy\"} 8\n".to_owned(),
        ] {
            assert!(text.contains(&want), "{want} is not in {text}");
        }
        // One that comes back while somebody still counts goes on counting.
        let worker = shop.worker(1);
        drop(shop);
        worker.outbound((&name("shop"), &api), &target).bytes_sent.add(4);
        let back = metrics.workload("shop-proxy");
        let (before, after) = (worker.mux(Side::Inbound), back.worker(1).mux(Side::Inbound));
        assert!(Arc::ptr_eq(&before, &after));
        drop(worker);
        assert!(metrics.encode().contains(&format!("{} 5\n", outbound("shop-proxy", "shop"))));
        drop(back);
        let text = metrics.encode();
        assert!(!text.contains("shop-proxy") && text.contains("web-proxy"), "{text}");
    }
}
