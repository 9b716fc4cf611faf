//! What the operating system says of this process, under the names that every Prometheus
//! dashboard knows.

use std::fmt;
use std::fs;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;

use crate::clock;

/// Ticks per second in `/proc`: `USER_HZ`, which Linux has fixed for programs.
const TICKS_PER_SECOND: f64 = 100.0;

/// Reads `/proc/self` at each scrape.
#[derive(Debug)]
pub(super) struct Process {
    /// When this value was made, which is at the start of the process.
    start_seconds: u64,
}

/// One look at the process; what cannot be read is left out.
#[derive(Debug, Default, PartialEq)]
struct Seen {
    cpu_seconds: Option<f64>,
    resident_bytes: Option<u64>,
    threads: Option<u64>,
    open_fds: Option<u64>,
}

impl Process {
    pub(super) fn new() -> Self {
        Self { start_seconds: clock::wall().unix_seconds() }
    }
}

impl Collector for Process {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let seen = look();
        let gauges = [
            ("process_resident_memory_bytes", "Memory in RAM", seen.resident_bytes),
            ("process_threads", "Threads", seen.threads),
            ("process_open_fds", "Open files and sockets", seen.open_fds),
            ("process_start_time_seconds", "Start, in Unix time", Some(self.start_seconds)),
        ];
        for (name, help, value) in gauges {
            if let Some(value) = value.and_then(|value| i64::try_from(value).ok()) {
                let metric = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
                ConstGauge::new(value).encode(metric)?;
            }
        }
        if let Some(seconds) = seen.cpu_seconds {
            let (name, help) = ("process_cpu_seconds", "Processor time, user and system");
            let metric = encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
            ConstCounter::new(seconds).encode(metric)?;
        }
        Ok(())
    }
}

fn look() -> Seen {
    let mut seen = Seen::default();
    if let Ok(stat) = fs::read_to_string("/proc/self/stat") {
        seen.cpu_seconds = cpu_seconds(&stat);
    }
    if let Ok(status) = fs::read_to_string("/proc/self/status") {
        seen.resident_bytes = field(&status, "VmRSS:").map(|kib| kib * 1024);
        seen.threads = field(&status, "Threads:");
    }
    // One of them is the directory being read.
    seen.open_fds = fs::read_dir("/proc/self/fd").ok().map(|found| found.count() as u64 - 1);
    seen
}

/// Reads `utime` and `stime`, the 14th and 15th fields; the 2nd may contain anything but ends
/// with the last closing bracket.
///
/// **Source**: proc_pid_stat(5).
fn cpu_seconds(stat: &str) -> Option<f64> {
    let mut fields = stat.rsplit_once(')')?.1.split_ascii_whitespace().skip(11);
    let user: f64 = fields.next()?.parse().ok()?;
    let system: f64 = fields.next()?.parse().ok()?;
    Some((user + system) / TICKS_PER_SECOND)
}

fn field(status: &str, name: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix(name))?;
    line.split_ascii_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_system_is_asked_and_its_answers_are_read() {
        let stat = "7 (we) ft) S 1 7 7 0 -1 4194560 1 0 0 0 150 50 0 0 20 0 4 0 1 2 3";
        assert_eq!(cpu_seconds(stat), Some(2.0));
        assert_eq!(cpu_seconds("nonsense"), None);
        assert_eq!(field("Name:\tweft\nVmRSS:\t  2048 kB\n", "VmRSS:"), Some(2048));
        let seen = look();
        assert!(seen.resident_bytes.is_some_and(|bytes| bytes > 1 << 20), "{seen:?}");
        assert!(seen.open_fds.is_some_and(|count| count >= 3), "{seen:?}");
        assert!(seen.threads.is_some() && seen.cpu_seconds.is_some(), "{seen:?}");
    }
}
