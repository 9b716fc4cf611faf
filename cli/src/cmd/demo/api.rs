//! The agent's HTTP API as the tour uses it, and what it takes out of the answers.

use std::net::{Ipv4Addr, SocketAddr};

use anyhow::{Context, bail};
use serde_json::Value;

use super::web::{Reply, Web};

/// The API of one agent.
#[derive(Debug, Clone)]
pub(super) struct Api {
    base: String,
    web: Web,
}

impl Api {
    /// Speaks to the agent whose API listens on a port of loopback.
    pub(super) fn new(port: u16, web: Web) -> Self {
        Self { base: format!("http://127.0.0.1:{port}"), web }
    }

    /// Returns the URL of a path.
    pub(super) fn url(&self, path: &str) -> String {
        format!("{}{path}", self.base)
    }

    /// Reads a path; anything but 200 is an error with the agent's words.
    pub(super) async fn get(&self, path: &str) -> anyhow::Result<Value> {
        let reply = self.web.get(&self.url(path)).await?;
        let body = accepted(&format!("GET {path}"), reply)?;
        serde_json::from_str(&body).with_context(|| format!("GET {path}: not JSON: {body}"))
    }

    /// Writes a body to a path; anything but 200 is an error with the agent's words.
    pub(super) async fn put(&self, path: &str, body: &Value) -> anyhow::Result<()> {
        let reply = self.web.put(&self.url(path), body.to_string()).await?;
        accepted(&format!("PUT {path}"), reply).map(|_| ())
    }

    /// Returns where the healthy instances of a service listen, sorted.
    pub(super) async fn passing(&self, service: &str) -> anyhow::Result<Vec<SocketAddr>> {
        let instances = self.get(&format!("/v1/health/service/{service}?passing")).await?;
        endpoints(&instances).with_context(|| format!("the health of {service}: {instances}"))
    }
}

fn accepted(what: &str, reply: Reply) -> anyhow::Result<String> {
    if reply.status != 200 {
        bail!("{what}: HTTP {}: {}", reply.status, reply.body.trim());
    }
    Ok(reply.body)
}

/// Reads the addresses out of an answer of `/v1/health/service`.
fn endpoints(instances: &Value) -> Option<Vec<SocketAddr>> {
    let mut found = Vec::new();
    for instance in instances.as_array()? {
        let service = &instance["Service"];
        let own = service["Address"].as_str().filter(|address| !address.is_empty());
        let address = own.or_else(|| instance["Node"]["Address"].as_str())?;
        let address: Ipv4Addr = address.parse().ok()?;
        let port = u16::try_from(service["Port"].as_u64()?).ok()?;
        found.push(SocketAddr::from((address, port)));
    }
    found.sort();
    Some(found)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn an_instance_without_an_address_has_that_of_its_node() {
        let instances = json!([
            { "Node": { "Address": "127.0.0.9" }, "Service": { "Address": "", "Port": 80 } },
            { "Node": { "Address": "127.0.0.9" }, "Service": { "Address": "127.0.0.1", "Port": 8 } },
        ]);
        let expected: Vec<SocketAddr> =
            ["127.0.0.1:8", "127.0.0.9:80"].iter().map(|a| a.parse().expect(a)).collect();
        assert_eq!(endpoints(&instances), Some(expected));
        assert_eq!(endpoints(&json!({ "error": "x" })), None);
    }

    #[test]
    fn a_refusal_carries_the_words_of_the_agent() {
        let reply = Reply { status: 400, body: "Name: must not be empty\n".to_owned() };
        let error = accepted("PUT /v1/config", reply).expect_err("a refusal");
        assert_eq!(error.to_string(), "PUT /v1/config: HTTP 400: Name: must not be empty");
    }
}
