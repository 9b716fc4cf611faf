//! How a host becomes a member: papers from an earlier run, or a join token redeemed at a
//! server that is known by the token's fingerprint alone.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tonic::Code;
use tracing::{info, warn};
use weft_core::ca::{KeyKind, Leaf, MemberRole, TrustBundle};
use weft_core::identity::{SpiffeId, Workload};
use weft_core::name::{Datacenter, InvalidName, NodeName, TrustDomain};
use weft_core::time::Timestamp;
use weft_proto::grpc::v1::join_client::JoinClient;
use weft_proto::grpc::v1::{JoinReply, JoinRequest, Role};
use weft_proto::join_token::{InvalidJoinToken, JoinToken};
use weft_runtime::backoff::Backoff;
use weft_runtime::rpc::{Hosts, channel_tls_any};
use weft_runtime::task::{TaskFailure, TaskTree};
use weft_runtime::tls::{
    ClientTlsCell, PeerCertificate, TlsError, certificates_from_pem, client_config_pinned,
    fingerprint, peer_certificate, refused_for_time,
};
use weft_runtime::{clock, entropy};

use crate::config::{Config, JoinSource};
use crate::leaf::{self, KeyError, KeyRequest};
use crate::servers::{Member, MemberError, Membership, refusal};

/// How long a server is looked for before the agent gives up: long enough for a server that
/// starts at the same time, short enough for a person who waits.
const SEARCH_LIMIT: Duration = Duration::from_secs(30);
/// The time for one attempt: a server signs in milliseconds, a commit may take longer.
const ATTEMPT_LIMIT: Duration = Duration::from_secs(10);
/// The pauses between attempts.
const PAUSE_MIN: Duration = Duration::from_millis(200);
const PAUSE_MAX: Duration = Duration::from_secs(3);

/// Says why the host is no member of a cluster.
#[derive(Debug, thiserror::Error)]
pub enum JoinError {
    /// The server's answer contradicts itself or the token.
    #[error("the server's answer to the join request is not usable: {reason}")]
    Answer {
        /// What is wrong with it.
        reason: String,
    },
    /// This host and the servers do not agree on the time.
    #[error("this host's clock says {}, and {reason}; set the clock, by NTP for one, and join again", here.rfc3339())]
    Clock {
        /// This host's time.
        here: Timestamp,
        /// What does not fit it.
        reason: String,
    },
    /// The host belongs to another cluster.
    #[error(
        "the data directory {} belongs to cluster {cluster_id}, and the join token to another \
         one; start without the token, or with an empty data directory to join anew",
        data_dir.display()
    )]
    ForeignCluster {
        /// The data directory.
        data_dir: PathBuf,
        /// The cluster it belongs to.
        cluster_id: String,
    },
    /// The host has another name, or is in another datacenter, than configured.
    #[error(
        "the data directory {} belongs to {what} {found:?}, but {wanted:?} is configured",
        data_dir.display()
    )]
    ForeignHost {
        /// The data directory.
        data_dir: PathBuf,
        /// `node` or `datacenter`.
        what: &'static str,
        /// As on disk.
        found: String,
        /// As configured.
        wanted: String,
    },
    /// No key could be made.
    #[error("cannot make the key of this host")]
    Key(#[from] KeyError),
    /// The papers of an earlier run cannot be used.
    #[error(transparent)]
    Member(#[from] MemberError),
    /// There are neither papers nor a token.
    #[error(
        "this host is not a member of a cluster yet: give a join token with `--join TOKEN`; \
         `weft server` printed one on its first start and wrote it to `join-token` in its data \
         directory"
    )]
    NoToken,
    /// The certificate of an earlier run is over and there is no token to get another.
    #[error(
        "the certificate in {} expired at {}; give a join token with `--join TOKEN` to get \
         another",
        data_dir.display(), expired.rfc3339()
    )]
    PapersExpired {
        /// The data directory.
        data_dir: PathBuf,
        /// When.
        expired: Timestamp,
    },
    /// The server does not take the token.
    #[error("the server refuses the join token: {reason}")]
    Refused {
        /// What the server said.
        reason: String,
    },
    /// The work was cut short.
    #[error("the agent was stopped while it joined")]
    Stopped,
    /// A blocking step failed.
    #[error("a step of joining failed")]
    Task(#[from] TaskFailure),
    /// TLS could not be set up.
    #[error("cannot set up TLS for joining")]
    Tls(#[from] TlsError),
    /// The text given is no token.
    #[error("the join token is not usable: {0}")]
    Token(#[from] InvalidJoinToken),
    /// The token is over.
    #[error(
        "the join token expired at {}, and this host's clock says {}; a server whose token is over \
         writes a new one to `join-token` in its data directory when it starts again",
        expired.rfc3339(), clock::wall().rfc3339()
    )]
    TokenExpired {
        /// When.
        expired: Timestamp,
    },
    /// The token's file cannot be read.
    #[error("cannot read the join token from {}", path.display())]
    TokenFile {
        /// The file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// The token makes something else of its holder.
    #[error("the join token is for a {0}, and this is an agent")]
    TokenRole(MemberRole),
    /// No server answered.
    #[error("none of the servers {} can be reached: {reason}", servers.join(", "))]
    Unreachable {
        /// The servers tried.
        servers: Vec<String>,
        /// What the last one came to.
        reason: String,
    },
}

/// Returns the host's papers: those of an earlier run if they are still good, else new ones.
///
/// # Errors
/// [`JoinError`]; nothing is written then.
pub async fn join(config: &Config, tasks: &TaskTree) -> Result<Member, JoinError> {
    let data_dir = config.data_dir.clone();
    let kept = tasks.blocking(move || Member::load(&data_dir)).await??;
    let now = clock::wall();
    let Some(mut kept) = kept else {
        let token = token(config, tasks).await?.ok_or(JoinError::NoToken)?;
        return redeem(config, &token, entropy::uuid(), tasks).await;
    };
    refuse_other_host(config, &kept.membership())?;
    let token = token(config, tasks).await;
    if let Ok(Some(token)) = &token
        && !kept.trusts(&token.root_fingerprint)
    {
        let cluster_id = kept.membership().cluster_id;
        return Err(JoinError::ForeignCluster { data_dir: config.data_dir.clone(), cluster_id });
    }
    if !kept.is_expired(now) {
        // A token that is over, used up or gone does not matter to a member. Servers that are
        // configured do: those of the papers may have moved.
        if !config.servers.is_empty() {
            kept.servers.clone_from(&config.servers);
        } else if let Ok(Some(token)) = &token {
            // Tried after those of the papers, which are newer as a rule.
            let known = kept.servers.clone();
            kept.servers.extend(token.servers.iter().filter(|it| !known.contains(it)).cloned());
        }
        return Ok(kept);
    }
    let (data_dir, expired) = (config.data_dir.clone(), kept.leaf.valid_before);
    let token = token?.ok_or(JoinError::PapersExpired { data_dir, expired })?;
    redeem(config, &token, kept.membership().node_id, tasks).await
}

fn refuse_other_host(config: &Config, kept: &Membership) -> Result<(), JoinError> {
    let foreign = |what, found: String, wanted: String| {
        Err(JoinError::ForeignHost { data_dir: config.data_dir.clone(), what, found, wanted })
    };
    if kept.node != config.node_name {
        return foreign("node", kept.node.to_string(), config.node_name.to_string());
    }
    match &config.datacenter {
        Some(wanted) if *wanted != kept.datacenter => {
            foreign("datacenter", kept.datacenter.to_string(), wanted.to_string())
        }
        Some(_) | None => Ok(()),
    }
}

async fn token(config: &Config, tasks: &TaskTree) -> Result<Option<JoinToken>, JoinError> {
    let text = match &config.join {
        JoinSource::None => return Ok(None),
        JoinSource::Token(text) => text.clone(),
        JoinSource::File(path) => {
            let path = path.clone();
            let read = path.clone();
            (tasks.blocking(move || std::fs::read_to_string(read)).await?)
                .map_err(|source| JoinError::TokenFile { path, source })?
        }
    };
    Ok(Some(text.parse()?))
}

async fn redeem(
    config: &Config,
    token: &JoinToken,
    node_id: String,
    tasks: &TaskTree,
) -> Result<Member, JoinError> {
    match token.role {
        MemberRole::Agent => {}
        MemberRole::Server => return Err(JoinError::TokenRole(token.role)),
    }
    if token.expires <= clock::wall() {
        return Err(JoinError::TokenExpired { expired: token.expires });
    }
    let key = tasks.blocking(|| leaf::generate(KeyKind::default())).await??;
    let request = JoinRequest {
        secret: token.secret.clone().into(),
        role: Role::Agent.into(),
        node_name: config.node_name.to_string(),
        csr_der: key.csr_der.clone().into(),
    };
    let asking = ask(config, token, request);
    let reply = tokio::select! {
        () = tasks.cancelled() => return Err(JoinError::Stopped),
        reply = asking => reply?,
    };
    let member = accept(config, token, node_id, key, reply)?;
    let (kept, data_dir) = (member.clone(), config.data_dir.clone());
    let saved = tasks.blocking(move || {
        std::fs::create_dir_all(&data_dir)
            .map_err(|source| MemberError::File { path: data_dir.clone(), source })?;
        kept.save(&data_dir)
    });
    saved.await??;
    let Membership { node, datacenter, cluster_id, .. } = member.membership();
    info!(%node, %datacenter, %cluster_id, "joined the cluster");
    Ok(member)
}

/// Asks one server after the other until one answers, for a bounded time.
async fn ask(
    config: &Config,
    token: &JoinToken,
    request: JoinRequest,
) -> Result<JoinReply, JoinError> {
    let servers = match config.servers.as_slice() {
        [] => token.servers.clone(),
        configured => configured.to_vec(),
    };
    let tls = client_config_pinned(&token.root_fingerprint, &["h2"])?;
    let channel = channel_tls_any(Hosts::new(servers.clone()), ClientTlsCell::new(Arc::new(tls)));
    let mut client = JoinClient::new(channel);
    let mut pauses = Backoff::new(PAUSE_MIN, PAUSE_MAX, entropy::rng());
    let give_up = clock::instant() + SEARCH_LIMIT;
    loop {
        let attempt = tokio::time::timeout(ATTEMPT_LIMIT, client.join(request.clone())).await;
        let reason = match attempt {
            Ok(Ok(reply)) => return Ok(reply.into_inner()),
            Ok(Err(status)) => match status.code() {
                Code::Unavailable | Code::DeadlineExceeded | Code::Unknown | Code::Cancelled => {
                    if let Some(reason) = refused_for_time(&status) {
                        // Waiting does not help.
                        return Err(JoinError::Clock { here: clock::wall(), reason });
                    }
                    refusal(&status)
                }
                _ => return Err(JoinError::Refused { reason: status.message().to_owned() }),
            },
            Err(_) => format!("no answer within {} s", ATTEMPT_LIMIT.as_secs()),
        };
        let pause = pauses.next();
        if clock::instant() + pause >= give_up {
            return Err(JoinError::Unreachable { servers, reason });
        }
        warn!(?servers, %reason, "no server to join yet");
        tokio::time::sleep(pause).await;
    }
}

/// Checks that the answer is what was asked for: our name, our key, the pinned root.
fn accept(
    config: &Config,
    token: &JoinToken,
    node_id: String,
    key: KeyRequest,
    reply: JoinReply,
) -> Result<Member, JoinError> {
    let wrong = |reason: String| JoinError::Answer { reason };
    let invalid = |error: InvalidName| wrong(error.to_string());
    let datacenter = Datacenter::parse(&reply.datacenter).map_err(invalid)?;
    if let Some(wanted) = config.datacenter.as_ref().filter(|wanted| **wanted != datacenter) {
        return Err(JoinError::ForeignHost {
            data_dir: config.data_dir.clone(),
            what: "datacenter",
            found: datacenter.to_string(),
            wanted: wanted.to_string(),
        });
    }
    let trust_domain = TrustDomain::parse(&reply.trust_domain).map_err(invalid)?;
    let trust = TrustBundle {
        trust_domain: trust_domain.clone(),
        active_root: active_root(&reply.roots_pem)?,
        roots_pem: reply.roots_pem,
        roots: Vec::new(),
        revoked: Vec::new(),
        retired: Vec::new(),
    };
    let leaf = leaf(&reply.certificate_pem, key.private_key_pem)?;
    let membership = Membership {
        node: config.node_name.clone(),
        node_id,
        datacenter,
        trust_domain,
        cluster_id: reply.cluster_id,
    };
    refuse_other_identity(&reply.certificate_pem, &membership)?;
    let servers = match config.servers.as_slice() {
        [] if reply.servers.is_empty() => token.servers.clone(),
        [] => reply.servers,
        configured => configured.to_vec(),
    };
    let member = Member::new(&membership, servers, trust, leaf);
    if !member.trusts(&token.root_fingerprint) {
        return Err(wrong("the root that the token names is not among the roots".to_owned()));
    }
    let (here, there) = (clock::wall(), Timestamp(reply.time_ms));
    if there.0 > 0 && !(member.leaf.valid_after..member.leaf.valid_before).contains(&here) {
        let reason = format!("the server's {}", there.rfc3339());
        return Err(JoinError::Clock { here, reason });
    }
    // Finds out now whether certificate, key and roots belong together.
    member.client_config()?;
    Ok(member)
}

fn active_root(roots_pem: &[String]) -> Result<String, JoinError> {
    let first = roots_pem
        .first()
        .ok_or_else(|| JoinError::Answer { reason: "it has no root certificate".to_owned() })?;
    let roots = certificates_from_pem("root", first)?;
    roots
        .first()
        .map(|root| fingerprint(root))
        .ok_or_else(|| JoinError::Answer { reason: "its root certificate is empty".to_owned() })
}

/// Puts a certificate from a server and its key together.
///
/// # Errors
/// [`JoinError`] when the certificate is not readable.
fn leaf(certificate_pem: &str, private_key_pem: String) -> Result<Leaf, JoinError> {
    let PeerCertificate { valid_after, valid_before, .. } = first_certificate(certificate_pem)?;
    Ok(Leaf {
        certificate_pem: certificate_pem.to_owned(),
        private_key_pem,
        valid_after,
        valid_before,
    })
}

fn refuse_other_identity(certificate_pem: &str, wanted: &Membership) -> Result<(), JoinError> {
    let found = first_certificate(certificate_pem)?.id;
    let Membership { node, datacenter, trust_domain, .. } = wanted;
    let wanted = SpiffeId {
        trust_domain: trust_domain.clone(),
        datacenter: datacenter.clone(),
        workload: Workload::Agent(NodeName::clone(node)),
    };
    if found == wanted {
        return Ok(());
    }
    Err(JoinError::Answer { reason: format!("the certificate is for {found}, not {wanted}") })
}

fn first_certificate(certificate_pem: &str) -> Result<PeerCertificate, JoinError> {
    let chain = certificates_from_pem("certificate", certificate_pem)?;
    peer_certificate(&chain).map_err(|error| JoinError::Answer { reason: error.to_string() })
}
