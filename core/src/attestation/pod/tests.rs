//! Groups as kubelets and container runtimes make them, and as others would like to.

use super::*;
use crate::attestation::Cgroup;

const UID: &str = "2c48913c-b29f-11e7-9350-020968147796";
const FLAT: &str = "2c48913c_b29f_11e7_9350_020968147796";
/// Of a pod that the kubelet has from a file.
const STATIC: &str = "b5f4a2d0c9f14a0e8b6d3c7e9f012345";
const ID: &str = "9bca8d63d5fa610783847915bcff0ecac1273e5b4bed3f6fa1b07350e0135961";

/// Writes `UID`, `FLAT`, `STATIC` and `ID` out.
fn full(pattern: &str) -> String {
    let names = [("$uid", UID), ("$flat", FLAT), ("$static", STATIC), ("$id", ID)];
    names.iter().fold(pattern.to_owned(), |text, (name, value)| text.replace(name, value))
}

fn pod_of(text: &str) -> Option<(String, String)> {
    let cgroup = Cgroup::parse(&full(text)).expect("a group");
    cgroup.pod().map(|pod| (pod.uid().to_owned(), pod.container().to_owned()))
}

fn path(pattern: &str) -> Option<(String, String)> {
    pod_of(&format!("0::{pattern}\n"))
}

#[test]
fn pods_are_known_under_each_driver_and_runtime() {
    for pattern in [
        // cgroupfs: guaranteed, burstable, best effort.
        "/kubepods/pod$uid/$id",
        "/kubepods/burstable/pod$uid/$id",
        "/kubepods/besteffort/pod$uid/$id",
        "/kubepods/burstable/pod$uid/crio-$id",
        "/kubelet/kubepods/burstable/pod$uid/$id",
        "/kubelet/kubepods/pod$uid/$id",
        // systemd.
        "/kubepods.slice/kubepods-pod$flat.slice/cri-containerd-$id.scope",
        "/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod$flat.slice/\
         cri-containerd-$id.scope",
        "/kubepods.slice/kubepods-besteffort.slice/kubepods-besteffort-pod$flat.slice/\
         crio-$id.scope",
        "/kubepods.slice/kubepods-besteffort.slice/kubepods-besteffort-pod$flat.slice/\
         docker-$id.scope",
        "/kubelet.slice/kubelet-kubepods.slice/kubelet-kubepods-burstable.slice/\
         kubelet-kubepods-burstable-pod$flat.slice/cri-containerd-$id.scope",
        "/kubelet.slice/kubelet-kubepods.slice/kubelet-kubepods-pod$flat.slice/\
         cri-containerd-$id.scope",
        // The kubelet has systemd's driver, and containerd has not.
        "/system.slice/containerd.service/kubepods-burstable-pod$flat.slice:cri-containerd:$id",
        "/system.slice/containerd.service/kubepods-pod$flat.slice:cri-containerd:$id",
        "/kubepods-besteffort-pod$flat.slice:cri-containerd:$id",
        // What a container makes below itself is of the container.
        "/kubepods/burstable/pod$uid/$id/init.scope",
        "/kubepods/pod$uid/$id/kubepods/pod$static/$id",
        "/kubepods.slice/kubepods-pod$flat.slice/crio-$id.scope/container",
        "/kubepods-pod$flat.slice:cri-containerd:$id/system.slice/web.service",
    ] {
        assert_eq!(path(pattern), Some((UID.to_owned(), ID.to_owned())), "{pattern}");
    }
    for pattern in [
        "/kubepods/burstable/pod$static/$id",
        "/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod$static.slice/\
         cri-containerd-$id.scope",
    ] {
        assert_eq!(path(pattern), Some((STATIC.to_owned(), ID.to_owned())), "{pattern}");
    }
}

#[test]
fn who_only_calls_a_group_so_is_no_pod() {
    for pattern in [
        // What users may make: below their own manager, in a session, in a container of theirs.
        "/user.slice/user-1000.slice/user@1000.service/kubepods/pod$uid/$id",
        "/user.slice/user-1000.slice/user@1000.service/kubepods.slice/kubepods-pod$flat.slice/\
         cri-containerd-$id.scope",
        "/user.slice/user-1000.slice/user@1000.service/app.slice/\
         kubepods-pod$flat.slice:cri-containerd:$id",
        "/user.slice/user-1000.slice/session-1.scope/kubepods/burstable/pod$uid/$id",
        "/user.slice/user-1000.slice/user@1000.service/user.slice/libpod-$id.scope/kubepods/\
         pod$uid/$id",
        "/user.slice/kubepods/pod$uid/$id",
        // What a unit or a container of the system may make below itself.
        "/system.slice/web.service/kubepods/pod$uid/$id",
        "/system.slice/web.service/kubepods-pod$flat.slice:cri-containerd:$id",
        "/system.slice/docker-$id.scope/kubepods/burstable/pod$uid/$id",
        "/system.slice/docker-$id.scope/kubelet.slice/kubelet-kubepods.slice/\
         kubelet-kubepods-pod$flat.slice/cri-containerd-$id.scope",
        "/docker/$id/kubepods/burstable/pod$uid/$id",
        "/machine.slice/machine-a.scope/kubepods/pod$uid/$id",
        "/system.slice/containerd.service/x/kubepods-pod$flat.slice:cri-containerd:$id",
        "/system.slice/containerd.service/kubepods/pod$uid/$id",
        "/system.slice/containerd.service.d/kubepods-pod$flat.slice:cri-containerd:$id",
        // Seen from a world of its own, where the root is not the host's.
        "/../kubepods/pod$uid/$id",
        "/../../kubepods-pod$flat.slice/cri-containerd-$id.scope",
        "//kubepods/pod$uid/$id",
        "/./kubepods/pod$uid/$id",
    ] {
        assert_eq!(path(pattern), None, "{pattern}");
    }
}

#[test]
fn what_is_not_quite_a_container_of_a_pod_is_none() {
    for pattern in [
        "/",
        "/kubepods",
        "/kubepods/pod$uid",
        "/kubepods/burstable/pod$uid",
        "/kubepods/burstable/$id",
        "/kubepods/guaranteed/pod$uid/$id",
        "/kubepods/pod$uid/crio-conmon-$id",
        "/kubepods/pod$uid/$id (deleted)",
        "/kubepods/pod$uid/abc",
        "/kubepods/pod$uid/${id}0",
        "/kubepods/pod$flat/$id",
        "/kubepods/Pod$uid/$id",
        "/kubepods/pod/$id",
        "/kubepods/pod../$id",
        "/kubepods/pod2C48913C-b29f-11e7-9350-020968147796/$id",
        "/kubepods/pod2c48913-cb29f-11e7-9350-020968147796/$id",
        "/kubepods/pod2c48913cb29f-11e7-9350-020968147796/$id",
        "/kubepods/pod$uid-1/$id",
        "/kubepods2/pod$uid/$id",
        "/kubepods/../pod$uid/$id",
        "/kubelet/pod$uid/$id",
        "/kubelet/kubepods.slice/kubepods-pod$flat.slice/cri-containerd-$id.scope",
        "/kubelet.slice/kubepods.slice/kubepods-pod$flat.slice/cri-containerd-$id.scope",
        "/kubepods.slice/kubepods-pod$flat.slice",
        "/kubepods.slice/kubepods-pod$flat.slice/$id",
        "/kubepods.slice/kubepods-pod$flat.slice/crio-conmon-$id.scope",
        "/kubepods.slice/kubepods-pod$flat.slice/other-$id.scope",
        "/kubepods.slice/kubepods-pod$flat.slice/cri-containerd-$id.service",
        "/kubepods.slice/kubepods-pod$uid.slice/cri-containerd-$id.scope",
        "/kubepods.slice/kubepods-burstable-pod$flat.slice/cri-containerd-$id.scope",
        "/kubepods.slice/kubepods-burstable.slice/kubepods-besteffort-pod$flat.slice/\
         cri-containerd-$id.scope",
        "/kubepods.slice/kubepods-burstable.slice/kubepods-pod$flat.slice/\
         cri-containerd-$id.scope",
        "/kubepods/kubepods-pod$flat.slice/cri-containerd-$id.scope",
        "/kubepods.slice/burstable/pod$uid/$id",
        "/kubepods-pod$flat.slice:docker:$id",
        "/kubepods-pod$uid.slice:cri-containerd:$id",
        "/other-pod$flat.slice:cri-containerd:$id",
    ] {
        assert_eq!(path(pattern), None, "{pattern}");
    }
}

#[test]
fn either_hierarchy_tells_a_pod_unless_they_tell_two() {
    let pod = Some((UID.to_owned(), ID.to_owned()));
    for (text, expected) in [
        // The older hierarchies.
        ("11:memory:/kubepods/pod$uid/$id\n1:name=systemd:/kubepods/pod$uid/$id\n", &pod),
        ("1:name=systemd:/kubepods/pod$uid/$id\n0::/\n", &pod),
        // Both, and a runtime that knows only the older ones.
        ("1:name=systemd:/kubepods/pod$uid/$id\n0::/system.slice/containerd.service\n", &pod),
        ("1:name=systemd:/kubepods/pod$uid/$id\n0::/kubepods/pod$uid/$id\n", &pod),
        ("1:name=systemd:/\n0::/kubepods/pod$uid/$id\n", &pod),
        ("1:name=systemd:/kubepods/pod$static/$id\n0::/kubepods/pod$uid/$id\n", &None),
        // A hierarchy of which nobody knows who may write there.
        ("3:name=mine:/kubepods/pod$uid/$id\n0::/system.slice/web.service\n", &None),
        ("11:memory:/kubepods/pod$uid/$id\n0::/system.slice/web.service\n", &None),
    ] {
        assert_eq!(&pod_of(text), expected, "{text}");
    }
}

#[test]
fn a_uid_of_an_entry_is_written_as_kubernetes_shows_it() {
    for (text, is_good) in [
        (UID, true),
        (STATIC, true),
        (FLAT, false),
        ("", false),
        ("web-0", false),
        ("2C48913C-B29F-11E7-9350-020968147796", false),
    ] {
        assert_eq!(is_uid(text), is_good, "{text}");
    }
}
