//! Outcomes as messages: a receipt, or the problem that says why there is none.

use crate::address::Link;
use crate::directory::Directory;
use crate::market::{MarketSpec, OrderState, OrderUpdate, Settlement};
use crate::proto;
use crate::proto::receipt::What;
use crate::proto::request::Command as Asks;
use crate::request::{Action, AssetSpec, Change, Command, LegReceipt, Outcome, Receipt};
use crate::server::names::Names;
use crate::server::problem::Problem;
use crate::server::receipt::{asset_name, key_name, refused};
use crate::server::trading::{market_name, reason, status, units};
use crate::types::{AccountId, Amount, AssetId, RequestId, Token};

use super::words;

/// A receipt as a message, or why there is none.
///
/// # Errors
/// The refusal, in the words of the request that it is of.
pub(super) fn settled(
    outcome: Outcome,
    names: &Names,
    directory: &Directory,
) -> Result<proto::Receipt, Problem> {
    match outcome {
        Outcome::Settled(settled) => Ok(receipt(settled, directory)),
        Outcome::Rejected(refusal) => Err(refused(&refusal, names, directory)),
    }
}

/// What a path over HTTP calls `id` goes by other names in messages.
pub(super) fn in_message(problem: Problem, asks: &Asks) -> Problem {
    let field = match asks {
        Asks::AmendOrder(_) | Asks::CancelOrder(_) => "order_id",
        Asks::ConfirmWithdrawal(_) | Asks::CancelWithdrawal(_) => "token",
        _ => return problem,
    };
    if problem.members().field.as_deref() == Some("id") { problem.at(field) } else { problem }
}

/// A receipt as a message.
pub(super) fn receipt(receipt: Receipt, directory: &Directory) -> proto::Receipt {
    let id = receipt.request_id;
    let (commit_seq, time_us) = (receipt.commit_seq.get(), receipt.time.get());
    let api_key = key_name(receipt.caller, directory).map(Into::into).unwrap_or_default();
    let what = Some(what(receipt, directory));
    proto::Receipt { request_id: proto::id_bytes(id), commit_seq, time_us, api_key, what }
}

fn what(receipt: Receipt, directory: &Directory) -> What {
    let Receipt { request_id, command, legs, change, hold, settlement, .. } = receipt;
    let legs = || legs.iter().map(|leg| moved_leg(leg, directory)).collect();
    let token = || hold.map(|hold| token_bytes(hold.token)).unwrap_or_default();
    let Change { before, after } = change.unwrap_or_default();
    let around = [before, after].map(proto::Amount::of);
    match command {
        Command::Swap(_) | Command::Transact(_) => What::Moved(proto::Moved { legs: legs() }),
        Command::Prepare(_) => {
            let hold = hold.expect("what is prepared is held");
            let expires_at_us = hold.expires_at.get();
            What::SetAside(proto::SetAside { token: token(), expires_at_us })
        }
        Command::Resolve(resolve) => {
            let [before, after] = around.map(|amount| change.map(|_| amount));
            let legs = if resolve.action == Action::Commit { legs() } else { Vec::new() };
            What::Resolved(proto::Resolved { token: token(), legs, before, after })
        }
        Command::Deposit(transfer) | Command::Withdraw(transfer) => {
            What::Transferred(proto::Transferred {
                token: token(),
                account: transfer.account.get(),
                asset: asset_name(transfer.asset, directory).into(),
                amount: Some(transfer.amount.into()),
                reference: transfer.reference.into(),
                before: Some(around[0]),
                after: Some(around[1]),
            })
        }
        Command::PutMarket(spec) => What::Market(market(&spec, directory)),
        Command::SwitchMarket { market, halted } => {
            let market = market_name(market, directory).into();
            What::Switched(proto::Switched { market, halted })
        }
        Command::PutAsset(spec) => What::Asset(asset(spec)),
        Command::PutAccount { account, links } => What::Account(linked(account, links)),
        Command::RemoveLink { account, chain } => {
            What::LinkRemoved(proto::LinkRemoved { account: account.get(), chain_id: chain.get() })
        }
        Command::PutKey(key) => key_changed(key.name, false),
        Command::RevokeKey(name) => key_changed(name, true),
        Command::Operate(state) => {
            What::Operation(proto::OperationState { state: state.name().into() })
        }
        of_market => {
            let settlement = settlement.expect("a market has said what it came to");
            What::Settlement(traded(request_id, &of_market, &settlement, directory))
        }
    }
}

fn key_changed(name: Box<str>, revoked: bool) -> What {
    What::KeyChanged(proto::KeyChanged { name: name.into(), revoked })
}

/// The name of a hold as bytes.
pub(super) fn token_bytes(token: Token) -> prost::bytes::Bytes {
    proto::id_bytes(token.request())
}

fn moved_leg(receipt: &LegReceipt, directory: &Directory) -> proto::MovedLeg {
    let LegReceipt { leg, from, to } = receipt;
    let amount = |amount: Amount| Some(amount.into());
    proto::MovedLeg {
        from_account: leg.from.get(),
        to_account: leg.to.get(),
        asset: asset_name(leg.asset, directory).into(),
        amount: amount(leg.amount),
        from_before: amount(from.before),
        from_after: amount(from.after),
        to_before: amount(to.before),
        to_after: amount(to.after),
    }
}

/// An asset as it is described to clients.
pub(super) fn asset(spec: AssetSpec) -> proto::Asset {
    proto::Asset {
        asset: spec.name.into(),
        chain_id: spec.chain.get(),
        chain_kind: words::show_chain_kind(spec.chain_kind),
        token: spec.token.into(),
        decimals: spec.decimals.into(),
        asset_number: None,
    }
}

/// An asset that exists.
pub(super) fn asset_now(number: AssetId, spec: AssetSpec) -> proto::Asset {
    proto::Asset { asset_number: Some(number.get()), ..asset(spec) }
}

/// An account with links.
pub(super) fn linked(account: AccountId, links: Vec<Link>) -> proto::Account {
    let link = |link: Link| proto::Link {
        chain_id: link.chain.get(),
        address: link.address.as_str().into(),
    };
    proto::Account { account: account.get(), links: links.into_iter().map(link).collect() }
}

/// A market as it was set up.
pub(super) fn market(spec: &MarketSpec, directory: &Directory) -> proto::Market {
    proto::Market {
        market: spec.name.as_ref().into(),
        base: asset_name(spec.base, directory).into(),
        quote: asset_name(spec.quote, directory).into(),
        tick_size: spec.tick_size,
        lot_size: spec.lot_size,
        maker_fee_bps: spec.maker_fee_bps.into(),
        taker_fee_bps: spec.taker_fee_bps.into(),
        fee_account: spec.fee_account.get(),
        min_notional: Some(Amount::new(spec.min_notional).into()),
        price_band_bps: spec.price_band_bps,
        halted: None,
        market_number: None,
    }
}

/// What a market's request came to.
fn traded(
    request: RequestId,
    command: &Command,
    settlement: &Settlement,
    directory: &Directory,
) -> proto::Settlement {
    let listed = directory.market(settlement.market).expect("markets are never removed");
    let spec = &*listed.spec;
    let (order, account) = match command {
        Command::Amend(amend) => (Some(amend.order), None),
        Command::Cancel(order) | Command::ExpireOrder(order) => (Some(*order), None),
        Command::CancelAll { account, .. } => (None, Some(account.get())),
        _ => (Some(request), None),
    };
    let is_own = |update: &&OrderUpdate| Some(update.order) == order;
    let own = settlement.orders.iter().find(is_own);
    let own = own.map(|update| match command {
        Command::Order(placed) => {
            let unsaid = placed.quantity.is_none();
            let state = order_state(update, spec);
            let remaining = state.remaining.filter(|_| !unsaid);
            let price = placed.price.map(|price| price.0);
            proto::OrderState { price, remaining, ..state }
        }
        _ => order_state(update, spec),
    });
    let others = settlement.orders.iter().filter(|update| !is_own(update));
    proto::Settlement {
        market: spec.name.as_ref().into(),
        order_id: order.map(proto::id_bytes).unwrap_or_default(),
        order: own,
        fee: order.map(|_| {
            proto::SignedAmount::of(settlement.fills.iter().map(|fill| fill.taker_fee).sum())
        }),
        trades: settlement.fills.iter().map(|one| fill(one, spec)).collect(),
        others: others.map(|update| order_state(update, spec)).collect(),
        account,
    }
}

/// How an order is.
pub(super) fn order_state(update: &OrderUpdate, spec: &MarketSpec) -> proto::OrderState {
    let OrderUpdate { order, account, state, standing } = update;
    let OrderState { price, left, filled, notional, .. } = *state;
    proto::OrderState {
        order_id: proto::id_bytes(*order),
        account: account.get(),
        status: status(*standing, filled).into(),
        reason: reason(*standing).unwrap_or_default().into(),
        price: Some(price.0),
        filled: Some(units(spec, filled).into()),
        remaining: Some(units(spec, left).into()),
        notional: Some(Amount::new(notional).into()),
    }
}

/// One trade of an order.
pub(super) fn fill(fill: &crate::market::Fill, spec: &MarketSpec) -> proto::Fill {
    let notional = Amount::new(MarketSpec::notional(fill.price, fill.lots));
    proto::Fill {
        maker_order_id: proto::id_bytes(fill.maker),
        maker_account: fill.account.get(),
        price: fill.price.0,
        quantity: Some(units(spec, fill.lots).into()),
        notional: Some(notional.into()),
        taker_fee: Some(proto::SignedAmount::of(fill.taker_fee)),
        maker_fee: Some(proto::SignedAmount::of(fill.maker_fee)),
    }
}
