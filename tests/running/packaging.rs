//! What is packaged: the systemd unit by systemd's own opinion, and the image's recipe by what can be
//! said without building it.

use std::path::Path;
use std::process::Command;

use super::said::run;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: &str) -> String {
    std::fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// The unit with the binary of this build in the place of the installed one.
fn unit() -> String {
    read("packaging/crosslatch.service")
        .replace("/usr/local/bin/crosslatch", env!("CARGO_BIN_EXE_crosslatch"))
}

#[test]
fn the_unit_starts_commands_that_exist_with_flags_that_exist() {
    let unit = unit();
    let lines = unit.lines().filter_map(|line| line.strip_prefix("ExecStart"));
    let commands: Vec<&str> =
        lines.filter_map(|line| line.split_once('=')).map(|it| it.1).collect();
    assert_eq!(commands.len(), 2);
    for command in commands {
        let (_, line) = command.split_once(' ').expect("arguments");
        // Flags are looked at before the one that asks for help.
        run(&format!("{line} --help")).with(0);
        for flag in line.split(' ').filter(|word| word.starts_with("--")) {
            let (subcommand, _) = line.split_once(" --").expect("a flag");
            let help = run(&format!("{subcommand} --help")).with(0).out;
            assert!(help.contains(flag), "{flag} is not in {help}");
        }
    }
}

#[test]
fn systemd_takes_the_unit_and_finds_it_locked_in() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("crosslatch.service");
    // Who it runs as is made when it is installed.
    let unit: String = unit()
        .lines()
        .filter(|line| !line.starts_with("User=") && !line.starts_with("Group="))
        .map(|line| format!("{line}\n"))
        .collect();
    std::fs::write(&path, &unit).expect("room");
    let analyze = |args: &[&str]| {
        Command::new("systemd-analyze").args(args).arg(&path).env("SYSTEMD_PAGER", "").output()
    };
    let Ok(done) = analyze(&["verify", "--man=no"]) else {
        eprintln!("SKIPPED: systemd-analyze is not installed, so the unit was not checked");
        return;
    };
    let said = String::from_utf8_lossy(&done.stderr).into_owned();
    // It also speaks of units of this machine.
    let ours: Vec<&str> = said.lines().filter(|line| line.contains("crosslatch")).collect();
    assert!(ours.is_empty(), "{said}");
    std::fs::write(&path, self::unit()).expect("room");
    let done = analyze(&["security", "--offline=yes", "--threshold=20"]).expect("it is there");
    let said = String::from_utf8_lossy(&done.stdout).into_owned();
    assert!(done.status.success(), "exposed to more than 2.0 of 10: {said}{done:?}");
    assert!(said.contains("Overall exposure level"), "{said}");
}

/// Instructions with their arguments, continued lines joined.
fn instructions() -> Vec<(String, String)> {
    let text = read("Dockerfile").replace("\\\n", " ");
    let lines = text.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
    let pairs = lines.map(|line| line.split_once(' ').expect("an instruction and more"));
    pairs.map(|(name, rest)| (name.to_owned(), rest.trim().to_owned())).collect()
}

#[test]
fn everything_that_the_image_copies_is_there_and_not_ignored() {
    let ignored = read(".dockerignore");
    let copied = instructions().into_iter().filter(|(name, _)| name == "COPY");
    let mut count = 0;
    for (_, rest) in copied.filter(|(_, rest)| !rest.starts_with("--from=")) {
        let words: Vec<&str> = rest.split_whitespace().collect();
        for source in &words[..words.len() - 1] {
            assert!(root().join(source).exists(), "{source} is copied and does not exist");
            let first = source.split('/').next().expect("a name");
            assert!(ignored.lines().any(|line| line == format!("!{first}")), "{source} is ignored");
            count += 1;
        }
    }
    assert!(count >= 6, "{count}");
    assert_eq!(ignored.lines().find(|line| !line.starts_with('#')), Some("*"));
}

#[test]
fn cargo_can_build_from_what_is_copied() {
    let dir = tempfile::tempdir().expect("a directory");
    for (_, rest) in instructions().into_iter().filter(|(name, _)| name == "COPY") {
        if rest.starts_with("--from=") || rest.contains("packaging") {
            continue;
        }
        let sources: Vec<&str> = rest.split_whitespace().collect();
        for source in &sources[..sources.len() - 1] {
            let mut copy = Command::new("cp");
            copy.arg("-r").arg(root().join(source)).arg(dir.path());
            assert!(copy.status().expect("cp is everywhere").success());
        }
    }
    // Every target that the manifest names must be there.
    let mut metadata = Command::new(env!("CARGO"));
    metadata.args(["metadata", "--offline", "--locked", "--no-deps", "--format-version=1"]);
    let done = metadata.current_dir(dir.path()).output().expect("cargo runs");
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
}

#[test]
fn the_image_is_built_as_images_should_be() {
    let all = instructions();
    let of = |name: &str| -> Vec<&str> {
        all.iter().filter(|(it, _)| it == name).map(|(_, rest)| rest.as_str()).collect()
    };
    // What it stands on is named to the version; the toolchain is new enough.
    let version = read("Cargo.toml");
    let line = version.lines().find_map(|line| line.strip_prefix("rust-version = ")).expect("one");
    assert!(of("FROM")[0].starts_with(&format!("rust:{}-", line.trim_matches('"'))), "{line}");
    assert!(of("FROM").iter().all(|image| image.contains(':') && !image.contains("latest")));
    // Nobody is root at the end, packages leave no lists, and signals reach the server itself.
    let user = of("USER");
    assert!(user.last().is_some_and(|user| *user != "root" && *user != "0"), "{user:?}");
    for run in of("RUN").iter().filter(|run| run.contains("apt-get install")) {
        assert!(
            run.contains("--no-install-recommends") && run.contains("rm -rf /var/lib/apt/lists")
        );
    }
    assert!(of("ENTRYPOINT")[0].starts_with("[\"") && of("CMD")[0].starts_with("[\""));
    assert_eq!(of("STOPSIGNAL"), ["SIGTERM"]);
    assert_eq!(of("VOLUME"), ["[\"/var/lib/crosslatch\"]"]);
    assert!(of("HEALTHCHECK")[0].ends_with("CMD [\"crosslatch\", \"status\"]"));
    // Its variables are settings that there are.
    let known = run("config show --json").with(0).out;
    for pair in of("ENV").iter().flat_map(|rest| rest.split_whitespace()) {
        let (name, _) = pair.split_once('=').expect("NAME=value");
        assert!(name == "CROSSLATCH_CONFIG" || known.contains(&format!("\"{name}\"")), "{name}");
    }
}
