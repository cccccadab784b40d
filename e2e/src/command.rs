//! Running a stock tool: one line in, its output and exit code back, never longer than its time.
//!
//! Never goes through a shell.

use crate::machine::{SEARCH, tool};
use crate::wait::{eventually, rest};
use std::ffi::OsString;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// A tool with its environment and first arguments.
#[derive(Clone)]
pub struct Cli {
    program: PathBuf,
    first: Vec<OsString>,
    environment: Vec<(OsString, OsString)>,
    limit: Duration,
}

/// How a tool ended.
#[derive(Debug, Clone)]
pub struct Output {
    line: String,
    /// Exit code; -1 when a signal ended it.
    pub code: i32,
    /// Standard output.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
}

/// A line split as a shell splits it: at blanks, with single quotes around what has blanks.
pub fn words(line: &str) -> Vec<String> {
    let (mut out, mut word, mut quoted) = (Vec::new(), None::<String>, false);
    for c in line.chars() {
        match c {
            '\'' => {
                quoted = !quoted;
                word.get_or_insert_default();
            }
            c if c.is_whitespace() && !quoted => out.extend(word.take()),
            c => word.get_or_insert_default().push(c),
        }
    }
    out.extend(word);
    out
}

impl Cli {
    /// A tool on this machine's path.
    ///
    /// # Panics
    /// When it is not there.
    pub fn new(name: &str) -> Cli {
        let program = tool(name).unwrap_or_else(|| panic!("{name} is not on PATH (hack/setup installs it)"));
        Cli::at(program)
    }

    /// A program by its place.
    pub fn at(program: PathBuf) -> Cli {
        let cli = Cli { program, first: Vec::new(), environment: Vec::new(), limit: Duration::from_secs(90) };
        cli.env("PATH", SEARCH.as_str())
    }

    /// With one more variable in its environment.
    #[must_use]
    pub fn env(mut self, name: &str, value: impl Into<OsString>) -> Cli {
        self.environment.push((name.into(), value.into()));
        self
    }

    /// With arguments that go before those of each call.
    #[must_use]
    pub fn with(mut self, line: &str) -> Cli {
        self.first.extend(words(line).into_iter().map(OsString::from));
        self
    }

    /// With another time than 90 seconds for each call.
    #[must_use]
    pub fn limit(mut self, limit: Duration) -> Cli {
        self.limit = limit;
        self
    }

    fn command(&self, line: &str) -> Command {
        let mut command = Command::new(&self.program);
        command.args(&self.first).args(words(line));
        for (name, value) in &self.environment {
            command.env(name, value);
        }
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    fn shown(&self, line: &str) -> String {
        let name = self.program.file_name().unwrap_or_default().to_string_lossy();
        let first: Vec<_> = self.first.iter().map(|word| word.to_string_lossy()).collect();
        format!("{name} {} {line}", first.join(" "))
    }

    /// Runs it with `input` on standard input.
    ///
    /// # Panics
    /// When it cannot be started, or has not ended within its time.
    pub fn feed(&self, line: &str, input: &[u8]) -> Output {
        let mut child = self.spawn(self.command(line).stdin(Stdio::piped()), line);
        let mut stdin = child.stdin.take().expect("standard input is piped");
        let input = input.to_vec();
        let writer = std::thread::spawn(move || {
            // A tool that ends early closes its end: what it said and its exit code tell.
            let _ = stdin.write_all(&input);
        });
        let output = self.end(child, line);
        let _ = writer.join();
        output
    }

    /// Runs it without input.
    ///
    /// # Panics
    /// As [`Cli::feed`].
    pub fn run(&self, line: &str) -> Output {
        let child = self.spawn(self.command(line).stdin(Stdio::null()), line);
        self.end(child, line)
    }

    /// Runs it and returns its standard output.
    ///
    /// # Panics
    /// When it fails, with everything it said.
    pub fn ok(&self, line: &str) -> String {
        self.run(line).ok()
    }

    /// Runs it, and it fails with these words on standard error.
    ///
    /// # Panics
    /// When it succeeds or says something else.
    pub fn fails(&self, line: &str, words: &str) -> Output {
        let output = self.run(line);
        output.check_failed(words);
        output
    }

    /// Starts it to run beside the test; it is ended when the value goes.
    ///
    /// # Panics
    /// When it cannot be started.
    pub fn start(&self, line: &str) -> Running {
        let mut child = self.spawn(self.command(line).stdin(Stdio::piped()), line);
        let lines = Arc::new(Mutex::new(Vec::new()));
        let streams: [Option<Box<dyn std::io::Read + Send>>; 2] = [
            child.stdout.take().map(|stream| Box::new(stream) as _),
            child.stderr.take().map(|stream| Box::new(stream) as _),
        ];
        for stream in streams.into_iter().flatten() {
            let lines = Arc::clone(&lines);
            std::thread::spawn(move || {
                for line in BufReader::new(stream).lines().map_while(Result::ok) {
                    lines.lock().unwrap_or_else(PoisonError::into_inner).push(line);
                }
            });
        }
        Running { child, lines, line: self.shown(line) }
    }

    fn spawn(&self, command: &mut Command, line: &str) -> Child {
        command.spawn().unwrap_or_else(|error| panic!("{} cannot be started: {error}", self.shown(line)))
    }

    fn end(&self, mut child: Child, line: &str) -> Output {
        fn collect(stream: Option<impl std::io::Read + Send + 'static>) -> std::thread::JoinHandle<String> {
            std::thread::spawn(move || {
                let mut bytes = Vec::new();
                if let Some(mut stream) = stream {
                    let _ = stream.read_to_end(&mut bytes);
                }
                String::from_utf8_lossy(&bytes).into_owned()
            })
        }
        let (stdout, stderr) = (collect(child.stdout.take()), collect(child.stderr.take()));
        let end = Instant::now() + self.limit;
        let status = loop {
            match child.try_wait() {
                Ok(Some(status)) => break Some(status),
                Ok(None) if Instant::now() < end => rest(Duration::from_millis(5)),
                Ok(None) | Err(_) => break None,
            }
        };
        if status.is_none() {
            let _ = child.kill();
            let _ = child.wait();
        }
        let output = Output {
            line: self.shown(line),
            code: status.and_then(|status| status.code()).unwrap_or(-1),
            stdout: stdout.join().unwrap_or_default(),
            stderr: stderr.join().unwrap_or_default(),
        };
        assert!(status.is_some(), "not ended within {:?}: {output}", self.limit);
        output
    }
}

impl std::fmt::Display for Output {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "`{}` ended with {}\n--- stdout\n{}--- stderr\n{}", self.line, self.code, self.stdout, self.stderr)
    }
}

impl Output {
    /// Its standard output, when it succeeded.
    ///
    /// # Panics
    /// When it did not, with everything it said.
    pub fn ok(self) -> String {
        assert_eq!(self.code, 0, "{self}");
        self.stdout
    }

    /// It failed and said these words on standard error.
    ///
    /// # Panics
    /// When it did not.
    pub fn check_failed(&self, words: &str) {
        assert!(self.code != 0 && self.stderr.contains(words), "expected to fail with {words:?}: {self}");
    }
}

/// A tool that runs beside the test.
pub struct Running {
    child: Child,
    lines: Arc<Mutex<Vec<String>>>,
    line: String,
}

impl Running {
    /// What it has said so far, line by line, on both streams.
    pub fn lines(&self) -> Vec<String> {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Waits for a line that holds `words`, and returns the line.
    ///
    /// # Panics
    /// When none comes within 30 seconds.
    pub fn says(&self, words: &str) -> String {
        eventually(&format!("`{}` says {words:?}", self.line), Duration::from_secs(30), || {
            let lines = self.lines();
            lines.iter().find(|line| line.contains(words)).cloned().ok_or_else(|| format!("{lines:#?}"))
        })
    }

    /// Writes to its standard input.
    ///
    /// # Panics
    /// When it no longer reads.
    pub fn write(&mut self, text: &str) {
        let stdin = self.child.stdin.as_mut().expect("standard input is open");
        stdin.write_all(text.as_bytes()).and_then(|()| stdin.flush()).expect("the tool reads its input");
    }

    /// Ends its standard input.
    pub fn close(&mut self) {
        drop(self.child.stdin.take());
    }

    /// Waits until it ends by itself and returns its exit code.
    ///
    /// # Panics
    /// When it has not within `limit`.
    pub fn ended(&mut self, limit: Duration) -> i32 {
        let (child, line, lines) = (&mut self.child, &self.line, &self.lines);
        let status = eventually(&format!("`{line}` ends"), limit, || match child.try_wait() {
            Ok(Some(status)) => Ok(status),
            Ok(None) => Err(format!("{:#?}", lines.lock().unwrap_or_else(PoisonError::into_inner))),
            Err(error) => Err(error.to_string()),
        });
        status.code().unwrap_or(-1)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_split_as_a_shell_does() {
        let check = |line: &str, want: &[&str]| assert_eq!(words(line), want, "{line}");
        check("  get pods -n x ", &["get", "pods", "-n", "x"]);
        check("-p '{\"a\": 1}' x'y z'", &["-p", "{\"a\": 1}", "xy z"]);
        check("label x- ''", &["label", "x-", ""]);
    }

    #[test]
    fn a_tool_that_does_not_end_is_ended() {
        let sleep = Cli::new("sleep").limit(Duration::from_millis(50));
        let outcome = std::panic::catch_unwind(|| sleep.run("1000"));
        let said = *outcome.unwrap_err().downcast::<String>().unwrap();
        assert!(said.contains("not ended within 50ms") && said.contains("sleep"), "{said}");
    }

    #[test]
    fn input_output_and_exit_code_are_carried() {
        assert_eq!(Cli::new("cat").feed("", b"both\nways\n").ok(), "both\nways\n");
        let output = Cli::new("sh").run("-c 'echo no >&2; exit 7'");
        assert_eq!((output.code, output.stderr.as_str()), (7, "no\n"));
        output.check_failed("no");
    }
}
