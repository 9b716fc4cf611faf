//! The examples under `packaging/config` load, as they stand and with every comment taken up.

use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;

use super::{Form, load};
use crate::cmd;

fn path(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../packaging/config").join(name)
}

/// Takes up every commented setting: lines that are `# name = …`, `# block {` and what is in
/// them. Comments in words start with an upper-case letter.
fn uncommented(text: &str) -> String {
    let mut taken = String::new();
    for line in text.lines() {
        let (indent, rest) = line.split_at(line.len() - line.trim_start().len());
        let setting = rest.strip_prefix("# ").filter(|body| {
            let body = body.trim_start();
            body == "}" || body.contains(" = ") || body.ends_with('{') || body.starts_with("}")
        });
        taken.push_str(indent);
        taken.push_str(setting.unwrap_or(rest));
        taken.push('\n');
    }
    taken
}

fn loads<T: DeserializeOwned>(name: &str, form: Form) -> T {
    let folder = tempfile::tempdir().expect("a folder");
    let text = std::fs::read_to_string(path(name)).expect("the example is there");
    let full = folder.path().join(name);
    std::fs::write(&full, uncommented(&text)).expect("written");
    let full = load::<T>(&[full], form);
    assert!(full.is_ok(), "{name} with every comment taken up: {:?}", full.err());
    load::<T>(&[path(name)], form).expect("the example loads").settings
}

#[test]
fn the_agents_example_loads() {
    let settings: weft_agent::config::FileConfig = loads("agent.hcl", cmd::agent::FORM);
    let config = weft_agent::config::Config::resolve(settings).expect("a good configuration");
    assert_eq!(config.data_dir, Path::new("/var/lib/weft/agent"));
}

#[test]
fn the_servers_example_loads() {
    let settings: weft_server::config::FileConfig = loads("server.hcl", cmd::server::FORM);
    let config = weft_server::config::Config::resolve(settings).expect("a good configuration");
    assert_eq!(config.data_dir, Path::new("/var/lib/weft/server"));
}

#[test]
fn the_proxys_example_loads() {
    let mut settings: weft_proxy::config::FileConfig = loads("proxy.hcl", cmd::proxy::FORM);
    // The command asks the agent for it.
    settings.agent_socket = Some("/socket".to_owned());
    weft_proxy::config::Config::resolve(settings).expect("a good configuration");
}

/// The block of limits in the proxies' guide is what holds when nothing is said.
#[test]
fn the_limits_in_the_proxys_guide_are_the_defaults() {
    let guide = path("../../docs/proxy.md");
    let guide = std::fs::read_to_string(guide).expect("the guide is there");
    let mut blocks = guide.split("```hcl\n").skip(1).filter_map(|rest| rest.split("```").next());
    let block = blocks.find(|block| block.starts_with("limits {"));
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("proxy.hcl");
    std::fs::write(&file, block.expect("a block")).expect("written");
    let loaded = load::<weft_proxy::config::FileConfig>(&[file], cmd::proxy::FORM);
    let mut settings = loaded.unwrap_or_else(|fault| panic!("{fault:?}")).settings;
    settings.snapshot_file = Some("snapshot".to_owned());
    let config = weft_proxy::config::Config::resolve(settings).expect("a good configuration");
    assert_eq!(config.limits, weft_proxy::Limits::default());
}

/// Every block of configuration in the agents' guide is one that an agent takes.
#[test]
fn the_examples_of_the_agents_guide_load() {
    let guide = path("../../docs/agents.md");
    let guide = std::fs::read_to_string(guide).expect("the guide is there");
    let blocks: Vec<&str> =
        guide.split("```hcl\n").skip(1).filter_map(|rest| rest.split("```").next()).collect();
    assert!(blocks.len() >= 5, "{} blocks", blocks.len());
    for block in blocks {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("agent.hcl");
        std::fs::write(&file, block).expect("written");
        let loaded = load::<weft_agent::config::FileConfig>(&[file], cmd::agent::FORM);
        let loaded = loaded.unwrap_or_else(|fault| panic!("{block}: {fault:?}"));
        let definitions = weft_agent::config::read_definitions(&loaded.apart);
        assert_eq!(definitions.faults, [], "{block}");
        weft_agent::config::Config::resolve(loaded.settings).expect(block);
        for service in &definitions.services {
            let resolved = weft_agent::local::check(&service.definition);
            assert_eq!(resolved, [], "{block}");
        }
    }
}
