//! What identity and authorisation cost: how long it takes to decide about a call, how many
//! certificates a server signs, and a fleet whose certificates are all signed again at once.
//!
//! `make bench-identity`; connections under mutual TLS beside those of peers are `weft-bench`'s,
//! which the same target runs.

mod judge;
mod renew;
mod sign;

use crate::server::Server;

/// Measures all of it.
pub(crate) async fn measure() -> anyhow::Result<()> {
    judge::measure();
    let server = Server::start();
    let hosts = renew::join(&server).await?;
    sign::measure(&server, &hosts).await?;
    renew::measure(&server, &hosts).await
}

/// Shows a figure, and what is wanted of it.
fn show(what: &str, figure: &str, wanted: &str) {
    println!("{what:<64} {figure:>26}   {wanted}");
}
