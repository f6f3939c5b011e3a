//! The library that a child is started with to keep account of its disk (`shim.c`): how it is
//! built, and how its log is read.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::process::Command;

const SOURCE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/crash/shim.c");
const MAGIC: u32 = 0x544f_4c53;
const HEAD_BYTES: usize = 40;

/// What happened to a file or directory, in the order in which it did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// Something is about to happen to these.
    Begin(PathBuf, PathBuf),
    Create(PathBuf, u64),
    Resize {
        inode: u64,
        len: u64,
    },
    Write {
        inode: u64,
        at: u64,
        bytes: Vec<u8>,
    },
    /// What came before is covered once this sync is done.
    SyncBegin {
        inode: u64,
        sync: u64,
    },
    SyncDone(u64),
    MakeDirectory(PathBuf, u64),
    Rename(PathBuf, PathBuf),
    Link(PathBuf, PathBuf),
    Unlink(PathBuf),
}

/// Compiles the library into a directory. `None` where there is no compiler; in CI there must be.
pub fn build(directory: &Path) -> Option<PathBuf> {
    let library = directory.join("shim.so");
    let compiler = std::env::var("CC").unwrap_or("cc".into());
    let built = Command::new(&compiler)
        .args(["-shared", "-fPIC", "-O1", "-Wall", "-Wextra", "-Werror", "-pthread", "-o"])
        .args([library.as_os_str(), OsStr::new(SOURCE)])
        .output();
    match built {
        Ok(done) => {
            let said = String::from_utf8_lossy(&done.stderr);
            assert!(done.status.success(), "{compiler} {SOURCE}: {said}");
            Some(library)
        }
        Err(error) if std::env::var("CI").is_ok_and(|ci| ci == "true") => {
            panic!("{compiler} cannot be run: {error}")
        }
        Err(error) => {
            eprintln!("SKIPPED: {compiler} cannot be run ({error}), so no power was lost");
            None
        }
    }
}

/// What a child is started with, so that all it does below `root` is logged, and that it dies at
/// the event of that number, if there is one.
pub fn environment(
    library: &Path,
    root: &Path,
    log: &Path,
    die_at: usize,
) -> [(&'static str, String); 4] {
    let text = |path: &Path| path.to_str().expect("a plain path").to_owned();
    [
        ("LD_PRELOAD", text(library)),
        ("CROSSLATCH_SHIM_ROOT", text(root)),
        ("CROSSLATCH_SHIM_LOG", text(log)),
        ("CROSSLATCH_SHIM_DIE_AT", die_at.to_string()),
    ]
}

/// Reads a log; what it ends with may be cut off.
pub fn read(log: &Path) -> Vec<Event> {
    let bytes = std::fs::read(log).expect("the shim made it");
    let mut rest = bytes.as_slice();
    let mut events = Vec::new();
    while let Some((event, after)) = next(rest) {
        events.push(event);
        rest = after;
    }
    events
}

fn next(log: &[u8]) -> Option<(Event, &[u8])> {
    let (head, rest) = log.split_first_chunk::<HEAD_BYTES>()?;
    let short = |at: usize| u32::from_le_bytes(*head[at..].first_chunk().expect("4 bytes"));
    let long = |at: usize| u64::from_le_bytes(*head[at..].first_chunk().expect("8 bytes"));
    assert_eq!(short(0), MAGIC, "the shim's log is garbled");
    let (inode, offset) = (long(16), long(24));
    let (path, rest) = rest.split_at_checked(short(8) as usize)?;
    let (path2, rest) = rest.split_at_checked(short(12) as usize)?;
    let (bytes, rest) = rest.split_at_checked(long(32) as usize)?;
    let [path, path2] = [path, path2].map(|bytes| PathBuf::from(OsStr::from_bytes(bytes)));
    let event = match short(4) {
        1 => Event::Begin(path, path2),
        2 => Event::Create(path, inode),
        3 => Event::Resize { inode, len: offset },
        4 => Event::Write { inode, at: offset, bytes: bytes.into() },
        5 => Event::SyncBegin { inode, sync: offset },
        6 => Event::SyncDone(offset),
        7 => Event::MakeDirectory(path, inode),
        8 => Event::Rename(path, path2),
        9 => Event::Link(path, path2),
        10 => Event::Unlink(path),
        other => panic!("the child did what nobody has a model of: {other} {}", path.display()),
    };
    Some((event, rest))
}
