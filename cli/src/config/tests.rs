//! Files as people write them, and what is wrong with them.

use serde::{Deserialize, Serialize};

use super::*;

#[derive(Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
struct Settings {
    data_dir: Option<String>,
    http: Http,
    services: Vec<Service>,
}

#[derive(Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
struct Http {
    addr: Option<String>,
}

#[derive(Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
struct Service {
    name: String,
}

const FORM: Form = Form { lists: &["services"], aliases: &[("service", "services")], apart: &[] };

fn folder(files: &[(&str, &str)]) -> tempfile::TempDir {
    let folder = tempfile::tempdir().expect("a folder");
    for (name, content) in files {
        std::fs::write(folder.path().join(name), content).expect("written");
    }
    folder
}

fn faults(paths: &[PathBuf]) -> Vec<String> {
    match load::<Settings>(paths, FORM) {
        Err(Failure::Config(faults)) => faults.iter().map(Fault::to_string).collect(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn the_files_of_a_folder_are_merged_in_lexical_order() {
    let folder = folder(&[
        ("20.json", r#"{ "DataDir": "/b", "services": [{ "name": "api" }] }"#),
        ("10.hcl", "data_dir = \"/a\"\nhttp { addr = \"x\" }\nservice { name = \"web\" }\n"),
        ("30.txt", "not read"),
        ("40.hcl", "log { level = \"debug\" }\n"),
    ]);
    let loaded = load::<Settings>(&[folder.path().to_owned()], FORM).expect("good files");
    let name = |name: &str| Service { name: name.into() };
    assert_eq!(
        loaded.settings,
        Settings {
            data_dir: Some("/b".into()),
            http: Http { addr: Some("x".into()) },
            services: vec![name("web"), name("api")],
        }
    );
    assert_eq!(loaded.log.level.as_deref(), Some("debug"));
}

#[test]
fn all_faults_of_all_files_are_named_at_once() {
    let folder = folder(&[
        ("a.hcl", "data_dri = \"/a\"\nhttp { adr = \"x\" }\n"),
        ("b.json", r#"{ "data_dir": 1 }"#),
        ("c.json", "{"),
        ("d.json", "[]"),
        ("e.hcl", "log {\n level = \"info\"\n colour = true\n}\n"),
    ]);
    let absent = folder.path().join("absent.hcl");
    let found = faults(&[folder.path().to_owned(), absent]).join("\n");
    for named in [
        "a.hcl: data_dri: ",
        "data_dir",
        "a.hcl: http.adr: ",
        "b.json: data_dir: ",
        "c.json: ",
        "d.json: must be an object",
        "e.hcl: log: colour",
        "absent.hcl: cannot be read",
    ] {
        assert!(found.contains(named), "{named:?} is not in:\n{found}");
    }
}

#[test]
fn a_fault_found_after_merging_names_the_flag_or_the_last_file_that_set_the_field() {
    let folder = folder(&[
        ("a.hcl", "data_dir = \"/a\"\nhttp { addr = \"x\" }\nservice { name = \"\" }\n"),
        ("b.hcl", "HTTP { addr = \"y\" }\n"),
    ]);
    let loaded = load::<Settings>(&[folder.path().to_owned()], FORM).expect("good files");
    let (mut settings, mut origins) = (loaded.settings, loaded.origins);
    origins.set(("--data-dir", "data_dir"), Some("/c".to_owned()), &mut settings.data_dir);
    assert_eq!(settings.data_dir.as_deref(), Some("/c"));
    let named = origins.name(
        ["data_dir", "http.addr", "services[0].Name", "other"]
            .map(|field| Fault::new(field, "is wrong"))
            .to_vec(),
    );
    let named: Vec<String> = named.iter().map(Fault::to_string).collect();
    assert_eq!(named[0], "--data-dir: is wrong");
    assert!(named[1].ends_with("b.hcl: http.addr: is wrong"), "{}", named[1]);
    assert!(named[2].ends_with("a.hcl: services[0].Name: is wrong"), "{}", named[2]);
    assert_eq!(named[3], "other: is wrong");
}
