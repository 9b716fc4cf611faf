//! What each feature costs: our own pair with one thing switched on at a time, in interleaved rounds,
//! beside the same pair without it.

use std::fs;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::thread;
use std::time::{Duration, SystemTime};

use anyhow::{Context, ensure};
use jsonwebtoken::jwk::Jwk;
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use rcgen::KeyPair;
use serde_json::{Value, json};
use weft_core::config_entry::{CongestionControl, HopTransport, MeshTransport};
use weft_core::proxycfg::{JwtKeys, ProxySnapshot};

use crate::load;
use crate::measure::measured;
use crate::pairs::{self, Layer, Pair, Rig, Setup};

const CONNECTIONS: usize = 64;
/// The name of the base, beside which the others are shown.
const BASE: &str = "none";

/// What a feature changes of a pair before that is started.
type Change = dyn Fn(&mut Setup) -> anyhow::Result<()>;

/// One thing that is switched on.
struct Feature {
    name: &'static str,
    /// What is asked for; a token stands in the query.
    path: String,
    transport: HopTransport,
    change: Box<Change>,
}

/// A pair with one thing switched on, and what it took in each round.
struct Row {
    name: &'static str,
    path: String,
    pair: Pair,
    rates: Vec<f64>,
    cpu: Vec<f64>,
}

/// Measures all in interleaved rounds and prints a table.
pub(crate) fn run(
    rig: &Rig,
    (rounds, time): (usize, Duration),
    only: &str,
    json: &Path,
) -> anyhow::Result<()> {
    let mut rows = Vec::new();
    for feature in features(rig)? {
        if feature.name != BASE && !feature.name.contains(only) {
            continue;
        }
        let Feature { name, path, transport, change } = feature;
        let pair = pairs::start_changed(rig, Layer::Http, transport, change.as_ref());
        match pair.and_then(|pair| pairs::awaited(pair, (Layer::Http, &path))) {
            Ok(pair) => rows.push(Row { name, path, pair, rates: Vec::new(), cpu: Vec::new() }),
            Err(error) => eprintln!("{name} is left out: {error:#}"),
        }
    }
    ensure!(rows.first().is_some_and(|row| row.name == BASE), "the base cannot be measured");
    for _ in 0..rounds {
        for row in &mut rows {
            let cpu_seconds = || row.pair.cpu_seconds();
            let saturate = |time| load::saturate(row.pair.front, &row.path, CONNECTIONS, time);
            let (seen, cpu) = measured(&cpu_seconds, time, saturate).context(row.name)?;
            let count = seen.latencies.total() as f64;
            row.rates.push(seen.rate());
            row.cpu.push(cpu * 100_000.0 / count.max(1.0));
        }
    }
    let base = median(&rows[0].cpu);
    let mut figures = Vec::new();
    println!("{:34} {:>8} {:>11} {:>6}", "one thing switched on", "rps", "CPU s/100k", "times");
    for row in &rows {
        let (rate, cpu) = (median(&row.rates), median(&row.cpu));
        println!("{:34} {rate:8.0} {cpu:11.2} {:6.2}", row.name, cpu / base);
        figures.push(json!({ "feature": row.name, "rps": row.rates, "cpu_s_per_100k": row.cpu }));
    }
    if let Some(folder) = json.parent() {
        fs::create_dir_all(folder)?;
    }
    let text = serde_json::to_string_pretty(&figures)?;
    fs::write(json, text).with_context(|| format!("writing {}", json.display()))
}

fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted.get(sorted.len() / 2).copied().unwrap_or_default()
}

fn both(setup: &mut Setup) -> [&mut ProxySnapshot; 2] {
    [&mut setup.a, &mut setup.b]
}

fn features(rig: &Rig) -> anyhow::Result<Vec<Feature>> {
    let authoriser = rig.backend.http;
    let collector = format!("http://{}", collector()?);
    let file = rig.folder.join("access.log");
    let mut all = vec![
        feature(BASE, |_| Ok(())),
        feature("100 intentions of other callers", many_intentions),
        feature("100 permissions by path", many_permissions),
        token_feature()?,
        feature("external authoriser, HTTP", move |setup| {
            let config = json!({ "HttpService": { "Target": { "URI": authoriser.to_string() } } });
            let ext_authz = json!({ "config": config, "address": authoriser });
            setup.b.inbound.ext_authz = Some(serde_json::from_value(ext_authz)?);
            Ok(())
        }),
    ];
    let to_file = json!({ "Enabled": true, "Type": "file", "Path": file });
    let mut sampled = to_file.clone();
    sampled["Filter"] = json!({ "SamplePercent": 1 });
    let to_collector = json!({ "Enabled": true, "Type": "otlp", "Endpoint": collector });
    for (name, logs) in [
        ("access log, JSON to a file", to_file),
        ("access log, 1 % of requests", sampled),
        ("access log, OTLP over HTTP", to_collector),
    ] {
        all.push(feature(name, move |setup| {
            for snapshot in both(setup) {
                snapshot.access_logs = Some(serde_json::from_value(logs.clone())?);
            }
            Ok(())
        }));
    }
    for (name, percent) in [("traces, 1 %", 1), ("traces, 100 %", 100)] {
        let tracing = json!({ "Endpoint": collector, "SamplingPercent": percent });
        all.push(feature(name, move |setup| {
            for snapshot in both(setup) {
                snapshot.tracing = Some(serde_json::from_value(tracing.clone())?);
            }
            Ok(())
        }));
    }
    for (name, field, value) in [
        ("metrics also as istio and envoy", "metric_dialects", json!(["istio", "envoy"])),
        ("connections not shared", "mux", json!("off")),
    ] {
        all.push(feature(name, move |setup| {
            setup.config.insert(field.to_owned(), value.clone());
            Ok(())
        }));
    }
    all.push(feature("PROXY protocol from the caller", |setup| {
        setup.a.proxy_protocol_from = vec!["192.0.2.0/24".parse()?];
        Ok(())
    }));
    let transport = HopTransport {
        mesh_transport: MeshTransport::Quic,
        congestion_control: CongestionControl::Unset,
    };
    all.push(Feature { transport, ..feature("QUIC between the proxies", |_| Ok(())) });
    Ok(all)
}

/// Starts something that takes every message and throws it away.
fn collector() -> anyhow::Result<SocketAddr> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let address = listener.local_addr()?;
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            // Who breaks off is told nothing.
            thread::spawn(move || drop(take_messages(&stream)));
        }
    });
    Ok(address)
}

fn take_messages(stream: &TcpStream) -> std::io::Result<()> {
    let mut reader = BufReader::new(stream);
    loop {
        let mut length = 0;
        loop {
            let mut line = String::new();
            if reader.read_line(&mut line)? == 0 {
                return Ok(());
            }
            let line = line.trim_end().to_ascii_lowercase();
            if line.is_empty() {
                break;
            }
            if let Some(value) = line.strip_prefix("content-length:") {
                length = value.trim().parse().unwrap_or_default();
            }
        }
        std::io::copy(&mut reader.by_ref().take(length), &mut std::io::sink())?;
        (&*stream).write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")?;
    }
}

fn feature(
    name: &'static str,
    change: impl Fn(&mut Setup) -> anyhow::Result<()> + 'static,
) -> Feature {
    // What is not said here may become QUIC, and then each row would measure that as well.
    let transport = HopTransport { mesh_transport: MeshTransport::Tcp, ..HopTransport::default() };
    let path = "/2".to_owned();
    Feature { name, path, transport, change: Box::new(change) }
}

fn many_intentions(setup: &mut Setup) -> anyhow::Result<()> {
    let intentions = &mut setup.b.inbound.intentions.intentions;
    let own = intentions.first().context("the pair has an intention")?.clone();
    for number in 0..100 {
        let mut other = own.clone();
        other.source = serde_json::from_value(json!(format!("other-{number}")))?;
        intentions.insert(0, other);
    }
    Ok(())
}

fn many_permissions(setup: &mut Setup) -> anyhow::Result<()> {
    let own = setup.b.inbound.intentions.intentions.first_mut();
    let own = own.context("the pair has an intention")?;
    let others = (0..99).map(|number| ("deny", format!("/forbidden/{number}")));
    for (action, path) in others.chain([("allow", "/2".to_owned())]) {
        let http = json!({ "PathPrefix": path, "Methods": ["GET"] });
        let permission = json!({ "Action": action, "HTTP": http });
        own.permissions.push(serde_json::from_value(permission)?);
    }
    own.action = serde_json::from_value(json!("deny"))?;
    Ok(())
}

/// A token that the caller sends with each request: it is verified once and remembered.
fn token_feature() -> anyhow::Result<Feature> {
    let pair = KeyPair::generate()?;
    let key = EncodingKey::from_ec_der(&pair.serialize_der());
    let mut jwk = Jwk::from_encoding_key(&key, Algorithm::ES256)?;
    jwk.common.key_id = Some("k".to_owned());
    let set = json!({ "keys": [jwk] }).to_string();
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH)?.as_secs();
    let header = Header { kid: Some("k".to_owned()), ..Header::new(Algorithm::ES256) };
    let claims: Value = json!({ "iss": "bench", "sub": "shop", "exp": now + 86_400 });
    let token = jsonwebtoken::encode(&header, &claims, &key)?;
    let feature = feature("token (JWT, ES256)", move |setup| {
        let inbound = &mut setup.b.inbound;
        let provider = json!({ "Name": "bench", "Issuer": "bench" });
        inbound.intentions.providers.push(serde_json::from_value(provider)?);
        let own = inbound.intentions.intentions.first_mut().context("the pair has an intention")?;
        own.jwt = Some(serde_json::from_value(json!({ "Providers": [{ "Name": "bench" }] }))?);
        let keys = JwtKeys { set: Some(set.clone()), answered: 0 };
        inbound.jwt_keys.insert("bench".parse()?, keys);
        Ok(())
    });
    Ok(Feature { path: format!("/2?access_token={token}"), ..feature })
}
