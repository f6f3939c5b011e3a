//! What each actor tells the world: one struct an actor, made once, called once a batch.
//!
//! An observer looks its handles up when it is made and keeps them; a call is then a few atomic
//! additions, and next to nothing when no recorder was installed *before* it was made. Times are
//! nanoseconds of the boot clock, and `n` says how many requests a measurement stands for.

use hashbrown::HashMap;
use metrics::{Counter, Gauge, Histogram, counter, gauge, histogram};

use super::table;
use crate::types::Operation;

/// Seconds from nanoseconds, rounded once, so that 100 µs falls into the bucket of 100 µs.
fn seconds(nanos: u64) -> f64 {
    nanos as f64 / 1e9
}

/// How one request got into another one's way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Conflict {
    /// It waited until an earlier request on the same balance was decided.
    BalanceWait,
    /// It waited for an exclusive hold or a transaction's lock.
    LockWait,
    /// It waited for an exclusive hold longer than is allowed.
    LockTimeout,
    /// A transaction met something undecided and was sequenced anew.
    Busy,
    /// Something that a transaction had read changed before it committed.
    ReadValidation,
    /// Its id was in use by an earlier request that was not answered yet.
    DuplicateRequest,
}

/// One handle per value of a label.
struct PerValue<T, const N: usize> {
    values: [&'static str; N],
    handles: [T; N],
}

impl<T, const N: usize> PerValue<T, N> {
    fn new(values: [&'static str; N], handle: impl FnMut(&'static str) -> T) -> Self {
        Self { values, handles: values.map(handle) }
    }

    /// Does nothing for a value that the table does not list: a metric must not stop the engine.
    fn with(&self, value: &str, record: impl FnOnce(&T)) {
        let handle = self.values.iter().zip(&self.handles).find(|(listed, _)| **listed == value);
        debug_assert!(handle.is_some(), "{value} is missing in the table of metrics");
        if let Some((_, handle)) = handle {
            record(handle);
        }
    }
}

fn stage(stage: &'static str) -> Histogram {
    histogram!(table::STAGE_SECONDS.name, "stage" => stage)
}

fn mailbox(actor: &'static str) -> Gauge {
    gauge!(table::MAILBOX.name, "actor" => actor)
}

fn requests<const N: usize>(
    kinds: [&'static str; N],
    outcome: &'static str,
) -> PerValue<Counter, N> {
    PerValue::new(
        kinds,
        |kind| counter!(table::REQUESTS.name, "kind" => kind, "outcome" => outcome),
    )
}

fn rejects(reason: &'static str) -> Counter {
    counter!(table::REJECTS.name, "reason" => reason)
}

const KINDS: usize = table::KINDS.len();
const REASONS: usize = table::REASONS.len();
const RESOLUTIONS: usize = table::RESOLUTIONS.len();

/// What the coordinator observes.
pub struct CoordinatorMetrics {
    queue: Histogram,
    prepare: Histogram,
    decide: Histogram,
    votes: [Counter; 5],
    cross_shard: [Counter; 3],
    conflicts: [Counter; 6],
    waits: [Histogram; 6],
    holds: Gauge,
    oldest_holds: [Gauge; 2],
    orders: Gauge,
    decided_seq: Gauge,
    parked: Gauge,
    operation: Gauge,
    mailbox: Gauge,
}

impl Default for CoordinatorMetrics {
    fn default() -> Self {
        Self::new()
    }
}

impl CoordinatorMetrics {
    /// Looks up the handles.
    pub fn new() -> Self {
        Self {
            queue: stage("queue"),
            prepare: stage("prepare"),
            decide: stage("decide"),
            votes: table::VOTES.map(|vote| counter!(table::VOTE.name, "vote" => vote)),
            cross_shard: table::SHARD_COUNTS
                .map(|shards| counter!(table::CROSS_SHARD.name, "shards" => shards)),
            conflicts: table::CONFLICTS.map(|kind| counter!(table::CONFLICT.name, "kind" => kind)),
            waits: table::CONFLICTS
                .map(|kind| histogram!(table::WAIT_SECONDS.name, "kind" => kind)),
            holds: gauge!(table::HOLDS.name),
            oldest_holds: table::HOLD_KINDS
                .map(|kind| gauge!(table::OLDEST_HOLD.name, "kind" => kind)),
            decided_seq: gauge!(table::DECIDED_SEQ.name),
            orders: gauge!(table::OPEN_ORDERS.name),
            parked: gauge!(table::PARKED.name),
            operation: gauge!(table::OPERATION.name),
            mailbox: mailbox("coordinator"),
        }
    }

    /// `n` requests were sequenced `nanos` after they were accepted.
    pub fn queue(&self, nanos: u64, n: u64) {
        self.queue.record_many(seconds(nanos), n as usize);
    }

    /// `n` requests had their last vote `nanos` after they were sequenced.
    pub fn prepare(&self, nanos: u64, n: u64) {
        self.prepare.record_many(seconds(nanos), n as usize);
    }

    /// The decision on `n` requests was sent `nanos` after their last vote.
    pub fn decide(&self, nanos: u64, n: u64) {
        self.decide.record_many(seconds(nanos), n as usize);
    }

    /// Votes came in: so many of each.
    pub fn votes(&self, yes: u64, no: u64, wait: u64, busy: u64, locked: u64) {
        increment(&self.votes, [yes, no, wait, busy, locked]);
    }

    /// So many holds are open.
    pub fn holds(&self, open: usize) {
        self.holds.set(open as f64);
    }

    /// When the oldest open hold of a swap was made, and that of a withdrawal: seconds since the Unix
    /// epoch, 0 if none is open.
    pub fn oldest_holds(&self, prepared: f64, withdrawal: f64) {
        self.oldest_holds[0].set(prepared);
        self.oldest_holds[1].set(withdrawal);
    }

    /// Everything up to this seq is decided.
    pub fn decided_seq(&self, seq: u64) {
        self.decided_seq.set(seq as f64);
    }

    /// So many orders are open.
    pub fn orders(&self, open: usize) {
        self.orders.set(open as f64);
    }

    /// So many requests wait for exclusive holds.
    pub fn parked(&self, n: usize) {
        self.parked.set(n as f64);
    }

    /// What the venue takes.
    pub fn operation(&self, state: Operation) {
        self.operation.set(f64::from(state as u8));
    }

    /// Requests were sequenced whose balances are on one shard, on two, and on more.
    pub fn cross_shard(&self, one: u64, two: u64, more: u64) {
        increment(&self.cross_shard, [one, two, more]);
    }

    /// `n` requests met this kind of conflict for the first time.
    pub fn conflict(&self, kind: Conflict, n: u64) {
        self.conflicts[kind as usize].increment(n);
    }

    /// `n` requests have ended a wait of `nanos` each.
    pub fn waited(&self, kind: Conflict, nanos: u64, n: u64) {
        self.waits[kind as usize].record_many(seconds(nanos), n as usize);
    }

    /// So many messages are waiting in the coordinator's mailbox.
    pub fn mailbox(&self, len: usize) {
        self.mailbox.set(len as f64);
    }
}

/// Adds to each counter its own number.
fn increment<const N: usize>(counters: &[Counter; N], by: [u64; N]) {
    for (counter, n) in counters.iter().zip(by).filter(|(_, n)| *n > 0) {
        counter.increment(n);
    }
}

/// What a shard observes.
pub struct ShardMetrics {
    mailbox: Gauge,
}

impl ShardMetrics {
    /// Looks up the handles of the shard of that number.
    pub fn new(shard: usize) -> Self {
        let shard = shard.to_string();
        Self { mailbox: gauge!(table::MAILBOX.name, "actor" => "shard", "shard" => shard) }
    }

    /// So many messages are waiting in the shard's mailbox.
    pub fn mailbox(&self, len: usize) {
        self.mailbox.set(len as f64);
    }
}

/// What a market actor observes.
pub struct MatcherMetrics {
    mailbox: Gauge,
    /// By market number.
    markets: HashMap<u32, OfMarket>,
}

/// The handles of a market.
struct OfMarket {
    trades: Counter,
    depth: Gauge,
    best: [Gauge; 2],
}

impl OfMarket {
    fn new(name: &str) -> Self {
        let market = || name.to_owned();
        let best =
            |side| gauge!(table::BEST_PRICE.name, "market" => name.to_owned(), "side" => side);
        Self {
            trades: counter!(table::TRADES.name, "market" => market()),
            depth: gauge!(table::BOOK_DEPTH.name, "market" => market()),
            best: table::SIDES.map(best),
        }
    }
}

/// A book after what was done to it.
#[derive(Clone, Copy, Debug)]
pub struct BookNow {
    /// Orders that stand in it.
    pub standing: usize,
    /// The best price of buyers and that of sellers, where there are any.
    pub best: [Option<u64>; 2],
}

impl MatcherMetrics {
    /// Looks up the handles of the actor of that number.
    pub fn new(actor: usize) -> Self {
        let actor = actor.to_string();
        let mailbox = gauge!(table::MAILBOX.name, "actor" => "market", "shard" => actor);
        Self { mailbox, markets: HashMap::new() }
    }

    /// So many messages are waiting in the actor's mailbox.
    pub fn mailbox(&self, len: usize) {
        self.mailbox.set(len as f64);
    }

    /// So many trades were matched in the market of that number and name, and its book is so now.
    pub fn market(&mut self, (number, name): (u32, &str), trades: u64, book: BookNow) {
        let market = self.markets.entry(number).or_insert_with(|| OfMarket::new(name));
        market.trades.increment(trades);
        market.depth.set(book.standing as f64);
        for (gauge, best) in market.best.iter().zip(book.best) {
            gauge.set(best.map_or(f64::NAN, |price| price as f64));
        }
    }
}

/// What the commit log observes. It answers, so it also counts answers.
pub struct LogMetrics {
    apply: Histogram,
    persist: Histogram,
    group_size: Histogram,
    group_bytes: Histogram,
    fsync: Histogram,
    durable_seq: Gauge,
    settled: PerValue<Counter, KINDS>,
    rejected: PerValue<Counter, KINDS>,
    reasons: PerValue<Counter, REASONS>,
    resolved: PerValue<Counter, RESOLUTIONS>,
    requests: PerValue<Histogram, KINDS>,
    mailbox: Gauge,
    supply_violations: Counter,
}

impl Default for LogMetrics {
    fn default() -> Self {
        Self::new()
    }
}

impl LogMetrics {
    /// Looks up the handles.
    pub fn new() -> Self {
        Self {
            apply: stage("apply"),
            persist: stage("persist"),
            group_size: histogram!(table::GROUP_SIZE.name),
            group_bytes: histogram!(table::GROUP_SIZE_BYTES.name),
            fsync: histogram!(table::FSYNC_SECONDS.name),
            durable_seq: gauge!(table::DURABLE_SEQ.name),
            settled: requests(table::KINDS, "settled"),
            rejected: requests(table::KINDS, "rejected"),
            reasons: PerValue::new(table::REASONS, rejects),
            resolved: PerValue::new(
                table::RESOLUTIONS,
                |how| counter!(table::HOLDS_RESOLVED.name, "how" => how),
            ),
            requests: PerValue::new(
                table::KINDS,
                |kind| histogram!(table::REQUEST_SECONDS.name, "kind" => kind),
            ),
            mailbox: mailbox("commit_log"),
            supply_violations: counter!(table::SUPPLY_VIOLATIONS.name),
        }
    }

    /// The rows of `n` requests were here `nanos` after their decision was sent.
    pub fn apply(&self, nanos: u64, n: u64) {
        self.apply.record_many(seconds(nanos), n as usize);
    }

    /// `n` requests were durable `nanos` after their rows were here.
    pub fn persist(&self, nanos: u64, n: u64) {
        self.persist.record_many(seconds(nanos), n as usize);
    }

    /// A journal block of so many requests (refusals included) and bytes became durable.
    pub fn group(&self, requests: u64, bytes: u64) {
        self.group_size.record(requests as f64);
        self.group_bytes.record(bytes as f64);
    }

    /// A synced write took `nanos`.
    pub fn fsync(&self, nanos: u64) {
        self.fsync.record(seconds(nanos));
    }

    /// `D` is now this.
    pub fn durable_seq(&self, seq: u64) {
        self.durable_seq.set(seq as f64);
    }

    /// `n` requests of that `Command::kind` were answered; see also [`LogMetrics::rejected`].
    pub fn answered(&self, kind: &'static str, settled: bool, n: u64) {
        let outcome = if settled { &self.settled } else { &self.rejected };
        outcome.with(kind, |counter| counter.increment(n));
    }

    /// `n` requests were refused with that `Reject::code`.
    pub fn rejected(&self, code: &'static str, n: u64) {
        self.reasons.with(code, |counter| counter.increment(n));
    }

    /// `n` holds were ended in the way of that `Resolution::name`.
    pub fn resolved(&self, how: &'static str, n: u64) {
        self.resolved.with(how, |counter| counter.increment(n));
    }

    /// `n` requests of that `Command::kind` were answered `nanos` after they were accepted.
    pub fn request(&self, kind: &'static str, nanos: u64, n: u64) {
        self.requests.with(kind, |histogram| histogram.record_many(seconds(nanos), n as usize));
    }

    /// So many messages are waiting in the commit log's mailbox.
    pub fn mailbox(&self, len: usize) {
        self.mailbox.set(len as f64);
    }

    /// A group was stopped because it would have created or destroyed value.
    pub fn supply_violation(&self) {
        self.supply_violations.increment(1);
    }
}

/// What the materializer observes.
pub struct MaterializerMetrics {
    applied_seq: Gauge,
    fold_seconds: Histogram,
    fold_size: Histogram,
    mailbox: Gauge,
}

impl Default for MaterializerMetrics {
    fn default() -> Self {
        Self::new()
    }
}

impl MaterializerMetrics {
    /// Looks up the handles.
    pub fn new() -> Self {
        Self {
            applied_seq: gauge!(table::APPLIED_SEQ.name),
            fold_seconds: histogram!(table::FOLD_SECONDS.name),
            fold_size: histogram!(table::FOLD_SIZE.name),
            mailbox: mailbox("materializer"),
        }
    }

    /// `A` is now this.
    pub fn applied_seq(&self, seq: u64) {
        self.applied_seq.set(seq as f64);
    }

    /// A fold of so many requests took `nanos`.
    pub fn fold(&self, nanos: u64, requests: u64) {
        self.fold_seconds.record(seconds(nanos));
        self.fold_size.record(requests as f64);
    }

    /// So many messages are waiting in the materializer's mailbox.
    pub fn mailbox(&self, len: usize) {
        self.mailbox.set(len as f64);
    }
}

/// What keeps history within its bounds observes.
pub struct RetentionMetrics {
    horizon_seq: Gauge,
}

impl Default for RetentionMetrics {
    fn default() -> Self {
        Self::new()
    }
}

impl RetentionMetrics {
    /// Looks up the handle.
    pub fn new() -> Self {
        Self { horizon_seq: gauge!(table::HISTORY_HORIZON.name) }
    }

    /// Everything can be read as of this seq and later ones.
    pub fn horizon_seq(&self, seq: u64) {
        self.horizon_seq.set(seq as f64);
    }
}

/// What moves the journal into its archive observes.
pub struct ArchiveMetrics {
    blocks: Gauge,
    bytes: Counter,
    behind: Gauge,
    failures: Counter,
}

impl Default for ArchiveMetrics {
    fn default() -> Self {
        Self::new()
    }
}

impl ArchiveMetrics {
    /// Looks up the handles.
    pub fn new() -> Self {
        Self {
            blocks: gauge!(table::ARCHIVED_BLOCKS.name),
            bytes: counter!(table::ARCHIVED_BYTES.name),
            behind: gauge!(table::ARCHIVE_BEHIND.name),
            failures: counter!(table::ARCHIVE_FAILURES.name),
        }
    }

    /// So many blocks are in the archive; a file of so many bytes has come to it.
    pub fn archived(&self, blocks: u64, bytes: u64) {
        self.blocks.set(blocks as f64);
        self.bytes.increment(bytes);
    }

    /// The oldest block in the database is so many seconds older than it should be.
    pub fn behind_secs(&self, secs: u64) {
        self.behind.set(secs as f64);
    }

    /// Something in the archive could not be read or written.
    pub fn failed(&self) {
        self.failures.increment(1);
    }
}

/// What the engine's door observes; shared by all callers.
pub struct EngineMetrics {
    in_flight: Gauge,
    rejected: PerValue<Counter, KINDS>,
    failed: PerValue<Counter, KINDS>,
    malformed: Counter,
    overloaded: Counter,
    stopped: Counter,
    transaction_retries: Counter,
}

impl Default for EngineMetrics {
    fn default() -> Self {
        Self::new()
    }
}

impl EngineMetrics {
    /// Looks up the handles.
    pub fn new() -> Self {
        Self {
            in_flight: gauge!(table::IN_FLIGHT.name),
            rejected: requests(table::KINDS, "rejected"),
            failed: requests(table::KINDS, "failed"),
            malformed: rejects("malformed"),
            overloaded: rejects(table::OVERLOADED),
            stopped: rejects(table::STOPPED),
            transaction_retries: counter!(table::TRANSACTION_RETRIES.name),
        }
    }

    /// So many requests are accepted and not yet answered.
    pub fn in_flight(&self, n: usize) {
        self.in_flight.set(n as f64);
    }

    /// `n` requests of that `Command::kind` were answered as malformed at the door: the commit
    /// log never hears of them. Counted as rejected, with their reason.
    pub fn malformed(&self, kind: &'static str, n: u64) {
        self.rejected.with(kind, |counter| counter.increment(n));
        self.malformed.increment(n);
    }

    /// `n` requests of that `Command::kind` got no answer because the engine stopped. Counted as
    /// failed, with the reason `stopped`.
    pub fn failed(&self, kind: &'static str, n: u64) {
        self.failed.with(kind, |counter| counter.increment(n));
        self.stopped.increment(n);
    }

    /// `n` requests were not taken because a limit was reached. They count as reason only: they
    /// never were requests of the engine's.
    pub fn overloaded(&self, n: u64) {
        self.overloaded.increment(n);
    }

    /// A transaction is run again after a conflict.
    pub fn transact_retried(&self) {
        self.transaction_retries.increment(1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::access::{Accounts, ApiKey, KeyLimits, Scopes};
    use crate::market::MarketSpec;
    use crate::market::order::{SelfTrade, Side};
    use crate::request::{
        Action, AmendOrder, AssetSpec, Command, OrderType, PlaceOrder, Prepare, Resolve, Stands,
        Swap, Transfer,
    };
    use crate::types::{
        AccountId, Amount, AssetId, ChainId, ChainKind, Leg, MarketId, RequestId, Resolution, Time,
        Token,
    };

    fn key() -> ApiKey {
        ApiKey {
            name: "desk".into(),
            generation: 1,
            verifier: [0; 32],
            scopes: Scopes::ALL,
            accounts: Accounts::All,
            networks: Box::default(),
            limits: KeyLimits::default(),
            expires_at: Time::NEVER,
        }
    }

    #[test]
    fn every_kind_of_command_is_in_the_table() {
        let (account, asset) = (AccountId::new(1), AssetId::new(0));
        let leg = Leg { from: account, to: AccountId::new(2), asset, amount: Amount::new(1) };
        let transfer = || Transfer { account, asset, amount: Amount::new(1), reference: "".into() };
        let chain = ChainId::new(1);
        let spec = AssetSpec {
            name: "ETH".into(),
            chain,
            chain_kind: ChainKind::Evm,
            token: "native".into(),
            decimals: 18,
        };
        let (id, market) = (RequestId::new(1), MarketId::new(0));
        let (base, quote) = (AssetId::new(0), AssetId::new(1));
        let market_spec = MarketSpec {
            name: "ETH-SOL".into(),
            base,
            quote,
            tick_size: 1,
            lot_size: 1,
            maker_fee_bps: 0,
            taker_fee_bps: 0,
            fee_account: account,
            min_notional: 0,
            price_band_bps: 0,
        };
        let order = PlaceOrder {
            market,
            account,
            side: Side::Buy,
            order_type: OrderType::Limit,
            stands: Stands::Gtc,
            price: None,
            quantity: None,
            funds: None,
            self_trade: SelfTrade::None,
            client_order_id: "".into(),
        };
        let swap = Swap::new([leg, leg]).expect("well-formed");
        let resolve = |action| Command::Resolve(Resolve { token: Token::default(), action });
        let commands = [
            Command::Swap(swap.clone()),
            Command::Deposit(transfer()),
            Command::Withdraw(transfer()),
            Command::PutAsset(spec),
            Command::PutAccount { account, links: vec![] },
            Command::RemoveLink { account, chain },
            Command::Prepare(Box::new(Prepare { swap, expires_in_ms: 1, exclusive: false })),
            resolve(Action::Commit),
            resolve(Action::Rollback),
            resolve(Action::Confirm),
            resolve(Action::Cancel),
            resolve(Action::Expire),
            Command::Transact(Box::default()),
            Command::Order(Box::new(order)),
            Command::Amend(AmendOrder { order: id, price: None, quantity: None }),
            Command::Cancel(id),
            Command::ExpireOrder(id),
            Command::CancelAll { account, market },
            Command::PutMarket(Box::new(market_spec)),
            Command::SwitchMarket { market, halted: true },
            Command::PutKey(Box::new(key())),
            Command::RevokeKey("desk".into()),
            Command::Operate(Operation::Halted),
        ];
        assert_eq!(commands.each_ref().map(Command::kind), table::KINDS);
    }

    #[test]
    fn every_resolution_is_in_the_table() {
        assert_eq!(Resolution::ALL.map(Resolution::name), table::RESOLUTIONS);
    }

    #[test]
    fn conflicts_stand_in_the_order_of_their_labels() {
        let kinds = [
            Conflict::BalanceWait,
            Conflict::LockWait,
            Conflict::LockTimeout,
            Conflict::Busy,
            Conflict::ReadValidation,
            Conflict::DuplicateRequest,
        ];
        for (place, (kind, label)) in kinds.into_iter().zip(table::CONFLICTS).enumerate() {
            assert_eq!(kind as usize, place);
            assert_eq!(label.replace('_', ""), format!("{kind:?}").to_lowercase());
        }
    }

    #[test]
    fn seconds_do_not_slip_past_a_bound() {
        for (nanos, bound) in [(12_500, 0.0000125), (100_000, 0.0001), (10_000_000_000, 10.0)] {
            assert_eq!(seconds(nanos).to_bits(), f64::to_bits(bound));
        }
    }

    #[test]
    fn without_a_recorder_everything_is_silent() {
        // Said aloud, as another test of this process may have installed one.
        metrics::with_local_recorder(&metrics::NoopRecorder, || {
            let log = LogMetrics::new();
            log.request("swap", 1, u64::MAX);
            log.supply_violation();
            CoordinatorMetrics::new().waited(Conflict::Busy, u64::MAX, u64::MAX);
        });
    }
}
