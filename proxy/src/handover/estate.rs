//! What a proxy begins with: sockets that another process or the service manager has opened.

use std::net::SocketAddr;

use tracing::{info, warn};
use weft_runtime::net::{self, ListeningSocket, LocalListener, TcpListener, UnixListener};

use super::take::{Predecessor, take};
use crate::StartError;
use crate::config::Config;
use crate::http::chain;
use crate::listen::{Bequest, Inherited, InheritedUdp};

/// The name that the service manager gives the socket of the admin interface, unless it listens
/// where the configuration says.
const ADMIN_NAME: &str = "admin";

/// Sockets to begin with.
#[derive(Debug)]
pub(crate) struct Estate {
    pub(crate) admin: TcpListener,
    pub(crate) traffic: Inherited,
    pub(crate) udp: InheritedUdp,
    pub(crate) door: Option<UnixListener>,
    pub(crate) predecessor: Option<Predecessor>,
    pub(crate) generation: u64,
}

impl Estate {
    /// Takes what is there, and opens the admin interface if nobody has.
    ///
    /// # Errors
    /// [`StartError::TakeOver`] when there is somebody who does not give, [`StartError::Admin`]
    /// when the admin interface cannot listen.
    pub(crate) async fn claim(config: &Config) -> Result<Self, StartError> {
        let taken = match &config.hand_over {
            Some(hand_over) if hand_over.takes_over => take(&hand_over.socket).await,
            Some(_) | None => Ok(None),
        };
        let refused = |reason| StartError::TakeOver { reason };
        let mut heir = match taken.map_err(|error| refused(chain(&error)))? {
            Some(heir) => heir,
            None => {
                if config.hand_over.as_ref().is_some_and(|it| it.takes_over) {
                    info!("no proxy of this service runs; this one starts anew");
                }
                super::Heir::default()
            }
        };
        // A proxy inside another program has no service manager of its own.
        if config.hand_over.is_some() {
            let activated = net::activated().map_err(|error| refused(error.to_string()))?;
            for (name, socket) in activated {
                let address = socket.address().clone();
                info!(name, %address, "a listener of the service manager taken");
                if name == ADMIN_NAME || address == config.admin_addr.into() {
                    heir.admin.get_or_insert(socket);
                } else {
                    // The service manager keeps its own handle of it.
                    let bequest = heir.traffic.entry(address).or_insert_with(|| {
                        let sockets = vec![socket];
                        Bequest { sockets, ..Bequest::default() }
                    });
                    bequest.stays = true;
                }
            }
        }
        let failed = |error: std::io::Error| StartError::Admin { reason: error.to_string() };
        let inherited =
            heir.admin.filter(|it| it.address().tcp().is_some_and(|it| it.ip().is_loopback()));
        let wanted = |it: &ListeningSocket| is_for(config.admin_addr, it.address().tcp());
        let inherited = inherited.filter(wanted).map(ListeningSocket::into_listener);
        let admin = match inherited.transpose().map_err(failed)? {
            Some(LocalListener::Tcp(listener)) => listener,
            Some(LocalListener::Unix(_)) | None => {
                net::bind_tcp(config.admin_addr).await.map_err(failed)?
            }
        };
        let (traffic, udp, door) = (heir.traffic, heir.udp, heir.door);
        Ok(Self {
            admin,
            traffic,
            udp,
            door,
            predecessor: heir.predecessor,
            generation: heir.generation,
        })
    }
}

/// Whether a socket listens where it is wanted; port 0 is any.
fn is_for(wanted: SocketAddr, address: Option<SocketAddr>) -> bool {
    address.is_some_and(|it| wanted == it || wanted.ip() == it.ip() && wanted.port() == 0)
}

/// Keeps a handle of the admin interface, to be passed on.
pub(super) fn handle_of(listener: &TcpListener) -> Option<ListeningSocket> {
    ListeningSocket::of(listener)
        .inspect_err(|error| warn!(%error, "this proxy cannot be taken over"))
        .ok()
}
