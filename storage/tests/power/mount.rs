//! Shows a [`Disk`] to the kernel as a file system.
//!
//! Answers every request while it is made and never calls anything that could wait for the file system itself.

#![allow(
    clippy::significant_drop_in_scrutinee,
    reason = "answers are given under the lock, and nothing they call takes it"
)]

use std::ffi::OsStr;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use fuser::{
    BackgroundSession, BsdFileFlags, Config, Errno, FileAttr, FileHandle, FileType, Filesystem, FopenFlags, Generation,
    INodeNo, LockOwner, MountOption, OpenFlags, RenameFlags, ReplyAttr, ReplyCreate, ReplyData, ReplyDirectory,
    ReplyEmpty, ReplyEntry, ReplyOpen, ReplyStatfs, ReplyWrite, Request, TimeOrNow, WriteFlags,
};
use parking_lot::Mutex;

use crate::disk::{Disk, Failure, Node, Refused};

/// Names and sizes change only through the kernel.
const TTL: Duration = Duration::from_secs(3600);

pub(crate) struct Mounted {
    disk: Arc<Mutex<Disk>>,
    session: BackgroundSession,
}

impl Mounted {
    pub(crate) fn new(disk: Disk, at: &Path) -> io::Result<Self> {
        let disk = Arc::new(Mutex::new(disk));
        let mut config = Config::default();
        config.mount_options = vec![MountOption::FSName("power".to_owned()), MountOption::RW, MountOption::NoAtime];
        let session = fuser::spawn_mount(Power(disk.clone()), at, &config)?;
        Ok(Self { disk, session })
    }

    /// Turns the power off now.
    pub(crate) fn cut(&self) {
        self.disk.lock().cut();
    }

    pub(crate) fn is_off(&self) -> bool {
        self.disk.lock().is_off()
    }

    pub(crate) fn fail(&self, failure: Option<Failure>) {
        self.disk.lock().failure = failure;
    }

    pub(crate) fn changes(&self) -> u64 {
        self.disk.lock().changes
    }

    /// Takes the disk out. Nobody may have a file of it open.
    pub(crate) fn unmount(self) -> io::Result<Disk> {
        self.session.umount_and_join()?;
        Arc::into_inner(self.disk).map(Mutex::into_inner).ok_or_else(|| io::Error::other("the file system still runs"))
    }
}

struct Power(Arc<Mutex<Disk>>);

impl From<Refused> for Errno {
    fn from(refused: Refused) -> Self {
        match refused {
            Refused::PowerIsOff => Self::EIO,
            Refused::NotFound => Self::ENOENT,
            Refused::Exists => Self::EEXIST,
            Refused::NotEmpty => Self::ENOTEMPTY,
            Refused::NotADirectory => Self::ENOTDIR,
            Refused::NoSpace => Self::ENOSPC,
        }
    }
}

fn attributes(disk: &Disk, node: u64) -> Result<FileAttr, Refused> {
    let (kind, size, perm) = match disk.node(node)? {
        Node::File { now, .. } => (FileType::RegularFile, now.size, 0o600),
        Node::Dir { .. } => (FileType::Directory, 0, 0o700),
    };
    Ok(FileAttr {
        ino: INodeNo(node),
        size,
        blocks: size.div_ceil(512),
        atime: UNIX_EPOCH,
        mtime: UNIX_EPOCH,
        ctime: UNIX_EPOCH,
        crtime: UNIX_EPOCH,
        kind,
        perm,
        nlink: 1,
        uid: 0,
        gid: 0,
        rdev: 0,
        blksize: 4096,
        flags: 0,
    })
}

/// All names here are ours.
fn text(name: &OsStr) -> &str {
    name.to_str().unwrap_or_default()
}

/// Answers with the value, or with the error.
macro_rules! answer {
    ($reply:ident, $result:expr, $value:pat => $say:expr) => {
        match $result {
            Ok($value) => $say,
            Err(e) => $reply.error(e.into()),
        }
    };
}

impl Filesystem for Power {
    fn lookup(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        let disk = self.0.lock();
        let found = disk.lookup(parent.0, text(name)).and_then(|node| attributes(&disk, node));
        answer!(reply, found, attr => reply.entry(&TTL, &attr, Generation(0)));
    }

    fn getattr(&self, _: &Request, ino: INodeNo, _: Option<FileHandle>, reply: ReplyAttr) {
        answer!(reply, attributes(&self.0.lock(), ino.0), attr => reply.attr(&TTL, &attr));
    }

    fn setattr(
        &self,
        _: &Request,
        ino: INodeNo,
        _mode: Option<u32>,
        _uid: Option<u32>,
        _gid: Option<u32>,
        size: Option<u64>,
        _atime: Option<TimeOrNow>,
        _mtime: Option<TimeOrNow>,
        _ctime: Option<SystemTime>,
        _: Option<FileHandle>,
        _crtime: Option<SystemTime>,
        _chgtime: Option<SystemTime>,
        _bkuptime: Option<SystemTime>,
        _: Option<BsdFileFlags>,
        reply: ReplyAttr,
    ) {
        let mut disk = self.0.lock();
        let done = size.map_or(Ok(()), |size| disk.resize(ino.0, size));
        answer!(reply, done.and_then(|()| attributes(&disk, ino.0)), attr => reply.attr(&TTL, &attr));
    }

    fn mkdir(&self, _: &Request, parent: INodeNo, name: &OsStr, _mode: u32, _umask: u32, reply: ReplyEntry) {
        let mut disk = self.0.lock();
        let made = disk.make(parent.0, text(name), true).and_then(|node| attributes(&disk, node));
        answer!(reply, made, attr => reply.entry(&TTL, &attr, Generation(0)));
    }

    fn unlink(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        answer!(reply, self.0.lock().remove(parent.0, text(name)), () => reply.ok());
    }

    fn rmdir(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        answer!(reply, self.0.lock().remove(parent.0, text(name)), () => reply.ok());
    }

    fn rename(
        &self,
        _: &Request,
        parent: INodeNo,
        name: &OsStr,
        newparent: INodeNo,
        newname: &OsStr,
        _: RenameFlags,
        reply: ReplyEmpty,
    ) {
        let done = self.0.lock().rename((parent.0, text(name)), (newparent.0, text(newname)));
        answer!(reply, done, () => reply.ok());
    }

    fn create(
        &self,
        _: &Request,
        parent: INodeNo,
        name: &OsStr,
        _mode: u32,
        _umask: u32,
        _flags: i32,
        reply: ReplyCreate,
    ) {
        let mut disk = self.0.lock();
        let made = disk.make(parent.0, text(name), false).and_then(|node| attributes(&disk, node));
        answer!(reply, made, attr => reply.created(&TTL, &attr, Generation(0), FileHandle(0), FopenFlags::empty()));
    }

    fn open(&self, _: &Request, ino: INodeNo, _: OpenFlags, reply: ReplyOpen) {
        answer!(reply, self.0.lock().node(ino.0), _ => reply.opened(FileHandle(0), FopenFlags::FOPEN_KEEP_CACHE));
    }

    fn read(
        &self,
        _: &Request,
        ino: INodeNo,
        _: FileHandle,
        offset: u64,
        size: u32,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyData,
    ) {
        match self.0.lock().node(ino.0) {
            Ok(Node::File { now, .. }) => reply.data(&now.read(offset, u64::from(size))),
            Ok(Node::Dir { .. }) => reply.error(Errno::EISDIR),
            Err(e) => reply.error(e.into()),
        }
    }

    fn write(
        &self,
        _: &Request,
        ino: INodeNo,
        _: FileHandle,
        offset: u64,
        data: &[u8],
        _: WriteFlags,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyWrite,
    ) {
        let written = u32::try_from(data.len()).unwrap_or(u32::MAX);
        answer!(reply, self.0.lock().write(ino.0, offset, data), () => reply.written(written));
    }

    fn flush(&self, _: &Request, _: INodeNo, _: FileHandle, _: LockOwner, reply: ReplyEmpty) {
        reply.ok();
    }

    fn fsync(&self, _: &Request, ino: INodeNo, _: FileHandle, _datasync: bool, reply: ReplyEmpty) {
        answer!(reply, self.0.lock().sync(ino.0), () => reply.ok());
    }

    fn fsyncdir(&self, _: &Request, ino: INodeNo, _: FileHandle, _datasync: bool, reply: ReplyEmpty) {
        answer!(reply, self.0.lock().sync(ino.0), () => reply.ok());
    }

    fn readdir(&self, _: &Request, ino: INodeNo, _: FileHandle, offset: u64, mut reply: ReplyDirectory) {
        let disk = self.0.lock();
        let entries = match disk.entries(ino.0) {
            Ok(entries) => entries,
            Err(e) => return reply.error(e.into()),
        };
        for (i, (name, node)) in (1u64..).zip(entries).skip(usize::try_from(offset).unwrap_or(usize::MAX)) {
            let is_dir = matches!(disk.node(*node), Ok(Node::Dir { .. }));
            let kind = if is_dir { FileType::Directory } else { FileType::RegularFile };
            if reply.add(INodeNo(*node), i, kind, name) {
                break;
            }
        }
        reply.ok();
    }

    fn statfs(&self, _: &Request, _: INodeNo, reply: ReplyStatfs) {
        reply.statfs(1 << 30, 1 << 30, 1 << 30, 1 << 20, 1 << 20, 4096, 255, 4096);
    }
}
