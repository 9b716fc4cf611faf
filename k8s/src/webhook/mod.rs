//! The admission webhook: the API server shows it every new pod, and it answers with a patch.
//!
//! `review` answers one question, `serve` is the HTTPS server, `certificate` decides about its
//! certificates and makes them, `keeper` keeps them in the cluster by way of `api`.

mod api;
mod certificate;
mod keeper;
mod review;
mod serve;

pub use api::{ApiError, ApiServer};
pub use certificate::CertificateError;
pub use review::{Malformed, Outcome, answer};
pub use serve::{Config, StartError, Webhook, WebhookHandle};

#[cfg(test)]
mod tests;
