//! Ten times what fits: what is offered beyond that is refused at once and honestly, what is accepted
//! is answered, hardly slower than without, and memory stays within what the limits say.
//!
//! * `door`: threads hand batches to the engine itself, as fast as it takes ten times its peak.
//! * `served`: many connections do that to a real server over HTTP.
//!
//! What fits is measured in the same run: phases in which callers keep the engine busy but below its
//! limit take turns with phases in which they offer ten times the rate just measured, whatever
//! the answers. Each phase is a row of windows, and rates are medians of windows. All that is asked for
//! counts as offered, and so does what is refused. Callers, who need the same cores as the engine, have
//! their requests ready and only give them new ids, so that nearly all that overload costs is the
//! engine's own.
//!
//! What fits is limited in two ways, each a test of its own. By the processors: then what is measured
//! is how much overload costs, callers included, who need the same cores; so little is asked for, and
//! the rest is told. By the disk, whose syncs are made to take 10 or 20 ms (`strace`): then callers and
//! refusals have processors enough, and the goodput must stay what it was. `CROSSLATCH_OVERLOAD_SECONDS=180
//! cargo test --release --test overload -- --nocapture --test-threads=1` takes as long for each of the
//! four, and prints what it measured.

#[path = "../support/http.rs"]
#[expect(dead_code, reason = "nobody puts or deletes here")]
mod http;
#[path = "../support/process.rs"]
#[expect(dead_code, reason = "the server here stays until it is not needed any more")]
mod process;
#[path = "../support/strace.rs"]
#[expect(dead_code, reason = "nothing that is traced ends here")]
mod strace;
#[path = "../support/mod.rs"]
#[expect(dead_code, reason = "there are no holds here, and nothing hangs")]
mod support;

mod door;
mod phases;
mod served;
