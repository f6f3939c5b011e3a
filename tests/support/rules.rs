//! What a state says to a command: what it would do to balances, and every reason against it.

use std::collections::BTreeMap;

use crosslatch::access::Caller;
use crosslatch::address::Link;
use crosslatch::config::{ASSETS_MAX, MARKETS_MAX, SUPPLY_MAX};
use crosslatch::error::{OrderFault, Reject};
use crosslatch::market::order::Ended;
use crosslatch::market::{MarketSpec, OrderUpdate, Settlement, Standing};
use crosslatch::request::{
    Action, AssetSpec, Change, Command, Hold, HoldReceipt, LegReceipt, Purpose, Receipt, Request,
    Resolve, Transact, Transfer,
};
use crosslatch::types::{
    AccountId, Amount, AssetId, Balance, BalanceKey, CommitSeq, Leg, MarketId, Subject, Time, Token,
};

use super::books::{Needs, without_places};
use super::{Held, Oracle, moves};

/// What a command does to balances: before and after, per balance that it changes.
pub(super) type Rows = BTreeMap<BalanceKey, (Balance, Balance)>;

/// What is done to a balance.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    Pay,
    Get,
    SetAside,
    /// It will get something later.
    Expect,
    Spend,
    GiveBack,
}

impl Step {
    fn takes(self) -> bool {
        matches!(self, Self::Pay | Self::SetAside)
    }

    /// A balance after it; nothing that a receipt could show goes below zero.
    fn apply(self, amount: u128, before: Balance) -> Balance {
        let (available, held) = (before.available.get(), before.held.get());
        let (available, held) = match self {
            Self::Pay => (available - amount, held),
            Self::Get => (available + amount, held),
            Self::SetAside => (available - amount, held + amount),
            Self::Expect => (available, held),
            Self::Spend => (available, held - amount),
            Self::GiveBack => (available + amount, held - amount),
        };
        Balance { available: Amount::new(available), held: Amount::new(held) }
    }
}

type Steps = Vec<(BalanceKey, Step, u128)>;

/// The legs netted, as those two steps.
fn netted(legs: &[Leg], gives: Step, gets: Step) -> Steps {
    if legs.is_empty() {
        return Steps::new();
    }
    let moves = moves(legs).expect("well-formed");
    let step = |(key, (out, into)): (_, (u128, u128))| match out.checked_sub(into) {
        Some(less @ 1..) => (key, gives, less),
        _ => (key, gets, into - out),
    };
    moves.into_iter().map(step).collect()
}

fn key_of(transfer: &Transfer) -> BalanceKey {
    BalanceKey { account: transfer.account, asset: transfer.asset }
}

fn one(transfer: &Transfer, step: Step) -> Steps {
    vec![(key_of(transfer), step, transfer.amount.get())]
}

/// What a command that makes a hold sets aside.
pub(super) fn set_aside(command: &Command) -> Vec<(BalanceKey, u128)> {
    let steps = match command {
        Command::Prepare(prepare) => netted(prepare.swap.legs(), Step::SetAside, Step::Expect),
        Command::Withdraw(from) => one(from, Step::SetAside),
        _ => Steps::new(),
    };
    let taken = steps.into_iter().filter(|(_, step, _)| step.takes());
    taken.map(|(key, _, amount)| (key, amount)).collect()
}

/// The hold that a command makes, whose receipt says until when.
pub(super) fn hold_of(command: &Command, receipt: &Receipt) -> Hold {
    let (purpose, exclusive) = match command {
        Command::Prepare(prepare) => (Purpose::Swap(prepare.swap.clone()), prepare.exclusive),
        Command::Withdraw(from) => (Purpose::Withdrawal(from.clone()), false),
        _ => unreachable!("it makes no hold"),
    };
    let HoldReceipt { token, expires_at } = receipt.hold.expect("checked before");
    Hold { token, purpose, exclusive, expires_at, since: receipt.commit_seq }
}

impl Oracle {
    fn balance(&self, key: BalanceKey) -> Balance {
        let versions = self.balances.get(&key);
        versions.and_then(|versions| versions.last()).map_or_else(Balance::default, |last| last.1)
    }

    fn steps(&self, command: &Command) -> Steps {
        match command {
            Command::Swap(swap) => netted(swap.legs(), Step::Pay, Step::Get),
            Command::Transact(transact) => netted(&transact.transfers, Step::Pay, Step::Get),
            Command::Prepare(prepare) => netted(prepare.swap.legs(), Step::SetAside, Step::Expect),
            Command::Deposit(to) => one(to, Step::Get),
            Command::Withdraw(from) => one(from, Step::SetAside),
            Command::Resolve(resolve) => {
                self.holds.get(&resolve.token).map_or_else(Steps::new, |held| {
                    match (&held.hold.purpose, resolve.action) {
                        (Purpose::Swap(swap), Action::Commit) => {
                            netted(swap.legs(), Step::Spend, Step::Get)
                        }
                        (Purpose::Withdrawal(from), Action::Confirm) => one(from, Step::Spend),
                        _ => {
                            let back = |(key, amount): &(_, u128)| (*key, Step::GiveBack, *amount);
                            held.amounts.iter().map(back).collect()
                        }
                    }
                })
            }
            // What they do is known when their market has said; here is what they reserve.
            Command::Order(_) | Command::Amend(_) => {
                let Some(needs) = self.books.needs(command) else { return Steps::new() };
                let Needs { pays, units, receives } = needs;
                vec![(pays, Step::SetAside, units), (receives, Step::Expect, 0)]
            }
            Command::Cancel(_) | Command::ExpireOrder(_) | Command::CancelAll { .. } => {
                Steps::new()
            }
            Command::PutAsset(_)
            | Command::PutAccount { .. }
            | Command::RemoveLink { .. }
            | Command::PutMarket(_)
            | Command::SwitchMarket { .. }
            | Command::PutKey(_)
            | Command::RevokeKey(_)
            | Command::Operate(_) => Steps::new(),
        }
    }

    /// The same of what a market's command came to, which must be what a market of our own makes
    /// of it.
    pub(super) fn play(&mut self, receipt: &Receipt, told: &Settlement) -> Rows {
        let mine = self.books.play(receipt.request_id, &receipt.command);
        let told = without_places(told);
        assert_eq!(told, without_places(&mine), "{receipt:?}");
        told.assert_balanced();
        let by_self = |update: &OrderUpdate| update.standing == Standing::Ended(Ended::SelfTrade);
        for (what, found) in [
            ("trade", !told.fills.is_empty()),
            ("trades", told.fills.len() > 1),
            ("self_trade", told.orders.iter().any(by_self)),
        ] {
            if found {
                self.saw(what);
            }
        }
        let changes = told.moves.iter().map(|one| {
            let before = self.balance(one.key);
            let plus = |amount: Amount, by: i128| {
                let after = amount.get().checked_add_signed(by);
                Amount::new(after.unwrap_or_else(|| panic!("{one:?} of {before:?}: {receipt:?}")))
            };
            let available = plus(before.available, one.available);
            (one.key, (before, Balance { available, held: plus(before.held, one.held) }))
        });
        changes.collect()
    }

    /// The rows that a command that nothing refuses would write now.
    pub(super) fn rows(&self, command: &Command) -> Rows {
        let changes = |(key, step, amount): (_, Step, u128)| {
            let before = self.balance(key);
            (key, (before, step.apply(amount, before)))
        };
        let steps = self.steps(command).into_iter();
        steps.filter(|(_, step, _)| *step != Step::Expect).map(changes).collect()
    }

    /// What a balance gives and gets by a command, of what is available.
    pub fn moved(&self, command: &Command, key: BalanceKey) -> (u128, u128) {
        let of = self.steps(command).into_iter().find(|(of, ..)| *of == key);
        match of {
            Some((_, Step::Pay | Step::SetAside, amount)) => (amount, 0),
            Some((_, Step::Get | Step::GiveBack, amount)) => (0, amount),
            _ => (0, 0),
        }
    }

    /// Balances that a command takes from.
    pub fn takes(&self, command: &Command) -> impl Iterator<Item = BalanceKey> {
        let steps = self.steps(command).into_iter();
        steps.filter(|(_, step, _)| step.takes()).map(|(key, ..)| key)
    }

    /// Balances that nobody else may have locked for the command to happen.
    fn needs_unlocked(&self, command: &Command) -> Vec<BalanceKey> {
        let mut keys: Vec<BalanceKey> = self.takes(command).collect();
        if let Command::Transact(transact) = command {
            keys.extend(transact.reads.iter().filter_map(|read| match read.subject {
                Subject::Balance(key) => Some(key),
                Subject::Key(_) => None,
            }));
        }
        keys
    }

    /// The exclusive hold that keeps a command from happening, if one does.
    pub(super) fn lock_in_the_way(&self, command: &Command) -> Option<Token> {
        self.needs_unlocked(command).iter().find_map(|key| self.locks.get(key)).copied()
    }

    /// The code of every refusal that the present state allows.
    pub(super) fn reasons(&self, caller: Caller, command: &Command) -> Vec<&'static str> {
        if let Some(barred) = self.barred(caller, command) {
            return vec![barred];
        }
        match command {
            Command::PutKey(_) | Command::RevokeKey(_) | Command::Operate(_) => {
                self.callers.clash(command).into_iter().collect()
            }
            Command::PutAsset(spec) => self.asset_clash(spec).into_iter().collect(),
            Command::PutAccount { account, links } => {
                self.link_clash(*account, links).into_iter().collect()
            }
            Command::RemoveLink { account, .. } if self.accounts.contains_key(account) => vec![],
            Command::RemoveLink { .. } => vec!["unknown_account"],
            Command::PutMarket(spec) => self.market_clash(spec).into_iter().collect(),
            Command::Resolve(resolve) => self.unresolvable(*resolve).into_iter().collect(),
            _ => {
                let mut reasons = Vec::new();
                for (key, step, amount) in self.steps(command) {
                    self.step_reasons(key, step, amount, &mut reasons);
                }
                reasons.extend(self.other_reason(caller, command));
                let faults = self.books.faults(command).into_iter();
                reasons.extend(faults.map(|fault| Reject::Order(fault).code()));
                reasons
            }
        }
    }

    fn step_reasons(
        &self,
        key: BalanceKey,
        step: Step,
        amount: u128,
        reasons: &mut Vec<&'static str>,
    ) {
        let Some(asset) = self.assets.get(key.asset.get() as usize) else {
            return reasons.push("unknown_asset");
        };
        let Some(links) = self.accounts.get(&key.account) else {
            return reasons.push("unknown_account");
        };
        if !links.contains_key(&asset.chain) {
            reasons.push("not_linked");
        }
        let balance = self.balance(key);
        if step.takes() && balance.available.get() < amount {
            reasons.push("insufficient_funds");
        }
        if step == Step::SetAside && self.is_above_share(balance, amount) {
            reasons.push("held_share_exceeded");
        }
    }

    fn is_above_share(&self, balance: Balance, amount: u128) -> bool {
        let percent = u128::from(self.limits.held_share_max_percent);
        let held = balance.held.get().saturating_add(amount);
        percent < 100 && held.saturating_mul(100) > balance.total().get().saturating_mul(percent)
    }

    /// The reason that is not about one balance.
    fn other_reason(&self, caller: Caller, command: &Command) -> Option<&'static str> {
        match command {
            Command::Deposit(to) if self.credit_of(to).is_some() => Some("already_credited"),
            Command::Deposit(to) => {
                let supply = self.supply.get(&to.asset).copied().unwrap_or(0);
                let raised = supply.checked_add(to.amount.get());
                raised.is_none_or(|sum| sum > SUPPLY_MAX).then_some("supply_exceeded")
            }
            Command::Transact(transact) => self.has_changed(transact).then_some("conflict"),
            Command::Prepare(_) | Command::Withdraw(_) => {
                self.has_no_room(caller, command).then_some("too_many_holds")
            }
            _ => None,
        }
    }

    fn credit_of(&self, to: &Transfer) -> Option<CommitSeq> {
        self.credited.get(&(to.asset, to.reference.clone())).copied()
    }

    fn has_changed(&self, transact: &Transact) -> bool {
        transact.reads.iter().any(|read| self.version(&read.subject) != read.version)
    }

    fn has_no_room(&self, caller: Caller, command: &Command) -> bool {
        let limits = &self.limits;
        let max = self.callers.open_holds(caller).unwrap_or(usize::MAX);
        let max = max.min(limits.holds_per_account_max);
        // To count one account's takes long where many are open.
        let full = |account| self.open.len() >= max && self.open_of(account) >= max;
        self.open.len() >= limits.holds_max || self.takes(command).any(|key| full(key.account))
    }

    fn open_of(&self, account: AccountId) -> usize {
        self.open.iter().filter(|token| self.holds[token].is_of(account)).count()
    }

    fn unresolvable(&self, resolve: Resolve) -> Option<&'static str> {
        match self.holds.get(&resolve.token) {
            // A withdrawal is no swap, nor the other way round.
            Some(held) if !resolve.action.fits(&held.hold.purpose) => Some("unknown_token"),
            Some(held) if !held.is_open() => Some("already_resolved"),
            Some(_) => None,
            None => Some("unknown_token"),
        }
    }

    fn asset_clash(&self, spec: &AssetSpec) -> Option<&'static str> {
        let named = self.assets.iter().find(|known| known.name == spec.name);
        let on_chain = self.assets.iter().find(|known| known.chain == spec.chain);
        let clashes = named.is_some_and(|known| known != spec)
            || on_chain.is_some_and(|known| known.chain_kind != spec.chain_kind)
            || named.is_none() && self.assets.len() == ASSETS_MAX;
        clashes.then_some("already_exists")
    }

    fn market_clash(&self, spec: &MarketSpec) -> Option<&'static str> {
        let asset = |asset: AssetId| self.assets.get(asset.get() as usize);
        let (Some(_), Some(quote)) = (asset(spec.base), asset(spec.quote)) else {
            return Some("unknown_asset");
        };
        if let Some(known) = self.books.named(&spec.name) {
            return (known != spec).then_some("already_exists");
        }
        if self.books.exists(MarketId::new(MARKETS_MAX as u32 - 1)) {
            return Some("already_exists");
        }
        match self.accounts.get(&spec.fee_account) {
            None => Some("unknown_account"),
            Some(links) => (!links.contains_key(&quote.chain)).then_some("not_linked"),
        }
    }

    /// Whether a refusal says that there is too little for an amendment. What it costs is known to its
    /// market, which is ahead of what is decided: so that may be about another state than the one that
    /// is short, and is looked at in the end.
    pub(super) fn is_about_amending(&mut self, request: &Request, reject: &Reject) -> bool {
        let command = &request.command;
        let Command::Amend(amend) = command else { return false };
        match reject {
            Reject::InsufficientFunds { account, asset, short_by, seq } => {
                let key = BalanceKey { account: *account, asset: *asset };
                let units = self.balance(key).available.get() + short_by.get();
                assert!(*seq == self.seq && *short_by > Amount::ZERO, "{reject:?}");
                self.too_dear.push((*amend, key, units));
            }
            // It was refused before its market was asked, which has or had its order open.
            Reject::Order(fault) if self.books.is_about_set_up(amend, fault) => {
                self.too_early.push((*amend, fault.clone()));
                return true;
            }
            Reject::HeldShareExceeded { .. } => {}
            Reject::NotLinked { .. } | Reject::UnknownAccount(_) => {
                self.check_claim(request, reject);
            }
            _ => return false,
        }
        self.saw(reject.code());
        self.saw("too_dear");
        true
    }

    fn link_clash(&self, account: AccountId, links: &[Link]) -> Option<&'static str> {
        let exists = |link: &Link| self.assets.iter().any(|known| known.chain == link.chain);
        if !links.iter().all(exists) {
            return Some("unknown_chain");
        }
        let mut after = self.accounts.get(&account).cloned().unwrap_or_default();
        for link in links {
            let others = self.accounts.iter().filter(|(other, _)| **other != account);
            let taken = others.into_iter().any(|(_, links)| links.get(&link.chain) == Some(link));
            let known = after.entry(link.chain).or_insert_with(|| link.clone());
            if taken || known != link {
                return Some("already_linked");
            }
        }
        None
    }

    /// Whether a refusal says that it met something for too long, which no single state shows: then
    /// there must have been something to meet.
    pub(super) fn is_about_waiting(&mut self, command: &Command, reject: &Reject) -> bool {
        match reject {
            Reject::LockTimeout { token } => {
                let Held { hold, amounts, .. } = self.holds.get(token).expect("a hold");
                assert!(hold.exclusive, "nobody waits for {hold:?}: {command:?}");
                let mut needs = self.needs_unlocked(command);
                if let Command::Amend(amend) = command {
                    // What it cost when it met it.
                    needs.extend(self.books.costs(amend).into_iter().map(|(key, _)| key));
                }
                let met = amounts.iter().any(|(key, _)| needs.contains(key));
                assert!(met, "{hold:?} was in nobody's way: {command:?}");
                self.saw("lock_timeout");
                if command.is_of_market() {
                    self.saw("lock_timeout_of_order");
                }
                true
            }
            Reject::Conflict { subject } => {
                let Command::Transact(transact) = command else {
                    panic!("conflict of {command:?}")
                };
                let mut reads = transact.reads.iter();
                if reads
                    .any(|read| read.subject == *subject && self.version(subject) != read.version)
                {
                    return false;
                }
                let reads = transact.reads.iter().map(|read| read.subject.clone());
                let writes = transact.writes.iter().map(|write| Subject::Key(write.key.clone()));
                let moves = self.steps(command).into_iter().map(|(key, ..)| Subject::Balance(key));
                let touched = reads.chain(writes).chain(moves).any(|of| of == *subject);
                assert!(touched, "{reject:?} of {command:?}");
                self.saw("busy");
                true
            }
            _ => false,
        }
    }

    /// What a refusal says beyond its code must be so.
    pub(super) fn check_claim(&self, request: &Request, reject: &Reject) {
        let command = &request.command;
        let is_true = match reject {
            // Seen to be so when the reasons were looked for.
            Reject::Order(OrderFault::UnknownOrder(_))
                if self.barred(request.caller, command).is_some() =>
            {
                true
            }
            Reject::Order(fault) => self.books.faults(command).contains(fault),
            Reject::InsufficientFunds { account, asset, short_by, seq } => {
                let key = BalanceKey { account: *account, asset: *asset };
                let (out, _) = self.moved(command, key);
                let missing = out.checked_sub(self.balance(key).available.get());
                *seq == self.seq && missing == Some(short_by.get()) && *short_by > Amount::ZERO
            }
            Reject::HeldShareExceeded { account, asset, max_percent } => {
                let key = BalanceKey { account: *account, asset: *asset };
                let (out, _) = self.moved(command, key);
                *max_percent == self.limits.held_share_max_percent
                    && self.is_above_share(self.balance(key), out)
            }
            Reject::NotLinked { account, chain } => !self.accounts[account].contains_key(chain),
            Reject::UnknownAccount(account) => !self.accounts.contains_key(account),
            Reject::UnknownAsset(asset) => asset.get() as usize >= self.assets.len(),
            Reject::UnknownChain(chain) => self.assets.iter().all(|known| known.chain != *chain),
            Reject::UnknownToken(token) => is_resolve_of(command, *token),
            Reject::AlreadyResolved { token, how, seq } => {
                let by = self.holds[token].resolved.map(|(how, seq, _)| (how, seq));
                is_resolve_of(command, *token) && by == Some((*how, *seq))
            }
            Reject::AlreadyCredited { asset, seq } => match command {
                Command::Deposit(to) => to.asset == *asset && self.credit_of(to) == Some(*seq),
                _ => false,
            },
            Reject::TooManyHolds { account, max } => match account {
                Some(account) => {
                    self.takes(command).any(|key| key.account == *account)
                        && self.open_of(*account) as u64 >= *max
                }
                None => self.open.len() as u64 >= *max,
            },
            Reject::SupplyExceeded(_)
            | Reject::AlreadyExists(_)
            | Reject::AlreadyLinked(_)
            | Reject::UnknownApiKey(_)
            | Reject::Forbidden { .. }
            | Reject::Restricted { .. }
            | Reject::Malformed(_)
            | Reject::RequestIdReused
            | Reject::Expired
            | Reject::Conflict { .. }
            | Reject::LockTimeout { .. } => true,
        };
        assert!(is_true, "{reject:?} at seq {} of {command:?}", self.seq);
    }

    /// A receipt shows what happened, around the whole request.
    pub(super) fn check_receipt(&self, receipt: &Receipt, rows: &Rows) {
        let change = |account: AccountId, asset: AssetId| {
            let (before, after) = rows[&BalanceKey { account, asset }];
            Change { before: before.total(), after: after.total() }
        };
        let hold_named = match receipt.command {
            Command::Resolve(resolve) => Some(&self.holds[&resolve.token].hold),
            _ => None,
        };
        let (legs, transfer): (&[Leg], Option<&Transfer>) = match (&receipt.command, hold_named) {
            (Command::Swap(swap), _) => (swap.legs(), None),
            (Command::Transact(transact), _) => (&transact.transfers, None),
            (Command::Deposit(it) | Command::Withdraw(it), _) => (&[], Some(it)),
            (Command::Resolve(resolve), Some(hold)) => match &hold.purpose {
                Purpose::Swap(swap) if resolve.action == Action::Commit => (swap.legs(), None),
                Purpose::Swap(_) => (&[], None),
                Purpose::Withdrawal(it) => (&[], Some(it)),
            },
            _ => (&[], None),
        };
        let legs = legs.iter().map(|leg| LegReceipt {
            leg: *leg,
            from: change(leg.from, leg.asset),
            to: change(leg.to, leg.asset),
        });
        assert_eq!(receipt.legs.as_slice(), legs.collect::<Vec<_>>(), "{receipt:?}");
        let single = transfer.map(|it| change(it.account, it.asset));
        assert_eq!(receipt.change, single, "{receipt:?}");
        check_times(receipt, hold_named);
    }
}

fn is_resolve_of(command: &Command, of: Token) -> bool {
    matches!(command, Command::Resolve(Resolve { token, .. }) if *token == of)
}

/// A hold ends when it said; by itself when that is over, and not before.
fn check_times(receipt: &Receipt, ends: Option<&Hold>) {
    let own = Token::of(receipt.request_id);
    match (&receipt.command, receipt.hold, ends) {
        (Command::Prepare(prepare), Some(HoldReceipt { token, expires_at }), _) => {
            assert_eq!(token, own, "{receipt:?}");
            // Counted from when its turn came, which is before it is decided.
            let turn = expires_at.get() - prepare.expires_in_ms * 1_000;
            assert!(turn <= receipt.time.get(), "{receipt:?}");
        }
        (Command::Withdraw(_), Some(HoldReceipt { token, expires_at }), _) => {
            assert_eq!((token, expires_at), (own, Time::NEVER), "{receipt:?}");
        }
        (Command::Resolve(resolve), Some(HoldReceipt { token, expires_at }), Some(hold)) => {
            assert_eq!((token, expires_at), (hold.token, hold.expires_at), "{receipt:?}");
            if resolve.action == Action::Expire {
                assert!(receipt.time >= expires_at, "before its time: {receipt:?}");
                assert_eq!(token, own, "{receipt:?}");
            }
        }
        (_, found, _) => assert_eq!(found, None, "{receipt:?}"),
    }
}
