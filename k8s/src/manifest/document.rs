//! A file cut into documents, to the byte.

/// One document and the line that begins it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Document<'a> {
    /// `---` with its line break and what else stands on its line but content; empty for a first
    /// document without one.
    pub(super) marker: &'a str,
    /// The rest.
    pub(super) body: &'a str,
    /// The lines of the file before the body.
    pub(super) lines_before: usize,
}

/// Cuts a file. The pieces together are the file.
///
/// **Source**: YAML 1.2.2 §9.1: a line that begins with `---` and a blank begins a document, even
/// inside of a block.
pub(super) fn split(text: &str) -> Vec<Document<'_>> {
    let mut starts = Vec::new();
    let mut at = 0;
    for line in text.split_inclusive('\n') {
        if is_marker(line) {
            starts.push(at);
        }
        at += line.len();
    }
    let first = starts.first().copied().unwrap_or(text.len());
    let mut documents = Vec::new();
    if first > 0 {
        documents.push(Document { marker: "", body: &text[..first], lines_before: 0 });
    }
    for (index, start) in starts.iter().enumerate() {
        let end = starts.get(index + 1).copied().unwrap_or(text.len());
        let whole = &text[*start..end];
        let line_end = whole.find('\n').map_or(whole.len(), |at| at + 1);
        // Content on the marker's line belongs to the body.
        let on_line = whole[3..line_end].trim_start();
        let has_content = !on_line.is_empty() && !on_line.starts_with('#');
        let cut = if has_content { 3 } else { line_end };
        let lines_before = text[..start + cut].matches('\n').count();
        documents.push(Document { marker: &whole[..cut], body: &whole[cut..], lines_before });
    }
    documents
}

fn is_marker(line: &str) -> bool {
    line.strip_prefix("---")
        .is_some_and(|rest| rest.is_empty() || rest.starts_with([' ', '\t', '\r', '\n']))
}

impl<'a> Document<'a> {
    /// Comments and empty lines before the content: they stay when it is written anew.
    pub(super) fn preface(self) -> &'a str {
        let is_comment = |line: &&str| {
            let line = line.trim();
            line.is_empty() || line.starts_with('#')
        };
        let length = self.body.split_inclusive('\n').take_while(is_comment).map(str::len).sum();
        &self.body[..length]
    }

    /// The body without directives such as `%YAML 1.2`, which stand before a marker.
    pub(super) fn content(self) -> Option<&'a str> {
        let is_directive = self.preface().len() < self.body.len()
            && self.body[self.preface().len()..].starts_with('%');
        (!is_directive).then_some(self.body)
    }
}
