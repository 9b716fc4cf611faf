//! This server's pen: its intermediate, its own certificate and the TLS configurations made of
//! them, renewed in time and after every change of roots.
//!
//! Signing needs no consensus: every server has an intermediate of its own and serials are
//! random.

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::sync::{AcquireError, Semaphore};
use weft_core::ca::{CaRoot, SerialNumber, TrustBundle, csr};
use weft_core::identity::SpiffeId;
use weft_core::limits;
use weft_core::time::Timestamp;
use weft_runtime::clock;
use weft_runtime::task::TaskTree;
use weft_runtime::tls::{
    self, ClientAuth, ClientTlsCell, Identity, PeerCheck, ServerTlsCell, TlsError, Trust,
};

use super::builtin::{CaError, Intermediate, Signed};
use super::seal::SealKey;

/// Signatures made at once: a signature takes some 50 µs of a core, so more threads would only
/// crowd out other work.
const SIGNING_AT_ONCE: usize = 8;

/// States why this server has no pen, or no certificate.
#[derive(Debug, thiserror::Error)]
pub enum SignerError {
    /// The certificate was not made.
    #[error(transparent)]
    Ca(#[from] CaError),
    /// The work was cut short.
    #[error("signing was interrupted: {0}")]
    Interrupted(String),
    /// The TLS library refuses our own certificate.
    #[error("this server's own certificate cannot be used")]
    Tls(#[from] TlsError),
}

/// The pen. Clones share it.
#[derive(Clone)]
pub(crate) struct Signer {
    shared: Arc<Shared>,
}

struct Shared {
    /// This server.
    id: SpiffeId,
    seal: SealKey,
    intermediate: ArcSwap<Intermediate>,
    /// Until when this server's own certificate is valid.
    own_ends: ArcSwap<Timestamp>,
    server_tls: ServerTlsCell,
    client_tls: ClientTlsCell,
    /// Signatures at once; when full, further requests wait.
    places: Semaphore,
    tasks: TaskTree,
}

impl Signer {
    /// Makes an intermediate under the root, and this server's certificate under that.
    pub(crate) fn make(
        id: &SpiffeId,
        seal: &SealKey,
        root: &CaRoot,
        bundle: &TrustBundle,
        tasks: &TaskTree,
    ) -> Result<Self, SignerError> {
        let now = clock::wall();
        let intermediate = Intermediate::make(root, &id.trust_domain, name(id), seal, now)?;
        let (server, client, ends) = own_configs(&intermediate, id, bundle, now)?;
        let shared = Shared {
            id: id.clone(),
            seal: seal.clone(),
            intermediate: ArcSwap::from_pointee(intermediate),
            own_ends: ArcSwap::from_pointee(ends),
            server_tls: ServerTlsCell::new(server),
            client_tls: ClientTlsCell::new(client),
            places: Semaphore::new(SIGNING_AT_ONCE),
            tasks: tasks.clone(),
        };
        Ok(Self { shared: Arc::new(shared) })
    }

    /// Returns who this server is.
    pub(crate) fn id(&self) -> &SpiffeId {
        &self.shared.id
    }

    /// Returns the fingerprint of the root under which is signed.
    #[cfg(test)]
    pub(super) fn root(&self) -> String {
        self.shared.intermediate.load().root.clone()
    }

    pub(crate) fn seal_key(&self) -> &SealKey {
        &self.shared.seal
    }

    pub(crate) fn server_tls(&self) -> ServerTlsCell {
        self.shared.server_tls.clone()
    }

    pub(crate) fn client_tls(&self) -> ClientTlsCell {
        self.shared.client_tls.clone()
    }

    /// Signs a request on a blocking thread.
    pub(crate) async fn sign(
        &self,
        csr_der: Vec<u8>,
        id: SpiffeId,
        lifetime: Duration,
    ) -> Result<Signed, SignerError> {
        let closed = |error: AcquireError| SignerError::Interrupted(error.to_string());
        let _place = self.shared.places.acquire().await.map_err(closed)?;
        let intermediate = self.shared.intermediate.load_full();
        let now = clock::wall();
        let work =
            self.shared.tasks.blocking(move || intermediate.sign(&csr_der, &id, lifetime, now));
        match work.await {
            Ok(signed) => Ok(signed?),
            Err(failure) => Err(SignerError::Interrupted(failure.message)),
        }
    }

    /// Signs the list of revoked certificates, as PEM, on a blocking thread.
    pub(crate) async fn crl(
        &self,
        revoked: Vec<(SerialNumber, Timestamp)>,
        number: u64,
    ) -> Result<String, SignerError> {
        let closed = |error: AcquireError| SignerError::Interrupted(error.to_string());
        let _place = self.shared.places.acquire().await.map_err(closed)?;
        let intermediate = self.shared.intermediate.load_full();
        let now = clock::wall();
        let work = self.shared.tasks.blocking(move || intermediate.crl(&revoked, number, now));
        match work.await {
            Ok(signed) => Ok(signed?),
            Err(failure) => Err(SignerError::Interrupted(failure.message)),
        }
    }

    /// Makes what is old anew: the intermediate past half of its life or under another root,
    /// and with it, or past half of its own life, this server's certificate.
    pub(crate) async fn refresh(
        &self,
        root: Arc<CaRoot>,
        bundle: TrustBundle,
    ) -> Result<(), SignerError> {
        let shared = self.shared.clone();
        let work = self.shared.tasks.blocking(move || {
            let now = clock::wall();
            let current = shared.intermediate.load_full();
            let half = current.valid_before.since(current.valid_after) / 2;
            let intermediate = if current.root == root.fingerprint
                && current.valid_before.since(now) > half
                // Made before the clock was set back: nobody would take it yet.
                && current.valid_after <= now
            {
                current
            } else {
                let domain = &shared.id.trust_domain;
                let made = Intermediate::make(&root, domain, name(&shared.id), &shared.seal, now)?;
                Arc::new(made)
            };
            let (server, client, ends) = own_configs(&intermediate, &shared.id, &bundle, now)?;
            shared.intermediate.store(intermediate);
            shared.server_tls.store(server);
            shared.client_tls.store(client);
            shared.own_ends.store(Arc::new(ends));
            Ok(())
        });
        match work.await {
            Ok(outcome) => outcome,
            Err(failure) => Err(SignerError::Interrupted(failure.message)),
        }
    }

    /// Whether this server's certificate begins later than now: it was made by a clock that has
    /// been set back since, and nobody takes it.
    pub(crate) fn is_from_the_future(&self, now: Timestamp) -> bool {
        let made = self.shared.own_ends.load().saturating_sub(limits::MEMBER_LIFETIME);
        now < made.saturating_sub(csr::BACKDATED)
    }

    /// Returns when to refresh at the latest: half-way through the life of this server's
    /// certificate, which is the shortest.
    pub(crate) fn refresh_due(&self) -> Timestamp {
        self.shared.own_ends.load().saturating_sub(limits::MEMBER_LIFETIME / 2)
    }
}

fn name(id: &SpiffeId) -> &str {
    match &id.workload {
        weft_core::identity::Workload::Agent(name)
        | weft_core::identity::Workload::Server(name) => name.as_str(),
        weft_core::identity::Workload::Service(name) => name.as_str(),
    }
}

type Configs = (Arc<tls::rustls::ServerConfig>, Arc<tls::rustls::ClientConfig>, Timestamp);

fn own_configs(
    intermediate: &Intermediate,
    id: &SpiffeId,
    bundle: &TrustBundle,
    now: Timestamp,
) -> Result<Configs, SignerError> {
    let leaf = intermediate.make_leaf(id, limits::MEMBER_LIFETIME, now)?;
    let trust = Trust::from_bundle(bundle)?;
    let identity = Identity::from_leaf(&leaf)?;
    // A host that joins pins the root by its fingerprint and must see it.
    let shown = identity.presenting_roots(&trust);
    let server = tls::server_config(&shown, &trust, ClientAuth::Optional, &["h2", "http/1.1"])?;
    let client = tls::client_config(&identity, &trust, PeerCheck::AnyServer, &["h2"])?;
    Ok((Arc::new(server), Arc::new(client), leaf.valid_before))
}
