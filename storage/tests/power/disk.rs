//! A disk that forgets: what is written is volatile until it is synced, and a power cut keeps any part of the rest.
//!
//! Stricter than any file system: of what was not synced, data survive in any subset, in any order and torn at 512 bytes; a directory's
//! entries survive apart from the files they name, and only a sync of the directory itself makes them last. Never loses what was
//! synced. Knows nothing of FUSE.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{Rng, SeedableRng};

const PAGE: usize = 4096;
const SECTOR: u64 = 512;
pub(crate) const ROOT: u64 = 1;

/// Bytes of a file; pages that are absent are zeros.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(crate) struct Content {
    pub(crate) size: u64,
    pages: BTreeMap<u64, Box<[u8; PAGE]>>,
}

impl Content {
    fn write(&mut self, offset: u64, data: &[u8]) {
        self.size = self.size.max(offset + data.len() as u64);
        let mut rest = data;
        let mut at = offset;
        while !rest.is_empty() {
            let within = (at % PAGE as u64) as usize;
            let len = rest.len().min(PAGE - within);
            let page = self.pages.entry(at / PAGE as u64).or_insert_with(|| Box::new([0; PAGE]));
            page[within..within + len].copy_from_slice(&rest[..len]);
            rest = &rest[len..];
            at += len as u64;
        }
    }

    fn resize(&mut self, size: u64) {
        if size < self.size {
            let (first, within) = (size / PAGE as u64, (size % PAGE as u64) as usize);
            self.pages.retain(|page, _| *page <= first);
            if let Some(page) = self.pages.get_mut(&first) {
                page[within..].fill(0);
            }
        }
        self.size = size;
    }

    pub(crate) fn read(&self, offset: u64, len: u64) -> Vec<u8> {
        let end = self.size.min(offset + len);
        if offset >= end {
            return Vec::new();
        }
        let mut out = vec![0; (end - offset) as usize];
        for (page, bytes) in self.pages.range(offset / PAGE as u64..end.div_ceil(PAGE as u64)) {
            let begin = page * PAGE as u64;
            let (from, to) = (begin.max(offset), (begin + PAGE as u64).min(end));
            if from < to {
                out[(from - offset) as usize..(to - offset) as usize]
                    .copy_from_slice(&bytes[(from - begin) as usize..(to - begin) as usize]);
            }
        }
        out
    }

    fn load(path: &Path) -> io::Result<Self> {
        let mut content = Self::default();
        let data = fs::read(path)?;
        for (page, bytes) in (0u64..).zip(data.chunks(PAGE)) {
            if bytes.iter().any(|b| *b != 0) {
                content.write(page * PAGE as u64, bytes);
            }
        }
        content.resize(data.len() as u64);
        Ok(content)
    }

    fn store(&self, path: &Path) -> io::Result<()> {
        let file = File::create(path)?;
        file.set_len(self.size)?;
        for (page, bytes) in &self.pages {
            let begin = page * PAGE as u64;
            if begin < self.size {
                let len = (self.size - begin).min(PAGE as u64) as usize;
                file.write_all_at(&bytes[..len], begin)?;
            }
        }
        Ok(())
    }
}

/// What lies under a name, by itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Tree {
    File(Content),
    Dir(BTreeMap<String, Tree>),
}

impl Tree {
    /// Reads a directory of the real disk.
    pub(crate) fn load(path: &Path) -> io::Result<Self> {
        let mut entries = BTreeMap::new();
        for entry in fs::read_dir(path)? {
            let entry = entry?;
            let name = entry.file_name().into_string().map_err(|_| io::Error::other("a name is not UTF-8"))?;
            let path = entry.path();
            let tree = if entry.file_type()?.is_dir() { Self::load(&path)? } else { Self::File(Content::load(&path)?) };
            entries.insert(name, tree);
        }
        Ok(Self::Dir(entries))
    }

    /// Writes it to the real disk.
    pub(crate) fn store(&self, path: &Path) -> io::Result<()> {
        match self {
            Self::File(content) => content.store(path),
            Self::Dir(entries) => {
                fs::create_dir_all(path)?;
                entries.iter().try_for_each(|(name, tree)| tree.store(&path.join(name)))
            }
        }
    }
}

#[derive(Debug, Clone)]
pub(crate) enum Change {
    Write(u64, Vec<u8>),
    Size(u64),
}

#[derive(Debug)]
pub(crate) enum Node {
    File { now: Content, durable: Content, pending: Vec<Change> },
    Dir { now: BTreeMap<String, u64>, durable: BTreeMap<String, u64> },
}

/// A change of directories that no sync has covered.
#[derive(Debug, Clone)]
enum Naming {
    Set { dir: u64, name: String, node: u64 },
    Remove { dir: u64, name: String },
    Move { from: (u64, String), to: (u64, String), node: u64 },
}

impl Naming {
    fn touches(&self, dirs: &BTreeSet<u64>) -> bool {
        match self {
            Self::Set { dir, .. } | Self::Remove { dir, .. } => dirs.contains(dir),
            Self::Move { from, to, .. } => dirs.contains(&from.0) || dirs.contains(&to.0),
        }
    }
}

/// Why a request failed, as errno says it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Refused {
    PowerIsOff,
    NotFound,
    Exists,
    NotEmpty,
    NotADirectory,
    NoSpace,
}

/// What is wrong with a disk that has power.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Failure {
    /// No write finds space.
    Full,
    /// Syncs fail, and what they should have made durable never will be, although it can still be read: what Linux does after a write error.
    Sync,
}

/// When the power goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Cut {
    Never,
    /// At this change.
    At(u64),
    /// At the first sync of a file from this change on: all that it should have made durable is in doubt.
    AtSync(u64),
}

/// The disk.
#[derive(Debug)]
pub(crate) struct Disk {
    nodes: BTreeMap<u64, Node>,
    next: u64,
    namings: Vec<Naming>,
    /// Requests that change or sync something, until now.
    pub(crate) changes: u64,
    cut: Cut,
    off: bool,
    pub(crate) failure: Option<Failure>,
}

impl Disk {
    /// A disk that holds `tree` durably.
    pub(crate) fn new(tree: &Tree, cut: Cut) -> Self {
        let empty = Node::Dir { now: BTreeMap::new(), durable: BTreeMap::new() };
        let nodes = BTreeMap::from([(ROOT, empty)]);
        let mut disk = Self { nodes, next: ROOT + 1, namings: Vec::new(), changes: 0, cut, off: false, failure: None };
        disk.fill(ROOT, tree);
        disk
    }

    fn fill(&mut self, dir: u64, tree: &Tree) {
        let Tree::Dir(entries) = tree else { return };
        for (name, tree) in entries {
            let node = self.next;
            self.next += 1;
            let new = match tree {
                Tree::File(content) => {
                    Node::File { now: content.clone(), durable: content.clone(), pending: Vec::new() }
                }
                Tree::Dir(_) => Node::Dir { now: BTreeMap::new(), durable: BTreeMap::new() },
            };
            self.nodes.insert(node, new);
            if let Some(Node::Dir { now, durable }) = self.nodes.get_mut(&dir) {
                now.insert(name.clone(), node);
                durable.insert(name.clone(), node);
            }
            self.fill(node, tree);
        }
    }

    pub(crate) fn is_off(&self) -> bool {
        self.off
    }

    pub(crate) fn cut(&mut self) {
        self.off = true;
    }

    fn change(&mut self, syncs_file: bool) -> Result<(), Refused> {
        self.on()?;
        self.changes += 1;
        self.off = match self.cut {
            Cut::Never => false,
            Cut::At(change) => self.changes >= change,
            Cut::AtSync(change) => self.changes >= change && syncs_file,
        };
        self.on()
    }

    fn on(&self) -> Result<(), Refused> {
        if self.is_off() { Err(Refused::PowerIsOff) } else { Ok(()) }
    }

    pub(crate) fn node(&self, node: u64) -> Result<&Node, Refused> {
        self.on()?;
        self.nodes.get(&node).ok_or(Refused::NotFound)
    }

    pub(crate) fn entries(&self, dir: u64) -> Result<&BTreeMap<String, u64>, Refused> {
        match self.node(dir)? {
            Node::Dir { now, .. } => Ok(now),
            Node::File { .. } => Err(Refused::NotADirectory),
        }
    }

    fn entries_mut(&mut self, dir: u64) -> Result<&mut BTreeMap<String, u64>, Refused> {
        match self.nodes.get_mut(&dir) {
            Some(Node::Dir { now, .. }) => Ok(now),
            Some(Node::File { .. }) => Err(Refused::NotADirectory),
            None => Err(Refused::NotFound),
        }
    }

    pub(crate) fn lookup(&self, dir: u64, name: &str) -> Result<u64, Refused> {
        self.entries(dir)?.get(name).copied().ok_or(Refused::NotFound)
    }

    fn space(&self) -> Result<(), Refused> {
        if self.failure == Some(Failure::Full) { Err(Refused::NoSpace) } else { Ok(()) }
    }

    pub(crate) fn make(&mut self, dir: u64, name: &str, is_dir: bool) -> Result<u64, Refused> {
        self.change(false)?;
        self.space()?;
        let node = self.next;
        let entries = self.entries_mut(dir)?;
        if entries.contains_key(name) {
            return Err(Refused::Exists);
        }
        entries.insert(name.to_owned(), node);
        let new = if is_dir {
            Node::Dir { now: BTreeMap::new(), durable: BTreeMap::new() }
        } else {
            Node::File { now: Content::default(), durable: Content::default(), pending: Vec::new() }
        };
        self.nodes.insert(node, new);
        self.next += 1;
        self.namings.push(Naming::Set { dir, name: name.to_owned(), node });
        Ok(node)
    }

    pub(crate) fn remove(&mut self, dir: u64, name: &str) -> Result<(), Refused> {
        self.change(false)?;
        let node = self.lookup(dir, name)?;
        if self.entries(node).is_ok_and(|e| !e.is_empty()) {
            return Err(Refused::NotEmpty);
        }
        // The node stays: the removal may not last.
        self.entries_mut(dir)?.remove(name);
        self.namings.push(Naming::Remove { dir, name: name.to_owned() });
        Ok(())
    }

    pub(crate) fn rename(&mut self, from: (u64, &str), to: (u64, &str)) -> Result<(), Refused> {
        self.change(false)?;
        let node = self.lookup(from.0, from.1)?;
        self.entries_mut(from.0)?.remove(from.1);
        self.entries_mut(to.0)?.insert(to.1.to_owned(), node);
        let owned = |place: (u64, &str)| (place.0, place.1.to_owned());
        self.namings.push(Naming::Move { from: owned(from), to: owned(to), node });
        Ok(())
    }

    pub(crate) fn write(&mut self, node: u64, offset: u64, data: &[u8]) -> Result<(), Refused> {
        self.file_change(node, Change::Write(offset, data.to_vec()))
    }

    pub(crate) fn resize(&mut self, node: u64, size: u64) -> Result<(), Refused> {
        self.file_change(node, Change::Size(size))
    }

    fn file_change(&mut self, node: u64, change: Change) -> Result<(), Refused> {
        self.space()?;
        // The change during which the power goes may leave its traces; later ones do not.
        let was_off = self.is_off();
        let went = self.change(false);
        let Some(Node::File { now, pending, .. }) = self.nodes.get_mut(&node) else { return Err(Refused::NotFound) };
        if !was_off {
            apply(now, &change);
            pending.push(change);
        }
        went
    }

    /// Makes a file's bytes, or a directory's entries, last.
    pub(crate) fn sync(&mut self, node: u64) -> Result<(), Refused> {
        self.change(matches!(self.nodes.get(&node), Some(Node::File { .. })))?;
        match self.nodes.get_mut(&node).ok_or(Refused::NotFound)? {
            Node::File { pending, .. } if self.failure == Some(Failure::Sync) => {
                pending.clear();
                return Err(Refused::PowerIsOff);
            }
            Node::File { durable, pending, .. } => {
                for change in pending.drain(..) {
                    apply(durable, &change);
                }
            }
            Node::Dir { .. } => {
                // A move lasts in both directories or in neither; what came before it comes with it.
                let mut dirs = BTreeSet::from([node]);
                loop {
                    let before = dirs.len();
                    for naming in &self.namings {
                        if let Naming::Move { from, to, .. } = naming
                            && naming.touches(&dirs)
                        {
                            dirs.extend([from.0, to.0]);
                        }
                    }
                    if dirs.len() == before {
                        break;
                    }
                }
                let (last, rest) = std::mem::take(&mut self.namings).into_iter().partition(|n| n.touches(&dirs));
                self.namings = rest;
                self.name(last);
            }
        }
        Ok(())
    }

    /// Carries changes of names into what lasts.
    fn name(&mut self, namings: Vec<Naming>) {
        let mut durable = |dir: u64, name: String, node: Option<u64>| {
            if let Some(Node::Dir { durable, .. }) = self.nodes.get_mut(&dir) {
                match node {
                    Some(node) => durable.insert(name, node),
                    None => durable.remove(&name),
                };
            }
        };
        for naming in namings {
            match naming {
                Naming::Set { dir, name, node } => durable(dir, name, Some(node)),
                Naming::Remove { dir, name } => durable(dir, name, None),
                Naming::Move { from, to, node } => {
                    durable(from.0, from.1, None);
                    durable(to.0, to.1, Some(node));
                }
            }
        }
    }

    /// What is on the disk when the power comes back.
    pub(crate) fn after_the_cut(mut self, seed: u64) -> Tree {
        let mut rng = StdRng::seed_from_u64(seed);
        let namings = std::mem::take(&mut self.namings);
        let kept = Survival::choose(&mut rng).of(namings, &mut rng);
        self.name(kept);
        let mut seen = BTreeSet::new();
        self.tree(ROOT, &mut rng, &mut seen)
    }

    fn tree(&self, node: u64, rng: &mut StdRng, seen: &mut BTreeSet<u64>) -> Tree {
        match &self.nodes[&node] {
            Node::File { durable, pending, now } => Tree::File(survivors(durable, pending, now.size, rng)),
            Node::Dir { durable, .. } => Tree::Dir(
                durable
                    .iter()
                    // A file that lost the removal of an old name has two; a directory has one.
                    .filter(|(_, node)| matches!(self.nodes[*node], Node::File { .. }) || seen.insert(**node))
                    .map(|(name, node)| (name.clone(), *node))
                    .collect::<Vec<_>>()
                    .into_iter()
                    .map(|(name, node)| (name, self.tree(node, rng, seen)))
                    .collect(),
            ),
        }
    }
}

fn apply(content: &mut Content, change: &Change) {
    match change {
        Change::Write(offset, data) => content.write(*offset, data),
        Change::Size(size) => content.resize(*size),
    }
}

/// Which of the changes that were not synced last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Survival {
    None,
    All,
    /// The first ones: no reordering.
    First,
    /// The last ones: reordered.
    Last,
    Some,
    /// Some, and only some sectors of those.
    Torn,
}

impl Survival {
    fn choose(rng: &mut StdRng) -> Self {
        let all = [Self::None, Self::All, Self::First, Self::Last, Self::Some, Self::Torn];
        all.choose(rng).copied().unwrap_or(Self::None)
    }

    fn of<T>(self, changes: Vec<T>, rng: &mut StdRng) -> Vec<T> {
        let at = rng.random_range(0..=changes.len());
        let keep = rng.random_range(0.1..0.9);
        let lasts = |(i, _): &(usize, T)| match self {
            Self::None => false,
            Self::All => true,
            Self::First => *i < at,
            Self::Last => *i >= at,
            Self::Some | Self::Torn => rng.random_bool(keep),
        };
        changes.into_iter().enumerate().filter(lasts).map(|(_, change)| change).collect()
    }
}

fn survivors(durable: &Content, pending: &[Change], size: u64, rng: &mut StdRng) -> Content {
    let mut content = durable.clone();
    if pending.is_empty() {
        return content;
    }
    let survival = Survival::choose(rng);
    // Few sectors lost are worse than many: the record looks whole.
    let whole = [0.5, 0.9, 0.99].choose(rng).copied().unwrap_or(0.5);
    for change in survival.of(pending.to_vec(), rng) {
        match change {
            Change::Write(offset, data) if survival == Survival::Torn => {
                let mut at = offset;
                let end = offset + data.len() as u64;
                while at < end {
                    let next = ((at / SECTOR + 1) * SECTOR).min(end);
                    if rng.random_bool(whole) {
                        content.write(at, &data[(at - offset) as usize..(next - offset) as usize]);
                    }
                    at = next;
                }
            }
            change => apply(&mut content, &change),
        }
    }
    // A file may have become longer before its bytes arrived.
    if rng.random_bool(0.3) && content.size < size {
        content.resize(size);
    }
    content
}

#[test]
fn only_what_was_synced_is_sure() {
    let mut outcomes = BTreeSet::new();
    for seed in 0..2000 {
        let mut disk = Disk::new(&Tree::Dir(BTreeMap::new()), Cut::Never);
        let dir = disk.make(ROOT, "dir", true).unwrap();
        let kept = disk.make(dir, "kept", false).unwrap();
        disk.write(kept, 100, &[7; 1000]).unwrap();
        disk.sync(kept).unwrap();
        disk.sync(dir).unwrap();
        disk.sync(ROOT).unwrap();
        disk.write(kept, 600, &[8; 1000]).unwrap();
        disk.rename((dir, "kept"), (dir, "moved")).unwrap();
        let loose = disk.make(dir, "loose", false).unwrap();
        disk.write(loose, 0, &[9; 10]).unwrap();
        disk.sync(loose).unwrap();
        let Tree::Dir(root) = disk.after_the_cut(seed) else { panic!("the root is a directory") };
        let Tree::Dir(entries) = &root["dir"] else { panic!("a synced directory stays") };
        let names: Vec<&str> = entries.keys().map(String::as_str).collect();
        let name = if names.contains(&"moved") { "moved" } else { "kept" };
        assert!(!names.contains(&"moved") || !names.contains(&"kept"), "a rename is one step: {names:?}");
        let Tree::File(file) = &entries[name] else { panic!("a file") };
        let bytes = file.read(0, 10_000);
        assert_eq!(bytes[..600], [[0; 100].as_slice(), &[7; 500]].concat(), "synced and not overwritten");
        for (i, b) in bytes.iter().enumerate().skip(600) {
            assert!(*b == 8 || (*b == 7 && i < 1100) || (*b == 0 && i >= 1100), "{i}: {b}");
        }
        if let Some(Tree::File(loose)) = entries.get("loose") {
            assert_eq!(loose.read(0, 100), [9; 10], "synced before its name was");
        }
        let tears = (600..1600).filter(|i| bytes.get(*i) == Some(&8) && bytes.get(i - 1) != Some(&8)).count();
        outcomes.insert((names.len(), name.to_owned(), bytes.len(), tears));
    }
    // Both names, with and without the loose file, and the write absent, whole, and torn in each way.
    assert!(outcomes.len() > 20, "{outcomes:?}");
}

#[test]
fn a_disk_without_power_takes_and_gives_nothing() {
    for cut in [Cut::At(3), Cut::AtSync(1)] {
        goes_off(Disk::new(&Tree::Dir(BTreeMap::new()), cut));
    }
}

fn goes_off(mut disk: Disk) {
    let file = disk.make(ROOT, "f", false).unwrap();
    disk.write(file, 0, b"x").unwrap();
    assert_eq!(disk.sync(file), Err(Refused::PowerIsOff), "a sync, and the third change");
    assert!(disk.is_off());
    assert_eq!(disk.lookup(ROOT, "f"), Err(Refused::PowerIsOff));
    assert_eq!(disk.write(file, 0, b"y"), Err(Refused::PowerIsOff));
}
