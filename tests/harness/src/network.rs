//! Tests in a network of their own, in which they may block, redirect and route as they like.

use std::env;
use std::process::Command;

use crate::tools;

/// Says to a test program that it runs in such a network.
const INSIDE: &str = "WEFT_TEST_IN_OWN_NETWORK";

/// Runs a story in a network of its own, which goes with it: the test program runs itself again there, for this
/// test alone. Where a program is missing, or the machine gives no such network, the test is skipped as by
/// [`tools::skip`].
///
/// `test` is the test's whole name, with its module: `quic::a_test`.
///
/// # Panics
/// When the story fails.
pub fn in_own_network(test: &str, programs: &[&str], story: impl FnOnce()) {
    if env::var_os(INSIDE).is_some() {
        return story();
    }
    let name = test.rsplit("::").next().unwrap_or(test);
    if !tools::have(name, &[&["unshare", "ip", "nft"], programs].concat()) {
        return;
    }
    let table = ["--net", "nft", "add", "table", "inet", "weft"];
    if let Err(why) = tools::run("unshare", &table).ok() {
        return tools::skip(name, &why);
    }
    let program = env::current_exe().expect("a running program has a path");
    let status = Command::new("unshare")
        .args(["--net", "sh", "-c", "ip link set lo up && exec \"$0\" \"$@\""])
        .arg(program)
        .args([test, "--exact", "--nocapture"])
        .env(INSIDE, "1")
        .status();
    assert!(status.expect("it runs").success(), "in a network of its own");
}
