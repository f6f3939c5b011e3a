//! External references of deposits: each is credited once an asset. Pure.
//!
//! A reference is known here from when its deposit is sequenced until the store can find it; a
//! second deposit with it waits while the first is undecided.

use std::collections::VecDeque;

use foldhash::fast::RandomState;
use hashbrown::HashMap;

use super::ids::SeenBefore;
use crate::message::TxnRef;
use crate::request::Transfer;
use crate::types::{AssetId, CommitSeq};

/// An asset, and what stands for the reference.
type Reference = (AssetId, u128);

/// What is known of a reference.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Credited {
    /// It was credited under that seq.
    At(CommitSeq),
    /// The deposit at that place has it, and is not decided.
    Undecided(TxnRef),
}

/// The references of deposits that the store may not find yet.
#[derive(Default)]
pub(super) struct Credits {
    known: HashMap<Reference, Credited, RandomState>,
    /// Of those that are credited, in the order of their seqs.
    credited: VecDeque<(Reference, CommitSeq)>,
}

impl Credits {
    /// What is known of a deposit's reference; `None` for one that was never seen, or is empty.
    ///
    /// # Errors
    /// Why the store cannot say.
    pub(super) fn find(
        &self,
        to: &Transfer,
        store: &impl SeenBefore,
    ) -> Result<Option<Credited>, String> {
        let Some(reference) = to.reference_hash() else {
            return Ok(None);
        };
        match self.known.get(&(to.asset, reference)) {
            Some(known) => Ok(Some(*known)),
            None => Ok(store.credited(to.asset, reference)?.map(Credited::At)),
        }
    }

    /// A deposit is sequenced at that place.
    pub(super) fn begin(&mut self, to: &Transfer, at: TxnRef) {
        if let Some(reference) = to.reference_hash() {
            self.known.insert((to.asset, reference), Credited::Undecided(at));
        }
    }

    /// A deposit is committed.
    pub(super) fn settled(&mut self, to: &Transfer, seq: CommitSeq) {
        if let Some(reference) = to.reference_hash() {
            let reference = (to.asset, reference);
            self.known.insert(reference, Credited::At(seq));
            self.credited.push_back((reference, seq));
        }
    }

    /// A deposit that was begun is refused: its reference is free.
    pub(super) fn refused(&mut self, to: &Transfer, at: TxnRef) {
        if let Some(reference) = to.reference_hash() {
            let reference = (to.asset, reference);
            if self.known.get(&reference) == Some(&Credited::Undecided(at)) {
                self.known.remove(&reference);
            }
        }
    }

    /// Forgets what the store can find: everything up to that seq.
    pub(super) fn forget_through(&mut self, applied: CommitSeq) {
        while let Some((reference, _)) =
            self.credited.front().copied().filter(|(_, seq)| *seq <= applied)
        {
            self.credited.pop_front();
            self.known.remove(&reference);
        }
    }
}
