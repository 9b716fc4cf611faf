//! A sidecar that is started before there is anything for it to do, and one that is told to end
//! while there is.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

use weft_tests::cluster::{SPREAD_LIMIT, meshed};
use weft_tests::ports::free_port;
use weft_tests::{Api, App, Cluster, Daemon, eventually};

use crate::story::{Shop, called, speaks};

const LIMIT: Duration = Duration::from_secs(30);

#[test]
fn a_sidecar_that_is_started_first_waits_for_its_registration() {
    let cluster = Cluster::start();
    speaks(&cluster, "web", "http");
    let _web = called(&cluster, "web-1", "web", "v1");
    cluster.agent.intend("shop", "web", "allow");
    let (agent, admin) = (cluster.agent.api().addr().to_string(), free_port());
    let at = format!("127.0.0.1:{admin}");
    let args = ["proxy", "--sidecar-for", "shop", "--http-addr", &agent, "--admin-addr", &at];
    let mut sidecar = Daemon::weft_unready("early", cluster.folder.path(), &args);
    let admin = Api::new(SocketAddr::from((Ipv4Addr::LOCALHOST, admin)));
    eventually(LIMIT, "it says what it waits for", || {
        let answer = admin.get("/ready")?;
        let says = answer.status == 503 && answer.body.contains("no sidecar for the service");
        if says { Ok(()) } else { Err(format!("{answer:?}")) }
    });
    let (app, port) = (App::start("shop"), free_port());
    cluster.agent.register(&meshed("shop", "shop", app.port(), &[("web", port)]));
    sidecar.wait_ready();
    assert_eq!(admin.get("/ready").expect("an answer").status, 200);
    let door = Api::new(SocketAddr::from((Ipv4Addr::LOCALHOST, port)));
    eventually(SPREAD_LIMIT, "web answers", || door.get("/")?.ok());
    sidecar.terminate();
}

#[test]
fn a_sidecar_that_is_told_to_end_says_so_first_and_finishes_what_it_has_begun() {
    let cluster = Cluster::start();
    speaks(&cluster, "slow", "http");
    let app = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
    let port = app.local_addr().expect("bound").port();
    cluster.agent.register(&meshed("slow-1", "slow", port, &[]));
    let _slow = cluster.agent.sidecar("slow-1");
    cluster.agent.intend("shop", "slow", "allow");
    let mut shop = Shop::open(&cluster, &["slow"]);
    let door = shop.to("slow").addr();
    // Refused until the intention and the address have spread; the one that arrives is not answered.
    let (mut client, mut asked) = eventually(SPREAD_LIMIT, "a request arrives", || {
        let mut client = TcpStream::connect(door).map_err(|error| error.to_string())?;
        client.set_read_timeout(Some(LIMIT)).expect("a limit");
        client.write_all(b"GET / HTTP/1.1\r\nhost: slow\r\n\r\n").expect("sent");
        app.set_nonblocking(true).expect("set");
        let mut client = BufReader::new(client);
        loop {
            if let Ok((asked, _)) = app.accept() {
                return Ok((client, asked));
            }
            client.get_ref().set_read_timeout(Some(Duration::from_millis(10))).expect("a limit");
            match client.fill_buf() {
                Ok(answer) => return Err(String::from_utf8_lossy(answer).into_owned()),
                Err(_) => client.get_ref().set_read_timeout(Some(LIMIT)).expect("a limit"),
            }
        }
    });

    let admin = shop.proxy.admin();
    shop.proxy.process.signal("TERM");
    eventually(LIMIT, "it is not ready any more, and says why", || {
        let answer = admin.get("/ready")?;
        let says = answer.status == 503 && answer.body.contains("draining");
        if says { Ok(()) } else { Err(format!("{answer:?}")) }
    });
    eventually(LIMIT, "nobody new is let in", || match TcpStream::connect(door) {
        Ok(_) => Err("somebody was".to_owned()),
        Err(_) => Ok(()),
    });
    assert!(admin.get("/metrics").expect("an answer").body.contains("weft_proxy_generation 0"));
    asked.set_nonblocking(false).expect("set");
    asked.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nlate").expect("sent");
    let mut answer = String::new();
    client.read_to_string(&mut answer).expect("a whole answer");
    let answer = answer.to_ascii_lowercase();
    assert!(answer.contains("200 ok") && answer.contains("connection: close"), "{answer}");
    assert!(answer.ends_with("late"), "{answer}");
    assert_eq!(shop.proxy.process.wait_exit(), Some(0));
}

/// Ends as soon as it is refused, which is quick, or held until the end.
fn held(door: SocketAddr, count: usize) -> Vec<TcpStream> {
    (0..count)
        .filter_map(|_| {
            let mut stream = TcpStream::connect(door).ok()?;
            stream.set_read_timeout(Some(LIMIT)).expect("a limit");
            stream.write_all(b"GET / HTTP/1.1\r\nhost: web\r\n\r\n").ok()?;
            let mut status = [0; 12];
            match stream.read_exact(&mut status) {
                Ok(()) if status == *b"HTTP/1.1 200" => Some(stream),
                Ok(()) => {
                    assert_eq!(&status, b"HTTP/1.1 503");
                    None
                }
                // A reset can overtake the answer; what may not be is waiting.
                Err(error) => {
                    let kind = error.kind();
                    assert_ne!(kind, std::io::ErrorKind::WouldBlock, "a caller was left to wait");
                    None
                }
            }
        })
        .collect()
}

#[test]
fn a_sidecar_at_its_last_descriptor_answers_at_once_and_recovers() {
    let cluster = Cluster::start();
    speaks(&cluster, "web", "http");
    let _web = called(&cluster, "web-1", "web", "v1");
    cluster.agent.intend("shop", "web", "allow");
    let (app, port, admin) = (App::start("shop"), free_port(), free_port());
    cluster.agent.register(&meshed("shop", "shop", app.port(), &[("web", port)]));
    let mut command = std::process::Command::new("sh");
    command.args(["-c", "ulimit -n 128; exec \"$0\" \"$@\""]).arg(weft_tests::process::weft());
    let agent = cluster.agent.api().addr().to_string();
    command.args(["proxy", "--sidecar-for", "shop", "--http-addr", &agent, "--admin-addr"]);
    command.args([&format!("127.0.0.1:{admin}"), "--runtime-dir"]);
    command.arg(cluster.folder.path().join("run"));
    let mut sidecar = Daemon::program("few-descriptors", cluster.folder.path(), command);
    let door = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let admin = Api::new(SocketAddr::from((Ipv4Addr::LOCALHOST, admin)));
    eventually(SPREAD_LIMIT, "web answers", || Api::new(door).get("/")?.ok());

    let callers = held(door, 200);
    assert!((16..128).contains(&callers.len()), "{} were let in", callers.len());
    // While no more get in, the one who looks after it does.
    assert_eq!(admin.get("/ready").expect("an answer").status, 200);
    let metrics = admin.get("/metrics").expect("an answer").body;
    assert!(metrics.contains("cause=\"descriptor-limit\""), "{metrics}");
    let refused = Api::new(door).get("/").expect("an answer");
    assert_eq!((refused.status, refused.header("retry-after")), (503, Some("1")));
    drop(callers);
    eventually(LIMIT, "web answers again", || Api::new(door).get("/")?.ok());
    sidecar.terminate();
}
