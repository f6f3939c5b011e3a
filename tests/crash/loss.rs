//! What one file may hold after the power failed.
//!
//! A file has what its last sync covered, and a list of changes since. Nothing orders what reaches
//! the disk of these but the unit in which it is written:
//!
//! * A page (4 KiB), and where a write was torn a sector (512 bytes), is as it was after any of the
//!   changes that touched it, or before all of them. Others may be older or newer.
//! * The length is any that the file had since, or one in between, whatever pages arrived: shorter
//!   cuts what is there, longer shows zeros (or the old bytes) where nothing arrived.
//! * No byte ever has a value that nobody wrote, but zero where the file grew.

use std::collections::BTreeMap;

use rand::Rng;
use rand::rngs::SmallRng;

const PAGE: usize = 4_096;
const SECTOR: usize = 512;

/// A change that no sync has covered yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    Write { at: usize, bytes: Vec<u8> },
    Resize(usize),
}

impl Change {
    pub fn apply(&self, file: &mut Vec<u8>) {
        match self {
            Self::Write { at, bytes } => {
                let end = at + bytes.len();
                if file.len() < end {
                    file.resize(end, 0);
                }
                file[*at..end].copy_from_slice(bytes);
            }
            Self::Resize(len) => file.resize(*len, 0),
        }
    }

    /// The bytes that it changes, in a file that never exceeds `longest`.
    fn range(&self, longest: usize) -> std::ops::Range<usize> {
        match self {
            Self::Write { at, bytes } => *at..at + bytes.len(),
            Self::Resize(len) => *len..longest,
        }
    }

    /// Its effect on `file[from..to]`, which it touches.
    fn apply_within(&self, file: &mut [u8], from: usize, to: usize) {
        match self {
            Self::Write { at, bytes } => {
                let (start, end) = (from.max(*at), to.min(at + bytes.len()));
                file[start..end].copy_from_slice(&bytes[start - at..end - at]);
            }
            Self::Resize(len) => file[from.max(*len)..to].fill(0),
        }
    }
}

/// In which way what was not synced is lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Manner {
    /// Nothing of it arrived.
    Whole,
    /// The file is as at some instant, perhaps within a write.
    Cut,
    /// Page by page.
    Pages,
    /// Sector by sector.
    Torn,
}

impl Manner {
    pub const ALL: [Self; 4] = [Self::Whole, Self::Cut, Self::Pages, Self::Torn];
}

/// What was lost, and what was not synced but arrived.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Files of which something was lost, by kind.
    pub files: BTreeMap<String, usize>,
    /// Bytes that are not what they were.
    pub bytes: usize,
    /// Pages or sectors that are older than they were, and those that were not synced but arrived.
    pub pieces: [usize; 2],
    /// Changes of names that are undone, and those that were not synced but arrived.
    pub names: [usize; 2],
}

impl Tally {
    pub fn add(&mut self, other: Self) {
        for (kind, n) in other.files {
            *self.files.entry(kind).or_default() += n;
        }
        self.bytes += other.bytes;
        for i in 0..2 {
            self.pieces[i] += other.pieces[i];
            self.names[i] += other.names[i];
        }
    }
}

/// How lucky this loss is: of a hundred pieces so many are the newest.
#[derive(Clone, Copy, Debug)]
pub struct Luck(u32);

impl Luck {
    pub fn some(rng: &mut SmallRng) -> Self {
        Self([0, 20, 50, 80, 95, 100][rng.random_range(0..6)])
    }

    /// How many of `n` arrived, in their order.
    pub fn of(self, n: usize, rng: &mut SmallRng) -> usize {
        let lucky = rng.random_range(0..100) < self.0;
        if lucky || n == 0 { n } else { rng.random_range(0..n) }
    }
}

/// What is left of a file. `kind`: how it is counted.
pub fn survives(
    kind: &str,
    synced: &[u8],
    changes: &[Change],
    manner: Manner,
    rng: &mut SmallRng,
    tally: &mut Tally,
) -> Vec<u8> {
    let luck = Luck::some(rng);
    let left = match manner {
        Manner::Whole => synced.to_vec(),
        Manner::Cut => cut(synced, changes, luck, rng),
        Manner::Pages => piecewise(synced, changes, PAGE, luck, rng, tally),
        Manner::Torn => piecewise(synced, changes, SECTOR, luck, rng, tally),
    };
    let mut newest = synced.to_vec();
    changes.iter().for_each(|change| change.apply(&mut newest));
    let differ = newest.iter().zip(&left).filter(|(was, is)| was != is).count();
    tally.bytes += differ + newest.len().abs_diff(left.len());
    if newest != left {
        *tally.files.entry(kind.into()).or_default() += 1;
    }
    left
}

fn cut(synced: &[u8], changes: &[Change], luck: Luck, rng: &mut SmallRng) -> Vec<u8> {
    let whole = luck.of(changes.len(), rng);
    let mut file = synced.to_vec();
    changes[..whole].iter().for_each(|change| change.apply(&mut file));
    if let Some(Change::Write { at, bytes }) = changes.get(whole) {
        let bytes = bytes[..rng.random_range(0..=bytes.len())].to_vec();
        if !bytes.is_empty() {
            Change::Write { at: *at, bytes }.apply(&mut file);
        }
    }
    file
}

fn piecewise(
    synced: &[u8],
    changes: &[Change],
    size: usize,
    luck: Luck,
    rng: &mut SmallRng,
    tally: &mut Tally,
) -> Vec<u8> {
    let lens = lengths(synced.len(), changes);
    let longest = lens.iter().copied().max().unwrap_or(0);
    let pieces = |change: &Change| {
        let range = change.range(longest);
        range.start / size..if range.is_empty() {
            range.start / size
        } else {
            range.end.div_ceil(size)
        }
    };
    let mut touched = vec![0; longest.div_ceil(size)];
    for piece in changes.iter().flat_map(pieces) {
        touched[piece] += 1;
    }
    // Of each piece, the changes that arrived are still to come.
    let mut to_come: Vec<usize> = touched.iter().map(|n| luck.of(*n, rng)).collect();
    for (n, arrived) in touched.iter().zip(&to_come).filter(|(n, _)| **n > 0) {
        tally.pieces[usize::from(n == arrived)] += 1;
    }
    let mut file = synced.to_vec();
    file.resize(longest, 0);
    for change in changes {
        for piece in pieces(change) {
            if to_come[piece] > 0 {
                to_come[piece] -= 1;
                let to = ((piece + 1) * size).min(longest);
                change.apply_within(&mut file, piece * size, to);
            }
        }
    }
    file.truncate(length(&lens, luck, rng));
    file
}

/// The lengths that the file had, from the last sync on.
fn lengths(synced: usize, changes: &[Change]) -> Vec<usize> {
    let mut lens = vec![synced];
    for change in changes {
        let last = lens[lens.len() - 1];
        lens.push(match change {
            Change::Write { at, bytes } => last.max(at + bytes.len()),
            Change::Resize(len) => *len,
        });
    }
    lens
}

/// One of the lengths, or one on the way to the next.
fn length(lens: &[usize], luck: Luck, rng: &mut SmallRng) -> usize {
    let at = luck.of(lens.len() - 1, rng);
    match lens.get(at + 1) {
        Some(next) if *next > lens[at] && rng.random_bool(0.5) => rng.random_range(lens[at]..*next),
        _ => lens[at],
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use rand::SeedableRng;

    use super::*;

    fn write(at: usize, byte: u8, len: usize) -> Change {
        Change::Write { at, bytes: vec![byte; len] }
    }

    /// What 300 losses leave of a file, in a manner.
    fn outcomes(synced: &[u8], changes: &[Change], manner: Manner) -> BTreeSet<Vec<u8>> {
        let mut rng = SmallRng::seed_from_u64(7);
        let mut one = || survives("", synced, changes, manner, &mut rng, &mut Tally::default());
        (0..300).map(|_| one()).collect()
    }

    #[test]
    fn what_was_synced_stays() {
        for manner in Manner::ALL {
            assert_eq!(outcomes(b"synced", &[], manner), [b"synced".to_vec()].into());
            for left in outcomes(&[1; 6_000], &[write(6_000, 2, 9_000)], manner) {
                assert_eq!(left[..6_000], [1; 6_000], "{manner:?}");
                assert!(left[6_000..].iter().all(|byte| [0, 2].contains(byte)), "{manner:?}");
            }
        }
    }

    #[test]
    fn a_page_is_old_or_new_and_never_mixed() {
        let changes = [write(0, 2, 2 * PAGE), write(PAGE, 3, PAGE)];
        let left = outcomes(&[1; 2 * PAGE], &changes, Manner::Pages);
        let seen: BTreeSet<(u8, u8)> = left.iter().map(|file| (file[0], file[PAGE])).collect();
        assert!(left.iter().all(|file| file[..PAGE].iter().all(|byte| *byte == file[0])));
        // The second page can be newer than the first, and the other way round.
        let expected = [1, 2].into_iter().flat_map(|a| [1, 2, 3].map(|b| (a, b))).collect();
        assert_eq!(seen, expected);
    }

    #[test]
    fn a_torn_page_is_old_and_new_by_sectors() {
        let left = outcomes(&[1; PAGE], &[write(0, 2, PAGE)], Manner::Torn);
        assert!(left.iter().any(|file| file[0] == 2 && file[SECTOR] == 1));
        assert!(
            left.iter().all(|file| file.chunks(SECTOR).all(|it| it.iter().all(|b| *b == it[0])))
        );
    }

    #[test]
    fn a_cut_leaves_a_prefix() {
        let left = outcomes(b"", &[write(0, 1, 10), write(10, 2, 10)], Manner::Cut);
        let whole = [[1; 10], [2; 10]].concat();
        assert!(left.iter().all(|file| whole.starts_with(file)));
        assert!(left.len() > 10, "within writes too");
        assert_eq!(outcomes(b"x", &[write(1, 2, 5)], Manner::Whole), [b"x".to_vec()].into());
    }

    #[test]
    fn a_length_may_arrive_before_its_bytes_and_after() {
        let left = outcomes(b"", &[write(0, 1, 3 * PAGE)], Manner::Pages);
        assert!(left.contains([0; 3 * PAGE].as_slice()), "zeros where nothing arrived");
        assert!(left.iter().any(|file| !file.is_empty() && file.len() < 3 * PAGE), "cut");
        let left = outcomes(&[1; 100], &[Change::Resize(10), write(10, 2, 5)], Manner::Pages);
        assert!(left.contains([1; 100].as_slice()) && left.iter().any(|file| file.len() == 15));
    }
}
