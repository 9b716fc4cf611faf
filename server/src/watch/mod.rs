//! Those who wait: how changes reach them (`hub`) and what they see (`derived`).

mod derived;
mod hub;

pub(crate) use derived::{Question, Views};
pub(crate) use hub::{Hub, Mailbox};
