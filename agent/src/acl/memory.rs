//! What servers said of callers' rights, and when.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use http::HeaderValue;

use super::{Question, Verdict};
use crate::config::TokenText;

/// Verdicts that are remembered; past it the memory begins anew.
const VERDICTS_MAX: usize = 65_536;

/// Whether the servers have ACLs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Standing {
    Off,
    On,
    Unknown,
}

/// A verdict is of a token on a question.
type Key = (Option<TokenText>, Question);

#[derive(Default)]
pub(super) struct Memory {
    /// When servers last said that they have no ACLs, or that they have.
    off_at: Option<Instant>,
    is_on: bool,
    verdicts: BTreeMap<Key, (Verdict, Instant)>,
    pub(super) default_policy: Option<HeaderValue>,
}

impl Memory {
    /// What is known, when it is not older than `age`.
    pub(super) fn standing(&self, now: Instant, age: Duration) -> Standing {
        match self.off_at {
            Some(at) if now.saturating_duration_since(at) < age => Standing::Off,
            Some(_) | None if self.is_on => Standing::On,
            Some(_) | None => Standing::Unknown,
        }
    }

    /// The verdicts when every one is known and not older than `age`.
    pub(super) fn recall(
        &self,
        token: Option<&TokenText>,
        questions: &[Question],
        now: Instant,
        age: Duration,
    ) -> Option<Vec<Verdict>> {
        if self.standing(now, age) == Standing::Off {
            return Some(vec![Ok(()); questions.len()]);
        }
        let of = |question: &Question| {
            let (verdict, at) = self.verdicts.get(&(token.cloned(), question.clone()))?;
            (now.saturating_duration_since(*at) < age).then(|| verdict.clone())
        };
        questions.iter().map(of).collect()
    }

    pub(super) fn keep(
        &mut self,
        token: Option<&TokenText>,
        questions: &[Question],
        verdicts: &[Verdict],
        now: Instant,
    ) {
        (self.off_at, self.is_on) = (None, true);
        if self.verdicts.len() + questions.len() > VERDICTS_MAX {
            self.verdicts.clear();
        }
        for (question, verdict) in questions.iter().zip(verdicts) {
            let key = (token.cloned(), question.clone());
            self.verdicts.insert(key, (verdict.clone(), now));
        }
    }

    pub(super) fn turn_off(&mut self, now: Instant) {
        (self.off_at, self.is_on) = (Some(now), false);
        self.verdicts.clear();
    }

    /// Forgets a token that is none any more.
    pub(super) fn forget(&mut self, token: Option<&TokenText>) {
        (self.off_at, self.is_on) = (None, true);
        self.verdicts.retain(|(of, _), _| of.as_ref() != token);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use weft_core::acl::Resource;
    use weft_runtime::clock;

    #[test]
    fn a_verdict_is_new_for_a_while_and_is_of_its_token_alone() {
        let (mut memory, now) = (Memory::default(), clock::instant());
        let token = TokenText::new("a");
        let asked = [Question::write(Resource::Service, "web")];
        let age = Duration::from_secs(30);
        assert_eq!(memory.standing(now, age), Standing::Unknown);
        memory.keep(token.as_ref(), &asked, &[Err("no".to_owned())], now);
        let recall = |memory: &Memory, token: Option<&TokenText>, later: u64, age| {
            memory.recall(token, &asked, now + Duration::from_secs(later), age)
        };
        assert_eq!(recall(&memory, token.as_ref(), 29, age), Some(vec![Err("no".to_owned())]));
        assert_eq!(recall(&memory, token.as_ref(), 30, age), None);
        assert!(recall(&memory, token.as_ref(), 9999, Duration::MAX).is_some());
        assert_eq!(recall(&memory, None, 0, age), None);
        assert_eq!(recall(&memory, TokenText::new("b").as_ref(), 0, age), None);
        memory.forget(token.as_ref());
        assert_eq!(recall(&memory, token.as_ref(), 0, Duration::MAX), None);
        memory.turn_off(now);
        assert_eq!(recall(&memory, None, 29, age), Some(vec![Ok(())]));
        assert_eq!(recall(&memory, None, 30, age), None);
    }

    #[test]
    fn tokens_are_printed_by_nothing() {
        assert_eq!(format!("{:?}", TokenText::new("e2f1b0a9")), "Some(TokenText(…))");
    }
}
