//! The bytes of a backup: frames, each with a checksum over everything before it.
//!
//! ```text
//! file     "ironkeel backup\n" version(4) frame...
//! frame    kind(1) plain length(4) length(4) payload digest(32)
//! kind     H header, first   R rows   Z rows, deflated   E end, last
//! header   store format(2+n) revision(8) time(8) pace(8)
//! rows     { key length(2) key value length(4) value }...
//! end      objects(8) changes(8) rows(8) bytes(8) oldest(8) its time(8) latest(8) its time(8)
//! ```
//!
//! Integers are big-endian. A digest is the SHA-256 of all bytes from the file's first to the end of the payload, digests left out: a frame that is
//! missing, repeated, moved or changed shows at its own digest, and the last one covers the whole file. Never touches a store.

use std::io::{ErrorKind, Read, Write as _};

use bytes::{Buf, BufMut, Bytes};
use flate2::Compression;
use flate2::read::DeflateDecoder;
use flate2::write::DeflateEncoder;
use sha2::{Digest, Sha256};

use super::{BackupError, Summary};
use crate::kv::{MAX_KEY, MAX_VALUE};
use crate::store::types::Revision;

const MAGIC: &[u8; 16] = b"ironkeel backup\n";
const VERSION: u32 = 1;
const FRAME: usize = 9;
const DIGEST: usize = 32;
/// A block of rows ends when it has this many bytes.
const BLOCK: usize = 256 << 10;
/// The most bytes of a payload: a block that wanted one byte more before it got the largest row.
const MAX_PAYLOAD: usize = BLOCK + 2 + MAX_KEY + 4 + MAX_VALUE;

const HEADER: u8 = b'H';
const PLAIN: u8 = b'R';
const DEFLATED: u8 = b'Z';
const END: u8 = b'E';

/// Bytes of the payload of the end.
const END_PAYLOAD: usize = 64;
/// The last bytes of a backup, which hold its [`Summary`].
pub const SUMMARY: usize = FRAME + END_PAYLOAD + DIGEST;

/// What the beginning of a backup says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Header {
    /// The layout of the rows.
    pub(super) format: String,
    /// The state that the backup holds.
    pub(super) revision: Revision,
    /// When it was taken, Unix milliseconds.
    pub(super) at: u64,
    /// The most revisions that its engine used up in a second.
    pub(super) pace: u64,
}

impl Summary {
    fn payload(self) -> [u8; END_PAYLOAD] {
        let mut out = [0; END_PAYLOAD];
        let numbers = [
            self.objects,
            self.changes,
            self.rows,
            self.bytes,
            self.oldest.0,
            self.oldest_at,
            self.latest.0,
            self.latest_at,
        ];
        for (to, number) in out.chunks_exact_mut(8).zip(numbers) {
            to.copy_from_slice(&number.to_be_bytes());
        }
        out
    }

    fn parse(mut payload: &[u8]) -> Option<Self> {
        let mut next = || payload.try_get_u64().ok();
        Some(Self {
            objects: next()?,
            changes: next()?,
            rows: next()?,
            bytes: next()?,
            oldest: Revision(next()?),
            oldest_at: next()?,
            latest: Revision(next()?),
            latest_at: next()?,
        })
    }

    /// Reads the summary out of a backup's last [`SUMMARY`] bytes, without checking anything else; `None` when they are not its end.
    pub fn of_end(end: &[u8]) -> Option<Self> {
        let payload = end.get(FRAME..SUMMARY - DIGEST)?;
        (end.len() == SUMMARY && end.first() == Some(&END)).then(|| Self::parse(payload))?
    }
}

/// Makes frames.
pub(super) struct Writer {
    hash: Sha256,
    rows: Vec<u8>,
}

impl Writer {
    /// The writer and the file's first bytes.
    pub(super) fn begin(header: &Header) -> (Self, Bytes) {
        let mut out = Vec::new();
        out.put_slice(MAGIC);
        out.put_u32(VERSION);
        let mut hash = Sha256::new();
        hash.update(&out);
        let mut payload = Vec::new();
        payload.put_u16(u16::try_from(header.format.len()).unwrap_or(u16::MAX));
        payload.put_slice(header.format.as_bytes());
        payload.put_u64(header.revision.0);
        payload.put_u64(header.at);
        payload.put_u64(header.pace);
        let mut writer = Self { hash, rows: Vec::with_capacity(BLOCK + (8 << 10)) };
        writer.frame(&mut out, HEADER, payload.len(), &payload);
        (writer, out.into())
    }

    fn frame(&mut self, out: &mut Vec<u8>, kind: u8, plain: usize, payload: &[u8]) {
        let begin = out.len();
        out.put_u8(kind);
        // Payloads are bounded far below 4 GiB.
        out.put_u32(u32::try_from(plain).unwrap_or(u32::MAX));
        out.put_u32(u32::try_from(payload.len()).unwrap_or(u32::MAX));
        out.put_slice(payload);
        self.hash.update(out.get(begin..).unwrap_or_default());
        out.put_slice(&self.hash.clone().finalize());
    }

    /// Adds a row; returns a frame when there is one.
    ///
    /// # Errors
    /// `Damaged` for a row over the engine's limits, which none can hold.
    pub(super) fn row(&mut self, key: &[u8], value: &[u8]) -> Result<Option<Bytes>, BackupError> {
        let too_large = || BackupError::Damaged { at: 0, what: "a row of the store is over the limits".to_owned() };
        if key.len() > MAX_KEY || value.len() > MAX_VALUE {
            return Err(too_large());
        }
        self.rows.put_u16(u16::try_from(key.len()).map_err(|_| too_large())?);
        self.rows.put_slice(key);
        self.rows.put_u32(u32::try_from(value.len()).map_err(|_| too_large())?);
        self.rows.put_slice(value);
        if self.rows.len() < BLOCK { Ok(None) } else { self.block().map(Some) }
    }

    fn block(&mut self) -> Result<Bytes, BackupError> {
        let mut encoder = DeflateEncoder::new(Vec::with_capacity(self.rows.len() / 2), Compression::fast());
        encoder.write_all(&self.rows)?;
        let deflated = encoder.finish()?;
        let rows = std::mem::take(&mut self.rows);
        let mut out = Vec::with_capacity(FRAME + deflated.len().min(rows.len()) + DIGEST);
        if deflated.len() < rows.len() {
            self.frame(&mut out, DEFLATED, rows.len(), &deflated);
        } else {
            self.frame(&mut out, PLAIN, rows.len(), &rows);
        }
        self.rows = rows;
        self.rows.clear();
        Ok(out.into())
    }

    /// The file's last bytes.
    pub(super) fn end(mut self, summary: Summary) -> Result<Bytes, BackupError> {
        let mut out = if self.rows.is_empty() { Vec::new() } else { self.block()?.to_vec() };
        let payload = summary.payload();
        self.frame(&mut out, END, payload.len(), &payload);
        Ok(out.into())
    }
}

/// A place in a file from which rows can be read again.
#[derive(Clone)]
pub(super) struct Mark {
    pub(super) at: u64,
    hash: Sha256,
}

/// Reads frames, and trusts nothing before its digest has been checked.
pub(super) struct Reader<R> {
    input: R,
    hash: Sha256,
    /// Bytes of the file read so far.
    at: u64,
    /// What is left of the block in hand.
    rows: Bytes,
    /// Where that block begins.
    block: Mark,
    count: u64,
    end: Option<Summary>,
}

impl<R: Read> Reader<R> {
    /// Reads the beginning of a file.
    ///
    /// # Errors
    /// `NotABackup`, `Newer`, `Damaged`, `Read`.
    pub(super) fn open(input: R) -> Result<(Self, Header), BackupError> {
        let block = Mark { at: 0, hash: Sha256::new() };
        let mut this = Self { input, hash: Sha256::new(), at: 0, rows: Bytes::new(), block, count: 0, end: None };
        let mut magic = [0; MAGIC.len()];
        match this.input.read_exact(&mut magic) {
            Err(e) if e.kind() == ErrorKind::UnexpectedEof => return Err(BackupError::NotABackup("it is too short")),
            outcome => outcome?,
        }
        if &magic != MAGIC {
            return Err(BackupError::NotABackup("it begins with other bytes"));
        }
        this.hash.update(magic);
        this.at = 16;
        let mut version = [0; 4];
        this.fill(&mut version)?;
        this.hash.update(version);
        let version = u32::from_be_bytes(version);
        if version != VERSION {
            return Err(BackupError::Newer { found: version.to_string(), expected: VERSION.to_string() });
        }
        let (kind, payload) = this.frame()?;
        let header = (kind == HEADER).then(|| parse_header(payload)).flatten();
        let header = header.ok_or_else(|| this.damaged("the header does not decode"))?;
        Ok((this, header))
    }

    /// Reads on from a mark that [`Reader::mark`] gave; `input` stands there.
    pub(super) fn resume(input: R, mark: Mark) -> Self {
        Self { input, hash: mark.hash.clone(), at: mark.at, rows: Bytes::new(), block: mark, count: 0, end: None }
    }

    /// Where the block begins that the last row came from.
    pub(super) fn mark(&self) -> Mark {
        self.block.clone()
    }

    pub(super) fn damaged(&self, what: impl Into<String>) -> BackupError {
        BackupError::Damaged { at: self.at, what: what.into() }
    }

    /// What the end says, when it was reached.
    pub(super) fn end(&self) -> Option<Summary> {
        self.end
    }

    fn fill(&mut self, buffer: &mut [u8]) -> Result<(), BackupError> {
        match self.input.read_exact(buffer) {
            Ok(()) => {
                self.at += u64::try_from(buffer.len()).unwrap_or(0);
                Ok(())
            }
            Err(e) if e.kind() == ErrorKind::UnexpectedEof => Err(self.damaged("bytes are missing")),
            Err(e) => Err(e.into()),
        }
    }

    fn frame(&mut self) -> Result<(u8, Bytes), BackupError> {
        let mut head = [0; FRAME];
        self.fill(&mut head)?;
        let mut fields = head.as_slice();
        let kind = fields.get_u8();
        let length = |n: u32| usize::try_from(n).ok().filter(|n| *n <= MAX_PAYLOAD);
        let (plain, stored) = (length(fields.get_u32()), length(fields.get_u32()));
        let (Some(plain), Some(stored)) = (plain, stored) else {
            return Err(self.damaged("a length is out of bounds"));
        };
        let mut payload = vec![0; stored];
        self.fill(&mut payload)?;
        self.hash.update(head);
        self.hash.update(&payload);
        let mut digest = [0; DIGEST];
        self.fill(&mut digest)?;
        if self.hash.clone().finalize().as_slice() != digest {
            return Err(self.damaged("a checksum does not match"));
        }
        if kind != DEFLATED {
            return Ok((kind, payload.into()));
        }
        let mut rows = Vec::with_capacity(plain);
        // One byte more than announced would be taken and found out.
        let limit = u64::try_from(plain).unwrap_or(0) + 1;
        match DeflateDecoder::new(payload.as_slice()).take(limit).read_to_end(&mut rows) {
            Ok(length) if length == plain => Ok((PLAIN, rows.into())),
            _ => Err(self.damaged("a block does not inflate")),
        }
    }

    /// The next row; `None` after the last one, when the file has ended as it should.
    ///
    /// # Errors
    /// `Damaged`, `Read`.
    pub(super) fn next(&mut self) -> Result<Option<(Bytes, Bytes)>, BackupError> {
        if !self.fill_rows()? {
            return Ok(None);
        }
        self.count += 1;
        let row = parse_row(&mut self.rows);
        row.map(Some).ok_or_else(|| self.damaged("a row does not decode or is over the limits"))
    }

    /// Takes the next block in hand when none is; false after the last one.
    fn fill_rows(&mut self) -> Result<bool, BackupError> {
        while self.rows.is_empty() {
            if self.end.is_some() {
                return Ok(false);
            }
            let mark = Mark { at: self.at, hash: self.hash.clone() };
            let (kind, payload) = self.frame()?;
            match kind {
                PLAIN => {
                    self.block = mark;
                    self.rows = payload;
                }
                END => {
                    let summary = Summary::parse(&payload).filter(|_| payload.len() == END_PAYLOAD);
                    self.end = Some(summary.ok_or_else(|| self.damaged("the end does not decode"))?);
                    if self.input.read(&mut [0])? != 0 {
                        return Err(self.damaged("bytes follow the end"));
                    }
                }
                _ => return Err(self.damaged("a frame is of no known kind")),
            }
        }
        Ok(true)
    }

    /// The tag of the next row; `None` after the last one.
    ///
    /// # Errors
    /// As for [`Reader::next`].
    pub(super) fn peek(&mut self) -> Result<Option<u8>, BackupError> {
        if !self.fill_rows()? {
            return Ok(None);
        }
        // Behind the key's length.
        self.rows.get(2).copied().map(Some).ok_or_else(|| self.damaged("a row does not decode"))
    }

    /// How many rows have been read.
    pub(super) fn count(&self) -> u64 {
        self.count
    }
}

fn parse_header(mut payload: Bytes) -> Option<Header> {
    let length = usize::from(payload.try_get_u16().ok()?);
    if payload.len() != length + 24 {
        return None;
    }
    let format = String::from_utf8(payload.split_to(length).to_vec()).ok()?;
    Some(Header { format, revision: Revision(payload.get_u64()), at: payload.get_u64(), pace: payload.get_u64() })
}

fn parse_row(rows: &mut Bytes) -> Option<(Bytes, Bytes)> {
    let key = usize::from(rows.try_get_u16().ok()?);
    if key == 0 || key > MAX_KEY || key > rows.len() {
        return None;
    }
    let key = rows.split_to(key);
    let value = usize::try_from(rows.try_get_u32().ok()?).ok()?;
    (value <= MAX_VALUE && value <= rows.len()).then(|| (key, rows.split_to(value)))
}
