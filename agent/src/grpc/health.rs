//! Asks a gRPC endpoint for its health.

use tokio::io::{AsyncRead, AsyncWrite};
use weft_proto::grpc::health::HealthCheckRequest;
use weft_proto::grpc::health::health_check_response::ServingStatus;
use weft_proto::grpc::health::health_client::HealthClient;
use weft_runtime::rpc::channel_over;

use crate::servers::{reason, refusal};

/// Bytes of the answer: it holds one number.
const ANSWER_BYTES_MAX: usize = 4096;

/// Asks over a fresh connection whether a service (or, by the empty name, the endpoint) serves.
///
/// # Errors
/// In words, when it does not, or does not answer. The deadline is the caller's.
///
/// # Cancel safety
/// Dropping it closes the connection.
pub(crate) async fn ask_health(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    authority: &str,
    service: &str,
) -> Result<(), String> {
    let channel = channel_over(stream, authority).await.map_err(|error| reason(&error))?;
    let mut client = HealthClient::new(channel).max_decoding_message_size(ANSWER_BYTES_MAX);
    let request = HealthCheckRequest { service: service.to_owned() };
    let answer = client.check(request).await.map_err(|status| refusal(&status))?;
    match answer.into_inner().status() {
        ServingStatus::Serving => Ok(()),
        other => Err(format!("status is {}", other.as_str_name())),
    }
}
