//! Secrets of API keys: where they come from, how they are written down, how they are checked.
//!
//! ```text
//! master (32 random bytes in a file) ── HMAC-SHA256(name, generation) ──► secret ── SHA-256 ──► verifier
//!                                                                         │                     in the journal
//!                                                                         └─► token, shown once
//! ```
//!
//! A secret is derived, so that the server can check signatures made with it and still keep it nowhere.
//! Who has a journal or a backup has verifiers, and nobody gets in with these. Who has the master has
//! every key: it lies beside the journal, readable by its owner alone, and no backup takes it along.
//!
//! A token is `xl_NAME_` and 48 characters of base64url: the secret, and a checksum over the name and the
//! secret. So a token that was mistyped or cut is told from a wrong one without asking anybody, and
//! scanners find tokens that leaked: `xl_[A-Za-z0-9_-]{1,64}_[A-Za-z0-9_-]{48}`.

use std::fmt;
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::Path;
use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::{Hmac, Mac};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use super::ApiKey;

/// The file of the master, in the data directory.
pub const MASTER_FILE: &str = "keys.master";
/// What every token begins with.
const PREFIX: &str = "xl_";
/// A secret and its checksum in base64url.
const TAIL_CHARS: usize = 48;
/// A secret's length, and the master's.
const SECRET_BYTES: usize = 32;
/// Says what the derived bytes are for, so that the master could serve something else as well.
const PURPOSE: &[u8] = b"crosslatch api key v1";

/// What a key's owner has and signs with. Never shown by `Debug`.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret([u8; SECRET_BYTES]);

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(..)")
    }
}

impl Secret {
    /// The secret of those bytes.
    pub const fn new(bytes: [u8; SECRET_BYTES]) -> Self {
        Self(bytes)
    }

    /// Its bytes, to sign with.
    pub const fn bytes(&self) -> &[u8; SECRET_BYTES] {
        &self.0
    }

    /// What is kept of it: SHA-256. The secret has 256 random bits, so there is nothing to guess, and a
    /// slow hash would protect nothing.
    pub fn verifier(&self) -> [u8; 32] {
        Sha256::digest(self.0).into()
    }

    /// Whether that is its verifier, in a time that says nothing of it.
    pub fn fits(&self, verifier: &[u8; 32]) -> bool {
        self.verifier().ct_eq(verifier).into()
    }
}

/// The one secret that those of all keys are derived from.
#[derive(Clone)]
pub struct Master([u8; SECRET_BYTES]);

impl fmt::Debug for Master {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Master(..)")
    }
}

impl Master {
    /// The master of those bytes.
    pub const fn new(bytes: [u8; SECRET_BYTES]) -> Self {
        Self(bytes)
    }

    /// The secret of a key of that name in that generation.
    pub fn secret(&self, name: &str, generation: u32) -> Secret {
        let mut mac = Hmac::<Sha256>::new_from_slice(&self.0).expect("any length is a key");
        // The generation has a fixed length, so no two keys have the same text.
        for part in [PURPOSE, &generation.to_be_bytes(), name.as_bytes()] {
            mac.update(part);
        }
        Secret(mac.finalize().into_bytes().into())
    }

    /// The key with the verifier of its secret in its generation, and the token for its owner.
    pub fn seal(&self, key: ApiKey) -> (ApiKey, Token) {
        let secret = self.secret(&key.name, key.generation);
        let token = Token { name: key.name.clone(), secret };
        (ApiKey { verifier: token.secret.verifier(), ..key }, token)
    }

    /// The master of a data directory, made at the first use: 0600, on disk before it is used.
    ///
    /// # Errors
    /// It cannot be read or written, others may read it, or it is no master.
    pub fn open(data: &Path) -> io::Result<Self> {
        let path = data.join(MASTER_FILE);
        let named =
            |error: io::Error| io::Error::new(error.kind(), format!("{}: {error}", path.display()));
        match File::open(&path) {
            Ok(file) => Self::read(file).map_err(named),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                Self::make(data).map_err(named)
            }
            Err(error) => Err(named(error)),
        }
    }

    fn read(mut file: File) -> io::Result<Self> {
        let metadata = file.metadata()?;
        if metadata.permissions().mode() & 0o077 != 0 {
            let why = "others than its owner may read it; make new secrets of all keys \
                       (`crosslatch key rotate`) if anybody did, and then `chmod 600` it";
            return Err(io::Error::new(io::ErrorKind::PermissionDenied, why));
        }
        let mut bytes = [0; SECRET_BYTES];
        if metadata.len() != SECRET_BYTES as u64 {
            let found = metadata.len();
            let why = format!("has {found} bytes; the master of all keys has {SECRET_BYTES}");
            return Err(io::Error::new(io::ErrorKind::InvalidData, why));
        }
        file.read_exact(&mut bytes)?;
        Ok(Self(bytes))
    }

    /// Under another name first: a master that was written by half must never be taken for one.
    fn make(data: &Path) -> io::Result<Self> {
        let mut bytes = [0; SECRET_BYTES];
        getrandom::fill(&mut bytes).map_err(|error| io::Error::other(error.to_string()))?;
        let unfinished = data.join(format!("{MASTER_FILE}.new"));
        let mut file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&unfinished)?;
        file.write_all(&bytes)?;
        file.sync_all()?;
        std::fs::rename(&unfinished, data.join(MASTER_FILE))?;
        File::open(data)?.sync_all()?;
        Ok(Self(bytes))
    }
}

/// A key's name and secret, as its owner keeps them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Token {
    /// The key's name.
    pub name: Box<str>,
    /// Its secret.
    pub secret: Secret,
}

impl Token {
    /// The text that is shown once, when the secret is made.
    pub fn reveal(&self) -> String {
        let mut tail = self.secret.0.to_vec();
        tail.extend(checksum(&self.name, &self.secret));
        format!("{PREFIX}{}_{}", self.name, URL_SAFE_NO_PAD.encode(tail))
    }
}

/// Over the name too: a token that is put together of two keys is a mistake that is noticed.
fn checksum(name: &str, secret: &Secret) -> [u8; 4] {
    crc32c::crc32c_append(crc32c::crc32c(name.as_bytes()), &secret.0).to_be_bytes()
}

impl FromStr for Token {
    type Err = String;

    /// Says whether it has the form of a token; only the server knows whether it is one.
    fn from_str(text: &str) -> Result<Self, String> {
        let wrong =
            || "is no token; it looks like xl_NAME_ and 48 letters, digits, '-' or '_'".to_owned();
        let rest = text.trim().strip_prefix(PREFIX).ok_or_else(wrong)?;
        let place = rest.len().checked_sub(TAIL_CHARS + 1).ok_or_else(wrong)?;
        let (name, tail) = rest.split_at_checked(place).ok_or_else(wrong)?;
        let tail = tail.strip_prefix('_').ok_or_else(wrong)?;
        let bytes = URL_SAFE_NO_PAD.decode(tail).map_err(|_| wrong())?;
        let (secret, sum) = bytes.split_first_chunk().ok_or_else(wrong)?;
        let secret = Secret(*secret);
        if ApiKey::validate_name(name).is_err() {
            return Err(wrong());
        }
        if sum != checksum(name, &secret) {
            return Err("is mistyped or cut: its checksum does not fit".into());
        }
        Ok(Self { name: name.into(), secret })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token(name: &str) -> Token {
        Token { name: name.into(), secret: Master([7; 32]).secret(name, 1) }
    }

    #[test]
    fn a_token_is_read_as_it_was_written() {
        for name in ["a", "desk-1", "with_under_scores", &"x".repeat(64)] {
            let text = token(name).reveal();
            assert_eq!(text.parse(), Ok(token(name)), "{text}");
            assert_eq!(text.len(), 3 + name.len() + 1 + TAIL_CHARS);
        }
    }

    #[test]
    fn any_other_character_makes_it_no_token() {
        let text = token("desk").reveal();
        for place in 0..text.len() {
            for other in ['A', 'b', '7', '_', '-', ' '] {
                let mut changed = text.clone();
                changed.replace_range(place..=place, &other.to_string());
                let read = changed.parse::<Token>();
                assert!(changed.trim() == text || read.is_err(), "{changed}: {read:?}");
            }
        }
        for cut in 0..text.len() {
            assert!(text[..cut].parse::<Token>().is_err());
        }
        assert!("xl_é_".parse::<Token>().is_err());
        assert!(format!("xl_{}", "é".repeat(30)).parse::<Token>().is_err());
    }

    #[test]
    fn secrets_differ_by_master_name_and_generation() {
        let of = |master, name, generation| Master([master; 32]).secret(name, generation);
        let one = of(1, "desk", 1);
        for other in [of(2, "desk", 1), of(1, "desk", 2), of(1, "desks", 1), of(1, "des", 1)] {
            assert_ne!(one, other);
        }
        assert_eq!(one, of(1, "desk", 1));
        assert!(!format!("{one:?} {:?}", Master([1; 32])).contains('1'));
    }

    /// `printf 'crosslatch api key v1\0\0\0\1desk' | openssl dgst -sha256 -mac HMAC -macopt hexkey:0707…07`
    #[test]
    fn derivation_is_what_it_was() {
        let secret = Master([7; 32]).secret("desk", 1);
        assert_eq!(
            hex::encode(secret.bytes()),
            "bded7b2c645ae31b2b633834725536008950a7ef4f3236cdcf18f97e341d61e3"
        );
        assert_eq!(
            hex::encode(secret.verifier()),
            "7ca0747abda1a2122c93e7778e5e6abf5ee8d6e8086b18ee80406c957256ddbf"
        );
    }

    #[test]
    fn a_master_is_made_once_and_kept_from_others() {
        let data = tempfile::tempdir().unwrap();
        let first = Master::open(data.path()).unwrap();
        assert_eq!(Master::open(data.path()).unwrap().0, first.0);
        let path = data.path().join(MASTER_FILE);
        let mode = |bits| std::fs::set_permissions(&path, PermissionsExt::from_mode(bits)).unwrap();
        assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o600);
        mode(0o640);
        let error = Master::open(data.path()).unwrap_err();
        assert!(error.to_string().contains("keys.master"), "{error}");
        assert_eq!(error.kind(), io::ErrorKind::PermissionDenied);
        mode(0o600);
        std::fs::write(&path, [0; 31]).unwrap();
        assert_eq!(Master::open(data.path()).unwrap_err().kind(), io::ErrorKind::InvalidData);
        let other = tempfile::tempdir().unwrap();
        assert_ne!(Master::open(other.path()).unwrap().0, first.0);
    }
}
