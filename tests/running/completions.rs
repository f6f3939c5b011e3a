//! Completions and manual pages know every subcommand.

use clap::CommandFactory;
use crosslatch::cli::Cli;

use super::process::output;
use super::said::run;

/// The names of all subcommands, of those within others as `market put`.
pub fn subcommands() -> Vec<String> {
    let mut names = Vec::new();
    for command in Cli::command().get_subcommands() {
        names.push(command.get_name().to_owned());
        let inner = command.get_subcommands();
        names.extend(inner.map(|inner| format!("{} {}", command.get_name(), inner.get_name())));
    }
    assert!(names.len() > 40, "{names:?}");
    names
}

#[test]
fn completions_of_every_shell_know_every_subcommand() {
    for shell in ["bash", "zsh", "fish", "powershell", "elvish"] {
        let script = run(&format!("completions {shell}")).with(0).out;
        for name in subcommands() {
            let last = name.rsplit(' ').next().expect("a word");
            assert!(script.contains(last), "{shell} does not know {name}");
        }
    }
    // What a shell says of it, where it is there.
    let script = run("completions bash").with(0).out;
    let bash = super::process::pipe_through("bash", &["-n"], &script).expect("bash is everywhere");
    assert!(bash.status.success(), "{bash:?}");
    run("completions tcsh").with(2);
}

#[test]
fn there_is_a_manual_page_for_every_subcommand() {
    let dir = tempfile::tempdir().expect("a directory");
    run(&format!("man --dir {}", dir.path().join("man1").display())).with(0);
    for name in subcommands() {
        let page = format!("man1/crosslatch-{}.1", name.replace(' ', "-"));
        let page = std::fs::read_to_string(dir.path().join(&page)).expect(&page);
        assert!(page.contains(".SH SYNOPSIS"), "{name}: {page}");
    }
    let page = String::from_utf8(output(&["man"]).stdout).expect("text");
    for command in Cli::command().get_subcommands() {
        let name = command.get_name().replace('-', "\\-");
        assert!(page.contains(&format!("crosslatch\\-{name}(1)")), "{name}: {page}");
    }
}
