//! How soon a change of intentions binds a sidecar that is at work.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use serde_json::json;
use weft_tests::cluster::{SPREAD_LIMIT, meshed};
use weft_tests::ports::free_port;
use weft_tests::{Api, App, Cluster, eventually};

use super::{percentiles, show};

/// Changes, from allowed to denied and back.
const CHANGES: usize = 200;

/// Changes an intention over and over, and asks through the sidecar until it holds.
pub(super) fn measure() {
    let cluster = Cluster::start();
    let app = App::start("web");
    let defaults = json!({ "Kind": "service-defaults", "Name": "web", "Protocol": "http" });
    cluster.agent.configure(&defaults);
    cluster.agent.register(&meshed("web", "web", app.port(), &[]));
    let _web = cluster.agent.sidecar("web");
    let port = free_port();
    cluster.agent.register(&meshed("shop", "shop", app.port(), &[("web", port)]));
    let _shop = cluster.agent.sidecar("shop");
    let door = Api::new(SocketAddr::from((Ipv4Addr::LOCALHOST, port)));
    cluster.agent.intend("shop", "web", "allow");
    eventually(SPREAD_LIMIT, "the first request passes", || door.get("/status/200")?.ok());

    let mut times = Vec::new();
    for change in 0..CHANGES {
        let (action, status) = if change % 2 == 0 { ("deny", 403) } else { ("allow", 200) };
        let start = Instant::now();
        cluster.agent.intend("shop", "web", action);
        while !door.get("/status/200").is_ok_and(|answer| answer.status == status) {
            assert!(start.elapsed() < Duration::from_secs(20), "the change is never in force");
        }
        times.push(start.elapsed());
    }
    let what = "an intention from its writing to its effect, p50 / p99 / longest";
    show(what, &percentiles(times), "p99 100 ms");
}
