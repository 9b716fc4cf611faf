//! DNS as a judgement: from a name to records, given what is known of the mesh.
//!
//! `question` reads a name, `plan` makes records of a view, `order` draws their order, `fit` cuts
//! them to what the transport carries; `answer` is all of it. Packets, sockets and other zones are
//! the agent's.

mod answer;
mod fit;
mod order;
mod plan;
mod question;
mod record;
mod settings;

pub use answer::{Answer, Asked, answer, answer_of};
pub use fit::{Delivery, Room};
pub use order::Shuffler;
pub use plan::{Distance, Order, Pick, Plan, View, plan};
pub use question::{Lookup, Need, Question, RecordType};
pub use record::{Record, RecordData, ResponseCode, SoaData};
pub use settings::{Settings, SoaTimers, Truncation};
