//! Requests as messages: made of the engine's own types, in which assets go by number, or by hand, by name.

use prost::bytes::Bytes;

use crate::market::order::{SelfTrade, Side};
use crate::proto;
use crate::proto::request::Command as Asks;
use crate::request::{Action, Command, OrderType, PlaceOrder, Request, Stands, Transact, Transfer};
use crate::types::{ChainKind, Leg, RequestId, Subject, Time};

/// A leg whose asset goes by name.
pub fn leg(from: u64, to: u64, asset: &str, amount: u128) -> proto::Leg {
    proto::Leg {
        from_account: from,
        to_account: to,
        asset: asset.into(),
        asset_number: None,
        amount: Some(crate::types::Amount::new(amount).into()),
    }
}

/// A swap of those legs.
pub fn swap(id: RequestId, legs: impl IntoIterator<Item = proto::Leg>) -> proto::Request {
    let legs = legs.into_iter().collect();
    let swap = proto::Swap { request_id: proto::id_bytes(id), deadline_us: None, legs };
    proto::Request { command: Some(Asks::Swap(swap)) }
}

/// A deposit of an asset that goes by name.
pub fn deposit(
    id: RequestId,
    account: u64,
    asset: &str,
    amount: u128,
    reference: &str,
) -> proto::Request {
    let deposit = proto::Transfer {
        request_id: proto::id_bytes(id),
        account,
        asset: asset.into(),
        asset_number: None,
        amount: Some(crate::types::Amount::new(amount).into()),
        reference: reference.into(),
    };
    proto::Request { command: Some(Asks::Deposit(deposit)) }
}

impl From<Asks> for proto::Request {
    fn from(asks: Asks) -> Self {
        Self { command: Some(asks) }
    }
}

impl From<&Request> for proto::Request {
    /// Assets and markets go by their numbers.
    ///
    /// # Panics
    /// It is one that only the engine itself makes: an expiry.
    fn from(request: &Request) -> Self {
        let id = proto::id_bytes(request.id);
        let deadline_us = (request.deadline < Time::NEVER).then_some(request.deadline.get());
        asks(id, deadline_us, &request.command).into()
    }
}

impl From<Request> for proto::Request {
    fn from(request: Request) -> Self {
        Self::from(&request)
    }
}

fn asks(request_id: Bytes, deadline_us: Option<u64>, command: &Command) -> Asks {
    match command {
        Command::Swap(swap) => {
            Asks::Swap(proto::Swap { request_id, deadline_us, legs: legs(swap.legs()) })
        }
        Command::Prepare(prepare) => Asks::Prepare(proto::Prepare {
            request_id,
            deadline_us,
            legs: legs(prepare.swap.legs()),
            expires_in_ms: Some(prepare.expires_in_ms),
            exclusive: prepare.exclusive,
        }),
        Command::Resolve(resolve) => {
            let token = proto::id_bytes(resolve.token.request());
            let asks = proto::Resolve { request_id, token };
            match resolve.action {
                Action::Commit => Asks::Commit(asks),
                Action::Rollback => Asks::Rollback(asks),
                Action::Confirm => Asks::ConfirmWithdrawal(asks),
                Action::Cancel => Asks::CancelWithdrawal(asks),
                Action::Expire => unreachable!("only the engine itself asks for that"),
            }
        }
        Command::Deposit(it) => Asks::Deposit(transfer(request_id, it)),
        Command::Withdraw(it) => Asks::Withdraw(transfer(request_id, it)),
        Command::Transact(it) => Asks::Transact(transact(request_id, deadline_us, it)),
        Command::Order(order) => Asks::PlaceOrder(place_order(request_id, deadline_us, order)),
        Command::Amend(amend) => Asks::AmendOrder(proto::AmendOrder {
            request_id,
            deadline_us,
            order_id: proto::id_bytes(amend.order),
            price: amend.price.map(|price| price.0),
            quantity: amend.quantity.map(Into::into),
        }),
        Command::Cancel(order) => {
            let order_id = proto::id_bytes(*order);
            Asks::CancelOrder(proto::CancelOrder { request_id, order_id })
        }
        Command::ExpireOrder(_) => unreachable!("only the engine itself asks for that"),
        Command::CancelAll { account, market } => Asks::CancelAllOrders(proto::CancelAllOrders {
            request_id,
            account: account.get(),
            market: String::new(),
            market_number: Some(market.get()),
        }),
        of_directory => directory(request_id, of_directory),
    }
}

fn directory(request_id: Bytes, command: &Command) -> Asks {
    match command {
        Command::PutAsset(spec) => Asks::PutAsset(proto::PutAsset {
            request_id,
            asset: spec.name.as_ref().into(),
            chain_id: spec.chain.get(),
            chain_kind: chain_kind(spec.chain_kind).into(),
            token: spec.token.as_ref().into(),
            decimals: spec.decimals.into(),
        }),
        Command::PutAccount { account, links } => {
            let links = links.iter().map(|link| proto::Link {
                chain_id: link.chain.get(),
                address: link.address.as_str().into(),
            });
            let (account, links) = (account.get(), links.collect());
            Asks::PutAccount(proto::PutAccount { request_id, account, links, must_exist: false })
        }
        Command::RemoveLink { account, chain } => Asks::RemoveLink(proto::RemoveLink {
            request_id,
            account: account.get(),
            chain_id: chain.get(),
        }),
        Command::PutMarket(spec) => Asks::PutMarket(proto::PutMarket {
            request_id,
            market: spec.name.as_ref().into(),
            base: String::new(),
            quote: String::new(),
            tick_size: spec.tick_size,
            lot_size: spec.lot_size,
            maker_fee_bps: spec.maker_fee_bps.into(),
            taker_fee_bps: spec.taker_fee_bps.into(),
            fee_account: spec.fee_account.get(),
            min_notional: Some(crate::types::Amount::new(spec.min_notional).into()),
            price_band_bps: spec.price_band_bps,
            base_number: Some(spec.base.get()),
            quote_number: Some(spec.quote.get()),
        }),
        Command::SwitchMarket { market, halted } => {
            let market_number = Some(market.get());
            let switch = proto::SwitchMarket { request_id, market: String::new(), market_number };
            if *halted { Asks::HaltMarket(switch) } else { Asks::ResumeMarket(switch) }
        }
        other => unreachable!("no command of the directory: {}", other.kind()),
    }
}

fn legs(legs: &[Leg]) -> Vec<proto::Leg> {
    let shown = legs.iter().map(|leg| proto::Leg {
        from_account: leg.from.get(),
        to_account: leg.to.get(),
        asset: String::new(),
        asset_number: Some(leg.asset.get()),
        amount: Some(leg.amount.into()),
    });
    shown.collect()
}

fn transfer(request_id: Bytes, transfer: &Transfer) -> proto::Transfer {
    proto::Transfer {
        request_id,
        account: transfer.account.get(),
        asset: String::new(),
        asset_number: Some(transfer.asset.get()),
        amount: Some(transfer.amount.into()),
        reference: transfer.reference.as_ref().into(),
    }
}

fn transact(request_id: Bytes, deadline_us: Option<u64>, transact: &Transact) -> proto::Transact {
    let reads = transact.reads.iter().map(|read| {
        let version = read.version.get();
        match &read.subject {
            Subject::Key(key) => proto::Read {
                key: Bytes::copy_from_slice(key.bytes()),
                version,
                ..proto::Read::default()
            },
            Subject::Balance(of) => proto::Read {
                account: of.account.get(),
                asset_number: Some(of.asset.get()),
                version,
                ..proto::Read::default()
            },
        }
    });
    let writes = transact.writes.iter().map(|write| proto::Write {
        key: Bytes::copy_from_slice(write.key.bytes()),
        value: write.value.as_deref().map(Bytes::copy_from_slice),
    });
    proto::Transact {
        request_id,
        deadline_us,
        reads: reads.collect(),
        writes: writes.collect(),
        transfers: legs(&transact.transfers),
    }
}

fn place_order(
    request_id: Bytes,
    deadline_us: Option<u64>,
    order: &PlaceOrder,
) -> proto::PlaceOrder {
    let (time_in_force, expires_in_ms) = match order.stands {
        Stands::Gtc => (proto::TimeInForce::Gtc, None),
        Stands::Gtd { expires_in_ms } => (proto::TimeInForce::Gtd, Some(expires_in_ms)),
        Stands::Ioc => (proto::TimeInForce::Ioc, None),
        Stands::Fok => (proto::TimeInForce::Fok, None),
    };
    let side = match order.side {
        Side::Buy => proto::Side::Buy,
        Side::Sell => proto::Side::Sell,
    };
    let order_type = match order.order_type {
        OrderType::Limit => proto::OrderType::Limit,
        OrderType::Market => proto::OrderType::Market,
        OrderType::PostOnly => proto::OrderType::PostOnly,
    };
    let self_trade = match order.self_trade {
        SelfTrade::None => proto::SelfTrade::None,
        SelfTrade::CancelTaker => proto::SelfTrade::CancelTaker,
        SelfTrade::CancelMaker => proto::SelfTrade::CancelMaker,
        SelfTrade::CancelBoth => proto::SelfTrade::CancelBoth,
        SelfTrade::Decrement => proto::SelfTrade::Decrement,
    };
    proto::PlaceOrder {
        request_id,
        deadline_us,
        market: String::new(),
        market_number: Some(order.market.get()),
        account: order.account.get(),
        side: side.into(),
        r#type: order_type.into(),
        time_in_force: time_in_force.into(),
        price: order.price.map(|price| price.0),
        quantity: order.quantity.map(Into::into),
        funds: order.funds.map(Into::into),
        expires_in_ms,
        self_trade: self_trade.into(),
        client_order_id: order.client_order_id.as_ref().into(),
    }
}

const fn chain_kind(kind: ChainKind) -> proto::ChainKind {
    match kind {
        ChainKind::Evm => proto::ChainKind::Evm,
        ChainKind::Solana => proto::ChainKind::Solana,
        ChainKind::Bitcoin => proto::ChainKind::Bitcoin,
        ChainKind::Other => proto::ChainKind::Other,
    }
}
