//! Autopilot: looks at the servers every second and carries out what `core::autopilot` decides.

use std::time::Duration;

use tracing::{debug, info, warn};
use weft_core::autopilot::{ClusterHealth, Judge, Leader, Moment, Seen, ServerState};
use weft_runtime::clock;
use weft_runtime::task::TaskTree;

use super::Office;
use crate::raft::Sighting;

/// Between two looks: new voters and failed servers are told apart by tens of seconds.
const LOOK: Duration = Duration::from_secs(1);

/// Starts the duty.
pub(super) fn start(office: Office, tasks: &TaskTree) {
    let token = tasks.token();
    tasks.spawn("autopilot", async move {
        tokio::select! {
            () = run(office) => {}
            // A change of members under way is consensus' to finish.
            () = token.cancelled() => {}
        }
    });
}

async fn run(office: Office) {
    let mut judge = Judge::default();
    let mut beat = tokio::time::interval(LOOK);
    beat.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        beat.tick().await;
        let sightings = office.consensus.sightings().await;
        let Some(leader) = leader(&sightings) else { continue };
        let config = office.state().autopilot().clone();
        let seen: Vec<Seen> = sightings.iter().map(seen).collect();
        let now = Moment { local: clock::instant(), wall: clock::wall() };
        let verdict = judge.handle_look(&seen, leader, &config, now);
        office.consensus.publish_health(health(&judge, &seen, &sightings));
        if !verdict.promote.is_empty() {
            let ids: Vec<String> = verdict.promote.iter().map(|id| format!("{id:016x}")).collect();
            match office.consensus.promote(verdict.promote).await {
                Ok(()) => info!(?ids, "stable servers got a vote"),
                Err(error) => debug!(%error, ?ids, "servers did not get a vote"),
            }
        }
        if let Some(id) = verdict.remove {
            remove(&office, id).await;
        }
    }
}

async fn remove(office: &Office, id: u64) {
    match office.consensus.remove_as_leader(id).await {
        Ok(()) => warn!(id = format!("{id:016x}"), "a server that failed was removed"),
        Err(error) => debug!(%error, id = format!("{id:016x}"), "a failed server was not removed"),
    }
}

/// The leader is this server, and always answers itself.
fn leader(sightings: &[Sighting]) -> Option<Leader> {
    let own = sightings.iter().find(|sighting| sighting.peer.is_leader)?.report.as_ref()?;
    Some(Leader { term: own.term, last_index: own.last_index })
}

fn seen(sighting: &Sighting) -> Seen {
    Seen {
        id: sighting.peer.id,
        is_voter: sighting.peer.is_voter,
        is_read_replica: sighting.peer.member.is_read_replica,
        last_contact: sighting.last_contact,
        progress: sighting.report.as_ref().map(|report| (report.term, report.last_index)),
    }
}

fn health(judge: &Judge, seen: &[Seen], sightings: &[Sighting]) -> ClusterHealth {
    let servers = sightings.iter().map(|sighting| {
        let health = judge.health(sighting.peer.id);
        let report = sighting.report.clone().unwrap_or_default();
        ServerState {
            id: sighting.peer.id,
            name: sighting.peer.member.name.clone(),
            address: sighting.peer.member.address.clone(),
            version: report.version,
            is_leader: sighting.peer.is_leader,
            is_voter: sighting.peer.is_voter,
            is_read_replica: sighting.peer.member.is_read_replica,
            is_alive: sighting.report.is_some(),
            is_healthy: health.is_some_and(|health| health.is_healthy),
            since: health.map(|health| health.since).unwrap_or_default(),
            last_contact_ms: sighting
                .last_contact
                .map(|silence| u64::try_from(silence.as_millis()).unwrap_or(u64::MAX)),
            last_term: report.term,
            last_index: report.last_index,
        }
    });
    ClusterHealth { servers: servers.collect(), failure_tolerance: judge.failure_tolerance(seen) }
}
