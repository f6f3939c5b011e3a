//! A failure, made smaller: fewer callers, fewer things that they do, fewer that go wrong, for as
//! long as it fails in the same place.

use std::any::Any;
use std::cell::{Cell, RefCell};
use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::coverage::Coverage;
use crate::disk::is_crash;
use crate::run;
use crate::world::Plan;

/// Worlds that are tried, at most, to make one smaller.
const TRIES_MAX: usize = 400;
/// The end of a trace is shown.
const TRACE_LINES_MAX: usize = 150;

thread_local! {
    /// Where the last panic of this thread was.
    static PLACE: RefCell<String> = const { RefCell::new(String::new()) };
    /// Whether this thread is in a world.
    static INSIDE: Cell<bool> = const { Cell::new(false) };
}

/// A world that was wrong.
pub struct Failure {
    pub plan: Plan,
    /// What was said.
    pub message: String,
    /// Which line said so.
    pub place: String,
}

/// Remembers where a panic is, and says nothing: worlds end in many.
pub fn hush() {
    std::panic::set_hook(Box::new(|info| {
        let place = info.location().map(ToString::to_string).unwrap_or_default();
        PLACE.set(place.clone());
        // What happens in a world is told once it was made smaller.
        if !INSIDE.get() {
            eprintln!("{info}");
        }
    }));
}

/// Runs a world; says how it was wrong.
pub fn try_run(plan: Plan) -> Result<(Coverage, u64), Failure> {
    let again = plan.clone();
    INSIDE.set(true);
    let ran = catch_unwind(AssertUnwindSafe(|| run(plan, None)));
    INSIDE.set(false);
    ran.map_err(|panic| {
        let place = PLACE.take();
        Failure { plan: again, message: message(&*panic), place }
    })
}

fn message(panic: &(dyn Any + Send)) -> String {
    if is_crash(panic) {
        return "a crash that nobody caught".into();
    }
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("a panic").into()
}

impl Failure {
    /// The smallest world found that fails in the same line.
    pub fn shrink(self) -> Self {
        let mut smallest = self;
        let mut tries = 0;
        loop {
            let before = tries;
            let smaller = candidates(&smallest.plan).into_iter().find_map(|plan| {
                tries += 1;
                let failure = try_run(plan).err()?;
                (failure.place == smallest.place).then_some(failure)
            });
            match smaller {
                Some(failure) if tries < TRIES_MAX => smallest = failure,
                _ => return smallest,
            }
            assert!(tries > before, "something was tried");
        }
    }

    /// Shows the seed and the trace of the smallest world that fails so, and fails.
    pub fn report(self) -> ! {
        let seed = self.plan.seed;
        eprintln!("seed {seed} failed at {}:\n{}\n", self.place, self.message);
        let smallest = self.shrink();
        let mut trace = Vec::new();
        let again = smallest.plan.clone();
        INSIDE.set(true);
        let _ = catch_unwind(AssertUnwindSafe(|| run(again, Some(&mut trace))));
        INSIDE.set(false);
        let skipped = trace.len().saturating_sub(TRACE_LINES_MAX);
        eprintln!("the smallest world that fails there: {:?}", smallest.plan);
        eprintln!("its last steps ({skipped} before them):");
        for line in &trace[skipped..] {
            eprintln!("  {line}");
        }
        eprintln!("{}: {}\nreplay it with: make sim SEED={seed}", smallest.place, smallest.message);
        panic!("seed {seed} failed");
    }
}

/// Worlds that are a little smaller.
fn candidates(plan: &Plan) -> Vec<Plan> {
    let mut smaller = Vec::new();
    for calm in 0..4 {
        let mut calmer = plan.clone();
        let switch = match calm {
            0 => &mut calmer.power,
            1 => &mut calmer.failures,
            2 => &mut calmer.jumps,
            _ => &mut calmer.crashes,
        };
        if std::mem::take(switch) {
            smaller.push(calmer);
        }
    }
    if plan.clients > 1 {
        smaller.push(Plan { clients: plan.clients - 1, ..plan.clone() });
    }
    let count = plan.wants.len();
    for part in [2, 4, 8, 16, 32, 128] {
        let size = count.div_ceil(part).max(1);
        for from in (0..count).step_by(size) {
            let mut wants = plan.wants.clone();
            wants.drain(from..(from + size).min(count));
            smaller.push(Plan { wants, ..plan.clone() });
        }
        if size == 1 {
            break;
        }
    }
    smaller
}
