//! Two proxies from a snapshot on paper, for measurements: `pair write DIR A_PORT B_PORT
//! BACKEND http|tcp` writes `a.json` and `b.json`; `pair run FILE` runs one proxy with one
//! worker.

#[path = "../tests/it/support/mod.rs"]
mod support;

use std::net::SocketAddr;

use anyhow::{Context, bail};
use support::{Mesh, Upstream};
use weft_proxy::Proxy;
use weft_proxy::config::{Config, FileConfig};
use weft_runtime::task::TaskTree;

fn main() -> anyhow::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match words[..] {
        ["write", dir, a, b, backend, protocol] => write(dir, a, b, backend, protocol),
        ["run", file] => run(file),
        _ => bail!("see the head of this file"),
    }
}

fn write(dir: &str, a: &str, b: &str, backend: &str, protocol: &str) -> anyhow::Result<()> {
    let at =
        |port: &str| -> anyhow::Result<SocketAddr> { Ok(format!("127.0.0.1:{port}").parse()?) };
    let protocol = protocol.parse()?;
    let mesh = Mesh::new("bench.mesh");
    let upstream = Upstream::of("web", (at(a)?, protocol), vec![at(b)?]);
    let unused = SocketAddr::from(([127, 0, 0, 1], 0));
    let client = mesh.snapshot("client", (unused, unused), protocol, &[upstream]);
    let server = mesh.snapshot("web", (at(b)?, backend.parse()?), protocol, &[]);
    for (name, snapshot) in [("a.json", client), ("b.json", server)] {
        let path = std::path::Path::new(dir).join(name);
        std::fs::write(&path, serde_json::to_vec_pretty(&snapshot)?).context("cannot write")?;
    }
    Ok(())
}

fn run(file: &str) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let file = FileConfig {
            snapshot_file: Some(file.to_owned()),
            admin_addr: Some("127.0.0.1:0".to_owned()),
            workers: Some(1),
            ..FileConfig::default()
        };
        let Ok(config) = Config::resolve(file) else { bail!("a bad configuration") };
        let tasks = TaskTree::root("proxy");
        let mut proxy = Proxy::start(config, tasks.clone()).await?;
        proxy.ready().await?;
        println!("admin on {}", proxy.admin_addr());
        weft_runtime::signal::shutdown().await?;
        tasks.cancel();
        tasks.join(std::time::Duration::from_secs(20)).await?;
        Ok(())
    })
}
