//! `weft ca revoke`, `revocations` and `unrevoke`.

use clap::Args;
use http::Method;
use weft_proto::json::revocation::{RevocationBody, RevocationRequest};

use crate::client::{ApiClient, encode};
use crate::output::{OutputArgs, Table, print, print_json, print_line};

const REVOCATIONS: &str = "/v1/connect/ca/revocations";

#[derive(Debug, Args)]
pub(super) struct RevokeArgs {
    #[command(flatten)]
    what: Selected,
    /// Only the certificates that were signed before now; others are signed
    #[arg(long, conflicts_with_all = ["serial", "node"])]
    only_until_now: bool,
    /// Why, for people
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
    #[command(flatten)]
    output: OutputArgs,
}

#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
struct Selected {
    /// One certificate, by its number in hex, as weft and openssl show it
    #[arg(long, value_name = "HEX")]
    serial: Option<String>,
    /// A service of this datacenter
    #[arg(long, value_name = "NAME")]
    service: Option<String>,
    /// The agent of a node; services there keep what they have until it ends
    #[arg(long, value_name = "NAME")]
    node: Option<String>,
    /// An identity as it stands in certificates
    #[arg(long, value_name = "SPIFFE-ID")]
    id: Option<String>,
}

#[derive(Debug, Args)]
pub(super) struct UnrevokeArgs {
    /// The number or the identity, as revocations shows it
    #[arg(value_name = "KEY")]
    key: String,
}

pub(super) async fn revoke(client: &ApiClient, args: RevokeArgs) -> anyhow::Result<()> {
    let Selected { serial, service, node, id } = args.what;
    let asked = RevocationRequest {
        serial_number: serial.unwrap_or_default(),
        spiffe_id: id.unwrap_or_default(),
        service: service.unwrap_or_default(),
        node: node.unwrap_or_default(),
        only_until_now: args.only_until_now,
        reason: args.reason.unwrap_or_default(),
    };
    let body = serde_json::to_string(&asked)?;
    let made: RevocationBody = client.call(Method::PUT, REVOCATIONS, body).await?.ok()?.json()?;
    if args.output.json {
        return print_json(&made);
    }
    let effect = match made.kind.as_str() {
        "certificate" => "; its holder gets another certificate".to_owned(),
        "identity" => "; nothing is signed for it until it is taken back".to_owned(),
        _ => format!(" for what was signed before {}", made.issued_before),
    };
    print_line(&format!("Revoked {}{effect}", made.key))
}

pub(super) async fn unrevoke(client: &ApiClient, args: &UnrevokeArgs) -> anyhow::Result<()> {
    let path = format!("{REVOCATIONS}?key={}", encode(&args.key));
    client.call(Method::DELETE, &path, "").await?.ok()?;
    print_line(&format!("{} is trusted again", args.key))
}

pub(super) async fn list(client: &ApiClient, output: &OutputArgs) -> anyhow::Result<()> {
    let answer = client.get(REVOCATIONS).await?.ok()?;
    let found: Vec<RevocationBody> = answer.json()?;
    if output.json {
        return print_json(&found);
    }
    let mut table = Table::new(&["Key", "Kind", "Signed before", "Since", "Reason"]);
    for revocation in found {
        let RevocationBody { key, kind, issued_before, reason, revoked_at, .. } = revocation;
        table.row([key, kind, issued_before, revoked_at, reason]);
    }
    print(table.text())
}
