//! Our own servers, with their defaults, mutual TLS between them included.

use std::path::Path;
use std::process::Command;
use std::time::Instant;

use anyhow::{Context, ensure};
use serde_json::json;

use super::node::{Node, free_address, version};
use super::{PAUSE, START_LIMIT};

pub(super) fn start(
    servers: usize,
    folder: &Path,
    program: &Path,
) -> anyhow::Result<(String, Vec<Node>)> {
    let version = version(program, "--version")?;
    let mut nodes: Vec<Node> = Vec::new();
    for number in 0..servers {
        let (http, rpc) = (free_address(), free_address());
        let mut settings = json!({
            "node_name": format!("weft-{number}"),
            "data_dir": folder.join(format!("weft-{number}")),
            "bind_addr": rpc.to_string(),
            "advertise_addr": rpc.to_string(),
            "http": { "addr": http.to_string() },
            "limits": { "http_max_conns_per_client": 4_096 },
            "log": { "level": "warn" },
        });
        if number > 0 {
            settings["join"] = server_token(folder)?.into();
        }
        let config = folder.join(format!("weft-{number}.json"));
        std::fs::write(&config, settings.to_string())?;
        let ready = folder.join(format!("weft-{number}.ready"));
        let mut command = Command::new(program);
        command.arg("server").arg("--config").arg(&config).arg("--ready-file").arg(&ready);
        let log = folder.join(format!("weft-{number}.log"));
        nodes.push(Node::start(command, &log, http, rpc)?);
        wait_for(&ready, nodes.last_mut().context("just added")?)?;
    }
    Ok((version, nodes))
}

fn wait_for(ready: &Path, node: &mut Node) -> anyhow::Result<()> {
    let start = Instant::now();
    while !ready.exists() {
        if let Some(words) = node.last_words() {
            anyhow::bail!("a server ended: {words}");
        }
        ensure!(start.elapsed() < START_LIMIT, "a server is not ready in time");
        std::thread::sleep(PAUSE);
    }
    Ok(())
}

/// A join token for a further server.
fn server_token(folder: &Path) -> anyhow::Result<String> {
    let path = folder.join("weft-0/server-join-token");
    let token = std::fs::read_to_string(&path);
    let token = token.with_context(|| format!("reading {}", path.display()))?;
    Ok(token.trim().to_owned())
}
