//! Takes away the mounts that containers left below a directory, so that the directory can be removed.
//! Never unmounts anything that is not below it.

use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

use super::Error;

/// Unmounts everything below `directory` (and the directory itself), innermost first, lazily: what is still open stays usable until it
/// is closed. Returns how many mounts went.
///
/// # Errors
/// [`Error::File`] for the first mount that cannot be taken away.
pub fn unmount_below(directory: &Path) -> Result<usize, Error> {
    let path = PathBuf::from("/proc/self/mountinfo");
    let table = std::fs::read_to_string(&path).map_err(|source| Error::File { path, source })?;
    let points = mount_points(&table, directory);
    for point in &points {
        nix::mount::umount2(point, nix::mount::MntFlags::MNT_DETACH)
            .map_err(|error| Error::File { path: point.clone(), source: error.into() })?;
    }
    Ok(points.len())
}

/// The mount points at or below `directory`, in the reverse of the order in which they were mounted.
fn mount_points(mountinfo: &str, directory: &Path) -> Vec<PathBuf> {
    let mut points: Vec<PathBuf> = mountinfo
        .lines()
        .filter_map(|line| line.split(' ').nth(4))
        .map(unescaped)
        .filter(|point| point.starts_with(directory))
        .collect();
    points.reverse();
    points
}

/// The kernel writes a space, tab, newline and backslash as three octal digits after a backslash.
fn unescaped(text: &str) -> PathBuf {
    let mut out = Vec::new();
    let mut rest = text.as_bytes();
    while let [first, tail @ ..] = rest {
        let octal = (*first == b'\\')
            .then(|| tail.get(..3).and_then(|digits| std::str::from_utf8(digits).ok()))
            .flatten()
            .and_then(|digits| u8::from_str_radix(digits, 8).ok());
        out.push(octal.unwrap_or(*first));
        rest = if octal.is_some() { tail.get(3..).unwrap_or_default() } else { tail };
    }
    PathBuf::from(std::ffi::OsString::from_vec(out))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_lies_below_is_chosen_and_the_innermost_first() {
        let table = "1 0 8:1 / / rw - ext4 x rw\n2 1 0:4 / /data/a\\040b rw - tmpfs x rw\n3 2 0:4 / /data/a\\040b/c rw - tmpfs x rw\n\
                     4 1 0:5 / /database rw - tmpfs x rw\nbroken\n";
        let points = mount_points(table, Path::new("/data"));
        assert_eq!(points, [PathBuf::from("/data/a b/c"), PathBuf::from("/data/a b")]);
    }
}
