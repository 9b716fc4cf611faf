//! Step 2: who is there, asked over DNS and over HTTP.

use std::collections::BTreeSet;
use std::net::{Ipv4Addr, SocketAddr};

use super::Tour;
use crate::cmd::demo::dns::{self, Kind, Record};
use crate::cmd::demo::mesh::AGENT;

pub(super) async fn show(tour: &mut Tour) -> anyhow::Result<()> {
    tour.report.step("Discovery: by DNS and by HTTP").await;
    tour.suspect(&[AGENT]);
    let port = tour.mesh.topology.dns_port;
    let agent = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let dig = format!("dig +short @127.0.0.1 -p {port}");

    tour.report.command(&format!("{dig} reviews.service.mesh A"));
    let records = dns::ask(agent, "reviews.service.mesh", Kind::A).await?;
    tour.report.seen(&shown(&records));
    let all_here = !records.is_empty()
        && records.iter().all(|record| *record == Record::A(Ipv4Addr::LOCALHOST));
    tour.report.claim("the name of a service has addresses", all_here, shown(&records))?;

    tour.report.command(&format!("{dig} _reviews._tcp.service.mesh SRV"));
    let records = dns::ask(agent, "_reviews._tcp.service.mesh", Kind::Srv).await?;
    tour.report.seen(&shown(&records));
    let expected = ports_of(tour, |_| true);
    let found = ports_in(&records);
    let observed = format!("ports {found:?}");
    tour.report.claim("SRV records name the port of each instance", found == expected, observed)?;

    tour.report.command(&format!("{dig} v2.reviews.service.mesh SRV"));
    let records = dns::ask(agent, "v2.reviews.service.mesh", Kind::Srv).await?;
    tour.report.seen(&shown(&records));
    let expected = ports_of(tour, |version| version == "v2");
    let found = ports_in(&records);
    let observed = format!("ports {found:?}");
    tour.report.claim("a tag before the name selects", found == expected, observed)?;

    let url = tour.mesh.api.url("/v1/health/service/reviews?passing");
    tour.report.command(&format!("curl -s '{url}'"));
    let passing = tour.mesh.api.passing("reviews").await?;
    let listed: Vec<String> = passing.iter().map(SocketAddr::to_string).collect();
    tour.report.seen(&listed.join("\n"));
    let found: BTreeSet<u16> = passing.iter().map(SocketAddr::port).collect();
    let same = found == ports_of(tour, |_| true);
    tour.report.claim("the HTTP API says the same", same, listed.join(", "))?;
    Ok(())
}

/// Returns where the instances of `reviews` with certain versions listen.
fn ports_of(tour: &Tour, wanted: impl Fn(&str) -> bool) -> BTreeSet<u16> {
    let apps = tour.mesh.topology.apps.iter();
    let reviews = apps.filter(|app| app.service == "reviews" && wanted(app.version));
    reviews.map(|app| app.port).collect()
}

fn ports_in(records: &[Record]) -> BTreeSet<u16> {
    let port = |record: &Record| match record {
        Record::A(_) => None,
        Record::Srv { port, .. } => Some(*port),
    };
    records.iter().filter_map(port).collect()
}

fn shown(records: &[Record]) -> String {
    let line = |record: &Record| match record {
        Record::A(address) => address.to_string(),
        Record::Srv { port, target } => format!("{port} {target}"),
    };
    let lines: Vec<String> = records.iter().map(line).collect();
    if lines.is_empty() { "no records".to_owned() } else { lines.join("\n") }
}
