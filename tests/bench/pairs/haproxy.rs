//! HAProxy on both sides: one thread each, connections reused.

use std::fs;
use std::path::Path;

use super::{Layer, Pair, Rig, free_addr, program, tag, version};
use crate::process::Measured;

/// What is spoken between the two.
#[derive(Clone, Copy)]
enum Between {
    H1,
    H2,
}

/// Starts the pair with HTTP/1.1 between.
pub(super) fn start_h1(rig: &Rig, layer: Layer) -> anyhow::Result<Pair> {
    start(rig, layer, Between::H1)
}

/// Starts the pair with HTTP/2 between.
pub(super) fn start_h2(rig: &Rig, layer: Layer) -> anyhow::Result<Pair> {
    start(rig, layer, Between::H2)
}

fn start(rig: &Rig, layer: Layer, between: Between) -> anyhow::Result<Pair> {
    let haproxy = program("haproxy", "haproxy")?;
    let (front, back, behind) = (free_addr(), free_addr(), rig.behind(layer));
    let (name, alpn) = match between {
        Between::H1 => ("haproxy, h1 between", ""),
        Between::H2 => ("haproxy, h2 between", "alpn h2"),
    };
    let (ca, shop, web) = (rig.pem("ca.pem"), rig.pem("shop.pem"), rig.pem("web.pem"));
    let (mode, alpn, bind_alpn, check) = match layer {
        Layer::Http | Layer::Http2 => ("http", alpn, "alpn h2,http/1.1", "http-request deny"),
        Layer::Short | Layer::Tcp => ("tcp", "", "", "tcp-request content reject"),
    };
    let spoken = if layer == Layer::Http2 { "proto h2" } else { "" };
    let a = config(
        mode,
        &format!(
            "listen a\n  bind {front} backlog 1024 {spoken}\n  server b {back} ssl crt {shop} ca-file {ca} \
             verify required verifyhost web.bench no-ssl-reuse {alpn}\n"
        ),
    );
    let b = config(
        mode,
        &format!(
            "listen b\n  bind {back} backlog 1024 ssl crt {web} ca-file {ca} verify required \
             no-tls-tickets {bind_alpn}\n  {check} unless {{ ssl_c_s_dn(cn) -m str shop }}\n  \
             server app {behind} {spoken}\n"
        ),
    );
    let files = format!("{}-{}", name.replace([',', ' '], ""), tag(layer));
    Ok(Pair {
        name,
        version: version(&haproxy, "-v"),
        a: run(rig, &haproxy, &format!("{files}-a"), &a)?,
        b: run(rig, &haproxy, &format!("{files}-b"), &b)?,
        front,
        back,
        alpn: "http/1.1",
    })
}

fn config(mode: &str, rest: &str) -> String {
    format!(
        "global\n  nbthread 1\n  maxconn 6000\n  ssl-default-bind-options ssl-min-ver TLSv1.3\n  \
         ssl-default-bind-ciphersuites TLS_AES_128_GCM_SHA256\n  ssl-default-bind-curves X25519\n  \
         ssl-default-server-options ssl-min-ver TLSv1.3\n  tune.ssl.cachesize 0\n\
         defaults\n  mode {mode}\n  {reuse}\n  timeout connect 5s\n  timeout client 60s\n  \
         timeout server 60s\n{rest}",
        reuse = if mode == "http" { "http-reuse always" } else { "" },
    )
}

fn run(rig: &Rig, haproxy: &Path, files: &str, config: &str) -> anyhow::Result<Measured> {
    let file = rig.folder.join(format!("{files}.cfg"));
    fs::write(&file, config)?;
    let args = ["-db".to_owned(), "-f".to_owned(), file.to_string_lossy().into_owned()];
    Measured::start(haproxy, &args, &rig.folder.join(format!("{files}.log")))
}
