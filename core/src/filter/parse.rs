//! The grammar of filter expressions, by recursive descent.
//!
//! `or` binds weaker than `and`, `and` weaker than `not`.

use regex::RegexBuilder;

use super::lex::{Token, TokenKind, lex};
use super::{Absent, Condition, Expression, FilterError, Test};
use crate::limits;

pub(super) fn parse(text: &str) -> Result<Expression, FilterError> {
    if text.len() > limits::FILTER_BYTES_MAX {
        let (bytes, max) = (text.len(), limits::FILTER_BYTES_MAX);
        return Err(FilterError::new(1, format!("has {bytes} bytes, more than the {max} allowed")));
    }
    let mut parser = Parser { tokens: lex(text)?, at: 0, depth: 0 };
    let expression = parser.any()?;
    match parser.peek().kind {
        TokenKind::End => Ok(expression),
        TokenKind::Close => parser.error("this ')' closes nothing"),
        TokenKind::Equal
        | TokenKind::NotEqual
        | TokenKind::Open
        | TokenKind::Path { .. }
        | TokenKind::Text(_) => parser.error("expected `and`, `or` or the end"),
    }
}

struct Parser {
    /// Ends with [`TokenKind::End`], which is never passed.
    tokens: Vec<Token>,
    at: usize,
    /// Parentheses that are open.
    depth: usize,
}

impl Parser {
    fn peek(&self) -> &Token {
        &self.tokens[self.at]
    }

    fn next(&mut self) -> Token {
        let token = self.peek().clone();
        if token.kind != TokenKind::End {
            self.at += 1;
        }
        token
    }

    fn take_word(&mut self, word: &str) -> bool {
        let taken = self.peek().kind.is_word(word);
        self.at += usize::from(taken);
        taken
    }

    fn error<T>(&self, reason: impl Into<String>) -> Result<T, FilterError> {
        Err(FilterError::new(self.peek().column, reason))
    }

    fn any(&mut self) -> Result<Expression, FilterError> {
        let mut parts = vec![self.all()?];
        while self.take_word("or") {
            parts.push(self.all()?);
        }
        Ok(one_or(parts, Expression::Any))
    }

    fn all(&mut self) -> Result<Expression, FilterError> {
        let mut parts = vec![self.not()?];
        while self.take_word("and") {
            parts.push(self.not()?);
        }
        Ok(one_or(parts, Expression::All))
    }

    fn not(&mut self) -> Result<Expression, FilterError> {
        let mut negated = false;
        while self.take_word("not") {
            negated = !negated;
        }
        let inner = if self.peek().kind == TokenKind::Open {
            self.depth += 1;
            if self.depth > limits::FILTER_DEPTH_MAX {
                let max = limits::FILTER_DEPTH_MAX;
                return self.error(format!("parentheses are nested deeper than {max}"));
            }
            self.next();
            let inner = self.any()?;
            if self.peek().kind != TokenKind::Close {
                return self.error("expected `and`, `or` or ')'");
            }
            self.next();
            self.depth -= 1;
            inner
        } else {
            Expression::Condition(self.condition()?)
        };
        Ok(if negated { Expression::Not(Box::new(inner)) } else { inner })
    }

    fn condition(&mut self) -> Result<Condition, FilterError> {
        let first = self.next();
        let value = match first.kind {
            TokenKind::Text(ref text) => Some(text.clone()),
            TokenKind::Path { ref parts, indexed } => (!indexed).then(|| parts.join(".")),
            TokenKind::Close
            | TokenKind::End
            | TokenKind::Equal
            | TokenKind::NotEqual
            | TokenKind::Open => {
                self.at -= usize::from(first.kind != TokenKind::End);
                return self.error("expected a selector, a value, `not` or '('");
            }
        };
        let negated = self.take_word("not");
        if self.take_word("in") {
            let Some(value) = value else {
                return self.error("`in` follows a value, not a selector");
            };
            let column = self.peek().column;
            let Some(parts) = selector(self.next().kind) else {
                return Err(FilterError::new(column, "expected a selector after `in`"));
            };
            return Ok(Condition::new(parts, column, Test::Contains(value), negated));
        }
        let Some(parts) = selector(first.kind) else {
            return self.error("expected `in` or `not in` after a value");
        };
        let follows_not = |kind: &TokenKind| kind.is_word("contains") || kind.is_word("matches");
        if negated && !follows_not(&self.peek().kind) {
            return self.error("expected `in`, `contains` or `matches` after `not`");
        }
        let (test, turned) = self.test()?;
        Ok(Condition::new(parts, first.column, test, negated != turned))
    }

    /// Reads what follows a selector; `true` when the operator itself turns the test round.
    fn test(&mut self) -> Result<(Test, bool), FilterError> {
        if self.take_word("contains") {
            return Ok((Test::Contains(self.value()?), false));
        }
        if self.take_word("matches") {
            let column = self.peek().column;
            return Ok((Test::Matches(regex(&self.value()?, column)?), false));
        }
        if self.take_word("is") {
            let turned = self.take_word("not");
            return match self.take_word("empty") {
                true => Ok((Test::Empty, turned)),
                false => self.error("expected `empty` or `not empty` after `is`"),
            };
        }
        match self.peek().kind {
            TokenKind::Equal => {
                self.next();
                Ok((Test::Equals(self.value()?), false))
            }
            TokenKind::NotEqual => {
                self.next();
                Ok((Test::Equals(self.value()?), true))
            }
            TokenKind::Close
            | TokenKind::End
            | TokenKind::Open
            | TokenKind::Path { .. }
            | TokenKind::Text(_) => {
                self.error("expected ==, !=, `is`, `in`, `contains`, `matches` or `not`")
            }
        }
    }

    fn value(&mut self) -> Result<String, FilterError> {
        let column = self.peek().column;
        match self.next().kind {
            TokenKind::Text(text) => Ok(text),
            TokenKind::Path { parts, indexed: false } => Ok(parts.join(".")),
            TokenKind::Close
            | TokenKind::End
            | TokenKind::Equal
            | TokenKind::NotEqual
            | TokenKind::Open
            | TokenKind::Path { indexed: true, .. } => {
                Err(FilterError::new(column, "expected a value"))
            }
        }
    }
}

/// Returns the steps of a selector: a path, or in quotes a JSON pointer such as
/// `"/Service/Meta/on~1call"`.
///
/// **Source**: Spec: RFC 6901 §4 for the pointer.
fn selector(kind: TokenKind) -> Option<Vec<String>> {
    match kind {
        TokenKind::Path { parts, .. } => Some(parts),
        TokenKind::Text(text) => {
            let steps = text.strip_prefix('/')?.split('/');
            Some(steps.map(|step| step.replace("~1", "/").replace("~0", "~")).collect())
        }
        TokenKind::Close
        | TokenKind::End
        | TokenKind::Equal
        | TokenKind::NotEqual
        | TokenKind::Open => None,
    }
}

impl Condition {
    fn new(selector: Vec<String>, column: usize, test: Test, negated: bool) -> Self {
        Self { selector, column, test, negated, absent: Absent::Nothing }
    }
}

fn one_or(mut parts: Vec<Expression>, many: fn(Vec<Expression>) -> Expression) -> Expression {
    match parts.len() {
        1 => parts.remove(0),
        _ => many(parts),
    }
}

fn regex(expression: &str, column: usize) -> Result<regex::Regex, FilterError> {
    if expression.len() > limits::REGEX_BYTES_MAX {
        let max = limits::REGEX_BYTES_MAX;
        return Err(FilterError::new(column, format!("has more than {max} bytes")));
    }
    RegexBuilder::new(expression).size_limit(limits::REGEX_COMPILED_BYTES_MAX).build().map_err(
        |error| {
            let text = error.to_string();
            let reason = text.lines().last().unwrap_or_default().trim_start_matches("error: ");
            FilterError::new(column, format!("is no usable regular expression: {reason}"))
        },
    )
}
