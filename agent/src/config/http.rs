//! The doors of the HTTP API: `http` and `https` of an agent's configuration.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use weft_core::local_address::file_mode;
use weft_proto::text::{Fault, HttpsConfig, HttpsSection};

use super::resolve::{absolute, addr, check_socket_path};

/// Where the HTTP API listens: Consul's port, this host only.
pub(super) const HTTP_ADDR: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 8500);
/// Who may use the API's socket unless told otherwise: the agent's user and group.
const SOCKET_MODE: u32 = 0o660;

/// The `http` section.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct HttpSection {
    /// `ip:port`, `unix:///path`, or `off`.
    pub addr: Option<String>,
    /// The path of a unix socket, beside the address.
    pub socket: Option<String>,
    /// The socket's mode, in octal; `0660` by default.
    pub socket_mode: Option<String>,
    /// The socket's owner: a name or a number.
    pub socket_user: Option<String>,
    /// The socket's group: a name or a number.
    pub socket_group: Option<String>,
    /// Names that a `Host` header may have besides loopback names and IP addresses.
    pub allowed_hosts: Vec<String>,
    /// Connections of one address at once; 0, which is the default, for no bound of its own.
    pub max_conns_per_client: usize,
}

/// The HTTP API's settings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HttpConfig {
    /// Where it listens without TLS; `None` for not at all.
    pub addr: Option<SocketAddr>,
    /// The unix socket on which it listens.
    pub socket: Option<HttpSocket>,
    /// Where it listens with TLS.
    pub https: Option<HttpsConfig>,
    /// Names that a `Host` header may have besides loopback names and IP addresses, lower case.
    pub allowed_hosts: Vec<String>,
    /// Connections of one address at once; `None` for no bound of its own.
    pub connections_per_client_max: Option<usize>,
}

/// The API's unix socket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HttpSocket {
    /// Its path.
    pub path: PathBuf,
    /// Its file mode.
    pub mode: u32,
    /// Its owner, by number; `None` for the agent's user.
    pub user: Option<u32>,
    /// Its group, by number.
    pub group: Option<u32>,
}

/// Checks the sections; what is wrong is added to the faults.
pub(super) fn resolve(
    http: &HttpSection,
    https: &HttpsSection,
    faults: &mut Vec<Fault>,
) -> HttpConfig {
    let unix = http.addr.as_deref().and_then(|addr| addr.strip_prefix("unix://"));
    if unix.is_some() && http.socket.is_some() {
        faults.push(Fault::new("http.socket", "http.addr names a socket already"));
    }
    let addr = match unix {
        Some(_) => None,
        None => addr(faults, "http.addr", http.addr.as_deref(), HTTP_ADDR),
    };
    HttpConfig {
        addr,
        socket: unix.or(http.socket.as_deref()).map(|path| socket(path, http, faults)),
        https: tls(https, faults),
        allowed_hosts: http.allowed_hosts.iter().map(|host| host.to_lowercase()).collect(),
        connections_per_client_max: Some(http.max_conns_per_client).filter(|max| *max > 0),
    }
}

fn socket(path: &str, section: &HttpSection, faults: &mut Vec<Fault>) -> HttpSocket {
    let path = absolute(path);
    check_socket_path("http.socket", &path, faults);
    let mode = section.socket_mode.as_deref().map(|text| {
        file_mode(text)
            .ok_or_else(|| format!("{text:?} is not a mode; write it in octal, such as \"0660\""))
    });
    let mode = mode.unwrap_or(Ok(SOCKET_MODE)).unwrap_or_else(|reason| {
        faults.push(Fault::new("http.socket_mode", reason));
        SOCKET_MODE
    });
    let mut number = |field: &str, file: &str, given: &Option<String>| {
        let name = given.as_deref()?;
        let found = name.parse().ok().or_else(|| number_of(name, Path::new(file)));
        if found.is_none() {
            faults.push(Fault::new(field, format!("{file} has no {name:?}")));
        }
        found
    };
    let user = number("http.socket_user", "/etc/passwd", &section.socket_user);
    let group = number("http.socket_group", "/etc/group", &section.socket_group);
    HttpSocket { path, mode, user, group }
}

/// Looks a name up in a file of lines `name:password:number:…`.
fn number_of(name: &str, file: &Path) -> Option<u32> {
    let text = std::fs::read_to_string(file).ok()?;
    let mut fields = text.lines().map(|line| line.split(':'));
    fields.find_map(|mut fields| {
        (fields.next() == Some(name)).then(|| fields.nth(1)?.parse().ok()).flatten()
    })
}

fn tls(section: &HttpsSection, faults: &mut Vec<Fault>) -> Option<HttpsConfig> {
    let text = section.addr.as_deref().filter(|text| *text != "off");
    section.resolve(text, faults, |text, faults| addr(faults, "https.addr", Some(text), HTTP_ADDR))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str) -> (HttpConfig, Vec<String>) {
        #[derive(Default, Serialize, Deserialize)]
        #[serde(default)]
        struct File {
            http: HttpSection,
            https: HttpsSection,
        }
        let value = weft_proto::text::parse("agent.hcl", text).expect("HCL");
        let file: File =
            weft_proto::text::decode(&value, weft_proto::json::Unknown::Refuse).expect("fields");
        let mut faults = Vec::new();
        let config = resolve(&file.http, &file.https, &mut faults);
        (config, faults.into_iter().map(|fault| fault.path).collect())
    }

    #[test]
    fn a_socket_has_a_path_a_mode_and_an_owner() {
        let (config, faults) = check(
            "http {\n addr = \"unix:///run/weft.sock\"\n socket_mode = \"0600\"\n socket_user = \
             \"root\"\n socket_group = \"7\"\n}",
        );
        assert_eq!(faults, [""; 0]);
        let path = PathBuf::from("/run/weft.sock");
        let socket = HttpSocket { path, mode: 0o600, user: Some(0), group: Some(7) };
        assert_eq!((config.addr, config.socket), (None, Some(socket)));
        let (config, _) = check("http { socket = \"/run/w\" }");
        assert_eq!(config.addr, Some(HTTP_ADDR));
        assert_eq!(config.socket.map(|socket| socket.mode), Some(0o660));
    }

    #[test]
    fn what_is_wrong_is_named_by_field() {
        for (text, fields) in [
            ("http {\n socket = \"/a\"\n socket_mode = \"rw\"\n}", &["http.socket_mode"][..]),
            ("http {\n socket = \"/a\"\n socket_user = \"no one\"\n}", &["http.socket_user"]),
            ("http {\n addr = \"unix:///a\"\n socket = \"/b\"\n}", &["http.socket"]),
            ("https { addr = \"0.0.0.0:8501\" }", &["https.cert_file", "https.key_file"]),
            ("https { cert_file = \"c\" }", &["https.addr"]),
        ] {
            assert_eq!(check(text).1, fields, "{text}");
        }
    }
}
