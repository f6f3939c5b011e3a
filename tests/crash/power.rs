//! The power fails: a child is killed at a random moment, and what its disk had not been told to
//! sync is lost, in every way that is allowed ([`crate::disk`]).
//!
//! Each venue begins with nothing, so its first children lose their power while they make the data
//! directory. Small folds and large values keep the derived families, their sorted files and the
//! manifest busy at the moment of the loss.

use rand::Rng;
use rand::rngs::SmallRng;
use std::path::PathBuf;
use std::time::Duration;

use crosslatch::engine::{Durability, Engine, Known};

use crate::disk::Disk;
use crate::loss::{Manner, Tally};
use crate::plan::Plan;
use crate::support::{in_time, seed};
use crate::venue::{Counts, Venue};
use crate::watch::{Heard, Moment, run_and_kill};
use crate::{child, load, number_from, shim};

const TEST: &str = "power::after_a_power_loss_nothing_synced_is_missed";
const TEST_FIRST: &str = "power::the_first_answers_of_a_new_directory_survive";
const TEST_OFF: &str = "power::without_syncs_a_power_loss_is_noticed";
const LOSSES: usize = 16;

/// Where a child's disk is, and what keeps account of it.
struct Machine {
    library: PathBuf,
    room: PathBuf,
    /// Over all losses.
    tally: Tally,
    /// Files that children changed.
    changed: usize,
    /// Backups that were whole afterwards.
    backups: usize,
}

impl Machine {
    fn new(library: PathBuf, venue: &Venue) -> Self {
        Self { library, room: venue.room(), tally: Tally::default(), changed: 0, backups: 0 }
    }

    /// Runs a child until the moment has come, and takes the power away.
    fn run(
        &mut self,
        test: &str,
        plan: Plan,
        (moment, die_at): (Moment, usize),
        manner: Option<Manner>,
        rng: &mut SmallRng,
    ) -> Heard {
        let [root, kept, log] = ["disk", "kept", "log"].map(|name| self.room.join(name));
        let mut disk = Disk::before(&root, &kept);
        let environment = shim::environment(&self.library, &root, &log, die_at);
        let heard = run_and_kill(test, plan, moment, &environment);
        // A child that was killed before it began has made none.
        if log.exists() {
            disk.replay(shim::read(&log));
            std::fs::remove_file(&log).expect("it is there");
        }
        self.changed += disk.check();
        self.tally.add(disk.lose_power(manner, rng));
        heard
    }
}

/// When the power fails: at a moment, or at an event of the disk (0 is none). Most often early, and
/// now and then so late that folds have become sorted files.
fn some_moment(rng: &mut SmallRng) -> (Moment, usize) {
    let moment = match rng.random_range(0..20) {
        0 => Moment::Said(rng.random_range(500_000..900_000)),
        1..4 => Moment::Said(rng.random_range(30_000..150_000)),
        4..7 => Moment::Starting(Duration::from_micros(rng.random_range(0..250_000))),
        7..10 => return (Moment::Never, rng.random_range(1..400)),
        10..13 => return (Moment::Never, rng.random_range(400..3_000)),
        _ => Moment::some(rng),
    };
    (moment, 0)
}

fn some_manner(rng: &mut SmallRng) -> Option<Manner> {
    Manner::ALL.get(rng.random_range(0..6)).copied()
}

/// Takes the power from one child, or from several without a look in between.
fn lose(venue: &mut Venue, machine: &mut Machine) -> Vec<Heard> {
    let mut rng = venue.rng.clone();
    let children = if venue.is_open() { [1, 1, 1, 2, 3][rng.random_range(0..5)] } else { 1 };
    let dead = (0..children)
        .map(|_| {
            let [large_values, backs_up] = [0.2, 0.1].map(|often| rng.random_bool(often));
            let plan = Plan { large_values, backs_up, ..venue.plan() };
            let late = Moment::Said(rng.random_range(100_000..400_000));
            let moment = if backs_up { (late, 0) } else { some_moment(&mut rng) };
            let manner = some_manner(&mut rng);
            eprintln!("{moment:?}, {manner:?}, folds of {}", plan.fold_requests_max);
            let heard = machine.run(TEST, plan, moment, manner, &mut rng);
            venue.remember(&heard);
            machine.backups += venue.check_backups(&heard);
            heard
        })
        .collect();
    venue.rng = rng;
    dead
}

/// So many losses of one venue, one after another.
fn one_venue(seed: u64, library: PathBuf, losses: usize) -> (usize, Counts, Machine) {
    let mut venue = Venue::new(seed);
    let mut machine = Machine::new(library, &venue);
    let mut lost = 0;
    while lost < losses {
        let dead = lose(&mut venue, &mut machine);
        lost += dead.len();
        venue = in_time(move || {
            venue.look(&dead);
            venue
        });
    }
    let counts = venue.counts;
    in_time(move || venue.end());
    assert!(machine.changed > 0, "the shim saw nothing");
    (lost, counts, machine)
}

#[test]
fn after_a_power_loss_nothing_synced_is_missed() {
    if let Some(plan) = child::part() {
        return load::child_main(&Plan::from_text(&plan));
    }
    let tools = crate::support::scratch();
    let Some(library) = shim::build(tools.path()) else { return };
    let (losses, seed) = (number_from("CROSSLATCH_POWER_LOSSES", LOSSES), seed(20_261_123));
    let (mut lost, mut venues, mut backups, mut counts) = (0, 0, 0, Counts::default());
    let mut tally = Tally::default();
    while lost < losses {
        let lives = [1, 3, 6, 12, 30][venues as usize % 5];
        let lives = lives.min(losses - lost);
        let (more, of, machine) = one_venue(seed + venues, library.clone(), lives);
        (lost, venues, backups) = (lost + more, venues + 1, backups + machine.backups);
        counts.add(of);
        tally.add(machine.tally);
        eprintln!(
            "{lost} power losses of {venues} venues: {counts:?}, {tally:?}, {backups} backups"
        );
    }
    assert!(counts.acknowledged > 0, "nobody was answered: the test tested nothing");
    assert!(counts.missing > 0, "nothing was in flight at any loss");
    let Tally { bytes, pieces, names, .. } = &tally;
    assert!(*bytes > 0 && pieces[0] > 0 && names[0] > 0, "nothing was lost: {tally:?}");
    assert!(pieces[1] > 0 && names[1] > 0, "nothing arrived by itself: {tally:?}");
}

/// Where everything that could be lost is: also that the data directory is there, and the database
/// in it.
#[test]
fn the_first_answers_of_a_new_directory_survive() {
    if let Some(plan) = child::part() {
        return load::child_main(&Plan::from_text(&plan));
    }
    let tools = crate::support::scratch();
    let Some(library) = shim::build(tools.path()) else { return };
    let mut venue = Venue::new(seed(20_261_126));
    let mut machine = Machine::new(library, &venue);
    let (plan, mut rng) = (venue.plan(), venue.rng.clone());
    let said = (Moment::Said(4_000), 0);
    let heard = machine.run(TEST_FIRST, plan, said, Some(Manner::Whole), &mut rng);
    assert!(!heard.told.is_empty(), "it said 4,000 bytes");
    venue.remember(&heard);
    in_time(move || {
        venue.look(&[heard]);
        venue.end();
    });
}

/// Without syncs the same loss takes what was acknowledged, or keeps the engine from starting: so
/// what the other test finds to be there is there because it was synced.
#[test]
fn without_syncs_a_power_loss_is_noticed() {
    if let Some(plan) = child::part() {
        return load::child_main(&Plan::from_text(&plan));
    }
    let tools = crate::support::scratch();
    let Some(library) = shim::build(tools.path()) else { return };
    let mut venue = Venue::new(seed(20_261_124));
    let mut machine = Machine::new(library, &venue);
    let mut rng = venue.rng.clone();
    let plan = Plan { durability: Durability::Off, ..venue.plan() };
    let said = (Moment::Said(20_000), 0);
    let heard = machine.run(TEST_OFF, plan.clone(), said, Some(Manner::Whole), &mut rng);
    assert!(!heard.told.is_empty(), "it said 20,000 bytes");
    in_time(move || match Engine::start(plan.options()) {
        Err(error) => eprintln!("it does not start: {error}"),
        Ok(engine) => {
            let known = |number: &&u64| {
                let request = heard.plan.request(**number);
                matches!(engine.known(request.id), Ok(Known::Outcome(_)))
            };
            let there = heard.told.keys().filter(known).count();
            eprintln!("of {} acknowledged {there} are there", heard.told.len());
            assert!(there < heard.told.len(), "nothing was lost: the shim does nothing");
            engine.stop().expect("it stops");
        }
    });
}
