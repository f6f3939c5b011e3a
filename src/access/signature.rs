//! Signed requests: who may not show a secret proves that it has one.
//!
//! A signature is HMAC-SHA256 under the key's secret over five lines, joined by `\n`, in hex:
//!
//! ```text
//! POST
//! /v1/swaps?dry=1                                    path and query exactly as they are sent
//! 44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e…    SHA-256 of the body in hex; of no bytes where there is none
//! 1700000000000                                      milliseconds since 1970, in X-Crosslatch-Timestamp
//! 018bcfe5-687b-7000-8000-000000000001               Idempotency-Key as it is sent; empty where there is none
//! ```
//!
//! Nothing in it can be changed on the way, nor sent later: the time must be within a window of the
//! server's. Within the window a replay meets the request id, and is told the first outcome.
//!
//! By hand, with the secret in hex:
//!
//! ```text
//! hash=$(printf '%s' "$body" | openssl dgst -sha256 -r | cut -c1-64)
//! printf '%s\n%s\n%s\n%s\n%s' POST /v1/swaps "$hash" "$time" "$id" \
//!     | openssl dgst -sha256 -mac HMAC -macopt hexkey:$secret -r | cut -c1-64
//! ```

use hmac::{Hmac, Mac};
use sha2::{Digest, Sha256};

use super::secret::Secret;

/// The header with the key's name.
pub const KEY_HEADER: &str = "x-crosslatch-key";
/// The header with the time of signing, in milliseconds since 1970.
pub const TIMESTAMP_HEADER: &str = "x-crosslatch-timestamp";
/// The header with the signature, in hex.
pub const SIGNATURE_HEADER: &str = "x-crosslatch-signature";

/// SHA-256 of a body.
pub type BodyHash = [u8; 32];

/// The hash of a body that is all there.
pub fn body_hash(body: &[u8]) -> BodyHash {
    Sha256::digest(body).into()
}

/// What is signed.
#[derive(Clone, Copy, Debug)]
pub struct Signed<'a> {
    /// In capitals.
    pub method: &'a str,
    /// Path and query as they are sent.
    pub target: &'a str,
    /// Of the body.
    pub body: &'a BodyHash,
    /// Milliseconds since 1970, as they are sent.
    pub timestamp: &'a str,
    /// The `Idempotency-Key` header as it is sent; empty where there is none.
    pub request_id: &'a str,
}

impl Signed<'_> {
    /// The signature, in hex as it is sent.
    pub fn sign(&self, secret: &Secret) -> String {
        hex::encode(self.mac(secret).finalize().into_bytes())
    }

    /// Whether that is its signature, in a time that says nothing of the right one.
    pub fn is_signed(&self, signature: &str, secret: &Secret) -> bool {
        let mut given = [0; 32];
        if hex::decode_to_slice(signature, &mut given).is_err() {
            return false;
        }
        self.mac(secret).verify(&given.into()).is_ok()
    }

    fn mac(&self, secret: &Secret) -> Hmac<Sha256> {
        let mut mac = Hmac::new_from_slice(secret.bytes()).expect("any length is a key");
        let body = hex::encode(self.body);
        for line in [self.method, "\n", self.target, "\n", &body, "\n"] {
            mac.update(line.as_bytes());
        }
        for line in [self.timestamp, "\n", self.request_id] {
            mac.update(line.as_bytes());
        }
        mac
    }
}

/// Whether a time of signing is within the window, before or after now; all in milliseconds.
pub fn is_timely(timestamp: &str, now_ms: u64, window_ms: u64) -> bool {
    // As it is signed as text, it has one spelling.
    let is_plain = !timestamp.is_empty() && timestamp.bytes().all(|byte| byte.is_ascii_digit());
    let parsed = timestamp.parse::<u64>().ok().filter(|_| is_plain);
    parsed.is_some_and(|at| at.abs_diff(now_ms) <= window_ms)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The vectors of README.md, computed there with openssl.
    const BODY: &[u8] = br#"{"legs":[]}"#;
    const ID: &str = "018bcfe5-687b-7000-8000-000000000001";

    fn secret() -> Secret {
        Secret::new(std::array::from_fn(|n| n as u8))
    }

    fn signed(hash: &BodyHash) -> Signed<'_> {
        Signed {
            method: "POST",
            target: "/v1/swaps",
            body: hash,
            timestamp: "1700000000000",
            request_id: ID,
        }
    }

    #[test]
    fn signatures_are_those_of_openssl() {
        let hash = body_hash(BODY);
        assert_eq!(
            hex::encode(hash),
            "73d6a069c5c0c71290c4a8f0bcdf054910b6379cfedb5b64224678f9ec9764e1"
        );
        assert_eq!(
            signed(&hash).sign(&secret()),
            "d1a32ce686f28f09bd51aa4fea94548c95ee79fc3606e6563f1964943327074f"
        );
        let nothing = body_hash(b"");
        let get = Signed {
            method: "GET",
            target: "/v1/accounts/1/balances?at=7",
            body: &nothing,
            request_id: "",
            ..signed(&hash)
        };
        assert_eq!(
            get.sign(&secret()),
            "22f984ccfb77ff9ec7b9511999695ab70301deba0d812dff9f63831a14bce13e"
        );
    }

    #[test]
    fn whatever_is_changed_is_not_signed() {
        let hash = body_hash(BODY);
        let right = signed(&hash);
        let signature = right.sign(&secret());
        assert!(right.is_signed(&signature, &secret()));
        assert!(right.is_signed(&signature.to_uppercase(), &secret()), "hex has two cases");
        let other_hash = body_hash(br#"{"legs":[] }"#);
        let changed = [
            Signed { method: "PUT", ..right },
            Signed { target: "/v1/swaps?a=1", ..right },
            Signed { target: "/v1/swap", ..right },
            Signed { body: &other_hash, ..right },
            Signed { timestamp: "1700000000001", ..right },
            Signed { request_id: "", ..right },
            // The same characters, cut elsewhere.
            Signed { timestamp: "170000000000", request_id: &format!("0{ID}"), ..right },
        ];
        for changed in changed {
            assert!(!changed.is_signed(&signature, &secret()), "{changed:?}");
        }
        assert!(!right.is_signed(&signature, &Secret::new([0; 32])));
        for wrong in ["", "00", &signature[..63], &format!("{signature}00"), "é"] {
            assert!(!right.is_signed(wrong, &secret()), "{wrong}");
        }
        for place in 0..signature.len() {
            let mut wrong = signature.clone();
            let other = if wrong.as_bytes()[place] == b'0' { "1" } else { "0" };
            wrong.replace_range(place..=place, other);
            assert!(!right.is_signed(&wrong, &secret()));
        }
    }

    #[test]
    fn the_window_lies_on_both_sides_of_now() {
        let timely = |at: &str| is_timely(at, 1_000_000, 5_000);
        assert!(timely("1000000") && timely("995000") && timely("1005000"));
        assert!(!timely("994999") && !timely("1005001"));
        for none in ["", "+1000000", "-1", " 1000000", "1e6", "18446744073709551616"] {
            assert!(!timely(none), "{none:?}");
        }
        assert!(is_timely("0", 0, 0) && !is_timely(&u64::MAX.to_string(), 0, 5_000));
    }
}
