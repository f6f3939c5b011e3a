//! What the indexes say equals what looking through the blocks says, while blocks come and go.

use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

use super::*;
use crate::message::Txn;
use crate::request::{Request, Transact, Transfer, Write};
use crate::store::journal::{BlockBuilder, BlockHash};
use crate::types::{Amount, Time};

const ACCOUNTS: u64 = 4;
const ASSETS: u32 = 2;

/// Blocks of deposits and writes, and what is in those that are not folded.
struct Blocks {
    unfolded: Unfolded,
    rows: Vec<(BlockNumber, CommitSeq, BalanceKey, Balance)>,
    writes: Vec<(BlockNumber, CommitSeq, Key, u8)>,
    ids: Vec<(BlockNumber, RequestId)>,
    references: Vec<(BlockNumber, CommitSeq, Transfer)>,
    number: BlockNumber,
    seq: CommitSeq,
    rng: SmallRng,
}

impl Blocks {
    fn new(seed: u64) -> Self {
        Self {
            unfolded: Unfolded::new(),
            rows: vec![],
            writes: vec![],
            ids: vec![],
            references: vec![],
            number: BlockNumber::default(),
            seq: CommitSeq::default(),
            rng: SmallRng::seed_from_u64(seed),
        }
    }

    fn push(&mut self) {
        let mut builder = BlockBuilder::new();
        self.number = self.number.next();
        builder.begin(self.number, self.seq.next(), BlockHash::GENESIS);
        for _ in 0..self.rng.random_range(0..5) {
            self.seq = self.seq.next();
            let id = RequestId::new(self.rng.random());
            self.ids.push((self.number, id));
            let command = self.command();
            let txn = Txn::new(Request::new(id, command), 7, 1).unwrap();
            let balance = Balance { available: Amount::new(self.rng.random()), ..<_>::default() };
            let balance = match txn.row_ops().next() {
                Some(op) => op.apply(balance).unwrap(),
                None => balance,
            };
            builder.commit(&txn, txn.row_ops().map(|_| balance));
            for op in txn.row_ops() {
                self.rows.push((self.number, self.seq, op.key, balance));
            }
        }
        let block = Arc::new(builder.finish(Time::new(self.number.get()), vec![]));
        self.unfolded.push(Arc::new(UnfoldedBlock::new(block)));
    }

    fn command(&mut self) -> Command {
        if self.rng.random_ratio(1, 3) {
            let (key, value) = (Key::new([self.rng.random_range(0..3)]), self.rng.random());
            self.writes.push((self.number, self.seq, key.clone(), value));
            let write = Write { key, value: Some(vec![value].into()) };
            return Command::Transact(Box::new(Transact { writes: vec![write], ..<_>::default() }));
        }
        let transfer = Transfer {
            account: AccountId::new(self.rng.random_range(0..ACCOUNTS)),
            asset: AssetId::new(self.rng.random_range(0..ASSETS)),
            amount: Amount::new(self.rng.random_range(1..1 << 60)),
            reference: self.rng.random::<u64>().to_string().into(),
        };
        self.references.push((self.number, self.seq, transfer.clone()));
        Command::Deposit(transfer)
    }

    fn fold(&mut self) {
        let through = BlockNumber::new(self.rng.random_range(0..=self.number.get()));
        self.unfolded.remove_through(through);
        self.rows.retain(|(block, ..)| *block > through);
        self.writes.retain(|(block, ..)| *block > through);
        self.references.retain(|(block, ..)| *block > through);
        self.ids.retain(|(block, _)| *block > through);
    }

    fn check_balances(&mut self) {
        let at = CommitSeq::new(self.rng.random_range(0..=self.seq.get() + 1));
        let account = AccountId::new(self.rng.random_range(0..=ACCOUNTS));
        let newest = |asset: u32| {
            let of = BalanceKey { account, asset: AssetId::new(asset) };
            let found = self.rows.iter().rfind(|(_, seq, key, _)| *key == of && *seq <= at)?;
            Some(BalanceNow { asset: of.asset, balance: found.3, version: found.1 })
        };
        let expected: Vec<_> = (0..ASSETS).filter_map(newest).collect();
        assert_eq!(self.unfolded.account_at(account, at), expected);
        for asset in (0..ASSETS).map(AssetId::new) {
            let now = expected.iter().find(|now| now.asset == asset);
            let found = self.unfolded.balance_at(BalanceKey { account, asset }, at);
            assert_eq!(found, now.map(|now| (now.version, now.balance)));
        }
        let asset = self.rng.random_ratio(1, 2).then_some(AssetId::new(1));
        let asked = |key: BalanceKey| {
            key.account == account && asset.is_none_or(|asset| asset == key.asset)
        };
        let after = CommitSeq::new(at.get() / 2);
        let rows = self.rows.iter().filter(|(_, _, key, _)| asked(*key));
        let seqs = rows.map(|(_, seq, ..)| *seq).filter(|seq| *seq > after && *seq <= at);
        let seqs: Vec<_> = seqs.collect();
        let found = self.unfolded.seqs_after(account, asset, (after, at), 2);
        assert!(found.is_sorted() && found.iter().all(|seq| seqs.contains(seq)));
        let first = |seqs: &[CommitSeq]| seqs.iter().take(2).copied().collect::<Vec<_>>();
        assert_eq!(first(&found), first(&seqs));
    }

    fn check_all_else(&mut self) {
        let at = CommitSeq::new(self.rng.random_range(0..=self.seq.get() + 1));
        for key in (0..4).map(|n| Key::new([n])) {
            let newest = self.writes.iter().rfind(|(_, seq, found, _)| *found == key && *seq <= at);
            let version = |value: u8| Some(vec![value].into());
            let newest = newest
                .map(|(_, seq, _, value)| RecordVersion { seq: *seq, value: version(*value) });
            assert_eq!(self.unfolded.record_at(&key, at), newest);
        }
        for (number, id) in &self.ids {
            let block = self.unfolded.find_id(*id).expect("not folded");
            assert_eq!(block.header().number, *number);
        }
        assert!(self.unfolded.find_id(RequestId::new(7)).is_none());
        for (number, seq, to) in &self.references {
            let hash = to.reference_hash().expect("not empty");
            assert_eq!(self.unfolded.credited(to.asset, hash), Some(*seq));
            assert_eq!(self.unfolded.block_of(*seq).unwrap().header().number, *number);
        }
        assert!(self.unfolded.block_of(self.seq.next()).is_none());
    }
}

#[test]
fn indexes_agree_with_the_blocks_while_these_come_and_go() {
    for seed in 0..40 {
        let mut blocks = Blocks::new(seed);
        for _ in 0..60 {
            match blocks.rng.random_range(0..10) {
                0..5 => blocks.push(),
                5 => blocks.fold(),
                6..9 => blocks.check_balances(),
                _ => blocks.check_all_else(),
            }
        }
        for _ in 0..2 * SCANS_BEFORE_INDEX {
            blocks.check_balances();
        }
        blocks.check_all_else();
        blocks.unfolded.remove_through(blocks.number);
        assert!(blocks.unfolded.is_empty() && blocks.unfolded.requests() == 0);
        assert!(blocks.unfolded.credited(AssetId::new(0), 1).is_none());
    }
}
