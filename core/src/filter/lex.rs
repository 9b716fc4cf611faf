//! The words of a filter expression.

use super::FilterError;

/// A word and where it starts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Token {
    pub(super) kind: TokenKind,
    pub(super) column: usize,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum TokenKind {
    Close,
    End,
    Equal,
    NotEqual,
    Open,
    /// A selector, a bare value, or a word of the grammar: `Service.Meta["a b"]`, `v1.2`, `and`.
    Path {
        parts: Vec<String>,
        /// Whether it is written with `["…"]`, which no value and no word of the grammar is.
        indexed: bool,
    },
    /// A value in quotes or backticks.
    Text(String),
}

impl TokenKind {
    /// Whether it is the given word of the grammar.
    pub(super) fn is_word(&self, word: &str) -> bool {
        matches!(self, Self::Path { parts, indexed: false } if *parts == [word])
    }
}

/// Splits an expression into its words, ended by one [`TokenKind::End`].
pub(super) fn lex(text: &str) -> Result<Vec<Token>, FilterError> {
    let mut reader = Reader { chars: text.chars().collect(), at: 0 };
    let mut tokens = Vec::new();
    loop {
        while reader.peek().is_some_and(|c| matches!(c, ' ' | '\t' | '\r' | '\n')) {
            reader.at += 1;
        }
        let column = reader.at + 1;
        let kind = reader.token()?;
        let ended = kind == TokenKind::End;
        tokens.push(Token { kind, column });
        if ended {
            return Ok(tokens);
        }
    }
}

struct Reader {
    chars: Vec<char>,
    at: usize,
}

impl Reader {
    fn peek(&self) -> Option<char> {
        self.chars.get(self.at).copied()
    }

    fn take(&mut self, wanted: char) -> bool {
        let taken = self.peek() == Some(wanted);
        self.at += usize::from(taken);
        taken
    }

    fn error<T>(&self, reason: impl Into<String>) -> Result<T, FilterError> {
        Err(FilterError::new(self.at + 1, reason))
    }

    fn token(&mut self) -> Result<TokenKind, FilterError> {
        let Some(first) = self.peek() else {
            return Ok(TokenKind::End);
        };
        match first {
            '(' | ')' => {
                self.at += 1;
                Ok(if first == '(' { TokenKind::Open } else { TokenKind::Close })
            }
            '=' | '!' => {
                self.at += 1;
                if !self.take('=') {
                    self.at -= 1;
                    return self.error(format!("{first:?} must be followed by '='"));
                }
                Ok(if first == '=' { TokenKind::Equal } else { TokenKind::NotEqual })
            }
            '"' | '`' => self.text().map(TokenKind::Text),
            c if in_word(c) => self.path(),
            c => self.error(format!("{c:?} has no meaning here; values with it stand in quotes")),
        }
    }

    fn path(&mut self) -> Result<TokenKind, FilterError> {
        let mut parts = vec![self.word()];
        let mut indexed = false;
        loop {
            if self.peek() == Some('.') {
                self.at += 1;
                if !self.peek().is_some_and(in_word) {
                    return self.error("a name must follow the '.'");
                }
                parts.push(self.word());
            } else if self.take('[') {
                if !matches!(self.peek(), Some('"' | '`')) {
                    return self.error("a key in quotes must follow the '['");
                }
                parts.push(self.text()?);
                indexed = true;
                if !self.take(']') {
                    return self.error("a ']' must follow the key");
                }
            } else {
                return Ok(TokenKind::Path { parts, indexed });
            }
        }
    }

    fn word(&mut self) -> String {
        let start = self.at;
        while self.peek().is_some_and(in_word) {
            self.at += 1;
        }
        self.chars[start..self.at].iter().collect()
    }

    /// Reads a text in quotes, with `\"`, `\\`, `\n`, `\r` and `\t`, or in backticks as it is.
    fn text(&mut self) -> Result<String, FilterError> {
        let (start, quote) = (self.at, self.chars[self.at]);
        self.at += 1;
        let mut text = String::new();
        while let Some(c) = self.peek() {
            self.at += 1;
            if c == quote {
                return Ok(text);
            }
            if c != '\\' || quote == '`' {
                text.push(c);
                continue;
            }
            match self.peek() {
                Some(escaped @ ('"' | '\\')) => text.push(escaped),
                Some('n') => text.push('\n'),
                Some('r') => text.push('\r'),
                Some('t') => text.push('\t'),
                _ => return self.error("write \\\\ for a backslash, or the text in backticks"),
            }
            self.at += 1;
        }
        Err(FilterError::new(start + 1, "the text that starts here has no end"))
    }
}

fn in_word(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '_' | '/' | '-')
}
