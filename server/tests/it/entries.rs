//! Config entries over the JSON API: what is warned of, what is never shown.

use crate::support::new_key;
use crate::support::world::Joined;
use http::{Method, StatusCode};
use rcgen::CertificateParams;
use serde_json::{Value, json};
use weft_runtime::http::HttpResponse;

impl Joined {
    async fn write(&self, entry: &Value) -> HttpResponse {
        self.call(Method::PUT, "/v1/config", &entry.to_string()).await
    }
}

fn warnings(answer: &HttpResponse) -> Vec<&str> {
    let values = answer.headers.get_all("x-weft-warning").iter();
    values.map(|value| value.to_str().expect("ASCII")).collect()
}

#[tokio::test]
async fn a_write_that_has_no_effect_yet_says_so_and_is_kept() {
    let world = Joined::start().await;
    let resolver = json!({ "Kind": "service-resolver", "Name": "web",
        "Failover": { "*": { "Datacenters": ["dc2"] } }, "ConnectTimeout": "1s" });
    let answer = world.write(&resolver).await;
    assert_eq!((answer.status, answer.text().trim()), (StatusCode::OK, "true"));
    assert_eq!(warnings(&answer), ["Failover.*.Datacenters: is kept, and has no effect yet"]);
    let shown = world.get("/v1/config/service-resolver/web").await;
    assert_eq!(shown["Failover"], json!({ "*": { "Datacenters": ["dc2"] } }));

    let gateway = json!({ "Kind": "ingress-gateway", "Name": "door",
        "Listeners": [{ "Port": 80, "Protocol": "http", "Services": [{ "Name": "*" }] }] });
    let wanted =
        ["ingress-gateway/door is kept, and has no effect until ingress gateways are built"];
    assert_eq!(warnings(&world.write(&gateway).await), wanted);
    let mesh = json!({ "Kind": "mesh" });
    assert_eq!(warnings(&world.write(&mesh).await), [""; 0]);
    let shown = world.get("/v1/config/mesh/mesh").await;
    assert_eq!((shown["Kind"].clone(), shown.get("Name")), (json!("mesh"), None));

    let refused = json!({ "Kind": "service-defaults", "Name": "web",
        "MutualTLSMode": "permissive" });
    assert_eq!(world.write(&refused).await.status, StatusCode::BAD_REQUEST);
    let index = world.get("/v1/config/mesh").await[0]["ModifyIndex"].clone();
    let stale = world.call(Method::DELETE, "/v1/config/mesh/mesh?cas=1", "").await;
    assert_eq!(stale.text().trim(), "false");
    let path = format!("/v1/config/mesh/mesh?cas={index}");
    assert_eq!(world.call(Method::DELETE, &path, "").await.text().trim(), "true");
    assert_eq!(world.get("/v1/config/mesh").await, json!([]));
    world.server.stop().await;
}

#[tokio::test]
async fn the_key_of_a_certificate_is_never_shown() {
    let world = Joined::start().await;
    let key = new_key();
    let certificate = CertificateParams::default().self_signed(&key).expect("a certificate");
    let entry = json!({ "Kind": "inline-certificate", "Name": "edge",
        "Certificate": certificate.pem(), "PrivateKey": key.serialize_pem() });
    let answer = world.write(&entry).await;
    assert_eq!(answer.status, StatusCode::OK, "{}", answer.text());
    let shown = world.get("/v1/config/inline-certificate/edge").await;
    assert_eq!(shown["PrivateKey"], "");
    let listed = world.get("/v1/config/inline-certificate").await;
    assert_eq!(listed, json!([shown]));
    let asked = "/v1/config/inline-certificate?filter=PrivateKey%20matches%20%22sealed%22";
    assert_eq!(world.get(asked).await, json!([]), "a filter sees what is shown");

    // Written again, with or without the key, it is the same entry.
    for again in [&entry, &shown] {
        assert_eq!(world.write(again).await.status, StatusCode::OK);
        let after = world.get("/v1/config/inline-certificate/edge").await;
        assert_eq!(after, shown);
    }
    let other = json!({ "Kind": "inline-certificate", "Name": "edge",
        "Certificate": certificate.pem(), "PrivateKey": new_key().serialize_pem() });
    let answer = world.write(&other).await;
    assert_eq!(answer.text(), "PrivateKey: is not the key of Certificate");
    let mut keyless = shown.clone();
    keyless["Name"] = json!("other");
    let answer = world.write(&keyless).await;
    assert!(answer.text().starts_with("PrivateKey: is missing"), "{}", answer.text());
    world.server.stop().await;
}
