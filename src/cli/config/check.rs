//! Everything that is wrong with a configuration, and not only the first of it.
//!
//! ```text
//! file ─► lines that are no TOML; else per key: is there such a setting? of that kind? in its range?
//! environment ─► the same for the variables of limits
//! all together ─► what a start would refuse
//! ```

use std::path::Path;

use serde::Serialize;
use toml::Spanned;
use toml::de::{DeString, DeTable, DeValue};

use super::super::settings::{LIMITS_VARIABLES, Settings};
use super::table::{self, Setting};

/// Something that is wrong.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct Finding {
    /// Where: `file:line`, or a variable.
    pub(super) place: String,
    /// The setting, or what was taken for one; empty where it is not about one.
    pub(super) key: String,
    /// What is wrong with it.
    pub(super) why: String,
    /// What may have been meant.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) did_you_mean: Option<&'static str>,
}

impl Finding {
    /// In one line.
    pub(super) fn text(&self) -> String {
        let Self { place, key, why, did_you_mean } = self;
        let key = if key.is_empty() { String::new() } else { format!("{key} ") };
        let meant = did_you_mean.map(|meant| format!("; did you mean {meant}?"));
        format!("{place}: {key}{why}{}", meant.unwrap_or_default())
    }
}

/// A key of a file, and where it stands.
#[derive(Clone, Debug)]
pub(super) struct Key {
    /// Its full name.
    pub(super) name: String,
    /// Its line, from 1.
    pub(super) line: usize,
}

fn line_of(text: &str, place: usize) -> usize {
    text.bytes().take(place).filter(|byte| *byte == b'\n').count() + 1
}

/// Every key of a file, of tables those within, in the order in which they stand there.
pub(super) fn keys_of(text: &str) -> Vec<Key> {
    let (table, _) = DeTable::parse_recoverable(text);
    let mut keys = Vec::from_iter(leaves(table.get_ref()));
    keys.sort_by_key(|(_, place)| *place);
    keys.into_iter().map(|(name, place)| Key { name, line: line_of(text, place) }).collect()
}

fn leaves<'a>(table: &'a DeTable<'_>) -> impl Iterator<Item = (String, usize)> + 'a {
    let inside = |(key, value): (&'a Spanned<DeString<'_>>, &'a Spanned<DeValue<'_>>)| {
        let name = key.get_ref().to_string();
        match value.get_ref() {
            DeValue::Table(inner) if !inner.is_empty() => {
                let full = |key: &Spanned<DeString<'_>>| {
                    (format!("{name}.{}", key.get_ref()), key.span().start)
                };
                inner.keys().map(full).collect::<Vec<_>>()
            }
            _ => vec![(name, key.span().start)],
        }
    };
    table.iter().flat_map(inside)
}

/// What is wrong with a file and the variables of limits, each on its own.
pub(super) fn check_parts(
    file: Option<(&Path, &str)>,
    variables: impl Iterator<Item = (String, String)>,
) -> Vec<Finding> {
    let mut findings = Vec::new();
    if let Some((path, text)) = file {
        check_file(path, text, &mut findings);
    }
    for (variable, value) in variables {
        for (prefix, table) in LIMITS_VARIABLES {
            if let Some(name) = variable.strip_prefix(prefix) {
                let key = format!("{table}.{}", name.to_ascii_lowercase());
                findings.extend(check_variable(&variable, &key, &value));
            }
        }
    }
    findings
}

fn check_file(path: &Path, text: &str, findings: &mut Vec<Finding>) {
    let place = |line: usize| format!("{}:{line}", path.display());
    let (_, errors) = DeTable::parse_recoverable(text);
    for error in &errors {
        let line = line_of(text, error.span().map_or(0, |span| span.start));
        let why = format!("is no TOML: {}", error.message());
        let (key, did_you_mean) = (String::new(), None);
        findings.push(Finding { place: place(line), key, why, did_you_mean });
    }
    let Ok(table) = text.parse::<toml::Table>() else { return };
    for Key { name, line } in keys_of(text) {
        let value = match name.split_once('.') {
            Some((outer, inner)) => table.get(outer).and_then(|table| table.get(inner)),
            None => table.get(&name),
        };
        let Some(value) = value else { continue };
        // An empty table says nothing, and an old name is one.
        let is_table = ["limits", "edge"].contains(&&*name) && value.is_table();
        if is_table || name == "log" {
            continue;
        }
        findings.extend(check_value(place(line), name, value));
    }
}

fn check_variable(variable: &str, key: &str, value: &str) -> Option<Finding> {
    let place = format!("environment {variable}");
    match value.replace('_', "").parse() {
        Ok(number) => check_value(place, key.to_owned(), &toml::Value::Integer(number)),
        Err(_) => {
            let why = format!("is {value:?}; give a whole number");
            Some(Finding { place, key: key.to_owned(), why, did_you_mean: None })
        }
    }
}

/// What is wrong with one value of one setting.
fn check_value(place: String, key: String, value: &toml::Value) -> Option<Finding> {
    let Some(setting) = table::named(&key) else {
        let (why, did_you_mean) = ("is no setting".into(), table::meant_by(&key));
        return Some(Finding { place, key, why, did_you_mean });
    };
    let why = wrong_value(setting, value)?;
    Some(Finding { place, key, why, did_you_mean: None })
}

fn wrong_value(setting: &Setting, value: &toml::Value) -> Option<String> {
    let range = &setting.range;
    if let Some(number) = value.as_integer()
        && range.refuses(number.into())
    {
        return Some(format!("is {number}; give {range}"));
    }
    let mut alone = toml::Table::new();
    match setting.key.split_once('.') {
        Some((outer, name)) => {
            let mut inner = toml::Table::from_iter([(name.to_owned(), value.clone())]);
            if outer == "tls" {
                // A certificate does not go without its key; this is about one of them.
                for part in ["cert", "key"] {
                    inner.entry(part).or_insert_with(|| "".into());
                }
            }
            alone.insert(outer.into(), toml::Value::Table(inner));
        }
        None => {
            alone.insert(setting.key.into(), value.clone());
        }
    }
    let error = alone.try_into::<Settings>().err()?;
    let said = error.message().trim();
    Some(format!("is {value}: {said}; give {range}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(text: &str) -> Vec<String> {
        let file = Some((Path::new("c.toml"), text));
        check_parts(file, std::iter::empty()).iter().map(Finding::text).collect()
    }

    #[test]
    fn every_wrong_key_is_named_with_its_line() {
        let text = "# a comment\nlisen = \"127.0.0.1:1\"\ndata = 7\nshards = 3\n\n[limits]\n\
                    shard = 2\nbatches_voting_max = 65\nholds_max = \"many\"\nmarket_actors = -1\n\
                    hold_expiry_ms = 5\n[limit]\nshards = 2\n";
        let found = found(text);
        for (place, said) in [
            ("c.toml:2: lisen is no setting", "; did you mean listen?"),
            ("c.toml:3: data is 7: ", "; give a directory"),
            ("c.toml:4: shards is no setting", "; did you mean limits.shards?"),
            ("c.toml:7: limits.shard is no setting", "; did you mean limits.shards?"),
            ("c.toml:8: limits.batches_voting_max is 65", "; give 1 to 64"),
            ("c.toml:9: limits.holds_max is \"many\": ", "; give 1 to 268435456"),
            ("c.toml:10: limits.market_actors is -1", "; give 1 to 64"),
            ("c.toml:13: limit.shards is no setting", "; did you mean limits.shards?"),
        ] {
            let one = found.iter().find(|text| text.starts_with(place));
            assert!(one.is_some_and(|text| text.ends_with(said)), "{place}: {found:#?}");
        }
        assert_eq!(found.len(), 8, "{found:#?}");
    }

    #[test]
    fn what_is_no_toml_is_shown_with_its_line() {
        let found = found("listen = \"127.0.0.1:1\"\nlimits = {\n");
        assert!(found.iter().any(|text| text.starts_with("c.toml:2: is no TOML: ")), "{found:?}");
        assert_eq!(self::found(""), Vec::<String>::new());
        assert_eq!(self::found("log = \"json\"\n[limits]\n"), Vec::<String>::new());
    }

    #[test]
    fn variables_of_limits_are_looked_at_too() {
        let set = [("CROSSLATCH_LIMITS_SHARD", "1"), ("CROSSLATCH_LIMITS_SHARDS", "x"), ("A", "b")];
        let set = set.map(|(name, value)| (name.to_owned(), value.to_owned()));
        let found = check_parts(None, set.into_iter());
        let found: Vec<String> = found.iter().map(Finding::text).collect();
        assert_eq!(
            found,
            [
                "environment CROSSLATCH_LIMITS_SHARD: limits.shard is no setting; did you mean \
                 limits.shards?",
                "environment CROSSLATCH_LIMITS_SHARDS: limits.shards is \"x\"; give a whole number",
            ]
        );
    }
}
