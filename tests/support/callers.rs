//! Who may ask for what, as one would say it to somebody: keys, whose accounts they have, and what the
//! venue takes. Written from the documentation, not from the engine.

use crosslatch::access::{Accounts, ApiKey, Caller};
use crosslatch::config::KEYS_MAX;
use crosslatch::request::Command;
use crosslatch::types::{AccountId, Operation, Subject};

use super::Oracle;

/// Keys by number, each with whether it is revoked; and what the venue takes.
#[derive(Debug, Default)]
pub(super) struct Callers {
    keys: Vec<(ApiKey, bool)>,
    operation: Operation,
}

impl Callers {
    /// Carries out what nothing refuses.
    pub(super) fn apply(&mut self, command: &Command) {
        match command {
            Command::PutKey(key) => match self.named(&key.name) {
                Some(number) => self.keys[number].0 = (**key).clone(),
                None => self.keys.push(((**key).clone(), false)),
            },
            Command::RevokeKey(name) => {
                let number = self.named(name).expect("it is known");
                self.keys[number].1 = true;
            }
            Command::Operate(state) => self.operation = *state,
            _ => {}
        }
    }

    fn named(&self, name: &str) -> Option<usize> {
        self.keys.iter().position(|(key, _)| *key.name == *name)
    }

    /// Why a key cannot be put or revoked.
    pub(super) fn clash(&self, command: &Command) -> Option<&'static str> {
        let before = |name: &str| self.named(name).map(|number| &self.keys[number]);
        match command {
            Command::PutKey(key) => {
                let Some((before, revoked)) = before(&key.name) else {
                    return (self.keys.len() == KEYS_MAX).then_some("already_exists");
                };
                let older = key.generation < before.generation;
                let same = key.generation == before.generation;
                let other_secret = same && key.verifier != before.verifier;
                (*revoked || older || other_secret).then_some("already_exists")
            }
            Command::RevokeKey(name) if before(name).is_none() => Some("unknown_api_key"),
            _ => None,
        }
    }

    /// How many holds may be open of an account for a caller, if its key limits that.
    pub(super) fn open_holds(&self, caller: Caller) -> Option<usize> {
        let key = self.key(caller).ok().flatten()?;
        Some(key.limits.open_holds as usize).filter(|max| *max > 0)
    }

    /// The key of a caller; an error if it is unknown or revoked.
    pub(super) fn key(&self, caller: Caller) -> Result<Option<&ApiKey>, ()> {
        match caller {
            Caller::Trusted => Ok(None),
            Caller::Key(number) => match self.keys.get(number.0 as usize) {
                Some((key, false)) => Ok(Some(key)),
                _ => Err(()),
            },
        }
    }
}

/// The name of the scope that a kind of command needs.
fn scope(kind: &str) -> &'static str {
    match kind {
        "deposit" | "withdrawal" | "withdrawal_confirm" | "withdrawal_cancel" => "transfer",
        "asset" | "account" | "link" | "market" | "market_switch" | "key" | "key_revoke"
        | "operate" => "operate",
        _ => "trade",
    }
}

/// Whether something of that kind is taken.
fn is_taken(kind: &str, state: Operation) -> bool {
    let always =
        ["expire", "order_expire", "market_switch", "key", "key_revoke", "operate"].contains(&kind);
    let is_new = ["swap", "prepare", "transaction", "order", "amend"].contains(&kind);
    always
        || match state {
            Operation::Normal => true,
            Operation::CancelOnly => !is_new && kind != "withdrawal",
            Operation::WithdrawOnly => !is_new,
            Operation::Halted => false,
        }
}

/// The accounts that a command names as those that give, ask or are looked at.
fn named(command: &Command) -> Vec<AccountId> {
    match command {
        Command::Swap(swap) => swap.legs().iter().map(|leg| leg.from).collect(),
        Command::Prepare(prepare) => prepare.swap.legs().iter().map(|leg| leg.from).collect(),
        Command::Transact(transact) => {
            let read = transact.reads.iter().filter_map(|read| match read.subject {
                Subject::Balance(of) => Some(of.account),
                Subject::Key(_) => None,
            });
            read.chain(transact.transfers.iter().map(|leg| leg.from)).collect()
        }
        Command::Deposit(of) | Command::Withdraw(of) => vec![of.account],
        Command::Order(order) => vec![order.account],
        Command::CancelAll { account, .. } => vec![*account],
        _ => vec![],
    }
}

impl Oracle {
    /// Why a command is refused by who asks for it, or by what the venue takes.
    pub(super) fn barred(&self, caller: Caller, command: &Command) -> Option<&'static str> {
        let Ok(key) = self.callers.key(caller) else { return Some("forbidden") };
        let mut foreign = None;
        if let Some(key) = key {
            let scope = scope(command.kind());
            if !key.scopes.iter().any(|has| has.name() == scope) {
                return Some("forbidden");
            }
            if let Accounts::Only(accounts) = &key.accounts {
                let is_mine = |account: &AccountId| accounts.contains(account);
                let writes =
                    matches!(command, Command::Transact(transact) if !transact.writes.is_empty());
                if writes || scope == "operate" || !named(command).iter().all(is_mine) {
                    return Some("forbidden");
                }
                foreign = self.foreign(command, is_mine);
            }
        }
        if !is_taken(command.kind(), self.callers.operation) {
            return Some("restricted");
        }
        foreign
    }

    /// How it is said of a hold or an order of others, and of one that never was, that there is none.
    fn foreign(
        &self,
        command: &Command,
        is_mine: impl Fn(&AccountId) -> bool,
    ) -> Option<&'static str> {
        match command {
            Command::Resolve(resolve) => {
                let held = self.holds.get(&resolve.token);
                let mine = held
                    .is_some_and(|held| held.amounts.iter().all(|(key, _)| is_mine(&key.account)));
                (!mine).then_some("unknown_token")
            }
            Command::Cancel(order) => (!self.books.owner(*order).is_some_and(|it| is_mine(&it)))
                .then_some("unknown_order"),
            Command::Amend(amend) => {
                let owner = self.books.owner(amend.order);
                (!owner.is_some_and(|it| is_mine(&it))).then_some("unknown_order")
            }
            _ => None,
        }
    }
}
