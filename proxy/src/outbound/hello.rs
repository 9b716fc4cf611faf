//! The name that a caller asks for in TLS of its own, where the chain goes by it. The bytes are
//! kept, and go on as they came.

use std::future::poll_fn;
use std::io;
use std::task::{Poll, ready};

use weft_core::traffic::client_hello;
use weft_runtime::clock;

use crate::listen::Live;
use crate::transport::{Buffer, Timer, Wire};

/// Reads until the name is known, or that there is none.
///
/// # Errors
/// When something else than TLS is spoken, or the first message does not come whole within the
/// time of a handshake.
pub(super) async fn server_name<W: Wire>(
    client: &mut W,
    input: &mut Buffer,
    live: &Live,
) -> io::Result<Option<String>> {
    let (mut timer, deadline) = (Timer::default(), clock::instant() + live.limits().handshake);
    poll_fn(|cx| {
        loop {
            let read = client_hello::server_name(input.filled());
            let read = read.map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error));
            if let Some(name) = read? {
                return Poll::Ready(Ok(name));
            }
            match client.poll_fill_ready(cx, input) {
                Poll::Ready(Ok(0)) => return Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into())),
                Poll::Ready(filled) => drop(filled?),
                Poll::Pending => {
                    ready!(timer.poll_past(cx, deadline));
                    return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
                }
            }
        }
    })
    .await
}
