//! One request a swap: both legs settle, or neither.

use crate::cli::load::turns::Turn;
use crate::error::Error;

use super::{Caller, now_nanos, unix_millis};

/// A caller that sends swaps.
///
/// # Errors
/// Whatever ended the engine first.
pub(super) async fn run(mut caller: Caller) -> Result<(), Error> {
    while let Some(Turn { swaps, due_nanos }) = caller.turns.next().await {
        let requests = caller.workload.submission(swaps, unix_millis());
        let due_nanos = due_nanos.unwrap_or_else(now_nanos);
        let answers = caller.line.submit(requests).await?;
        let answered_nanos = now_nanos();
        let Caller { tally, workload, .. } = &mut caller;
        let mut tally = super::lock(tally);
        tally.took(due_nanos, answered_nanos, answers.len() as u64);
        tally.answered(&answers, workload);
    }
    Ok(())
}
