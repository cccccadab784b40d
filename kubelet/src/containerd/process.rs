//! One containerd process, a child of this one or left by an earlier run, behind the same three questions: which, gone, end.
//! Never signals a process that is not provably the one whose configuration file it was given.

use std::path::Path;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// How often an adopted process, which cannot be waited for, is looked at.
const LOOK: Duration = Duration::from_millis(200);

/// A containerd process.
#[derive(Debug)]
pub(super) struct Process {
    pid: u32,
    origin: Origin,
}

#[derive(Debug)]
enum Origin {
    Child(tokio::process::Child),
    /// Left by an earlier run; told from a stranger with the same id by the time it was started at, in clock ticks since boot.
    Adopted {
        started: u64,
    },
}

impl Process {
    /// A process that was just started.
    pub(super) fn child(child: tokio::process::Child) -> Self {
        Self { pid: child.id().unwrap_or_default(), origin: Origin::Child(child) }
    }

    /// The process that `pid_file` names, if it runs and its command line names `config`.
    pub(super) fn adopt(pid_file: &Path, config: &Path) -> Option<Self> {
        let pid: u32 = std::fs::read_to_string(pid_file).ok()?.trim().parse().ok()?;
        let line = std::fs::read(format!("/proc/{pid}/cmdline")).ok()?;
        let config = config.to_str()?.as_bytes();
        let started = started(pid)?;
        line.split(|byte| *byte == 0)
            .any(|word| word == config)
            .then_some(Self { pid, origin: Origin::Adopted { started } })
    }

    /// Its process id.
    pub(super) fn pid(&self) -> u32 {
        self.pid
    }

    /// Returns once it is gone. May be called again after it was dropped half-way.
    pub(super) async fn gone(&mut self) {
        match &mut self.origin {
            Origin::Child(child) => {
                // An error means that it was reaped elsewhere: gone all the same.
                let _ = child.wait().await;
            }
            Origin::Adopted { started: then } => {
                while started(self.pid) == Some(*then) {
                    tokio::time::sleep(LOOK).await;
                }
            }
        }
    }

    /// Asks it to end, insists after `patience`, and returns once it is gone.
    pub(super) async fn end(&mut self, patience: Duration) {
        self.signal(Signal::SIGTERM);
        if tokio::time::timeout(patience, self.gone()).await.is_err() {
            tracing::warn!(pid = self.pid, "containerd did not end when asked and is killed");
            self.signal(Signal::SIGKILL);
            self.gone().await;
        }
    }

    fn signal(&self, signal: Signal) {
        let ours = match &self.origin {
            Origin::Child(child) => child.id().is_some(), // none once it was waited for: the id may be another's by now
            Origin::Adopted { started: then } => started(self.pid) == Some(*then),
        };
        if let (true, Ok(pid)) = (ours, i32::try_from(self.pid)) {
            let _ = kill(Pid::from_raw(pid), signal);
        }
    }
}

/// When the process was started, in clock ticks since boot; `None` when there is none, or only its zombie.
fn started(pid: u32) -> Option<u64> {
    start_time(&std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
}

/// Field 22 of `/proc/<pid>/stat` (proc_pid_stat(5)), unless field 3 says that the process is dead. The name in field 2 may hold
/// anything, so fields are counted from the last parenthesis.
fn start_time(stat: &str) -> Option<u64> {
    let (_, rest) = stat.rsplit_once(')')?;
    let mut fields = rest.split_whitespace();
    let state = fields.next()?;
    if matches!(state, "Z" | "X" | "x") { None } else { fields.nth(18)?.parse().ok() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_start_time_survives_a_strange_name_and_not_a_zombie() {
        let line = |state: &str| format!("7 (a) b) {state} 1 {} 4711 99 100", "0 ".repeat(17).trim_end());
        assert_eq!(start_time(&line("S")), Some(4711));
        assert_eq!(start_time(&line("Z")), None);
        assert_eq!(start_time("7 (a"), None);
    }

    #[tokio::test]
    async fn a_process_is_adopted_by_its_command_line_alone_and_ended() {
        let dir = std::env::temp_dir().join(format!("ironkeel-adopt-{}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        let (pid_file, config) = (dir.join("pid"), dir.join("config.toml"));
        assert!(Process::adopt(&pid_file, &config).is_none(), "no file");
        let mut child = tokio::process::Command::new("sh")
            .args(["-c", "echo up; exec sleep 1000 & wait; exit 0", config.to_str().unwrap()])
            .stdout(std::process::Stdio::piped())
            .process_group(0)
            .spawn()
            .unwrap();
        let mut up = [0; 3];
        tokio::io::AsyncReadExt::read_exact(&mut child.stdout.take().unwrap(), &mut up).await.unwrap();
        std::fs::write(&pid_file, format!("{}\n", child.id().unwrap())).unwrap();
        assert!(Process::adopt(&pid_file, &dir.join("other.toml")).is_none(), "another's command line");
        let mut process = Process::adopt(&pid_file, &config).unwrap();
        let group = Pid::from_raw(-i32::try_from(process.pid()).unwrap());
        process.end(Duration::from_secs(5)).await;
        assert!(Process::adopt(&pid_file, &config).is_none(), "gone");
        let _ = kill(group, Signal::SIGKILL); // the shell's own child
        child.wait().await.unwrap();
        std::fs::remove_dir_all(&dir).unwrap();
    }
}
