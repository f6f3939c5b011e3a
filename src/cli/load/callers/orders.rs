//! One request an order, an amendment or a cancellation.
//!
//! A caller cancels and amends orders of its own that it was told of: it has one submission in flight,
//! so those of earlier ones.

use crate::cli::load::flow::ClientFlow;
use crate::cli::load::tally::told_places;
use crate::cli::load::turns::Turn;
use crate::error::Error;

use super::{Caller, now_nanos, unix_millis};

/// A caller that trades.
///
/// # Errors
/// Whatever ended the engine first.
pub(super) async fn run(mut caller: Caller) -> Result<(), Error> {
    let mut flow = ClientFlow::new(&caller.workload, caller.clients, caller.batch);
    let mut noted = Vec::new();
    while let Some(Turn { swaps, due_nanos }) = caller.turns.next().await {
        let requests = flow.submission(swaps, unix_millis());
        noted.clear();
        noted.extend(told_places(requests.len()).map(|place| (place, requests[place].id)));
        let due_nanos = due_nanos.unwrap_or_else(now_nanos);
        let answers = caller.line.submit(requests).await?;
        let answered_nanos = now_nanos();
        flow.answered(&answers);
        let mut tally = caller.tally();
        tally.took(due_nanos, answered_nanos, answers.len() as u64);
        tally.traded(&answers, flow.last());
        tally.was_told(&answers, &noted);
    }
    Ok(())
}
