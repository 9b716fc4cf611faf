//! Keeps the agent's own certificate fresh. When to ask is decided by `core::ca::renewal`.

use std::time::Duration;

use tracing::{error, info, warn};
use weft_core::ca::renewal::{Output, Renewal};
use weft_core::ca::{KeyKind, Leaf};
use weft_core::time::Timestamp;
use weft_proto::grpc::v1::RenewRequest;
use weft_proto::grpc::v1::ca_client::CaClient;
use weft_runtime::task::TaskTree;
use weft_runtime::{clock, entropy};

use super::{Servers, reason, refusal};
use crate::leaf;

/// The time for one request: a server signs in milliseconds.
const REQUEST_LIMIT: Duration = Duration::from_secs(10);
/// The longest sleep before the clock is read again: wall time may have been set.
const SLEEP_MAX: Duration = Duration::from_secs(60);

pub(super) async fn run(servers: Servers, tasks: TaskTree) {
    let mut renewal = Renewal::new(Box::new(entropy::rng()));
    let (valid_after, valid_before) = {
        let member = servers.inner.member.lock();
        (member.leaf.valid_after, member.leaf.valid_before)
    };
    renewal.handle_certificate(valid_after, valid_before, clock::wall());
    let cancelled = tasks.token();
    loop {
        renewal.handle_timeout(clock::wall());
        while let Some(output) = renewal.poll_output() {
            match output {
                Output::Alarm { valid_before, failures } => {
                    let valid_before = valid_before.rfc3339();
                    error!(%valid_before, failures, "the agent's own certificate cannot be renewed");
                }
                Output::Expired => error!("the agent's own certificate has expired"),
                Output::Request => request(&servers, &mut renewal, &tasks).await,
            }
        }
        let pause = renewal.poll_timeout().map_or(SLEEP_MAX, clock::until).min(SLEEP_MAX);
        tokio::select! {
            () = cancelled.cancelled() => return,
            () = tokio::time::sleep(pause) => {}
        }
    }
}

async fn request(servers: &Servers, renewal: &mut Renewal, tasks: &TaskTree) {
    let renewed = tokio::select! {
        () = tasks.cancelled() => return,
        renewed = renew(servers, tasks) => renewed,
    };
    match renewed {
        Ok((valid_after, valid_before)) => {
            info!(valid_before = %valid_before.rfc3339(), "own certificate renewed");
            renewal.handle_certificate(valid_after, valid_before, clock::wall());
        }
        Err(reason) => {
            warn!(%reason, "own certificate not renewed, will try again");
            renewal.handle_failure(clock::wall());
        }
    }
}

/// Asks for a certificate over a fresh key and takes it up; the answer says how long it holds,
/// or in words why there is none.
async fn renew(servers: &Servers, tasks: &TaskTree) -> Result<(Timestamp, Timestamp), String> {
    let made = tasks
        .blocking(|| leaf::generate(KeyKind::default()))
        .await
        .map_err(|error| reason(&error))?;
    let key = made.map_err(|error| reason(&error))?;
    let mut client = CaClient::new(servers.channel());
    let asked = client.renew(RenewRequest { csr_der: key.csr_der.into() });
    let reply = match tokio::time::timeout(REQUEST_LIMIT, asked).await {
        Ok(Ok(reply)) => reply.into_inner(),
        Ok(Err(status)) => return Err(refusal(&status)),
        Err(_) => return Err(format!("no answer within {} s", REQUEST_LIMIT.as_secs())),
    };
    let leaf = Leaf {
        certificate_pem: reply.certificate_pem,
        private_key_pem: key.private_key_pem,
        valid_after: Timestamp(reply.valid_after_ms),
        valid_before: Timestamp(reply.valid_before_ms),
    };
    let dates = (leaf.valid_after, leaf.valid_before);
    servers.set_leaf(leaf, tasks).await.map_err(|error| reason(&error))?;
    Ok(dates)
}
