//! Probes against programs that nobody here wrote where the host has them, and against small
//! servers where the protocol is the point.

use std::net::SocketAddr;
use std::path::Path;
use std::process::Stdio;

use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::process::{Child, Command};
use weft_core::catalog::CheckDefinition;
use weft_proto::grpc::health::health_check_response::ServingStatus;
use weft_proto::grpc::health::health_server::{Health, HealthServer};
use weft_proto::grpc::health::{HealthCheckRequest, HealthCheckResponse};
use weft_proto::json::{self, Unknown};
use weft_runtime::rpc::tonic;
use weft_runtime::task::TaskTree;

use super::*;
use crate::local::plan_of;

fn plan(text: &str) -> CheckPlan {
    let mut definition: CheckDefinition =
        json::from_slice(text.as_bytes(), Unknown::Refuse).expect(text);
    "check".clone_into(&mut definition.name);
    plan_of(&definition).expect(text)
}

fn tools(folder: &Path) -> Tools {
    Tools { bus_socket: folder.join("bus"), ..Tools::new(folder.join("docker.sock")) }
}

/// Runs a probe once; sockets of daemons are looked for in the folder.
async fn probe_in(folder: &Path, text: &str) -> Finding {
    run(&plan(text), &tools(folder)).await.expect("a probed check")
}

async fn probe(text: &str) -> Finding {
    probe_in(Path::new("/nowhere"), text).await
}

#[track_caller]
fn assert_found(finding: &Finding, status: CheckStatus, output: &str) {
    assert_eq!(finding.status, status, "{finding:?}");
    assert!(finding.output.contains(output), "{finding:?} lacks {output:?}");
}

/// Starts a server in Python's standard library; the answer is the port that it printed.
async fn python(program: &str) -> Option<(Child, u16)> {
    let mut child = Command::new("python3")
        .args(["-u", "-c", program])
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .ok()?;
    let port = first_line(&mut child).await?.trim().parse().ok()?;
    Some((child, port))
}

/// Reads the first line that a program prints.
async fn first_line(child: &mut Child) -> Option<String> {
    let mut line = String::new();
    BufReader::new(child.stdout.take()?).read_line(&mut line).await.ok()?;
    Some(line)
}

const HTTP_SERVER: &str = r#"
import http.server
class Handler(http.server.BaseHTTPRequestHandler):
    def answer(self):
        length = int(self.headers.get('content-length', 0))
        body = self.rfile.read(length).decode()
        where = self.path
        status = 200 if where != '/moved' else 307
        if where.startswith('/status/'): status = int(where[8:])
        text = f"{self.command} {where} {self.headers.get('x-key')} {body}".encode()
        if where == '/long': text = b'0123456789' * 1000
        self.send_response(status)
        if status == 307: self.send_header('location', '/end')
        self.send_header('content-length', str(len(text)))
        self.end_headers()
        self.wfile.write(text)
    do_GET = do_POST = do_PUT = answer
    def log_message(self, *_): pass
server = http.server.ThreadingHTTPServer(('127.0.0.1', 0), Handler)
print(server.server_port)
server.serve_forever()
"#;

#[tokio::test]
async fn http_checks_send_what_they_are_told_and_follow_nothing_unasked() {
    let Some((_server, port)) = python(HTTP_SERVER).await else {
        eprintln!("skipped: this host has no python3");
        return;
    };
    let url = |path: &str| format!("http://127.0.0.1:{port}{path}");
    let check =
        |path: &str, more: &str| format!(r#"{{"HTTP":"{}","Interval":"1s"{more}}}"#, url(path));
    let posted = r#","Method":"post","Body":"hello","Header":{"X-Key":["v"]}"#;
    let found = probe(&check("/a", posted)).await;
    assert_found(&found, CheckStatus::Passing, "200 OK Output: POST /a v hello");
    assert_found(&probe(&check("/status/429", "")).await, CheckStatus::Warning, "429");
    assert_found(&probe(&check("/status/503", "")).await, CheckStatus::Critical, "503");
    assert_found(&probe(&check("/moved", "")).await, CheckStatus::Critical, "307");
    let follow = r#","DisableRedirects":false,"Method":"PUT","Body":"x""#;
    assert_found(&probe(&check("/moved", follow)).await, CheckStatus::Passing, "PUT /end None x");
    let long = probe(&check("/long", r#","OutputMaxSize":100"#)).await;
    assert!(long.output.len() < 200, "{}", long.output.len());
}

const UDP_SERVER: &str = r#"
import socket
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.bind(('127.0.0.1', 0))
print(s.getsockname()[1])
while True:
    _, peer = s.recvfrom(100)
    s.sendto(b'x', peer)
"#;

#[tokio::test]
async fn udp_checks_pass_on_answers_and_silence_and_fail_on_refusal() {
    let silent = net::bind_udp(([127, 0, 0, 1], 0).into()).await.expect("a port");
    let address = silent.local_addr().expect("bound");
    let check = |address: &SocketAddr| {
        format!(r#"{{"UDP":"{address}","Interval":"1s","Timeout":"300ms"}}"#)
    };
    assert_found(&probe(&check(&address)).await, CheckStatus::Passing, "Success");
    drop(silent);
    assert_found(&probe(&check(&address)).await, CheckStatus::Critical, "refused");
    if let Some((_server, port)) = python(UDP_SERVER).await {
        let address = ([127, 0, 0, 1], port).into();
        assert_found(&probe(&check(&address)).await, CheckStatus::Passing, "Success");
    }
}

#[tokio::test]
async fn commands_are_judged_by_their_exit_and_killed_with_all_they_started() {
    let check = |line: &str| {
        let line = serde_json::to_string(line).expect("a text");
        format!(r#"{{"Args":["sh","-c",{line}],"Interval":"1s","Timeout":"2s"}}"#)
    };
    assert_found(&probe(&check("echo out; echo err >&2")).await, CheckStatus::Passing, "out\n");
    assert_found(&probe(&check("echo w >&2; exit 1")).await, CheckStatus::Warning, "w");
    assert_found(&probe(&check("exit 2")).await, CheckStatus::Critical, "");
    assert_found(&probe(&check("kill -9 $$")).await, CheckStatus::Critical, "ended by signal 9");
    let unknown = probe(r#"{"Args":["/no/such/program"],"Interval":"1s"}"#).await;
    assert_found(&unknown, CheckStatus::Critical, "cannot run \"/no/such/program\"");
    // Much output costs no memory, and its end is kept.
    let much = probe(&check("head -c 1000000 /dev/zero | tr '\\0' x; echo end")).await;
    assert_found(&much, CheckStatus::Passing, "Captured 4096 of 1000004 bytes");
    assert!(much.output.ends_with("end\n") && much.output.len() < 4200);
    // What was left in the background does not hold the check up.
    let left = clock_of(probe(&check("sleep 30 & echo started"))).await;
    assert_found(&left.0, CheckStatus::Passing, "started");
    assert!(left.1 < Duration::from_secs(2), "{:?}", left.1);

    let folder = tempfile::tempdir().expect("a folder");
    let pid_file = folder.path().join("pid");
    let slow = format!(
        r#"{{"Args":["sh","-c","sh -c 'echo $$ > {}; sleep 60' & wait"],"Interval":"1s","Timeout":"500ms"}}"#,
        pid_file.display()
    );
    assert_found(&probe(&slow).await, CheckStatus::Critical, "timed out after 500 ms");
    let grandchild = std::fs::read_to_string(&pid_file).expect("it had started");
    let grandchild = grandchild.trim().to_owned();
    let is_gone = || {
        let status = std::fs::read_to_string(format!("/proc/{grandchild}/stat"));
        status.is_err() || status.is_ok_and(|text| text.contains(") Z "))
    };
    let gone = async {
        while !is_gone() {
            tokio::task::yield_now().await;
        }
    };
    let gone = tokio::time::timeout(Duration::from_secs(10), gone).await;
    assert!(gone.is_ok(), "process {grandchild} outlived its check");
}

/// Returns what a future comes to and how long it took.
async fn clock_of<T>(work: impl Future<Output = T>) -> (T, Duration) {
    let started = weft_runtime::clock::instant();
    let done = work.await;
    (done, weft_runtime::clock::instant() - started)
}

struct Serving;

#[tonic::async_trait]
impl Health for Serving {
    async fn check(
        &self,
        request: tonic::Request<HealthCheckRequest>,
    ) -> Result<tonic::Response<HealthCheckResponse>, tonic::Status> {
        let status = match request.get_ref().service.as_str() {
            "" | "web" => ServingStatus::Serving,
            "sick" => ServingStatus::NotServing,
            _ => return Err(tonic::Status::not_found("unknown service")),
        };
        Ok(tonic::Response::new(HealthCheckResponse { status: status.into() }))
    }
}

async fn health_server(tasks: &TaskTree) -> SocketAddr {
    let listener = net::bind_tcp(([127, 0, 0, 1], 0).into()).await.expect("a port");
    let address = listener.local_addr().expect("bound");
    let service = HealthServer::new(Serving);
    tasks.spawn("health", async move {
        let incoming = tonic::transport::server::TcpIncoming::from(listener);
        let server = tonic::transport::Server::builder().add_service(service);
        let _ = server.serve_with_incoming(incoming).await;
    });
    address
}

#[tokio::test]
async fn grpc_and_h2ping_checks_ask_a_real_grpc_server() {
    let tasks = TaskTree::root("test");
    let address = health_server(&tasks).await;
    for (service, status, output) in [
        ("", CheckStatus::Passing, "success"),
        ("/web", CheckStatus::Passing, "success"),
        ("/sick", CheckStatus::Critical, "NOT_SERVING"),
        ("/other", CheckStatus::Critical, "unknown service"),
    ] {
        let check = format!(r#"{{"GRPC":"{address}{service}","Interval":"1s"}}"#);
        assert_found(&probe(&check).await, status, output);
    }
    let ping = format!(r#"{{"H2PING":"{address}","H2PingUseTLS":false,"Interval":"1s"}}"#);
    assert_found(&probe(&ping).await, CheckStatus::Passing, "HTTP2 ping was successful");
    let ping = format!(r#"{{"H2PING":"{address}","Interval":"1s","Timeout":"2s"}}"#);
    assert_found(&probe(&ping).await, CheckStatus::Critical, "HTTP2 ping");
    tasks.cancel();
}

/// A server that takes connections and says nothing.
#[tokio::test]
async fn every_probe_gives_up_on_silence() {
    let listener = net::bind_tcp(([127, 0, 0, 1], 0).into()).await.expect("a port");
    let at = listener.local_addr().expect("bound");
    for check in [
        format!(r#""HTTP":"http://{at}/""#),
        format!(r#""HTTP":"https://{at}/","TLSSkipVerify":true"#),
        format!(r#""TCP":"{at}","TCPUseTLS":true"#),
        format!(r#""GRPC":"{at}""#),
        format!(r#""GRPC":"{at}","GRPCUseTLS":true"#),
        format!(r#""H2PING":"{at}","H2PingUseTLS":false"#),
    ] {
        let text = format!(r#"{{{check},"Interval":"1s","Timeout":"200ms"}}"#);
        let (found, taken) = clock_of(probe(&text)).await;
        assert_eq!(found.status, CheckStatus::Critical, "{check}: {found:?}");
        assert!(taken < Duration::from_secs(10), "{check} took {taken:?}");
    }
}

/// A Docker daemon as far as one exec goes.
async fn docker_daemon(socket: &Path, exit_code: i64, tasks: &TaskTree) {
    let listener = net::bind_unix(socket, 0o600).expect("a socket");
    tasks.spawn("docker", async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut request = vec![0; 4096];
            let length = stream.read(&mut request).await.unwrap_or_default();
            let request = String::from_utf8_lossy(&request[..length]).into_owned();
            let body: Vec<u8> = if request.starts_with("POST /containers/web/exec ") {
                br#"{"Id":"abc123"}"#.to_vec()
            } else if request.starts_with("POST /exec/abc123/start ") {
                [&[1, 0, 0, 0, 0, 0, 0, 5], b"hello".as_slice()].concat()
            } else if request.starts_with("GET /exec/abc123/json ") {
                format!(r#"{{"ExitCode":{exit_code},"Running":false}}"#).into_bytes()
            } else {
                let text = "HTTP/1.1 404 Not Found\r\ncontent-length: 17\r\n\r\nno such container";
                let _ = stream.write_all(text.as_bytes()).await;
                continue;
            };
            let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n", body.len());
            let _ = stream.write_all(&[head.as_bytes(), &body].concat()).await;
        }
    });
}

#[tokio::test]
async fn docker_checks_run_in_the_container() {
    for (exit_code, status) in
        [(0, CheckStatus::Passing), (1, CheckStatus::Warning), (137, CheckStatus::Critical)]
    {
        let tasks = TaskTree::root("test");
        let folder = tempfile::tempdir().expect("a folder");
        docker_daemon(&folder.path().join("docker.sock"), exit_code, &tasks).await;
        let check = |container: &str| {
            format!(r#"{{"DockerContainerID":"{container}","Args":["true"],"Interval":"1s"}}"#)
        };
        assert_found(&probe_in(folder.path(), &check("web")).await, status, "hello");
        let missing = probe_in(folder.path(), &check("db")).await;
        assert_found(&missing, CheckStatus::Critical, "no such container");
        tasks.cancel();
    }
    let nobody = probe(r#"{"DockerContainerID":"w","Args":["x"],"Interval":"1s"}"#).await;
    assert_found(&nobody, CheckStatus::Critical, "docker exec in w");
}

/// Starts a real message bus; nobody on it manages units.
async fn message_bus(folder: &Path) -> Option<Child> {
    let address = format!("unix:path={}", folder.join("bus").display());
    let mut bus = Command::new("dbus-daemon")
        .args(["--session", "--nofork", "--print-address=1", "--address", &address])
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .ok()?;
    first_line(&mut bus).await?.contains("unix:path=").then_some(bus)
}

#[tokio::test]
async fn os_service_checks_speak_to_a_real_message_bus() {
    let folder = tempfile::tempdir().expect("a folder");
    let check = r#"{"OSService":"ssh","Interval":"1s"}"#;
    let nobody = probe_in(folder.path(), check).await;
    assert_found(&nobody, CheckStatus::Critical, "cannot connect to");
    let Some(_bus) = message_bus(folder.path()).await else {
        eprintln!("skipped: this host has no dbus-daemon");
        return;
    };
    let unmanaged = probe_in(folder.path(), check).await;
    // The bus itself answered our call, in words that name whom we asked for.
    assert_found(&unmanaged, CheckStatus::Critical, "org.freedesktop.systemd1");
}

/// An HTTPS server with a certificate that nobody vouches for; it answers with the name that it was
/// asked for in the handshake.
const HTTPS_SERVER: &str = r#"
import http.server, ssl, subprocess, sys, tempfile
d = tempfile.mkdtemp()
subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256",
    "-nodes", "-days", "2", "-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost",
    "-keyout", d + "/key", "-out", d + "/cert"], check=True, capture_output=True)
asked = [""]
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        body = ("asked for " + str(asked[0])).encode()
        self.send_response(200)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
    def log_message(self, *args):
        pass
def note(socket, name, context):
    asked[0] = name
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain(d + "/cert", d + "/key")
context.sni_callback = note
server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
print(server.server_address[1])
server.serve_forever()
"#;

#[tokio::test]
async fn certificates_are_verified_unless_told_otherwise_and_names_are_asked_for() {
    let Some((_server, port)) = python(HTTPS_SERVER).await else {
        println!("skipped: python3 with openssl is not here");
        return;
    };
    let https = |more: &str| {
        format!(r#"{{"HTTP":"https://localhost:{port}/","Interval":"1s","Timeout":"5s"{more}}}"#)
    };
    let refused = probe(&https("")).await;
    assert_eq!(refused.status, CheckStatus::Critical, "nobody vouches for it: {refused:?}");
    let taken = probe(&https(r#","TLSSkipVerify":true"#)).await;
    assert_found(&taken, CheckStatus::Passing, "asked for localhost");
    let named = probe(&https(r#","TLSSkipVerify":true,"TLSServerName":"inner.example""#)).await;
    assert_found(&named, CheckStatus::Passing, "asked for inner.example");

    let tcp = |more: &str| {
        format!(
            r#"{{"TCP":"localhost:{port}","TCPUseTLS":true,"Interval":"1s","Timeout":"5s"{more}}}"#
        )
    };
    let refused = probe(&tcp("")).await;
    assert_eq!(refused.status, CheckStatus::Critical, "{refused:?}");
    let taken = probe(&tcp(r#","TLSSkipVerify":true"#)).await;
    assert_found(&taken, CheckStatus::Passing, "Success");
}
