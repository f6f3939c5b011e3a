//! What happened in worlds: a run that never met the hard cases proves nothing.

use std::fmt;
use std::ops::AddAssign;

use crate::disk::Deeds;
use crate::node::VoteCounts;

macro_rules! coverage {
    ($($name:ident),* $(,)?) => {
        /// How often what happened.
        #[derive(Clone, Copy, Debug, Default)]
        pub struct Coverage {
            $(pub $name: u64,)*
        }

        impl AddAssign for Coverage {
            fn add_assign(&mut self, more: Self) {
                $(self.$name += more.$name;)*
            }
        }

        impl fmt::Display for Coverage {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                $(write!(f, "{} {}, ", self.$name, stringify!($name).replace('_', " "))?;)*
                Ok(())
            }
        }

        impl Coverage {
            /// Everything was met often enough to have been tested.
            pub fn check(&self) {
                $(assert!(
                    self.$name >= 10,
                    "{}: only {} times, so it was hardly tested", stringify!($name), self.$name
                );)*
            }
        }
    };
}

coverage! {
    requests, answers, repeated, reads, impatient, overloaded,
    swaps, prepares, commits, expiries, withdrawals, transactions, conflicts, lock_timeouts, short,
    waits, late_votes, busy, locked,
    orders, amendments, cancels, cancels_of_all, ends_of_orders, trades, trades_of_many, self_trades,
    switches, halted, unknown_orders, would_take, out_of_band, named_twice, full_books,
    invalid_orders, too_dear, orders_waited_too_long, restored,
    by_key, keys, revocations, operations, forbidden, restricted, unknown_tokens, hidden,
    crashes, powers, failed_starts, jumps,
    appends, folds, killed_writes, failed_writes, slow_writes, full_disks, lost_folds, lost_groups,
    old_marks,
}

impl Coverage {
    /// Adds what the shards of one run said.
    pub fn votes(&mut self, votes: &VoteCounts) {
        self.waits += votes.waits;
        self.late_votes += votes.late;
        self.busy += votes.busy;
        self.locked += votes.locked;
    }

    /// Adds what the disk did.
    pub fn disk(&mut self, deeds: &Deeds) {
        self.appends += deeds.appends;
        self.folds += deeds.folds;
        self.killed_writes += deeds.crashes;
        self.failed_writes += deeds.failures;
        self.slow_writes += deeds.slow;
        self.full_disks += deeds.full;
        self.lost_folds += deeds.lost_folds;
        self.lost_groups += deeds.lost_groups;
        self.old_marks += deeds.old_marks;
    }
}
