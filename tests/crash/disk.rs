//! A disk that can lose its power: what a child did to the files below a directory, which of it
//! syncs have covered, and what may be left of it.
//!
//! The contract, which is that of POSIX and weaker than what most file systems give:
//!
//! * A file keeps what it held when its last completed sync (fsync, fdatasync) began. Of what was
//!   written since, any page or sector may be there or not, and the length may be another
//!   ([`loss`]). `sync_file_range` proves nothing.
//! * A name (created, renamed, linked, removed) is there for certain once its directory was synced;
//!   a sync of the file itself does nothing for its name. Of what was changed since, either the
//!   first so many changes of each directory arrived, or any of them, but never one without those
//!   before it that were about the same names. A rename arrives whole or not at all.
//! * What was there when the child started had been synced.
//!
//! Nothing here trusts the shim: what its log leads to is compared with what is on the disk before
//! anything is taken away, so a call that it does not see is a failure of the test.

use std::collections::{BTreeMap, HashMap};
use std::ffi::{OsStr, OsString};
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use rand::Rng;
use rand::rngs::SmallRng;

use crate::loss::{Change, Luck, Manner, Tally, survives};
use crate::shim::Event;

/// Files that are written once and never changed: a second name keeps what they hold.
const NEVER_CHANGED: &str = "sst";

/// A name in a directory, given by its node.
type Slot = (usize, OsString);
type Names = BTreeMap<Slot, usize>;

/// The directory that everything is below.
const ROOT: usize = 0;

/// A file or a directory.
#[derive(Debug)]
enum Node {
    Directory,
    File(File),
}

#[derive(Debug, Default)]
struct File {
    /// What it held at the start, if it was there; read when it is first needed.
    before: Option<PathBuf>,
    /// What the last sync covered; of a file that was not touched, nothing.
    synced: Vec<u8>,
    /// In order.
    unsynced: Vec<Change>,
    /// Changes that are in `synced`.
    covered: usize,
    touched: bool,
}

impl File {
    fn change(&mut self, change: Change) {
        if !self.touched {
            self.synced = self.content();
            self.touched = true;
        }
        self.unsynced.push(change);
    }

    /// The first `upto` of all its changes are on the disk.
    fn cover(&mut self, upto: usize) {
        let n = upto.saturating_sub(self.covered);
        for change in self.unsynced.drain(..n) {
            change.apply(&mut self.synced);
        }
        self.covered += n;
    }

    /// What one reads in it.
    fn content(&self) -> Vec<u8> {
        match &self.before {
            Some(path) if !self.touched => fs::read(path).expect("it was kept"),
            _ => {
                let mut content = self.synced.clone();
                self.unsynced.iter().for_each(|change| change.apply(&mut content));
                content
            }
        }
    }
}

/// A change of names.
#[derive(Debug)]
struct Renaming {
    /// The name that is there afterwards, and of what.
    put: Option<(Slot, usize)>,
    /// The name that is not there any more.
    gone: Option<Slot>,
    synced: bool,
}

impl Renaming {
    fn slots(&self) -> impl Iterator<Item = &Slot> {
        self.put.iter().map(|(slot, _)| slot).chain(&self.gone)
    }

    fn is_in(&self, directory: usize) -> bool {
        self.slots().any(|(of, _)| *of == directory)
    }

    fn apply(&self, names: &mut Names) {
        if let Some(slot) = &self.gone {
            names.remove(slot);
        }
        if let Some((slot, node)) = &self.put {
            names.insert(slot.clone(), *node);
        }
    }
}

/// A sync that has begun: what it covers.
struct Sync {
    node: usize,
    /// Changes of the file, or of any names, up to then.
    upto: usize,
}

/// Everything below a directory, and what happened to it.
pub struct Disk {
    root: PathBuf,
    /// Where the files are kept as they were at the start.
    kept: PathBuf,
    nodes: Vec<Node>,
    inodes: HashMap<u64, usize>,
    /// At the start.
    before: Names,
    now: Names,
    renamings: Vec<Renaming>,
    syncs: HashMap<u64, Sync>,
    /// The paths of a call that may or may not have been made.
    pending: Vec<PathBuf>,
}

impl Disk {
    /// Takes down what is there; `kept`, a directory of its own, will have it for as long as needed.
    pub fn before(root: &Path, kept: &Path) -> Self {
        let _ = fs::remove_dir_all(kept);
        fs::create_dir(kept).expect("a new directory");
        let mut disk = Self {
            root: root.into(),
            kept: kept.into(),
            nodes: vec![Node::Directory],
            inodes: [(inode(root), ROOT)].into(),
            before: Names::new(),
            now: Names::new(),
            renamings: Vec::new(),
            syncs: HashMap::new(),
            pending: Vec::new(),
        };
        disk.keep(ROOT, root);
        disk.now = disk.before.clone();
        disk
    }

    fn keep(&mut self, directory: usize, path: &Path) {
        for (name, path, is_directory) in entries(path) {
            let node = self.nodes.len();
            self.inodes.insert(inode(&path), node);
            self.before.insert((directory, name), node);
            if is_directory {
                self.nodes.push(Node::Directory);
                self.keep(node, &path);
                continue;
            }
            let copy = self.kept.join(node.to_string());
            if path.extension() == Some(OsStr::new(NEVER_CHANGED)) {
                fs::hard_link(&path, &copy).expect("on the same file system");
            } else {
                fs::copy(&path, &copy).expect("there is room");
            }
            self.nodes.push(Node::File(File { before: Some(copy), ..File::default() }));
        }
    }

    // ---- What happened.

    /// Takes what a child did since.
    pub fn replay(&mut self, events: Vec<Event>) {
        for event in events {
            self.pending.clear();
            self.take(event);
        }
    }

    fn take(&mut self, event: Event) {
        match event {
            Event::Begin(path, path2) => self.pending = vec![path, path2],
            Event::Create(path, inode) => self.make(&path, inode, Node::File(File::fresh())),
            Event::MakeDirectory(path, inode) => self.make(&path, inode, Node::Directory),
            Event::Resize { inode, len } => {
                let (file, len) = (self.file(inode), len as usize);
                if file.content().len() != len {
                    file.change(Change::Resize(len));
                }
            }
            Event::Write { inode, at, bytes } => {
                self.file(inode).change(Change::Write { at: at as usize, bytes });
            }
            Event::SyncBegin { inode, sync } => {
                let node = self.node(inode);
                let upto = match &self.nodes[node] {
                    Node::Directory => self.renamings.len(),
                    Node::File(file) => file.covered + file.unsynced.len(),
                };
                self.syncs.insert(sync, Sync { node, upto });
            }
            Event::SyncDone(sync) => self.synced(sync),
            Event::Rename(from, to) => {
                let (from, to) = (self.slot(&from), self.slot(&to));
                let node = self.now[&from];
                self.rename(Some((to, node)), Some(from));
            }
            Event::Link(from, to) => {
                let (from, to) = (self.slot(&from), self.slot(&to));
                self.rename(Some((to, self.now[&from])), None);
            }
            Event::Unlink(path) => {
                let slot = self.slot(&path);
                self.rename(None, Some(slot));
            }
        }
    }

    fn node(&self, inode: u64) -> usize {
        *self.inodes.get(&inode).unwrap_or_else(|| panic!("nobody made inode {inode}"))
    }

    fn file(&mut self, inode: u64) -> &mut File {
        let node = self.node(inode);
        match &mut self.nodes[node] {
            Node::File(file) => file,
            Node::Directory => panic!("inode {inode} is a directory"),
        }
    }

    fn make(&mut self, path: &Path, inode: u64, node: Node) {
        let number = self.nodes.len();
        self.nodes.push(node);
        self.inodes.insert(inode, number);
        let slot = self.slot(path);
        self.rename(Some((slot, number)), None);
    }

    fn rename(&mut self, put: Option<(Slot, usize)>, gone: Option<Slot>) {
        let renaming = Renaming { put, gone, synced: false };
        renaming.apply(&mut self.now);
        self.renamings.push(renaming);
    }

    fn synced(&mut self, sync: u64) {
        let Sync { node, upto } = self.syncs.remove(&sync).expect("it began");
        match &mut self.nodes[node] {
            Node::File(file) => file.cover(upto),
            Node::Directory => {
                let covered = self.renamings[..upto].iter_mut().filter(|it| it.is_in(node));
                covered.for_each(|it| it.synced = true);
            }
        }
    }

    fn slot(&self, path: &Path) -> Slot {
        let inside = path.strip_prefix(&self.root).expect("below the root");
        let name = inside.file_name().expect("not the root itself").to_owned();
        let above = inside.parent().into_iter().flatten();
        let directory = above.fold(ROOT, |directory, name| self.now[&(directory, name.to_owned())]);
        (directory, name)
    }

    // ---- Whether that is all that happened.

    /// Compares what the log leads to with what is on the disk; returns the number of files that
    /// were changed.
    pub fn check(&self) -> usize {
        self.check_below(ROOT, &self.root.clone())
    }

    fn check_below(&self, directory: usize, path: &Path) -> usize {
        let there: BTreeMap<OsString, PathBuf> =
            entries(path).into_iter().map(|(name, path, _)| (name, path)).collect();
        let mut changed = 0;
        for (name, node) in self.names_in(&self.now, directory) {
            let path = path.join(name);
            if !there.contains_key(name) {
                assert!(self.pending.contains(&path), "{} is not there", path.display());
                continue;
            }
            changed += match &self.nodes[node] {
                Node::Directory => self.check_below(node, &path),
                Node::File(file) => self.check_file(file, &path),
            };
        }
        for (name, path) in there {
            let known = self.now.contains_key(&(directory, name));
            assert!(known || self.pending.contains(&path), "nobody made {}", path.display());
        }
        changed
    }

    fn check_file(&self, file: &File, path: &Path) -> usize {
        let same = match &file.before {
            Some(kept) if !file.touched && inode(kept) == inode(path) => true,
            _ => file.content() == fs::read(path).expect("it is there"),
        };
        assert!(same || self.pending.iter().any(|it| it == path), "{} differs", path.display());
        usize::from(file.touched)
    }

    fn names_in<'a>(
        &self,
        names: &'a Names,
        directory: usize,
    ) -> impl Iterator<Item = (&'a OsString, usize)> + use<'a> {
        let from = names.range((directory, OsString::new())..);
        let of = from.take_while(move |((of, _), _)| *of == directory);
        of.map(|((_, name), node)| (name, *node))
    }

    // ---- The loss.

    /// The power fails: rewrites everything below the root as it may be found afterwards. `None`:
    /// each file and directory in a manner of its own.
    pub fn lose_power(self, manner: Option<Manner>, rng: &mut SmallRng) -> Tally {
        let mut tally = Tally::default();
        let any = |rng: &mut SmallRng| Manner::ALL[rng.random_range(0..4)];
        let of_names = manner.unwrap_or_else(|| any(rng));
        let names = self.surviving_names(of_names, rng, &mut tally);
        // By node, as a file may have two names.
        let mut left: BTreeMap<usize, Vec<u8>> = BTreeMap::new();
        for (node, file) in self.nodes.iter().enumerate() {
            if let Node::File(file) = file
                && file.touched
            {
                let manner = manner.unwrap_or_else(|| any(rng));
                let kind = self.kind(node);
                let File { synced, unsynced, .. } = file;
                let content = survives(&kind, synced, unsynced, manner, rng, &mut tally);
                left.insert(node, content);
            }
        }
        let fresh = self.kept.join("fresh");
        fs::create_dir(&fresh).expect("a new directory");
        self.write_below(ROOT, &fresh, &names, &left);
        fs::remove_dir_all(&self.root).expect("it can be removed");
        fs::rename(&fresh, &self.root).expect("on the same file system");
        tally
    }

    /// How the file is counted: by what its first name has beside digits.
    fn kind(&self, node: usize) -> String {
        let made = self.renamings.iter().filter_map(|it| it.put.as_ref());
        let mut names = self.before.iter().chain(made.map(|(slot, node)| (slot, node)));
        let name = names.find_map(|((_, name), of)| (*of == node).then_some(name));
        let name = name.expect("it has a name").to_string_lossy();
        name.chars().filter(|c| !c.is_ascii_digit()).collect()
    }

    /// Which changes of names arrived, by directory and in their order or each for itself.
    fn surviving_names(&self, manner: Manner, rng: &mut SmallRng, tally: &mut Tally) -> Names {
        let luck = Luck::some(rng);
        let mut arrived: Vec<bool> = self.renamings.iter().map(|it| it.synced).collect();
        let unsynced: Vec<usize> =
            (0..arrived.len()).filter(|i| !self.renamings[*i].synced).collect();
        match manner {
            Manner::Whole => {}
            Manner::Cut => {
                for directory in 0..self.nodes.len() {
                    let here = unsynced.iter().filter(|i| self.renamings[**i].is_in(directory));
                    let here: Vec<usize> = here.copied().collect();
                    let n = luck.of(here.len(), rng);
                    here[..n].iter().for_each(|i| arrived[*i] = true);
                }
            }
            Manner::Pages | Manner::Torn => {
                unsynced.iter().for_each(|i| arrived[*i] = luck.of(1, rng) == 1);
            }
        }
        for later in (0..arrived.len()).rev().filter(|i| arrived[*i]).collect::<Vec<_>>() {
            self.with_those_before(later, &mut arrived);
        }
        unsynced.iter().for_each(|i| tally.names[usize::from(arrived[*i])] += 1);
        let mut names = self.before.clone();
        let arrived = self.renamings.iter().zip(arrived).filter(|(_, arrived)| *arrived);
        arrived.for_each(|(renaming, _)| renaming.apply(&mut names));
        names
    }

    /// What was done to the same names before has arrived too.
    fn with_those_before(&self, later: usize, arrived: &mut [bool]) {
        let slots: Vec<&Slot> = self.renamings[later].slots().collect();
        for earlier in (0..later).rev() {
            let same = self.renamings[earlier].slots().any(|slot| slots.contains(&slot));
            if same && !arrived[earlier] {
                arrived[earlier] = true;
                self.with_those_before(earlier, arrived);
            }
        }
    }

    fn write_below(
        &self,
        directory: usize,
        path: &Path,
        names: &Names,
        left: &BTreeMap<usize, Vec<u8>>,
    ) {
        for (name, node) in self.names_in(names, directory) {
            let path = path.join(name);
            match (&self.nodes[node], left.get(&node)) {
                (Node::Directory, _) => {
                    fs::create_dir(&path).expect("a new directory");
                    self.write_below(node, &path, names, left);
                }
                (Node::File(_), Some(content)) => fs::write(&path, content).expect("room"),
                (Node::File(file), None) => {
                    let kept = file.before.as_ref().expect("it was there at the start");
                    fs::hard_link(kept, &path).expect("on the same file system");
                }
            }
        }
    }
}

impl File {
    /// A new one: that it is empty is a change like any other.
    fn fresh() -> Self {
        Self { touched: true, ..Self::default() }
    }
}

fn inode(path: &Path) -> u64 {
    fs::metadata(path).expect("it is there").ino()
}

/// Name, path, and whether it is a directory.
fn entries(path: &Path) -> Vec<(OsString, PathBuf, bool)> {
    let entries = fs::read_dir(path).expect("a directory");
    entries
        .map(|entry| {
            let entry = entry.expect("an entry");
            let is_directory = entry.file_type().expect("a kind").is_dir();
            (entry.file_name(), entry.path(), is_directory)
        })
        .collect()
}
