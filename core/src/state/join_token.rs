//! Join tokens: who may become a member, how often, and until when. Decided here, where the order
//! of writes is final, so that two who use the last use at the same moment are told apart.

use super::{Answer, Refusal, State};
use crate::ca::{JoinTokenRecord, MemberRole, Redemption};
use crate::index::Index;
use crate::limits;
use crate::time::Timestamp;

impl State {
    /// Returns every join token that is remembered, those that are over included, by their ids.
    pub fn join_tokens(&self) -> impl Iterator<Item = &JoinTokenRecord> {
        self.join_tokens.values()
    }

    /// Judges a host that wants to join with a token, which stays unused.
    ///
    /// # Errors
    /// [`Refusal`] that says what is wrong with the token.
    pub fn check_join_token(
        &self,
        secret_sha256: &str,
        role: MemberRole,
        asked: &Redemption,
    ) -> Result<&JoinTokenRecord, Refusal> {
        let token = self.join_tokens.get(secret_sha256).ok_or(Refusal::JoinTokenUnknown)?;
        if token.is_revoked {
            return Err(Refusal::JoinTokenRevoked);
        }
        if token.expires <= asked.at {
            return Err(Refusal::JoinTokenExpired);
        }
        if token.role != role {
            return Err(Refusal::JoinTokenRole { granted: token.role, asked: role });
        }
        if let Some(node) = &token.node
            && !node.as_str().eq_ignore_ascii_case(asked.node.as_str())
        {
            return Err(Refusal::JoinTokenNode {
                granted: node.clone(),
                asked: asked.node.clone(),
            });
        }
        if token.uses_left == Some(0) && !token.knows(asked) {
            return Err(Refusal::JoinTokenSpent);
        }
        Ok(token)
    }

    /// Keeps a token; those whose time is long over go, so that their number stays small.
    pub(super) fn create_join_token(
        &mut self,
        index: Index,
        now: Timestamp,
        mut token: JoinTokenRecord,
    ) -> Result<Answer, Refusal> {
        let kept: imbl::OrdMap<_, _> = self
            .join_tokens
            .iter()
            .filter(|(_, token)| token.expires.saturating_add(limits::JOIN_TOKEN_KEPT) > now)
            .map(|(secret, token)| (secret.clone(), token.clone()))
            .collect();
        let bound = |field: &str, length: usize, limit: usize| match length > limit {
            true => Err(Refusal::Limit { field: field.to_owned(), length, limit }),
            false => Ok(()),
        };
        bound("join tokens", kept.len() + 1, limits::JOIN_TOKENS_MAX)?;
        bound("Description", token.description.len(), limits::DESCRIPTION_BYTES_MAX)?;
        self.join_tokens = kept;
        (token.create_index, token.modify_index) = (index, index);
        self.join_tokens.insert(token.secret_sha256.clone(), token);
        Ok(Answer::Done { changed: true })
    }

    /// Uses a token once. The same request of the same host is one use, however often it comes.
    pub(super) fn redeem_join_token(
        &mut self,
        index: Index,
        secret_sha256: &str,
        role: MemberRole,
        asked: Redemption,
    ) -> Result<Answer, Refusal> {
        let token = self.check_join_token(secret_sha256, role, &asked)?;
        let Some(left) = token.uses_left.filter(|_| !token.knows(&asked)) else {
            return Ok(Answer::Done { changed: true });
        };
        let mut token = token.clone();
        token.uses_left = Some(left.saturating_sub(1));
        if token.redeemed.len() >= limits::JOIN_REDEMPTIONS_KEPT {
            token.redeemed.remove(0);
        }
        token.redeemed.push(asked);
        token.modify_index = index;
        self.join_tokens.insert(secret_sha256.to_owned(), token);
        Ok(Answer::Done { changed: true })
    }

    /// Withdraws a token, of which those who joined with it keep what they have.
    pub(super) fn revoke_join_token(&mut self, index: Index, id: &str) -> Result<Answer, Refusal> {
        let token = self.join_tokens.values().find(|token| token.id() == id);
        let mut token =
            token.cloned().ok_or_else(|| Refusal::UnknownJoinToken { id: id.to_owned() })?;
        if token.is_revoked {
            return Ok(Answer::Done { changed: false });
        }
        (token.is_revoked, token.modify_index) = (true, index);
        self.join_tokens.insert(token.secret_sha256.clone(), token);
        Ok(Answer::Done { changed: true })
    }
}

impl JoinTokenRecord {
    /// Whether this very request was counted already.
    fn knows(&self, asked: &Redemption) -> bool {
        self.redeemed
            .iter()
            .any(|known| known.node == asked.node && known.request_sha256 == asked.request_sha256)
    }
}
