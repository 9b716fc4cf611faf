//! What `weft dev` says when it is up: where it listens, and what to try.

use std::io::Write;
use std::net::SocketAddr;
use std::path::Path;

/// Where the parts listen.
pub(super) struct Addresses {
    pub(super) http: SocketAddr,
    pub(super) dns: SocketAddr,
    pub(super) server: SocketAddr,
}

/// Prints the banner. Nobody may be reading; then it is not needed.
pub(super) fn print(addresses: &Addresses, folder: &Path) {
    let _ = std::io::stdout().write_all(text(addresses, folder).as_bytes());
}

fn text(addresses: &Addresses, folder: &Path) -> String {
    let Addresses { http, dns, server } = addresses;
    let (dns_ip, dns_port) = (dns.ip(), dns.port());
    format!(
        "\
A mesh is running in this process, on loopback only. Ctrl-C ends it.

  HTTP API  http://{http}
  DNS       {dns} (UDP and TCP)
  Server    {server}
  Data      {}

Try, in another terminal:

  1. Register a service; with `SidecarService` it gets a sidecar, here in this process:
     curl -X PUT {http}/v1/agent/service/register -d \\
       '{{\"Name\":\"web\",\"Port\":8080,\"Connect\":{{\"SidecarService\":{{}}}}}}'

  2. Find it:
     dig @{dns_ip} -p {dns_port} web.service.mesh SRV +short

  3. See what the catalog holds:
     curl {http}/v1/catalog/services

Calls between services are allowed until an intention says otherwise (in production: denied).
",
        folder.display()
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_banner_names_every_address_and_commands_that_work_as_they_stand() {
        let addresses = Addresses {
            http: "127.0.0.1:8500".parse().expect("an address"),
            dns: "127.0.0.1:8600".parse().expect("an address"),
            server: "127.0.0.1:8300".parse().expect("an address"),
        };
        let text = text(&addresses, Path::new("/tmp/x"));
        for part in [
            "http://127.0.0.1:8500",
            "dig @127.0.0.1 -p 8600 web.service.mesh SRV",
            "'{\"Name\":\"web\",\"Port\":8080,\"Connect\":{\"SidecarService\":{}}}'",
            "127.0.0.1:8300",
            "/tmp/x",
        ] {
            assert!(text.contains(part), "{part:?} is not in:\n{text}");
        }
    }
}
