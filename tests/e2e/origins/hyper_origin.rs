//! The origin on hyper, in the test's own process; it speaks HTTP/1.1 and HTTP/2.

use std::collections::BTreeMap;
use std::fs::{self, OpenOptions};
use std::io::Write;
use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use serde_json::json;

use super::{Origin, Runs};

/// Ends the origin when it is dropped.
pub(super) struct Serving {
    _runtime: tokio::runtime::Runtime,
}

pub(super) fn start(folder: &Path) -> Origin {
    let log = folder.join("origin-hyper.log");
    fs::write(&log, "").expect("a temporary folder can be written");
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port is free");
    let port = listener.local_addr().expect("a bound socket has an address").port();
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    let runtime = builder.worker_threads(1).enable_all().build().expect("a runtime");
    runtime.spawn(serve(listener, log.clone()));
    Origin {
        name: "hyper",
        sidecar: None,
        port,
        log,
        _runs: Runs::Here { _origin: Serving { _runtime: runtime } },
    }
}

async fn serve(listener: TcpListener, log: PathBuf) {
    listener.set_nonblocking(true).expect("a socket can be told not to block");
    let listener = tokio::net::TcpListener::from_std(listener).expect("it is a socket");
    while let Ok((stream, _)) = listener.accept().await {
        let log = log.clone();
        let service = service_fn(move |request| answer(request, log.clone()));
        tokio::spawn(async move {
            // How a connection ends is the other side's matter.
            let _ = auto::Builder::new(TokioExecutor::new())
                .serve_connection(TokioIo::new(stream), service)
                .await;
        });
    }
}

async fn answer(
    request: Request<Incoming>,
    log: PathBuf,
) -> Result<Response<Full<Bytes>>, hyper::Error> {
    let (parts, body) = request.into_parts();
    let body = body.collect().await?.to_bytes();
    let latin = |bytes: &[u8]| bytes.iter().map(|byte| char::from(*byte)).collect::<String>();
    let mut fields = BTreeMap::<&str, Vec<String>>::new();
    for (name, value) in &parts.headers {
        fields.entry(name.as_str()).or_default().push(latin(value.as_bytes()));
    }
    if let Some(authority) = parts.uri.authority() {
        fields.entry("host").or_default().push(authority.to_string());
    }
    let line = json!({ "method": parts.method.as_str(), "paths": [parts.uri.path()],
        "fields": fields, "body": latin(&body) });
    let mut file = OpenOptions::new().append(true).open(log).expect("the log is there");
    writeln!(file, "{line}").expect("a temporary folder can be written");
    Ok(Response::new(Full::new(Bytes::from_static(b"ok"))))
}
