//! Rules as text for `iptables-restore --noflush` and `ip6tables-restore --noflush`: chains of our own
//! in the table `nat`, and a jump to each.
//!
//! **Source**: iptables-restore(8), iptables-extensions(8).

use std::fmt::Write as _;

use super::{CapturePlan, DNS_PORT, Family, Reach, Whose};

/// Our chain for what goes out, and the one that jumps to it.
const OUTPUT: (&str, &str) = ("WEFT_OUTPUT", "OUTPUT");
/// Our chain for what comes in, and the one that jumps to it.
const PREROUTING: (&str, &str) = ("WEFT_PREROUTING", "PREROUTING");

/// Writes the rules of one family, as one transaction. They take the place of those before, which
/// `saved`, the answer of `iptables-save -t nat`, tells.
pub fn restore(plan: &CapturePlan, family: Family, saved: &str) -> String {
    let mut text = "*nat\n".to_owned();
    for (chain, _) in [OUTPUT, PREROUTING] {
        // A chain that is there already is emptied by this.
        let _ = writeln!(text, ":{chain} - [0:0]");
    }
    write_lines(&mut text, jumps(saved).map(|rule| format!("-D {rule}")));
    if !plan.selected.is_empty() {
        let rules = outbound(plan, family).into_iter();
        write_lines(&mut text, rules.map(|rule| format!("-A {} {rule}", OUTPUT.0)));
        let _ = writeln!(text, "-A {} -j {}", OUTPUT.1, OUTPUT.0);
    }
    if let Some(port) = plan.inbound_port {
        let rules = inbound(plan, port).into_iter();
        write_lines(&mut text, rules.map(|rule| format!("-A {} {rule}", PREROUTING.0)));
        let _ = writeln!(text, "-A {} -p tcp -j {}", PREROUTING.1, PREROUTING.0);
    }
    text.push_str("COMMIT\n");
    text
}

/// Writes what takes everything of ours away; `None` when there is nothing.
pub fn removal(saved: &str) -> Option<String> {
    let there: Vec<&str> = [OUTPUT, PREROUTING]
        .into_iter()
        .map(|(chain, _)| chain)
        .filter(|chain| saved.lines().any(|line| line.starts_with(&format!(":{chain} "))))
        .collect();
    if there.is_empty() {
        return None;
    }
    let mut text = "*nat\n".to_owned();
    write_lines(&mut text, jumps(saved).map(|rule| format!("-D {rule}")));
    write_lines(&mut text, there.iter().map(|chain| format!("-F {chain}")));
    write_lines(&mut text, there.iter().map(|chain| format!("-X {chain}")));
    text.push_str("COMMIT\n");
    Some(text)
}

/// Returns the lines of `iptables-save` that are ours.
pub fn ours(saved: &str) -> Vec<&str> {
    let names = [OUTPUT.0, PREROUTING.0];
    let is_rule = |line: &&str| line.starts_with("-A ");
    let is_ours = |line: &&str| {
        let mut words = line.split_whitespace();
        words.any(|word| names.contains(&word))
    };
    saved.lines().filter(is_rule).filter(is_ours).collect()
}

/// Returns the jumps to our chains, as they are written after `-A`.
fn jumps(saved: &str) -> impl Iterator<Item = &str> {
    let from = [OUTPUT, PREROUTING];
    let rules = saved.lines().filter_map(|line| line.strip_prefix("-A "));
    rules.filter(move |rule| {
        from.iter().any(|(chain, hook)| {
            rule.starts_with(&format!("{hook} ")) && rule.ends_with(&format!(" -j {chain}"))
        })
    })
}

fn write_lines(text: &mut String, lines: impl Iterator<Item = String>) {
    for line in lines {
        text.push_str(&line);
        text.push('\n');
    }
}

fn outbound(plan: &CapturePlan, family: Family) -> Vec<String> {
    let mut rules: Vec<String> =
        plan.left_out.iter().map(|whose| format!("{} -j RETURN", matches(whose))).collect();
    let marks = plan.marks_left_out.iter();
    rules.extend(marks.map(|mark| format!("-m mark --mark {mark:#x} -j RETURN")));
    let selected = || {
        plan.selected.iter().map(|it| {
            let whose = it.whose.as_ref().map(|whose| format!(" {}", matches(whose)));
            (whose.unwrap_or_default(), it.port)
        })
    };
    if let Some(dns) = plan.dns_of(family) {
        for protocol in ["udp", "tcp"] {
            rules.extend(selected().map(|(whose, _)| {
                format!("-p {protocol} --dport {DNS_PORT}{whose} -j DNAT --to-destination {dns}")
            }));
        }
    }
    let net = family.virtual_net();
    rules.extend(
        selected()
            .map(|(whose, port)| format!("-d {net} -p tcp{whose} -j REDIRECT --to-ports {port}")),
    );
    if plan.reach == Reach::VirtualOnly {
        return rules;
    }
    rules.push("-o lo -j RETURN".to_owned());
    let ports = plan.outbound_ports_left_out.iter();
    rules.extend(ports.map(|port| format!("-p tcp --dport {port} -j RETURN")));
    let networks = plan.networks(family).into_iter();
    rules.extend(networks.map(|network| format!("-d {network} -j RETURN")));
    rules.extend(
        selected().map(|(whose, port)| format!("-p tcp{whose} -j REDIRECT --to-ports {port}")),
    );
    rules
}

fn inbound(plan: &CapturePlan, port: u16) -> Vec<String> {
    let mut rules =
        vec!["-i lo -j RETURN".to_owned(), "-m addrtype ! --dst-type LOCAL -j RETURN".to_owned()];
    let ports = plan.inbound_ports_left_out.iter();
    rules.extend(ports.map(|port| format!("-p tcp --dport {port} -j RETURN")));
    rules.push(format!("-p tcp -j REDIRECT --to-ports {port}"));
    rules
}

fn matches(whose: &Whose) -> String {
    match whose {
        Whose::Cgroup(path) => format!("-m cgroup --path {}", path.0),
        Whose::Gid(group) => format!("-m owner --gid-owner {group}"),
        Whose::Uid(user) => format!("-m owner --uid-owner {user}"),
    }
}
