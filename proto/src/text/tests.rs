//! Files as people write them.

use serde_json::{Value, json};
use weft_core::catalog::ServiceDefinition;

use super::{Unknown, decode, merge, parse};

#[test]
fn attributes_and_blocks_become_one_value() {
    let text = r#"
        # a comment
        name = "web"   // another
        port = 8080
        ratio = -1.5
        tags = ["a", "b"]
        meta { version = "v1" }
        check { http = "http://127.0.0.1:8080" }
        check { tcp = "127.0.0.1:8080" }
        subsets "v1" { filter = "x" }
        subsets "v2" {}
        config = { "a b" = null, c = true }
        text = <<-EOT
            two
            lines
        EOT
        cost = "$${5}"
    "#;
    assert_eq!(
        parse("web.hcl", text).expect("HCL"),
        json!({
            "name": "web", "port": 8080, "ratio": -1.5, "tags": ["a", "b"],
            "meta": { "version": "v1" },
            "check": [{ "http": "http://127.0.0.1:8080" }, { "tcp": "127.0.0.1:8080" }],
            "subsets": { "v1": { "filter": "x" }, "v2": {} },
            "config": { "a b": null, "c": true },
            "text": "two\nlines\n", "cost": "${5}",
        })
    );
}

#[test]
fn what_stands_in_one_line_is_read_as_consul_reads_it() {
    let together = r#"name = "a = b" port = 1 tags = ["x" , "y"] meta { v = "1" w = 2 } // { c = 1
        check { ttl = "1s" }, check { ttl = "2s", id = -1.5 } sub "a" { } sub "b" { c = { d = 1, e = "\"}" } }
        /* f = 1 g = 2 */ text = <<EOT
one = 1 two = 2
EOT
        last = true"#;
    assert_eq!(
        parse("web.hcl", together).expect("HCL"),
        json!({
            "name": "a = b", "port": 1, "tags": ["x", "y"], "meta": { "v": "1", "w": 2 },
            "check": [{ "ttl": "1s" }, { "ttl": "2s", "id": -1.5 }],
            "sub": { "a": {}, "b": { "c": { "d": 1, "e": "\"}" } } },
            "text": "one = 1 two = 2\n", "last": true,
        })
    );
    for faulty in ["a = 1 b", "a { b = 1", "a = ] b = 1", "a = \"", "<<", "a = <<E", "/*", "a }{ b"]
    {
        assert!(parse("web.hcl", faulty).is_err(), "{faulty}");
    }
    let fault = parse("web.hcl", "a = 1 b = 2\nc = }").expect_err("a value").to_string();
    assert!(fault.contains("line 1 column 7"), "the first that is not HCL's: {fault}");
}

#[test]
fn what_would_have_to_be_evaluated_is_refused_by_name() {
    let end = "; nothing is evaluated here, write the value itself";
    for (text, wanted) in [
        ("a = b", "x: a: b is a text without quotes; write \"b\"".to_owned()),
        ("a { b = [1, f(2)] }", format!("x: a.b[1]: calls the function f{end}")),
        ("a = 1 + 2", format!("x: a: is an operation{end}")),
        ("a = b.c", format!("x: a: is an expression{end}")),
        (
            "a = \"${b}\"",
            format!(
                "x: a: has \"${{…}}\" or \"%{{…}}\" in it (write \"$${{\" for the signs \
                 themselves){end}"
            ),
        ),
    ] {
        assert_eq!(parse("x", text).expect_err(text).to_string(), wanted);
    }
}

#[test]
fn syntax_errors_name_file_line_and_column() {
    let fault = parse("web.hcl", "name = \"web\"\nport = = 1").expect_err("no HCL");
    assert!(fault.to_string().starts_with("web.hcl: line 2 column 8: "), "{fault}");
    let fault = parse("web.json", "{\n\"name\": }").expect_err("no JSON");
    assert_eq!(fault.to_string(), "web.json: line 2 column 9: expected value");
    let fault = parse("x", "a = 1\na = 2").expect_err("twice");
    assert!(fault.to_string().contains('a'), "{fault}");
    let fault = parse("x", "a = 1\na { b = 1 }").expect_err("both");
    assert!(fault.to_string().contains('a'), "{fault}");
}

#[test]
fn the_form_is_told_by_name_or_first_character() {
    for (file, text) in
        [("a.json", "{\"a\":1}"), ("a", " {\"a\":1}"), ("a.hcl", "a = 1"), ("a", "a = 1")]
    {
        assert_eq!(parse(file, text).expect(text), json!({ "a": 1 }), "{file} {text}");
    }
    assert_eq!(parse("a.hcl", "# nothing\n").expect("empty"), json!({}));
    assert_eq!(parse("a.json", "").expect("empty"), json!({}));
}

#[test]
fn nesting_is_bounded() {
    for text in [
        format!("a = {}", "[".repeat(100_000)),
        format!("a = {}1", "-".repeat(100_000)),
        format!("a = {}1", "!".repeat(100_000)),
        "a {".repeat(100_000),
        format!("a = {}", "\"${".repeat(100_000)),
        format!("a = {}1", "(".repeat(100_000)),
    ] {
        parse("deep.hcl", &text).expect_err("too deep");
    }
}

#[test]
fn a_file_decodes_as_a_body_does_and_a_block_may_stand_for_a_list() {
    let text = r#"
        name = "web"
        checks {
            tcp = "127.0.0.1:80"
            interval = "10s"
        }
        connect {
            sidecar_service {
                proxy {
                    upstreams {
                        destination_name = "db"
                        local_bind_port = 9000
                    }
                }
            }
        }
    "#;
    let value = parse("web.hcl", text).expect("HCL");
    let service: ServiceDefinition = decode(&value, Unknown::Refuse).expect("a service");
    assert_eq!(service.checks.len(), 1);
    let sidecar = service.connect.and_then(|connect| connect.sidecar_service).expect("a sidecar");
    assert_eq!(sidecar.proxy.expect("a proxy").upstreams[0].local_bind_port, 9000);
    let value = parse("web.hcl", "name = \"web\"\nprot = 1").expect("HCL");
    let faults = decode::<ServiceDefinition>(&value, Unknown::Refuse).expect_err("a slip");
    assert_eq!(faults[0].to_string(), "prot: is not a field here; did you mean Port?");
}

#[test]
fn later_files_add_and_override() {
    let files: Vec<(String, Value)> = [
        ("a.hcl", "data_dir = \"/a\"\nports { http = 1 }\nservice { name = \"a\" }\nx = [1]"),
        ("b.hcl", "DataDir = \"/b\"\nports { dns = 2 }\nservice { name = \"b\" }\nx = [2]"),
    ]
    .map(|(file, text)| (file.to_owned(), parse(file, text).expect(text)))
    .into();
    assert_eq!(
        merge(files, &["service"]).expect("objects"),
        json!({
            "data_dir": "/b", "ports": { "http": 1, "dns": 2 },
            "service": [{ "name": "a" }, { "name": "b" }], "x": [1, 2],
        })
    );
    let faults = merge(vec![("a.json".into(), json!([]))], &[]).expect_err("a list");
    assert_eq!(faults[0].to_string(), "a.json: must be an object at the top");
}
