//! Samples of what markets are asked and say.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::{account, amount, asset, request_id};
use crate::error::OrderFault;
use crate::market::order::{Ended, Lots, Price, SelfTrade, Side};
use crate::market::{Fill, MarketSpec, Move, OrderState, OrderUpdate, Settlement, Standing};
use crate::request::{AmendOrder, Command, OrderType, PlaceOrder, Stands};
use crate::types::{AccountId, Amount, AssetId, BalanceKey, MarketId};

fn market() -> impl Strategy<Value = MarketId> {
    (0..5_000u32).prop_map(MarketId::new)
}

fn price() -> impl Strategy<Value = Price> {
    prop_oneof![1..1_000u64, 1..=u64::MAX].prop_map(Price)
}

fn some_amount() -> impl Strategy<Value = Amount> {
    amount().prop_filter("above zero", |amount| *amount > Amount::ZERO)
}

fn stands() -> impl Strategy<Value = Stands> {
    prop_oneof![
        Just(Stands::Gtc),
        (1..1_000_000u64).prop_map(|expires_in_ms| Stands::Gtd { expires_in_ms }),
        Just(Stands::Ioc),
        Just(Stands::Fok),
    ]
}

fn order() -> impl Strategy<Value = PlaceOrder> {
    use SelfTrade::{CancelBoth, CancelMaker, CancelTaker, Decrement, None};
    let types = [OrderType::Limit, OrderType::PostOnly, OrderType::Market];
    let who = (market(), account(), any::<bool>(), prop::sample::select(types.to_vec()), stands());
    let what = (
        prop::option::of(price()),
        prop::option::of(some_amount()),
        prop::option::of(some_amount()),
        prop::sample::select(vec![None, CancelTaker, CancelMaker, CancelBoth, Decrement]),
        "[!-~]{0,64}",
    );
    (who, what).prop_map(|(who, what)| {
        let (market, account, buys, order_type, stands) = who;
        let (price, quantity, funds, self_trade, client_order_id) = what;
        let side = if buys { Side::Buy } else { Side::Sell };
        let client_order_id = client_order_id.into();
        PlaceOrder {
            market,
            account,
            side,
            order_type,
            stands,
            price,
            quantity,
            funds,
            self_trade,
            client_order_id,
        }
    })
}

fn spec() -> impl Strategy<Value = MarketSpec> {
    let fees = (0..10_000i16).prop_flat_map(|taker| (-taker..10_000, Just(taker)));
    let numbers = (1..u64::MAX, 1..u64::MAX, any::<u128>(), any::<u32>());
    ("[A-Z-]{1,32}", asset(), asset(), account(), fees, numbers).prop_map(
        |(name, base, quote, fee_account, fees, numbers)| MarketSpec {
            name: name.into(),
            base,
            quote,
            tick_size: numbers.0,
            lot_size: numbers.1,
            maker_fee_bps: fees.0,
            taker_fee_bps: fees.1,
            fee_account,
            min_notional: numbers.2,
            price_band_bps: numbers.3,
        },
    )
}

/// What a market can be asked; some of it no caller could ask.
pub(super) fn command() -> impl Strategy<Value = Command> {
    let amend = (request_id(), prop::option::of(price()), prop::option::of(some_amount()));
    prop_oneof![
        4 => order().prop_map(|order| Command::Order(Box::new(order))),
        1 => amend.prop_map(|(order, price, quantity)| {
            Command::Amend(AmendOrder { order, price, quantity })
        }),
        1 => request_id().prop_map(Command::Cancel),
        1 => (account(), market())
            .prop_map(|(account, market)| Command::CancelAll { account, market }),
        1 => spec().prop_map(|spec| Command::PutMarket(Box::new(spec))),
        1 => (market(), any::<bool>())
            .prop_map(|(market, halted)| Command::SwitchMarket { market, halted }),
    ]
}

fn signed() -> impl Strategy<Value = i128> {
    prop_oneof![-300..300i128, -(1i128 << 118)..1i128 << 118]
}

fn state() -> impl Strategy<Value = OrderState> {
    let counts = (price(), any::<u64>(), any::<u64>(), any::<u128>(), 0..10_000u16, any::<u64>());
    counts.prop_map(|(price, left, filled, notional, carry, place)| OrderState {
        price,
        left: Lots(left),
        filled: Lots(filled),
        notional,
        carry,
        place,
    })
}

fn standing() -> impl Strategy<Value = Standing> {
    use Ended::{Canceled, Expired, OutOfFunds, SelfTrade, Unfilled, WouldTake};
    let ended = [Canceled, Expired, Unfilled, OutOfFunds, SelfTrade, WouldTake];
    let ended = prop::sample::select(ended.to_vec()).prop_map(Standing::Ended);
    prop_oneof![Just(Standing::Open), Just(Standing::Filled), ended]
}

/// What payments and amounts set aside come to, per balance: never more than goes is what comes.
fn netted(
    paid: Vec<(AccountId, AccountId, AssetId, i128)>,
    set_aside: Vec<(AccountId, AssetId, i128)>,
) -> Box<[Move]> {
    let mut sums: BTreeMap<BalanceKey, (i128, i128)> = BTreeMap::new();
    let mut add = |account, asset, available: i128, held: i128| {
        let sum = sums.entry(BalanceKey { account, asset }).or_default();
        *sum = (sum.0 + available, sum.1 + held);
    };
    for (from, to, asset, units) in paid {
        add(from, asset, -units, 0);
        add(to, asset, units, 0);
    }
    for (account, asset, units) in set_aside {
        add(account, asset, -units, units);
    }
    let moves = sums.into_iter().filter(|(_, by)| *by != (0, 0));
    moves.map(|(key, (available, held))| Move { key, available, held }).collect()
}

/// Anything that has the form of a settlement, and is balanced.
pub(super) fn settlement() -> impl Strategy<Value = Settlement> {
    let paid = (account(), account(), asset(), signed());
    let set_aside = (account(), asset(), signed());
    let moves = (prop::collection::vec(paid, 0..4), prop::collection::vec(set_aside, 0..4));
    let fill = (request_id(), account(), price(), any::<u64>(), signed(), signed()).prop_map(
        |(maker, account, price, lots, taker_fee, maker_fee)| {
            let lots = Lots(lots);
            Fill { maker, account, price, lots, taker_fee, maker_fee }
        },
    );
    let update = (request_id(), account(), state(), standing()).prop_map(
        |(order, account, state, standing)| OrderUpdate { order, account, state, standing },
    );
    let rows = (prop::collection::vec(fill, 0..4), prop::collection::vec(update, 0..4));
    let buys = any::<bool>();
    (market(), buys, moves, rows).prop_map(|(market, buys, (paid, set_aside), rows)| {
        let (fills, orders): (Vec<Fill>, Vec<OrderUpdate>) = rows;
        let moves = netted(paid, set_aside);
        let side = if buys { Side::Buy } else { Side::Sell };
        let taker_side = (!fills.is_empty()).then_some(side);
        Settlement { market, moves, taker_side, fills: fills.into(), orders: orders.into() }
    })
}

/// Everything that can be wrong with an order.
pub(super) fn fault() -> impl Strategy<Value = OrderFault> {
    prop_oneof![
        market().prop_map(OrderFault::UnknownMarket),
        request_id().prop_map(OrderFault::UnknownOrder),
        market().prop_map(OrderFault::Halted),
        any::<u64>().prop_map(|tick_size| OrderFault::Tick { tick_size }),
        any::<u64>().prop_map(|lot_size| OrderFault::Lot { lot_size }),
        any::<u128>().prop_map(|min_notional| OrderFault::TooSmall { min_notional }),
        Just(OrderFault::TooLarge),
        amount().prop_map(|filled| OrderFault::FilledAlready { filled }),
        (any::<u64>(), any::<u64>()).prop_map(|(low, high)| OrderFault::OutOfBand { low, high }),
        request_id().prop_map(OrderFault::DuplicateClientId),
        any::<u64>().prop_map(|max| OrderFault::TooMany { max }),
        Just(OrderFault::WouldTake),
    ]
}
