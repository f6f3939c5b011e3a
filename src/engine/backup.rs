//! Backups of a running engine.

use std::path::Path;

use super::{Admitted, Engine};
use crate::error::{Error, Malformed, Reject};
use crate::store::backup::{self, BackupError, BackupReport};

/// Backups that are made at once: each reads the whole journal.
const BACKUPS_MAX: usize = 1;

impl Engine {
    /// Makes a proven copy of the data directory while everything goes on: an exact prefix of the
    /// journal with all that was acknowledged before the call. `to`: a directory that is missing or
    /// empty, and not inside the data directory.
    ///
    /// Blocks for as long as it takes to read the whole journal. Not for a tokio worker.
    ///
    /// # Errors
    /// [`Error::Read`] for a directory that cannot be used; [`Error::Overloaded`] while another backup
    /// is made; [`Error::Stopped`]; [`Error::Storage`] when the copy cannot be written, or failed its
    /// audit. There is no backup then.
    pub fn backup(&self, to: &Path) -> Result<BackupReport, Error> {
        let inner = &*self.inner;
        inner.admit(&inner.backups, 1, BACKUPS_MAX, "backups_max")?;
        let _admitted = Admitted { reads: inner.backups.clone() };
        let reached = *inner.durable.progress.subscribe().borrow();
        let Some(store) = &inner.rocks else {
            return Err(Error::Storage("this engine has no data directory to back up".into()));
        };
        backup::online(store, reached, to).map_err(|error| match error {
            BackupError::Refused { why, .. } => {
                Error::Read(Reject::Malformed(Malformed::new("to", why)))
            }
            error => Error::Storage(format!("there is no backup in {}: {error}", to.display())),
        })
    }
}
