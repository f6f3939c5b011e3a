//! The dashboards against Grafana's own types, as npm has them: an option that does not exist, or a value
//! that it does not take, does not compile.

use std::path::PathBuf;
use std::process::Command;

use super::boards::NAMES;
use super::tools::{file, have, run, skip, text};

/// Fetched with npm into the target directory, at these versions.
const PACKAGES: [&str; 2] = ["@grafana/schema@13.2.3", "typescript@5.9.3"];

/// A directory in which they are installed; `None` where they cannot be had.
fn installed() -> Option<PathBuf> {
    let place = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("grafana-schema-13.2.3");
    let compiler = place.join("node_modules/typescript/bin/tsc");
    if !compiler.exists() {
        std::fs::create_dir_all(&place).expect("a directory");
        let mut npm = Command::new("npm");
        npm.args(["install", "--silent", "--no-save", "--ignore-scripts", "--prefix"]).arg(&place);
        npm.args(PACKAGES).current_dir(&place);
        let _ = npm.status();
    }
    compiler.exists().then_some(place)
}

/// What the compiler says of them; `mend` may change the text of each before.
fn compile(place: &std::path::Path, name: &str, mend: impl Fn(&str) -> String) -> Command {
    let directory = place.join(name);
    std::fs::create_dir_all(&directory).expect("a directory");
    let shape = text("tests/dashboards/shape.ts");
    let mut tsc = Command::new("node");
    tsc.arg(place.join("node_modules/typescript/bin/tsc")).current_dir(&directory);
    tsc.args(["--noEmit", "--strict", "--skipLibCheck", "--pretty", "false", "--target", "es2022"]);
    tsc.args(["--module", "nodenext", "--moduleResolution", "nodenext"]);
    for board in NAMES {
        let json = mend(&text(&format!("dashboards/{board}.json")));
        let path = directory.join(format!("{board}.ts"));
        std::fs::write(&path, format!("{shape}\nexport const board: Board = {json};\n"))
            .expect("a file");
        tsc.arg(path);
    }
    tsc
}

#[test]
fn dashboards_are_what_grafana_takes() {
    assert!(file("tests/dashboards/shape.ts").exists());
    if !have(&["node", "npm"]) {
        return;
    }
    let Some(place) = installed() else {
        return skip(&format!("npm does not give {PACKAGES:?}"));
    };
    run(&mut compile(&place, "right", str::to_owned));
    // Types that take everything would prove nothing.
    for (right, wrong) in [
        (r#""displayMode": "table""#, r#""displayMode": "tabel""#),
        (r#""lineWidth": 1"#, r#""linewidth": 1"#),
        (r#""colorMode": "value""#, r#""colorMode": 1"#),
        (r#""unit": "#, r#""units": "#),
    ] {
        let mut tsc = compile(&place, "wrong", |json| json.replacen(right, wrong, 1));
        let output = tsc.output().expect("it runs");
        assert!(!output.status.success(), "nobody notices {wrong}");
    }
}
