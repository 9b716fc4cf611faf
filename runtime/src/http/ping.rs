//! Asks an HTTP/2 peer whether it lives, by a frame that no application sees.

use std::pin::pin;

use h2::Ping;
use h2::client::handshake;
use tokio::io::{AsyncRead, AsyncWrite};

/// Shakes hands for HTTP/2 on a fresh connection, sends one PING and waits for its answer.
///
/// **Source**: Spec: RFC 9113 §6.7.
///
/// # Errors
/// When the peer speaks no HTTP/2 or closes. The deadline is the caller's.
///
/// # Cancel safety
/// Dropping it closes the connection.
pub async fn ping_h2(
    stream: impl AsyncRead + AsyncWrite + Unpin,
) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    // The sender of requests is kept: without one the connection would end at once.
    let (_requests, mut connection) = handshake(stream).await?;
    let mut pings = connection.ping_pong().ok_or("the connection takes no pings")?;
    let (ping, connection) = (pin!(pings.ping(Ping::opaque())), pin!(connection));
    tokio::select! {
        // The connection is driven beside it; both end with this call.
        answered = ping => Ok(answered.map(drop)?),
        ended = connection => match ended {
            Ok(()) => Err("the peer closed the connection".into()),
            Err(error) => Err(error.into()),
        },
    }
}
