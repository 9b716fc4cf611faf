//! The decoders on whatever comes: they never panic, never run long, and spelling never matters.

use proptest::prelude::*;
use serde_json::{Map, Value, json};
use weft_core::catalog::{CheckDefinition, ServiceDefinition};
use weft_core::name::Datacenter;
use weft_proto::json::registration::CatalogRegister;
use weft_proto::json::{self, Unknown, config_entry, registration};
use weft_proto::text;

/// Bodies with every sort of field, which the properties spell, cut and mix up.
fn samples() -> Vec<Value> {
    vec![
        json!({"Name":"web","ID":"web-1","Port":80,"Tags":["a"],"Meta":{"a_b":"x"},
            "Weights":{"Passing":1,"Warning":1},"Checks":[{"HTTP":"http://x","Interval":"10s"}],
            "Connect":{"SidecarService":{"Proxy":{"Config":{"local_X":1},
                "Upstreams":[{"DestinationName":"db","LocalBindPort":9000}]}}}}),
        json!({"Kind":"service-splitter","Name":"web","Splits":[{"Weight":99.5,
            "ServiceSubset":"v1"},{"Weight":0.5,"Service":"api"}],"Meta":{"Weight":"x"}}),
        json!({"Kind":"service-router","Name":"web","Routes":[{"Match":{"HTTP":{"PathPrefix":"/a",
            "CaseInsensitive":true,"Header":[{"Name":"x","Regex":"a+","Invert":true}],
            "QueryParam":[{"Name":"q","Present":true}],"Methods":["GET"]}},
            "Destination":{"Service":"api","PrefixRewrite":"/","RequestTimeout":"5s"}}]}),
        json!({"Kind":"service-resolver","Name":"web","DefaultSubset":"v1","Subsets":{"v1":{
            "Filter":"Service.Meta.version == v1","OnlyPassing":true}},"ConnectTimeout":"1s"}),
        json!({"Kind":"service-intentions","Name":"*","Sources":[{"Name":"web","Action":"allow"},
            {"Name":"*","Action":"deny","Description":"nobody else"}]}),
        json!({"Kind":"proxy-defaults","Name":"global","Config":{"protocol":"http","Meta":{}}}),
        json!({"Kind":"service-defaults","Name":"web","Protocol":"http2",
            "MaxInboundConnections":5,"LocalConnectTimeoutMs":100}),
    ]
}

fn sample() -> impl Strategy<Value = Value> {
    prop::sample::select(samples())
}

fn entry_sample() -> impl Strategy<Value = Value> {
    let is_entry = |sample: &Value| sample.get("Kind").is_some();
    prop::sample::select(samples().into_iter().filter(is_entry).collect::<Vec<_>>())
}

/// Spells a field in another way: the case of each letter and an underscore before it by a bit.
fn respelled(field: &str, bits: u64) -> String {
    let mut text = String::new();
    for (at, c) in field.chars().enumerate() {
        let bits = bits.rotate_right(2 * at as u32);
        if at > 0 && bits & 1 == 1 {
            text.push('_');
        }
        text.push(if bits & 2 == 2 { c.to_ascii_uppercase() } else { c.to_ascii_lowercase() });
    }
    text
}

/// Spells every field in another way, but not the keys of free maps.
fn respell(value: &Value, bits: u64) -> Value {
    const FREE: [&str; 4] = ["Config", "Header", "Meta", "Subsets"];
    match value {
        Value::Array(list) => list.iter().map(|item| respell(item, bits)).collect(),
        Value::Object(object) => {
            let field = |(key, value): (&String, &Value)| {
                let value = match FREE.contains(&key.as_str()) && value.is_object() {
                    true => value.clone(),
                    false => respell(value, bits.rotate_right(7)),
                };
                (respelled(key, bits), value)
            };
            Value::Object(object.iter().map(field).collect::<Map<String, Value>>())
        }
        other => other.clone(),
    }
}

/// Puts another value in the place of one, counted through the whole.
fn replaced(value: &Value, at: &mut usize, by: &Value) -> Value {
    if *at == 0 {
        *at = usize::MAX;
        return by.clone();
    }
    *at -= 1;
    match value {
        Value::Array(list) => list.iter().map(|item| replaced(item, at, by)).collect(),
        Value::Object(object) => Value::Object(
            object.iter().map(|(key, value)| (key.clone(), replaced(value, at, by))).collect(),
        ),
        other => other.clone(),
    }
}

fn any_value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        "\\PC{0,8}".prop_map(Value::from),
    ];
    leaf.prop_recursive(3, 16, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::btree_map("[A-Za-z_]{0,8}", inner, 0..4)
                .prop_map(|entries| Value::Object(entries.into_iter().collect())),
        ]
    })
}

/// Decodes as everything; what matters is that it comes back.
fn decode_all(body: &[u8]) {
    let _ = config_entry::decode(body);
    let own: Datacenter = "dc1".parse().expect("a datacenter");
    let _ = registration::decode_register(body).and_then(|it| it.registration(&own, None));
    let _ = registration::decode_deregister(body).and_then(|it| it.deregistration(&own));
    for unknown in [Unknown::Ignore, Unknown::Refuse] {
        for faults in [
            json::from_slice::<ServiceDefinition>(body, unknown).err(),
            json::from_slice::<CheckDefinition>(body, unknown).err(),
            json::from_slice::<CatalogRegister>(body, unknown).err(),
        ] {
            let faults = faults.unwrap_or_else(|| vec![text::Fault::new("", "none")]);
            assert!(!faults.is_empty(), "an error without a fault");
        }
    }
}

proptest! {
    #[test]
    fn bytes_never_make_a_decoder_panic(bytes in prop::collection::vec(any::<u8>(), 0..256)) {
        decode_all(&bytes);
        let text = String::from_utf8_lossy(&bytes);
        let _ = text::parse("x.hcl", &text);
        let _ = text::parse("x", &text);
    }

    #[test]
    fn json_never_makes_a_decoder_panic(value in any_value()) {
        decode_all(value.to_string().as_bytes());
    }

    #[test]
    fn a_wrong_value_anywhere_is_a_fault_or_harmless(
        sample in sample(),
        at in 0usize..40,
        by in any_value(),
    ) {
        decode_all(replaced(&sample, &mut at.clone(), &by).to_string().as_bytes());
    }

    #[test]
    fn words_of_hcl_never_make_the_parser_panic(words in prop::collection::vec(
        prop::sample::select(vec![
            "a", "b", "=", "{", "}", "[", "]", "\"", "\n", ",", "1", "-", "${", "%{", "<<EOT\n",
            "EOT\n", "(", ")", "?", ":", ".", "*", "for", "#", "/*", "\\", "true", "\"x\"", "!",
        ]),
        0..40,
    )) {
        let _ = text::parse("x.hcl", &words.join(" "));
        let _ = text::parse("x.hcl", &words.concat());
    }

    #[test]
    fn spelling_never_matters(sample in sample(), bits in any::<u64>()) {
        let other = respell(&sample, bits);
        let (plain, other) = (sample.to_string(), other.to_string());
        let (plain, other) = (plain.as_bytes(), other.as_bytes());
        if sample.get("Kind").is_some() {
            let decoded = config_entry::decode(plain).expect("a sample");
            prop_assert_eq!(Ok(decoded), config_entry::decode(other));
        } else {
            let decoded: ServiceDefinition =
                json::from_slice(plain, Unknown::Refuse).expect("a sample");
            prop_assert_eq!(Ok(decoded), json::from_slice(other, Unknown::Refuse));
        }
    }

    #[test]
    fn an_entry_that_is_read_out_can_be_written_back(sample in entry_sample()) {
        let entry = config_entry::decode(sample.to_string().as_bytes()).expect("a sample");
        let shown = serde_json::to_vec(&entry).expect("JSON");
        prop_assert_eq!(Ok(entry), config_entry::decode(&shown));
    }
}

#[test]
fn a_body_full_of_faults_is_answered_quickly_with_a_bounded_list() {
    let check = json!({"Interval":"soon","Prot":1,"Header":{"a":[1]},"TTL":{}});
    let body = json!({"Name":"web","Checks":vec![check; 8_000]}).to_string();
    let faults = json::from_slice::<ServiceDefinition>(body.as_bytes(), Unknown::Refuse)
        .expect_err("thousands of faults");
    assert_eq!(faults.len(), 32);
    let check = json!({"CheckID":"c","Namespace":"team"});
    let body = json!({"Node":"n","Checks":vec![check; 8_000]}).to_string();
    let faults = registration::decode_register(body.as_bytes()).expect_err("thousands of faults");
    assert_eq!(faults.len(), 32);
}
