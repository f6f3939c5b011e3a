//! What a request called things: the engine answers in numbers, the caller wants its own words back.
//!
//! An asset that does not exist has no number, and yet its request has to reach the engine: only
//! there is the refusal decided in its turn, journaled and the same for ever. It goes under a
//! *stand-in*, a number that no asset can have, made of the hash of the name. Should the asset be
//! created later, the same body means another number; the engine would call the id reused, and
//! [`Names::as_refused`] tells that this is the old request that was refused. The same goes for
//! markets.

use xxhash_rust::xxh3::xxh3_64;

use crate::config::{ASSETS_MAX, MARKETS_MAX};
use crate::directory::Directory;
use crate::error::{OrderFault, Reject};
use crate::market::MarketSpec;
use crate::request::{Command, Swap, Transact, Transfer};
use crate::types::{AccountId, AssetId, BalanceKey, Key, Leg, MarketId, Subject};

use super::{holds, orders};

/// Set in every stand-in, and in no asset's or market's number.
const STAND_IN: u32 = 1 << 31;
const _: () = assert!(ASSETS_MAX < STAND_IN as usize);
const _: () = assert!(MARKETS_MAX < STAND_IN as usize);

/// A request as its caller wrote it, as far as an answer needs it.
#[derive(Debug, Default)]
pub(super) struct Names {
    command: Option<Command>,
    unknown: Vec<Box<str>>,
    /// No request names more than one market.
    unknown_market: Option<Box<str>>,
}

impl Names {
    /// Looks an asset up; one that does not exist gets its stand-in and is remembered by name.
    pub(super) fn resolve(&mut self, name: &str, directory: &Directory) -> AssetId {
        directory.asset_by_name(name).unwrap_or_else(|| {
            self.unknown.push(name.into());
            stand_in(name)
        })
    }

    /// Looks a market up; one that does not exist gets its stand-in and is remembered by name.
    pub(super) fn resolve_market(&mut self, name: &str, directory: &Directory) -> MarketId {
        directory.market_by_name(name).unwrap_or_else(|| {
            self.unknown_market = Some(name.into());
            market_stand_in(name)
        })
    }

    /// Remembers what was asked for.
    pub(super) fn keep(&mut self, command: &Command) {
        self.command = Some(command.clone());
    }

    /// The name under which the caller or everybody knows the asset.
    pub(super) fn asset(&self, asset: AssetId, directory: &Directory) -> Option<Box<str>> {
        match directory.asset(asset) {
            Some(spec) => Some(spec.name),
            None => self.unknown.iter().find(|name| stand_in(name) == asset).cloned(),
        }
    }

    /// The name of the market that a refusal is about.
    pub(super) fn market_of(&self, fault: &OrderFault, directory: &Directory) -> Option<Box<str>> {
        let market = match fault {
            OrderFault::UnknownMarket(market) | OrderFault::Halted(market) => *market,
            _ => market_in(self.command.as_ref()?)?,
        };
        self.market(market, directory)
    }

    /// The name under which the caller or everybody knows the market.
    fn market(&self, market: MarketId, directory: &Directory) -> Option<Box<str>> {
        match directory.market(market) {
            Some(listed) => Some(listed.spec.name.clone()),
            None => self.unknown_market.clone().filter(|name| market_stand_in(name) == market),
        }
    }

    /// Of a request whose id was used before: whether that was this one, sent while something that it
    /// names did not exist, and refused for that. If so, this request as it was then.
    pub(super) fn as_refused(&self, first: &Reject, directory: &Directory) -> Option<Self> {
        match first {
            Reject::UnknownAsset(asset) => {
                let name = self.stand_in_of(*asset, directory)?;
                Some(self.with_unknown(name, directory))
            }
            Reject::Order(OrderFault::UnknownMarket(market)) => {
                let name = self.market(market_in(self.command.as_ref()?)?, directory)?;
                let is_it = market_stand_in(&name) == *market;
                let command = self.command.clone();
                is_it.then(|| Self { command, unknown: vec![], unknown_market: Some(name) })
            }
            _ => None,
        }
    }

    /// Whether this request, sent while one of its assets did not exist, went under `asset` in
    /// that asset's place; if so, the asset's name.
    fn stand_in_of(&self, asset: AssetId, directory: &Directory) -> Option<Box<str>> {
        let now = assets_of(self.command.as_ref()?);
        let mut names = now.into_iter().filter_map(|asset| self.asset(asset, directory));
        names.find(|name| stand_in(name) == asset)
    }

    /// This request as it was while the asset `name` did not exist.
    fn with_unknown(&self, name: Box<str>, directory: &Directory) -> Self {
        let now = directory.asset_by_name(&name);
        let then = |asset| if Some(asset) == now { stand_in(&name) } else { asset };
        let command = self.command.clone().map(|command| rename(command, then));
        Self { command, unknown: vec![name], unknown_market: None }
    }

    /// The field of the request that a refusal is about.
    pub(super) fn field(&self, reject: &Reject, directory: &Directory) -> Option<String> {
        match (reject, self.command.as_ref()) {
            (Reject::Malformed(malformed), _) => Some(malformed.field.clone()),
            (Reject::RequestIdReused, _) => Some("request_id".into()),
            (Reject::Expired, _) => Some("deadline".into()),
            (reject, Some(Command::Swap(swap))) => {
                field_of_legs(reject, "legs", swap.legs(), directory)
            }
            (reject, Some(Command::Prepare(prepare))) => {
                field_of_legs(reject, "legs", prepare.swap.legs(), directory)
            }
            (reject, Some(Command::Transact(transact))) => {
                field_of_transact(reject, transact, directory)
            }
            (reject, Some(Command::Deposit(transfer) | Command::Withdraw(transfer))) => {
                field_of_transfer(reject, transfer)
            }
            (
                Reject::UnknownToken(_) | Reject::AlreadyResolved { .. },
                Some(Command::Resolve(resolve)),
            ) => Some(holds::field_of(resolve.action).into()),
            (reject, Some(Command::PutMarket(spec))) => field_of_market(reject, spec),
            (reject, Some(command)) if market_in(command).is_some() || command.is_of_market() => {
                orders::field_of(reject, command).map(Into::into)
            }
            (Reject::AlreadyExists(_), Some(Command::PutKey(_)))
            | (Reject::UnknownApiKey(_), _) => Some("name".into()),
            (Reject::AlreadyExists(_), _) => Some("asset".into()),
            (Reject::UnknownAccount(_), _) => Some("account".into()),
            (Reject::AlreadyLinked(_), _) => Some("links".into()),
            _ => None,
        }
    }
}

fn stand_in(name: &str) -> AssetId {
    AssetId::new(STAND_IN | (xxh3_64(name.as_bytes()) >> 33) as u32)
}

fn market_stand_in(name: &str) -> MarketId {
    MarketId::new(stand_in(name).get())
}

/// The market that a command names.
fn market_in(command: &Command) -> Option<MarketId> {
    match command {
        Command::Order(order) => Some(order.market),
        Command::CancelAll { market, .. } | Command::SwitchMarket { market, .. } => Some(*market),
        _ => None,
    }
}

/// The assets that a command names.
fn assets_of(command: &Command) -> Vec<AssetId> {
    let of_legs = |legs: &[Leg]| legs.iter().map(|leg| leg.asset).collect();
    match command {
        Command::Swap(swap) => of_legs(swap.legs()),
        Command::Prepare(prepare) => of_legs(prepare.swap.legs()),
        Command::Deposit(transfer) | Command::Withdraw(transfer) => vec![transfer.asset],
        Command::Transact(transact) => {
            let reads = transact.reads.iter().filter_map(|read| match &read.subject {
                Subject::Balance(balance) => Some(balance.asset),
                Subject::Key(_) => None,
            });
            reads.chain(transact.transfers.iter().map(|leg| leg.asset)).collect()
        }
        Command::PutMarket(spec) => vec![spec.base, spec.quote],
        Command::Resolve(_)
        | Command::Order(_)
        | Command::Amend(_)
        | Command::Cancel(_)
        | Command::ExpireOrder(_)
        | Command::CancelAll { .. }
        | Command::SwitchMarket { .. }
        | Command::PutAsset(_)
        | Command::PutAccount { .. }
        | Command::RemoveLink { .. }
        | Command::PutKey(_)
        | Command::RevokeKey(_)
        | Command::Operate(_) => vec![],
    }
}

/// The command with other assets in place of its own.
fn rename(command: Command, asset: impl Fn(AssetId) -> AssetId) -> Command {
    let legs = |legs: &[Leg]| -> Vec<Leg> {
        legs.iter().map(|leg| Leg { asset: asset(leg.asset), ..*leg }).collect()
    };
    let swap = |swap: &Swap| Swap::new(legs(swap.legs())).expect("assets do not decide its form");
    match command {
        Command::Swap(of) => Command::Swap(swap(&of)),
        Command::Prepare(mut prepare) => {
            prepare.swap = swap(&prepare.swap);
            Command::Prepare(prepare)
        }
        Command::Deposit(to) => Command::Deposit(Transfer { asset: asset(to.asset), ..to }),
        Command::Withdraw(from) => Command::Withdraw(Transfer { asset: asset(from.asset), ..from }),
        Command::Transact(mut transact) => {
            transact.transfers = legs(&transact.transfers);
            for read in &mut transact.reads {
                if let Subject::Balance(balance) = &mut read.subject {
                    balance.asset = asset(balance.asset);
                }
            }
            Command::Transact(transact)
        }
        Command::PutMarket(mut spec) => {
            (spec.base, spec.quote) = (asset(spec.base), asset(spec.quote));
            Command::PutMarket(spec)
        }
        other => other,
    }
}

/// The place among the legs in the list `list` that a refusal is about.
fn field_of_legs(
    reject: &Reject,
    list: &str,
    legs: &[Leg],
    directory: &Directory,
) -> Option<String> {
    let party = |index: usize, account: AccountId| {
        let side = if legs[index].from == account { "from" } else { "to" };
        Some(format!("{list}[{index}].{side}"))
    };
    let is_party = |index: &usize, account: AccountId| {
        legs[*index].from == account || legs[*index].to == account
    };
    let mut places = 0..legs.len();
    match reject {
        Reject::UnknownAsset(asset) => {
            let index = places.find(|index| legs[*index].asset == *asset)?;
            Some(format!("{list}[{index}].asset"))
        }
        Reject::UnknownAccount(account) => {
            party(places.find(|index| is_party(index, *account))?, *account)
        }
        Reject::NotLinked { account, chain } => {
            let there = |index: &usize| directory.chain(legs[*index].asset) == Some(*chain);
            party(places.find(|index| is_party(index, *account) && there(index))?, *account)
        }
        Reject::InsufficientFunds { account, asset, .. }
        | Reject::HeldShareExceeded { account, asset, .. } => {
            let pays =
                |index: &usize| legs[*index].from == *account && legs[*index].asset == *asset;
            Some(format!("{list}[{}].amount", places.find(pays)?))
        }
        Reject::TooManyHolds { account: Some(account), .. } => {
            Some(format!("{list}[{}].from", places.find(|index| legs[*index].from == *account)?))
        }
        _ => None,
    }
}

/// The place in a transaction that a refusal is about.
fn field_of_transact(
    reject: &Reject,
    transact: &Transact,
    directory: &Directory,
) -> Option<String> {
    let read = |is: &dyn Fn(&Subject) -> bool, member: &str| {
        let place = transact.reads.iter().position(|read| is(&read.subject))?;
        Some(format!("reads[{place}]{member}"))
    };
    match reject {
        Reject::UnknownAsset(asset) => {
            let of =
                |subject: &Subject| matches!(subject, Subject::Balance(it) if it.asset == *asset);
            read(&of, ".asset")
        }
        Reject::Conflict { subject } => {
            let written = |key: &Key| {
                let place = transact.writes.iter().position(|write| write.key == *key)?;
                Some(format!("writes[{place}].key"))
            };
            let moved = |of: &BalanceKey| {
                let touches = |leg: &Leg| {
                    leg.asset == of.asset && (leg.from == of.account || leg.to == of.account)
                };
                Some(format!("transfers[{}]", transact.transfers.iter().position(touches)?))
            };
            read(&|it| it == subject, "").or_else(|| match subject {
                Subject::Key(key) => written(key),
                Subject::Balance(of) => moved(of),
            })
        }
        _ => None,
    }
    .or_else(|| field_of_legs(reject, "transfers", &transact.transfers, directory))
}

fn field_of_market(reject: &Reject, spec: &MarketSpec) -> Option<String> {
    let field = match reject {
        Reject::UnknownAsset(asset) if *asset == spec.base => "base",
        Reject::UnknownAsset(_) => "quote",
        Reject::UnknownAccount(_) | Reject::NotLinked { .. } => "fee_account",
        Reject::AlreadyExists(_) => "market",
        _ => return None,
    };
    Some(field.into())
}

fn field_of_transfer(reject: &Reject, transfer: &Transfer) -> Option<String> {
    let field = match reject {
        Reject::UnknownAsset(asset) if *asset == transfer.asset => "asset",
        Reject::UnknownAccount(_) | Reject::NotLinked { .. } | Reject::TooManyHolds { .. } => {
            "account"
        }
        Reject::SupplyExceeded(_)
        | Reject::InsufficientFunds { .. }
        | Reject::HeldShareExceeded { .. } => "amount",
        Reject::AlreadyCredited { .. } => "reference",
        _ => return None,
    };
    Some(field.into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::request::{AssetSpec, Read, Write};
    use crate::types::{Amount, ChainId, ChainKind, CommitSeq};

    fn asset(name: &str) -> AssetSpec {
        AssetSpec {
            name: name.into(),
            chain: ChainId::new(1),
            chain_kind: ChainKind::Other,
            token: "native".into(),
            decimals: 0,
        }
    }

    fn swap(names: &mut Names, assets: [&str; 2], directory: &Directory) {
        let leg = |from, to, asset| Leg {
            from: AccountId::new(from),
            to: AccountId::new(to),
            asset,
            amount: Amount::new(1),
        };
        let [first, second] = assets.map(|name| names.resolve(name, directory));
        let swap = Swap::new([leg(1, 2, first), leg(2, 1, second)]).expect("a swap");
        names.keep(&Command::Swap(swap));
    }

    #[test]
    fn an_asset_that_does_not_exist_keeps_its_name_and_field() {
        let directory = Directory::new();
        directory.insert_asset(asset("ETH"));
        let mut names = Names::default();
        swap(&mut names, ["ETH", "DOGE"], &directory);
        let reject = Reject::UnknownAsset(stand_in("DOGE"));
        assert_eq!(names.field(&reject, &directory).as_deref(), Some("legs[1].asset"));
        assert_eq!(names.asset(stand_in("DOGE"), &directory).as_deref(), Some("DOGE"));
    }

    #[test]
    fn a_refused_request_is_recognized_after_its_asset_was_created() {
        let directory = Directory::new();
        directory.insert_asset(asset("ETH"));
        directory.insert_asset(asset("DOGE"));
        let mut names = Names::default();
        swap(&mut names, ["ETH", "DOGE"], &directory);
        assert_eq!(names.stand_in_of(stand_in("DOGE"), &directory).as_deref(), Some("DOGE"));
        assert_eq!(names.stand_in_of(stand_in("SHIB"), &directory), None);
    }

    #[test]
    fn refusals_name_the_party_at_fault() {
        let directory = Directory::new();
        directory.insert_asset(asset("ETH"));
        let mut names = Names::default();
        swap(&mut names, ["ETH", "ETH"], &directory);
        let account = AccountId::new(2);
        let field = |reject| names.field(&reject, &directory).expect("a field");
        assert_eq!(field(Reject::UnknownAccount(account)), "legs[0].to");
        assert_eq!(field(Reject::NotLinked { account, chain: ChainId::new(1) }), "legs[0].to");
        let (asset, seq) = (AssetId::new(0), CommitSeq::new(1));
        let short_by = Amount::new(1);
        let short = Reject::InsufficientFunds { account, asset, short_by, seq };
        assert_eq!(field(short), "legs[1].amount");
    }

    #[test]
    fn conflicts_name_what_was_read_or_written() {
        let directory = Directory::new();
        directory.insert_asset(asset("ETH"));
        let mut names = Names::default();
        let eth = names.resolve("ETH", &directory);
        let doge = names.resolve("DOGE", &directory);
        let key = |text: &str| Key::new(text.as_bytes());
        let balance = |account, asset| {
            Subject::Balance(BalanceKey { account: AccountId::new(account), asset })
        };
        let read = |subject| Read { subject, version: CommitSeq::new(1) };
        let (from, to, amount) = (AccountId::new(1), AccountId::new(2), Amount::new(1));
        let transact = Transact {
            reads: vec![
                read(Subject::Key(key("a"))),
                read(balance(1, eth)),
                read(balance(3, doge)),
            ],
            writes: vec![Write { key: key("b"), value: None }],
            transfers: vec![Leg { from, to, asset: eth, amount }],
        };
        names.keep(&Command::Transact(Box::new(transact)));
        let field = |reject| names.field(&reject, &directory).expect("a field");
        let conflict = |subject| field(Reject::Conflict { subject });
        assert_eq!(conflict(Subject::Key(key("a"))), "reads[0]");
        assert_eq!(conflict(balance(1, eth)), "reads[1]");
        assert_eq!(conflict(Subject::Key(key("b"))), "writes[0].key");
        assert_eq!(conflict(balance(2, eth)), "transfers[0]");
        assert_eq!(field(Reject::UnknownAsset(doge)), "reads[2].asset");
        assert_eq!(field(Reject::UnknownAccount(to)), "transfers[0].to");
        directory.insert_asset(asset("DOGE"));
        let mut later = Names::default();
        let read = Read {
            subject: balance(3, later.resolve("DOGE", &directory)),
            version: CommitSeq::new(0),
        };
        let transact = Transact { reads: vec![read], ..Transact::default() };
        later.keep(&Command::Transact(Box::new(transact)));
        assert_eq!(later.stand_in_of(doge, &directory).as_deref(), Some("DOGE"));
    }
}
