//! What may happen to an order, one case at a time.

use crosslatch::market::Standing;
use crosslatch::market::order::{Ended, Level, Price, Side};
use crosslatch::request::{Action, Command, OrderType, Outcome, PlaceOrder, Request, Stands};
use crosslatch::store::order_reads::TradeId;
use crosslatch::types::{Amount, MarketId, Token};

use crate::support::{
    ETH, SOL, USDC, account, block_on, fresh_id, leg, prepare, resolve, scratch, swap, withdraw,
};
use crate::venue::{FEES, Venue, amend, is_open, last, limit, place};

const FUNDS: u128 = 100_000;

/// From deposit to trade: both legs, both fees and both orders in one commit.
#[test]
fn a_trade_is_a_swap_of_what_was_set_aside() {
    let data = scratch();
    let venue = Venue::open(data.path(), 3, FUNDS);
    // 50 ETH in 5 lots of 10, at 300 USDC a lot.
    let (ask, asked) = venue.settled(place(limit(0, 1, Side::Sell, 300, 50)));
    assert!(is_open(&asked));
    assert_eq!(venue.balance(1, ETH), (FUNDS - 50, 50));
    // A better price is not asked for: it pays the maker's.
    let (_, bought) = venue.settled(place(limit(0, 2, Side::Buy, 320, 30)));
    assert_eq!(last(&bought).standing, Standing::Filled);
    assert_eq!(bought.fills.len(), 1);
    assert_eq!((bought.fills[0].price.0, bought.fills[0].lots.0), (300, 3));
    // 900 moved: 20 basis points of it from the taker, 10 from the maker, both rounded up.
    assert_eq!((bought.fills[0].taker_fee, bought.fills[0].maker_fee), (2, 1));
    assert_eq!(venue.balance(2, USDC), (FUNDS - 902, 0));
    assert_eq!(venue.balance(2, ETH), (FUNDS + 30, 0));
    assert_eq!(venue.balance(1, USDC), (FUNDS + 899, 0));
    assert_eq!(venue.balance(1, ETH), (FUNDS - 50, 20));
    assert_eq!(venue.balance(FEES, USDC), (3, 0));
    // It stands after a restart, and what is left goes back when it is canceled.
    let venue = venue.restart(data.path());
    assert_eq!(venue.balance(1, ETH), (FUNDS - 50, 20));
    let (_, canceled) = venue.settled(Command::Cancel(ask));
    assert_eq!(last(&canceled).standing, Standing::Ended(Ended::Canceled));
    assert_eq!((last(&canceled).state.left.0, last(&canceled).state.filled.0), (2, 3));
    assert_eq!(venue.balance(1, ETH), (FUNDS - 30, 0));
    assert_eq!(venue.refused(Command::Cancel(ask)), "unknown_order");
    venue.restart(data.path()).engine.stop().expect("it stops");
}

/// Whatever a limit order reserved beyond what its fills cost goes back at once.
#[test]
fn what_is_reserved_and_not_spent_goes_back() {
    let data = scratch();
    let venue = Venue::open(data.path(), 3, FUNDS);
    venue.settled(place(limit(0, 1, Side::Sell, 100, 20)));
    let (_, came) = venue.settled(place(limit(0, 2, Side::Buy, 200, 50)));
    assert!(is_open(&came));
    // Two lots at 100 with 20 basis points, three that stand at 200 with at most 10 to come.
    let (spent, held) = (200 + 1, 600);
    let (available, now_held) = venue.balance(2, USDC);
    assert_eq!(available + now_held, FUNDS - spent);
    assert!((held..=held + 1).contains(&now_held), "{now_held}");
    venue.restart(data.path()).engine.stop().expect("it stops");
}

/// Orders, swaps and withdrawals compete for the same balance.
#[test]
fn nobody_spends_what_an_order_has_set_aside() {
    let data = scratch();
    let venue = Venue::open(data.path(), 3, 100);
    let (ask, _) = venue.settled(place(limit(2, 1, Side::Sell, 1, 99)));
    assert_eq!(venue.refused(place(limit(2, 1, Side::Sell, 1, 3))), "insufficient_funds");
    let exchange = swap([leg(1, 2, ETH, 2), leg(2, 1, SOL, 1)]);
    assert_eq!(venue.refused(exchange.clone()), "insufficient_funds");
    assert_eq!(venue.refused(withdraw(1, ETH, 2)), "insufficient_funds");
    venue.settled(Command::Cancel(ask));
    let outcome = venue.one(Request::new(fresh_id(), exchange));
    assert!(matches!(outcome, Outcome::Settled(_)), "{outcome:?}");
    assert_eq!(venue.refused(place(limit(2, 1, Side::Sell, 1, 99))), "insufficient_funds");
    venue.restart(data.path()).engine.stop().expect("it stops");
}

#[test]
fn amendments_keep_or_lose_their_place_and_cost_what_they_cost() {
    let data = scratch();
    let venue = Venue::open(data.path(), 4, 1_000);
    let (first, _) = venue.settled(place(limit(2, 1, Side::Buy, 10, 30)));
    let (second, _) = venue.settled(place(limit(2, 2, Side::Buy, 10, 30)));
    assert_eq!(venue.balance(1, SOL), (900, 100));
    // Less at the same price keeps the place.
    venue.settled(amend(first, None, Some(15)));
    assert_eq!(venue.balance(1, SOL), (950, 50));
    let (_, sold) = venue.settled(place(limit(2, 3, Side::Sell, 10, 3)));
    assert_eq!(sold.fills[0].maker, first);
    // More loses it; what has traded counts.
    venue.settled(amend(first, None, Some(33)));
    assert_eq!(venue.balance(1, SOL), (890, 100));
    let (_, sold) = venue.settled(place(limit(2, 3, Side::Sell, 10, 3)));
    assert_eq!(sold.fills[0].maker, second);
    // More than there is is refused, and nothing changes.
    assert_eq!(venue.refused(amend(first, Some(100), None)), "insufficient_funds");
    assert_eq!(venue.balance(1, SOL), (890, 100));
    assert_eq!(venue.refused(amend(first, None, Some(3))), "invalid_order");
    // A new price may trade at once.
    let (ask, _) = venue.settled(place(limit(2, 3, Side::Sell, 20, 6)));
    let (_, crossed) = venue.settled(amend(first, Some(20), None));
    assert_eq!(crossed.fills[0].maker, ask);
    assert_eq!((last(&crossed).order, last(&crossed).state.left.0), (first, 8));
    // What was set aside came back first: 100; then 40 were paid, and 160 set aside.
    assert_eq!(venue.balance(1, SOL), (790, 160));
    venue.restart(data.path()).engine.stop().expect("it stops");
}

#[test]
fn what_does_not_fit_the_market_is_refused() {
    let data = scratch();
    let venue = Venue::open(data.path(), 3, FUNDS);
    let order = limit(1, 1, Side::Buy, 50, 1);
    let with = |change: &dyn Fn(&mut PlaceOrder)| {
        let mut order = order.clone();
        change(&mut order);
        venue.refused(place(order))
    };
    assert_eq!(with(&|order| order.market = MarketId::new(9)), "unknown_market");
    assert_eq!(with(&|order| order.price = order.price.map(|_| Price(52))), "invalid_order");
    assert_eq!(venue.refused(place(limit(0, 1, Side::Buy, 50, 15))), "invalid_order", "half a lot");
    assert_eq!(with(&|order| order.account = account(99)), "unknown_account");
    assert_eq!(with(&|order| order.quantity = None), "malformed");
    // Post-only orders that would trade are refused, names are unique among open orders.
    venue.settled(place(limit(1, 1, Side::Sell, 50, 1)));
    let post_only = PlaceOrder { order_type: OrderType::PostOnly, ..order.clone() };
    assert_eq!(venue.refused(place(PlaceOrder { account: account(2), ..post_only })), "would_take");
    let named = PlaceOrder { client_order_id: "mine".into(), ..limit(1, 2, Side::Buy, 5, 1) };
    let (id, _) = venue.settled(place(named.clone()));
    assert_eq!(venue.refused(place(named.clone())), "duplicate_client_order_id");
    venue.settled(Command::Cancel(id));
    venue.settled(place(named));
    // A halted market takes cancellations only.
    let market = MarketId::new(1);
    let switch = |halted| {
        let outcome = venue.one(Request::new(fresh_id(), Command::SwitchMarket { market, halted }));
        assert!(matches!(outcome, Outcome::Settled(_)), "{outcome:?}");
    };
    switch(true);
    assert_eq!(venue.refused(place(order.clone())), "market_halted");
    let (_, all) = venue.settled(Command::CancelAll { account: account(2), market });
    assert_eq!(all.orders.len(), 1);
    switch(false);
    venue.settled(place(order));
    venue.restart(data.path()).engine.stop().expect("it stops");
}

#[test]
fn market_orders_spend_no_more_than_their_funds() {
    let data = scratch();
    let venue = Venue::open(data.path(), 3, FUNDS);
    venue.settled(place(limit(0, 1, Side::Sell, 100, 50)));
    venue.settled(place(limit(0, 1, Side::Sell, 110, 500)));
    let order = PlaceOrder {
        order_type: OrderType::Market,
        stands: Stands::Ioc,
        price: None,
        quantity: None,
        funds: Some(Amount::new(1_000)),
        ..limit(0, 2, Side::Buy, 1, 1)
    };
    let (_, bought) = venue.settled(place(order.clone()));
    assert_eq!(last(&bought).standing, Standing::Ended(Ended::OutOfFunds));
    // Five lots for 500 and four for 440, with a fee of 1.88, rounded up.
    assert_eq!(venue.balance(2, USDC), (FUNDS - 942, 0));
    assert_eq!(venue.balance(2, ETH), (FUNDS + 90, 0));
    let whole = PlaceOrder { stands: Stands::Fok, quantity: Some(Amount::new(1_000)), ..order };
    let (_, killed) = venue.settled(place(whole));
    assert_eq!(last(&killed).standing, Standing::Ended(Ended::Unfilled));
    assert!(killed.moves.is_empty());
    venue.restart(data.path()).engine.stop().expect("it stops");
}

/// Sent twice, an order is placed once; so is what cancels it.
#[test]
fn an_order_that_is_sent_again_is_answered_as_before() {
    let data = scratch();
    let venue = Venue::open(data.path(), 3, FUNDS);
    let order = Request::new(fresh_id(), place(limit(0, 1, Side::Sell, 100, 50)));
    let cancel = Request::new(fresh_id(), Command::Cancel(order.id));
    let both = vec![order.clone(), order.clone(), cancel.clone(), cancel.clone(), order.clone()];
    let answers = venue.ask(both.clone());
    assert_eq!(answers[0], answers[1]);
    assert_eq!(answers[2], answers[3]);
    assert_eq!(answers[0], answers[4]);
    assert!(answers.iter().all(|answer| matches!(answer, Outcome::Settled(_))), "{answers:?}");
    assert_eq!(venue.ask(both.clone()), answers);
    let venue = venue.restart(data.path());
    assert_eq!(venue.ask(both), answers);
    venue.engine.stop().expect("it stops");
}

/// What can be looked up: the book, open orders, one order at every stage, trades; also after a restart.
#[test]
fn books_orders_and_trades_are_shown_as_they_are() {
    let data = scratch();
    let venue = Venue::open(data.path(), 3, FUNDS);
    let market = MarketId::new(0);
    let before = venue.engine.status().durable_seq;
    let (low, _) = venue.settled(place(limit(0, 1, Side::Sell, 100, 50)));
    let (high, _) = venue.settled(place(limit(0, 1, Side::Sell, 120, 20)));
    let (bid, _) = venue.settled(place(limit(0, 2, Side::Buy, 90, 30)));
    let (taker, _) = venue.settled(place(limit(0, 2, Side::Buy, 110, 20)));
    venue.settled(Command::Cancel(high));
    let check = |venue: &Venue| {
        let book = block_on(venue.engine.book(market, 10)).expect("it runs");
        let level = |lots, orders| Level { lots, orders };
        assert_eq!(book.bids, [(Price(90), level(3, 1))]);
        assert_eq!(book.asks, [(Price(100), level(3, 1))]);
        assert_eq!(
            (book.seq, book.last_price),
            (venue.engine.status().durable_seq, Some(Price(100)))
        );
        let of =
            |number| block_on(venue.engine.open_orders(market, account(number))).expect("it runs");
        let ids = |number| of(number).orders.iter().map(|open| open.order).collect::<Vec<_>>();
        assert_eq!((ids(1), ids(2)), (vec![low], vec![bid]));
        let standing = |id| {
            let view = venue.engine.order(id).expect("it runs").expect("it was placed");
            (view.standing, view.state.filled.0, view.state.left.0)
        };
        assert_eq!(standing(low), (Standing::Open, 2, 3));
        assert_eq!(standing(bid), (Standing::Open, 0, 3));
        assert_eq!(standing(taker), (Standing::Filled, 2, 0));
        assert_eq!(standing(high), (Standing::Ended(Ended::Canceled), 0, 2));
        assert_eq!(venue.engine.order(fresh_id()), Ok(None));
        let trades = venue.engine.trades(market, TradeId::end_of(before), 10).expect("it runs");
        assert_eq!(trades.len(), 1);
        assert_eq!((trades[0].taker, trades[0].fill.maker), (taker, low));
        assert_eq!((trades[0].taker_side, trades[0].fill.lots.0), (Side::Buy, 2));
        assert_eq!(venue.engine.trades(market, trades[0].id, 10), Ok(vec![]));
    };
    check(&venue);
    venue.engine.drain().expect("it folds");
    check(&venue);
    let venue = venue.restart(data.path());
    check(&venue);
    venue.engine.stop().expect("it stops");
}

/// What was reserved for an amendment before it met an exclusive hold is of no use when that ends: by then
/// its market may be halted.
#[test]
fn an_amendment_that_waited_is_looked_at_anew() {
    let data = scratch();
    let venue = Venue::open(data.path(), 3, 1_000);
    let market = MarketId::new(2);
    let (bid, _) = venue.settled(place(limit(2, 1, Side::Buy, 10, 30)));
    let hold =
        Request::new(fresh_id(), prepare([leg(1, 2, SOL, 5), leg(2, 1, ETH, 5)], 60_000, true));
    let token = Token::of(hold.id);
    assert!(matches!(venue.one(hold), Outcome::Settled(_)));
    // It needs more than it has, and meets the hold.
    let more = Request::new(fresh_id(), amend(bid, None, Some(60)));
    let pending = venue.engine.submit(vec![more]).expect("there is room");
    let settles = |command| {
        let outcome = venue.one(Request::new(fresh_id(), command));
        assert!(matches!(outcome, Outcome::Settled(_)), "{outcome:?}");
    };
    settles(Command::SwitchMarket { market, halted: true });
    settles(resolve(token, Action::Rollback));
    match pending.wait().expect("it runs").outcome(0) {
        Outcome::Rejected(refusal) => assert_eq!(refusal.reject.code(), "market_halted"),
        Outcome::Settled(receipt) => panic!("{receipt:?}"),
    }
    assert_eq!(venue.balance(1, SOL), (900, 100));
    venue.restart(data.path()).engine.stop().expect("it stops");
}
