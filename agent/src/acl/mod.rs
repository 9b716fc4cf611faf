//! May the caller at this host's API do that? Servers judge; the agent remembers.
//!
//! What callers ask of the agent itself (registrations, certificates, maintenance) changes the
//! catalog through the agent's own certificate, so it must be judged before. Verdicts hold for
//! [`FRESH`]; while no server answers, old ones stand. Where servers have no ACLs, everything is
//! allowed.

mod memory;
mod tokens;
mod verdict;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderValue, Request, StatusCode, header};
use parking_lot::Mutex;
use tracing::{info, warn};
use weft_core::limits;
use weft_proto::json::acl::{AuthorizeAnswer, AuthorizeQuestion};
use weft_runtime::clock;
use weft_runtime::http::{collect, full};

use crate::config::{AclConfig, DownPolicy, TokenText};
use crate::servers::Servers;
use memory::{Memory, Standing};
pub(crate) use tokens::{Slot, Tokens, UnknownSlot};
pub(crate) use verdict::{Question, Refusal, Verdict};

/// How long a verdict is as good as new.
///
/// **Source**: Consul: `acl.token_ttl` and its like, 30 s.
const FRESH: Duration = Duration::from_secs(30);
/// How long a server is waited for before what is remembered counts.
const LIMIT: Duration = Duration::from_secs(5);
/// Questions that are asked at once; servers take as many.
const QUESTIONS_AT_ONCE: usize = 4_096;

/// Judges callers of this host's API. Clones share what is remembered.
#[derive(Clone)]
pub(crate) struct Acl {
    servers: Servers,
    config: Arc<AclConfig>,
    tokens: Tokens,
    memory: Arc<Mutex<Memory>>,
}

/// What servers said to a list of questions.
enum Said {
    /// They judged.
    Verdicts(Vec<Verdict>),
    /// They have no ACLs.
    NoAcls,
    /// The token is none.
    UnknownToken,
    /// Nothing: none answered as it should.
    Nothing(String),
}

impl Acl {
    pub(crate) fn new(servers: Servers, config: AclConfig, tokens: Tokens) -> Self {
        Self { servers, config: Arc::new(config), tokens, memory: Arc::default() }
    }

    /// Returns the agent's own tokens.
    pub(crate) fn tokens(&self) -> &Tokens {
        &self.tokens
    }

    /// Whether servers said that they have no ACLs, and the configuration does not say otherwise.
    pub(crate) fn has_none(&self) -> bool {
        let standing = self.memory.lock().standing(clock::instant(), Duration::MAX);
        standing == Standing::Off && !self.config.enabled
    }

    /// Returns the token that counts for a caller: its own, else the agent's default.
    pub(crate) fn token_of(&self, shown: Option<TokenText>) -> Option<TokenText> {
        shown.or_else(|| self.tokens.of(Slot::Default))
    }

    /// Returns the token for what the agent asks for itself.
    pub(crate) fn agent_token(&self) -> Option<TokenText> {
        self.tokens.of(Slot::Agent).or_else(|| self.tokens.of(Slot::Default))
    }

    /// Returns the token with whose rights DNS is answered.
    pub(crate) fn dns_token(&self) -> Option<TokenText> {
        self.tokens.of(Slot::Dns).or_else(|| self.tokens.of(Slot::Default))
    }

    /// Judges by what is remembered alone, without a word to any server.
    ///
    /// # Errors
    /// [`Refusal::NobodyJudges`] when that does not do.
    pub(crate) fn judge_from_memory(
        &self,
        token: Option<&TokenText>,
        questions: &[Question],
    ) -> Result<Vec<Verdict>, Refusal> {
        let known = self.remembered(token, questions);
        known.ok_or_else(|| Refusal::NobodyJudges { reason: "no server is connected".to_owned() })
    }

    /// What servers do where no rule speaks, as they last said; `None` before they did.
    pub(crate) fn default_policy(&self) -> Option<HeaderValue> {
        self.memory.lock().default_policy.clone()
    }

    /// Asks for every one of the rights.
    ///
    /// # Errors
    /// [`Refusal`] with the first that is missing.
    pub(crate) async fn require(
        &self,
        token: Option<&TokenText>,
        questions: Vec<Question>,
    ) -> Result<(), Refusal> {
        self.judge(token, questions).await?.into_iter().collect::<Result<(), String>>()?;
        Ok(())
    }

    /// Judges each question, in their order.
    ///
    /// # Errors
    /// [`Refusal`] when the token is none, or nobody can judge.
    pub(crate) async fn judge(
        &self,
        token: Option<&TokenText>,
        questions: Vec<Question>,
    ) -> Result<Vec<Verdict>, Refusal> {
        let mut verdicts = Vec::with_capacity(questions.len());
        for some in questions.chunks(QUESTIONS_AT_ONCE) {
            verdicts.extend(self.judge_some(token, some).await?);
        }
        Ok(verdicts)
    }

    async fn judge_some(
        &self,
        token: Option<&TokenText>,
        questions: &[Question],
    ) -> Result<Vec<Verdict>, Refusal> {
        if let Some(known) = self.memory.lock().recall(token, questions, clock::instant(), FRESH) {
            return Ok(known);
        }
        match self.ask(token, questions).await {
            Said::Verdicts(verdicts) => {
                let mut memory = self.memory.lock();
                if memory.standing(clock::instant(), Duration::MAX) != Standing::On {
                    info!("the servers have ACLs: callers of this host's API are judged");
                }
                memory.keep(token, questions, &verdicts, clock::instant());
                Ok(verdicts)
            }
            Said::NoAcls => {
                self.memory.lock().turn_off(clock::instant());
                Ok(vec![Ok(()); questions.len()])
            }
            Said::UnknownToken => {
                self.memory.lock().forget(token);
                Err(Refusal::UnknownToken)
            }
            Said::Nothing(reason) => self.fall_back(token, questions, reason),
        }
    }

    /// Judges by what is remembered, and says so when that does not do.
    fn fall_back(
        &self,
        token: Option<&TokenText>,
        questions: &[Question],
        reason: String,
    ) -> Result<Vec<Verdict>, Refusal> {
        self.remembered(token, questions).ok_or_else(|| {
            warn!(
                reason,
                "a caller cannot be judged: no server answers, and nothing is remembered"
            );
            Refusal::NobodyJudges { reason }
        })
    }

    /// What is known without a server; `None` when that does not do.
    fn remembered(
        &self,
        token: Option<&TokenText>,
        questions: &[Question],
    ) -> Option<Vec<Verdict>> {
        let memory = self.memory.lock();
        let now = clock::instant();
        match memory.standing(now, Duration::MAX) {
            Standing::Off => return Some(vec![Ok(()); questions.len()]),
            // A host that has never heard of ACLs and is not told of any has none to keep.
            Standing::Unknown if !self.config.enabled => {
                return Some(vec![Ok(()); questions.len()]);
            }
            Standing::Unknown | Standing::On => {}
        }
        match self.config.down_policy {
            DownPolicy::Deny => None,
            DownPolicy::ExtendCache => memory.recall(token, questions, now, Duration::MAX),
        }
    }

    async fn ask(&self, token: Option<&TokenText>, questions: &[Question]) -> Said {
        let asked: Vec<AuthorizeQuestion> = questions.iter().map(Question::body).collect();
        let body = serde_json::to_vec(&asked).map(Bytes::from).unwrap_or_default();
        let mut request = Request::post("/v1/internal/acl/authorize");
        if let Some(value) = token.and_then(TokenText::header) {
            request = request.header(TokenText::HEADER, value);
        }
        let request =
            match request.header(header::CONTENT_TYPE, "application/json").body(full(body)) {
                Ok(request) => request,
                Err(error) => return Said::Nothing(error.to_string()),
            };
        let asking = async {
            let response =
                self.servers.forward(request).await.map_err(|error| error.to_string())?;
            let (parts, body) = response.into_parts();
            let body = collect(body, limits::API_BODY_BYTES_MAX).await;
            Ok::<_, String>((parts, body.map_err(|error| error.to_string())?))
        };
        let (parts, body) = match tokio::time::timeout(LIMIT, asking).await {
            Err(_) => return Said::Nothing("no server answers in time".to_owned()),
            Ok(Err(reason)) => return Said::Nothing(reason),
            Ok(Ok(answer)) => answer,
        };
        if let Some(policy) = parts.headers.get("x-consul-default-acl-policy") {
            self.memory.lock().default_policy = Some(policy.clone());
        }
        match parts.status {
            StatusCode::OK => match serde_json::from_slice::<Vec<AuthorizeAnswer>>(&body) {
                Ok(answers) if answers.len() == questions.len() => {
                    Said::Verdicts(answers.into_iter().map(verdict::of).collect())
                }
                Ok(_) | Err(_) => Said::Nothing("a server's answer cannot be read".to_owned()),
            },
            StatusCode::UNAUTHORIZED => Said::NoAcls,
            StatusCode::FORBIDDEN => Said::UnknownToken,
            other => Said::Nothing(format!("a server answers {other}")),
        }
    }
}
