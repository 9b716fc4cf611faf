//! Writing tokens.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::apply::bounded;
use super::{AclRefusal, AclState, Expiry, Hidden, TokenDraft, Writing};
use crate::acl::{AccessorId, AuthMethodName, SecretHash, Token};
use crate::index::Index;
use crate::limits;
use crate::state::{Change, Refusal, State};
use crate::time::Timestamp;

impl State {
    pub(super) fn write_token(
        &mut self,
        index: Index,
        now: Timestamp,
        draft: TokenDraft,
        writing: Writing,
        changes: &mut BTreeSet<Change>,
    ) -> Result<(), Refusal> {
        let shown = draft.accessor.as_str().to_owned();
        let stored = self.acl.tokens.get(&draft.accessor).cloned();
        // A write that is tried again, as nobody knew whether it was carried out, finds it done.
        let is_done = writing == Writing::Create
            && draft.secret.is_some()
            && stored.as_ref().is_some_and(|stored| stored.secret == draft.secret);
        if is_done {
            return Ok(());
        }
        let is_anonymous = draft.accessor == AccessorId::anonymous();
        let present = if is_anonymous { self.acl.token(&draft.accessor) } else { stored.clone() };
        let token = match (writing, present) {
            (Writing::Create, Some(_)) => {
                return Err(AclRefusal::taken("AccessorID", &shown).into());
            }
            (Writing::Update, Some(present)) if !present.is_expired(now) => {
                self.acl.changed_token(&present, draft)?
            }
            (Writing::Update, _) => {
                return Err(AclRefusal::unknown("AccessorID", "token", shown).into());
            }
            (Writing::Create, None) => self.acl.new_token(now, draft)?,
        };
        let mut token = Token { create_index: index, modify_index: index, ..token };
        if let Some(stored) = stored {
            token.create_index = stored.create_index;
            token.modify_index = stored.modify_index;
            if *stored == token {
                return Ok(());
            }
            token.modify_index = index;
        }
        self.keep_token(index, token, changes);
        Ok(())
    }

    pub(super) fn delete_token(
        &mut self,
        index: Index,
        accessor: &AccessorId,
        changes: &mut BTreeSet<Change>,
    ) -> Result<(), Refusal> {
        if *accessor == AccessorId::anonymous() {
            return Err(AclRefusal::AnonymousToken.into());
        }
        self.drop_token(index, accessor, changes);
        Ok(())
    }

    pub(super) fn bootstrap_acl(
        &mut self,
        index: Index,
        now: Timestamp,
        (accessor, secret): (AccessorId, SecretHash),
        reset: Option<Index>,
        changes: &mut BTreeSet<Change>,
    ) -> Result<(), Refusal> {
        let of_accessor = self.acl.tokens.get(&accessor);
        if of_accessor.is_some_and(|token| token.secret.as_ref() == Some(&secret)) {
            // A write that is tried again, as nobody knew whether it was carried out.
            return Ok(());
        }
        if let Some(done) = self.acl.rows.bootstrap
            && reset != Some(done)
        {
            return Err(AclRefusal::BootstrapDone { reset: done }.into());
        }
        self.acl.must_be_free(&accessor, &secret)?;
        self.acl.rows.bootstrap = Some(index);
        self.keep_management(index, now, (accessor, secret), changes);
        Ok(())
    }

    /// A restart, and each of several servers with the same configuration, finds done what it
    /// asks for.
    pub(super) fn initial_management(
        &mut self,
        index: Index,
        now: Timestamp,
        (accessor, secret): (AccessorId, SecretHash),
        changes: &mut BTreeSet<Change>,
    ) -> Result<(), Refusal> {
        if self.acl.secrets.contains_key(&Hidden(secret.prefix())) {
            return Ok(());
        }
        self.acl.must_be_free(&accessor, &secret)?;
        self.acl.rows.bootstrap.get_or_insert(index);
        self.keep_management(index, now, (accessor, secret), changes);
        Ok(())
    }

    fn keep_management(
        &mut self,
        index: Index,
        now: Timestamp,
        (accessor, secret): (AccessorId, SecretHash),
        changes: &mut BTreeSet<Change>,
    ) {
        let token = Token::initial_management(accessor, secret);
        let token = Token { created: now, create_index: index, modify_index: index, ..token };
        self.keep_token(index, token, changes);
    }

    fn keep_token(&mut self, index: Index, token: Token, changes: &mut BTreeSet<Change>) {
        changes.insert(Change::AclToken(token.accessor.clone()));
        self.acl.rows.tokens = index;
        self.acl.insert_token(Arc::new(token));
    }

    pub(super) fn drop_token(
        &mut self,
        index: Index,
        accessor: &AccessorId,
        changes: &mut BTreeSet<Change>,
    ) {
        let Some(token) = self.acl.tokens.remove(accessor) else { return };
        if let Some(secret) = &token.secret {
            self.acl.secrets.remove(&Hidden(secret.prefix()));
        }
        if let Some(end) = token.expires {
            self.acl.expiring.remove(&(end, accessor.clone()));
        }
        self.acl.rows.tokens = index;
        changes.insert(Change::AclToken(accessor.clone()));
    }
}

impl AclState {
    /// Puts a token where it is found by; no other has its accessor or its secret.
    pub(super) fn insert_token(&mut self, token: Arc<Token>) {
        if let Some(secret) = &token.secret {
            self.secrets.insert(Hidden(secret.prefix()), token.accessor.clone());
        }
        if let Some(end) = token.expires {
            self.expiring.insert((end, token.accessor.clone()));
        }
        self.tokens.insert(token.accessor.clone(), token);
    }

    fn must_be_free(&self, accessor: &AccessorId, secret: &SecretHash) -> Result<(), Refusal> {
        if self.token(accessor).is_some() {
            return Err(AclRefusal::taken("AccessorID", accessor.as_str()).into());
        }
        if self.secrets.contains_key(&Hidden(secret.prefix())) {
            return Err(AclRefusal::taken("SecretID", "(hidden)").into());
        }
        Ok(())
    }

    fn new_token(&self, now: Timestamp, draft: TokenDraft) -> Result<Token, Refusal> {
        let TokenDraft { accessor, secret, description, grants, local, auth_method, expiry } =
            draft;
        let unsaid = || AclRefusal::unknown("SecretID", "secret for token", accessor.as_str());
        let secret = secret.ok_or_else(unsaid)?;
        self.must_be_free(&accessor, &secret)?;
        bounded("tokens", self.tokens.len(), limits::ACL_TOKENS_MAX)?;
        // A method that was removed while somebody logged in lets nobody in.
        let is_known = |name: &AuthMethodName| self.auth_methods.contains_key(name);
        if !auth_method.is_empty()
            && !AuthMethodName::parse(&auth_method).is_ok_and(|name| is_known(&name))
        {
            return Err(AclRefusal::unknown("AuthMethod", "auth method", auth_method).into());
        }
        Ok(Token {
            granted: self.resolve(grants)?,
            accessor,
            secret: Some(secret),
            description,
            local: local.unwrap_or_default(),
            auth_method,
            created: now,
            expires: expiry.moment(now)?,
            create_index: Index::default(),
            modify_index: Index::default(),
        })
    }

    /// What identifies a token and what bounds it stays; the rest is as asked for.
    fn changed_token(&self, present: &Token, draft: TokenDraft) -> Result<Token, Refusal> {
        let TokenDraft { accessor: _, secret, description, grants, local, auth_method, expiry } =
            draft;
        let fixed = |field: &str| Refusal::from(AclRefusal::Fixed { field: field.to_owned() });
        if secret.is_some() && secret != present.secret {
            return Err(fixed("SecretID"));
        }
        if local.is_some_and(|local| local != present.local) {
            return Err(fixed("Local"));
        }
        if !auth_method.is_empty() && auth_method != present.auth_method {
            return Err(fixed("AuthMethod"));
        }
        match expiry {
            Expiry::Unsaid => {}
            Expiry::At(end) if present.expires == Some(end) => {}
            Expiry::After(lifetime)
                if present.expires == Some(present.created.saturating_add(lifetime)) => {}
            Expiry::At(_) | Expiry::After(_) => return Err(fixed("ExpirationTime")),
        }
        Ok(Token { description, granted: self.resolve(grants)?, ..present.clone() })
    }
}

impl Expiry {
    /// When a token made now ends.
    fn moment(self, now: Timestamp) -> Result<Option<Timestamp>, AclRefusal> {
        let end = match self {
            Self::Unsaid => return Ok(None),
            Self::After(lifetime) => now.saturating_add(lifetime),
            Self::At(end) => end,
        };
        let (least, most) = (limits::ACL_TOKEN_LIFETIME_MIN, limits::ACL_TOKEN_LIFETIME_MAX);
        let given = end.since(now);
        if given < least || given > most {
            return Err(AclRefusal::Lifetime { given, least, most });
        }
        Ok(Some(end))
    }
}
