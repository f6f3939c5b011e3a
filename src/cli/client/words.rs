//! Arguments of client commands that are made of parts: legs, links, versions, and the server's URL.
//!
//! ```text
//! --leg 1:2:ETH:5        account 1 pays 5 ETH to account 2
//! --link 101=DYw8…       an address on chain 101
//! --read name@7          the key `name` was read in version 7
//! --read-balance 1:ETH@7 so was account 1's ETH
//! --write name=value
//! ```

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use serde_json::{Map, Value, json};

use crate::types::Amount;

/// The members of a JSON object.
pub(super) type Members = Map<String, Value>;

/// The members of an object.
pub(super) fn members(object: Value) -> Members {
    match object {
        Value::Object(members) => members,
        other => unreachable!("{other} is no object"),
    }
}

/// `http://HOST:PORT` or `https://HOST:PORT`, without what follows.
pub(super) fn url(text: &str) -> Result<String, String> {
    let bare = text.trim_end_matches('/');
    let host = bare.strip_prefix("http://").or_else(|| bare.strip_prefix("https://"));
    let host =
        host.ok_or("does not begin with http:// or https://, as http://127.0.0.1:7400 does")?;
    if host.is_empty() || host.contains(['/', '?', '#', '@', ' ']) {
        return Err("is not http://HOST:PORT".into());
    }
    Ok(bare.to_owned())
}

/// `FROM:TO:ASSET:AMOUNT`.
pub(super) fn leg(text: &str) -> Result<Value, String> {
    let parts: Vec<&str> = text.split(':').collect();
    let [from, to, asset, amount] = parts[..] else {
        return Err("is not FROM:TO:ASSET:AMOUNT, as in 1:2:ETH:5".into());
    };
    let amount: Amount = amount.parse().map_err(|why| format!("amount {amount:?} {why}"))?;
    Ok(json!({"from": account(from)?, "to": account(to)?, "asset": asset, "amount": amount}))
}

/// The number of an account.
pub(super) fn account(text: &str) -> Result<u64, String> {
    text.parse()
        .map_err(|_| format!("{text:?} is not an account number; give a whole number, as in 1"))
}

/// `CHAIN=ADDRESS`.
pub(super) fn link(text: &str) -> Result<Value, String> {
    let (chain, address) = text.split_once('=').ok_or("is not CHAIN=ADDRESS, as in 1=0xfB69...")?;
    let chain: u64 = chain.parse().map_err(|_| format!("{chain:?} is not a chain's number"))?;
    Ok(json!({"chain_id": chain, "address": address}))
}

/// `KEY@VERSION`, where the key may hold an `@` itself.
pub(super) fn read(text: &str) -> Result<Value, String> {
    let (key, version) = versioned(text)?;
    Ok(json!({"key": encoded(key), "version": version}))
}

/// `ACCOUNT:ASSET@VERSION`.
pub(super) fn read_balance(text: &str) -> Result<Value, String> {
    let (balance, version) = versioned(text)?;
    let (of, asset) = balance.split_once(':').ok_or("is not ACCOUNT:ASSET@VERSION")?;
    Ok(json!({"account": account(of)?, "asset": asset, "version": version}))
}

fn versioned(text: &str) -> Result<(&str, u64), String> {
    let (of, version) = text.rsplit_once('@').ok_or("has no @VERSION")?;
    let version = version.parse().map_err(|_| format!("{version:?} is not a version"))?;
    Ok((of, version))
}

/// `KEY=VALUE`, where the value may hold a `=` itself.
pub(super) fn write(text: &str) -> Result<Value, String> {
    let (key, value) = text.split_once('=').ok_or("is not KEY=VALUE")?;
    Ok(json!({"key": encoded(key), "value": encoded(value)}))
}

/// A key whose value is to go.
pub(super) fn delete(key: &str) -> Result<Value, String> {
    Ok(json!({"key": encoded(key), "value": null}))
}

fn encoded(text: &str) -> String {
    STANDARD.encode(text)
}

/// A key as a part of a path.
pub(super) fn key_segment(key: &str) -> String {
    URL_SAFE_NO_PAD.encode(key)
}

/// Base64 as the text in it; `None` where that cannot be shown.
pub(super) fn decoded(base64: &str) -> Option<String> {
    let text = String::from_utf8(STANDARD.decode(base64).ok()?).ok()?;
    (!text.chars().any(char::is_control)).then_some(text)
}

/// Any text as one part of a path or a query.
pub(super) fn segment(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                escaped.push(byte.into());
            }
            other => escaped += &format!("%{other:02X}"),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn legs_are_four_parts() {
        let expected = json!({"from": 1, "to": 2, "asset": "USDC.eth", "amount": "5"});
        assert_eq!(leg("1:2:USDC.eth:5"), Ok(expected));
        for wrong in ["1:2:ETH", "1:2:ETH:5:6", "x:2:ETH:5", "1:-2:ETH:5", "1:2:ETH:0.5"] {
            assert!(leg(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn keys_and_values_may_hold_what_parts_them() {
        assert_eq!(read("a@b@7"), Ok(json!({"key": "YUBi", "version": 7})));
        assert_eq!(write("a=b=c"), Ok(json!({"key": "YQ==", "value": "Yj1j"})));
        assert_eq!(delete("a"), Ok(json!({"key": "YQ==", "value": null})));
        let balance = json!({"account": 1, "asset": "ETH", "version": 0});
        assert_eq!(read_balance("1:ETH@0"), Ok(balance));
        for wrong in ["a", "a@", "a@x"] {
            assert!(read(wrong).is_err(), "{wrong}");
        }
        assert!(write("a").is_err() && link("1").is_err() && read_balance("1@2").is_err());
        assert_eq!(link("1=0xab"), Ok(json!({"chain_id": 1, "address": "0xab"})));
    }

    #[test]
    fn urls_are_http_or_https() {
        assert_eq!(url("http://127.0.0.1:7400/"), Ok("http://127.0.0.1:7400".into()));
        assert_eq!(url("https://venue.example"), Ok("https://venue.example".into()));
        for wrong in
            ["127.0.0.1:7400", "http://", "https://", "ftp://a", "http://a/v1", "http://a b"]
        {
            assert!(url(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn what_is_in_a_path_is_escaped() {
        assert_eq!(segment("USDC.eth"), "USDC.eth");
        assert_eq!(segment("a/b ?é"), "a%2Fb%20%3F%C3%A9");
        assert_eq!(key_segment("??>"), "Pz8-");
        assert_eq!(decoded("YWI=").as_deref(), Some("ab"));
        assert_eq!((decoded("/w=="), decoded("Cg=="), decoded("a")), (None, None, None));
    }
}
