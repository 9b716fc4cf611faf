//! Callers and entries by data.

use super::*;

fn name(text: &str) -> ServiceName {
    text.parse().expect("a name")
}

fn caller(uid: u32, gid: u32, path: &str) -> Caller {
    let cgroup = Cgroup::parse(&format!("0::{path}\n")).expect("a group");
    Caller { uid, gid, pid: 4_242, cgroup }
}

/// Reads `service uid gid unit cgroup`, `-` for what is not given, and a pod if there is one.
fn entry(line: &str) -> Entry {
    made(line).expect("an entry that can be met")
}

fn made(line: &str) -> Result<Entry, InvalidEntry> {
    let fields: Vec<&str> = line.split(' ').collect();
    let (service, uid, gid, unit, cgroup, pod) = match fields[..] {
        [service, uid, gid, unit, cgroup] => (service, uid, gid, unit, cgroup, "-"),
        [service, uid, gid, unit, cgroup, pod] => (service, uid, gid, unit, cgroup, pod),
        _ => panic!("five or six fields: {line}"),
    };
    let text = |field: &str| (field != "-").then(|| field.to_owned());
    let number = |field| text(field).map(|it| it.parse().expect("a number"));
    let (uid, gid) = (number(uid), number(gid));
    let (unit, cgroup, pod) = (text(unit), text(cgroup), text(pod));
    let selectors = Selectors { uid, gid, unit, cgroup, pod };
    Entry::new(name(service), selectors)
}

#[test]
fn a_caller_speaks_for_the_services_whose_every_selector_it_meets() {
    let entries = [
        "web 1000 - web.service -",
        "shop 1000 - - -",
        "db - 50 - -",
        "box - - - /system.slice/docker-ab12.scope",
        "web 0 - web.service -",
        "inst - - worker@2.service -",
        "root 0 0 - -",
        "pod - - - - 2c48913c-b29f-11e7-9350-020968147796",
        "podded 7 - - - 2c48913c-b29f-11e7-9350-020968147796",
    ];
    let entries: Vec<Entry> = entries.iter().map(|line| entry(line)).collect();
    let check = |(uid, gid, path): (u32, u32, &str), expected: &[&str]| {
        let found = services(&entries, &caller(uid, gid, path));
        let found: Vec<&str> = found.iter().map(ServiceName::as_str).collect();
        assert_eq!(found, expected, "{uid} {gid} {path}");
    };
    check((1000, 1000, "/system.slice/web.service"), &["web", "shop"]);
    check((0, 7, "/system.slice/web.service"), &["web"]);
    check((1001, 1000, "/system.slice/web.service"), &[]);
    check((1000, 1000, "/system.slice/other.service"), &["shop"]);
    check((1000, 50, "/"), &["shop", "db"]);
    check((7, 50, "/"), &["db"]);
    check((0, 0, "/"), &["root"]);
    // What a unit makes below itself is of the unit.
    check((1000, 1, "/system.slice/web.service/pool-1"), &["web", "shop"]);
    check((1000, 1, "/system.slice/system-worker.slice/worker@2.service"), &["shop", "inst"]);
    check((7, 7, "/system.slice/system-worker.slice/worker@1.service"), &[]);
    check((7, 7, "/system.slice/docker-ab12.scope/init"), &["box"]);
    check((7, 7, "/system.slice/docker-ab12.scope2"), &[]);
    // A user's own manager has units of any name: they are not the system's.
    let of_user = "/user.slice/user-1000.slice/user@1000.service/app.slice/web.service";
    check((1000, 1000, of_user), &["shop"]);
    check((7, 7, "/web.service/../other.service/web.service"), &[]);
    check((7, 7, "/../web.service"), &[]);
    let id = "ab".repeat(32);
    let in_pod = |uid: &str| format!("/kubepods/burstable/pod{uid}/{id}");
    check((7, 7, &in_pod("2c48913c-b29f-11e7-9350-020968147796")), &["pod", "podded"]);
    check((8, 7, &in_pod("2c48913c-b29f-11e7-9350-020968147796")), &["pod"]);
    check((7, 7, &in_pod("3c48913c-b29f-11e7-9350-020968147796")), &[]);
    let of_user = format!(
        "/user.slice/user-7.slice/user@7.service{}",
        in_pod("2c48913c-b29f-11e7-9350-020968147796")
    );
    check((7, 7, &of_user), &[]);
}

#[test]
fn units_are_read_from_paths_as_systemd_writes_them() {
    for (path, unit) in [
        ("/", None),
        ("/system.slice/web.service", Some("web.service")),
        ("/system.slice/web.service (deleted)", None),
        ("/system.slice", None),
        ("/web.service", Some("web.service")),
        ("/docker/ab12", None),
        ("/docker/web.service", None),
        ("/../system.slice/web.service", None),
        ("/init.scope", Some("init.scope")),
        ("/system.slice/_cpu.web.service", Some("cpu.web.service")),
        (r"/system.slice/a\x2db.service", Some(r"a\x2db.service")),
        ("/user.slice/user-7.slice/session-1.scope", Some("session-1.scope")),
        ("/user.slice/user-7.slice/user@7.service/x.slice/web.service", Some("user@7.service")),
        ("/system.slice/.service", None),
    ] {
        assert_eq!(caller(0, 0, path).cgroup.unit(), unit, "{path}");
    }
}

#[test]
fn the_line_that_tells_units_counts() {
    for (text, path) in [
        ("0::/system.slice/a.service\n", Ok("/system.slice/a.service")),
        ("5:cpu:/x\n1:name=systemd:/system.slice/a.service\n0::/\n", Ok("/system.slice/a.service")),
        ("1:name=systemd:/a.service\n0::/b.service\n", Ok("/b.service")),
        ("1:name=systemd:/a:b.service\n", Ok("/a:b.service")),
        ("0::/\n", Ok("/")),
        ("5:cpu:/a.service\n", Err(InvalidCgroup::Missing)),
        ("10::/a.service\n", Err(InvalidCgroup::Missing)),
        ("", Err(InvalidCgroup::Missing)),
        ("0::a.service\n", Err(InvalidCgroup::Path)),
    ] {
        let found = Cgroup::parse(text);
        assert_eq!(found.as_ref().map(Cgroup::path).map_err(Clone::clone), path, "{text:?}");
    }
    let long = format!("0::/{}", "a".repeat(5_000));
    assert_eq!(Cgroup::parse(&long), Err(InvalidCgroup::Path));
}

#[test]
fn entries_for_nobody_or_everybody_are_refused() {
    for line in [
        "web - - - -",
        "web 1 - web -",
        "web 1 - web.slice -",
        "web 1 - a/web.service -",
        "web 1 - .service -",
        "web - - - /",
        "web - - - //",
        "web - - - web.service",
        "web - - - /a/../b",
        "web - - - /a//b",
        "web 1 - - - web-0",
        "web - - - - 2c48913c_b29f_11e7_9350_020968147796",
    ] {
        assert!(made(line).is_err(), "{line}");
    }
    for line in ["web 0 - - -", "web - - a@b.service /a/b/"] {
        assert!(made(line).is_ok(), "{line}");
    }
}

#[test]
fn a_refusal_can_name_what_was_seen() {
    let shown = caller(1000, 7, "/system.slice/web.service").to_string();
    let path = "/system.slice/web.service";
    assert_eq!(shown, format!("uid 1000, gid 7, unit web.service, cgroup {path}, pid 4242"));
    assert!(caller(1, 1, "/").to_string().contains("no systemd unit"));
    let (uid, id) = ("2c48913c-b29f-11e7-9350-020968147796", "ab".repeat(32));
    let shown = caller(1, 1, &format!("/kubepods/pod{uid}/{id}")).to_string();
    assert!(shown.contains(&format!("no systemd unit, pod {uid}, container {id}, cgroup ")));
}
