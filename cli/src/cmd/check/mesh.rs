//! A host that is in the mesh: its agent, the servers behind it, certificates, proxies, names.

use std::net::SocketAddr;

use serde::de::DeserializeOwned;
use serde_json::Value;
use weft_core::time::Timestamp;
use weft_proto::json::proxies::{ProxyBody, ProxyState};
use weft_runtime::clock;

use super::finding::Finding;
use crate::client::ApiClient;
use crate::cmd::dns;

/// A difference between clocks that certificates and tokens do not yet suffer from, but soon will.
const CLOCK_POOR_MS: u64 = 5_000;
/// One that they suffer from.
const CLOCK_BAD_MS: u64 = 60_000;

/// Looks at what an agent says of itself and of the mesh; `own` is the answer of `/v1/agent/self`.
pub(crate) async fn check(client: &ApiClient, own: &Value) -> Vec<Finding> {
    let mut findings = vec![agent(own), certificate(own, clock::wall())];
    findings.push(servers(own, read(client, "/v1/status/leader").await));
    findings.extend(clock_offset(&own["Weft"]["ClockAheadMs"]));
    if let Some(state) = read::<Value>(client, "/v1/operator/autopilot/state").await {
        findings.extend(versions(&state));
    }
    if let Some(members) = read::<Vec<Value>>(client, "/v1/agent/members").await {
        findings.push(hosts(&members));
    }
    if let Some(checks) = read::<Value>(client, "/v1/agent/checks").await {
        findings.push(health(&checks));
    }
    if let Some(proxies) = read::<Vec<ProxyBody>>(client, "/v1/agent/proxies").await {
        findings.extend(proxies.iter().map(proxy));
    }
    findings.push(names(own).await);
    findings
}

/// Asks for a page; `None` where it is not there, or not for this token.
async fn read<T: DeserializeOwned>(client: &ApiClient, page: &str) -> Option<T> {
    client.get(page).await.ok()?.ok().ok()?.json().ok()
}

fn agent(own: &Value) -> Finding {
    let (config, weft) = (&own["Config"], &own["Weft"]);
    let text = |value: &Value| value.as_str().unwrap_or("?").to_owned();
    let (node, datacenter) = (text(&config["NodeName"]), text(&config["Datacenter"]));
    let (runs, here) = (text(&weft["Version"]), env!("CARGO_PKG_VERSION"));
    let detail = format!("{node} in {datacenter}, release {runs}");
    match runs == here {
        true => Finding::good("agent", detail),
        false => Finding::poor(
            "agent",
            format!("{detail}, and this command is of {here}"),
            "systemctl restart weft-agent, if the package was updated",
        ),
    }
}

fn certificate(own: &Value, now: Timestamp) -> Finding {
    let until = own["Weft"]["CertificateValidBefore"].as_str().unwrap_or_default();
    let Some(end) = Timestamp::parse_rfc3339(until) else {
        return Finding::unknown("certificate", "whoever answers has none, or does not tell");
    };
    match end <= now {
        true => Finding::bad(
            "certificate",
            format!("this host's own was good until {until}: servers do not let it in"),
            "get a new one: weft operator join-token create, then weft agent join TOKEN",
        ),
        false => Finding::good("certificate", format!("this host's own is good until {until}")),
    }
}

fn servers(own: &Value, leader: Option<String>) -> Finding {
    let list = own["Weft"]["Servers"].as_array().map(Vec::as_slice).unwrap_or_default();
    let list: Vec<&str> = list.iter().filter_map(Value::as_str).collect();
    let list = list.join(", ");
    if own["Weft"]["ServerConnected"] == false {
        let fix = "see that they run, and that TCP to these addresses passes: weft join HOST if they have moved";
        return Finding::bad("servers", format!("none of {list} can be reached"), fix);
    }
    match leader.filter(|leader| !leader.is_empty()) {
        Some(leader) => Finding::good("servers", format!("{list}; {leader} leads")),
        None => Finding::bad(
            "servers",
            "there is no leader: nothing can be written",
            "more than half of the servers must run and reach each other: weft operator raft list-peers --stale",
        ),
    }
}

fn clock_offset(ahead: &Value) -> Option<Finding> {
    let ahead = ahead.as_i64()?;
    let (off, word) = (ahead.unsigned_abs(), if ahead < 0 { "behind" } else { "ahead of" });
    let detail = format!("{off} ms {word} the servers'");
    let fix = "set the clock of this host or of the servers: timedatectl set-ntp true";
    Some(if off >= CLOCK_BAD_MS {
        Finding::bad("clock", detail, fix)
    } else if off >= CLOCK_POOR_MS {
        Finding::poor("clock", detail, fix)
    } else {
        Finding::good("clock", detail)
    })
}

/// Compares the servers' releases with this command's.
fn versions(state: &Value) -> Option<Finding> {
    let here = env!("CARGO_PKG_VERSION");
    let servers = state["Servers"].as_object()?;
    let other = servers.values().filter_map(|server| {
        let (name, release) = (server["Name"].as_str()?, server["Version"].as_str()?);
        (release != here).then(|| format!("{name} has {release}"))
    });
    let other: Vec<String> = other.collect();
    Some(match other.is_empty() {
        true => Finding::good("releases", format!("{} servers, all of {here}", servers.len())),
        false => Finding::poor(
            "releases",
            format!("this host has {here}, {}", other.join(", ")),
            "update the servers first, one after the other, then the hosts",
        ),
    })
}

fn hosts(members: &[Value]) -> Finding {
    // 1 is "alive" among the states of Consul's members.
    let away = members.iter().filter(|member| member["Status"] != 1);
    let away: Vec<&str> = away.filter_map(|member| member["Name"].as_str()).collect();
    match away.is_empty() {
        true => Finding::good("hosts", format!("{}, all answer", members.len())),
        false => Finding::poor(
            "hosts",
            format!("{} of {} do not answer: {}", away.len(), members.len(), away.join(", ")),
            "weft force-leave NAME for one that is gone for good",
        ),
    }
}

fn health(checks: &Value) -> Finding {
    let checks = checks.as_object();
    let all = checks.map_or(0, serde_json::Map::len);
    let critical = checks.into_iter().flatten().filter(|(_, check)| check["Status"] == "critical");
    let critical: Vec<&str> = critical.map(|(id, _)| id.as_str()).collect();
    match critical.is_empty() {
        true => Finding::good("checks", format!("{all} on this host, none critical")),
        false => Finding::poor(
            "checks",
            format!("{} of {all} are critical: {}", critical.len(), critical.join(", ")),
            "curl 127.0.0.1:8500/v1/agent/checks?pretty shows what each said",
        ),
    }
}

fn proxy(proxy: &ProxyBody) -> Finding {
    let what = format!("proxy {}", proxy.proxy_id);
    let see = "weft ps shows its state, journalctl -u 'weft-proxy*' its log";
    match proxy.state {
        ProxyState::InForce => {
            Finding::good(what, format!("in force, certificate until {}", proxy.leaf_valid_before))
        }
        ProxyState::Pending => {
            Finding::poor(what, "has not yet taken the newest configuration", see)
        }
        ProxyState::Waiting => Finding::poor(what, "waits for its first configuration", see),
        ProxyState::NeverConnected => {
            let start = format!("start it: systemctl enable --now weft-proxy@{}", proxy.proxy_id);
            Finding::poor(what, "registered, but no program has connected", start)
        }
        ProxyState::Disconnected => Finding::poor(what, "was there and is no more", see),
        ProxyState::ListenersMissing => {
            Finding::bad(what, format!("cannot open {}", proxy.missing_listeners.join(", ")), see)
        }
        ProxyState::Refused => {
            let reason = proxy.refused.as_ref().map_or("", |refused| refused.reason.as_str());
            Finding::bad(what, format!("refused its configuration: {reason}"), see)
        }
    }
}

/// Whether this host finds names of the mesh: the agent answers, and the host's resolver asks it.
async fn names(own: &Value) -> Finding {
    let weft = &own["Weft"];
    let address = weft["DnsAddr"].as_str().and_then(|it| it.parse::<SocketAddr>().ok());
    let (Some(agent), Some(domain)) = (address, weft["DnsDomain"].as_str()) else {
        return Finding::unknown("names", "whoever answers at this address serves no DNS");
    };
    let checked = dns::check(agent, domain, None).await;
    match (checked.fault(), checked.advice()) {
        (Some(fault), Some(advice)) => Finding::poor("names", fault, advice),
        (Some(fault), None) => Finding::poor("names", fault, "weft dns check"),
        (None, _) => Finding::good("names", format!("names below {domain} are found on this host")),
    }
}

#[cfg(test)]
mod tests {
    use super::super::finding::Standing;
    use super::*;
    use serde_json::json;

    #[test]
    fn clocks_that_disagree_are_told_by_how_far() {
        for (ahead, standing) in [
            (json!(12), Some(Standing::Good)),
            (json!(-7_000), Some(Standing::Poor)),
            (json!(7_200_000), Some(Standing::Bad)),
            (Value::Null, None),
        ] {
            assert_eq!(clock_offset(&ahead).map(|found| found.standing), standing, "{ahead}");
        }
    }

    #[test]
    fn a_mesh_without_leader_and_a_host_without_servers_say_so() {
        let connected = json!({ "Weft": { "Servers": ["a:1"], "ServerConnected": true } });
        assert!(!servers(&connected, Some("a:1".to_owned())).is_bad());
        assert!(servers(&connected, Some(String::new())).detail.contains("no leader"));
        let alone = json!({ "Weft": { "Servers": ["a:1"], "ServerConnected": false } });
        assert!(servers(&alone, None).detail.contains("none of a:1"));
    }

    #[test]
    fn certificates_and_releases_are_compared() {
        let own = json!({ "Weft": { "CertificateValidBefore": "2026-01-01T00:00:00.000Z" } });
        let end = Timestamp::parse_rfc3339("2026-01-01T00:00:00.000Z").expect("a time");
        assert!(certificate(&own, end).is_bad());
        assert!(!certificate(&own, Timestamp(end.0 - 1)).is_bad());
        let state = |release| json!({ "Servers": { "1": { "Name": "s1", "Version": release } } });
        let found = versions(&state(env!("CARGO_PKG_VERSION"))).expect("servers");
        assert_eq!(found.standing, Standing::Good);
        assert!(versions(&state("0.0.1")).expect("servers").detail.contains("s1 has 0.0.1"));
    }
}
