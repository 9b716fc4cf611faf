//! Which right each page needs; what a body names is asked where the body is read.
//!
//! **Source**: Consul: api-docs/agent, "ACL Required".

use http::{HeaderMap, header};
use weft_core::acl::Resource;
use weft_core::catalog::{CheckDefinition, HealthCheck, Service, ServiceDefinition};

use super::answer::ApiError;
use super::query::Query;
use super::route::Route;
use super::{Api, Call};
use crate::acl::Question;
use crate::config::TokenText;

/// Reads the token of a request.
///
/// **Source**: Consul: api-docs/api-structure#authentication.
pub(super) fn token(query: &Query, headers: &HeaderMap) -> Option<TokenText> {
    // What is no text is no token either, and must not count as none.
    let text = |name: &str| {
        headers.get(name).map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned())
    };
    let bearer = || {
        let value = text(header::AUTHORIZATION.as_str())?;
        let (scheme, token) = value.split_once(' ')?;
        scheme.eq_ignore_ascii_case("bearer").then(|| token.to_owned())
    };
    let shown = [query.get("token").map(str::to_owned), text("x-consul-token"), bearer()];
    shown.into_iter().flatten().find_map(|text| TokenText::new(&text))
}

impl Api {
    /// Says what a page needs before it is answered.
    pub(super) fn needed(&self, route: Route, call: &Call) -> Vec<Question> {
        let node = self.parts.servers.membership().node.to_string();
        match route {
            Route::CheckDeregister
            | Route::CheckFail
            | Route::CheckPass
            | Route::CheckUpdate
            | Route::CheckWarn => vec![self.of_check_id(call.params.get("id"))],
            Route::ConnectLeaf => {
                vec![Question::write(Resource::Service, call.params.get("service"))]
            }
            Route::HealthByName => {
                vec![Question::read(Resource::Service, call.params.get("name"))]
            }
            Route::HealthById | Route::Service => {
                vec![Question::read(Resource::Service, &self.name_of(call.params.get("id")))]
            }
            Route::ForceLeave => vec![Question::write(Resource::Operator, "")],
            Route::Host => vec![Question::read(Resource::Operator, "")],
            Route::Join | Route::Leave | Route::Reload | Route::Token => {
                vec![Question::write(Resource::Agent, &node)]
            }
            Route::Maintenance => vec![Question::write(Resource::Node, &node)],
            Route::Flows
            | Route::Metrics
            | Route::MetricsStream
            | Route::Monitor
            | Route::SelfPage
            | Route::Version => vec![Question::read(Resource::Agent, &node)],
            Route::ServiceDeregister | Route::ServiceMaintenance => {
                vec![Question::write(Resource::Service, &self.name_of(call.params.get("id")))]
            }
            // Whoever may write a service can have its certificate, and with it its traffic.
            Route::Tap => {
                let service = call.query.get("service").unwrap_or_default();
                vec![
                    Question::read(Resource::Agent, &node),
                    Question::write(Resource::Service, service),
                ]
            }
            // Roots are for everyone; the others ask for each thing that they show or read.
            Route::CheckRegister
            | Route::Checks
            | Route::ConnectAuthorize
            | Route::ConnectRoots
            | Route::Members
            | Route::Mtls
            | Route::Proxies
            | Route::ServiceRegister
            | Route::Services => Vec::new(),
        }
    }

    /// Asks for every one of the rights.
    pub(super) async fn require(
        &self,
        token: Option<&TokenText>,
        questions: Vec<Question>,
    ) -> Result<(), ApiError> {
        Ok(self.parts.acl.require(token, questions).await?)
    }

    /// Leaves of a list what the caller may see, and tells whether something was left out and the
    /// caller may know it: who shows no token is not told that there is more.
    pub(super) async fn seen<T>(
        &self,
        token: Option<&TokenText>,
        items: Vec<(Question, T)>,
    ) -> Result<(Vec<T>, bool), ApiError> {
        let (questions, items): (Vec<Question>, Vec<T>) = items.into_iter().unzip();
        let verdicts = self.parts.acl.judge(token, questions).await?;
        let is_filtered = token.is_some() && verdicts.iter().any(Result::is_err);
        let seen = items.into_iter().zip(verdicts).filter(|(_, verdict)| verdict.is_ok());
        Ok((seen.map(|(item, _)| item).collect(), is_filtered))
    }

    /// The rights that a registration needs: on the service, on the one whose place it takes, on
    /// its sidecar, and on the service that a proxy speaks for.
    pub(super) fn of_registration(&self, definition: &ServiceDefinition) -> Vec<Question> {
        let mut names = vec![definition.name.clone()];
        let id = if definition.id.is_empty() { &definition.name } else { &definition.id };
        let local = self.parts.local.current();
        names.extend(local.services.get(id.as_str()).map(|present| present.name.to_string()));
        let proxies = definition.proxy.iter();
        names.extend(
            proxies.filter_map(|it| it.destination_service_name.as_ref()).map(ToString::to_string),
        );
        let connect = definition.connect.as_ref();
        let mut questions: Vec<Question> =
            names.iter().map(|name| Question::write(Resource::Service, name)).collect();
        if let Some(sidecar) = connect.and_then(|connect| connect.sidecar_service.as_deref()) {
            if sidecar.name.is_empty() {
                let name = format!("{}-sidecar-proxy", definition.name);
                questions.push(Question::write(Resource::Service, &name));
            } else {
                questions.extend(self.of_registration(sidecar));
            }
        }
        questions
    }

    /// The right that a new check needs.
    pub(super) fn of_new_check(&self, definition: &CheckDefinition) -> Question {
        match definition.service_id.as_str() {
            "" => Question::write(Resource::Node, self.parts.servers.membership().node.as_str()),
            id => Question::write(Resource::Service, &self.name_of(id)),
        }
    }

    /// The right to see a service of this host.
    pub(super) fn to_see_service(service: &Service) -> Question {
        Question::read(Resource::Service, service.name.as_str())
    }

    /// The right to see a check of this host.
    pub(super) fn to_see_check(&self, check: &HealthCheck) -> Question {
        match &check.service_id {
            Some(id) => Question::read(Resource::Service, &self.name_of(id.as_str())),
            None => Question::read(Resource::Node, self.parts.servers.membership().node.as_str()),
        }
    }

    fn of_check_id(&self, id: &str) -> Question {
        let local = self.parts.local.current();
        match local.checks.get(id).and_then(|check| check.service_id.as_ref()) {
            Some(service) => Question::write(Resource::Service, &self.name_of(service.as_str())),
            // A check of the node, or one that is not there: who may not write the node is not
            // told which.
            None => Question::write(Resource::Node, self.parts.servers.membership().node.as_str()),
        }
    }

    /// The name of a local instance; its id where there is none, so that the answer is the same
    /// for who lacks the right.
    fn name_of(&self, id: &str) -> String {
        let local = self.parts.local.current();
        local.services.get(id).map_or_else(|| id.to_owned(), |service| service.name.to_string())
    }
}
