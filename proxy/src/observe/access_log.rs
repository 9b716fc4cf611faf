//! One line per request, written by a thread of its own.

use std::fmt::Write as _;
use std::io::Write as _;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::Duration;

use weft_core::time::Timestamp;
use weft_runtime::task::TaskTree;

use crate::config::AccessLogFormat;

/// Lines that wait to be written. When full, further lines are dropped: a slow disk must not
/// slow requests.
const WAITING_MAX: usize = 8192;

/// What one line tells.
#[derive(Debug)]
pub(crate) struct AccessRecord {
    pub(crate) at: Timestamp,
    /// `inbound` or `outbound`.
    pub(crate) direction: &'static str,
    /// The upstream or the caller.
    pub(crate) peer: String,
    pub(crate) method: String,
    pub(crate) path: String,
    pub(crate) status: u16,
    pub(crate) cause: Option<&'static str>,
    pub(crate) duration: Duration,
    pub(crate) request_bytes: u64,
    pub(crate) response_bytes: u64,
}

/// The door to the log. Clones are the same.
#[derive(Debug, Clone)]
pub(crate) struct AccessLog(SyncSender<AccessRecord>);

impl AccessLog {
    /// Starts the writing thread; it ends when the last door is gone.
    pub(crate) fn start(format: AccessLogFormat, tasks: &TaskTree) -> Self {
        let (door, records) = sync_channel(WAITING_MAX);
        let writing = tasks.blocking(move || write_lines(format, &records));
        tasks.spawn("access log", async move {
            // A panic there was logged by the task tree.
            let _ = writing.await;
        });
        Self(door)
    }

    /// Writes a line, if there is room for it.
    pub(crate) fn write(&self, record: AccessRecord) {
        // Full or ended: see WAITING_MAX.
        let _ = self.0.try_send(record);
    }
}

fn write_lines(format: AccessLogFormat, records: &Receiver<AccessRecord>) {
    let mut out = std::io::BufWriter::new(std::io::stdout());
    while let Ok(record) = records.recv() {
        let mut next = Some(record);
        while let Some(record) = next {
            if writeln!(out, "{}", line(format, &record)).is_err() {
                return;
            }
            next = records.try_recv().ok();
        }
        if out.flush().is_err() {
            return;
        }
    }
}

fn line(format: AccessLogFormat, record: &AccessRecord) -> String {
    let us = record.duration.as_micros();
    match format {
        AccessLogFormat::Json => serde_json::json!({
            "time": record.at.rfc3339(), "direction": record.direction, "peer": record.peer,
            "method": record.method, "path": record.path, "status": record.status,
            "cause": record.cause, "duration_us": us,
            "request_bytes": record.request_bytes, "response_bytes": record.response_bytes,
        })
        .to_string(),
        AccessLogFormat::Text => {
            let mut text = format!(
                "{} {} {} \"{} {}\" {} {}us {}B {}B",
                record.at.rfc3339(),
                record.direction,
                record.peer,
                record.method,
                record.path.escape_debug(),
                record.status,
                us,
                record.request_bytes,
                record.response_bytes,
            );
            if let Some(cause) = record.cause {
                // Writing into a String cannot fail.
                let _ = write!(text, " {cause}");
            }
            text
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_forms_tell_the_same() {
        let record = AccessRecord {
            at: Timestamp(0),
            direction: "inbound",
            peer: "web".into(),
            method: "GET".into(),
            path: "/a".into(),
            status: 403,
            cause: Some("denied"),
            duration: Duration::from_micros(7),
            request_bytes: 1,
            response_bytes: 2,
        };
        assert_eq!(
            line(AccessLogFormat::Text, &record),
            "1970-01-01T00:00:00.000Z inbound web \"GET /a\" 403 7us 1B 2B denied"
        );
        let json: serde_json::Value =
            serde_json::from_str(&line(AccessLogFormat::Json, &record)).expect("JSON");
        assert_eq!(json["cause"], "denied");
        assert_eq!(json["duration_us"], 7);
    }
}
