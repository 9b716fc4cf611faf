//! The servers, as this agent reaches them: a connection to one of them over mTLS, renewed
//! along the list when it breaks, and the papers with which it is made.

mod ask;
mod balance;
mod clocks;
mod forward;
mod learn;
mod member;
mod renew;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::watch;
use tonic::transport::Channel;
use weft_core::ca::{Leaf, TrustBundle};
use weft_core::name::{Datacenter, NodeName, TrustDomain};
use weft_core::time::Timestamp;
use weft_runtime::clock;
use weft_runtime::rpc::{Hosts, channel_tls_any};
use weft_runtime::task::TaskTree;
use weft_runtime::tls::ClientTlsCell;

pub use forward::ForwardError;
pub use member::{Member, MemberError};

/// Who this agent is in its cluster; fixed once it has joined.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Membership {
    /// The host's name.
    pub node: NodeName,
    /// A UUID that stays with the data directory.
    pub node_id: String,
    /// The cluster's datacenter.
    pub datacenter: Datacenter,
    /// The mesh that vouches for identities.
    pub trust_domain: TrustDomain,
    /// The cluster's id.
    pub cluster_id: String,
}

#[cfg(test)]
impl Membership {
    /// The host of tests, in a cluster.
    pub(crate) fn of_test(cluster_id: &str) -> Arc<Self> {
        Arc::new(Self {
            node: "host-1".parse().expect("a name"),
            node_id: String::new(),
            datacenter: "dc1".parse().expect("a datacenter"),
            trust_domain: "t.mesh".parse().expect("a trust domain"),
            cluster_id: cluster_id.to_owned(),
        })
    }
}

/// The way to the servers; clones share it.
#[derive(Debug, Clone)]
pub struct Servers {
    inner: Arc<Inner>,
    /// For calls of the agent's own: watches, registrations, certificates.
    channel: Arc<Mutex<Channel>>,
    /// For requests of others, whose answers may be long or slowly read: they never hold up
    /// the agent's own calls.
    forwarding: Channel,
}

#[derive(Debug)]
struct Inner {
    membership: Arc<Membership>,
    hosts: Hosts,
    tls: ClientTlsCell,
    member: Mutex<Member>,
    data_dir: PathBuf,
    clock: clocks::ClockOffset,
    /// Changes when streams are to be opened anew, at another server.
    moves: watch::Sender<u64>,
}

impl Servers {
    /// Makes the way to the servers from the papers of this host; connections are opened when
    /// they are first used.
    ///
    /// # Errors
    /// [`MemberError`] when certificate, key or roots are not usable.
    pub fn new(member: Member, data_dir: &Path) -> Result<Self, MemberError> {
        let tls = ClientTlsCell::new(Arc::new(member.client_config()?));
        let hosts = Hosts::spread(member.servers.clone());
        let inner = Inner {
            membership: Arc::new(member.membership()),
            hosts: hosts.clone(),
            tls: tls.clone(),
            member: Mutex::new(member),
            data_dir: data_dir.to_owned(),
            clock: clocks::ClockOffset::default(),
            moves: watch::Sender::new(0),
        };
        Ok(Self {
            inner: Arc::new(inner),
            channel: Arc::new(Mutex::new(channel_tls_any(hosts.clone(), tls.clone()))),
            forwarding: channel_tls_any(hosts, tls),
        })
    }

    /// Returns a channel to the current server; it fails over by itself. Cheap to call.
    pub fn channel(&self) -> Channel {
        self.channel.lock().clone()
    }

    /// Has calls from now on go to the server after the current one. Those under way end where
    /// they began.
    pub fn move_on(&self) {
        let Inner { hosts, tls, .. } = &*self.inner;
        hosts.move_on();
        *self.channel.lock() = channel_tls_any(hosts.clone(), tls.clone());
    }

    /// Has calls from now on go to this server, and streams move there.
    fn move_to(&self, server: &str) {
        let Inner { hosts, tls, moves, .. } = &*self.inner;
        hosts.go_to(server);
        *self.channel.lock() = channel_tls_any(hosts.clone(), tls.clone());
        moves.send_modify(|count| *count += 1);
    }

    /// Returns a receiver that changes when streams are to be opened anew, at another server.
    pub fn moves(&self) -> watch::Receiver<u64> {
        self.inner.moves.subscribe()
    }

    /// Returns who this agent is.
    pub fn membership(&self) -> Arc<Membership> {
        self.inner.membership.clone()
    }

    /// Returns a receiver that changes with each connection made to a server.
    pub fn connections(&self) -> watch::Receiver<u64> {
        self.inner.hosts.connections()
    }

    /// Returns `host:port` of the servers.
    pub fn list(&self) -> Vec<String> {
        self.inner.hosts.list()
    }

    /// Returns whom this agent trusts.
    pub fn trust(&self) -> TrustBundle {
        self.inner.member.lock().trust.clone()
    }

    /// Returns until when the agent's own certificate is valid.
    pub fn valid_before(&self) -> Timestamp {
        self.inner.member.lock().leaf.valid_before
    }

    /// Notes what a server's clock says, in milliseconds since the Unix epoch; 0 says nothing.
    pub(crate) fn note_clock(&self, there_ms: u64) {
        self.inner.clock.note(clock::wall(), there_ms);
    }

    /// Returns by how many milliseconds this host's clock is ahead of the servers'; negative when it is
    /// behind, `None` until a server has told.
    pub fn clock_ahead_ms(&self) -> Option<i64> {
        self.inner.clock.ahead_ms()
    }

    /// Takes up new roots: written to disk, and used for connections from now on.
    ///
    /// # Errors
    /// [`MemberError`]; the roots before stay in use then.
    pub async fn set_trust(&self, trust: TrustBundle, tasks: &TaskTree) -> Result<(), MemberError> {
        self.change(tasks, move |member| member.trust = trust).await
    }

    /// Takes up a new certificate of the agent itself.
    async fn set_leaf(&self, leaf: Leaf, tasks: &TaskTree) -> Result<(), MemberError> {
        self.change(tasks, move |member| member.leaf = leaf).await
    }

    async fn change(
        &self,
        tasks: &TaskTree,
        change: impl FnOnce(&mut Member) + Send + 'static,
    ) -> Result<(), MemberError> {
        let inner = self.inner.clone();
        let changed = tasks.blocking(move || {
            // Held while writing, so that two changes do not lose one another; whoever reads
            // waits for a disk's flush at most.
            let mut member = inner.member.lock();
            let mut changed = member.clone();
            change(&mut changed);
            let config = changed.client_config()?;
            changed.save(&inner.data_dir)?;
            *member = changed;
            inner.tls.store(Arc::new(config));
            Ok(())
        });
        match changed.await {
            Ok(result) => result,
            // The agent is going down; the next start takes up what there is.
            Err(_) => Ok(()),
        }
    }

    /// Takes up where the servers are: written to disk, and tried at the next connection.
    /// Connections that are open stay.
    async fn set_list(&self, servers: Vec<String>, tasks: &TaskTree) -> Result<(), MemberError> {
        let list = servers.clone();
        self.change(tasks, move |member| member.servers = list).await?;
        self.inner.hosts.replace(servers);
        Ok(())
    }

    /// Keeps the agent's own certificate and its list of servers fresh until the tasks are
    /// cancelled.
    pub fn keep_fresh(&self, tasks: &TaskTree) {
        tasks.spawn("servers", learn::run(self.clone(), tasks.clone()));
        tasks.spawn("balance", balance::run(self.clone(), tasks.clone()));
        tasks.spawn("renew", renew::run(self.clone(), tasks.clone()));
    }
}

/// Returns why a server did not do what it was asked.
pub(crate) fn refusal(status: &tonic::Status) -> String {
    match status.message() {
        "" => status.code().description().to_owned(),
        message => message.to_owned(),
    }
}

/// Returns what an error says, with the causes below it.
pub(crate) fn reason(error: &dyn std::error::Error) -> String {
    let mut texts = vec![error.to_string()];
    let mut cause = error.source();
    while let Some(error) = cause {
        let text = error.to_string();
        // Wrappers repeat what they wrap.
        if !texts.iter().any(|before| before.contains(&text)) {
            texts.push(text);
        }
        cause = error.source();
    }
    texts.join(": ")
}
