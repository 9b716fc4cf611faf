//! One agent and its host: what it holds at rest, and what ten thousand checks cost it.

use std::net::Ipv4Addr;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use weft_tests::cluster::TestServer;
use weft_tests::{TestAgent, proc};

/// Checks of the host, ten of each service.
const CHECKS: usize = 10_000;
const CHECKS_PER_SERVICE: usize = 10;
/// Time from one run of a check to its next.
const INTERVAL: &str = "10s";
/// What is started settles: certificates, first runs, first syncs.
const SETTLE: Duration = Duration::from_secs(15);
/// How long the agent's time on processors is counted.
const COUNTED: Duration = Duration::from_secs(30);
/// The time until all checks have passed once.
const PASS_LIMIT: Duration = Duration::from_secs(60);

/// Prints what an agent without services holds, and what one with many checks costs.
pub(crate) fn measure() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let server = TestServer::start(folder.path());
    let token = server.join_token_file();
    let mut idle = TestAgent::start(folder.path(), "idle", &token);
    let port = responder()?;
    let settings = json!({ "services": services(port) });
    let mut busy = TestAgent::start_with(folder.path(), "busy", &token, &settings);
    // On a busy machine they may warn of delays.
    idle.process.expect_log("");
    busy.process.expect_log("");
    let began = Instant::now();
    loop {
        let checks = busy.api().get("/v1/agent/checks").map_err(anyhow::Error::msg)?.json();
        let checks = checks.as_object().context("checks")?;
        let other = checks.values().find(|check| check["Status"] != "passing");
        if checks.len() == CHECKS && other.is_none() {
            break;
        }
        let so_far = checks.len();
        let log = || busy.process.log();
        ensure!(
            began.elapsed() < PASS_LIMIT,
            "{so_far} of {CHECKS} checks, not passing: {other:?}\n{}",
            log()
        );
        thread::sleep(Duration::from_secs(1));
    }
    thread::sleep(SETTLE);
    let share = |pid: u32, from: f64| (proc::cpu_seconds(pid) - from) / COUNTED.as_secs_f64();
    let (idle, busy) = (idle.process.pid(), busy.process.pid());
    let from = (proc::cpu_seconds(idle), proc::cpu_seconds(busy));
    thread::sleep(COUNTED);
    let show = |what: &str, pid: u32, from: f64| {
        let (memory, cpu) = (proc::rss_mb(pid), share(pid, from) * 1e2);
        println!("{what:<46}{memory:>10.1} MB{cpu:>10.2} % of a core");
    };
    show("an agent at rest", idle, from.0);
    show(&format!("an agent with {CHECKS} http checks at {INTERVAL}"), busy, from.1);
    Ok(())
}

fn services(port: u16) -> Vec<Value> {
    let check = |service: usize, at: usize| {
        json!({
            "name": format!("page {at}"), "interval": INTERVAL, "timeout": "5s",
            "http": format!("http://127.0.0.1:{port}/{service}/{at}"),
        })
    };
    let service = |number: usize| {
        let checks: Vec<Value> = (0..CHECKS_PER_SERVICE).map(|at| check(number, at)).collect();
        json!({ "name": format!("service-{number}"), "port": port, "checks": checks })
    };
    (0..CHECKS / CHECKS_PER_SERVICE).map(service).collect()
}

/// Answers every request in a thread that ends with the program.
fn responder() -> anyhow::Result<u16> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let listener = runtime.block_on(tokio::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)))?;
    let port = listener.local_addr()?.port();
    thread::Builder::new().name("responder".into()).spawn(move || {
        runtime.block_on(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(respond(stream));
            }
        });
    })?;
    Ok(port)
}

/// Answers what comes until the connection ends. Who asks sends no bodies.
async fn respond(mut stream: tokio::net::TcpStream) -> std::io::Result<()> {
    let (mut request, mut buffer) = (Vec::new(), [0_u8; 4096]);
    loop {
        let read = stream.read(&mut buffer).await?;
        if read == 0 {
            return Ok(());
        }
        request.extend_from_slice(&buffer[..read]);
        if request.ends_with(b"\r\n\r\n") {
            request.clear();
            stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").await?;
        }
    }
}
