//! JSON as it comes in: read field by field, so that whatever is wrong is said of the field at fault.
//!
//! An [`Object`] holds its fields unread. The room that knows them takes each one by name with the
//! function that reads it ([`amount`], [`number`], [`text`], ...); what it does not take is refused
//! by [`Object::finish`], because a misspelt `deadline` must not be ignored. Values are slices of the
//! body: nothing is copied and no number passes through floating point, which would round amounts.
//!
//! ```text
//! {"legs": [{"from": 1, ...}, {"from": 2, "amount": 1.5}]}
//!   list("legs")  ->  [0], [1]  ->  object  ->  required("amount", amount)
//!                                                "amount is fractional ..."
//!                          within("legs[1]"):    "legs[1].amount is fractional ..."
//! ```

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

use serde::de::{Deserialize, Deserializer, Error as _, MapAccess, Visitor};
use serde_json::value::RawValue;
use smallvec::SmallVec;

use crate::config::ASSET_NAME_BYTES_MAX;
use crate::error::Malformed;
use crate::types::{Amount, RequestId, Time};

/// More fields than any object here has: beyond it, looking for duplicates would cost too much.
const FIELDS_MAX: usize = 32;

/// A value that nobody has looked at, valid JSON by its form.
pub(super) type Value<'a> = &'a RawValue;

/// Why a body is not the JSON object that it should be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct NotAnObject {
    /// To be read after "the body".
    pub why: String,
    /// Where the parser stopped, from 1; 0 where a place says nothing.
    pub line: usize,
    /// See `line`.
    pub column: usize,
}

/// A JSON object whose fields are taken one by one.
#[derive(Debug)]
pub(super) struct Object<'a> {
    fields: SmallVec<[(Cow<'a, str>, Value<'a>); 6]>,
}

impl<'a> Object<'a> {
    /// Reads a whole body; an empty one is an object without fields.
    ///
    /// # Errors
    /// What is wrong with it, and where.
    pub(super) fn parse(body: &'a str) -> Result<Self, NotAnObject> {
        if body.is_empty() {
            return Ok(Self { fields: SmallVec::new() });
        }
        serde_json::from_str(body).map_err(|error| NotAnObject {
            why: if error.is_data() {
                without_place(&error)
            } else {
                format!("is not valid JSON: {error}")
            },
            line: error.line(),
            column: error.column(),
        })
    }

    /// Reads an object that is part of a body.
    ///
    /// # Errors
    /// Why it is none, to be read after the field's name.
    pub(super) fn of(value: Value<'a>) -> Result<Self, String> {
        serde_json::from_str(value.get()).map_err(|error| without_place(&error))
    }

    /// Takes a field that may be missing or `null`.
    ///
    /// # Errors
    /// The field and what `read` says is wrong with it.
    pub(super) fn optional<T>(
        &mut self,
        name: &str,
        read: impl FnOnce(Value<'a>) -> Result<T, String>,
    ) -> Result<Option<T>, Malformed> {
        let Some(place) = self.fields.iter().position(|(field, _)| field == name) else {
            return Ok(None);
        };
        let (_, value) = self.fields.swap_remove(place);
        if value.get() == "null" {
            return Ok(None);
        }
        read(value).map(Some).map_err(|why| Malformed::new(name, why))
    }

    /// Takes a field that must be there, and may be `null`.
    ///
    /// # Errors
    /// The field, and that it is missing or what `read` says is wrong with it.
    pub(super) fn nullable<T>(
        &mut self,
        name: &str,
        read: impl FnOnce(Value<'a>) -> Result<T, String>,
    ) -> Result<Option<T>, Malformed> {
        if !self.has(name) {
            return Err(Malformed::new(name, "is missing"));
        }
        self.optional(name, read)
    }

    /// Whether a field is there, `null` or not, and nobody has taken it.
    pub(super) fn has(&self, name: &str) -> bool {
        self.fields.iter().any(|(field, _)| field == name)
    }

    /// Takes a field that must be there.
    ///
    /// # Errors
    /// The field, and that it is missing or what `read` says is wrong with it.
    pub(super) fn required<T>(
        &mut self,
        name: &str,
        read: impl FnOnce(Value<'a>) -> Result<T, String>,
    ) -> Result<T, Malformed> {
        self.optional(name, read)?.ok_or_else(|| Malformed::new(name, "is missing"))
    }

    /// Ends the reading.
    ///
    /// # Errors
    /// The first field that nobody took.
    pub(super) fn finish(self) -> Result<(), Malformed> {
        match self.fields.first() {
            None => Ok(()),
            Some((name, _)) => Err(Malformed::new(shortened(name), "is not a field known here")),
        }
    }
}

impl<'de> Deserialize<'de> for Object<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(ObjectVisitor)
    }
}

struct ObjectVisitor;

impl<'de> Visitor<'de> for ObjectVisitor {
    type Value = Object<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Object<'de>, A::Error> {
        let mut fields: SmallVec<[(Cow<'de, str>, Value<'de>); 6]> = SmallVec::new();
        while let Some(Name(name)) = map.next_key()? {
            if fields.iter().any(|(field, _)| *field == name) {
                return Err(A::Error::custom(format!("has `{}` twice", shortened(&name))));
            }
            if fields.len() == FIELDS_MAX {
                return Err(A::Error::custom("has more fields than are known here"));
            }
            fields.push((name, map.next_value()?));
        }
        Ok(Object { fields })
    }
}

/// A field's name, borrowed unless it is written with escapes.
struct Name<'a>(Cow<'a, str>);

impl<'de> Deserialize<'de> for Name<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct NameVisitor;
        impl<'de> Visitor<'de> for NameVisitor {
            type Value = Name<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a field name")
            }

            fn visit_borrowed_str<E>(self, name: &'de str) -> Result<Name<'de>, E> {
                Ok(Name(Cow::Borrowed(name)))
            }

            fn visit_str<E>(self, name: &str) -> Result<Name<'de>, E> {
                Ok(Name(Cow::Owned(name.to_owned())))
            }
        }
        deserializer.deserialize_str(NameVisitor)
    }
}

/// serde_json ends its messages with a place, which in a part of the body would mislead; and it
/// speaks of types where the reader knows JSON.
fn without_place(error: &serde_json::Error) -> String {
    let message = error.to_string();
    let message = message.split(" at line ").next().unwrap_or_default();
    if message.starts_with("invalid type") { "is not a JSON object".into() } else { message.into() }
}

/// Names come from outside: what is repeated of them is bounded.
fn shortened(name: &str) -> String {
    name.chars().take(64).collect()
}

/// The elements of an array, unread.
pub(super) fn list(value: Value<'_>) -> Result<Vec<Value<'_>>, String> {
    serde_json::from_str(value.get()).map_err(|_| "is not a JSON array".into())
}

/// A string.
pub(super) fn text(value: Value<'_>) -> Result<Cow<'_, str>, String> {
    let json = value.get();
    match json.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')) {
        None => Err("is not a string".into()),
        Some(inside) if !inside.contains('\\') => Ok(Cow::Borrowed(inside)),
        Some(_) => serde_json::from_str(json)
            .map(Cow::Owned)
            .map_err(|_| "has an escape that stands for no character".into()),
    }
}

/// An amount: a decimal string or a JSON integer, of as many digits as 128 bits hold.
pub(super) fn amount(value: Value<'_>) -> Result<Amount, String> {
    Amount::from_str(&digits(value)?)
}

/// Any other number (an account, a chain, a seq): a decimal string or a JSON integer.
pub(super) fn number(value: Value<'_>) -> Result<u64, String> {
    number_from(&digits(value)?)
}

/// A number as it stands in a path or a query.
pub(super) fn number_from(text: &str) -> Result<u64, String> {
    let whole = Amount::from_str(text).map_err(|why| match why.split_once(';') {
        // The rest speaks of amounts.
        Some((rule, _)) => format!("{rule}; give a whole number"),
        None => why,
    })?;
    u64::try_from(whole.get()).map_err(|_| format!("is above {}", u64::MAX))
}

/// `true` or `false`.
pub(super) fn flag(value: Value<'_>) -> Result<bool, String> {
    match value.get() {
        "true" => Ok(true),
        "false" => Ok(false),
        _ => Err("is neither true nor false".into()),
    }
}

/// Numbers and strings are told apart by their first byte.
fn digits(value: Value<'_>) -> Result<Cow<'_, str>, String> {
    match value.get().as_bytes().first() {
        Some(b'"') => text(value),
        Some(b'-' | b'0'..=b'9') => Ok(Cow::Borrowed(value.get())),
        _ => Err("is neither a whole number nor a string of digits".into()),
    }
}

/// A number that may be below zero: a decimal string or a JSON integer.
pub(super) fn signed(value: Value<'_>) -> Result<i64, String> {
    let text = digits(value)?;
    match text.strip_prefix('-') {
        None => i64::try_from(number_from(&text)?).map_err(|_| format!("is above {}", i64::MAX)),
        // Its own rules, but for the sign.
        Some(below) => {
            let below = number_from(below)?;
            0_i64.checked_sub_unsigned(below).ok_or_else(|| format!("is below {}", i64::MIN))
        }
    }
}

/// The name of an asset or a market, which need not exist.
pub(super) fn asset(value: Value<'_>) -> Result<Cow<'_, str>, String> {
    let name = text(value)?;
    name_from(&name)?;
    Ok(name)
}

/// The name of an asset or a market as it stands in a path or a query.
pub(super) fn name_from(text: &str) -> Result<&str, String> {
    if text.len() > ASSET_NAME_BYTES_MAX {
        return Err(format!("is no such name: those have at most {ASSET_NAME_BYTES_MAX} bytes"));
    }
    Ok(text)
}

/// A request id: UUID text.
pub(super) fn request_id(value: Value<'_>) -> Result<RequestId, String> {
    text(value)?.parse()
}

/// An RFC 3339 time, rounded down to microseconds; one before 1970 is the same as 1970.
pub(super) fn time(value: Value<'_>) -> Result<Time, String> {
    time_from(&text(value)?)
}

/// A time as it stands in a query.
pub(super) fn time_from(text: &str) -> Result<Time, String> {
    let stamp: jiff::Timestamp = text
        .parse()
        .map_err(|_| "is not an RFC 3339 time, as in 2026-01-31T12:00:00Z".to_owned())?;
    Ok(Time::new(u64::try_from(stamp.as_microsecond()).unwrap_or(0)))
}

/// Puts the name of the outer field before the one at fault; without one, it is the outer field.
pub(super) fn within(outer: fmt::Arguments<'_>, inner: Malformed) -> Malformed {
    let field = match inner.field.as_str() {
        "" => outer.to_string(),
        inner => format!("{outer}.{inner}"),
    };
    Malformed { field, why: inner.why }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of<T>(
        json: &str,
        read: impl for<'a> FnOnce(Value<'a>) -> Result<T, String>,
    ) -> Result<T, String> {
        read(serde_json::from_str(json).expect("a JSON value"))
    }

    #[test]
    fn amounts_are_exact_in_either_spelling() {
        let max = u128::MAX.to_string();
        for json in [max.clone(), format!("\"{max}\"")] {
            assert_eq!(of(&json, amount), Ok(Amount::new(u128::MAX)));
        }
        assert_eq!(of("\"\\u0037\"", amount), Ok(Amount::new(7)));
        for (json, rule) in [
            ("1.5", "fractional"),
            ("1e3", "fractional"),
            ("\"0.1\"", "fractional"),
            ("-1", "negative"),
            ("\"-1\"", "negative"),
            ("340282366920938463463374607431768211456", "largest"),
            ("\"\"", "empty"),
            ("true", "neither"),
            ("[1]", "neither"),
            ("\"0x10\"", "decimal"),
        ] {
            let why = of(json, amount).expect_err(json);
            assert!(why.contains(rule), "{json}: {why}");
        }
    }

    #[test]
    fn numbers_end_at_64_bits_and_do_not_speak_of_amounts() {
        assert_eq!(of("18446744073709551615", number), Ok(u64::MAX));
        for json in ["18446744073709551616", "-1", "1.0", "\"\"", "\"x\""] {
            let why = of(json, number).expect_err(json);
            assert!(!why.contains("amount"), "{json}: {why}");
        }
    }

    #[test]
    fn signs_are_read_where_they_may_be() {
        for (json, expected) in [("-5", -5), ("\"-5\"", -5), ("5", 5), ("\"0\"", 0)] {
            assert_eq!(of(json, signed), Ok(expected), "{json}");
        }
        assert_eq!(of(&i64::MIN.to_string(), signed), Ok(i64::MIN));
        for json in ["\"--5\"", "-1.5", "\"-\"", "\"+5\"", "9223372036854775808", "\"- 5\""] {
            assert!(of(json, signed).is_err(), "{json}");
        }
        assert!(of("-9223372036854775809", signed).is_err());
    }

    #[test]
    fn times_are_rfc_3339() {
        assert_eq!(of("\"1970-01-01T00:00:01.5Z\"", time), Ok(Time::new(1_500_000)));
        assert_eq!(of("\"1969-01-01T00:00:01Z\"", time), Ok(Time::new(0)));
        assert_eq!(of("\"1970-01-01T02:00:00+02:00\"", time), Ok(Time::new(0)));
        assert!(of("\"tomorrow\"", time).is_err());
        assert!(of("12", time).is_err());
        assert_eq!(time_from("1970-01-01T00:00:01Z"), Ok(Time::new(1_000_000)));
    }

    #[test]
    fn flags_are_true_or_false() {
        assert_eq!((of("true", flag), of("false", flag)), (Ok(true), Ok(false)));
        for json in ["\"true\"", "1", "{}"] {
            assert!(of(json, flag).is_err(), "{json}");
        }
    }

    #[test]
    fn objects_name_the_field_at_fault() {
        let body = r#"{"a": 1, "b": null, "c": "x", "d": {}}"#;
        let mut object = Object::parse(body).expect("an object");
        assert_eq!(object.required("a", number), Ok(1));
        assert_eq!(object.optional("b", number), Ok(None));
        assert_eq!(object.optional("missing", number), Ok(None));
        assert!(object.has("c") && !object.has("b") && !object.has("missing"));
        assert_eq!(object.nullable("missing", number).expect_err("missing").why, "is missing");
        let error = object.required("c", number).expect_err("not a number");
        assert_eq!(error.field, "c");
        assert_eq!(object.required("e", number).expect_err("missing").why, "is missing");
        assert_eq!(object.finish().expect_err("d is left").field, "d");
    }

    #[test]
    fn bodies_say_where_they_break() {
        let error = Object::parse("{\n  \"a\": 1,\n  \"b\" 2\n}").expect_err("no colon");
        assert_eq!((error.line, error.column), (3, 7));
        assert!(error.why.contains("is not valid JSON: expected `:`"), "{}", error.why);
        for (body, why) in [
            ("[]", "is not a JSON object"),
            ("12", "is not a JSON object"),
            (r#"{"a":1,"\u0061":2}"#, "has `a` twice"),
        ] {
            assert_eq!(Object::parse(body).expect_err(body).why, why);
        }
        assert!(Object::parse("").expect("nothing").finish().is_ok());
        assert!(Object::parse("{} {}").is_err());
        assert!(Object::parse(r#"{"a": 01}"#).is_err());
    }
}
