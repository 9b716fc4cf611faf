//! The running process: gives its sockets to the next one, and leaves when it is relieved.

use std::io;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::time::Duration;

use tracing::{info, warn};
use weft_runtime::net::{
    ListeningSocket, PASSED_MAX, Passage, PeerProcess, UnixListener, UnixStream, own_uid,
};
use weft_runtime::task::TaskTree;
use weft_runtime::telemetry::notify::{Report, notify};

use super::message::{Message, SOCKETS_MAX, Use, VERSION, hear, say};
use super::standing::Standing;
use crate::http::chain;
use crate::listen::Crew;

/// How long the new process may take to say what it wants.
const HELLO_LIMIT: Duration = Duration::from_secs(5);
/// How long the new process may take until it serves; others cannot take over meanwhile. It waits
/// for its configuration, and gives up earlier itself.
const READY_LIMIT: Duration = Duration::from_secs(600);
/// How long to wait after the socket could not be accepted from.
const ACCEPT_PAUSE: Duration = Duration::from_secs(1);

/// What is given, and what then ends.
#[derive(Debug)]
pub(crate) struct Giver {
    pub(crate) crew: Crew,
    /// The admin interface, and what ends it here.
    pub(crate) admin: (ListeningSocket, TaskTree),
    pub(crate) standing: Standing,
    /// How long connections may go on afterwards.
    pub(crate) limit: Duration,
    /// The file of the socket.
    pub(crate) path: PathBuf,
}

/// A socket with its use, and the proxy that accepts from it.
type Given = (Use, Option<Box<str>>, OwnedFd);

/// States why a process did not take over.
#[derive(Debug, thiserror::Error)]
enum GiveError {
    #[error("it went away before it served")]
    Gone,
    #[error("the connection broke")]
    Io(#[from] io::Error),
    #[error("{0}")]
    Refused(String),
}

/// Waits for the process that takes over, then for the end of what is left here.
pub(crate) async fn serve(door: UnixListener, giver: Giver, tasks: TaskTree) {
    loop {
        let accepted = tokio::select! {
            // Both are cancel-safe.
            accepted = door.accept() => accepted,
            () = tasks.cancelled() => return giver.close_door(),
        };
        let given = match accepted {
            Ok((stream, _)) => tokio::select! {
                // Until it is done a conversation that ends has changed nothing.
                given = giver.give(stream, &door) => given,
                () = tasks.cancelled() => return giver.close_door(),
            },
            Err(error) => {
                tokio::time::sleep(ACCEPT_PAUSE).await;
                Err(error.into())
            }
        };
        match given {
            Ok(ended) => {
                drop(door);
                return giver.outlast(ended, &tasks).await;
            }
            Err(GiveError::Gone) => {
                info!("a new process has ended before it served; this one goes on");
            }
            Err(error) => {
                warn!(error = chain(&error), "no other process takes over; this one goes on");
            }
        }
    }
}

impl Giver {
    /// Gives to one process; returns what is ready when the last connection here has ended.
    async fn give(
        &self,
        stream: UnixStream,
        door: &UnixListener,
    ) -> Result<impl Future<Output = ()> + Send + use<>, GiveError> {
        let peer = PeerProcess::of(&stream).map_err(|error| GiveError::Refused(chain(&error)))?;
        let mut passage = Passage::new(stream);
        let sockets = match self.judge(&peer, &mut passage).await {
            Ok(()) => self.sockets(door).await.map_err(|error| {
                GiveError::Refused(format!("its sockets cannot be passed: {error}"))
            }),
            Err(error) => Err(error),
        };
        let sent = match sockets {
            Ok(sockets) => self.send(&mut passage, sockets).await,
            Err(error) => Err(error),
        };
        let heard = match sent {
            Ok(()) => match tokio::time::timeout(READY_LIMIT, hear(&mut passage)).await {
                Ok(heard) => heard.map_err(GiveError::from),
                Err(_) => Err(GiveError::Refused("it does not get ready".to_owned())),
            },
            Err(error) => Err(error),
        };
        match heard {
            Ok(Some((Message::Ready, _))) => {}
            Ok(None) => return Err(GiveError::Gone),
            Ok(Some((other, _))) => {
                return Err(GiveError::Refused(format!("it says {other:?}")));
            }
            Err(error) => {
                if let GiveError::Refused(reason) = &error {
                    let refused = Message::Refused { reason: reason.clone() };
                    // Whoever is gone needs no reason.
                    let _ = say(&mut passage, &refused, &[]).await;
                }
                return Err(error);
            }
        }
        self.standing.replace();
        let ended = self.crew.retire().await;
        self.admin.1.cancel();
        // Before the new process says that it is ready, which counts only from the main one.
        notify(Report::MainProcess(peer.pid()));
        info!(successor = peer.pid(), "another process has taken over");
        // It serves whether or not it hears this.
        let _ = say(&mut passage, &Message::Done, &[]).await;
        Ok(ended)
    }

    /// Hears what the process wants, and whether it may.
    async fn judge(&self, peer: &PeerProcess, passage: &mut Passage) -> Result<(), GiveError> {
        if peer.uid() != own_uid() {
            return Err(GiveError::Refused(format!("it runs as the user {}", peer.uid())));
        }
        let heard = tokio::time::timeout(HELLO_LIMIT, hear(passage)).await;
        match heard
            .map_err(|_| GiveError::Refused("it does not say what it wants".to_owned()))??
        {
            Some((Message::Hello { version: VERSION, program }, _)) => {
                info!(pid = peer.pid(), program, "a new process asks for the listeners");
                Ok(())
            }
            Some((Message::Hello { version, program }, _)) => Err(GiveError::Refused(format!(
                "weft {program} hands over in the form {version}, weft {} in the form {VERSION}: \
                 end this process, then start the other",
                env!("CARGO_PKG_VERSION")
            ))),
            Some((other, _)) => Err(GiveError::Refused(format!("it says {other:?}"))),
            None => Err(GiveError::Gone),
        }
    }

    /// Collects every socket with its use.
    async fn sockets(&self, door: &UnixListener) -> io::Result<Vec<Given>> {
        use std::os::fd::AsFd as _;
        let mut sockets = vec![
            (Use::Admin, None, self.admin.0.try_clone()?.into_descriptor()),
            (Use::HandOver, None, door.as_fd().try_clone_to_owned()?),
        ];
        let traffic = self.crew.share().await?;
        sockets
            .extend(traffic.into_iter().map(|(it, of)| (Use::Traffic, of, it.into_descriptor())));
        let udp = self.crew.share_udp().await?;
        sockets.extend(udp.into_iter().map(|(it, of)| (Use::Udp, of, it.into_descriptor())));
        if sockets.len() > SOCKETS_MAX {
            return Err(io::Error::other(format!("there are more than {SOCKETS_MAX} of them")));
        }
        Ok(sockets)
    }

    async fn send(&self, passage: &mut Passage, sockets: Vec<Given>) -> Result<(), GiveError> {
        let generation = self.standing.generation() + 1;
        let mut left = sockets.len();
        let mut sockets = sockets.into_iter();
        while left > 0 {
            let (mut uses, mut of, mut passed) = (Vec::new(), Vec::new(), Vec::new());
            for (for_what, of_whom, socket) in sockets.by_ref().take(PASSED_MAX) {
                uses.push(for_what);
                of.push(of_whom);
                passed.push(socket);
            }
            left -= uses.len();
            say(passage, &Message::Sockets { uses, of, left, generation }, &passed).await?;
        }
        Ok(())
    }

    /// Lives on for the connections that are left.
    async fn outlast(&self, ended: impl Future<Output = ()>, tasks: &TaskTree) {
        tokio::select! {
            // All only wait.
            () = ended => info!("the last connection has ended"),
            () = tokio::time::sleep(self.limit) => {
                warn!(limit_seconds = self.limit.as_secs(), "connections outlived their limit");
            }
            () = tasks.cancelled() => return,
        }
        // It has no other task any more: the whole process ends.
        tasks.cancel();
    }

    fn close_door(&self) {
        if self.standing.is_replaced() {
            return;
        }
        // A file that is gone already is no fault.
        let _ = std::fs::remove_file(&self.path);
    }
}
