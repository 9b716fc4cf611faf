//! How many processors this process may use: by its affinity, and by what its control groups
//! allow of their time.

use std::path::{Path, PathBuf};

/// The file of the process's control groups, and where their files are.
///
/// **Source**: cgroups(7).
const MEMBERSHIP: &str = "/proc/self/cgroup";
const HIERARCHY: &str = "/sys/fs/cgroup";

/// Processors that may be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cores {
    /// At least 1; a part of a processor counts as a whole one.
    pub count: usize,
    /// What keeps it from being more.
    pub limited_by: LimitedBy,
}

/// What limits the use of processors.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LimitedBy {
    /// The processors that there are, or that the process is bound to.
    Affinity,
    /// The time that a control group gives.
    Cgroup,
}

/// Returns the processors that this process may use.
pub fn usable() -> Cores {
    let bound = rustix::thread::sched_getaffinity(None).map_or(1, |set| set.count() as usize);
    let membership = std::fs::read_to_string(MEMBERSHIP).unwrap_or_default();
    limited(bound.max(1), quota(&membership, Path::new(HIERARCHY)))
}

/// Takes the smaller; the quota is in thousandths of a processor.
fn limited(bound: usize, quota: Option<u64>) -> Cores {
    let quota = quota.map(|quota| usize::try_from(quota.div_ceil(1000)).unwrap_or(usize::MAX));
    match quota {
        Some(quota) if quota.max(1) < bound => {
            Cores { count: quota.max(1), limited_by: LimitedBy::Cgroup }
        }
        Some(_) | None => Cores { count: bound, limited_by: LimitedBy::Affinity },
    }
}

/// Returns the smallest quota of the process's control groups and those above them, in
/// thousandths of a processor; `None` when there is none.
///
/// **Source**: Linux: Documentation/admin-guide/cgroup-v2.rst (`cpu.max`),
/// Documentation/scheduler/sched-bwc.rst (`cpu.cfs_quota_us`).
fn quota(membership: &str, hierarchy: &Path) -> Option<u64> {
    let mut quotas = Vec::new();
    for line in membership.lines() {
        let mut fields = line.splitn(3, ':').skip(1);
        let (Some(controllers), Some(path)) = (fields.next(), fields.next()) else { continue };
        let path = Path::new(path.trim_start_matches('/'));
        if controllers.is_empty() {
            quotas.extend(upwards(hierarchy, path).filter_map(|at| unified(&at)));
        } else if controllers.split(',').any(|controller| controller == "cpu") {
            for root in ["cpu", "cpu,cpuacct", "cpuacct,cpu"].map(|name| hierarchy.join(name)) {
                quotas.extend(upwards(&root, path).filter_map(|at| legacy(&at)));
            }
        }
    }
    quotas.into_iter().min()
}

/// The group's folder and those above it. In a container the path may be that of the host, which
/// is not seen here; then the root is the group's own.
fn upwards(root: &Path, path: &Path) -> impl Iterator<Item = PathBuf> {
    let folders: Vec<PathBuf> = path.ancestors().map(|part| root.join(part)).collect();
    folders.into_iter()
}

fn unified(group: &Path) -> Option<u64> {
    let text = std::fs::read_to_string(group.join("cpu.max")).ok()?;
    let (quota, period) = text.trim().split_once(' ')?;
    share(quota.parse().ok()?, period.parse().ok()?)
}

fn legacy(group: &Path) -> Option<u64> {
    let read = |name: &str| -> Option<u64> {
        // A quota of -1 is none.
        std::fs::read_to_string(group.join(name)).ok()?.trim().parse().ok()
    };
    share(read("cpu.cfs_quota_us")?, read("cpu.cfs_period_us")?)
}

fn share(quota: u64, period: u64) -> Option<u64> {
    quota.checked_mul(1000)?.checked_div(period)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(root: &Path, files: &[(&str, &str)]) {
        for (path, text) in files {
            let path = root.join(path);
            std::fs::create_dir_all(path.parent().expect("a folder")).expect("made");
            std::fs::write(path, text).expect("written");
        }
    }

    #[test]
    fn the_narrowest_group_counts_in_both_versions() {
        for (membership, files, want) in [
            ("0::/a/b\n", vec![("a/b/cpu.max", "max 100000\n")], None),
            ("0::/a/b\n", vec![("a/b/cpu.max", "150000 100000\n")], Some(1500)),
            (
                "0::/a/b\n",
                vec![("a/b/cpu.max", "400000 100000\n"), ("a/cpu.max", "50000 100000\n")],
                Some(500),
            ),
            // A container that sees its own group as the root.
            ("0::/../host/path\n", vec![("cpu.max", "250000 100000\n")], Some(2500)),
            (
                "5:memory:/x\n4:cpu,cpuacct:/x\n0::/y\n",
                vec![
                    ("cpu,cpuacct/x/cpu.cfs_quota_us", "120000\n"),
                    ("cpu,cpuacct/x/cpu.cfs_period_us", "100000\n"),
                ],
                Some(1200),
            ),
            (
                "4:cpu:/x\n",
                vec![("cpu/x/cpu.cfs_quota_us", "-1\n"), ("cpu/x/cpu.cfs_period_us", "100000\n")],
                None,
            ),
            ("nonsense", vec![("cpu.max", "1 0\n")], None),
            ("0::/\n", vec![("cpu.max", "1 0\n")], None),
        ] {
            let root = tempfile::tempdir().expect("a folder");
            write(root.path(), &files);
            assert_eq!(quota(membership, root.path()), want, "{membership:?} {files:?}");
        }
    }

    #[test]
    fn a_part_of_a_processor_counts_as_a_whole_one() {
        let by = |bound, quota| {
            let cores = limited(bound, quota);
            (cores.count, cores.limited_by)
        };
        assert_eq!(by(8, None), (8, LimitedBy::Affinity));
        assert_eq!(by(8, Some(1500)), (2, LimitedBy::Cgroup));
        assert_eq!(by(8, Some(10)), (1, LimitedBy::Cgroup));
        assert_eq!(by(2, Some(2000)), (2, LimitedBy::Affinity));
        assert_eq!(by(2, Some(64_000)), (2, LimitedBy::Affinity));
        assert!(usable().count >= 1);
    }
}
