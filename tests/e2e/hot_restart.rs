//! Sidecars that are replaced by new processes under load: no request fails, and no connection
//! breaks.

use std::io::{BufRead as _, BufReader, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr};
use std::os::unix::net::UnixDatagram;
use std::sync::Arc;

use weft_tests::cluster::meshed;
use weft_tests::ports::free_port;
use weft_tests::{App, Cluster, Daemon, TestProxy, eventually, tools};

use crate::callers::{Counts, LIMIT, Mesh, connect, echo_stream, echoes, load};
use crate::story::{called, speaks};

/// Replacements of each sidecar; `make restarts` has more.
const RESTARTS_DEFAULT: u32 = 4;

#[test]
fn sidecars_are_replaced_under_load_without_a_failed_request_or_a_broken_connection() {
    let restarts = std::env::var("WEFT_HOT_RESTARTS").ok().and_then(|text| text.parse().ok());
    let restarts: u32 = restarts.unwrap_or(RESTARTS_DEFAULT);
    let cluster = Cluster::start();
    let Mesh { mut shop, mut web, mut echo } = Mesh::start(&cluster);
    let (door, echo_door) = (shop.to("web").addr(), shop.to("echo").addr());
    let mut long_lived = echo_stream(echo_door);

    let counts = Arc::new(Counts::default());
    let callers = load(door, &counts);
    let mut replaced: Vec<TestProxy> = Vec::new();
    for round in 0..restarts {
        for proxy in [&mut shop.proxy, &mut web.proxy, &mut echo] {
            let next = cluster.agent.successor(proxy);
            replaced.push(std::mem::replace(proxy, next));
        }
        echoes(&mut long_lived, format!("still here after {round}").as_bytes());
        echoes(&mut connect(echo_door).expect("a new connection"), b"and a new one");
        counts.go_on();
    }
    let info = shop.proxy.admin().get("/server_info").expect("an answer").json();
    assert_eq!(info["generation"], restarts, "{info}");
    let (answered, failed) = counts.end(callers);
    tools::tell(&format!(
        "hot restarts: {restarts} of each of 3 sidecars, {answered} requests, {failed} failed, \
         one TCP connection through all of them"
    ));
    assert_eq!(failed, 0);

    // The first ones live for the connection, which ends when its caller wants it.
    assert!(replaced[0].process.is_running() && replaced[2].process.is_running());
    echoes(&mut long_lived, b"good bye");
    long_lived.shutdown(Shutdown::Write).expect("open");
    assert_eq!(long_lived.read(&mut [0]).expect("a clean end"), 0);
    for proxy in [&mut shop.proxy, &mut web.proxy, &mut echo] {
        proxy.process.terminate();
    }
    for proxy in &mut replaced {
        assert_eq!(proxy.process.wait_exit(), Some(0), "{}", proxy.process.log());
    }
}

/// A process that has no parent of ours.
struct Orphan(String);

impl Drop for Orphan {
    fn drop(&mut self) {
        // The number may be somebody else's by now.
        let called = std::fs::read_to_string(format!("/proc/{}/cmdline", self.0));
        if called.is_ok_and(|line| line.contains("--take-over")) {
            tools::run("kill", &["-KILL", &self.0]);
        }
    }
}

#[test]
fn a_sidecar_starts_its_successor_at_a_signal_and_the_service_manager_follows() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("notify");
    let manager = UnixDatagram::bind(&path).expect("a socket");
    manager.set_read_timeout(Some(LIMIT)).expect("a limit");
    let hears = || {
        let mut buffer = [0; 64];
        let length = manager.recv(&mut buffer).expect("a report");
        String::from_utf8_lossy(&buffer[..length]).into_owned()
    };
    let cluster = Cluster::start();
    speaks(&cluster, "web", "http");
    let app = App::start("web-1");
    cluster.agent.register(&meshed("web-1", "web", app.port(), &[]));
    let mut web = cluster.agent.sidecar_in("web-1", &[], &[("NOTIFY_SOCKET", &path)]);
    assert_eq!(hears(), "READY=1");
    let (admin, pid) = (web.admin(), web.process.pid());
    let info = || admin.get("/server_info").map(|answer| answer.json());
    assert_eq!(info().expect("an answer")["pid"], pid);

    web.process.signal("USR2");
    assert_eq!(hears(), "RELOADING=1", "until the new one is ready");
    let main = hears();
    // It does not end with the first one, nor with this test.
    let _second = Orphan(main.trim_start_matches("MAINPID=").to_owned());
    assert_eq!(hears(), "READY=1", "of the new one");
    assert_eq!(web.process.wait_exit(), Some(0), "{}", web.process.log());
    let info = info().expect("an answer");
    assert_eq!((main, info["generation"].as_u64()), (format!("MAINPID={}", info["pid"]), Some(1)));
    assert_ne!(info["pid"], pid);
    // It is nobody's child now: told to end as a service manager would.
    tools::run("kill", &["-TERM", &info["pid"].to_string()]).ok().expect("it runs");
    assert_eq!(hears(), "STOPPING=1", "and nothing of the first one's end");
    eventually(LIMIT, "the second one ends", || match admin.get("/ready") {
        Ok(answer) => Err(format!("{answer:?}")),
        Err(_) => Ok(()),
    });
}

#[test]
fn without_a_running_sidecar_there_is_nothing_to_take_over() {
    let cluster = Cluster::start();
    speaks(&cluster, "web", "http");
    let app = App::start("web-1");
    let port = free_port();
    let mut registration = meshed("web-1", "web", app.port(), &[]);
    registration["Connect"]["SidecarService"]["Port"] = port.into();
    cluster.agent.register(&registration);
    let mut web = cluster.agent.sidecar_with("web-1", &["--take-over"]);
    let ready = web.admin().get("/ready").expect("an answer");
    assert_eq!(ready.status, 200);
    let info = web.admin().get("/server_info").expect("an answer").json();
    assert_eq!(info["generation"], 0, "{info}");
    web.process.terminate();
}

/// Opens a socket as systemd does for a `.socket` unit, and becomes the program.
const ACTIVATE: &str = "\
import os, socket, sys
s = socket.socket()
s.bind(('127.0.0.1', int(sys.argv[1])))
s.listen(16)
os.dup2(s.fileno(), 3)
os.set_inheritable(3, True)
os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS='1', LISTEN_FDNAMES='web')
os.execv(sys.argv[2], sys.argv[2:])
";

#[test]
fn callers_wait_in_the_sockets_of_the_service_manager_until_the_sidecar_serves() {
    if !tools::have("callers_wait_in_the_sockets_of_the_service_manager", &["python3"]) {
        return;
    }
    let cluster = Cluster::start();
    speaks(&cluster, "web", "http");
    let _web = called(&cluster, "web-1", "web", "v1");
    cluster.agent.wait_passing("web", 1);
    cluster.agent.intend("shop", "web", "allow");
    let (app, port) = (App::start("shop"), free_port());
    cluster.agent.register(&meshed("shop", "shop", app.port(), &[("web", port)]));
    let mut command = std::process::Command::new("python3");
    let agent = cluster.agent.api().addr().to_string();
    command.args(["-c", ACTIVATE, &port.to_string()]).arg(weft_tests::process::weft());
    command.args(["proxy", "--sidecar-for", "shop", "--admin-addr", "127.0.0.1:0"]);
    command.args(["--http-addr", &agent, "--runtime-dir"]).arg(cluster.folder.path().join("run"));
    let mut sidecar = Daemon::program("shop-proxy", cluster.folder.path(), command);
    let addr = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    // Only the connection is tried again: it succeeds as soon as the socket is there.
    let waiting = eventually(LIMIT, "the socket is there", || {
        connect(addr).map_err(|error| format!("{error}: {}", sidecar.log()))
    });
    let mut waiting = BufReader::new(waiting);
    waiting.get_mut().write_all(b"GET / HTTP/1.1\r\nhost: web\r\n\r\n").expect("it waits");
    let mut line = String::new();
    waiting.read_line(&mut line).expect("an answer in time");
    // The intention and the called service's address may come later; it is the sidecar that speaks.
    assert!(line.starts_with("HTTP/1.1 "), "{line}");
    eventually(LIMIT, "the sidecar is ready", || match sidecar.log() {
        log if log.contains("proxy is ready") => Ok(()),
        log => Err(log),
    });
    sidecar.terminate();
}
