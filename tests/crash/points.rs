//! Death at every named point of the engine (`crosslatch::faults::POINTS`), one after another: each
//! where it is passed for the n-th time, under the load that leads there.
//!
//! Points of the start are met by an engine that has something to recover, three times in a row:
//! a recovery that dies while it recovers what a dead recovery left.

use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

use crosslatch::faults;

use crate::plan::Plan;
use crate::support::{in_time, seed};
use crate::venue::{Counts, Venue};
use crate::watch::{Heard, Moment, run_and_kill};
use crate::{child, load, number_from};

const TEST: &str = "points::dead_at_every_named_point_nothing_is_lost";
const ROUNDS: usize = 1;
/// Deaths in a row of a start.
const STARTS: usize = 3;

/// What leads to a point.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Road {
    /// Load, and small folds.
    Work,
    /// Little load, and a stop.
    Stop,
    /// Folds so large that they become sorted files.
    Bulk,
    /// A start on nothing.
    FirstStart,
    /// A start on what a kill under load left.
    Restart,
    /// Hours pass, and the past is dropped.
    Forget,
    /// Hours pass, and the journal is archived.
    Archive,
    BackUp,
}

/// The roads to a point, by its room.
fn roads(point: &str) -> &'static [Road] {
    let (room, what) = point.split_once('.').expect("room.what");
    match room {
        "mark" => &[Road::FirstStart],
        "open" => &[Road::FirstStart, Road::Restart],
        "recover" | "start" => &[Road::Restart],
        "retention" => &[Road::Forget],
        "archive" => &[Road::Archive],
        "backup" => &[Road::BackUp],
        "fold" if what.starts_with("bulk") => &[Road::Bulk],
        "stop" => &[Road::Stop],
        _ if ["stop", "flushed"].contains(&what) => &[Road::Stop],
        _ => &[Road::Work],
    }
}

/// Everything that dies, and how it fared.
struct Deaths {
    venue: Venue,
    rng: SmallRng,
    hours: u64,
    deaths: usize,
    counts: Counts,
}

impl Deaths {
    fn new(seed: u64) -> Self {
        let rng = SmallRng::seed_from_u64(seed);
        Self { venue: Venue::new(seed), rng, hours: 0, deaths: 0, counts: Counts::default() }
    }

    /// Runs a child that dies at the point when it has passed it so often; says whether it did.
    fn run(&mut self, plan: Plan, point: &str, passes: usize) -> Heard {
        let armed = format!("{point}={passes}*off->return(kill)");
        let environment = [("FAILPOINTS", armed)];
        let heard = run_and_kill(TEST, plan, Moment::Never, &environment);
        self.venue.remember(&heard);
        self.deaths += usize::from(heard.fell);
        heard
    }

    /// Runs children until one has died there: if so many passes do not occur, fewer do.
    fn die(&mut self, point: &str, passes_max: usize, plan: impl Fn(Plan) -> Plan) -> Vec<Heard> {
        let mut passes = self.rng.random_range(0..=passes_max);
        let mut dead = Vec::new();
        loop {
            let planned = plan(self.venue.plan());
            dead.push(self.run(planned, point, passes));
            if dead[dead.len() - 1].fell {
                return dead;
            }
            assert!(passes > 0, "nobody came by {point}");
            passes /= 2;
        }
    }

    fn look(mut self, dead: Vec<Heard>) -> Self {
        in_time(move || {
            self.venue.look(&dead);
            self
        })
    }

    /// Another venue takes its place.
    fn renew(mut self) -> Self {
        let next = Venue::new(self.rng.random());
        self.counts.add(self.venue.counts);
        let mut old = std::mem::replace(&mut self.venue, next);
        in_time(move || old.end());
        self
    }

    fn take(mut self, road: Road, point: &str) -> Self {
        match road {
            Road::Work => {
                let dead = self.die(point, 12, |plan| Plan {
                    requests_max: 3_000,
                    fold_requests_max: 100,
                    ..plan
                });
                self.look(dead)
            }
            Road::Stop => {
                let dead = self.die(point, 0, |plan| Plan { requests_max: 300, ..plan });
                self.look(dead)
            }
            Road::Bulk => {
                // Of everything with many requests, or of values with few.
                let many = self.rng.random_bool(0.2);
                let dead = self.die(point, 2, |plan| Plan {
                    requests_max: if many { 45_000 } else { 8_000 },
                    fold_requests_max: if many { 20_000 } else { 3_000 },
                    large_values: !many,
                    ..plan
                });
                self.look(dead)
            }
            Road::FirstStart => {
                let mut this = self.renew();
                let dead = this.die_starting(point, Vec::new());
                this.look(dead)
            }
            Road::Restart => {
                let plan = Plan { fold_requests_max: 1_000_000, ..self.venue.plan() };
                let loaded = run_and_kill(TEST, plan, Moment::Said(20_000), &[]);
                self.venue.remember(&loaded);
                let dead = self.die_starting(point, vec![loaded]);
                self.look(dead)
            }
            Road::Forget => self.forget(point),
            Road::Archive => self.archive(point),
            Road::BackUp => self.back_up(point),
        }
    }

    /// Starts that die at the point, one after another, while there is one to die at: where some of
    /// the work outlives them, the last ones may find nothing to do.
    fn die_starting(&mut self, point: &str, mut dead: Vec<Heard>) -> Vec<Heard> {
        for _ in 0..STARTS {
            let plan = Plan { fold_requests_max: 30, requests_max: 100, ..self.venue.plan() };
            dead.push(self.run(plan, point, 0));
            if !dead[dead.len() - 1].fell {
                break;
            }
        }
        dead
    }

    /// What is there is more than an hour old when the one that dies begins to drop it.
    fn forget(mut self, point: &str) -> Self {
        self.venue.forgets = true;
        let mut dead = Vec::new();
        for _ in 0..2 {
            let plan = Plan { requests_max: 600, hours_ahead: self.hours, ..self.venue.plan() };
            let heard = run_and_kill(TEST, plan, Moment::Never, &[]);
            self.venue.remember(&heard);
            dead.push(heard);
            self.hours += 2;
        }
        let hours_ahead = self.hours;
        dead.extend(self.die(point, 0, |plan| Plan {
            requests_max: 3_000,
            hours_ahead,
            keeps_hours: 1,
            ..plan
        }));
        self.look(dead)
    }

    /// What is there is more than an hour old when the one that dies begins to archive it; the parent
    /// looks at all of it where it is.
    fn archive(mut self, point: &str) -> Self {
        let mut dead = Vec::new();
        for _ in 0..2 {
            let plan = Plan { requests_max: 600, hours_ahead: self.hours, ..self.venue.plan() };
            let heard = run_and_kill(TEST, plan, Moment::Never, &[]);
            self.venue.remember(&heard);
            dead.push(heard);
            self.hours += 2;
        }
        let hours_ahead = self.hours;
        let dying = |plan| Plan { requests_max: 3_000, hours_ahead, archives: true, ..plan };
        dead.extend(self.die(point, 0, dying));
        self.look(dead)
    }

    /// A backup is whole or none, and the venue it is made of does not care.
    fn back_up(mut self, point: &str) -> Self {
        let dead = self.die(point, 1, |plan| Plan { requests_max: 500, backs_up: true, ..plan });
        let last = &dead[dead.len() - 1];
        let whole = self.venue.check_backups(last);
        assert!(point != "backup.published" || whole > last.backed_up, "it was published");
        self.look(dead)
    }
}

#[test]
fn dead_at_every_named_point_nothing_is_lost() {
    if let Some(plan) = child::part() {
        faults::arm();
        return load::child_main(&Plan::from_text(&plan));
    }
    let rounds = number_from("CROSSLATCH_POINT_ROUNDS", ROUNDS);
    let mut deaths = Deaths::new(seed(20_261_125));
    for round in 0..rounds {
        for point in faults::POINTS {
            let before = deaths.deaths;
            for road in roads(point) {
                deaths = deaths.take(*road, point);
            }
            let died = deaths.deaths - before;
            assert!(died > 0, "nobody died at {point}");
            eprintln!("round {round}, {point}: {died} deaths");
        }
        deaths = deaths.renew();
    }
    let Deaths { deaths, counts, .. } = deaths;
    eprintln!("{deaths} deaths at {} points: {counts:?}", faults::POINTS.len());
    assert!(counts.acknowledged > 0, "nobody was answered: the test tested nothing");
    assert!(counts.silent + counts.missing > 0, "nothing was in flight at any death");
}
