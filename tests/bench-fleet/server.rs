//! The server, and what the system and the server itself say of it.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use serde_json::json;
use tempfile::TempDir;
use weft_proto::join_token::JoinToken;
use weft_tests::cluster::TestServer;
use weft_tests::http::Api;
use weft_tests::ports::free_port;

/// A `weft server` of its own process.
pub(crate) struct Server {
    server: TestServer,
    telemetry: u16,
    _folder: TempDir,
}

/// What the process holds and has used.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Usage {
    /// Resident memory in bytes.
    pub(crate) resident: u64,
    /// Time on processors.
    pub(crate) cpu: Duration,
}

impl Server {
    pub(crate) fn start() -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let telemetry = free_port();
        let settings = json!({ "telemetry_addr": format!("127.0.0.1:{telemetry}") });
        let mut server = TestServer::start_with(folder.path(), &settings);
        // Agents leave without a word, and it warns of them.
        server.process.expect_log("");
        Self { server, telemetry, _folder: folder }
    }

    pub(crate) fn join_token_file(&self) -> PathBuf {
        self.server.join_token_file()
    }

    pub(crate) fn join_token(&self) -> JoinToken {
        let text = fs::read_to_string(self.server.join_token_file()).expect("a token");
        text.trim().parse().expect("a join token")
    }

    pub(crate) fn usage(&self) -> Usage {
        let pid = self.server.process.pid();
        let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("it runs");
        let resident = status
            .lines()
            .find_map(|line| line.strip_prefix("VmRSS:")?.trim().strip_suffix(" kB"))
            .and_then(|kb| kb.trim().parse::<u64>().ok())
            .expect("a resident size");
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).expect("it runs");
        // After the name in brackets; user and system time are the 14th and 15th field.
        let fields = stat.rsplit_once(')').expect("a name").1.split_whitespace();
        let ticks: u64 = fields.skip(11).take(2).filter_map(|it| it.parse::<u64>().ok()).sum();
        Usage { resident: resident * 1024, cpu: Duration::from_millis(ticks * 10) }
    }

    /// Shows what the server holds.
    pub(crate) fn show_memory(&self, when: &str) -> u64 {
        let resident = self.usage().resident;
        println!("{when:<46} {:>8.1} MB resident", resident as f64 / 1e6);
        resident
    }

    /// Returns one of the server's own figures.
    pub(crate) fn figure(&self, name: &str) -> f64 {
        let api = Api::new(([127, 0, 0, 1], self.telemetry).into());
        let text = api.get("/metrics").map(|answer| answer.body).unwrap_or_default();
        let value = text.lines().find_map(|line| line.strip_prefix(name)?.trim().parse().ok());
        value.unwrap_or(f64::NAN)
    }
}
