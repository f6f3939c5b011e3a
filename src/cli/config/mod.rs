//! `crosslatch config`: what is set and by whom, whether it is right, and what can be set at all.
//!
//! ```text
//! crosslatch config show --shards 4              every setting: value, unit, origin
//! crosslatch config check --config venue.toml    everything that is wrong with it; status 3
//! crosslatch config example > venue.toml         every setting explained
//! ```
//!
//! `show` and `check` take what `serve` takes, and speak of what `serve` would do with it.

mod check;
mod example;
mod origin;
mod table;

use std::io::{Write, stdout};
use std::path::Path;
use std::process::ExitCode;

use clap::{ArgMatches, Args, Subcommand};
use serde_json::{Value, json};

use super::serve::ServeArgs;
use super::settings::Settings;
use crate::error::Error;

use check::Finding;
use origin::{Origin, Sources};
use table::{SETTINGS, Setting};

/// The exit status for settings that cannot be used.
const CHECK_FAILED: u8 = 3;

/// `crosslatch config`.
#[derive(Debug, Args)]
pub struct ConfigArgs {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Shows every setting that `serve` would use, with its unit and where it comes from.
    Show(Looked),
    /// Says everything that is wrong with the settings that `serve` would use; status 3 if anything is.
    Check(Looked),
    /// Prints a settings file in which everything is explained, and nothing changed.
    Example,
}

#[derive(Debug, Args)]
struct Looked {
    #[command(flatten)]
    serve: ServeArgs,
    /// Prints one JSON object.
    #[arg(long)]
    json: bool,
}

/// Runs the command; `matches` is the command line as it was read.
///
/// # Errors
/// Settings cannot be read; standard output cannot be written to.
pub fn run(args: ConfigArgs, matches: &ArgMatches) -> anyhow::Result<ExitCode> {
    // The last one that was given: `config show`.
    let leaf = matches.subcommand().and_then(|(_, config)| config.subcommand());
    let (_, leaf) = leaf.expect("clap asks for one of the subcommands");
    match args.action {
        Action::Show(looked) => show(looked, leaf),
        Action::Check(looked) => check(looked),
        Action::Example => {
            let mut out = stdout().lock();
            out.write_all(example::text().as_bytes())?;
            out.flush()?;
            Ok(ExitCode::SUCCESS)
        }
    }
}

fn show(looked: Looked, matches: &ArgMatches) -> anyhow::Result<ExitCode> {
    let path = looked.serve.config().map(Path::to_path_buf);
    let settings = looked.serve.load()?;
    let text = path.as_deref().map(std::fs::read_to_string).transpose()?;
    let file = path.as_deref().zip(text.as_deref());
    let is_set = |name: &str| std::env::var_os(name).is_some();
    let sources = Sources { matches, file, is_set: &is_set };
    let values = values(&settings);
    let rows: Vec<(&Setting, Value, Origin)> = SETTINGS
        .iter()
        .map(|setting| (setting, values(setting.key), sources.origin(setting)))
        .collect();
    let mut out = stdout().lock();
    if looked.json {
        writeln!(out, "{}", json!({"settings": rows.iter().map(as_json).collect::<Vec<_>>()}))?;
    } else {
        write_table(&rows, &mut out)?;
    }
    out.flush()?;
    // What is shown may still be refused: that is said last, where it is seen.
    settings.validate()?;
    Ok(ExitCode::SUCCESS)
}

/// What each setting is.
fn values(settings: &Settings) -> impl Fn(&str) -> Value + use<> {
    let all = serde_json::to_value(settings).expect("settings are plain values");
    move |key: &str| {
        let found = key.split('.').fold(&all, |at, name| &at[name]);
        match (key, found) {
            ("log_level", Value::Null) => {
                std::env::var("RUST_LOG").unwrap_or_else(|_| "info".into()).into()
            }
            _ => found.clone(),
        }
    }
}

fn plain(value: &Value) -> String {
    match value {
        Value::Null => "none".into(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

fn as_json((setting, value, origin): &(&Setting, Value, Origin)) -> Value {
    json!({
        "key": setting.key, "value": value, "unit": setting.unit, "origin": origin,
        "range": setting.range.to_string(), "variable": setting.variable(), "help": setting.help,
    })
}

fn write_table(rows: &[(&Setting, Value, Origin)], out: &mut dyn Write) -> std::io::Result<()> {
    let cells = |(setting, value, origin): &(&Setting, Value, Origin)| {
        [setting.key.to_owned(), plain(value), setting.unit.to_owned(), origin.to_string()]
    };
    let head = ["SETTING", "VALUE", "UNIT", "ORIGIN"].map(str::to_owned);
    let lines: Vec<[String; 4]> = std::iter::once(head).chain(rows.iter().map(cells)).collect();
    let width = |column: usize| lines.iter().map(|line| line[column].len()).max().unwrap_or(0);
    let (key, value, unit) = (width(0), width(1), width(2));
    for [a, b, c, d] in &lines {
        writeln!(out, "{a:key$}  {b:value$}  {c:unit$}  {d}")?;
    }
    Ok(())
}

fn check(looked: Looked) -> anyhow::Result<ExitCode> {
    let findings = findings(looked.serve);
    let mut out = stdout().lock();
    if looked.json {
        writeln!(out, "{}", json!({"valid": findings.is_empty(), "findings": findings}))?;
    } else if findings.is_empty() {
        writeln!(out, "the configuration is valid")?;
    }
    out.flush()?;
    if findings.is_empty() {
        return Ok(ExitCode::SUCCESS);
    }
    for finding in &findings {
        eprintln!("crosslatch: {}", finding.text());
    }
    Ok(ExitCode::from(CHECK_FAILED))
}

/// Everything that is wrong; what follows from something else that is wrong is left out.
fn findings(args: ServeArgs) -> Vec<Finding> {
    let path = args.config().map(Path::to_path_buf);
    let text = match path.as_deref().map(std::fs::read_to_string).transpose() {
        Ok(text) => text,
        Err(error) => {
            let place = path.unwrap_or_default().display().to_string();
            let why = format!("cannot be read: {error}");
            return vec![Finding { place, key: String::new(), why, did_you_mean: None }];
        }
    };
    let found = check::check_parts(path.as_deref().zip(text.as_deref()), std::env::vars());
    if !found.is_empty() {
        return found;
    }
    match args.load().and_then(|settings| settings.validate()) {
        Ok(()) => vec![],
        Err(error) => {
            let (key, why) = match error {
                Error::Config(malformed) => (malformed.field, malformed.why),
                other => (String::new(), other.to_string()),
            };
            vec![Finding { place: "all together".into(), key, why, did_you_mean: None }]
        }
    }
}
