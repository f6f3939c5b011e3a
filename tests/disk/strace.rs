//! `strace`, which makes system calls of one thread fail or take long.
//!
//! It counts calls per thread. So it is attached to the one thread that matters, and the N-th call
//! of that thread since then is the one that fails, whatever the others do.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use super::node::{Node, wait_for};

/// `strace` attached to threads of a server; it ends with them.
pub struct Trace {
    strace: Child,
    told: PathBuf,
}

/// Whether `strace` can be had here; in CI it must.
pub fn is_there() -> bool {
    let version = Command::new("strace").arg("--version").stdout(Stdio::null()).status();
    if version.is_ok_and(|status| status.success()) {
        return true;
    }
    assert!(!std::env::var("CI").is_ok_and(|ci| ci == "true"), "strace is not installed");
    eprintln!("SKIPPED: strace is not installed, so no system call was made to fail");
    false
}

/// Threads of a server by how their name begins.
fn threads(node: &Node, name: &str) -> Vec<String> {
    let tasks = format!("/proc/{}/task", node.pid().as_raw_nonzero());
    let mut found = Vec::new();
    for task in fs::read_dir(tasks).expect("it runs") {
        let task = task.expect("an entry");
        // A thread may end meanwhile.
        let comm = fs::read_to_string(task.path().join("comm")).unwrap_or_default();
        if comm.starts_with(name) {
            found.push(task.file_name().into_string().expect("a number"));
        }
    }
    assert!(!found.is_empty(), "no thread is called {name}");
    found
}

impl Trace {
    /// Has system calls of the threads of that name go as `inject` says, for example
    /// `fdatasync:error=EIO:when=3`, if they are about one of `paths` or none are named. What happens is
    /// told to a file.
    pub fn attach(node: &Node, thread: &str, inject: &str, paths: &[PathBuf], told: &Path) -> Self {
        let mut strace = Command::new("strace");
        let calls = inject.split(':').next().expect("calls");
        strace.args(["-e", &format!("trace={calls}"), "-e", &format!("inject={inject}"), "-o"]);
        strace.arg(told).args(only(paths));
        let threads = threads(node, thread);
        for thread in &threads {
            strace.args(["-p", thread]);
        }
        let strace = strace.stderr(Stdio::piped()).stdout(Stdio::null());
        let mut strace = strace.spawn().expect("strace starts");
        let mut said = BufReader::new(strace.stderr.take().expect("piped")).lines();
        for _ in &threads {
            let line = said.next().expect("it says that it is attached").expect("text");
            assert!(line.contains("attached"), "{line}");
        }
        // What it says when it lets go is of no interest, but must find somebody who listens.
        std::thread::spawn(move || said.for_each(drop));
        Self { strace, told: told.to_owned() }
    }

    /// What it saw, once the threads are gone.
    pub fn end(self) -> String {
        let ended = wait_for(self.strace);
        assert!(ended.status.success() || ended.status.code().is_some(), "{ended:?}");
        fs::read_to_string(&self.told).expect("it tells")
    }
}

/// The options that restrict it to calls about one of `paths`, if there are any.
pub fn only(paths: &[PathBuf]) -> Vec<String> {
    let text = |path: &PathBuf| path.to_str().expect("a plain path").to_owned();
    paths.iter().flat_map(|path| ["-P".to_owned(), text(path)]).collect()
}

/// How often something was injected.
pub fn injected(told: &str) -> usize {
    told.matches("(INJECTED)").count() + told.matches("(DELAYED)").count()
}
