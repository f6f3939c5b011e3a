//! The command line: one file a sub-command, one way out.
//!
//! | exit status | means |
//! |---|---|
//! | 0 | done |
//! | 1 | the request was rejected |
//! | 2 | bad usage |
//! | 3 | a check failed |
//! | 4 | the server or the store failed |

pub mod audit;
pub mod backup;
pub mod client;
pub mod completions;
pub mod config;
pub mod load;
pub mod metrics;
mod nearest;
mod notify;
pub mod openapi;
pub mod replay;
pub mod restore;
pub mod serve;
pub mod settings;
mod starting;
pub mod watch;

use std::io;
use std::process::ExitCode;

use clap::{CommandFactory, FromArgMatches, Parser, Subcommand};

use crate::error::Error;

/// Settles atomic swaps across chains: both legs latch, or neither moves.
#[derive(Debug, Parser)]
#[command(name = "crosslatch", version, propagate_version = true)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Runs the server on an embedded store.
    Serve(serve::ServeArgs),
    /// Loads an engine with swaps, shows it live, reports, and proves that nothing was lost.
    Load(load::LoadArgs),
    /// Proves offline that a data directory is whole: chain, conservation, store = journal.
    Audit(audit::AuditArgs),
    /// Makes a proven copy of a data directory, while it is served or at rest.
    Backup(backup::BackupArgs),
    /// Makes a data directory from a backup, and proves it.
    Restore(restore::RestoreArgs),
    /// Works out the state at a seq from the journal alone, and compares it with the version store.
    Replay(replay::ReplayArgs),
    /// Looks at what the server measures.
    Metrics(metrics::MetricsArgs),
    /// Writes the OpenAPI document of the server's HTTP interface.
    Openapi,
    /// Shows the settings, checks them, explains them.
    Config(config::ConfigArgs),
    /// Prints completions for a shell.
    Completions(completions::CompletionsArgs),
    /// Prints the manual page, or writes one for every subcommand.
    Man(completions::ManArgs),
    /// Shows live what a server does: rates, latencies, refusals, conflicts, lag.
    Watch(watch::WatchArgs),
    #[command(flatten)]
    Client(client::ClientCommand),
}

/// Runs the command line of this process and says with what status to exit.
pub fn run() -> ExitCode {
    // Bad usage ends here, with clap's own message and status 2.
    let matches = Cli::command().get_matches();
    let cli = Cli::from_arg_matches(&matches).unwrap_or_else(|error| error.exit());
    let done = match cli.command {
        Command::Serve(args) => serve::run(args),
        Command::Load(args) => load::run(args),
        Command::Audit(args) => audit::run(args),
        Command::Backup(args) => backup::run(args),
        Command::Restore(args) => restore::run(args),
        Command::Replay(args) => replay::run(args),
        Command::Metrics(args) => metrics::run(args),
        Command::Openapi => openapi::run(),
        Command::Config(args) => config::run(args, &matches),
        Command::Completions(args) => completions::completions(args),
        Command::Man(args) => completions::man(args),
        Command::Watch(args) => watch::run(args),
        Command::Client(command) => client::run(command),
    };
    done.unwrap_or_else(|error| {
        // `crosslatch ... | head` is no failure.
        if is_broken_pipe(&error) {
            return ExitCode::SUCCESS;
        }
        eprintln!("crosslatch: {error:#}");
        ExitCode::from(status_of(&error))
    })
}

fn is_broken_pipe(error: &anyhow::Error) -> bool {
    let io = error.downcast_ref::<io::Error>();
    io.is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe)
}

fn status_of(error: &anyhow::Error) -> u8 {
    match error.downcast_ref::<Error>() {
        Some(Error::Config(_)) => 2,
        Some(Error::Read(_) | Error::HistoryExpired { .. }) => 1,
        Some(
            Error::Overloaded { .. }
            | Error::Stopped { .. }
            | Error::Storage(_)
            | Error::Archive(_),
        )
        | None => 4,
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;
    use crate::error::Malformed;

    #[test]
    fn the_command_line_is_well_formed() {
        Cli::command().debug_assert();
    }

    #[test]
    fn statuses_tell_usage_from_failure() {
        let config = Error::Config(Malformed::new("shards", "is 0; give 1 to 64"));
        assert_eq!(status_of(&config.into()), 2);
        assert_eq!(status_of(&Error::Storage("damaged".into()).into()), 4);
        assert_eq!(status_of(&anyhow::anyhow!("anything else")), 4);
    }
}
