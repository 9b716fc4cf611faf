//! Two real agents beside the simulated ones: how soon what one of them is told stands in the
//! DNS of the other.

use std::net::{SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use serde_json::json;
use weft_tests::TestAgent;
use weft_tests::http::Answer;

use crate::server::Server;
use crate::show;

/// The time for one change to be seen.
const LIMIT: Duration = Duration::from_secs(10);
/// Between two questions: short beside what is measured.
const PAUSE: Duration = Duration::from_micros(500);
/// Services that come and go in turn: names that were asked for before, and are followed.
const NAMES: usize = 20;

/// Registers, fails and removes services at one agent, and looks for each in the other's DNS.
pub(crate) async fn measure(server: &Server, looks: usize) -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let token = server.join_token_file();
    let teller = TestAgent::start(folder.path(), "teller", &token);
    let asker = TestAgent::start(folder.path(), "asker", &token);
    let (api, dns) = (teller.api(), asker.dns());
    let memory = weft_tests::proc::rss_mb(asker.process.pid());
    println!("{:<46} {memory:>8.1} MB resident", "a real agent at rest");
    // The processes wait in threads: the simulated agents answer signs of life meanwhile.
    let (registered, failed) = tokio::task::spawn_blocking(move || {
        let put = |path: &str, body: &serde_json::Value| {
            let said = api.put(path, body).and_then(Answer::ok);
            said.map(drop).map_err(anyhow::Error::msg)
        };
        let asker = Asker::new(dns)?;
        let (mut registered, mut failed) = (Vec::new(), Vec::new());
        for look in 0..looks {
            let name = format!("look-{}", look % NAMES);
            let check = json!({ "TTL": "10m", "Status": "passing" });
            let start = Instant::now();
            put("/v1/agent/service/register", &json!({ "Name": name, "Check": check }))?;
            registered.push(asker.wait(&name, true, start)?);
            let start = Instant::now();
            put(&format!("/v1/agent/check/fail/service:{name}"), &json!({}))?;
            failed.push(asker.wait(&name, false, start)?);
            put(&format!("/v1/agent/service/deregister/{name}"), &json!({}))?;
        }
        anyhow::Ok((registered, failed))
    })
    .await??;
    show("a registration in another agent's DNS", registered);
    show("a failed check in another agent's DNS", failed);
    drop((teller, asker));
    Ok(())
}

/// Asks one agent's DNS.
struct Asker {
    socket: UdpSocket,
}

impl Asker {
    fn new(dns: SocketAddr) -> anyhow::Result<Self> {
        let socket = UdpSocket::bind("127.0.0.1:0")?;
        socket.connect(dns)?;
        socket.set_read_timeout(Some(LIMIT))?;
        Ok(Self { socket })
    }

    /// Waits until a service has an address, or none; returns how long that took from a start.
    fn wait(&self, service: &str, is_there: bool, start: Instant) -> anyhow::Result<Duration> {
        let query = query(service);
        loop {
            self.socket.send(&query)?;
            let mut answer = [0; 512];
            let length = self.socket.recv(&mut answer).context("an answer of the agent's DNS")?;
            ensure!(length >= 12, "an answer of {length} bytes");
            let took = start.elapsed();
            let answers = u16::from_be_bytes([answer[6], answer[7]]);
            if (answers > 0) == is_there {
                return Ok(took);
            }
            ensure!(took < LIMIT, "{service}: {answers} addresses after {took:?}");
            std::thread::sleep(PAUSE);
        }
    }
}

/// Asks for the addresses of a service.
///
/// **Source**: RFC 1035 §4.1.
fn query(service: &str) -> Vec<u8> {
    let mut query = vec![0, 7, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    for label in [service, "service", "mesh"] {
        query.push(u8::try_from(label.len()).expect("a short name"));
        query.extend(label.bytes());
    }
    query.extend([0, 0, 1, 0, 1]);
    query
}
