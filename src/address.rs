//! Where an account is paid on a chain: address text checked against the chain's own standard.
//!
//! Two spellings of one address must be one link, or two accounts could both claim it. So an
//! [`Address`] holds only the canonical spelling, which is what is stored, compared and shown.
//!
//! | chain kind | accepted | canonical |
//! |---|---|---|
//! | EVM | `0x` and 40 hex digits; mixed case must satisfy [EIP-55] | the EIP-55 spelling |
//! | Solana | base58 of exactly 32 bytes | as given: base58 has one spelling |
//! | Bitcoin | bech32 (witness version 0, [BIP-173]), bech32m (1 to 16, [BIP-350]), base58check | lower case; as given |
//! | other | 1 to 64 bytes without white space and control characters | as given |
//!
//! A refusal says which rule is broken and what would be right, but never repeats the text nor
//! offers a corrected one: what was pasted may be a private key, and an address that merely
//! *passes* the check is not the one that was meant.
//!
//! ```
//! use crosslatch::address::Address;
//! use crosslatch::types::ChainKind;
//!
//! let address = Address::parse(ChainKind::Evm, "0xfb6916095ca1df60bb79ce92ce3ea74c37c5d359")?;
//! assert_eq!(address.as_str(), "0xfB6916095ca1df60bB79Ce92cE3Ea74c37c5d359");
//! # Ok::<(), String>(())
//! ```
//!
//! [EIP-55]: https://eips.ethereum.org/EIPS/eip-55
//! [BIP-173]: https://github.com/bitcoin/bips/blob/master/bip-0173.mediawiki
//! [BIP-350]: https://github.com/bitcoin/bips/blob/master/bip-0350.mediawiki

use std::fmt;
use std::sync::Arc;

use bech32::primitives::decode::{
    PaddingError, SegwitHrpstring, SegwitHrpstringError, UncheckedHrpstring,
};
use bech32::{Bech32, Bech32m};
use serde::Serialize;
use tiny_keccak::{Hasher, Keccak};

use crate::config::ADDRESS_BYTES_MAX;
use crate::types::{ChainId, ChainKind};

const EVM_FORM: &str = "an EVM address is 0x and 40 hex digits";
const EVM_DIGITS: usize = 40;

const SOLANA_FORM: &str = "a Solana address is 32 bytes in base58, which is 32 to 44 characters";
const SOLANA_BYTES: usize = 32;
const SOLANA_CHARS_MAX: usize = 44;

/// What precedes the data of a SegWit address: main net, test nets, regression test.
const SEGWIT_PREFIXES: [&str; 3] = ["bc1", "tb1", "bcrt1"];
const SEGWIT_CHARS_MAX: usize = 90;
/// The checksum at the end of a SegWit address, in characters.
const SEGWIT_CHECKSUM_CHARS: usize = 6;
const BECH32_ALPHABET: &str = "qpzry9x8gf2tvdw0s3jn54khce6mua7l";

const BASE58CHECK_FORM: &str = "a base58check address is 25 bytes, at most 35 characters: a \
                                version, a hash of 20 bytes and a checksum of 4";
const BASE58CHECK_CHARS_MAX: usize = 35;
const BASE58CHECK_BYTES: usize = 25;
/// Version bytes: pay to public key hash and to script hash, on the main net and on test nets.
const BASE58CHECK_VERSIONS: [u8; 4] = [0x00, 0x05, 0x6F, 0xC4];

/// An address in the canonical spelling of its chain. Cloning shares the text.
///
/// Knows its text only, not its chain: the same text may be an address on many EVM chains.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Address(Arc<str>);

impl Address {
    /// Checks `text` by the rules of a chain of that kind and brings it into canonical form.
    ///
    /// # Errors
    /// Which rule is broken and what would be right, worded to follow the name of the field.
    pub fn parse(kind: ChainKind, text: &str) -> Result<Self, String> {
        if text.is_empty() {
            return Err("is empty; give the account's address on that chain".into());
        }
        let canonical = match kind {
            ChainKind::Evm => evm(text)?,
            ChainKind::Solana => solana(text)?,
            ChainKind::Bitcoin => bitcoin(text)?,
            ChainKind::Other => other(text)?,
        };
        Ok(Self(canonical.into()))
    }

    /// Takes back text that [`Address::parse`] once returned, as recovery does with what is stored.
    ///
    /// Checks nothing: with other text, equal addresses might compare as different.
    pub fn from_canonical(text: &str) -> Self {
        Self(text.into())
    }

    /// The canonical text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl Serialize for Address {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

/// An account's address on one chain. Unique both ways: one account an address and chain, one
/// address an account and chain.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct Link {
    /// The chain on which the address is meant.
    #[serde(rename = "chain_id")]
    pub chain: ChainId,
    /// Where the account is paid there.
    pub address: Address,
}

fn evm(text: &str) -> Result<String, String> {
    let Some(digits) = text.strip_prefix("0x") else {
        return Err(format!("does not start with 0x; {EVM_FORM}"));
    };
    if let Some(foreign) = foreign_char(text, |place, c| place < 2 || c.is_ascii_hexdigit()) {
        return Err(format!("{foreign}; {EVM_FORM}"));
    }
    if digits.len() != EVM_DIGITS {
        return Err(format!("has {} hex digits after 0x; {EVM_FORM}", digits.len()));
    }
    let canonical = eip55(&digits.to_ascii_lowercase());
    if is_mixed_case(digits) && canonical != text {
        return Err(format!("{}, or give it in one case to go unchecked", mistyped("EIP-55")));
    }
    Ok(canonical)
}

/// Spells 40 lower-case hex digits with the checksum in their case: a letter is upper case where
/// the digit in the same place of the text's Keccak-256 is 8 or more.
fn eip55(digits: &str) -> String {
    let mut hash = [0; 32];
    let mut keccak = Keccak::v256();
    keccak.update(digits.as_bytes());
    keccak.finalize(&mut hash);
    let hash = hex::encode(hash);
    let spelled = digits.chars().zip(hash.chars());
    let spelled = spelled.map(|(c, hash)| if hash >= '8' { c.to_ascii_uppercase() } else { c });
    "0x".chars().chain(spelled).collect()
}

fn solana(text: &str) -> Result<String, String> {
    let bytes = base58(text, SOLANA_CHARS_MAX, SOLANA_FORM)?;
    if bytes.len() != SOLANA_BYTES {
        return Err(format!("decodes to {} bytes; {SOLANA_FORM}", bytes.len()));
    }
    Ok(bs58::encode(bytes).into_string())
}

/// The first characters tell the encodings apart: no base58check address starts like a SegWit one.
fn bitcoin(text: &str) -> Result<String, String> {
    for prefix in SEGWIT_PREFIXES {
        if text.get(..prefix.len()).is_some_and(|start| start.eq_ignore_ascii_case(prefix)) {
            return segwit(text, prefix.len());
        }
    }
    if text.starts_with(['1', '3', 'm', 'n', '2']) {
        return base58check(text);
    }
    Err("starts as no Bitcoin address does; they start with bc1, tb1 or bcrt1 (bech32, bech32m), \
         or with 1, 3, m, n or 2 (base58check)"
        .into())
}

/// Checks `text`, whose data begins after `prefix_len` bytes. The crate knows the rules; what is
/// looked at before it is asked are those that it would report under another name.
fn segwit(text: &str, prefix_len: usize) -> Result<String, String> {
    if text.len() > SEGWIT_CHARS_MAX {
        let found = text.len();
        return Err(format!(
            "is {found} characters long; a SegWit address has at most {SEGWIT_CHARS_MAX}"
        ));
    }
    let in_alphabet = |c: char| BECH32_ALPHABET.contains(c.to_ascii_lowercase());
    if let Some(foreign) = foreign_char(text, |place, c| place < prefix_len || in_alphabet(c)) {
        return Err(format!("{foreign}; after its prefix bech32 has only {BECH32_ALPHABET}"));
    }
    if is_mixed_case(text) {
        return Err("mixes upper and lower case; write a bech32 address in one case".into());
    }
    if text.len() - prefix_len <= SEGWIT_CHECKSUM_CHARS {
        return Err("has no data; a witness version and a witness program are to follow the \
                    prefix, before the checksum"
            .into());
    }
    match SegwitHrpstring::new(text) {
        Ok(_) => Ok(text.to_ascii_lowercase()),
        Err(error) => Err(segwit_refusal(text, prefix_len, &error)),
    }
}

fn segwit_refusal(text: &str, prefix_len: usize, error: &SegwitHrpstringError) -> String {
    match error {
        SegwitHrpstringError::InvalidWitnessVersion(version) => {
            format!("has witness version {}; the versions are 0 to 16", version.to_u8())
        }
        SegwitHrpstringError::Checksum(_) => segwit_checksum_refusal(text),
        SegwitHrpstringError::WitnessLength(_) => {
            // Five bits a character, without the version and the checksum.
            let bytes = (text.len() - prefix_len - 1 - SEGWIT_CHECKSUM_CHARS) * 5 / 8;
            format!(
                "has a witness program of {bytes} bytes; version 0 takes 20 or 32, later versions \
                 2 to 40"
            )
        }
        SegwitHrpstringError::Padding(PaddingError::TooMuch) => {
            "pads its witness program with more than 4 bits; use the fewest characters that hold it"
                .into()
        }
        SegwitHrpstringError::Padding(_) => {
            "pads its witness program with other bits than zeros; pad with zeros".into()
        }
        other => format!("is not a SegWit address: {other}"),
    }
}

/// Tells a mistyped address from one that was encoded by the wrong one of the two standards.
fn segwit_checksum_refusal(text: &str) -> String {
    match UncheckedHrpstring::new(text) {
        Ok(string) if string.has_valid_checksum::<Bech32>() => {
            "has the checksum of bech32; witness versions 1 to 16 take bech32m's (BIP-350)".into()
        }
        Ok(string) if string.has_valid_checksum::<Bech32m>() => {
            "has the checksum of bech32m; witness version 0 takes bech32's (BIP-173)".into()
        }
        _ => mistyped("bech32"),
    }
}

fn base58check(text: &str) -> Result<String, String> {
    let bytes = base58(text, BASE58CHECK_CHARS_MAX, BASE58CHECK_FORM)?;
    if bytes.len() != BASE58CHECK_BYTES {
        return Err(format!("decodes to {} bytes; {BASE58CHECK_FORM}", bytes.len()));
    }
    if bs58::decode(text).with_check(None).into_vec().is_err() {
        return Err(mistyped("base58check"));
    }
    if !BASE58CHECK_VERSIONS.contains(&bytes[0]) {
        return Err(format!(
            "has version byte 0x{:02x}; Bitcoin's are 0x00 and 0x05 on the main net, 0x6f and 0xc4 \
             on test nets",
            bytes[0]
        ));
    }
    Ok(text.to_owned())
}

/// Decodes base58 in Bitcoin's alphabet. The length is checked first, as the time that decoding
/// takes grows with its square.
fn base58(text: &str, chars_max: usize, form: &str) -> Result<Vec<u8>, String> {
    if text.len() > chars_max {
        return Err(format!("is {} characters long; {form}", text.chars().count()));
    }
    bs58::decode(text).into_vec().map_err(|error| {
        match foreign_char(text, |_, c| c.is_ascii_alphanumeric() && !"0OIl".contains(c)) {
            Some(foreign) => {
                format!("{foreign}; base58 has the digits and letters without 0, O, I and l")
            }
            None => format!("is not base58: {error}; {form}"),
        }
    })
}

fn other(text: &str) -> Result<String, String> {
    if text.len() > ADDRESS_BYTES_MAX {
        return Err(format!("is {} bytes long; at most {ADDRESS_BYTES_MAX} fit", text.len()));
    }
    match foreign_char(text, |_, c| !c.is_control() && !c.is_whitespace()) {
        Some(foreign) => {
            Err(format!("{foreign}; an address has no white space and no control characters"))
        }
        None => Ok(text.to_owned()),
    }
}

/// Names the first character that does not belong, given its place from 0.
fn foreign_char(text: &str, belongs: impl Fn(usize, char) -> bool) -> Option<String> {
    let (place, c) = text.chars().enumerate().find(|&(place, c)| !belongs(place, c))?;
    Some(format!("has {c:?} as character {}", place + 1))
}

fn is_mixed_case(text: &str) -> bool {
    text.contains(|c: char| c.is_ascii_uppercase())
        && text.contains(|c: char| c.is_ascii_lowercase())
}

fn mistyped(encoding: &str) -> String {
    format!("fails its {encoding} checksum, so a character may be wrong; copy it again")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn accepts(kind: ChainKind, text: &str, canonical: &str) {
        let address = Address::parse(kind, text);
        assert_eq!(address.as_ref().map(Address::as_str), Ok(canonical));
        assert_eq!(Address::parse(kind, canonical), address, "canonical text is its own form");
        assert_eq!(Address::from_canonical(canonical), address.expect("just compared"));
    }

    #[track_caller]
    fn refuses(kind: ChainKind, text: &str, rule: &str) {
        let why = Address::parse(kind, text).expect_err(text);
        assert!(why.contains(rule), "{text}: {why}");
        assert!(text.len() < 10 || !why.contains(text), "repeats what may be a secret: {why}");
    }

    #[test]
    fn evm_accepts_the_vectors_of_eip_55() {
        for text in [
            "0x52908400098527886E0F7030069857D2E4169EE7",
            "0x8617E340B3D01FA5F11F306F4090FD50E238070D",
            "0xde709f2102306220921060314715629080e2fb77",
            "0x27b1fdb04752bbc536007a920d24acb045561c26",
            "0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed",
            "0xfB6916095ca1df60bB79Ce92cE3Ea74c37c5d359",
            "0xdbF03B407c01E7cD3CBea99509d93f8DDDC8C6FB",
            "0xD1220A0cf47c7B9Be7A2E6BA89F429762e7b9aDb",
        ] {
            let digits = &text[2..];
            accepts(ChainKind::Evm, text, text);
            accepts(ChainKind::Evm, &format!("0x{}", digits.to_ascii_lowercase()), text);
            accepts(ChainKind::Evm, &format!("0x{}", digits.to_ascii_uppercase()), text);
        }
    }

    #[test]
    fn evm_names_the_rule_that_is_broken() {
        for (text, rule) in [
            ("", "is empty"),
            ("de709f2102306220921060314715629080e2fb77", "start with 0x"),
            ("0Xde709f2102306220921060314715629080e2fb77", "start with 0x"),
            ("0xde709f2102306220921060314715629080e2fb7", "39 hex digits"),
            ("0xde709f2102306220921060314715629080e2fb770", "41 hex digits"),
            ("0x", "0 hex digits"),
            ("0xde709f2102306220921060314715629080e2fbg7", "'g' as character 41"),
            ("0xde709f2102306220921060314715629080e2fb77\n", "'\\n' as character 43"),
            ("0xde709f2102306220921060314715629080e2fbé", "'é' as character 41"),
            ("0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAeD", "EIP-55"),
            ("0x5Aaeb6053F3E94C9b9A09f33669435E7Ef1BeAed", "EIP-55"),
        ] {
            refuses(ChainKind::Evm, text, rule);
        }
    }

    #[test]
    fn solana_accepts_32_bytes_of_base58() {
        for text in [
            // 32 zero bytes: the system program.
            "11111111111111111111111111111111",
            // The token program, wrapped SOL and USDC.
            "TokenkegQfeZyiNwAJbNbGKPFXCWuBvf9Ss623VQ5DA",
            "So11111111111111111111111111111111111111112",
            "EPjFWdd5AufqSSqeM2qN1xzybapC8G4wEGGkZwyTDt1v",
            // 32 bytes of 0xff: the last one.
            "JEKNVnkbo3jma5nREBBJCDoXFVeKkD56V3xKrvRmWxFG",
        ] {
            accepts(ChainKind::Solana, text, text);
        }
    }

    #[test]
    fn solana_names_the_rule_that_is_broken() {
        for (text, rule) in [
            ("", "is empty"),
            ("1111111111111111111111111111111", "31 bytes"),
            ("111111111111111111111111111111111", "33 bytes"),
            ("JEKNVnkbo3jma5nREBBJCDoXFVeKkD56V3xKrvRmWxFH", "33 bytes"),
            ("EPjFWdd5AufqSSqeM2qN1xzybapC8G4wEGGkZwyTDt1vv", "45 characters"),
            ("EPjFWdd5AufqSSqeM2qN1xzybapC8G4wEGGkZwyTDtlv", "'l' as character 43"),
            ("0PjFWdd5AufqSSqeM2qN1xzybapC8G4wEGGkZwyTDt1v", "'0' as character 1"),
            ("EPjFWdd5AufqSSqeM2qN1xzybapC8G4wEGGkZwyTDté", "'é' as character 43"),
            (" 11111111111111111111111111111111", "' ' as character 1"),
        ] {
            refuses(ChainKind::Solana, text, rule);
        }
    }

    #[test]
    fn long_base58_is_refused_before_it_is_decoded() {
        let text = "z".repeat(16 << 20);
        for kind in [ChainKind::Solana, ChainKind::Bitcoin] {
            let why = Address::parse(kind, &format!("1{text}")).expect_err("too long");
            assert!(why.contains("is 16777217 characters long"), "{why}");
        }
    }

    #[test]
    fn segwit_accepts_the_vectors_of_bip_173_and_bip_350() {
        for text in [
            "BC1QW508D6QEJXTDG4Y5R3ZARVARY0C5XW7KV8F3T4",
            "tb1qrp33g0q5c5txsp9arysrx4k6zdkfs4nce4xj0gdcccefvpysxf3q0sl5k7",
            "bc1pw508d6qejxtdg4y5r3zarvary0c5xw7kw508d6qejxtdg4y5r3zarvary0c5xw7kt5nd6y",
            "BC1SW50QGDZ25J",
            "bc1zw508d6qejxtdg4y5r3zarvaryvaxxpcs",
            "tb1qqqqqp399et2xygdj5xreqhjjvcmzhxw4aywxecjdzew6hylgvsesrxh6hy",
            "tb1pqqqqp399et2xygdj5xreqhjjvcmzhxw4aywxecjdzew6hylgvsesf3hn0c",
            "bc1p0xlxvlhemja6c4dqv22uapctqupfhlxm9h8z3k2e72q4k9hcz7vqzk5jj0",
            // On the regression test net.
            "bcrt1qw508d6qejxtdg4y5r3zarvary0c5xw7kygt080",
        ] {
            accepts(ChainKind::Bitcoin, text, &text.to_ascii_lowercase());
        }
    }

    /// BIP-350 made bech32 the checksum of version 0 only, so the later versions among the valid
    /// vectors of BIP-173 stand here.
    #[test]
    fn segwit_refuses_the_invalid_vectors_of_bip_173() {
        for (text, rule) in [
            ("tc1qw508d6qejxtdg4y5r3zarvary0c5xw7kg3g4ty", "starts as no"),
            ("bc1qw508d6qejxtdg4y5r3zarvary0c5xw7kv8f3t5", "fails its bech32 checksum"),
            ("BC13W508D6QEJXTDG4Y5R3ZARVARY0C5XW7KN40WF2", "witness version 17"),
            ("bc1rw5uspcuh", "has the checksum of bech32;"),
            (
                "bc10w508d6qejxtdg4y5r3zarvary0c5xw7kw508d6qejxtdg4y5r3zarvary0c5xw7kw5rljs90",
                "has the checksum of bech32;",
            ),
            ("BC1QR508D6QEJXTDG4Y5R3ZARVARYV98GJ9P", "program of 16 bytes"),
            ("tb1qrp33g0q5c5txsp9arysrx4k6zdkfs4nce4xj0gdcccefvpysxf3q0sL5k7", "mixes upper"),
            ("bc1zw508d6qejxtdg4y5r3zarvaryvqyzf3du", "has the checksum of bech32;"),
            ("tb1qrp33g0q5c5txsp9arysrx4k6zdkfs4nce4xj0gdcccefvpysxf3pjxtptv", "than zeros"),
            ("bc1gmk9yu", "has no data"),
            (
                "bc1pw508d6qejxtdg4y5r3zarvary0c5xw7kw508d6qejxtdg4y5r3zarvary0c5xw7k7grplx",
                "has the checksum of bech32;",
            ),
            ("BC1SW50QA3JX3S", "has the checksum of bech32;"),
            ("bc1zw508d6qejxtdg4y5r3zarvaryvg6kdaj", "has the checksum of bech32;"),
        ] {
            refuses(ChainKind::Bitcoin, text, rule);
        }
    }

    #[test]
    fn segwit_refuses_the_invalid_vectors_of_bip_350() {
        const V1: &str = "0xlxvlhemja6c4dqv22uapctqupfhlxm9h8z3k2e72q4k9hcz7v";
        for (text, rule) in [
            (format!("tc1p{V1}q5zuyut"), "starts as no"),
            (format!("bc1p{V1}qh2y7hd"), "has the checksum of bech32;"),
            (format!("tb1z{V1}qglt7rf"), "has the checksum of bech32;"),
            (format!("BC1S{}Q54WELL", V1.to_ascii_uppercase()), "has the checksum of bech32;"),
            ("bc1qw508d6qejxtdg4y5r3zarvary0c5xw7kemeawh".into(), "has the checksum of bech32m"),
            (format!("tb1q{V1}q24jc47"), "has the checksum of bech32m"),
            (
                "bc1p38j9r5y49hruaue7wxjce0updqjuyyx0kh56v8s25huc6995vvpql3jow4".into(),
                "'o' as character 60",
            ),
            (format!("BC13{}Q7ZWS8R", V1.to_ascii_uppercase()), "witness version 17"),
            ("bc1pw5dgrnzv".into(), "program of 1 bytes"),
            (format!("bc1p{V1}8n0nx0muaewav253zgeav"), "program of 41 bytes"),
            ("BC1QR508D6QEJXTDG4Y5R3ZARVARYV98GJ9P".into(), "program of 16 bytes"),
            (format!("tb1p{V1}q47Zagq"), "mixes upper"),
            (format!("bc1p{V1}07qwwzcrf"), "more than 4 bits"),
            (format!("tb1p{V1}pggkg4j"), "than zeros"),
            ("bc1gmk9yu".into(), "has no data"),
        ] {
            refuses(ChainKind::Bitcoin, &text, rule);
        }
    }

    #[test]
    fn base58check_accepts_the_four_versions() {
        for text in [
            "1A1zP1eP5QGefi2DMPTfTL5SLmv7DivfNa", // 0x00: the genesis block's
            "1111111111111111111114oLvT2",        // 0x00: twenty zeros
            "3P14159f73E4gFr7JterCCQh9QjiTjiZrG", // 0x05: BIP-13's kind, on the main net
            "mipcBbFg9gMiCh81Kj8tqqdgoZub1ZJRfn", // 0x6f
            "2MzQwSSnBHWHqSAqtTVQ6v47XtaisrJa1Vc", // 0xc4
        ] {
            accepts(ChainKind::Bitcoin, text, text);
        }
    }

    #[test]
    fn bitcoin_names_the_rule_that_is_broken() {
        let with_version = |version| {
            let payload = [&[version], [7; 20].as_slice()].concat();
            bs58::encode(payload).with_check().into_string()
        };
        let short = bs58::encode([0; 20]).with_check().into_string();
        let mut short_program = String::new();
        let unchecked = bech32::segwit::encode_to_fmt_unchecked;
        unchecked(&mut short_program, bech32::hrp::BC, bech32::segwit::VERSION_0, &[0; 19])
            .expect("writes to a string");
        for (text, rule) in [
            ("", "is empty"),
            ("1A1zP1eP5QGefi2DMPTfTL5SLmv7DivfNb", "fails its base58check checksum"),
            ("1A1zP1eP5QGefi2DMPTfTL5SLmv7DivfN0", "'0' as character 34"),
            ("1A1zP1eP5QGefi2DMPTfTL5SLmv7DivfNaaa", "36 characters"),
            (&short, "24 bytes"),
            (&with_version(0x06), "version byte 0x06"),
            (&with_version(0x70), "version byte 0x70"),
            (&with_version(0x30), "starts as no"), // Litecoin
            ("5HueCGU8rMjxEXxiPuD5BDku4MkFqeZyd4dZ1jvhTVqvbTLvyTJ", "starts as no"), // a private key
            ("é", "starts as no"),
            ("bc1", "has no data"),
            (&short_program, "program of 19 bytes"),
            (&format!("bc1q{}", "q".repeat(90)), "94 characters"),
            ("bc1qw508d6qejxtdg4y5r3zarvary0c5xw7kv8f3té", "'é' as character 42"),
            ("Bc1qw508d6qejxtdg4y5r3zarvary0c5xw7kv8f3t4", "mixes upper"),
        ] {
            refuses(ChainKind::Bitcoin, text, rule);
        }
    }

    #[test]
    fn other_chains_take_any_short_word() {
        let (longest, longer) = ("x".repeat(64), "x".repeat(65));
        for text in ["addr1q8", "cosmos1:é/#?", &longest] {
            accepts(ChainKind::Other, text, text);
        }
        for (text, rule) in [
            ("", "is empty"),
            (longer.as_str(), "is 65 bytes long"),
            ("two words", "' ' as character 4"),
            ("tail\u{a0}", "'\\u{a0}' as character 5"),
            ("bell\u{7}", "'\\u{7}' as character 5"),
        ] {
            refuses(ChainKind::Other, text, rule);
        }
    }

    #[test]
    fn links_are_written_as_the_interface_has_them() {
        let address = Address::from_canonical("11111111111111111111111111111111");
        let link = Link { chain: ChainId::new(101), address };
        let json = serde_json::to_string(&link).expect("plain data");
        assert_eq!(json, r#"{"chain_id":101,"address":"11111111111111111111111111111111"}"#);
    }
}
