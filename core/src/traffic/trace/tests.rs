//! Headers of traces, right and wrong ones, and what the next hop gets.

use super::*;
use crate::config_entry::Weight;

struct Request(Vec<(&'static str, &'static str)>);

impl RequestView for Request {
    fn method(&self) -> &str {
        "GET"
    }

    fn path(&self) -> &[u8] {
        b"/"
    }

    fn query(&self) -> Option<&[u8]> {
        None
    }

    fn has_disguised(&self, _name: &str) -> bool {
        false
    }

    fn each_header(&self, name: &str, visit: &mut dyn FnMut(&[u8])) {
        self.0.iter().filter(|(it, _)| *it == name).for_each(|(_, value)| visit(value.as_bytes()));
    }
}

const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
const PARENT: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

fn of(headers: &[(&'static str, &'static str)], config: &Tracing) -> TraceContext {
    TraceContext::of(&Request(headers.to_vec()), config, &mut Mix64::new(7))
}

fn written(context: &TraceContext) -> Vec<(&'static str, Option<String>)> {
    let mut found = Vec::new();
    context.each_header(|name, value| found.push((name, value)));
    found
}

fn share(hundredths: u32) -> Tracing {
    let sampling_percent = Weight::from_hundredths(hundredths);
    Tracing { sampling_percent, ..Tracing::default() }
}

#[test]
fn a_trace_goes_on_in_the_headers_that_it_came_with() {
    let config = share(0);
    let context = of(&[("traceparent", PARENT)], &config);
    assert_eq!(format!("{:032x}", context.trace), TRACE);
    assert_eq!(context.parent, Some(0xb7ad_6b71_6920_3331));
    assert!(context.is_sampled, "as who began it decided");
    let span = format!("{:016x}", context.span);
    let parent = format!("00-{TRACE}-{span}-01");
    assert_eq!(written(&context), [("traceparent", Some(parent))], "tracestate is not touched");

    let short = "463ac35c9f6413ad-a2fb4a1d1a96d312-0-0020000000000001";
    let context = of(&[("b3", short)], &share(10_000));
    assert_eq!(context.trace, 0x463a_c35c_9f64_13ad);
    assert!(!context.is_sampled);
    let span = format!("{:016x}", context.span);
    let b3 = format!("463ac35c9f6413ad-{span}-0-a2fb4a1d1a96d312");
    let w3c = format!("00-0000000000000000463ac35c9f6413ad-{span}-00");
    let state = ("tracestate", None);
    assert_eq!(written(&context), [("b3", Some(b3)), ("traceparent", Some(w3c)), state]);
}

#[test]
fn several_headers_of_b3_are_one_place() {
    let config = Tracing { propagation: vec![TraceHeaders::B3Multi], ..share(0) };
    let context = of(
        &[("x-b3-traceid", TRACE), ("x-b3-spanid", "00F067AA0BA902B7"), ("x-b3-flags", "1")],
        &config,
    );
    assert!(context.is_sampled, "debug means sampled");
    let span = format!("{:016x}", context.span);
    let expected = [
        ("x-b3-traceid", Some(TRACE.to_owned())),
        ("x-b3-spanid", Some(span)),
        ("x-b3-parentspanid", Some("00f067aa0ba902b7".to_owned())),
        ("x-b3-sampled", Some("1".to_owned())),
    ];
    assert_eq!(written(&context), expected);
}

#[test]
fn w3c_comes_first_and_both_are_carried_on() {
    let b3 = "80f198ee56343ba864fe8b2a57d3eff7-e457b5a2e4d86bd1-0";
    let context = of(&[("b3", b3), ("traceparent", PARENT)], &share(0));
    assert_eq!(format!("{:032x}", context.trace), TRACE);
    let names: Vec<_> = written(&context).into_iter().map(|(name, _)| name).collect();
    assert_eq!(names, ["traceparent", "b3"]);
    assert!(context.is_sampled);
}

#[test]
fn what_is_written_wrong_begins_a_new_trace() {
    for header in [
        "",
        "00",
        "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331",
        "00-0AF7651916CD43DD8448EB211C80319C-b7ad6b7169203331-01",
        "00-00000000000000000000000000000000-b7ad6b7169203331-01",
        "00-0af7651916cd43dd8448eb211c80319c-0000000000000000-01",
        "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-more",
        "ff-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
        "00-0af7651916cd43dd8448eb211c80319-b7ad6b7169203331-01",
        "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-0g",
    ] {
        let context = of(&[("traceparent", header)], &share(10_000));
        assert_eq!(context.parent, None, "{header}");
        assert_ne!(format!("{:032x}", context.trace), TRACE, "{header}");
        assert_eq!(written(&context)[1], ("tracestate", None), "{header}");
    }
    let twice = of(&[("traceparent", PARENT), ("traceparent", PARENT)], &share(0));
    assert_eq!(twice.parent, None);
    let later = "01-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-of-later-versions";
    assert!(of(&[("traceparent", later)], &share(0)).parent.is_some());
    for b3 in ["2", "463ac35c9f6413ad", "463ac35c9f6413ad-a2fb4a1d1a96d312-x", "1-2-3-4-5"] {
        assert_eq!(of(&[("b3", b3)], &share(0)).parent, None, "{b3}");
    }
}

#[test]
fn a_decision_without_a_trace_is_kept() {
    assert!(of(&[("b3", "1")], &share(0)).is_sampled);
    assert!(!of(&[("b3", "0")], &share(10_000)).is_sampled);
    assert!(!of(&[("x-b3-sampled", "false")], &share(10_000)).is_sampled);
}

#[test]
fn of_new_traces_the_share_is_sampled_whoever_asks() {
    let mut random = Mix64::new(1);
    let (nobody, some, all) = (share(0), share(250), share(10_000));
    let request = Request(Vec::new());
    let mut sampled = 0;
    for _ in 0..100_000 {
        assert!(!TraceContext::of(&request, &nobody, &mut random).is_sampled);
        assert!(TraceContext::of(&request, &all, &mut random).is_sampled);
        let context = TraceContext::of(&request, &some, &mut random);
        assert_eq!(context.is_sampled, is_chosen(context.trace, &some));
        sampled += u32::from(context.is_sampled);
    }
    assert!((2_200..2_800).contains(&sampled), "{sampled} of 100,000 are not about 2.5 percent");
}
