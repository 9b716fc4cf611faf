//! Taking members in: join tokens and first certificates.

use std::time::Duration;

use aws_lc_rs::digest::{SHA256, digest};
use bytes::Bytes;
use weft_core::ca::{JoinTokenRecord, MemberRole, Redemption, TrustBundle};
use weft_core::identity::SpiffeId;
use weft_core::limits;
use weft_core::name::{InvalidName, NodeName};
use weft_core::state::{ClusterRecord, Command};
use weft_proto::envelope;
use weft_proto::join_token::JoinToken;
use weft_runtime::{clock, entropy};

use crate::ca::{Signer, SignerError};
use crate::propose::{Caller, Proposer, WriteError};
use crate::read::{Consistency, Reader};

/// States why a host was not taken in.
#[derive(Debug, thiserror::Error)]
pub enum JoinError {
    /// The host's name is not one.
    #[error(transparent)]
    Name(#[from] InvalidName),
    /// The cluster has no root yet.
    #[error("the cluster is not ready to take members in; try again")]
    NotReady,
    /// The certificate was not made.
    #[error(transparent)]
    Sign(#[from] SignerError),
    /// The token was refused, or could not be redeemed.
    #[error(transparent)]
    Write(#[from] WriteError),
}

/// What a token is to be worth.
#[derive(Debug, Clone)]
pub(crate) struct Terms {
    pub(crate) role: MemberRole,
    /// How many hosts may join with it; `None` for any number.
    pub(crate) uses: Option<u32>,
    pub(crate) lifetime: Duration,
    /// The one host that may join with it; `None` for any.
    pub(crate) node: Option<NodeName>,
    pub(crate) description: String,
}

impl Terms {
    /// Terms without a restriction on the host.
    pub(crate) fn new(role: MemberRole, uses: Option<u32>, lifetime: Duration) -> Self {
        Self { role, uses, lifetime, node: None, description: String::new() }
    }
}

/// What a host asks with.
pub(crate) struct Admit {
    pub(crate) secret: Vec<u8>,
    pub(crate) role: MemberRole,
    pub(crate) node_name: String,
    pub(crate) csr_der: Vec<u8>,
}

/// What it gets.
pub(crate) struct Admitted {
    pub(crate) certificate_pem: String,
    pub(crate) bundle: TrustBundle,
    pub(crate) cluster: ClusterRecord,
    /// `host:port` of every server.
    pub(crate) servers: Vec<String>,
    /// For servers only.
    pub(crate) seal_key: Vec<u8>,
    /// For servers only: an envelope of the active root.
    pub(crate) ca_root: Bytes,
}

/// The gate.
#[derive(Clone)]
pub(crate) struct Admission {
    proposer: Proposer,
    reader: Reader,
    signer: Signer,
}

impl Admission {
    pub(crate) fn new(proposer: Proposer, reader: Reader, signer: Signer) -> Self {
        Self { proposer, reader, signer }
    }

    /// Returns this server's pen.
    pub(crate) fn signer(&self) -> &Signer {
        &self.signer
    }

    #[cfg(feature = "sim")]
    pub(crate) fn newest(&self) -> std::sync::Arc<weft_core::state::State> {
        self.reader.newest()
    }

    /// Makes a token on these terms; who may ask for it was judged before.
    pub(crate) async fn mint(
        &self,
        terms: Terms,
    ) -> Result<(JoinToken, JoinTokenRecord), JoinError> {
        let bundle = self.reader.state(Consistency::Default).await.map_err(WriteError::from)?;
        let bundle = bundle.trust_bundle().ok_or(JoinError::NotReady)?;
        let mut secret = vec![0; 32];
        entropy::fill(&mut secret);
        let Terms { role, uses, lifetime, node, description } = terms;
        let expires = clock::wall().saturating_add(lifetime);
        let mut record = JoinTokenRecord::new(sha256_hex(&secret), role, uses, expires);
        (record.node, record.description) = (node, description);
        let create = Command::CreateJoinToken(record.clone());
        self.proposer.write(&Caller::Server, create).await?;
        let root_fingerprint = bundle.active_root;
        let token = JoinToken { servers: self.servers(), root_fingerprint, secret, role, expires };
        Ok((token, record))
    }

    /// Takes a host in: redeems its token and gives it a certificate.
    ///
    /// A certificate is made before the token is redeemed, so that a request that cannot be
    /// signed does not use it up; before that the token must be good as far as is known here.
    pub(crate) async fn admit(&self, request: Admit) -> Result<Admitted, JoinError> {
        let Admit { secret, role, node_name, csr_der } = request;
        let secret_sha256 = sha256_hex(&secret);
        let state = self.reader.state(Consistency::Default).await.map_err(WriteError::from)?;
        let (Some(bundle), Some(cluster)) = (state.trust_bundle(), state.cluster()) else {
            return Err(JoinError::NotReady);
        };
        let node = NodeName::parse(&node_name)?;
        let asked = Redemption {
            node: node.clone(),
            request_sha256: sha256_hex(&csr_der),
            at: clock::wall(),
        };
        state.check_join_token(&secret_sha256, role, &asked).map_err(WriteError::from)?;
        let (domain, datacenter) = (bundle.trust_domain.clone(), cluster.datacenter.clone());
        let id = match role {
            MemberRole::Agent => SpiffeId::agent(domain, datacenter, node),
            MemberRole::Server => SpiffeId::server(domain, datacenter, node),
        };
        let lifetime = state.ca_terms(limits::LEAF_LIFETIME_DEFAULT).member();
        let signed = self.signer.sign(csr_der, id.clone(), lifetime).await?;
        let Redemption { node, request_sha256, .. } = asked;
        let redeem = Command::RedeemJoinToken { secret_sha256, role, node, request_sha256 };
        self.proposer.write(&Caller::Server, redeem).await?;
        tracing::info!(%id, "a host joined");
        let (seal_key, ca_root) = match role {
            MemberRole::Agent => (Vec::new(), Bytes::new()),
            MemberRole::Server => {
                let (_, roots) = state.roots();
                let active = roots.first().ok_or(JoinError::NotReady)?;
                (self.signer.seal_key().bytes().to_vec(), envelope::encode(&**active))
            }
        };
        Ok(Admitted {
            certificate_pem: signed.chain_pem,
            bundle,
            cluster: cluster.clone(),
            servers: self.servers(),
            seal_key,
            ca_root,
        })
    }

    fn servers(&self) -> Vec<String> {
        self.reader.members().into_iter().map(|member| member.address).collect()
    }
}

fn sha256_hex(bytes: &[u8]) -> String {
    digest(&SHA256, bytes).as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
}
