//! The containerd that belongs to one data directory: its configuration, its process and its death. It is started with a root, state
//! and socket of its own, restarted when it dies, and adopted when it still runs from before.
//! Never touches a shim or a container while containerd is to run again: those outlive it, and ending them is the kubelet's work through the
//! CRI.

mod command;
mod config;
mod image;
mod mounts;
mod pause;
mod process;
mod shims;

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::cri::Cri;
pub(crate) use command::run;
pub use config::Version;
pub(crate) use image::hex;
pub use image::{
    NAMESPACE, PAUSE_IMAGE, ensure_pause_image, image_names, import_image, mount_image, pause_archive, unmount_image,
};
pub use mounts::unmount_below;
use process::Process;
pub use shims::end_shims;

/// What a containerd of our own needs to know.
#[derive(Clone, Debug)]
pub struct Config {
    /// The directory of everything it keeps: configuration, image store, state, socket, pid file and log. Made when absent.
    pub directory: PathBuf,
    /// Where it reads CNI network configurations from.
    pub cni_conf_dir: PathBuf,
    /// Where the CNI plugins lie; `/usr/lib/cni` on Debian.
    pub cni_bin_dir: PathBuf,
}

impl Config {
    /// The usual places under the data directory of one cluster: `<data_dir>/containerd`, `<data_dir>/cni/net.d`, and the first CNI
    /// plugin directory that exists.
    pub fn under(data_dir: &Path) -> Self {
        let data_dir = &std::path::absolute(data_dir).unwrap_or_else(|_| data_dir.to_owned());
        Self {
            directory: data_dir.join("containerd"),
            cni_conf_dir: data_dir.join("cni/net.d"),
            cni_bin_dir: cni_bin_dir(),
        }
    }

    /// The socket it answers on: CRI and containerd's own services.
    pub fn socket(&self) -> PathBuf {
        self.directory.join("containerd.sock")
    }

    /// Its log file, appended to across restarts.
    pub fn log(&self) -> PathBuf {
        self.directory.join("containerd.log")
    }

    fn file(&self) -> PathBuf {
        self.directory.join("config.toml")
    }

    fn pid_file(&self) -> PathBuf {
        self.directory.join("containerd.pid")
    }
}

/// Where Debian puts CNI plugins, or where most other systems do.
pub fn cni_bin_dir() -> PathBuf {
    ["/usr/lib/cni", "/opt/cni/bin", "/usr/libexec/cni"]
        .map(PathBuf::from)
        .into_iter()
        .find(|directory| directory.join("bridge").is_file())
        .unwrap_or_else(|| PathBuf::from("/usr/lib/cni"))
}

/// Why containerd, one of its images or the pod network is not there, by what a person can do about it.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Install it.
    #[error("{program} is not on PATH; hack/setup installs it")]
    Missing {
        /// The program's name.
        program: String,
    },
    /// Install a newer one.
    #[error("containerd {found} is too old; 1.6 or newer is needed")]
    Version {
        /// What was found.
        found: String,
    },
    /// Choose a data directory with a shorter name.
    #[error("the socket {socket} has a name longer than the {limit} bytes that Unix allows; choose a shorter data directory", socket = .socket.display())]
    LongSocket {
        /// The name.
        socket: PathBuf,
        /// Bytes that fit.
        limit: usize,
    },
    /// Read the log.
    #[error("containerd did not answer within {seconds} s; its log is {log}", log = .log.display())]
    Silent {
        /// How long it was waited for.
        seconds: u64,
        /// Where it says why.
        log: PathBuf,
    },
    /// Read what the program said.
    #[error("`{command}` failed: {message}")]
    Failed {
        /// The command line.
        command: String,
        /// The program's own words.
        message: String,
    },
    /// Look at the file, its permissions and the disk.
    #[error("cannot use {path}", path = .path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
}

/// How long containerd may take to answer after it was started, and to end after it was asked to.
const PATIENCE: Duration = Duration::from_secs(30);
/// A process that lived this long was healthy: the next death counts as the first.
const HEALTHY: Duration = Duration::from_secs(60);
/// The longest name of a Unix socket is 107 bytes; containerd appends `.ttrpc` to ours for a second one.
const SOCKET_LIMIT: usize = 107 - ".ttrpc".len();
/// The log is set aside, once, when it is larger than this at a start.
const LOG_LIMIT: u64 = 16 << 20;

/// What this machine lacks to run pods, one sentence each; empty when nothing is missing.
pub fn missing() -> Vec<String> {
    let mut out = Vec::new();
    if !nix::unistd::geteuid().is_root() {
        out.push("this process is not root".to_owned());
    }
    for program in ["containerd", "containerd-shim-runc-v2", "ctr", "runc", "ip", "nft", "iptables"] {
        if command::find(program).is_none() {
            out.push(Error::Missing { program: program.to_owned() }.to_string());
        }
    }
    for plugin in ["bridge", "host-local", "loopback", "portmap"] {
        let file = cni_bin_dir().join(plugin);
        if !file.is_file() {
            out.push(format!("the CNI plugin {} is absent; hack/setup installs it", file.display()));
        }
    }
    out
}

/// A running containerd under supervision. Dropping it ends the supervision and leaves containerd running.
#[derive(Debug)]
pub struct Containerd {
    config: Config,
    stop: CancellationToken,
    supervisor: tokio::task::JoinHandle<()>,
    pid: tokio::sync::watch::Receiver<u32>,
}

impl Containerd {
    /// Starts containerd, or adopts the one that still runs from before; waits until it answers and holds the pause image.
    ///
    /// One that runs with another configuration than it would be given now is ended first; its containers run on.
    ///
    /// # Errors
    /// Any [`Error`]; nothing is left running that was not running before.
    pub async fn start(config: Config) -> Result<Self, Error> {
        let socket = config.socket();
        if socket.as_os_str().len() > SOCKET_LIMIT {
            return Err(Error::LongSocket { socket, limit: SOCKET_LIMIT });
        }
        run("runc", &["--version"], None).await?;
        let settings = prepare(&config).await?;
        let mut process = match Process::adopt(&config.pid_file(), &config.file()) {
            Some(process) if settings.unchanged => {
                tracing::info!(pid = process.pid(), "containerd still runs and is taken over");
                process
            }
            Some(mut process) => {
                tracing::info!(pid = process.pid(), "containerd runs with an older configuration and is started anew");
                process.end(PATIENCE).await;
                spawn(&config, &settings.text).await?
            }
            None => spawn(&config, &settings.text).await?,
        };
        let ready = async {
            answers(&config, &mut process).await?;
            ensure_pause_image(&socket, &config.directory).await
        };
        if let Err(error) = ready.await {
            process.end(PATIENCE).await;
            return Err(error);
        }
        let stop = CancellationToken::new();
        let (tell, pid) = tokio::sync::watch::channel(process.pid());
        let supervisor = tokio::spawn(supervise(config.clone(), settings.text, process, stop.clone(), tell));
        Ok(Self { config, stop, supervisor, pid })
    }

    /// The socket it answers on.
    pub fn socket(&self) -> PathBuf {
        self.config.socket()
    }

    /// The process id of the containerd that runs now; changes when it is restarted.
    pub fn pid(&self) -> u32 {
        *self.pid.borrow()
    }

    /// Ends containerd and waits until it is gone. Shims and containers run on, and a later [`Containerd::start`] finds them.
    pub async fn stop(mut self) {
        self.stop.cancel();
        if let Err(error) = (&mut self.supervisor).await {
            tracing::error!(%error, "the supervisor of containerd failed");
        }
    }
}

impl Drop for Containerd {
    fn drop(&mut self) {
        self.supervisor.abort();
    }
}

struct Prepared {
    text: String,
    /// The configuration file already said this.
    unchanged: bool,
}

async fn prepare(config: &Config) -> Result<Prepared, Error> {
    let said = run("containerd", &["--version"], None).await?;
    let version = Version::parse(&said).ok_or_else(|| Error::Version { found: said.trim().to_owned() })?.supported()?;
    for directory in [&config.directory, &config.cni_conf_dir, &config.directory.join("certs.d")] {
        tokio::fs::create_dir_all(directory).await.map_err(|source| Error::File { path: directory.clone(), source })?;
    }
    let status = tokio::fs::read_to_string("/proc/self/status").await.unwrap_or_default();
    let socket = config.socket();
    let text = config::text(&config::Settings {
        version,
        directory: &config.directory,
        socket: &socket,
        cni_conf_dir: &config.cni_conf_dir,
        cni_bin_dir: &config.cni_bin_dir,
        restrict_oom_score_adj: !config::may_lower_oom_score(&status),
    });
    let unchanged = tokio::fs::read_to_string(config.file()).await.is_ok_and(|old| old == text);
    Ok(Prepared { text, unchanged })
}

/// Writes the configuration and starts containerd in a process group of its own, so that a Ctrl-C on the terminal does not reach it.
async fn spawn(config: &Config, text: &str) -> Result<Process, Error> {
    let at = |path: PathBuf| move |source| Error::File { path, source };
    tokio::fs::write(config.file(), text).await.map_err(at(config.file()))?;
    let log = config.log();
    if tokio::fs::metadata(&log).await.is_ok_and(|meta| meta.len() > LOG_LIMIT) {
        tokio::fs::rename(&log, log.with_extension("log.1")).await.map_err(at(log.clone()))?;
    }
    let open = || std::fs::OpenOptions::new().create(true).append(true).open(&log);
    let (out, err) = open().and_then(|file| Ok((file.try_clone()?, file))).map_err(at(log.clone()))?;
    let mut command = command::command("containerd")?;
    command.arg("--config").arg(config.file()).process_group(0).kill_on_drop(false);
    command.stdout(Stdio::from(out)).stderr(Stdio::from(err));
    let child = command.spawn().map_err(|error| Error::Failed {
        command: format!("containerd --config {}", config.file().display()),
        message: error.to_string(),
    })?;
    let process = Process::child(child);
    tokio::fs::write(config.pid_file(), format!("{}\n", process.pid())).await.map_err(at(config.pid_file()))?;
    Ok(process)
}

/// Waits until the socket takes a connection, or the process is gone, or patience ends.
async fn answers(config: &Config, process: &mut Process) -> Result<(), Error> {
    let silent = || Error::Silent { seconds: PATIENCE.as_secs(), log: config.log() };
    // The socket is there before the CRI service behind it: only an answer to a call counts.
    let connected = async {
        while Cri::new(&config.socket()).conditions().await.is_err() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::select! {
        () = connected => Ok(()),
        () = process.gone() => Err(Error::Failed {
            command: format!("containerd --config {}", config.file().display()),
            message: last_line(&config.log()).await,
        }),
        () = tokio::time::sleep(PATIENCE) => Err(silent()),
    }
}

/// The last line of the log: where a containerd that ends at once says why.
async fn last_line(log: &Path) -> String {
    let text = tokio::fs::read_to_string(log).await.unwrap_or_default();
    text.lines().next_back().unwrap_or("it ended without a word").to_owned()
}

/// The pause before the `failures`-th restart in a row: 100 ms, doubled each time, at most 10 s.
fn back_off(failures: u32) -> Duration {
    Duration::from_millis(100 << failures.saturating_sub(1).min(7)).min(Duration::from_secs(10))
}

async fn supervise(
    config: Config,
    text: String,
    mut process: Process,
    stop: CancellationToken,
    tell: tokio::sync::watch::Sender<u32>,
) {
    let mut failures = 0;
    let mut since = Instant::now();
    loop {
        tokio::select! {
            () = stop.cancelled() => {
                process.end(PATIENCE).await;
                let _ = tokio::fs::remove_file(config.pid_file()).await;
                return;
            }
            () = process.gone() => {}
        }
        failures = if since.elapsed() >= HEALTHY { 1 } else { failures + 1 };
        tracing::warn!(pid = process.pid(), failures, "containerd is gone and will be started again");
        process = loop {
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(back_off(failures)) => {}
            }
            match spawn(&config, &text).await {
                Ok(process) => break process,
                Err(error) => {
                    failures += 1;
                    tracing::error!(
                        error = &error as &dyn std::error::Error,
                        failures,
                        "containerd could not be started"
                    );
                }
            }
        };
        since = Instant::now();
        tracing::info!(pid = process.pid(), "containerd was started again");
        tell.send_replace(process.pid());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pause_between_restarts_doubles_up_to_ten_seconds() {
        let pauses: Vec<u128> = [1, 2, 3, 7, 8, 9, u32::MAX].map(|n| back_off(n).as_millis()).to_vec();
        assert_eq!(pauses, [100, 200, 400, 6_400, 10_000, 10_000, 10_000]);
    }

    #[tokio::test]
    async fn a_long_data_directory_is_refused_in_one_sentence() {
        let error = Containerd::start(Config::under(Path::new(&format!("/tmp/{}", "x".repeat(90))))).await.unwrap_err();
        assert!(error.to_string().ends_with("choose a shorter data directory"), "{error}");
    }
}
