//! Indexes over blocks that come at one end and go at the other, each kept up only while somebody
//! asks.
//!
//! The first question indexes every block there is, later ones only what came since. When blocks
//! go, so do their entries; where nobody has asked since the last time, everything goes.

use std::hash::Hash;
use std::sync::{Arc, PoisonError};

use foldhash::fast::RandomState;
use hashbrown::HashMap;
use smallvec::SmallVec;

use super::{TouchedOrder, UnfoldedBlock};
use crate::market::Standing;
use crate::store::Position;
use crate::store::journal::{Block, Event};
use crate::sync::RwLock;
use crate::sync::atomic::{AtomicUsize, Ordering};
use crate::types::{
    AccountId, AssetId, BalanceKey, BlockNumber, CommitSeq, Key, MarketId, RequestId, Resolution,
    Token,
};

type Map<K, V> = HashMap<K, V, RandomState>;

/// What is known of some blocks.
pub(super) trait Index: Default {
    /// Adds the next block.
    fn add(&mut self, block: &Block);

    /// Forgets everything up to a position.
    fn forget(&mut self, through: Position);
}

/// An index that is kept up while somebody asks.
#[derive(Debug, Default)]
pub(super) struct Kept<T> {
    state: RwLock<State<T>>,
    /// Questions since blocks last went.
    asked: AtomicUsize,
}

#[derive(Debug, Default)]
struct State<T> {
    index: T,
    /// All blocks up to this one are in it. 0: it is not kept up.
    through: BlockNumber,
}

impl<T: Index> Kept<T> {
    /// Counts a question; says whether it is not worth an index yet, being one of the first few.
    pub(super) fn is_cold(&self, few: usize) -> bool {
        let before = self.asked.fetch_add(1, Ordering::Relaxed);
        before < few && self.read(|state| state.through == BlockNumber::default())
    }

    /// Asks the index, which covers block `needed` at least; `behind` gives the blocks after one.
    pub(super) fn with<R>(
        &self,
        needed: BlockNumber,
        behind: impl FnOnce(BlockNumber) -> Vec<Arc<UnfoldedBlock>>,
        look: impl FnOnce(&T) -> R,
    ) -> R {
        self.asked.fetch_add(1, Ordering::Relaxed);
        let state = self.state.read().unwrap_or_else(PoisonError::into_inner);
        if state.through >= needed {
            return look(&state.index);
        }
        drop(state);
        let mut state = self.state.write().unwrap_or_else(PoisonError::into_inner);
        // Asked for under the lock: what goes from now on is forgotten after this.
        for entry in behind(state.through) {
            state.index.add(&entry.block);
            state.through = entry.block.header().number;
        }
        look(&state.index)
    }

    /// Forgets everything up to a position, whose blocks are gone.
    pub(super) fn forget(&self, through: Position) {
        let asked = self.asked.swap(0, Ordering::Relaxed) > 0;
        if self.read(|state| state.through == BlockNumber::default()) {
            return;
        }
        let mut state = self.state.write().unwrap_or_else(PoisonError::into_inner);
        if asked {
            state.index.forget(through);
        } else {
            *state = State::default();
        }
    }

    fn read<R>(&self, look: impl FnOnce(&State<T>) -> R) -> R {
        look(&self.state.read().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Which block has the outcome of a request.
#[derive(Debug, Default)]
pub(super) struct Ids(Map<RequestId, BlockNumber>);

impl Ids {
    pub(super) fn block(&self, id: RequestId) -> Option<BlockNumber> {
        self.0.get(&id).copied()
    }
}

impl Index for Ids {
    fn add(&mut self, block: &Block) {
        let number = block.header().number;
        block.visit_ids(|id| {
            self.0.entry(id).or_insert(number);
        });
    }

    fn forget(&mut self, through: Position) {
        self.0.retain(|_, block| *block > through.block);
    }
}

/// How holds were ended.
#[derive(Debug, Default)]
pub(super) struct Resolutions(Map<Token, (CommitSeq, Resolution)>);

impl Resolutions {
    pub(super) fn of(&self, token: Token) -> Option<(CommitSeq, Resolution)> {
        self.0.get(&token).copied()
    }
}

impl Index for Resolutions {
    fn add(&mut self, block: &Block) {
        block.visit_events(|seq, event| {
            if let Event::Resolved(token, how) = event {
                self.0.insert(token, (seq, how));
            }
        });
    }

    fn forget(&mut self, through: Position) {
        self.0.retain(|_, (seq, _)| *seq > through.seq);
    }
}

/// Which deposits have which references.
#[derive(Debug, Default)]
pub(super) struct Credits(Map<(AssetId, u128), CommitSeq>);

impl Credits {
    pub(super) fn of(&self, asset: AssetId, reference: u128) -> Option<CommitSeq> {
        self.0.get(&(asset, reference)).copied()
    }
}

impl Index for Credits {
    fn add(&mut self, block: &Block) {
        block.visit_events(|seq, event| {
            if let Event::Credited(asset, reference) = event {
                self.0.entry((asset, reference)).or_insert(seq);
            }
        });
    }

    fn forget(&mut self, through: Position) {
        self.0.retain(|_, seq| *seq > through.seq);
    }
}

/// What became of orders, and when markets traded.
#[derive(Debug, Default)]
pub(super) struct Orders {
    /// The last commit that touched each.
    touched: Map<RequestId, CommitSeq>,
    /// All of them, by whose orders they touched.
    of: Map<AccountId, Vec<TouchedOrder>>,
    trades: Seqs<MarketId>,
}

impl Orders {
    pub(super) fn touched(&self, order: RequestId) -> Option<CommitSeq> {
        self.touched.get(&order).copied()
    }

    /// What commits up to a seq did to an account's orders, in their order.
    pub(super) fn of(&self, account: AccountId, upto: CommitSeq) -> Vec<TouchedOrder> {
        let Some(touched) = self.of.get(&account) else { return Vec::new() };
        touched[..touched.partition_point(|it| it.seq <= upto)].to_vec()
    }

    /// The seqs of commits with trades of a market after one seq and up to another, ascending.
    pub(super) fn trades(&self, market: MarketId, range: (CommitSeq, CommitSeq)) -> Vec<CommitSeq> {
        self.trades.after(&market, range).to_vec()
    }
}

impl Index for Orders {
    fn add(&mut self, block: &Block) {
        block.visit_events(|seq, event| {
            let Event::Traded(traded) = event else { return };
            let settlement = &traded.settlement;
            for update in &settlement.orders {
                self.touched.insert(update.order, seq);
                self.of.entry(update.account).or_default().push(TouchedOrder {
                    seq,
                    order: update.order,
                    market: settlement.market,
                    placed: traded.placed.is_some() && update.order == traded.request,
                    open: update.standing == Standing::Open,
                });
            }
            if !settlement.fills.is_empty() {
                self.trades.add(settlement.market, seq);
            }
        });
    }

    fn forget(&mut self, through: Position) {
        self.touched.retain(|_, seq| *seq > through.seq);
        self.of.retain(|_, touched| {
            touched.drain(..touched.partition_point(|it| it.seq <= through.seq));
            !touched.is_empty()
        });
        self.trades.forget(through.seq);
    }
}

/// The seqs at which something was changed, ascending.
#[derive(Debug)]
struct Seqs<K>(Map<K, Vec<CommitSeq>>);

impl<K> Default for Seqs<K> {
    fn default() -> Self {
        Self(Map::default())
    }
}

impl<K: Eq + Hash> Seqs<K> {
    /// Adds the next change; says whether it is the first one of that key.
    fn add(&mut self, key: K, seq: CommitSeq) -> bool {
        let seqs = self.0.entry(key).or_default();
        seqs.push(seq);
        seqs.len() == 1
    }

    fn newest(&self, key: &K, at: CommitSeq) -> Option<CommitSeq> {
        let seqs = self.0.get(key)?;
        let behind = seqs.partition_point(|seq| *seq <= at);
        Some(seqs[behind.checked_sub(1)?])
    }

    fn after(&self, key: &K, (after, upto): (CommitSeq, CommitSeq)) -> &[CommitSeq] {
        let Some(seqs) = self.0.get(key) else { return &[] };
        let from = seqs.partition_point(|seq| *seq <= after);
        let to = seqs.partition_point(|seq| *seq <= upto);
        &seqs[from..to.max(from)]
    }

    fn forget(&mut self, through: CommitSeq) {
        self.0.retain(|_, seqs| {
            seqs.drain(..seqs.partition_point(|seq| *seq <= through));
            !seqs.is_empty()
        });
    }
}

/// Which commits changed a balance.
#[derive(Debug, Default)]
pub(super) struct Rows {
    seqs: Seqs<BalanceKey>,
    /// The assets of each account in them.
    assets: Map<AccountId, SmallVec<[AssetId; 2]>>,
}

impl Rows {
    /// Adds one account's rows of the next block.
    pub(super) fn add_of(&mut self, block: &Block, account: AccountId) {
        block.visit_rows(|seq, key, _| {
            if key.account == account {
                self.add_row(seq, key);
            }
        });
    }

    pub(super) fn newest(&self, key: BalanceKey, at: CommitSeq) -> Option<CommitSeq> {
        self.seqs.newest(&key, at)
    }

    /// The same of each of an account's balances, by asset.
    pub(super) fn newest_of_all(
        &self,
        account: AccountId,
        at: CommitSeq,
    ) -> Vec<(AssetId, CommitSeq)> {
        let newest = |asset: &AssetId| {
            let asset = *asset;
            Some((asset, self.newest(BalanceKey { account, asset }, at)?))
        };
        let mut all: Vec<_> = self.assets(account).iter().filter_map(newest).collect();
        all.sort_unstable();
        all
    }

    /// The seqs after one and up to another: ascending, the oldest `limit` of each balance.
    pub(super) fn after(
        &self,
        account: AccountId,
        asset: Option<AssetId>,
        range: (CommitSeq, CommitSeq),
        limit: usize,
    ) -> Vec<CommitSeq> {
        let asked = |of: &&AssetId| asset.is_none_or(|asset| asset == **of);
        let mut seqs = Vec::new();
        for asset in self.assets(account).iter().filter(asked) {
            let of_one = self.seqs.after(&BalanceKey { account, asset: *asset }, range);
            seqs.extend_from_slice(&of_one[..of_one.len().min(limit)]);
        }
        seqs.sort_unstable();
        seqs.dedup();
        seqs
    }

    fn assets(&self, account: AccountId) -> &[AssetId] {
        self.assets.get(&account).map_or(&[], |assets| assets)
    }

    fn add_row(&mut self, seq: CommitSeq, key: BalanceKey) {
        if self.seqs.add(key, seq) {
            self.assets.entry(key.account).or_default().push(key.asset);
        }
    }
}

impl Index for Rows {
    fn add(&mut self, block: &Block) {
        block.visit_rows(|seq, key, _| self.add_row(seq, key));
    }

    fn forget(&mut self, through: Position) {
        let Self { seqs, assets } = self;
        seqs.forget(through.seq);
        assets.retain(|account, assets| {
            let key = |asset| BalanceKey { account: *account, asset };
            assets.retain(|asset| seqs.0.contains_key(&key(*asset)));
            !assets.is_empty()
        });
    }
}

/// Which commits wrote or deleted under a caller's key.
#[derive(Debug, Default)]
pub(super) struct Records(Seqs<Key>);

impl Records {
    pub(super) fn newest(&self, key: &Key, at: CommitSeq) -> Option<CommitSeq> {
        self.0.newest(key, at)
    }
}

impl Index for Records {
    fn add(&mut self, block: &Block) {
        block.visit_events(|seq, event| {
            if let Event::Wrote(write) = event {
                self.0.add(write.key, seq);
            }
        });
    }

    fn forget(&mut self, through: Position) {
        self.0.forget(through.seq);
    }
}
