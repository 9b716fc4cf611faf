//! Consul's servers: no development mode, a real data directory, the shortest timings.

use std::path::Path;
use std::process::Command;

use serde_json::json;

use super::node::{Node, free_address, version};

pub(super) fn start(
    servers: usize,
    folder: &Path,
    program: &Path,
) -> anyhow::Result<(String, Vec<Node>)> {
    let version = version(program, "version")?;
    let gossip: Vec<_> = (0..servers).map(|_| free_address()).collect();
    let nodes = (0..servers).map(|number| {
        let (http, rpc) = (free_address(), free_address());
        let config = folder.join(format!("consul-{number}.json"));
        let settings = json!({
            "server": true,
            "bootstrap_expect": servers,
            "node_name": format!("consul-{number}"),
            "data_dir": folder.join(format!("consul-{number}")),
            "bind_addr": "127.0.0.1",
            "client_addr": "127.0.0.1",
            "ports": {
                "http": http.port(), "server": rpc.port(), "serf_lan": gossip[number].port(),
                "serf_wan": -1, "dns": -1, "grpc": -1,
            },
            "retry_join": gossip.iter().map(ToString::to_string).collect::<Vec<_>>(),
            "performance": { "raft_multiplier": 1 },
            "limits": { "http_max_conns_per_client": 4_096 },
            "disable_update_check": true,
            "log_level": "WARN",
        });
        std::fs::write(&config, settings.to_string())?;
        let mut command = Command::new(program);
        command.arg("agent").arg("-config-file").arg(&config);
        let log = folder.join(format!("consul-{number}.log"));
        Node::start(command, &log, http, rpc)
    });
    Ok((version, nodes.collect::<anyhow::Result<_>>()?))
}
