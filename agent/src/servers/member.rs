//! What makes this host a member of its cluster, as kept on disk: name, certificate with key,
//! whom to trust, and where the servers are. With it a restart needs no join token.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use weft_core::ca::{Leaf, TrustBundle};
use weft_core::name::{Datacenter, NodeName};
use weft_core::time::Timestamp;
use weft_runtime::tls::{
    Identity, PeerCheck, TlsError, Trust, certificates_from_pem, client_config, fingerprint, rustls,
};

use super::Membership;

/// The file in the data directory. It holds a private key and is readable by its owner only.
const FILE: &str = "member.json";
/// The version of the file written.
const VERSION: u32 = 1;

/// A member's papers.
#[derive(Clone, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Member {
    version: u32,
    node: NodeName,
    #[serde(rename = "NodeID")]
    node_id: String,
    datacenter: Datacenter,
    #[serde(rename = "ClusterID")]
    cluster_id: String,
    /// `host:port` of the servers' RPC doors.
    pub servers: Vec<String>,
    /// Whom to trust.
    pub trust: TrustBundle,
    /// The host's certificate and key.
    pub leaf: Leaf,
}

/// Says why the papers on disk cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum MemberError {
    /// The file holds something else.
    #[error("{} is damaged; restore it, or remove it and join anew with a token", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        #[source]
        source: serde_json::Error,
    },
    /// The file cannot be read or written.
    #[error("cannot use {}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// Certificate, key or roots are not usable.
    #[error("the certificate, key or roots of this host cannot be used")]
    Papers(#[from] TlsError),
}

impl Member {
    /// Makes the papers of a host.
    pub fn new(
        membership: &Membership,
        servers: Vec<String>,
        trust: TrustBundle,
        leaf: Leaf,
    ) -> Self {
        Self {
            version: VERSION,
            node: membership.node.clone(),
            node_id: membership.node_id.clone(),
            datacenter: membership.datacenter.clone(),
            cluster_id: membership.cluster_id.clone(),
            servers,
            trust,
            leaf,
        }
    }

    /// Returns the path of the papers in a data directory.
    pub fn path(data_dir: &Path) -> PathBuf {
        data_dir.join(FILE)
    }

    /// Reads the papers; `None` when the host never joined. Blocks its thread.
    ///
    /// # Errors
    /// [`MemberError`] when they are there and cannot be read.
    pub fn load(data_dir: &Path) -> Result<Option<Self>, MemberError> {
        let path = Self::path(data_dir);
        let text = match std::fs::read(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(source) => return Err(MemberError::File { path, source }),
        };
        match serde_json::from_slice(&text) {
            Ok(member) => Ok(Some(member)),
            Err(source) => Err(MemberError::Damaged { path, source }),
        }
    }

    /// Writes the papers so that a crash leaves the old or the new ones. Blocks its thread.
    ///
    /// # Errors
    /// [`MemberError::File`].
    pub fn save(&self, data_dir: &Path) -> Result<(), MemberError> {
        let path = Self::path(data_dir);
        let text = serde_json::to_vec_pretty(self)
            .expect("text keys and plain values always serialise to memory");
        write_whole(&path, &text).map_err(|source| MemberError::File { path, source })
    }

    /// Returns who the host is.
    pub fn membership(&self) -> Membership {
        Membership {
            node: self.node.clone(),
            node_id: self.node_id.clone(),
            datacenter: self.datacenter.clone(),
            trust_domain: self.trust.trust_domain.clone(),
            cluster_id: self.cluster_id.clone(),
        }
    }

    /// Whether one of the trusted roots has this fingerprint.
    pub fn trusts(&self, root_fingerprint: &str) -> bool {
        self.trust.roots_pem.iter().any(|pem| {
            certificates_from_pem("root", pem)
                .is_ok_and(|roots| roots.iter().any(|root| fingerprint(root) == root_fingerprint))
        })
    }

    /// Whether the certificate is worth nothing any more.
    pub fn is_expired(&self, now: Timestamp) -> bool {
        self.leaf.valid_before <= now
    }

    /// Makes the configuration with which the host calls servers.
    ///
    /// # Errors
    /// [`MemberError::Papers`] when certificate, key or roots are not usable.
    pub fn client_config(&self) -> Result<rustls::ClientConfig, MemberError> {
        let identity = Identity::from_leaf(&self.leaf)?;
        let trust = Trust::from_bundle(&self.trust)?;
        Ok(client_config(&identity, &trust, PeerCheck::AnyServer, &["h2"])?)
    }
}

impl std::fmt::Debug for Member {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Member")
            .field("node", &self.node)
            .field("cluster_id", &self.cluster_id)
            .field("servers", &self.servers)
            .field("leaf", &self.leaf)
            .finish_non_exhaustive()
    }
}

/// Writes a file so that a crash at any moment leaves the old or the new content.
fn write_whole(path: &Path, content: &[u8]) -> io::Result<()> {
    use std::io::Write as _;
    use std::os::unix::fs::OpenOptionsExt as _;
    let beside = path.with_extension("tmp");
    let mut options = fs::File::options();
    options.write(true).create(true).truncate(true).mode(0o600);
    let mut file = options.open(&beside)?;
    file.write_all(content)?;
    file.sync_all()?;
    fs::rename(&beside, path)?;
    // A renaming outlasts a crash only when the directory is flushed.
    path.parent().map_or(Ok(()), |directory| fs::File::open(directory)?.sync_all())
}
