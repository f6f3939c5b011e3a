//! `strace`, which makes system calls of one thread of a process fail or take long.
//!
//! It counts calls per thread. So it is attached to the one thread that matters, and the N-th call
//! of that thread since then is the one that fails, whatever the others do.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use rustix::process::{Pid, Signal, geteuid, kill_process};

/// `strace` attached to threads of a process; it ends with them.
pub struct Trace {
    strace: Child,
    told: PathBuf,
}

/// Whether `strace` can be had here; in CI it must.
pub fn is_there() -> bool {
    let version = Command::new("strace").arg("--version").stdout(Stdio::null()).status();
    let is_installed = version.is_ok_and(|status| status.success());
    let lack = match (is_installed, may_trace()) {
        (true, true) => return true,
        (false, _) => "strace is not installed",
        (true, false) => "only root may trace here (/proc/sys/kernel/yama/ptrace_scope)",
    };
    assert!(!std::env::var("CI").is_ok_and(|ci| ci == "true"), "{lack}");
    eprintln!("SKIPPED: {lack}, so no system call was made to fail, or to take long");
    false
}

/// Whether a process may trace another that it did not start.
fn may_trace() -> bool {
    let scope = fs::read_to_string("/proc/sys/kernel/yama/ptrace_scope");
    geteuid().is_root() || scope.is_ok_and(|scope| scope.trim() == "0")
}

/// Threads of a process by how their name begins.
fn threads(process: Pid, name: &str) -> Vec<String> {
    let tasks = format!("/proc/{}/task", process.as_raw_nonzero());
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
    pub fn attach(
        process: Pid,
        thread: &str,
        inject: &str,
        paths: &[PathBuf],
        told: &Path,
    ) -> Self {
        let mut strace = Command::new("strace");
        let calls = inject.split(':').next().expect("calls");
        strace.args(["-e", &format!("trace={calls}"), "-e", &format!("inject={inject}"), "-o"]);
        strace.arg(told).args(only(paths));
        let threads = threads(process, thread);
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
    pub fn end(mut self) -> String {
        let ended = self.strace.wait().expect("it ran");
        assert!(ended.code().is_some(), "{ended:?}");
        fs::read_to_string(&self.told).expect("it tells")
    }

    /// Lets the threads go on undisturbed; returns what it saw.
    pub fn let_go(mut self) -> String {
        kill_process(Pid::from_child(&self.strace), Signal::TERM).expect("it runs");
        self.strace.wait().expect("it ran");
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
