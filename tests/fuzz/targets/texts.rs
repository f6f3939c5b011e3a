//! What people and other programs write: addresses, manifests of backups, configuration.
//!
//! The manifest is part of what is built with RocksDB only, but needs nothing of it: it is built here
//! by itself.

#[path = "../../../src/store/backup/manifest.rs"]
#[expect(dead_code, reason = "nothing is copied here, so the file needs no name")]
mod manifest;

use crosslatch::address::Address;
use crosslatch::config::Limits;
use crosslatch::types::ChainKind;
use manifest::Manifest;

/// Its first byte is the kind of the chain.
pub fn address(input: &[u8]) -> bool {
    let Some((kind, text)) = input.split_first() else { return false };
    let Ok(text) = std::str::from_utf8(text) else { return false };
    let kinds = [ChainKind::Evm, ChainKind::Solana, ChainKind::Bitcoin, ChainKind::Other];
    let kind = kinds[usize::from(*kind) % kinds.len()];
    match Address::parse(kind, text) {
        Ok(address) => {
            let canonical = address.as_str();
            assert!(canonical.len() <= 90 && canonical.eq_ignore_ascii_case(text));
            assert_eq!(Address::parse(kind, canonical).as_ref(), Ok(&address));
            assert_eq!(Address::from_canonical(canonical), address);
            true
        }
        Err(why) => {
            // What was pasted may be a private key. Words of the refusal are shorter than that.
            let is_secret = text.len() >= 33 && text.bytes().all(|c| c.is_ascii_alphanumeric());
            assert!(!is_secret || !why.contains(text), "repeats what may be a secret: {why}");
            false
        }
    }
}

/// All lines but the last one, which is the hash of these.
pub fn backup(input: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(input) else { return false };
    let text = format!("{text}\nwhole {}\n", blake3::hash(format!("{text}\n").as_bytes()));
    let Some(manifest) = Manifest::parse(&text) else { return false };
    assert_eq!(manifest.to_text(), text, "is accepted, and not what is written");
    let _ = manifest.bytes();
    for file in &manifest.files {
        let path = std::path::Path::new(&file.path);
        let stays = path.components().all(|it| matches!(it, std::path::Component::Normal(_)));
        assert!(stays, "{path:?} leads out");
    }
    true
}

/// The limits of a configuration file.
pub fn limits(input: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(input) else { return false };
    let Ok(limits) = toml::from_str::<Limits>(text) else { return false };
    let _ = limits.validate();
    let again = toml::to_string(&limits).unwrap();
    assert_eq!(toml::from_str(&again), Ok(limits));
    true
}
