//! Requests that schemathesis makes from the document, right ones and wrong ones, against a server that
//! has something to show. No answer may be undocumented, and none a failure of the server.
//!
//! `CROSSLATCH_EXAMPLES` says how many of each call (few unless said, so that it takes half a minute),
//! `CROSSLATCH_SEED` with which seed. The tool is fetched with pip into the target directory, at one
//! version; where that cannot be, the test is skipped, but not with CI=true.

use std::env;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};

use super::story::told;

/// It finds more with each release, so one is kept.
const TOOL: &str = "schemathesis==4.32.5";
const EXAMPLES: &str = "10";
const SEED: &str = "1";

/// What is asked of every answer.
const CHECKS: &str = "not_a_server_error,status_code_conformance,content_type_conformance,\
                      response_headers_conformance,response_schema_conformance,\
                      negative_data_rejection,unsupported_method,allow_header_conformance";

/// A wrong request is refused, with whatever code comes first. In a batch it is answered in its place.
const SETTINGS: &str = "\
[generation]
with-security-parameters = false

[checks]
negative_data_rejection.expected-statuses = [400, 404, 405, 409, 410, 413, 415, 422]

[[operations]]
include-operation-id = \"swapBatch\"
checks.negative_data_rejection.expected-statuses = [200, 400, 404, 409, 413, 415]
";

#[test]
fn generated_requests_are_answered_as_the_document_says() {
    let Some(tool) = tool() else {
        assert!(env::var_os("CI").is_none(), "{TOOL} could not be installed");
        eprintln!("SKIPPED: {TOOL} could not be installed, so no requests were generated");
        return;
    };
    let (data, server, judge) = told();
    let (settings, document) =
        (data.path().join("schemathesis.toml"), data.path().join("openapi.json"));
    std::fs::write(&document, judge.document.to_string()).expect("a file");
    std::fs::write(&settings, SETTINGS).expect("a file");
    let or = |name: &str, default: &str| env::var(name).unwrap_or_else(|_| default.to_owned());
    let mut run = Command::new(tool);
    run.arg("--config-file").arg(&settings).arg("run");
    // Given its address, the tool would leave out the call that fetches the document.
    run.arg(document).arg("--url").arg(format!("http://{}", server.address));
    let token = judge.token.as_ref().expect("the story ends with keys");
    run.args(["--header", &format!("Authorization: Bearer {token}")]);
    // It would make directories all over this machine, and what does not end would be waited for.
    run.args(["--exclude-operation-id", "backUp", "--exclude-tag", "streams"]);
    // A venue that is switched off refuses everything else.
    run.args(["--exclude-operation-id", "operate"]);
    run.args(["--phases", "examples,coverage,fuzzing", "--checks", CHECKS]);
    run.args(["--max-examples", &or("CROSSLATCH_EXAMPLES", EXAMPLES)]);
    run.args(["--seed", &or("CROSSLATCH_SEED", SEED)]);
    run.args(["--continue-on-failure", "--no-color", "--warnings", "off"]);
    let done = run.current_dir(data.path()).output().expect("it runs");
    let said = String::from_utf8_lossy(&done.stdout);
    let failed = String::from_utf8_lossy(&done.stderr);
    assert!(done.status.success(), "{said}\n{failed}");
    // A run that tried nothing proves nothing.
    let calls = judge.operations();
    let kept = calls.iter().filter(|(.., it)| {
        let is_apart = it["operationId"] == "backUp" || it["operationId"] == "operate";
        !is_apart && it["tags"][0] != "streams"
    });
    assert!(said.contains(&format!("{} selected", kept.count())), "{said}");
}

/// The tool, fetched unless it is there.
fn tool() -> Option<PathBuf> {
    let place = Path::new(env!("CARGO_TARGET_TMPDIR")).join(TOOL);
    let tool = place.join("bin/schemathesis");
    if !tool.exists() {
        let made = Command::new("python3").args(["-m", "venv"]).arg(&place).status();
        made.ok().filter(ExitStatus::success)?;
        let mut pip = Command::new(place.join("bin/pip"));
        let done = pip.args(["install", "--quiet", TOOL]).status();
        done.ok().filter(ExitStatus::success)?;
    }
    tool.exists().then_some(tool)
}
