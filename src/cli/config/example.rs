//! A settings file in which every setting is explained: what `crosslatch config example` prints, and
//! what `packaging/crosslatch.toml` is.

use super::super::settings::Settings;
use super::table::{SETTINGS, Setting};
use super::values;
use crate::config::BATCH_REQUESTS_MAX;

/// How wide an explanation is, `# ` included.
const COLUMNS: usize = 100;

/// The file. Every setting stands there with its default, commented out.
pub(super) fn text() -> String {
    let values = values(&Settings::default());
    let mut text = String::from(
        "# Settings of `crosslatch serve --config FILE`. What is commented out is the default,\n\
         # or an example where there is none.\n\
         #\n\
         # Flags stand over CROSSLATCH_* variables over this file. Of the variables each is named\n\
         # below. `crosslatch config check --config FILE` says everything that is wrong with a file,\n\
         # `crosslatch config show --config FILE` what is used and where it comes from.\n",
    );
    let mut table = "";
    for setting in SETTINGS {
        let within = setting.key.split_once('.').map_or("", |(table, _)| table);
        if within != table {
            table = within;
            text += &head(table);
        }
        let value = values(setting.key);
        let default = match setting.key {
            // Of this process's environment nothing belongs here.
            "log_level" => "\"info\"".into(),
            // What has no default has an example.
            "journal_archive_dir" => "\"/archive/venue\"".into(),
            "tls.cert" => "\"server.pem\"".into(),
            "tls.key" => "\"server.key\"".into(),
            "tls.client_ca" => "\"clients.pem\"".into(),
            _ => value.to_string(),
        };
        text += &entry(setting, &default);
    }
    text
}

/// What stands over a table. That of certificates means something by being there.
fn head(table: &str) -> String {
    match table {
        "tls" => "\n# Certificates; SIGHUP has them read again. The table's own line is a comment, too.\n\
                  # [tls]\n"
            .into(),
        "edge" => "\n# Every limit of the server's edge: connections, heads of requests, signatures.\n\
                   [edge]\n"
            .into(),
        _ => format!(
            "\n# Every limit of the engine. The defaults suit two cores and 24 GiB. A submission has \
             at most\n# {BATCH_REQUESTS_MAX} requests, whatever is set here.\n[{table}]\n"
        ),
    }
}

fn entry(setting: &Setting, default: &str) -> String {
    let Setting { unit, range, help, .. } = setting;
    let unit = if *unit == "-" { String::new() } else { format!(" Unit: {unit}.") };
    let words = format!("{help}{unit} Values: {range}. Variable: {}.", setting.variable());
    let mut entry = String::from("\n");
    let mut line = String::from("#");
    for word in words.split(' ') {
        if line.len() + 1 + word.len() > COLUMNS {
            entry += &format!("{line}\n");
            line = String::from("#");
        }
        line += &format!(" {word}");
    }
    let name = setting.name();
    entry + &format!("{line}\n# {name} = {default}\n")
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::super::super::settings::LogLevel;
    use super::*;
    use crate::server::tls::TlsFiles;

    /// Run with `CROSSLATCH_WRITE_EXAMPLE=1` to write it anew.
    #[test]
    fn the_packaged_file_is_this_one() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("packaging/crosslatch.toml");
        if std::env::var_os("CROSSLATCH_WRITE_EXAMPLE").is_some() {
            std::fs::write(&path, text()).unwrap();
        }
        assert_eq!(std::fs::read_to_string(&path).unwrap(), text());
    }

    #[test]
    fn with_its_comments_taken_off_it_says_what_holds_without_it() {
        let is_setting =
            |line: &&str| line.starts_with("# ") && line.contains(" = ") || *line == "# [tls]";
        let all = text();
        let bare: String = all
            .lines()
            .map(|line| if is_setting(&line) { line.trim_start_matches("# ") } else { line })
            .map(|line| format!("{line}\n"))
            .collect();
        let read: Settings = toml::from_str(&bare).unwrap();
        let expected = Settings {
            log_level: Some(LogLevel::Info),
            journal_archive_dir: Some("/archive/venue".into()),
            tls: Some(TlsFiles {
                cert: "server.pem".into(),
                key: "server.key".into(),
                client_ca: Some("clients.pem".into()),
            }),
            ..Settings::default()
        };
        assert_eq!(read, expected);
        assert_eq!(bare.lines().filter(|line| line.contains(" = ")).count(), SETTINGS.len());
        let as_it_is: Settings = toml::from_str(&all).unwrap();
        assert_eq!(as_it_is, Settings::default());
    }
}
