//! The parts of a cluster as commands of their own, with upstream's flags: one table each, and one file that puts it together.
//!
//! Never holds a rule about a flag outside its table.

mod access;
mod accounts;
mod apiserver;
mod audit;
mod connection;
mod controller_manager;
mod delegated;
mod identity;
mod kubelet;
mod listen;
mod proxy;
mod scheduler;
mod secured;
mod settings;
mod table;
#[cfg(test)]
mod tests;
mod trust;

use futures::future::BoxFuture;
pub(crate) use settings::duration;
use settings::{Asked, Settings};
use std::io::Write as _;
use std::path::Path;
use table::Component;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// How a component is run with its settings.
type Run = fn(Settings, CancellationToken) -> BoxFuture<'static, anyhow::Result<()>>;

/// Every component: what it takes, how it runs, and how all its settings are read, for the tests.
struct Entry {
    component: Component,
    run: Run,
    #[cfg(test)]
    read_all: fn(&Settings) -> anyhow::Result<()>,
}

macro_rules! components {
    ($($module:ident,)*) => {
        &[$(Entry {
            component: $module::COMPONENT,
            run: |settings, stop| Box::pin($module::run(settings, stop)),
            #[cfg(test)]
            read_all: $module::read_all,
        },)*]
    };
}

static COMPONENTS: &[Entry] = components! {
    apiserver,
    controller_manager,
    scheduler,
    kubelet,
    proxy,
};

/// The component that a program called `path` is: links with upstream's names do.
pub(crate) fn called(path: &str) -> Option<&'static str> {
    let name = Path::new(path).file_name()?.to_str()?;
    COMPONENTS.iter().find(|entry| entry.component.upstream == name).map(|entry| entry.component.name)
}

/// Runs a component until it is interrupted.
///
/// # Errors
/// When there is none of this name, the flags cannot be, or it cannot start.
pub(crate) async fn run(name: &str, words: &[String]) -> anyhow::Result<()> {
    let entry = COMPONENTS.iter().find(|entry| entry.component.name == name);
    let entry = entry.ok_or_else(|| anyhow::anyhow!("there is no component {name:?}"))?;
    let settings = match Settings::parse(&entry.component, words)? {
        Asked::Help => return show(&help(&entry.component)?),
        Asked::Version => return show(&format!("Kubernetes {}\n", crate::cluster::VERSION)),
        Asked::Run(settings) => settings,
    };
    log(&settings)?;
    for warning in &settings.warnings {
        tracing::warn!("{warning}");
    }
    let stop = CancellationToken::new();
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let mut running = (entry.run)(settings, stop.clone());
    tokio::select! {
        ended = &mut running => return ended,
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
    }
    stop.cancel();
    tokio::select! {
        ended = running => ended,
        // A second one means now.
        _ = interrupt.recv() => Ok(()),
        _ = terminate.recv() => Ok(()),
    }
}

/// Logs as `-v` and `--logging-format` say: 0 to 2 is what an operator reads, more is for finding faults.
fn log(settings: &Settings) -> anyhow::Result<()> {
    let level = match settings.number::<u32>("v")? {
        0..=2 => "info",
        3..=5 => "debug",
        _ => "trace",
    };
    let filter = tracing_subscriber::EnvFilter::try_new(level)?;
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    match settings.text("logging-format").as_str() {
        "json" => log.json().init(),
        _ => log.init(),
    }
    Ok(())
}

fn help(component: &Component) -> anyhow::Result<String> {
    use std::fmt::Write as _;
    let mut out =
        format!("Usage: ironkeel {} [flags], as {} of Kubernetes v1.36\n\n", component.name, component.upstream);
    for line in component.lines()?.iter().filter(|line| !line.flag.is_empty()) {
        let default = if line.default.is_empty() { String::new() } else { format!(" (default {})", line.default) };
        let verdict = match line.verdict {
            table::Verdict::Same => String::new(),
            table::Verdict::Own => format!("  {}", line.why),
            other => format!("  {}: {}", other.word(), line.why),
        };
        writeln!(out, "  --{} {}{default}{verdict}", line.flag, line.takes.word())?;
    }
    Ok(out)
}

fn show(text: &str) -> anyhow::Result<()> {
    match std::io::stdout().write_all(text.as_bytes()) {
        // The reader has seen enough.
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(()),
        outcome => Ok(outcome?),
    }
}

/// The machine's name as upstream makes it the node's: the flag's or the host's, trimmed and small.
fn host_name(given: &str) -> String {
    let machine = || nix::unistd::gethostname().ok().and_then(|name| name.into_string().ok());
    let name = if given.is_empty() { machine().unwrap_or_else(|| "localhost".to_owned()) } else { given.to_owned() };
    name.trim().to_ascii_lowercase()
}

/// A name that no other process has, for the Lease: the machine's and chance.
fn identity_of_process() -> String {
    format!("{}_{:016x}{:016x}", host_name(""), rand::random::<u64>(), rand::random::<u64>())
}
