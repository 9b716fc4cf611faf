//! Tells servers what the proxies of this host measure of services that are rolled out, while there are
//! such services among those that they call.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tracing::debug;
use weft_core::chain::CompiledChain;
use weft_core::name::InstanceId;
use weft_core::proxycfg::ProxySnapshot;
use weft_core::rollout::{Growth, RolloutReport};
use weft_proto::envelope;
use weft_proto::grpc::v1::RolloutReports;
use weft_proto::grpc::v1::traffic_client::TrafficClient;
use weft_runtime::task::TaskTree;

use super::Proxies;
use super::flows::FlowFollower;
use crate::servers::{Servers, refusal};

/// Between two reports: proxies tell each second.
const INTERVAL: Duration = Duration::from_secs(1);
/// The time for an answer; what was not answered is told again with the next report.
const CALL_LIMIT: Duration = Duration::from_secs(5);

/// Starts telling them.
pub(crate) fn start(proxies: Proxies, servers: Servers, tasks: &TaskTree) {
    let token = tasks.token();
    tasks.spawn("rollout reports", async move {
        tokio::select! {
            () = run(&proxies, &servers) => {}
            // What is not told is lost with the proxies' counts, and the interval waits for more.
            () = token.cancelled() => {}
        }
    });
}

async fn run(proxies: &Proxies, servers: &Servers) {
    let (mut growth, mut follower) = (Growth::default(), None);
    loop {
        tokio::time::sleep(INTERVAL).await;
        let measured = measured(proxies);
        if measured.is_empty() {
            // Proxies that nobody follows tell nothing.
            (growth, follower) = (Growth::default(), None);
            continue;
        }
        let follower = follower.get_or_insert_with(|| proxies.flows().follow_for_servers());
        look(&mut growth, follower, &measured);
        let untold = growth.untold();
        if untold.is_empty() {
            continue;
        }
        match tell(servers, &untold).await {
            Ok(()) => growth.handle_told(),
            Err(reason) => debug!(reason, "no server took what was measured of rollouts"),
        }
    }
}

/// The configurations of proxies that call services which are rolled out.
fn measured(proxies: &Proxies) -> BTreeMap<InstanceId, Arc<ProxySnapshot>> {
    let all = proxies.all().into_iter();
    let measured = all.filter_map(|proxy| {
        let snapshot = proxy.snapshot().borrow().clone()?;
        let is_any = snapshot.upstreams.iter().any(|it| !it.chain.rollouts.is_empty());
        is_any.then(|| (proxy.id.clone(), snapshot))
    });
    measured.collect()
}

fn look(
    growth: &mut Growth,
    follower: &FlowFollower,
    measured: &BTreeMap<InstanceId, Arc<ProxySnapshot>>,
) {
    growth.retain(|proxy| measured.contains_key(proxy));
    for (proxy, flows) in follower.newest() {
        let Some(snapshot) = measured.get(&proxy) else { continue };
        let chains = snapshot.upstreams.iter().map(|upstream| &upstream.chain);
        let chains: Vec<&CompiledChain> = chains.filter(|it| !it.rollouts.is_empty()).collect();
        growth.handle_counts(&proxy, &flows, &chains);
    }
}

async fn tell(servers: &Servers, reports: &Vec<RolloutReport>) -> Result<(), String> {
    let reports = RolloutReports { reports: envelope::encode(reports) };
    let mut client = TrafficClient::new(servers.channel());
    let told = tokio::time::timeout(CALL_LIMIT, client.report_rollouts(reports)).await;
    let told = told.map_err(|_| "no answer in time".to_owned())?;
    told.map(drop).map_err(|status| refusal(&status))
}
