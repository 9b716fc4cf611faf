//! A row of real origins behind sidecars: each writes down every request as it has read it.
//!
//! They stand at their most lenient, so that what passes the proxy is read in the worst way.

use std::collections::BTreeMap;
use std::fs;
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::Value;
use weft_tests::cluster::{TestProxy, meshed};
use weft_tests::{Cluster, Daemon, eventually, tools};

use crate::story::speaks;

mod hyper_origin;
mod programs;

const START_LIMIT: Duration = Duration::from_secs(30);

/// How an origin has read one request.
#[derive(Debug, Clone)]
pub(crate) struct Seen {
    pub(crate) method: String,
    /// The path, in each way in which it hands it out.
    pub(crate) paths: Vec<String>,
    /// The values of each header by its name in lower case, in each way.
    fields: BTreeMap<String, Vec<String>>,
    pub(crate) body: String,
}

impl Seen {
    /// A reading that no origin has made.
    pub(crate) fn of(method: &str, path: &str, body: &str) -> Self {
        let (method, body) = (method.to_owned(), body.to_owned());
        Self { method, paths: vec![path.to_owned()], fields: BTreeMap::new(), body }
    }

    /// The values of a header; none if it was not there.
    pub(crate) fn field(&self, name: &str) -> &[String] {
        self.fields.get(name).map_or(&[], Vec::as_slice)
    }

    /// The names of headers that it has read.
    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        self.fields.keys().map(String::as_str)
    }
}

/// One origin.
pub(crate) struct Origin {
    /// The service that it is.
    pub(crate) name: &'static str,
    /// Its sidecar, which logs what it lets in.
    pub(crate) sidecar: Option<TestProxy>,
    port: u16,
    log: PathBuf,
    _runs: Runs,
}

/// What an origin lives in.
enum Runs {
    Here { _origin: hyper_origin::Serving },
    Program { _program: Daemon },
}

impl Origin {
    /// Returns what it has written down since [`Self::forget`].
    pub(crate) fn seen(&self) -> Vec<Seen> {
        let text = fs::read(&self.log).unwrap_or_default();
        String::from_utf8_lossy(&text).lines().filter_map(read).collect()
    }

    /// Empties what it has written down.
    pub(crate) fn forget(&self) {
        fs::write(&self.log, "").expect("a temporary folder can be written");
    }

    /// Returns where it listens, for asking it directly.
    pub(crate) fn addr(&self) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], self.port))
    }
}

/// Starts all origins that are on this machine, each as a service with a sidecar; a missing one
/// is skipped loudly.
pub(crate) fn row(cluster: &Cluster, test: &str) -> Vec<Origin> {
    let folder = cluster.folder.path();
    let mut origins = vec![hyper_origin::start(folder)];
    let mut add = |missing: Option<String>, start: fn(&Path) -> Origin| match missing {
        None => origins.push(start(folder)),
        Some(missing) => tools::skip(test, &missing),
    };
    let without = |program: &str| tools::find(program).is_none().then(|| format!("no {program}"));
    let without_module = |module: &str| {
        let found = tools::run("python3", &["-c", &format!("import {module}")]).code == Some(0);
        (!found).then(|| format!("no Python module {module}"))
    };
    add(without("apache2").or(without("perl")), programs::apache);
    add(without_module("gunicorn"), programs::gunicorn);
    add(without("haproxy"), programs::haproxy);
    add(without("nginx"), programs::nginx);
    add(without("node"), programs::node);
    add(without("python3"), programs::python);
    add(without_module("uvicorn"), programs::uvicorn);
    for origin in &mut origins {
        let addr = origin.addr();
        eventually(START_LIMIT, &format!("{} listens", origin.name), || {
            TcpStream::connect(addr).map(drop).map_err(|error| error.to_string())
        });
        speaks(cluster, origin.name, "http");
        cluster.agent.register(&meshed(origin.name, origin.name, origin.port, &[]));
        let sidecar = cluster.agent.sidecar_with(origin.name, &["--access-log", "json"]);
        origin.sidecar = Some(sidecar);
    }
    origins
}

fn read(line: &str) -> Option<Seen> {
    let value: Value = serde_json::from_str(line).ok()?;
    let texts = |value: &Value| -> Vec<String> {
        let values = value.as_array().into_iter().flatten();
        // What stands for an absent header in some logs.
        values
            .filter_map(Value::as_str)
            .filter(|text| !text.is_empty())
            .map(str::to_owned)
            .collect()
    };
    let fields = value["fields"].as_object()?.iter();
    let fields = fields.map(|(name, values)| (name.clone(), texts(values)));
    Some(Seen {
        method: value["method"].as_str()?.to_owned(),
        paths: texts(&value["paths"]),
        fields: fields.filter(|(_, values)| !values.is_empty()).collect(),
        body: value["body"].as_str().unwrap_or_default().to_owned(),
    })
}
