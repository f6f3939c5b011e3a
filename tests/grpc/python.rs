//! The Python example, as a reader of the README would run it: with stubs made of the proto file.
//!
//! It needs Python and what pip fetches; where these are not to be had it says so and is skipped, but
//! not with `CI=true`.

use std::path::{Path, PathBuf};
use std::process::Command;

use super::process::Server;

const EXAMPLE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/examples/python");

#[test]
fn the_python_example_settles_its_swaps() {
    let Some(python) = python() else {
        let why =
            "SKIPPED: no Python with grpcio; to run this test, install python3-venv and reach PyPI";
        assert!(std::env::var("CI").as_deref() != Ok("true"), "{why}");
        return eprintln!("{why}");
    };
    let data = tempfile::tempdir().expect("a directory");
    let server = Server::start(data.path());
    let example = Path::new(EXAMPLE).join("swap.py");
    let run = Command::new(python).arg(example).arg(server.grpc.to_string()).output();
    let run = run.expect("it starts");
    let said = String::from_utf8_lossy(&run.stdout).into_owned();
    assert!(run.status.success(), "{said}{}", String::from_utf8_lossy(&run.stderr));
    for expected in [
        "settled as seq 7",
        "refused as insufficient_funds: short by ",
        "batch 2: 100 settled",
        "Bob has 2000000000000000300 ETH",
        "Bob has 459999999700 SOL",
    ] {
        assert!(said.contains(expected), "no {expected:?} in:\n{said}");
    }
}

/// A Python of its own below the target directory, with what the example requires.
fn python() -> Option<PathBuf> {
    let home = Path::new(env!("CARGO_TARGET_TMPDIR")).join("python");
    let python = home.join("bin/python");
    let runs = |command: &mut Command| command.output().is_ok_and(|it| it.status.success());
    if runs(Command::new(&python).args(["-c", "import grpc, grpc_tools"])) {
        return Some(python);
    }
    let made = runs(Command::new("python3").args(["-m", "venv"]).arg(&home));
    let requirements = Path::new(EXAMPLE).join("requirements.txt");
    let mut install = Command::new(&python);
    install.args(["-m", "pip", "install", "--quiet", "--requirement"]).arg(requirements);
    (made && runs(&mut install)).then_some(python)
}
