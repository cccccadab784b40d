//! The binary `ironkeel`: flags, certificates, assembly; nothing else.

mod backup;
mod bounds;
mod check;
mod cluster;
mod component;
mod dns;
mod flags;
mod fleet;
mod join;
mod kubeconfig;
mod memory;
mod node;
mod pki;
mod place;
mod profile;
mod progress;
mod restore;
mod rewrite;
mod up;

use clap::{CommandFactory as _, Parser as _};
use flags::{Command, Flags};
use std::io::Write as _;
use std::process::ExitCode;

fn main() -> ExitCode {
    let mut words: Vec<std::ffi::OsString> = std::env::args_os().collect();
    if let Some(name) = words.first().and_then(|path| component::called(&path.to_string_lossy())) {
        words.insert(1, name.into());
    }
    let flags = Flags::parse_from(words);
    // The first provider wins for the whole process; two would panic later.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().worker_threads(workers()).build() {
        Ok(runtime) => runtime,
        Err(error) => return fail(&anyhow::Error::new(error).context("the runtime could not be started")),
    };
    let outcome = runtime.block_on(run(flags));
    // Threads that block in a system call must not keep the process.
    runtime.shutdown_timeout(std::time::Duration::from_secs(2));
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(&error),
    }
}

fn workers() -> usize {
    std::thread::available_parallelism().map_or(2, std::num::NonZeroUsize::get).clamp(2, 8)
}

/// One sentence with its causes, on standard error.
fn fail(error: &anyhow::Error) -> ExitCode {
    eprintln!("ironkeel: {error:#}");
    ExitCode::FAILURE
}

async fn run(flags: Flags) -> anyhow::Result<()> {
    tokio::spawn(memory::give_back());
    match flags.command {
        Command::Up(flags) => Box::pin(up::run(*flags)).await,
        Command::Down(flags) => node::down(&flags).await,
        Command::Reset(flags) => node::reset(&flags).await,
        Command::Image(flags) => node::image(&flags).await,
        Command::RewriteEncryption(flags) => rewrite::run(&flags).await,
        Command::Node(flags) => join::run(flags).await,
        Command::Backup(flags) => backup::run(&flags).await,
        Command::Restore(flags) => restore::run(&flags).await,
        Command::Check(flags) => check::run(&flags).await,
        Command::Apiserver(flags) => component::run("apiserver", &flags.words).await,
        Command::ControllerManager(flags) => component::run("controller-manager", &flags.words).await,
        Command::Scheduler(flags) => component::run("scheduler", &flags.words).await,
        Command::Kubelet(flags) => component::run("kubelet", &flags.words).await,
        Command::Proxy(flags) => component::run("proxy", &flags.words).await,
        Command::Completion { shell } => {
            let mut command = Flags::command();
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut command, "ironkeel", &mut script);
            match std::io::stdout().write_all(&script) {
                // The reader has seen enough.
                Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(()),
                outcome => Ok(outcome?),
            }
        }
    }
}
