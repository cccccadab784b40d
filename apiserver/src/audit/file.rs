//! The audit log as a file: lines appended, and the file put aside when it is large, with old ones removed.
//!
//! Never loses a line to a rotation. Names of files put aside are those of upstream's rotation: `audit-2006-01-02T15-04-05.000.log`.

use jiff::Timestamp;
use parking_lot::Mutex;
use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

/// When a file is put aside and how many stay.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rotation {
    /// Bytes after which a file is put aside; 0 for never.
    pub max_size: u64,
    /// How long files put aside stay; zero for ever.
    pub max_age: Duration,
    /// How many stay; 0 for all.
    pub max_backups: usize,
    /// Whether they are compressed.
    pub compress: bool,
}

/// Where lines go.
pub struct Lines {
    /// None for standard output.
    path: Option<PathBuf>,
    rotation: Rotation,
    file: Option<File>,
    size: u64,
    /// Held by the one that sweeps.
    broom: Arc<Mutex<()>>,
    sweeping: Option<JoinHandle<()>>,
}

impl Lines {
    /// Opens a file to append to; `-` is standard output.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn open(path: &str, rotation: Rotation) -> io::Result<Lines> {
        let path = (path != "-").then(|| PathBuf::from(path));
        let mut lines = Lines { path, rotation, file: None, size: 0, broom: Arc::default(), sweeping: None };
        lines.reopen()?;
        lines.sweep(Timestamp::now());
        Ok(lines)
    }

    fn reopen(&mut self) -> io::Result<()> {
        use std::os::unix::fs::OpenOptionsExt as _;
        let Some(path) = &self.path else { return Ok(()) };
        if let Some(parent) = path.parent().filter(|parent| !parent.as_os_str().is_empty()) {
            std::fs::create_dir_all(parent)?;
        }
        // It tells secrets' names and who did what: its owner's alone.
        let file = OpenOptions::new().create(true).append(true).mode(0o600).open(path)?;
        self.size = file.metadata()?.len();
        self.file = Some(file);
        Ok(())
    }

    /// Writes lines, each with its end, in one piece.
    ///
    /// # Errors
    /// What the file system said; the lines may be there in part.
    pub fn write(&mut self, text: &str, now: Timestamp) -> io::Result<()> {
        if self.path.is_none() {
            return io::stdout().lock().write_all(text.as_bytes());
        }
        let length = u64::try_from(text.len()).unwrap_or(u64::MAX);
        if self.rotation.max_size > 0 && self.size > 0 && self.size.saturating_add(length) > self.rotation.max_size {
            self.rotate(now)?;
        }
        if self.file.is_none() {
            self.reopen()?;
        }
        if let Some(file) = &mut self.file {
            file.write_all(text.as_bytes())?;
            self.size = self.size.saturating_add(length);
        }
        Ok(())
    }

    fn rotate(&mut self, now: Timestamp) -> io::Result<()> {
        let Some(path) = &self.path else { return Ok(()) };
        // Whatever fails, the next line opens the file anew.
        self.file = None;
        std::fs::rename(path, aside(path, now))?;
        self.reopen()?;
        self.sweep(now);
        Ok(())
    }

    /// Lets a thread pack and remove files put aside: a large one takes seconds, and requests wait for the log.
    fn sweep(&mut self, now: Timestamp) {
        let Some(path) = self.path.clone().filter(|_| self.rotation.max_size > 0) else { return };
        let (rotation, broom) = (self.rotation, Arc::clone(&self.broom));
        let swept = std::thread::Builder::new().name("audit-sweep".to_owned()).spawn(move || {
            let _broom = broom.lock();
            if let Err(error) = sweep(&path, rotation, now) {
                tracing::warn!(%error, path = %path.display(), "old audit logs could not be swept");
            }
        });
        // Without a thread the next rotation tries again.
        self.sweeping = swept.inspect_err(|error| tracing::warn!(%error, "no thread to sweep audit logs")).ok();
    }

    /// Waits for the thread.
    #[cfg(test)]
    fn swept(&mut self) {
        self.sweeping.take().unwrap().join().unwrap();
    }
}

/// Removes what is too old or too much, and packs the rest.
fn sweep(path: &Path, rotation: Rotation, now: Timestamp) -> io::Result<()> {
    for old in old(&others(path)?, rotation, now) {
        std::fs::remove_file(old).or_else(|error| gone(&error).then_some(()).ok_or(error))?;
    }
    if !rotation.compress {
        return Ok(());
    }
    for (_, plain) in others(path)?.into_iter().filter(|(_, path)| path.extension().is_none_or(|ending| ending != "gz"))
    {
        use std::os::unix::fs::OpenOptionsExt as _;
        let packed = PathBuf::from(format!("{}.gz", plain.display()));
        let file = OpenOptions::new().create(true).write(true).truncate(true).mode(0o600).open(&packed)?;
        let mut encoder = flate2::write::GzEncoder::new(file, flate2::Compression::default());
        io::copy(&mut File::open(&plain)?, &mut encoder)?;
        encoder.finish()?.sync_all()?;
        std::fs::remove_file(&plain)?;
    }
    Ok(())
}

/// Somebody else removed it.
fn gone(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::NotFound
}

fn parts(path: &Path) -> (String, String) {
    let stem = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
    let ending = path.extension().map(|ending| format!(".{}", ending.to_string_lossy())).unwrap_or_default();
    (stem, ending)
}

fn aside(path: &Path, now: Timestamp) -> PathBuf {
    let (stem, ending) = parts(path);
    let time = now.strftime("%Y-%m-%dT%H-%M-%S%.3f").to_string();
    path.with_file_name(format!("{stem}-{time}{ending}"))
}

/// Files put aside, with when they were.
fn others(path: &Path) -> io::Result<Vec<(Timestamp, PathBuf)>> {
    let (stem, ending) = parts(path);
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mut out = Vec::new();
    for entry in std::fs::read_dir(parent)? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        let plain = name.strip_suffix(".gz").unwrap_or(&name);
        let time = plain.strip_prefix(&format!("{stem}-")).and_then(|rest| rest.strip_suffix(&ending));
        let time = time.and_then(|text| jiff::civil::DateTime::strptime("%Y-%m-%dT%H-%M-%S%.f", text).ok());
        if let Some(time) = time.and_then(|time| time.to_zoned(jiff::tz::TimeZone::UTC).ok()) {
            out.push((time.timestamp(), entry.path()));
        }
    }
    Ok(out)
}

/// Those that go: what is too old, and the oldest beyond the number that stays.
fn old(files: &[(Timestamp, PathBuf)], rotation: Rotation, now: Timestamp) -> Vec<PathBuf> {
    let mut files = files.to_vec();
    files.sort_by(|one, other| other.cmp(one));
    let too_many = |index: usize| rotation.max_backups > 0 && index >= rotation.max_backups;
    let age = |time: Timestamp| Duration::try_from(now.duration_since(time)).unwrap_or_default();
    let too_old = |time: Timestamp| !rotation.max_age.is_zero() && age(time) > rotation.max_age;
    let gone = files.into_iter().enumerate().filter(|(index, (time, _))| too_many(*index) || too_old(*time));
    gone.map(|(_, (_, path))| path).collect()
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests: a panic is the finding")]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_put_aside_whole_and_old_ones_go() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("audit.log");
        let rotation = Rotation { max_size: 10, max_backups: 2, ..Rotation::default() };
        let mut lines = Lines::open(path.to_str().unwrap(), rotation).unwrap();
        let at = |second: i64| Timestamp::from_second(1_700_000_000 + second).unwrap();
        for second in 0..5 {
            lines.write(&format!("line {second}\n"), at(second)).unwrap();
            lines.swept();
        }
        let read = |name: &str| std::fs::read_to_string(directory.path().join(name)).unwrap();
        assert_eq!(read("audit.log"), "line 4\n");
        let mut names: Vec<String> = std::fs::read_dir(directory.path())
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        assert_eq!(names, ["audit-2023-11-14T22-13-23.000.log", "audit-2023-11-14T22-13-24.000.log", "audit.log"]);
        assert_eq!(read("audit-2023-11-14T22-13-24.000.log"), "line 3\n");
        // A later start goes on in the same file.
        drop(lines);
        let mut lines = Lines::open(path.to_str().unwrap(), Rotation::default()).unwrap();
        lines.write("more\n", at(9)).unwrap();
        assert_eq!(read("audit.log"), "line 4\nmore\n");
    }

    #[test]
    fn what_is_old_goes_even_where_there_is_room() {
        let now = Timestamp::from_second(1_700_000_000).unwrap();
        let before = |days: i64| (now - jiff::SignedDuration::from_hours(24 * days), PathBuf::from(days.to_string()));
        let files = [before(1), before(3), before(5), before(9)];
        let rotation = |max_age: u64, max_backups| Rotation {
            max_age: Duration::from_secs(max_age * 86_400),
            max_backups,
            ..Rotation::default()
        };
        for (rotation, want) in [
            (rotation(0, 0), vec![]),
            (rotation(4, 0), vec!["5", "9"]),
            (rotation(0, 1), vec!["3", "5", "9"]),
            (rotation(8, 2), vec!["5", "9"]),
        ] {
            let gone: Vec<String> = old(&files, rotation, now).iter().map(|path| path.display().to_string()).collect();
            assert_eq!(gone, want, "{rotation:?}");
        }
    }

    #[test]
    fn files_put_aside_may_be_packed() {
        use std::io::Read as _;
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("a");
        let rotation = Rotation { max_size: 1, compress: true, ..Rotation::default() };
        let mut lines = Lines::open(path.to_str().unwrap(), rotation).unwrap();
        let now = Timestamp::from_second(1_700_000_000).unwrap();
        lines.write("one\n", now).unwrap();
        lines.write("two\n", now).unwrap();
        lines.swept();
        let packed = File::open(directory.path().join("a-2023-11-14T22-13-20.000.gz")).unwrap();
        let mut text = String::new();
        flate2::read::GzDecoder::new(packed).read_to_string(&mut text).unwrap();
        assert_eq!(text, "one\n");
    }
}
