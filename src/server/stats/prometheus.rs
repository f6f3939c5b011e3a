//! Prometheus' text format, read: samples by name and labels.
//!
//! ```text
//! # TYPE crosslatch_requests_total counter
//! crosslatch_requests_total{kind="swap",outcome="settled"} 333
//! ```

use std::collections::BTreeMap;

/// Labels by name.
pub(crate) type Labels = BTreeMap<String, String>;

/// Every sample of a page, by the name of its series.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Page {
    samples: BTreeMap<String, Vec<(Labels, f64)>>,
}

impl Page {
    /// Reads a page.
    ///
    /// # Errors
    /// The first line that is none of the format, with its number.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let mut page = Self::default();
        for (number, line) in text.lines().enumerate() {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let (name, labels, value) =
                sample(line).ok_or_else(|| format!("line {} is no metric: {line}", number + 1))?;
            page.samples.entry(name.to_owned()).or_default().push((labels, value));
        }
        Ok(page)
    }

    /// Every series of that name.
    pub(crate) fn series(&self, name: &str) -> &[(Labels, f64)] {
        self.samples.get(name).map(Vec::as_slice).unwrap_or_default()
    }

    /// The value of the series of that name that has no labels.
    pub(crate) fn value(&self, name: &str) -> Option<f64> {
        self.series(name).iter().find(|(labels, _)| labels.is_empty()).map(|(_, value)| *value)
    }
}

/// `name{label="value",...} value [timestamp]`
fn sample(line: &str) -> Option<(&str, Labels, f64)> {
    let end = line.find(|c: char| !(c.is_ascii_alphanumeric() || c == '_' || c == ':'))?;
    let (name, rest) = line.split_at(end);
    if name.is_empty() {
        return None;
    }
    let (labels, rest) = match rest.strip_prefix('{') {
        Some(inside) => labels(inside)?,
        None => (Labels::new(), rest),
    };
    if !rest.starts_with([' ', '\t']) {
        return None;
    }
    let mut words = rest.split_whitespace();
    let value = match words.next()? {
        "+Inf" => f64::INFINITY,
        "-Inf" => f64::NEG_INFINITY,
        "NaN" => f64::NAN,
        number => number.parse().ok()?,
    };
    let timestamp = words.next().is_none_or(|word| word.parse::<i64>().is_ok());
    (timestamp && words.next().is_none()).then_some((name, labels, value))
}

/// What stands behind a `{`, and what follows its `}`.
fn labels(mut text: &str) -> Option<(Labels, &str)> {
    let mut labels = Labels::new();
    loop {
        text = text.trim_start();
        if let Some(rest) = text.strip_prefix('}') {
            return Some((labels, rest));
        }
        let (name, rest) = text.split_once('=')?;
        let (value, rest) = quoted(rest.trim_start().strip_prefix('"')?)?;
        labels.insert(name.trim().to_owned(), value);
        text = rest.trim_start();
        match text.strip_prefix(',') {
            Some(rest) => text = rest,
            None if text.starts_with('}') => {}
            None => return None,
        }
    }
}

/// What stands before the closing quote, and what follows it.
fn quoted(text: &str) -> Option<(String, &str)> {
    let mut value = String::new();
    let mut chars = text.char_indices();
    while let Some((place, c)) = chars.next() {
        match c {
            '"' => return Some((value, &text[place + 1..])),
            '\\' => match chars.next()?.1 {
                'n' => value.push('\n'),
                other => value.push(other),
            },
            other => value.push(other),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_labels_and_values_are_read() {
        let text = "# HELP a words\n# TYPE a counter\n\na 1\nb{x=\"1\", y=\"a\\\"b\\\\c\\nd\",} 2.5e3\n\
                    b{} 7 1395066363000\nc{le=\"+Inf\"} +Inf\nd NaN\n  e{k=\"}, =\"} -1 \n";
        let page = Page::parse(text).unwrap();
        assert_eq!(page.value("a"), Some(1.0));
        let (labels, value) = &page.series("b")[0];
        assert_eq!((labels["x"].as_str(), labels["y"].as_str()), ("1", "a\"b\\c\nd"));
        assert_eq!((*value, page.value("b")), (2500.0, Some(7.0)));
        assert!(page.series("c")[0].1.is_infinite());
        assert!(page.value("d").unwrap().is_nan());
        assert_eq!(page.series("e")[0].0["k"], "}, =");
        assert_eq!((page.value("nothing"), page.series("nothing").len()), (None, 0));
    }

    #[test]
    fn what_is_no_metric_is_named() {
        for line in [
            "a",
            "a b",
            "{x=\"1\"} 2",
            "a{x=1} 2",
            "a{x=\"1\" 2",
            "a{x=\"1\"y=\"2\"} 2",
            "a{x=\"1} 2",
            "a 1 2 3",
            "a 1 later",
            "<html>",
            "a{x=\"1\"}2",
        ] {
            let error = Page::parse(&format!("b 1\n{line}\n")).expect_err(line);
            assert!(error.starts_with("line 2 is no metric"), "{error}");
        }
    }
}
