//! What stands in a URL: the variable parts of its path, and the parameters after `?`.
//!
//! Parameters are taken by name, each with the function that reads it, as the fields of a body
//! are; one that nobody takes is refused, because a misspelt `after` must not be ignored.

use std::convert::Infallible;

use axum::extract::{FromRequestParts, Path};
use axum::http::request::Parts;
use serde::de::DeserializeOwned;

use crate::error::Malformed;
use crate::types::CommitSeq;

use super::json;
use super::problem::Problem;
use super::state::App;

/// The variable parts of a path, as text.
pub(super) struct Param<T>(pub(super) T);

impl<T: DeserializeOwned + Send> FromRequestParts<App> for Param<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, Problem> {
        match Path::from_request_parts(parts, app).await {
            Ok(Path(values)) => Ok(Self(values)),
            Err(rejection) => Err(Problem::malformed("path", rejection.body_text())),
        }
    }
}

/// A number in a path.
///
/// # Errors
/// The name of the part and what is wrong with it.
pub(super) fn number(name: &str, text: &str) -> Result<u64, Problem> {
    json::number_from(text).map_err(|why| Problem::malformed(name, why))
}

/// The parameters of a request, as they stand in its URL.
#[derive(Debug)]
pub(super) struct Query {
    pairs: Vec<(String, String)>,
}

impl FromRequestParts<App> for Query {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &App) -> Result<Self, Infallible> {
        Ok(Self::parse(parts.uri.query().unwrap_or_default()))
    }
}

impl Query {
    fn parse(query: &str) -> Self {
        let pairs = query.split('&').filter(|pair| !pair.is_empty()).map(|pair| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            (decoded(name), decoded(value))
        });
        Self { pairs: pairs.collect() }
    }

    /// Takes a parameter that may be missing.
    ///
    /// # Errors
    /// It is given twice, or what `read` says is wrong with it.
    pub(super) fn optional<T>(
        &mut self,
        name: &str,
        read: impl FnOnce(&str) -> Result<T, String>,
    ) -> Result<Option<T>, Malformed> {
        let Some(place) = self.pairs.iter().position(|(given, _)| given == name) else {
            return Ok(None);
        };
        let (_, value) = self.pairs.remove(place);
        if self.pairs.iter().any(|(given, _)| given == name) {
            return Err(Malformed::new(name, "is given twice"));
        }
        read(&value).map(Some).map_err(|why| Malformed::new(name, why))
    }

    /// Takes a parameter that is a seq.
    ///
    /// # Errors
    /// As [`Query::optional`].
    pub(super) fn seq(&mut self, name: &str) -> Result<Option<CommitSeq>, Malformed> {
        self.optional(name, |text| json::number_from(text).map(CommitSeq::new))
    }

    /// Ends the reading.
    ///
    /// # Errors
    /// The first parameter that nobody took.
    pub(super) fn finish(self) -> Result<(), Malformed> {
        match self.pairs.into_iter().next() {
            None => Ok(()),
            Some((name, _)) => {
                let name: String = name.chars().take(64).collect();
                Err(Malformed::new(name, "is not a parameter known here"))
            }
        }
    }
}

/// The text without its `%XX`. A `+` stays one: times have it in their offsets.
fn decoded(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&first, after)) = rest.split_first() {
        let hex = after.get(..2).filter(|_| first == b'%');
        let byte = hex.and_then(|hex| hex::decode(hex).ok()).and_then(|byte| byte.first().copied());
        bytes.push(byte.unwrap_or(first));
        rest = if byte.is_some() { &after[2..] } else { after };
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_are_taken_by_name_and_the_rest_is_refused() {
        let mut query = Query::parse("at=7&&asset=USDC%2Eeth&x");
        assert_eq!(query.seq("at"), Ok(Some(CommitSeq::new(7))));
        assert_eq!(query.seq("at"), Ok(None));
        let asset = query.optional("asset", |text| Ok(text.to_owned()));
        assert_eq!(asset, Ok(Some("USDC.eth".into())));
        assert_eq!(query.finish().expect_err("x is left").field, "x");
        let twice = Query::parse("at=1&at=2").seq("at").expect_err("twice");
        assert_eq!((&*twice.field, &*twice.why), ("at", "is given twice"));
        assert_eq!(Query::parse("at=-1").seq("at").expect_err("negative").field, "at");
        assert!(Query::parse("").finish().is_ok());
    }

    #[test]
    fn escapes_are_undone_and_a_plus_stays() {
        for (text, plain) in [
            ("12:00+02:00", "12:00+02:00"),
            ("12%3A00%2b02%3A00", "12:00+02:00"),
            ("100%", "100%"),
            ("%4", "%4"),
            ("%zz", "%zz"),
            ("%C3%A9", "é"),
        ] {
            assert_eq!(decoded(text), plain);
        }
    }
}
