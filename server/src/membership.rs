//! Which cluster this server belongs to, as its data directory remembers it: founded here, or
//! joined with a token. What is kept suffices to come back without any other server.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use weft_core::ca::{CaRoot, MemberRole, Revoked, TrustBundle};
use weft_core::name::{Datacenter, NodeName, TrustDomain};
use weft_core::state::ClusterRecord;
use weft_proto::envelope;
use weft_proto::grpc::v1 as wire;
use weft_proto::join_token::JoinToken;
use weft_runtime::rpc;
use weft_runtime::store::{Store, StoreError, Table};
use weft_runtime::tls::{self, ClientTlsCell};
use weft_runtime::{clock, entropy};

use crate::ca::{CaError, SealError, SealKey, make_root, request_for_new_key};
use crate::config::Config;
use crate::raft::NodeId;

const TABLE: &str = "membership";
const KEY: &[u8] = b"self";
/// The time for a join request to one server.
const JOIN_LIMIT: Duration = Duration::from_secs(10);

/// States why this server has no cluster.
#[derive(Debug, thiserror::Error)]
pub enum MembershipError {
    /// The founding root was not made.
    #[error(transparent)]
    Ca(#[from] CaError),
    /// The record is there and not readable.
    #[error("the data directory's record of its cluster is damaged")]
    Damaged(#[from] envelope::InvalidEnvelope),
    /// The configuration names another datacenter.
    #[error("datacenter: this cluster is in {cluster:?}, not in {configured:?}")]
    Datacenter {
        /// Where the cluster is.
        cluster: Datacenter,
        /// What the configuration says.
        configured: Datacenter,
    },
    /// The token is of another cluster.
    #[error(
        "the data directory belongs to cluster {cluster}, the join token to another one; use an \
         empty data directory to join that"
    )]
    ForeignToken {
        /// The id of the directory's cluster.
        cluster: String,
    },
    /// No server took us in.
    #[error("no server of the join token could be joined: {0}")]
    NotJoined(String),
    /// The seal key is missing or damaged.
    #[error(transparent)]
    Seal(#[from] SealError),
    /// The store refused.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The token is for another role.
    #[error("the join token is for the role {0}; a server needs one for the role server")]
    TokenRole(MemberRole),
}

/// What the data directory remembers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Membership {
    /// This server in consensus; never reused by an empty data directory.
    pub(crate) node_id: NodeId,
    /// The cluster.
    pub(crate) cluster: ClusterRecord,
    /// Whether the cluster was founded by this server.
    pub(crate) founded_here: bool,
    /// The active root, its key sealed.
    pub(crate) root: CaRoot,
    /// All trusted roots as PEM, the active one first.
    pub(crate) roots_pem: Vec<String>,
    /// What is trusted no more.
    #[serde(default)]
    pub(crate) revoked: Vec<Revoked>,
}

impl Membership {
    /// Returns what is trusted, as far as the data directory knows.
    pub(crate) fn bundle(&self) -> TrustBundle {
        TrustBundle {
            trust_domain: self.cluster.trust_domain.clone(),
            active_root: self.root.fingerprint.clone(),
            roots: Vec::new(),
            roots_pem: self.roots_pem.clone(),
            revoked: self.revoked.clone(),
            retired: Vec::new(),
        }
    }
}

/// Where the record lies.
#[derive(Clone)]
pub(crate) struct MembershipTable {
    store: Store,
    table: Table,
}

impl MembershipTable {
    pub(crate) fn open(store: &Store) -> Result<Self, StoreError> {
        Ok(Self { store: store.clone(), table: store.table(TABLE)? })
    }

    /// Keeps the record. Blocks its thread.
    pub(crate) fn write(&self, membership: &Membership) -> Result<(), StoreError> {
        self.table.put(KEY, &envelope::encode(membership))?;
        self.store.sync()
    }

    fn read(&self) -> Result<Option<Membership>, MembershipError> {
        Ok(self.table.get(KEY)?.map(|bytes| envelope::decode(&bytes)).transpose()?)
    }
}

/// What [`recall`] found.
pub(crate) enum Recalled {
    /// The directory is new, and a token says which cluster to join.
    MustJoin(JoinToken),
    /// The directory belongs to a cluster, perhaps since just now.
    Member(Box<Membership>, SealKey),
}

/// Reads the record, or founds a cluster when there is none and no token. Blocks its thread.
pub(crate) fn recall(
    config: &Config,
    table: &MembershipTable,
) -> Result<Recalled, MembershipError> {
    let key_path = seal_key_path(&config.data_dir);
    let key = SealKey::read(&key_path)?;
    match (table.read()?, &config.join) {
        (Some(membership), token) => {
            let cluster = &membership.cluster;
            if let Some(token) = token
                && !knows_root(&membership, &token.root_fingerprint)
            {
                return Err(MembershipError::ForeignToken { cluster: cluster.id.clone() });
            }
            if let Some(configured) = &config.datacenter
                && *configured != cluster.datacenter
            {
                return Err(MembershipError::Datacenter {
                    cluster: cluster.datacenter.clone(),
                    configured: configured.clone(),
                });
            }
            let key = key.ok_or(SealError::Missing { path: key_path })?;
            Ok(Recalled::Member(Box::new(membership), key))
        }
        (None, Some(token)) if token.role != MemberRole::Server => {
            Err(MembershipError::TokenRole(token.role))
        }
        (None, Some(token)) => Ok(Recalled::MustJoin(token.clone())),
        (None, None) => {
            // A key without a record was left by a start that was cut short.
            let key = match key {
                Some(key) => key,
                None => {
                    let key = SealKey::generate();
                    key.write(&key_path)?;
                    key
                }
            };
            let membership = found(config, &key)?;
            table.write(&membership)?;
            Ok(Recalled::Member(Box::new(membership), key))
        }
    }
}

fn knows_root(membership: &Membership, fingerprint: &str) -> bool {
    membership.roots_pem.iter().any(|pem| {
        tls::certificates_from_pem("a root", pem)
            .is_ok_and(|roots| roots.iter().any(|root| tls::fingerprint(root) == fingerprint))
    })
}

fn found(config: &Config, key: &SealKey) -> Result<Membership, MembershipError> {
    let id = entropy::uuid();
    let trust_domain = TrustDomain::parse(&format!("{id}.mesh"))
        .expect("a UUID has lower-case digits and hyphens, as a trust domain may");
    let datacenter = config
        .datacenter
        .clone()
        .unwrap_or_else(|| Datacenter::parse("dc1").expect("dc1 is a datacenter's name"));
    let root = make_root(&trust_domain, key, clock::wall())?;
    Ok(Membership {
        node_id: new_node_id(),
        cluster: ClusterRecord { id, trust_domain, datacenter },
        founded_here: true,
        roots_pem: vec![root.certificate_pem.clone()],
        revoked: Vec::new(),
        root,
    })
}

/// Joins the cluster of a token: asks its servers one after another.
pub(crate) async fn join(
    node: &NodeName,
    token: &JoinToken,
) -> Result<(Membership, SealKey), MembershipError> {
    let not_joined =
        |reason: &dyn std::fmt::Display| MembershipError::NotJoined(reason.to_string());
    let config = tls::client_config_pinned(&token.root_fingerprint, &["h2"])
        .map_err(|error| not_joined(&error))?;
    let cell = ClientTlsCell::new(Arc::new(config));
    let csr_der = bytes::Bytes::from(request_for_new_key()?);
    let mut last = "it names none".to_owned();
    for server in &token.servers {
        let mut client = wire::join_client::JoinClient::new(rpc::channel_tls(server, cell.clone()));
        let request = wire::JoinRequest {
            secret: token.secret.clone().into(),
            role: wire::Role::Server.into(),
            node_name: node.to_string(),
            csr_der: csr_der.clone(),
        };
        match tokio::time::timeout(JOIN_LIMIT, client.join(request)).await {
            Ok(Ok(reply)) => return read_reply(reply.into_inner()),
            Ok(Err(status)) => {
                let cause = std::error::Error::source(&status);
                last = format!("{server}: {}", whole(status.message(), cause));
            }
            Err(_) => last = format!("{server}: no answer within {JOIN_LIMIT:?}"),
        }
    }
    Err(not_joined(&last))
}

/// What a refusal says, with its causes: a connection that is refused says why below.
fn whole(text: &str, mut cause: Option<&(dyn std::error::Error + 'static)>) -> String {
    let mut text = text.to_owned();
    while let Some(error) = cause {
        let further = error.to_string();
        if !text.contains(&further) {
            text = if text.is_empty() { further } else { format!("{text}: {further}") };
        }
        cause = error.source();
    }
    text
}

fn read_reply(reply: wire::JoinReply) -> Result<(Membership, SealKey), MembershipError> {
    let bad = |what: &str| MembershipError::NotJoined(format!("the answer has no valid {what}"));
    let key = SealKey::from_bytes(&reply.seal_key).ok_or_else(|| bad("seal key"))?;
    let root: CaRoot = envelope::decode(&reply.ca_root)?;
    let cluster = ClusterRecord {
        id: reply.cluster_id,
        trust_domain: reply.trust_domain.parse().map_err(|_| bad("trust domain"))?,
        datacenter: reply.datacenter.parse().map_err(|_| bad("datacenter"))?,
    };
    let membership = Membership {
        node_id: new_node_id(),
        cluster,
        founded_here: false,
        root,
        roots_pem: reply.roots_pem,
        revoked: Vec::new(),
    };
    Ok((membership, key))
}

/// Returns where the seal key lies.
pub(crate) fn seal_key_path(data_dir: &Path) -> std::path::PathBuf {
    data_dir.join("seal.key")
}

fn new_node_id() -> NodeId {
    let mut bytes = [0; 8];
    entropy::fill(&mut bytes);
    u64::from_be_bytes(bytes)
}
