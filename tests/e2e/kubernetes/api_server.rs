//! A stand-in for the cluster's API server: objects by their paths, and no write over another.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

type Objects = Arc<Mutex<(u64, BTreeMap<String, Value>)>>;

/// The stand-in; ends with the process.
pub(crate) struct ApiServer {
    addr: SocketAddr,
    objects: Objects,
}

impl ApiServer {
    pub(crate) fn start() -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port is free");
        let addr = listener.local_addr().expect("a bound socket has an address");
        let objects = Objects::default();
        let serving = Arc::clone(&objects);
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let _ = serve(&stream, &serving);
            }
        });
        Self { addr, objects }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.addr)
    }

    pub(crate) fn put(&self, path: &str, object: Value) {
        store(&self.objects, path, object);
    }

    pub(crate) fn get(&self, path: &str) -> Option<Value> {
        lock(&self.objects).1.get(path).cloned()
    }
}

/// The text behind a field in base64.
pub(crate) fn decoded(field: &Value) -> String {
    let bytes = STANDARD.decode(field.as_str().expect("a text")).expect("it is base64");
    String::from_utf8(bytes).expect("it is UTF-8")
}

fn lock(objects: &Objects) -> std::sync::MutexGuard<'_, (u64, BTreeMap<String, Value>)> {
    objects.lock().unwrap_or_else(PoisonError::into_inner)
}

fn store(objects: &Objects, path: &str, mut object: Value) -> Value {
    let mut objects = lock(objects);
    objects.0 += 1;
    object["metadata"]["resourceVersion"] = objects.0.to_string().into();
    objects.1.insert(path.to_owned(), object.clone());
    object
}

/// Answers one request and closes.
fn serve(stream: &TcpStream, objects: &Objects) -> std::io::Result<()> {
    let mut reader = BufReader::new(stream);
    let mut line = String::new();
    reader.read_line(&mut line)?;
    let mut words = line.split_whitespace().map(str::to_owned);
    let (method, path) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    let mut length = 0;
    loop {
        let mut field = String::new();
        reader.read_line(&mut field)?;
        if field.trim().is_empty() {
            break;
        }
        if let Some(text) = field.to_ascii_lowercase().strip_prefix("content-length:") {
            length = text.trim().parse().unwrap_or_default();
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body)?;
    let (status, answer) = answer(objects, (&method, &path), &body);
    let text = answer.to_string();
    let mut writer = stream;
    write!(
        writer,
        "HTTP/1.1 {status} Told\r\ncontent-type: application/json\r\nconnection: close\r\n\
         content-length: {}\r\n\r\n{text}",
        text.len()
    )
}

fn answer(objects: &Objects, (method, path): (&str, &str), body: &[u8]) -> (u16, Value) {
    let known = lock(objects).1.get(path).cloned();
    let told: Value = serde_json::from_slice(body).unwrap_or_default();
    match (method, known) {
        ("GET", Some(object)) => (200, object),
        ("GET" | "PUT", None) => (404, json!({ "message": format!("{path} is not found") })),
        ("PUT", Some(object)) => {
            let version = |object: &Value| object["metadata"]["resourceVersion"].clone();
            if version(&object) != version(&told) {
                return (409, json!({ "message": "the object has been modified" }));
            }
            (200, store(objects, path, told))
        }
        ("POST", _) => {
            let name = told["metadata"]["name"].as_str().unwrap_or_default();
            let path = format!("{path}/{name}");
            if lock(objects).1.contains_key(&path) {
                return (409, json!({ "message": "it exists already" }));
            }
            (201, store(objects, &path, told))
        }
        (_, _) => (405, json!({ "message": "no such method" })),
    }
}
