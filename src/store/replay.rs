//! The state that the journal leads to, worked out from its records alone, and held against them:
//! every record says what came of it, and must be right.
//!
//! What is checked of each commit
//! * each balance that it changes is what the one before and its operation make of it, none below
//!   zero (I6), and per asset the movements sum to zero (I5);
//! * a hold that it ends was open, and is the one that was made; an expiry was due;
//! * an order that it touches was open, and loses as much as it trades;
//! * while an exclusive hold is open, nobody else takes from the balances that it debits;
//! * everything that a transaction read was current;
//! * a reference is credited once.
//!
//! ```text
//! journal ──► replay_to(seq) ──► State ◄── compare ──► version store as of seq
//! ```
//!
//! Memory grows with balances, open holds, keys with their newest values, and references.

use std::fmt;

use foldhash::fast::RandomState;
use hashbrown::{HashMap, HashSet};

use super::journal::{CommitRecord, Violation, check_conservation, supply_change};
use super::orders::{StoredOrder, Traded};
use super::recovery::Tail;
use super::{Journal, RecordVersion, StoreError, VersionStore};
use crate::market::{MarketSpec, OpenOrder, OrderState, OrderUpdate, Standing};
use crate::message::{Op, Row, Side, Txn};
use crate::request::{Action, Command, Hold, Transact};
use crate::types::{
    Amount, AssetId, Balance, BalanceKey, BlockNumber, CommitSeq, Key, RequestId, Subject, Time,
    Token,
};

/// The first thing that is off.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// The first offending seq, where there is one.
    pub seq: Option<CommitSeq>,
    /// What is off.
    pub what: String,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.seq {
            Some(seq) => write!(f, "seq {seq}: {}", self.what),
            None => f.write_str(&self.what),
        }
    }
}

/// Why there is no clean report.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Failure {
    /// Something is off.
    Found(Finding),
    /// The store cannot be read.
    Store(StoreError),
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Damaged(what) | StoreError::Violation(what) | StoreError::Archive(what) => {
                Self::Found(Finding { seq: None, what })
            }
            error => Self::Store(error),
        }
    }
}

/// Something is off at a seq.
pub(super) fn found(seq: CommitSeq, what: impl Into<String>) -> Failure {
    Failure::Found(Finding { seq: Some(seq), what: what.into() })
}

/// A table with a fast hash.
pub(super) type Table<K, V> = HashMap<K, V, RandomState>;

/// Everything as of one seq.
#[derive(Clone, Debug, Default)]
pub struct State {
    /// The seq: the last commit that is in it.
    pub seq: CommitSeq,
    /// Every balance that was ever touched, with the seq that made it so.
    pub balances: Table<BalanceKey, (CommitSeq, Balance)>,
    /// Open holds.
    pub holds: Table<Token, Hold>,
    /// Open orders.
    pub orders: Table<RequestId, StoredOrder>,
    /// Markets, by number.
    pub markets: Vec<MarketSpec>,
    /// Every key that was ever written, with its newest value.
    pub records: Table<Key, RecordVersion>,
    /// Deposits less withdrawals.
    pub supplies: Table<AssetId, Amount>,
    /// References that were credited.
    references: HashSet<(AssetId, u128), RandomState>,
    /// Which exclusive hold keeps others from taking from a balance.
    locked: Table<BalanceKey, Token>,
    /// Rows of the commit at hand.
    rows: Vec<Row>,
}

impl State {
    /// Takes in the next commit. `time`: of its block.
    ///
    /// # Errors
    /// The first thing about it that is off.
    pub fn commit(&mut self, commit: &CommitRecord, time: Time) -> Result<(), Failure> {
        let (seq, txn) = (commit.seq, &commit.txn);
        self.seq = seq;
        self.end_hold(txn, seq, time)?;
        if let Command::Transact(transact) = &txn.command {
            self.check_reads(transact, seq)?;
        }
        self.rows.clear();
        for (op, row) in commit.rows() {
            self.row(op, row.after, seq)?;
        }
        check_conservation(txn, &self.rows).map_err(|Violation(what)| found(seq, what))?;
        if let Some(hold) = commit.made() {
            self.make_hold(txn, hold)?;
        }
        if let Some(traded) = commit.traded() {
            self.trade(&traded, seq)?;
        }
        match &txn.command {
            Command::Deposit(to) => {
                if let Some(hash) = to.reference_hash()
                    && !self.references.insert((to.asset, hash))
                {
                    let (asset, reference) = (to.asset, &to.reference);
                    let what =
                        format!("reference {reference:?} of asset {asset} is credited twice");
                    return Err(found(seq, what));
                }
            }
            Command::Transact(transact) => self.write(transact, seq),
            Command::PutMarket(spec) => self.put_market(spec),
            _ => {}
        }
        self.move_supply(txn, seq)
    }

    /// One operation of a commit, which leads to `after` by what the journal says.
    fn row(&mut self, op: Op, after: Balance, seq: CommitSeq) -> Result<(), Failure> {
        let BalanceKey { account, asset } = op.key;
        if op.side.needs_funds()
            && let Some(token) = self.locked.get(&op.key)
        {
            let what =
                format!("takes from asset {asset} of account {account}, which hold {token} locks");
            return Err(found(seq, what));
        }
        let now = self.balances.entry(op.key).or_default();
        let before = now.1;
        let becomes = op.apply(before).ok_or_else(|| {
            found(seq, format!("account {account} cannot pay {} of asset {asset}", op.amount))
        })?;
        if becomes != after {
            let text = |it: Balance| match it.held {
                Amount::ZERO => it.available.to_string(),
                held => format!("{} and {held} held", it.available),
            };
            let what = format!(
                "the balance of asset {asset} of account {account} is {} by replay and {} in the \
                 journal",
                text(becomes),
                text(after)
            );
            return Err(found(seq, what));
        }
        *now = (seq, becomes);
        self.rows.push(Row { before, after: becomes });
        Ok(())
    }

    fn put_market(&mut self, spec: &MarketSpec) {
        if !self.markets.iter().any(|known| known.name == spec.name) {
            self.markets.push(spec.clone());
        }
    }

    /// What a market made of a request: who trades has the quantity, and who stood is not forgotten.
    fn trade(&mut self, traded: &Traded, seq: CommitSeq) -> Result<(), Failure> {
        let Traded { request, placed, settlement } = traded;
        for update in &settlement.orders {
            let OrderUpdate { order, account, state, standing } = update;
            let is_new = placed.as_ref().filter(|_| order == request);
            let before = match (is_new, self.orders.remove(order)) {
                (None, Some(before)) => before,
                (Some((placed, ends_at)), None) => {
                    StoredOrder::new(*order, placed, *ends_at, OrderState::default())
                }
                (None, None) => {
                    return Err(found(seq, format!("order {order} is touched, but is not open")));
                }
                (Some(_), Some(_)) => {
                    return Err(found(seq, format!("order {order} is placed a second time")));
                }
            };
            let as_maker = settlement.fills.iter().filter(|fill| fill.maker == *order);
            let as_maker: u64 = as_maker.map(|fill| fill.lots.0).sum();
            let all: u64 = settlement.fills.iter().map(|fill| fill.lots.0).sum();
            let traded = state.filled.0.checked_sub(before.open.state.filled.0);
            if traded != Some(as_maker) && traded != Some(all) {
                let what = format!("order {order} has traded otherwise than the trades say");
                return Err(found(seq, what));
            }
            if before.open.account != *account || before.market != settlement.market {
                return Err(found(seq, format!("order {order} is touched as another's")));
            }
            if *standing == Standing::Open {
                let open = OpenOrder { state: *state, ..before.open };
                self.orders.insert(*order, StoredOrder { open, ..before });
            }
        }
        Ok(())
    }

    fn make_hold(&mut self, txn: &Txn, hold: Hold) -> Result<(), Failure> {
        let (token, seq) = (hold.token, hold.since);
        for op in txn.row_ops().filter(|op| op.side == Side::Lock) {
            self.locked.insert(op.key, token);
        }
        if self.holds.insert(token, hold).is_some() {
            return Err(found(seq, format!("hold {token} is made a second time")));
        }
        Ok(())
    }

    fn end_hold(&mut self, txn: &Txn, seq: CommitSeq, time: Time) -> Result<(), Failure> {
        let (Command::Resolve(resolve), Some(recorded)) = (&txn.command, txn.hold()) else {
            return Ok(());
        };
        let token = resolve.token;
        match self.holds.remove(&token) {
            None => return Err(found(seq, format!("hold {token} is ended, but is not open"))),
            Some(made) if made != *recorded => {
                return Err(found(seq, format!("hold {token} is ended as it was not made")));
            }
            Some(_) => {}
        }
        if resolve.action == Action::Expire && recorded.expires_at > time {
            return Err(found(seq, format!("hold {token} expires before its time")));
        }
        if recorded.exclusive {
            txn.row_ops().for_each(|op| self.unlock(op.key, token));
        }
        Ok(())
    }

    fn unlock(&mut self, key: BalanceKey, token: Token) {
        if self.locked.get(&key) == Some(&token) {
            self.locked.remove(&key);
        }
    }

    fn check_reads(&self, transact: &Transact, seq: CommitSeq) -> Result<(), Failure> {
        for read in &transact.reads {
            let current = match &read.subject {
                Subject::Key(key) => self.records.get(key).map(|now| now.seq),
                Subject::Balance(key) => self.balances.get(key).map(|now| now.0),
            };
            let current = current.unwrap_or_default();
            if current != read.version {
                let what = format!(
                    "a transaction read {} as of seq {}, which had changed at seq {current}",
                    read.subject, read.version
                );
                return Err(found(seq, what));
            }
        }
        Ok(())
    }

    fn write(&mut self, transact: &Transact, seq: CommitSeq) {
        for write in &transact.writes {
            let version = RecordVersion { seq, value: write.value.clone() };
            self.records.insert(write.key.clone(), version);
        }
    }

    fn move_supply(&mut self, txn: &Txn, seq: CommitSeq) -> Result<(), Failure> {
        let Some((side, transfer)) = supply_change(txn) else { return Ok(()) };
        let supply = self.supplies.entry(transfer.asset).or_default();
        *supply = match side {
            Side::Credit => supply
                .checked_add(transfer.amount)
                .ok_or_else(|| found(seq, "the supply exceeds 128 bits"))?,
            _ => supply
                .checked_sub(transfer.amount)
                .ok_or_else(|| found(seq, "more is withdrawn than was deposited"))?,
        };
        Ok(())
    }

    /// Checks that what is held of each balance is what open holds and orders have set aside of it.
    ///
    /// # Errors
    /// The first balance by account and asset of which that is not so.
    pub fn check_held(&self) -> Result<(), Failure> {
        let mut held: Table<BalanceKey, u128> = Table::default();
        for hold in self.holds.values() {
            // What would be given back is what was set aside.
            for op in Txn::expiry(Box::new(hold.clone()), 1).row_ops() {
                let sum = held.entry(op.key).or_default();
                *sum = sum.saturating_add(op.amount.get());
            }
        }
        for StoredOrder { market, open, .. } in self.orders.values() {
            let OpenOrder { account, side, state, .. } = open;
            let Some(spec) = self.markets.get(market.get() as usize) else {
                let what = format!("order {} stands in market {market}, which is none", open.order);
                return Err(found(self.seq, what));
            };
            let key = BalanceKey { account: *account, asset: spec.pays(*side) };
            let units = spec.held(*side, state.price, state.left, state.carry);
            let sum = held.entry(key).or_default();
            *sum = sum.saturating_add(units);
        }
        let wrong = |(key, now): (&BalanceKey, &(CommitSeq, Balance))| {
            let sum = held.get(key).copied().unwrap_or(0);
            (now.1.held.get() != sum).then_some((*key, sum))
        };
        let Some((key, sum)) = self.balances.iter().filter_map(wrong).min() else { return Ok(()) };
        let (BalanceKey { account, asset }, (seq, now)) = (key, self.balances[&key]);
        let what = format!(
            "{} of asset {asset} of account {account} is held, but its open holds and orders add up to {sum}",
            now.held
        );
        Err(found(seq, what))
    }
}

/// Replays the journal up to a seq, or to its end if that comes first: see [`State::seq`].
///
/// # Errors
/// The first thing that is off, or why the journal cannot be read.
pub fn replay_to(journal: &dyn Journal, seq: CommitSeq) -> Result<State, Failure> {
    let mut state = State::default();
    let mut tail = Tail::open(journal, BlockNumber::default())?;
    while state.seq < seq
        && let Some(block) = tail.read_next()?
    {
        let time = block.header().time;
        for commit in block.commits().take_while(|commit| commit.seq <= seq) {
            state.commit(&commit, time)?;
        }
    }
    state.check_held()?;
    Ok(state)
}

/// Checks that a version store shows that state as of its seq: every balance and every value, and,
/// if the store is at that seq, the open holds.
///
/// # Errors
/// The first difference found; that the store cannot be asked as of that seq; what the disk says.
pub fn compare(state: &State, store: &dyn VersionStore) -> Result<(), Failure> {
    let (applied, horizon) = (store.applied()?, store.horizon()?);
    let seq = state.seq;
    if applied.all().seq < seq || seq < horizon {
        let what = format!(
            "the version store can be asked as of seqs {horizon} to {}, not as of {seq}",
            applied.all().seq
        );
        return Err(found(seq, what));
    }
    compare_balances(state, store)?;
    compare_records(state, store)?;
    if applied.outcomes.seq == seq {
        compare_holds(&state.holds, seq, store)?;
        compare_orders(&state.orders, seq, store)?;
    }
    Ok(())
}

fn compare_balances(state: &State, store: &dyn VersionStore) -> Result<(), Failure> {
    let seq = state.seq;
    let mut stored: Table<BalanceKey, Option<(CommitSeq, Balance)>> = Table::default();
    store.latest(&mut |key, balance, version| {
        stored.insert(key, (version <= seq).then_some((version, balance)));
    })?;
    for (key, now) in &mut stored {
        // A newer version hides the one that was current then.
        let then = match now.take() {
            None => store.get_at(*key, seq)?,
            newest => newest,
        };
        if then != state.balances.get(key).copied() {
            return Err(differs(seq, &Subject::Balance(*key)));
        }
    }
    match state.balances.keys().find(|key| !stored.contains_key(*key)) {
        None => Ok(()),
        Some(key) => Err(differs(seq, &Subject::Balance(*key))),
    }
}

fn compare_records(state: &State, store: &dyn VersionStore) -> Result<(), Failure> {
    let seq = state.seq;
    let mut keys: HashSet<Key, RandomState> = HashSet::default();
    store.latest_records(&mut |key, _| {
        keys.insert(key);
    })?;
    keys.extend(state.records.keys().cloned());
    for key in keys {
        if store.record_at(&key, seq)?.as_ref() != state.records.get(&key) {
            return Err(differs(seq, &Subject::Key(key)));
        }
    }
    Ok(())
}

#[cold]
fn differs(seq: CommitSeq, subject: &Subject) -> Failure {
    found(seq, format!("{subject} is not in the version store what it is by replay"))
}

/// Checks that the stored table of open holds is the one that the journal led to at `seq`.
///
/// # Errors
/// The lowest token that differs, or what the disk says.
pub(super) fn compare_holds(
    holds: &Table<Token, Hold>,
    seq: CommitSeq,
    store: &dyn VersionStore,
) -> Result<(), Failure> {
    let mut stored: Table<Token, Hold> = Table::default();
    store.open_holds(&mut |hold| {
        stored.insert(hold.token, hold);
    })?;
    let tokens = holds.keys().chain(stored.keys());
    match tokens.filter(|token| holds.get(*token) != stored.get(*token)).min() {
        None => Ok(()),
        Some(token) => {
            let known = |there: bool| if there { "open" } else { "not open" };
            let what = match (holds.contains_key(token), stored.contains_key(token)) {
                (true, true) => format!("hold {token} is not stored as it was made"),
                (replayed, stored) => format!(
                    "hold {token} is {} by replay and {} in the version store",
                    known(replayed),
                    known(stored)
                ),
            };
            Err(found(seq, what))
        }
    }
}

/// Checks that the stored open orders are those that the journal led to at `seq`.
///
/// # Errors
/// The lowest order that differs, or what the disk says.
pub(super) fn compare_orders(
    orders: &Table<RequestId, StoredOrder>,
    seq: CommitSeq,
    store: &dyn VersionStore,
) -> Result<(), Failure> {
    let stored = store.open_orders()?.into_iter().map(|stored| (stored.open.order, stored));
    let stored: Table<RequestId, StoredOrder> = stored.collect();
    let ids = orders.keys().chain(stored.keys());
    match ids.filter(|id| orders.get(*id) != stored.get(*id)).min() {
        None => Ok(()),
        Some(order) => Err(found(seq, format!("order {order} is not stored as it stands"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::journal::tests::block_of;

    /// Replays one commit a line, from seq 10 on, at time 1; what is found.
    fn finding(lines: &[&str]) -> Option<String> {
        let mut state = State::default();
        let time = Time::new(1);
        let checked = block_of(lines).commits().try_for_each(|commit| state.commit(&commit, time));
        match checked.and_then(|()| state.check_held()) {
            Ok(()) => None,
            Err(Failure::Found(finding)) => Some(finding.to_string()),
            Err(failure) => panic!("{failure:?}"),
        }
    }

    const FUND: &str = "deposit 1 - 1 0:100 ref = 100";
    const FUND_OTHER: &str = "deposit 2 - 2 1:100 = 100";
    const PREPARE: &str = "prepare 3 - 1->2 0:5 2->1 1:7 for 60 until 1 = 95+5 93+7";
    const EXCLUSIVE: &str = "prepare 3 - exclusive 1->2 0:5 2->1 1:7 for 60 until 1 = 95+5 93+7";
    const COMMIT: &str = "commit 4 - 3 since 12 until 1 1->2 0:5 2->1 1:7 = 95 5 93 7";

    #[test]
    fn holds_are_ended_once_and_as_they_were_made() {
        let fund = [FUND, FUND_OTHER, PREPARE];
        let then = |lines: &[&str]| finding(&[&fund[..], lines].concat());
        assert_eq!(then(&[COMMIT]), None);
        assert_eq!(then(&["expire 3 since 12 until 1 1->2 0:5 2->1 1:7 = 100 100"]), None);
        let again = "commit 5 - 3 since 12 until 1 1->2 0:5 2->1 1:7 = 95 10 93 14";
        assert!(then(&[COMMIT, again]).unwrap().contains("seq 14: hold"));
        assert!(then(&[COMMIT, again]).unwrap().ends_with("is ended, but is not open"));
        let other = "commit 4 - 3 since 12 until 2 1->2 0:5 2->1 1:7 = 95 5 93 7";
        assert!(then(&[other]).unwrap().ends_with("is ended as it was not made"));
        let early = finding(&[
            FUND,
            FUND_OTHER,
            "prepare 3 - 1->2 0:5 2->1 1:7 for 60 until 2 = 95+5 93+7",
            "expire 3 since 12 until 2 1->2 0:5 2->1 1:7 = 100 100",
        ]);
        assert!(early.unwrap().ends_with("expires before its time"));
    }

    #[test]
    fn nobody_takes_from_what_is_locked() {
        let swap = "swap 5 - 1->2 0:1 2->1 1:1 = 94+5 1 92+7 1";
        assert_eq!(finding(&[FUND, FUND_OTHER, PREPARE, swap]), None);
        let locked = finding(&[FUND, FUND_OTHER, EXCLUSIVE, swap]).unwrap();
        assert!(locked.starts_with("seq 13: takes from asset 0 of account 1, which hold"));
        let credit = "deposit 6 - 1 0:1 = 96+5";
        assert_eq!(finding(&[FUND, FUND_OTHER, EXCLUSIVE, credit]), None);
        let commit = "commit 4 - 3 since 12 until 1 exclusive 1->2 0:5 2->1 1:7 = 95 5 93 7";
        let swap = "swap 5 - 1->2 0:1 2->1 1:1 = 94 6 92 8";
        assert_eq!(finding(&[FUND, FUND_OTHER, EXCLUSIVE, commit, swap]), None);
    }

    #[test]
    fn what_a_transaction_read_was_current() {
        let write = "transact 7 - 1/0@10 a@0 set a:one move =";
        assert_eq!(finding(&[FUND, write, "transact 8 - a@11 set a move ="]), None);
        assert_eq!(
            finding(&[
                FUND,
                write,
                "transact 8 - a@11 set move =",
                "transact 9 - a@11 set a move ="
            ]),
            None
        );
        let stale = finding(&[FUND, write, "transact 8 - a@0 set b:two move ="]).unwrap();
        assert!(
            stale.ends_with("a transaction read key a as of seq 0, which had changed at seq 11")
        );
        let stale = finding(&[FUND, "deposit 2 - 1 0:1 = 101", write]).unwrap();
        assert!(stale.ends_with("as of seq 10, which had changed at seq 11"), "{stale}");
    }

    #[test]
    fn a_reference_is_credited_once_an_asset() {
        let again = "deposit 2 - 1 0:100 ref = 200";
        assert_eq!(finding(&[FUND, "deposit 2 - 1 1:100 ref = 100"]), None);
        assert_eq!(finding(&[FUND_OTHER, "deposit 3 - 2 1:1 = 101"]), None);
        let twice = finding(&[FUND, again]).unwrap();
        assert!(twice.ends_with("reference \"ref\" of asset 0 is credited twice"), "{twice}");
    }

    #[test]
    fn what_is_held_is_what_open_holds_set_aside() {
        // Consistent row by row: only the sum of the holds tells.
        assert_eq!(finding(&[FUND, FUND_OTHER, PREPARE]), None);
        let mut state = State::default();
        for commit in block_of(&[FUND, FUND_OTHER, PREPARE]).commits() {
            state.commit(&commit, Time::new(1)).unwrap();
        }
        state.holds.clear();
        let Err(Failure::Found(found)) = state.check_held() else { panic!("not noticed") };
        assert!(found.what.starts_with("5 of asset 0 of account 1 is held"), "{found}");
        let wrong = finding(&[FUND, "withdraw 2 - 1 0:5 = 94+6"]).unwrap();
        assert!(wrong.contains("is 95 and 5 held by replay and 94 and 6 held"), "{wrong}");
    }
}
