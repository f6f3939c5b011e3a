//! The ways in which a file can be other than it was written, and where it hurts.
//!
//! Bits are flipped and bytes zeroed or cut anywhere, but more often where little things mean much:
//! in the headers of the records of a log (a wrong length reads as its end), in the last bytes (what
//! was written last), in the foot of a table (its index).

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

use rand::Rng;
use rand::rngs::SmallRng;

/// Physical records of a log do not cross it.
const LOG_BLOCK: usize = 32_768;
/// crc, length, type.
const LOG_HEADER: usize = 7;
const PAGE: usize = 4_096;

/// A kind of file in a data directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    Mark,
    /// The second opinion about the manifest.
    Note,
    Wal,
    Table,
    Manifest,
    Current,
    Options,
    Identity,
    Lock,
    Text,
}

impl Kind {
    pub const ALL: [Self; 10] = [
        Self::Mark,
        Self::Note,
        Self::Wal,
        Self::Table,
        Self::Manifest,
        Self::Current,
        Self::Options,
        Self::Identity,
        Self::Lock,
        Self::Text,
    ];

    /// The kind of a file, by its name.
    ///
    /// # Panics
    /// When a data directory has files that nobody thought of.
    pub fn of(path: &Path) -> Self {
        let name = path.file_name().expect("a file").to_string_lossy().into_owned();
        match name.as_str() {
            "mark" => Self::Mark,
            "manifest" => Self::Note,
            "CURRENT" => Self::Current,
            "IDENTITY" => Self::Identity,
            "LOCK" => Self::Lock,
            _ if name.ends_with(".log") => Self::Wal,
            _ if name.ends_with(".sst") => Self::Table,
            _ if name.starts_with("MANIFEST-") => Self::Manifest,
            _ if name.starts_with("OPTIONS-") => Self::Options,
            _ if name.starts_with("LOG") => Self::Text,
            _ => panic!("{name} is of no known kind"),
        }
    }

    /// Whether it says nothing about data: whatever becomes of it, all is right.
    pub fn is_idle(self) -> bool {
        matches!(self, Self::Note | Self::Options | Self::Identity | Self::Lock | Self::Text)
    }
}

/// What was done to a file.
#[derive(Clone, Debug)]
pub enum Wound {
    Flip {
        offset: usize,
        bit: u8,
    },
    Cut {
        length: usize,
    },
    Zero {
        offset: usize,
        length: usize,
    },
    Grown {
        bytes: Vec<u8>,
    },
    Missing,
    /// Another one of its kind in its place: an older one of the same name if there is one.
    Swapped {
        with: PathBuf,
    },
}

impl fmt::Display for Wound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Grown { bytes } => write!(f, "grown by {}", bytes.len()),
            other => write!(f, "{other:?}"),
        }
    }
}

impl Wound {
    /// One that changes the file. `others`: of its kind, to swap it with.
    pub fn choose(path: &Path, others: &[PathBuf], rng: &mut SmallRng) -> Self {
        let bytes = fs::read(path).expect("a file");
        loop {
            let wound = Self::draw(Kind::of(path), &bytes, others, rng);
            if wound.of(&bytes).as_deref() != Some(&bytes) {
                return wound;
            }
        }
    }

    fn draw(kind: Kind, bytes: &[u8], others: &[PathBuf], rng: &mut SmallRng) -> Self {
        let place = rng.random_range(0..100);
        match place {
            90..95 if !others.is_empty() => {
                Self::Swapped { with: others[rng.random_range(0..others.len())].clone() }
            }
            86..90 => Self::Missing,
            _ if bytes.is_empty() || place >= 80 => {
                let zeros = rng.random_bool(0.5);
                let length = rng.random_range(1..2 * PAGE);
                let bytes = (0..length).map(|_| if zeros { 0 } else { rng.random() }).collect();
                Self::Grown { bytes }
            }
            0..45 => Self::Flip { offset: offset(kind, bytes, rng), bit: rng.random_range(0..8) },
            45..65 => Self::Cut { length: offset(kind, bytes, rng) },
            _ => {
                let offset = offset(kind, bytes, rng);
                let page = offset / PAGE * PAGE;
                let (offset, length) = match rng.random_range(0..3) {
                    0 => (page, PAGE),
                    1 => (offset, bytes.len()),
                    _ => (offset, rng.random_range(1..64)),
                };
                Self::Zero { offset, length: length.min(bytes.len() - offset) }
            }
        }
    }

    /// What it makes of a file; `None`: nothing is left.
    fn of(&self, whole: &[u8]) -> Option<Vec<u8>> {
        let mut bytes = whole.to_vec();
        match self {
            Self::Flip { offset, bit } => bytes[*offset] ^= 1 << bit,
            Self::Cut { length } => bytes.truncate(*length),
            Self::Zero { offset, length } => bytes[*offset..offset + length].fill(0),
            Self::Grown { bytes: more } => bytes.extend_from_slice(more),
            Self::Missing => return None,
            Self::Swapped { with } => return Some(fs::read(with).expect("a file")),
        }
        Some(bytes)
    }

    /// Wounds the file.
    pub fn inflict(&self, path: &Path) {
        match self.of(&fs::read(path).expect("a file")) {
            Some(bytes) => fs::write(path, bytes).expect("it can be written"),
            None => fs::remove_file(path).expect("it was there"),
        }
    }
}

/// A place in a file that is not empty.
fn offset(kind: Kind, bytes: &[u8], rng: &mut SmallRng) -> usize {
    let length = bytes.len();
    let last = |n: usize, rng: &mut SmallRng| length - 1 - rng.random_range(0..n.min(length));
    match (kind, rng.random_range(0..3)) {
        (Kind::Wal | Kind::Manifest, 0) => {
            let starts = record_starts(bytes);
            let start = starts[rng.random_range(0..starts.len())];
            (start + rng.random_range(0..LOG_HEADER)).min(length - 1)
        }
        (Kind::Wal | Kind::Manifest, 1) => last(64, rng),
        (Kind::Table, 0) => last(2_000, rng),
        (Kind::Table, 1) => last(100, rng),
        // Its two slots.
        (Kind::Mark, 0 | 1) => {
            (PAGE * rng.random_range(0..2) + rng.random_range(0..64)).min(length - 1)
        }
        _ => rng.random_range(0..length),
    }
}

/// Where the physical records of a log begin.
pub fn record_starts(bytes: &[u8]) -> Vec<usize> {
    let (mut starts, mut at) = (vec![0], 0);
    while at + LOG_HEADER <= bytes.len() {
        let left = LOG_BLOCK - at % LOG_BLOCK;
        if left < LOG_HEADER {
            at += left;
            continue;
        }
        starts.push(at);
        let length = u16::from_le_bytes([bytes[at + 4], bytes[at + 5]]);
        at += LOG_HEADER + usize::from(length);
    }
    starts.dedup();
    starts
}
