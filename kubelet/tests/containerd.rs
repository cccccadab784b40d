//! Our containerd and our pod network for real: containerd is started, given the pause image, killed, restarted, adopted and stopped
//! while a container runs on; sandboxes get addresses and are reached. Needs root, containerd and runc; without them says so in one line.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::print_stderr)] // a test says by panicking that it failed

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use kubelet::containerd::{Config, Containerd, NAMESPACE, PAUSE_IMAGE, image_names, import_image, unmount_below};
use kubelet::cri::{Cri, v1};
use kubelet::network::{self, PodCidr};

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

/// The data directory of a test; one that fails does not leave its containerd behind.
struct Data(PathBuf);

impl Data {
    fn new(name: &str) -> Self {
        Self(std::env::temp_dir().join(format!("ik-{name}-{}", std::process::id())))
    }
}

impl Drop for Data {
    fn drop(&mut self) {
        if let Ok(pid) = std::fs::read_to_string(self.0.join("containerd/containerd.pid")) {
            let _ = Command::new("kill").arg(pid.trim()).status();
        }
    }
}

fn possible() -> bool {
    let missing = kubelet::containerd::missing();
    if !missing.is_empty() {
        eprintln!("left out: containerd cannot run here: {}", missing.join("; "));
    }
    missing.is_empty()
}

#[tokio::test]
async fn containerd_dies_and_comes_back_while_a_container_runs_on() {
    if !possible() {
        return;
    }
    let scratch = Data::new("ctd");
    let data = scratch.0.clone();
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

fn sandbox(name: &str, logs: &Path) -> v1::PodSandboxConfig {
    v1::PodSandboxConfig {
        metadata: Some(v1::PodSandboxMetadata {
            name: name.to_owned(),
            uid: format!("uid-of-{name}"),
            namespace: "default".to_owned(),
            attempt: 0,
        }),
        log_directory: logs.join(name).to_string_lossy().into_owned(),
        linux: Some(v1::LinuxPodSandboxConfig::default()),
        ..v1::PodSandboxConfig::default()
    }
}

#[tokio::test]
async fn sandboxes_get_addresses_of_their_own_and_are_reached() {
    if !possible() {
        return;
    }
    // This thread, and with it containerd, gets a network namespace of its own: the machine's network stays as it is.
    nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNET).unwrap();
    assert!(Command::new("ip").args(["link", "set", "dev", "lo", "up"]).status().unwrap().success());
    let scratch = Data::new("net");
    let data = scratch.0.clone();
    let net = network::Config::under(&data, PodCidr::parse("10.97.0.0/24").unwrap());
    network::ensure(&net).await.unwrap();
    let containerd = Containerd::start(Config::under(&data)).await.unwrap();
    let cri = Cri::new(&containerd.socket());
    let mut addresses = Vec::new();
    let mut ids = Vec::new();
    for name in ["one", "two"] {
        let mut tries = 0;
        // The CRI answers a moment later than the socket does.
        let id = loop {
            match cri.run_sandbox(sandbox(name, &data), "").await {
                Ok(id) => break id,
                Err(error) if tries == 50 => panic!("no sandbox: {error:?}"),
                Err(_) => tries += 1,
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        };
        let status = cri.sandbox_status(&id).await.unwrap();
        addresses.push(status.network.unwrap().ip);
        ids.push(id);
    }
    assert_eq!(addresses, ["10.97.0.2", "10.97.0.3"]);
    for address in &addresses {
        // Nothing listens there: a refusal is the sandbox's own answer.
        let target = format!("{address}:9").parse().unwrap();
        let error = std::net::TcpStream::connect_timeout(&target, Duration::from_secs(5)).unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::ConnectionRefused, "{address}: {error}");
    }
    for id in &ids {
        cri.stop_sandbox(id).await.unwrap();
        cri.remove_sandbox(id).await.unwrap();
    }
    containerd.stop().await;
    network::remove(&net).await.unwrap();
    unmount_below(&data).unwrap();
    std::fs::remove_dir_all(&data).unwrap();
}
