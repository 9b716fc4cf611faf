//! Servers, agents and proxies on loopback, wired as a user would wire them.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::eventually::eventually;
use crate::http::{Answer, Api};
use crate::ports::free_port;
use crate::process::Daemon;

/// Time for a change to reach every process. Generous: a busy machine is not a broken mesh.
pub const SPREAD_LIMIT: Duration = Duration::from_secs(20);

/// A server and an agent, in one temporary folder.
#[derive(Debug)]
pub struct Cluster {
    // Processes first: they end before their folder goes.
    /// The agent.
    pub agent: TestAgent,
    /// The server.
    pub server: TestServer,
    /// Where both keep their files.
    pub folder: TempDir,
}

impl Cluster {
    /// Starts both and waits until the agent has its place in the cluster.
    ///
    /// # Panics
    /// When something does not start.
    pub fn start() -> Self {
        Self::start_with(&json!({}))
    }

    /// Starts both, the server with further settings.
    ///
    /// # Panics
    /// When something does not start.
    pub fn start_with(server_settings: &Value) -> Self {
        Self::start_all_with(server_settings, &json!({}))
    }

    /// Starts both with further settings.
    ///
    /// # Panics
    /// When something does not start.
    pub fn start_all_with(server_settings: &Value, agent_settings: &Value) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let server = TestServer::start_with(folder.path(), server_settings);
        let token = server.join_token_file();
        let agent = TestAgent::start_with(folder.path(), "node1", &token, agent_settings);
        Self { agent, server, folder }
    }
}

/// A `weft server`.
#[derive(Debug)]
pub struct TestServer {
    /// Its process.
    pub process: Daemon,
    folder: PathBuf,
    data: PathBuf,
    config: PathBuf,
}

impl TestServer {
    /// Starts a server with its data under a folder.
    ///
    /// # Panics
    /// When it does not start.
    pub fn start(folder: &Path) -> Self {
        Self::start_with(folder, &json!({}))
    }

    /// Starts a server with further settings.
    ///
    /// # Panics
    /// When it does not start.
    pub fn start_with(folder: &Path, settings: &Value) -> Self {
        let data = folder.join("server");
        let config = folder.join("server.json");
        let port = free_port();
        let mut all = json!({
            "data_dir": data,
            "node_name": "server1",
            "bind_addr": format!("127.0.0.1:{port}"),
            "advertise_addr": format!("127.0.0.1:{port}"),
        });
        merge(&mut all, settings);
        fs::write(&config, all.to_string()).expect("a temporary folder can be written");
        let process = Self::process(folder, &config);
        Self { process, folder: folder.to_owned(), data, config }
    }

    fn process(folder: &Path, config: &Path) -> Daemon {
        Daemon::weft("server", folder, &["server", "--config", &text(config)])
    }

    /// Starts it again with the same data and ports, after it was killed.
    ///
    /// # Panics
    /// When it does not start.
    pub fn restart(&mut self) {
        self.process = Self::process(&self.folder, &self.config);
    }

    /// Returns the file with the join token for agents.
    pub fn join_token_file(&self) -> PathBuf {
        self.data.join("join-token")
    }
}

/// A `weft agent`.
#[derive(Debug)]
pub struct TestAgent {
    /// Its process.
    pub process: Daemon,
    name: String,
    folder: PathBuf,
    config: PathBuf,
}

impl TestAgent {
    /// Starts an agent that joins with a token file and waits until it serves.
    ///
    /// # Panics
    /// When it does not start.
    pub fn start(folder: &Path, node: &str, join_token_file: &Path) -> Self {
        Self::start_with(folder, node, join_token_file, &json!({}))
    }

    /// Starts one with further settings.
    ///
    /// # Panics
    /// When it does not start.
    pub fn start_with(folder: &Path, node: &str, join_token_file: &Path, settings: &Value) -> Self {
        let config = folder.join(format!("{node}.json"));
        let mut all = json!({
            "node_name": node,
            "data_dir": folder.join(node),
            "join_token_file": join_token_file,
            "bind_addr": "127.0.0.1",
            "advertise_addr": "127.0.0.1",
            "http": { "addr": format!("127.0.0.1:{}", free_port()) },
            "dns": { "addr": format!("127.0.0.1:{}", free_port()) },
        });
        merge(&mut all, settings);
        fs::write(&config, all.to_string()).expect("a temporary folder can be written");
        let process = Self::process(folder, node, &config);
        Self { process, name: node.to_owned(), folder: folder.to_owned(), config }
    }

    fn process(folder: &Path, node: &str, config: &Path) -> Daemon {
        Daemon::weft(node, folder, &["agent", "--config", &text(config)])
    }

    /// Starts it again with the same data and ports, after it was killed.
    ///
    /// # Panics
    /// When it does not start.
    pub fn restart(&mut self) {
        self.process = Self::process(&self.folder, &self.name, &self.config);
    }

    /// Changes a setting of its configuration, from its next start on.
    ///
    /// # Panics
    /// When it cannot be written.
    pub fn set(&self, field: &str, value: &Value) {
        let text = fs::read_to_string(&self.config).expect("the configuration is there");
        let mut all: Value = serde_json::from_str(&text).expect("it was written as JSON");
        all[field] = value.clone();
        fs::write(&self.config, all.to_string()).expect("a temporary folder can be written");
    }

    /// Returns its HTTP API.
    ///
    /// # Panics
    /// When it has none.
    pub fn api(&self) -> Api {
        Api::new(self.process.ready_field("http").parse().expect("an address"))
    }

    /// Returns where it answers DNS.
    ///
    /// # Panics
    /// When it does not.
    pub fn dns(&self) -> SocketAddr {
        self.process.ready_field("dns").parse().expect("an address")
    }

    /// Registers a service, given as Consul's JSON.
    ///
    /// # Panics
    /// When it is refused.
    pub fn register(&self, service: &Value) {
        let answer = self.api().put("/v1/agent/service/register", service);
        answer.and_then(Answer::ok).expect("the registration is accepted");
    }

    /// Writes a config entry.
    ///
    /// # Panics
    /// When it is refused.
    pub fn configure(&self, entry: &Value) {
        let answer = self.api().put("/v1/config", entry);
        answer.and_then(Answer::ok).expect("the config entry is accepted");
    }

    /// Lets one service call another, or refuses it (`action`: `allow` or `deny`).
    pub fn intend(&self, source: &str, destination: &str, action: &str) {
        self.configure(&json!({
            "Kind": "service-intentions",
            "Name": destination,
            "Sources": [{ "Name": source, "Action": action }],
        }));
    }

    /// Waits until the catalog's health view has this many passing instances of a service.
    ///
    /// # Panics
    /// When it does not come to that.
    pub fn wait_passing(&self, service: &str, count: usize) {
        let path = format!("/v1/health/service/{service}?passing");
        eventually(SPREAD_LIMIT, &format!("{service} has {count} passing instances"), || {
            let answer = self.api().get(&path)?.ok()?;
            let found = answer.json().as_array().map_or(0, Vec::len);
            if found == count { Ok(()) } else { Err(format!("{found}: {}", answer.body)) }
        });
    }

    /// Starts the sidecar of a registered service.
    ///
    /// # Panics
    /// When it does not start.
    pub fn sidecar(&self, service_id: &str) -> TestProxy {
        self.sidecar_with(service_id, &[])
    }

    /// Starts one with further arguments.
    ///
    /// # Panics
    /// When it does not start.
    pub fn sidecar_with(&self, service_id: &str, more: &[&str]) -> TestProxy {
        self.sidecar_in(service_id, more, &[])
    }

    /// Starts one with further arguments and variables.
    ///
    /// # Panics
    /// When it does not start.
    pub fn sidecar_in(
        &self,
        service_id: &str,
        more: &[&str],
        variables: &[(&str, &Path)],
    ) -> TestProxy {
        let name = format!("{service_id}-proxy");
        self.proxy(&name, &["--sidecar-for", service_id], more, variables)
    }

    /// Starts the proxy of all services of the host, with further arguments.
    ///
    /// # Panics
    /// When it does not start.
    pub fn host_proxy(&self, more: &[&str]) -> TestProxy {
        self.proxy("host-proxy", &["--host"], more, &[])
    }

    fn proxy(
        &self,
        name: &str,
        of: &[&str],
        more: &[&str],
        variables: &[(&str, &Path)],
    ) -> TestProxy {
        let api = self.api().addr().to_string();
        let args = [&["proxy"], of, &["--http-addr", &api, "--admin-addr"]].concat();
        let admin = format!("127.0.0.1:{}", free_port());
        let args: Vec<&str> =
            args.into_iter().chain([admin.as_str()]).chain(more.iter().copied()).collect();
        let args: Vec<String> = args.into_iter().map(str::to_owned).collect();
        let mut process = Daemon::weft_in(name, &self.folder, &borrowed(&args), variables);
        process.wait_ready();
        TestProxy { process, args, name: name.to_owned(), generation: 0 }
    }

    /// Starts a process with the arguments of a running proxy, to take over from it.
    ///
    /// # Panics
    /// When it does not start.
    pub fn successor(&self, proxy: &TestProxy) -> TestProxy {
        let generation = proxy.generation + 1;
        let mut args = proxy.args.clone();
        if !args.iter().any(|arg| arg == "--take-over") {
            args.push("--take-over".to_owned());
        }
        let name = format!("{}-{generation}", proxy.name);
        let process = Daemon::weft(&name, &self.folder, &borrowed(&args));
        TestProxy { process, args, name: proxy.name.clone(), generation }
    }
}

/// What needs an agent takes a cluster as well: its agent.
impl AsRef<TestAgent> for Cluster {
    fn as_ref(&self) -> &TestAgent {
        &self.agent
    }
}

impl AsRef<TestAgent> for TestAgent {
    fn as_ref(&self) -> &TestAgent {
        self
    }
}

/// A `weft proxy`.
#[derive(Debug)]
pub struct TestProxy {
    /// Its process.
    pub process: Daemon,
    args: Vec<String>,
    name: String,
    generation: u32,
}

impl TestProxy {
    /// Returns its admin interface.
    ///
    /// # Panics
    /// When it has none.
    pub fn admin(&self) -> Api {
        Api::new(self.process.ready_field("admin").parse().expect("an address"))
    }
}

fn borrowed(args: &[String]) -> Vec<&str> {
    args.iter().map(String::as_str).collect()
}

/// A service with a sidecar on a free port, and the local port of each upstream.
///
/// **Shape**: what `PUT /v1/agent/service/register` takes; add checks, tags or meta to it.
pub fn meshed(id: &str, name: &str, port: u16, upstreams: &[(&str, u16)]) -> Value {
    let upstreams: Vec<Value> = upstreams
        .iter()
        .map(|(service, port)| json!({ "DestinationName": service, "LocalBindPort": port }))
        .collect();
    json!({
        "ID": id,
        "Name": name,
        "Port": port,
        "Connect": { "SidecarService": {
            "Port": free_port(),
            "Proxy": { "Upstreams": upstreams },
        }},
    })
}

fn merge(base: &mut Value, more: &Value) {
    if let (Some(base), Some(more)) = (base.as_object_mut(), more.as_object()) {
        base.extend(more.iter().map(|(key, value)| (key.clone(), value.clone())));
    }
}

fn text(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}
