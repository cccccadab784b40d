//! Starts real fdbservers for tests: on loopback, in directories of their own, gone when the process is.
//!
//! The kernel kills them with the process that started them, however it ends, and each [`Cluster`] kills its own when it is dropped.
//! Never touches a server or cluster file of the machine.

#![allow(dead_code, reason = "each test binary uses its part")]
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "helpers of a test are the test")]

use std::net::TcpListener;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Sender, channel};
use std::sync::{LazyLock, Mutex};
use std::time::{Duration, Instant};

/// The programs of FoundationDB.
#[derive(Debug, Clone)]
pub(crate) struct Programs {
    server: PathBuf,
    cli: PathBuf,
}

impl Programs {
    /// Those in the directory `FDB_BIN` (or beside the program that it names), else those on PATH.
    pub(crate) fn find() -> Option<Programs> {
        let given = std::env::var_os("FDB_BIN").map(PathBuf::from);
        let given = given.map(|p| if p.is_dir() { p } else { p.parent().map(Path::to_owned).unwrap_or_default() });
        let path = std::env::var_os("PATH").unwrap_or_default();
        let path = std::env::split_paths(&path).chain(["/usr/sbin".into(), "/usr/local/sbin".into()]);
        given.into_iter().chain(path).find_map(|dir| {
            let (server, cli) = (dir.join("fdbserver"), dir.join("fdbcli"));
            (server.is_file() && cli.is_file()).then_some(Programs { server, cli })
        })
    }

    /// As [`Programs::find`]; says in one line what is left out when there are none.
    pub(crate) fn or_say(what: &str) -> Option<Programs> {
        let found = Self::find();
        if found.is_none() {
            eprintln!("left out: {what}: no fdbserver and fdbcli on PATH or in FDB_BIN");
        }
        found
    }
}

/// Starts children from a thread that lives as long as the process: their death signal is tied to the thread that started them.
static KEEPER: LazyLock<Mutex<Sender<Job>>> = LazyLock::new(|| {
    let (jobs, queue) = channel::<Job>();
    std::thread::spawn(move || {
        for (mut command, answer) in queue {
            let _ = answer.send(command.spawn());
        }
    });
    Mutex::new(jobs)
});

type Job = (Command, Sender<std::io::Result<Child>>);

fn spawn(mut command: Command) -> Child {
    #[allow(unsafe_code, reason = "a child that dies with this process needs a call between fork and exec")]
    // SAFETY: prctl is async-signal-safe and touches nothing of the parent.
    unsafe {
        command.pre_exec(|| nix::sys::prctl::set_pdeathsig(nix::sys::signal::Signal::SIGKILL).map_err(Into::into));
    }
    let (answer, child) = channel();
    KEEPER.lock().unwrap().send((command, answer)).unwrap();
    child.recv().unwrap().expect("fdbserver starts")
}

fn rest(time: Duration) {
    #[allow(clippy::disallowed_methods, reason = "the harness waits for processes, outside of any runtime")]
    std::thread::sleep(time);
}

/// TLS files of servers and tools.
#[derive(Debug, Clone)]
pub(crate) struct Tls {
    pub(crate) certificate: PathBuf,
    pub(crate) key: PathBuf,
    pub(crate) authority: PathBuf,
}

impl Tls {
    fn arguments(&self, command: &mut Command) {
        command.arg("--tls-certificate-file").arg(&self.certificate);
        command.arg("--tls-key-file").arg(&self.key);
        command.arg("--tls-ca-file").arg(&self.authority);
    }
}

/// Some fdbservers that are one database.
#[derive(Debug)]
pub(crate) struct Cluster {
    programs: Programs,
    dir: PathBuf,
    file: PathBuf,
    tls: Option<Tls>,
    servers: Vec<Server>,
    keep: bool,
}

#[derive(Debug)]
struct Server {
    port: u16,
    child: Option<Child>,
}

impl Cluster {
    /// One process, `single`.
    pub(crate) fn single(programs: &Programs) -> Cluster {
        Self::start(programs, 1, "single ssd", None)
    }

    /// Three processes, each a failure zone and a coordinator, `double`.
    pub(crate) fn double(programs: &Programs) -> Cluster {
        Self::start(programs, 3, "double ssd", None)
    }

    /// One process that speaks TLS.
    pub(crate) fn secured(programs: &Programs, tls: Tls) -> Cluster {
        Self::start(programs, 1, "single ssd", Some(tls))
    }

    /// Lets the servers live as long as the process: for clusters in statics, which are never dropped.
    #[must_use]
    pub(crate) fn kept(mut self) -> Cluster {
        self.keep = true;
        self
    }

    fn start(programs: &Programs, count: usize, configuration: &str, tls: Option<Tls>) -> Cluster {
        remove_stale();
        static NEXT: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);
        let n = NEXT.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let dir = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("fdb-{}-{n}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        // All listeners at once, so that no port comes twice.
        let listeners: Vec<TcpListener> = (0..count).map(|_| TcpListener::bind("127.0.0.1:0").unwrap()).collect();
        let ports: Vec<u16> = listeners.iter().map(|l| l.local_addr().unwrap().port()).collect();
        drop(listeners);
        let suffix = if tls.is_some() { ":tls" } else { "" };
        let addresses: Vec<String> = ports.iter().map(|p| format!("127.0.0.1:{p}{suffix}")).collect();
        let file = dir.join("fdb.cluster");
        std::fs::write(&file, format!("test{n}:ironkeel@{}\n", addresses.join(","))).unwrap();
        let servers = ports.into_iter().map(|port| Server { port, child: None }).collect();
        let mut cluster = Cluster { programs: programs.clone(), dir, file, tls, servers, keep: false };
        for i in 0..count {
            cluster.run(i);
        }
        let said = cluster.cli(&format!("configure new {configuration}"), 60);
        assert!(said.contains("Database created"), "configure: {said}\n{}", cluster.logs());
        cluster.wait_available(Duration::from_secs(60));
        cluster
    }

    /// The cluster file.
    pub(crate) fn file(&self) -> &Path {
        &self.file
    }

    /// Its directory, for files of a test.
    pub(crate) fn dir(&self) -> &Path {
        &self.dir
    }

    /// How many servers it has.
    pub(crate) fn len(&self) -> usize {
        self.servers.len()
    }

    /// Starts server `i`, which is not running.
    pub(crate) fn run(&mut self, i: usize) {
        let server = &mut self.servers[i];
        assert!(server.child.is_none(), "server {i} runs");
        let place = self.dir.join(server.port.to_string());
        std::fs::create_dir_all(place.join("data")).unwrap();
        std::fs::create_dir_all(place.join("log")).unwrap();
        let suffix = if self.tls.is_some() { ":tls" } else { "" };
        let mut command = Command::new(&self.programs.server);
        command.arg("-p").arg(format!("127.0.0.1:{}{suffix}", server.port));
        command.arg("-C").arg(&self.file).arg("-d").arg(place.join("data")).arg("-L").arg(place.join("log"));
        command.args(["--memory", "2GiB", "--cache-memory", "128MiB"]);
        command.arg("--locality-zoneid").arg(format!("zone{i}")).arg("--locality-machineid").arg(format!("machine{i}"));
        if let Some(tls) = &self.tls {
            tls.arguments(&mut command);
        }
        let out = std::fs::File::options().create(true).append(true).open(place.join("out")).unwrap();
        command.stdin(Stdio::null()).stdout(out.try_clone().unwrap()).stderr(out);
        server.child = Some(spawn(command));
    }

    /// Kills server `i` as `kill -9` does.
    pub(crate) fn kill(&mut self, i: usize) {
        let mut child = self.servers[i].child.take().expect("the server runs");
        child.kill().unwrap();
        child.wait().unwrap();
    }

    /// Stops server `i` without its knowledge, or lets it go on.
    pub(crate) fn freeze(&self, i: usize, frozen: bool) {
        use nix::sys::signal::{Signal, kill};
        let child = self.servers[i].child.as_ref().expect("the server runs");
        let pid = nix::unistd::Pid::from_raw(i32::try_from(child.id()).unwrap());
        kill(pid, if frozen { Signal::SIGSTOP } else { Signal::SIGCONT }).unwrap();
    }

    /// What fdbcli says to a command.
    pub(crate) fn cli(&self, line: &str, seconds: u32) -> String {
        let mut command = Command::new(&self.programs.cli);
        command.arg("-C").arg(&self.file).arg("--exec").arg(line).arg("--timeout").arg(seconds.to_string());
        if let Some(tls) = &self.tls {
            tls.arguments(&mut command);
        }
        let output = command.stdin(Stdio::null()).output().expect("fdbcli runs");
        String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
    }

    /// Waits until the database takes transactions.
    ///
    /// # Panics
    /// When it does not within `time`, with what the servers said.
    pub(crate) fn wait_available(&self, time: Duration) {
        let end = Instant::now() + time;
        loop {
            let said = self.cli("status minimal", 5);
            if said.contains("The database is available") {
                return;
            }
            assert!(Instant::now() < end, "the database is not available: {said}\n{}", self.logs());
            rest(Duration::from_millis(100));
        }
    }

    /// Waits until every piece of data is on as many servers as it should be.
    pub(crate) fn wait_healthy(&self, time: Duration) {
        let end = Instant::now() + time;
        loop {
            let said = self.cli("status", 10);
            if said.contains("- Healthy") && !said.contains("(Rebalancing)") && !said.contains("HEALING") {
                return;
            }
            assert!(Instant::now() < end, "the database does not heal: {said}");
            rest(Duration::from_millis(500));
        }
    }

    fn logs(&self) -> String {
        let out =
            |s: &Server| std::fs::read_to_string(self.dir.join(s.port.to_string()).join("out")).unwrap_or_default();
        self.servers.iter().map(out).collect::<Vec<_>>().join("\n")
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        for server in &mut self.servers {
            if let Some(child) = &mut server.child {
                let _ = child.kill();
                let _ = child.wait();
            }
        }
        if !self.keep {
            let _ = std::fs::remove_dir_all(&self.dir);
        }
    }
}

/// Removes what processes left that are gone: clusters in statics are not dropped.
fn remove_stale() {
    let Ok(entries) = std::fs::read_dir(env!("CARGO_TARGET_TMPDIR")) else { return };
    for entry in entries.flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let Some(pid) = name.strip_prefix("fdb-").and_then(|rest| rest.split('-').next()) else { continue };
        if !Path::new("/proc").join(pid).exists() {
            let _ = std::fs::remove_dir_all(entry.path());
        }
    }
}
