//! Pods and what becomes of them.

use serde_json::{Value, json};
use weft_proto::text::Fault;

use super::{
    Capture, Foreign, Injected, SIDECAR, Settings, SidecarKind, Switch, Verdict, Why, inject,
};

fn pod() -> Value {
    json!({
        "metadata": { "labels": { "app": "web", "version": "v2" } },
        "spec": { "containers": [
            { "name": "app", "image": "web:1", "ports": [{ "name": "http", "containerPort": 8080 }] },
        ] },
    })
}

fn annotated(annotations: Value) -> Value {
    let mut pod = pod();
    pod["metadata"]["annotations"] = annotations;
    pod
}

fn injected(pod: &Value, settings: &Settings) -> (Value, Injected) {
    let verdict = inject(pod, Switch::Enabled, settings).expect("it is right");
    let Verdict::Injected(injected) = verdict else { panic!("left alone: {verdict:?}") };
    // By a library that knows nothing of ours.
    let patch = serde_json::to_value(&injected.patch).expect("a patch is JSON");
    let patch: json_patch::Patch = serde_json::from_value(patch).expect("a patch of RFC 6902");
    let mut changed = pod.clone();
    json_patch::patch(&mut changed, &patch).expect("it fits the pod");
    (changed, injected)
}

fn arguments(pod: &Value) -> Vec<String> {
    let lists = ["containers", "initContainers"].map(|list| pod["spec"][list].as_array());
    let sidecar = lists.into_iter().flatten().flatten().find(|it| it["name"] == SIDECAR);
    let arguments = sidecar.expect("there is a sidecar")["args"].as_array();
    let text = |it: &Value| it.as_str().unwrap_or_default().to_owned();
    arguments.expect("it has arguments").iter().map(text).collect()
}

fn faults(pod: &Value, settings: &Settings) -> String {
    let faults = inject(pod, Switch::Enabled, settings).expect_err("it is wrong");
    Fault::line(&faults)
}

#[test]
fn marks_of_the_pod_beat_those_of_the_namespace() {
    use Switch::{Disabled, Enabled, Unsaid};
    let marked = |place: &str, key: &str, value: &str| {
        let mut pod = pod();
        pod["metadata"][place][key] = value.into();
        pod
    };
    let all = Foreign { istio: true, linkerd: true, consul: true };
    let ours = Foreign::default();
    for (pod, namespace, foreign, is_injected) in [
        (pod(), Unsaid, ours, false),
        (pod(), Enabled, ours, true),
        (pod(), Disabled, ours, false),
        (marked("labels", "weft.dev/inject", "enabled"), Unsaid, ours, true),
        (marked("labels", "weft.dev/inject", "disabled"), Enabled, ours, false),
        (marked("annotations", "weft.dev/inject", "true"), Disabled, ours, true),
        (marked("labels", "sidecar.istio.io/inject", "true"), Unsaid, ours, false),
        (marked("labels", "sidecar.istio.io/inject", "true"), Unsaid, all, true),
        (marked("annotations", "sidecar.istio.io/inject", "false"), Enabled, all, false),
        (marked("annotations", "linkerd.io/inject", "enabled"), Unsaid, all, true),
        (marked("annotations", "consul.hashicorp.com/connect-inject", "true"), Unsaid, all, true),
        (marked("annotations", "consul.hashicorp.com/connect-inject", "true"), Unsaid, ours, false),
    ] {
        let settings = Settings { foreign, ..Settings::default() };
        let verdict = inject(&pod, namespace, &settings).expect("it is right");
        assert_eq!(matches!(verdict, Verdict::Injected(_)), is_injected, "{pod} {verdict:?}");
    }
    let of_namespace = |metadata: Value| Switch::of_namespace(&metadata, all);
    assert_eq!(of_namespace(json!({ "labels": { "istio-injection": "enabled" } })), Ok(Enabled));
    assert_eq!(
        of_namespace(json!({ "annotations": { "linkerd.io/inject": "disabled" } })),
        Ok(Disabled)
    );
    assert_eq!(of_namespace(Value::Null), Ok(Unsaid));
    let odd = marked("labels", "weft.dev/inject", "perhaps");
    assert_eq!(
        faults(&odd, &Settings::default()),
        "metadata.labels[\"weft.dev/inject\"]: \"perhaps\" says neither yes nor no: write \
         \"enabled\" or \"disabled\""
    );
}

#[test]
fn injecting_twice_is_injecting_once() {
    for sidecar in [SidecarKind::Native, SidecarKind::Ordinary] {
        for capture in [Capture::Init, Capture::Off] {
            let settings = Settings { sidecar, capture, ..Settings::default() };
            let (once, _) = injected(&pod(), &settings);
            let again = inject(&once, Switch::Enabled, &settings).expect("it is right");
            let Verdict::LeftAlone(why) = again else { panic!("twice: {again:?}") };
            assert!(matches!(why, Why::Present { mesh: "Weft", .. }) && !why.is_surprising());
        }
    }
}

#[test]
fn a_native_sidecar_comes_before_the_init_containers_of_the_application() {
    let mut pod = pod();
    pod["spec"]["initContainers"] = json!([{ "name": "migrate" }]);
    let names = |pod: &Value, list: &str| -> Vec<String> {
        let list = pod["spec"][list].as_array().into_iter().flatten();
        list.map(|it| it["name"].as_str().unwrap_or_default().to_owned()).collect()
    };
    let (native, _) = injected(&pod, &Settings::default());
    assert_eq!(names(&native, "initContainers"), ["weft-capture", "weft-proxy", "migrate"]);
    assert_eq!(native["spec"]["initContainers"][1]["restartPolicy"], "Always");
    assert_eq!(names(&native, "containers"), ["app"]);
    let settings = Settings { sidecar: SidecarKind::Ordinary, ..Settings::default() };
    let (ordinary, _) = injected(&pod, &settings);
    assert_eq!(names(&ordinary, "initContainers"), ["migrate", "weft-capture"]);
    assert_eq!(names(&ordinary, "containers"), ["app", "weft-proxy"]);
    let off = Settings { capture: Capture::Off, ..Settings::default() };
    assert_eq!(names(&injected(&pod, &off).0, "initContainers"), ["weft-proxy", "migrate"]);
}

#[test]
fn the_sidecar_has_no_rights_and_the_capturing_container_two() {
    let (pod, _) = injected(&pod(), &Settings::default());
    let containers = &pod["spec"]["initContainers"];
    let of_sidecar = &containers[1]["securityContext"];
    for (field, wanted) in [
        ("runAsNonRoot", json!(true)),
        ("runAsUser", json!(5678)),
        ("readOnlyRootFilesystem", json!(true)),
        ("allowPrivilegeEscalation", json!(false)),
        ("capabilities", json!({ "drop": ["ALL"] })),
    ] {
        assert_eq!(of_sidecar[field], wanted, "{field}");
    }
    let of_capture = &containers[0]["securityContext"];
    let rights = json!({ "add": ["NET_ADMIN", "NET_RAW"], "drop": ["ALL"] });
    assert_eq!((&of_capture["capabilities"], &of_capture["privileged"]), (&rights, &json!(false)));
}

#[test]
fn annotations_of_consul_count_where_they_are_wanted() {
    let pod = annotated(json!({
        "consul.hashicorp.com/connect-inject": "true",
        "consul.hashicorp.com/connect-service": "shop",
        "consul.hashicorp.com/connect-service-port": "http",
        "consul.hashicorp.com/connect-service-upstreams": "reviews:9080,ratings:9081",
    }));
    let foreign = Foreign { consul: true, ..Foreign::default() };
    let (pod_of_consul, _) = injected(&pod, &Settings { foreign, ..Settings::default() });
    let arguments_of_consul = arguments(&pod_of_consul);
    for wanted in
        ["--service=shop", "--port=8080", "--upstream=reviews:9080", "--upstream=ratings:9081"]
    {
        assert!(arguments_of_consul.iter().any(|it| it == wanted), "{arguments_of_consul:?}");
    }
    let (unread, _) = injected(&pod, &Settings::default());
    assert!(arguments(&unread).contains(&"--service=web".to_owned()));
    assert!(arguments(&unread).contains(&"--meta=version=v2".to_owned()));
}

#[test]
fn faults_of_annotations_name_the_annotation_and_are_told_at_once() {
    let check = |name: &str, value: &str, wanted: &str| {
        let key = format!("weft.dev/{name}");
        let found = faults(&annotated(json!({ key.clone(): value })), &Settings::default());
        let path = format!("metadata.annotations[{key:?}]: ");
        assert!(found.starts_with(&path) && found.contains(wanted), "{found}");
    };
    check("service", "no name", "only");
    check("port", "0", "nor the name of a container's port");
    check("port", "web", "nor the name of a container's port");
    check("port", "8080,9090", "one service with one port");
    check("protocol", "smtp", "is none of tcp, http, http2, grpc");
    check("upstreams", "reviews", "write service:port");
    check("upstreams", "reviews:70000", "write service:port");
    check("exclude-inbound-ports", "22,ssh", "\"ssh\" is not right");
    check("exclude-outbound-cidrs", "10.0.0/8", "is not right");
    check("exclude-uids", "root", "is not right");
    check("memory-limit", "much", "is no quantity");
    check("sidecar", "yes", "write \"native\" or \"ordinary\"");
    check("capture", "maybe", "write \"enabled\" or \"disabled\"");
    check("meta", "team", "has no \"=\"");
    check("drain-delay", "soon", "");
    let many: Vec<String> = (1..100).map(|port| port.to_string()).collect();
    check("exclude-outbound-ports", &many.join(","), "99 elements, more than 64");
    let two = annotated(json!({ "weft.dev/port": "x", "weft.dev/protocol": "y" }));
    assert_eq!(faults(&two, &Settings::default()).matches("metadata.annotations").count(), 2);
}

#[test]
fn pods_that_cannot_have_one_say_why() {
    let settings = Settings::default();
    let why = |pod: &Value| match inject(pod, Switch::Enabled, &settings) {
        Ok(Verdict::LeftAlone(why)) => why,
        other => panic!("{other:?}"),
    };
    let mut host = pod();
    host["spec"]["hostNetwork"] = true.into();
    assert_eq!(why(&host), Why::HostNetwork);
    assert!(why(&host).is_surprising() && why(&host).to_string().contains("hostNetwork"));
    host["metadata"]["labels"]["weft.dev/inject"] = "enabled".into();
    assert!(faults(&host, &settings).starts_with("spec.hostNetwork: not injected: a sidecar"));
    let mut linkerd = pod();
    linkerd["spec"]["initContainers"] = json!([{ "name": "linkerd-proxy" }]);
    assert_eq!(why(&linkerd), Why::Present { mesh: "Linkerd", container: "linkerd-proxy" });
    let mut windows = pod();
    windows["spec"]["os"]["name"] = "windows".into();
    assert_eq!(why(&windows), Why::Windows);
    let mut same_user = pod();
    same_user["spec"]["securityContext"]["runAsUser"] = 5678.into();
    assert!(faults(&same_user, &settings).contains("the sidecar's user"));
    for odd in
        [Value::Null, json!([]), json!({ "spec": null }), json!({ "spec": { "containers": {} } })]
    {
        assert!(faults(&odd, &settings).starts_with("spec.containers: "), "{odd}");
    }
}

#[test]
fn what_may_surprise_is_told_and_injected_all_the_same() {
    let mut job = annotated(json!({ "weft.dev/prot": "80" }));
    job["spec"]["restartPolicy"] = "Never".into();
    let settings = Settings { sidecar: SidecarKind::Ordinary, ..Settings::default() };
    let (_, of_job) = injected(&job, &settings);
    assert_eq!(of_job.warnings.len(), 2);
    assert!(
        of_job.warnings[0].contains("\"weft.dev/prot\"")
            && of_job.warnings[1].contains("/quitquitquit")
    );
    let (_, of_native) = injected(&job, &Settings::default());
    assert_eq!(of_native.warnings.len(), 1);
}

#[test]
fn the_version_of_the_cluster_says_which_sidecars_it_runs() {
    for (major, minor, wanted) in [
        ("1", "20", SidecarKind::Ordinary),
        ("1", "28+", SidecarKind::Ordinary),
        ("1", "29", SidecarKind::Native),
        ("1", "32+", SidecarKind::Native),
        ("2", "0", SidecarKind::Native),
        ("", "x", SidecarKind::Ordinary),
    ] {
        assert_eq!(SidecarKind::of_version(major, minor), wanted, "{major}.{minor}");
    }
}
