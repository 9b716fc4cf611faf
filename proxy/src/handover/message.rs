//! What two processes say to each other while one takes over: JSON, each message with at most
//! [`PASSED_MAX`] sockets.
//!
//! A reader skips fields that it does not know; what it must not skip gets a new version.
//!
//! [`PASSED_MAX`]: weft_runtime::net::PASSED_MAX

use std::io;
use std::os::fd::OwnedFd;

use serde::{Deserialize, Serialize};
use weft_runtime::net::Passage;

/// The version of what is said here. Another one is refused, and the restart is an ordinary one.
pub(super) const VERSION: u32 = 1;
/// Sockets of one proxy: a thousand upstreams on sixty-four workers.
pub(super) const SOCKETS_MAX: usize = 65_536;

/// What is said.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "say", rename_all = "kebab-case")]
pub(super) enum Message {
    /// The running one accepts no more.
    Done,
    /// The new one asks for everything.
    Hello {
        /// See [`VERSION`].
        version: u32,
        /// The version of the program.
        program: String,
    },
    /// The new one serves.
    Ready,
    /// The running one gives nothing, or no more, and goes on.
    Refused {
        /// Why.
        reason: String,
    },
    /// Sockets that come with this message, and how many are still to come.
    Sockets {
        /// What each is for.
        uses: Vec<Use>,
        /// The id of the proxy that accepts from each; a process may leave it out that is the proxy
        /// of one service.
        #[serde(default)]
        of: Vec<Option<Box<str>>>,
        /// 0 in the last message.
        left: usize,
        /// How many processes had them before the new one.
        generation: u64,
    },
}

/// What a socket is for. Where it listens is the kernel's to say.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Use {
    /// The admin interface.
    Admin,
    /// Taking over.
    HandOver,
    /// Connections to carry.
    Traffic,
    /// Datagrams to carry.
    Udp,
}

/// Says something.
pub(super) async fn say(
    passage: &mut Passage,
    message: &Message,
    sockets: &[OwnedFd],
) -> io::Result<()> {
    passage.send(&serde_json::to_vec(message)?, sockets).await
}

/// Waits for what the other says; `None` when it is gone.
pub(super) async fn hear(passage: &mut Passage) -> io::Result<Option<(Message, Vec<OwnedFd>)>> {
    let Some(passed) = passage.receive().await? else { return Ok(None) };
    Ok(Some((serde_json::from_slice(&passed.bytes)?, passed.descriptors)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_later_version_may_say_more() {
        let text = r#"{"say":"hello","version":7,"program":"9.0.0","mood":"good"}"#;
        let message: Message = serde_json::from_str(text).expect("readable");
        assert_eq!(message, Message::Hello { version: 7, program: "9.0.0".into() });
        serde_json::from_str::<Message>(r#"{"say":"sing"}"#).expect_err("not a word of ours");
    }
}
