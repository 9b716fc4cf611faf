//! `/v1/connect/ca/revocations`: whom nobody trusts any more; and the list of revoked
//! certificates for those who read such lists.

use http::{HeaderValue, Response, StatusCode, header};
use weft_core::acl::{Permission, Resource};
use weft_core::ca::{Revocation, Revoked};
use weft_core::identity::SpiffeId;
use weft_core::index::Index;
use weft_core::name::{NodeName, ServiceName};
use weft_core::state::{Command, OperatorCommand, State};
use weft_core::time::Timestamp;
use weft_core::watch::Topic;
use weft_proto::json::revocation::{RevocationBody, RevocationRequest};
use weft_proto::json::{self, Fault, Unknown};
use weft_runtime::clock;
use weft_runtime::http::{Body, full};

use super::error::ApiError;
use super::request::ApiRequest;
use super::routes::Routes;
use super::{Context, page};
use crate::read::Consistency;

pub(super) fn routes(table: Routes) -> Routes {
    const REVOCATIONS: &str = "/v1/connect/ca/revocations";
    table
        .get(REVOCATIONS, |context, request| Box::pin(list(context, request)))
        .put(REVOCATIONS, |context, request| Box::pin(revoke(context, request)))
        .delete(REVOCATIONS, |context, request| Box::pin(unrevoke(context, request)))
        .get("/v1/connect/ca/crl", |context, request| Box::pin(crl(context, request)))
}

/// `GET /v1/connect/ca/revocations`
async fn list(context: &Context, request: &ApiRequest) -> Result<Response<Body>, ApiError> {
    let read = page::read(context, request, [Topic::Roots], |state, rights| {
        rights.require(Permission::read(Resource::Operator, ""))?;
        let shown: Vec<RevocationBody> = state.revocations().values().map(Into::into).collect();
        Ok((state.roots().0, Some(shown)))
    });
    Ok(read.await?.or_null(context))
}

/// `PUT /v1/connect/ca/revocations`
async fn revoke(context: &Context, request: &ApiRequest) -> Result<Response<Body>, ApiError> {
    request.rights.require(Permission::write(Resource::Operator, ""))?;
    let asked: RevocationRequest = json::from_slice(&request.body, Unknown::Refuse)?;
    let state = context.reader.state(Consistency::Default).await?;
    let revoked_at = clock::wall();
    let what = judge(&asked, &state, revoked_at).map_err(|fault| vec![fault])?;
    let reason = asked.reason;
    let revocation = Revocation { what, reason, revoked_at, create_index: Index::default() };
    let shown = RevocationBody::from(&revocation);
    let command = Command::Operator(OperatorCommand::Revoke(revocation));
    let written = context.proposer.write(&request.caller, command).await?;
    tracing::warn!(key = shown.key, kind = shown.kind, reason = shown.reason, "revoked");
    let shown = RevocationBody { create_index: written.index.0, ..shown };
    Ok(page::json_response(page::json(&shown)?))
}

/// Reads what is to be revoked.
fn judge(asked: &RevocationRequest, state: &State, now: Timestamp) -> Result<Revoked, Fault> {
    let RevocationRequest { serial_number, spiffe_id, service, node, only_until_now, .. } = asked;
    let given = [serial_number, spiffe_id, service, node];
    if given.iter().filter(|text| !text.is_empty()).count() != 1 {
        let reason = "say exactly one of SerialNumber, SPIFFEID, Service and Node";
        return Err(Fault::new("SerialNumber", reason.to_owned()));
    }
    let fault = |field: &str, error: &dyn std::fmt::Display| Fault::new(field, format!("{error}"));
    let cluster = state.cluster().ok_or_else(|| Fault::new("", "no cluster yet".to_owned()))?;
    let (domain, dc) = (cluster.trust_domain.clone(), cluster.datacenter.clone());
    let id = if !serial_number.is_empty() {
        if *only_until_now {
            let reason = "is for services; a certificate is revoked for good".to_owned();
            return Err(Fault::new("OnlyUntilNow", reason));
        }
        let serial = serial_number.parse().map_err(|error| fault("SerialNumber", &error))?;
        return Ok(Revoked::Certificate(serial));
    } else if !spiffe_id.is_empty() {
        SpiffeId::parse(spiffe_id).map_err(|error| fault("SPIFFEID", &error))?
    } else if !service.is_empty() {
        let name = ServiceName::parse(service).map_err(|error| fault("Service", &error))?;
        SpiffeId::service(domain.clone(), dc, name)
    } else {
        let name = NodeName::parse(node).map_err(|error| fault("Node", &error))?;
        SpiffeId::agent(domain.clone(), dc, name)
    };
    if id.trust_domain != domain {
        return Err(Fault::new("SPIFFEID", format!("is not of this mesh, {domain}")));
    }
    if *only_until_now && id.service_name().is_none() {
        let reason = "is for services; an agent cannot ask for another certificate without one \
                      that is trusted";
        return Err(Fault::new("OnlyUntilNow", reason.to_owned()));
    }
    // Certificates tell whole seconds: what is signed in the rest of this one is asked for again.
    let next_second = Timestamp((now.unix_seconds() + 1) * 1000);
    Ok(Revoked::Identity { id, issued_before: only_until_now.then_some(next_second) })
}

/// `DELETE /v1/connect/ca/revocations?key=…`
async fn unrevoke(context: &Context, request: &ApiRequest) -> Result<Response<Body>, ApiError> {
    request.rights.require(Permission::write(Resource::Operator, ""))?;
    let given = request.query.value("key").unwrap_or_default();
    // A number may be spelled in any way; what else there is has one spelling.
    let key = given.parse::<weft_core::ca::SerialNumber>().map_or(given.to_owned(), String::from);
    let state = context.reader.state(Consistency::Default).await?;
    if !state.revocations().contains_key(&key) {
        let text = format!("key: nothing is revoked by {key:?}; weft ca revocations lists what is");
        return Err(ApiError::new(StatusCode::NOT_FOUND, text));
    }
    let command = Command::Operator(OperatorCommand::Unrevoke { key: key.clone() });
    context.proposer.write(&request.caller, command).await?;
    tracing::warn!(key, "a revocation was taken back");
    Ok(page::verdict(true))
}

/// `GET /v1/connect/ca/crl`: the revoked certificates, signed by this server's intermediate.
///
/// **Source**: RFC 5280 §5.
async fn crl(context: &Context, request: &ApiRequest) -> Result<Response<Body>, ApiError> {
    let state = context.reader.state(request.query.read_options()?.consistency).await?;
    let revoked = state.revocations().values().filter_map(|it| match &it.what {
        Revoked::Certificate(serial) => Some((serial.clone(), it.revoked_at)),
        Revoked::Identity { .. } => None,
    });
    let (revoked, number) = (revoked.collect(), state.roots().0.0);
    let pem = context.admission.signer().crl(revoked, number).await.map_err(|error| {
        ApiError::new(StatusCode::INTERNAL_SERVER_ERROR, format!("no list was signed: {error}"))
    })?;
    let mut response = Response::new(full(pem));
    let kind = HeaderValue::from_static("application/x-pem-file");
    response.headers_mut().insert(header::CONTENT_TYPE, kind);
    Ok(response)
}

#[cfg(test)]
mod tests {
    use super::*;
    use weft_core::state::ClusterRecord;

    fn state() -> State {
        let mut state = State::default();
        let cluster: ClusterRecord = serde_json::from_value(serde_json::json!({
            "id": "c1", "trust_domain": "a1.mesh", "datacenter": "dc1",
        }))
        .expect("a cluster");
        state.apply(Index(1), Timestamp(0), Command::InitCluster(cluster));
        state
    }

    #[test]
    fn what_is_revoked_is_said_in_one_of_four_ways() {
        let asked = |body: serde_json::Value| -> RevocationRequest {
            json::from_slice(body.to_string().as_bytes(), Unknown::Refuse).expect("a request")
        };
        let judge = |body| judge(&asked(body), &state(), Timestamp(1_500));
        let of = |body| judge(body).expect("good").key();
        let web = "spiffe://a1.mesh/ns/default/dc/dc1/svc/web";
        assert_eq!(of(serde_json::json!({ "Service": "web" })), web);
        assert_eq!(of(serde_json::json!({ "SPIFFEID": web })), web);
        let agent = "spiffe://a1.mesh/agent/client/dc/dc1/id/n1";
        assert_eq!(of(serde_json::json!({ "node": "n1" })), agent);
        assert_eq!(of(serde_json::json!({ "SerialNumber": "0AFF" })), "0a:ff");
        let until = judge(serde_json::json!({ "Service": "web", "OnlyUntilNow": true }));
        let Ok(Revoked::Identity { issued_before, .. }) = until else { panic!("{until:?}") };
        assert_eq!(issued_before, Some(Timestamp(2_000)));
        for (body, field) in [
            (serde_json::json!({}), "SerialNumber"),
            (serde_json::json!({ "Service": "web", "Node": "n1" }), "SerialNumber"),
            (serde_json::json!({ "Service": "a/b" }), "Service"),
            (serde_json::json!({ "SerialNumber": "xyz" }), "SerialNumber"),
            (serde_json::json!({ "SPIFFEID": "spiffe://b/ns/default/dc/dc1/svc/w" }), "SPIFFEID"),
            (serde_json::json!({ "Node": "n1", "OnlyUntilNow": true }), "OnlyUntilNow"),
            (serde_json::json!({ "SerialNumber": "aa", "OnlyUntilNow": true }), "OnlyUntilNow"),
        ] {
            let fault = judge(body.clone()).expect_err("refused").to_string();
            assert!(fault.starts_with(field), "{body}: {fault}");
        }
    }
}
