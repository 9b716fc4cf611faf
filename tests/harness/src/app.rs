//! A tiny HTTP application in the test's own process, to stand behind a sidecar.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;

use serde_json::{Value, json};

/// An application that says who it is and what it was asked.
///
/// The answer is JSON: `{"app": name, "method": …, "path": …, "headers": {…}, "body": …}`.
/// `GET /status/NNN` answers with that status; `GET /bytes/N` with N bytes. It stops with the
/// value: open connections are closed, later ones refused.
#[derive(Debug)]
pub struct App {
    addr: SocketAddr,
    state: Arc<State>,
}

#[derive(Debug)]
struct State {
    name: String,
    stopped: AtomicBool,
    requests: Mutex<BTreeMap<String, u64>>,
    posted: Mutex<BTreeMap<String, Value>>,
    connections: Mutex<Vec<TcpStream>>,
}

impl App {
    /// Starts an application on a free port of loopback.
    ///
    /// # Panics
    /// When no port can be bound.
    pub fn start(name: &str) -> Self {
        Self::start_at(name, 0)
    }

    /// Starts an application on this port of loopback.
    ///
    /// # Panics
    /// When it cannot be bound.
    pub fn start_at(name: &str, port: u16) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).expect("the port is free");
        let addr = listener.local_addr().expect("a bound socket has an address");
        let state = Arc::new(State {
            name: name.to_owned(),
            stopped: AtomicBool::new(false),
            requests: Mutex::new(BTreeMap::new()),
            posted: Mutex::new(BTreeMap::new()),
            connections: Mutex::new(Vec::new()),
        });
        let shared = Arc::clone(&state);
        thread::spawn(move || accept(&listener, &shared));
        Self { addr, state }
    }

    /// Returns where it listens.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Returns its port.
    pub fn port(&self) -> u16 {
        self.addr.port()
    }

    /// Returns how many requests reached it outside of this path, such as a health check's.
    pub fn requests_except(&self, path: &str) -> u64 {
        let counts = self.state.requests.lock();
        let counts = counts.unwrap_or_else(std::sync::PoisonError::into_inner);
        counts.iter().filter(|(key, _)| *key != path).map(|(_, count)| count).sum()
    }

    /// Returns what was last posted to a path, in the form of its answer.
    pub fn last_posted(&self, path: &str) -> Option<Value> {
        let posted = self.state.posted.lock();
        posted.unwrap_or_else(std::sync::PoisonError::into_inner).get(path).cloned()
    }
}

impl Drop for App {
    fn drop(&mut self) {
        self.state.stopped.store(true, Ordering::SeqCst);
        // Wakes the accepting thread, which then ends and closes the listener.
        let _ = TcpStream::connect(self.addr);
        if let Ok(connections) = self.state.connections.lock() {
            for connection in connections.iter() {
                let _ = connection.shutdown(Shutdown::Both);
            }
        }
    }
}

fn accept(listener: &TcpListener, state: &Arc<State>) {
    for stream in listener.incoming().flatten() {
        if state.stopped.load(Ordering::SeqCst) {
            return;
        }
        if let (Ok(copy), Ok(mut connections)) = (stream.try_clone(), state.connections.lock()) {
            connections.push(copy);
        }
        let state = Arc::clone(state);
        thread::spawn(move || {
            let _ = serve(&stream, &state);
        });
    }
}

fn serve(stream: &TcpStream, state: &State) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    let mut reader = BufReader::new(stream.try_clone()?);
    let mut writer = stream;
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line)? == 0 {
            return Ok(());
        }
        let mut words = line.split_whitespace();
        let (method, path) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
        let headers = read_headers(&mut reader)?;
        let length = headers.get("content-length").and_then(|v| v.parse().ok()).unwrap_or(0);
        let mut body = vec![0; length];
        reader.read_exact(&mut body)?;
        if let Ok(mut counts) = state.requests.lock() {
            *counts.entry(path.to_owned()).or_default() += 1;
        }
        let (status, answer) = answer(state, method, path, &headers, &body);
        write!(writer, "HTTP/1.1 {status} X\r\ncontent-length: {}\r\n\r\n", answer.len())?;
        if method != "HEAD" {
            writer.write_all(&answer)?;
        }
        writer.flush()?;
    }
}

fn read_headers(reader: &mut impl BufRead) -> std::io::Result<BTreeMap<String, String>> {
    let mut headers = BTreeMap::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line)?;
        let line = line.trim_end();
        let Some((name, value)) = line.split_once(':') else { return Ok(headers) };
        headers.insert(name.to_ascii_lowercase(), value.trim().to_owned());
    }
}

fn answer(
    state: &State,
    method: &str,
    path: &str,
    headers: &BTreeMap<String, String>,
    body: &[u8],
) -> (u16, Vec<u8>) {
    let status = path.strip_prefix("/status/").and_then(|text| text.parse().ok()).unwrap_or(200);
    if let Some(size) = path.strip_prefix("/bytes/").and_then(|text| text.parse().ok()) {
        return (200, vec![b'w'; size]);
    }
    let text = json!({
        "app": state.name,
        "method": method,
        "path": path,
        "headers": headers,
        "body": String::from_utf8_lossy(body),
    });
    if let ("POST", Ok(mut posted)) = (method, state.posted.lock()) {
        posted.insert(path.to_owned(), text.clone());
    }
    (status, text.to_string().into_bytes())
}
