//! The rules of the house as tests, read from the source text.
//!
//! Each rule is a function from the tree to a list of violations, and each violation says what
//! to do. Beside every rule stands a test with a planted offence, so that no rule can fall
//! silent. Nothing here compiles or runs the code it judges.

mod crates;
mod docs;
mod doors;
mod floors;
mod lexer;
mod paths;
mod proof;
mod prose;
mod shape;
mod supply;
mod tree;

use tree::{Tree, Violation};

/// Fails with every violation at once, so that one run shows all the work.
fn hold(rule: &str, found: Vec<Violation>) {
    if found.is_empty() {
        return;
    }
    let list: Vec<String> = found.iter().map(|v| format!("  {v}")).collect();
    panic!("{rule}: {} violation(s)\n{}", found.len(), list.join("\n"));
}

#[test]
fn crates_import_only_in_the_agreed_direction() {
    hold("crate direction", crates::check(&Tree::of_this_project()));
}

#[test]
fn every_crate_takes_the_workspace_lints() {
    hold("workspace lints", crates::check_lints(&Tree::of_this_project()));
}

#[test]
fn core_floors_import_only_downward() {
    hold("floors of core", floors::check(&Tree::of_this_project()));
}

#[test]
fn core_has_no_outside_world() {
    hold("purity of core", floors::check_purity(&Tree::of_this_project()));
}

#[test]
fn each_outside_library_has_one_door() {
    hold("one door", doors::check(&Tree::of_this_project()));
}

#[test]
fn files_and_functions_stay_small() {
    hold("sizes", shape::check_sizes(&Tree::of_this_project()));
}

#[test]
fn every_file_has_a_head_and_a_name_that_means_something() {
    hold("names and heads", shape::check_names(&Tree::of_this_project()));
}

#[test]
fn expectations_and_exemptions_give_their_reason() {
    hold("reasons", prose::check(&Tree::of_this_project()));
}

#[test]
fn tests_are_never_ignored_and_never_sleep() {
    hold("honest tests", proof::check(&Tree::of_this_project()));
}

#[test]
fn documents_name_what_is_there() {
    hold("documents", docs::check(&Tree::of_this_project()));
}

#[test]
fn dependencies_come_from_where_they_may() {
    hold("dependency sources and bans", supply::check_lock(&Tree::of_this_project()));
}

#[test]
fn what_is_built_is_not_banned_and_may_be_shipped() {
    hold("bans and licences", supply::check_built(&Tree::of_this_project()));
}
