//! `/ironkeel/backup`: the whole store as one file, streamed while the server goes on.
//!
//! No role names the path, so by default it is for `system:masters` alone: the file holds every Secret. Never keeps more of it than a few blocks.

use crate::answer::{self, Answer, Failure};
use crate::road::received::Received;
use crate::server::Server;
use api::status::Status;
use bytes::Bytes;
use futures::StreamExt as _;
use storage::store::backup::BackupError;
use tokio::runtime::Handle;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

/// Where it is.
pub const PATH: &str = "/ironkeel/backup";

/// Blocks that wait for a slow client.
const AHEAD: usize = 4;

/// Whether the past of a resource is kept for minutes only, so that a restore may have to leave some of it out.
#[must_use]
pub fn short_lived(resource: &str) -> bool {
    api::kinds::ALL.iter().any(|kind| kind.short_history && kind.group_resource() == resource)
}

/// Answers a GET with the backup.
///
/// # Errors
/// 500 or 503 when the store cannot be read. Later errors end the stream before its end, and the file is refused.
pub async fn answer(server: &Server, received: &Received) -> Result<Answer, Failure> {
    const MEDIA: &str = "application/octet-stream";
    if received.method.as_str() == "HEAD" {
        return Ok(Answer::bytes(200, MEDIA, ""));
    }
    let mut backup = server.store.backup(short_lived);
    let first = backup.next().await.map_err(|error| failure(&error))?;
    let (send, receive) = mpsc::channel::<Result<Bytes, std::io::Error>>(AHEAD);
    let (runtime, stop) = (Handle::current(), server.ends.stop.clone());
    // Reading and packing takes the processor for milliseconds at a time, which those who share this worker should not feel.
    tokio::task::spawn_blocking(move || {
        runtime.block_on(async {
            loop {
                let next = tokio::select! {
                    () = stop.cancelled() => Err(std::io::Error::other("the server stops")),
                    next = backup.next() => match next {
                        Ok(None) => return,
                        Ok(Some(bytes)) => Ok(bytes),
                        Err(error) => {
                            tracing::warn!(%error, "a backup failed");
                            Err(std::io::Error::other(error))
                        }
                    },
                };
                let failed = next.is_err();
                if send.send(next).await.is_err() || failed {
                    return;
                }
            }
        });
    });
    let first = futures::stream::iter(first.map(Ok));
    let answer = answer::stream(MEDIA, first.chain(ReceiverStream::new(receive)));
    Ok(answer.with("content-disposition", "attachment; filename=\"ironkeel.backup\""))
}

fn failure(error: &BackupError) -> Failure {
    match error {
        BackupError::Store(storage::store::StoreError::Unavailable(why)) => Status::unavailable(why.clone()).into(),
        error => Status::internal(error).into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_changes_without_end_is_short_lived() {
        assert!(short_lived("events") && short_lived("leases.coordination.k8s.io"));
        assert!(!short_lived("pods") && !short_lived("secrets") && !short_lived("leases"));
    }
}
