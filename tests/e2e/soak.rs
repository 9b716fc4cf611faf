//! Sidecars under load and churn for a long time: nothing fails, and what they hold stays the same.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread;
use std::time::{Duration, Instant};

use serde_json::json;
use weft_tests::cluster::meshed;
use weft_tests::{App, Cluster, TestProxy, consistently, eventually, proc, tools};

use crate::callers::{Counts, LIMIT, Mesh, connect, echo_stream, echoes, load};

/// How long; `make soak` takes half an hour.
const SECONDS_DEFAULT: u64 = 15;
/// How much more a proxy may hold in the last third of the time than in the second: what an
/// allocator keeps varies by that much. Half an hour of a leak of 2 kB/s is as much.
const GROWTH_MB_MAX: f64 = 4.0;
/// Descriptors that an idle proxy may have beyond those that it had before: idle connections.
const DESCRIPTORS_MORE_MAX: usize = 24;

/// The most that each proxy held in a third of the time.
#[derive(Debug, Clone, Copy, Default)]
struct Peak {
    rss_mb: f64,
    descriptors: usize,
}

impl Peak {
    fn note(&mut self, proxy: &TestProxy) {
        let pid = proxy.process.pid();
        self.rss_mb = self.rss_mb.max(proc::rss_mb(pid));
        self.descriptors = self.descriptors.max(proc::descriptors(pid));
    }
}

/// Short TCP connections, one after the other.
fn short_connections(echo: std::net::SocketAddr, counts: Arc<Counts>) -> thread::JoinHandle<()> {
    thread::spawn(move || {
        let mut number = 0_u64;
        while !counts.is_over.load(Ordering::SeqCst) {
            number += 1;
            let text =
                number.to_be_bytes().repeat(1 + usize::try_from(number % 900).expect("small"));
            echoes(&mut connect(echo).expect("a connection"), &text);
            counts.answered.fetch_add(1, Ordering::SeqCst);
        }
    })
}

/// Changes what proxies are told all the time, in ways that concern no caller; returns what each
/// proxy held at most in each third of the time, and how many changes there were.
fn watched(
    cluster: &Cluster,
    seconds: u64,
    proxies: [&TestProxy; 3],
    counts: &Counts,
) -> ([[Peak; 3]; 3], u64) {
    let third = Duration::from_secs(seconds.div_ceil(3));
    let mut thirds = [[Peak::default(); 3]; 3];
    let another = App::start("web-2");
    let mut changes = 0_u64;
    for peaks in &mut thirds {
        let begun = Instant::now();
        while begun.elapsed() < third {
            changes += 1;
            let action = if changes.is_multiple_of(2) { "allow" } else { "deny" };
            cluster.agent.configure(&json!({
                "Kind": "service-intentions", "Name": "web", "Sources": [
                    { "Name": "shop", "Action": "allow" },
                    { "Name": "nobody", "Action": action },
                ],
            }));
            cluster.agent.register(&meshed("other-1", "other", another.port(), &[]));
            consistently(Duration::from_millis(500), "calls succeed", || {
                for (peak, proxy) in peaks.iter_mut().zip(proxies) {
                    peak.note(proxy);
                }
                match counts.failed.load(Ordering::SeqCst) {
                    0 => Ok(()),
                    failed => Err(format!("{failed} calls failed")),
                }
            });
        }
    }
    (thirds, changes)
}

#[test]
fn what_sidecars_hold_stays_the_same_under_load_and_churn() {
    let seconds = std::env::var("WEFT_SOAK_SECONDS").ok().and_then(|text| text.parse().ok());
    let seconds: u64 = seconds.unwrap_or(SECONDS_DEFAULT);
    let cluster = Cluster::start();
    let Mesh { shop, web, echo } = Mesh::start(&cluster);
    let (door, echo_door) = (shop.to("web").addr(), shop.to("echo").addr());
    drop(echo_stream(echo_door));

    let proxies = [&shop.proxy, &web.proxy, &echo];
    let idle = proxies.map(|proxy| proc::descriptors(proxy.process.pid()));
    let counts = Arc::new(Counts::default());
    let mut callers = load(door, &counts);
    callers.push(short_connections(echo_door, counts.clone()));

    let (thirds, changes) = watched(&cluster, seconds, proxies, &counts);
    let (answered, _) = counts.end(callers);
    let [_, second, last] = thirds;
    let report: Vec<String> = (["shop", "web", "echo"].iter().zip(second).zip(last))
        .map(|((name, before), after)| {
            format!(
                "{name} {:.1} MB then {:.1}, {} descriptors then {}",
                before.rss_mb, after.rss_mb, before.descriptors, after.descriptors
            )
        })
        .collect();
    tools::tell(&format!(
        "soak: {seconds} s, {answered} calls, 0 failed, {changes} changes of configuration; {}",
        report.join("; ")
    ));
    for (before, after) in second.iter().zip(last) {
        assert!(after.rss_mb <= before.rss_mb + GROWTH_MB_MAX, "{report:?}");
    }
    eventually(LIMIT, "connections are closed", || {
        let now = proxies.map(|proxy| proc::descriptors(proxy.process.pid()));
        let are_few = now.iter().zip(idle).all(|(now, idle)| *now <= idle + DESCRIPTORS_MORE_MAX);
        if are_few { Ok(()) } else { Err(format!("{now:?} after {idle:?}")) }
    });
}
