//! Step 3: the certificate that a sidecar presents, and what happens without one.

use super::Tour;
use crate::cmd::demo::mesh::AGENT;
use crate::cmd::demo::probe::{Probe, refused_without_certificate};

pub(super) async fn show(tour: &mut Tour) -> anyhow::Result<()> {
    tour.report.step("Identity: the certificate that a sidecar presents").await;
    tour.suspect(&[AGENT, "reviews-v1-sidecar"]);
    let port = tour.mesh.topology.app("reviews-v1").sidecar_port;
    let probe = Probe::from_agent(&tour.mesh.api, "productpage").await?;
    let presented = probe.presented(port).await?;
    tour.report.say("The tour calls as productpage, with a leaf from the agent:");
    let url = tour.mesh.api.url("/v1/agent/connect/ca/leaf/productpage");
    tour.report.command(&format!("curl -s {url}"));
    tour.report.say("OpenSSL shows what the sidecar presents to anybody:");
    tour.report.command(&format!(
        "openssl s_client -connect 127.0.0.1:{port} </dev/null 2>/dev/null | \
         openssl x509 -noout -serial -issuer -dates -ext subjectAltName"
    ));
    tour.report.seen(&format!(
        "identity  {}\nissuer    {}\nserial    {}\nvalid     {} to {}",
        presented.spiffe_id,
        presented.issuer,
        presented.serial,
        presented.valid_after,
        presented.valid_before
    ));
    let is_reviews = presented.spiffe_id.ends_with("/ns/default/dc/dc1/svc/reviews")
        && presented.spiffe_id.starts_with("spiffe://");
    let observed = format!("{}, verified against the mesh's root", presented.spiffe_id);
    tour.report.claim("the sidecar of reviews proves to be reviews", is_reviews, observed)?;

    let refusal = refused_without_certificate(&probe, port).await?;
    let observed = refusal.clone().unwrap_or_else(|| "it was let in".to_owned());
    tour.report.claim("nobody gets in without a certificate", refusal.is_some(), observed)?;
    Ok(())
}
