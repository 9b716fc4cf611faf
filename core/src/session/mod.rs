//! The records of sessions: who holds locks, and what ends that.
//!
//! What a session's end does to the locks is `state`'s affair, when a time is over `timer`'s.

mod id;
mod record;
mod timer;

pub use id::{InvalidSessionId, SessionId};
pub use record::{ServiceCheck, Session, SessionBehavior};
pub use timer::SessionTimers;
