//! What a question needs to be known, looked up: in views of the catalog, or at a server.

use std::sync::Arc;
use std::time::Duration;

use tracing::debug;
use weft_core::catalog::{Node, ServiceInstance};
use weft_core::dns::{Lookup, Need, Plan, Question, ResponseCode, Settings, View, plan};
use weft_runtime::clock;

use super::names::{Names, Wanted};
use super::remote::{self, Ask, Found, Remote};
use super::rights::Rights;
use super::table::{NEGATIVE_MAX, POSITIVE_MAX, Source};
use crate::acl::Refusal;
use crate::views::Views;

/// Looks up what questions are about.
pub(super) struct Looker {
    pub(super) settings: Settings,
    pub(super) names: Names,
    pub(super) remote: Remote,
    pub(super) rights: Rights,
    pub(super) views: Views,
    /// How long answers are given without a word from a server.
    pub(super) stale_max: Duration,
}

/// What is known of a question's subject.
struct Known {
    subject: Subject,
    sources: Vec<Box<dyn Source>>,
    /// How long that is known.
    fresh: Duration,
}

enum Subject {
    Absent,
    Instances(Arc<Vec<ServiceInstance>>),
    Listed(Arc<Vec<ServiceInstance>>, Duration),
    Nodes(Vec<Arc<Node>>),
    Nothing,
    Owners(Vec<Arc<Node>>, Arc<Vec<ServiceInstance>>),
}

/// A plan with how long it is one.
pub(super) struct Planned {
    pub(super) plan: Plan,
    /// What it was made from, and for how long at most; `None` for a plan that is no answer.
    pub(super) kept: Option<(Vec<Box<dyn Source>>, Duration)>,
}

impl Looker {
    /// Finds everything that answers a question.
    pub(super) async fn plan(&self, question: &Question) -> Planned {
        // Before anything is judged with them.
        let tokens = self.rights.tokens_of_now();
        let known = self.known(question).await;
        let known = known.unwrap_or_else(|refusal| {
            debug!(name = question.name, %refusal, "what a DNS name leads to cannot be judged");
            None
        });
        let view = match known.as_ref().map(|known| &known.subject) {
            None => View::Unknown,
            Some(Subject::Absent) => View::Absent,
            Some(Subject::Instances(instances)) => View::Instances(instances),
            Some(Subject::Listed(instances, ttl)) => View::Listed { instances, ttl: *ttl },
            Some(Subject::Nodes(nodes)) => View::Nodes(nodes),
            Some(Subject::Nothing) => View::Nothing,
            Some(Subject::Owners(nodes, instances)) => View::Owners { nodes, instances },
        };
        let plan = plan(question, view, &self.settings, clock::wall());
        let kept = known.filter(|_| plan.code != ResponseCode::ServFail).map(|mut known| {
            known.sources.extend(tokens);
            // The SOA's serial number is the time.
            let has_time = plan.picks.is_empty() || plan.code != ResponseCode::NoError;
            let longest = if has_time { NEGATIVE_MAX } else { POSITIVE_MAX };
            (known.sources, longest.min(known.fresh))
        });
        Planned { plan, kept }
    }

    async fn known(&self, question: &Question) -> Result<Option<Known>, Refusal> {
        let away_for = self.views.away_for(clock::instant());
        let need = question.need();
        if need != Need::Nothing && away_for.is_some_and(|away_for| away_for > self.stale_max) {
            return Ok(None);
        }
        match need {
            Need::Connect(name) => self.instances(Wanted::Connect(name)).await,
            Need::Service(name) => self.instances(Wanted::Service(name)).await,
            Need::Ingress(name) => {
                let found = self.remote.find(Ask::Ingress(name), self.rights.token()).await;
                Ok(found.map(|found| {
                    asked(match found {
                        Found::Nothing => Subject::Absent,
                        Found::Instances { instances, .. } => Subject::Instances(instances),
                    })
                }))
            }
            Need::Query(name) => {
                let found = self.remote.find(Ask::Query(name), self.rights.token()).await;
                Ok(found.map(|found| {
                    asked(match found {
                        Found::Nothing => Subject::Absent,
                        Found::Instances { service, instances, ttl } => {
                            let usual = || self.settings.ttl_of_service(&service);
                            Subject::Listed(instances, ttl.unwrap_or_else(usual))
                        }
                    })
                }))
            }
            Need::Nodes => {
                let Some((nodes, view)) = self.names.nodes().await else { return Ok(None) };
                let Lookup::Node(name) = &question.lookup else { return Ok(None) };
                let is_meant = |node: &Node| node.name.as_str().eq_ignore_ascii_case(name.as_str());
                let nodes = self.rights.nodes(&nodes, is_meant).await?;
                Ok(Some(watched(Subject::Nodes(nodes), Box::new(view))))
            }
            Need::Nothing => {
                let (sources, fresh) = (Vec::new(), POSITIVE_MAX);
                Ok(Some(Known { subject: Subject::Nothing, sources, fresh }))
            }
            Need::Owners(address) => {
                let Some((nodes, view)) = self.names.nodes().await else { return Ok(None) };
                let text = address.to_string();
                let has = |node: &Node| {
                    node.address == text || node.tagged_addresses.values().any(|it| *it == text)
                };
                let nodes = self.rights.nodes(&nodes, has).await?;
                if !nodes.is_empty() {
                    let subject = Subject::Owners(nodes, Arc::default());
                    return Ok(Some(watched(subject, Box::new(view))));
                }
                let found = self.remote.find(Ask::Owners(address), self.rights.token()).await;
                let instances = match found {
                    None => return Ok(None),
                    Some(Found::Nothing) => Arc::default(),
                    Some(Found::Instances { instances, .. }) => instances,
                };
                Ok(Some(asked(Subject::Owners(nodes, instances))))
            }
        }
    }

    async fn instances(&self, wanted: Wanted) -> Result<Option<Known>, Refusal> {
        let Some((instances, view)) = self.names.instances(wanted).await else { return Ok(None) };
        let instances = self.rights.instances(instances).await?;
        Ok(Some(watched(Subject::Instances(instances), Box::new(view))))
    }
}

/// Something that a view keeps current.
fn watched(subject: Subject, source: Box<dyn Source>) -> Known {
    Known { subject, sources: vec![source], fresh: POSITIVE_MAX }
}

/// Something that a server was asked for.
fn asked(subject: Subject) -> Known {
    Known { subject, sources: Vec::new(), fresh: remote::FRESH }
}
