//! Those who wait: how changes reach them (`hub`, `fan_out`), what watch streams see
//! (`derived`, `view`, `version`), and what blocking queries wait for (`waiting`).

mod derived;
mod fan_out;
mod hub;
mod mailbox;
mod metrics;
mod version;
mod view;
mod waiting;

pub(crate) use derived::Question;
pub(crate) use fan_out::run as fan_out;
pub(crate) use hub::Hub;
pub(crate) use mailbox::{Mailbox, Marks};
pub(crate) use version::{Step, Version};
#[cfg(test)]
pub(crate) use view::VERSIONS_KEPT;
pub(crate) use view::{Subscription, Views};
pub(crate) use waiting::Waiting;
