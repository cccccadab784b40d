//! The kernel's side: scripts to `nft`, flows to `conntrack`, what bridged packets show the firewall. Decides nothing.

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::Stdio;

use tokio::io::AsyncWriteExt as _;
use tokio::process::Command;

use crate::flows::Flows;
use crate::plan::Family;
use crate::rules::removal;

/// Where programs that only root uses may live although `PATH` does not say so.
const SYSTEM_DIRECTORIES: [&str; 3] = ["/usr/local/sbin", "/usr/sbin", "/sbin"];

/// Why the kernel's rules are not as they should be.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A program could not be started.
    #[error("{program} cannot be started")]
    Start {
        /// The program.
        program: &'static str,
        /// What the system said.
        source: std::io::Error,
    },
    /// It ended badly.
    #[error("{program} failed: {message}")]
    Failed {
        /// The program.
        program: &'static str,
        /// What it said.
        message: String,
    },
}

fn search_path() -> OsString {
    let own = std::env::var_os("PATH").unwrap_or_default();
    let directories = std::env::split_paths(&own).chain(SYSTEM_DIRECTORIES.map(PathBuf::from));
    std::env::join_paths(directories).unwrap_or(own)
}

async fn run(program: &'static str, arguments: &[String], input: &str) -> Result<(), Error> {
    let failed = |source| Error::Start { program, source };
    let mut child = Command::new(program)
        .args(arguments)
        .env("PATH", search_path())
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .map_err(failed)?;
    if let Some(mut stdin) = child.stdin.take() {
        // A program that ends without reading says why on its standard error; that is the better message.
        let _ = stdin.write_all(input.as_bytes()).await;
    }
    let output = child.wait_with_output().await.map_err(failed)?;
    if output.status.success() {
        return Ok(());
    }
    Err(Error::Failed { program, message: String::from_utf8_lossy(&output.stderr).trim().to_owned() })
}

/// Runs a script as one transaction.
///
/// # Errors
/// [`Error`], and then nothing has changed.
pub async fn apply(script: &str) -> Result<(), Error> {
    if script.is_empty() {
        return Ok(());
    }
    run("nft", &["-f".to_owned(), "-".to_owned()], script).await
}

/// Whether the table with its chains is there.
pub async fn is_there(family: Family, table: &str) -> bool {
    let family = if family == Family::V4 { "ip" } else { "ip6" };
    let arguments = ["list", "chain", family, table, "services"].map(str::to_owned);
    run("nft", &arguments, "").await.is_ok()
}

/// Takes a proxy's tables away. What is gone already is no error.
///
/// # Errors
/// As for [`apply`]; a kernel without IPv6 has no such table and is none.
pub async fn remove(table: &str) -> Result<(), Error> {
    apply(&removal(Family::V4, table)).await?;
    if is_there(Family::V6, table).await {
        apply(&removal(Family::V6, table)).await?;
    }
    Ok(())
}

/// Deletes flows. Where there is no `conntrack`, they stay until they time out, and a line says so.
pub async fn forget(flows: impl IntoIterator<Item = Flows>) {
    for flows in flows {
        match run("conntrack", &flows.arguments(), "").await {
            Ok(()) => {}
            // It also fails when there was nothing to delete.
            Err(Error::Failed { message, .. }) if message.contains("0 flow entries") => {}
            Err(error @ Error::Start { .. }) => {
                tracing::warn!(%error, "UDP flows of endpoints that left stay until they time out");
                return;
            }
            Err(error) => tracing::warn!(%error, "UDP flows not deleted"),
        }
    }
}

const BRIDGED: [&str; 2] =
    ["/proc/sys/net/bridge/bridge-nf-call-iptables", "/proc/sys/net/bridge/bridge-nf-call-ip6tables"];

/// Lets the firewall see packets between pods of one bridge, without which an answer keeps the endpoint's address and its client does not
/// know it. Returns whether it does.
pub async fn show_bridged() -> bool {
    if tokio::fs::metadata(BRIDGED[0]).await.is_err()
        && let Err(error) = run("modprobe", &["br_netfilter".to_owned()], "").await
    {
        tracing::debug!(%error, "br_netfilter not loaded");
    }
    let mut seen = true;
    for file in BRIDGED {
        if tokio::fs::read_to_string(file).await.is_ok_and(|text| text.trim() == "1") {
            continue;
        }
        if let Err(error) = tokio::fs::write(file, "1\n").await {
            tracing::warn!(%error, file, "bridged packets do not pass the firewall; traffic to Services gets the node's address");
            seen = false;
        }
    }
    seen
}
