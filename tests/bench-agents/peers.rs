//! The programs of the run: each with the same names, and a way to change them.

use std::fmt::Write as _;
use std::fs::{self, File};
use std::io::{Read, Write};
use std::net::SocketAddr;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use serde_json::json;
use weft_tests::http::{Answer, Api};
use weft_tests::ports::free_port;
use weft_tests::{Cluster, tools};

use crate::data::{Data, INSTANCES};
use crate::load::{PEER_CORE, pin};

/// How long a program may take until it answers.
const START_LIMIT: Duration = Duration::from_secs(30);

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Kind {
    Bind,
    Consul,
    Dnsmasq,
    Unbound,
    Weft,
}

pub(crate) const KINDS: [Kind; 5] =
    [Kind::Weft, Kind::Unbound, Kind::Bind, Kind::Dnsmasq, Kind::Consul];

impl Kind {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Bind => "bind",
            Self::Consul => "consul",
            Self::Dnsmasq => "dnsmasq",
            Self::Unbound => "unbound",
            Self::Weft => "weft",
        }
    }
}

/// A program that runs.
pub(crate) struct Peer {
    pub(crate) kind: Kind,
    pub(crate) address: SocketAddr,
    pub(crate) pid: u32,
    folder: PathBuf,
    api: Option<Api>,
    child: Option<Child>,
    _mesh: Option<Cluster>,
}

impl Drop for Peer {
    fn drop(&mut self) {
        if let Some(child) = &mut self.child {
            // It may have ended by itself.
            let _ = child.kill().and_then(|()| child.wait());
        }
    }
}

impl Peer {
    /// Starts a program with the names, and waits until it answers.
    pub(crate) fn start(
        kind: Kind,
        data: &Data,
        (folder, peers): (&Path, &Path),
    ) -> anyhow::Result<Self> {
        let folder = folder.join(kind.name());
        fs::create_dir_all(&folder)?;
        let port = free_port();
        let address = SocketAddr::from(([127, 0, 0, 1], port));
        let process = |mut command: Command, api| -> anyhow::Result<Self> {
            let log = File::create(folder.join("log"))?;
            command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
            let child = command.spawn().with_context(|| format!("starting {command:?}"))?;
            let (pid, folder) = (child.id(), folder.clone());
            Ok(Self { kind, address, pid, folder, api, child: Some(child), _mesh: None })
        };
        let peer = match kind {
            Kind::Bind => process(bind(&folder, port, data)?, None)?,
            Kind::Consul => {
                let http = free_port();
                let api = Api::new(SocketAddr::from(([127, 0, 0, 1], http)));
                let peer = process(consul(peers, &folder, (port, http))?, Some(api))?;
                register(&api, data)?;
                peer
            }
            Kind::Dnsmasq => process(dnsmasq(&folder, port, data)?, None)?,
            Kind::Unbound => process(unbound(&folder, port, data)?, None)?,
            Kind::Weft => {
                let mut mesh = Cluster::start();
                // Under this load they may warn of delays.
                mesh.agent.process.expect_log("");
                mesh.server.process.expect_log("");
                let (api, address) = (mesh.agent.api(), mesh.agent.dns());
                let pid = mesh.agent.process.pid();
                register(&api, data)?;
                let (api, folder) = (Some(api), folder.clone());
                Self { kind, address, pid, folder, api, child: None, _mesh: Some(mesh) }
            }
        };
        peer.wait(data)?;
        pin(peer.pid, PEER_CORE)?;
        Ok(peer)
    }

    /// Waits until the last name is answered whole.
    fn wait(&self, data: &Data) -> anyhow::Result<()> {
        let name = format!("{}.service.consul", data.service(data.services - 1));
        let (at, port) = (format!("@{}", self.address.ip()), self.address.port().to_string());
        let began = Instant::now();
        loop {
            let ran = tools::run("dig", &[&at, "-p", &port, "+short", "+tries=1", &name, "A"]);
            let said = ran.ok().unwrap_or_default();
            if said.lines().count() == INSTANCES {
                return Ok(());
            }
            let log = || fs::read_to_string(self.folder.join("log")).unwrap_or_default();
            ensure!(began.elapsed() < START_LIMIT, "it does not answer: {said} {}", log());
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    /// Makes what changes names.
    pub(crate) fn changer(&self) -> anyhow::Result<Changer> {
        Ok(match self.kind {
            Kind::Bind => {
                let mut child = Command::new("nsupdate").stdin(Stdio::piped()).spawn()?;
                let mut stdin = child.stdin.take().context("it was asked for")?;
                writeln!(stdin, "server 127.0.0.1 {}\nzone consul", self.address.port())?;
                Changer::Nsupdate(stdin, child)
            }
            Kind::Consul | Kind::Weft => Changer::Api(self.api.context("it has one")?),
            Kind::Dnsmasq => Changer::Hosts(self.folder.join("hosts")),
            Kind::Unbound => Changer::Control(self.folder.join("control")),
        })
    }
}

/// Changes names.
pub(crate) enum Changer {
    Api(Api),
    Control(PathBuf),
    Hosts(PathBuf),
    Nsupdate(ChildStdin, Child),
}

impl Drop for Changer {
    fn drop(&mut self) {
        if let Self::Nsupdate(_, child) = self {
            let _ = child.kill().and_then(|()| child.wait());
        }
    }
}

impl Changer {
    /// Moves the instance of a step to another address.
    pub(crate) fn change(&mut self, data: &Data, step: u32) -> anyhow::Result<()> {
        let (number, at, moves) = data.step(step);
        let (before, after) =
            (data.address(number, at, moves - 1), data.address(number, at, moves));
        let name = format!("{}.service.consul", data.service(number));
        match self {
            Self::Api(api) => move_to(api, (data, number, at), moves),
            Self::Control(path) => {
                // unbound takes names away whole: all of the name is said anew.
                control(path, &format!("local_data_remove {name}"))?;
                for instance in 0..INSTANCES {
                    let moves = if instance == at { moves } else { 0 };
                    let address = data.address(number, instance, moves);
                    control(path, &format!("local_data {name} 0 A {address}"))?;
                    control(path, &format!("local_data {name} 0 {}", srv(data, number, instance)))?;
                }
                Ok(())
            }
            Self::Hosts(folder) => {
                let new = folder.join(format!("moved-{number}-{at}"));
                Ok(fs::write(new, format!("{after} {name}\n"))?)
            }
            Self::Nsupdate(stdin, _) => {
                let (gone, new) = (format!("{name} 0 A {before}"), format!("{name} 0 A {after}"));
                Ok(writeln!(stdin, "update delete {gone}\nupdate add {new}\nsend")?)
            }
        }
    }
}

/// One command of unbound's control channel.
fn control(path: &Path, command: &str) -> anyhow::Result<()> {
    let mut stream = UnixStream::connect(path)?;
    writeln!(stream, "UBCT1 {command}")?;
    let mut said = String::new();
    stream.read_to_string(&mut said)?;
    ensure!(said.trim() == "ok", "{command}: {said}");
    Ok(())
}

fn srv(data: &Data, number: usize, at: usize) -> String {
    format!("SRV 1 1 {} {}.node.consul.", data.port(at), data.node(number, at))
}

fn put(api: &Api, body: &serde_json::Value) -> anyhow::Result<()> {
    match api.put("/v1/catalog/register", body).and_then(Answer::ok) {
        Ok(_) => Ok(()),
        Err(reason) => bail!(reason),
    }
}

fn move_to(api: &Api, (data, number, at): (&Data, usize, usize), moves: u32) -> anyhow::Result<()> {
    let address = data.address(number, at, moves).to_string();
    let service = json!({ "Service": data.service(number), "Port": data.port(at) });
    let node = data.node(number, at);
    put(api, &json!({ "Node": node, "Address": address, "Service": service }))
}

fn register(api: &Api, data: &Data) -> anyhow::Result<()> {
    let began = Instant::now();
    while let Err(error) = move_to(api, (data, 0, 0), 0) {
        if began.elapsed() > START_LIMIT {
            return Err(error);
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    for (number, at) in data.all() {
        move_to(api, (data, number, at), 0)?;
    }
    Ok(())
}

fn program(name: &str) -> anyhow::Result<PathBuf> {
    tools::find(name).with_context(|| format!("{name} is not installed"))
}

fn unbound(folder: &Path, port: u16, data: &Data) -> anyhow::Result<Command> {
    let program = program("unbound")?;
    let mut text = format!(
        "server:\n interface: 127.0.0.1@{port}\n num-threads: 1\n do-daemonize: no\n chroot: \"\"\n \
         username: \"\"\n directory: \"{folder}\"\n pidfile: \"\"\n use-syslog: no\n verbosity: 1\n \
         incoming-num-tcp: 100\n module-config: \"iterator\"\n local-zone: \"consul.\" static\n",
        folder = folder.display(),
    );
    for (number, at) in data.all() {
        let (name, node) = (data.service(number), data.node(number, at));
        let address = data.address(number, at, 0);
        let srv = srv(data, number, at);
        writeln!(text, " local-data: \"{name}.service.consul. 0 A {address}\"")?;
        writeln!(text, " local-data: \"{name}.service.consul. 0 {srv}\"")?;
        writeln!(text, " local-data: \"{node}.node.consul. 0 A {address}\"")?;
    }
    let control = folder.join("control");
    writeln!(
        text,
        "remote-control:\n control-enable: yes\n control-use-cert: no\n control-interface: \"{}\"",
        control.display()
    )?;
    let config = folder.join("unbound.conf");
    fs::write(&config, text)?;
    let mut command = Command::new(program);
    command.arg("-d").arg("-c").arg(config);
    Ok(command)
}

fn bind(folder: &Path, port: u16, data: &Data) -> anyhow::Result<Command> {
    let program = program("named")?;
    let mut zone =
        "$TTL 0\n@ SOA ns hostmaster 1 3600 600 86400 0\n@ NS ns\nns A 127.0.0.1\n".to_owned();
    for (number, at) in data.all() {
        let (name, node) = (data.service(number), data.node(number, at));
        let address = data.address(number, at, 0);
        writeln!(zone, "{name}.service A {address}")?;
        writeln!(zone, "{name}.service {}", srv(data, number, at))?;
        writeln!(zone, "{node}.node A {address}")?;
    }
    fs::write(folder.join("zone"), zone)?;
    let text = format!(
        "options {{ directory \"{folder}\"; listen-on port {port} {{ 127.0.0.1; }}; listen-on-v6 \
         {{ none; }}; recursion no; pid-file none; dnssec-validation no; }};\n\
         controls {{ }};\n zone \"consul\" {{ type master; file \"zone\"; allow-update {{ 127.0.0.1; }}; \
         }};\n",
        folder = folder.display(),
    );
    let config = folder.join("named.conf");
    fs::write(&config, text)?;
    let mut command = Command::new(program);
    command.args(["-g", "-n", "1", "-c"]).arg(config);
    Ok(command)
}

fn dnsmasq(folder: &Path, port: u16, data: &Data) -> anyhow::Result<Command> {
    let program = program("dnsmasq")?;
    let hosts = folder.join("hosts");
    fs::create_dir_all(&hosts)?;
    let (mut names, mut services) = (String::new(), String::new());
    for (number, at) in data.all() {
        let (name, node) = (data.service(number), data.node(number, at));
        let address = data.address(number, at, 0);
        writeln!(names, "{address} {name}.service.consul {node}.node.consul")?;
        let port = data.port(at);
        writeln!(services, "srv-host={name}.service.consul,{node}.node.consul,{port},1,1")?;
    }
    fs::write(hosts.join("all"), names)?;
    let config = folder.join("dnsmasq.conf");
    fs::write(&config, services)?;
    let mut command = Command::new(program);
    command.args(["-k", "--no-resolv", "--no-hosts", "--local=/consul/", "--user=root"]);
    command.args(["--listen-address=127.0.0.1", "--bind-interfaces", "--log-facility=-"]);
    command.arg(format!("--port={port}")).arg(format!("--hostsdir={}", hosts.display()));
    command.arg(format!("--conf-file={}", config.display()));
    Ok(command)
}

fn consul(peers: &Path, folder: &Path, (dns, http): (u16, u16)) -> anyhow::Result<Command> {
    let program = peers.join("consul");
    ensure!(program.exists(), "{} is not there", program.display());
    let config = folder.join("consul.json");
    let settings = json!({
        "server": true, "bootstrap_expect": 1, "node_name": "bench",
        "data_dir": folder.join("data"), "bind_addr": "127.0.0.1", "client_addr": "127.0.0.1",
        "ports": {
            "http": http, "dns": dns, "server": free_port(), "serf_lan": free_port(),
            "serf_wan": -1, "grpc": -1,
        },
        "performance": { "raft_multiplier": 1 },
        "limits": { "http_max_conns_per_client": 4_096 },
        "disable_update_check": true, "log_level": "WARN",
    });
    fs::write(&config, settings.to_string())?;
    let mut command = Command::new(program);
    command.arg("agent").arg("-config-file").arg(&config).env("GOMAXPROCS", "1");
    Ok(command)
}
