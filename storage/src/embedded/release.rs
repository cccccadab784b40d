//! Lets go of tables in memory on a thread of its own.
//!
//! fjall frees a table in memory, row by row, when it takes the next one into use or drops an old picture, both under a lock that writers
//! need: ten milliseconds for some ten thousand rows. So each is held here as well until nobody else holds it, and freed here. Never holds
//! one that somebody may still read.

use std::any::Any;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::Duration;

/// How long a table that is out of use may wait to be freed.
const LOOK: Duration = Duration::from_millis(20);

/// A table in memory.
pub(super) type Held = Arc<dyn Any + Send + Sync>;

/// Takes what is out of use. The thread ends with it.
pub(super) struct Release(Sender<Held>);

impl Release {
    pub(super) fn new() -> std::io::Result<Self> {
        let (sender, receiver) = channel();
        std::thread::Builder::new().name("storage-free".to_owned()).spawn(move || free(&receiver))?;
        Ok(Self(sender))
    }

    /// Frees `table` when it is the last to hold it.
    pub(super) fn take(&self, table: Held) {
        // Without the thread it is freed wherever it is dropped last.
        let _ended = self.0.send(table);
    }
}

fn free(receiver: &Receiver<Held>) {
    let mut held: Vec<Held> = Vec::new();
    loop {
        let next = if held.is_empty() {
            receiver.recv().map_err(|_| RecvTimeoutError::Disconnected)
        } else {
            receiver.recv_timeout(LOOK)
        };
        match next {
            Ok(table) => held.push(table),
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => break,
        }
        // Nobody can begin to hold what only this list holds.
        held.retain(|table| Arc::strong_count(table) > 1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Tells where it was dropped.
    struct Told(Sender<Option<String>>);

    impl Drop for Told {
        fn drop(&mut self) {
            let _gone = self.0.send(std::thread::current().name().map(str::to_owned));
        }
    }

    #[test]
    fn a_table_is_freed_on_the_thread_as_soon_as_nobody_else_holds_it() {
        let (told, freed) = channel();
        let release = Release::new().unwrap();
        let reader: Held = Arc::new(Told(told.clone()));
        release.take(reader.clone());
        assert!(freed.recv_timeout(4 * LOOK).is_err(), "somebody reads it");
        drop(reader);
        assert_eq!(freed.recv().unwrap().as_deref(), Some("storage-free"));
        let unread: Held = Arc::new(Told(told));
        release.take(unread);
        assert_eq!(freed.recv().unwrap().as_deref(), Some("storage-free"));
    }
}
