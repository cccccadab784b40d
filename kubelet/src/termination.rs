//! Reads the last words of a container: its termination message file or the tail of its log.

use std::io::{Read, Seek, SeekFrom};

use crate::cri::v1::ContainerStatus;
use crate::names;

/// Longest message taken from the file, bytes (upstream's `MaxContainerTerminationMessageLength`).
const MAX_FILE: u64 = 4096;
/// Longest message taken from the log, bytes.
const MAX_LOG: u64 = 2048;
/// Most lines taken from the log.
const MAX_LINES: usize = 80;

/// The message of an exited container: the runtime's own, then the file's, then by policy the end of the log.
pub(crate) async fn message(status: &ContainerStatus) -> String {
    let runtime = status.message.clone();
    let path = status.annotations.get(names::MESSAGE_PATH).map(String::as_str).unwrap_or_default();
    let file = status.mounts.iter().find(|mount| !path.is_empty() && mount.container_path == path);
    let host_path = file.map(|mount| mount.host_path.clone());
    let from_log =
        status.annotations.get(names::MESSAGE_POLICY).is_some_and(|policy| policy == "FallbackToLogsOnError")
            && status.exit_code != 0;
    let log_path = status.log_path.clone();
    let read = move || {
        let mut text = host_path.map(|path| tail(&path, MAX_FILE)).unwrap_or_default();
        if text.is_empty() && from_log {
            text = log_tail(&log_path);
        }
        if runtime.is_empty() {
            text
        } else if text.is_empty() {
            runtime
        } else {
            format!("{runtime}: {text}")
        }
    };
    tokio::task::spawn_blocking(read).await.unwrap_or_default()
}

/// Last `limit` bytes of a file as text; empty when it cannot be read.
fn tail(path: &str, limit: u64) -> String {
    let read = || -> std::io::Result<Vec<u8>> {
        let mut file = std::fs::File::open(path)?;
        let length = file.metadata()?.len();
        if length > limit {
            file.seek(SeekFrom::Start(length - limit))?;
        }
        let mut bytes = Vec::new();
        file.take(limit).read_to_end(&mut bytes)?;
        Ok(bytes)
    };
    read().map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default()
}

fn log_tail(path: &str) -> String {
    let text = tail(path, MAX_LOG * 8);
    let lines: Vec<&str> = text.lines().rev().take(MAX_LINES).collect();
    let mut message = String::new();
    for line in lines.into_iter().rev() {
        if let Some(record) = crate::logs::Record::parse(line.as_bytes()) {
            message.push_str(&String::from_utf8_lossy(record.content));
            if !record.partial {
                message.push('\n');
            }
        }
    }
    let excess = message.len().saturating_sub(usize::try_from(MAX_LOG).unwrap_or(usize::MAX));
    let start = (excess..message.len()).find(|&at| message.is_char_boundary(at)).unwrap_or(message.len());
    message.split_off(start)
}
