//! Instances that stop while requests are on their way to them.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use crate::support::pair::{App, Running, eventually, free, http2};
use crate::support::{Mesh, Upstream};
use bytes::Bytes;
use http::{Method, Request, StatusCode};
use http_body_util::{BodyExt, Full};
use weft_core::config_entry::Protocol;

/// Calls over HTTP/2 through one connection until told to stop; returns what went wrong.
async fn call(
    address: std::net::SocketAddr,
    method: Method,
    (stop, good): (Arc<AtomicBool>, Arc<AtomicUsize>),
) -> Option<String> {
    let mut sender = http2(address).await;
    while !stop.load(Ordering::SeqCst) {
        let request = Request::builder().method(method.clone()).uri(format!("http://{address}/"));
        let request = request.body(Full::new(Bytes::from("abc"))).expect("a request");
        let answer = match sender.send_request(request).await {
            Ok(answer) => answer,
            Err(error) => return Some(error.to_string()),
        };
        let status = answer.status();
        let body = answer.into_body().collect().await.map(|body| body.to_bytes());
        match (status, body) {
            (StatusCode::OK, Ok(_)) => drop(good.fetch_add(1, Ordering::SeqCst)),
            (status, body) => return Some(format!("{status} {body:?}")),
        }
    }
    None
}

#[tokio::test]
async fn an_instance_that_stops_costs_no_request_while_another_lives() {
    for (protocol, method) in [
        (Protocol::Http2, Method::POST),
        (Protocol::Http2, Method::GET),
        (Protocol::Http, Method::POST),
    ] {
        let (mesh, app) = (Mesh::new("test.mesh"), App::start("web").await);
        let (door, bind) = (free().await, free().await);
        let steady = mesh.snapshot("web", (door, app.address), protocol, &[]);
        let _steady = Running::start("steady", steady).await;
        let mut upstream = Upstream::of("web", (bind, protocol), vec![door]);
        let unused = (free().await, app.address);
        let snapshot = mesh.snapshot("client", unused, protocol, std::slice::from_ref(&upstream));
        let client = Running::start("client", snapshot).await;
        let told = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
        let callers: Vec<_> =
            (0..4).map(|_| tokio::spawn(call(bind, method.clone(), told.clone()))).collect();
        for _ in 0..4 {
            let leaving = free().await;
            let snapshot = mesh.snapshot("web", (leaving, app.address), protocol, &[]);
            let stops = Running::start("stops", snapshot).await;
            upstream.targets[0].2 = vec![leaving, door];
            let snapshot =
                mesh.snapshot("client", unused, protocol, std::slice::from_ref(&upstream));
            client.change(|s| s.endpoints = snapshot.endpoints).await;
            let before = told.1.load(Ordering::SeqCst);
            let is_on = || told.1.load(Ordering::SeqCst) > before + 40;
            eventually(|| async { is_on() || callers.iter().any(|c| c.is_finished()) }).await;
            stops.tasks.cancel();
            let before = told.1.load(Ordering::SeqCst);
            let is_on = || told.1.load(Ordering::SeqCst) > before + 40;
            eventually(|| async { is_on() || callers.iter().any(|c| c.is_finished()) }).await;
        }
        told.0.store(true, Ordering::SeqCst);
        for caller in callers {
            assert_eq!(caller.await.expect("a caller"), None, "{protocol:?} {method}");
        }
    }
}
