//! `crosslatch completions` and `crosslatch man`: the command line for shells and for readers.
//!
//! ```text
//! crosslatch completions bash > /etc/bash_completion.d/crosslatch
//! crosslatch man --dir /usr/share/man/man1     one page a subcommand
//! ```

use std::io::{Write, stdout};
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context;
use clap::{Args, CommandFactory};
use clap_complete::Shell;

use super::Cli;

/// `crosslatch completions`.
#[derive(Debug, Args)]
pub struct CompletionsArgs {
    /// The shell.
    shell: Shell,
}

/// `crosslatch man`.
#[derive(Debug, Args)]
pub struct ManArgs {
    /// Writes a page for every subcommand there; else the first page goes to standard output.
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
}

/// Prints a shell's completions.
///
/// # Errors
/// Standard output cannot be written to.
pub fn completions(args: CompletionsArgs) -> anyhow::Result<ExitCode> {
    let mut script = Vec::new();
    // Into memory: it panics where it cannot write.
    clap_complete::generate(args.shell, &mut Cli::command(), "crosslatch", &mut script);
    print(&script)
}

/// Prints the manual page, or writes all of them.
///
/// # Errors
/// The directory or standard output cannot be written to.
pub fn man(args: ManArgs) -> anyhow::Result<ExitCode> {
    let Some(dir) = args.dir else {
        let mut page = Vec::new();
        clap_mangen::Man::new(Cli::command()).render(&mut page)?;
        return print(&page);
    };
    let written =
        std::fs::create_dir_all(&dir).and_then(|()| clap_mangen::generate_to(Cli::command(), &dir));
    written.with_context(|| format!("cannot write manual pages to {}", dir.display()))?;
    Ok(ExitCode::SUCCESS)
}

fn print(text: &[u8]) -> anyhow::Result<ExitCode> {
    let mut out = stdout().lock();
    out.write_all(text)?;
    out.flush()?;
    Ok(ExitCode::SUCCESS)
}
