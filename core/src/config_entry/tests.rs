//! What each kind of entry accepts, what it makes of it, and what it refuses.

use super::{ConfigEntry, Protocol, UpstreamConfig, UpstreamLimits};

fn normalised(json: &str) -> Result<serde_json::Value, Vec<String>> {
    let entry: ConfigEntry = serde_json::from_str(json).expect(json);
    match entry.normalise() {
        Ok(entry) => Ok(serde_json::to_value(entry).expect("entries have text keys")),
        Err(faults) => Err(faults.iter().map(ToString::to_string).collect()),
    }
}

fn refused(json: &str, wanted: &[&str]) {
    assert_eq!(normalised(json).expect_err(json), wanted, "{json}");
}

#[test]
fn proxy_defaults_are_global_and_their_protocol_is_known() {
    let entry = r#"{"Kind":"proxy-defaults","Name":"global","Config":{"protocol":"HTTP","x":1}}"#;
    assert_eq!(normalised(entry).expect(entry)["Config"]["protocol"], "http");
    refused(
        r#"{"Kind":"proxy-defaults","Name":"web","Config":{"protocol":"htp"}}"#,
        &[
            "Name: must be \"global\"; there is one such entry",
            "Config.protocol: \"htp\" is not a protocol; write tcp, udp, http, http2 or grpc",
        ],
    );
}

#[test]
fn udp_is_for_services_of_the_mesh_and_has_no_connections() {
    refused(
        r#"{"Kind":"service-defaults","Name":"dns","Protocol":"udp","ProxyProtocol":"v2",
            "MutualTLSMode":"permissive","Destination":{"Addresses":["10.0.0.1"],"Port":53},
            "UpstreamConfig":{"Defaults":{"Protocol":"udp"}}}"#,
        &[
            "UpstreamConfig.Defaults.Protocol: must not be udp: the service's own service-defaults \
             says so, for all",
            "Destination: must be left out: udp is spoken with services of the mesh only",
            "ProxyProtocol: must be left out: udp has no connection that a header could begin",
            "MutualTLSMode: must not be permissive: datagrams come over mutual TLS only",
        ],
    );
    refused(
        r#"{"Kind":"ingress-gateway","Name":"edge","Listeners":[
            {"Port":53,"Protocol":"udp","Services":[{"Name":"dns"}]}]}"#,
        &["Listeners[0].Protocol: must not be udp: a gateway takes connections, not datagrams"],
    );
    let entry = r#"{"Kind":"service-defaults","Name":"dns","Protocol":"udp"}"#;
    assert_eq!(normalised(entry).expect(entry)["Protocol"], "udp");
}

#[test]
fn service_defaults_have_bounded_timeouts_and_metadata() {
    let meta = format!("{{\"k\":{:?}}}", "v".repeat(513));
    refused(
        &format!(
            r#"{{"Kind":"service-defaults","Name":"web","LocalRequestTimeoutMs":90000000,
            "Meta":{meta}}}"#
        ),
        &[
            "LocalRequestTimeoutMs: 25h0m0s is longer than the 24h0m0s allowed",
            "Meta.k: has 513 bytes, more than the 512 allowed",
        ],
    );
}

#[test]
fn intentions_are_sorted_by_precedence_and_filled_in() {
    let entry = r#"{"Kind":"service-intentions","Name":"db","Sources":[
        {"Name":"*","Action":"deny","Precedence":1},
        {"Name":"web","Action":"allow"},{"Name":"api","Action":"deny"}]}"#;
    let entry = normalised(entry).expect(entry);
    let sources = entry["Sources"].as_array().expect("a list");
    let told: Vec<String> = sources
        .iter()
        .map(|s| format!("{} {} {} {}", s["Name"], s["Action"], s["Precedence"], s["Type"]))
        .collect();
    assert_eq!(
        told,
        [r#""api" "deny" 9 "consul""#, r#""web" "allow" 9 "consul""#, r#""*" "deny" 8 "consul""#]
    );
}

#[test]
fn intentions_name_each_source_once() {
    refused(
        r#"{"Kind":"service-intentions","Name":"*","Sources":[
            {"Name":"web","Action":"allow"},{"Name":"web","Action":"deny","Type":"other"}]}"#,
        &[
            "Sources[1].Name: web is already given in Sources[0]",
            "Sources[1].Type: must be \"consul\" or left out",
        ],
    );
    refused(
        r#"{"Kind":"service-intentions","Name":"web"}"#,
        &["Sources: must name at least one caller; delete the entry instead"],
    );
}

#[test]
fn resolvers_name_subsets_that_exist() {
    refused(
        r#"{"Kind":"service-resolver","Name":"web","DefaultSubset":"v3",
            "Subsets":{"V_1":{},"v2":{}},"Redirect":{"ServiceSubset":"v4"},
            "ConnectTimeout":"25h"}"#,
        &[
            "DefaultSubset: \"v3\" is not among Subsets",
            "Subsets.V_1: a subset's name stands in server names: write 1 to 63 lower-case \
             letters, digits and '-', with a letter or digit at both ends",
            "Redirect.ServiceSubset: \"v4\" is not among Subsets",
            "ConnectTimeout: 25h0m0s is longer than the 24h0m0s allowed",
        ],
    );
    refused(
        r#"{"Kind":"service-resolver","Name":"web","Redirect":{}}"#,
        &["Redirect: must name a Service, a ServiceSubset or a Datacenter"],
    );
    refused(
        r#"{"Kind":"service-resolver","Name":"web","Redirect":{"Service":"web"}}"#,
        &["Redirect.Service: leads back to the service itself"],
    );
}

#[test]
fn a_timeout_of_zero_is_the_default() {
    let entry = r#"{"Kind":"service-resolver","Name":"web","ConnectTimeout":"0s"}"#;
    assert!(normalised(entry).expect(entry).get("ConnectTimeout").is_none());
}

#[test]
fn weights_add_up_to_100_and_legs_differ() {
    let thirds = r#"{"Kind":"service-splitter","Name":"web","Splits":[
        {"Weight":33.33,"ServiceSubset":"a"},{"Weight":33.33,"ServiceSubset":"b"},
        {"Weight":33.34,"ServiceSubset":"c"}]}"#;
    normalised(thirds).expect(thirds);
    refused(
        r#"{"Kind":"service-splitter","Name":"web","Splits":[
            {"Weight":90},{"Weight":9.99,"Service":"web"}]}"#,
        &[
            "Splits: the weights add up to 99.99, not to 100",
            "Splits[1]: leads to the same place as Splits[0]",
        ],
    );
    refused(
        r#"{"Kind":"service-splitter","Name":"web"}"#,
        &["Splits: the weights add up to 0, not to 100"],
    );
}

#[test]
fn a_route_has_one_path_and_each_condition_one_form() {
    refused(
        r#"{"Kind":"service-router","Name":"web","Routes":[
            {"Match":{"HTTP":{"PathExact":"a","PathPrefix":"/b?"}}},
            {"Match":{"HTTP":{"PathRegex":"(","Methods":["get","GET","a b"]}},
             "Destination":{"PrefixRewrite":"/"}},
            {"Match":{"HTTP":{"PathPrefix":""}},"Destination":{"PrefixRewrite":"/x"}},
            {"Match":{"HTTP":{"Header":[{"Name":"x y"},{"Name":"a","Exact":"1","Prefix":"2"},
                {"Name":"b","Regex":"a)|(b","IgnoreCase":true}],
             "QueryParam":[{"Present":true,"Regex":"x"}]}}}]}"#,
        &[
            "Routes[0].Match.HTTP: write one of PathExact, PathPrefix and PathRegex, not several",
            "Routes[0].Match.HTTP.PathExact: \"a\" must start with '/'",
            "Routes[0].Match.HTTP.PathPrefix: \"/b?\" has a blank, '?' or '#', which no path has",
            "Routes[1].Match.HTTP.PathRegex: \"(\" is not usable: unclosed group",
            "Routes[1].Match.HTTP.Methods[1]: \"GET\" is given twice",
            "Routes[1].Match.HTTP.Methods[2]: \"A B\" must be a word of letters, digits and '-'",
            "Routes[1].Destination.PrefixRewrite: needs a PathExact or PathPrefix to replace",
            "Routes[2].Destination.PrefixRewrite: needs a PathExact or PathPrefix to replace",
            "Routes[3].Match.HTTP.Header[0].Name: \"x y\" must be a word of letters, digits and \
             '-'",
            "Routes[3].Match.HTTP.Header[0]: write exactly one of Present, Exact, Prefix, \
             Suffix, Contains and Regex",
            "Routes[3].Match.HTTP.Header[1]: write exactly one of Present, Exact, Prefix, \
             Suffix, Contains and Regex",
            "Routes[3].Match.HTTP.Header[2].Regex: \"a)|(b\" is not usable: unopened group",
            "Routes[3].Match.HTTP.Header[2].IgnoreCase: goes with Exact, Prefix, Suffix and \
             Contains; in a Regex write (?i)",
            "Routes[3].Match.HTTP.QueryParam[0].Name: must not be empty",
            "Routes[3].Match.HTTP.QueryParam[0]: write exactly one of Present, Exact and Regex",
        ],
    );
}

#[test]
fn a_regex_that_grows_too_large_is_refused() {
    let entry = r#"{"Kind":"service-router","Name":"web","Routes":[
        {"Match":{"HTTP":{"PathRegex":"/(\\w{100}){100}"}}}]}"#;
    let faults = normalised(entry).expect_err("some megabytes of program");
    assert!(faults[0].contains("size limit"), "{faults:?}");
}

#[test]
fn texts_left_empty_are_conditions_left_out() {
    let entry = r#"{"Kind":"service-router","Name":"web","Routes":[{"Match":{"HTTP":
        {"PathExact":"","PathPrefix":"/a","Methods":["put"],"Header":[{"Name":"x","Present":true,
        "Exact":""}]}},"Destination":{"Service":"api","PrefixRewrite":"","RequestTimeout":"0s"}}]}"#;
    let entry = normalised(entry).expect(entry);
    assert_eq!(
        entry["Routes"][0],
        serde_json::json!({
            "Match": { "HTTP": { "PathPrefix": "/a", "Methods": ["PUT"],
                "Header": [{ "Name": "x", "Present": true }] } },
            "Destination": { "Service": "api" },
        })
    );
}

#[test]
fn normalising_twice_changes_nothing() {
    let entry = r#"{"Kind":"service-splitter","Name":"web","Splits":[
        {"Weight":50,"Service":"web"},{"Weight":50,"Service":"api"}]}"#;
    let once: ConfigEntry = serde_json::from_str(entry).expect(entry);
    let once = once.normalise().expect(entry);
    assert_eq!(once.clone().normalise().expect(entry), once);
}

#[test]
fn durations_are_shown_as_clients_read_them_text_or_number() {
    let entry = r#"{"Kind":"service-defaults","Name":"web","UpstreamConfig":{"Defaults":
        {"PassiveHealthCheck":{"Interval":"10s","MaxFailures":5,"BaseEjectionTime":"1m"}}}}"#;
    let shown = normalised(entry).expect(entry);
    let check = &shown["UpstreamConfig"]["Defaults"]["PassiveHealthCheck"];
    assert_eq!(check["Interval"], 10_000_000_000_u64);
    assert_eq!(check["BaseEjectionTime"], 60_000_000_000_u64);
    assert_eq!(normalised(&shown.to_string()).expect("what is shown is taken"), shown);
    let entry = r#"{"Kind":"service-resolver","Name":"web","ConnectTimeout":3000000000}"#;
    assert_eq!(normalised(entry).expect(entry)["ConnectTimeout"], "3s");
}

#[test]
fn what_has_no_effect_is_told_at_each_place() {
    let entry = r#"{"Kind":"service-resolver","Name":"web","Subsets":{"v1":{}},"Failover":{
        "*":{"Datacenters":["dc2"]},
        "v1":{"Targets":[{"Service":"api"},{"Datacenter":"dc2"}],
              "Policy":{"Mode":"order-by-locality"}}}}"#;
    let entry: ConfigEntry = serde_json::from_str(entry).expect(entry);
    let told = |place: &str| format!("{place}: is kept, and has no effect yet");
    let wanted =
        ["Failover.*.Datacenters", "Failover.v1.Targets[1].Datacenter", "Failover.v1.Policy"];
    assert_eq!(entry.normalise().expect("an entry").warnings(), wanted.map(told));
}

#[test]
fn an_upstream_is_called_as_its_registration_says_then_its_override_then_the_defaults() {
    let entry = r#"{"Kind":"service-defaults","Name":"shop","UpstreamConfig":{
        "Defaults":{"ConnectTimeoutMs":1000,"Limits":{"MaxConnections":7,"MaxPendingRequests":8}},
        "Overrides":[{"Name":"web","Protocol":"http2","Limits":{"MaxConnections":9}}]}}"#;
    let entry: ConfigEntry = serde_json::from_str(entry).expect(entry);
    let ConfigEntry::ServiceDefaults(defaults) = entry else { panic!("another kind") };
    let configs = defaults.upstream_config.expect("it has one");
    let web = configs.of(&"web".parse().expect("a name"));
    assert_eq!((web.connect_timeout_ms, web.protocol), (1_000, Some(Protocol::Http2)));
    // A block replaces the whole block.
    let limits = UpstreamLimits { max_connections: Some(9), ..UpstreamLimits::default() };
    assert_eq!(web.limits, Some(limits));
    let other = configs.of(&"db".parse().expect("a name"));
    assert_eq!(other.limits.and_then(|limits| limits.max_pending_requests), Some(8));

    let read = |text: &str| UpstreamConfig::read(&serde_json::from_str(text).expect(text));
    let own = read(
        r#"{"connect_timeout_ms":50,"unknown":[1],"limits":{"max_concurrent_requests":3},
            "passive_health_check":{"interval":"5s","enforcing_consecutive_5xx":10}}"#,
    );
    let own = own.expect("settings").over(web);
    assert_eq!((own.connect_timeout_ms, own.protocol), (50, Some(Protocol::Http2)));
    assert_eq!(
        own.limits.map(|it| (it.max_connections, it.max_concurrent_requests)),
        Some((None, Some(3)))
    );
    let check = own.passive_health_check.expect("a block");
    assert_eq!(check.enforcing_consecutive_5xx, Some(10));
    assert_eq!(check.interval, crate::time::Span(std::time::Duration::from_secs(5)));
    let wrong = read(r#"{"passive_health_check":{"max_ejection_percent":101}}"#);
    let reason = "Config.PassiveHealthCheck.MaxEjectionPercent: must be a percentage, 0 to 100";
    assert_eq!(wrong, Err(reason.to_owned()));
    let wrong = read(r#"{"limits":{"max_connections":"many"}}"#).expect_err("no number");
    assert!(wrong.starts_with("Config: ") && wrong.contains("many"), "{wrong}");
}
