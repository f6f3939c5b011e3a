//! Which swaps are sent: everything random, from one seed, and cheap.
//!
//! The generator shares its cores with the engine that it measures, so a swap costs it five
//! random numbers and no allocation; a submission costs one. What a client sends depends on the
//! seed and its number only: not on time, not on the other clients, not on answers. (Request ids
//! carry the time, as version-7 ids do.)
//!
//! * The swaps are the same in every mode: what a client sends them as has no part in how they are drawn.
//! * A swap has two parties and two legs in two assets, each a small random amount.
//! * With tight [`Funds`] a party has about four times what a swap costs it, and most swaps of a
//!   submission are paid by somebody who has part in an earlier one of the same submission:
//!   who spends twice what is there once, or passes on what is still on its way, depends on
//!   decisions that are not made yet. That makes waits and refusals on any number of accounts.

use std::sync::Arc;

use rand::rngs::SmallRng;
use rand::{RngCore, SeedableRng};
use rand_distr::{Distribution, Zipf};

use crate::request::{Command, Request, Swap};
use crate::types::{AccountId, Amount, AssetId, BalanceKey, Leg, RequestId};

use super::args::{Funds, LoadArgs, Mode, Skew};
use super::flow::Flow;

/// What every account gets of every asset: too much to be spent in years, well below the cap.
const AMPLE_BALANCE: u64 = 1_000_000_000_000_000;
/// The largest amount of a leg while funds are ample.
const AMPLE_AMOUNT_MAX: u64 = 1_000;
/// What every account gets of every asset when funds are tight.
const TIGHT_BALANCE: u64 = 1_000;
/// The largest amount of a leg when funds are tight.
const TIGHT_AMOUNT_MAX: u64 = 250;
/// Of 256 swaps with tight funds, those whose payer pays in an earlier swap of the submission too.
const PAYS_AGAIN_OF_256: u64 = 128;
/// Of 256 swaps with tight funds, those whose payer passes on what an earlier swap brings.
const PASSES_ON_OF_256: u64 = 32;
/// Sets the ids that are not drawn with a swap apart from those that are.
const OTHER_IDS: u64 = 0x1D5;
/// Tries to find a party on the right shard, or merely another one, before any other one will do.
const TRIES_MAX: u32 = 1_000;

/// What all clients share: the rules by which swaps are drawn.
#[derive(Debug)]
pub(super) struct Workload {
    accounts: u64,
    assets: u64,
    shards: usize,
    parties: Parties,
    /// Out of 2^64, the share of swaps that span two shards; `None` for as chance has it.
    cross_shard: Option<u64>,
    funds: Funds,
    /// Markets, and which orders they get; only where orders are sent.
    flow: Option<Flow>,
    seed: u64,
}

/// How accounts are drawn.
#[derive(Debug)]
enum Parties {
    Uniform,
    /// Ranks by the distribution; the multiplier turns ranks into accounts, one to one.
    Zipf(Zipf<f64>, u64),
    /// One party from the first so many accounts, the other from the rest.
    Hot(u64),
}

/// One swap before it is a request: `payer` gives `amount_out` of `asset_out`, `payee` gives back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct PlannedSwap {
    /// Pays the first leg.
    pub(super) payer: AccountId,
    /// Pays the second leg.
    pub(super) payee: AccountId,
    /// What the first leg moves.
    pub(super) asset_out: AssetId,
    /// What the second leg moves.
    pub(super) asset_back: AssetId,
    /// How much the first leg moves.
    pub(super) amount_out: u64,
    /// How much the second leg moves.
    pub(super) amount_back: u64,
}

impl PlannedSwap {
    /// The two legs, the payer's first.
    pub(super) fn legs(self) -> [Leg; 2] {
        let Self { payer, payee, asset_out, asset_back, amount_out, amount_back } = self;
        let leg = |from, to, asset, amount: u64| Leg {
            from,
            to,
            asset,
            amount: Amount::new(u128::from(amount)),
        };
        [leg(payer, payee, asset_out, amount_out), leg(payee, payer, asset_back, amount_back)]
    }

    /// The same as a request's part.
    pub(super) fn swap(self) -> Swap {
        Swap::new(self.legs()).expect("two accounts, amounts above zero")
    }

    /// The balances that it changes: of each leg the payer's, then the payee's.
    pub(super) fn balances(&self) -> [BalanceKey; 4] {
        let Self { payer, payee, asset_out, asset_back, .. } = *self;
        let of = |account, asset| BalanceKey { account, asset };
        [of(payer, asset_out), of(payee, asset_out), of(payee, asset_back), of(payer, asset_back)]
    }

    /// How much that account pays of that asset; 0 if it pays none.
    pub(super) fn pays(&self, account: AccountId, asset: AssetId) -> u64 {
        if (account, asset) == (self.payer, self.asset_out) {
            self.amount_out
        } else if (account, asset) == (self.payee, self.asset_back) {
            self.amount_back
        } else {
            0
        }
    }
}

impl Workload {
    /// The rules that the flags ask for.
    pub(super) fn new(args: &LoadArgs) -> Arc<Self> {
        let parties = match args.skew {
            Skew::Uniform => Parties::Uniform,
            Skew::Hot(accounts) if accounts == args.accounts => Parties::Uniform,
            Skew::Hot(accounts) => Parties::Hot(accounts),
            Skew::Zipf(exponent) => {
                let ranks = Zipf::new(args.accounts as f64, exponent);
                Parties::Zipf(ranks.expect("checked with the flags"), coprime(args.accounts))
            }
        };
        Arc::new(Self {
            accounts: args.accounts,
            assets: u64::from(args.assets()),
            shards: args.shards,
            parties,
            // Saturates at the top, which is one in 2^64 short of always.
            cross_shard: args.cross_shard.map(|share| (share / 100.0 * u64::MAX as f64) as u64),
            funds: args.funds,
            flow: (args.mode == Mode::Orders)
                .then(|| Flow::new(args.markets(), args.assets(), args.seed)),
            seed: args.seed,
        })
    }

    /// Markets, and which orders they get; only where orders are sent.
    pub(super) fn flow(&self) -> Option<&Flow> {
        self.flow.as_ref()
    }

    /// Whom the markets' fees go to: somebody who does not trade.
    pub(super) fn fee_account(&self) -> AccountId {
        AccountId::new(self.accounts + 1)
    }

    /// Seed of everything that is random.
    pub(super) fn seed(&self) -> u64 {
        self.seed
    }

    /// An account, as the skew has it.
    #[inline]
    pub(super) fn account(&self, rng: &mut SmallRng) -> AccountId {
        AccountId::new(self.two_accounts(rng)[0] + 1)
    }

    /// How many accounts there are.
    pub(super) fn accounts_len(&self) -> u64 {
        self.accounts
    }

    /// All accounts, from the first to the last.
    pub(super) fn accounts(&self) -> impl Iterator<Item = AccountId> + use<> {
        (1..=self.accounts).map(AccountId::new)
    }

    /// What every account is given of every asset before the load.
    pub(super) fn balance(&self) -> Amount {
        let balance = if self.funds == Funds::Tight { TIGHT_BALANCE } else { AMPLE_BALANCE };
        Amount::new(u128::from(balance))
    }

    fn amount_max(&self) -> u64 {
        if self.funds == Funds::Tight { TIGHT_AMOUNT_MAX } else { AMPLE_AMOUNT_MAX }
    }

    #[inline]
    fn two_accounts(&self, rng: &mut SmallRng) -> [u64; 2] {
        match &self.parties {
            Parties::Uniform => [below(rng, self.accounts), below(rng, self.accounts)],
            Parties::Zipf(ranks, multiplier) => std::array::from_fn(|_| {
                let rank = ranks.sample(rng) as u64 - 1;
                rank.min(self.accounts - 1) * multiplier % self.accounts
            }),
            Parties::Hot(hot) => {
                let pair = [below(rng, *hot), hot + below(rng, self.accounts - hot)];
                if rng.next_u64() & 1 == 0 { pair } else { [pair[1], pair[0]] }
            }
        }
    }

    /// Two parties as the flags ask: `draw` offers pairs.
    #[inline]
    fn parties(
        &self,
        rng: &mut SmallRng,
        draw: impl Fn(&Self, &mut SmallRng) -> [u64; 2],
    ) -> [AccountId; 2] {
        let cross = self.cross_shard.map(|share| rng.next_u64() < share);
        let mut pair = [0, 1];
        for _ in 0..TRIES_MAX {
            pair = draw(self, rng);
            if pair[0] != pair[1] && cross.is_none_or(|cross| cross == self.spans(ids(pair))) {
                return ids(pair);
            }
        }
        // So skewed, or so few accounts, that it does not happen: any other one.
        if pair[0] == pair[1] {
            pair[1] = (pair[0] + 1) % self.accounts;
        }
        ids(pair)
    }

    /// Parties of a swap that this account pays. With hot accounts, one of the two is hot.
    fn parties_of(&self, payer: AccountId, rng: &mut SmallRng) -> [AccountId; 2] {
        let payer = payer.get() - 1;
        self.parties(rng, |rules, rng| {
            let pair = rules.two_accounts(rng);
            let payee = match rules.parties {
                Parties::Hot(hot) if (payer < hot) == (pair[0] < hot) => pair[1],
                _ => pair[0],
            };
            [payer, payee]
        })
    }

    /// Whether two accounts live on two shards.
    #[inline]
    fn spans(&self, [one, other]: [AccountId; 2]) -> bool {
        one.shard(self.shards) != other.shard(self.shards)
    }
}

/// What one client sends.
#[derive(Debug)]
pub(super) struct ClientWorkload {
    rules: Arc<Workload>,
    rng: SmallRng,
    /// Of ids that no swap comes with: a stream of its own, so that however many of them a mode
    /// needs, the swaps stay the same.
    other_ids: SmallRng,
    number: usize,
    /// Upper bits of the random part of request ids.
    id_prefix: u128,
    /// The last submission; kept only where funds are tight.
    planned: Vec<PlannedSwap>,
    /// Swaps planned so far that span two shards.
    cross_shard: u64,
}

impl ClientWorkload {
    /// The workload of the `number`-th client.
    pub(super) fn new(rules: Arc<Workload>, number: usize) -> Self {
        let rng = SmallRng::seed_from_u64(mix(rules.seed, number as u64));
        let other_ids = SmallRng::seed_from_u64(mix(rules.seed ^ OTHER_IDS, number as u64));
        let id_prefix = (number as u128 & 0x3FF) << 64;
        Self { rules, rng, other_ids, number, id_prefix, planned: Vec::new(), cross_shard: 0 }
    }

    /// The rules that all clients share.
    pub(super) fn rules(&self) -> &Arc<Workload> {
        &self.rules
    }

    /// Which client's it is.
    pub(super) fn number(&self) -> usize {
        self.number
    }

    /// The next `swaps` swaps as requests under new ids; `unix_millis` is the time inside the ids.
    pub(super) fn submission(&mut self, swaps: usize, unix_millis: u64) -> Vec<Request> {
        self.planned.clear();
        let mut requests = Vec::with_capacity(swaps);
        for _ in 0..swaps {
            let (swap, random) = self.draw();
            let id = RequestId::v7(unix_millis, self.id_prefix | u128::from(random));
            requests.push(Request::new(id, Command::Swap(swap.swap())));
        }
        requests
    }

    /// The next `swaps` swaps as they are planned, for a caller that settles them in its own way.
    pub(super) fn plan_batch(&mut self, swaps: usize) -> impl Iterator<Item = PlannedSwap> {
        self.planned.clear();
        (0..swaps).map(|_| self.draw().0)
    }

    /// An id that no swap came with.
    pub(super) fn other_id(&mut self, unix_millis: u64) -> RequestId {
        let random = u128::from(self.other_ids.next_u64());
        RequestId::v7(unix_millis, self.id_prefix | random)
    }

    /// Whether a refusal for lack of funds is to be expected, and to be checked.
    pub(super) fn is_tight(&self) -> bool {
        self.rules.funds == Funds::Tight
    }

    /// The next swap, and the random part of the id of its request.
    #[inline]
    fn draw(&mut self) -> (PlannedSwap, u64) {
        let swap = if self.is_tight() { self.plan_tight() } else { self.plan() };
        self.cross_shard += u64::from(self.rules.spans([swap.payer, swap.payee]));
        (swap, self.rng.next_u64())
    }

    /// The last submission's `index`-th swap; `None` where funds are ample.
    pub(super) fn planned(&self, index: usize) -> Option<&PlannedSwap> {
        self.planned.get(index)
    }

    /// Takes the number of swaps that span two shards, of those since it was last taken.
    pub(super) fn take_cross_shard(&mut self) -> u64 {
        std::mem::take(&mut self.cross_shard)
    }

    #[inline]
    fn plan(&mut self) -> PlannedSwap {
        let Self { rules, rng, .. } = self;
        let [payer, payee] = rules.parties(rng, Workload::two_accounts);
        let [asset_out, asset_back] = two_assets(rng, rules.assets);
        let amounts = rng.next_u64();
        let amount = |bits: u64| 1 + (((bits & 0xFFFF_FFFF) * rules.amount_max()) >> 32);
        let (amount_out, amount_back) = (amount(amounts), amount(amounts >> 32));
        PlannedSwap { payer, payee, asset_out, asset_back, amount_out, amount_back }
    }

    fn plan_tight(&mut self) -> PlannedSwap {
        let mut swap = self.plan();
        let kind = self.rng.next_u64() & 0xFF;
        if !self.planned.is_empty() && kind < PAYS_AGAIN_OF_256 + PASSES_ON_OF_256 {
            let earlier = below(&mut self.rng, self.planned.len() as u64) as usize;
            let earlier = self.planned[earlier];
            let payer = if kind < PAYS_AGAIN_OF_256 {
                earlier.payer
            } else {
                swap.amount_out = earlier.amount_out;
                earlier.payee
            };
            [swap.payer, swap.payee] = self.rules.parties_of(payer, &mut self.rng);
            if swap.asset_back == earlier.asset_out {
                swap.asset_back = swap.asset_out;
            }
            swap.asset_out = earlier.asset_out;
        }
        self.planned.push(swap);
        swap
    }
}

/// Accounts are numbered from 1.
#[inline]
fn ids([one, other]: [u64; 2]) -> [AccountId; 2] {
    [AccountId::new(one + 1), AccountId::new(other + 1)]
}

#[inline]
fn two_assets(rng: &mut SmallRng, assets: u64) -> [AssetId; 2] {
    let bits = rng.next_u64();
    let out = ((bits & 0xFFFF_FFFF) * assets) >> 32;
    let back = (out + 1 + (((bits >> 32) * (assets - 1)) >> 32)) % assets;
    [out, back].map(|asset| AssetId::new(u32::try_from(asset).expect("ASSETS_MAX fits")))
}

/// A number below `n`, by multiply-shift; uneven by less than n / 2^64.
#[inline]
pub(super) fn below(rng: &mut SmallRng, n: u64) -> u64 {
    ((u128::from(rng.next_u64()) * u128::from(n)) >> 64) as u64
}

/// A multiplier without a common divisor with `n`, about the golden section of it: ranks that lie
/// together are accounts that do not.
fn coprime(n: u64) -> u64 {
    let divisor = |mut a: u64, mut b: u64| {
        while b > 0 {
            (a, b) = (b, a % b);
        }
        a
    };
    let golden = (n as f64 * 0.618_033_988_749_895) as u64;
    (golden.max(1)..).find(|multiplier| divisor(*multiplier, n) == 1).expect("n + 1 has none")
}

/// Seeds of different clients and different runs are unrelated (SplitMix64's finalizer).
pub(super) fn mix(seed: u64, number: u64) -> u64 {
    let mut z = seed.wrapping_add(number.wrapping_add(1).wrapping_mul(0x9E37_79B9_7F4A_7C15));
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests;
