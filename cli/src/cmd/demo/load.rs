//! Steady traffic through the mesh, and a tally of what came of each request.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use weft_runtime::clock;
use weft_runtime::task::TaskTree;

use super::web::Web;

/// How many failures are kept in words; the rest are only counted.
const FAILURES_KEPT: usize = 5;

/// A worker that does not end in this time after its load was stopped waits for a lost answer.
const STOP_GRACE: Duration = Duration::from_secs(6);

/// What came of the requests so far.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Tally {
    /// Requests that were answered 200.
    pub(super) answered: u64,
    /// Requests that got another status, or no answer.
    pub(super) failed: u64,
    /// The first failures: when, counted from the start of the load, and what.
    pub(super) failures: Vec<(Duration, String)>,
    /// When the last failure came.
    pub(super) last_failure: Option<Duration>,
    /// Answers by the version of `reviews` that gave them.
    pub(super) versions: BTreeMap<String, u64>,
    /// The longest time that an answer took.
    pub(super) slowest: Duration,
}

impl Tally {
    /// Returns how many requests came to an end.
    pub(super) fn sent(&self) -> u64 {
        self.answered + self.failed
    }

    /// Returns the first failures as one line.
    pub(super) fn failures_in_words(&self) -> String {
        let words: Vec<String> = self
            .failures
            .iter()
            .map(|(at, why)| format!("at {:.2} s {why}", at.as_secs_f64()))
            .collect();
        words.join("; ")
    }

    fn record(&mut self, at: Duration, took: Duration, outcome: Result<Option<String>, String>) {
        self.slowest = self.slowest.max(took);
        match outcome {
            Ok(version) => {
                self.answered += 1;
                if let Some(version) = version {
                    *self.versions.entry(version).or_default() += 1;
                }
            }
            Err(why) => {
                self.failed += 1;
                self.last_failure = Some(at);
                if self.failures.len() < FAILURES_KEPT {
                    self.failures.push((at, why));
                }
            }
        }
    }
}

/// What is requested.
#[derive(Debug, Clone)]
pub(super) struct Target {
    /// The URL; the answer is JSON.
    pub(super) url: String,
    /// Headers of each request.
    pub(super) headers: Vec<(&'static str, &'static str)>,
}

/// Requests that keep coming until the load is stopped.
pub(super) struct Load {
    tally: Arc<Mutex<Tally>>,
    tasks: TaskTree,
}

impl Load {
    /// Starts `workers`, each of which sends a request, waits for its answer, and pauses until
    /// `pace` has passed since it was sent.
    pub(super) fn start(
        tasks: &TaskTree,
        web: &Web,
        target: &Target,
        workers: usize,
        pace: Duration,
    ) -> Self {
        let tasks = tasks.child("load");
        let tally = Arc::new(Mutex::new(Tally::default()));
        let started = clock::instant();
        for number in 0..workers {
            let (web, target, tally) = (web.clone(), target.clone(), Arc::clone(&tally));
            let token = tasks.token();
            tasks.spawn(format!("load-{number}"), async move {
                while !token.is_cancelled() {
                    let sent = clock::instant();
                    let outcome = request(&web, &target).await;
                    tally.lock().record(started.elapsed(), sent.elapsed(), outcome);
                    let rest = pace.saturating_sub(sent.elapsed());
                    // Cut short by the end of the load; a request never is.
                    let _ = tokio::time::timeout(rest, token.cancelled()).await;
                }
            });
        }
        Self { tally, tasks }
    }

    /// Returns what came of the requests so far.
    pub(super) fn so_far(&self) -> Tally {
        self.tally.lock().clone()
    }

    /// Sends no more, waits for the answers that are due, and returns what came of all.
    pub(super) async fn stop(self) -> Tally {
        self.tasks.cancel();
        if let Err(unfinished) = self.tasks.join(STOP_GRACE).await {
            let why = format!("{} requests never ended", unfinished.count);
            self.tally.lock().record(Duration::ZERO, STOP_GRACE, Err(why));
        }
        self.tally.lock().clone()
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.tasks.cancel();
    }
}

/// Sends `count` requests, `workers` at a time, and returns what came of them.
pub(super) async fn exactly(web: &Web, target: &Target, count: u64, workers: u64) -> Tally {
    let tally = Mutex::new(Tally::default());
    let started = clock::instant();
    let worker = |share: u64| {
        let tally = &tally;
        async move {
            for _ in 0..share {
                let sent = clock::instant();
                let outcome = request(web, target).await;
                tally.lock().record(started.elapsed(), sent.elapsed(), outcome);
            }
        }
    };
    let shares = (0..workers).map(|number| {
        let extra = u64::from(number < count % workers);
        worker(count / workers + extra)
    });
    futures::future::join_all(shares).await;
    tally.into_inner()
}

/// Sends one request; tells the version of `reviews` that answered, if the answer names one.
pub(super) async fn request(web: &Web, target: &Target) -> Result<Option<String>, String> {
    let reply = web.get_with(&target.url, &target.headers).await.map_err(|e| format!("{e:#}"))?;
    if reply.status != 200 {
        return Err(format!("HTTP {} {}", reply.status, reply.first_line()));
    }
    let body: serde_json::Value =
        serde_json::from_str(&reply.body).map_err(|error| format!("not JSON: {error}"))?;
    let version = body["version"].as_str().or_else(|| body["reviews"]["version"].as_str());
    Ok(version.map(str::to_owned))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failures_are_counted_and_the_first_are_kept_in_words() {
        let mut tally = Tally::default();
        let second = Duration::from_secs(1);
        tally.record(second, second, Ok(Some("v1".to_owned())));
        for number in 0..9 {
            tally.record(second * number, second, Err(format!("HTTP 50{number}")));
        }
        assert_eq!((tally.answered, tally.failed, tally.sent()), (1, 9, 10));
        assert_eq!(tally.failures.len(), FAILURES_KEPT);
        assert_eq!(tally.last_failure, Some(second * 8));
        assert_eq!(tally.versions["v1"], 1);
        assert!(tally.failures_in_words().starts_with("at 0.00 s HTTP 500; at 1.00 s"));
    }
}
