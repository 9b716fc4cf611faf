//! What is installed: packages of this binary, their units, pages and completions, and the life of a
//! host that has nothing but them.

mod host;
mod machine;

use std::path::{Path, PathBuf};

use weft_tests::tools;

/// Scripts that make packages.
const PACKAGING: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../packaging");
/// The most that a unit may be exposed, as systemd reckons it.
const EXPOSURE_MAX: f32 = 2.5;
const UNITS: [&str; 4] = ["weft-server", "weft-agent", "weft-proxy", "weft-proxy@"];

/// Makes a package of the binary under test, quickly packed.
fn package(script: &str, version: &str, folder: &Path) -> PathBuf {
    let script = format!("{PACKAGING}/{script}");
    let (binary, folder) = (weft_tests::process::weft(), folder.to_string_lossy().into_owned());
    let version = format!("WEFT_PACKAGE_VERSION={version}");
    let with = ["WEFT_PACKAGE_FAST=1", "WEFT_PACKAGE_DYNAMIC=1", &version, &script];
    let made = tools::run("env", &[&with[..], &[&binary.to_string_lossy(), &folder]].concat());
    PathBuf::from(made.ok().expect("a package").trim())
}

#[test]
fn the_debian_package_has_what_a_host_needs_and_says_what_it_asks_for() {
    if !tools::have("debian_package", &["dpkg-deb", "bash"]) {
        return;
    }
    let folder = tempfile::tempdir().expect("a temporary folder");
    let deb = package("deb/build.sh", "1.2.3", folder.path());
    let deb = deb.to_string_lossy();
    let field = |name| tools::run("dpkg-deb", &["-f", &deb, name]).ok().expect("a field");
    assert_eq!((field("Package").trim(), field("Version").trim()), ("weft", "1.2.3"));
    assert!(field("Depends").contains("libc6 (>= 2."), "{}", field("Depends"));

    let root = folder.path().join("root");
    tools::run("dpkg-deb", &["-x", &deb, &root.to_string_lossy()]).ok().expect("unpacked");
    for unit in UNITS {
        assert!(root.join(format!("usr/lib/systemd/system/{unit}.service")).exists(), "{unit}");
    }
    for path in ["usr/bin/weft", "usr/lib/sysusers.d/weft.conf", "usr/lib/tmpfiles.d/weft.conf"] {
        assert!(root.join(path).exists(), "{path}");
    }
    // Nothing of the host's own is in the package, so an upgrade cannot touch it.
    assert!(!root.join("etc").exists() && !root.join("var").exists());

    // A page for each command that the help shows, and a completion that the shell reads.
    let help = tools::run(&weft_tests::process::weft().to_string_lossy(), &["help"]);
    let commands = help.stdout.lines().filter_map(|line| line.strip_prefix("  "));
    let commands =
        commands.filter_map(|line| line.split("  ").next()).filter(|name| *name != "help");
    let mut count = 0;
    for name in commands {
        let page = root.join(format!("usr/share/man/man1/weft-{name}.1.gz"));
        assert!(page.exists(), "no {}", page.display());
        count += 1;
    }
    assert!(count > 30, "{help:?}");
    let completion = root.join("usr/share/bash-completion/completions/weft");
    let script = "source \"$0\" && COMP_WORDS=(weft memb) COMP_CWORD=1 && _weft weft memb weft && \
                  echo \"${COMPREPLY[*]}\"";
    let completed = tools::run("bash", &["-c", script, &completion.to_string_lossy()]);
    assert_eq!(completed.ok().expect("it is read").trim(), "members");
}

#[test]
fn units_are_sound_and_may_do_little() {
    if !tools::have("units", &["systemd-analyze"]) {
        return;
    }
    // As installed, as far as a unit names what is installed.
    let folder = tempfile::tempdir().expect("a temporary folder");
    for unit in UNITS {
        let name = format!("{unit}.service");
        let text = std::fs::read_to_string(format!("{PACKAGING}/systemd/{name}")).expect("a unit");
        let binary = weft_tests::process::weft();
        let text = text.replace("/usr/bin/weft", &binary.to_string_lossy());
        let path = folder.path().join(name);
        std::fs::write(&path, text).expect("a temporary file");
        let path = path.to_string_lossy();
        let verified = tools::run("systemd-analyze", &["--man=no", "verify", &path]);
        // It tells faults of other units of this machine as well.
        let faults: Vec<_> = verified.stderr.lines().filter(|row| row.contains("weft")).collect();
        assert!(verified.code == Some(0) && faults.is_empty(), "{unit}: {verified:?}");

        let judged =
            tools::run("systemd-analyze", &["security", "--offline=true", "--no-pager", &path]);
        let line = judged.stdout.lines().find(|row| row.contains("Overall exposure level"));
        let level =
            line.and_then(|row| row.split(": ").nth(1)?.split(' ').next()?.parse::<f32>().ok());
        let level = level.unwrap_or_else(|| panic!("{judged:?}"));
        assert!(level <= EXPOSURE_MAX, "{unit}: {level}");
        tools::tell(&format!("{unit}: exposure {level} of 10"));
    }
}

#[test]
fn the_rpm_has_the_same_files() {
    if !tools::have("rpm", &["rpmbuild", "rpm"]) {
        return;
    }
    let folder = tempfile::tempdir().expect("a temporary folder");
    let rpm = package("rpm/build.sh", "1.2.3", folder.path());
    let listed = tools::run("rpm", &["-qlp", &rpm.to_string_lossy()]).ok().expect("a list");
    for unit in UNITS {
        assert!(listed.contains(&format!("/usr/lib/systemd/system/{unit}.service")), "{listed}");
    }
    for path in ["/usr/bin/weft", "/usr/lib/weft/units", "/usr/share/man/man1/weft-agent.1.gz"] {
        assert!(listed.lines().any(|line| line == path), "{path}: {listed}");
    }
    let scripts = tools::run("rpm", &["-qp", "--scripts", &rpm.to_string_lossy()]);
    assert!(scripts.stdout.contains("/usr/lib/weft/units upgrade"), "{scripts:?}");
}

#[test]
fn the_image_has_one_program_and_no_root() {
    if !tools::have("image", &["python3", "tar"]) {
        return;
    }
    let folder = tempfile::tempdir().expect("a temporary folder");
    let image = package("image/build.sh", "1.2.3", folder.path());
    let layout = folder.path().join("layout");
    std::fs::create_dir(&layout).expect("a temporary folder");
    let (image, at) = (image.to_string_lossy(), layout.to_string_lossy());
    tools::run("tar", &["-xf", &image, "-C", &at]).ok().expect("an archive");
    let blob = |descriptor: &serde_json::Value| {
        let digest = descriptor["digest"].as_str().and_then(|it| it.strip_prefix("sha256:"));
        layout.join("blobs/sha256").join(digest.expect("a digest"))
    };
    let json = |path: &Path| -> serde_json::Value {
        serde_json::from_slice(&std::fs::read(path).expect("a blob")).expect("JSON")
    };
    let manifest = json(&blob(&json(&layout.join("index.json"))["manifests"][0]));
    let config = json(&blob(&manifest["config"]));
    assert_eq!(config["config"]["User"], "65532:65532");
    assert_eq!(config["config"]["Entrypoint"][0], "/usr/bin/weft");
    let layer = blob(&manifest["layers"][0]);
    let sums = tools::run("sha256sum", &[&layer.to_string_lossy()]).stdout;
    assert!(layer.ends_with(sums.split(' ').next().expect("a sum")), "{sums}");
    let listed = tools::run("tar", &["-tzf", &layer.to_string_lossy()]).ok().expect("a layer");
    let files: Vec<_> = listed.lines().filter(|line| !line.ends_with('/')).collect();
    assert_eq!(files, ["etc/group", "etc/passwd", "usr/bin/weft"]);
}
