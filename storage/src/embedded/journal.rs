//! A look at fjall's journals before fjall opens them: a batch that power loss has torn is cut off, damage is refused.
//!
//! Every batch is synced before the next one is written, so only the last batch of all journals can be torn, and only one that nobody
//! was told of. A broken spot with an intact batch behind it is damage: fjall would drop everything behind it without a word, or
//! refuse to open over a torn batch. Never changes a file unless the broken spot is the last thing written.
//!
//! The journal of fjall's disk format 3, integers little-endian:
//!
//! ```text
//! batch   01 items(4) seqno(8)  item...  03 xxh3 of all items' bytes(8) "FJL" 03
//! item    02 type(1) compression(1) keyspace(8) key length(2) value length(4) length on disk(4) key value
//!         04 keyspace(8)
//! ```
//!
//! What follows the last batch is zeros: the file is made larger than it needs to be.

use std::fs::{self, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use bytes::Buf;
use xxhash_rust::xxh3::Xxh3;

use crate::kv::KvError;

const TRAILER: &[u8] = b"FJL\x03";
/// Bytes before the key of an item.
const ITEM: usize = 21;
/// How many bytes the search behind a broken spot may look at. Bounds what contents that imitate a journal can cost.
const SEARCH: usize = 1 << 30;

/// Reads all journals in `data` and cuts off a torn end, and every batch from number `failed` on: those follow a failed write. The last batch that
/// stays is written again: after a failed sync the system may show bytes that are not on the disk.
///
/// # Errors
/// `Corrupt` when something is broken that no crash explains, `Unavailable` when the operating system refuses.
pub(super) fn check(data: &Path, failed: Option<u64>) -> Result<(), KvError> {
    let refused = |e: io::Error| KvError::Unavailable(format!("cannot read the journals in {}: {e}", data.display()));
    let limit = failed.unwrap_or(u64::MAX);
    let mut last = 0;
    // Where the first broken spot is, and where the last batch before it.
    let mut torn: Option<(PathBuf, usize)> = None;
    let mut newest: Option<(PathBuf, Vec<u8>, usize)> = None;
    for path in journals(data).map_err(refused)? {
        let bytes = fs::read(&path).map_err(refused)?;
        let bytes = written(&bytes);
        let damaged = |at: usize, path: &Path| {
            Err(KvError::Corrupt(format!(
                "{} is damaged at byte {at}, before data that are whole; restore the store from a backup",
                path.display()
            )))
        };
        let end = match &torn {
            Some((path, at)) if intact_behind(bytes, last, limit) => return damaged(*at, path),
            Some(_) => continue,
            None => {
                let (begin, end) = batches(bytes, &mut last, limit);
                if let Some(batch) = bytes.get(begin..end).filter(|batch| !batch.is_empty()) {
                    newest = Some((path.clone(), batch.to_vec(), begin));
                }
                end
            }
        };
        let Some(rest) = bytes.get(end..).filter(|rest| !rest.is_empty()) else { continue };
        if intact_behind(rest, last, limit) {
            return damaged(end, &path);
        }
        torn = Some((path, end));
    }
    if let Some((path, batch, begin)) = newest {
        let file = OpenOptions::new().write(true).open(&path).map_err(refused)?;
        file.write_all_at(&batch, length(begin)).and_then(|()| file.sync_data()).map_err(refused)?;
    }
    if let Some((path, end)) = torn {
        tracing::warn!(journal = %path.display(), end, "the end of the journal was torn by a crash and is cut off");
        let file = OpenOptions::new().write(true).open(&path).map_err(refused)?;
        file.set_len(length(end)).and_then(|()| file.sync_all()).map_err(refused)?;
    }
    Ok(())
}

/// Empties all journals.
pub(super) fn empty(data: &Path) -> io::Result<()> {
    for path in journals(data)? {
        let file = OpenOptions::new().write(true).open(path)?;
        file.set_len(0)?;
        file.sync_all()?;
    }
    Ok(())
}

fn length(len: usize) -> u64 {
    u64::try_from(len).unwrap_or(u64::MAX)
}

/// The journals, oldest first.
fn journals(data: &Path) -> io::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(data)? {
        let path = entry?.path();
        let number = path.file_name().and_then(|n| n.to_str()?.strip_suffix(".jnl")?.parse::<u64>().ok());
        if let Some(number) = number {
            found.push((number, path));
        }
    }
    found.sort();
    Ok(found.into_iter().map(|(_, path)| path).collect())
}

/// The bytes without the zeros at the end. No batch ends in a zero.
fn written(bytes: &[u8]) -> &[u8] {
    // Whole pages first: a journal is mostly zeros after it was begun.
    let mut rest = bytes;
    while let Some((front, page)) = rest.split_last_chunk::<4096>() {
        if *page != [0; 4096] {
            break;
        }
        rest = front;
    }
    let len = rest.iter().rposition(|b| *b != 0).map_or(0, |i| i + 1);
    rest.get(..len).unwrap_or_default()
}

/// Where the last of the intact batches at the start of `bytes` begins and ends. `last` becomes its number.
fn batches(bytes: &[u8], last: &mut u64, limit: u64) -> (usize, usize) {
    let mut rest = bytes;
    let mut begin = 0;
    let mut unlimited = usize::MAX;
    while let Some((seqno, left)) = batch(rest, &mut unlimited).filter(|(n, _)| n >= last && *n < limit) {
        *last = seqno;
        begin = bytes.len() - rest.len();
        rest = left;
    }
    (begin, bytes.len() - rest.len())
}

/// Whether an intact batch with a number after `last` and before `limit` begins anywhere in `bytes`.
fn intact_behind(bytes: &[u8], last: u64, limit: u64) -> bool {
    let mut budget = SEARCH;
    let mut rest = bytes;
    while let Some(start) = rest.iter().position(|b| *b == 1) {
        rest = rest.get(start..).unwrap_or_default();
        if batch(rest, &mut budget).is_some_and(|(seqno, _)| last < seqno && seqno < limit) {
            return true;
        }
        rest = rest.get(1..).unwrap_or_default();
    }
    false
}

/// The number of the batch that begins here, and what follows it; `None` when there is none, or it is not whole. Takes the bytes it looked
/// at from `budget` and stops when nothing is left.
fn batch<'a>(bytes: &'a [u8], budget: &mut usize) -> Option<(u64, &'a [u8])> {
    let mut rest = bytes;
    if rest.try_get_u8().ok()? != 1 {
        return None;
    }
    let items = rest.try_get_u32_le().ok()?;
    let seqno = rest.try_get_u64_le().ok()?;
    let begin = rest;
    for _ in 0..items {
        let len = item(rest)?;
        *budget = budget.checked_sub(len)?;
        rest = rest.get(len..)?;
    }
    let content = begin.get(..begin.len() - rest.len())?;
    if rest.try_get_u8().ok()? != 3 {
        return None;
    }
    let sum = rest.try_get_u64_le().ok()?;
    let rest = rest.strip_prefix(TRAILER)?;
    let mut hasher = Xxh3::new();
    hasher.update(content);
    (hasher.digest() == sum).then_some((seqno, rest))
}

/// How many bytes the item that begins here has.
fn item(bytes: &[u8]) -> Option<usize> {
    match bytes.first()? {
        2 => {
            let mut lengths = bytes.get(11..ITEM)?;
            let key = usize::from(lengths.try_get_u16_le().ok()?);
            let _value = lengths.try_get_u32_le().ok()?;
            let value = usize::try_from(lengths.try_get_u32_le().ok()?).ok()?;
            let len = ITEM + key + value;
            (len <= bytes.len()).then_some(len)
        }
        4 => (bytes.len() >= 9).then_some(9),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(seqno: u64, values: &[&[u8]]) -> Vec<u8> {
        let mut items = Vec::new();
        for value in values {
            items.extend([2, 0, 0]);
            items.extend(1u64.to_le_bytes());
            items.extend(3u16.to_le_bytes());
            items.extend(u32::try_from(value.len()).unwrap().to_le_bytes());
            items.extend(u32::try_from(value.len()).unwrap().to_le_bytes());
            items.extend(b"key");
            items.extend(*value);
        }
        let mut bytes = vec![1];
        bytes.extend(u32::try_from(values.len()).unwrap().to_le_bytes());
        bytes.extend(seqno.to_le_bytes());
        bytes.extend(&items);
        bytes.push(3);
        bytes.extend(xxhash_rust::xxh3::xxh3_64(&items).to_le_bytes());
        bytes.extend(TRAILER);
        bytes
    }

    /// Journals before, and after: `None` when they are refused and untouched.
    fn check_case(name: &str, before: &[&[u8]], after: Option<&[&[u8]]>) {
        check_failed(name, before, None, after);
    }

    fn check_failed(name: &str, before: &[&[u8]], failed: Option<u64>, after: Option<&[&[u8]]>) {
        let dir = tempfile::tempdir().unwrap();
        let path = |i: usize| dir.path().join(format!("{i}.jnl"));
        for (i, bytes) in before.iter().enumerate() {
            fs::write(path(i), bytes).unwrap();
        }
        let result = check(dir.path(), failed);
        assert_eq!(result.is_ok(), after.is_some(), "{name}: {result:?}");
        if let Err(e) = result {
            assert!(matches!(e, KvError::Corrupt(_)), "{name}: {e}");
            assert!(e.to_string().contains("restore the store from a backup"), "{name}: {e}");
        }
        for (i, bytes) in after.unwrap_or(before).iter().enumerate() {
            assert_eq!(fs::read(path(i)).unwrap(), *bytes, "{name}: journal {i}");
        }
    }

    #[test]
    fn a_torn_end_is_cut_off_and_damage_is_refused() {
        let (one, two, three) = (record(1, &[b"a", &[7; 3000]]), record(2, &[b"bb"]), record(5, &[b"c", b"", b"d"]));
        let all = [one.clone(), two.clone(), three.clone()].concat();
        let padded = [all.clone(), vec![0; 9000]].concat();
        let flip = |bytes: &[u8], at: usize| {
            let mut bytes = bytes.to_vec();
            bytes[at] ^= 0x10;
            bytes
        };
        let torn_end = [one.clone(), two.clone(), flip(&three, 30), vec![0; 5000]].concat();
        let holed = [all.clone(), {
            let mut t = record(6, &[&[9; 2000]]);
            t[500..1012].fill(0);
            t
        }]
        .concat();
        let begun = [one.clone(), two.clone()].concat();
        let flipped = flip(&all, 100);
        let flipped_in_two = flip(&all, one.len() + 15);
        let no_start = flip(&all, one.len());
        check_case("nothing", &[], Some(&[]));
        check_case("empty", &[b""], Some(&[b""]));
        check_case("whole", &[&all], Some(&[&all]));
        check_case("whole, larger than needed", &[&padded], Some(&[&padded]));
        check_case("torn", &[&torn_end], Some(&[&begun]));
        check_case("torn in the middle of a batch", &[&holed], Some(&[&all]));
        check_case("cut", &[&all[..all.len() - 3]], Some(&[&begun]));
        check_case("cut in a number", &[&all[..one.len() + 7]], Some(&[&one]));
        check_case("torn, then a new journal that is empty", &[&torn_end, &[0; 5000]], Some(&[&begun, &[0; 5000]]));
        check_case("two journals", &[&begun, &three], Some(&[&begun, &three]));
        check_case("a bit in the first batch", &[&flipped], None);
        check_case("a bit in the second batch", &[&flipped_in_two], None);
        check_case("a bit in a start", &[&no_start], None);
        check_case("a sealed journal cut short", &[&begun[..begun.len() - 2], &three], None);
        check_failed("all batches are durable", &[&all], Some(6), Some(&[&all]));
        check_failed("the last batch failed", &[&all], Some(3), Some(&[&begun]));
        check_failed("the last batch failed, and tore", &[&torn_end], Some(3), Some(&[&begun]));
        check_failed("damage before a failed batch", &[&flipped], Some(5), None);
    }

    #[test]
    fn every_cut_of_the_last_batch_leaves_the_batches_before() {
        let (one, two) = (record(1, &[&[1; 700]]), record(2, &[&[1; 600], b"x", &[3; 30]]));
        let all = [one.clone(), two.clone()].concat();
        let mut last = 0;
        assert_eq!(batches(&all, &mut last, u64::MAX), (one.len(), all.len()));
        for cut in one.len()..all.len() {
            let mut last = 0;
            let left = written(&all[..cut]);
            assert_eq!(batches(left, &mut last, u64::MAX), (0, one.len()), "cut at {cut}");
            assert!(!intact_behind(left.get(one.len()..).unwrap_or_default(), last, u64::MAX), "cut at {cut}");
        }
    }
}
