//! Runs one child program to its end and sorts what can go wrong. Never interprets what the program printed.

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::Stdio;

use tokio::io::AsyncWriteExt;
use tokio::process::Command;

use super::Error;

/// Where a program that only root uses may live although a plain user's `PATH` does not say so.
const SYSTEM_DIRECTORIES: [&str; 3] = ["/usr/local/sbin", "/usr/sbin", "/sbin"];

/// This process's search path with the system directories after it, for children and their children.
pub(crate) fn search_path() -> OsString {
    let own = std::env::var_os("PATH").unwrap_or_default();
    let directories = std::env::split_paths(&own).chain(SYSTEM_DIRECTORIES.map(PathBuf::from));
    std::env::join_paths(directories).unwrap_or(own)
}

/// The file that `program` would run as, found along [`search_path`].
pub(crate) fn find(program: &str) -> Option<PathBuf> {
    std::env::split_paths(&search_path()).map(|directory| directory.join(program)).find(|file| file.is_file())
}

/// A command for `program`, found along [`search_path`] and given that path.
pub(crate) fn command(program: &str) -> Result<Command, Error> {
    let file = find(program).ok_or_else(|| Error::Missing { program: program.to_owned() })?;
    let mut command = Command::new(file);
    command.env("PATH", search_path()).stdin(Stdio::null()).kill_on_drop(true);
    Ok(command)
}

/// Runs `program`, feeds it `input`, and returns what it wrote to its standard output.
///
/// # Errors
/// [`Error::Missing`] when it is not installed; [`Error::Failed`], with what it said on its standard error, when it could not be
/// started or did not succeed.
pub(crate) async fn run(program: &str, args: &[&str], input: Option<&str>) -> Result<String, Error> {
    let failed = |message: String| Error::Failed { command: format!("{program} {}", args.join(" ")), message };
    let mut command = command(program)?;
    command.args(args).stdout(Stdio::piped()).stderr(Stdio::piped());
    if input.is_some() {
        command.stdin(Stdio::piped());
    }
    let mut child = command.spawn().map_err(|error| failed(error.to_string()))?;
    if let (Some(text), Some(mut stdin)) = (input, child.stdin.take()) {
        // A program that ends without reading says why on its standard error; that is the better message.
        let _ = stdin.write_all(text.as_bytes()).await;
    }
    let output = child.wait_with_output().await.map_err(|error| failed(error.to_string()))?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    Err(failed(if said.is_empty() { output.status.to_string() } else { said }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn output_errors_and_absence_are_told_apart() {
        assert_eq!(run("sh", &["-c", "cat; echo b"], Some("a\n")).await.unwrap(), "a\nb\n");
        let error = run("sh", &["-c", "echo no such thing >&2; exit 3"], None).await.unwrap_err();
        assert_eq!(error.to_string(), "`sh -c echo no such thing >&2; exit 3` failed: no such thing");
        let error = run("sh", &["-c", "exit 3"], None).await.unwrap_err();
        assert!(error.to_string().ends_with("failed: exit status: 3"), "{error}");
        let error = run("no-such-program-anywhere", &[], None).await.unwrap_err();
        assert_eq!(error.to_string(), "no-such-program-anywhere is not on PATH; hack/setup installs it");
    }
}
