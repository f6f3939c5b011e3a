//! What of an earlier outcome a key may see, where only the outcome says whom it is about.
//!
//! Whoever asks with the id and the very words of an earlier request is answered as that was. Where
//! the words name accounts, they were judged when the request was sequenced. Where they name a hold or
//! an order by its id, the key must be the one that asked first, or have the accounts.

use crate::access::{Accounts, Caller, KeyNumber};
use crate::directory::Directory;
use crate::error::{OrderFault, Reject};
use crate::request::{Command, Outcome, Receipt};
use crate::store::StoreError;
use crate::store::reader::Reader;
use crate::types::{AccountId, Leg, RequestId};

/// Whether a key may see the outcome of a request that names a hold or an order by its id.
///
/// # Errors
/// What the store says.
pub(super) fn may_see(
    key: KeyNumber,
    outcome: &Outcome,
    reader: &Reader,
    directory: &Directory,
) -> Result<bool, StoreError> {
    let caller = match outcome {
        Outcome::Settled(receipt) => receipt.caller,
        Outcome::Rejected(refusal) => refusal.caller,
    };
    let Some(issued) = directory.key(key) else { return Ok(false) };
    if caller == Caller::Key(key) || issued.key.accounts == Accounts::All {
        return Ok(true);
    }
    let about = match outcome {
        Outcome::Settled(receipt) => of_receipt(receipt, reader)?,
        Outcome::Rejected(refusal) => of_refusal(&refusal.reject, reader)?,
    };
    Ok(about.is_some_and(|about| about.into_iter().all(|account| issued.key.accounts.has(account))))
}

/// The accounts whose business a receipt is; `None` where that is nobody's who is known.
fn of_receipt(receipt: &Receipt, reader: &Reader) -> Result<Option<Vec<AccountId>>, StoreError> {
    let order = match &receipt.command {
        Command::Resolve(resolve) => return of_hold(resolve.token.request(), reader),
        Command::Amend(amend) => amend.order,
        Command::Cancel(order) => *order,
        _ => return Ok(None),
    };
    // Others' orders may have traded with it.
    let mut touched = receipt.settlement.iter().flat_map(|settlement| &settlement.orders);
    Ok(touched.find(|update| update.order == order).map(|update| vec![update.account]))
}

/// The same of a refusal; nobody's, so anybody's, where it says nothing.
fn of_refusal(reject: &Reject, reader: &Reader) -> Result<Option<Vec<AccountId>>, StoreError> {
    match reject {
        Reject::Forbidden { .. }
        | Reject::Expired
        | Reject::Restricted { .. }
        | Reject::UnknownToken(_)
        | Reject::Order(OrderFault::UnknownOrder(_)) => Ok(Some(vec![])),
        Reject::AlreadyResolved { token, .. } => of_hold(token.request(), reader),
        Reject::InsufficientFunds { account, .. } | Reject::HeldShareExceeded { account, .. } => {
            Ok(Some(vec![*account]))
        }
        _ => Ok(None),
    }
}

/// In whose balances the hold of that request set something aside.
fn of_hold(made_by: RequestId, reader: &Reader) -> Result<Option<Vec<AccountId>>, StoreError> {
    let Some((Outcome::Settled(made), _)) = reader.outcome(made_by)? else { return Ok(None) };
    let payers = |legs: &[Leg]| legs.iter().map(|leg| leg.from).collect();
    Ok(match &made.command {
        Command::Prepare(prepare) => Some(payers(prepare.swap.legs())),
        Command::Withdraw(from) => Some(vec![from.account]),
        _ => None,
    })
}
