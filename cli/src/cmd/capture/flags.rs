//! The flags that say what is captured, and the plan that they make.

use std::net::SocketAddr;

use clap::Args;
use ipnet::IpNet;
use weft_core::capture::{
    Account, CapturePlan, CgroupPath, OUTBOUND_PORT, Reach, SSH_PORT, Selected, Whose,
};

/// What is captured.
#[derive(Debug, Args)]
pub(super) struct PlanArgs {
    /// The user as whom the proxy runs: what it calls itself is left alone. Needed where everybody's
    /// calls are captured; repeatable
    #[arg(long, value_name = "USER", value_parser = Account::parse)]
    proxy_uid: Vec<Account>,
    /// The group as which the proxy runs
    #[arg(long, value_name = "GROUP", value_parser = Account::parse)]
    proxy_gid: Vec<Account>,
    /// Capture only what this user calls, to the proxy's port after "=" [default: --outbound-port];
    /// repeatable, as --gid and --cgroup. Without any of them everybody's calls are captured
    #[arg(long, value_name = "USER[=PORT]", value_parser = with_port)]
    uid: Vec<Of>,
    /// Capture only what this group calls
    #[arg(long, value_name = "GROUP[=PORT]", value_parser = with_port)]
    gid: Vec<Of>,
    /// Capture only what processes in this control group call, such as
    /// system.slice/web.service (unified hierarchy); it must be there
    #[arg(long, value_name = "PATH[=PORT]", value_parser = cgroup)]
    cgroup: Vec<Cgroup>,
    /// The port on which the proxy takes captured calls
    #[arg(long, value_name = "PORT", default_value_t = OUTBOUND_PORT)]
    outbound_port: u16,
    /// Capture only calls to virtual addresses; all others go out as without weft
    #[arg(long)]
    only_virtual: bool,
    /// Leave alone what this user calls; repeatable
    #[arg(long, value_name = "USER", value_parser = Account::parse)]
    exclude_uid: Vec<Account>,
    /// Leave alone what this group calls; repeatable
    #[arg(long, value_name = "GROUP", value_parser = Account::parse)]
    exclude_gid: Vec<Account>,
    /// Leave alone packets with this mark (SO_MARK); repeatable
    #[arg(long, value_name = "MARK", value_parser = mark)]
    exclude_mark: Vec<u32>,
    /// Leave alone calls to this port; repeatable
    #[arg(long, value_name = "PORT")]
    exclude_outbound_port: Vec<u16>,
    /// Leave alone calls to this network; repeatable
    #[arg(long, value_name = "CIDR", value_parser = network)]
    exclude_outbound_cidr: Vec<IpNet>,
    /// Lead questions to port 53 to the agent's DNS here; at most one address of each family
    #[arg(long, value_name = "IP:PORT")]
    dns: Vec<SocketAddr>,
    /// Lead what others call on this host to this port, where the proxy takes mutual TLS
    #[arg(long, value_name = "PORT")]
    inbound_port: Option<u16>,
    /// Leave this port to others directly; repeatable
    #[arg(long, value_name = "PORT")]
    exclude_inbound_port: Vec<u16>,
    /// Capture SSH (port 22) from others too, which is left alone otherwise
    #[arg(long)]
    capture_ssh: bool,
}

/// A user or group, and the port of its proxy.
#[derive(Debug, Clone)]
struct Of(Account, Option<u16>);

#[derive(Debug, Clone)]
struct Cgroup(CgroupPath, Option<u16>);

impl PlanArgs {
    pub(super) fn plan(&self) -> CapturePlan {
        let of = |whose, port: Option<u16>| Selected {
            whose: Some(whose),
            port: port.unwrap_or(self.outbound_port),
        };
        let mut selected: Vec<Selected> = Vec::new();
        selected.extend(self.uid.iter().map(|it| of(Whose::Uid(it.0.clone()), it.1)));
        selected.extend(self.gid.iter().map(|it| of(Whose::Gid(it.0.clone()), it.1)));
        selected.extend(self.cgroup.iter().map(|it| of(Whose::Cgroup(it.0.clone()), it.1)));
        let is_proxy_told = !self.proxy_uid.is_empty() || !self.proxy_gid.is_empty();
        // Who asks for what comes in alone need not say who the proxy is.
        if selected.is_empty() && (is_proxy_told || self.inbound_port.is_none()) {
            selected.push(Selected { whose: None, port: self.outbound_port });
        }
        let users = self.proxy_uid.iter().chain(&self.exclude_uid).cloned().map(Whose::Uid);
        let groups = self.proxy_gid.iter().chain(&self.exclude_gid).cloned().map(Whose::Gid);
        let ssh = (!self.capture_ssh).then_some(SSH_PORT);
        CapturePlan {
            selected,
            reach: if self.only_virtual { Reach::VirtualOnly } else { Reach::All },
            left_out: users.chain(groups).collect(),
            marks_left_out: self.exclude_mark.clone(),
            outbound_ports_left_out: self.exclude_outbound_port.clone(),
            networks_left_out: self.exclude_outbound_cidr.clone(),
            dns: self.dns.clone(),
            inbound_port: self.inbound_port,
            inbound_ports_left_out: ssh
                .into_iter()
                .chain(self.exclude_inbound_port.clone())
                .collect(),
        }
    }
}

fn with_port(text: &str) -> Result<Of, String> {
    let (name, port) = split(text)?;
    Account::parse(name).map(|account| Of(account, port))
}

fn cgroup(text: &str) -> Result<Cgroup, String> {
    let (path, port) = split(text)?;
    CgroupPath::parse(path).map(|path| Cgroup(path, port))
}

fn split(text: &str) -> Result<(&str, Option<u16>), String> {
    match text.rsplit_once('=') {
        None => Ok((text, None)),
        Some((name, port)) => match port.parse::<u16>() {
            Ok(port) if port > 0 => Ok((name, Some(port))),
            Ok(_) | Err(_) => Err(format!("{port:?} is no port from 1 to 65535")),
        },
    }
}

fn mark(text: &str) -> Result<u32, String> {
    let read = match text.strip_prefix("0x") {
        Some(hex) => u32::from_str_radix(hex, 16),
        None => text.parse(),
    };
    read.map_err(|_| "write a number, such as 0x77".to_owned())
}

fn network(text: &str) -> Result<IpNet, String> {
    let one = || text.parse::<std::net::IpAddr>().map(IpNet::from);
    text.parse().or_else(|_| one()).map_err(|_| "write a network, such as 10.0.0.0/8".to_owned())
}
