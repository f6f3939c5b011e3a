//! What the coordinator added to a command, as bytes: without it neither the rows of a commit could
//! be told apart nor a receipt be made.
//!
//! | command | bytes |
//! |---|---|
//! | prepare, order good till date | when it ends by itself: raw 8, in microseconds |
//! | commit, rollback, confirm, cancel, expire | the hold that it ends |
//! | order (after that), amend, cancel, expire, cancel all | what the market made of it, see `settlement.rs` |
//! | any other | nothing |
//!
//! | part of a hold | bytes |
//! |---|---|
//! | what for | 1: 1 for a swap, 2 for a withdrawal; plus 128 if it is exclusive |
//! | when it ends by itself | raw 8 |
//! | commit_seq that made it | varint |
//! | swap or transfer | as in a command |

use super::bytes::{Flaw, Reader, Writer};
use super::{command, settlement};
use crate::access::Caller;
use crate::market::Settlement;
use crate::message::Txn;
use crate::request::{Action, Command, Hold, Purpose, Request, Resolve, Stands};
use crate::types::{Leg, RequestId, Time, Token};

/// Codes of what a hold is for. Persisted: never renumbered, never used again.
const SWAP: u8 = 1;
const WITHDRAWAL: u8 = 2;
/// Added to the code of an exclusive hold.
const IS_EXCLUSIVE: u8 = 0x80;

/// Writes what the coordinator added.
///
/// # Panics
/// If a resolution has no hold: only one that has can happen.
pub(super) fn write_added(txn: &Txn, to: &mut Writer) {
    match &txn.command {
        Command::Prepare(_) => write_time(txn.expires_at, to),
        Command::Resolve(_) => {
            write_hold(txn.hold().expect("what ends a hold has been told which"), to);
        }
        of_market if of_market.is_of_market() => {
            if ends_by_itself(of_market) {
                write_time(txn.expires_at, to);
            }
            settlement::write(txn.settlement().expect("the market has said what it comes to"), to);
        }
        _ => {}
    }
}

fn ends_by_itself(command: &Command) -> bool {
    matches!(command, Command::Order(order) if matches!(order.stands, Stands::Gtd { .. }))
}

fn write_time(time: Time, to: &mut Writer) {
    to.slice(&time.get().to_le_bytes());
}

fn read_time(from: &mut Reader<'_>) -> Result<Time, Flaw> {
    Ok(Time::new(u64::from_le_bytes(from.raw()?)))
}

fn write_hold(hold: &Hold, to: &mut Writer) {
    let exclusive = if hold.exclusive { IS_EXCLUSIVE } else { 0 };
    let code = match hold.purpose {
        Purpose::Swap(_) => SWAP,
        Purpose::Withdrawal(_) => WITHDRAWAL,
    };
    to.slice(&[code | exclusive]);
    write_time(hold.expires_at, to);
    to.varint(hold.since.get());
    match &hold.purpose {
        Purpose::Swap(swap) => command::write_legs(swap.legs(), to),
        Purpose::Withdrawal(transfer) => command::write_transfer(transfer, to),
    }
}

/// Goes past the time that [`write_added`] wrote of a hold that is made.
pub(super) fn skip_time(from: &mut Reader<'_>) {
    from.skip(8);
}

/// The legs of a hold's swap if it is the plainest; see [`command::read_pair`].
#[inline]
pub(super) fn read_pair(from: &mut Reader<'_>) -> Result<Option<[Leg; 2]>, Flaw> {
    if from.byte()? & !IS_EXCLUSIVE != SWAP {
        return Ok(None);
    }
    skip_time(from);
    command::read_seq(from)?;
    command::read_pair(from)
}

fn read_hold(token: Token, from: &mut Reader<'_>) -> Result<Hold, Flaw> {
    let code = from.byte()?;
    let expires_at = read_time(from)?;
    let since = command::read_seq(from)?;
    let purpose = match code & !IS_EXCLUSIVE {
        SWAP => Purpose::Swap(command::read_swap(from)?),
        WITHDRAWAL => Purpose::Withdrawal(command::read_transfer(from)?),
        _ => return Err("ends a hold for something that does not exist"),
    };
    Ok(Hold { token, purpose, exclusive: code & IS_EXCLUSIVE != 0, expires_at, since })
}

const IMPOSSIBLE: Flaw = "has a command that cannot be";

/// The transaction of a commit: the command, and what the coordinator added to it.
#[inline]
pub(super) fn read_txn(request: Request, digest: u64, from: &mut Reader<'_>) -> Result<Txn, Flaw> {
    if let Command::Resolve(resolve) = request.command {
        return read_resolution(request, resolve, digest, from);
    }
    let mut txn = Txn::new(request, digest, 1).map_err(|_| IMPOSSIBLE)?;
    if matches!(txn.command, Command::Prepare(_)) {
        txn.expires_at = read_time(from)?;
    }
    if txn.command.is_of_market() {
        let (ends_at, settlement) = read_settled(&txn.command, from)?;
        txn.expires_at = ends_at;
        txn.settle(settlement, 1);
    }
    Ok(txn)
}

/// What the coordinator added to a market's request: when its order ends, and what the market made of it.
pub(super) fn read_settled(
    command: &Command,
    from: &mut Reader<'_>,
) -> Result<(Time, Settlement), Flaw> {
    let ends_at = if ends_by_itself(command) { read_time(from)? } else { Time::NEVER };
    Ok((ends_at, settlement::read(from)?))
}

#[inline(never)]
fn read_resolution(
    request: Request,
    resolve: Resolve,
    digest: u64,
    from: &mut Reader<'_>,
) -> Result<Txn, Flaw> {
    let hold = read_hold(resolve.token, from)?;
    if !resolve.action.fits(&hold.purpose) {
        return Err("ends a hold in a way that its purpose does not allow");
    }
    if let Purpose::Swap(swap) = &hold.purpose {
        // Legs that were prepared can be netted.
        let swap = Command::Swap(swap.clone());
        Txn::new(Request::new(request.id, swap), digest, 1).map_err(|_| IMPOSSIBLE)?;
    }
    if resolve.action == Action::Expire {
        return read_expiry(&request, resolve, digest, hold);
    }
    let mut txn = Txn::new(request, digest, 1).map_err(|_| IMPOSSIBLE)?;
    txn.attach(Box::new(hold), 1);
    Ok(txn)
}

fn read_expiry(request: &Request, resolve: Resolve, digest: u64, hold: Hold) -> Result<Txn, Flaw> {
    let ids: [RequestId; 2] = [request.id, resolve.token.request()];
    let is_asked = request.deadline != Time::NEVER || request.caller != Caller::Trusted;
    if ids[0] != ids[1] || digest != 0 || is_asked {
        return Err("is an expiry that the engine would not ask for");
    }
    Ok(Txn::expiry(Box::new(hold), 1))
}
