//! Lists: the orders of an account, and the trades of a market, page by page, while many callers place,
//! amend and cancel, blocks are folded, and the engine is restarted.
//!
//! Every page names the seq that it is as of. What must be on it is worked out afterwards, from the receipts
//! up to that seq alone.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};

use crosslatch::market::order::{Ended, Side};
use crosslatch::market::{Fill, OrderState, Standing};
use crosslatch::request::{Command, Receipt, Stands};
use crosslatch::store::account_orders::{Asked, OrdersPage};
use crosslatch::store::order_reads::{OrderView, TradeId};
use crosslatch::types::{AccountId, CommitSeq, MarketId, RequestId};
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

use crate::chance::{ACCOUNTS, FUNDS, live_beside, receipts};
use crate::support::{account, scratch, seed};
use crate::venue::{MARKETS, Venue, amend, limit, place};

const LIVES: u64 = 3;

/// Behind everything: where a list begins.
const END: CommitSeq = CommitSeq::new(u64::MAX);

/// How orders are picked, as a caller may.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Pick {
    All,
    Open,
    PartlyFilled,
    Filled,
    Canceled,
    Expired,
}

const PICKS: [Pick; 6] =
    [Pick::All, Pick::Open, Pick::PartlyFilled, Pick::Filled, Pick::Canceled, Pick::Expired];

impl Pick {
    fn takes(self, state: &OrderState, standing: Standing) -> bool {
        match self {
            Self::All => true,
            Self::Open => standing == Standing::Open,
            Self::PartlyFilled => standing == Standing::Open && state.filled.0 > 0,
            Self::Filled => standing == Standing::Filled,
            Self::Canceled => standing == Standing::Ended(Ended::Canceled),
            Self::Expired => standing == Standing::Ended(Ended::Expired),
        }
    }

    fn is_open(self) -> bool {
        matches!(self, Self::Open | Self::PartlyFilled)
    }
}

/// A page as it was asked for and as it was shown.
struct Shown {
    asked: Asked,
    pick: Pick,
    page: OrdersPage,
}

fn ask(venue: &Venue, asked: Asked, pick: Pick) -> Shown {
    let takes = |state: &OrderState, standing| pick.takes(state, standing);
    let all = matches!(pick, Pick::All | Pick::Open);
    let wanted = (!all).then_some(&takes as &dyn Fn(&OrderState, Standing) -> bool);
    let asked = Asked { open: pick.is_open(), ..asked };
    Shown { asked, pick, page: venue.engine.account_orders(asked, wanted).expect("it runs") }
}

fn some_list(rng: &mut SmallRng) -> (Asked, Pick) {
    let market = rng.random_bool(0.4).then(|| rng.random_range(0..MARKETS.len() as u32));
    let asked = Asked {
        account: account(rng.random_range(1..ACCOUNTS)),
        market: market.map(MarketId::new),
        before: END,
        open: false,
        limit: rng.random_range(1..20),
    };
    (asked, PICKS[rng.random_range(0..PICKS.len())])
}

/// Looks at lists, a few pages of each, until there is no more to come.
fn look(venue: &Venue, seed: u64, over: &AtomicBool) -> Vec<Shown> {
    let (mut rng, mut shown) = (SmallRng::seed_from_u64(seed), Vec::new());
    loop {
        let last = over.load(Ordering::Acquire);
        if rng.random_bool(0.1) {
            venue.engine.drain().expect("it folds");
        }
        let (mut asked, pick) = some_list(&mut rng);
        for _ in 0..rng.random_range(1..6) {
            let one = ask(venue, asked, pick);
            let next = one.page.next;
            shown.push(one);
            let Some(next) = next else { break };
            assert!(next < asked.before, "a page must come further");
            asked.before = next;
        }
        if last {
            return shown;
        }
    }
}

/// What receipts say of orders.
#[derive(Default)]
struct Orders {
    placed: BTreeMap<CommitSeq, (AccountId, MarketId, RequestId)>,
    touched: BTreeMap<RequestId, Vec<(CommitSeq, OrderState, Standing)>>,
    trades: BTreeMap<MarketId, Vec<(TradeId, Fill)>>,
}

impl Orders {
    fn take(&mut self, receipt: &Receipt) {
        let Some(settlement) = receipt.settlement.as_deref() else { return };
        let seq = receipt.commit_seq;
        if let Command::Order(order) = &receipt.command {
            let placed = (order.account, order.market, receipt.request_id);
            self.placed.insert(seq, placed);
        }
        for update in &settlement.orders {
            let touched = self.touched.entry(update.order).or_default();
            touched.push((seq, update.state, update.standing));
        }
        let trades = self.trades.entry(settlement.market).or_default();
        let id = |index| TradeId { seq, index };
        trades.extend((0..).map(id).zip(settlement.fills.iter().copied()));
    }

    fn as_of(&self, order: RequestId, seq: CommitSeq) -> (OrderState, Standing) {
        let touched = self.touched[&order].iter().rev();
        let last = touched.copied().find(|(at, ..)| *at <= seq).expect("it was placed by then");
        (last.1, last.2)
    }

    /// What is on a list as of a seq, newest first: since, order, how it stands.
    fn list(&self, asked: &Asked, pick: Pick, seq: CommitSeq) -> Vec<Line> {
        let upto = seq.next().min(asked.before);
        let of = self.placed.range(..upto).rev().filter(|(_, (account, market, _))| {
            *account == asked.account && asked.market.is_none_or(|asked| asked == *market)
        });
        let with = of.map(|(since, (_, _, order))| (*since, *order, self.as_of(*order, seq)));
        with.filter(|(_, _, (state, standing))| pick.takes(state, *standing)).collect()
    }

    fn check(&self, Shown { asked, pick, page }: &Shown) {
        let expected = self.list(asked, *pick, page.seq);
        let line = |view: &OrderView| (view.since, view.order, (view.state, view.standing));
        let lines: Vec<Line> = page.orders.iter().map(line).collect();
        let context = format!("{pick:?} of {asked:?} as of {}", page.seq);
        assert!(lines.len() <= asked.limit, "{context}: too long");
        assert_eq!(lines, expected[..lines.len().min(expected.len())], "{context}");
        match page.next {
            None => assert_eq!(lines.len(), expected.len(), "{context}: it ends too early"),
            Some(next) => {
                let rest = &expected[lines.len()..];
                assert!(rest.iter().all(|(since, ..)| *since < next), "{context}: it leaves out");
                assert!(lines.iter().all(|(since, ..)| *since >= next), "{context}: it repeats");
            }
        }
    }
}

type Line = (CommitSeq, RequestId, (OrderState, Standing));

/// All trades of a market, in pages of so many.
fn trades(venue: &Venue, market: MarketId, limit: usize) -> Vec<(TradeId, Fill)> {
    let (mut all, mut after) = (Vec::new(), TradeId::default());
    loop {
        let page = venue.engine.trades(market, after, limit).expect("it runs");
        assert!(page.len() <= limit);
        let Some(last) = page.last() else { return all };
        after = last.id;
        all.extend(page.iter().map(|trade| (trade.id, trade.fill)));
    }
}

#[test]
fn every_page_is_as_of_the_seq_that_it_names() {
    let (data, seed) = (scratch(), seed(20_261_123));
    let mut venue = Venue::open(data.path(), ACCOUNTS, FUNDS);
    let (mut orders, mut pages) = (Orders::default(), BTreeMap::new());
    let mut from = venue.engine.status().durable_seq;
    for life in 0..LIVES {
        let over = AtomicBool::new(false);
        let (told, shown) =
            live_beside(&venue, seed + 100 * life, &over, || look(&venue, seed + life, &over));
        let all = receipts(&venue, from, &told);
        from = all.last().map_or(from, |last| last.commit_seq);
        all.iter().for_each(|receipt| orders.take(receipt));
        for one in &shown {
            orders.check(one);
            let seen = pages.entry(format!("{:?}", one.pick)).or_insert((0, 0));
            seen.0 += 1;
            seen.1 += one.page.orders.len();
        }
        venue = venue.restart(data.path());
        for number in 0..MARKETS.len() as u32 {
            let market = MarketId::new(number);
            for limit in [1, 2, 7, 100_000].into_iter().skip(usize::from(life + 1 < LIVES)) {
                assert_eq!(Some(&trades(&venue, market, limit)), orders.trades.get(&market));
            }
        }
        look(&venue, seed, &AtomicBool::new(true)).iter().for_each(|one| orders.check(one));
    }
    venue.engine.stop().expect("it stops");
    eprintln!("pages and orders on them: {pages:?}");
    assert!(pages.values().all(|(_, orders)| *orders > 0) && pages.len() == PICKS.len());
}

/// An order is on the list from the seq that placed it on, whatever became of it, and whether it ended
/// before what placed it was folded or long after; what was refused was never placed.
#[test]
fn an_order_stays_on_the_list_when_it_is_over() {
    let data = scratch();
    let venue = Venue::open(data.path(), 3, FUNDS);
    let (early, _) = venue.settled(place(limit(0, 1, Side::Sell, 100, 50)));
    let (open, _) = venue.settled(place(limit(1, 1, Side::Sell, 200, 5)));
    venue.engine.drain().expect("it folds");
    let (short, _) = venue.settled(place(limit(0, 1, Side::Sell, 120, 20)));
    venue.settled(Command::Cancel(short));
    let mut none = limit(0, 1, Side::Buy, 50, 10);
    none.stands = Stands::Ioc;
    let (at_once, _) = venue.settled(place(none));
    venue.settled(amend(early, None, Some(40)));
    venue.settled(Command::Cancel(early));
    assert_eq!(
        venue.refused(place(limit(0, 1, Side::Sell, 100, 10_000_000))),
        "insufficient_funds"
    );
    let list = |venue: &Venue, pick, before, limit| {
        let asked = Asked { account: account(1), market: None, before, open: false, limit };
        let page = ask(venue, asked, pick).page;
        (page.orders.iter().map(|view| view.order).collect::<Vec<_>>(), page.next)
    };
    let check = |venue: &Venue| {
        let all = [at_once, short, open, early];
        assert_eq!(list(venue, Pick::All, END, 9), (all.to_vec(), None));
        assert_eq!(list(venue, Pick::All, END, 4), (all.to_vec(), None));
        let (first, next) = list(venue, Pick::All, END, 3);
        assert_eq!(first, all[..3]);
        let next = next.expect("there is one more");
        assert_eq!(list(venue, Pick::All, next, 3), (vec![early], None));
        assert_eq!(list(venue, Pick::Open, END, 9), (vec![open], None));
        assert_eq!(list(venue, Pick::Canceled, END, 9), (vec![short, early], None));
        assert_eq!(list(venue, Pick::Canceled, END, 1).0, [short]);
        assert_eq!(list(venue, Pick::Filled, END, 9), (vec![], None));
    };
    check(&venue);
    venue.engine.drain().expect("it folds");
    check(&venue);
    let venue = venue.restart(data.path());
    check(&venue);
    venue.engine.stop().expect("it stops");
}
