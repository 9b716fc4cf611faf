//! Answers that go on for as long as somebody reads them.

use std::io;
use std::ops::ControlFlow;

use anyhow::{Context, bail};
use bytes::Bytes;
use weft_runtime::signal::Signals;

use crate::client::ApiClient;

/// What one piece of an answer leads to: more, an end, or that it cannot be written.
pub(crate) type Taken = io::Result<ControlFlow<()>>;

/// Hands what an agent says to `take`, until that has enough, the reader of the output is gone, or the
/// process is told to end. An answer that ends by itself is an error: the agent has ended.
///
/// # Errors
/// Those of the call, and of what cannot be written.
pub(crate) async fn follow(
    client: &ApiClient,
    path: &str,
    mut take: impl FnMut(&[u8]) -> Taken + Send,
) -> anyhow::Result<()> {
    let mut taken = Ok(ControlFlow::Continue(()));
    let mut pass = |piece: Bytes| {
        taken = take(&piece);
        match &taken {
            Ok(flow) => *flow,
            Err(_) => ControlFlow::Break(()),
        }
    };
    let mut signals = Signals::listen()?;
    tokio::select! {
        () = signals.shutdown() => return Ok(()),
        // Dropped with the process alone.
        answer = client.follow(path, &mut pass) => {
            answer?.ok()?;
        }
    }
    match taken {
        Ok(ControlFlow::Break(())) => Ok(()),
        // Whoever read has enough.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        Err(error) => Err(error).context("cannot write to standard output"),
        Ok(ControlFlow::Continue(())) => bail!("the agent has ended"),
    }
}

/// Pieces put together to whole lines.
#[derive(Debug, Default)]
pub(crate) struct Lines(Vec<u8>);

impl Lines {
    /// Takes a piece; returns the lines that are whole with it, nothing if none is.
    pub(crate) fn take(&mut self, piece: &[u8]) -> Vec<u8> {
        self.0.extend_from_slice(piece);
        let end = self.0.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
        self.0.drain(..end).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_whole_however_they_come() {
        let mut lines = Lines::default();
        assert_eq!(lines.take(b"{\"a\""), b"");
        assert_eq!(lines.take(b":1}\n{\"b\":2}\n{"), b"{\"a\":1}\n{\"b\":2}\n");
        assert_eq!(lines.take(b"}\n"), b"{}\n");
    }
}
