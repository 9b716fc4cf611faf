//! Where configuration comes from: the newest good snapshot is put in force and acknowledged,
//! a bad one refused with its reason. What is in force stays so when the source is gone.

mod asker;
mod drive;
mod host;
mod static_file;
mod subscribe;
mod watching;

use weft_runtime::task::TaskTree;

use crate::StartError;
use crate::config::SnapshotSource;
use crate::http::chain;
use crate::tenant::Tenants;

pub(crate) use asker::KeyAsker;
use drive::Driver;
pub(crate) use drive::{Means, Started};
pub(crate) use host::HostMeans;
use subscribe::{Subject, subscribe};

/// Follows the source until the tree is cancelled: with one driver for a sidecar, with one for each
/// service of a host proxy.
pub(crate) async fn drive(
    source: SnapshotSource,
    (means, tenants): (HostMeans, Tenants),
    started: Started,
    tasks: TaskTree,
) {
    let one = || {
        let (tenant, questions) = tenants.admit(None);
        (means.means.clone(), tenant, questions)
    };
    match source {
        SnapshotSource::GivenMany(snapshots) => {
            host::given(snapshots, (means, tenants), started, &tasks).await;
        }
        SnapshotSource::Host { socket } => {
            host::follow(&socket, (means, tenants), started, &tasks).await;
        }
        SnapshotSource::File(path) => {
            let (means, tenant, _) = one();
            let mut driver = Driver::new(means, tenant, started);
            match static_file::read(&path) {
                Ok(snapshot) => {
                    // The reason was told already.
                    let _ = driver.apply(snapshot).await;
                    driver.rebind_until_cancelled(&tasks).await;
                }
                Err(error) => {
                    let path = path.display().to_string();
                    driver.fail(StartError::SnapshotFile { path, reason: chain(&error) });
                }
            }
        }
        SnapshotSource::Given(snapshots) => {
            let (means, tenant, _) = one();
            Driver::new(means, tenant, started).follow(snapshots, &tasks).await;
        }
        SnapshotSource::Agent { socket, workload } => {
            let (means, tenant, questions) = one();
            let mut driver = Driver::new(means, tenant, started);
            let subject = Subject { workload, is_hosted: false };
            subscribe(&mut driver, (&socket, &subject), questions, &tasks).await;
        }
    }
}
