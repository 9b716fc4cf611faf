//! UDP: sessions of clients, each with a stream to another proxy.
//!
//! `table` has the sessions of one listener, of which [`weft_core::traffic::datagrams`] decides, and
//! `door` takes the datagrams of clients; `app` is the local instance's side of one. `hop` is how datagrams
//! go to the other proxy, `exchange` what goes on between the two. Which service and instance a session
//! goes to is `outbound`'s affair, who may call `inbound`'s.

mod app;
mod door;
mod exchange;
mod hop;
mod table;

pub(crate) use app::AppEnd;
pub(crate) use door::receive;
pub(crate) use exchange::{Ended, How, exchange};
pub(crate) use hop::Hop;
pub(crate) use table::{ClientEnd, Table};
