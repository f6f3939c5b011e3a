//! Blocks between the journal and the version store: whoever asks for what `D` covers finds it in the
//! unfolded blocks or, looking there afterwards, in the store, while blocks come and go.
//!
//! The commit log and the materializer do here what they do in the engine, in that order, and each
//! twin turns one pair of steps around. The store is a number, how far it is, and orders no more than
//! that: what was written before is seen by whoever sees the number.

use std::sync::Arc;

use crosslatch::message::Txn;
use crosslatch::request::{Command, Request, Transfer};
use crosslatch::store::durable::Durable;
use crosslatch::store::journal::{Block, BlockBuilder, BlockHash};
use crosslatch::store::unfolded::{Unfolded, UnfoldedBlock};
use crosslatch::types::{
    AccountId, Amount, AssetId, Balance, BalanceKey, BlockNumber, CommitSeq, RequestId, Time,
};
use loom::sync::atomic::{AtomicU64, Ordering};
use loom::sync::mpsc;
use loom::thread;

use crate::explore;
use crate::progress::at;

const KEY: BalanceKey = BalanceKey { account: AccountId::new(1), asset: AssetId::new(0) };
const BLOCKS: u64 = 2;

/// The n-th block: commit n, by request n, after which the balance is n.
fn block(n: u64) -> Arc<UnfoldedBlock> {
    let (account, asset, amount) = (KEY.account, KEY.asset, Amount::new(1));
    let command = Command::Deposit(Transfer { account, asset, amount, reference: "".into() });
    let txn = Txn::new(Request::new(RequestId::new(n.into()), command), 0, 1).unwrap();
    let mut builder = BlockBuilder::new();
    builder.begin(BlockNumber::new(n), CommitSeq::new(n), BlockHash::GENESIS);
    builder.commit(&txn, [Balance { available: Amount::new(n.into()), held: Amount::ZERO }]);
    let block: Block = builder.finish(Time::new(n), Vec::new());
    Arc::new(UnfoldedBlock::new(Arc::new(block)))
}

/// The order of two steps that are taken by one thread.
#[derive(Clone, Copy, Default)]
struct TurnedAround {
    /// The commit log publishes `D`, and adds the block then.
    log: bool,
    /// The materializer removes blocks, and folds them then.
    materializer: bool,
    /// A reader asks the store, and the unfolded blocks then.
    reader: bool,
}

struct World {
    turned: TurnedAround,
    durable: Durable,
    unfolded: Unfolded,
    /// The last block in the version store.
    stored: AtomicU64,
}

impl World {
    fn log(&self, to_materializer: &mpsc::Sender<u64>) {
        for n in 1..=BLOCKS {
            let entry = block(n);
            if self.turned.log {
                self.durable.publish(at(n), n);
            }
            self.unfolded.push(entry);
            if !self.turned.log {
                self.durable.publish(at(n), n);
            }
            to_materializer.send(n).unwrap();
        }
    }

    fn materialize(&self, blocks: &mpsc::Receiver<u64>) {
        for _ in 1..=BLOCKS {
            let n = blocks.recv().unwrap();
            if self.turned.materializer {
                self.unfolded.remove_through(BlockNumber::new(n));
            }
            self.stored.store(n, Ordering::Release);
            if !self.turned.materializer {
                self.unfolded.remove_through(BlockNumber::new(n));
            }
        }
    }

    /// Asks in the right order, or not.
    fn find(&self, upto: u64, unfolded: impl Fn() -> Option<u64>) -> bool {
        let has = || self.stored.load(Ordering::Acquire) >= upto;
        if self.turned.reader {
            return has() || unfolded() == Some(upto);
        }
        match unfolded() {
            Some(found) => found == upto,
            None => has(),
        }
    }

    /// Asks for the newest balance as of `D`.
    fn read_balance(&self) {
        let upto = self.durable.seq();
        if upto > CommitSeq::default() {
            let newest = || Some(self.unfolded.balance_at(KEY, upto)?.0.get());
            assert!(self.find(upto.get(), newest), "a balance is missing");
        }
    }

    /// Asks for the outcome of the last request that is durable, as the coordinator does of ids
    /// that it has forgotten because they are.
    fn read_outcome(&self) {
        let upto = self.durable.decisions();
        if upto > 0 {
            let id = RequestId::new(upto.into());
            let outcome = || Some(self.unfolded.find_id(id)?.header().number.get());
            assert!(self.find(upto, outcome), "an outcome is missing");
        }
    }
}

/// What the third thread asks, and how often.
fn blocks_come_and_go(turned: TurnedAround, read: impl Fn(&World)) {
    let world = Arc::new(World {
        turned,
        durable: Durable::new(at(0)),
        unfolded: Unfolded::new(),
        stored: AtomicU64::new(0),
    });
    let (to_materializer, blocks) = mpsc::channel();
    let log = thread::spawn({
        let world = world.clone();
        move || world.log(&to_materializer)
    });
    let materializer = thread::spawn({
        let world = world.clone();
        move || world.materialize(&blocks)
    });
    read(&world);
    log.join().unwrap();
    materializer.join().unwrap();
    assert!(world.unfolded.is_empty() && world.unfolded.requests() == 0);
}

/// Looks through the blocks.
fn balance(world: &World) {
    world.read_balance();
}

/// Asks an index that the first question makes and the second one finds.
fn outcomes(world: &World) {
    world.read_outcome();
    world.read_outcome();
}

#[test]
fn no_balance_is_missing_while_blocks_come_and_go() {
    explore("balances", || blocks_come_and_go(TurnedAround::default(), balance));
}

#[test]
fn no_outcome_is_missing_while_blocks_come_and_go() {
    explore("outcomes", || blocks_come_and_go(TurnedAround::default(), outcomes));
}

#[test]
#[should_panic(expected = "a balance is missing")]
fn publishing_before_the_block_is_added_would_be_found() {
    let turned = TurnedAround { log: true, ..TurnedAround::default() };
    explore("balances, published first", move || blocks_come_and_go(turned, balance));
}

#[test]
#[should_panic(expected = "an outcome is missing")]
fn removing_before_the_store_has_it_would_be_found() {
    let turned = TurnedAround { materializer: true, ..TurnedAround::default() };
    explore("outcomes, removed first", move || blocks_come_and_go(turned, outcomes));
}

#[test]
#[should_panic(expected = "a balance is missing")]
fn asking_the_store_first_would_be_found() {
    let turned = TurnedAround { reader: true, ..TurnedAround::default() };
    explore("balances, store first", move || blocks_come_and_go(turned, balance));
}
