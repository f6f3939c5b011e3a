//! `crosslatch audit`: proves offline that a data directory is whole.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Args;
use serde_json::json;

use crate::store::audit::{Failure, RANDOM_VERSIONS, Report, audit};
use crate::store::rocks;

/// `crosslatch audit`.
#[derive(Debug, Args)]
pub struct AuditArgs {
    /// The data directory; no engine may have it open.
    #[arg(long, value_name = "DIR", env = "CROSSLATCH_DATA", default_value = "./data")]
    pub data: PathBuf,
    /// Where its archived journal is, if that was moved [default: as the data directory remembers]
    #[arg(long, value_name = "DIR")]
    pub archive: Option<PathBuf>,
    /// Prints one JSON object.
    #[arg(long)]
    pub json: bool,
}

/// The exit status for a finding.
const CHECK_FAILED: u8 = 3;

/// Runs the command: status 0 when all is well, 3 with the first offending seq when not.
///
/// # Errors
/// The directory cannot be read.
pub fn run(args: AuditArgs) -> anyhow::Result<ExitCode> {
    match audit_with(&args.data, args.archive.as_deref()) {
        Ok(report) => {
            print_report(&report, args.json);
            Ok(ExitCode::SUCCESS)
        }
        Err(Failure::Found(finding)) => {
            let seq = finding.seq.map(|seq| seq.to_string());
            if args.json {
                println!("{}", json!({"verified": false, "seq": seq, "finding": finding.what}));
            } else {
                eprintln!("crosslatch: audit failed: {finding}");
            }
            Ok(ExitCode::from(CHECK_FAILED))
        }
        Err(Failure::Store(error)) => Err(error.into()),
    }
}

/// Audits a directory that no engine has open.
///
/// # Errors
/// The first finding, or why the directory cannot be read.
pub fn audit_directory(data: &Path) -> Result<Report, Failure> {
    audit_with(data, None)
}

fn audit_with(data: &Path, archive: Option<&Path>) -> Result<Report, Failure> {
    let opened = rocks::open_read_only(data)?;
    let store = &*opened.store;
    if let Some(archive) = archive {
        store.use_archive(archive)?;
    }
    audit(store, store, store, opened.mark, RANDOM_VERSIONS, &mut |_| {})
}

fn print_report(report: &Report, as_json: bool) {
    let Report { blocks, commits, refusals, changes, journal_bytes, .. } = *report;
    let Report { balances, assets, accounts, versions, outcomes, end, applied, .. } = *report;
    if as_json {
        let report = json!({
            "verified": true,
            "seq": end.seq.to_string(),
            "applied_seq": applied.all().seq.to_string(),
            "blocks": blocks,
            "commits": commits,
            "refusals": refusals,
            "balance_changes": changes,
            "journal_bytes": journal_bytes,
            "balances": balances,
            "assets": assets,
            "accounts": accounts,
            "versions": versions,
            "outcomes": outcomes,
        });
        println!("{report}");
        return;
    }
    println!("journal        {blocks} blocks, {journal_bytes} bytes: checksums, hash chain, order");
    println!("requests       {commits} settled, {refusals} refused: one outcome each");
    println!("balances       {changes} changes replayed, {balances} balances, none negative");
    println!("conservation   {assets} assets: deposits − withdrawals = balances = stored supply");
    println!("directory      {accounts} accounts as the journal says");
    println!(
        "version store  {versions} versions, the journal's up to seq {}",
        applied.versions.seq
    );
    println!("outcome index  {outcomes} request ids, the journal's up to {}", applied.outcomes);
    println!("verified: true, up to seq {}", end.seq);
}
