//! Where it was measured: without that, no figure can be compared with another.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use serde::Serialize;

/// The machine and the build. What cannot be found out is `unknown` or 0.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Environment {
    /// Model of the processor.
    pub(super) cpu: String,
    /// Processors that this process may use.
    pub(super) cores: usize,
    /// Memory in GiB, rounded.
    pub(super) memory_gib: u64,
    /// Operating system and release.
    pub(super) kernel: String,
    /// Type of the data directory's file system, and the device under it.
    pub(super) file_system: String,
    /// Version, profile and target.
    pub(super) build: String,
    /// Load average of the minute before.
    pub(super) load_average_before: f64,
}

impl Environment {
    /// Looks around; `data` must exist.
    pub(super) fn of(data: &Path) -> Self {
        let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
        let memory = field(&read("/proc/meminfo"), "MemTotal").unwrap_or_default();
        let kib: f64 = memory.trim_end_matches(" kB").parse().unwrap_or(0.0);
        let load = read("/proc/loadavg");
        let mounts = read("/proc/self/mountinfo");
        Self {
            cpu: field(&read("/proc/cpuinfo"), "model name").unwrap_or_else(unknown),
            cores: std::thread::available_parallelism().map_or(0, std::num::NonZero::get),
            memory_gib: (kib / f64::from(1 << 20)).round() as u64,
            kernel: format!(
                "{} {}",
                std::env::consts::OS,
                read("/proc/sys/kernel/osrelease").trim()
            ),
            file_system: data
                .canonicalize()
                .ok()
                .and_then(|data| file_system(&mounts, &data))
                .unwrap_or_else(unknown),
            build: build(),
            load_average_before: load
                .split(' ')
                .next()
                .and_then(|it| it.parse().ok())
                .unwrap_or(0.0),
        }
    }
}

fn unknown() -> String {
    "unknown".into()
}

fn build() -> String {
    let profile = if cfg!(debug_assertions) { "debug" } else { "release" };
    let simd = if cfg!(target_feature = "sse4.2") { "+sse4.2" } else { "" };
    let (version, arch) = (env!("CARGO_PKG_VERSION"), std::env::consts::ARCH);
    format!("crosslatch {version} {profile} {arch}{simd}")
}

/// What follows `name:` at the start of a line, as in `/proc/cpuinfo`.
fn field(text: &str, name: &str) -> Option<String> {
    text.lines().find_map(|line| {
        let (found, value) = line.split_once(':')?;
        (found.trim() == name).then(|| value.trim().to_owned())
    })
}

/// Type and device of the deepest mount that holds the path, from `/proc/self/mountinfo`.
fn file_system(mounts: &str, path: &Path) -> Option<String> {
    let mount = |line: &str| {
        let (before, after) = line.split_once(" - ")?;
        let point = before.split(' ').nth(4)?;
        let mut after = after.split(' ');
        let (kind, device) = (after.next()?, after.next()?);
        path.starts_with(point).then(|| (point.len(), format!("{kind} on {device}")))
    };
    // Of mounts at one point the last one is seen.
    mounts.lines().filter_map(mount).max_by_key(|(depth, _)| *depth).map(|(_, found)| found)
}

/// Bytes that a directory with all below it takes on the disk; 0 if it cannot be read.
pub(super) fn disk_bytes(directory: &Path) -> u64 {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    entries
        .map(|entry| match entry.metadata() {
            Ok(found) if found.is_dir() => disk_bytes(&entry.path()),
            Ok(found) => found.blocks() * 512,
            // Removed in between, as log files are.
            Err(_) => 0,
        })
        .sum()
}

/// Bytes that this process has had written to a disk so far; 0 if nobody says.
pub(super) fn written_bytes() -> u64 {
    let io = fs::read_to_string("/proc/self/io").unwrap_or_default();
    field(&io, "write_bytes").and_then(|bytes| bytes.parse().ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_deepest_mount_counts() {
        let mounts = "22 1 0:21 / / rw - ext4 /dev/vda rw\n\
                      30 22 0:30 / /data rw,nosuid shared:7 - xfs /dev/vdb rw\n\
                      31 22 0:31 / /database rw - tmpfs none rw\n";
        let found = |path: &str| file_system(mounts, Path::new(path)).unwrap();
        assert_eq!(found("/data/engine"), "xfs on /dev/vdb");
        assert_eq!(found("/database"), "tmpfs none".replace(' ', " on "));
        assert_eq!(found("/elsewhere"), "ext4 on /dev/vda");
        assert_eq!(file_system("", Path::new("/")), None);
    }

    #[test]
    fn fields_are_found_by_name() {
        let text = "processor\t: 0\nmodel name\t: Some CPU @ 3 GHz\nMemTotal:  1024 kB\n";
        assert_eq!(field(text, "model name").unwrap(), "Some CPU @ 3 GHz");
        assert_eq!(field(text, "MemTotal").unwrap(), "1024 kB");
        assert_eq!(field(text, "model"), None);
    }

    #[test]
    fn a_directory_takes_what_its_files_take() {
        let directory = tempfile::tempdir().unwrap();
        fs::create_dir(directory.path().join("deeper")).unwrap();
        let file = directory.path().join("deeper/file");
        fs::write(&file, [7; 100_000]).unwrap();
        fs::File::open(&file).unwrap().sync_all().unwrap();
        assert!(disk_bytes(directory.path()) >= 100_000);
        assert_eq!(disk_bytes(&directory.path().join("missing")), 0);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn this_machine_is_known() {
        let here = Environment::of(Path::new("."));
        assert!(here.cores > 0 && here.memory_gib > 0, "{here:?}");
        assert!(here.kernel.starts_with("linux ") && here.file_system != "unknown", "{here:?}");
    }
}
