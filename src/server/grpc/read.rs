//! Commands as they come in messages, made into what the engine takes: no JSON between.
//!
//! What is checked here is what a message can say and a command cannot: ids of another length, names
//! beside numbers, words that were not given. The rest the engine checks, and says the same as over HTTP.

use std::sync::Arc;

use smallvec::SmallVec;

use crate::address::{Address, Link};
use crate::config::{
    ASSETS_MAX, LINKS_PER_REQUEST_MAX, MARKETS_MAX, SWAP_LEGS_MAX, TRANSACTION_KEYS_MAX,
};
use crate::directory::Directory;
use crate::error::{Malformed, Reject};
use crate::market::MarketSpec;
use crate::market::order::Price;
use crate::proto;
use crate::proto::request::Command as Asks;
use crate::request::{
    Action, AmendOrder, AssetSpec, Command, OrderType, PlaceOrder, Prepare, Read, Request, Resolve,
    Stands, Swap, Transact, Transfer, Write,
};
use crate::server::accounts::unknown_account;
use crate::server::assets::token_of;
use crate::server::json::{name_from, within};
use crate::server::names::Names;
use crate::server::problem::Problem;
use crate::server::state::App;
use crate::types::{
    AccountId, Amount, AssetId, BalanceKey, ChainId, CommitSeq, Key, Leg, MarketId, RequestId,
    Subject, Time, Token,
};

use super::caller::check;
use super::words;

/// Names of assets that are kept for the rest of a batch.
const NAMES_KEPT: usize = 8;

/// Reads requests that came together: a name is looked up once.
pub(super) struct Reader<'a> {
    app: &'a App,
    directory: &'a Directory,
    assets: SmallVec<[(&'a str, AssetId); NAMES_KEPT]>,
}

impl<'a> Reader<'a> {
    /// Nothing looked up yet.
    pub(super) fn new(app: &'a App) -> Self {
        Self { app, directory: app.engine().directory(), assets: SmallVec::new() }
    }

    /// A request for the engine. `names` keeps what its answer may need to say.
    ///
    /// # Errors
    /// What is wrong with it; it counts as a malformed request of its kind.
    pub(super) fn request(
        &mut self,
        asks: &'a Asks,
        names: &mut Names,
    ) -> Result<Request, Problem> {
        let read = self.with_id(asks).and_then(|id| {
            let told = |unread: Unread| unread.problem().of(id);
            let (command, deadline) = self.command(asks, names).map_err(told)?;
            check(self.app, &command).map_err(|refused| refused.of(id))?;
            let request = Request { deadline, ..Request::new(id, command) };
            Ok(request.by(self.app.visitor().caller()))
        });
        self.app.counted(kind_of(asks), read)
    }

    /// The request's id. Where asking twice does no harm, it may be left out.
    fn with_id(&self, asks: &Asks) -> Result<RequestId, Problem> {
        let bytes = id_of(asks);
        if bytes.is_empty() && may_lack_id(asks) {
            return Ok(self.app.fresh_id());
        }
        proto::id_of(bytes).map_err(|why| Problem::malformed("request_id", why))
    }

    fn command(&mut self, asks: &'a Asks, names: &mut Names) -> Result<(Command, Time), Unread> {
        let deadline = Time::new(deadline_of(asks).unwrap_or(Time::NEVER.get()));
        let command = match asks {
            Asks::Swap(swap) => Command::Swap(Swap::new(self.legs("legs", &swap.legs, names)?)?),
            Asks::Prepare(prepare) => self.prepare(prepare, names)?,
            Asks::Commit(it) => resolve(it, Action::Commit)?,
            Asks::Rollback(it) => resolve(it, Action::Rollback)?,
            Asks::ConfirmWithdrawal(it) => resolve(it, Action::Confirm)?,
            Asks::CancelWithdrawal(it) => resolve(it, Action::Cancel)?,
            Asks::Deposit(transfer) => Command::Deposit(self.transfer(transfer, names)?),
            Asks::Withdraw(transfer) => Command::Withdraw(self.transfer(transfer, names)?),
            Asks::Transact(transact) => self.transact(transact, names)?,
            Asks::PutAsset(asset) => Command::PutAsset(asset_spec(asset)?),
            Asks::PutAccount(account) => self.account(account)?,
            Asks::RemoveLink(link) => Command::RemoveLink {
                account: AccountId::new(link.account),
                chain: ChainId::new(link.chain_id),
            },
            Asks::PutMarket(market) => self.market_spec(market, names)?,
            Asks::HaltMarket(market) => self.switch(market, true, names)?,
            Asks::ResumeMarket(market) => self.switch(market, false, names)?,
            Asks::Operate(operate) => {
                let state = operate.state.parse();
                Command::Operate(state.map_err(|why| Malformed::new("state", why))?)
            }
            Asks::PlaceOrder(order) => self.order(order, names)?,
            Asks::AmendOrder(amend) => Command::Amend(AmendOrder {
                order: order_id(&amend.order_id)?,
                price: amend.price.map(Price),
                quantity: amend.quantity.as_ref().map(proto::Amount::units),
            }),
            Asks::CancelOrder(cancel) => Command::Cancel(order_id(&cancel.order_id)?),
            Asks::CancelAllOrders(all) => Command::CancelAll {
                account: AccountId::new(all.account),
                market: self.market(&all.market, all.market_number, names)?,
            },
        };
        Ok((command, deadline))
    }

    fn legs(
        &mut self,
        field: &str,
        legs: &'a [proto::Leg],
        names: &mut Names,
    ) -> Result<SmallVec<[Leg; 2]>, Malformed> {
        let mut read = SmallVec::new();
        // One leg too many is enough for the refusal.
        for (index, leg) in legs.iter().take(SWAP_LEGS_MAX + 1).enumerate() {
            let leg = self.leg(leg, names);
            read.push(leg.map_err(|it| within(format_args!("{field}[{index}]"), it))?);
        }
        Ok(read)
    }

    fn leg(&mut self, leg: &'a proto::Leg, names: &mut Names) -> Result<Leg, Malformed> {
        Ok(Leg {
            from: AccountId::new(leg.from_account),
            to: AccountId::new(leg.to_account),
            asset: self.asset("asset", &leg.asset, leg.asset_number, names)?,
            amount: amount(leg.amount.as_ref())?,
        })
    }

    /// An asset by name or by number.
    fn asset(
        &mut self,
        field: &str,
        name: &'a str,
        number: Option<u32>,
        names: &mut Names,
    ) -> Result<AssetId, Malformed> {
        if let Some(number) = by_number(field, name, number, ASSETS_MAX)? {
            return Ok(AssetId::new(number));
        }
        if let Some((_, asset)) = self.assets.iter().find(|(seen, _)| *seen == name) {
            return Ok(*asset);
        }
        name_from(name).map_err(|why| Malformed::new(field, why))?;
        if let Some(asset) = self.directory.asset_by_name(name) {
            if self.assets.len() < NAMES_KEPT {
                self.assets.push((name, asset));
            }
            return Ok(asset);
        }
        Ok(names.resolve(name, self.directory))
    }

    fn market(
        &self,
        name: &str,
        number: Option<u32>,
        names: &mut Names,
    ) -> Result<MarketId, Malformed> {
        if let Some(number) = by_number("market", name, number, MARKETS_MAX)? {
            return Ok(MarketId::new(number));
        }
        let name = name_from(name).map_err(|why| Malformed::new("market", why))?;
        Ok(names.resolve_market(name, self.directory))
    }

    fn prepare(
        &mut self,
        prepare: &'a proto::Prepare,
        names: &mut Names,
    ) -> Result<Command, Malformed> {
        Ok(Command::Prepare(Box::new(Prepare {
            swap: Swap::new(self.legs("legs", &prepare.legs, names)?)?,
            expires_in_ms: prepare.expires_in_ms.unwrap_or_else(|| self.app.hold_expiry_ms()),
            exclusive: prepare.exclusive,
        })))
    }

    fn transfer(
        &mut self,
        transfer: &'a proto::Transfer,
        names: &mut Names,
    ) -> Result<Transfer, Malformed> {
        Ok(Transfer {
            account: AccountId::new(transfer.account),
            asset: self.asset("asset", &transfer.asset, transfer.asset_number, names)?,
            amount: amount(transfer.amount.as_ref())?,
            reference: transfer.reference.as_str().into(),
        })
    }

    fn transact(
        &mut self,
        transact: &'a proto::Transact,
        names: &mut Names,
    ) -> Result<Command, Malformed> {
        // Of too many, one too many is enough for the refusal.
        let mut reads = Vec::with_capacity(transact.reads.len().min(TRANSACTION_KEYS_MAX + 1));
        for (index, read) in transact.reads.iter().take(TRANSACTION_KEYS_MAX + 1).enumerate() {
            let read = self.read(read, names);
            reads.push(read.map_err(|it| within(format_args!("reads[{index}]"), it))?);
        }
        let write = |write: &proto::Write| Write {
            key: Key::new(&*write.key),
            value: write.value.as_deref().map(Arc::from),
        };
        let transact = Transact {
            reads,
            writes: transact.writes.iter().take(TRANSACTION_KEYS_MAX + 1).map(write).collect(),
            transfers: self.legs("transfers", &transact.transfers, names)?.into_vec(),
        };
        transact.validate()?;
        Ok(Command::Transact(Box::new(transact)))
    }

    /// A key, or an account's balance of an asset.
    fn read(&mut self, read: &'a proto::Read, names: &mut Names) -> Result<Read, Malformed> {
        let of_balance = !read.asset.is_empty() || read.asset_number.is_some();
        let subject = match (read.key.is_empty(), of_balance) {
            (false, false) if read.account != 0 => {
                return Err(Malformed::new("account", "does not go with key; give one of them"));
            }
            (_, false) => Subject::Key(Key::new(&*read.key)),
            (false, true) => {
                return Err(Malformed::new("asset", "does not go with key; give one of them"));
            }
            (true, true) => Subject::Balance(BalanceKey {
                account: AccountId::new(read.account),
                asset: self.asset("asset", &read.asset, read.asset_number, names)?,
            }),
        };
        Ok(Read { subject, version: CommitSeq::new(read.version) })
    }

    fn account(&self, put: &proto::PutAccount) -> Result<Command, Unread> {
        let account = AccountId::new(put.account);
        if put.must_exist && !self.directory.has_account(account) {
            return Err(Unread::Refused(unknown_account(account)));
        }
        let found = put.links.len();
        if found > LINKS_PER_REQUEST_MAX {
            let why =
                format!("has {found} links; one request adds at most {LINKS_PER_REQUEST_MAX}");
            return Err(Malformed::new("links", why).into());
        }
        let links = put.links.iter().enumerate().map(|(index, link)| self.link(index, link));
        Ok(Command::PutAccount { account, links: links.collect::<Result<_, _>>()? })
    }

    fn link(&self, index: usize, link: &proto::Link) -> Result<Link, Unread> {
        let chain = ChainId::new(link.chain_id);
        let kind = self.directory.chain_kind(chain).ok_or_else(|| {
            let field = format!("links[{index}].chain_id");
            Unread::Refused(Problem::reject(&Reject::UnknownChain(chain), None).at(field))
        })?;
        let address = Address::parse(kind, &link.address)
            .map_err(|why| Malformed::new(format!("links[{index}].address"), why))?;
        Ok(Link { chain, address })
    }

    fn market_spec(
        &mut self,
        put: &'a proto::PutMarket,
        names: &mut Names,
    ) -> Result<Command, Malformed> {
        let bps = |field: &str, bps: i32| {
            i16::try_from(bps).map_err(|_| Malformed::new(field, "is not within 10000 either way"))
        };
        Ok(Command::PutMarket(Box::new(MarketSpec {
            name: put.market.as_str().into(),
            base: self.asset("base", &put.base, put.base_number, names)?,
            quote: self.asset("quote", &put.quote, put.quote_number, names)?,
            tick_size: put.tick_size,
            lot_size: put.lot_size,
            maker_fee_bps: bps("maker_fee_bps", put.maker_fee_bps)?,
            taker_fee_bps: bps("taker_fee_bps", put.taker_fee_bps)?,
            fee_account: AccountId::new(put.fee_account),
            min_notional: put.min_notional.as_ref().map_or(0, |least| least.units().get()),
            price_band_bps: put.price_band_bps,
        })))
    }

    fn switch(
        &self,
        switch: &proto::SwitchMarket,
        halted: bool,
        names: &mut Names,
    ) -> Result<Command, Malformed> {
        let market = self.market(&switch.market, switch.market_number, names)?;
        Ok(Command::SwitchMarket { market, halted })
    }

    fn order(&self, order: &proto::PlaceOrder, names: &mut Names) -> Result<Command, Malformed> {
        let order_type = words::order_type(order.r#type())
            .ok_or_else(|| Malformed::new("type", "is not given"))?;
        let side =
            words::side(order.side()).ok_or_else(|| Malformed::new("side", "is not given"))?;
        Ok(Command::Order(Box::new(PlaceOrder {
            market: self.market(&order.market, order.market_number, names)?,
            account: AccountId::new(order.account),
            side,
            order_type,
            stands: stands(order, order_type)?,
            price: order.price.map(Price),
            quantity: order.quantity.as_ref().map(proto::Amount::units),
            funds: order.funds.as_ref().map(proto::Amount::units),
            self_trade: words::self_trade(order.self_trade()),
            client_order_id: order.client_order_id.as_str().into(),
        })))
    }
}

/// Why a command cannot be read: its form, or something that it names is not there.
enum Unread {
    Malformed(Malformed),
    Refused(Problem),
}

impl From<Malformed> for Unread {
    fn from(malformed: Malformed) -> Self {
        Self::Malformed(malformed)
    }
}

impl Unread {
    fn problem(self) -> Problem {
        match self {
            Self::Malformed(malformed) => malformed.into(),
            Self::Refused(problem) => problem,
        }
    }
}

/// The number that stands in the place of a name, if one does.
fn by_number(
    field: &str,
    name: &str,
    number: Option<u32>,
    numbers: usize,
) -> Result<Option<u32>, Malformed> {
    let fault = |why: String| Err(Malformed::new(format!("{field}_number"), why));
    match number {
        None if name.is_empty() => Err(Malformed::new(field, "is missing")),
        None => Ok(None),
        Some(_) if !name.is_empty() => fault(format!("does not go with {field}; give one of them")),
        Some(number) if (number as usize) < numbers => Ok(Some(number)),
        Some(_) => fault(format!("is above {}", numbers - 1)),
    }
}

fn amount(amount: Option<&proto::Amount>) -> Result<Amount, Malformed> {
    amount.map(proto::Amount::units).ok_or_else(|| Malformed::new("amount", "is missing"))
}

fn resolve(resolve: &proto::Resolve, action: Action) -> Result<Command, Malformed> {
    let token = proto::id_of(&resolve.token).map_err(|why| Malformed::new("token", why))?;
    Ok(Command::Resolve(Resolve { token: Token::of(token), action }))
}

fn order_id(bytes: &[u8]) -> Result<RequestId, Malformed> {
    proto::id_of(bytes).map_err(|why| Malformed::new("order_id", why))
}

fn asset_spec(put: &proto::PutAsset) -> Result<AssetSpec, Malformed> {
    let chain_kind = words::chain_kind(put.chain_kind())
        .ok_or_else(|| Malformed::new("chain_kind", "is not given"))?;
    let token = token_of(&put.token, chain_kind).map_err(|why| Malformed::new("token", why))?;
    let decimals =
        u8::try_from(put.decimals).map_err(|_| Malformed::new("decimals", "is above 255"))?;
    let (name, chain) = (put.asset.as_str().into(), ChainId::new(put.chain_id));
    Ok(AssetSpec { name, chain, chain_kind, token, decimals })
}

/// How long an order stands. Where nothing is said of it, a market order does not, and others do.
fn stands(order: &proto::PlaceOrder, order_type: OrderType) -> Result<Stands, Malformed> {
    let fault = |why| Err(Malformed::new("expires_in_ms", why));
    let stands = match order.time_in_force() {
        proto::TimeInForce::Gtd => {
            let Some(expires_in_ms) = order.expires_in_ms else {
                return fault("is missing; TIME_IN_FORCE_GTD needs it");
            };
            return Ok(Stands::Gtd { expires_in_ms });
        }
        proto::TimeInForce::Unspecified if order_type == OrderType::Market => Stands::Ioc,
        proto::TimeInForce::Unspecified | proto::TimeInForce::Gtc => Stands::Gtc,
        proto::TimeInForce::Ioc => Stands::Ioc,
        proto::TimeInForce::Fok => Stands::Fok,
    };
    match order.expires_in_ms {
        Some(_) => fault("goes with TIME_IN_FORCE_GTD only"),
        None => Ok(stands),
    }
}

/// [`Command::kind`] of what is asked for.
pub(super) const fn kind_of(asks: &Asks) -> &'static str {
    match asks {
        Asks::Swap(_) => "swap",
        Asks::Prepare(_) => "prepare",
        Asks::Commit(_) => "commit",
        Asks::Rollback(_) => "rollback",
        Asks::Deposit(_) => "deposit",
        Asks::Withdraw(_) => "withdrawal",
        Asks::ConfirmWithdrawal(_) => "withdrawal_confirm",
        Asks::CancelWithdrawal(_) => "withdrawal_cancel",
        Asks::Transact(_) => "transaction",
        Asks::PutAsset(_) => "asset",
        Asks::PutAccount(_) => "account",
        Asks::RemoveLink(_) => "link",
        Asks::PutMarket(_) => "market",
        Asks::HaltMarket(_) | Asks::ResumeMarket(_) => "market_switch",
        Asks::Operate(_) => "operate",
        Asks::PlaceOrder(_) => "order",
        Asks::AmendOrder(_) => "amend",
        Asks::CancelOrder(_) => "cancel",
        Asks::CancelAllOrders(_) => "cancel_all",
    }
}

/// The id under which it is asked for, unread.
pub(super) fn id_of(asks: &Asks) -> &[u8] {
    match asks {
        Asks::Swap(it) => &it.request_id,
        Asks::Prepare(it) => &it.request_id,
        Asks::Commit(it)
        | Asks::Rollback(it)
        | Asks::ConfirmWithdrawal(it)
        | Asks::CancelWithdrawal(it) => &it.request_id,
        Asks::Deposit(it) | Asks::Withdraw(it) => &it.request_id,
        Asks::Transact(it) => &it.request_id,
        Asks::PutAsset(it) => &it.request_id,
        Asks::PutAccount(it) => &it.request_id,
        Asks::RemoveLink(it) => &it.request_id,
        Asks::PutMarket(it) => &it.request_id,
        Asks::HaltMarket(it) | Asks::ResumeMarket(it) => &it.request_id,
        Asks::Operate(it) => &it.request_id,
        Asks::PlaceOrder(it) => &it.request_id,
        Asks::AmendOrder(it) => &it.request_id,
        Asks::CancelOrder(it) => &it.request_id,
        Asks::CancelAllOrders(it) => &it.request_id,
    }
}

/// Whether asking twice, under two ids, does no harm.
const fn may_lack_id(asks: &Asks) -> bool {
    matches!(
        asks,
        Asks::PutAsset(_)
            | Asks::PutAccount(_)
            | Asks::RemoveLink(_)
            | Asks::PutMarket(_)
            | Asks::HaltMarket(_)
            | Asks::ResumeMarket(_)
            | Asks::Operate(_)
    )
}

/// Microseconds since the Unix epoch.
fn deadline_of(asks: &Asks) -> Option<u64> {
    match asks {
        Asks::Swap(it) => it.deadline_us,
        Asks::Prepare(it) => it.deadline_us,
        Asks::Transact(it) => it.deadline_us,
        Asks::PlaceOrder(it) => it.deadline_us,
        Asks::AmendOrder(it) => it.deadline_us,
        _ => None,
    }
}
