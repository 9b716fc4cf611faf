//! etcd's members, with its defaults and room for the values of a run.

use std::path::Path;
use std::process::Command;

use weft_tests::Api;

use super::node::{Node, free_address, version};

/// Room for the history of a run; the default of 2 GB would end it.
const QUOTA_BYTES: u64 = 8 << 30;

pub(super) fn start(
    servers: usize,
    folder: &Path,
    program: &Path,
) -> anyhow::Result<(String, Vec<Node>)> {
    let version = version(program, "--version")?;
    let peers: Vec<_> = (0..servers).map(|_| free_address()).collect();
    let cluster: Vec<String> = peers
        .iter()
        .enumerate()
        .map(|(number, address)| format!("etcd-{number}=http://{address}"))
        .collect();
    let nodes = (0..servers).map(|number| {
        let (client, peer) = (free_address(), peers[number]);
        let (client_url, peer_url) = (format!("http://{client}"), format!("http://{peer}"));
        let mut command = Command::new(program);
        command
            .args(["--name", &format!("etcd-{number}")])
            .arg("--data-dir")
            .arg(folder.join(format!("etcd-{number}")))
            .args(["--listen-client-urls", &client_url, "--advertise-client-urls", &client_url])
            .args(["--listen-peer-urls", &peer_url, "--initial-advertise-peer-urls", &peer_url])
            .args(["--initial-cluster", &cluster.join(","), "--initial-cluster-state", "new"])
            .args(["--quota-backend-bytes", &QUOTA_BYTES.to_string()])
            .args(["--logger", "zap", "--log-level", "error"]);
        let log = folder.join(format!("etcd-{number}.log"));
        Node::start(command, &log, client, peer)
    });
    Ok((version, nodes.collect::<anyhow::Result<_>>()?))
}

/// Whether a member says that it leads.
pub(super) fn leads(node: &Node) -> bool {
    Api::new(node.door)
        .get("/metrics")
        .is_ok_and(|answer| answer.body.lines().any(|line| line == "etcd_server_is_leader 1"))
}
