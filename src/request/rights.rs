//! Who may ask for what, and when, as far as a command itself says: scopes and accounts of a key, and
//! the states of the venue's operation. Pure.
//!
//! A key's accounts are those whose balances it may take from, or put value into from outside, or
//! learn of. Whom a swap pays is nobody's secret, so payees may be anybody. What a command names only
//! by an id (a hold, an order) is looked up where it is sequenced.
//!
//! | asks for | a key that is bound to accounts |
//! |---|---|
//! | swap, prepare, transaction | pays from those alone, and reads only their balances |
//! | writes of values under callers' keys | no: one namespace for all is for keys of all accounts |
//! | deposit, withdrawal | of those; with the scope it is believed what has come and left |
//! | order, cancel all | of those |
//! | commit, rollback, confirm, cancel of a hold | if all that it sets aside is theirs |
//! | amend, cancel of an order | if the order is theirs |
//! | assets, accounts, links, markets, keys, operation | no: who could make keys would not be bound |

use super::{Action, Command};
use crate::access::{Accounts, ApiKey};
use crate::error::Reject;
use crate::types::{AccountId, Leg, Operation, Subject};

/// What of a venue's operation a command is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Part {
    /// Something new.
    New,
    /// Value leaves.
    Leaves,
    /// Value comes, is given back, or goes where it was agreed; or the venue is set up.
    Settles,
    /// The engine itself, or what an operator needs whatever goes on.
    Always,
}

impl Command {
    /// Whether it is taken in that state of the venue's operation.
    pub const fn is_taken_in(&self, state: Operation) -> bool {
        match (self.part(), state) {
            (_, Operation::Normal) | (Part::Always, _) => true,
            (Part::New, _) | (_, Operation::Halted) => false,
            (Part::Leaves, Operation::CancelOnly) => false,
            (Part::Leaves, Operation::WithdrawOnly) | (Part::Settles, _) => true,
        }
    }

    const fn part(&self) -> Part {
        match self {
            Self::Swap(_) | Self::Prepare(_) | Self::Transact(_) => Part::New,
            Self::Order(_) | Self::Amend(_) => Part::New,
            Self::Withdraw(_) => Part::Leaves,
            Self::Resolve(resolve) => match resolve.action {
                Action::Expire => Part::Always,
                Action::Commit | Action::Rollback | Action::Confirm | Action::Cancel => {
                    Part::Settles
                }
            },
            Self::Deposit(_) | Self::Cancel(_) | Self::CancelAll { .. } => Part::Settles,
            Self::PutAsset(_) | Self::PutAccount { .. } | Self::RemoveLink { .. } => Part::Settles,
            Self::PutMarket(_) => Part::Settles,
            Self::ExpireOrder(_) | Self::SwitchMarket { .. } => Part::Always,
            Self::PutKey(_) | Self::RevokeKey(_) | Self::Operate(_) => Part::Always,
        }
    }

    /// Whether it names a hold or an order by an id, so that whose it is has to be looked up.
    pub const fn is_by_reference(&self) -> bool {
        matches!(self, Self::Resolve(_) | Self::Amend(_) | Self::Cancel(_) | Self::ExpireOrder(_))
    }

    /// Whether a key may ask for it, as far as the command says. See the table above.
    ///
    /// # Errors
    /// [`Reject::Forbidden`], with the first account that is not the key's.
    pub fn check_key(&self, key: &ApiKey) -> Result<(), Reject> {
        const NOT_AT_ALL: Reject = Reject::Forbidden { account: None };
        if !key.scopes.has(self.scope()) {
            return Err(NOT_AT_ALL);
        }
        if key.accounts == Accounts::All {
            return Ok(());
        }
        let writes = matches!(self, Self::Transact(transact) if !transact.writes.is_empty());
        if writes || self.is_directory() {
            return Err(NOT_AT_ALL);
        }
        let foreign = |account: &AccountId| !key.accounts.has(*account);
        let payer = |legs: &[Leg]| legs.iter().map(|leg| leg.from).find(foreign);
        let found = match self {
            Self::Swap(swap) => payer(swap.legs()),
            Self::Prepare(prepare) => payer(prepare.swap.legs()),
            Self::Transact(transact) => payer(&transact.transfers).or_else(|| {
                let read = transact.reads.iter().filter_map(|read| match &read.subject {
                    Subject::Balance(of) => Some(of.account),
                    Subject::Key(_) => None,
                });
                read.into_iter().find(foreign)
            }),
            Self::Deposit(of) | Self::Withdraw(of) => Some(of.account).filter(foreign),
            Self::Order(order) => Some(order.account).filter(foreign),
            Self::CancelAll { account, .. } => Some(*account).filter(foreign),
            _ => None,
        };
        match found {
            None => Ok(()),
            account => Err(Reject::Forbidden { account }),
        }
    }
}

#[cfg(test)]
mod tests {
    use smallvec::smallvec;

    use super::*;
    use crate::access::{KeyLimits, Scope, Scopes};
    use crate::market::MarketSpec;
    use crate::market::order::{SelfTrade, Side};
    use crate::request::{
        AmendOrder, AssetSpec, OrderType, PlaceOrder, Prepare, Read, Resolve, Stands, Swap,
        Transact, Transfer, Write,
    };
    use crate::types::{
        Amount, AssetId, BalanceKey, ChainId, ChainKind, CommitSeq, Key, MarketId, RequestId, Time,
        Token,
    };

    const MINE: AccountId = AccountId::new(1);
    const OTHERS: AccountId = AccountId::new(2);
    const ETH: AssetId = AssetId::new(0);

    fn key(scopes: Scopes, accounts: Accounts) -> ApiKey {
        ApiKey {
            name: "desk".into(),
            generation: 1,
            verifier: [0; 32],
            scopes,
            accounts,
            networks: Box::default(),
            limits: KeyLimits::default(),
            expires_at: Time::NEVER,
        }
    }

    fn bound() -> ApiKey {
        key(Scopes::ALL, Accounts::only([MINE]).expect("one"))
    }

    fn leg(from: AccountId, to: AccountId) -> Leg {
        Leg { from, to, asset: ETH, amount: Amount::new(1) }
    }

    fn swap(payers: [AccountId; 2]) -> Swap {
        let other = AccountId::new(3);
        Swap { legs: smallvec![leg(payers[0], other), leg(payers[1], other)] }
    }

    fn transfer(account: AccountId) -> Transfer {
        Transfer { account, asset: ETH, amount: Amount::new(1), reference: "".into() }
    }

    fn order(account: AccountId) -> Command {
        Command::Order(Box::new(PlaceOrder {
            market: MarketId::new(0),
            account,
            side: Side::Buy,
            order_type: OrderType::Limit,
            stands: Stands::Gtc,
            price: None,
            quantity: None,
            funds: None,
            self_trade: SelfTrade::None,
            client_order_id: "".into(),
        }))
    }

    fn prepare(payers: [AccountId; 2]) -> Command {
        let swap = swap(payers);
        Command::Prepare(Box::new(Prepare { swap, expires_in_ms: 1, exclusive: false }))
    }

    fn reads(account: AccountId) -> Transact {
        let subject = Subject::Balance(BalanceKey { account, asset: ETH });
        let version = CommitSeq::new(1);
        Transact { reads: vec![Read { subject, version }], ..Transact::default() }
    }

    fn transact(transact: Transact) -> Command {
        Command::Transact(Box::new(transact))
    }

    /// Every kind of command that is about balances of an account, and of no other.
    fn of(account: AccountId) -> Vec<Command> {
        let transfers = vec![leg(account, OTHERS)];
        vec![
            Command::Swap(swap([account; 2])),
            prepare([account; 2]),
            transact(reads(account)),
            transact(Transact { transfers, ..Transact::default() }),
            Command::Deposit(transfer(account)),
            Command::Withdraw(transfer(account)),
            order(account),
            Command::CancelAll { account, market: MarketId::new(0) },
        ]
    }

    fn resolve(action: Action) -> Command {
        Command::Resolve(Resolve { token: Token::default(), action })
    }

    /// What the venue is set up with.
    fn of_operators() -> Vec<Command> {
        let (name, chain, market) = ("X", ChainId::new(1), MarketId::new(0));
        let (token, chain_kind) = ("native".into(), ChainKind::Other);
        vec![
            Command::PutAsset(AssetSpec {
                name: name.into(),
                chain,
                chain_kind,
                token,
                decimals: 0,
            }),
            Command::PutAccount { account: MINE, links: vec![] },
            Command::RemoveLink { account: MINE, chain },
            Command::PutMarket(Box::new(MarketSpec {
                name: name.into(),
                base: ETH,
                quote: AssetId::new(1),
                tick_size: 1,
                lot_size: 1,
                maker_fee_bps: 0,
                taker_fee_bps: 0,
                fee_account: MINE,
                min_notional: 0,
                price_band_bps: 0,
            })),
            Command::SwitchMarket { market, halted: true },
            Command::PutKey(Box::new(bound())),
            Command::RevokeKey("desk".into()),
            Command::Operate(Operation::Normal),
        ]
    }

    fn by_reference() -> Vec<Command> {
        let id = RequestId::new(1);
        let actions =
            [Action::Commit, Action::Rollback, Action::Confirm, Action::Cancel, Action::Expire];
        let amend = AmendOrder { order: id, price: None, quantity: None };
        let orders = [Command::Amend(amend), Command::Cancel(id), Command::ExpireOrder(id)];
        actions.map(resolve).into_iter().chain(orders).collect()
    }

    #[test]
    fn every_kind_is_taken_in_the_states_of_this_table_and_in_no_other() {
        let table = [
            // Kind, and whether it is taken when normal, cancel-only, withdraw-only, halted.
            ("swap", [true, false, false, false]),
            ("deposit", [true, true, true, false]),
            ("withdrawal", [true, false, true, false]),
            ("asset", [true, true, true, false]),
            ("account", [true, true, true, false]),
            ("link", [true, true, true, false]),
            ("prepare", [true, false, false, false]),
            ("commit", [true, true, true, false]),
            ("rollback", [true, true, true, false]),
            ("withdrawal_confirm", [true, true, true, false]),
            ("withdrawal_cancel", [true, true, true, false]),
            ("expire", [true; 4]),
            ("transaction", [true, false, false, false]),
            ("order", [true, false, false, false]),
            ("amend", [true, false, false, false]),
            ("cancel", [true, true, true, false]),
            ("order_expire", [true; 4]),
            ("cancel_all", [true, true, true, false]),
            ("market", [true, true, true, false]),
            ("market_switch", [true; 4]),
            ("key", [true; 4]),
            ("key_revoke", [true; 4]),
            ("operate", [true; 4]),
        ];
        assert_eq!(table.map(|(kind, _)| kind), Command::KINDS);
        let all = [of(MINE), by_reference(), of_operators()].concat();
        for (kind, taken) in table {
            let mut found = all.iter().filter(|command| command.kind() == kind).peekable();
            assert!(found.peek().is_some(), "there is a sample of {kind}");
            for command in found {
                assert_eq!(Operation::ALL.map(|state| command.is_taken_in(state)), taken, "{kind}");
            }
        }
    }

    #[test]
    fn a_bound_key_is_for_its_accounts() {
        for (mine, others) in of(MINE).iter().zip(of(OTHERS)) {
            assert_eq!(mine.check_key(&bound()), Ok(()), "{mine:?}");
            let forbidden = Reject::Forbidden { account: Some(OTHERS) };
            assert_eq!(others.check_key(&bound()), Err(forbidden), "{others:?}");
            assert_eq!(others.check_key(&key(Scopes::ALL, Accounts::All)), Ok(()));
        }
        let second = Reject::Forbidden { account: Some(OTHERS) };
        assert_eq!(Command::Swap(swap([MINE, OTHERS])).check_key(&bound()), Err(second.clone()));
        assert_eq!(prepare([MINE, OTHERS]).check_key(&bound()), Err(second));
        for command in by_reference() {
            assert_eq!(command.check_key(&bound()), Ok(()), "whose it is is looked up");
            assert!(command.is_by_reference());
        }
    }

    #[test]
    fn what_belongs_to_all_is_for_keys_of_all_accounts() {
        let write = Write { key: Key::new(*b"a"), value: None };
        let writes = transact(Transact { writes: vec![write], ..Transact::default() });
        for command in of_operators().into_iter().chain([writes]) {
            let forbidden = Reject::Forbidden { account: None };
            assert_eq!(command.check_key(&bound()), Err(forbidden), "{command:?}");
            assert_eq!(command.check_key(&key(Scopes::ALL, Accounts::All)), Ok(()));
        }
    }

    #[test]
    fn every_command_needs_its_scope() {
        for command in [of(MINE), by_reference(), of_operators()].concat() {
            for scope in Scope::ALL {
                let key = key(Scopes::default().with(scope), Accounts::All);
                let expected = match scope == command.scope() {
                    true => Ok(()),
                    false => Err(Reject::Forbidden { account: None }),
                };
                assert_eq!(command.check_key(&key), expected, "{command:?} with {scope}");
            }
            assert_ne!(command.scope(), Scope::Read, "reading changes nothing");
        }
        assert_eq!(resolve(Action::Confirm).scope(), Scope::Transfer);
        assert_eq!(resolve(Action::Commit).scope(), Scope::Trade);
    }
}
