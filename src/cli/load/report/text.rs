//! The report for people who read it in a terminal.

use std::fmt;

use super::super::environment::Environment;
use super::super::refusals::RefusalsChecked;
use super::super::tally::OrderCounts;
use super::{BUSY_PCT, Fsync, Latency, Mode, Orders, Probes, Report, STAGES, grouped, mode_name};

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.write_outcome(f)?;
        self.write_times(f)?;
        self.write_costs(f)?;
        self.write_checks(f)?;
        let Environment { cpu, cores, memory_gib, kernel, file_system, build, .. } =
            &self.environment;
        write!(
            f,
            "measured on  {cpu}, {cores} cores, {memory_gib} GiB; {kernel}; {file_system}; {build}"
        )
    }
}

impl Report {
    fn write_outcome(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { batch, clients, skew, durability, shards, accounts, .. } = self;
        let spread = match &self.orders {
            Some(orders) => format!(", {} markets", orders.markets),
            None => format!(" ({:.1}% of the swaps span two)", self.cross_shard_pct),
        };
        writeln!(
            f,
            "workload     {} mode, {} accounts, {skew}, {shards} shards{spread}, \
             {clients} clients with {batch} a submission, durability {durability}",
            mode_name(self.mode),
            grouped(*accounts),
        )?;
        let early = if self.stopped_early { ", stopped early" } else { "" };
        writeln!(
            f,
            "{:<12} {} settled, {} rejected, {} waited for another one{early}",
            if self.orders.is_some() { "requests" } else { "swaps" },
            grouped(self.swaps_settled),
            grouped(self.swaps_rejected),
            grouped(self.waits),
        )?;
        self.write_orders(f)?;
        if self.mode == Mode::Transaction {
            writeln!(
                f,
                "conflicts    {} transactions refused because something read had changed: {} tried \
                 again, {} swaps given up after {} retries",
                grouped(self.conflicts),
                grouped(self.retries),
                grouped(self.gave_up),
                self.retries_max,
            )?;
        }
        writeln!(
            f,
            "rate         {} settled/s to the last answer ({:.2} s), {} drained/s until the version \
             store had caught up ({:.2} s)",
            grouped(self.settled_per_second as u64),
            self.seconds,
            grouped(self.drained_per_second as u64),
            self.drained_seconds,
        )
    }

    fn write_orders(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(Orders { told, trades, open, .. }) = self.orders else {
            return Ok(());
        };
        let OrderCounts { placed, immediate, amended, canceled } = told;
        writeln!(
            f,
            "orders       {} placed ({} immediate or cancel), {} amendments, {} cancellations; {} \
             trades, {} more open at the end",
            grouped(placed),
            grouped(immediate),
            grouped(amended),
            grouped(canceled),
            grouped(trades),
            open,
        )?;
        let rejects: Vec<_> = self
            .rejects
            .iter()
            .map(|(code, count)| format!("{code} {}", grouped(*count)))
            .collect();
        writeln!(f, "refused      {}", rejects.join(", "))
    }

    fn write_times(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Latency { p50, p90, p99, p999, max } = self.latency_ms;
        writeln!(
            f,
            "latency      p50 {p50:.3} ms, p90 {p90:.3}, p99 {p99:.3}, p99.9 {p999:.3}, max {max:.3}"
        )?;
        write!(f, "stages       ")?;
        for (index, stage) in STAGES.into_iter().enumerate() {
            let comma = if index > 0 { ", " } else { "" };
            write!(f, "{comma}{stage} {:.3} ms", self.stage_seconds[stage] * 1e3)?;
        }
        let Fsync { p50, p99, count, .. } = self.fsync_seconds;
        writeln!(
            f,
            "\njournal      {} syncs, p50 {:.3} ms, p99 {:.3} ms, of {:.0} requests on average",
            grouped(count),
            p50 * 1e3,
            p99 * 1e3,
            self.group_size_mean,
        )?;
        if let Some(Probes { before, after, p50_ratio }) = self.fsync_probe {
            writeln!(
                f,
                "disk alone   4 KiB append + fdatasync p50 {:.3} ms before, {:.3} ms after; a swap's \
                 p50 is {p50_ratio:.2} times that",
                before.p50_ms, after.p50_ms,
            )?;
        }
        Ok(())
    }

    fn write_costs(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut cpu: Vec<_> = self.cpu_seconds_per_million_swaps.iter().collect();
        cpu.sort_by(|a, b| b.1.total_cmp(a.1));
        let each = if self.orders.is_some() { "request" } else { "swap" };
        write!(f, "cpu          seconds per million {each}s:")?;
        for (name, seconds) in cpu.into_iter().filter(|(_, seconds)| **seconds >= 0.005) {
            write!(f, " {name} {seconds:.2}")?;
        }
        writeln!(f, "; others used {:.0}% of the machine", self.other_cpu_pct)?;
        if self.other_cpu_pct >= BUSY_PCT {
            writeln!(
                f,
                "             others were busy: neither the times nor their ratio to the disk alone \
                 are those of a quiet machine"
            )?;
        }
        writeln!(
            f,
            "disk         {:.0} bytes a {each} written, the directory grew by {:.0}",
            self.disk_written_bytes_per_swap, self.disk_bytes_per_swap,
        )
    }

    fn write_checks(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(RefusalsChecked { refusals, checked, wrong, first_wrong }) =
            &self.refusals_checked
        {
            writeln!(
                f,
                "refusals     {} of {} read back as of their seq: {wrong} wrong",
                grouped(*checked),
                grouped(*refusals),
            )?;
            first_wrong.iter().try_for_each(|wrong| writeln!(f, "             {wrong}"))?;
        }
        if self.false_refusals > 0 {
            writeln!(f, "FALSE REFUSALS: {} ({:?})", self.false_refusals, self.rejects)?;
        }
        if self.holds_open != 0 {
            writeln!(f, "HOLDS LEFT OPEN: {}", self.holds_open)?;
        }
        let Some(verdict) = &self.verification else {
            return Ok(());
        };
        let word = if verdict.is_verified() { "yes" } else { "NO" };
        if verdict.accounts_compared == 0 {
            // Of a server that is not ours to stop, what it says itself.
            writeln!(
                f,
                "verified     {word}: by the server's own audit {} balances add up to the supply, and it has \
                 settled what was answered",
                grouped(verdict.balances_summed),
            )?;
            return verdict.wrong.iter().try_for_each(|wrong| writeln!(f, "             {wrong}"));
        }
        let of_mode = match self.orders {
            Some(_) => format!("{} answers are what they were", grouped(verdict.answers_compared)),
            None => "nothing is held".to_owned(),
        };
        writeln!(
            f,
            "verified     {word}: opened again, {} accounts compared, {} balances add up to the \
             supply, {of_mode}; closed again, {} commits replayed from the journal",
            grouped(verdict.accounts_compared),
            grouped(verdict.balances_summed),
            grouped(verdict.commits_audited),
        )?;
        verdict.wrong.iter().try_for_each(|wrong| writeln!(f, "             {wrong}"))
    }
}
