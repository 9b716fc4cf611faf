//! Programs that nobody here wrote at both ends of two proxies: curl, nghttp2's, gRPC for Python.

use std::fs;
use std::path::Path;
use std::process::Command;

use weft_tests::cluster::{SPREAD_LIMIT, meshed};
use weft_tests::ports::free_port;
use weft_tests::{Cluster, Daemon, eventually, tools};

use crate::programs;
use crate::story::{Shop, speaks};

/// Answers with what it got, in the words of HTTP/1.0 and 1.1, byte by byte.
const ORIGIN: &str = r#"
import socket, sys, threading

def head(f):
    lines = []
    while True:
        line = f.readline()
        if line in (b'\r\n', b''):
            return lines
        lines.append(line.decode('latin1').strip())

def serve(s):
    f = s.makefile('rb')
    while True:
        lines = head(f)
        if not lines:
            return
        fields = dict(l.lower().split(': ', 1) for l in lines[1:])
        target = lines[0].split(' ')[1]
        if target == '/late' and fields.get('expect'):
            s.sendall(b'HTTP/1.1 100 Continue\r\n\r\n')
        body, trailers = b'', []
        if 'chunked' in fields.get('transfer-encoding', ''):
            while True:
                size = int(f.readline().split(b';')[0], 16)
                if not size:
                    trailers = head(f)
                    break
                body += f.read(size)
                f.readline()
        else:
            body = f.read(int(fields.get('content-length', 0)))
        said = ('%s|%d|%s|expect=%s' % (lines[0], len(body), ','.join(trailers),
                fields.get('expect', ''))).encode()
        if target == '/old':
            s.sendall(b'HTTP/1.0 200 OK\r\n\r\n' + said)
            s.close()
            return
        if target == '/trailers':
            s.sendall(b'HTTP/1.1 200 OK\r\nTrailer: X-Sum\r\nTransfer-Encoding: chunked\r\n\r\n%x\r\n%s\r\n0\r\nX-Sum: 42\r\n\r\n' % (len(said), said))
        elif target == '/none':
            s.sendall(b'HTTP/1.1 204 No Content\r\n\r\n')
        else:
            rest = b'' if lines[0].startswith('HEAD') else said
            s.sendall(b'HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s' % (len(said), rest))

listener = socket.create_server(('127.0.0.1', int(sys.argv[1])))
while True:
    s, _ = listener.accept()
    threading.Thread(target=serve, args=(s,), daemon=True).start()
"#;

/// All four kinds of calls, with status, trailers, a deadline and a call given up.
const GRPC: &str = r#"
import sys, threading, grpc
from concurrent import futures
raw = lambda b: b
class Echo(grpc.GenericRpcHandler):
    def service(self, call):
        kind = call.method.split('/')[-1]
        def unary(request, context):
            context.set_trailing_metadata((('x-kind', kind), ('x-bin', b'\x00\xff')))
            if request == b'fail':
                context.abort(grpc.StatusCode.NOT_FOUND, 'no such thing: \u00e4')
            if request == b'wait':
                gone = threading.Event()
                context.add_callback(gone.set)
                gone.wait(20)
            return request
        def many(request, context):
            for _ in range(100):
                yield request
        def collect(requests, context):
            return b'%d' % sum(len(r) for r in requests)
        def both(requests, context):
            for r in requests:
                yield r[::-1]
        return {'One': grpc.unary_unary_rpc_method_handler(unary, raw, raw),
                'Many': grpc.unary_stream_rpc_method_handler(many, raw, raw),
                'Collect': grpc.stream_unary_rpc_method_handler(collect, raw, raw),
                'Both': grpc.stream_stream_rpc_method_handler(both, raw, raw)}.get(kind)
if sys.argv[1] == 'serve':
    server = grpc.server(futures.ThreadPoolExecutor(16))
    server.add_generic_rpc_handlers((Echo(),))
    assert server.add_insecure_port('127.0.0.1:' + sys.argv[2])
    server.start()
    server.wait_for_termination()
channel = grpc.insecure_channel('127.0.0.1:' + sys.argv[2])
one = channel.unary_unary('/s/One', raw, raw)
reply, call = one.with_call(b'x' * 100000, timeout=20)
assert reply == b'x' * 100000
trailers = dict(call.trailing_metadata())
assert trailers['x-kind'] == 'One' and trailers['x-bin'] == b'\x00\xff', trailers
def code(f):
    try:
        f()
    except grpc.RpcError as error:
        return error.code(), error.details()
    raise AssertionError('no error')
assert code(lambda: one(b'fail', timeout=20)) == (grpc.StatusCode.NOT_FOUND, 'no such thing: \u00e4')
assert code(lambda: one(b'wait', timeout=0.3))[0] == grpc.StatusCode.DEADLINE_EXCEEDED
assert code(lambda: channel.unary_unary('/s/Other', raw, raw)(b'', timeout=20))[0] == grpc.StatusCode.UNIMPLEMENTED
assert list(channel.unary_stream('/s/Many', raw, raw)(b'm' * 1000, timeout=20)) == [b'm' * 1000] * 100
collect = channel.stream_unary('/s/Collect', raw, raw)
assert collect((b'c' * 1000 for _ in range(500)), timeout=20) == b'500000'
asked, answered = [b'%d' % n for n in range(200)], []
for reply in channel.stream_stream('/s/Both', raw, raw)(iter(asked), timeout=20):
    answered.append(reply[::-1])
assert answered == asked
# One by one: an answer comes before the next question is asked.
turn, said = threading.Semaphore(1), []
def questions():
    for n in range(20):
        turn.acquire()
        yield b'%02d' % n
for reply in channel.stream_stream('/s/Both', raw, raw)(questions(), timeout=20):
    said.append(reply)
    turn.release()
assert len(said) == 20
given_up = channel.unary_stream('/s/Many', raw, raw)(b'z' * 100000, timeout=20)
next(given_up)
given_up.cancel()
assert one(b'after', timeout=20) == b'after'
print('all four kinds')
"#;

#[test]
fn grpc_for_python_is_carried_whole() {
    let test = "grpc_for_python_is_carried_whole";
    if !tools::have_module(test, "grpc") {
        return;
    }
    let cluster = Cluster::start();
    let folder = cluster.folder.path();
    let port = free_port();
    let script = written(folder, "grpc_kinds.py", GRPC);
    let _service = python(folder, &script, &["serve", &port.to_string()]);
    let shop = carried(&cluster, "echo", "grpc", port);
    let door = shop.0.to("echo").addr().port().to_string();
    eventually(SPREAD_LIMIT, "all four kinds of calls", || {
        let said = tools::run("python3", &[&script, "call", &door]).ok()?;
        if said.contains("all four kinds") { Ok(()) } else { Err(said) }
    });
}

#[test]
fn curl_and_nghttp2_are_served_by_an_old_origin() {
    let test = "curl_and_nghttp2_are_served_by_an_old_origin";
    if !tools::have(test, &["python3", "curl", "nghttp", "h2load"]) {
        return;
    }
    let cluster = Cluster::start();
    let folder = cluster.folder.path();
    let port = free_port();
    let script = written(folder, "origin.py", ORIGIN);
    let _origin = python(folder, &script, &[&port.to_string()]);
    let shop = carried(&cluster, "web", "http", port);
    let url = |path: &str| format!("http://{}{path}", shop.0.to("web").addr());
    let curl = |more: &[&str], path: &str| {
        let url = url(path);
        programs::curl(&[more, &[&url]].concat())
    };
    eventually(SPREAD_LIMIT, "the origin is reached", || curl(&["-f"], "/x").map(drop));
    let body = folder.join("body");
    fs::write(&body, vec![b'b'; 3_000_000]).expect("a temporary folder can be written");
    let data = format!("@{}", body.display());
    for (more, path, want) in [
        (&["--http1.0"][..], "/x", "GET /x HTTP/1.1|0||"),
        (&["--http1.1"], "/old", "GET /old HTTP/1.1|0||"),
        (&["--http2-prior-knowledge"], "/old", "GET /old HTTP/1.1|0||"),
        (&["--data-binary", &data, "-H", "Expect: 100-continue"], "/late", "|3000000||"),
        (&["--data-binary", &data, "-H", "Expect:"], "/x", "POST /x HTTP/1.1|3000000||"),
        (
            &["--data-binary", &data, "-H", "Transfer-Encoding: chunked"],
            "/x",
            "POST /x HTTP/1.1|3000000||",
        ),
        (&["--http2-prior-knowledge", "--data-binary", &data], "/x", "|3000000||"),
        (&["-i", "--raw"], "/trailers", "X-Sum: 42"),
        (&["-w", "%{http_code}"], "/none", "204"),
        (&["-I", "-w", "%{http_code}"], "/x", "200"),
        // Further requests over one connection.
        (&[&url("/second")], "/first", "GET /second HTTP/1.1|0"),
    ] {
        let said = curl(more, path).expect("an answer");
        assert!(said.contains(want), "{more:?} {path}: {said:?} lacks {want:?}");
    }
    let nghttp = tools::run("nghttp", &["-v", "-t", "20", &url("/trailers")]);
    let said = nghttp.ok().expect("an answer");
    assert!(said.contains(":status: 200") && said.contains("x-sum: 42"), "{said}");
    for more in [&["--h1"][..], &[]] {
        let target = url("/x");
        let load = [&["-n", "400", "-c", "4", "-m", "10"], more, &[&target]].concat();
        let said = tools::run("h2load", &load).ok().expect("a report");
        assert!(said.contains("400 succeeded, 0 failed, 0 errored"), "{said}");
    }
    // Requests that do not wait for each other's answers.
    let asked = "GET /a HTTP/1.1\r\nHost: w\r\n\r\nGET /b HTTP/1.1\r\nHost: w\r\n\r\n\
                 GET /c HTTP/1.1\r\nHost: w\r\nConnection: close\r\n\r\n";
    let said = raw(shop.0.to("web").addr(), asked);
    let places: Vec<_> = ["GET /a ", "GET /b ", "GET /c "].map(|it| said.find(it)).into();
    assert!(places.iter().all(Option::is_some) && places.is_sorted(), "{said}");
}

#[test]
fn a_service_that_speaks_first_is_heard_at_once() {
    let test = "a_service_that_speaks_first_is_heard_at_once";
    if !tools::have(test, &["python3"]) {
        return;
    }
    let cluster = Cluster::start();
    let folder = cluster.folder.path();
    let port = free_port();
    let script = written(folder, "mail.py", MAIL);
    let _service = python(folder, &script, &["serve", &port.to_string()]);
    let shop = carried(&cluster, "mail", "tcp", port);
    let door = shop.0.to("mail").addr().port().to_string();
    eventually(SPREAD_LIMIT, "mail is delivered", || {
        let said = tools::run("python3", &[&script, "send", &door]).ok()?;
        if said.contains("delivered") { Ok(()) } else { Err(said) }
    });
}

/// A service of mail with as much of SMTP as Python's own client asks for.
const MAIL: &str = r#"
import smtplib, socket, sys, threading
def serve(s):
    f = s.makefile('rwb', buffering=0)
    f.write(b'220 mail ESMTP\r\n')
    while True:
        word = f.readline().strip().upper()[:4]
        if word == b'DATA':
            f.write(b'354 go on\r\n')
            while f.readline() not in (b'.\r\n', b''):
                pass
            f.write(b'250 taken\r\n')
        elif word == b'QUIT':
            f.write(b'221 bye\r\n')
            s.close()
            return
        elif word:
            f.write(b'250 fine\r\n')
        else:
            return
if sys.argv[1] == 'serve':
    listener = socket.create_server(('127.0.0.1', int(sys.argv[2])))
    while True:
        s, _ = listener.accept()
        threading.Thread(target=serve, args=(s,), daemon=True).start()
with smtplib.SMTP('127.0.0.1', int(sys.argv[2]), timeout=10) as mail:
    mail.sendmail('a@example.com', ['b@example.com'], 'Subject: x\r\n\r\n' + 'y' * 70 + '\r\n')
print('delivered')
"#;

fn raw(addr: std::net::SocketAddr, asked: &str) -> String {
    use std::io::{Read, Write};
    let mut stream = std::net::TcpStream::connect(addr).expect("it listens");
    stream.set_read_timeout(Some(SPREAD_LIMIT)).expect("a limit");
    stream.write_all(asked.as_bytes()).expect("sent");
    let mut said = Vec::new();
    stream.read_to_end(&mut said).expect("the end");
    String::from_utf8_lossy(&said).into_owned()
}

/// A service with its proxy, and a caller with another one.
pub(crate) fn carried(
    cluster: &Cluster,
    name: &str,
    protocol: &str,
    port: u16,
) -> (Shop, weft_tests::TestProxy) {
    speaks(cluster, name, protocol);
    cluster.agent.register(&meshed(name, name, port, &[]));
    let sidecar = cluster.agent.sidecar(name);
    cluster.agent.intend("shop", name, "allow");
    (Shop::open(cluster, &[name]), sidecar)
}

fn written(folder: &Path, name: &str, text: &str) -> String {
    let path = folder.join(name);
    fs::write(&path, text).expect("a temporary folder can be written");
    path.to_string_lossy().into_owned()
}

fn python(folder: &Path, script: &str, args: &[&str]) -> Daemon {
    let mut command = Command::new(tools::find("python3").expect("it was found before"));
    command.arg(script).args(args);
    Daemon::program("python", folder, command)
}
