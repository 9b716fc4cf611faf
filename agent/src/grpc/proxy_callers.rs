//! Which process may be which proxies: any one that can open the socket may be one of them, and only
//! the host proxy several.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;

use futures::{Stream, StreamExt as _};
use parking_lot::Mutex;
use tokio_stream::wrappers::UnixListenerStream;
use tonic::Status;
use tracing::warn;
use weft_core::attestation::{Caller, Processes};
use weft_core::name::InstanceId;
use weft_runtime::net::{PeerProcess, UnixListener};

use super::attested::{Attested, attest};
use crate::servers::reason;

/// The process at the other end of a connection; `None` when it cannot be seen from here, such as
/// one in a container with processes of its own.
#[derive(Clone)]
pub(super) struct ProxyPeer(Option<Arc<PeerProcess>>);

impl ProxyPeer {
    /// Returns the number of the process; `None` when it cannot be seen from here.
    pub(super) fn pid(&self) -> Option<u32> {
        self.0.as_ref().map(|process| process.pid())
    }
}

/// Takes connections for ever.
pub(super) fn incoming(
    listener: UnixListener,
) -> impl Stream<Item = io::Result<Attested<ProxyPeer>>> + Send {
    UnixListenerStream::new(listener).map(|accepted| {
        let stream = accepted?;
        let peer = PeerProcess::of(&stream);
        let peer = peer.inspect_err(|error| {
            warn!(error = reason(error), "a proxy connects that cannot be seen from here");
        });
        Ok(Attested::new(stream, ProxyPeer(peer.ok().map(Arc::new)), ()))
    })
}

/// Who may be whom, and who is.
#[derive(Debug)]
pub(super) struct Callers {
    host_proxy: Option<Processes>,
    /// By the number of the process: as which proxies it is connected, and how often.
    seen: Mutex<BTreeMap<u32, BTreeMap<InstanceId, u32>>>,
}

/// A process is connected as a proxy for as long as this exists.
#[derive(Debug)]
pub(super) struct Claim {
    callers: Arc<Callers>,
    /// `None` for a process that cannot be told from others.
    of: Option<(u32, InstanceId)>,
}

impl Callers {
    /// Allows these processes to be the host proxy; `None` allows it to nobody.
    pub(super) fn new(host_proxy: Option<Processes>) -> Arc<Self> {
        Arc::new(Self { host_proxy, seen: Mutex::default() })
    }

    /// Checks that a process may be the host proxy.
    pub(super) fn check_host(&self, peer: Option<&ProxyPeer>) -> Result<(), Status> {
        let Some(allowed) = &self.host_proxy else {
            return Err(Status::permission_denied(
                "this agent allows no host proxy: write host_proxy { enabled = true } into its \
                 configuration",
            ));
        };
        let Some(ProxyPeer(Some(process))) = peer else {
            return Err(Status::permission_denied(
                "the host proxy must run where the agent can see its process",
            ));
        };
        let caller = attest(process).map_err(|error| Status::permission_denied(reason(&error)))?;
        is_among(allowed, &caller)
    }

    /// Lets a process be a proxy.
    pub(super) fn claim(
        self: &Arc<Self>,
        peer: Option<&ProxyPeer>,
        (proxy, is_hosted): (&InstanceId, bool),
    ) -> Result<Claim, Status> {
        if is_hosted {
            self.check_host(peer)?;
        }
        let process = peer.and_then(ProxyPeer::pid);
        // Proxies that run inside of the agent's process are the agent's own affair.
        let process = process.filter(|process| *process != std::process::id());
        self.note(process, (proxy, is_hosted))
    }

    fn note(
        self: &Arc<Self>,
        process: Option<u32>,
        (proxy, is_hosted): (&InstanceId, bool),
    ) -> Result<Claim, Status> {
        let Some(process) = process else { return Ok(Claim { callers: self.clone(), of: None }) };
        let mut seen = self.seen.lock();
        let own = seen.entry(process).or_default();
        if let Some(other) = own.keys().find(|id| *id != proxy && !is_hosted) {
            return Err(Status::permission_denied(format!(
                "the process {process} is connected as the proxy {:?}, and only a host proxy may be \
                 several",
                other.as_str()
            )));
        }
        *own.entry(proxy.clone()).or_default() += 1;
        Ok(Claim { callers: self.clone(), of: Some((process, proxy.clone())) })
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        let Some((process, proxy)) = &self.of else { return };
        let mut seen = self.callers.seen.lock();
        if let Some(own) = seen.get_mut(process) {
            if let Some(count) = own.get_mut(proxy) {
                *count -= 1;
            }
            own.retain(|_, count| *count > 0);
        }
        seen.retain(|_, own| !own.is_empty());
    }
}

fn is_among(allowed: &Processes, caller: &Caller) -> Result<(), Status> {
    match allowed.contain(caller) {
        true => Ok(()),
        false => Err(Status::permission_denied(format!(
            "this process is not the one that this agent's host_proxy allows: {caller}"
        ))),
    }
}

#[cfg(test)]
mod tests {
    use weft_core::attestation::{Cgroup, Selectors};

    use super::*;

    fn id(text: &str) -> InstanceId {
        InstanceId::parse(text).expect("an id")
    }

    #[test]
    fn only_a_host_proxy_is_several() {
        let callers = Callers::new(None);
        let web = callers.note(Some(7), (&id("web"), false)).expect("the first");
        let again = callers.note(Some(7), (&id("web"), false)).expect("the same");
        let refused = callers.note(Some(7), (&id("api"), false)).expect_err("a second");
        assert!(refused.message().contains("\"web\""), "{refused}");
        drop(web);
        callers.note(Some(7), (&id("api"), false)).expect_err("it is still the first");
        let other = callers.note(Some(8), (&id("api"), false)).expect("another process");
        drop(again);
        let api = callers.note(Some(7), (&id("api"), false)).expect("it is nobody else now");
        callers.note(Some(7), (&id("web"), true)).expect("a host proxy");
        drop((api, other));
        assert!(callers.seen.lock().is_empty());
    }

    #[test]
    fn a_host_proxy_must_be_allowed_and_seen() {
        let refused = Callers::new(None).check_host(None).expect_err("nobody is allowed");
        assert!(refused.message().contains("host_proxy { enabled = true }"), "{refused}");
        let of_user = Processes::new(Selectors { uid: Some(7), ..Selectors::default() });
        let of_user = of_user.expect("a selector");
        let hidden = Callers::new(Some(of_user.clone())).check_host(Some(&ProxyPeer(None)));
        assert!(hidden.expect_err("it is not seen").message().contains("can see its process"));
        let cgroup = Cgroup::parse("0::/system.slice/cron.service").expect("a group");
        let mut caller = Caller { uid: 7, gid: 7, pid: 42, cgroup };
        is_among(&of_user, &caller).expect("the right user");
        caller.uid = 8;
        let refused = is_among(&of_user, &caller).expect_err("another user");
        assert!(refused.message().contains("uid 8, gid 7, unit cron.service"), "{refused}");
    }
}
