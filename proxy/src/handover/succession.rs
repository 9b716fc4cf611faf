//! The turn: this proxy serves, the one before stops accepting, and the next may come.

use std::net::{Ipv4Addr, SocketAddr};

use tracing::warn;
use weft_runtime::net::{ListeningSocket, TcpListener, UnixListener};
use weft_runtime::task::TaskTree;

use super::estate::handle_of;
use super::give::{Giver, serve};
use super::take::Predecessor;
use super::{HandOver, Standing, open_door};
use crate::StartError;
use crate::admin::{self, Admin};
use crate::http::chain;
use crate::listen::Crew;

/// What is still to be done once this proxy serves.
#[derive(Debug)]
pub(crate) struct Succession {
    /// Until it is open: while another process answers there, this one does not.
    pub(crate) admin: Option<(Admin, TcpListener)>,
    pub(crate) admin_tasks: TaskTree,
    /// Of the admin interface, to be passed on.
    pub(crate) handle: Option<ListeningSocket>,
    pub(crate) crew: Crew,
    pub(crate) standing: Standing,
    pub(crate) hand_over: Option<HandOver>,
    pub(crate) door: Option<UnixListener>,
    pub(crate) predecessor: Option<Predecessor>,
    /// Of the whole process.
    pub(crate) tasks: TaskTree,
}

impl Succession {
    /// Returns where the admin interface listens, or will.
    pub(crate) fn admin_addr(&self) -> SocketAddr {
        let listener = self.admin.as_ref().and_then(|(_, listener)| listener.local_addr().ok());
        listener.unwrap_or(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)))
    }

    /// Opens the admin interface, and keeps the door for the next process ready.
    pub(crate) fn open_admin(&mut self) {
        let Some((admin, listener)) = self.admin.take() else { return };
        self.handle = self.hand_over.as_ref().and_then(|_| handle_of(&listener));
        admin::start(admin, listener, &self.admin_tasks);
    }

    /// Has the process before accept no more, and lets the next one come.
    ///
    /// # Errors
    /// [`StartError::TakeOver`] when the process before goes on.
    pub(crate) async fn succeed(&mut self) -> Result<(), StartError> {
        if let Some(predecessor) = self.predecessor.take() {
            let relieved = predecessor.relieve().await;
            relieved.map_err(|error| StartError::TakeOver { reason: chain(&error) })?;
        }
        self.open_admin();
        let (Some(hand_over), Some(admin)) = (self.hand_over.take(), self.handle.take()) else {
            return Ok(());
        };
        // The process before takes its file along if it was told to end meanwhile.
        let door = match self.door.take().filter(|_| hand_over.socket.exists()) {
            Some(door) => Ok(door),
            None => open_door(&hand_over.socket),
        };
        let door = match door {
            Ok(door) => door,
            Err(error) => {
                let socket = hand_over.socket.display();
                warn!(%socket, %error, "no other process can take over from this one");
                return Ok(());
            }
        };
        let giver = Giver {
            crew: self.crew.clone(),
            admin: (admin, self.admin_tasks.clone()),
            standing: self.standing.clone(),
            limit: hand_over.limit,
            path: hand_over.socket,
        };
        self.tasks.spawn("hand-over", serve(door, giver, self.tasks.clone()));
        Ok(())
    }
}
