//! The steps of the tour, one file each, in the order in which they are shown.
//!
//! Each step says what it does, names the commands that repeat it by hand, and makes claims. A
//! later step may rely on what an earlier one wrote.

mod certificate;
mod discovery;
mod header;
mod healthy;
mod intention;
mod killed_instance;
mod killed_server;
mod rotation;
mod split;

use std::time::Duration;

use super::load::Target;
use super::mesh::Mesh;
use super::report::Report;
use weft_runtime::task::TaskTree;

/// What every step works with.
pub(super) struct Tour {
    pub(super) report: Report,
    pub(super) mesh: Mesh,
    pub(super) tasks: TaskTree,
    /// Whose logs are shown if the step fails.
    pub(super) suspects: Vec<String>,
}

/// Runs the whole tour.
///
/// # Errors
/// The first claim that does not hold, or what kept a step from being shown.
pub(super) async fn all(tour: &mut Tour) -> anyhow::Result<()> {
    healthy::show(tour).await?;
    discovery::show(tour).await?;
    certificate::show(tour).await?;
    intention::show(tour).await?;
    split::show(tour).await?;
    header::show(tour).await?;
    killed_instance::show(tour).await?;
    killed_server::show(tour).await?;
    rotation::show(tour).await
}

impl Tour {
    /// Names the processes whose logs matter if the step fails.
    fn suspect(&mut self, names: &[&str]) {
        self.suspects = names.iter().map(|name| (*name).to_owned()).collect();
    }

    /// Returns `reviews` as the front calls it: the listener of its sidecar.
    fn reviews(&self) -> Target {
        let port = self.mesh.topology.app("productpage-1").upstream_port("reviews");
        Target { url: format!("http://127.0.0.1:{port}/reviews/0"), headers: Vec::new() }
    }

    /// Returns the front's JSON: one request to it makes three or four through the mesh.
    pub(in crate::cmd::demo) fn product(&self) -> Target {
        let port = self.mesh.topology.app("productpage-1").port;
        Target { url: format!("http://127.0.0.1:{port}/api/v1/products/0"), headers: Vec::new() }
    }
}

/// Tells a time as people read it.
fn millis(time: Duration) -> String {
    if time < Duration::from_secs(10) {
        format!("{} ms", time.as_millis())
    } else {
        format!("{:.1} s", time.as_secs_f64())
    }
}
