//! What to change so that this host's resolver asks the agent, by what resolver it is.

use std::net::{IpAddr, SocketAddr};

use super::PORT;

/// Where systemd-resolved answers.
const RESOLVED: [[u8; 4]; 2] = [[127, 0, 0, 53], [127, 0, 0, 54]];

/// Reads the resolvers of a `resolv.conf`.
///
/// **Source**: resolv.conf(5).
pub(super) fn resolvers(text: &str) -> Vec<SocketAddr> {
    let of_line = |line: &str| {
        let address = line.trim().strip_prefix("nameserver")?.trim();
        address.parse::<IpAddr>().ok().map(|ip| SocketAddr::new(ip, PORT))
    };
    text.lines().filter_map(of_line).collect()
}

/// What to do about an agent that does not answer.
pub(super) fn agent(agent: SocketAddr) -> String {
    format!(
        "The agent says that it answers at {agent}, and it does not: see its log, and whether a \
         firewall of this host drops UDP or TCP to that port."
    )
}

/// What to do so that a resolver passes the mesh's names on to the agent.
pub(super) fn resolver(listed: &[SocketAddr], agent: SocketAddr, domain: &str) -> String {
    let is_resolved = listed
        .iter()
        .any(|resolver| RESOLVED.iter().any(|address| resolver.ip() == IpAddr::from(*address)));
    let (ip, port) = (agent.ip(), agent.port());
    if is_resolved {
        return format!(
            "This host uses systemd-resolved. Have it ask the agent for names below {domain}:\n\n  \
             mkdir -p /etc/systemd/resolved.conf.d\n  cat > /etc/systemd/resolved.conf.d/weft.conf \
             <<'END'\n  [Resolve]\n  DNS={agent}\n  Domains=~{domain}\n  END\n  systemctl restart \
             systemd-resolved"
        );
    }
    let is_local = listed.iter().any(|resolver| resolver.ip().is_loopback());
    let place = if is_local { "the resolver on this host" } else { "a resolver of this host" };
    format!(
        "Have {place} ask the agent for names below {domain}. In the one that it is:\n\n  \
         dnsmasq   server=/{domain}/{ip}#{port}\n  \
         unbound   server: do-not-query-localhost: no, domain-insecure: \"{domain}\"\n            \
         stub-zone: name: \"{domain}\", stub-addr: {ip}@{port}\n  \
         BIND      zone \"{domain}\" {{ type forward; forward only; forwarders {{ {ip} port {port}; }}; }};\n\n\
         A resolver elsewhere reaches the agent only at an address of this host, not on loopback: \
         dns {{ more_addrs = [\"IP:{port}\"] }}.\n\
         Or have this host ask the agent for everything: dns {{ addr = \"127.0.0.1:53\", recursors = \
         [\"…\"] }} in its configuration, and \"nameserver 127.0.0.1\" in /etc/resolv.conf."
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_resolver_at_hand_gets_its_own_advice() {
        let listed = resolvers("# x\nsearch a\nnameserver 127.0.0.53\nnameserver ::1\noptions y\n");
        assert_eq!(listed.len(), 2);
        let agent = "127.0.0.1:8600".parse().expect("an address");
        let advice = resolver(&listed, agent, "mesh");
        assert!(advice.contains("DNS=127.0.0.1:8600") && advice.contains("Domains=~mesh"));
        let advice = resolver(&resolvers("nameserver 10.0.0.2"), agent, "mesh");
        assert!(advice.contains("server=/mesh/127.0.0.1#8600"), "{advice}");
    }
}
