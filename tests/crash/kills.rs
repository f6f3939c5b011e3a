//! Death by SIGKILL, at random moments: under load, while it starts, while it recovers.

use rand::Rng;

use crate::plan::Plan;
use crate::support::{in_time, seed};
use crate::venue::Venue;
use crate::watch::{Heard, Moment, run_and_kill};
use crate::{child, load, number_from};

const TEST: &str = "kills::killed_at_any_moment_nothing_is_lost_halved_or_doubled";
const KILLS: usize = 50;

/// Runs one child, or several without a look in between, and kills each.
fn kill(venue: &mut Venue) -> Vec<Heard> {
    let children = if venue.is_open() && venue.rng.random_bool(0.2) { 2 } else { 1 };
    (0..children)
        .map(|_| {
            let heard = run_and_kill(TEST, venue.plan(), Moment::some(&mut venue.rng), &[]);
            venue.remember(&heard);
            heard
        })
        .collect()
}

#[test]
fn killed_at_any_moment_nothing_is_lost_halved_or_doubled() {
    if let Some(plan) = child::part() {
        return load::child_main(&Plan::from_text(&plan));
    }
    let kills = number_from("CROSSLATCH_KILLS", KILLS);
    let mut venue = Venue::new(seed(20_261_122));
    let mut killed = 0;
    while killed < kills {
        let dead = kill(&mut venue);
        killed += dead.len();
        venue = in_time(move || {
            venue.look(&dead);
            venue
        });
    }
    let venue = in_time(move || {
        venue.end();
        venue
    });
    let rare = ["expire", "commit", "withdrawal_confirm", "transaction", "lock_timeout"];
    eprintln!("{:?}", venue.oracle.seen(&rare));
    eprintln!("{killed} kills: {:?}", venue.counts);
    let counts = venue.counts;
    assert!(counts.acknowledged > 0, "nobody was answered: the test tested nothing");
    assert!(counts.silent + counts.missing > 0, "nothing was in flight at any kill");
}
