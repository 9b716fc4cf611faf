//! Whether the servers can be reached from this host.

use std::time::Duration;

use futures::future::join_all;
use weft_core::ca::MemberRole;
use weft_proto::join_token::JoinToken;
use weft_runtime::{clock, net};

use super::finding::Finding;

/// How long a server may take to take a connection.
const LIMIT: Duration = Duration::from_secs(3);

/// Looks at a join token: is it one, for this role, and is it still good?
pub(crate) fn token(text: &str, role: MemberRole) -> (Finding, Option<JoinToken>) {
    let another = "get another: weft operator join-token create (--role server for a server)";
    let token: JoinToken = match text.trim().parse() {
        Ok(token) => token,
        Err(error) => {
            return (Finding::bad("join token", format!("not usable: {error}"), another), None);
        }
    };
    if token.role != role {
        let detail = format!("it is for the role {}, not {role}", token.role);
        return (Finding::bad("join token", detail, another), Some(token));
    }
    let now = clock::wall();
    let until = token.expires.rfc3339();
    if token.expires <= now {
        let detail = format!("it was good until {until}, and it is {} here", now.rfc3339());
        return (Finding::bad("join token", detail, another), Some(token));
    }
    (Finding::good("join token", format!("for the role {role}, good until {until}")), Some(token))
}

/// Tries to reach each server, all at once.
pub(crate) async fn reach(servers: &[String]) -> Vec<Finding> {
    join_all(servers.iter().map(|server| try_one(server))).await
}

async fn try_one(server: &str) -> Finding {
    let what = format!("server {server}");
    match net::connect_host(server, LIMIT).await {
        Ok(_) => Finding::good(what, "takes connections"),
        Err(error) => {
            let port = server.rsplit_once(':').map_or("8300", |(_, port)| port);
            let fix = format!(
                "see that it runs and that no firewall between stops TCP to its port {port}; if it \
                 has moved, make a new join token there"
            );
            Finding::bad(what, format!("cannot be reached: {error}"), fix)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use weft_core::time::Timestamp;

    #[test]
    fn a_token_that_is_of_no_use_says_why() {
        let (found, token) = token("weft2-x", MemberRole::Agent);
        assert!(found.is_bad() && token.is_none(), "{found:?}");
        let made = |role, expires| JoinToken {
            servers: vec!["10.0.0.1:8300".to_owned()],
            root_fingerprint: "0".repeat(64),
            secret: vec![7; 32],
            role,
            expires,
        };
        let far = Timestamp(u64::MAX / 2);
        for (role, expires, word) in [
            (MemberRole::Server, far, "for the role server"),
            (MemberRole::Agent, Timestamp(1_000), "good until 1970"),
        ] {
            let text = made(role, expires).to_string();
            let (found, _) = super::token(&text, MemberRole::Agent);
            assert!(found.is_bad() && found.detail.contains(word), "{found:?}");
            assert!(!found.text().contains(&text), "it is not shown");
        }
        let (found, _) = super::token(&made(MemberRole::Agent, far).to_string(), MemberRole::Agent);
        assert!(!found.is_bad(), "{found:?}");
    }
}
