//! Requests that try to get past permissions: nginx and Python's `http.server` behind sidecars
//! write down how they read each request, and the policy is applied to that.

use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use serde_json::{Value, json};
use weft_tests::cluster::{SPREAD_LIMIT, meshed};
use weft_tests::ports::free_port;
use weft_tests::process::run_weft;
use weft_tests::{Cluster, Daemon, eventually, tools};

use crate::story::{Shop, speaks};

const LIMIT: Duration = Duration::from_secs(20);

/// How an origin has read one request.
struct Seen {
    path: String,
    method: String,
    /// Each way in which it hands the header out.
    role: Vec<String>,
    team: Vec<String>,
}

/// A policy in Weft's terms and, apart from that, in those of whoever wrote it.
struct Policy {
    permissions: Value,
    /// A path that it refuses, to tell when it is in force.
    refuses: &'static str,
    allows: fn(&Seen) -> bool,
}

fn policies() -> [Policy; 2] {
    [
        Policy {
            permissions: json!([
                { "Action": "deny", "HTTP": { "PathPrefix": "/admin" } },
                { "Action": "deny", "HTTP": { "PathRegex": "/private(/.*)?" } },
                { "Action": "deny", "HTTP": { "PathExact": "/a:b" } },
                { "Action": "deny", "HTTP": { "Methods": ["DELETE"] } },
                { "Action": "deny", "HTTP": { "Header": [{ "Name": "X-Role", "Exact": "admin" }] } },
                { "Action": "allow", "HTTP": { "PathPrefix": "/" } },
            ]),
            refuses: "/admin",
            allows: |seen| {
                let is_private = seen.path == "/private" || seen.path.starts_with("/private/");
                !seen.path.starts_with("/admin")
                    && !is_private
                    && seen.path != "/a:b"
                    && seen.method != "DELETE"
                    && seen.role.iter().all(|role| role != "admin")
            },
        },
        Policy {
            permissions: json!([
                { "Action": "deny", "HTTP": { "Header": [
                    { "Name": "X-Role", "Present": true },
                    { "Name": "X-Role", "Exact": "user", "Invert": true }] } },
                { "Action": "allow", "HTTP": { "PathPrefix": "/public/",
                    "Header": [{ "Name": "X-Team", "Exact": "green" }] } },
            ]),
            refuses: "/other",
            allows: |seen| {
                seen.path.starts_with("/public/")
                    && seen.team.iter().all(|team| team == "green")
                    && !seen.team.is_empty()
                    && seen.role.iter().all(|role| role == "user")
            },
        },
    ]
}

/// Ways to a path, `T` standing for its name.
const WAYS: [&str; 52] = [
    "/T",
    "/T/",
    "/T/x",
    "//T",
    "///T/x",
    "/./T",
    "/.//T",
    "/x/../T",
    "/x/y/../../T",
    "/../T",
    "/../../T/x",
    "/x/./../T",
    "/x//../T",
    "/%2e/T",
    "/%2e%2e/T",
    "/x/%2e%2e/T",
    "/x/.%2e/T",
    "/x/%2e./T",
    "/x/%2E%2E/T",
    "/%2fT",
    "/%2FT",
    "/x%2f..%2fT",
    "/x/..%2fT",
    "/x/..%5cT",
    "/x\\..\\T",
    "/\\T",
    "\\T",
    "/x/..;/T",
    "/x;y/../T",
    "/;/T",
    "/;x=y/T",
    "/x/..;y=z/T",
    "/x/%2e%2e;/T",
    "/x/..%3b/T",
    "/%252e%252e/T",
    "/%25%32%65/T",
    "/%%32%65/T",
    "/%2/T",
    "/%zz/T",
    "/%c0%ae%c0%ae/T",
    "/%c0%afT",
    "/x%00/../T",
    "/T%00",
    "/T%20",
    "/T.",
    "/T..",
    "/T;x=y",
    "/T?x=y",
    "/?/T",
    "/x/../T?x=/../y",
    "/x?/../T",
    "/T%23x",
];
/// Targets that are more than a way to one name.
const TARGETS: [&str; 16] = [
    "/#/admin",
    "/x#/../admin",
    "/admin#x",
    "/a:b",
    "/a%3ab",
    "/a%3Ab",
    "/x/../a%3ab",
    "*",
    "http://web/admin",
    "http://web//admin",
    "http://other/admin",
    "/%61dmin",
    "/%61%64%6d%69%6e",
    "/priv%61te/x",
    "/private%2fx",
    "/private;x",
];
/// Lines of headers.
const HEADERS: [&str; 26] = [
    "X-Role: admin",
    "x-role: admin",
    "X-ROLE: admin",
    "X-Role:admin",
    "X-Role:  admin  ",
    "X-Role: user\r\nX-Role: admin",
    "X-Role: admin\r\nX-Role: user",
    "X-Role: user\r\nx-role: admin\r\nX-Role: user",
    "X-Role: user,admin",
    "X-Role: user, admin",
    "X-Role: admin,",
    "X-Role: ,admin",
    "X-Role: admin\r\nX-Role:",
    "X-Role:\r\nX-Role: admin",
    "X_Role: admin",
    "X-Role: user\r\n admin",
    "X-Role: \u{a0}admin",
    "X-Role: admin\t",
    "X-Role: admin\r\nConnection: X-Role",
    "X-Role : admin",
    "X-Role: user\r\nX-Team: red",
    "X-Team: green\r\nX-Team: red",
    "X-Team: red\r\nX-Team: green",
    "X-Team: green, red",
    "X_Team: red\r\nX-Team: green",
    "X-Team: green\r\nConnection: X-Team",
];
const METHODS: [&str; 5] = ["DELETE", "delete", "Delete", "GET", "POST"];

/// The heads of all requests, without the line that numbers them.
fn cases() -> Vec<String> {
    let mut cases = Vec::new();
    let mut add = |line: &str, headers: &str| {
        cases.push(format!("{line} HTTP/1.1\r\nHost: web\r\nConnection: close\r\n{headers}"));
    };
    let green = "X-Team: green\r\n";
    for way in WAYS {
        for name in ["admin", "private", "public/../admin", "public/y", "%61dmin"] {
            add(&format!("GET {}", way.replace('T', name)), green);
        }
    }
    for target in TARGETS {
        add(&format!("GET {target}"), green);
    }
    for lines in HEADERS {
        add("GET /public/x", &format!("{lines}\r\n"));
        add("GET /public/x", &format!("{lines}\r\n{green}"));
    }
    for method in METHODS {
        add(&format!("{method} /public/x"), &format!("{green}Content-Length: 0\r\n"));
    }
    cases
}

#[test]
fn no_spelling_of_a_request_passes_permissions() {
    let test = "no_spelling_of_a_request_passes_permissions";
    if !tools::have(test, &["nginx", "python3", "curl"]) {
        return;
    }
    let cluster = Cluster::start();
    let (web_port, files_port) = (free_port(), free_port());
    let nginx = nginx(cluster.folder.path(), web_port);
    let python = python(cluster.folder.path(), files_port);
    let mut sidecars = Vec::new();
    for (name, port) in [("web", web_port), ("files", files_port)] {
        speaks(&cluster, name, "http");
        cluster.agent.register(&meshed(name, name, port, &[]));
        sidecars.push(cluster.agent.sidecar(name));
    }
    let shop = Shop::open(&cluster, &["web", "files"]);
    // What denies when it is asked directly proves that the check sees.
    for (log, port) in [(&nginx.log, web_port), (&python.log, files_port)] {
        let direct = SocketAddr::from(([127, 0, 0, 1], port));
        eventually(SPREAD_LIMIT, "the origin writes down what it reads", || {
            ask(direct, "GET //x/../admin HTTP/1.1\r\nHost: web\r\nConnection: close\r\n", 0);
            let read = seen(log);
            let is_denied = read.iter().any(|(_, seen)| !(policies()[0].allows)(seen));
            if is_denied { Ok(()) } else { Err(format!("{} were read", read.len())) }
        });
    }
    let (cases, mut tried, mut arrived) = (cases(), 0, 0);
    for policy in policies() {
        for (name, log) in [("web", nginx.log.as_path()), ("files", &python.log)] {
            cluster.agent.configure(&json!({ "Kind": "service-intentions", "Name": name,
                "Sources": [{ "Name": "shop", "Permissions": policy.permissions }] }));
            arrived += try_all(&policy, (name, log), shop.to(name).addr(), &cases);
            tried += cases.len() + said_by_http2(&cases).count();
        }
    }
    tools::tell(&format!("{test}: {tried} requests tried, {arrived} arrived, 0 bypasses"));
    assert!(arrived > 100, "only {arrived} of {tried} requests arrived: too little was tried");
}

/// Sends each request once the policy is in force, and judges what the origin has read; returns
/// how many arrived.
fn try_all(
    policy: &Policy,
    (name, log): (&str, &Path),
    door: SocketAddr,
    cases: &[String],
) -> usize {
    const WELCOME: &str = "X-Team: green\r\nX-Role: user\r\n";
    let head =
        |path: &str| format!("GET {path} HTTP/1.1\r\nHost: web\r\nConnection: close\r\n{WELCOME}");
    for (path, wanted) in [("/public/x", "200"), (policy.refuses, "403")] {
        eventually(SPREAD_LIMIT, "the policy is in force", || {
            let answer = ask(door, &head(path), 0);
            if answer.get(9..12) == Some(wanted) { Ok(()) } else { Err(answer) }
        });
    }
    fs::write(log, "").expect("a log");
    for (number, case) in cases.iter().enumerate() {
        ask(door, case, number + 1);
    }
    ask_by_http2(log, door, cases);
    // The last word of the origin, after all others.
    let last = cases.len() + 1;
    ask(door, &head("/public/last"), last);
    eventually(SPREAD_LIMIT, "the origin has written all down", || {
        let is_told = seen(log).iter().any(|(number, _)| *number == last);
        if is_told { Ok(()) } else { Err("not yet".to_owned()) }
    });
    let read = seen(log);
    for (number, seen) in &read {
        let Seen { path, method, role, team } = seen;
        let case = cases.get(number.wrapping_sub(1));
        assert!(
            (policy.allows)(seen),
            "{name} read {method} {path} (roles {role:?}, teams {team:?}) from {case:?}"
        );
    }
    read.len()
}

/// The examples of the page on intentions say what is so.
#[test]
fn what_the_page_on_intentions_shows_is_so() {
    let page =
        fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/intentions.md"))
            .expect("the page");
    let block = |kind: &str| {
        let (_, rest) = page.split_once(&format!("```{kind}\n")).expect("a block");
        rest.split_once("```").expect("its end").0.to_owned()
    };
    let cluster = Cluster::start();
    speaks(&cluster, "orders", "http");
    cluster.agent.configure(&serde_json::from_str(&block("json")).expect("JSON"));
    let address = cluster.agent.api().addr().to_string();
    let console = block("console");
    let lines: Vec<&str> = console.lines().collect();
    for pair in lines.chunks(2) {
        let args = pair[0].strip_prefix("$ weft ").expect("a command").split(' ');
        let args: Vec<&str> = args.chain(["--http-addr", &address]).collect();
        let outcome = run_weft(&args, LIMIT);
        assert_eq!(outcome.output.lines().next(), Some(pair[1]), "{}", pair[0]);
        assert_eq!(outcome.code, Some(i32::from(pair[1].starts_with("denied"))), "{}", pair[0]);
    }
    assert!(lines.len() >= 10, "{console}");
    let outcome = run_weft(&["intention", "list", "--lint", "--http-addr", &address], LIMIT);
    assert!(outcome.output.contains("no service web is registered"), "{}", outcome.output);
}

/// Sends a head and reads what comes until the end.
fn ask(door: SocketAddr, head: &str, number: usize) -> String {
    let mut answer = Vec::new();
    let Ok(mut stream) = TcpStream::connect(door) else { return String::new() };
    let _ = stream.set_read_timeout(Some(LIMIT));
    let sent = stream.write_all(format!("{head}X-Case: {number}\r\n\r\n").as_bytes());
    if sent.is_ok() {
        // A reset is an answer as well.
        let _ = stream.read_to_end(&mut answer);
    }
    String::from_utf8_lossy(&answer).into_owned()
}

/// Sends the heads that HTTP/2 can say, by one curl: each to a host of its own, as curl 7.88 fails
/// on a connection that it uses again this way.
fn ask_by_http2(log: &Path, door: SocketAddr, cases: &[String]) {
    let quoted = |text: &str| text.replace('\\', "\\\\").replace('"', "\\\"");
    let mut requests = Vec::new();
    for (number, case) in said_by_http2(cases) {
        let mut lines = case.lines();
        let mut words = lines.next().expect("a request line").split(' ');
        let (method, target) = (words.next().expect("a method"), words.next().expect("a target"));
        let mut request = format!(
            "url = \"http://case-{number}/\"\nconnect-to = \"::{door}\"\nhttp2-prior-knowledge\nsilent\nmax-time = 10\n\
             output = \"/dev/null\"\nrequest = \"{method}\"\nrequest-target = \"{}\"\n\
             header = \"X-Case: {}\"\n",
            quoted(target),
            number + 1,
        );
        for line in lines.filter(|line| *line != "Connection: close") {
            request.push_str(&format!("header = \"{}\"\n", quoted(line)));
        }
        requests.push(request);
    }
    let file = log.with_extension("curl");
    fs::write(&file, requests.join("next\n")).expect("a temporary folder can be written");
    // Some of them are refused in ways that curl calls an error.
    tools::run("curl", &["-K", &file.to_string_lossy()]);
}

/// The cases that curl can say in HTTP/2 as they stand, with their numbers.
fn said_by_http2(cases: &[String]) -> impl Iterator<Item = (usize, &String)> {
    let is_plain = |line: &str| {
        line.split_once(": ").is_some_and(|(name, value)| {
            !name.contains(' ') && !value.is_empty() && !value.starts_with("X-")
        })
    };
    cases.iter().enumerate().filter(move |(_, case)| case.lines().skip(1).all(is_plain))
}

struct Origin {
    log: PathBuf,
    _daemon: Daemon,
}

fn seen(log: &Path) -> Vec<(usize, Seen)> {
    let text = fs::read(log).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let read = |line: &str| {
        let value: Value = serde_json::from_str(line).ok()?;
        let text = |field: &str| value[field].as_str().unwrap_or_default().to_owned();
        let list = |field: &str| match &value[field] {
            Value::Array(values) => {
                values.iter().filter_map(Value::as_str).map(str::to_owned).collect()
            }
            Value::String(value) if value.is_empty() => Vec::new(),
            Value::String(value) => vec![value.clone()],
            _ => Vec::new(),
        };
        let number = text("case").parse().ok()?;
        let seen = Seen {
            path: text("path"),
            method: text("method"),
            role: list("role"),
            team: list("team"),
        };
        Some((number, seen))
    };
    text.lines().filter_map(read).collect()
}

fn nginx(folder: &Path, port: u16) -> Origin {
    let at = folder.join("nginx");
    fs::create_dir_all(&at).expect("a temporary folder can be written");
    let (log, file, shown) = (at.join("seen.log"), at.join("nginx.conf"), at.display());
    let config = format!(
        "daemon off; master_process off; pid {shown}/pid; error_log {shown}/err;\n\
         events {{}}\n\
         http {{\n  default_type text/plain;\n\
         client_body_temp_path {shown}/t1; proxy_temp_path {shown}/t2; fastcgi_temp_path \
         {shown}/t3;\n\
         uwsgi_temp_path {shown}/t4; scgi_temp_path {shown}/t5;\n\
         log_format seen escape=json '{{\"case\":\"$http_x_case\",\"path\":\"$uri\",\
         \"method\":\"$request_method\",\"role\":\"$http_x_role\",\"team\":\"$http_x_team\"}}';\n\
         access_log {shown}/seen.log seen;\n\
         server {{ listen 127.0.0.1:{port}; location / {{ return 200 ok; }} }}\n}}\n"
    );
    fs::write(&file, config).expect("a temporary folder can be written");
    let mut command = Command::new(tools::find("nginx").expect("it was found before"));
    command.arg("-p").arg(&at).arg("-c").arg(&file).arg("-e").arg(at.join("err"));
    Origin { log, _daemon: Daemon::program("nginx", folder, command) }
}

const PYTHON: &str = r#"
import http.server, json, os, sys
class Handler(http.server.SimpleHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def answer(self):
        # Its own reading of the path, as the file that it would serve.
        path = self.translate_path(self.path)[len(self.directory):] or "/"
        with open(sys.argv[2], "a") as log:
            log.write(json.dumps({"case": self.headers.get("x-case", ""), "path": path,
                "method": self.command, "role": self.headers.get_all("x-role", []),
                "team": self.headers.get_all("x-team", [])}) + "\n")
        self.send_response(200)
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"ok")
    do_GET = do_POST = do_DELETE = do_OPTIONS = answer
def handler(*args):
    return Handler(*args, directory=os.path.realpath(sys.argv[3]))
http.server.ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), handler).serve_forever()
"#;

fn python(folder: &Path, port: u16) -> Origin {
    let at = folder.join("python");
    fs::create_dir_all(&at).expect("a temporary folder can be written");
    let log = at.join("seen.log");
    let mut command = Command::new(tools::find("python3").expect("it was found before"));
    command.args(["-c", PYTHON, &port.to_string()]).arg(&log).arg(&at);
    Origin { log, _daemon: Daemon::program("python", folder, command) }
}
