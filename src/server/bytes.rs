//! Keys and values, which are bytes, as text: base64 (RFC 4648).
//!
//! In bodies and answers it is the standard alphabet with padding. In a path, where `/` means
//! something, the URL-safe alphabet is taken as well, and padding may be left out.

use base64::Engine as _;
use base64::alphabet::STANDARD as ALPHABET;
use base64::engine::general_purpose::STANDARD;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};

use crate::config::KEY_BYTES_MAX;
use crate::types::Key;

use super::json::{self, Value};

/// The standard alphabet, with or without padding.
const LENIENT: GeneralPurpose = GeneralPurpose::new(
    &ALPHABET,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// Bytes as they are shown.
pub(super) fn shown(bytes: &[u8]) -> String {
    STANDARD.encode(bytes)
}

/// Bytes in a JSON string.
///
/// # Errors
/// Why they are none, to be read after the field's name.
pub(super) fn read(value: Value<'_>) -> Result<Vec<u8>, String> {
    let text = json::text(value)?;
    STANDARD.decode(text.as_bytes()).map_err(|_| "is not base64 with padding".into())
}

/// A key in a JSON string.
///
/// # Errors
/// As [`read`].
pub(super) fn key(value: Value<'_>) -> Result<Key, String> {
    read(value).map(Key::new)
}

/// A key in a path.
///
/// # Errors
/// Why it is none, to be read after the field's name.
pub(super) fn key_in_path(text: &str) -> Result<Key, String> {
    let standard = text.replace('-', "+").replace('_', "/");
    let bytes = LENIENT.decode(standard).map_err(|_| "is not base64".to_owned())?;
    if (1..=KEY_BYTES_MAX).contains(&bytes.len()) {
        return Ok(Key::new(bytes));
    }
    Err(format!("has {} bytes; a key has 1 to {KEY_BYTES_MAX}", bytes.len()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(json: &str) -> Result<Vec<u8>, String> {
        read(serde_json::from_str(json).expect("a JSON value"))
    }

    #[test]
    fn every_byte_comes_back() {
        let all: Vec<u8> = (0..=255).collect();
        assert_eq!(of(&format!("\"{}\"", shown(&all))), Ok(all.clone()));
        assert_eq!(key_in_path(&shown(&all)), Ok(Key::new(all.clone())));
        let url_safe = shown(&all).replace('+', "-").replace('/', "_");
        assert_eq!(key_in_path(url_safe.trim_end_matches('=')), Ok(Key::new(all)));
    }

    #[test]
    fn what_is_no_base64_is_told() {
        for json in ["\"YQ\"", "\"YQ=\"", "\"Y Q=\"", "\"-_==\"", "\"YR==\"", "7", "null"] {
            assert!(of(json).is_err(), "{json}");
        }
        assert_eq!(of("\"\""), Ok(vec![]));
        assert!(key_in_path("a!").is_err());
        assert!(key_in_path("").expect_err("empty").contains("1 to 1024"));
        let long = shown(&[7; KEY_BYTES_MAX + 1]);
        assert!(key_in_path(&long).expect_err("long").contains("1025 bytes"));
    }
}
