//! The console and the report of a load, in a real browser: a headless Chromium, driven by `drive.mjs`.
//!
//! Debian's `chromium`, `nodejs` and `npm` have to be there (`scripts/setup.sh tests` installs them);
//! playwright-core is fetched with npm into the target directory, at one version. Where that cannot be, the
//! tests are skipped, but not with CI=true. What was seen is kept as pictures in
//! `target/tmp/console`, to be looked at.

#[expect(dead_code, reason = "the browser asks here")]
#[path = "../support/http.rs"]
mod http;
#[expect(dead_code, reason = "no server here runs on a small disk")]
#[path = "../support/process.rs"]
mod process;

use std::env;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};

use process::{Server, command, output};

/// A new one may see things otherwise, so one is kept.
const TOOL: &str = "playwright-core@1.60.0";

/// What drives the browser.
struct Browser {
    chromium: PathBuf,
    tool: PathBuf,
    pictures: PathBuf,
}

impl Browser {
    /// It, or why there is none.
    fn find() -> Option<Self> {
        let found = Self::fetch();
        if found.is_none() {
            let why = "no chromium, node or npm, or playwright-core could not be fetched";
            assert!(env::var_os("CI").is_none(), "{why}");
            eprintln!("SKIPPED: {why}, so no page was looked at");
        }
        found
    }

    fn fetch() -> Option<Self> {
        let paths: Vec<PathBuf> = env::split_paths(&env::var_os("PATH")?).collect();
        let on_path = |name: &str| paths.iter().map(|path| path.join(name)).find(|it| it.exists());
        let chromium = on_path("chromium").or_else(|| on_path("chromium-browser"))?;
        on_path("node")?;
        let target = Path::new(env!("CARGO_TARGET_TMPDIR"));
        let (tool, pictures) = (target.join(TOOL), target.join("console"));
        fs::create_dir_all(&pictures).ok()?;
        let module = tool.join("node_modules/playwright-core/package.json");
        if !module.exists() {
            // Elsewhere first: two tests may fetch it at once.
            let place = tempfile::tempdir_in(target).ok()?;
            let mut npm = Command::new("npm");
            npm.args(["install", "--silent", "--no-audit", "--no-fund", "--ignore-scripts"]);
            let done = npm.arg("--prefix").arg(place.path()).arg(TOOL).status();
            done.ok().filter(ExitStatus::success)?;
            if fs::rename(place.path(), &tool).is_ok() {
                let _ = place.keep();
            }
        }
        module.exists().then_some(Self { chromium, tool, pictures })
    }

    /// Runs a scenario; `on` does what it asks for.
    fn drive(&self, scenario: &str, url: &str, tokens: &[&str], mut on: impl FnMut(&str)) {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/console/drive.mjs");
        let mut node = Command::new("node");
        node.arg(script).args([scenario, url]).arg(&self.pictures).args(tokens);
        node.env("PLAYWRIGHT", &self.tool).env("CHROMIUM", &self.chromium);
        node.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = node.spawn().expect("node starts");
        let mut say = child.stdin.take().expect("piped");
        for line in BufReader::new(child.stdout.take().expect("piped")).lines() {
            on(&line.expect("text"));
            writeln!(say, "done").expect("it listens");
        }
        let status = child.wait().expect("it ran");
        assert!(status.success(), "{scenario}: see above, and {}", self.pictures.display());
    }
}

#[test]
fn a_venue_is_seen_at_work_and_used() {
    let Some(browser) = Browser::find() else { return };
    let data = tempfile::tempdir().expect("a directory");
    let server = Server::start(data.path());
    let address = server.address;
    let mut server = Some(server);
    browser.drive("open", &format!("http://{address}"), &[], |word| match word {
        "kill" => server.take().expect("it runs").kill(),
        "start" => {
            server = Some(Server::start_on(data.path(), &address.to_string(), &[]));
        }
        other => println!("{other}"),
    });
}

#[test]
fn a_venue_with_keys_asks_for_one() {
    let Some(browser) = Browser::find() else { return };
    let data = tempfile::tempdir().expect("a directory");
    let path = data.path().to_str().expect("a plain path");
    let key = |name: &str, more: &[&str]| {
        let made = command(&["key", "create", name, "--json", "--data", path]).args(more).output();
        let made = made.expect("it runs");
        assert!(made.status.success(), "{made:?}");
        let made: serde_json::Value = serde_json::from_slice(&made.stdout).expect("one object");
        made["token"].as_str().expect("a token").to_owned()
    };
    drop(Server::start(data.path()));
    let operator = key("operator", &["--all-accounts", "--scope", "read,trade,transfer,operate"]);
    let desk = key("desk", &["--account", "2", "--scope", "read,trade"]);
    let server = Server::start(data.path());
    let url = format!("http://{}", server.address);
    browser.drive("keyed", &url, &[&operator, &desk], |word| println!("{word}"));
}

#[test]
fn the_report_of_a_load_can_be_looked_at() {
    let Some(browser) = Browser::find() else { return };
    let data = tempfile::tempdir().expect("a directory");
    let page = data.path().join("report.html");
    let place = page.to_str().expect("a plain path");
    let load = ["load", "--swaps", "60000", "--accounts", "2000", "--batch", "256"];
    let done = output(&[&load[..], &["--report", place]].concat());
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    browser.drive("report", &format!("file://{place}"), &[], |word| println!("{word}"));
}
