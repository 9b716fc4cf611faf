//! What the proxy decides of callers, for the audit log: whoever is refused, would be refused or is
//! cut off, and a share of those who are let in.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use serde::Serialize;
use weft_core::identity::SpiffeId;
use weft_core::intention::Judgement;
use weft_core::name::ServiceName;
use weft_runtime::clock;
use weft_runtime::telemetry::audit::AuditLog;

/// The door to the log. Clones are the same.
#[derive(Debug, Clone)]
pub(crate) struct Decisions {
    log: AuditLog,
    /// Every how many-th who is let in is told of; `None` for nobody.
    every: Option<u64>,
    let_in: Arc<AtomicU64>,
}

/// What was decided.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Verdict {
    Allow,
    Deny,
    /// Allowed, and denied by intentions that only say what they would do.
    WouldDeny,
    /// Allowed at first, and cut off when the rules changed.
    Cut,
}

/// Who asked for what.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Asking<'a> {
    pub(crate) caller: &'a SpiffeId,
    pub(crate) source: &'a ServiceName,
    pub(crate) destination: &'a ServiceName,
    pub(crate) address: Option<IpAddr>,
    /// The server name given in TLS.
    pub(crate) sni: Option<&'a str>,
    /// Method and path as judged; `None` for a connection.
    pub(crate) request: Option<(&'a str, &'a [u8])>,
}

/// One line.
#[derive(Debug, Serialize)]
struct Record<'a> {
    time: String,
    #[serde(rename = "type")]
    kind: &'static str,
    decision: Verdict,
    source: &'a ServiceName,
    destination: &'a ServiceName,
    caller: String,
    address: Option<IpAddr>,
    #[serde(skip_serializing_if = "Option::is_none")]
    sni: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    method: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    path: Option<String>,
    /// Which rule decided.
    why: String,
}

impl Decisions {
    /// Tells of the given share, from 0 to 1, of those who are let in.
    pub(crate) fn new(log: AuditLog, allowed_share: f64) -> Self {
        // As whole numbers go: at most one in 2^53.
        let every = (allowed_share > 0.0).then(|| (1.0 / allowed_share).round().max(1.0) as u64);
        Self { log, every, let_in: Arc::default() }
    }

    /// Returns as what a judgement is to be told of, if it is.
    pub(crate) fn worth_telling(&self, judgement: &Judgement<'_>) -> Option<Verdict> {
        match (judgement.allowed, judgement.is_dry_run) {
            (false, _) => Some(Verdict::Deny),
            (true, true) => Some(Verdict::WouldDeny),
            (true, false) => self.samples().then_some(Verdict::Allow),
        }
    }

    /// Whether this one of those who are let in is to be told of.
    fn samples(&self) -> bool {
        let is_nth = |every| self.let_in.fetch_add(1, Ordering::Relaxed).is_multiple_of(every);
        self.every.is_some_and(is_nth)
    }

    /// Has a decision written down.
    pub(crate) fn tell(&self, decision: Verdict, asking: Asking<'_>, why: String) {
        self.log.write(&Record {
            time: clock::wall().rfc3339(),
            kind: "decision",
            decision,
            source: asking.source,
            destination: asking.destination,
            caller: asking.caller.to_string(),
            address: asking.address,
            sni: asking.sni,
            method: asking.request.map(|(method, _)| method),
            path: asking.request.map(|(_, path)| String::from_utf8_lossy(path).into_owned()),
            why,
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use weft_runtime::task::TaskTree;
    use weft_runtime::telemetry::audit::AuditOptions;

    #[tokio::test]
    async fn a_share_of_those_who_are_let_in_is_told_of() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("audit.json");
        let options = AuditOptions { path, rotate_bytes: 1 << 20, rotate_files_max: 1 };
        let log = AuditLog::open(options, &TaskTree::root("test")).expect("opened");
        for (share, expected) in [(0.0, 0), (1.0, 100), (0.1, 10), (0.001, 1), (1e-300, 1)] {
            let decisions = Decisions::new(log.clone(), share);
            let told = (0..100).filter(|_| decisions.samples()).count();
            assert_eq!(told, expected, "a share of {share}");
        }
    }
}
