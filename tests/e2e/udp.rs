//! A name server behind the mesh, called over UDP by programs that nobody here wrote.

use std::net::{SocketAddr, UdpSocket};
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use weft_tests::cluster::{SPREAD_LIMIT, meshed};
use weft_tests::ports::free_port;
use weft_tests::{App, Cluster, Daemon, TestProxy, eventually, tools};

use crate::dns::{dig, wait_lines};
use crate::story::speaks;

fn local(port: u16) -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], port))
}

/// A name server with a sidecar.
struct NameServer {
    _process: Daemon,
    addr: SocketAddr,
    proxy: TestProxy,
}

impl NameServer {
    fn start(cluster: &Cluster, id: &str) -> Self {
        let port = free_port();
        let mut command = Command::new(tools::find("dnsmasq").expect("it is there"));
        command.args(["-k", "--no-resolv", "--no-hosts", "--bind-interfaces", "--user=root"]);
        command.args(["--listen-address=127.0.0.1", "--log-facility=-", "--conf-file=/dev/null"]);
        command.args(["--edns-packet-max=4096", "--host-record=www.example.test,10.9.8.7"]);
        for number in 0..8 {
            command.arg(format!("--txt-record=big.example.test,{}{number}", "x".repeat(240)));
        }
        command.arg(format!("--port={port}"));
        let process = Daemon::program(&format!("{id}-dnsmasq"), cluster.folder.path(), command);
        wait_lines(local(port), &["www.example.test"], &["10.9.8.7"]);
        cluster.agent.register(&meshed(id, "resolver", port, &[]));
        Self { _process: process, addr: local(port), proxy: cluster.agent.sidecar(id) }
    }
}

/// A service that calls it, by its proxy, and where.
fn caller(cluster: &Cluster, name: &str) -> (App, TestProxy, SocketAddr) {
    let (app, port) = (App::start(name), free_port());
    cluster.agent.register(&meshed(name, name, app.port(), &[("resolver", port)]));
    let proxy = cluster.agent.sidecar(name);
    (app, proxy, local(port))
}

/// A question for a name of the server's, in the wire form of DNS.
fn question(name: &str, kind: u8) -> Vec<u8> {
    let mut bytes = vec![7, 7, 1, 0, 0, 1, 0, 0, 0, 0, 0, 1];
    for label in name.split('.') {
        bytes.push(u8::try_from(label.len()).expect("a label"));
        bytes.extend(label.bytes());
    }
    bytes.extend([0, 0, kind, 0, 1]);
    // EDNS, with answers of up to 4096 bytes.
    bytes.extend([0, 0, 41, 16, 0, 0, 0, 0, 0, 0, 0]);
    bytes
}

/// Asks from a port of its own, once.
fn ask(server: SocketAddr, question: &[u8]) -> Result<Vec<u8>, String> {
    let socket = UdpSocket::bind("127.0.0.1:0").map_err(|error| error.to_string())?;
    socket.set_read_timeout(Some(Duration::from_secs(5))).map_err(|error| error.to_string())?;
    socket.send_to(question, server).map_err(|error| error.to_string())?;
    let mut answer = vec![0; 65_536];
    let count = socket.recv(&mut answer).map_err(|error| error.to_string())?;
    answer.truncate(count);
    Ok(answer)
}

fn perf(folder: &Path, server: SocketAddr) -> Result<(), String> {
    let file = folder.join("queries");
    std::fs::write(&file, "www.example.test A\n".repeat(200)).map_err(|error| error.to_string())?;
    let (file, port) = (file.to_string_lossy().into_owned(), server.port().to_string());
    let args = ["-s", "127.0.0.1", "-p", &port, "-d", &file, "-n", "1", "-c", "4", "-t", "5"];
    let said = tools::run("dnsperf", &args).ok()?;
    let words = |title: &str| {
        let line = said.lines().find(|line| line.trim().starts_with(title)).unwrap_or_default();
        line.split_whitespace().skip(title.split(' ').count()).collect::<Vec<_>>().concat()
    };
    match (
        words("Queries completed:").starts_with("200("),
        words("Queries lost:").starts_with("0("),
    ) {
        (true, true) => Ok(()),
        _ => Err(said),
    }
}

/// Tells whether a proxy has counted one of these.
fn counted(proxy: &TestProxy, name: &str) -> Result<(), String> {
    let metrics = proxy.admin().get("/metrics")?.body;
    let line = format!("weft_proxy_{name} ");
    match metrics.lines().find_map(|it| it.strip_prefix(&line)) {
        None | Some("0") => Err(metrics),
        Some(_) => Ok(()),
    }
}

#[test]
fn a_name_server_is_called_through_the_mesh_as_if_it_were_here() {
    let programs = ["dnsmasq", "dig", "dnsperf"];
    if !tools::have("a_name_server_is_called_through_the_mesh_as_if_it_were_here", &programs) {
        return;
    }
    let cluster = Cluster::start();
    speaks(&cluster, "resolver", "udp");
    let mut server = NameServer::start(&cluster, "resolver-1");
    cluster.agent.intend("shop", "resolver", "allow");
    let (_app, _proxy, door) = caller(&cluster, "shop");
    wait_lines(door, &["www.example.test"], &["10.9.8.7"]);
    for (name, kind) in [("www.example.test", 1), ("big.example.test", 16), ("no.example.test", 1)]
    {
        let question = question(name, kind);
        let (here, through) = (ask(server.addr, &question), ask(door, &question));
        assert_eq!(through.expect("an answer"), here.expect("an answer"), "{name}");
    }
    perf(cluster.folder.path(), door).expect("none is lost");

    let (_stranger_app, _stranger, refused) = caller(&cluster, "stranger");
    eventually(SPREAD_LIMIT, "the stranger is refused", || {
        let said = dig(refused, &["+time=1", "www.example.test"]);
        assert!(said.is_err(), "{said:?}");
        counted(&server.proxy, "denied_total{direction=\"inbound\",service=\"resolver\"}")
    });
    let streams = "quic_streams_opened_total{direction=\"inbound\"}";
    counted(&server.proxy, streams).expect("sessions came over QUIC");

    // A proxy that dies without a word takes no more than what was under way with it.
    let _second = NameServer::start(&cluster, "resolver-2");
    cluster.agent.wait_passing("resolver", 2);
    server.proxy.process.kill();
    eventually(SPREAD_LIMIT, "the other one answers each time", || {
        for _ in 0..10 {
            ask(door, &question("www.example.test", 1))?;
        }
        Ok(())
    });
}

#[test]
fn sidecars_are_replaced_under_datagrams_and_each_is_answered() {
    if !tools::have("sidecars_are_replaced_under_datagrams_and_each_is_answered", &["dnsmasq"]) {
        return;
    }
    let cluster = Cluster::start();
    speaks(&cluster, "resolver", "udp");
    let mut server = NameServer::start(&cluster, "resolver-1");
    cluster.agent.intend("shop", "resolver", "allow");
    let (_app, mut shop, door) = caller(&cluster, "shop");
    wait_lines(door, &["www.example.test"], &["10.9.8.7"]);
    let (stop, answered) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let (told, count) = (stop.clone(), answered.clone());
    let asking = std::thread::spawn(move || {
        let question = question("www.example.test", 1);
        let mut lost = 0;
        while !told.load(Ordering::SeqCst) {
            match ask(door, &question) {
                Ok(_) => _ = count.fetch_add(1, Ordering::SeqCst),
                Err(_) => lost += 1,
            }
        }
        lost
    });
    let mut replaced = Vec::new();
    for _ in 0..2 {
        for proxy in [&mut shop, &mut server.proxy] {
            let next = cluster.agent.successor(proxy);
            replaced.push(std::mem::replace(proxy, next));
            let before = answered.load(Ordering::SeqCst);
            eventually(SPREAD_LIMIT, "further answers come", || {
                let now = answered.load(Ordering::SeqCst);
                if now > before + 20 { Ok(()) } else { Err(format!("{before}, {now}")) }
            });
        }
    }
    stop.store(true, Ordering::SeqCst);
    let lost = asking.join().expect("it asks to the end");
    let answered = answered.load(Ordering::SeqCst);
    tools::tell(&format!("udp: 2 restarts of 2 sidecars, {answered} answers, {lost} lost"));
    assert_eq!(lost, 0);
    for proxy in &mut replaced {
        assert_eq!(proxy.process.wait_exit(), Some(0), "{}", proxy.process.log());
    }
}
