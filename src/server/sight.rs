//! What a visitor is shown: its own accounts, and what touched them.
//!
//! What is somebody else's is answered as if there were none, where its name is no secret of the
//! visitor's own (a request, a hold, an order, an address); of an account it is said that it is not the
//! key's, which tells nothing of it.

use crate::access::Caller;
use crate::engine::Event;
use crate::error::Reject;
use crate::request::{Command, Outcome, Purpose, Receipt};
use crate::types::{AccountId, Leg};

use super::door::Visitor;
use super::holds::Found;
use super::problem::Problem;

/// Refuses a look at an account that is not the visitor's.
///
/// # Errors
/// `forbidden`.
pub(super) fn check(visitor: &Visitor, account: AccountId) -> Result<(), Problem> {
    if visitor.may_see(account) {
        return Ok(());
    }
    let account = Some(account);
    Err(Problem::reject(&Reject::Forbidden { account }, None).at("account"))
}

/// Whether the visitor asked for it, or it touched one of its accounts.
pub(super) fn sees_outcome(visitor: &Visitor, outcome: &Outcome) -> bool {
    let caller = match outcome {
        Outcome::Settled(receipt) => receipt.caller,
        Outcome::Rejected(refusal) => refusal.caller,
    };
    if visitor.sees_all() || is_own(visitor, caller) {
        return true;
    }
    match outcome {
        Outcome::Settled(receipt) => sees_receipt(visitor, receipt),
        // It says no more than whom it was about, if at all.
        Outcome::Rejected(_) => false,
    }
}

/// Whether the visitor asked for what happened, or one of its accounts had part in it.
pub(super) fn sees_event(visitor: &Visitor, event: &Event) -> bool {
    let mut accounts = event.accounts().iter();
    visitor.sees_all()
        || is_own(visitor, event.receipt.caller)
        || accounts.any(|account| visitor.may_see(*account))
}

fn is_own(visitor: &Visitor, caller: Caller) -> bool {
    match caller {
        Caller::Trusted => false,
        Caller::Key(number) => visitor.key() == Some(number),
    }
}

fn sees_receipt(visitor: &Visitor, receipt: &Receipt) -> bool {
    let sees = |account| visitor.may_see(account);
    let moved = receipt.legs.iter().any(|leg| sees(leg.leg.from) || sees(leg.leg.to));
    let mut orders = receipt.settlement.iter().flat_map(|settlement| &settlement.orders);
    moved || sees_command(visitor, &receipt.command) || orders.any(|order| sees(order.account))
}

fn sees_command(visitor: &Visitor, command: &Command) -> bool {
    let sees = |account: &AccountId| visitor.may_see(*account);
    match command {
        Command::Deposit(transfer) | Command::Withdraw(transfer) => sees(&transfer.account),
        Command::Order(order) => sees(&order.account),
        Command::CancelAll { account, .. }
        | Command::PutAccount { account, .. }
        | Command::RemoveLink { account, .. } => sees(account),
        Command::Prepare(prepare) => sees_legs(visitor, prepare.swap.legs()),
        Command::Swap(_)
        | Command::Resolve(_)
        | Command::Transact(_)
        | Command::Amend(_)
        | Command::Cancel(_)
        | Command::ExpireOrder(_)
        | Command::PutMarket(_)
        | Command::SwitchMarket { .. }
        | Command::PutAsset(_)
        | Command::PutKey(_)
        | Command::RevokeKey(_)
        | Command::Operate(_) => false,
    }
}

fn sees_legs(visitor: &Visitor, legs: &[Leg]) -> bool {
    legs.iter().any(|leg| visitor.may_see(leg.from) || visitor.may_see(leg.to))
}

/// Whether the visitor is a party of a hold, open or not.
pub(super) fn sees_hold(visitor: &Visitor, found: &Found) -> bool {
    match found {
        Found::Open(hold) => match &hold.purpose {
            Purpose::Swap(swap) => sees_legs(visitor, swap.legs()),
            Purpose::Withdrawal(transfer) => visitor.may_see(transfer.account),
        },
        Found::Ended { made, .. } => sees_command(visitor, &made.command),
    }
}
