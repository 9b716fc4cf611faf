//! What scanners of TLS that nobody here wrote find at each door with TLS: sslyze and testssl.sh.

use std::fs;
use std::path::Path;
use std::thread;

use serde_json::Value;
use weft_tests::tools;

use super::{Estate, Face};
use crate::peers::Papers;

/// What testssl.sh says of itself and is no flaw of the door: it came with no certificate, with an
/// OpenSSL without GOST, or does not know what is spoken inside.
const OF_ITSELF: [&str; 4] = ["engine_problem", "optimal_proto", "scanProblem", "service"];

/// Protocols, and each flaw but BREACH, which asks for a page over HTTP.
const SECTIONS: [&str; 16] = [
    "-p", "-H", "-I", "-T", "-BB", "-R", "-C", "-O", "-Z", "-W", "-A", "-L", "-F", "-J", "-D", "-4",
];

#[test]
fn scanners_find_nothing_at_any_door_with_tls() {
    let test = "scanners_find_nothing_at_any_door_with_tls";
    let has_sslyze = tools::have_module(test, "sslyze");
    let has_testssl = tools::have(test, &["testssl", "openssl"]);
    if !has_sslyze && !has_testssl {
        return;
    }
    let estate = Estate::start();
    let papers = estate.papers_of("shop");
    let mut doors = Vec::new();
    // The two sidecars are one program with one configuration; the second is not asked.
    for (process, _, rows) in estate.rows().into_iter().filter(|row| row.0 != "shop's sidecar") {
        for (port, face) in rows {
            match face {
                Face::Api => doors.push((process, port, face, &estate.api)),
                Face::Members | Face::Services => doors.push((process, port, face, &papers)),
                Face::Dns | Face::Local => {}
            }
        }
    }
    assert_eq!(doors.len(), 4, "{doors:?}");
    let folder = estate.cluster.folder.path();
    let scan = |process: &str, port, face, papers: &Papers| {
        let mut found = Vec::new();
        if has_sslyze {
            found.extend(sslyze(folder, port, papers, face));
        }
        if has_testssl {
            found.extend(testssl(folder, port));
        }
        found.into_iter().map(|what| format!("{process} ({face:?}): {what}")).collect::<Vec<_>>()
    };
    let findings: Vec<String> = thread::scope(|scope| {
        let each = doors.iter().map(|&(process, port, face, papers)| {
            scope.spawn(move || scan(process, port, face, papers))
        });
        let scans: Vec<_> = each.collect();
        scans.into_iter().flat_map(|scan| scan.join().expect("it was scanned")).collect()
    });
    tools::tell(&format!("{test}: {} doors, {} findings", doors.len(), findings.len()));
    assert!(findings.is_empty(), "{findings:#?}");
}

fn sslyze(folder: &Path, port: u16, papers: &Papers, face: Face) -> Vec<String> {
    let at = |end: &str| folder.join(format!("sslyze-{port}.{end}")).to_string_lossy().into_owned();
    fs::write(at("pem"), &papers.chain_pem).expect("written");
    fs::write(at("key"), &papers.key_pem).expect("written");
    let (json, cert, key) = (format!("--json_out={}", at("json")), at("pem"), at("key"));
    let target = format!("127.0.0.1:{port}");
    let args = ["-m", "sslyze", "--sslv3", "--tlsv1", "--tlsv1_1", "--tlsv1_2", "--tlsv1_3"];
    let more =
        ["--heartbleed", "--openssl_ccs", "--reneg", "--compression", "--early_data", "--robot"];
    let own = ["--cert", &cert, "--key", &key, &json, &target];
    let ran = tools::run("python3", &[&args[..], &more, &own].concat());
    let text = fs::read_to_string(at("json"));
    let text = text.unwrap_or_else(|error| panic!("sslyze wrote nothing ({error}): {ran:?}"));
    let result: Value = serde_json::from_str(&text).expect("JSON");
    let scan = &result["server_scan_results"][0]["scan_result"];
    let result = |what: &str| &scan[what]["result"];
    let mut found = Vec::new();
    // Programs of operators may be older than those of the mesh. With a certificate of its own it
    // cannot ask for SSL 2.0, which testssl.sh does.
    let old = ["ssl_3_0", "tls_1_0", "tls_1_1", "tls_1_2"];
    for version in &old[..if face == Face::Api { 3 } else { 4 }] {
        let accepted = &result(&format!("{version}_cipher_suites"))["accepted_cipher_suites"];
        if accepted.as_array().is_none_or(|suites| !suites.is_empty()) {
            let how = &scan[format!("{version}_cipher_suites")];
            found.push(format!("sslyze: {version} is spoken: {how}"));
        }
    }
    let suites = &result("tls_1_2_cipher_suites")["accepted_cipher_suites"];
    for suite in suites.as_array().into_iter().flatten() {
        let name = suite["cipher_suite"]["name"].as_str().unwrap_or_default();
        if !name.starts_with("TLS_ECDHE_") || name.contains("_CBC_") {
            found.push(format!("sslyze: without forward secrecy, or with CBC: {suite}"));
        }
    }
    let suites = &result("tls_1_3_cipher_suites")["accepted_cipher_suites"];
    if suites.as_array().is_none_or(Vec::is_empty) {
        found.push(format!("sslyze: TLS 1.3 is not spoken: {scan}"));
    }
    for (what, field) in [
        ("heartbleed", "is_vulnerable_to_heartbleed"),
        ("openssl_ccs_injection", "is_vulnerable_to_ccs_injection"),
        ("session_renegotiation", "is_vulnerable_to_client_renegotiation_dos"),
        ("tls_compression", "supports_compression"),
        ("tls_1_3_early_data", "supports_early_data"),
    ] {
        if result(what)[field] != false {
            found.push(format!("sslyze: {what}: {}", scan[what]));
        }
    }
    let robot = result("robot")["robot_result"].as_str().unwrap_or_default();
    if !robot.starts_with("NOT_VULNERABLE") {
        found.push(format!("sslyze: robot: {}", scan["robot"]));
    }
    found
}

fn testssl(folder: &Path, port: u16) -> Vec<String> {
    let json = folder.join(format!("testssl-{port}.json")).to_string_lossy().into_owned();
    let target = format!("127.0.0.1:{port}");
    let args = ["--quiet", "--color", "0", "--warnings", "off", "--nodns", "none"];
    let ran =
        tools::run("testssl", &[&args[..], &SECTIONS, &["--jsonfile", &json, &target]].concat());
    let text = fs::read_to_string(&json);
    let text = text.unwrap_or_else(|error| panic!("testssl wrote nothing ({error}): {ran:?}"));
    let all: Vec<Value> = serde_json::from_str(&text).unwrap_or_else(|_| panic!("{text}"));
    for looked_at in ["SSLv2", "TLS1_3", "heartbleed", "ROBOT", "RC4"] {
        assert!(all.iter().any(|one| one["id"] == looked_at), "{looked_at} is missing: {ran:?}");
    }
    let is_flaw = |one: &&Value| {
        let severity = one["severity"].as_str().unwrap_or_default();
        // On a busy machine it now and then takes a slow answer of a door that lets callers without
        // a certificate in for a demand for one, and leaves renegotiation out; sslyze asks for that.
        let left_out = one["id"] == "secure_client_renego" && severity == "WARN";
        let is_of_itself = left_out || OF_ITSELF.iter().any(|id| one["id"] == *id);
        !matches!(severity, "OK" | "INFO" | "DEBUG") && !is_of_itself
    };
    all.iter().filter(is_flaw).map(|one| format!("testssl: {one}")).collect()
}
