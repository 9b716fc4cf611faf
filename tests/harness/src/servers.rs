//! Several servers of one cluster, each a process of its own.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::eventually::eventually;
use crate::http::{Answer, Api};
use crate::ports::free_port;
use crate::process::{Daemon, run_weft};

/// Time for a cluster to do what it does by itself: elections, new voters. Generous: a busy
/// machine is not a broken cluster.
pub const CLUSTER_LIMIT: Duration = Duration::from_secs(40);

/// Servers that formed one cluster.
#[derive(Debug)]
pub struct Servers {
    // Processes first: they end before their folder goes.
    /// The servers, the founder first.
    pub all: Vec<ClusterServer>,
    /// Where they keep their files.
    pub folder: TempDir,
}

/// One of them.
#[derive(Debug)]
pub struct ClusterServer {
    /// Its process.
    pub process: Daemon,
    /// Its node name.
    pub name: String,
    folder: PathBuf,
    config: PathBuf,
    rpc: u16,
    http: u16,
}

impl Servers {
    /// Starts this many servers; the others join the first. Elections log warnings, so none is
    /// taken for a fault.
    ///
    /// # Panics
    /// When one does not start.
    pub fn start(count: usize) -> Self {
        Self::start_with(count, &json!({}))
    }

    /// Starts this many, each with further settings.
    ///
    /// # Panics
    /// When one does not start.
    pub fn start_with(count: usize, settings: &Value) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let mut servers = Self { all: Vec::new(), folder };
        for _ in 0..count {
            servers.add(settings);
        }
        servers
    }

    /// Starts one more, with further settings.
    ///
    /// # Panics
    /// When it does not start.
    pub fn add(&mut self, settings: &Value) -> usize {
        let mut living = self.all.iter_mut().filter_map(|server| {
            server.process.is_running().then(|| server.data().join("server-join-token"))
        });
        let token = living.next();
        self.start_one(token.as_deref(), settings)
    }

    /// Starts one more with this token, with further settings.
    ///
    /// # Panics
    /// When it does not start.
    pub fn add_with(&mut self, token: &Path, settings: &Value) -> usize {
        self.start_one(Some(token), settings)
    }

    fn start_one(&mut self, token: Option<&Path>, settings: &Value) -> usize {
        let name = format!("server{}", self.all.len() + 1);
        let server = ClusterServer::start(self.folder.path(), &name, token, settings);
        self.all.push(server);
        self.all.len() - 1
    }

    /// Starts one with a token that is not good, and returns what it said when it ended.
    ///
    /// # Panics
    /// When it runs on, or ends with success.
    pub fn refused(&self, token: &Path, name: &str) -> String {
        let data = self.folder.path().join(name);
        let (data, token) = (data.to_string_lossy(), token.to_string_lossy());
        let door = ["server", "--node-name", name, "--bind-addr", "127.0.0.1:0"];
        let args = ["--data-dir", &data, "--join-token-file", &token];
        let args: Vec<&str> = door.into_iter().chain(args).collect();
        let outcome = run_weft(&args, CLUSTER_LIMIT);
        assert_ne!(outcome.code, Some(0), "{}", outcome.output);
        outcome.output
    }

    /// Returns which server leads, as one of them says.
    ///
    /// # Panics
    /// When none does in time.
    pub fn leader(&self, asked: usize) -> usize {
        eventually(CLUSTER_LIMIT, "a leader", || {
            let leader = self.all[asked].api().get("/v1/status/leader")?.ok()?.json();
            let leader = leader.as_str().unwrap_or_default().to_owned();
            let found = self.all.iter().position(|server| server.address() == leader);
            found.ok_or_else(|| format!("{leader:?} leads"))
        })
    }

    /// Waits until the members, as one of the servers knows them, are as many voters and others.
    ///
    /// # Panics
    /// When they are not in time.
    pub fn wait_members(&self, asked: usize, voters: usize, others: usize) {
        eventually(CLUSTER_LIMIT, &format!("{voters} voters and {others} others"), || {
            let path = "/v1/operator/raft/configuration";
            let configuration = self.all[asked].api().get(path)?.ok()?.json();
            let servers = configuration["Servers"].as_array().cloned().unwrap_or_default();
            let found = servers.iter().filter(|server| server["Voter"] == true).count();
            if (found, servers.len() - found) == (voters, others) {
                return Ok(());
            }
            Err(configuration.to_string())
        });
    }
}

impl ClusterServer {
    fn start(folder: &Path, name: &str, token: Option<&Path>, settings: &Value) -> Self {
        let config = folder.join(format!("{name}.json"));
        let (rpc, http) = (free_port(), free_port());
        let mut all = json!({
            "data_dir": folder.join(name),
            "node_name": name,
            "bind_addr": format!("127.0.0.1:{rpc}"),
            "advertise_addr": format!("127.0.0.1:{rpc}"),
            "http": { "addr": format!("127.0.0.1:{http}") },
        });
        if let Some(token) = token {
            all["join_token_file"] = json!(token);
        }
        if let (Some(all), Some(more)) = (all.as_object_mut(), settings.as_object()) {
            all.extend(more.iter().map(|(key, value)| (key.clone(), value.clone())));
        }
        fs::write(&config, all.to_string()).expect("a temporary folder can be written");
        let process = Self::process(folder, name, &config);
        let (name, folder) = (name.to_owned(), folder.to_owned());
        Self { process, name, folder, config, rpc, http }
    }

    fn process(folder: &Path, name: &str, config: &Path) -> Daemon {
        let args = ["server", "--config", &config.to_string_lossy()];
        let mut daemon = Daemon::weft(name, folder, &args);
        daemon.expect_log("");
        daemon
    }

    /// Starts it again with the same data, after it ended.
    ///
    /// # Panics
    /// When it does not start.
    pub fn restart(&mut self) {
        self.process = Self::process(&self.folder, &self.name, &self.config);
    }

    /// Starts it again with the same data at another address, after it ended.
    ///
    /// # Panics
    /// When it does not start.
    pub fn restart_elsewhere(&mut self) {
        self.relocate();
        self.restart();
    }

    /// Starts it again with the same data and does not wait until it serves.
    pub fn restart_unready(&mut self) {
        let args = ["server", "--config", &self.config.to_string_lossy()];
        self.process = Daemon::weft_unready(&self.name, &self.folder, &args);
        self.process.expect_log("");
    }

    /// Has it found at another address from its next start on.
    ///
    /// # Panics
    /// When its configuration cannot be written.
    pub fn relocate(&mut self) {
        let text = fs::read_to_string(&self.config).expect("the configuration is there");
        let mut all: Value = serde_json::from_str(&text).expect("it was written as JSON");
        self.rpc = free_port();
        let address = json!(format!("127.0.0.1:{}", self.rpc));
        (all["bind_addr"], all["advertise_addr"]) = (address.clone(), address);
        fs::write(&self.config, all.to_string()).expect("a temporary folder can be written");
    }

    /// Returns its data directory.
    pub fn data(&self) -> PathBuf {
        self.folder.join(&self.name)
    }

    /// Returns the address of its RPC door.
    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.rpc)
    }

    /// Returns its HTTP API.
    pub fn api(&self) -> Api {
        Api::new(SocketAddr::from(([127, 0, 0, 1], self.http)))
    }

    /// Writes a key.
    ///
    /// # Errors
    /// When the write was not acknowledged.
    pub fn put(&self, key: &str, value: &str) -> Result<(), String> {
        let answer = self.api().request("PUT", &format!("/v1/kv/{key}"), &[], value);
        answer?.ok().and_then(|answer| match answer.body.trim() {
            "true" => Ok(()),
            other => Err(other.to_owned()),
        })
    }

    /// Reads a key as the leader has it.
    ///
    /// # Errors
    /// When there is no answer, or no such key.
    pub fn value(&self, key: &str) -> Result<String, String> {
        let answer = self.api().get(&format!("/v1/kv/{key}?raw"));
        answer.and_then(Answer::ok).map(|answer| answer.body)
    }
}
