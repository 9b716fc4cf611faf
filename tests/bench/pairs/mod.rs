//! The pairs of proxies that are compared: each the same two hops, A for the caller, B for the
//! called service, mTLS between them with the same certificates.

mod envoy;
mod haproxy;
mod nginx;
mod weft;

use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use weft_core::config_entry::HopTransport;
use weft_tests::ports::free_port;

use crate::backend::Backend;
use crate::certificates::Certificates;
use crate::h2;
use crate::load;
use crate::process::Measured;
pub(crate) use weft::Setup;

/// What the proxies understand of the bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Layer {
    /// HTTP requests, routed one by one.
    Http,
    /// Requests over HTTP/2, and calls of gRPC, all the way.
    Http2,
    /// Bytes, of connections that ask once and end.
    Short,
    /// Bytes.
    Tcp,
}

/// What a pair is started with.
#[derive(Debug)]
pub(crate) struct Rig {
    /// For configurations and logs.
    pub(crate) folder: PathBuf,
    /// Who trusts whom.
    pub(crate) certificates: Certificates,
    /// What lies behind B.
    pub(crate) backend: Backend,
}

impl Rig {
    /// What lies behind B for a layer.
    pub(crate) fn behind(&self, layer: Layer) -> SocketAddr {
        match layer {
            Layer::Http | Layer::Short => self.backend.http,
            Layer::Http2 => self.backend.http2,
            Layer::Tcp => self.backend.firehose,
        }
    }

    /// A file of the certificates' folder, as configurations name it.
    pub(crate) fn pem(&self, name: &str) -> String {
        self.certificates.folder.join(name).to_string_lossy().into_owned()
    }
}

/// A running pair.
#[derive(Debug)]
pub(crate) struct Pair {
    /// What the table calls it.
    pub(crate) name: &'static str,
    /// The program's version.
    pub(crate) version: String,
    /// The caller's side.
    pub(crate) a: Measured,
    /// The called side.
    pub(crate) b: Measured,
    /// Where A takes plaintext.
    pub(crate) front: SocketAddr,
    /// Where B takes mTLS.
    pub(crate) back: SocketAddr,
    /// What a client offers B in ALPN to speak HTTP/1.1.
    pub(crate) alpn: &'static str,
}

impl Pair {
    /// The processor time of both sides, in seconds.
    pub(crate) fn cpu_seconds(&self) -> f64 {
        self.a.cpu_seconds() + self.b.cpu_seconds()
    }
}

/// How to start one pair.
type Start = fn(&Rig, Layer) -> anyhow::Result<Pair>;

/// Every pair, by name.
pub(crate) const PAIRS: [(&str, Start); 6] = [
    ("weft", weft::start),
    ("nginx, h1 between", nginx::start),
    ("haproxy, h1 between", haproxy::start_h1),
    ("haproxy, h2 between", haproxy::start_h2),
    ("envoy, h1 between", envoy::start_h1),
    ("envoy, h2 between", envoy::start_h2),
];

/// How long a pair may take until its first answer.
const START_LIMIT: Duration = Duration::from_secs(15);

/// Starts a pair and waits for the first answer through it.
pub(crate) fn start(start: Start, rig: &Rig, layer: Layer) -> anyhow::Result<Pair> {
    awaited(start(rig, layer)?, (layer, "/2"))
}

/// Waits for the first answer through a pair, to a request for this path.
pub(crate) fn awaited(mut pair: Pair, (layer, path): (Layer, &str)) -> anyhow::Result<Pair> {
    let began = Instant::now();
    loop {
        let answered = match layer {
            Layer::Http | Layer::Short => load::probe(pair.front, path),
            Layer::Http2 => h2::probe(pair.front, h2::Asked::Http),
            Layer::Tcp => load::drink(pair.front, Duration::from_millis(20)).map(drop),
        };
        match answered {
            Ok(()) => return Ok(pair),
            Err(error) if began.elapsed() > START_LIMIT => {
                return Err(error.context(format!("no answer through it; {}", last_words(&pair))));
            }
            Err(_) if pair.a.has_ended() || pair.b.has_ended() => {
                bail!("it ended at once; {}", last_words(&pair))
            }
            Err(_) => thread::sleep(Duration::from_millis(30)),
        }
    }
}

/// Starts our own pair with what it is to speak between its proxies.
pub(crate) fn start_over(rig: &Rig, layer: Layer, transport: HopTransport) -> anyhow::Result<Pair> {
    awaited(weft::start_over(rig, layer, transport)?, (layer, "/2"))
}

/// Starts our own pair with something changed in it.
pub(crate) fn start_changed(
    rig: &Rig,
    layer: Layer,
    transport: HopTransport,
    change: &dyn Fn(&mut Setup) -> anyhow::Result<()>,
) -> anyhow::Result<Pair> {
    weft::start_changed(rig, layer, transport, change)
}

fn last_words(pair: &Pair) -> String {
    format!("A said: {}; B said: {}", pair.a.last_words(), pair.b.last_words())
}

/// A free address on loopback.
fn free_addr() -> SocketAddr {
    SocketAddr::from((Ipv4Addr::LOCALHOST, free_port()))
}

/// Finds a program, or says which Debian package has it.
fn program(name: &str, package: &str) -> anyhow::Result<PathBuf> {
    weft_tests::tools::find(name).with_context(|| format!("not installed (Debian: {package})"))
}

/// The first version number that a program prints.
fn version(program: &Path, argument: &str) -> String {
    let output = Command::new(program).arg(argument).output();
    let text = output.map_or_else(
        |_| String::new(),
        |out| {
            format!(
                "{}{}",
                String::from_utf8_lossy(&out.stdout),
                String::from_utf8_lossy(&out.stderr)
            )
        },
    );
    text.split(|c: char| !(c.is_ascii_digit() || c == '.'))
        .find(|word| word.matches('.').count() >= 2 && word.len() > 4)
        .unwrap_or("?")
        .trim_matches('.')
        .to_owned()
}

/// A name that tells apart the files of layers.
fn tag(layer: Layer) -> &'static str {
    match layer {
        Layer::Http => "http",
        Layer::Http2 => "http2",
        Layer::Short => "short",
        Layer::Tcp => "tcp",
    }
}
