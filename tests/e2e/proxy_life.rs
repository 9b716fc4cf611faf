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
