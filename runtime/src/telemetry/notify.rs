//! Telling the service manager how the process is, by systemd's protocol.
//!
//! **Source**: systemd: sd_notify(3). Without a service manager nothing is sent.

use std::time::Duration;

use tracing::warn;

use crate::net;

/// The variable with the manager's socket.
const SOCKET: &str = "NOTIFY_SOCKET";

/// What the process tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Report {
    /// It serves; units that wait for it may start.
    Ready,
    /// It reads its configuration again; [`Report::Ready`] follows.
    Reloading,
    /// The process with this number serves from now on, and is the one to watch.
    MainProcess(u32),
    /// It shuts down.
    Stopping,
    /// It is alive; due within [`watchdog`].
    Watchdog,
}

impl Report {
    fn message(self) -> String {
        match self {
            Self::MainProcess(pid) => format!("MAINPID={pid}"),
            Self::Ready => "READY=1".to_owned(),
            Self::Reloading => "RELOADING=1".to_owned(),
            Self::Stopping => "STOPPING=1".to_owned(),
            Self::Watchdog => "WATCHDOG=1".to_owned(),
        }
    }
}

/// Tells the service manager, if there is one.
pub fn notify(report: Report) {
    if let Ok(socket) = std::env::var(SOCKET) {
        send(&socket, report);
    }
}

fn send(socket: &str, report: Report) {
    if let Err(error) = net::send_unix_datagram(socket, report.message().as_bytes()) {
        warn!(%socket, ?report, %error, "cannot tell the service manager");
    }
}

/// Returns how often the service manager wants to hear [`Report::Watchdog`], if at all.
pub fn watchdog() -> Option<Duration> {
    let microseconds = std::env::var("WATCHDOG_USEC").ok()?.parse().ok()?;
    Some(Duration::from_micros(microseconds)).filter(|limit| !limit.is_zero())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn reports_reach_the_managers_socket() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("notify");
        let manager = net::UnixDatagram::bind(&path).expect("a socket");
        for (report, expected) in [
            (Report::MainProcess(4711), "MAINPID=4711"),
            (Report::Ready, "READY=1"),
            (Report::Reloading, "RELOADING=1"),
            (Report::Stopping, "STOPPING=1"),
            (Report::Watchdog, "WATCHDOG=1"),
        ] {
            send(path.to_str().expect("UTF-8"), report);
            let mut buffer = [0; 32];
            let length = manager.recv(&mut buffer).await.expect("a report");
            assert_eq!(&buffer[..length], expected.as_bytes());
        }
    }
}
