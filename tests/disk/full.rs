//! A full disk: the server gives up before anything is corrupted, does not start without room, and
//! has everything once there is some.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::node::{Node, audited};
use super::venue;
use super::{count, scratch};

/// KiB of the smallest disk that a server is filled on, and by how much the next one is larger.
const SMALLEST_KIB: u64 = 2_048;
const STEP_KIB: u64 = 331;
/// Disks that are tried if nobody asks for more.
const TRIED: u64 = 2;
/// With room again.
const LARGE_KIB: u64 = 262_144;

/// A file system of its own in memory; unmounted when dropped.
struct SmallDisk {
    at: PathBuf,
}

fn mount(options: &str, at: &Path) -> bool {
    let mut mount = Command::new("mount");
    mount.args(["-t", "tmpfs", "-o", options, "tmpfs"]).arg(at);
    mount.stderr(Stdio::null()).status().is_ok_and(|status| status.success())
}

impl SmallDisk {
    /// `None` where it may not be mounted; in CI it must.
    fn mount(at: PathBuf, kib: u64) -> Option<Self> {
        std::fs::create_dir(&at).expect("room");
        if mount(&format!("size={kib}k"), &at) {
            return Some(Self { at });
        }
        let in_ci = std::env::var("CI").is_ok_and(|ci| ci == "true");
        assert!(!in_ci, "a tmpfs cannot be mounted (only root may)");
        eprintln!("SKIPPED: a tmpfs cannot be mounted here, so no disk was filled");
        None
    }

    fn resize(&self, kib: u64) {
        assert!(mount(&format!("remount,size={kib}k"), &self.at), "it was mounted");
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let gone = Command::new("umount").arg("-l").arg(&self.at).status();
        assert!(gone.is_ok_and(|status| status.success()) || std::thread::panicking());
    }
}

/// Fills a disk of that size, looks at the start without room, and makes some. Returns how much
/// was acknowledged, and whether it started on the full disk.
fn fill(kib: u64) -> Option<(usize, bool)> {
    let scratch = scratch();
    let disk = SmallDisk::mount(scratch.path().join("disk"), kib)?;
    let (data, context) = (disk.at.join("data"), format!("{kib} KiB"));
    let node = Node::start(&data);
    venue::populate(&mut node.client());
    let heard = venue::ask_all(&node, 0..u64::from(u32::MAX));
    let ended = node.wait();
    ended.gave_up(&context);
    assert!(ended.said.contains("No space left on device"), "{context}: {ended:?}");
    // Without room: it may do, but it may not harm.
    let started = match Node::try_start(&[], &data) {
        Ok(node) => {
            node.kill();
            true
        }
        Err(ended) => {
            ended.gave_up(&context);
            assert!(ended.said.contains("No space left on device"), "{context}: {ended:?}");
            false
        }
    };
    disk.resize(LARGE_KIB);
    let node = Node::start(&data);
    venue::stands_by(&node, &heard, &context);
    node.stop();
    audited(&data, &context);
    Some((heard.told.len(), started))
}

#[test]
fn a_disk_that_fills_up_ends_the_server_and_loses_nothing() {
    let tried = count("CROSSLATCH_FAULTS", TRIED).min(100);
    let (mut told, mut started) = (0, 0);
    for n in 0..tried {
        let Some(filled) = fill(SMALLEST_KIB + n * STEP_KIB) else { return };
        told += filled.0;
        started += usize::from(filled.1);
    }
    assert!(told > 0, "nothing was acknowledged");
    eprintln!("{tried} disks filled, {told} answers stood, {started} started on the full disk");
}

#[test]
fn a_disk_that_was_full_before_is_said() {
    let scratch = scratch();
    let Some(disk) = SmallDisk::mount(scratch.path().join("disk"), 16) else { return };
    let data = disk.at.join("data");
    for _ in 0..2 {
        let ended = Node::try_start(&[], &data).err().expect("there is no room");
        ended.gave_up("full from the beginning");
        assert!(ended.said.contains("No space left on device"), "{ended:?}");
    }
    disk.resize(LARGE_KIB);
    let node = Node::start(&data);
    venue::populate(&mut node.client());
    node.stop();
    audited(&data, "room at last");
}
