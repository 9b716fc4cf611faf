//! Those who wait: how changes reach them (`hub`) and what they see (`derived`).

mod derived;
mod hub;

pub(crate) use derived::{Question, Seen, look};
pub(crate) use hub::{Hub, Mailbox};
