//! The examples in the documentation do what it says.

use std::collections::BTreeMap;
use std::path::Path;

use weft_core::chain::check_write;
use weft_core::config_entry::{ConfigEntry, EntryKey, EntryKind, standing_table};
use weft_proto::json::config_entry;
use weft_proto::text;

/// A fenced block: what stands behind the fence, and the lines inside.
struct Block {
    info: String,
    text: String,
    line: usize,
}

fn blocks(page: &str) -> Vec<Block> {
    let mut blocks = Vec::new();
    let mut open: Option<Block> = None;
    for (at, line) in page.lines().enumerate() {
        match (line.strip_prefix("```"), open.take()) {
            (Some(_), Some(block)) => blocks.push(block),
            (Some(info), None) => {
                let (info, text) = (info.trim().to_owned(), String::new());
                open = Some(Block { info, text, line: at + 1 });
            }
            (None, Some(mut block)) => {
                block.text.push_str(line);
                block.text.push('\n');
                open = Some(block);
            }
            (None, None) => {}
        }
    }
    assert!(open.is_none(), "a fence is left open");
    blocks
}

/// Writes an entry as the servers would, or says why not.
fn write(stored: &mut BTreeMap<EntryKey, ConfigEntry>, block: &Block) -> Result<(), String> {
    let lines = |faults: Vec<String>| faults.join("\n") + "\n";
    let decoded = match block.info.starts_with("hcl") {
        true => text::parse("example.hcl", &block.text)
            .map_err(|fault| vec![fault])
            .and_then(config_entry::decode_file),
        false => config_entry::decode(block.text.as_bytes()),
    };
    let entry =
        decoded.map_err(|faults| lines(faults.iter().map(ToString::to_string).collect()))?;
    let key = entry.key();
    let mut after = stored.clone();
    after.insert(key.clone(), entry);
    check_write(&key, after.values(), &after)
        .map_err(|errors| lines(errors.iter().map(ToString::to_string).collect()))?;
    *stored = after;
    Ok(())
}

#[test]
fn config_entries_are_accepted_and_refused_as_their_page_says() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/config-entries.md");
    let page = std::fs::read_to_string(path).expect("the page is there");
    let mut stored = BTreeMap::new();
    let mut refused = None;
    for block in blocks(&page) {
        let written = |stored: &mut _| write(stored, &block);
        match block.info.as_str() {
            "json" | "hcl" => {
                written(&mut stored).unwrap_or_else(|why| panic!("line {}: {why}", block.line));
            }
            "json refused" | "hcl refused" => {
                refused = Some(written(&mut stored).expect_err("this entry is to be refused"));
            }
            "text" => {
                let found = refused.take().expect("a refused entry before");
                assert_eq!(found, block.text, "line {}", block.line);
            }
            other => panic!("line {}: {other:?} is no block that is tested", block.line),
        }
    }
    let kinds: std::collections::BTreeSet<_> = stored.keys().map(|key| key.kind).collect();
    assert_eq!(kinds.len(), EntryKind::ALL.len(), "every kind has an example");
}

#[test]
fn the_table_of_what_is_in_force_is_that_of_the_code() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/config-entries.md");
    let page = std::fs::read_to_string(path).expect("the page is there");
    let table = standing_table();
    assert!(page.contains(&table), "docs/config-entries.md must have this table:\n{table}");
}
