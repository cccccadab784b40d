//! A cluster of the test's own: the real binary as a child process, in its own directory, on its own ports.
//!
//! Ends what it started, by process id, and removes what that left behind.

use crate::command::{Cli, Output};
use crate::machine::{binary, free_port, images};
use crate::request::Http;
use crate::wait::eventually;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tempfile::TempDir;

/// What a cluster consists of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// API server, controllers and scheduler.
    ControlPlane,
    /// These and a node named `e2e`.
    Node,
}

/// A cluster that runs as long as the value lives.
pub struct Cluster {
    kind: Kind,
    directory: TempDir,
    arguments: Vec<String>,
    port: u16,
    process: Mutex<Option<Child>>,
}

const START: Duration = Duration::from_secs(60);
const END: Duration = Duration::from_secs(90);

impl Cluster {
    /// Starts one and waits until it serves and, where it has one, its node is ready.
    ///
    /// # Panics
    /// When it does not come up, with its log.
    pub fn start(kind: Kind, further: &[&str]) -> Cluster {
        // Short: a socket's path may have 107 bytes.
        let directory =
            tempfile::Builder::new().prefix("ik").tempdir_in("/tmp").expect("a directory can be made in /tmp");
        let port = free_port();
        let path = |name: &str| directory.path().join(name).display().to_string();
        let mut arguments = vec!["up".to_owned(), "--data-dir".to_owned(), path("d")];
        arguments.extend(["--kubeconfig".to_owned(), path("kubeconfig")]);
        arguments.push(format!("--secure-port={port}"));
        match kind {
            Kind::ControlPlane => arguments.extend(["--no-node", "--bind-address=127.0.0.1"].map(str::to_owned)),
            // Its pods reach the API server at the machine's address.
            Kind::Node => {
                let [a, b] = rand::random::<[u8; 2]>();
                arguments.push(format!("--pod-cidr=10.{}.{}.0/24", 128 + a % 100, b % 255));
                arguments.push(format!("--kubelet-port={}", free_port()));
                arguments.push("--node-name=e2e".to_owned());
            }
        }
        arguments.extend(further.iter().map(|word| (*word).to_owned()));
        let cluster = Cluster { kind, directory, arguments, port, process: Mutex::new(None) };
        cluster.launch();
        cluster
    }

    fn process(&self) -> MutexGuard<'_, Option<Child>> {
        self.process.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The directory that holds everything of this cluster: `d` its data, `kubeconfig`, `log`.
    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// The data directory.
    pub fn data(&self) -> PathBuf {
        self.directory().join("d")
    }

    /// The port of the API server.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The process.
    ///
    /// # Panics
    /// When it does not run.
    pub fn pid(&self) -> u32 {
        self.process().as_ref().expect("the cluster runs").id()
    }

    /// Starts the process again, with what it was started with, and waits as [`Cluster::start`] does.
    ///
    /// # Panics
    /// When it runs already or does not come up.
    pub fn launch(&self) {
        let log = self.directory().join("log");
        let log = File::options().create(true).append(true).open(log).expect("the log can be written");
        let binary = binary().expect("callers looked for the binary");
        let mut process = self.process();
        assert!(process.is_none(), "the cluster runs already");
        let child = Command::new(binary)
            .args(&self.arguments)
            .env("PATH", crate::machine::SEARCH.as_str())
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("a file has another handle"))
            .stderr(log)
            .spawn()
            .expect("the binary can be started");
        *process = Some(child);
        drop(process);
        self.wait_ready();
    }

    fn wait_ready(&self) {
        let kubectl = self.kubectl();
        let probe = |line: &str, want: &str| {
            if let Some(child) = self.process().as_mut()
                && let Ok(Some(status)) = child.try_wait()
            {
                panic!("the server ended with {status}:\n{}", self.log_tail());
            }
            // Of the last start there may be a kubeconfig; it holds good for this one.
            let output = kubectl.run(line);
            if output.code == 0 && output.stdout.contains(want) {
                Ok(())
            } else {
                Err(format!("{output}\n{}", self.log_tail()))
            }
        };
        eventually("the server is ready", START, || probe("get --raw /readyz", "ok"));
        if self.kind == Kind::Node {
            let ready = "get node e2e -o jsonpath={.status.conditions[?(@.type==\"Ready\")].status}";
            eventually("the node is ready", START, || probe(ready, "True"));
        }
        // What the namespace controller and its kin make for every namespace; pods need it.
        eventually("the default service account", START, || {
            probe("get serviceaccount default -o name", "serviceaccount/default")
        });
    }

    /// kubectl as the administrator, in the namespace `default`.
    pub fn kubectl(&self) -> Cli {
        self.tool("kubectl").with("--request-timeout=60s")
    }

    /// kubectl as the administrator in a new namespace.
    ///
    /// # Panics
    /// When the namespace cannot be made.
    pub fn namespace(&self, name: &str) -> Cli {
        self.kubectl().ok(&format!("create namespace {name}"));
        let kubectl = self.tool("kubectl").with(&format!("--namespace={name}"));
        eventually("the namespace has its service account", START, || {
            let output = kubectl.run("get serviceaccount/default configmap/kube-root-ca.crt");
            if output.code == 0 { Ok(()) } else { Err(output.stderr) }
        });
        kubectl
    }

    /// Any stock tool that reads a kubeconfig, with caches of its own.
    ///
    /// # Panics
    /// When the machine has none.
    pub fn tool(&self, name: &str) -> Cli {
        let path = |name: &str| self.directory().join(name);
        Cli::new(name)
            .env("KUBECONFIG", path("kubeconfig"))
            .env("KUBECACHEDIR", path("cache"))
            .env("HELM_CACHE_HOME", path("helm"))
            .env("HELM_CONFIG_HOME", path("helm"))
            .env("HELM_DATA_HOME", path("helm"))
    }

    /// The binary under test itself, for its other commands.
    ///
    /// # Panics
    /// When it is not there.
    pub fn ironkeel() -> Cli {
        Cli::at(binary().expect("callers looked for the binary"))
    }

    /// A kube-rs client as the administrator.
    ///
    /// # Panics
    /// When the kubeconfig does not serve.
    pub async fn client(&self) -> kube::Client {
        kube::Client::try_from(self.config().await).expect("a client")
    }

    /// What a kube-rs client is made of.
    pub(crate) async fn config(&self) -> kube::Config {
        let file = kube::config::Kubeconfig::read_from(self.directory().join("kubeconfig")).expect("a kubeconfig");
        kube::Config::from_custom_kubeconfig(file, &Default::default()).await.expect("a kubeconfig")
    }

    /// Plain requests as the administrator.
    ///
    /// # Panics
    /// When the kubeconfig does not serve.
    pub fn http(&self) -> Http {
        Http::new(self)
    }

    /// Plain requests as nobody.
    ///
    /// # Panics
    /// When the kubeconfig does not serve.
    pub fn anonymous(&self) -> Http {
        Http::anonymous(self)
    }

    /// containerd's own client, in the namespace of Kubernetes.
    ///
    /// # Panics
    /// When the machine has none.
    pub fn ctr(&self) -> Cli {
        let socket = self.data().join("containerd/containerd.sock");
        Cli::new("ctr").with(&format!("--address {} --namespace k8s.io", socket.display()))
    }

    /// Imports the images of `hack/images`.
    ///
    /// # Panics
    /// When they cannot be built or imported.
    pub fn load_images(&self) {
        let files = images().expect("hack/images builds the images");
        let files: Vec<_> = files.iter().map(|file| format!("'{}'", file.display())).collect();
        let line = format!("image load --data-dir {} {}", self.data().display(), files.join(" "));
        Cluster::ironkeel().run(&line).ok();
    }

    /// Ends the process at once, as a crash would.
    ///
    /// # Panics
    /// When it does not run.
    pub fn crash(&self) {
        let mut child = self.process().take().expect("the cluster runs");
        child.kill().expect("a child can be killed");
        child.wait().expect("a child can be waited for");
    }

    /// Ends the process as Ctrl-C does and returns its exit code.
    ///
    /// # Panics
    /// When it does not run, or does not end in time.
    pub fn stop(&self) -> Option<i32> {
        let child = self.process().take();
        end(child.expect("the cluster runs")).expect("the cluster ends in time")
    }

    /// Runs `ironkeel up` a second time with further flags, to see it refuse.
    pub fn second(&self, further: &str) -> Output {
        let line: Vec<_> = self.arguments.iter().map(|word| format!("'{word}'")).collect();
        Cluster::ironkeel().limit(Duration::from_secs(20)).run(&format!("{} {further}", line.join(" ")))
    }

    /// The last lines of the server's log.
    pub fn log_tail(&self) -> String {
        let text = std::fs::read(self.directory().join("log")).unwrap_or_default();
        let text = String::from_utf8_lossy(&text);
        let lines: Vec<_> = text.lines().collect();
        lines.get(lines.len().saturating_sub(60)..).unwrap_or_default().join("\n")
    }
}

/// Interrupts a process and waits for it; `None` when it did not end in time and was killed.
fn end(mut child: Child) -> Option<Option<i32>> {
    let pid = i32::try_from(child.id()).ok()?;
    // It may have ended by itself, and then there is nothing to signal.
    let _ = kill(Pid::from_raw(pid), Signal::SIGINT);
    let limit = std::time::Instant::now() + END;
    while std::time::Instant::now() < limit {
        match child.try_wait() {
            Ok(Some(status)) => return Some(status.code()),
            Ok(None) => crate::wait::rest(Duration::from_millis(20)),
            Err(_) => break,
        }
    }
    let _ = child.kill();
    let _ = child.wait();
    None
}

impl Drop for Cluster {
    fn drop(&mut self) {
        let child = self.process().take();
        if let Some(child) = child
            && end(child).is_none()
        {
            eprintln!("the server did not end within {END:?} of its interrupt and was killed\n{}", self.log_tail());
        }
        let Some(binary) = binary().filter(|_| self.data().exists()) else { return };
        let reset = Command::new(binary)
            .args(["reset", "--yes", "--data-dir"])
            .arg(self.data())
            .env("PATH", crate::machine::SEARCH.as_str())
            .stdin(Stdio::null())
            .output();
        match reset {
            Ok(output) if output.status.success() => {}
            Ok(output) => eprintln!("reset failed: {}", String::from_utf8_lossy(&output.stderr)),
            Err(error) => eprintln!("reset failed: {error}"),
        }
    }
}
