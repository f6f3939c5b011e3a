//! Anything that can be asked, and blocks made of it: for property tests, here and of the folds.

mod access;
mod trading;

use proptest::prelude::*;

use super::*;
use crate::address::{Address, Link};
use crate::error::Reject;
use crate::message::{Side, Txn};
use crate::request::{
    Action, AssetSpec, Prepare, Purpose, Read, Request, Resolve, Stands, Swap, Transact, Transfer,
};
use crate::types::{AccountId, Amount, ChainId, ChainKind, Key, Leg, Subject};

/// Numbers of every length up to `bits`.
fn number(bits: u32) -> impl Strategy<Value = u128> {
    (any::<u128>(), 0..bits).prop_map(|(number, bits)| number & ((1 << bits) - 1))
}

/// Few accounts, so that legs meet, and now and then a large number.
fn account() -> impl Strategy<Value = AccountId> {
    prop_oneof![9 => 0..6_u64, 1 => any::<u64>()].prop_map(AccountId::new)
}

fn asset() -> impl Strategy<Value = AssetId> {
    prop_oneof![9 => 0..3_u32, 1 => any::<u32>()].prop_map(AssetId::new)
}

fn amount() -> impl Strategy<Value = Amount> {
    number(121).prop_map(|number| Amount::new(number.max(1)))
}

fn chain() -> impl Strategy<Value = ChainId> {
    any::<u64>().prop_map(ChainId::new)
}

fn seq() -> impl Strategy<Value = CommitSeq> {
    any::<u64>().prop_map(CommitSeq::new)
}

fn time() -> impl Strategy<Value = Time> {
    prop_oneof![Just(Time::NEVER), any::<u64>().prop_map(Time::new)]
}

fn request_id() -> impl Strategy<Value = RequestId> {
    any::<u128>().prop_map(RequestId::new)
}

fn token() -> impl Strategy<Value = Token> {
    request_id().prop_map(Token::of)
}

fn leg() -> impl Strategy<Value = Leg> {
    let leg = (account(), account(), asset(), amount());
    leg.prop_filter_map("two parties", |(from, to, asset, amount)| {
        (from != to).then_some(Leg { from, to, asset, amount })
    })
}

fn swap() -> impl Strategy<Value = Swap> {
    let pair = (account(), account(), amount(), amount(), asset(), asset());
    let pair = pair.prop_map(|(a, b, m, n, x, y)| {
        vec![
            Leg { from: a, to: b, asset: x, amount: m },
            Leg { from: b, to: a, asset: y, amount: n },
        ]
    });
    let legs = prop_oneof![pair, prop::collection::vec(leg(), 2..=16)];
    legs.prop_filter_map("a swap", |legs| Swap::new(legs).ok())
}

fn transfer() -> impl Strategy<Value = Transfer> {
    (account(), asset(), amount(), "[a-zé]{0,60}").prop_map(
        |(account, asset, amount, reference)| Transfer {
            account,
            asset,
            amount,
            reference: reference.into(),
        },
    )
}

fn asset_spec() -> impl Strategy<Value = AssetSpec> {
    let kinds = [ChainKind::Evm, ChainKind::Solana, ChainKind::Bitcoin, ChainKind::Other];
    let kind = prop::sample::select(kinds.to_vec());
    let parts = ("[A-Za-z0-9._-]{1,32}", chain(), kind, "[0-9a-f]{1,64}", any::<u8>());
    parts.prop_map(|(name, chain, chain_kind, token, decimals)| AssetSpec {
        name: name.into(),
        chain,
        chain_kind,
        token: token.into(),
        decimals,
    })
}

fn link() -> impl Strategy<Value = Link> {
    (chain(), "[0-9a-zA-Z]{1,90}")
        .prop_map(|(chain, text)| Link { chain, address: Address::from_canonical(&text) })
}

fn key() -> impl Strategy<Value = Key> {
    prop::collection::vec(any::<u8>(), 1..40).prop_map(Key::new)
}

fn subject() -> impl Strategy<Value = Subject> {
    let balance = (account(), asset()).prop_map(|(account, asset)| BalanceKey { account, asset });
    prop_oneof![key().prop_map(Subject::Key), balance.prop_map(Subject::Balance)]
}

fn transact() -> impl Strategy<Value = Transact> {
    let value = prop::option::of(prop::collection::vec(any::<u8>(), 0..60));
    let reads = prop::collection::vec((subject(), seq()), 0..6);
    let writes = prop::collection::vec((key(), value), 0..6);
    let transfers = prop::collection::vec(leg(), 0..4);
    (reads, writes, transfers).prop_map(|(reads, writes, transfers)| Transact {
        reads: reads.into_iter().map(|(subject, version)| Read { subject, version }).collect(),
        writes: writes
            .into_iter()
            .map(|(key, value)| Write { key, value: value.map(Into::into) })
            .collect(),
        transfers,
    })
}

fn prepare() -> impl Strategy<Value = Prepare> {
    (swap(), 1..u64::MAX, any::<bool>()).prop_map(|(swap, expires_in_ms, exclusive)| Prepare {
        swap,
        expires_in_ms,
        exclusive,
    })
}

fn action() -> impl Strategy<Value = Action> {
    use Action::{Cancel, Commit, Confirm, Expire, Rollback};
    prop::sample::select(vec![Commit, Rollback, Confirm, Cancel, Expire])
}

fn command() -> impl Strategy<Value = Command> {
    prop_oneof![
        6 => swap().prop_map(Command::Swap),
        1 => transfer().prop_map(Command::Deposit),
        1 => transfer().prop_map(Command::Withdraw),
        2 => prepare().prop_map(|prepare| Command::Prepare(Box::new(prepare))),
        3 => (token(), action())
            .prop_map(|(token, action)| Command::Resolve(Resolve { token, action })),
        2 => transact().prop_map(|transact| Command::Transact(Box::new(transact))),
        1 => asset_spec().prop_map(Command::PutAsset),
        1 => (account(), prop::collection::vec(link(), 0..=64))
            .prop_map(|(account, links)| Command::PutAccount { account, links }),
        1 => (account(), chain()).prop_map(|(account, chain)| Command::RemoveLink { account, chain }),
        4 => trading::command(),
        2 => access::command(),
    ]
}

/// As a caller asks: what ends a hold has none yet.
pub(super) fn txn() -> impl Strategy<Value = Txn> {
    let parts = (request_id(), any::<u64>(), time(), access::caller(), command());
    parts.prop_filter_map("well-formed", |(id, digest, deadline, caller, command)| {
        Txn::new(Request { id, deadline, caller, command }, digest, 1).ok()
    })
}

/// With what the coordinator adds.
fn decided() -> impl Strategy<Value = Txn> {
    let added = (swap(), transfer(), any::<bool>(), time(), seq(), trading::settlement());
    (txn(), added).prop_filter_map("well-formed", |(mut txn, added)| {
        let (swap, transfer, exclusive, expires_at, since, settlement) = added;
        match &txn.command {
            Command::Prepare(_) => txn.expires_at = expires_at,
            Command::Resolve(Resolve { token, action }) => {
                let netted = Txn::new(Request::new(txn.id, Command::Swap(swap.clone())), 0, 1);
                netted.ok()?;
                let (token, action) = (*token, *action);
                let for_swap = Purpose::Swap(swap);
                let purpose =
                    if action.fits(&for_swap) { for_swap } else { Purpose::Withdrawal(transfer) };
                let hold = Box::new(Hold { token, purpose, exclusive, expires_at, since });
                if action == Action::Expire {
                    return Some(Txn::expiry(hold, 1));
                }
                txn.attach(hold, 1);
            }
            Command::Order(order) => {
                if matches!(order.stands, Stands::Gtd { .. }) {
                    txn.expires_at = expires_at;
                }
                txn.settle(settlement, 1);
            }
            of_market if of_market.is_of_market() => txn.settle(settlement, 1),
            _ => {}
        }
        Some(txn)
    })
}

/// A commit: a transaction with the balances after it, anything that can follow from it.
pub(in crate::store) fn commit() -> impl Strategy<Value = (Txn, Vec<Balance>)> {
    let rest = prop::collection::vec((number(122), prop_oneof![Just(0), number(120)]), 32);
    (decided(), rest).prop_map(|(txn, rest)| {
        let after = txn.row_ops().zip(rest).map(|(op, (available, held))| {
            let amount = op.amount.get();
            let (available, held) = match op.side {
                Side::Credit | Side::Deliver | Side::Release => (available + amount, held),
                Side::SetAside | Side::Lock => (available, held + amount),
                Side::Debit | Side::Spend | Side::Check => (available, held),
                // As much more as it takes for the balance before not to be below nothing.
                Side::Gain => (available + amount, held + op.held.unsigned_abs()),
                Side::Yield => (available, held + op.held.unsigned_abs()),
            };
            Balance { available: Amount::new(available), held: Amount::new(held) }
        });
        let after = after.collect();
        (txn, after)
    })
}

fn reject() -> impl Strategy<Value = Reject> {
    let how = prop::sample::select(Resolution::ALL.to_vec());
    let why = "[a-zé ]{0,80}";
    prop_oneof![
        Just(Reject::RequestIdReused),
        Just(Reject::Expired),
        token().prop_map(Reject::UnknownToken),
        (token(), how, seq()).prop_map(|(token, how, seq)| Reject::AlreadyResolved {
            token,
            how,
            seq
        }),
        asset().prop_map(Reject::UnknownAsset),
        chain().prop_map(Reject::UnknownChain),
        account().prop_map(Reject::UnknownAccount),
        why.prop_map(Reject::AlreadyExists),
        why.prop_map(Reject::AlreadyLinked),
        (asset(), seq()).prop_map(|(asset, seq)| Reject::AlreadyCredited { asset, seq }),
        (account(), chain()).prop_map(|(account, chain)| Reject::NotLinked { account, chain }),
        subject().prop_map(|subject| Reject::Conflict { subject }),
        asset().prop_map(Reject::SupplyExceeded),
        (account(), asset(), any::<u8>()).prop_map(|(account, asset, max_percent)| {
            Reject::HeldShareExceeded { account, asset, max_percent }
        }),
        (account(), asset(), amount(), seq()).prop_map(|(account, asset, short_by, seq)| {
            Reject::InsufficientFunds { account, asset, short_by, seq }
        }),
        (prop::option::of(account()), any::<u64>())
            .prop_map(|(account, max)| Reject::TooManyHolds { account, max }),
        token().prop_map(|token| Reject::LockTimeout { token }),
        trading::fault().prop_map(Reject::Order),
        prop::option::of(account()).prop_map(|account| Reject::Forbidden { account }),
        access::operation().prop_map(|operation| Reject::Restricted { operation }),
        "[a-z-]{1,64}".prop_map(|name| Reject::UnknownApiKey(name.into())),
    ]
}

/// Something that changed nothing, with the seq that it saw.
pub(super) fn refused() -> impl Strategy<Value = (Txn, Verdict, CommitSeq)> {
    let verdict = prop_oneof![
        9 => reject().prop_map(Verdict::Reject),
        1 => seq().prop_map(Verdict::Done),
    ];
    (txn(), verdict, seq())
}

/// A block of commits and refusals.
pub(in crate::store) fn build(
    builder: &mut BlockBuilder,
    number: u64,
    first_seq: u64,
    commits: &[(Txn, Vec<Balance>)],
    refused: &[(Txn, Verdict, CommitSeq)],
    slots: Vec<u32>,
) -> Block {
    let previous = BlockHash::new([number as u8; 32]);
    builder.begin(BlockNumber::new(number), CommitSeq::new(first_seq), previous);
    for (txn, after) in commits {
        builder.commit(txn, after.iter().copied());
    }
    for (txn, verdict, seq) in refused {
        match verdict {
            Verdict::Reject(reject) => builder.refusal(txn, (reject, *seq)),
            Verdict::Done(first) => builder.repeat(txn, *first, *seq),
        }
    }
    builder.finish(Time::new(5_000), slots)
}
