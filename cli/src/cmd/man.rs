//! `weft man`: pages of the manual from the same definitions as the help, as the packages install
//! them.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context;
use clap::{Args, Command, CommandFactory};
use clap_mangen::Man;

use crate::args::Cli;
use crate::failure::Failure;

const EXAMPLES: &str = "\
Examples:
  Write all pages, and read one:
    weft man --dir /tmp/weft-man
    man /tmp/weft-man/weft-agent.1";

/// Flags of `weft man`.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct ManArgs {
    /// The folder for the pages; made when it is not there
    #[arg(long, value_name = "DIR")]
    dir: PathBuf,
}

pub(crate) fn run(args: &ManArgs) -> Result<ExitCode, Failure> {
    std::fs::create_dir_all(&args.dir)
        .with_context(|| format!("cannot make the folder {}", args.dir.display()))?;
    for (name, page) in pages() {
        let path = args.dir.join(name);
        write(&path, &page).with_context(|| format!("cannot write {}", path.display()))?;
    }
    Ok(ExitCode::SUCCESS)
}

fn write(path: &Path, page: &[u8]) -> std::io::Result<()> {
    let mut file = BufWriter::new(File::create(path)?);
    file.write_all(page)?;
    file.flush()
}

/// Returns the file's name and the text of each page: of the program and of each command that its
/// help shows.
fn pages() -> Vec<(String, Vec<u8>)> {
    let mut program = Cli::command().disable_help_subcommand(true);
    program.build();
    let mut found = Vec::new();
    collect(&program, &mut found);
    found
}

fn collect(command: &Command, found: &mut Vec<(String, Vec<u8>)>) {
    for subcommand in command.get_subcommands().filter(|command| !command.is_hide_set()) {
        collect(subcommand, found);
    }
    let mut page = Vec::new();
    let version = concat!("weft ", env!("CARGO_PKG_VERSION"));
    // A blank in the place of a date: the same program gives the same pages.
    let man = Man::new(command.clone()).date(" ").source(version).manual("Weft's manual");
    // Into memory: nothing can fail.
    let rendered = render(&man, command, &mut page);
    debug_assert!(rendered.is_ok());
    found.push((man.get_filename(), page));
}

fn render(man: &Man, command: &Command, page: &mut Vec<u8>) -> std::io::Result<()> {
    man.render_title(page)?;
    man.render_name_section(page)?;
    man.render_synopsis_section(page)?;
    man.render_description_section(page)?;
    if command.get_arguments().any(|argument| !argument.is_hide_set()) {
        man.render_options_section(page)?;
    }
    if command.get_subcommands().any(|command| !command.is_hide_set()) {
        man.render_subcommands_section(page)?;
    }
    if let Some(text) = command.get_after_help() {
        page.extend(as_it_stands("NOTES", &text.to_string()).into_bytes());
    }
    Ok(())
}

/// Returns a section whose lines are broken where they are broken here: examples and tables. A
/// first line of the form `Examples:` is its heading.
fn as_it_stands(heading: &str, text: &str) -> String {
    let (heading, text) = match text.split_once(":\n") {
        Some((first, rest)) if !first.contains('\n') => (first.to_uppercase(), rest),
        Some(_) | None => (heading.to_owned(), text),
    };
    let mut section = format!(".SH {heading}\n.nf\n");
    for line in text.lines() {
        // A line that begins with one of these would be read as a request.
        if line.starts_with(['.', '\'']) {
            section.push_str("\\&");
        }
        section.push_str(&line.replace('\\', "\\e").replace('-', "\\-"));
        section.push('\n');
    }
    section.push_str(".fi\n");
    section
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_command_has_a_page_with_its_flags_and_examples() {
        let pages = pages();
        let page = |name: &str| {
            let found = pages.iter().find(|(file, _)| file == name);
            let (_, text) = found.unwrap_or_else(|| panic!("no {name} in {pages:?}"));
            String::from_utf8(text.clone()).expect("UTF-8")
        };
        for command in Cli::command().get_subcommands().filter(|command| !command.is_hide_set()) {
            page(&format!("weft-{}.1", command.get_name()));
        }
        assert!(page("weft.1").contains("FIRST STEPS"), "{}", page("weft.1"));
        let agent = page("weft-agent.1");
        for part in [".SH EXAMPLES", "data\\-dir", "weft agent \\-\\-config"] {
            assert!(agent.contains(part), "no {part:?}: {agent}");
        }
        page("weft-operator-join-token-create.1");
    }

    #[test]
    fn lines_of_examples_are_no_requests_of_the_formatter() {
        let section = as_it_stands("NOTES", "Examples:\n.hidden \\ x\n'quoted'");
        assert_eq!(section, ".SH EXAMPLES\n.nf\n\\&.hidden \\e x\n\\&'quoted'\n.fi\n");
        assert_eq!(as_it_stands("NOTES", "one\ntwo"), ".SH NOTES\n.nf\none\ntwo\n.fi\n");
    }
}
