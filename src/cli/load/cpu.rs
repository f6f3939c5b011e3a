//! Where the processor time goes: by thread of this process, and what others take meanwhile.
//!
//! Reads `/proc`; where there is none, everything is zero or missing.

use std::collections::BTreeMap;
use std::fs;
use std::time::Duration;

/// The unit of the times in `/proc/stat` and `/proc/*/stat`: 100 a second everywhere on Linux.
const TICK: Duration = Duration::from_millis(10);

/// CPU time up to now, of threads alive, by name; of this process; of the machine.
#[derive(Clone, Debug, Default)]
pub(super) struct CpuTimes {
    threads: BTreeMap<String, Duration>,
    process: Duration,
    machine: Duration,
}

/// What was used between two readings.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct CpuUsed {
    /// By name of thread, most first.
    pub(super) threads: Vec<(String, Duration)>,
    /// All threads of this process, those that have ended too.
    pub(super) process: Duration,
    /// Every other process and the kernel.
    pub(super) others: Duration,
}

impl CpuTimes {
    /// Reads the times as they are now.
    pub(super) fn now() -> Self {
        let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
        let mut threads = BTreeMap::new();
        for entry in fs::read_dir("/proc/self/task").into_iter().flatten().flatten() {
            let file = |name: &str| fs::read_to_string(entry.path().join(name)).ok();
            if let Some((name, times)) = file("comm").zip(file("schedstat")) {
                *threads.entry(name.trim().to_owned()).or_default() += on_cpu(&times);
            }
        }
        let process = process_ticks(&read("/proc/self/stat"));
        let machine = machine_ticks(&read("/proc/stat"));
        Self { threads, process: TICK * process, machine: TICK * machine }
    }

    /// What was used since `before`.
    pub(super) fn since(&self, before: &Self) -> CpuUsed {
        let used = |(name, now): (&String, &Duration)| {
            let used = now.saturating_sub(before.threads.get(name).copied().unwrap_or_default());
            (name.clone(), used)
        };
        let mut threads: Vec<_> = self.threads.iter().map(used).collect();
        threads.retain(|(_, used)| !used.is_zero());
        let process = self.process.saturating_sub(before.process);
        let machine = self.machine.saturating_sub(before.machine);
        let mut used = CpuUsed { threads, process, others: machine.saturating_sub(process) };
        used.sort();
        used
    }
}

impl CpuUsed {
    /// Adds a thread that had ended when the times were read.
    pub(super) fn add(&mut self, name: &str, time: Duration) {
        self.threads.push((name.to_owned(), time));
        self.sort();
    }

    fn sort(&mut self) {
        self.threads.sort_by_key(|(_, time)| std::cmp::Reverse(*time));
    }
}

/// CPU time of the calling thread.
pub(super) fn of_this_thread() -> Duration {
    on_cpu(&fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default())
}

/// The first number of a `schedstat`: nanoseconds on a processor.
fn on_cpu(schedstat: &str) -> Duration {
    let nanos = schedstat.split_whitespace().next().and_then(|word| word.parse().ok());
    Duration::from_nanos(nanos.unwrap_or(0))
}

/// User and system time of a process. Counting starts behind the name, which may hold anything.
fn process_ticks(stat: &str) -> u32 {
    let behind = stat.rfind(')').map_or("", |end| &stat[end + 1..]);
    behind.split_whitespace().skip(11).take(2).filter_map(|word| word.parse::<u32>().ok()).sum()
}

/// What all processors did but wait: user, nice, system, interrupts, stolen.
fn machine_ticks(stat: &str) -> u32 {
    let line = stat.lines().next().unwrap_or_default();
    let ticks: Vec<u64> = line.split_whitespace().skip(1).flat_map(str::parse).collect();
    let busy = [0, 1, 2, 5, 6, 7].into_iter().filter_map(|field| ticks.get(field)).sum::<u64>();
    u32::try_from(busy).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_from_the_right_fields() {
        let stat = "7 (a) b) c) S 1 7 7 0 -1 4194560 90 0 0 0 250 50 9 9 20 0 9 0 12345 80 20\n";
        assert_eq!(process_ticks(stat), 300);
        assert_eq!(machine_ticks("cpu  1 2 4 1000 1000 8 16 32 64 128\ncpu0 9 9\n"), 63);
        assert_eq!(on_cpu("1500 7 3\n"), Duration::from_nanos(1_500));
        assert_eq!((process_ticks(""), machine_ticks(""), on_cpu("")), (0, 0, Duration::ZERO));
    }

    #[test]
    fn what_was_used_is_the_difference_and_most_comes_first() {
        let seconds = Duration::from_secs;
        let times = |a, b, process, machine| CpuTimes {
            threads: [("a".into(), seconds(a)), ("b".into(), seconds(b))].into(),
            process: seconds(process),
            machine: seconds(machine),
        };
        let mut used = times(3, 9, 20, 50).since(&times(3, 2, 10, 20));
        used.add("gone", seconds(8));
        let expected = CpuUsed {
            threads: vec![("gone".into(), seconds(8)), ("b".into(), seconds(7))],
            process: seconds(10),
            others: seconds(20),
        };
        assert_eq!(used, expected);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn this_machine_can_be_read() {
        let now = CpuTimes::now();
        assert!(!now.threads.is_empty() && !now.machine.is_zero());
        assert!(!of_this_thread().is_zero());
    }
}
