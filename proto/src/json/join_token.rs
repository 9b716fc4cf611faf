//! The bodies of `/v1/operator/join-token`: tokens with which hosts become members.

use serde::{Deserialize, Serialize};
use weft_core::ca::{JoinTokenRecord, MemberRole};
use weft_core::time::{Span, Timestamp};

/// What is asked for. Which of it is allowed depends on the role.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct JoinTokenRequest {
    /// What the holder may become; an agent when left out.
    #[serde(default = "agent")]
    pub role: MemberRole,
    /// How many hosts may join with it; 0 for any number, one when left out.
    #[serde(default = "one")]
    pub uses: u32,
    /// How long it is good.
    #[serde(default, rename = "TTL")]
    pub ttl: Option<Span>,
    /// The one host that may join with it; empty for any.
    #[serde(default)]
    pub node: String,
    /// A note for people.
    #[serde(default)]
    pub description: String,
}

fn agent() -> MemberRole {
    MemberRole::Agent
}

fn one() -> u32 {
    1
}

/// A token as operators see it: without its secret, except in the answer to who made it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct JoinTokenBody {
    /// What it is revoked by.
    #[serde(rename = "ID")]
    pub id: String,
    /// The token itself, told once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token: Option<String>,
    /// What the holder may become.
    pub role: MemberRole,
    /// `active`, `expired`, `revoked` or `used up`.
    pub status: String,
    /// How many hosts could join with it; 0 for any number.
    pub uses: u32,
    /// How many still can; `null` for any number.
    pub uses_left: Option<u32>,
    /// When it ends, or ended.
    pub expiration_time: String,
    /// The one host that may join with it; empty for any.
    pub node: String,
    /// A note for people.
    pub description: String,
    /// The last hosts that joined with it; of one for any number of hosts, none.
    pub redeemed: Vec<RedemptionBody>,
    /// When it was made.
    pub create_index: u64,
    /// When it was last used or revoked.
    pub modify_index: u64,
}

/// A host that joined.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct RedemptionBody {
    /// Its name.
    pub node: String,
    /// When.
    pub time: String,
}

impl JoinTokenBody {
    /// Shows a token as it stands at a moment.
    pub fn of(record: &JoinTokenRecord, now: Timestamp) -> Self {
        let status = match record {
            JoinTokenRecord { is_revoked: true, .. } => "revoked",
            JoinTokenRecord { uses_left: Some(0), .. } => "used up",
            JoinTokenRecord { expires, .. } if *expires <= now => "expired",
            JoinTokenRecord { .. } => "active",
        };
        let redeemed = record
            .redeemed
            .iter()
            .map(|it| RedemptionBody { node: it.node.to_string(), time: it.at.rfc3339() });
        Self {
            id: record.id().to_owned(),
            token: None,
            role: record.role,
            status: status.to_owned(),
            uses: record.uses.unwrap_or(0),
            uses_left: record.uses_left,
            expiration_time: record.expires.rfc3339(),
            node: record.node.as_ref().map(ToString::to_string).unwrap_or_default(),
            description: record.description.clone(),
            redeemed: redeemed.collect(),
            create_index: record.create_index.shown(),
            modify_index: record.modify_index.shown(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Unknown, from_slice};
    use super::*;

    #[test]
    fn what_is_left_out_is_a_token_for_one_agent() {
        let asked: JoinTokenRequest = from_slice(b"{}", Unknown::Refuse).expect("a request");
        assert_eq!((asked.role, asked.uses, asked.ttl), (MemberRole::Agent, 1, None));
        let text = br#"{"role":"server","Uses":3,"ttl":"10m","Node":"s2"}"#;
        let asked: JoinTokenRequest = from_slice(text, Unknown::Refuse).expect("a request");
        assert_eq!((asked.role, asked.uses), (MemberRole::Server, 3));
        assert_eq!(asked.ttl, Some(Span::seconds(600)));
        assert!(from_slice::<JoinTokenRequest>(br#"{"Uses":-1}"#, Unknown::Refuse).is_err());
        assert!(from_slice::<JoinTokenRequest>(br#"{"Rolle":"x"}"#, Unknown::Refuse).is_err());
    }

    #[test]
    fn a_shown_token_tells_nothing_of_the_secret() {
        let mut record =
            JoinTokenRecord::new("ab".repeat(32), MemberRole::Agent, Some(2), Timestamp(5_000));
        let status =
            |record: &JoinTokenRecord, now| JoinTokenBody::of(record, Timestamp(now)).status;
        assert_eq!(status(&record, 1), "active");
        assert_eq!(status(&record, 5_000), "expired");
        let text = serde_json::to_string(&JoinTokenBody::of(&record, Timestamp(1))).expect("JSON");
        assert!(!text.contains(&"ab".repeat(9)), "{text}");
        record.uses_left = Some(0);
        assert_eq!(status(&record, 1), "used up");
        record.is_revoked = true;
        assert_eq!(status(&record, 1), "revoked");
    }
}
