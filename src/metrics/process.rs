//! What the operating system says about this process, read when somebody asks.
//!
//! The names are those of Prometheus' own client libraries, so that common dashboards work. What
//! cannot be read (there is no `/proc` outside Linux) is left out.

use std::collections::BTreeMap;
use std::fs;

use super::table::{
    Metric, PROCESS_CPU, PROCESS_MAX_FDS, PROCESS_OPEN_FDS, PROCESS_RESIDENT, PROCESS_START,
    PROCESS_THREADS, PROCESS_VIRTUAL, THREAD_CPU,
};

/// The unit of the times in `/proc/*/stat`: Linux shows user space 100 a second everywhere.
const TICKS_PER_SECOND: f64 = 100.0;

/// Writes the `process_*` metrics as Prometheus text.
pub(super) fn write(out: &mut String) {
    let read = |path: &str| fs::read_to_string(path).ok();
    let stat = read("/proc/self/stat").and_then(|text| Stat::parse(&text));
    let status = read("/proc/self/status").unwrap_or_default();
    let boot = read("/proc/stat").and_then(|text| number_after(&text, "btime"));
    let limits = read("/proc/self/limits").unwrap_or_default();
    // One of the entries is the listing itself.
    let open = fs::read_dir("/proc/self/fd").ok().map(|entries| entries.count() as f64 - 1.0);
    let started =
        stat.as_ref().zip(boot).map(|(stat, boot)| boot + stat.started_after_boot_seconds);
    let kilobytes = |name| number_after(&status, name).map(|kb: f64| kb * 1024.0);
    write_one(out, &PROCESS_CPU, stat.as_ref().map(|stat| stat.cpu_seconds));
    write_one(out, &PROCESS_RESIDENT, kilobytes("VmRSS:"));
    write_one(out, &PROCESS_VIRTUAL, kilobytes("VmSize:"));
    write_one(out, &PROCESS_OPEN_FDS, open);
    write_one(out, &PROCESS_MAX_FDS, number_after(&limits, "Max open files"));
    write_one(out, &PROCESS_START, started);
    write_one(out, &PROCESS_THREADS, stat.as_ref().map(|stat| stat.threads));
    write_threads(out);
}

/// Writes the CPU time of the threads whose names are known. They live as long as the engine does,
/// which is what makes their time a counter.
fn write_threads(out: &mut String) {
    let mut seconds: BTreeMap<String, f64> = BTreeMap::new();
    for entry in fs::read_dir("/proc/self/task").into_iter().flatten().flatten() {
        let file = |name: &str| fs::read_to_string(entry.path().join(name)).ok();
        let Some((name, times)) = file("comm").zip(file("schedstat")) else { continue };
        let nanos = times.split(' ').next().and_then(|word| word.parse::<f64>().ok());
        if let Some((labels, nanos)) = thread_labels(name.trim()).zip(nanos) {
            *seconds.entry(labels).or_default() += nanos / 1e9;
        }
    }
    if !seconds.is_empty() {
        THREAD_CPU.write_header(out);
    }
    for (labels, seconds) in seconds {
        out.push_str(&format!("{}{{{labels}}} {seconds}\n", THREAD_CPU.name));
    }
}

/// Whose thread it is, as labels, by its name; `None` for those that come and go.
fn thread_labels(name: &str) -> Option<String> {
    let numbered = |actor: &str| {
        let number: usize = name.strip_prefix(actor)?.strip_prefix('-')?.parse().ok()?;
        Some(format!("actor=\"{actor}\",shard=\"{number}\""))
    };
    let actor = match name {
        "coordinator" | "materializer" => name,
        "commit-log" => "commit_log",
        _ if name.starts_with("rocksdb:") => "rocksdb",
        _ => return numbered("shard").or_else(|| numbered("market")),
    };
    Some(format!("actor=\"{actor}\""))
}

fn write_one(out: &mut String, metric: &Metric, value: Option<f64>) {
    if let Some(value) = value {
        metric.write_header(out);
        out.push_str(&format!("{} {value}\n", metric.name));
    }
}

/// The first word after `name` at the start of a line, as a number. A limit that is `unlimited`
/// reads as the largest there is.
fn number_after(text: &str, name: &str) -> Option<f64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    match line.split_whitespace().next()? {
        "unlimited" => Some(u64::MAX as f64),
        word => word.parse().ok(),
    }
}

/// What `/proc/self/stat` says.
#[derive(Debug, PartialEq)]
struct Stat {
    cpu_seconds: f64,
    threads: f64,
    started_after_boot_seconds: f64,
}

impl Stat {
    /// The second field is the program's name in parentheses and may hold anything, so counting
    /// starts behind its last parenthesis, with the third.
    fn parse(text: &str) -> Option<Self> {
        let fields: Vec<&str> = text[text.rfind(')')? + 1..].split_whitespace().collect();
        let field = |number: usize| fields.get(number - 3)?.parse::<f64>().ok();
        Some(Self {
            cpu_seconds: (field(14)? + field(15)?) / TICKS_PER_SECOND,
            threads: field(20)?,
            started_after_boot_seconds: field(22)? / TICKS_PER_SECOND,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_full_of_parentheses_is_survived() {
        let text = "7 (a) b) c) S 1 7 7 0 -1 4194560 90 0 0 0 250 50 0 0 20 0 9 0 12345 80 20\n";
        let expected = Stat { cpu_seconds: 3.0, threads: 9.0, started_after_boot_seconds: 123.45 };
        assert_eq!(Stat::parse(text), Some(expected));
        assert_eq!(Stat::parse("7 (short) S 1"), None);
    }

    #[test]
    fn threads_are_known_by_their_names() {
        let of = |name| thread_labels(name).unwrap_or_default();
        assert_eq!(of("shard-12"), r#"actor="shard",shard="12""#);
        assert_eq!(of("market-0"), r#"actor="market",shard="0""#);
        assert_eq!(of("commit-log"), r#"actor="commit_log""#);
        assert_eq!(of("rocksdb:low"), r#"actor="rocksdb""#);
        for other in ["rocksdb-stats", "tokio-rt-worker", "shard-", "shard-x", "crosslatch"] {
            assert_eq!(of(other), "", "{other}");
        }
    }

    #[test]
    fn numbers_are_found_by_the_start_of_their_line() {
        let text = "Max cpu time  unlimited unlimited seconds\nMax open files  1024  4096  files\n";
        assert_eq!(number_after(text, "Max open files"), Some(1024.0));
        assert_eq!(number_after(text, "Max cpu time"), Some(u64::MAX as f64));
        assert_eq!(number_after(text, "open files"), None);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn this_process_has_sane_figures() {
        let mut out = String::new();
        write(&mut out);
        let value =
            |name: &str| number_after(&out, &format!("{name} ")).expect("readable on Linux");
        assert!((1.0..100_000.0).contains(&value("process_threads")));
        assert!(value("process_open_fds") >= 3.0);
        assert!(value("process_open_fds") <= value("process_max_fds"));
        assert!(value("process_resident_memory_bytes") >= 1e6);
        assert!(value("process_start_time_seconds") > 1.5e9);
    }
}
