//! Open holds as rows of the outcomes family: what is set aside, and until when.
//!
//! A hold's row is written by the fold that takes in the block which made it, and deleted by the
//! one that takes in the block which ended it. Most holds live for milliseconds: one that was made
//! and ended within a fold leaves no row and no deletion.
//!
//! | part of a row's value | form |
//! |---|---|
//! | whether it is exclusive | 1: 0 or 1 |
//! | commit_seq that made it | raw 8, little-endian |
//! | the swap or withdrawal, with when the hold ends as its deadline | as a command in the journal |

use foldhash::fast::RandomState;
use hashbrown::HashMap;
use smallvec::SmallVec;

use crate::error::Malformed;
use crate::faults::{Bug, planted};
use crate::message::Txn;
use crate::request::{Command, Hold, Prepare, Purpose, Request};
use crate::store::journal::bytes::{Flaw, Reader};
use crate::store::journal::{Damage, decode_command, encode_command, hold_in};
use crate::store::keys;
use crate::types::{Amount, BalanceKey, CommitSeq, Token};

/// What stands before the command in a row's value.
const HEAD_LEN: usize = 1 + 8;

/// What a hold has set aside, balance by balance; nearly always one or two.
pub type SetAside = SmallVec<[(BalanceKey, Amount); 2]>;

/// Takes in what became of holds, in commit_seq order, and yields what that changes of their rows,
/// in the order of the keys. Keep it for the next fold: its buffers stay.
#[derive(Debug, Default)]
pub struct HoldFold {
    /// Of each hold that was made, where it is; `None` for one that was ended and had been made
    /// before.
    touched: HashMap<Token, Option<Place>, RandomState>,
    /// The records of the commits that made them, one after another, those of holds that were ended
    /// since included. They are read when a row is written, and so for few of them.
    records: Vec<u8>,
    /// The value being written.
    value: Vec<u8>,
    sorted: Vec<(Token, Option<Place>)>,
}

/// Where a record begins and ends, and under which seq it was committed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Place {
    since: CommitSeq,
    begin: usize,
    end: usize,
}

impl HoldFold {
    /// A fold that has taken in nothing.
    pub fn new() -> Self {
        Self::default()
    }

    /// A hold was made: by that commit, whose record [`hold_in`] reads.
    pub fn made(&mut self, token: Token, since: CommitSeq, record: &[u8]) {
        let begin = self.records.len();
        self.records.extend_from_slice(record);
        self.touched.insert(token, Some(Place { since, begin, end: self.records.len() }));
    }

    /// A hold was ended.
    pub fn ended(&mut self, token: Token) {
        if planted(Bug::KeepHoldRow) {
            return;
        }
        if self.touched.remove(&token).is_none() {
            self.touched.insert(token, None);
        }
        if self.touched.is_empty() {
            self.records.clear();
        }
    }

    /// Whether no row changes by what was taken in since the last finish.
    pub fn is_empty(&self) -> bool {
        self.touched.is_empty()
    }

    /// Shows each row that changes: its key, and its value or `None` where it goes; keys ascending.
    /// The fold is empty afterwards, also after an error.
    ///
    /// # Errors
    /// The first that `row` returns; no more rows are shown then.
    pub fn finish<E>(
        &mut self,
        mut row: impl FnMut(&[u8], Option<&[u8]>) -> Result<(), E>,
    ) -> Result<(), E> {
        self.sorted.clear();
        self.sorted.extend(self.touched.drain());
        self.sorted.sort_unstable();
        let Self { sorted, records, value, .. } = self;
        let shown = sorted.iter().try_for_each(|(token, place)| {
            let Some(Place { since, begin, end }) = *place else {
                return row(&keys::hold(*token), None);
            };
            value.clear();
            encode(hold_in(since, &records[begin..end]), value);
            row(&keys::hold(*token), Some(value))
        });
        self.records.clear();
        shown
    }
}

/// Appends the value of a hold's row.
pub fn encode(hold: Hold, into: &mut Vec<u8>) {
    into.push(u8::from(hold.exclusive));
    into.extend_from_slice(&hold.since.get().to_le_bytes());
    let command = match hold.purpose {
        Purpose::Swap(swap) => Command::Swap(swap),
        Purpose::Withdrawal(transfer) => Command::Withdraw(transfer),
    };
    encode_command(&command, hold.expires_at, into);
}

/// The hold of a row.
///
/// # Errors
/// The row is not a hold's, or damaged.
pub fn decode(key: &[u8], value: &[u8]) -> Result<Hold, Damage> {
    let broken = |flaw: Flaw| Damage::Broken(format!("the row of an open hold {flaw}"));
    let token = keys::decode_hold(key).ok_or_else(|| broken("has a foreign key"))?;
    let mut head = Reader::new(value, 0);
    let exclusive = match head.byte().map_err(broken)? {
        0 => false,
        1 => true,
        _ => return Err(broken("is neither exclusive nor not")),
    };
    let since = CommitSeq::new(u64::from_le_bytes(head.raw().map_err(broken)?));
    let (command, expires_at) = decode_command(&value[HEAD_LEN..])?;
    let purpose = match command {
        Command::Swap(swap) => Purpose::Swap(swap),
        Command::Withdraw(transfer) => Purpose::Withdrawal(transfer),
        _ => return Err(broken("is for what sets nothing aside")),
    };
    let hold = Hold { token, purpose, exclusive, expires_at, since };
    set_aside(&hold).map_err(|malformed| Damage::Broken(format!("an open hold's {malformed}")))?;
    Ok(hold)
}

/// What a hold has set aside: its netted debits.
///
/// # Errors
/// What is wrong with its legs, if nobody could have prepared them.
pub fn set_aside(hold: &Hold) -> Result<SetAside, Malformed> {
    let command = match &hold.purpose {
        Purpose::Withdrawal(transfer) => Command::Withdraw(transfer.clone()),
        Purpose::Swap(swap) => {
            let (swap, exclusive) = (swap.clone(), hold.exclusive);
            Command::Prepare(Box::new(Prepare { swap, expires_in_ms: 1, exclusive }))
        }
    };
    let txn = Txn::new(Request::new(hold.token.request(), command), 0, 1)?;
    let ops = txn.ops().filter(|op| op.side.needs_funds());
    Ok(ops.map(|op| (op.key, op.amount)).collect())
}

#[cfg(test)]
pub(in crate::store) mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;
    use crate::request::{Swap, Transfer};
    use crate::store::journal::{BlockBuilder, BlockHash, Mark};
    use crate::types::{AccountId, AssetId, Balance, BlockNumber, Leg, RequestId, Time};

    pub fn leg(from: u64, to: u64, asset: u32, amount: u128) -> Leg {
        Leg {
            from: AccountId::new(from),
            to: AccountId::new(to),
            asset: AssetId::new(asset),
            amount: Amount::new(amount),
        }
    }

    /// A hold of its token's number.
    pub fn sample(token: u128) -> Hold {
        let amount = token + 1;
        let swap = Swap::new([leg(1, 2, 0, amount), leg(2, 3, 0, 1), leg(2, 1, 1, 5)]).unwrap();
        let transfer = Transfer {
            account: AccountId::new(3),
            asset: AssetId::new(1),
            amount: Amount::new(amount),
            reference: "payout".into(),
        };
        let is_swap = !token.is_multiple_of(3);
        Hold {
            token: Token::of(RequestId::new(token)),
            purpose: if is_swap { Purpose::Swap(swap) } else { Purpose::Withdrawal(transfer) },
            exclusive: is_swap && token.is_multiple_of(2),
            expires_at: if is_swap { Time::new(token as u64) } else { Time::NEVER },
            since: CommitSeq::new(token as u64 + 9),
        }
    }

    /// What the journal has of the commit that made the hold.
    fn record(hold: &Hold) -> Vec<u8> {
        let command = match hold.purpose.clone() {
            Purpose::Swap(swap) => {
                let exclusive = hold.exclusive;
                Command::Prepare(Box::new(Prepare { swap, expires_in_ms: 1, exclusive }))
            }
            Purpose::Withdrawal(transfer) => Command::Withdraw(transfer),
        };
        let mut txn = Txn::new(Request::new(hold.token.request(), command), 0, 1).unwrap();
        txn.expires_at = hold.expires_at;
        let after = txn.row_ops().map(|op| Balance { available: Amount::ZERO, held: op.amount });
        let mut builder = BlockBuilder::new();
        builder.begin(BlockNumber::new(1), hold.since, BlockHash::default());
        builder.commit(&txn, after);
        let block = builder.finish(Time::new(1), vec![]);
        let mut found = Vec::new();
        block.visit_marks(|_, mark| match mark {
            Mark::Made { token, record } if token == hold.token => found = record.to_vec(),
            other => panic!("not the hold: {other:?}"),
        });
        found
    }

    proptest! {
        #[test]
        fn rows_are_the_holds_still_open(
            folds in prop::collection::vec(prop::collection::vec(0..20_u128, 0..30), 1..5),
        ) {
            let (mut fold, mut rows, mut open) = (HoldFold::new(), BTreeMap::new(), BTreeMap::new());
            let mut used = std::collections::BTreeSet::new();
            for steps in folds {
                for token in steps {
                    // The first mention makes it, the second one ends it.
                    let hold = sample(token);
                    if open.remove(&hold.token).is_some() {
                        fold.ended(hold.token);
                    } else if used.insert(token) {
                        open.insert(hold.token, hold.clone());
                        fold.made(hold.token, hold.since, &record(&hold));
                    }
                }
                let mut last_key = Vec::new();
                let changed = fold.finish(|key, value| {
                    assert!(last_key[..] < *key, "keys ascend");
                    last_key = key.to_vec();
                    match value {
                        Some(value) => {
                            let added = rows.insert(key.to_vec(), value.to_vec());
                            assert_eq!(added, None, "a row is written once");
                        }
                        None => drop(rows.remove(key).expect("only what is there is deleted")),
                    }
                    Ok::<(), ()>(())
                });
                prop_assert_eq!(changed, Ok(()));
                prop_assert!(fold.is_empty());
                let found = rows.iter().map(|(key, value)| decode(key, value).expect("intact"));
                prop_assert!(found.eq(open.values().cloned()));
            }
        }

        #[test]
        fn damaged_rows_are_refused_without_a_panic(value in prop::collection::vec(any::<u8>(), 0..60)) {
            let key = keys::hold(Token::of(RequestId::new(1)));
            let _ = decode(&key, &value);
            let _ = decode(&value, &value);
        }
    }

    #[test]
    fn every_kind_of_hold_comes_back() {
        for token in 0..12 {
            let (hold, mut value) = (sample(token), Vec::new());
            encode(hold.clone(), &mut value);
            assert_eq!(decode(&keys::hold(hold.token), &value), Ok(hold));
            value.push(0);
            decode(&keys::hold(Token::default()), &value).expect_err("too long");
        }
    }

    #[test]
    fn what_is_set_aside_is_the_netted_debits() {
        let key = |account, asset| BalanceKey {
            account: AccountId::new(account),
            asset: AssetId::new(asset),
        };
        // Account 2 gets 3 and passes 1 on: nothing of its own is set aside in asset 0.
        let swap = set_aside(&sample(2)).unwrap();
        assert_eq!(swap[..], [(key(1, 0), Amount::new(3)), (key(2, 1), Amount::new(5))]);
        let withdrawal = set_aside(&sample(0)).unwrap();
        assert_eq!(withdrawal[..], [(key(3, 1), Amount::new(1))]);
    }
}
