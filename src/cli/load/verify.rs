//! Stop, open the data again, and compare: was anything lost, doubled or made up?
//!
//! * Every swap took exactly the commit_seqs of the requests that it was settled by, and nothing
//!   else did.
//! * The balances of all accounts (or an even sample) are after the restart what they were before
//!   the stop, versions included, and nothing of them is held but by orders.
//! * Per asset, deposits − withdrawals equal the sum of all balances, before and after, and are
//!   what they were before the load.
//! * Of the answers about orders, the sample that was kept is what the store says after the restart.
//! * The offline audit finds nothing in the closed directory: the proof that needs no engine.

use std::path::Path;
use std::sync::Arc;

use serde::Serialize;
use tokio::task::JoinSet;

use crate::cli::audit::audit_directory;
use crate::engine::{Audit, Engine, Known, Options};
use crate::error::Error;
use crate::message::BalanceNow;
use crate::request::Outcome;
use crate::store::audit::Failure;
use crate::types::{AccountId, Amount, CommitSeq};

use super::tally::{Sample, Told};
use super::workload::Workload;

/// Accounts whose balances are compared; of more, every n-th.
const ACCOUNTS_MAX: u64 = 200_000;
/// Reads on their way at once.
const READERS: usize = 256;

/// What the verification came to.
#[derive(Clone, Debug, Default, Serialize)]
pub(super) struct Verdict {
    /// Accounts whose balances were compared before and after the restart.
    pub(super) accounts_compared: u64,
    /// Answers about orders that were asked for again.
    pub(super) answers_compared: u64,
    /// Balances that were added up for conservation.
    pub(super) balances_summed: u64,
    /// Settled requests, of the load and before it, that the offline audit replayed.
    pub(super) commits_audited: u64,
    /// What is wrong. Empty if all is well.
    pub(super) wrong: Vec<String>,
}

impl Verdict {
    /// Whether all is well.
    pub(super) fn is_verified(&self) -> bool {
        self.wrong.is_empty()
    }

    fn expect(&mut self, holds: bool, otherwise: impl FnOnce() -> String) {
        if !holds {
            self.wrong.push(otherwise());
        }
    }
}

/// The supply and the last seq before the load.
#[derive(Debug)]
pub(super) struct BeforeLoad {
    audit: Audit,
    durable: CommitSeq,
}

impl BeforeLoad {
    /// As of now, while nothing is in flight.
    ///
    /// # Errors
    /// The engine's end.
    pub(super) fn look(engine: &Engine) -> Result<Self, Error> {
        Ok(Self { audit: audit(engine)?, durable: engine.status().durable_seq })
    }
}

/// What the load's callers were told.
pub(super) struct WasTold {
    /// How many requests were settled.
    pub(super) commits: u64,
    /// Answers about orders.
    pub(super) answers: Sample<Told>,
}

/// Stops the engine, starts it again on the same options, and compares everything.
///
/// # Errors
/// What kept the engine from stopping or starting.
pub(super) fn verify(
    engine: Engine,
    options: &Options,
    workload: &Workload,
    before: &BeforeLoad,
    told: WasTold,
) -> Result<Verdict, Error> {
    let commits = told.commits;
    let mut verdict = Verdict::default();
    let durable = engine.status().durable_seq;
    let given = durable.get() - before.durable.get();
    verdict.expect(given == commits, || {
        format!("{commits} requests were settled, but {given} commit seqs were given")
    });
    let audit_running = audit(&engine)?;
    check_conserved(&mut verdict, &audit_running, "before the stop");
    let supply = |audit: &Audit| audit.assets.iter().map(|it| it.supply).collect::<Vec<_>>();
    let unchanged = supply(&audit_running) == supply(&before.audit);
    verdict.expect(unchanged, || "the load changed the supply of an asset".into());
    let sample = sample(workload);
    let balances_running = balances(&engine, &sample)?;
    engine.stop()?;
    drop(engine);

    let engine = Engine::start(options.clone())?;
    let reached = engine.status().durable_seq;
    verdict.expect(reached == durable, || {
        format!("stopped at seq {durable}, came back at seq {reached}")
    });
    let audit_again = audit(&engine)?;
    check_conserved(&mut verdict, &audit_again, "after the restart");
    verdict.balances_summed = audit_again.balances;
    verdict.expect(supply(&audit_again) == supply(&before.audit), || {
        "the supply of an asset is another one after the restart".into()
    });
    let balances_again = balances(&engine, &sample)?;
    compare(&mut verdict, &sample, &balances_running, &balances_again);
    if workload.flow().is_none() {
        expect_nothing_held(&mut verdict, &sample, &balances_again);
    }
    compare_answers(&mut verdict, &engine, told.answers.into_shuffled())?;
    engine.stop()?;
    drop(engine);
    audit_offline(&mut verdict, &options.data, durable)?;
    Ok(verdict)
}

fn audit_offline(verdict: &mut Verdict, data: &Path, durable: CommitSeq) -> Result<(), Error> {
    match audit_directory(data) {
        Ok(report) => {
            verdict.commits_audited = report.commits;
            verdict.expect(report.end.seq == durable, || {
                format!("stopped at seq {durable}, but the journal ends at {}", report.end.seq)
            });
            verdict.expect(report.holds == 0, || {
                format!("{} holds are open in the journal", report.holds)
            });
        }
        Err(Failure::Found(finding)) => verdict.wrong.push(format!("offline audit: {finding}")),
        Err(Failure::Store(error)) => return Err(error.into()),
    }
    Ok(())
}

fn check_conserved(verdict: &mut Verdict, audit: &Audit, when: &str) {
    for asset in audit.assets.iter().filter(|asset| asset.supply != asset.balances) {
        verdict.wrong.push(format!(
            "{when}, asset {} has a supply of {} but balances of {}",
            asset.asset, asset.supply, asset.balances
        ));
    }
}

type Balances = Vec<Vec<BalanceNow>>;

fn compare(verdict: &mut Verdict, sample: &[AccountId], before: &Balances, after: &Balances) {
    verdict.accounts_compared = sample.len() as u64;
    let differ = sample.iter().zip(before.iter().zip(after)).filter(|(_, (was, is))| was != is);
    let differ: Vec<_> = differ.collect();
    if let Some((account, (was, is))) = differ.first() {
        verdict.wrong.push(format!(
            "{} of {} accounts differ after the restart; account {account} had {was:?} and has {is:?}",
            differ.len(),
            sample.len(),
        ));
    }
}

/// Only orders that stand set anything aside for longer than a load.
fn expect_nothing_held(verdict: &mut Verdict, sample: &[AccountId], after: &Balances) {
    let held = sample
        .iter()
        .zip(after)
        .filter(|(_, balances)| balances.iter().any(|it| it.balance.held > Amount::ZERO));
    let held: Vec<_> = held.collect();
    if let Some((account, balances)) = held.first() {
        verdict.wrong.push(format!(
            "{} of {} accounts have something held; account {account} has {balances:?}",
            held.len(),
            sample.len(),
        ));
    }
}

/// Asks for every answer again.
fn compare_answers(verdict: &mut Verdict, engine: &Engine, told: Vec<Told>) -> Result<(), Error> {
    verdict.answers_compared = told.len() as u64;
    for Told { id, answer } in told {
        let known = engine.known(id)?;
        let again = match &known {
            Known::Outcome(Outcome::Settled(receipt)) => Ok(receipt.commit_seq),
            Known::Outcome(Outcome::Rejected(refusal)) => Err(refusal.reject.code()),
            Known::Pending => Err("pending"),
            Known::Unknown => Err("unknown"),
        };
        verdict.expect(again == answer, || format!("{id} was {answer:?}, and now is {again:?}"));
    }
    Ok(())
}

/// All accounts, or an even choice of so many.
fn sample(workload: &Workload) -> Vec<AccountId> {
    let step = workload.accounts_len().div_ceil(ACCOUNTS_MAX) as usize;
    workload.accounts().step_by(step).collect()
}

fn audit(engine: &Engine) -> Result<Audit, Error> {
    runtime()?.block_on(engine.audit())
}

/// The balances of each of these accounts.
fn balances(engine: &Engine, accounts: &[AccountId]) -> Result<Balances, Error> {
    let accounts: Arc<[AccountId]> = accounts.into();
    let read_every = |first: usize| {
        let (engine, accounts) = (engine.clone(), Arc::clone(&accounts));
        async move {
            let mut found = Vec::new();
            for place in (first..accounts.len()).step_by(READERS) {
                found.push((place, engine.balances(accounts[place]).await?.balances));
            }
            Ok::<_, Error>(found)
        }
    };
    let runtime = runtime()?;
    let mut readers = JoinSet::new();
    for first in 0..READERS {
        readers.spawn_on(read_every(first), runtime.handle());
    }
    runtime.block_on(async {
        let mut balances = vec![Vec::new(); accounts.len()];
        while let Some(found) = readers.join_next().await {
            let found = found.unwrap_or_else(|error| std::panic::resume_unwind(error.into_panic()));
            for (place, of_account) in found? {
                balances[place] = of_account;
            }
        }
        Ok(balances)
    })
}

fn runtime() -> Result<tokio::runtime::Runtime, Error> {
    let built = tokio::runtime::Builder::new_current_thread().build();
    built.map_err(|error| Error::Storage(format!("cannot start a runtime: {error}")))
}

#[cfg(test)]
mod tests {
    use crate::engine::AssetAudit;
    use crate::types::{AssetId, Balance};

    use super::*;

    fn balance(units: u128) -> Vec<BalanceNow> {
        let balance = Balance { available: Amount::new(units), held: Amount::ZERO };
        vec![BalanceNow { asset: AssetId::new(0), balance, version: CommitSeq::new(1) }]
    }

    #[test]
    fn one_account_that_differs_is_named() {
        let accounts = [AccountId::new(1), AccountId::new(2), AccountId::new(3)];
        let before = [5, 6, 7].map(balance).to_vec();
        let mut verdict = Verdict::default();
        compare(&mut verdict, &accounts, &before, &before);
        assert!(verdict.is_verified());
        compare(&mut verdict, &accounts, &before, &[5, 66, 77].map(balance).to_vec());
        assert!(!verdict.is_verified());
        assert!(verdict.wrong[0].starts_with("2 of 3 accounts differ"), "{:?}", verdict.wrong);
        assert!(verdict.wrong[0].contains("account 2 had"), "{:?}", verdict.wrong);
    }

    #[test]
    fn what_is_still_held_is_named() {
        let accounts = [AccountId::new(1), AccountId::new(2)];
        let mut after = [5, 6].map(balance).to_vec();
        after[1][0].balance.held = Amount::new(3);
        let mut verdict = Verdict::default();
        compare(&mut verdict, &accounts, &after, &after);
        assert!(verdict.is_verified());
        expect_nothing_held(&mut verdict, &accounts, &after);
        assert_eq!(verdict.wrong.len(), 1);
        assert!(verdict.wrong[0].starts_with("1 of 2 accounts have something held; account 2"));
    }

    #[test]
    fn value_that_appears_or_vanishes_is_named() {
        let asset = |balances| AssetAudit {
            asset: AssetId::new(3),
            supply: Amount::new(10),
            balances: Amount::new(balances),
        };
        let audit = |balances| Audit {
            seq: CommitSeq::new(1),
            assets: vec![asset(10), asset(balances)],
            balances: 2,
        };
        let mut verdict = Verdict::default();
        check_conserved(&mut verdict, &audit(10), "before the stop");
        assert!(verdict.is_verified());
        check_conserved(&mut verdict, &audit(9), "before the stop");
        assert_eq!(
            verdict.wrong,
            ["before the stop, asset 3 has a supply of 10 but balances of 9"]
        );
    }
}
