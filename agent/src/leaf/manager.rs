//! Keeps one service certified: drives `core::ca::renewal`.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tracing::{debug, error, info, warn};
use weft_core::ca::renewal::{Output, Renewal};
use weft_core::ca::{Leaf, TrustBundle};
use weft_core::identity::SpiffeId;
use weft_core::name::ServiceName;
use weft_runtime::task::TaskFailure;
use weft_runtime::tls::TlsError;
use weft_runtime::{clock, entropy};

use super::Shared;
use super::kept;
use super::keypair::{self, KeyError};
use crate::grpc::CallError;

/// How long the trust bundle is waited for: it comes with the views.
const ROOTS_LIMIT: Duration = Duration::from_secs(5);
/// How long a certificate is kept for a service without proxy: a registration that is replaced,
/// and an agent that stops, take their receivers away for a moment.
const LINGER: Duration = Duration::from_secs(2);
/// The longest sleep: wall time may step, and a machine may be suspended.
const SLEEP_MAX: Duration = Duration::from_secs(30);

/// States why a certificate was not renewed.
#[derive(Debug, thiserror::Error)]
enum RenewalError {
    #[error(transparent)]
    Key(#[from] KeyError),
    #[error("the trust bundle has not come yet")]
    NoRoots,
    #[error("the server signed for {found} instead of {expected}")]
    OtherIdentity { found: SpiffeId, expected: SpiffeId },
    #[error(transparent)]
    Sign(#[from] CallError),
    #[error(transparent)]
    Task(#[from] TaskFailure),
    #[error("the signed certificate is unusable: {0}")]
    Unusable(#[source] TlsError),
}

type Obtaining = Pin<Box<dyn Future<Output = Result<Leaf, RenewalError>> + Send>>;

/// Runs until the agent stops or nobody holds a receiver any more.
pub(super) async fn run(
    shared: Arc<Shared>,
    service: ServiceName,
    sender: watch::Sender<Option<Arc<Leaf>>>,
) {
    let mut renewal = Renewal::new(Box::new(entropy::rng()));
    let mut roots = shared.views.roots();
    let present = roots.current().value;
    let mut active_root = present.as_ref().map(|bundle| bundle.active_root.clone());
    let mut obtaining: Option<Obtaining> = None;
    resume(&shared, (&service, present), &mut renewal, &sender);
    loop {
        while let Some(output) = renewal.poll_output() {
            match output {
                Output::Alarm { valid_before, failures } => {
                    let valid_before = valid_before.rfc3339();
                    error!(%service, failures, valid_before, "a certificate runs out unrenewed");
                }
                Output::Expired => {
                    error!(%service, "a certificate ended unrenewed; its service is cut off");
                    sender.send_replace(None);
                }
                Output::Request => {
                    obtaining = Some(Box::pin(obtain(shared.clone(), service.clone())));
                }
            }
        }
        let sleep = renewal.poll_timeout().map_or(SLEEP_MAX, clock::until).min(SLEEP_MAX);
        // Each branch may be dropped: the request is kept in `obtaining`, the others wait for
        // levels.
        tokio::select! {
            () = shared.tasks.cancelled() => return,
            () = unused(&sender) => {
                if shared.release(&service, &sender) {
                    shared.metrics.ended(&service);
                    let ended = shared.clone();
                    // A file that stays is dropped when its certificate ends.
                    let _ = shared.tasks.blocking(move || ended.forget(&service)).await;
                    return;
                }
            }
            outcome = pending(&mut obtaining) => {
                obtaining = None;
                match outcome {
                    Ok(leaf) => {
                        shared.metrics.renewed(&service);
                        take_up(&shared, (&service, leaf), &mut renewal, &sender);
                    }
                    Err(failure) => fail(&shared, (&service, &failure), &mut renewal, &sender),
                }
            }
            slot = roots.changed() => {
                let present = sender.borrow().clone();
                if let (Some(leaf), Some(bundle)) = (present, &slot.value)
                    && kept::is_revoked(&leaf, bundle)
                {
                    warn!(%service, "the certificate was revoked; another one is asked for");
                    renewal.handle_revoked(clock::wall());
                }
                let newest = slot.value.map(|bundle| bundle.active_root.clone());
                let before = std::mem::replace(&mut active_root, newest);
                if before.is_some() && before != active_root {
                    debug!(%service, "the roots changed");
                    renewal.handle_roots_changed(clock::wall());
                }
            }
            () = tokio::time::sleep(sleep) => renewal.handle_timeout(clock::wall()),
        }
    }
}

/// Goes on with the certificate of an earlier run, if there is one.
fn resume(
    shared: &Shared,
    (service, roots): (&ServiceName, Option<Arc<TrustBundle>>),
    renewal: &mut Renewal,
    sender: &watch::Sender<Option<Arc<Leaf>>>,
) {
    let Some(leaf) = shared.take_kept(service) else { return };
    let now = clock::wall();
    let is_current = roots.is_none_or(|bundle| kept::is_of_active_root(&leaf, &bundle, now));
    take_up(shared, (service, leaf), renewal, sender);
    if !is_current {
        renewal.handle_roots_changed(now);
    }
}

/// Takes a certificate into use, a new one or one of an earlier run.
fn take_up(
    shared: &Shared,
    (service, leaf): (&ServiceName, Leaf),
    renewal: &mut Renewal,
    sender: &watch::Sender<Option<Arc<Leaf>>>,
) {
    info!(%service, valid_before = leaf.valid_before.rfc3339(), "certified");
    shared.metrics.in_use(service, leaf.valid_before);
    renewal.handle_certificate(leaf.valid_after, leaf.valid_before, clock::wall());
    sender.send_replace(Some(Arc::new(leaf)));
}

/// Takes note of a failure; the certificate in use stays.
fn fail(
    shared: &Shared,
    (service, failure): (&ServiceName, &RenewalError),
    renewal: &mut Renewal,
    sender: &watch::Sender<Option<Arc<Leaf>>>,
) {
    report(service, failure, sender);
    shared.metrics.failed(service);
    match failure {
        RenewalError::Sign(call) if call.is_of_busy_server() => renewal.handle_busy(clock::wall()),
        RenewalError::Key(_)
        | RenewalError::NoRoots
        | RenewalError::OtherIdentity { .. }
        | RenewalError::Sign(_)
        | RenewalError::Task(_)
        | RenewalError::Unusable(_) => renewal.handle_failure(clock::wall()),
    }
}

/// A failure is usual before the first certificate: the servers may not know the service yet.
fn report(
    service: &ServiceName,
    failure: &RenewalError,
    sender: &watch::Sender<Option<Arc<Leaf>>>,
) {
    let error = failure as &dyn std::error::Error;
    if sender.borrow().is_some() {
        warn!(%service, error, "a certificate was not renewed; the present one stays");
    } else {
        info!(%service, error, "not certified yet");
    }
}

/// Waits until nobody has held a receiver for a while.
async fn unused(sender: &watch::Sender<Option<Arc<Leaf>>>) {
    sender.closed().await;
    tokio::time::sleep(LINGER).await;
}

async fn pending(obtaining: &mut Option<Obtaining>) -> Result<Leaf, RenewalError> {
    match obtaining {
        Some(obtaining) => obtaining.await,
        None => std::future::pending().await,
    }
}

/// Makes a key, has it signed, and checks the answer as peers will.
async fn obtain(shared: Arc<Shared>, service: ServiceName) -> Result<Leaf, RenewalError> {
    let expected = kept::identity(&shared.membership, &service);
    let kind = shared.key_kind;
    let request = shared.tasks.blocking(move || keypair::generate(kind)).await??;
    let signed = shared.calls.sign_leaf(&service, request.csr_der).await?;
    let leaf = Leaf {
        certificate_pem: signed.certificate_pem,
        private_key_pem: request.private_key_pem,
        valid_after: signed.valid_after,
        valid_before: signed.valid_before,
    };
    let bundle =
        shared.views.roots().first(ROOTS_LIMIT).await.value.ok_or(RenewalError::NoRoots)?;
    let bundle = std::slice::from_ref(&*bundle);
    let found = kept::check(&leaf, bundle, clock::wall()).map_err(RenewalError::Unusable)?;
    if found != expected {
        return Err(RenewalError::OtherIdentity { found, expected });
    }
    // On disk before it is used.
    let (keeper, kept) = (shared.clone(), leaf.clone());
    shared.tasks.blocking(move || keeper.keep(&service, &kept)).await?;
    Ok(leaf)
}
