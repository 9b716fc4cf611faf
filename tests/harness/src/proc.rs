//! What the kernel counts of a process.

use std::fs;

/// What /proc counts in; fixed for user space on Linux.
const TICKS_PER_SECOND: f64 = 100.0;

/// Returns the processor time of a process so far, user and system, in seconds; 0 when it is
/// gone.
pub fn cpu_seconds(pid: u32) -> f64 {
    cpu_ticks(pid).unwrap_or(0) as f64 / TICKS_PER_SECOND
}

/// Returns the resident memory of a process now, in megabytes (10^6); 0 when it is gone.
pub fn rss_mb(pid: u32) -> f64 {
    rss_kib(pid).unwrap_or(0) as f64 * 1024.0 / 1e6
}

/// Returns how many descriptors a process has open; 0 when it is gone.
pub fn descriptors(pid: u32) -> usize {
    fs::read_dir(format!("/proc/{pid}/fd")).map_or(0, Iterator::count)
}

/// User and system time, fields 14 and 15 of /proc/PID/stat; the name before may hold blanks.
fn cpu_ticks(pid: u32) -> Option<u64> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let fields: Vec<&str> = text.rsplit_once(')')?.1.split_whitespace().collect();
    Some(fields.get(11)?.parse::<u64>().ok()? + fields.get(12)?.parse::<u64>().ok()?)
}

fn rss_kib(pid: u32) -> Option<u64> {
    let text = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    text.lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))
        .and_then(|rest| rest.split_whitespace().next()?.parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_has_memory_and_one_that_is_none_has_not() {
        assert!(rss_mb(std::process::id()) > 0.1);
        assert!(descriptors(std::process::id()) > 2);
        assert_eq!(descriptors(u32::MAX), 0);
        assert_eq!((rss_mb(u32::MAX), cpu_seconds(u32::MAX)), (0.0, 0.0));
    }
}
