//! The new process: asks the running one for its sockets, and tells it when it is ready.

use std::io;
use std::path::Path;
use std::time::Duration;

use tracing::info;
use weft_runtime::net::{self, ClientSocketHandle, ListeningSocket, Passage, UnixListener};

use super::message::{Message, SOCKETS_MAX, Use, VERSION, hear, say};
use crate::listen::{Inherited, InheritedUdp};

/// How long the running one may take for each answer: it works on the same host, and only looks
/// up what it has.
const ANSWER_LIMIT: Duration = Duration::from_secs(10);

/// What the running process has left.
#[derive(Debug, Default)]
pub(crate) struct Heir {
    pub(crate) traffic: Inherited,
    pub(crate) udp: InheritedUdp,
    pub(crate) admin: Option<ListeningSocket>,
    pub(crate) door: Option<UnixListener>,
    pub(crate) generation: u64,
    pub(crate) predecessor: Option<Predecessor>,
}

/// The running process, which goes on until it is told that this one is ready.
#[derive(Debug)]
pub(crate) struct Predecessor {
    passage: Passage,
}

/// States why nothing was taken over.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TakeError {
    /// The connection broke.
    #[error("the running proxy cannot be asked")]
    Io(#[from] io::Error),
    /// It does not give.
    #[error("the running proxy refuses: {0}")]
    Refused(String),
    /// Somebody else listens there.
    #[error("the socket is that of the user {0}")]
    Stranger(u32),
    /// It says nothing.
    #[error("the running proxy does not answer; another process may be taking over from it")]
    Unanswered,
    /// It says what no proxy says.
    #[error("the running proxy says what it should not: {0}")]
    Unexpected(String),
}

/// Takes everything that the process at the socket has; `None` when there is none.
pub(crate) async fn take(path: &Path) -> Result<Option<Heir>, TakeError> {
    let stream = match net::connect_unix(path).await {
        Ok(stream) => stream,
        Err(error)
            if matches!(
                error.kind(),
                io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused
            ) =>
        {
            return Ok(None);
        }
        Err(error) => return Err(error.into()),
    };
    let uid = net::peer_uid(&stream)?;
    if uid != net::own_uid() {
        return Err(TakeError::Stranger(uid));
    }
    let mut passage = Passage::new(stream);
    let program = env!("CARGO_PKG_VERSION").to_owned();
    say(&mut passage, &Message::Hello { version: VERSION, program }, &[]).await?;
    let mut heir = Heir::default();
    let mut count = 0;
    loop {
        let heard = tokio::time::timeout(ANSWER_LIMIT, hear(&mut passage)).await;
        let heard = heard.map_err(|_| TakeError::Unanswered)??;
        let (uses, mut of, left, sockets) = match heard {
            Some((Message::Sockets { uses, of, left, generation }, sockets)) => {
                heir.generation = generation;
                (uses, of, left, sockets)
            }
            Some((Message::Refused { reason }, _)) => return Err(TakeError::Refused(reason)),
            Some((other @ (Message::Done | Message::Hello { .. } | Message::Ready), _)) => {
                return Err(TakeError::Unexpected(format!("{other:?}")));
            }
            None => return Err(TakeError::Io(io::ErrorKind::UnexpectedEof.into())),
        };
        count += sockets.len();
        if uses.len() != sockets.len() || count + left > SOCKETS_MAX {
            let what = format!("{} sockets for {} uses", sockets.len(), uses.len());
            return Err(TakeError::Unexpected(what));
        }
        of.resize(uses.len(), None);
        for ((for_what, of), socket) in uses.into_iter().zip(of).zip(sockets) {
            match for_what {
                Use::Admin => heir.admin = Some(ListeningSocket::adopt(socket)?),
                Use::HandOver => heir.door = Some(net::adopt_unix_listener(socket)?),
                Use::Traffic => {
                    let socket = ListeningSocket::adopt(socket)?;
                    let bequest = heir.traffic.entry(socket.address().clone()).or_default();
                    bequest.sockets.push(socket);
                    bequest.of = of;
                }
                Use::Udp => {
                    let socket = ClientSocketHandle::adopt(socket)?;
                    let bequest = heir.udp.entry(socket.address()).or_default();
                    bequest.sockets.push(socket);
                    bequest.of = of;
                }
            }
        }
        if left == 0 {
            break;
        }
    }
    info!(sockets = count, generation = heir.generation, "listeners of a running proxy taken");
    heir.predecessor = Some(Predecessor { passage });
    Ok(Some(heir))
}

impl Predecessor {
    /// Says that this process serves, and waits until the running one accepts no more.
    pub(crate) async fn relieve(mut self) -> Result<(), TakeError> {
        let relieved = async {
            match say(&mut self.passage, &Message::Ready, &[]).await {
                Ok(()) => hear(&mut self.passage).await,
                Err(error) => Err(error),
            }
        };
        match tokio::time::timeout(ANSWER_LIMIT, relieved).await {
            Err(_) => Err(TakeError::Unanswered),
            Ok(Ok(Some((Message::Done, _)))) => Ok(()),
            Ok(Ok(Some((Message::Refused { reason }, _)))) => Err(TakeError::Refused(reason)),
            Ok(Ok(Some((other, _)))) => Err(TakeError::Unexpected(format!("{other:?}"))),
            Ok(Ok(None) | Err(_)) => {
                info!("the proxy that ran before has ended by itself");
                Ok(())
            }
        }
    }
}
