//! What many stories of access start from: three servers with ACLs, an agent, the first token.

use serde_json::{Value, json};
use weft_tests::cluster::SPREAD_LIMIT;
use weft_tests::{Answer, Api, Servers, TestAgent, eventually};

/// Three servers with ACLs, an agent, and a token that may do everything.
pub(crate) struct Estate {
    pub(crate) agent: TestAgent,
    pub(crate) servers: Servers,
    pub(crate) token: String,
}

impl Estate {
    pub(crate) fn start() -> Self {
        Self::start_with(&json!({ "enabled": true }))
    }

    /// Starts all with these settings of access at the servers.
    pub(crate) fn start_with(acl: &Value) -> Self {
        let servers = Servers::start_with(3, &json!({ "acl": acl }));
        let join = servers.all[0].data().join("join-token");
        let settings = json!({ "acl": { "enabled": true } });
        let mut agent = TestAgent::start_with(servers.folder.path(), "node1", &join, &settings);
        // Clients try what is refused, which may be warned of.
        agent.process.expect_log("");
        let made = servers.all[0].api().put("/v1/acl/bootstrap", &json!({}));
        let made = made.and_then(Answer::ok).expect("the first token").json();
        let token = made["SecretID"].as_str().expect("a secret").to_owned();
        let estate = Self { agent, servers, token };
        eventually(SPREAD_LIMIT, "the agent's node is known, and three servers vote", || {
            let ask = |path: &str| call(estate.agent.api(), "GET", path, &estate.token, "").ok();
            let node = ask("/v1/health/node/node1")?;
            let raft = ask("/v1/operator/raft/configuration")?.json();
            let servers = raft["Servers"].as_array().cloned().unwrap_or_default();
            let voters = servers.iter().filter(|server| server["Voter"] == true).count();
            if voters == 3 && node.body.contains("node1") {
                return Ok(());
            }
            Err(format!("{voters} voters, {}", node.body))
        });
        estate
    }

    /// Returns the doors of the agent and of each server.
    pub(crate) fn doors(&self) -> Vec<Api> {
        let servers = self.servers.all.iter().map(|server| server.api());
        [self.agent.api()].into_iter().chain(servers).collect()
    }

    /// Writes something as the management does.
    pub(crate) fn manage(&self, path: &str, body: &Value) -> Value {
        let answer = call(self.agent.api(), "PUT", path, &self.token, &body.to_string());
        assert_eq!(answer.status, 200, "{path}: {}", answer.body);
        if answer.body.is_empty() { Value::Null } else { answer.json() }
    }

    /// Makes a token and returns its accessor and its secret.
    pub(crate) fn token(&self, grants: &Value) -> (String, String) {
        let made = self.manage("/v1/acl/token", grants);
        (text(&made, "AccessorID"), text(&made, "SecretID"))
    }
}

/// Returns a field that is a text.
pub(crate) fn text(value: &Value, field: &str) -> String {
    value[field].as_str().unwrap_or_else(|| panic!("{field} in {value}")).to_owned()
}

/// Asks with a token, or with none.
pub(crate) fn call(api: Api, method: &str, path: &str, token: &str, body: &str) -> Answer {
    let headers = [("x-consul-token", token)];
    let headers = if token.is_empty() { &headers[..0] } else { &headers[..] };
    api.request(method, path, headers, body).expect("an answer")
}

/// Refused for lack of one permission, in the words that clients look for.
pub(crate) fn lacks(answer: &Answer, accessor: &str, needed: &str, on: &str) {
    let on = if on.is_empty() { String::new() } else { format!(" on {on:?}") };
    let said = format!(
        "Permission denied: token with AccessorID '{accessor}' lacks permission '{needed}'{on}"
    );
    assert_eq!((answer.status, answer.body.trim()), (403, said.as_str()));
}
