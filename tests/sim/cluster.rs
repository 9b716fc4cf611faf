//! The servers: what runs on their hosts, and what the test may ask them directly.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use weft_core::ca::MemberRole;
use weft_core::time::Span;
use weft_runtime::task::TaskTree;
use weft_server::config::{Config, FileConfig, LimitsSection, StorageSection};
use weft_server::{Server, ServerHandle};

use crate::host::Process;
use crate::sim::Sim;
use crate::workload::TTL;

/// The port of the servers' door.
pub(crate) const PORT: u16 = 8300;
/// What a service manager waits before it starts a server again.
const RESTART_PAUSE: Duration = Duration::from_millis(500);

/// What the servers show to the test.
#[derive(Default)]
pub(crate) struct Board {
    /// The token for servers, once the first one has made it.
    pub(crate) server_token: Option<String>,
    /// The token for hosts.
    pub(crate) agent_token: Option<String>,
    /// The running servers.
    pub(crate) servers: Vec<Option<ServerHandle>>,
    /// How often each server has been started.
    pub(crate) lives: Vec<u64>,
    /// What went wrong that never may: panics of tasks.
    pub(crate) panics: Vec<String>,
    /// Starts that failed, which a start without a leader may.
    pub(crate) failed_starts: Vec<String>,
}

pub(crate) type SharedBoard = Arc<Mutex<Board>>;

/// Makes the process of a server that writes a snapshot after so many entries.
pub(crate) fn server(at: usize, dir: &Path, entries: u64, board: SharedBoard) -> Process {
    {
        let mut board = board.lock();
        board.servers.push(None);
        board.lives.push(0);
    }
    let dir = dir.join(format!("s{}", at + 1));
    Arc::new(move || {
        let (dir, board) = (dir.clone(), board.clone());
        Box::pin(async move {
            board.lock().servers[at] = None;
            loop {
                Box::pin(run(at, &dir, entries, &board)).await;
                tokio::time::sleep(RESTART_PAUSE).await;
            }
        })
    })
}

async fn run(at: usize, dir: &Path, entries: u64, board: &SharedBoard) {
    let mut join = None;
    while at > 0 && join.is_none() {
        join = board.lock().server_token.clone();
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let config = Config::resolve(FileConfig {
        data_dir: Some(dir.to_owned()),
        node_name: Some(format!("s{}", at + 1)),
        bind_addr: Some(format!("{}:{PORT}", Sim::ip(at))),
        join,
        storage: StorageSection {
            snapshot_entries: Some(entries),
            snapshot_interval: Some(Span(Duration::ZERO)),
            ..StorageSection::default()
        },
        limits: LimitsSection { session_ttl_min: Some(Span(TTL)), ..LimitsSection::default() },
        ..FileConfig::default()
    })
    .expect("a configuration without faults");
    board.lock().lives[at] += 1;
    let tasks = TaskTree::root("server");
    match Server::start(config, tasks.clone()).await {
        Ok(handle) => {
            board.lock().servers[at] = Some(handle.clone());
            if at == 0 && board.lock().agent_token.is_none() {
                leave_tokens(&handle, board).await;
            }
            let failure = tasks.failed().await;
            board.lock().panics.push(failure.to_string());
        }
        Err(error) => {
            let chain = chain(&error);
            board.lock().failed_starts.push(format!("s{}: {chain}", at + 1));
        }
    }
    board.lock().servers[at] = None;
    tasks.cancel();
    let _ = tasks.join(Duration::from_secs(10)).await;
}

async fn leave_tokens(handle: &ServerHandle, board: &SharedBoard) {
    let server = handle.mint_join_token(MemberRole::Server).await;
    let agent = handle.mint_join_token(MemberRole::Agent).await;
    if let (Ok(server), Ok(agent)) = (server, agent) {
        let mut board = board.lock();
        board.server_token = Some(server.to_string());
        board.agent_token = Some(agent.to_string());
    }
}

fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(next) = source {
        text.push_str(": ");
        text.push_str(&next.to_string());
        source = next.source();
    }
    text
}
