//! The Workload API and pods: a process in the control group that a kubelet makes gets the
//! certificate of its pod, and nobody who only calls a group so.

use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use serde_json::json;
use weft_tests::tools::Ran;
use weft_tests::{TestAgent, TestServer, eventually, tools};

/// Where hierarchies are mounted: the unified one alone, both, or only systemd's older one.
const HIERARCHIES: [&str; 3] =
    ["/sys/fs/cgroup", "/sys/fs/cgroup/unified", "/sys/fs/cgroup/systemd"];
/// The user `nobody`.
const NOBODY: u32 = 65_534;
/// The id of a container.
const CONTAINER: &str = "9bca8d63d5fa610783847915bcff0ecac1273e5b4bed3f6fa1b07350e0135961";
/// Longer than the kernel takes to let go of a group.
const LIMIT: Duration = Duration::from_secs(30);

/// A control group; it and those above that nobody else needs are removed when it is dropped.
struct Group {
    root: PathBuf,
    path: PathBuf,
}

impl Group {
    /// Makes a group; none where this machine does not let us.
    fn make(path: &str) -> Result<Self, String> {
        let of_groups = |root: &&&str| Path::new(root).join("cgroup.procs").exists();
        let root = HIERARCHIES.iter().find(of_groups).ok_or("no control groups are mounted")?;
        let group = Self { root: root.into(), path: Path::new(root).join(path) };
        match fs::create_dir_all(&group.path) {
            // Another run of the tests has just taken away what it had made above.
            Err(error) if error.kind() == ErrorKind::NotFound => fs::create_dir_all(&group.path),
            made => made,
        }
        .map_err(|error| format!("no control group can be made: {error}"))?;
        Ok(group)
    }

    fn door(&self) -> String {
        self.path.join("cgroup.procs").to_string_lossy().into_owned()
    }

    /// Runs a shell that moves into the group first.
    fn run(&self, script: &str) -> Ran {
        tools::run("sh", &["-c", &format!("echo $$ > {} && {script}", self.door())])
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        let mut folder = self.path.as_path();
        while folder != self.root && fs::remove_dir(folder).is_ok() {
            let Some(above) = folder.parent() else { return };
            folder = above;
        }
    }
}

/// A UID that no other run has.
fn fresh_uid() -> String {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let (own, nanos) = (std::process::id(), now.as_nanos() & 0xffff_ffff_ffff);
    format!("{own:08x}-0000-4000-8000-{nanos:012x}")
}

#[test]
fn a_pod_gets_its_certificate_and_who_only_calls_a_group_so_does_not() {
    const TEST: &str = "a_pod_gets_its_certificate_and_who_only_calls_a_group_so_does_not";
    let source = concat!(env!("CARGO_MANIFEST_DIR"), "/clients/go_spiffe");
    if !tools::have(TEST, &["setpriv", "mkdir"]) || !tools::have_go_modules(TEST, source) {
        return;
    }
    let (uid, other) = (fresh_uid(), fresh_uid());
    assert_ne!(uid, other);
    let of_pod = |uid: &str| format!("kubepods/burstable/pod{uid}/{CONTAINER}");
    let of_user = format!("user.slice/user-{NOBODY}.slice/user@{NOBODY}.service");
    let made = [of_pod(&uid), of_pod(&other), of_user].map(|path| Group::make(&path));
    let [Ok(pod), Ok(other_pod), Ok(user)] = &made else {
        let reasons = made.iter().filter_map(|made| made.as_ref().err());
        return tools::skip(TEST, &reasons.cloned().collect::<Vec<String>>().join(", "));
    };
    let folder = tempfile::tempdir().expect("a temporary folder");
    fs::set_permissions(folder.path(), PermissionsExt::from_mode(0o755)).expect("it is ours");
    let (program, socket) = (folder.path().join("go_spiffe"), folder.path().join("workload.sock"));
    let asks = format!("exec {} bundles {}", program.display(), socket.display());
    let program = program.to_string_lossy();
    tools::run_go(&["-C", source, "build", "-o", &program, "."]).ok().expect("it builds");

    let server = TestServer::start(folder.path());
    let extra = json!({ "workload_api": { "socket": socket, "entry": [
        { "service": "web", "pod": uid },
    ] } });
    let agent = TestAgent::start_with(folder.path(), "node1", &server.join_token_file(), &extra);
    agent.register(&json!({ "ID": "web", "Name": "web", "Port": 9001 }));
    let roots = eventually(LIMIT, "the pod gets what is its own", || pod.run(&asks).ok());
    assert!(roots.contains("has 1 roots"), "{roots}");

    // Another pod, and this very test, are told what was seen of them.
    let refused = other_pod.run(&asks).ok().expect_err("another pod");
    let seen =
        format!("pod {other}, container {CONTAINER}, cgroup /kubepods/burstable/pod{other}/");
    assert!(refused.contains("PermissionDenied") && refused.contains(&seen), "{refused}");
    tools::run("sh", &["-c", &asks]).ok().expect_err("no pod at all");

    a_user_cannot_feign_it(user, pod, &asks);
    drop(made);
}

/// A user whose manager was given a group, as systemd gives it, makes the pod's group below it.
fn a_user_cannot_feign_it(user: &Group, pod: &Group, asks: &str) {
    for given in ["", "cgroup.procs"] {
        chown(user.path.join(given), Some(NOBODY), Some(NOBODY)).expect("it is ours to give");
    }
    let as_user = |group: &Path, script: &str| {
        let to = group.join("cgroup.procs");
        let script =
            format!("mkdir -p {} && echo $$ > {} && {script}", group.display(), to.display());
        let ids = format!("--reuid={NOBODY} --regid={NOBODY} --clear-groups");
        user.run(&format!("exec setpriv {ids} sh -c '{script}'"))
    };
    let below = pod.path.strip_prefix(&pod.root).expect("it stands there");
    let feigned = Group { root: user.path.clone(), path: user.path.join(below) };
    let refused = as_user(&feigned.path, asks).ok().expect_err("it is no pod");
    let seen = format!("unit user@{NOBODY}.service, cgroup /user.slice/");
    assert!(refused.contains("PermissionDenied") && refused.contains(&seen), "{refused}");
    assert!(refused.contains(&below.to_string_lossy().into_owned()), "{refused}");
    // And the kernel does not let it into the true one.
    let kept_out = as_user(&pod.path, asks).ok().expect_err("the group is root's");
    assert!(kept_out.to_lowercase().contains("permission denied"), "{kept_out}");
    assert!(!kept_out.contains("PermissionDenied"), "{kept_out}");
}
