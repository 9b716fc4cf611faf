//! HCL with several things on a line, spread so that each has a line of its own.
//!
//! Consul reads the first HCL, in which blocks and attributes may follow one another with nothing
//! but a blank or a comma between them; the second wants a new line. Values are left as they are.

use std::iter::Peekable;
use std::str::CharIndices;

/// What a closing bracket closes.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Inside {
    /// Attributes and blocks: a file, or the body of a block.
    Body,
    /// The pairs of an object, or the items of a list: commas and lines part them already.
    Value,
}

/// Where in an item of a body the reading is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum At {
    /// Nothing of it was read.
    Start,
    /// Its name, and the labels of a block.
    Name,
    /// After `=`.
    Equals,
    /// It is whole; another may follow.
    End,
}

/// Puts each attribute and each block on a line of its own.
pub(super) fn spread(text: &str) -> String {
    let mut spread = Spread {
        text,
        out: String::with_capacity(text.len() * 2),
        open: Vec::new(),
        at: At::Start,
    };
    let mut chars = text.char_indices().peekable();
    while let Some((from, first)) = chars.next() {
        spread.token(from, first, &mut chars);
    }
    spread.out
}

struct Spread<'a> {
    text: &'a str,
    out: String,
    open: Vec<Inside>,
    at: At,
}

impl Spread<'_> {
    fn is_in_body(&self) -> bool {
        self.open.last() != Some(&Inside::Value)
    }

    fn token(&mut self, from: usize, first: char, chars: &mut Peekable<CharIndices<'_>>) {
        let next = chars.peek().map(|(_, next)| *next);
        let (end, is_item) = match (first, next) {
            ('"', _) => (quoted(chars), true),
            ('#', _) | ('/', Some('/')) => (until_line_end(chars), false),
            ('/', Some('*')) => (commented(chars), false),
            ('<', Some('<')) => return self.heredoc(from, chars),
            _ if is_of_word(first) => (word(chars), true),
            _ => return self.sign(first),
        };
        if is_item {
            self.step();
        }
        self.out.push_str(&self.text[from..end.unwrap_or(self.text.len())]);
    }

    /// A word or a text in quotes stands here: a name, a label, a value, or the next item.
    fn step(&mut self) {
        if !self.is_in_body() {
            return;
        }
        self.at = match self.at {
            At::Start | At::Name => At::Name,
            At::Equals => At::End,
            At::End => {
                self.out.push('\n');
                At::Name
            }
        };
    }

    fn sign(&mut self, sign: char) {
        match sign {
            '{' | '[' | '(' => {
                let is_block = sign == '{' && self.is_in_body() && self.at != At::Equals;
                self.open.push(if is_block { Inside::Body } else { Inside::Value });
                self.out.push(sign);
                if is_block {
                    self.at = At::Start;
                    self.out.push('\n');
                }
                return;
            }
            '}' | ']' | ')' => {
                if self.open.pop() == Some(Inside::Body) {
                    self.out.push('\n');
                }
                if self.is_in_body() {
                    self.at = At::End;
                }
            }
            ',' if self.is_in_body() => {
                self.at = At::Start;
                return self.out.push('\n');
            }
            '=' if self.is_in_body() => self.at = At::Equals,
            '\n' if self.is_in_body() && self.at == At::End => self.at = At::Start,
            _ => {}
        }
        self.out.push(sign);
    }

    /// A text of several lines, up to the line that holds only its mark.
    fn heredoc(&mut self, from: usize, chars: &mut Peekable<CharIndices<'_>>) {
        let rest = &self.text[from..];
        let head = rest.lines().next().unwrap_or_default();
        let mark = head.trim_start_matches(['<', '-']).trim();
        let mut end = from;
        for (number, line) in rest.split_inclusive('\n').enumerate() {
            end += line.len();
            if number > 0 && line.trim() == mark {
                break;
            }
        }
        self.out.push_str(&self.text[from..end]);
        while chars.next_if(|(at, _)| *at < end).is_some() {}
        if self.is_in_body() {
            self.at = At::Start;
        }
    }
}

fn is_of_word(sign: char) -> bool {
    sign.is_alphanumeric() || matches!(sign, '_' | '-' | '.')
}

fn word(chars: &mut Peekable<CharIndices<'_>>) -> Option<usize> {
    while chars.next_if(|(_, sign)| is_of_word(*sign)).is_some() {}
    chars.peek().map(|(at, _)| *at)
}

/// To the closing quote. A quote inside `${…}` ends it all the same: nothing is evaluated here.
fn quoted(chars: &mut Peekable<CharIndices<'_>>) -> Option<usize> {
    while let Some((_, sign)) = chars.next() {
        match sign {
            '"' => break,
            '\\' => drop(chars.next()),
            _ => {}
        }
    }
    chars.peek().map(|(at, _)| *at)
}

fn until_line_end(chars: &mut Peekable<CharIndices<'_>>) -> Option<usize> {
    while chars.next_if(|(_, sign)| *sign != '\n').is_some() {}
    chars.peek().map(|(at, _)| *at)
}

fn commented(chars: &mut Peekable<CharIndices<'_>>) -> Option<usize> {
    chars.next();
    let mut last = ' ';
    for (_, sign) in chars.by_ref() {
        if (last, sign) == ('*', '/') {
            break;
        }
        last = sign;
    }
    chars.peek().map(|(at, _)| *at)
}
