//! Measures the release binary from outside, as its user would: five starts, medians, and the machine's load beside them.
//! Prints a Markdown table; writes `docs/figures.md` only when asked. Starts and ends only its own processes.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

use crate::repo;

const RUNS: usize = 5;
/// How long after the node is Ready the memory is read.
const IDLE: Duration = Duration::from_secs(60);
/// How long any single step may take before the measurement is given up.
const PATIENCE: Duration = Duration::from_secs(120);
/// What `ironkeel up` itself imports: the one image that is certainly present.
const IMAGE: &str = "ironkeel/pause:1";
const BEGIN: &str = "<!-- measured by cargo xtask figures -->";
const END: &str = "<!-- end of what was measured -->";

/// One line of the table: what was measured in each run, in the unit it is printed in.
struct Figure {
    name: &'static str,
    unit: &'static str,
    bound: f64,
    values: Vec<f64>,
}

/// The release binary: built anew, or the one that `IRONKEEL_BIN` names.
fn binary() -> Result<PathBuf> {
    if let Some(binary) = std::env::var_os("IRONKEEL_BIN") {
        return Ok(PathBuf::from(binary));
    }
    let status = Command::new(env!("CARGO"))
        .args(["build", "--release", "--package", "cli"])
        .current_dir(repo::root())
        .status()?;
    ensure!(status.success(), "the release binary cannot be built");
    Ok(repo::target().join("release/ironkeel"))
}

/// Measures and prints; with `write`, puts the table into `docs/figures.md`.
pub(crate) fn figures(write: bool) -> Result<()> {
    let binary = binary()?;
    let node = repo::output("id", &["-u"])?.trim() == "0";
    if !node {
        eprintln!("left out: the figures of node and pods need root");
    }
    let mut ready = figure("`up` to `/readyz` ok", "s", 1.0);
    let mut registered = figure("`up` to a Ready node", "s", 5.0);
    let mut memory = figure("memory of the process, idle for 60 s", "MB", 100.0);
    let mut running = figure("pod, created to Running, image present", "s", 1.0);
    let mut size = figure("stripped binary", "MB", 60.0);
    size.values.push(
        std::fs::metadata(&binary).with_context(|| format!("{} is absent", binary.display()))?.len() as f64 / 1e6,
    );
    for run in 1..=RUNS {
        eprintln!("run {run} of {RUNS}");
        let cluster = Cluster::start(&binary, node)?;
        ready.values.push(cluster.until("/readyz", Cluster::answers)?);
        if node {
            registered.values.push(cluster.until("a Ready node", Cluster::has_ready_node)?);
        }
        pause(IDLE);
        memory.values.push(cluster.resident_megabytes()?);
        if node {
            running.values.push(cluster.pod_to_running()?);
        }
        cluster.end()?;
    }
    let table = table(&[ready, registered, memory, running, size], &machine()?);
    println!("{table}");
    if write {
        let path = repo::root().join("docs/figures.md");
        let old = std::fs::read_to_string(&path).unwrap_or_else(|_| format!("# Figures\n\n{BEGIN}\n{END}\n"));
        std::fs::write(&path, replaced(&old, &table)?)?;
    }
    Ok(())
}

fn figure(name: &'static str, unit: &'static str, bound: f64) -> Figure {
    Figure { name, unit, bound, values: Vec::new() }
}

/// A cluster that was started for one run, in a scratch directory.
struct Cluster {
    binary: PathBuf,
    process: Child,
    started: Instant,
    directory: PathBuf,
    kubeconfig: PathBuf,
    port: u16,
}

impl Cluster {
    fn start(binary: &Path, node: bool) -> Result<Self> {
        let directory = std::env::temp_dir().join(format!("ik-figures-{}", std::process::id()));
        std::fs::create_dir_all(&directory)?;
        let kubeconfig = directory.join("kubeconfig");
        let port = std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        let log = std::fs::File::create(directory.join("log"))?;
        let mut command = Command::new(binary);
        command.arg("up").arg("--data-dir").arg(directory.join("data")).arg("--kubeconfig").arg(&kubeconfig);
        command.args(["--secure-port", &port.to_string()]);
        if !node {
            command.arg("--no-node");
        }
        let started = Instant::now();
        let process = command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log).spawn()?;
        Ok(Self { binary: binary.to_owned(), process, started, directory, kubeconfig, port })
    }

    /// Seconds from the start until `done` holds.
    fn until(&self, what: &str, done: fn(&Self) -> bool) -> Result<f64> {
        while !done(self) {
            if self.started.elapsed() > PATIENCE {
                bail!(
                    "no sign of {what} after {} s; the log is {}",
                    PATIENCE.as_secs(),
                    self.directory.join("log").display()
                );
            }
            pause(Duration::from_millis(5));
        }
        Ok(self.started.elapsed().as_secs_f64())
    }

    fn answers(&self) -> bool {
        let url = format!("https://127.0.0.1:{}/readyz", self.port);
        match Command::new("curl").args(["--silent", "--insecure", "--max-time", "1", &url]).output() {
            Ok(output) => output.stdout == b"ok",
            Err(_) => {
                self.kubeconfig.exists() && self.kubectl(&["get", "--raw", "/readyz"]).is_ok_and(|said| said == "ok")
            }
        }
    }

    fn has_ready_node(&self) -> bool {
        let path = r#"jsonpath={.items[*].status.conditions[?(@.type=="Ready")].status}"#;
        self.kubectl(&["get", "nodes", "-o", path]).is_ok_and(|said| said.contains("True"))
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new("kubectl");
        command.arg("--kubeconfig").arg(&self.kubeconfig).args(args).stdin(Stdio::null());
        command
    }

    fn kubectl(&self, args: &[&str]) -> Result<String> {
        let output = self.command(args).output().context("cannot run kubectl; hack/setup installs it")?;
        ensure!(output.status.success(), "kubectl {args:?}: {}", String::from_utf8_lossy(&output.stderr));
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    fn resident_megabytes(&self) -> Result<f64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.process.id()))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("the process is gone")?;
        let kibibytes: f64 = line.trim().trim_end_matches("kB").trim().parse()?;
        Ok(kibibytes * 1024.0 / 1e6)
    }

    /// Seconds from the start of `kubectl run` until a watch that was already open shows the pod Running.
    fn pod_to_running(&self) -> Result<f64> {
        use std::io::BufRead;
        let output = r"jsonpath={.metadata.name} {.status.phase}{'\n'}";
        let mut watch = self
            .command(&["get", "pods", "--watch", "-o", output])
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()?;
        pause(Duration::from_secs(1)); // until the watch is open
        let begun = Instant::now();
        let run = self.kubectl(&["run", "figure", "--image", IMAGE, "--restart=Never"]);
        let (tell, told) = std::sync::mpsc::channel();
        let lines = watch.stdout.take().context("the watch has no output")?;
        std::thread::spawn(move || {
            for line in std::io::BufReader::new(lines).lines().map_while(Result::ok) {
                if line == "figure Running" && tell.send(Instant::now()).is_err() {
                    return;
                }
            }
        });
        let result = run.and_then(|_| told.recv_timeout(PATIENCE).context("the pod never ran"));
        watch.kill()?;
        watch.wait()?;
        Ok(result?.duration_since(begun).as_secs_f64())
    }

    /// Ends the cluster as a Ctrl-C would and takes all its traces away.
    fn end(mut self) -> Result<()> {
        self.interrupt()?;
        let reset = Command::new(&self.binary)
            .args(["reset", "--yes", "--data-dir"])
            .arg(self.directory.join("data"))
            .output()?;
        ensure!(reset.status.success(), "ironkeel reset: {}", String::from_utf8_lossy(&reset.stderr));
        Ok(std::fs::remove_dir_all(&self.directory)?)
    }

    fn interrupt(&mut self) -> Result<()> {
        if self.process.try_wait()?.is_none() {
            Command::new("kill").args(["-INT", &self.process.id().to_string()]).status()?;
            self.process.wait()?;
        }
        Ok(())
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        let _ = self.interrupt();
    }
}

#[allow(clippy::disallowed_methods)] // there is no runtime here whose worker could be blocked
fn pause(time: Duration) {
    std::thread::sleep(time);
}

/// One line on the machine: processors, load, date.
fn machine() -> Result<String> {
    let load = std::fs::read_to_string("/proc/loadavg")?;
    let load = load.split_whitespace().take(3).collect::<Vec<_>>().join(" ");
    let processors = std::thread::available_parallelism()?;
    let date = repo::output("date", &["--utc", "+%F"])?;
    Ok(format!("{processors} processors, load {load} (1, 5, 15 minutes), {}", date.trim()))
}

fn median(values: &[f64]) -> Option<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted.get(sorted.len() / 2).copied()
}

fn table(figures: &[Figure], machine: &str) -> String {
    let mut out = format!(
        "Measured by `cargo xtask figures`: medians of {RUNS}. {machine}.\n\n| figure | median | bound | all |\n| --- | --- | --- | --- |\n"
    );
    for Figure { name, unit, bound, values } in figures {
        let Some(median) = median(values) else { continue };
        let all: Vec<String> = values.iter().map(|value| format!("{value:.2}")).collect();
        out.push_str(&format!("| {name} | {median:.2} {unit} | {bound} {unit} | {} |\n", all.join(", ")));
    }
    out
}

/// The document with what stands between the two markers replaced.
fn replaced(document: &str, table: &str) -> Result<String> {
    let parts = document.split_once(BEGIN).and_then(|(head, rest)| Some((head, rest.split_once(END)?.1)));
    let (head, tail) = parts.with_context(|| format!("docs/figures.md lacks its markers {BEGIN} and {END}"))?;
    Ok(format!("{head}{BEGIN}\n{table}{END}{tail}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_and_its_place() {
        let figure = Figure { name: "x", unit: "s", bound: 1.0, values: vec![0.5, 0.1, 0.9] };
        let empty = Figure { name: "not measured", unit: "s", bound: 1.0, values: Vec::new() };
        let table = table(&[figure, empty], "here");
        assert!(table.ends_with("| x | 0.50 s | 1 s | 0.50, 0.10, 0.90 |\n"), "{table}");
        let document = format!("a\n{BEGIN}\nold\n{END}\nb\n");
        let new = replaced(&document, "new\n").unwrap();
        assert_eq!(new, format!("a\n{BEGIN}\nnew\n{END}\nb\n"));
        assert_eq!(replaced(&new, "new\n").unwrap(), new);
        assert!(replaced("a", "new").is_err());
    }
}
