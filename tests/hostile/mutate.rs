//! Changes to bytes and to JSON.

use rand::Rng;
use rand::rngs::SmallRng;
use serde_json::{Value, json};

/// Bytes at whose edges lengths and counts break.
const EDGES: [u8; 10] = [0, 1, 0x7F, 0x80, 0xC0, 0xFE, 0xFF, b'\n', b'\r', b'"'];
/// Stands for what is not JSON.
const HERE: &str = "put it here";

/// One of them.
pub fn one<'a, T>(rng: &mut SmallRng, all: &'a [T]) -> &'a T {
    &all[rng.random_range(0..all.len())]
}

/// A few bytes are others, fewer or more.
pub fn shake(rng: &mut SmallRng, input: &mut Vec<u8>) {
    for _ in 0..rng.random_range(1..=4) {
        let at = rng.random_range(0..=input.len());
        let span = rng.random_range(0..=(input.len() - at).min(16));
        match rng.random_range(0..6) {
            0 => input.truncate(at),
            1 => drop(input.drain(at..at + span)),
            2 => input.insert(at, rng.random()),
            3 => {
                let copied = input[at..at + span].repeat(rng.random_range(1..50));
                input.splice(at..at, copied);
            }
            _ if at == input.len() => input.push(*one(rng, &EDGES)),
            4 => input[at] ^= 1 << rng.random_range(0..8),
            _ => input[at] = *one(rng, &EDGES),
        }
    }
}

/// A length: mostly small, sometimes large.
pub fn length(rng: &mut SmallRng, bits_max: u32) -> usize {
    let below = 1 << rng.random_range(0..bits_max);
    rng.random_range(below / 2..=below)
}

/// The value with something in it that does not belong there.
pub fn spoil(rng: &mut SmallRng, value: &Value) -> Vec<u8> {
    let mut spoiled = value.clone();
    let duplicated = rng.random_bool(0.2);
    let mut name = None;
    put(rng, &mut spoiled, duplicated, &mut name);
    let text = spoiled.to_string();
    let nasty = nasty(rng);
    let mut bytes = Vec::new();
    for (part, text) in text.split(&format!("\"{HERE}\"")).enumerate() {
        if part > 0 {
            bytes.extend_from_slice(&nasty);
        }
        bytes.extend_from_slice(text.as_bytes());
    }
    if duplicated && let Some(name) = name {
        let first = bytes.iter().position(|byte| *byte == b'{').map_or(0, |at| at + 1);
        let again = format!("\"{name}\":{},", value.get(&name).unwrap_or(&Value::Null));
        bytes.splice(first..first, again.into_bytes());
    }
    match rng.random_range(0..40) {
        0 => drop(bytes.splice(0..0, [0xEF, 0xBB, 0xBF])),
        1 => bytes.extend(b"}]garbage"),
        2 => bytes.clear(),
        3 => shake(rng, &mut bytes),
        _ => {}
    }
    bytes
}

/// Puts the mark somewhere in it; `name` becomes a member of the outermost object.
fn put(rng: &mut SmallRng, value: &mut Value, top: bool, name: &mut Option<String>) {
    let goes_in = rng.random_bool(0.85);
    match value {
        Value::Object(members) if goes_in && !members.is_empty() => {
            let nth = rng.random_range(0..members.len());
            let (key, member) = members.iter_mut().nth(nth).expect("that many");
            if top {
                *name = Some(key.clone());
            }
            put(rng, member, false, name);
        }
        Value::Array(elements) if goes_in && !elements.is_empty() => {
            let nth = rng.random_range(0..elements.len());
            if rng.random_bool(0.02) {
                let element = elements[nth].clone();
                let count = length(rng, 14);
                elements.extend(vec![element; count]);
            }
            put(rng, &mut elements[nth], false, name);
        }
        other => *other = json!(HERE),
    }
}

/// What no field wants, mostly.
fn nasty(rng: &mut SmallRng) -> Vec<u8> {
    const WORDS: [&str; 26] = [
        "null",
        "true",
        "{}",
        "[]",
        "[[]]",
        "-1",
        "-0",
        "0",
        "0.1",
        "1e3",
        "1e999999999",
        "NaN",
        "18446744073709551615",
        "18446744073709551616",
        "9223372036854775808",
        "340282366920938463463374607431768211455",
        "340282366920938463463374607431768211456",
        "\"\"",
        "\"-1\"",
        "\" 1\"",
        "\"1e3\"",
        "\"\\ud800\"",
        "\"\\u0000\"",
        "\"\u{202e}\u{0}\"",
        "\"abc",
        "0x10",
    ];
    match rng.random_range(0..40) {
        0 => b"[".repeat(length(rng, 17)),
        1 => b"{\"a\":".repeat(length(rng, 15)),
        2 => {
            let depth = length(rng, 12);
            [b"[".repeat(depth), b"]".repeat(depth)].concat()
        }
        3 | 4 => b"9".repeat(length(rng, 17)),
        5 => [b"0.".to_vec(), b"3".repeat(length(rng, 15))].concat(),
        6 | 7 => [b"\"".to_vec(), b"z".repeat(length(rng, 20)), b"\"".to_vec()].concat(),
        8 => [b"\"".to_vec(), b"\\u0041".repeat(length(rng, 14)), b"\"".to_vec()].concat(),
        9 => b"\"\xFF\xC0\xAF\xED\xA0\x80\"".to_vec(),
        10 => rng.random::<u64>().to_string().into_bytes(),
        11 => format!("\"{}\"", rng.random::<u128>()).into_bytes(),
        _ => one(rng, &WORDS).as_bytes().to_vec(),
    }
}
