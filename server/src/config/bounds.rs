//! The section `limits`: what one client may ask for.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use weft_core::limits;
use weft_core::time::Span;
use weft_proto::text::Fault;

/// What the section can say; everything may be left out.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct LimitsSection {
    /// Connections of one client at a door of the API; 200 when left out, 0 for no bound.
    pub http_max_conns_per_client: Option<usize>,
    /// Bytes of a value of the key/value store; 524288 when left out.
    pub kv_max_value_size: Option<usize>,
    /// Operations of one transaction; 128 when left out.
    pub txn_max_ops: Option<usize>,
    /// Bytes of the keys and values of one transaction; 524288 when left out, and never less than
    /// a value may have.
    pub txn_max_req_len: Option<usize>,
    /// The shortest TTL of a session; 10 s when left out.
    pub session_ttl_min: Option<Span>,
}

/// The checked section.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of a value of the key/value store.
    pub kv_value_bytes_max: usize,
    /// Bytes of the keys and values of one transaction.
    pub txn_bytes_max: usize,
    /// Operations of one transaction.
    pub txn_ops_max: usize,
    /// The shortest TTL of a session.
    pub session_ttl_min: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            kv_value_bytes_max: limits::KV_VALUE_BYTES_DEFAULT,
            txn_bytes_max: limits::TXN_BYTES_DEFAULT,
            txn_ops_max: limits::TXN_OPS_DEFAULT,
            session_ttl_min: limits::SESSION_TTL_MIN_DEFAULT,
        }
    }
}

impl Limits {
    /// Returns how long the body of a transaction may be: its values in base64, and what names
    /// its operations.
    pub(crate) fn txn_body_bytes_max(&self) -> usize {
        self.txn_bytes_max.div_ceil(3) * 4 + limits::API_BODY_BYTES_MAX
    }
}

impl LimitsSection {
    /// Checks the section, and notes its faults.
    pub(super) fn resolve(self, faults: &mut Vec<Fault>) -> Limits {
        let default = Limits::default();
        let kv_value_bytes_max = self.kv_max_value_size.unwrap_or(default.kv_value_bytes_max);
        let most = limits::KV_VALUE_BYTES_CEILING;
        if !(1..=most).contains(&kv_value_bytes_max) {
            let reason = format!("write a number of bytes from 1 to {most}");
            faults.push(Fault::new("limits.kv_max_value_size", reason));
        }
        let session_ttl_min = self.session_ttl_min.map_or(default.session_ttl_min, |it| it.0);
        if session_ttl_min.is_zero() || session_ttl_min > limits::SESSION_TTL_MAX {
            let reason =
                format!("write more than 0s and at most {}", Span(limits::SESSION_TTL_MAX));
            faults.push(Fault::new("limits.session_ttl_min", reason));
        }
        let txn_ops_max = self.txn_max_ops.unwrap_or(default.txn_ops_max);
        let most = limits::TXN_OPS_CEILING;
        if !(1..=most).contains(&txn_ops_max) {
            let reason = format!("write a number of operations from 1 to {most}");
            faults.push(Fault::new("limits.txn_max_ops", reason));
        }
        let txn_bytes_max = self.txn_max_req_len.unwrap_or(default.txn_bytes_max);
        let most = limits::TXN_BYTES_CEILING;
        if !(1..=most).contains(&txn_bytes_max) {
            let reason = format!("write a number of bytes from 1 to {most}");
            faults.push(Fault::new("limits.txn_max_req_len", reason));
        }
        // Whatever can be written alone can be written in a transaction.
        let txn_bytes_max = txn_bytes_max.max(kv_value_bytes_max);
        Limits { kv_value_bytes_max, txn_bytes_max, txn_ops_max, session_ttl_min }
    }
}
