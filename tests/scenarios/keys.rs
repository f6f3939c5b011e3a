//! Keys: what they may ask for, what of others they learn, and that it is so from the very place in the
//! order at which it was said, and after a restart.

use std::collections::BTreeSet;

use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

use crosslatch::access::{Accounts, ApiKey, Caller, KeyLimits, KeyNumber, Scope, Scopes};
use crosslatch::engine::Known;
use crosslatch::error::{OrderFault, Reject};
use crosslatch::market::MarketSpec;
use crosslatch::market::order::{Price, SelfTrade, Side};
use crosslatch::request::{
    Action, AmendOrder, Command, OrderType, Outcome, PlaceOrder, Request, Stands, Transact, Write,
};
use crosslatch::types::{AccountId, Amount, Key, MarketId, Operation, RequestId, Time, Token};

use crate::support::{
    ETH, SOL, account, deposit, fresh, fresh_id, leg, prepare, put_account, resolve, seed, swap,
    withdraw,
};
use crate::venue::{Venue, outcomes, receipt, refusal};

const FORBIDDEN: Reject = Reject::Forbidden { account: None };

fn key(name: &str, accounts: Accounts) -> ApiKey {
    ApiKey {
        name: name.into(),
        generation: 1,
        verifier: [1; 32],
        scopes: Scopes::ALL,
        accounts,
        networks: Box::default(),
        limits: KeyLimits::default(),
        expires_at: Time::NEVER,
    }
}

fn only(numbers: &[u64]) -> Accounts {
    Accounts::only(numbers.iter().map(|number| account(*number))).expect("few")
}

fn put(key: ApiKey) -> Command {
    Command::PutKey(Box::new(key))
}

fn by(number: u32, command: Command) -> Request {
    Request::new(fresh_id(), command).by(Caller::Key(KeyNumber(number)))
}

/// Four accounts with funds; key 0 has account 0, key 1 has accounts 1 and 2, key 2 has all.
fn venue() -> Venue {
    let venue = Venue::open(4);
    venue.settle_all((0..4).flat_map(|n| [deposit(n, ETH, 100), deposit(n, SOL, 100)]));
    venue.settle_all([
        put(key("alice", only(&[0]))),
        put(key("bob", only(&[1, 2]))),
        put(key("venue", Accounts::All)),
    ]);
    venue
}

fn ask(venue: &Venue, number: u32, command: Command) -> Result<(), Reject> {
    let request = by(number, command);
    match venue.ask(&request) {
        Outcome::Settled(receipt) => {
            // It may be the receipt of who did it first.
            let is_own = receipt.caller == Caller::Key(KeyNumber(number));
            assert!(is_own || receipt.request_id != request.id, "{receipt:?}");
            Ok(())
        }
        Outcome::Rejected(refusal) => {
            assert_eq!(refusal.caller, Caller::Key(KeyNumber(number)));
            Err(refusal.reject)
        }
    }
}

/// Pays from one to another, twice.
fn pay(from: u64, to: u64) -> Command {
    swap([leg(from, to, ETH, 1), leg(from, to, SOL, 1)])
}

fn market(venue: &Venue) -> MarketId {
    venue.settle(Command::PutMarket(Box::new(MarketSpec {
        name: "ETH-SOL".into(),
        base: ETH,
        quote: SOL,
        tick_size: 1,
        lot_size: 1,
        maker_fee_bps: 0,
        taker_fee_bps: 0,
        fee_account: account(3),
        min_notional: 0,
        price_band_bps: 0,
    })));
    MarketId::new(0)
}

fn sell(market: MarketId, number: u64) -> Command {
    Command::Order(Box::new(PlaceOrder {
        market,
        account: account(number),
        side: Side::Sell,
        order_type: OrderType::Limit,
        stands: Stands::Gtc,
        price: Some(Price(5)),
        quantity: Some(Amount::new(1)),
        funds: None,
        self_trade: SelfTrade::None,
        client_order_id: "".into(),
    }))
}

#[test]
fn a_key_debits_its_own_accounts_and_no_others() {
    let mut venue = venue();
    for _ in 0..2 {
        let foreign = |number| Err(Reject::Forbidden { account: Some(account(number)) });
        assert_eq!(ask(&venue, 0, pay(0, 1)), Ok(()));
        assert_eq!(ask(&venue, 0, pay(1, 0)), foreign(1));
        assert_eq!(ask(&venue, 0, swap([leg(0, 1, ETH, 1), leg(1, 0, SOL, 1)])), foreign(1));
        assert_eq!(ask(&venue, 1, swap([leg(1, 2, ETH, 1), leg(2, 1, SOL, 1)])), Ok(()));
        assert_eq!(ask(&venue, 2, swap([leg(0, 1, ETH, 1), leg(1, 0, SOL, 1)])), Ok(()));
        assert_eq!(ask(&venue, 1, deposit(1, ETH, 5)), Ok(()));
        assert_eq!(ask(&venue, 1, deposit(3, ETH, 5)), foreign(3));
        assert_eq!(ask(&venue, 0, withdraw(1, ETH, 1)), foreign(1));
        assert_eq!(ask(&venue, 0, put_account(9)), Err(FORBIDDEN), "who makes accounts has all");
        assert_eq!(ask(&venue, 2, put_account(3)), Ok(()));
        assert_eq!(ask(&venue, 7, deposit(0, ETH, 1)), Err(FORBIDDEN), "there is no such key");
        let write = Write { key: Key::new(*b"a"), value: Some([1].as_slice().into()) };
        let writes = || {
            let writes = vec![write.clone()];
            Command::Transact(Box::new(Transact { writes, ..Transact::default() }))
        };
        assert_eq!(ask(&venue, 0, writes()), Err(FORBIDDEN));
        assert_eq!(ask(&venue, 2, writes()), Ok(()));
        venue.restart(|_| {});
    }
    venue.end();
}

#[test]
fn of_a_hold_of_others_a_key_learns_nothing() {
    let mut venue = venue();
    let hold = |venue: &Venue| {
        venue.hold(prepare([leg(0, 1, ETH, 1), leg(1, 0, SOL, 1)], 3_600_000, false))
    };
    let never = Token::of(RequestId::new(77));
    let open = hold(&venue);
    let done = hold(&venue);
    venue.settle(resolve(done, Action::Rollback));
    for _ in 0..2 {
        for token in [open, done, never] {
            for action in [Action::Commit, Action::Rollback, Action::Confirm] {
                let unknown = Err(Reject::UnknownToken(token));
                // Neither has both of those who pay.
                assert_eq!(ask(&venue, 0, resolve(token, action)), unknown);
                assert_eq!(ask(&venue, 1, resolve(token, action)), unknown);
            }
        }
        assert!(venue.how(open).is_none());
        venue.restart(|_| {});
    }
    venue.settle(put(key("alice", only(&[0, 1]))));
    assert_eq!(ask(&venue, 0, resolve(done, Action::Rollback)), Ok(()));
    assert_eq!(
        ask(&venue, 0, resolve(done, Action::Commit)).unwrap_err().code(),
        "already_resolved"
    );
    assert_eq!(ask(&venue, 0, resolve(open, Action::Commit)), Ok(()));
    // One that sets aside of one account alone, whoever is paid by it.
    let own = venue.hold(prepare([leg(2, 0, ETH, 1), leg(2, 3, SOL, 1)], 3_600_000, false));
    assert_eq!(ask(&venue, 0, resolve(own, Action::Rollback)), Err(Reject::UnknownToken(own)));
    assert_eq!(ask(&venue, 1, resolve(own, Action::Rollback)), Ok(()));
    let leaving = venue.hold(withdraw(1, ETH, 1));
    venue.settle(put(key("alice", only(&[0]))));
    assert_eq!(
        ask(&venue, 0, resolve(leaving, Action::Cancel)),
        Err(Reject::UnknownToken(leaving))
    );
    assert_eq!(ask(&venue, 1, resolve(leaving, Action::Cancel)), Ok(()));
    venue.end();
}

#[test]
fn an_order_is_its_owners() {
    let mut venue = venue();
    let market = market(&venue);
    let placed = by(1, sell(market, 1));
    receipt(venue.ask(&placed));
    let order = placed.id;
    let price = Some(Price(6));
    let amend = || Command::Amend(AmendOrder { order, price, quantity: None });
    let unknown = || Err(Reject::Order(OrderFault::UnknownOrder(order)));
    assert_eq!(ask(&venue, 0, sell(market, 1)).unwrap_err().code(), "forbidden");
    for _ in 0..2 {
        assert_eq!(ask(&venue, 0, Command::Cancel(order)), unknown());
        assert_eq!(ask(&venue, 0, amend()), unknown());
        let all = Command::CancelAll { account: account(1), market };
        assert_eq!(ask(&venue, 0, all).unwrap_err().code(), "forbidden");
        venue.restart(|_| {});
    }
    assert_eq!(ask(&venue, 1, amend()), Ok(()));
    assert_eq!(ask(&venue, 1, Command::Cancel(order)), Ok(()));
    venue.end();
}

#[test]
fn what_became_of_an_id_is_told_to_those_it_concerns() {
    let venue = venue();
    let again = |request: &Request, number| request.clone().by(Caller::Key(KeyNumber(number)));
    let paid = by(1, pay(1, 3));
    let token = venue.hold(prepare([leg(1, 0, ETH, 1), leg(2, 0, SOL, 1)], 3_600_000, false));
    let ended = by(1, resolve(token, Action::Commit));
    let market = market(&venue);
    let placed = by(1, sell(market, 2));
    let cancel = by(1, Command::Cancel(placed.id));
    let short = by(1, swap([leg(1, 2, ETH, 9_000), leg(2, 1, SOL, 1)]));
    for request in [&paid, &ended, &placed, &cancel, &short] {
        let first = venue.ask(request);
        // The same key, the venue's, another of the same accounts, and the program itself.
        assert_eq!(venue.ask(request), first);
        assert_eq!(venue.ask(&again(request, 2)), first);
        assert_eq!(venue.ask(&request.clone().by(Caller::Trusted)), first);
        // Another, which could not have asked for it, is told nothing, nor a repetition noted.
        let told = venue.ask(&again(request, 0));
        assert_eq!(refusal(told), FORBIDDEN, "{request:?}");
        assert_eq!(venue.engine().known(request.id), Ok(Known::Outcome(first)));
    }
    venue.settle(put(key("bob-too", only(&[1, 2]))));
    for request in [&paid, &ended, &placed, &cancel, &short] {
        assert_eq!(venue.ask(&again(request, 3)), venue.ask(request), "{request:?}");
    }
    venue.end();
}

#[test]
fn a_revocation_holds_from_its_place_in_the_order_on() {
    let mut venue = venue();
    let request = || by(0, pay(0, 3));
    let revoke = || Request::new(fresh_id(), Command::RevokeKey("alice".into()));
    let before = request();
    let outcomes = venue.send(vec![before.clone(), revoke(), request(), revoke(), request()]);
    receipt(outcomes[0].clone());
    receipt(outcomes[1].clone());
    assert_eq!(refusal(outcomes[2].clone()), FORBIDDEN);
    receipt(outcomes[3].clone());
    assert_eq!(refusal(outcomes[4].clone()), FORBIDDEN);
    for _ in 0..2 {
        assert_eq!(ask(&venue, 0, pay(0, 3)), Err(FORBIDDEN));
        // Not even what it asked for before.
        assert_eq!(refusal(venue.ask(&before)), FORBIDDEN);
        let taken = venue.refuse(put(key("alice", only(&[0]))));
        assert!(matches!(taken, Reject::AlreadyExists(_)), "{taken:?}");
        assert!(venue.engine().directory().key_by_name("alice").expect("known").revoked);
        venue.restart(|_| {});
    }
    assert_eq!(venue.balance(0, ETH), 99);
    venue.end();
}

#[test]
fn a_request_that_waits_is_judged_again_when_it_comes_again() {
    for (change, expected) in [
        (None, Ok(())),
        (Some(Command::RevokeKey("alice".into())), Err(FORBIDDEN)),
        (Some(put(key("alice", only(&[1])))), Err(Reject::Forbidden { account: Some(account(0)) })),
        (
            Some(Command::Operate(Operation::CancelOnly)),
            Err(Reject::Restricted { operation: Operation::CancelOnly }),
        ),
    ] {
        let venue = venue();
        let token = venue.hold(prepare([leg(0, 1, ETH, 1), leg(1, 0, SOL, 1)], 3_600_000, true));
        let request = by(0, pay(0, 3));
        let waits = venue.submit(vec![request.clone()]);
        venue.settle(deposit(3, SOL, 1));
        assert_eq!(venue.engine().known(request.id), Ok(Known::Pending));
        venue.settle_all(change);
        venue.settle(resolve(token, Action::Rollback));
        let told = outcomes(waits).remove(0);
        let result = match told.clone() {
            Outcome::Settled(_) => Ok(()),
            Outcome::Rejected(refusal) => Err(refusal.reject),
        };
        assert_eq!(result, expected);
        assert_eq!(venue.engine().known(request.id), Ok(Known::Outcome(told)));
        venue.end();
    }
}

#[test]
fn a_key_ends_at_its_time_and_needs_its_scope() {
    let venue = venue();
    let now = venue.settle(deposit(0, ETH, 1)).time;
    let soon = Time::new(now.get() + 3_600_000_000);
    let trades = Scopes::default().with(Scope::Trade);
    let alice = ApiKey { expires_at: soon, scopes: trades, ..key("alice", only(&[0])) };
    venue.settle(put(alice.clone()));
    assert_eq!(ask(&venue, 0, pay(0, 1)), Ok(()));
    assert_eq!(ask(&venue, 0, deposit(0, ETH, 1)), Err(FORBIDDEN));
    venue.clock.pass(3_600_001);
    assert_eq!(ask(&venue, 0, pay(0, 1)), Err(FORBIDDEN));
    venue.settle(put(ApiKey { expires_at: Time::NEVER, ..alice }));
    assert_eq!(ask(&venue, 0, pay(0, 1)), Ok(()));
    venue.end();
}

#[test]
fn a_key_limits_what_is_open_of_an_account() {
    let venue = venue();
    let market = market(&venue);
    let limits = KeyLimits { open_holds: 2, open_orders: 3, ..KeyLimits::default() };
    venue.settle(put(ApiKey { limits, ..key("alice", only(&[0])) }));
    let hold = || prepare([leg(0, 1, ETH, 1), leg(0, 1, SOL, 1)], 3_600_000, false);
    let first = venue.hold(hold());
    assert_eq!(ask(&venue, 0, withdraw(0, SOL, 1)), Ok(()));
    let full = Err(Reject::TooManyHolds { account: Some(account(0)), max: 2 });
    assert_eq!(ask(&venue, 0, hold()), full);
    assert_eq!(ask(&venue, 2, hold()), Ok(()), "another key is not limited by it");
    assert_eq!(ask(&venue, 0, withdraw(0, SOL, 1)), full);
    venue.settle(resolve(first, Action::Rollback));
    assert_eq!(ask(&venue, 0, hold()), full, "there are two again");

    let orders: Vec<Request> = (0..3).map(|_| by(0, sell(market, 0))).collect();
    for request in &orders {
        receipt(venue.ask(request));
    }
    let full = Err(Reject::Order(OrderFault::TooMany { max: 3 }));
    assert_eq!(ask(&venue, 0, sell(market, 0)), full);
    assert_eq!(ask(&venue, 2, sell(market, 0)), Ok(()));
    assert_eq!(ask(&venue, 0, Command::Cancel(orders[0].id)), Ok(()));
    assert_eq!(ask(&venue, 0, sell(market, 0)), full, "there are three again");
    assert_eq!(ask(&venue, 0, Command::Cancel(orders[1].id)), Ok(()));
    assert_eq!(ask(&venue, 0, sell(market, 0)), Ok(()));
    assert_eq!(ask(&venue, 0, Command::CancelAll { account: account(0), market }), Ok(()));
    let many = (0..5).map(|_| by(0, sell(market, 0))).collect();
    let codes = venue.send(many).into_iter().filter(|it| matches!(it, Outcome::Settled(_)));
    assert_eq!(codes.count(), 3, "those on their way count");
    venue.end();
}

#[test]
fn the_switch_stands_until_it_is_switched_back() {
    let mut venue = venue();
    let market = market(&venue);
    let order = fresh([sell(market, 0)]).remove(0);
    receipt(venue.ask(&order));
    let leaving = venue.hold(withdraw(0, ETH, 1));
    let held = venue.hold(prepare([leg(0, 1, ETH, 1), leg(1, 0, SOL, 1)], 3_600_000, false));
    let timed = venue.hold(prepare([leg(0, 1, ETH, 1), leg(1, 0, SOL, 1)], 5_000, false));
    let switch = |venue: &Venue, state| drop(venue.settle(Command::Operate(state)));
    let restricted = |operation| Reject::Restricted { operation };

    switch(&venue, Operation::CancelOnly);
    venue.restart(|_| {});
    assert_eq!(venue.engine().directory().operation(), Operation::CancelOnly);
    let no = restricted(Operation::CancelOnly);
    for new in [pay(0, 1), sell(market, 0), withdraw(0, ETH, 1)] {
        assert_eq!(venue.refuse(new), no);
    }
    // What happened is told as ever.
    assert_eq!(venue.ask(&order), venue.ask(&order));
    receipt(venue.ask(&order));
    venue.settle_all([deposit(0, ETH, 1), Command::Cancel(order.id)]);
    venue.settle(resolve(held, Action::Commit));

    switch(&venue, Operation::WithdrawOnly);
    assert_eq!(venue.refuse(pay(0, 1)), restricted(Operation::WithdrawOnly));
    venue.settle(withdraw(0, ETH, 1));
    venue.settle(resolve(leaving, Action::Confirm));

    switch(&venue, Operation::Halted);
    venue.restart(|_| {});
    let no = restricted(Operation::Halted);
    for any in [pay(0, 1), deposit(0, ETH, 1), resolve(timed, Action::Rollback)] {
        assert_eq!(venue.refuse(any), no);
    }
    venue.settle_all([put(key("new", Accounts::All)), Command::RevokeKey("new".into())]);
    venue.clock.pass(5_001);
    venue.until(|| venue.how(timed).is_some());

    // In one stream each request meets what was said right before it.
    let outcomes = venue.send(fresh([
        pay(0, 1),
        Command::Operate(Operation::Normal),
        pay(0, 1),
        Command::Operate(Operation::Halted),
        put_account(9),
        Command::Operate(Operation::Normal),
        pay(0, 1),
    ]));
    let settled: Vec<bool> =
        outcomes.iter().map(|outcome| matches!(outcome, Outcome::Settled(_))).collect();
    assert_eq!(settled, [false, true, true, true, false, true, true]);
    venue.end();
}

/// A random command about a few accounts, which most often involves two of them.
fn some(rng: &mut SmallRng, tokens: &[Token], orders: &[RequestId]) -> Command {
    let [a, b] = [rng.random_range(0..4), rng.random_range(0..3)];
    let b = if b >= a { b + 1 } else { b };
    let pick = |rng: &mut SmallRng, len: usize| rng.random_range(0..len.max(1));
    match rng.random_range(0..9) {
        0 => pay(a, b),
        1 => swap([leg(a, b, ETH, 1), leg(b, a, SOL, 1)]),
        2 => deposit(a, ETH, 2),
        3 => withdraw(a, ETH, 1),
        4 => prepare([leg(a, b, ETH, 1), leg(b, a, SOL, 1)], 3_600_000, false),
        5 => {
            let transfers = vec![leg(a, b, ETH, 1)];
            Command::Transact(Box::new(Transact { transfers, ..Transact::default() }))
        }
        6 => sell(MarketId::new(0), a),
        7 if !orders.is_empty() => Command::Cancel(orders[pick(rng, orders.len())]),
        _ => {
            let known = tokens.get(pick(rng, tokens.len())).copied();
            let actions = [Action::Commit, Action::Rollback, Action::Confirm, Action::Cancel];
            let action = actions[rng.random_range(0..4)];
            resolve(known.unwrap_or_else(|| Token::of(RequestId::new(5))), action)
        }
    }
}

/// Available and held, of each of two assets.
type Funds = [(u128, u128); 2];

/// The same of each account.
fn funds(venue: &Venue) -> Vec<(u64, Funds)> {
    (0..4).map(|number| (number, [ETH, SOL].map(|asset| venue.parts(number, asset)))).collect()
}

/// Whatever a key asks for, of the balance of an account that is not its own neither the sum nor what is
/// free of it shrinks. (No order here meets another, so nobody pays for a standing one.)
#[test]
fn nothing_that_a_key_asks_for_takes_from_others() {
    let seed = seed(7);
    let mut rng = SmallRng::seed_from_u64(seed);
    let venue = venue();
    market(&venue);
    let (mut tokens, mut orders) = (Vec::new(), Vec::new());
    let mut owners: [BTreeSet<AccountId>; 3] =
        [vec![0], vec![1, 2], vec![0, 1, 2, 3]].map(|all| all.into_iter().map(account).collect());
    let [mut settled, mut refused] = [0; 2];
    for _ in 0..1_500 {
        if rng.random_bool(0.05) {
            // Others' accounts from now on.
            let number = rng.random_range(0..2);
            let some: Vec<u64> = (0..4).filter(|_| rng.random_bool(0.5)).collect();
            owners[number] = some.iter().copied().map(account).collect();
            let name = ["alice", "bob"][number];
            venue.settle(put(key(name, only(&some))));
        }
        let number = rng.random_range(0..3);
        let request = by(number, some(&mut rng, &tokens, &orders));
        let before = funds(&venue);
        let outcome = venue.ask(&request);
        let after = funds(&venue);
        let Outcome::Settled(receipt) = outcome else {
            assert_eq!(before, after, "what is refused changes nothing: {request:?}");
            refused += 1;
            continue;
        };
        settled += 1;
        for ((number_of, before), (_, after)) in before.iter().zip(&after) {
            let is_own = owners[number as usize].contains(&account(*number_of));
            for ((free, held), (free_after, held_after)) in before.iter().zip(after) {
                let less = free_after < free || free_after + held_after < free + held;
                assert!(is_own || !less, "took from {number_of}: {receipt:?}");
            }
        }
        match &request.command {
            Command::Prepare(_) | Command::Withdraw(_) => tokens.push(Token::of(request.id)),
            Command::Order(_) => orders.push(request.id),
            _ => {}
        }
    }
    assert!(settled > 100 && refused > 100, "{settled} settled, {refused} refused: seed {seed}");
    venue.end();
}
