//! The README's tour, word for word: every command in the `console` blocks of its section
//! `Five minutes` is run, and must print what the README says that it prints. So are the commands
//! of `From the command line`, which must settle their swap.
//!
//! `make run` starts the built binary on an empty directory (the same one when it comes again),
//! `kill -9` kills it; the rest is run by a shell. Times, and ids that the server chose, may differ.

#[path = "support/http.rs"]
#[expect(dead_code, reason = "here curl is the client")]
mod http;
#[path = "support/process.rs"]
#[expect(dead_code, reason = "no server here runs on a small disk")]
mod process;

use std::process::Command;

use process::Server;

/// Where the README's server listens.
const ADDRESS: &str = "127.0.0.1:7400";
/// Where gRPC is answered in it.
const GRPC_ADDRESS: &str = "127.0.0.1:7401";

#[derive(Debug, Default, PartialEq, Eq)]
struct Step {
    command: String,
    prints: String,
}

/// A server on one directory, and a shell.
struct Terminals {
    data: tempfile::TempDir,
    server: Option<Server>,
    /// Commands that define something, for the shells of those after them.
    defined: String,
}

impl Terminals {
    fn run(&mut self, command: &str) -> String {
        if command == "make run" {
            let server = self.server.insert(Server::start(self.data.path()));
            let data = self.data.path().to_str().expect("a plain path");
            let here = server.address.to_string();
            let ready = server.ready.replace(&server.grpc.to_string(), GRPC_ADDRESS);
            return ready.replace(data, "./data").replace(&here, ADDRESS) + "\n";
        }
        if command.starts_with("kill -9 ") {
            self.server.take().expect("it runs").kill();
            return String::new();
        }
        if command.contains("() {") {
            self.defined += &format!("{command}\n");
            return String::new();
        }
        let here = self.server.as_ref().expect("it runs").address.to_string();
        let script = format!("{}{command}", self.defined).replace(ADDRESS, &here);
        let done = Command::new("sh").args(["-c", &script]).output().expect("a shell");
        assert!(done.status.success(), "{command}: {done:?}");
        String::from_utf8(done.stdout).expect("text")
    }
}

#[test]
fn the_tour_of_the_readme_works_word_for_word() {
    let readme = concat!(env!("CARGO_MANIFEST_DIR"), "/README.md");
    let readme = std::fs::read_to_string(readme).expect("README.md");
    let (_, tour) = readme.split_once("\n## Five minutes\n").expect("README.md has a tour");
    let steps = steps_of(tour.split("\n## ").next().unwrap_or_default());
    assert!(steps.iter().any(|it| it.command.contains("/v1/swaps")), "README.md has no tour");
    let data = tempfile::tempdir().expect("a directory");
    let mut terminals = Terminals { data, server: None, defined: String::new() };
    for Step { command, prints } in steps {
        let printed = terminals.run(&command);
        let (is, should) = (settled(&printed, &command), settled(&prints, &command));
        assert_eq!(is, should, "\n$ {command}\nprinted\n{printed}");
    }
}

#[test]
fn the_command_line_of_the_readme_settles_a_swap() {
    let readme = concat!(env!("CARGO_MANIFEST_DIR"), "/README.md");
    let readme = std::fs::read_to_string(readme).expect("README.md");
    let (_, rest) = readme.split_once("\n### From the command line\n").expect("it is there");
    let script = rest.split("```\n").nth(1).expect("a block");
    let data = tempfile::tempdir().expect("a directory");
    let server = Server::start(data.path());
    let mut said = String::new();
    for line in script.lines().filter_map(|line| line.strip_prefix("crosslatch ")) {
        let args: Vec<&str> = line.split(' ').collect();
        let url = format!("http://{}", server.address);
        let done = process::command(&args).env("CROSSLATCH_URL", url).output().expect("it starts");
        assert!(done.status.success(), "{line}: {done:?}");
        said += &String::from_utf8(done.stdout).expect("text");
    }
    assert!(rest.contains("`settled at seq 7`") && said.contains("settled at seq 7, 20"), "{said}");
    assert!(said.ends_with("SOL    40000000000          0     7\n"), "{said}");
}

/// The commands of all `console` blocks, each with what it prints.
/// A command goes on while its quotes are open.
fn steps_of(markdown: &str) -> Vec<Step> {
    let mut steps: Vec<Step> = Vec::new();
    let mut inside = false;
    for line in markdown.lines() {
        match (line, inside) {
            ("```console", _) => inside = true,
            ("```", _) => inside = false,
            (line, true) => take_line(&mut steps, line),
            _ => {}
        }
    }
    steps
}

fn take_line(steps: &mut Vec<Step>, line: &str) {
    if let Some(command) = line.strip_prefix("$ ") {
        steps.push(Step { command: command.into(), prints: String::new() });
        return;
    }
    let step = steps.last_mut().expect("a block starts with a command");
    let goes_on = step.prints.is_empty() && step.command.matches('\'').count() % 2 == 1;
    let text = if goes_on { &mut step.command } else { &mut step.prints };
    if goes_on {
        text.push('\n');
        text.push_str(line);
    } else {
        text.push_str(line);
        text.push('\n');
    }
}

/// `text` without what differs from run to run: times, and ids that `command` does not name.
fn settled(text: &str, command: &str) -> String {
    let mut out = String::new();
    for (place, piece) in text.split('"').enumerate() {
        let changes = is_time(piece) || is_uuid(piece) && !command.contains(piece);
        out += if place > 0 { "\"" } else { "" };
        out += if changes { "..." } else { piece };
    }
    out
}

fn is_time(text: &str) -> bool {
    text.len() == "2026-01-31T12:00:00.000000Z".len()
        && text.ends_with('Z')
        && text.as_bytes()[10] == b'T'
}

fn is_uuid(text: &str) -> bool {
    text.len() == 36 && text.bytes().all(|byte| byte == b'-' || byte.is_ascii_hexdigit())
}

#[test]
fn commands_are_told_from_what_they_print() {
    let markdown = "no\n```console\n$ a '{\n  1}'\n{\"b\": 2}\n$ c\n```\n```sh\n$ d\n```\n";
    let step =
        |command: &str, prints: &str| Step { command: command.into(), prints: prints.into() };
    assert_eq!(steps_of(markdown), [step("a '{\n  1}'", "{\"b\": 2}\n"), step("c", "")]);
}

#[test]
fn only_what_nobody_can_foresee_may_differ() {
    let id = "0198f000-0000-7000-8000-000000000001";
    let text = format!("{{\"id\":\"{id}\",\"time\":\"2026-01-31T12:00:00.000000Z\",\"n\":\"7\"}}");
    assert_eq!(settled(&text, ""), "{\"id\":\"...\",\"time\":\"...\",\"n\":\"7\"}");
    assert!(settled(&text, id).contains(id));
}
