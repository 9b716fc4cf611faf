//! YAML text to a tree. The only place that names the YAML library's parser.

use std::collections::BTreeMap;

use saphyr_parser::{Event, Parser, ScalarStyle, Tag};

use super::tree::{Node, Style};

/// The most nodes of one document: a file of 10 MiB has fewer, and aliases may not make more.
const NODES_MAX: usize = 1_000_000;
/// The deepest nesting: manifests have some 20 levels, and readers of a tree call themselves.
const DEPTH_MAX: usize = 128;

/// Why a document is not read. Lines count from 1 in the text that was given.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {reason}")]
pub(super) struct Unreadable {
    pub(super) line: usize,
    pub(super) reason: String,
}

/// Reads one document; `None` for one that is empty.
pub(super) fn read(text: &str) -> Result<Option<Node>, Unreadable> {
    let mut builder = Builder::default();
    for event in Parser::new_from_str(text) {
        let (event, span) = event.map_err(|error| Unreadable {
            line: error.marker().line(),
            reason: error.info().to_owned(),
        })?;
        let line = span.start.line();
        builder.take(event).map_err(|reason| Unreadable { line, reason: reason.to_owned() })?;
    }
    Ok(builder.done)
}

/// What is being built, outermost first.
#[derive(Default)]
struct Builder {
    open: Vec<Open>,
    anchors: BTreeMap<usize, (Node, usize)>,
    nodes: usize,
    done: Option<Node>,
}

struct Open {
    node: Node,
    anchor: usize,
    /// The key whose value comes next.
    key: Option<Node>,
    /// Nodes before this one.
    nodes_before: usize,
}

impl Builder {
    fn take(&mut self, event: Event<'_>) -> Result<(), &'static str> {
        match event {
            Event::Nothing
            | Event::StreamStart
            | Event::StreamEnd
            | Event::DocumentStart(_)
            | Event::DocumentEnd => Ok(()),
            Event::Alias(anchor) => {
                let (node, size) =
                    self.anchors.get(&anchor).cloned().ok_or("this alias has no anchor above")?;
                self.count(size)?;
                self.add(node)
            }
            Event::Scalar(text, style, anchor, tag) => {
                self.count(1)?;
                let tag = tag.map(|tag| written(&tag));
                let node = Node::Scalar { text: text.into_owned(), style: of(style), tag };
                self.keep(anchor, &node, 1);
                self.add(node)
            }
            Event::SequenceStart(anchor, _) => self.start(Node::Sequence(Vec::new()), anchor),
            Event::MappingStart(anchor, _) => self.start(Node::Map(Vec::new()), anchor),
            Event::SequenceEnd | Event::MappingEnd => {
                let Some(open) = self.open.pop() else { return Ok(()) };
                self.keep(open.anchor, &open.node, self.nodes - open.nodes_before);
                self.add(open.node)
            }
        }
    }

    fn count(&mut self, nodes: usize) -> Result<(), &'static str> {
        self.nodes += nodes;
        if self.nodes > NODES_MAX {
            Err("the document is too large once aliases are resolved")
        } else {
            Ok(())
        }
    }

    fn keep(&mut self, anchor: usize, node: &Node, size: usize) {
        // The parser counts anchors from 1; 0 is none.
        if anchor > 0 {
            self.anchors.insert(anchor, (node.clone(), size));
        }
    }

    fn start(&mut self, node: Node, anchor: usize) -> Result<(), &'static str> {
        if self.open.len() >= DEPTH_MAX {
            return Err("the document is nested too deeply");
        }
        let nodes_before = self.nodes;
        self.count(1)?;
        self.open.push(Open { node, anchor, key: None, nodes_before });
        Ok(())
    }

    fn add(&mut self, node: Node) -> Result<(), &'static str> {
        let Some(open) = self.open.last_mut() else {
            self.done = Some(node);
            return Ok(());
        };
        match &mut open.node {
            Node::Sequence(elements) => elements.push(node),
            Node::Map(fields) => match open.key.take() {
                Some(key) => {
                    if fields.iter().any(|(own, _)| *own == key) {
                        return Err("this key stands in the map already");
                    }
                    fields.push((key, node));
                }
                None if matches!(node, Node::Scalar { .. }) => open.key = Some(node),
                None => return Err("a key of a map has to be a text"),
            },
            Node::Scalar { .. } => {}
        }
        Ok(())
    }
}

fn of(style: ScalarStyle) -> Style {
    match style {
        ScalarStyle::Plain => Style::Plain,
        ScalarStyle::SingleQuoted => Style::SingleQuoted,
        ScalarStyle::DoubleQuoted => Style::DoubleQuoted,
        // A folded block is written with the line breaks that it means.
        ScalarStyle::Literal | ScalarStyle::Folded => Style::Block,
    }
}

fn written(tag: &Tag) -> String {
    match tag.handle.as_str() {
        "tag:yaml.org,2002:" => format!("!!{}", tag.suffix),
        "" => format!("!<{}>", tag.suffix),
        handle => format!("{handle}{}", tag.suffix),
    }
}
