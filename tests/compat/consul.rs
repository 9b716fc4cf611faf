//! The real one: a single Consul server with a name and a data directory of its own.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use serde_json::json;
use tempfile::TempDir;
use weft_tests::ports::free_port;
use weft_tests::{Api, Daemon, eventually};

/// It elects itself within some seconds.
const START_LIMIT: Duration = Duration::from_secs(30);

/// Whether it asks for tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Acls {
    /// Everyone may do everything.
    Off,
    /// Nothing may be done without a token.
    On,
}

/// A running Consul.
pub(crate) struct Consul {
    // The process first: it ends before its folder goes.
    _process: Daemon,
    api: Api,
    _folder: TempDir,
}

/// Returns the Consul binary, if one was named.
pub(crate) fn program() -> Option<PathBuf> {
    std::env::var_os("WEFT_COMPAT_CONSUL").map(PathBuf::from).filter(|path| path.is_file())
}

impl Consul {
    /// Starts one and waits until it leads and its own node stands in the catalog, or, where that
    /// may not be seen, until its ACLs are in force.
    pub(crate) fn start(program: &Path, acls: Acls) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let http = free_port();
        let settings = json!({
            "server": true, "bootstrap_expect": 1, "node_name": "node1",
            "data_dir": folder.path().join("data"),
            "bind_addr": "127.0.0.1", "client_addr": "127.0.0.1",
            "ports": { "http": http, "server": free_port(), "serf_lan": free_port(),
                       "serf_wan": -1, "dns": -1, "grpc": free_port() },
            "performance": { "raft_multiplier": 1 },
            "connect": { "enabled": true },
            "acl": { "enabled": acls == Acls::On, "default_policy": "deny" },
            "disable_update_check": true,
            "log_level": "ERROR",
        });
        let config = folder.path().join("consul.json");
        std::fs::write(&config, settings.to_string()).expect("a temporary folder can be written");
        let mut command = Command::new(program);
        command.arg("agent").arg("-config-file").arg(&config);
        let process = Daemon::program("consul", folder.path(), command);
        let api = Api::new((std::net::Ipv4Addr::LOCALHOST, http).into());
        eventually(START_LIMIT, "Consul serves", || {
            let (path, text) = match acls {
                Acls::Off => ("/v1/health/node/node1", "serfHealth"),
                Acls::On => ("/v1/acl/tokens", "Permission denied"),
            };
            let answer = api.get(path)?;
            if answer.body.contains(text) { Ok(()) } else { Err(format!("{path}: {answer:?}")) }
        });
        Self { _process: process, api, _folder: folder }
    }

    pub(crate) fn api(&self) -> Api {
        self.api
    }
}
