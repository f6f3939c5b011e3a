//! One file of the archive: a run of journal blocks, packed, checked and found by number.
//!
//! | part | what |
//! |---|---|
//! | head | magic `XLJA`, format version, what is in it ([`Head`]), crc32c |
//! | pages | length unpacked, crc32c, then blocks packed with zstd; a block in it: length, crc32c, bytes |
//! | index | of each page, its first block and where it stands |
//! | foot | number of pages, crc32c of the index, magic `XLJE` |
//!
//! Integers are little-endian. Blocks of a page are packed together, as small ones have little to
//! pack each; so reading one block unpacks a page. A journal of swaps takes 29% of its room so, of
//! prepared swaps 36%, of orders 26% (zstd 1; level 3 gains nothing more).
//!
//! Invariants
//! * A file under its name is whole: it is written under another, synced, and renamed.
//! * What is read from it is what was written: pages, blocks, index and head have checksums, and the
//!   blocks are a chain from `previous` to `hash`.

use std::fs::File;
use std::io::{BufWriter, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use crate::faults::point;
use crate::store::journal::{Block, BlockHash};
use crate::store::mark::sync_directory;
use crate::store::{Position, StoreError};
use crate::types::{BlockNumber, CommitSeq, Time};

/// The layout that this build writes, and the only one that it reads.
const FORMAT_VERSION: u16 = 1;
const MAGIC: [u8; 4] = *b"XLJA";
const END_MAGIC: [u8; 4] = *b"XLJE";
/// How hard zstd tries: more gains nothing.
const LEVEL: i32 = 1;
/// A page is closed once it has so much.
const PAGE_BYTES: usize = 64 << 10;
/// What a [`Head`] takes, encoded.
pub const HEAD_BYTES: usize = 7 * 8 + 2 * 32;
/// magic, version, head, crc32c of all before it.
const START_BYTES: usize = 4 + 2 + HEAD_BYTES + 4;
/// Length unpacked, crc32c.
const PAGE_HEAD_BYTES: usize = 8;
/// Length, crc32c.
const BLOCK_HEAD_BYTES: usize = 8;
const ENTRY_BYTES: usize = 16;
const FOOT_BYTES: usize = 12;
/// How files are called until they are whole.
const UNFINISHED: &str = "unfinished";
const EXTENSION: &str = "segment";

/// What a segment has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Head {
    /// Its first block.
    pub first: BlockNumber,
    /// The commit_seq with which that begins.
    pub first_seq: CommitSeq,
    /// Logical time of that.
    pub first_time: Time,
    /// The hash that it names as that of the block before it.
    pub previous: BlockHash,
    /// The end of its last block.
    pub end: Position,
    /// Logical time of that.
    pub last_time: Time,
    /// Hash of that.
    pub hash: BlockHash,
    /// Length of the file.
    pub bytes: u64,
}

impl Head {
    /// The name of the file.
    pub fn file_name(&self) -> String {
        format!("journal-{:020}-{:020}.{EXTENSION}", self.first.get(), self.end.block.get())
    }

    /// How many blocks it has.
    pub fn blocks(&self) -> u64 {
        self.end.block.get() - self.first.get() + 1
    }

    /// The form in which it is stored.
    pub fn encode(&self) -> [u8; HEAD_BYTES] {
        let mut bytes = [0; HEAD_BYTES];
        let numbers = [
            self.first.get(),
            self.first_seq.get(),
            self.first_time.get(),
            self.end.block.get(),
            self.end.seq.get(),
            self.last_time.get(),
            self.bytes,
        ];
        for (place, number) in numbers.iter().enumerate() {
            bytes[place * 8..][..8].copy_from_slice(&number.to_le_bytes());
        }
        bytes[56..88].copy_from_slice(self.previous.as_bytes());
        bytes[88..].copy_from_slice(self.hash.as_bytes());
        bytes
    }

    /// The inverse of [`Head::encode`]; `None` for what cannot be.
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let bytes: &[u8; HEAD_BYTES] = bytes.try_into().ok()?;
        let number = |place: usize| u64_at(bytes, place * 8);
        let hash = |at: usize| Some(BlockHash::new(*bytes.get(at..)?.first_chunk()?));
        let head = Self {
            first: BlockNumber::new(number(0)?),
            first_seq: CommitSeq::new(number(1)?),
            first_time: Time::new(number(2)?),
            end: Position { block: BlockNumber::new(number(3)?), seq: CommitSeq::new(number(4)?) },
            last_time: Time::new(number(5)?),
            bytes: number(6)?,
            previous: hash(56)?,
            hash: hash(88)?,
        };
        (head.first.get() > 0 && head.first <= head.end.block).then_some(head)
    }

    /// What a segment of that block alone has.
    fn of(block: &Block) -> Self {
        let header = block.header();
        Self {
            first: header.number,
            first_seq: header.first_seq,
            first_time: header.time,
            previous: header.previous,
            end: Position::after(block),
            last_time: header.time,
            hash: block.hash(),
            bytes: 0,
        }
    }

    /// The same with the next block.
    ///
    /// # Errors
    /// How the block does not follow.
    fn and(self, block: &Block) -> Result<Self, &'static str> {
        let header = block.header();
        if header.number != self.end.block.next() {
            return Err("its number does not follow");
        }
        if header.previous != self.hash {
            return Err("it does not name the hash of the block before it");
        }
        if header.first_seq != self.end.seq.next() {
            return Err("its seqs do not follow those of the block before it");
        }
        if header.time < self.last_time {
            return Err("its time is before that of the block before it");
        }
        let (end, last_time, hash) = (Position::after(block), header.time, block.hash());
        Ok(Self { end, last_time, hash, ..self })
    }
}

/// The first and last block that a file of that name has; `None` if it is no segment.
pub fn parse_name(name: &str) -> Option<(BlockNumber, BlockNumber)> {
    let blocks = name.strip_prefix("journal-")?.strip_suffix(EXTENSION)?.strip_suffix('.')?;
    let (first, last) = blocks.split_once('-')?;
    Some((BlockNumber::new(first.parse().ok()?), BlockNumber::new(last.parse().ok()?)))
}

/// Whether a file of that name is what a death left of a segment.
pub fn is_unfinished(name: &str) -> bool {
    let begun = name.strip_prefix("journal-").and_then(|rest| rest.strip_suffix(UNFINISHED));
    begun.is_some()
}

/// A failure of the archive, which is no failure of the engine.
pub(in crate::store) fn failed(doing: &str, path: &Path, error: &std::io::Error) -> StoreError {
    StoreError::Archive(format!("cannot {doing} {} of the archive: {error}", path.display()))
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(*bytes.get(at..)?.first_chunk()?))
}

fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_le_bytes(*bytes.get(at..)?.first_chunk()?))
}

fn length(bytes: usize) -> u32 {
    u32::try_from(bytes).expect("a block is smaller than 4 GiB, a page little larger than one")
}

/// A segment that is being written.
pub struct SegmentWriter {
    out: BufWriter<File>,
    directory: PathBuf,
    path: PathBuf,
    head: Option<Head>,
    page: Vec<u8>,
    page_first: BlockNumber,
    /// Where the next page will stand.
    at: u64,
    /// Encoded already.
    index: Vec<u8>,
    pages: u32,
    /// Of all blocks so far, unpacked.
    unpacked: u64,
}

impl SegmentWriter {
    /// Begins a segment in the archive's directory.
    ///
    /// # Errors
    /// [`StoreError::Archive`].
    pub fn create(directory: &Path, first: BlockNumber) -> Result<Self, StoreError> {
        let path = directory.join(format!("journal-{:020}.{UNFINISHED}", first.get()));
        let mut options = std::fs::OpenOptions::new();
        let file = options.write(true).create(true).truncate(true).mode(0o600).open(&path);
        let file = file.map_err(|error| failed("create", &path, &error))?;
        let mut writer = Self {
            out: BufWriter::with_capacity(1 << 20, file),
            directory: directory.into(),
            path,
            head: None,
            page: Vec::new(),
            page_first: first,
            at: 0,
            index: Vec::new(),
            pages: 0,
            unpacked: 0,
        };
        // The head is known at the end.
        writer.write(&[0; START_BYTES])?;
        Ok(writer)
    }

    /// Adds the next block. What it says of itself must follow.
    ///
    /// # Errors
    /// [`StoreError::Damaged`] for a block that does not follow; [`StoreError::Archive`].
    pub fn add(&mut self, block: &Block) -> Result<(), StoreError> {
        let number = block.header().number;
        let wrong = |what: &str| StoreError::block(number, what);
        self.head = Some(match self.head {
            None => Head::of(block),
            Some(head) => head.and(block).map_err(wrong)?,
        });
        if self.page.is_empty() {
            self.page_first = number;
        }
        let bytes = block.bytes();
        self.page.extend_from_slice(&length(bytes.len()).to_le_bytes());
        self.page.extend_from_slice(&crc32c::crc32c(bytes).to_le_bytes());
        self.page.extend_from_slice(bytes);
        self.unpacked += bytes.len() as u64;
        if self.page.len() >= PAGE_BYTES { self.end_page() } else { Ok(()) }
    }

    /// Bytes of the blocks so far.
    pub fn unpacked_bytes(&self) -> u64 {
        self.unpacked
    }

    /// How many blocks there are so far.
    pub fn blocks(&self) -> u64 {
        self.head.map_or(0, |head| head.blocks())
    }

    fn end_page(&mut self) -> Result<(), StoreError> {
        if self.page.is_empty() {
            return Ok(());
        }
        let mut packed = vec![0; zstd_safe::compress_bound(self.page.len())];
        let len = zstd_safe::compress(&mut packed[..], &self.page, LEVEL).map_err(|code| {
            let why = std::io::Error::other(zstd_safe::get_error_name(code));
            failed("pack", &self.path, &why)
        })?;
        let packed = &packed[..len];
        let unpacked = length(self.page.len()).to_le_bytes();
        let crc = crc32c::crc32c_append(crc32c::crc32c(&unpacked), packed);
        self.index.extend_from_slice(&self.page_first.get().to_le_bytes());
        self.index.extend_from_slice(&self.at.to_le_bytes());
        self.pages += 1;
        self.write(&unpacked)?;
        self.write(&crc.to_le_bytes())?;
        self.write(packed)?;
        self.page.clear();
        Ok(())
    }

    fn write(&mut self, bytes: &[u8]) -> Result<(), StoreError> {
        self.out.write_all(bytes).map_err(|error| failed("write", &self.path, &error))?;
        self.at += bytes.len() as u64;
        Ok(())
    }

    /// Gives the segment its head, syncs it, and gives it its name.
    ///
    /// # Errors
    /// [`StoreError::Archive`].
    ///
    /// # Panics
    /// Without any block.
    pub fn finish(mut self) -> Result<Head, StoreError> {
        self.end_page()?;
        let index = std::mem::take(&mut self.index);
        self.write(&index)?;
        self.write(&self.pages.to_le_bytes())?;
        self.write(&crc32c::crc32c(&index).to_le_bytes())?;
        self.write(&END_MAGIC)?;
        let head = Head { bytes: self.at, ..self.head.expect("a segment has blocks") };
        let mut start = [&MAGIC[..], &FORMAT_VERSION.to_le_bytes(), &head.encode()].concat();
        start.extend_from_slice(&crc32c::crc32c(&start).to_le_bytes());
        let put = |error| failed("write", &self.path, &error);
        self.out.seek(SeekFrom::Start(0)).map_err(put)?;
        self.out.write_all(&start).and_then(|()| self.out.flush()).map_err(put)?;
        point!("archive.written");
        let synced = self.out.get_ref().sync_all();
        synced.map_err(|error| failed("sync", &self.path, &error))?;
        point!("archive.synced");
        let place = self.directory.join(head.file_name());
        std::fs::rename(&self.path, &place).map_err(|error| failed("name", &place, &error))?;
        point!("archive.renamed");
        // What it says is the archive's, whatever failed.
        sync_directory(&self.directory).map_err(|error| StoreError::Archive(error.to_string()))?;
        Ok(head)
    }
}

/// First block and place of each page.
type Pages = Vec<(BlockNumber, u64)>;

/// A segment that is open for reading. Shared by any thread.
#[derive(Debug)]
pub struct Segment {
    file: File,
    path: PathBuf,
    head: Head,
    pages: Pages,
    /// Where the pages end.
    end: u64,
}

impl Segment {
    /// Opens a segment by its path.
    ///
    /// # Errors
    /// [`StoreError::Archive`] with the path: it is missing, damaged, or cannot be read.
    pub fn open(path: PathBuf) -> Result<Self, StoreError> {
        let mut file = File::open(&path).map_err(|error| match error.kind() {
            std::io::ErrorKind::NotFound => {
                StoreError::Archive(format!("{} of the archive is missing", path.display()))
            }
            _ => failed("open", &path, &error),
        })?;
        let wrong = |what: &str| damaged(&path, what);
        let mut start = [0; START_BYTES];
        file.read_exact(&mut start).map_err(|error| failed("read", &path, &error))?;
        let (covered, crc) = start.split_last_chunk().expect("longer than that");
        if !covered.starts_with(&MAGIC) {
            return Err(wrong("does not begin as a segment does"));
        }
        let version = u16::from_le_bytes([covered[4], covered[5]]);
        if version != FORMAT_VERSION {
            let path = path.display();
            return Err(StoreError::Archive(format!(
                "{path} has format version {version}; this build reads {FORMAT_VERSION}"
            )));
        }
        if crc32c::crc32c(covered) != u32::from_le_bytes(*crc) {
            return Err(wrong("has a damaged head"));
        }
        let head = Head::decode(&covered[6..]).ok_or_else(|| wrong("has a head that cannot be"))?;
        let (pages, end) = read_index(&file, &path, &head)?;
        Ok(Self { file, path, head, pages, end })
    }

    /// What it has.
    pub fn head(&self) -> &Head {
        &self.head
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// A block of it, checked by itself.
    ///
    /// # Errors
    /// [`StoreError::Archive`] with the path.
    pub fn block(&self, number: BlockNumber) -> Result<Block, StoreError> {
        let page = self.pages.partition_point(|(first, _)| *first <= number);
        let Some(page) = page.checked_sub(1) else { return Err(self.lacks(number)) };
        let bytes = self.page(page)?;
        let mut blocks = PageBlocks { bytes: &bytes, next: self.pages[page].0 };
        while blocks.next < number {
            blocks.skip().ok_or_else(|| self.lacks(number))?;
        }
        blocks.decode().map_err(|what| self.damaged(&what))
    }

    /// Shows the blocks from a number on, in order, each checked by itself. A page is in memory at a
    /// time.
    pub fn blocks_from(self: std::sync::Arc<Self>, number: BlockNumber) -> SegmentBlocks {
        let page = self.pages.partition_point(|(first, _)| *first <= number).saturating_sub(1);
        let next = self.pages.get(page).map_or(number, |(first, _)| *first);
        SegmentBlocks { segment: self, page, bytes: Vec::new(), at: 0, next, from: number }
    }

    /// Reads everything back, from the disk where that can be had: the chain of its blocks and what
    /// its head says of them.
    ///
    /// # Errors
    /// [`StoreError::Archive`] with the path; what `each` says.
    pub fn verify(
        self: std::sync::Arc<Self>,
        mut each: impl FnMut(&Block) -> Result<(), StoreError>,
    ) -> Result<(), StoreError> {
        // Only a hint: without it, what the system remembers of the file is checked.
        let _ = rustix::fs::fadvise(&self.file, 0, None, rustix::fs::Advice::DontNeed);
        let mut found: Option<Head> = None;
        for block in self.clone().blocks_from(self.head.first) {
            let block = block?;
            found = Some(match found {
                None => Head::of(&block),
                Some(head) => head.and(&block).map_err(|what| self.damaged(what))?,
            });
            each(&block)?;
        }
        let found = found.map(|head| Head { bytes: self.head.bytes, ..head });
        if found == Some(self.head) {
            return Ok(());
        }
        Err(self.damaged("has other blocks than its head says"))
    }

    /// A page, unpacked.
    fn page(&self, page: usize) -> Result<Vec<u8>, StoreError> {
        let at = self.pages[page].1;
        let end = self.pages.get(page + 1).map_or(self.end, |(_, at)| *at);
        let mut bytes = vec![0; (end - at) as usize];
        let read = self.file.read_exact_at(&mut bytes, at);
        read.map_err(|error| failed("read", &self.path, &error))?;
        let (unpacked, packed) = (&bytes[..4], &bytes[PAGE_HEAD_BYTES..]);
        let crc = crc32c::crc32c_append(crc32c::crc32c(unpacked), packed);
        if Some(crc) != u32_at(&bytes, 4) {
            return Err(self.damaged("has a page with a wrong checksum"));
        }
        let len = u32_at(unpacked, 0).expect("four bytes") as usize;
        let mut page = vec![0; len];
        match zstd_safe::decompress(&mut page[..], packed) {
            Ok(n) if n == len => Ok(page),
            _ => Err(self.damaged("has a page that cannot be unpacked")),
        }
    }

    fn damaged(&self, what: &str) -> StoreError {
        damaged(&self.path, what)
    }

    fn lacks(&self, number: BlockNumber) -> StoreError {
        self.damaged(&format!("lacks block {number}"))
    }
}

fn damaged(path: &Path, what: &str) -> StoreError {
    StoreError::Archive(format!(
        "{} of the archive {what}; put a copy of it in its place",
        path.display()
    ))
}

/// The pages of a segment, and where they end.
fn read_index(file: &File, path: &Path, head: &Head) -> Result<(Pages, u64), StoreError> {
    let wrong = |what: &str| damaged(path, what);
    let io = |error| failed("read", path, &error);
    let bytes = file.metadata().map_err(io)?.len();
    if bytes != head.bytes || bytes < (START_BYTES + FOOT_BYTES) as u64 {
        return Err(wrong("has another length than its head says"));
    }
    let mut foot = [0; FOOT_BYTES];
    file.read_exact_at(&mut foot, bytes - FOOT_BYTES as u64).map_err(io)?;
    let count = u32_at(&foot, 0).expect("four bytes") as usize;
    let room = bytes - (START_BYTES + FOOT_BYTES) as u64;
    if foot[8..] != END_MAGIC || count == 0 || (count * ENTRY_BYTES) as u64 > room {
        return Err(wrong("does not end as a segment does"));
    }
    let end = bytes - (FOOT_BYTES + count * ENTRY_BYTES) as u64;
    let mut index = vec![0; count * ENTRY_BYTES];
    file.read_exact_at(&mut index, end).map_err(io)?;
    if Some(crc32c::crc32c(&index)) != u32_at(&foot, 4) {
        return Err(wrong("has a damaged index"));
    }
    let entry = |entry: &[u8]| Some((BlockNumber::new(u64_at(entry, 0)?), u64_at(entry, 8)?));
    let pages: Option<Vec<_>> = index.chunks_exact(ENTRY_BYTES).map(entry).collect();
    let pages = pages.ok_or_else(|| wrong("has a damaged index"))?;
    let ends = pages.iter().skip(1).map(|(_, at)| *at).chain([end]);
    let long = |at: u64, next: u64| next.checked_sub(at).is_some_and(|len| len > 8);
    let ascend = pages.windows(2).all(|pair| pair[0].0 < pair[1].0);
    let starts = pages[0] == (head.first, START_BYTES as u64);
    if !starts || !ascend || !pages.iter().zip(ends).all(|((_, at), next)| long(*at, next)) {
        return Err(wrong("has an index that cannot be"));
    }
    Ok((pages, end))
}

/// The blocks of a page, from some place on.
struct PageBlocks<'a> {
    bytes: &'a [u8],
    next: BlockNumber,
}

impl<'a> PageBlocks<'a> {
    /// The next block's bytes with their checksum.
    fn skip(&mut self) -> Option<(u32, &'a [u8])> {
        let len = u32_at(self.bytes, 0)? as usize;
        let crc = u32_at(self.bytes, 4)?;
        let rest = &self.bytes[BLOCK_HEAD_BYTES..];
        let block = rest.get(..len)?;
        self.bytes = &rest[len..];
        self.next = self.next.next();
        Some((crc, block))
    }

    fn decode(&mut self) -> Result<Block, String> {
        let number = self.next;
        let lacks = || format!("lacks block {number}");
        let (crc, bytes) = self.skip().ok_or_else(lacks)?;
        if crc32c::crc32c(bytes) != crc {
            return Err(format!("has block {number} with a wrong checksum"));
        }
        let block = Block::decode(bytes.to_vec())
            .map_err(|damage| format!("has block {number}, which {damage}"))?;
        if block.header().number != number {
            return Err(lacks());
        }
        Ok(block)
    }
}

/// Blocks of a segment in order. Ends after the first error.
pub struct SegmentBlocks {
    segment: std::sync::Arc<Segment>,
    /// The page that is read next.
    page: usize,
    bytes: Vec<u8>,
    at: usize,
    next: BlockNumber,
    from: BlockNumber,
}

impl SegmentBlocks {
    fn read_next(&mut self) -> Result<Option<Block>, StoreError> {
        loop {
            if self.at == self.bytes.len() {
                if self.page == self.segment.pages.len() {
                    return Ok(None);
                }
                if self.segment.pages[self.page].0 != self.next {
                    return Err(self.segment.lacks(self.next));
                }
                (self.bytes, self.at) = (self.segment.page(self.page)?, 0);
                self.page += 1;
            }
            let mut blocks = PageBlocks { bytes: &self.bytes[self.at..], next: self.next };
            let skipped = self.next < self.from;
            let block = match skipped {
                true => blocks.skip().map(|_| None).ok_or_else(|| self.segment.lacks(self.next)),
                false => blocks.decode().map(Some).map_err(|what| self.segment.damaged(&what)),
            };
            let left = blocks.bytes.len();
            self.next = blocks.next;
            self.at = self.bytes.len() - left;
            if let Some(block) = block? {
                return Ok(Some(block));
            }
        }
    }
}

impl Iterator for SegmentBlocks {
    type Item = Result<Block, StoreError>;

    fn next(&mut self) -> Option<Self::Item> {
        let block = self.read_next().transpose();
        if matches!(block, Some(Err(_))) {
            (self.page, self.at) = (self.segment.pages.len(), self.bytes.len());
        }
        block
    }
}
