//! `crosslatch replay`: the state at a seq, worked out from the journal alone, and held against the
//! version store.

use std::collections::BTreeMap;
use std::io::{BufWriter, Write, stdout};
use std::path::PathBuf;
use std::process::ExitCode;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use clap::Args;
use serde_json::{Value, json};

use crate::error::Error;
use crate::request::{Hold, Purpose};
use crate::store::audit::Failure;
use crate::store::recovery::check_mark;
use crate::store::replay::{State, compare, replay_to};
use crate::store::rocks::{self, RocksStore};
use crate::store::{DirectoryRow, Journal, RecordVersion, StoreError, VersionStore};
use crate::types::{AccountId, AssetId, Balance, BalanceKey, CommitSeq, Key, Time};

/// `crosslatch replay`.
#[derive(Debug, Args)]
pub struct ReplayArgs {
    /// The data directory; no engine may have it open.
    #[arg(long, value_name = "DIR", env = "CROSSLATCH_DATA", default_value = "./data")]
    data: PathBuf,
    /// The seq; the journal's end where none is given.
    #[arg(long, value_name = "SEQ")]
    to: Option<u64>,
    /// Where its archived journal is, if that was moved [default: as the data directory remembers]
    #[arg(long, value_name = "DIR")]
    archive: Option<PathBuf>,
    /// Prints one JSON object.
    #[arg(long)]
    json: bool,
}

/// The exit status for a seq that was never reached.
const BAD_USAGE: u8 = 2;
/// The exit status for a finding.
const CHECK_FAILED: u8 = 3;

/// What the version store says of the state.
enum Verdict {
    /// The same.
    Equal,
    /// Nothing: it does not reach that seq, or not so far back.
    Silent(String),
    /// Something else.
    Differs(String),
}

/// Runs the command: status 0 when the version store says the same, or nothing about that seq; 3
/// when it says something else, or the journal does not make sense; 2 for a seq that was never reached.
///
/// # Errors
/// The directory cannot be read; standard output cannot be written to.
pub fn run(args: ReplayArgs) -> anyhow::Result<ExitCode> {
    let done = rocks::open_read_only(&args.data).map_err(Failure::from).and_then(|opened| {
        let store = &*opened.store;
        if let Some(archive) = &args.archive {
            store.use_archive(archive)?;
        }
        check_mark(store.last()?.as_ref(), opened.mark)?;
        let state = replay_to(store, args.to.map_or(CommitSeq::new(u64::MAX), CommitSeq::new))?;
        let names = names(store)?;
        let verdict = judge(&state, store)?;
        Ok((state, names, verdict))
    });
    let (state, names, verdict) = match done {
        Ok(done) => done,
        Err(Failure::Found(finding)) => {
            if args.json {
                let seq = finding.seq.map(|seq| seq.to_string());
                println!("{}", json!({"verified": false, "seq": seq, "finding": finding.what}));
            }
            eprintln!("crosslatch: the journal does not make sense: {finding}");
            return Ok(ExitCode::from(CHECK_FAILED));
        }
        Err(Failure::Store(error)) => return Err(Error::from(error).into()),
    };
    if let Some(to) = args.to.filter(|to| *to > state.seq.get()) {
        eprintln!("crosslatch: --to is {to}, but the journal ends at seq {}", state.seq);
        return Ok(ExitCode::from(BAD_USAGE));
    }
    let mut out = BufWriter::new(stdout().lock());
    match args.json {
        true => write_json(&state, &names, &verdict, &mut out)?,
        false => write_text(&state, &names, &verdict, &mut out)?,
    }
    out.flush()?;
    Ok(match verdict {
        Verdict::Differs(what) => {
            eprintln!("crosslatch: the version store differs: {what}");
            ExitCode::from(CHECK_FAILED)
        }
        Verdict::Equal | Verdict::Silent(_) => ExitCode::SUCCESS,
    })
}

fn judge(state: &State, store: &RocksStore) -> Result<Verdict, Failure> {
    let (first, last) = (store.horizon()?, store.applied()?.all().seq);
    if state.seq < first || state.seq > last {
        return Ok(Verdict::Silent(format!("the version store has seqs {first} to {last}")));
    }
    match compare(state, store) {
        Ok(()) => Ok(Verdict::Equal),
        Err(Failure::Found(finding)) => Ok(Verdict::Differs(finding.to_string())),
        Err(failure) => Err(failure),
    }
}

/// The assets' names, by their numbers. They never change.
fn names(journal: &dyn Journal) -> Result<Vec<Box<str>>, StoreError> {
    let mut names = Vec::new();
    journal.directory(&mut |row| {
        if let DirectoryRow::Asset(_, spec) = row {
            names.push(spec.name);
        }
    })?;
    Ok(names)
}

fn name(names: &[Box<str>], asset: AssetId) -> &str {
    names.get(asset.get() as usize).map_or("?", |name| name)
}

/// Balances by account and asset.
fn by_account(state: &State) -> BTreeMap<AccountId, Vec<(AssetId, CommitSeq, Balance)>> {
    let mut sorted: Vec<_> = state.balances.iter().collect();
    sorted.sort_unstable_by_key(|(key, _)| **key);
    let mut accounts: BTreeMap<_, Vec<_>> = BTreeMap::new();
    for (BalanceKey { account, asset }, (version, balance)) in sorted {
        accounts.entry(*account).or_default().push((*asset, *version, *balance));
    }
    accounts
}

/// Open holds, oldest first.
fn by_age(state: &State) -> Vec<&Hold> {
    let mut holds: Vec<&Hold> = state.holds.values().collect();
    holds.sort_unstable_by_key(|hold| hold.since);
    holds
}

fn by_key(state: &State) -> Vec<(&Key, &RecordVersion)> {
    let mut records: Vec<_> = state.records.iter().collect();
    records.sort_unstable_by_key(|(key, _)| *key);
    records
}

/// A time in UTC; `None` for never.
fn shown(time: Time) -> Option<String> {
    let micros = i64::try_from(time.get()).ok()?;
    jiff::Timestamp::from_microsecond(micros).ok().map(|stamp| format!("{stamp:.6}"))
}

/// Writes one object, row by row: a state may be large.
fn write_json(
    state: &State,
    names: &[Box<str>],
    verdict: &Verdict,
    out: &mut impl Write,
) -> std::io::Result<()> {
    write!(out, "{{\"seq\":\"{}\",\"accounts\":", state.seq)?;
    write_list(by_account(state), out, |(account, balances)| {
        let one = |(asset, version, balance): (AssetId, CommitSeq, Balance)| {
            json!({"asset": name(names, asset), "available": balance.available,
                   "held": balance.held, "version": version.to_string()})
        };
        let balances: Vec<Value> = balances.into_iter().map(one).collect();
        json!({"account": account, "balances": balances})
    })?;
    write!(out, ",\"holds\":")?;
    write_list(by_age(state), out, |hold| hold_json(hold, names))?;
    write!(out, ",\"records\":")?;
    write_list(by_key(state), out, |(key, RecordVersion { seq, value })| {
        let value = value.as_ref().map(|value| BASE64.encode(value));
        json!({"key": BASE64.encode(key.bytes()), "value": value, "version": seq.to_string()})
    })?;
    let (verified, finding) = match verdict {
        Verdict::Equal => (Some(true), None),
        Verdict::Silent(why) => (None, Some(why)),
        Verdict::Differs(what) => (Some(false), Some(what)),
    };
    writeln!(out, ",\"verified\":{},\"finding\":{}}}", json!(verified), json!(finding))
}

fn write_list<T>(
    rows: impl IntoIterator<Item = T>,
    out: &mut impl Write,
    show: impl Fn(T) -> Value,
) -> std::io::Result<()> {
    write!(out, "[")?;
    for (index, row) in rows.into_iter().enumerate() {
        let comma = if index > 0 { "," } else { "" };
        write!(out, "{comma}{}", show(row))?;
    }
    write!(out, "]")
}

fn hold_json(hold: &Hold, names: &[Box<str>]) -> Value {
    let mut shown = json!({"token": hold.token, "exclusive": hold.exclusive,
        "since": hold.since.to_string(), "expires_at": shown(hold.expires_at)});
    match &hold.purpose {
        Purpose::Swap(swap) => {
            let leg = |leg: &crate::types::Leg| {
                json!({"from": leg.from, "to": leg.to, "asset": name(names, leg.asset),
                       "amount": leg.amount})
            };
            shown["legs"] = swap.legs().iter().map(leg).collect();
        }
        Purpose::Withdrawal(from) => {
            shown["withdrawal"] = json!({"account": from.account,
                "asset": name(names, from.asset), "amount": from.amount,
                "reference": from.reference});
        }
    }
    shown
}

fn write_text(
    state: &State,
    names: &[Box<str>],
    verdict: &Verdict,
    out: &mut impl Write,
) -> std::io::Result<()> {
    writeln!(out, "state at seq {}, from the journal alone", state.seq)?;
    for (account, balances) in by_account(state) {
        writeln!(out, "account {account}")?;
        for (asset, version, Balance { available, held }) in balances {
            let asset = name(names, asset);
            writeln!(out, "  {asset:<12} available {available}, held {held}, version {version}")?;
        }
    }
    for hold in by_age(state) {
        write_hold(hold, names, out)?;
    }
    for (key, RecordVersion { seq, value }) in by_key(state) {
        let value = value.as_ref().map(|value| format!("= {}", value.escape_ascii()));
        writeln!(out, "key {key} {}, version {seq}", value.as_deref().unwrap_or("is deleted"))?;
    }
    match verdict {
        Verdict::Equal => writeln!(out, "verified: the version store has the same"),
        Verdict::Silent(why) => writeln!(out, "not compared: {why}"),
        Verdict::Differs(what) => writeln!(out, "the version store differs: {what}"),
    }
}

fn write_hold(hold: &Hold, names: &[Box<str>], out: &mut impl Write) -> std::io::Result<()> {
    let kind = if hold.exclusive { "exclusive hold" } else { "hold" };
    let until = shown(hold.expires_at).unwrap_or("confirmed or cancelled".into());
    writeln!(out, "{kind} {} since seq {}, until {until}", hold.token, hold.since)?;
    match &hold.purpose {
        Purpose::Swap(swap) => swap.legs().iter().try_for_each(|leg| {
            let asset = name(names, leg.asset);
            writeln!(out, "  account {} pays {} {asset} to {}", leg.from, leg.amount, leg.to)
        }),
        Purpose::Withdrawal(from) => {
            let asset = name(names, from.asset);
            writeln!(out, "  account {} withdraws {} {asset}", from.account, from.amount)
        }
    }
}
