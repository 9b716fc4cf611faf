//! What the proxies of this host have counted of their flows, told by them while somebody follows it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tokio::sync::watch;
use weft_core::name::InstanceId;
use weft_core::traffic::flow::{FLOWS_TOLD_MAX, FlowCounts};
use weft_runtime::clock;

/// Followers at once: each adds up all flows of the host every second.
const FOLLOWERS_MAX: usize = 8;
/// How long what a proxy has told is taken for what it does: it tells each second.
const STALE_AFTER: Duration = Duration::from_secs(4);

/// What the proxies have told. Clones share it.
#[derive(Debug, Clone)]
pub(crate) struct FlowReports(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    told: Mutex<Told>,
    /// Raised when there is a first follower, and when there is none any more.
    changes: watch::Sender<u64>,
}

#[derive(Debug, Default)]
struct Told {
    followers: usize,
    newest: BTreeMap<InstanceId, Report>,
}

#[derive(Debug, Clone)]
struct Report {
    at: Instant,
    flows: Arc<[FlowCounts]>,
}

/// One who follows; proxies tell no more once the last one is dropped.
#[derive(Debug)]
pub(crate) struct FlowFollower {
    reports: FlowReports,
    /// What each proxy had told when it was looked at last, and when it was looked at before that.
    seen: BTreeMap<InstanceId, (Report, Report)>,
}

/// What one proxy has counted between two looks.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct FlowLook {
    pub(crate) proxy: InstanceId,
    pub(crate) before: Arc<[FlowCounts]>,
    pub(crate) now: Arc<[FlowCounts]>,
    pub(crate) seconds: f64,
}

/// States that as many follow as may.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{FOLLOWERS_MAX} follow the flows of this host already; end one of them")]
pub(crate) struct TooManyFollowers;

impl FlowReports {
    /// Makes the place for them; `changes` tells the proxies' streams that wishes have changed.
    pub(crate) fn new(changes: watch::Sender<u64>) -> Self {
        Self(Arc::new(Inner { told: Mutex::default(), changes }))
    }

    /// Begins to follow.
    ///
    /// # Errors
    /// [`TooManyFollowers`].
    pub(crate) fn follow(&self) -> Result<FlowFollower, TooManyFollowers> {
        if self.0.told.lock().followers >= FOLLOWERS_MAX {
            return Err(TooManyFollowers);
        }
        Ok(self.follow_for_servers())
    }

    /// Begins to follow on behalf of servers: once for all of them, however many follow.
    pub(crate) fn follow_for_servers(&self) -> FlowFollower {
        self.0.told.lock().followers += 1;
        self.0.changes.send_modify(|change| *change += 1);
        FlowFollower { reports: self.clone(), seen: BTreeMap::new() }
    }

    /// Whether anybody follows.
    pub(crate) fn is_followed(&self) -> bool {
        self.0.told.lock().followers > 0
    }

    /// Takes what a proxy has counted since its process began.
    pub(crate) fn deliver(&self, proxy: &InstanceId, mut flows: Vec<FlowCounts>) {
        flows.truncate(FLOWS_TOLD_MAX);
        let mut told = self.0.told.lock();
        // The last follower may have gone meanwhile.
        if told.followers > 0 {
            let report = Report { at: clock::instant(), flows: flows.into() };
            told.newest.insert(proxy.clone(), report);
        }
    }
}

impl FlowFollower {
    /// Returns all that each proxy has counted since its process began, as it has told last.
    pub(crate) fn newest(&self) -> Vec<(InstanceId, Arc<[FlowCounts]>)> {
        let told = self.reports.0.told.lock();
        told.newest.iter().map(|(proxy, report)| (proxy.clone(), report.flows.clone())).collect()
    }

    /// Takes note of proxies that have told something for the first time: what they do is counted
    /// from here.
    pub(crate) fn note(&mut self) {
        let told = self.reports.0.told.lock();
        for (proxy, report) in &told.newest {
            let begin = || (report.clone(), report.clone());
            self.seen.entry(proxy.clone()).or_insert_with(begin);
        }
    }

    /// Returns what the proxies have counted since the last look. One that has told nothing new since
    /// then shows what it did before, and one that has been silent for long nothing.
    pub(crate) fn look(&mut self) -> Vec<FlowLook> {
        self.note();
        let now = clock::instant();
        let mut told = self.reports.0.told.lock();
        told.newest.retain(|_, report| now < report.at + STALE_AFTER);
        self.seen.retain(|proxy, _| told.newest.contains_key(proxy));
        for (proxy, (before, last)) in &mut self.seen {
            if let Some(newest) = told.newest.get(proxy).filter(|newest| newest.at > last.at) {
                *before = std::mem::replace(last, newest.clone());
            }
        }
        let looks = self.seen.iter().filter(|(_, (before, last))| last.at > before.at);
        let look = |(proxy, (before, last)): (&InstanceId, &(Report, Report))| FlowLook {
            proxy: proxy.clone(),
            before: before.flows.clone(),
            now: last.flows.clone(),
            seconds: (last.at - before.at).as_secs_f64(),
        };
        looks.map(look).collect()
    }
}

impl Drop for FlowFollower {
    fn drop(&mut self) {
        {
            let mut told = self.reports.0.told.lock();
            told.followers -= 1;
            if told.followers == 0 {
                told.newest.clear();
            }
        }
        self.reports.0.changes.send_modify(|change| *change += 1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn reports() -> FlowReports {
        FlowReports::new(watch::Sender::default())
    }

    fn id(text: &str) -> InstanceId {
        InstanceId::parse(text).expect("an id")
    }

    #[tokio::test(start_paused = true)]
    async fn a_look_shows_what_came_since_the_last_one() {
        let reports = reports();
        let mut changes = reports.0.changes.subscribe();
        let proxy = id("web-sidecar-proxy");
        reports.deliver(&proxy, Vec::new());
        let mut follower = reports.follow().expect("the first");
        assert!(changes.has_changed().expect("alive") && reports.is_followed());
        changes.mark_unchanged();
        assert_eq!(follower.look(), [], "what was told before anybody followed is not kept");
        reports.deliver(&proxy, Vec::new());
        assert_eq!(follower.look(), [], "one report says nothing of a second");
        for _ in 0..2 {
            tokio::time::advance(SECOND).await;
            reports.deliver(&proxy, Vec::new());
        }
        let looks = follower.look();
        assert_eq!((looks.len(), looks[0].seconds), (1, 2.0));
        assert_eq!(follower.look(), looks, "as long as it has told nothing new");
        tokio::time::advance(STALE_AFTER).await;
        assert_eq!(follower.look(), []);
        drop(follower);
        assert!(changes.has_changed().expect("alive") && !reports.is_followed());
    }

    #[tokio::test(start_paused = true)]
    async fn few_follow_at_once() {
        let reports = reports();
        let all: Vec<FlowFollower> =
            (0..FOLLOWERS_MAX).map(|_| reports.follow().expect("room")).collect();
        assert_eq!(reports.follow().err(), Some(TooManyFollowers));
        drop(all);
        assert!(reports.follow().is_ok());
    }
}
