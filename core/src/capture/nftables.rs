//! Rules as text for `nft -f -`: a table of our own, put in place as a whole.
//!
//! **Source**: nft(8).

use std::fmt::Write as _;

use super::{CapturePlan, DNS_PORT, Family, Reach, Whose, list};

/// The table; all that is ours is in it.
pub const TABLE: &str = "inet weft_capture";
/// What takes everything of ours away.
pub const REMOVE: &str = "delete table inet weft_capture\n";

/// Writes the rules. Carried out as one transaction they take the place of those before.
pub fn ruleset(plan: &CapturePlan) -> String {
    // The first line makes sure that there is something to delete.
    let mut text = format!("table {TABLE}\ndelete table {TABLE}\ntable {TABLE} {{\n");
    if !plan.selected.is_empty() {
        text.push_str("  chain output {\n    type nat hook output priority -100; policy accept;\n");
        for rule in outbound(plan) {
            let _ = writeln!(text, "    {rule}");
        }
        text.push_str("  }\n");
    }
    if let Some(port) = plan.inbound_port {
        text.push_str(
            "  chain prerouting {\n    type nat hook prerouting priority -100; policy accept;\n",
        );
        text.push_str("    iifname \"lo\" return\n    fib daddr type != local return\n");
        if !plan.inbound_ports_left_out.is_empty() {
            let ports = list(&plan.inbound_ports_left_out);
            let _ = writeln!(text, "    tcp dport {{ {ports} }} return");
        }
        let _ = writeln!(text, "    meta l4proto tcp redirect to :{port}\n  }}");
    }
    text.push_str("}\n");
    text
}

fn outbound(plan: &CapturePlan) -> Vec<String> {
    let mut rules: Vec<String> =
        plan.left_out.iter().map(|whose| format!("{} return", matches(whose))).collect();
    rules.extend(plan.marks_left_out.iter().map(|mark| format!("meta mark {mark:#x} return")));
    let selected = || {
        plan.selected.iter().map(|it| {
            let whose = it.whose.as_ref().map(|whose| format!("{} ", matches(whose)));
            (whose.unwrap_or_default(), it.port)
        })
    };
    for (family, ip) in [(Family::V4, "ip"), (Family::V6, "ip6")] {
        if let Some(dns) = plan.dns_of(family) {
            let nfproto = nfproto(family);
            rules.extend(selected().map(|(whose, _)| {
                format!(
                    "meta nfproto {nfproto} {whose}meta l4proto {{ tcp, udp }} th dport {DNS_PORT} dnat {ip} to {dns}"
                )
            }));
        }
    }
    for (family, ip) in [(Family::V4, "ip"), (Family::V6, "ip6")] {
        let net = family.virtual_net();
        rules.extend(selected().map(|(whose, port)| {
            format!("{ip} daddr {net} {whose}meta l4proto tcp redirect to :{port}")
        }));
    }
    if plan.reach == Reach::VirtualOnly {
        return rules;
    }
    rules.push("oifname \"lo\" return".to_owned());
    if !plan.outbound_ports_left_out.is_empty() {
        rules.push(format!("tcp dport {{ {} }} return", list(&plan.outbound_ports_left_out)));
    }
    for (family, ip) in [(Family::V4, "ip"), (Family::V6, "ip6")] {
        // One rule each: sets refuse networks that overlap.
        let networks = plan.networks(family).into_iter();
        rules.extend(networks.map(|network| format!("{ip} daddr {network} return")));
    }
    rules.extend(
        selected().map(|(whose, port)| format!("{whose}meta l4proto tcp redirect to :{port}")),
    );
    rules
}

fn nfproto(family: Family) -> &'static str {
    match family {
        Family::V4 => "ipv4",
        Family::V6 => "ipv6",
    }
}

fn matches(whose: &Whose) -> String {
    match whose {
        Whose::Cgroup(path) => format!("socket cgroupv2 level {} \"{}\"", path.depth(), path.0),
        Whose::Gid(group) => format!("meta skgid {group}"),
        Whose::Uid(user) => format!("meta skuid {user}"),
    }
}
