//! `/v1/operator/…`: what those do who run the servers.
//!
//! **Source**: Consul: api-docs/operator.

mod autopilot;
mod join_token;
mod raft;
mod usage;

use http::StatusCode;

use super::error::ApiError;
use super::routes::Routes;
use super::{Context, page};
use crate::raft::MembersError;

pub(super) fn routes(table: Routes) -> Routes {
    [autopilot::routes, join_token::routes, raft::routes, usage::routes]
        .into_iter()
        .fold(table, |table, part| part(table))
}

/// An id in consensus, as operators see and write it.
fn shown(id: u64) -> String {
    format!("{id:016x}")
}

fn read_id(text: &str) -> Option<u64> {
    u64::from_str_radix(text, 16).ok()
}

impl From<MembersError> for ApiError {
    fn from(error: MembersError) -> Self {
        match error {
            MembersError::Consensus(error) => error.into(),
            MembersError::Endangers(_) | MembersError::NotTransferred(_) => {
                Self::new(StatusCode::CONFLICT, error.to_string())
            }
            MembersError::NameTaken { .. } => Self::new(StatusCode::CONFLICT, error.to_string()),
            // Consul: 500, with these words.
            MembersError::Unknown { .. } => {
                Self::new(StatusCode::INTERNAL_SERVER_ERROR, error.to_string())
            }
        }
    }
}
