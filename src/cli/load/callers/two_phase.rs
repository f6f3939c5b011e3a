//! Two requests a swap: its amounts are set aside, and when that is durable they are moved.
//!
//! A swap has settled when its commit is answered. One that cannot be prepared was refused, and
//! has no second request.

use crate::cli::load::target::{Replies, Reply};
use crate::cli::load::turns::Turn;
use crate::cli::load::workload::{ClientWorkload, PlannedSwap};
use crate::error::Error;
use crate::request::{Action, Command, Prepare, Request, Resolve};
use crate::types::Token;

use super::{Caller, now_nanos, unix_millis};

/// How long a prepared swap stands: far longer than any answer takes.
const EXPIRES_IN_MS: u64 = 60_000;

/// A caller that prepares a batch of swaps, and commits what could be prepared.
///
/// # Errors
/// Whatever ended the engine first.
pub(super) async fn run(mut caller: Caller) -> Result<(), Error> {
    let mut planned = Vec::new();
    while let Some(Turn { swaps, due_nanos }) = caller.turns.next().await {
        planned.clear();
        planned.extend(caller.workload.plan_batch(swaps));
        let prepares = prepares(&planned, &mut caller.workload);
        let tokens: Vec<_> = prepares.iter().map(|request| Token::of(request.id)).collect();
        let due_nanos = due_nanos.unwrap_or_else(now_nanos);
        let answers = caller.line.submit(prepares).await?;
        let commits = caller.prepared(due_nanos, &answers, &planned, &tokens);
        let answers = caller.line.submit(commits).await?;
        caller.committed(due_nanos, &answers);
    }
    Ok(())
}

fn prepares(planned: &[PlannedSwap], workload: &mut ClientWorkload) -> Vec<Request> {
    let unix_millis = unix_millis();
    let prepare = |swap: &PlannedSwap| {
        let prepare = Prepare { swap: swap.swap(), expires_in_ms: EXPIRES_IN_MS, exclusive: false };
        Request::new(workload.other_id(unix_millis), Command::Prepare(Box::new(prepare)))
    };
    planned.iter().map(prepare).collect()
}

impl Caller {
    /// Counts what was refused; what was not is to be committed.
    fn prepared(
        &mut self,
        due_nanos: u64,
        answers: &Replies,
        planned: &[PlannedSwap],
        tokens: &[Token],
    ) -> Vec<Request> {
        let (answered_nanos, unix_millis) = (now_nanos(), unix_millis());
        let Self { tally, workload, .. } = self;
        let mut tally = super::lock(tally);
        let mut commits = Vec::with_capacity(planned.len());
        for (index, token) in tokens.iter().copied().enumerate() {
            match answers.reply(index) {
                Reply::Settled(_) => {
                    let commit = Command::Resolve(Resolve { token, action: Action::Commit });
                    commits.push(Request::new(workload.other_id(unix_millis), commit));
                }
                Reply::Refused(code, reject) => {
                    let planned = workload.is_tight().then_some(&planned[index]);
                    tally.refused(code, reject, planned);
                }
            }
        }
        tally.commits += commits.len() as u64;
        tally.took(due_nanos, answered_nanos, (planned.len() - commits.len()) as u64);
        tally.cross_shard += workload.take_cross_shard();
        commits
    }

    /// Counts what settled: all of it, unless a hold was lost or has expired.
    fn committed(&self, due_nanos: u64, answers: &Replies) {
        let answered_nanos = now_nanos();
        let mut tally = self.tally();
        for index in 0..answers.len() {
            match answers.reply(index) {
                Reply::Settled(_) => {
                    tally.commits += 1;
                    tally.settled += 1;
                }
                Reply::Refused(code, reject) => tally.refused(code, reject, None),
            }
        }
        tally.took(due_nanos, answered_nanos, answers.len() as u64);
    }
}
