//! Who may be found: answers show what the agent's token for DNS may read.
//!
//! **Source**: Consul: docs/security/acl/tokens/create/create-a-dns-token: `service:read` on the
//! service and `node:read` on its node.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use weft_core::acl::Resource;
use weft_core::catalog::{Node, ServiceInstance};
use weft_core::name::NodeName;

use super::table::Source;
use crate::acl::{Acl, Question, Refusal, Tokens, Verdict};
use crate::config::TokenText;
use crate::views::Views;

/// How long a server may take to judge; after that what is remembered counts, as a resolver asks
/// again before long.
const LIMIT: Duration = Duration::from_secs(1);

/// Judges answers; clones share what is remembered.
#[derive(Clone)]
pub(super) struct Rights {
    /// None in tests, where everything may be found.
    acl: Option<Acl>,
    views: Views,
}

/// The tokens as they were when something was judged.
struct TokensThen {
    tokens: Tokens,
    changes: u64,
}

impl Source for TokensThen {
    fn has_changed(&self) -> bool {
        self.tokens.changes() != self.changes
    }
}

impl Rights {
    pub(super) fn new(acl: Option<Acl>, views: Views) -> Self {
        Self { acl, views }
    }

    /// Returns the token with whose rights answers are made.
    pub(super) fn token(&self) -> Option<TokenText> {
        self.acl.as_ref().and_then(Acl::dns_token)
    }

    /// Returns what tells whether answers are still made with the tokens of now.
    pub(super) fn tokens_of_now(&self) -> Option<Box<dyn Source>> {
        let tokens = self.acl.as_ref()?.tokens().clone();
        let changes = tokens.changes();
        Some(Box::new(TokensThen { tokens, changes }))
    }

    /// Leaves out the instances that may not be read.
    ///
    /// # Errors
    /// [`Refusal`] when nobody can judge.
    pub(super) async fn instances(
        &self,
        instances: Arc<Vec<ServiceInstance>>,
    ) -> Result<Arc<Vec<ServiceInstance>>, Refusal> {
        let node = |instance: &ServiceInstance| {
            Question::read(Resource::Node, instance.node.name.as_str())
        };
        let service = |instance: &ServiceInstance| {
            Question::read(Resource::Service, instance.service.name.as_str())
        };
        let questions = instances.iter().flat_map(|it| [node(it), service(it)]);
        let verdicts = self.judge(questions).await?;
        let may = |question: Question| verdicts.get(&question).is_none_or(Result::is_ok);
        if verdicts.values().all(Result::is_ok) {
            return Ok(instances);
        }
        let seen = instances.iter().filter(|it| may(node(it)) && may(service(it)));
        Ok(Arc::new(seen.cloned().collect()))
    }

    /// Returns those of the nodes that may be read, among those that are asked for.
    ///
    /// # Errors
    /// [`Refusal`] when nobody can judge.
    pub(super) async fn nodes(
        &self,
        nodes: &[Arc<Node>],
        is_asked_for: impl Fn(&Node) -> bool,
    ) -> Result<Vec<Arc<Node>>, Refusal> {
        let question = |name: &NodeName| Question::read(Resource::Node, name.as_str());
        let found: Vec<Arc<Node>> =
            nodes.iter().filter(|node| is_asked_for(node)).cloned().collect();
        let verdicts = self.judge(found.iter().map(|node| question(&node.name))).await?;
        let may = |node: &Arc<Node>| verdicts.get(&question(&node.name)).is_none_or(Result::is_ok);
        Ok(found.into_iter().filter(may).collect())
    }

    async fn judge(
        &self,
        questions: impl Iterator<Item = Question>,
    ) -> Result<BTreeMap<Question, Verdict>, Refusal> {
        let Some(acl) = &self.acl else { return Ok(BTreeMap::new()) };
        let mut asked: Vec<Question> = questions.collect();
        asked.sort_unstable();
        asked.dedup();
        let token = self.token();
        let from_memory = || acl.judge_from_memory(token.as_ref(), &asked);
        // Names are found while servers are away, and at once.
        let verdicts = match self.views.is_connected() {
            false => from_memory()?,
            true => {
                let judging = acl.judge(token.as_ref(), asked.clone());
                match tokio::time::timeout(LIMIT, judging).await {
                    Ok(verdicts) => verdicts?,
                    Err(_) => from_memory()?,
                }
            }
        };
        Ok(asked.into_iter().zip(verdicts).collect())
    }
}
