//! Where each setting's value comes from: a flag, a variable, a line of the file, or nowhere.

use std::fmt;
use std::path::Path;

use clap::parser::ValueSource;
use clap::{ArgMatches, Args};
use serde::Serialize;

use super::super::serve::ServeArgs;
use super::super::settings::LIMITS_VARIABLES;
use super::check::keys_of;
use super::table::Setting;

/// Where a value comes from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "from", rename_all = "lowercase")]
pub(super) enum Origin {
    /// Nobody has said anything.
    Default,
    /// A line of the settings file.
    File {
        /// The file.
        path: String,
        /// The line, from 1.
        line: usize,
    },
    /// A variable of the environment.
    Environment {
        /// Which.
        variable: String,
    },
    /// The command line.
    Flag {
        /// Which.
        flag: String,
    },
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::File { path, line } => write!(f, "file {path}:{line}"),
            Self::Environment { variable } => write!(f, "environment {variable}"),
            Self::Flag { flag } => write!(f, "flag {flag}"),
        }
    }
}

/// What there is to look at.
pub(super) struct Sources<'a> {
    /// The command line, as it was read.
    pub(super) matches: &'a ArgMatches,
    /// The settings file and what is in it.
    pub(super) file: Option<(&'a Path, &'a str)>,
    /// Whether a variable is set.
    pub(super) is_set: &'a dyn Fn(&str) -> bool,
}

impl Sources<'_> {
    /// Where a setting's value comes from: the strongest that says something.
    pub(super) fn origin(&self, setting: &Setting) -> Origin {
        self.of_command_line(setting)
            .or_else(|| self.of_environment(setting))
            .or_else(|| self.of_file(setting))
            .or_else(|| self.of_others(setting))
            .unwrap_or(Origin::Default)
    }

    fn of_command_line(&self, setting: &Setting) -> Option<Origin> {
        let command = ServeArgs::augment_args(clap::Command::new("serve"));
        // Flags are named after the setting, or after its table as well, as --tls-cert is.
        let (name, full) = (setting.name(), setting.key.replace('.', "_"));
        let is_it = |arg: &&clap::Arg| arg.get_id() == name || *arg.get_id() == *full;
        let arg = command.get_arguments().find(is_it)?;
        match self.matches.value_source(arg.get_id().as_str())? {
            ValueSource::CommandLine => {
                Some(Origin::Flag { flag: format!("--{}", arg.get_long()?) })
            }
            ValueSource::EnvVariable => {
                let variable = arg.get_env()?.to_string_lossy().into_owned();
                Some(Origin::Environment { variable })
            }
            _ => None,
        }
    }

    fn of_environment(&self, setting: &Setting) -> Option<Origin> {
        let variable = setting.variable();
        let is_limit = |(prefix, _): &(&str, &str)| variable.starts_with(prefix);
        let counts = LIMITS_VARIABLES.iter().any(is_limit) && (self.is_set)(&variable);
        counts.then_some(Origin::Environment { variable })
    }

    fn of_file(&self, setting: &Setting) -> Option<Origin> {
        let (path, text) = self.file?;
        // As it was called before.
        let old = (setting.key == "log_format").then_some("log");
        let is_it = |name: &str| name == setting.key || Some(name) == old;
        let key = keys_of(text).into_iter().find(|key| is_it(&key.name))?;
        Some(Origin::File { path: path.display().to_string(), line: key.line })
    }

    /// Variables that are not ours.
    fn of_others(&self, setting: &Setting) -> Option<Origin> {
        let variable = "RUST_LOG";
        let counts = setting.key == "log_level" && (self.is_set)(variable);
        counts.then(|| Origin::Environment { variable: variable.into() })
    }
}
