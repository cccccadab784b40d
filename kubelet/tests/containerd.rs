//! Our containerd for real: started, given the pause image, killed, restarted, adopted and stopped, while a container runs on.
//! Needs root, containerd and runc; without them says so in one line.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use kubelet::containerd::{Config, Containerd, NAMESPACE, PAUSE_IMAGE, image_names, import_image, unmount_below};

fn ctr(socket: &Path, args: &[&str]) -> String {
    let output =
        Command::new("ctr").arg("--address").arg(socket).args(["--namespace", NAMESPACE]).args(args).output().unwrap();
    assert!(output.status.success(), "ctr {args:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// The process id and state that containerd reports of the container `holder`.
fn task(socket: &Path) -> Option<(String, String)> {
    let list = ctr(socket, &["tasks", "list"]);
    let words: Vec<&str> = list.lines().find(|line| line.starts_with("holder "))?.split_whitespace().collect();
    Some((words[1].to_owned(), words[2].to_owned()))
}

async fn until(what: &str, mut done: impl FnMut() -> bool) {
    for _ in 0..300 {
        if done() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    panic!("after 30 s: {what}");
}

fn kill(signal: &str, pid: u32) {
    assert!(Command::new("kill").args([signal, &pid.to_string()]).status().unwrap().success());
}

#[tokio::test]
async fn containerd_dies_and_comes_back_while_a_container_runs_on() {
    let missing = kubelet::containerd::missing();
    if !missing.is_empty() {
        eprintln!("left out: containerd cannot run here: {}", missing.join("; "));
        return;
    }
    let data: PathBuf = std::env::temp_dir().join(format!("ik-ctd-{}", std::process::id()));
    let config = Config::under(&data);
    let containerd = Containerd::start(config.clone()).await.unwrap();
    let socket = containerd.socket();
    assert_eq!(image_names(&socket).await.unwrap(), [PAUSE_IMAGE]);

    let absent = import_image(&socket, Path::new("/no/such.tar")).await.unwrap_err().to_string();
    assert!(absent.contains("no such file"), "{absent}");
    let archive = data.join("again.tar");
    std::fs::write(&archive, kubelet::containerd::pause_archive()).unwrap();
    assert_eq!(import_image(&socket, &archive).await.unwrap(), [PAUSE_IMAGE]);

    ctr(&socket, &["run", "--detach", PAUSE_IMAGE, "holder"]);
    let (holder, state) = task(&socket).unwrap();
    assert_eq!(state, "RUNNING");

    let first = containerd.pid();
    kill("-KILL", first);
    until("containerd has not come back", || {
        containerd.pid() != first && std::os::unix::net::UnixStream::connect(&socket).is_ok()
    })
    .await;
    assert_eq!(task(&socket), Some((holder.clone(), "RUNNING".to_owned())), "the container was touched");

    // Left alone by its supervisor, as after a crash of ours, it is adopted; and killed then, it comes back all the same.
    let second = containerd.pid();
    drop(containerd);
    let containerd = Containerd::start(config.clone()).await.unwrap();
    assert_eq!(containerd.pid(), second, "a second containerd was started");
    kill("-KILL", second);
    until("containerd has not come back after it was adopted", || {
        containerd.pid() != second && std::os::unix::net::UnixStream::connect(&socket).is_ok()
    })
    .await;
    let third = containerd.pid();
    containerd.stop().await;
    assert!(!Path::new(&format!("/proc/{third}")).exists(), "stop returned before containerd was gone");
    assert!(Path::new(&format!("/proc/{holder}")).exists(), "stopping containerd touched the container");

    let containerd = Containerd::start(config).await.unwrap();
    assert_eq!(task(&socket), Some((holder, "RUNNING".to_owned())));
    ctr(&socket, &["tasks", "kill", "--signal", "SIGTERM", "holder"]);
    until("the pause program did not end on SIGTERM", || task(&socket).is_some_and(|(_, state)| state == "STOPPED"))
        .await;
    ctr(&socket, &["tasks", "delete", "holder"]);
    ctr(&socket, &["containers", "delete", "holder"]);
    containerd.stop().await;
    unmount_below(&data).unwrap();
    std::fs::remove_dir_all(&data).unwrap();
}
