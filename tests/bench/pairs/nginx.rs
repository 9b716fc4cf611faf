//! nginx on both sides: one worker each, upstream connections kept alive.

use std::fs;
use std::path::Path;

use anyhow::{Context, bail};

use super::{Layer, Pair, Rig, free_addr, program, tag, version};
use crate::process::Measured;

/// Where Debian puts the module for plain TCP.
const STREAM_MODULE: &str = "/usr/lib/nginx/modules/ngx_stream_module.so";

/// Starts the pair.
pub(super) fn start(rig: &Rig, layer: Layer) -> anyhow::Result<Pair> {
    if layer == Layer::Http2 {
        bail!("it speaks HTTP/1 to the next hop");
    }
    let nginx = program("nginx", "nginx-light")?;
    if layer != Layer::Http && !Path::new(STREAM_MODULE).exists() {
        bail!("its module for TCP is not installed (Debian: libnginx-mod-stream)");
    }
    let (front, back, behind) = (free_addr(), free_addr(), rig.behind(layer));
    let (ca, crt, key) = (rig.pem("ca.pem"), rig.pem("shop.crt"), rig.pem("shop.key"));
    let to_b = format!(
        "proxy_ssl_certificate {crt}; proxy_ssl_certificate_key {key}; proxy_ssl_verify on;\n\
         proxy_ssl_trusted_certificate {ca}; proxy_ssl_name web.bench; proxy_ssl_protocols TLSv1.3;"
    );
    let (crt, key) = (rig.pem("web.crt"), rig.pem("web.key"));
    let from_a = format!(
        "ssl_certificate {crt}; ssl_certificate_key {key}; ssl_protocols TLSv1.3;\n\
         ssl_client_certificate {ca}; ssl_verify_client on; ssl_session_tickets off;\n\
         ssl_conf_command Ciphersuites TLS_AES_128_GCM_SHA256; ssl_ecdh_curve X25519;"
    );
    let (a, b) = match layer {
        Layer::Http => (
            http(&format!(
                "upstream next {{ server {back}; keepalive 128; keepalive_requests 100000000; }}\n\
                 server {{ listen {front} backlog=1024; location / {{ proxy_pass https://next; {to_b} }} }}"
            )),
            http(&format!(
                "upstream next {{ server {behind}; keepalive 128; keepalive_requests 100000000; }}\n\
                 server {{ listen {back} ssl backlog=1024; {from_a}\n\
                 location / {{ if ($ssl_client_s_dn !~ \"CN=shop\") {{ return 403; }} proxy_pass http://next; }} }}"
            )),
        ),
        Layer::Http2 | Layer::Short | Layer::Tcp => (
            format!(
                "stream {{ server {{ listen {front}; proxy_ssl on; {to_b} proxy_pass {back}; }} }}"
            ),
            format!("stream {{ server {{ listen {back} ssl; {from_a} proxy_pass {behind}; }} }}"),
        ),
    };
    Ok(Pair {
        name: "nginx, h1 between",
        version: version(&nginx, "-v"),
        a: run(rig, &nginx, layer, "a", &a)?,
        b: run(rig, &nginx, layer, "b", &b)?,
        front,
        back,
        alpn: "http/1.1",
    })
}

fn http(servers: &str) -> String {
    format!(
        "http {{ access_log off; keepalive_requests 100000000; proxy_http_version 1.1;\n\
         proxy_set_header Connection \"\"; client_body_temp_path t1; proxy_temp_path t2;\n\
         fastcgi_temp_path t3; uwsgi_temp_path t4; scgi_temp_path t5;\n{servers} }}"
    )
}

fn run(rig: &Rig, nginx: &Path, layer: Layer, side: &str, rest: &str) -> anyhow::Result<Measured> {
    let folder = rig.folder.join(format!("nginx-{}-{side}", tag(layer)));
    fs::create_dir_all(&folder).context("making a folder for nginx")?;
    let at = folder.display();
    let user = if is_root() { "user root;" } else { "" };
    let load =
        if layer != Layer::Http { format!("load_module {STREAM_MODULE};") } else { String::new() };
    let config = format!(
        "{load}\n{user}\ndaemon off; worker_processes 1; pid {at}/pid; error_log {at}/error.log;\n\
         worker_rlimit_nofile 16384;\nevents {{ worker_connections 8192; }}\n{rest}\n"
    );
    let file = folder.join("nginx.conf");
    fs::write(&file, config)?;
    let args = [
        "-p".to_owned(),
        at.to_string(),
        "-e".to_owned(),
        format!("{at}/error.log"),
        "-c".to_owned(),
        file.to_string_lossy().into_owned(),
    ];
    Measured::start(nginx, &args, &folder.join("log"))
}

/// Whether this runs as root; then nginx must be told to stay so, to reach our folder.
fn is_root() -> bool {
    fs::read_to_string("/proc/self/status").is_ok_and(|text| text.contains("Uid:\t0\t0"))
}
