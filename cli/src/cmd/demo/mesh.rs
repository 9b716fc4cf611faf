//! The processes of the demo: starts them in order, kills and restarts them, finds the culprit.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, anyhow};
use serde_json::{Value, json};
use weft_runtime::clock;

use super::api::Api;
use super::child::{Child, Program};
use super::report::Report;
use super::topology::{App, Topology};
use super::web::Web;
use super::workdir::Workdir;

/// The names of the two processes that every mesh has.
pub(super) const SERVER: &str = "server";
pub(super) const AGENT: &str = "agent";

/// The shortest lifetime that a server accepts, so that a renewal falls into the tour.
pub(super) const LEAF_LIFETIME: &str = "60s";

/// A wait looks again soon at first, so that what takes milliseconds is measured in milliseconds,
/// and then at most this often, so that looking does not slow down what it waits for.
const LOOK_EVERY_MIN: Duration = Duration::from_millis(2);
const LOOK_EVERY_MAX: Duration = Duration::from_millis(50);

/// Everything that runs. The processes end with the value.
pub(super) struct Mesh {
    /// Who listens where.
    pub(super) topology: Topology,
    /// The agent's API.
    pub(super) api: Api,
    /// Plain HTTP for everything else.
    pub(super) web: Web,
    children: BTreeMap<String, Child>,
    logs: PathBuf,
    // Dropped after the children, whose data is in it.
    workdir: Workdir,
}

impl Mesh {
    /// Makes a mesh in which nothing runs yet.
    pub(super) fn new(topology: Topology, workdir: Workdir) -> anyhow::Result<Self> {
        let web = Web::new();
        let api = Api::new(topology.http_port, web.clone());
        let logs = workdir.folder("logs")?;
        Ok(Self { topology, api, web, children: BTreeMap::new(), logs, workdir })
    }

    /// Starts a process.
    pub(super) fn start(&mut self, program: Program) -> anyhow::Result<()> {
        let name = program.name.clone();
        self.children.insert(name, Child::start(program, &self.logs)?);
        Ok(())
    }

    /// Kills a process as `kill -9` does; returns its id.
    pub(super) async fn kill(&mut self, name: &str) -> anyhow::Result<u32> {
        let child = self.children.get_mut(name).with_context(|| format!("no process {name}"))?;
        let pid = child.pid().with_context(|| format!("{name} has ended already"))?;
        child.kill().await?;
        Ok(pid)
    }

    /// Starts a killed process again, as it was started first.
    pub(super) fn restart(&mut self, name: &str) -> anyhow::Result<()> {
        let child = self.children.get(name).with_context(|| format!("no process {name}"))?;
        let program = child.program().clone();
        self.start(program)
    }

    /// Ends all processes and waits until they are gone, so that their data can be removed.
    pub(super) async fn stop(&mut self) {
        let endings = self.children.values_mut().map(Child::kill);
        for ending in futures::future::join_all(endings).await {
            // One that has ended already is what is wanted.
            if let Err(error) = ending {
                tracing::debug!(%error, "a process was not killed");
            }
        }
    }

    /// Keeps the work directory, and says so.
    pub(super) fn keep_for_a_look(&mut self, report: &mut Report) {
        match self.workdir.keep() {
            Ok(path) => report.note(&format!("data and logs are kept in {path}")),
            Err(error) => tracing::debug!(%error, "the work directory is not kept"),
        }
    }

    /// Returns the id of a running process.
    pub(super) fn pid(&self, name: &str) -> Option<u32> {
        self.children.get(name).and_then(Child::pid)
    }

    /// Returns the ids of all running processes.
    pub(super) fn pids(&self) -> Vec<u32> {
        self.children.values().filter_map(Child::pid).collect()
    }

    /// Returns how many processes there are.
    pub(super) fn count(&self) -> usize {
        self.children.len()
    }

    /// Returns the work directory.
    pub(super) fn workdir(&self) -> &Workdir {
        &self.workdir
    }

    /// Writes a file into the work directory, for the commands that the tour names.
    pub(super) fn write(&self, name: &str, content: &str) -> anyhow::Result<PathBuf> {
        let path = self.workdir.path().join(name);
        std::fs::write(&path, content).with_context(|| format!("writing {}", path.display()))?;
        Ok(path)
    }

    /// Returns the program of the server, after writing its configuration.
    pub(super) fn server(&self) -> anyhow::Result<Program> {
        let config = json!({
            "node_name": "server-1",
            "data_dir": self.workdir.folder("server-data")?,
            "bind_addr": format!("127.0.0.1:{}", self.topology.server_port),
            "advertise_addr": format!("127.0.0.1:{}", self.topology.server_port),
            "default_intention_policy": "deny",
            "leaf_lifetime": LEAF_LIFETIME,
        });
        self.configured(SERVER, &config)
    }

    /// Returns the program of the agent, after writing its configuration.
    pub(super) fn agent(&self) -> anyhow::Result<Program> {
        let config = json!({
            "node_name": "demo-host",
            "data_dir": self.workdir.folder("agent-data")?,
            "join_token_file": self.join_token(),
            "bind_addr": "127.0.0.1",
            "advertise_addr": "127.0.0.1",
            "http": { "addr": format!("127.0.0.1:{}", self.topology.http_port) },
            "dns": { "addr": format!("127.0.0.1:{}", self.topology.dns_port) },
        });
        self.configured(AGENT, &config)
    }

    fn configured(&self, name: &str, config: &Value) -> anyhow::Result<Program> {
        let path = self.write(&format!("{name}.json"), &format!("{config:#}\n"))?;
        let path = path.to_str().context("the temporary directory's path is not text")?;
        Ok(Program::new(name, &[name, "--config", path]))
    }

    /// Returns where the server leaves the token with which an agent joins.
    pub(super) fn join_token(&self) -> PathBuf {
        self.workdir.path().join("server-data").join("join-token")
    }

    /// Returns the program of an app.
    pub(super) fn app(app: &App) -> Program {
        Program { name: app.id.to_owned(), args: app.arguments() }
    }

    /// Returns the program of an app's sidecar.
    pub(super) fn sidecar(&self, app: &App) -> Program {
        let http = format!("127.0.0.1:{}", self.topology.http_port);
        let admin = format!("127.0.0.1:{}", app.admin_port);
        let args = ["proxy", "--sidecar-for", app.id, "--http-addr", &http, "--admin-addr", &admin];
        Program::new(sidecar_name(app.id), &args)
    }

    /// Returns processes that ended by themselves since this was asked last, with how they ended.
    pub(super) fn fallen(&mut self) -> Vec<String> {
        let mut fallen = Vec::new();
        for child in self.children.values_mut() {
            if child.pid().is_some()
                && let Some(status) = child.ended()
            {
                fallen.push(format!("{} ended by itself ({status})", child.name()));
            }
        }
        fallen
    }

    /// Looks until there is something to return, at most for `limit`; tells how long it took.
    ///
    /// `look` returns what is missing while it is. A process that ends meanwhile ends the wait.
    pub(super) async fn eventually<T>(
        &mut self,
        report: &mut Report,
        what: &str,
        limit: Duration,
        mut look: impl AsyncFnMut(&Mesh) -> Result<T, String>,
    ) -> anyhow::Result<(T, Duration)> {
        let started = clock::instant();
        loop {
            let missing = match look(self).await {
                Ok(found) => return Ok((found, started.elapsed())),
                Err(missing) => missing,
            };
            if let Some(fallen) = self.fallen().first() {
                return Err(anyhow!("waiting until {what}: {fallen}"));
            }
            if started.elapsed() >= limit {
                let seconds = limit.as_secs_f64();
                return Err(anyhow!("waited {seconds:.0} s until {what}; still {missing}"));
            }
            let seconds = started.elapsed().as_secs_f64();
            report.progress(&format!("{seconds:5.1} s  until {what}: {missing}"));
            let pause = (started.elapsed() / 8).clamp(LOOK_EVERY_MIN, LOOK_EVERY_MAX);
            tokio::time::sleep(pause).await;
        }
    }

    /// Shows the ends of the logs that matter after a fault: of processes that ended by
    /// themselves, else of those that are named.
    pub(super) fn show_logs(&mut self, report: &mut Report, named: &[String]) {
        const LINES: usize = 15;
        self.fallen();
        let fell: Vec<&Child> =
            self.children.values().filter(|child| child.pid().is_none()).collect();
        let named = named.iter().filter_map(|name| self.children.get(name));
        let shown: Vec<&Child> = if fell.is_empty() { named.collect() } else { fell };
        for child in shown {
            let source = format!("{} ({})", child.name(), child.log().display());
            report.log_lines(&source, &child.last_lines(LINES));
        }
    }
}

/// Returns the name of an app's sidecar among the processes.
pub(super) fn sidecar_name(id: &str) -> String {
    format!("{id}-sidecar")
}
