//! Shims of one containerd that outlived it and what it knew of them. Never touches a shim that was given another socket.

use std::path::Path;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// How long the kernel may take to end what was killed.
const PATIENCE: Duration = Duration::from_secs(5);
const LOOK: Duration = Duration::from_millis(50);

/// Whether a command line, its words separated by zero bytes as in `/proc/<pid>/cmdline`, is that of a shim which reports to `socket`.
fn is_shim_of(line: &[u8], socket: &[u8]) -> bool {
    let mut words = line.split(|byte| *byte == 0);
    let program = words.next().unwrap_or_default();
    let name = program.rsplit(|byte| *byte == b'/').next().unwrap_or_default();
    if !name.starts_with(b"containerd-shim-") {
        return false;
    }
    let rest: Vec<&[u8]> = words.collect();
    rest.windows(2).any(|pair| matches!(pair, [b"-address" | b"--address", address] if *address == socket))
}

/// The shims that report to `socket`.
fn shims(socket: &Path) -> Vec<i32> {
    let socket = std::os::unix::ffi::OsStrExt::as_bytes(socket.as_os_str());
    let entries = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    let ids = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
    ids.filter(|id| std::fs::read(format!("/proc/{id}/cmdline")).is_ok_and(|line| is_shim_of(&line, socket))).collect()
}

/// The children of a process.
fn children(of: i32) -> Vec<i32> {
    let text = std::fs::read_to_string(format!("/proc/{of}/task/{of}/children")).unwrap_or_default();
    text.split_whitespace().filter_map(|word| word.parse().ok()).collect()
}

/// Ends the shims that report to `socket`, and the containers that they hold. Only for a containerd that is gone and whose pods are removed:
/// what is found then nobody will ever ask for.
pub async fn end_shims(socket: &Path) {
    let found = shims(socket);
    for shim in &found {
        tracing::warn!(shim, "a shim outlived its pod and is ended");
        for id in children(*shim).into_iter().chain([*shim]) {
            // Gone meanwhile is as well.
            let _ = kill(Pid::from_raw(id), Signal::SIGKILL);
        }
    }
    let gone = async {
        while !found.is_empty() && !shims(socket).is_empty() {
            tokio::time::sleep(LOOK).await;
        }
    };
    if tokio::time::timeout(PATIENCE, gone).await.is_err() {
        tracing::warn!("shims are still there after they were killed");
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::process::CommandExt as _;

    use super::*;

    #[test]
    fn a_shim_is_known_by_its_socket() {
        let check = |line: &str, want: bool| {
            let line = line.replace(' ', "\0");
            assert_eq!(is_shim_of(line.as_bytes(), b"/d/containerd.sock"), want, "{line:?}");
        };
        check("/usr/bin/containerd-shim-runc-v2 -namespace k8s.io -id 1 -address /d/containerd.sock ", true);
        check("containerd-shim-runc-v2 -id 1 -address /d/containerd.sock", true);
        check("/usr/bin/containerd-shim-runc-v2 -namespace k8s.io -id 1 -address /e/containerd.sock ", false);
        check("/usr/bin/containerd-shim-runc-v2 -id /d/containerd.sock -address /e/containerd.sock", false);
        check("cat -address /d/containerd.sock", false);
        check("", false);
    }

    #[tokio::test]
    async fn what_reports_to_a_socket_is_ended_with_its_children() {
        let dir = std::env::temp_dir().join(format!("ironkeel-shims-{}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        let (program, socket) = (dir.join("containerd-shim-test-v2"), dir.join("containerd.sock"));
        std::fs::copy("/bin/sh", &program).unwrap();
        let start = |socket: &Path| {
            std::process::Command::new(&program)
                .args(["-c", "sleep 1000 & wait", "x", "-address"])
                .arg(socket)
                .process_group(0)
                .spawn()
                .unwrap()
        };
        let (mut own, mut other) = (start(&socket), start(&dir.join("other.sock")));
        let id = i32::try_from(own.id()).unwrap();
        while children(id).is_empty() || shims(&socket).is_empty() {
            tokio::time::sleep(LOOK).await;
        }
        let reaper = std::thread::spawn(move || own.wait().unwrap());
        end_shims(&socket).await;
        assert!(!reaper.join().unwrap().success());
        assert!(shims(&socket).is_empty());
        assert!(other.try_wait().unwrap().is_none(), "another's shim was ended");
        let group = Pid::from_raw(-i32::try_from(other.id()).unwrap());
        kill(group, Signal::SIGKILL).unwrap();
        other.wait().unwrap();
        std::fs::remove_dir_all(&dir).unwrap();
    }
}
