//! How many bytes of requests' bodies lie in memory at once: for one caller, and for all.
//!
//! A body has its place from before its first byte is read until its request is answered. Who
//! finds none is told so at once; nobody waits, so nobody's slow body keeps another's out.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use http::{Extensions, StatusCode};
use parking_lot::Mutex;
use weft_core::identity::SpiffeId;
use weft_core::limits;
use weft_runtime::http::Remote;

use super::error::ApiError;

/// Whose body it is.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Sender {
    /// At a door of the API: whoever has this address.
    Address(IpAddr),
    /// A process of this host.
    Local,
    /// A member, for itself or for those whom it speaks for.
    Member(String),
}

/// The places.
#[derive(Debug, Clone, Default)]
pub(super) struct Bodies(Arc<Mutex<Held>>);

#[derive(Debug, Default)]
struct Held {
    bytes: usize,
    /// Bounded by the bytes: each has at least one.
    by_sender: BTreeMap<Sender, usize>,
    is_large_there: bool,
}

/// A body's place, given back when it is dropped.
#[derive(Debug)]
pub(super) enum Place {
    /// It takes none.
    Empty,
    /// A body beyond a sender's whole share, as snapshots are; there is one at a time.
    Large(Bodies),
    /// So many bytes of a sender.
    Part { bodies: Bodies, sender: Sender, bytes: usize },
}

impl Bodies {
    /// Takes a place for a body that has `told` bytes, if it says so, and is refused beyond
    /// `most`.
    ///
    /// # Errors
    /// 429 when its sender has too many bytes on their way, 503 when all senders together have.
    pub(super) fn place(
        &self,
        extensions: &Extensions,
        through: Option<&SpiffeId>,
        (told, most): (Option<u64>, usize),
    ) -> Result<Place, ApiError> {
        let told = told.map(|told| usize::try_from(told).unwrap_or(usize::MAX));
        let bytes = told.unwrap_or(most).min(most);
        if bytes == 0 {
            return Ok(Place::Empty);
        }
        let mut held = self.0.lock();
        if bytes > limits::API_BODIES_BYTES_PER_SENDER_MAX {
            if std::mem::replace(&mut held.is_large_there, true) {
                return Err(full("another request as large as this one is being answered"));
            }
            return Ok(Place::Large(self.clone()));
        }
        let sender = sender(extensions, through);
        let own = held.by_sender.get(&sender).copied().unwrap_or_default() + bytes;
        if own > limits::API_BODIES_BYTES_PER_SENDER_MAX {
            let text = format!(
                "this client has bodies of {} bytes on their way, and may have {}; wait for \
                 answers and retry",
                own - bytes,
                limits::API_BODIES_BYTES_PER_SENDER_MAX
            );
            return Err(ApiError::new(StatusCode::TOO_MANY_REQUESTS, text));
        }
        if held.bytes + bytes > limits::API_BODIES_BYTES_MAX {
            return Err(full("the bodies of all requests together are too large for this server"));
        }
        held.bytes += bytes;
        held.by_sender.insert(sender.clone(), own);
        Ok(Place::Part { bodies: self.clone(), sender, bytes })
    }
}

fn full(reason: &str) -> ApiError {
    ApiError::new(StatusCode::SERVICE_UNAVAILABLE, format!("{reason}; retry in a moment"))
}

fn sender(extensions: &Extensions, through: Option<&SpiffeId>) -> Sender {
    match (through, extensions.get::<Remote>()) {
        (Some(member), _) => Sender::Member(member.to_string()),
        (None, Some(Remote::Tcp(address))) => Sender::Address(address.ip().to_canonical()),
        (None, Some(Remote::Unix) | None) => Sender::Local,
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        match self {
            Self::Empty => {}
            Self::Large(bodies) => bodies.0.lock().is_large_there = false,
            Self::Part { bodies, sender, bytes } => {
                let mut held = bodies.0.lock();
                held.bytes -= *bytes;
                if let Some(own) = held.by_sender.get_mut(sender) {
                    *own -= *bytes;
                    if *own == 0 {
                        held.by_sender.remove(sender);
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MOST: usize = limits::API_BODY_BYTES_MAX;

    fn from(ip: [u8; 4]) -> Extensions {
        let mut extensions = Extensions::new();
        extensions.insert(Remote::Tcp((IpAddr::from(ip), 1).into()));
        extensions
    }

    fn take(bodies: &Bodies, ip: [u8; 4], told: Option<u64>) -> Result<Place, StatusCode> {
        bodies.place(&from(ip), None, (told, MOST)).map_err(|error| error.status)
    }

    #[test]
    fn one_sender_has_its_share_and_gets_it_back() {
        let bodies = Bodies::default();
        let most = limits::API_BODIES_BYTES_PER_SENDER_MAX / MOST;
        // What does not say its length is taken for the longest.
        let mut held: Vec<Place> =
            (0..most).map(|_| take(&bodies, [10, 0, 0, 1], None).expect("a place")).collect();
        let refused = take(&bodies, [10, 0, 0, 1], Some(1)).expect_err("full");
        assert_eq!(refused, StatusCode::TOO_MANY_REQUESTS);
        take(&bodies, [10, 0, 0, 1], Some(0)).expect("nothing is always taken");
        take(&bodies, [10, 0, 0, 2], Some(1)).expect("another has its own share");
        held.pop();
        held.push(take(&bodies, [10, 0, 0, 1], Some(9)).expect("a place again"));
        drop(held);
        let held = bodies.0.lock();
        assert_eq!((held.bytes, held.by_sender.len()), (0, 0));
    }

    #[test]
    fn all_senders_have_a_share_together() {
        let bodies = Bodies::default();
        let mut held = Vec::new();
        let refused = (0..=255u8).flat_map(|host| [host; 32]).find_map(|host| {
            match take(&bodies, [10, 0, 0, host], None) {
                Ok(place) => {
                    held.push(place);
                    None
                }
                Err(status) => Some(status),
            }
        });
        assert_eq!(refused, Some(StatusCode::SERVICE_UNAVAILABLE));
        assert_eq!(held.len(), limits::API_BODIES_BYTES_MAX / MOST);
    }

    #[test]
    fn there_is_one_large_body_at_a_time() {
        let bodies = Bodies::default();
        let large = || {
            bodies.place(
                &from([10, 0, 0, 1]),
                None,
                (None, 9 * limits::API_BODIES_BYTES_PER_SENDER_MAX),
            )
        };
        let first = large().expect("a place");
        assert_eq!(large().expect_err("one").status, StatusCode::SERVICE_UNAVAILABLE);
        take(&bodies, [10, 0, 0, 1], Some(1)).expect("small ones go on");
        drop(first);
        large().expect("a place again");
    }
}
