//! DNS as a judgement: from a name to records, given what is known of the mesh.
//!
//! `question` reads a name, `answer` makes records of a view, `fit` cuts them to what the
//! transport carries. Packets, sockets and other zones are the agent's.

mod answer;
mod fit;
mod question;
mod record;
mod settings;

pub use answer::{Answer, Asked, View, answer};
pub use fit::Delivery;
pub use question::{Lookup, Need, Question, RecordType};
pub use record::{Record, RecordData, ResponseCode, SoaData};
pub use settings::{Settings, SoaTimers, Truncation};
