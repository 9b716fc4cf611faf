//! A tree to YAML text, in block form, each scalar in the form it had.

use super::tree::{Node, Style};

/// Writes a document, without the line that begins one.
pub(super) fn write(node: &Node) -> String {
    let mut text = String::new();
    value(&mut text, node, 0);
    text
}

/// Writes a node that starts on a line of its own.
fn value(text: &mut String, node: &Node, indent: usize) {
    match node {
        Node::Map(fields) if !fields.is_empty() => map(text, fields, indent),
        Node::Sequence(elements) if !elements.is_empty() => sequence(text, elements, indent),
        Node::Map(_) | Node::Scalar { .. } | Node::Sequence(_) => {
            inline(text, node, indent);
            text.push('\n');
        }
    }
}

fn map(text: &mut String, fields: &[(Node, Node)], indent: usize) {
    for (at, (key, field)) in fields.iter().enumerate() {
        if at > 0 {
            pad(text, indent);
        }
        inline(text, &quoted_key(key), indent);
        text.push(':');
        match field {
            Node::Map(inner) if !inner.is_empty() => {
                text.push('\n');
                pad(text, indent + 2);
                map(text, inner, indent + 2);
            }
            // As kubectl writes them: the dash below the key.
            Node::Sequence(inner) if !inner.is_empty() => {
                text.push('\n');
                pad(text, indent);
                sequence(text, inner, indent);
            }
            Node::Map(_) | Node::Scalar { .. } | Node::Sequence(_) => {
                let before = text.len();
                text.push(' ');
                inline(text, field, indent);
                if text.len() == before + 1 {
                    text.truncate(before);
                }
                text.push('\n');
            }
        }
    }
}

fn sequence(text: &mut String, elements: &[Node], indent: usize) {
    for (at, element) in elements.iter().enumerate() {
        if at > 0 {
            pad(text, indent);
        }
        text.push('-');
        if !is_empty_plain(element) {
            text.push(' ');
        }
        value(text, element, indent + 2);
    }
}

fn is_empty_plain(node: &Node) -> bool {
    matches!(node, Node::Scalar { text, style: Style::Plain, tag: None } if text.is_empty())
}

/// A key stands on one line.
fn quoted_key(key: &Node) -> Node {
    match key {
        Node::Scalar { text, style: Style::Block, tag } => {
            Node::Scalar { text: text.clone(), style: Style::DoubleQuoted, tag: tag.clone() }
        }
        other => other.clone(),
    }
}

/// Writes a scalar or an empty collection where the line stands.
fn inline(text: &mut String, node: &Node, indent: usize) {
    let (content, style, tag) = match node {
        Node::Map(_) => return text.push_str("{}"),
        Node::Sequence(_) => return text.push_str("[]"),
        Node::Scalar { text, style, tag } => (text, *style, tag),
    };
    if let Some(tag) = tag {
        text.push_str(tag);
        text.push(' ');
    }
    let is_one_line = !content.contains(['\n', '\r']);
    let is_printable = content.chars().all(|c| !c.is_control() && c != '\u{feff}');
    match style {
        Style::Plain if is_one_line => text.push_str(content),
        Style::SingleQuoted if is_one_line && is_printable => {
            text.push('\'');
            text.push_str(&content.replace('\'', "''"));
            text.push('\'');
        }
        Style::Block if fits_a_block(content) => block(text, content, indent),
        Style::Block | Style::DoubleQuoted | Style::Plain | Style::SingleQuoted => {
            double_quoted(text, content);
        }
    }
}

/// Returns whether a block gives the content back: one that begins with a blank or an empty line
/// would need to tell its indentation, and control characters cannot stand in one.
fn fits_a_block(content: &str) -> bool {
    let first = content.chars().next();
    first.is_some_and(|c| c != ' ' && c != '\n' && c != '\t')
        && content.chars().all(|c| c == '\n' || c == '\t' || !c.is_control())
        && !content.contains('\u{feff}')
}

fn block(text: &mut String, content: &str, indent: usize) {
    let body = content.trim_end_matches('\n');
    text.push_str(match content.len() - body.len() {
        0 => "|-",
        1 => "|",
        _ => "|+",
    });
    for line in body.split('\n') {
        text.push('\n');
        if !line.is_empty() {
            pad(text, indent + 2);
            text.push_str(line);
        }
    }
    // The caller ends the last line; what follows it are kept empty lines.
    for _ in 1..(content.len() - body.len()) {
        text.push('\n');
    }
}

/// **Source**: YAML 1.2.2 §5.7.
fn double_quoted(text: &mut String, content: &str) {
    text.push('"');
    for character in content.chars() {
        match character {
            '"' => text.push_str("\\\""),
            '\\' => text.push_str("\\\\"),
            '\n' => text.push_str("\\n"),
            '\t' => text.push_str("\\t"),
            '\r' => text.push_str("\\r"),
            '\u{feff}' | '\u{2028}' | '\u{2029}' => escape(text, character),
            other if other.is_control() => escape(text, other),
            other => text.push(other),
        }
    }
    text.push('"');
}

fn escape(text: &mut String, character: char) {
    text.push_str(&format!("\\u{:04x}", u32::from(character)));
}

fn pad(text: &mut String, indent: usize) {
    text.push_str(&" ".repeat(indent));
}
