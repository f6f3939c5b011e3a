//! What the document says of everything that moves value outside of markets, and of what became of it.

use serde_json::{Value, json};

use crate::server::history::{self, HistoryBody};
use crate::server::keys::ValueBody;
use crate::server::prepared::{self, PreparedBody};
use crate::server::reads::{AuditBody, BalancesBody, PendingBody};
use crate::server::receipt::{MovedBody, ResolvedBody, SetAsideBody, TransferBody};
use crate::server::withdrawals::WithdrawalBody;
use crate::types::{AccountId, RequestId, Token};

use super::About;
use super::requests::{
    BatchRequest, PlainRequest, PrepareRequest, SwapRequest, TransactionRequest, TransferRequest,
};
use super::schemas::{Base64, Name, Seq, Timestamp, reference};

const TAG: &str = "settling";
const READING: &str = "reading";
/// Of what moves value between accounts.
const MOVING: [&str; 7] = [
    "expired",
    "unknown_asset",
    "unknown_account",
    "not_linked",
    "supply_exceeded",
    "insufficient_funds",
    "lock_timeout",
];
/// Of what sets value aside.
const HOLDING: [&str; 2] = ["held_share_exceeded", "too_many_holds"];
/// The receipts that there are.
const RECEIPTS: [&str; 12] = [
    "SwapReceipt",
    "PrepareReceipt",
    "ResolutionReceipt",
    "TransferReceipt",
    "OrderReceipt",
    "CancelReceipt",
    "CancelAllReceipt",
    "MarketReceipt",
    "SwitchReceipt",
    "AssetReceipt",
    "AccountReceipt",
    "NoLinkReceipt",
];

pub fn deposit(call: &mut About<'_>) {
    call.named(
        TAG,
        "deposit",
        "Credits an account",
        "Value has arrived on a chain. A reference is credited once an asset: another request with \
         it is `already_credited`.",
    );
    call.takes::<TransferRequest>();
    call.settles("TransferReceipt", |all| vec![all.of::<TransferBody>()]);
    call.refuses(&["unknown_asset", "unknown_account", "not_linked", "already_credited"]);
    call.refuses(&["supply_exceeded", "lock_timeout"]);
}

pub fn withdraw(call: &mut About<'_>) {
    call.named(
        TAG,
        "withdraw",
        "Sets an amount aside that is to leave",
        "It never expires by itself: confirm it when the chain has taken it, or cancel it. Its id is \
         the request's.",
    );
    call.takes::<TransferRequest>();
    call.settles("TransferReceipt", |all| vec![all.of::<TransferBody>()]);
    call.refuses(&MOVING);
    call.refuses(&HOLDING);
}

fn resolves(call: &mut About<'_>, part: &str, description: &str) {
    call.part::<Token>(part, description);
    call.takes::<PlainRequest>();
    call.settles("ResolutionReceipt", |all| vec![all.of::<ResolvedBody>()]);
    call.refuses(&["unknown_token", "already_resolved"]);
}

pub fn confirm_withdrawal(call: &mut About<'_>) {
    let says = "The chain took it. Confirming what is confirmed is accepted.";
    call.named(TAG, "confirmWithdrawal", "The amount is gone", says);
    resolves(call, "id", "The withdrawal's id.");
}

pub fn cancel_withdrawal(call: &mut About<'_>) {
    let says = "Canceling what is canceled is accepted.";
    call.named(TAG, "cancelWithdrawal", "The amount is available again", says);
    resolves(call, "id", "The withdrawal's id.");
}

pub fn get_withdrawal(call: &mut About<'_>) {
    call.named(TAG, "getWithdrawal", "What became of a withdrawal", "");
    call.part::<Token>("id", "The withdrawal's id.");
    call.gives::<WithdrawalBody>("The withdrawal.");
    call.refuses(&["unknown_token"]);
}

pub fn swap(call: &mut About<'_>) {
    call.named(TAG, "swap", "Settles a swap", "All of its 2 to 16 legs happen, or none does.");
    call.takes::<SwapRequest>();
    call.settles("SwapReceipt", |all| vec![all.of::<MovedBody>()]);
    call.refuses(&MOVING);
}

pub fn swap_batch(call: &mut About<'_>) {
    call.named(
        TAG,
        "swapBatch",
        "Settles many swaps",
        "Each is answered in its place as if it had been sent alone, with a receipt or a problem.",
    );
    call.body::<BatchRequest>();
    let either = json!({"anyOf": [reference("SwapReceipt"), reference("Problem")]});
    call.answers(200, "One answer each, in the order of the swaps.", results(either));
    call.refuses(&super::ENGINE);
    call.refuses(&[super::JOURNAL]);
}

/// `{results: [...]}`.
pub(super) fn results(item: Value) -> Value {
    json!({"type": "object", "required": ["results"],
        "properties": {"results": {"type": "array", "items": item}}})
}

pub fn get_outcome(call: &mut About<'_>) {
    call.named(
        READING,
        "getOutcome",
        "What became of a request",
        "The answer that it got or would have got: the receipt or the refusal.",
    );
    outcome(call);
}

pub fn get_swap(call: &mut About<'_>) {
    let says = "The same as `getOutcome`, under the name that swaps are sent to.";
    call.named(READING, "getSwap", "What became of a swap", says);
    outcome(call);
}

fn outcome(call: &mut About<'_>) {
    call.part::<RequestId>("request_id", "The id that it was sent under.");
    let any: Vec<Value> = RECEIPTS.into_iter().map(reference).collect();
    call.refuses(&super::ENGINE);
    call.refuses(&[super::JOURNAL]);
    let pending = call.schemas.of::<PendingBody>();
    call.answers(200, "The receipt: it happened, and is on disk.", json!({"anyOf": any}));
    call.answers(202, "It was taken and is not decided yet.", pending);
    call.refuses(&crate::error::Reject::CODES);
    call.refuses(&["unknown_request"]);
}

pub fn prepare(call: &mut About<'_>) {
    call.named(
        TAG,
        "prepare",
        "Prepares a swap",
        "Its amounts are set aside, durably, until its token commits it or rolls it back, or it \
         expires.",
    );
    call.takes::<PrepareRequest>();
    call.settles("PrepareReceipt", |all| vec![all.of::<SetAsideBody>()]);
    call.refuses(&MOVING);
    call.refuses(&HOLDING);
}

pub fn commit(call: &mut About<'_>) {
    let says = "Committing what is committed is accepted; what was rolled back or has expired is \
                `already_resolved`, with `how`.";
    call.named(TAG, "commit", "Moves what was set aside", says);
    resolves(call, "token", "The prepared swap.");
}

pub fn rollback(call: &mut About<'_>) {
    let says = "Rolling back what is rolled back is accepted; what was committed or has expired is \
                `already_resolved`, with `how`.";
    call.named(TAG, "rollback", "Gives back what was set aside", says);
    resolves(call, "token", "The prepared swap.");
}

pub fn list_prepared(call: &mut About<'_>) {
    call.named(
        TAG,
        "listPrepared",
        "What is prepared and open",
        "What expires soonest comes first. Of very many, those of an account may not all be found: \
         `complete` says so.",
    );
    let account = call.schemas.of::<AccountId>();
    call.query("account", "Those alone in which this account has part.", account);
    let limit = json!({"type": "integer", "minimum": 1, "maximum": prepared::LIMIT_MAX,
        "default": prepared::LIMIT});
    call.query("limit", "How many.", limit);
    call.gives::<prepared::ListBody>("What is open.");
}

pub fn get_prepared(call: &mut About<'_>) {
    call.named(TAG, "getPrepared", "What became of a prepared swap", "");
    call.part::<Token>("token", "The prepared swap.");
    call.gives::<PreparedBody>("The prepared swap.");
    call.refuses(&["unknown_token", super::JOURNAL]);
}

pub fn transact(call: &mut About<'_>) {
    call.named(
        TAG,
        "transact",
        "Writes and moves, if nothing that was read has changed",
        "Each read says its version. If one has another by now, nothing happens: `conflict`, with \
         the key or the balance.",
    );
    call.takes::<TransactionRequest>();
    call.settles("SwapReceipt", |all| vec![all.of::<MovedBody>()]);
    call.refuses(&MOVING);
    call.refuses(&["conflict"]);
}

pub fn get_key(call: &mut About<'_>) {
    call.named(READING, "getKey", "The value under a caller's key", "Now, or as of a seq.");
    call.part::<Base64>("key", "In base64; the URL-safe alphabet is taken, too, without padding.");
    as_of(call);
    call.gives::<ValueBody>("The value.");
}

/// A parameter that names a seq.
fn as_of(call: &mut About<'_>) {
    let seq = call.schemas.of::<Seq>();
    call.query("at", "As of which seq, of those within the history that is kept.", seq);
    call.refuses(&["history_expired"]);
}

pub fn get_balances(call: &mut About<'_>) {
    let says = "All from one snapshot: now, as of a seq, or as of a time.";
    call.named(READING, "getBalances", "An account's balances", says);
    call.part::<AccountId>("account", "Whose.");
    as_of(call);
    let time = call.schemas.of::<Timestamp>();
    call.query("at_time", "As of which time, instead of a seq.", time);
    call.gives::<BalancesBody>("The balances.");
    call.refuses(&["unknown_account"]);
}

pub fn get_history(call: &mut About<'_>) {
    let says = "Every change of its balances with its cause, oldest first. The changes of one seq are \
                all on one page.";
    call.named(READING, "getHistory", "An account's history", says);
    call.part::<AccountId>("account", "Whose.");
    let (name, seq) = (call.schemas.of::<Name>(), call.schemas.of::<Seq>());
    call.query("asset", "Of this asset alone.", name);
    call.query("after", "Only later ones: the last page's `next`.", seq);
    let limit = json!({"type": "integer", "minimum": 1, "maximum": history::LIMIT_MAX,
        "default": history::LIMIT});
    call.query("limit", "How many changes, about.", limit);
    call.gives::<HistoryBody>("A page.");
    call.refuses(&["unknown_account", "unknown_asset", "history_expired"]);
    call.refuses(&[super::JOURNAL]);
}

pub fn audit(call: &mut About<'_>) {
    call.named(
        READING,
        "audit",
        "Counts everything",
        "Per asset, deposits less withdrawals against the sum of all balances, at one seq.",
    );
    call.gives::<AuditBody>("What was found.");
}
