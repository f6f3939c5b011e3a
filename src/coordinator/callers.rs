//! Judges on whose behalf requests come, at their place in the order. Pure.
//!
//! What a command itself says is judged by [`Command::check_key`]; here is what the state adds: whether
//! the key still stands, and whose a hold or an order is. Of what is not the key's it learns nothing:
//! it is answered as for a hold or an order that never was.
//!
//! Invariants
//! * Requests without a key pass with one comparison.
//! * A request that comes again is judged again: what was revoked meanwhile is refused.

use std::sync::Arc;

use super::forming::Forming;
use super::holds::payers_of;
use super::ids::{Payers, SeenBefore};
use super::txn::Machine;
use crate::access::{Accounts, ApiKey, Caller};
use crate::directory::Issued;
use crate::error::Reject;
use crate::faults::{Bug, planted};
use crate::message::Txn;
use crate::request::Command;
use crate::types::{Operation, RequestId, Time, Token};

impl<S: SeenBefore> Machine<S> {
    /// What the venue takes.
    pub fn operation(&self) -> Operation {
        self.directory.operation()
    }

    /// Whether the key that a request comes under stands, and may ask for such things.
    pub(super) fn check_caller(&self, txn: &Txn, now: Time) -> Result<(), Reject> {
        let Caller::Key(number) = txn.caller else { return Ok(()) };
        let stands = |issued: &Issued| issued.stands_at(now) || planted(Bug::KeepKey);
        let issued = self.directory.key(number).filter(stands);
        let issued = issued.ok_or(Reject::Forbidden { account: None })?;
        txn.command.check_key(&issued.key)
    }

    /// The key of a request, if it has one.
    pub(super) fn key_of(&self, txn: &Txn) -> Option<Arc<ApiKey>> {
        match txn.caller {
            Caller::Trusted => None,
            Caller::Key(number) => self.directory.key(number).map(|issued| issued.key),
        }
    }

    /// The key of a request, if it is one that is bound to accounts.
    fn bound(&self, txn: &Txn) -> Option<Arc<ApiKey>> {
        self.key_of(txn).filter(|key| key.accounts != Accounts::All)
    }

    /// Whether a hold may be resolved by that request: its key has all that the hold sets aside.
    ///
    /// # Errors
    /// Why the store cannot say.
    pub(super) fn may_resolve(
        &mut self,
        txn: &Txn,
        token: Token,
        forming: &Forming,
    ) -> Result<bool, String> {
        let Some(key) = self.bound(txn) else { return Ok(true) };
        if planted(Bug::AnyHold) {
            return Ok(true);
        }
        let payers = self.payers_of(token, forming)?;
        Ok(payers.is_some_and(|payers| payers.iter().all(|account| key.accounts.has(*account))))
    }

    /// In whose balances a hold sets something aside, or had; `None` if there never was such a hold.
    fn payers_of(&mut self, token: Token, forming: &Forming) -> Result<Option<Payers>, String> {
        let by = match self.holds.get(token) {
            Ok(hold) => return Ok(Some(payers_of(hold))),
            Err(by) => by,
        };
        if let Some(by) = by {
            let resolving = match forming.txn(by) {
                Some(txn) => txn.hold().map(payers_of),
                None => self.flight(by.batch).batch.txns[by.index as usize].hold().map(payers_of),
            };
            return Ok(Some(resolving.expect("what resolves a hold has it")));
        }
        let resolved = match self.holds.recently(token) {
            Some(resolved) => Some(resolved),
            None => self.store.resolution(token)?,
        };
        Ok(resolved.map(|resolved| resolved.payers))
    }

    /// Whether an order may be amended or canceled by that request: its key has the order's account.
    pub(super) fn may_touch(&self, txn: &Txn, order: RequestId) -> bool {
        let Some(key) = self.bound(txn) else { return true };
        planted(Bug::AnyOrder)
            || self.trading.owner(order).is_some_and(|account| key.accounts.has(account))
    }

    /// How many open holds, and open orders, the key of a request allows any one account.
    pub(super) fn open_max(&self, txn: &Txn) -> [Option<u32>; 2] {
        let Some(key) = self.key_of(txn) else { return [None; 2] };
        [key.limits.open_holds, key.limits.open_orders].map(|max| Some(max).filter(|max| *max > 0))
    }
}

/// Whether the command is taken in the present state of the venue's operation.
///
/// # Errors
/// [`Reject::Restricted`].
#[inline]
pub(super) fn check_operation(command: &Command, forming: &Forming) -> Result<(), Reject> {
    let operation = forming.operation;
    if command.is_taken_in(operation) { Ok(()) } else { Err(Reject::Restricted { operation }) }
}
