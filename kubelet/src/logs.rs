//! Container log files as the runtime writes them: `time stream tag content` per line. Reads, tails, follows, removes.

use std::io::{self, SeekFrom};
use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::Bytes;
use k8s_openapi::jiff::Timestamp;
use tokio::fs::File;
use tokio::io::{AsyncReadExt, AsyncSeekExt};
use tokio::sync::mpsc;

/// How often a followed file is looked at.
const POLL: Duration = Duration::from_millis(100);
/// Bytes read at once.
const BLOCK: usize = 64 * 1024;

/// One line of a log file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record<'a> {
    /// RFC 3339 time, as written.
    pub time: &'a str,
    /// `stdout` or `stderr`.
    pub stream: &'a str,
    /// Whether the text goes on in the next record.
    pub partial: bool,
    /// The text, without line end.
    pub content: &'a [u8],
}

impl<'a> Record<'a> {
    /// A record from a line without its line end; `None` when it is malformed.
    pub fn parse(line: &'a [u8]) -> Option<Self> {
        let mut parts = line.splitn(4, |byte| *byte == b' ');
        let time = std::str::from_utf8(parts.next()?).ok()?;
        let stream = std::str::from_utf8(parts.next()?).ok()?;
        let tag = parts.next()?;
        let content = parts.next().unwrap_or_default();
        if time.is_empty() || !matches!(stream, "stdout" | "stderr") {
            return None;
        }
        Some(Self { time, stream, partial: tag.split(|byte| *byte == b':').next() == Some(b"P"), content })
    }
}

/// What of a log is wanted.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Options {
    /// Go on as the container writes.
    pub follow: bool,
    /// Only the last so many lines.
    pub tail: Option<u64>,
    /// Only what was written at or after this time.
    pub since: Option<Timestamp>,
    /// Put the time before each line.
    pub timestamps: bool,
    /// Stop after so many bytes.
    pub limit: Option<u64>,
    /// Only one of the streams.
    pub stream: Option<String>,
}

/// Byte offset at which the last `lines` lines of a file of `length` bytes begin.
async fn tail_start(file: &mut File, length: u64, lines: u64) -> io::Result<u64> {
    if lines == 0 {
        return Ok(length);
    }
    let block = u64::try_from(BLOCK).unwrap_or(u64::MAX);
    let mut end = length;
    let mut seen = 0;
    let mut buffer = vec![0; BLOCK];
    while end > 0 {
        let start = end.saturating_sub(block);
        let size = usize::try_from(end - start).unwrap_or(BLOCK);
        let part = buffer.get_mut(..size).unwrap_or_default();
        file.seek(SeekFrom::Start(start)).await?;
        file.read_exact(part).await?;
        for (index, byte) in part.iter().enumerate().rev() {
            let at = start + u64::try_from(index).unwrap_or(0);
            if *byte == b'\n' && at + 1 < length {
                seen += 1;
                if seen == lines {
                    return Ok(at + 1);
                }
            }
        }
        end = start;
    }
    Ok(0)
}

/// Turns lines into what the client gets.
struct Writer<'a> {
    options: &'a Options,
    left: Option<u64>,
    partial: bool,
}

impl Writer<'_> {
    /// The bytes for one line, empty when it is not wanted; `false` when nothing more is.
    fn line(&mut self, line: &[u8]) -> (Vec<u8>, bool) {
        let Some(record) = Record::parse(line) else { return (Vec::new(), true) };
        if self.options.stream.as_deref().is_some_and(|stream| stream != record.stream) {
            return (Vec::new(), true);
        }
        if let Some(since) = self.options.since
            && record.time.parse::<Timestamp>().is_ok_and(|time| time < since)
        {
            return (Vec::new(), true);
        }
        let mut out = Vec::with_capacity(line.len());
        if self.options.timestamps && !self.partial {
            out.extend_from_slice(record.time.as_bytes());
            out.push(b' ');
        }
        out.extend_from_slice(record.content);
        if !record.partial {
            out.push(b'\n');
        }
        self.partial = record.partial;
        let Some(left) = self.left else { return (out, true) };
        let size = u64::try_from(out.len()).unwrap_or(u64::MAX);
        out.truncate(usize::try_from(left.min(size)).unwrap_or(usize::MAX));
        self.left = Some(left.saturating_sub(size));
        (out, left > size)
    }
}

async fn identity(path: &Path) -> Option<u64> {
    tokio::fs::metadata(path).await.ok().map(|metadata| std::os::unix::fs::MetadataExt::ino(&metadata))
}

/// Sends a log's text in pieces as far as it goes when the reading begins, or, when followed, until the container has ended and all is read, or the
/// receiver is gone. `running` says whether the container may still write.
///
/// # Errors
/// When the file cannot be read.
pub async fn read<F, R>(path: PathBuf, options: Options, out: mpsc::Sender<Bytes>, running: F) -> io::Result<()>
where
    F: Fn() -> R + Send,
    R: Future<Output = bool> + Send,
{
    let mut file = File::open(&path).await?;
    let mut inode = identity(&path).await;
    let length = file.metadata().await?.len();
    let start = match options.tail {
        Some(lines) => tail_start(&mut file, length, lines).await?,
        None => 0,
    };
    file.seek(SeekFrom::Start(start)).await?;
    let mut writer = Writer { options: &options, left: options.limit, partial: false };
    let mut rest: Vec<u8> = Vec::new();
    let mut buffer = vec![0; BLOCK];
    let mut last_chance = false;
    if options.limit == Some(0) {
        return Ok(());
    }
    // What is written meanwhile is nobody's last line: not followed, a log ends where it ended.
    let mut unread = length.saturating_sub(start);
    loop {
        let mut size = file.read(&mut buffer).await?;
        if !options.follow {
            size = size.min(usize::try_from(unread).unwrap_or(usize::MAX));
            unread = unread.saturating_sub(u64::try_from(size).unwrap_or(u64::MAX));
        }
        if size > 0 {
            last_chance = false;
            rest.extend_from_slice(buffer.get(..size).unwrap_or_default());
            let Some(end) = rest.iter().rposition(|byte| *byte == b'\n') else { continue };
            let tail = rest.split_off(end + 1);
            let whole = std::mem::replace(&mut rest, tail);
            let mut text = Vec::with_capacity(whole.len());
            let mut more = true;
            for line in whole.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
                let (piece, go_on) = writer.line(line);
                text.extend_from_slice(&piece);
                more = go_on;
                if !more {
                    break;
                }
            }
            if (!text.is_empty() && out.send(Bytes::from(text)).await.is_err()) || !more {
                return Ok(());
            }
            continue;
        }
        if !options.follow || last_chance {
            return Ok(());
        }
        let now = identity(&path).await;
        if now.is_some() && now != inode {
            file = File::open(&path).await?;
            inode = now;
            rest.clear();
            continue;
        }
        tokio::select! {
            () = out.closed() => return Ok(()),
            () = tokio::time::sleep(POLL) => {}
        }
        last_chance = !running().await;
    }
}

/// Moves a log file aside when it is longer than `most` bytes, and removes all but the newest `kept` moved ones. Returns
/// whether it moved, after which the runtime must be told to open the file anew.
///
/// # Errors
/// The file system's.
pub async fn rotate(path: &Path, most: u64, kept: usize, stamp: &str) -> io::Result<bool> {
    if tokio::fs::metadata(path).await?.len() <= most {
        return Ok(false);
    }
    let (Some(dir), Some(name)) = (path.parent(), path.file_name().and_then(|name| name.to_str())) else {
        return Ok(false);
    };
    tokio::fs::rename(path, dir.join(format!("{name}.{stamp}"))).await?;
    let mut moved = Vec::new();
    let mut entries = tokio::fs::read_dir(dir).await?;
    while let Some(entry) = entries.next_entry().await? {
        if entry.file_name().to_str().is_some_and(|found| found.starts_with(&format!("{name}."))) {
            moved.push(entry.path());
        }
    }
    moved.sort();
    for old in moved.iter().rev().skip(kept) {
        tokio::fs::remove_file(old).await?;
    }
    Ok(true)
}

/// Removes a log file and its rotated predecessors.
pub async fn remove(path: &str) {
    let path = Path::new(path);
    let (Some(dir), Some(name)) = (path.parent(), path.file_name().and_then(|name| name.to_str())) else { return };
    let Ok(mut entries) = tokio::fs::read_dir(dir).await else { return };
    while let Ok(Some(entry)) = entries.next_entry().await {
        if entry.file_name().to_str().is_some_and(|found| found == name || found.starts_with(&format!("{name}."))) {
            let _ = tokio::fs::remove_file(entry.path()).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOG: &str = "2026-01-01T00:00:00.1Z stdout F one\n2026-01-01T00:00:01.2Z stderr P tw\n\
                       2026-01-01T00:00:01.3Z stderr F o\nnonsense\n2026-01-01T00:00:02.4Z stdout F three\n";

    async fn text(options: Options) -> String {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("0.log");
        std::fs::write(&path, LOG).unwrap();
        let (sender, mut receiver) = mpsc::channel(8);
        let reader = tokio::spawn(read(path, options, sender, || async { false }));
        let mut text = Vec::new();
        while let Some(piece) = receiver.recv().await {
            text.extend_from_slice(&piece);
        }
        reader.await.unwrap().unwrap();
        String::from_utf8(text).unwrap()
    }

    #[tokio::test]
    async fn what_is_wanted_is_read() {
        let none = Options::default;
        let cases = [
            (none(), "one\ntwo\nthree\n"),
            (Options { tail: Some(1), ..none() }, "three\n"),
            (Options { tail: Some(0), ..none() }, ""),
            (Options { tail: Some(99), ..none() }, "one\ntwo\nthree\n"),
            (Options { since: Some("2026-01-01T00:00:01.3Z".parse().unwrap()), ..none() }, "o\nthree\n"),
            (Options { limit: Some(5), ..none() }, "one\nt"),
            (Options { limit: Some(0), ..none() }, ""),
            (Options { stream: Some("stderr".into()), ..none() }, "two\n"),
            (Options { follow: true, ..none() }, "one\ntwo\nthree\n"),
            (Options { timestamps: true, tail: Some(1), ..none() }, "2026-01-01T00:00:02.4Z three\n"),
        ];
        for (options, expected) in cases {
            assert_eq!(text(options.clone()).await, expected, "{options:?}");
        }
    }

    #[tokio::test]
    async fn what_is_written_meanwhile_is_for_followers() {
        for follow in [false, true] {
            let dir = tempfile::tempdir().unwrap();
            let path = dir.path().join("0.log");
            let blocks = BLOCK * 8 / LOG.len();
            std::fs::write(&path, LOG.repeat(blocks)).unwrap();
            // The reader cannot be done: nobody has taken its second piece.
            let (sender, mut receiver) = mpsc::channel(1);
            let options = Options { follow, ..Options::default() };
            let reader = tokio::spawn(read(path.clone(), options, sender, || async { false }));
            let mut text = receiver.recv().await.unwrap().to_vec();
            let late = "2026-01-01T00:00:09Z stdout F late\n";
            io::Write::write_all(&mut std::fs::File::options().append(true).open(&path).unwrap(), late.as_bytes())
                .unwrap();
            while let Some(piece) = receiver.recv().await {
                text.extend_from_slice(&piece);
            }
            reader.await.unwrap().unwrap();
            assert_eq!(String::from_utf8(text).unwrap().contains("late"), follow);
        }
    }

    #[tokio::test]
    async fn long_files_are_moved_aside() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("0.log");
        for stamp in ["1", "2", "3"] {
            std::fs::write(&path, "0123456789").unwrap();
            assert!(!rotate(&path, 10, 2, stamp).await.unwrap());
            assert!(rotate(&path, 9, 2, stamp).await.unwrap());
        }
        let mut names: Vec<_> =
            std::fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        names.sort();
        assert_eq!(names, ["0.log.2", "0.log.3"]);
        assert!(rotate(&path, 9, 2, "4").await.is_err());
    }

    #[tokio::test]
    async fn the_tail_of_a_file_longer_than_a_block() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("0.log");
        let lines: Vec<String> = (0..20_000).map(|n| format!("line {n:06}")).collect();
        std::fs::write(&path, lines.join("\n") + "\n").unwrap();
        let mut file = File::open(&path).await.unwrap();
        let length = file.metadata().await.unwrap().len();
        assert_eq!(tail_start(&mut file, length, 15_000).await.unwrap(), 5_000 * 12);
    }
}
