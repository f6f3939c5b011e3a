//! Reads of the past against a plain model that remembers everything.
//!
//! [`Past`] writes random blocks to a real database itself, block by block, and decides when they
//! are folded: so every mix of folded and unfolded is met, and every run can be had again.

use std::collections::BTreeMap;
use std::sync::Arc;

use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use tempfile::TempDir;

use super::world::{deposit, key};
use crate::message::{BalanceNow, Txn};
use crate::request::{
    Action, Command, Hold, Outcome, Prepare, Purpose, Request, Resolve, Swap, Transact, Transfer,
    Write,
};
use crate::store::durable::{Durable, Progress};
use crate::store::history::HistoryEntry;
use crate::store::journal::{BlockBuilder, BlockHash};
use crate::store::materializer::Folder;
use crate::store::reader::Reader;
use crate::store::rocks::{self, RocksLog, RocksStore};
use crate::store::unfolded::{Unfolded, UnfoldedBlock};
use crate::store::{CommitLog, Durability, Group, Position, RecordVersion, VersionStore};
use crate::types::{
    AccountId, Amount, AssetId, Balance, BalanceKey, BlockNumber, CommitSeq, Key, Leg, RequestId,
    Resolution, Time, Token,
};

pub const ACCOUNTS: u64 = 6;
pub const ASSETS: u32 = 3;
const KEYS: u8 = 5;
/// Between two blocks, in microseconds.
pub const BLOCK_MICROS: u64 = 60_000_000;

type Value = Option<Arc<[u8]>>;

/// Everything that ever was.
#[derive(Default)]
pub struct Model {
    pub versions: BTreeMap<BalanceKey, BTreeMap<CommitSeq, Balance>>,
    records: BTreeMap<Key, BTreeMap<CommitSeq, Value>>,
    history: Vec<(AccountId, HistoryEntry)>,
    pub resolved: BTreeMap<Token, (CommitSeq, Resolution)>,
    credited: Vec<(AssetId, u128, CommitSeq)>,
    open: Vec<Hold>,
    ids: Vec<(RequestId, CommitSeq)>,
    /// Requests that were answered as an earlier seq was.
    repeats: Vec<(RequestId, CommitSeq)>,
    ends: Vec<(Time, Position)>,
}

impl Model {
    pub fn balance(&self, key: BalanceKey, at: CommitSeq) -> (Balance, CommitSeq) {
        let newest = self.versions.get(&key).and_then(|versions| versions.range(..=at).next_back());
        newest.map_or_else(Default::default, |(seq, balance)| (*balance, *seq))
    }

    pub fn account(&self, account: AccountId, at: CommitSeq) -> Vec<BalanceNow> {
        let touched = (0..ASSETS).map(|asset| {
            let asset = AssetId::new(asset);
            let (balance, version) = self.balance(BalanceKey { account, asset }, at);
            BalanceNow { asset, balance, version }
        });
        touched.filter(|now| now.version > CommitSeq::default()).collect()
    }

    fn record(&self, key: &Key, at: CommitSeq) -> Option<RecordVersion> {
        let (seq, value) = self.records.get(key)?.range(..=at).next_back()?;
        Some(RecordVersion { seq: *seq, value: value.clone() })
    }
}

pub struct Past {
    _data: TempDir,
    log: RocksLog,
    pub store: Arc<RocksStore>,
    unfolded: Arc<Unfolded>,
    durable: Arc<Durable>,
    pub applied: Arc<Progress>,
    pub reader: Arc<Reader>,
    folder: Folder,
    builder: BlockBuilder,
    hash: BlockHash,
    pub last: Position,
    pub time: Time,
    id: u128,
    pub model: Model,
    pub rng: SmallRng,
}

impl Past {
    pub fn new(seed: u64) -> Self {
        let data = tempfile::tempdir().unwrap();
        let opened = rocks::open(data.path(), Durability::Off).unwrap();
        let store = opened.store;
        let (unfolded, start) = (Arc::new(Unfolded::new()), Position::default());
        let (durable, applied) = (Arc::new(Durable::new(start)), Arc::new(Progress::new(start)));
        let reader = Reader::new(
            store.clone(),
            store.clone(),
            unfolded.clone(),
            durable.clone(),
            applied.clone(),
        );
        let mut past = Self {
            _data: data,
            log: opened.log,
            folder: Folder::new(store.applied().unwrap()),
            store,
            unfolded,
            durable,
            applied,
            reader: Arc::new(reader),
            builder: BlockBuilder::new(),
            hash: BlockHash::GENESIS,
            last: start,
            time: Time::new(1_700_000_000_000_000),
            id: 0,
            model: Model::default(),
            rng: SmallRng::seed_from_u64(seed),
        };
        let balances = (0..ACCOUNTS).flat_map(|account| (0..ASSETS).map(move |of| (account, of)));
        past.block(balances.map(|(account, asset)| deposit(account, asset, 1_000)).collect());
        past
    }

    /// Makes a block of what of these can happen durable.
    pub fn block(&mut self, commands: Vec<Command>) {
        let number = self.last.block.next();
        self.time = Time::new(self.time.get() + BLOCK_MICROS);
        self.builder.begin(number, self.last.seq.next(), self.hash);
        let mut seq = self.last.seq;
        for command in commands {
            if self.commit(command, seq.next()) {
                seq = seq.next();
            }
        }
        for (token, (first, how)) in self.model.resolved.clone() {
            if self.rng.random_ratio(1, 20) {
                self.repeat(token, how, first, seq);
            }
        }
        let block = Arc::new(self.builder.finish(self.time, vec![]));
        self.hash = block.hash();
        let group = Group { block: Arc::clone(&block), directory: vec![], supplies: vec![] };
        self.log.append(&group).unwrap();
        self.last = Position::after(&block);
        self.model.ends.push((self.time, self.last));
        self.unfolded.push(Arc::new(UnfoldedBlock::new(block)));
        self.durable.publish(self.last, number.get());
    }

    /// Folds all but the newest `leave` blocks.
    pub fn fold(&mut self, leave: u64) {
        let upto = self.last.block.get() - leave;
        for number in self.applied.block().get() + 1..=upto {
            let block = self.unfolded.block(BlockNumber::new(number)).expect("not folded yet");
            self.folder.add(&block);
        }
        let applied = self.folder.finish(&*self.store).unwrap();
        self.applied.publish(applied);
        self.unfolded.remove_through(applied.block);
    }

    fn next_id(&mut self) -> RequestId {
        self.id += 1;
        if self.id.is_multiple_of(3) {
            RequestId::new(self.id << 64)
        } else {
            RequestId::v7(self.time.millis(), self.id)
        }
    }

    /// Adds a commit to the block and the model; does nothing if its balances do not allow it.
    fn commit(&mut self, command: Command, seq: CommitSeq) -> bool {
        let id = self.next_id();
        let mut txn = match &command {
            Command::Resolve(Resolve { token, action }) => {
                let hold = self.model.open.iter().find(|hold| hold.token == *token);
                let Some(hold) = hold.cloned().map(Box::new) else { return false };
                if *action == Action::Expire {
                    Txn::expiry(hold, 1)
                } else {
                    let mut txn = Txn::new(Request::new(id, command), 7, 1).unwrap();
                    txn.attach(hold, 1);
                    txn
                }
            }
            _ => match Txn::new(Request::new(id, command), 7, 1) {
                Ok(txn) => txn,
                Err(_) => return false,
            },
        };
        if let Command::Prepare(prepare) = &txn.command {
            txn.expires_at = Time::new(self.time.get() + prepare.expires_in_ms * 1_000);
        }
        let before = |key| self.model.balance(key, seq).0;
        let after: Option<Vec<Balance>> =
            txn.row_ops().map(|op| op.apply(before(op.key))).collect();
        let Some(after) = after else { return false };
        self.builder.commit(&txn, after.iter().copied());
        self.remember(&txn, &after, seq);
        true
    }

    fn repeat(&mut self, token: Token, how: Resolution, first: CommitSeq, seq: CommitSeq) {
        let action = match how {
            Resolution::Committed => Action::Commit,
            Resolution::RolledBack => Action::Rollback,
            Resolution::Expired => return,
        };
        let id = self.next_id();
        let command = Command::Resolve(Resolve { token, action });
        self.builder.repeat(&Txn::new(Request::new(id, command), 7, 1).unwrap(), first, seq);
        self.model.repeats.push((id, first));
    }

    fn remember(&mut self, txn: &Txn, after: &[Balance], seq: CommitSeq) {
        let model = &mut self.model;
        let token = match &txn.command {
            Command::Prepare(_) | Command::Withdraw(_) => Some(Token::of(txn.id)),
            Command::Resolve(resolve) => Some(resolve.token),
            _ => None,
        };
        for (op, after) in txn.row_ops().zip(after) {
            let entry = HistoryEntry {
                seq,
                time: self.time,
                asset: op.key.asset,
                before: model.balance(op.key, seq).0,
                after: *after,
                request_id: txn.id,
                kind: txn.command.kind(),
                token,
            };
            model.history.push((op.key.account, entry));
            model.versions.entry(op.key).or_default().insert(seq, *after);
        }
        match &txn.command {
            Command::Resolve(Resolve { token, action }) => {
                model.open.retain(|hold| hold.token != *token);
                model.resolved.insert(*token, (seq, action.resolution()));
                if *action == Action::Expire {
                    return;
                }
            }
            Command::Deposit(to) => {
                let hash = to.reference_hash();
                model.credited.extend(hash.map(|hash| (to.asset, hash, seq)));
            }
            Command::Transact(transact) => {
                for write in &transact.writes {
                    let versions = model.records.entry(write.key.clone()).or_default();
                    versions.insert(seq, write.value.clone());
                }
            }
            _ => {}
        }
        let (expires_at, since) = (txn.expires_at, seq);
        let hold = |purpose, exclusive| Hold {
            token: Token::of(txn.id),
            purpose,
            exclusive,
            expires_at,
            since,
        };
        model.open.extend(match &txn.command {
            Command::Prepare(prepare) => {
                Some(hold(Purpose::Swap(prepare.swap.clone()), prepare.exclusive))
            }
            Command::Withdraw(of) => Some(hold(Purpose::Withdrawal(of.clone()), false)),
            _ => None,
        });
        model.ids.push((txn.id, seq));
    }
}

/// Random commands.
impl Past {
    pub fn random_block(&mut self) {
        let commands = (0..self.rng.random_range(0..8)).map(|_| self.command()).collect();
        self.block(commands);
    }

    fn command(&mut self) -> Command {
        match self.rng.random_range(0..100) {
            0..50 => Command::Swap(self.swap()),
            50..60 => Command::Deposit(self.transfer()),
            60..65 => Command::Withdraw(self.transfer()),
            65..75 => {
                let exclusive = self.rng.random();
                let swap = self.swap();
                Command::Prepare(Box::new(Prepare { swap, expires_in_ms: 60_000, exclusive }))
            }
            75..85 => self.resolve(),
            _ => Command::Transact(Box::new(self.transact())),
        }
    }

    fn leg(&mut self) -> Leg {
        let from = self.rng.random_range(0..ACCOUNTS);
        let to = (from + self.rng.random_range(1..ACCOUNTS)) % ACCOUNTS;
        Leg {
            from: AccountId::new(from),
            to: AccountId::new(to),
            asset: AssetId::new(self.rng.random_range(0..ASSETS)),
            amount: Amount::new(self.rng.random_range(1..50)),
        }
    }

    fn swap(&mut self) -> Swap {
        loop {
            let legs: Vec<Leg> = (0..self.rng.random_range(2..4)).map(|_| self.leg()).collect();
            if let Ok(swap) = Swap::new(legs) {
                return swap;
            }
        }
    }

    fn transfer(&mut self) -> Transfer {
        let Leg { from: account, asset, amount, .. } = self.leg();
        let reference = match self.rng.random::<bool>() {
            true => format!("tx {}", self.rng.random::<u64>()).into(),
            false => "".into(),
        };
        Transfer { account, asset, amount, reference }
    }

    fn resolve(&mut self) -> Command {
        let open = &self.model.open;
        if open.is_empty() {
            return Command::Swap(self.swap());
        }
        let Hold { token, purpose, .. } = &open[self.rng.random_range(0..open.len())];
        let actions = match purpose {
            Purpose::Swap(_) => [Action::Commit, Action::Rollback, Action::Expire],
            Purpose::Withdrawal(_) => [Action::Confirm, Action::Cancel, Action::Confirm],
        };
        Command::Resolve(Resolve { token: *token, action: actions[self.rng.random_range(0..3)] })
    }

    fn transact(&mut self) -> Transact {
        let first = self.rng.random_range(0..KEYS);
        let write = |n: u8| {
            let value = self.rng.random_ratio(3, 4).then(|| vec![self.rng.random(); 3].into());
            Write { key: caller_key((first + n) % KEYS), value }
        };
        let writes = (0..2).map(write).collect();
        let transfers = if self.rng.random() { vec![self.leg()] } else { vec![] };
        Transact { reads: vec![], writes, transfers }
    }

    pub fn random_seq(&mut self, from: CommitSeq) -> CommitSeq {
        CommitSeq::new(self.rng.random_range(from.get()..=self.last.seq.get()))
    }
}

fn caller_key(n: u8) -> Key {
    Key::new(vec![b'k'; usize::from(n) + 1])
}

/// Comparisons.
impl Past {
    /// Everything as of a seq that is at or above the horizon.
    pub fn compare(&self, seq: CommitSeq) {
        let keys: Vec<BalanceKey> = (0..=ACCOUNTS)
            .flat_map(|account| (0..=ASSETS).map(move |of| key(account, of)))
            .collect();
        let expected: Vec<_> = keys.iter().map(|key| self.model.balance(*key, seq)).collect();
        assert_eq!(self.reader.balances_at(&keys, seq), Ok(expected), "at {seq}");
        for account in (0..=ACCOUNTS).map(AccountId::new) {
            let expected = self.model.account(account, seq);
            assert_eq!(self.reader.account_at(account, seq), Ok(expected), "{account} at {seq}");
        }
        for caller_key in (0..=KEYS).map(caller_key) {
            let expected = self.model.record(&caller_key, seq);
            assert_eq!(self.reader.record_at(&caller_key, seq), Ok(expected), "{seq}");
        }
    }

    /// Pages through an account's history from a seq on.
    pub fn compare_history(&self, account: AccountId, after: CommitSeq, limit: usize) {
        for asset in [None, Some(AssetId::new(1))] {
            let asked = |entry: &HistoryEntry| {
                entry.seq > after && asset.is_none_or(|asset| asset == entry.asset)
            };
            let mut expected =
                self.model.history.iter().filter(|(of, entry)| *of == account && asked(entry));
            let mut at = after;
            loop {
                let page = self.reader.history(account, asset, at, limit).unwrap();
                let Some(last) = page.last() else { break };
                at = last.seq;
                let first = page[0].seq;
                assert!(page.len() <= limit || page.iter().all(|entry| entry.seq == first));
                for entry in &page {
                    assert_eq!(expected.next().map(|(_, entry)| entry), Some(entry));
                }
            }
            assert_eq!(expected.next(), None, "{account:?} {asset:?} after {after}");
        }
    }

    /// What never expires: outcomes, receipts, resolutions, references, positions.
    pub fn compare_journal(&self) {
        for (id, seq) in &self.model.ids {
            let receipt = self.reader.receipt_at(*seq).unwrap().expect("durable");
            assert_eq!((receipt.request_id, receipt.commit_seq), (*id, *seq));
            assert_eq!(self.reader.outcome(*id), Ok(Some((Outcome::Settled(receipt), 7))));
        }
        for (id, first) in &self.model.repeats {
            let receipt = self.reader.receipt_at(*first).unwrap().expect("durable");
            assert_eq!(self.reader.outcome(*id), Ok(Some((Outcome::Settled(receipt), 7))));
        }
        for (token, found) in &self.model.resolved {
            assert_eq!(self.reader.resolution(*token), Ok(Some(*found)));
        }
        for hold in &self.model.open {
            assert_eq!(self.reader.resolution(hold.token), Ok(None));
        }
        for (asset, hash, seq) in &self.model.credited {
            assert_eq!(self.reader.credited(*asset, *hash), Ok(Some(*seq)));
            assert_eq!(self.reader.credited(*asset, hash ^ 1), Ok(None));
        }
        for (time, position) in &self.model.ends {
            assert_eq!(self.reader.position_at(*time), Ok(*position));
        }
        assert_eq!(self.reader.receipt_at(self.last.seq.next()), Ok(None));
    }
}

#[test]
fn reads_as_of_any_seq_equal_the_replay() {
    for seed in 0..4 {
        let mut past = Past::new(seed);
        for round in 0..60 {
            past.random_block();
            if past.rng.random_ratio(1, 4) {
                let leave = past.rng.random_range(0..3).min(past.unfolded.len() as u64);
                past.fold(leave);
            }
            for _ in 0..past.rng.random_range(0..4) {
                let seq = past.random_seq(CommitSeq::default());
                past.compare(seq);
            }
            if round % 20 == 0 {
                past.compare_journal();
            }
        }
        (0..=past.last.seq.get()).for_each(|seq| past.compare(CommitSeq::new(seq)));
        past.compare_journal();
        past.fold(0);
        (0..=past.last.seq.get()).for_each(|seq| past.compare(CommitSeq::new(seq)));
        past.compare_journal();
    }
}

#[test]
fn history_has_no_gap_and_nothing_twice() {
    for seed in 10..14 {
        let mut past = Past::new(seed);
        for _ in 0..50 {
            past.random_block();
            if past.rng.random_ratio(1, 5) {
                past.fold(1);
            }
            let account = AccountId::new(past.rng.random_range(0..=ACCOUNTS));
            let after = past.random_seq(CommitSeq::default());
            let limit = past.rng.random_range(1..12);
            past.compare_history(account, after, limit);
        }
        for account in (0..=ACCOUNTS).map(AccountId::new) {
            for limit in [1, 2, 3, 1_000] {
                past.compare_history(account, CommitSeq::default(), limit);
            }
        }
        assert_eq!(past.reader.history(AccountId::new(1), None, past.last.seq, 9), Ok(vec![]));
        let nothing = past.reader.history(AccountId::new(1), None, CommitSeq::default(), 0);
        assert_eq!(nothing, Ok(vec![]));
    }
}

#[test]
fn a_hot_balance_is_paged_across_its_rows() {
    let mut past = Past::new(20);
    for round in 0..12 {
        // More versions than one row holds.
        let swaps = (0..1_500).map(|_| super::world::swap(1, 2, 1)).collect::<Vec<_>>();
        let back = (0..1_500).map(|_| super::world::swap(2, 1, 1)).collect::<Vec<_>>();
        let (there, back) = (swaps.chunks(700), back.chunks(700));
        there.zip(back).for_each(|(there, back)| past.block([there, back].concat()));
        if round % 3 == 1 {
            past.fold(1);
        }
    }
    past.compare_history(AccountId::new(1), CommitSeq::new(7), 997);
    let after = past.random_seq(CommitSeq::default());
    past.compare_history(AccountId::new(2), after, 10_000);
    for limit in [1, 2, 700, 3_001] {
        let page = past.reader.history(AccountId::new(2), None, after, limit).unwrap();
        assert!(page.len() <= limit.max(2) && page.len() + 1 >= limit, "{}", page.len());
        assert!(page.iter().all(|entry| entry.seq > after));
    }
}
