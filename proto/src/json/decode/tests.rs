//! The decoder against records of the mesh.

use serde::Deserialize;
use std::collections::BTreeMap;
use weft_core::catalog::{CheckDefinition, ServiceDefinition};
use weft_core::config_entry::{IntentionSource, ServiceRouter, ServiceSplitter};
use weft_core::time::Span;

use crate::json::{Unknown, from_slice};

fn faults<T: serde::de::DeserializeOwned>(text: &str) -> Vec<String> {
    match from_slice::<T>(text.as_bytes(), Unknown::Refuse) {
        Ok(_) => Vec::new(),
        Err(faults) => faults.iter().map(ToString::to_string).collect(),
    }
}

#[test]
fn every_spelling_of_a_field_is_the_same_field() {
    for text in [
        r#"{"ServiceID":"web-1","HTTP":"http://x","TLSSkipVerify":true,"Interval":"10s"}"#,
        r#"{"service_id":"web-1","http":"http://x","tls_skip_verify":true,"interval":"10s"}"#,
        r#"{"serviceid":"web-1","Http":"http://x","TlsSkipVerify":true,"INTERVAL":10000000000}"#,
    ] {
        let check: CheckDefinition = from_slice(text.as_bytes(), Unknown::Refuse).expect(text);
        assert_eq!(check.service_id, "web-1");
        assert_eq!(check.http, "http://x");
        assert!(check.tls_skip_verify);
        assert_eq!(check.interval, Some(Span::seconds(10)));
    }
}

#[test]
fn spelling_is_free_at_every_depth_but_free_maps_keep_their_keys() {
    let text = r#"{"name":"web","port":80,"meta":{"a_b":"1","aB":"2"},
        "connect":{"sidecar_service":{"proxy":{"config":{"local_Timeout":{"X_y":1}},
            "upstreams":[{"destination_name":"db","local_bind_port":9000}]}}},
        "check":{"header":{"x_Y":["1"]}},"checks":null,"tags":null}"#;
    let service: ServiceDefinition = from_slice(text.as_bytes(), Unknown::Refuse).expect(text);
    assert_eq!(service.meta.keys().collect::<Vec<_>>(), ["aB", "a_b"]);
    let sidecar = service.connect.and_then(|c| c.sidecar_service).expect("a sidecar");
    let proxy = sidecar.proxy.expect("a proxy");
    assert_eq!(proxy.config["local_Timeout"]["X_y"], 1);
    assert_eq!(proxy.upstreams[0].local_bind_port, 9000);
}

#[test]
fn an_alias_is_a_spelling_too() {
    let text = br#"{"service":"web","id":"web-1"}"#;
    let service: ServiceDefinition = from_slice(text, Unknown::Refuse).expect("a service");
    assert_eq!((service.name.as_str(), service.id.as_str()), ("web", "web-1"));
}

#[test]
fn all_faults_are_reported_at_once_with_their_places() {
    let text = r#"{"Name":7,"Port":"80","Weights":{"Passing":70000},
        "Connect":{"SidecarService":{"Prot":1,"Check":{"Interval":"soon"}}},
        "Checks":[{"TTL":"5s"},{"Timeout":-1},{"Header":{"a b":"x"}},4]}"#;
    assert_eq!(
        faults::<ServiceDefinition>(text),
        [
            "Checks[1].Timeout: a duration must not be negative",
            "Checks[2].Header[\"a b\"]: is the text \"x\", but must be a list",
            "Checks[3]: is the number 4, but must be an object",
            "Connect.SidecarService.Prot: is not a field here; did you mean Port?",
            "Connect.SidecarService.Check.Interval: \"soon\" is not a duration; write a number \
             with a unit, such as \"10s\", \"1m30s\", \"500ms\"",
            "Name: is the number 7, but must be a text in quotes",
            "Port: is the text \"80\", but must be a whole number from 0 to 65535",
            "Weights.Passing: is the number 70000, but must be a whole number from 0 to 65535",
        ]
    );
}

#[test]
fn missing_fields_are_all_named() {
    assert_eq!(
        faults::<ServiceSplitter>(r#"{"Splits":[{},{"Weight":50,"Service":"we b"}]}"#),
        [
            "Splits[0].Weight: is missing",
            "Splits[1].Service: service name \"we b\" has ' ', but only letters, digits, '.', '_' \
             and '-' after a letter or digit are allowed",
            "Name: is missing",
        ]
    );
}

#[test]
fn a_field_under_two_spellings_is_a_fault() {
    assert_eq!(
        faults::<ServiceRouter>(r#"{"Name":"web","name":"api"}"#),
        ["Name: is given twice, as \"Name\" and as \"name\""]
    );
}

#[test]
fn a_wrong_word_is_answered_with_the_right_ones() {
    assert_eq!(
        faults::<IntentionSource>(r#"{"Name":"web","Action":"alow"}"#),
        ["Action: is \"alow\", but must be one of \"allow\", \"deny\"; did you mean \"allow\"?"]
    );
    assert!(faults::<IntentionSource>(r#"{"Name":"web","Action":"Allow"}"#).is_empty());
}

#[test]
fn unknown_fields_may_be_passed_over() {
    let text = br#"{"Name":"web","Namespace":"default","Locality":{"Region":"x"}}"#;
    assert!(from_slice::<ServiceDefinition>(text, Unknown::Ignore).is_ok());
}

#[test]
fn a_body_of_another_shape_is_one_fault() {
    for (text, wanted) in [
        ("[]", "is a list, but must be an object"),
        ("[\"web\"]", "is a list, but must be an object"),
        ("\"web\"", "is the text \"web\", but must be an object"),
        ("null", "is null, but must be an object"),
    ] {
        assert_eq!(faults::<ServiceDefinition>(text), [wanted], "{text}");
    }
}

#[test]
fn the_number_of_faults_is_bounded() {
    let item = r#"{"Name":1,"Port":"x"},"#.repeat(5_000);
    let text = format!("{{\"Checks\":[{}{{}}]}}", item);
    assert_eq!(faults::<ServiceDefinition>(&text).len(), 32);
}

#[test]
fn opaque_settings_may_be_as_deep_as_json_goes() {
    let deep = format!("{}1{}", "[".repeat(120), "]".repeat(120));
    let text = format!("{{\"Name\":\"web\",\"Proxy\":{{\"Config\":{{\"x\":{deep}}}}}}}");
    assert_eq!(faults::<ServiceDefinition>(&text), Vec::<String>::new());
    let text = text.replace("web", "web\",\"Port\":\"x");
    assert_eq!(faults::<ServiceDefinition>(&text).len(), 1);
}

#[test]
fn a_stand_in_that_is_no_use_gives_up_what_is_around_it() {
    #[derive(Debug, Deserialize)]
    #[serde(try_from = "String")]
    struct Picky;
    impl TryFrom<String> for Picky {
        type Error = String;
        fn try_from(text: String) -> Result<Self, String> {
            if text == "yes" { Ok(Self) } else { Err(format!("{text:?} is not yes")) }
        }
    }
    #[derive(Debug, Deserialize)]
    struct Inner {
        _picky: Picky,
    }
    #[derive(Debug, Deserialize)]
    struct Outer {
        _inner: BTreeMap<String, Inner>,
        _number: u8,
    }
    assert_eq!(
        faults::<Outer>(r#"{"inner":{"a":{"picky":"no"},"b":{"picky":"yes"}},"number":"x"}"#),
        [
            "_inner.a._picky: \"no\" is not yes",
            "_number: is the text \"x\", but must be a whole number from 0 to 255",
        ]
    );
}
