//! `POST /v1/backups`: a proven copy of the data directory, on the server's own file system.
//!
//! A backup may take longer than a connection lives on which nothing moves. So who asks is told
//! `pending` after a while, and asks the same again, to wait for the rest of the same backup:
//!
//! ```text
//! POST {"to": "/backups/monday"}   ─► 202 {"status": "pending", ...}    it goes on
//! POST {"to": "/backups/monday"}   ─► 200 {"status": "done", "seq": ..., "verified": true}
//! ```
//!
//! It goes on as well if nobody waits. What came of it is kept until it was told once.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::http::StatusCode;
use axum::response::Response;
use serde::Serialize;
use tokio::sync::watch;
use utoipa::ToSchema;

use crate::engine::Engine;
use crate::error::{Error, Malformed};
use crate::store::backup::BackupReport;

use super::extract::{JsonBody, State};
use super::json;
use super::openapi::schemas::{self, Digits, Finished, Seq};
use super::problem::Problem;
use super::receipt;
use super::state::App;

/// After what time a caller is told to ask again: well before an idle connection is closed.
const WAIT: Duration = Duration::from_secs(30);

/// The one backup that is being made, or was made and not yet told of.
#[derive(Clone, Default)]
pub(super) struct Backups(Arc<Mutex<Option<Job>>>);

/// The result to be.
type Coming = watch::Receiver<Option<Result<BackupReport, Error>>>;

/// A backup that somebody asked for.
#[derive(Clone)]
struct Job {
    to: PathBuf,
    /// `None` until it is over. Closed without a result, it failed in a way that nobody foresaw.
    result: Coming,
}

impl Job {
    fn is_over(&self) -> bool {
        self.result.borrow().is_some() || self.result.has_changed().is_err()
    }
}

#[derive(Serialize, ToSchema)]
#[schema(as = BackupPending)]
pub(super) struct Pending {
    #[schema(value_type = schemas::Pending)]
    status: &'static str,
    #[schema(value_type = String)]
    to: PathBuf,
}

#[derive(Serialize, ToSchema)]
#[schema(as = Backup)]
pub(super) struct Done {
    #[schema(value_type = Finished)]
    status: &'static str,
    #[schema(value_type = String)]
    to: PathBuf,
    /// Everything up to this is in it.
    #[schema(value_type = Seq)]
    seq: String,
    #[schema(value_type = Digits)]
    block: String,
    bytes: u64,
    verified: bool,
}

/// `{to}` → `{status, to, seq, block, bytes, verified}` once it is proven.
pub(super) async fn post(State(app): State<App>, body: JsonBody) -> Result<Response, Problem> {
    let to = read(&body)?;
    let Some(BackupReport { to, end, bytes, .. }) = make(&app, to.clone()).await? else {
        let pending = Pending { status: "pending", to };
        return Ok(receipt::json(StatusCode::ACCEPTED, &pending));
    };
    let (seq, block) = (end.seq.to_string(), end.block.to_string());
    let done = Done { status: "done", to, seq, block, bytes, verified: true };
    Ok(receipt::json(StatusCode::OK, &done))
}

fn read(body: &JsonBody) -> Result<PathBuf, Problem> {
    let mut object = body.object()?;
    let to = PathBuf::from(object.required("to", json::text)?.into_owned());
    object.finish()?;
    Ok(to)
}

/// Waits for the backup to that directory; `None` if it takes longer, and goes on.
///
/// # Errors
/// What is wrong with the path; why there is no backup.
pub(super) async fn make(app: &App, to: PathBuf) -> Result<Option<BackupReport>, Problem> {
    if !to.is_absolute() {
        let why = "is not an absolute path on the server's file system";
        return Err(Malformed::new("to", why).into());
    }
    let engine = app.engine().clone();
    let job = app.backups().join(to, |to| begin(engine, to));
    let mut result = job.result.clone();
    let over = match tokio::time::timeout(WAIT, result.wait_for(Option::is_some)).await {
        Err(_) => return Ok(None),
        Ok(over) => over.ok().and_then(|result| result.clone()),
    };
    app.backups().told(&job);
    let failed = || Problem::new("storage", "the server failed to make the backup");
    Ok(Some(over.ok_or_else(failed)??))
}

impl Backups {
    /// The backup to that directory: the one that is known, or one that begins now.
    fn join(&self, to: PathBuf, begin: impl FnOnce(PathBuf) -> Coming) -> Job {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // One that was made, and is not there any more, is another that had the same name.
        let is_that = |job: &&Job| job.to == to && (!job.is_over() || to.exists());
        if let Some(job) = known.as_ref().filter(is_that) {
            return job.clone();
        }
        let job = Job { to: to.clone(), result: begin(to) };
        // Beside one that is being made the engine refuses another: that one stays known.
        if known.as_ref().is_none_or(Job::is_over) {
            *known = Some(job.clone());
        }
        job
    }

    /// Somebody was told what came of it.
    fn told(&self, job: &Job) {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if known.as_ref().is_some_and(|known| known.result.same_channel(&job.result)) {
            *known = None;
        }
    }
}

/// Begins a backup on a thread that may be blocked.
fn begin(engine: Engine, to: PathBuf) -> Coming {
    let (sender, result) = watch::channel(None);
    tokio::task::spawn_blocking(move || sender.send_replace(Some(engine.backup(&to))));
    result
}

#[cfg(test)]
mod tests {
    use super::*;

    type Sender = watch::Sender<Option<Result<BackupReport, Error>>>;

    /// Asks for a backup; the sender of its result, if it begins only now.
    fn ask(backups: &Backups, to: &str) -> (Job, Option<Sender>) {
        let mut begun = None;
        let job = backups.join(to.into(), |_| {
            let (sender, result) = watch::channel(None);
            begun = Some(sender);
            result
        });
        (job, begun)
    }

    fn end(sender: &Sender) {
        sender.send_replace(Some(Err(Error::Storage("full".into()))));
    }

    #[test]
    fn who_asks_again_joins_until_somebody_was_told() {
        let backups = Backups::default();
        let (job, sender) = ask(&backups, "/tmp");
        assert!(ask(&backups, "/tmp").1.is_none(), "it is being made");
        assert!(ask(&backups, "/other").1.is_some(), "the engine refuses that one");
        assert!(ask(&backups, "/tmp").1.is_none(), "it is still known");
        end(&sender.expect("begun"));
        assert!(ask(&backups, "/tmp").1.is_none(), "nobody was told");
        backups.told(&job);
        let (next, sender) = ask(&backups, "/tmp");
        backups.told(&job);
        assert!(ask(&backups, "/tmp").1.is_none(), "told of another");
        drop(sender);
        assert!(next.is_over(), "it broke off");
        assert!(ask(&backups, "/other").1.is_some());
    }

    #[test]
    fn what_was_made_and_is_gone_is_not_told_of() {
        let backups = Backups::default();
        let (_, sender) = ask(&backups, "/nowhere/at/all");
        end(&sender.expect("begun"));
        assert!(ask(&backups, "/nowhere/at/all").1.is_some());
    }
}
