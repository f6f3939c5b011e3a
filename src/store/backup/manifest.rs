//! What a backup says of itself: where it ends, and the hash of each of its files.
//!
//! ```text
//! crosslatch backup 1
//! format 2
//! end 4711 1204998
//! file 8192 4bf5…e1 mark
//! file 16 09ac…77 db/CURRENT
//! whole 93d0…5a
//! ```
//!
//! `end` is a block and a seq; a file has its length in bytes, its BLAKE3 hash and its path; `whole` is
//! the hash of all lines before it. The audit reads every row of a backup, but not every byte: filters,
//! indexes and padding matter too, once an engine runs on them.

use std::fmt::Write;

use crate::store::Position;
use crate::types::{BlockNumber, CommitSeq};

/// Name of the file in a backup. A directory without it is none.
pub const FILE: &str = "backup";

/// The first line; its number changes with the form of the others.
const FIRST_LINE: &str = "crosslatch backup 1";

/// The content of [`FILE`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Manifest {
    /// Format version of the data directory that was copied.
    pub format: u32,
    /// Where its journal ends.
    pub end: Position,
    /// Every file, by path.
    pub files: Vec<Entry>,
}

/// One file of a backup.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Its place in the backup, with `/` between the parts.
    pub path: String,
    /// Its length.
    pub bytes: u64,
    /// Hash of its content.
    pub hash: blake3::Hash,
}

impl Manifest {
    /// Bytes of all files.
    pub fn bytes(&self) -> u64 {
        self.files.iter().map(|file| file.bytes).sum()
    }

    /// The text, hash and all.
    pub fn to_text(&self) -> String {
        let Position { block, seq } = self.end;
        let mut text =
            format!("{FIRST_LINE}\nformat {}\nend {} {}\n", self.format, block.get(), seq.get());
        for Entry { path, bytes, hash } in &self.files {
            writeln!(text, "file {bytes} {hash} {path}").expect("memory takes everything");
        }
        let whole = blake3::hash(text.as_bytes());
        writeln!(text, "whole {whole}").expect("memory takes everything");
        text
    }

    /// Reads a text back; `None` if it is not exactly what [`Manifest::to_text`] wrote.
    pub fn parse(text: &str) -> Option<Self> {
        let (body, whole) = text.strip_suffix('\n')?.rsplit_once("\nwhole ")?;
        let covered = body.len() + 1;
        let hash = blake3::Hash::from_hex(whole).ok()?;
        if blake3::hash(text.get(..covered)?.as_bytes()) != hash {
            return None;
        }
        let mut lines = body.lines();
        if lines.next()? != FIRST_LINE {
            return None;
        }
        let format = lines.next()?.strip_prefix("format ")?.parse().ok()?;
        let (block, seq) = lines.next()?.strip_prefix("end ")?.split_once(' ')?;
        let end = Position {
            block: BlockNumber::new(block.parse().ok()?),
            seq: CommitSeq::new(seq.parse().ok()?),
        };
        let files: Vec<Entry> = lines.map(Entry::parse).collect::<Option<_>>()?;
        // Its bytes can be added up.
        files.iter().try_fold(0_u64, |sum, file| sum.checked_add(file.bytes))?;
        let manifest = Self { format, end, files };
        // Numbers and hashes can be spelled in other ways too.
        (manifest.to_text() == text).then_some(manifest)
    }
}

impl Entry {
    fn parse(line: &str) -> Option<Self> {
        let (bytes, rest) = line.strip_prefix("file ")?.split_once(' ')?;
        let (hash, path) = rest.split_once(' ')?;
        // What is copied to such a path stays in the directory that it is copied to.
        let inside = path.split('/').all(|part| !matches!(part, "" | "." | ".."));
        inside.then_some(())?;
        let hash = blake3::Hash::from_hex(hash).ok()?;
        Some(Self { path: path.into(), bytes: bytes.parse().ok()?, hash })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn manifest() -> Manifest {
        let file = |path: &str, bytes: u64| Entry {
            path: path.into(),
            bytes,
            hash: blake3::hash(path.as_bytes()),
        };
        let end = Position { block: BlockNumber::new(4_711), seq: CommitSeq::new(1_204_998) };
        Manifest { format: 2, end, files: vec![file("mark", 8_192), file("db/CURRENT", 16)] }
    }

    #[test]
    fn what_is_written_is_read_back() {
        let manifest = manifest();
        assert_eq!(Manifest::parse(&manifest.to_text()), Some(manifest.clone()));
        assert_eq!(manifest.bytes(), 8_208);
        let empty = Manifest { files: Vec::new(), ..manifest };
        assert_eq!(Manifest::parse(&empty.to_text()), Some(empty));
    }

    #[test]
    fn no_bit_can_change() {
        let text = manifest().to_text();
        for (at, bit) in (0..text.len()).flat_map(|at| (0..8).map(move |bit| (at, bit))) {
            let mut bytes = text.clone().into_bytes();
            bytes[at] ^= 1 << bit;
            let Ok(changed) = String::from_utf8(bytes) else { continue };
            assert!(Manifest::parse(&changed).is_none(), "{changed}");
        }
        for cut in 0..text.len() {
            assert_eq!(Manifest::parse(&text[..cut]), None);
        }
    }

    #[test]
    fn other_spellings_are_refused() {
        let text = manifest().to_text();
        let body = text.rsplit_once("whole ").unwrap().0;
        for (one, other) in [
            ("file 16 ", "file +16 "),
            ("file 16 ", "file 016 "),
            ("file 16 ", "file 18446744073709551615 "),
            ("format 2\n", "format 2\r\n"),
        ] {
            let changed = body.replace(one, other);
            let whole = blake3::hash(changed.as_bytes());
            assert_eq!(Manifest::parse(&format!("{changed}whole {whole}\n")), None, "{other:?}");
        }
        let shouted = text.rsplit_once("whole ").unwrap().1.to_uppercase();
        assert_eq!(Manifest::parse(&format!("{body}whole {shouted}")), None);
    }

    #[test]
    fn no_path_leads_out() {
        for path in ["/etc/passwd", "../mark", "db/../../mark", "db//x", "."] {
            let mut manifest = manifest();
            manifest.files[0].path = path.into();
            assert_eq!(Manifest::parse(&manifest.to_text()), None, "{path}");
        }
    }
}
