//! JSON bodies of requests: the readers that the server makes its requests with, which know nothing
//! of HTTP and so are built here by themselves.

#[path = "../../../src/server/bytes.rs"]
mod bytes;
#[path = "../../../src/server/json.rs"]
mod json;

use json::{Object, Value};

/// Names of fields, of which an input should have some.
const FIELDS: [&str; 6] = ["legs", "from", "amount", "asset", "deadline", "key"];
/// Bodies are as deep as the server reads them.
const DEPTH_MAX: usize = 3;

/// A whole body.
pub fn body(input: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(input) else { return false };
    let _ = bytes::key_in_path(text);
    let _ = json::time_from(text);
    if let Ok(number) = json::number_from(text) {
        is_spelled(text, number.into());
    }
    match Object::parse(text) {
        Ok(body) => object(body, DEPTH_MAX),
        Err(refused) => {
            assert!(!refused.why.is_empty());
            false
        }
    }
}

/// Reads every field in every way. Says whether there was nothing else.
fn object(mut object: Object<'_>, depth: usize) -> bool {
    for name in FIELDS {
        let was_there = object.has(name);
        let read = object.optional(name, |value| {
            every_way(value, depth);
            Ok(())
        });
        assert!(read.is_ok() && !object.has(name), "a field is taken once");
        assert!(was_there || read == Ok(None));
    }
    assert!(object.required("from", json::number).is_err(), "it was taken");
    let Err(unknown) = object.finish() else { return true };
    // Names come from outside: what is repeated of them is bounded.
    assert!(unknown.field.chars().count() <= 64);
    let outer = json::within(format_args!("legs[0]"), unknown);
    assert!(outer.field.starts_with("legs[0]"));
    false
}

fn every_way(value: Value<'_>, depth: usize) {
    let digits = value.get().trim_matches('"');
    if let Ok(amount) = json::amount(value) {
        is_spelled_in(value, digits, amount.get());
    }
    if let Ok(number) = json::number(value) {
        is_spelled_in(value, digits, number.into());
    }
    if let Ok(text) = json::text(value) {
        let other: String = serde_json::from_str(value.get()).unwrap();
        assert_eq!(text, other, "two readers of one text");
        if let Ok(found) = bytes::read(value) {
            assert_eq!(bytes::shown(&found), text, "base64 has one spelling");
        }
    }
    let _ = (json::flag(value), json::request_id(value), json::time(value), json::asset(value));
    let _ = bytes::key(value);
    if depth == 0 {
        return;
    }
    if let Ok(inner) = Object::of(value) {
        object(inner, depth - 1);
    }
    for element in json::list(value).into_iter().flatten() {
        every_way(element, depth - 1);
    }
}

/// The digits of a value without escapes are the number's, but for zeros before them.
fn is_spelled_in(value: Value<'_>, digits: &str, number: u128) {
    if !value.get().contains('\\') {
        is_spelled(digits, number);
    }
}

fn is_spelled(digits: &str, number: u128) {
    let significant = digits.trim_start_matches('0');
    let significant = if significant.is_empty() { "0" } else { significant };
    assert_eq!(significant, number.to_string(), "a number is not what is written");
}
