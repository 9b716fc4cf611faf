//! Asks the agent for newer keys of a provider of tokens, no oftener than is good for it.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tokio::sync::mpsc;
use weft_core::name::ServiceName;
use weft_runtime::clock;

/// How long others may wait for the answer to what was asked.
const JOINED_FOR: Duration = Duration::from_secs(3);
/// The shortest time between two questions about one provider: strangers may make key ids up.
const ASKED_AGAIN_AFTER: Duration = Duration::from_secs(5);
/// Questions on their way to the agent; what finds no room is asked again by a later request.
const QUESTIONS_MAX: usize = 16;

/// The workers' way to ask.
#[derive(Debug)]
pub(crate) struct KeyAsker {
    questions: mpsc::Sender<ServiceName>,
    /// When each provider was asked about, and how often it had been answered by then.
    asked: Mutex<BTreeMap<ServiceName, (Instant, u64)>>,
}

impl KeyAsker {
    /// Makes the asker, and the other end, where questions come out.
    pub(crate) fn new() -> (Self, mpsc::Receiver<ServiceName>) {
        let (questions, receiver) = mpsc::channel(QUESTIONS_MAX);
        (Self { questions, asked: Mutex::default() }, receiver)
    }

    /// Asks for newer keys than those that came with an answer of this number; says whether it is
    /// worth waiting for them.
    pub(crate) fn ask(&self, provider: &ServiceName, answered: u64) -> bool {
        let now = clock::instant();
        let mut asked = self.asked.lock();
        match asked.get(provider) {
            Some((at, then)) if now < *at + JOINED_FOR && *then == answered => return true,
            Some((at, _)) if now < *at + ASKED_AGAIN_AFTER => return false,
            Some(_) | None => {}
        }
        let is_sent = self.questions.try_send(provider.clone()).is_ok();
        if is_sent {
            asked.insert(provider.clone(), (now, answered));
        }
        is_sent
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn strangers_do_not_make_it_ask_often() {
        let (asker, mut questions) = KeyAsker::new();
        let provider = ServiceName::parse("accounts").expect("a name");
        assert!(asker.ask(&provider, 0) && asker.ask(&provider, 0), "others join in");
        assert!(!asker.ask(&provider, 1), "it was just answered");
        assert_eq!(questions.recv().await.as_ref(), Some(&provider));
        assert!(questions.try_recv().is_err());
        tokio::time::advance(ASKED_AGAIN_AFTER).await;
        assert!(asker.ask(&provider, 1));
        drop(questions);
        tokio::time::advance(ASKED_AGAIN_AFTER).await;
        assert!(!asker.ask(&provider, 1), "nobody listens");
    }
}
