//! The origins that are programs of others, and what makes them write down how they read.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use weft_tests::ports::free_port;
use weft_tests::{Daemon, tools};

use super::{Origin, Runs};

/// Where Debian keeps Apache's modules.
const APACHE_MODULES: &str = "/usr/lib/apache2/modules";

/// A folder of its own for an origin, with its port and its log.
struct Place {
    name: &'static str,
    at: PathBuf,
    log: PathBuf,
    port: u16,
}

impl Place {
    fn make(folder: &Path, name: &'static str) -> Self {
        let at = folder.join(format!("origin-{name}"));
        fs::create_dir_all(&at).expect("a temporary folder can be written");
        Self { name, log: at.join("seen.log"), at, port: free_port() }
    }

    fn write(&self, file: &str, text: &str) -> PathBuf {
        let path = self.at.join(file);
        fs::write(&path, text).expect("a temporary folder can be written");
        path
    }

    /// Writes a program that is told where its log is.
    fn program(&self, file: &str, text: &str) -> PathBuf {
        self.write(file, &text.replace("'LOG'", &format!("'{}'", self.log.display())))
    }

    fn run(self, command: Command) -> Origin {
        let program = Daemon::program(self.name, &self.at, command);
        Origin {
            name: self.name,
            sidecar: None,
            port: self.port,
            log: self.log,
            _runs: Runs::Program { _program: program },
        }
    }
}

fn command(program: &str) -> Command {
    Command::new(tools::find(program).expect("it was found before"))
}

/// Each request is read by a program that Apache starts, as what it takes from Lua has no bodies in
/// chunks.
pub(super) fn apache(folder: &Path) -> Origin {
    let place = Place::make(folder, "apache");
    let program = place.program("apache.pl", include_str!("apache.pl"));
    let is_run = fs::set_permissions(&program, fs::Permissions::from_mode(0o755));
    is_run.expect("a temporary file can be made a program");
    let (at, port, program) = (place.at.display(), place.port, program.display());
    let modules = ["mpm_event", "authz_core", "alias", "cgi"];
    let modules =
        modules.map(|name| format!("LoadModule {name}_module {APACHE_MODULES}/mod_{name}.so\n"));
    let config = format!(
        "{}ServerRoot {at}\nPidFile {at}/pid\nDefaultRuntimeDir {at}\nErrorLog {at}/err\n\
         ServerName web\nDocumentRoot {at}\nListen 127.0.0.1:{port}\nUseCanonicalName Off\n\
         StartServers 1\nThreadsPerChild 16\nMaxRequestWorkers 16\nServerLimit 1\n\
         KeepAlive On\nMaxKeepAliveRequests 0\nKeepAliveTimeout 60\nAllowEncodedSlashes On\n\
         HttpProtocolOptions Unsafe LenientMethods Allow0.9\nLimitRequestFieldSize 65536\n\
         LimitRequestLine 65536\nScriptAliasMatch ^ {program}\n",
        modules.concat(),
    );
    let file = place.write("apache.conf", &config);
    let mut command = command("apache2");
    command.arg("-X").arg("-f").arg(file);
    place.run(command)
}

pub(super) fn gunicorn(folder: &Path) -> Origin {
    let place = Place::make(folder, "gunicorn");
    place.write("gateways.py", include_str!("gateways.py"));
    let mut command = command("python3");
    let bind = format!("127.0.0.1:{}", place.port);
    command.args(["-m", "gunicorn", "--bind", &bind, "--threads", "8", "--keep-alive", "60"]);
    command.args(["--header-map", "dangerous", "--permit-obsolete-folding"]);
    command.args(["--strip-header-spaces", "--permit-unconventional-http-method"]);
    command.args(["--permit-unconventional-http-version", "--limit-request-field_size", "0"]);
    command.args(["--limit-request-line", "0", "gateways:wsgi"]);
    command.current_dir(&place.at).env("ORIGIN_LOG", &place.log);
    place.run(command)
}

pub(super) fn haproxy(folder: &Path) -> Origin {
    let place = Place::make(folder, "haproxy");
    let config = format!(
        "global\n  nbthread 1\n  tune.bufsize 131072\n  lua-load {}\n\
         defaults\n  mode http\n  timeout client 60s\n  timeout server 60s\n  timeout connect 5s\n\
         frontend origin\n  bind 127.0.0.1:{}\n  option accept-invalid-http-request\n\
         \x20 http-request use-service lua.origin\n",
        place.program("haproxy.lua", include_str!("haproxy.lua")).display(),
        place.port,
    );
    let file = place.write("haproxy.cfg", &config);
    let mut command = command("haproxy");
    command.arg("-db").arg("-f").arg(file);
    place.run(command)
}

/// A server that reads whole bodies, as it passes them to a second one. What it has not
/// read to the end is not written down.
pub(super) fn nginx(folder: &Path) -> Origin {
    let place = Place::make(folder, "nginx");
    let (at, port, behind) = (place.at.display(), place.port, free_port());
    let temporary = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"];
    let temporary = temporary.map(|kind| format!("{kind}_temp_path {at}/{kind};\n"));
    let fields = [
        "x_role",
        "x_team",
        "x_mode",
        "x_case",
        "x_forwarded_client_cert",
        "x_weft_cause",
        "x_weft_unreached",
        "x_weft_source",
    ];
    let fields = fields.map(|name| format!(",\"{}\":[\"$http_{name}\"]", name.replace('_', "-")));
    let config = format!(
        "daemon off; master_process off; pid {at}/pid; error_log {at}/err;\n\
         events {{}}\nhttp {{\n  default_type text/plain;\n{}\
         underscores_in_headers on; ignore_invalid_headers off; keepalive_requests 1000000;\n\
         client_body_buffer_size 256k; client_body_in_single_buffer on;\n\
         large_client_header_buffers 4 128k; merge_slashes on;\n\
         map $status $is_read {{ 200 1; default 0; }}\n\
         log_format seen escape=json '{{\"method\":\"$request_method\",\"paths\":[\"$uri\"],\
         \"fields\":{{\"host\":[\"$host\",\"$http_host\"]{}}},\"body\":\"$request_body\"}}';\n\
         server {{ listen 127.0.0.1:{port} backlog=512; access_log {at}/seen.log seen if=$is_read;\n\
         location / {{ proxy_pass http://127.0.0.1:{behind}; proxy_method POST; }} }}\n\
         server {{ listen 127.0.0.1:{behind}; access_log off; location / {{ return 200 ok; }} }}\n}}\n",
        temporary.concat(),
        fields.concat(),
    );
    let file = place.write("nginx.conf", &config);
    let mut command = command("nginx");
    command.arg("-p").arg(&place.at).arg("-c").arg(file).arg("-e").arg(place.at.join("err"));
    place.run(command)
}

pub(super) fn node(folder: &Path) -> Origin {
    let place = Place::make(folder, "node");
    let file = place.write("node.js", include_str!("node.js"));
    let mut command = command("node");
    command.arg(file).arg(place.port.to_string()).arg(&place.log);
    place.run(command)
}

pub(super) fn python(folder: &Path) -> Origin {
    let place = Place::make(folder, "python");
    let file = place.write("python.py", include_str!("python.py"));
    let mut command = command("python3");
    command.arg(file).arg(place.port.to_string()).arg(&place.log).arg(&place.at);
    place.run(command)
}

pub(super) fn uvicorn(folder: &Path) -> Origin {
    let place = Place::make(folder, "uvicorn");
    place.write("gateways.py", include_str!("gateways.py"));
    let mut command = command("python3");
    command.args(["-m", "uvicorn", "--http", "h11", "--no-access-log", "--log-level", "warning"]);
    command.args([
        "--timeout-keep-alive",
        "60",
        "--port",
        &place.port.to_string(),
        "gateways:asgi",
    ]);
    command.current_dir(&place.at).env("ORIGIN_LOG", &place.log);
    place.run(command)
}
