//! What identity, authorisation and routing cost: how long it takes to decide about a call, and until a
//! change of intentions binds; how many certificates a server signs, and a fleet whose
//! certificates are all signed again at once.
//!
//! `make bench-identity`; connections under mutual TLS beside those of peers are `weft-bench`'s,
//! which the same target runs.

mod judge;
mod renew;
mod route;
mod sign;
mod spread;

use std::time::Duration;

use crate::server::Server;

/// Measures all of it.
pub(crate) async fn measure() -> anyhow::Result<()> {
    judge::measure();
    route::measure();
    tokio::task::spawn_blocking(spread::measure).await?;
    let server = Server::start();
    let hosts = renew::join(&server).await?;
    sign::measure(&server, &hosts).await?;
    renew::measure(&server, &hosts).await
}

/// Shows a figure, and what is wanted of it.
fn show(what: &str, figure: &str, wanted: &str) {
    println!("{what:<64} {figure:>26}   {wanted}");
}

fn percentiles(mut times: Vec<Duration>) -> String {
    times.sort_unstable();
    let at = |percent: usize| {
        let time = times.get((times.len() * percent / 100).min(times.len().saturating_sub(1)));
        time.map_or(0.0, |time| time.as_secs_f64() * 1e3)
    };
    format!("{:.1} / {:.1} / {:.1} ms", at(50), at(99), at(100))
}
