//! A collector made of OpenTelemetry's own packages, for those who tell it something.

use std::path::Path;
use std::process::Command;

use serde_json::Value;
use weft_tests::cluster::SPREAD_LIMIT;
use weft_tests::ports::free_port;
use weft_tests::{Daemon, eventually, tools};

/// A running collector; it stops with the value.
pub(crate) struct Collector {
    process: Daemon,
    /// Its port for OTLP over HTTP, and for Zipkin.
    pub(crate) http: u16,
    /// Its port for OTLP over gRPC.
    pub(crate) grpc: u16,
}

impl Collector {
    /// Whether what it is made of is installed; says so if not.
    pub(crate) fn is_there(test: &str) -> bool {
        let modules = ["opentelemetry.proto.collector.trace.v1.trace_service_pb2_grpc", "grpc"];
        modules.iter().all(|module| tools::have_module(test, module))
    }

    /// Starts it and waits until it listens.
    pub(crate) fn start(folder: &Path) -> Self {
        let (http, grpc) = (free_port(), free_port());
        let mut command = Command::new(tools::find("python3").expect("it was found before"));
        command.arg(concat!(env!("CARGO_MANIFEST_DIR"), "/clients/collector.py"));
        command.args([http.to_string(), grpc.to_string()]);
        let process = Daemon::program("collector", folder, command);
        eventually(SPREAD_LIMIT, "the collector listens", || match process.log() {
            log if log.contains("collecting") => Ok(()),
            log => Err(log),
        });
        Self { process, http, grpc }
    }

    /// Returns what it got of a kind, in order.
    pub(crate) fn got(&self, kind: &str) -> Vec<Value> {
        let log = self.process.log();
        let lines = log.lines().filter_map(|line| line.strip_prefix(kind));
        lines.map(|line| serde_json::from_str(line).expect("JSON")).collect()
    }
}
