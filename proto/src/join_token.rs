//! A join token as text: all that a host needs to become a member, and nothing to trust on
//! first use.
//!
//! `weft1-` and the base64url of an envelope. Whoever holds it may join until it expires, so it
//! is never logged.

use std::fmt;
use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};
use weft_core::ca::MemberRole;
use weft_core::time::Timestamp;

use crate::envelope;

/// What every token of this form starts with.
const PREFIX: &str = "weft1-";

/// A join token with its secret.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct JoinToken {
    /// `host:port` of the servers' RPC doors, at least one.
    pub servers: Vec<String>,
    /// The SHA-256 of the active root's DER, in lower-case hex: who the server must be.
    pub root_fingerprint: String,
    /// 32 random bytes.
    pub secret: Vec<u8>,
    /// What the holder may become.
    pub role: MemberRole,
    /// From when on it is worth nothing.
    pub expires: Timestamp,
}

/// States why a text is not a join token. Never shows the text.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidJoinToken {
    /// It does not start as one.
    #[error("it does not start with {PREFIX:?}; copy the whole line that `weft server` printed")]
    Prefix,
    /// It is cut short or has been changed.
    #[error("it is incomplete or was changed; copy the whole line that `weft server` printed")]
    Damaged,
    /// It names no server.
    #[error("it names no server; make a new one")]
    NoServer,
}

impl fmt::Display for JoinToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{PREFIX}{}", URL_SAFE_NO_PAD.encode(envelope::encode(self)))
    }
}

impl fmt::Debug for JoinToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JoinToken")
            .field("servers", &self.servers)
            .field("role", &self.role)
            .field("expires", &self.expires)
            .finish_non_exhaustive()
    }
}

impl FromStr for JoinToken {
    type Err = InvalidJoinToken;

    fn from_str(text: &str) -> Result<Self, InvalidJoinToken> {
        let body = text.trim().strip_prefix(PREFIX).ok_or(InvalidJoinToken::Prefix)?;
        let bytes = URL_SAFE_NO_PAD.decode(body).map_err(|_| InvalidJoinToken::Damaged)?;
        let token: Self = envelope::decode(&bytes).map_err(|_| InvalidJoinToken::Damaged)?;
        let is_hex = |text: &str| text.bytes().all(|byte| byte.is_ascii_hexdigit());
        if token.secret.len() != 32
            || token.root_fingerprint.len() != 64
            || !is_hex(&token.root_fingerprint)
        {
            return Err(InvalidJoinToken::Damaged);
        }
        if token.servers.is_empty() {
            return Err(InvalidJoinToken::NoServer);
        }
        Ok(token)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token() -> JoinToken {
        JoinToken {
            servers: vec!["127.0.0.1:8300".to_owned()],
            root_fingerprint: "ab".repeat(32),
            secret: vec![7; 32],
            role: MemberRole::Agent,
            expires: Timestamp(1_700_000_000_000),
        }
    }

    #[test]
    fn a_token_survives_a_round_trip_with_blanks_around_it() {
        let text = token().to_string();
        assert!(text.starts_with("weft1-"));
        assert_eq!(format!(" {text}\n").parse(), Ok(token()));
    }

    #[test]
    fn what_is_not_a_whole_token_is_refused_without_being_shown() {
        let text = token().to_string();
        assert_eq!("abc".parse::<JoinToken>(), Err(InvalidJoinToken::Prefix));
        assert_eq!(text[..40].parse::<JoinToken>(), Err(InvalidJoinToken::Damaged));
        assert_eq!("weft1-!!".parse::<JoinToken>(), Err(InvalidJoinToken::Damaged));
        let none = JoinToken { servers: Vec::new(), ..token() }.to_string();
        assert_eq!(none.parse::<JoinToken>(), Err(InvalidJoinToken::NoServer));
        let short = JoinToken { secret: vec![1], ..token() }.to_string();
        assert_eq!(short.parse::<JoinToken>(), Err(InvalidJoinToken::Damaged));
        assert!(!format!("{:?}", token()).contains("secret"));
    }
}
