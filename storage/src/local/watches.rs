//! Who waits for a change of which key.
//!
//! Never says what changed: a woken waiter looks for itself.

use std::collections::HashMap;

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::watch;

/// Waiters by key.
#[derive(Debug, Default)]
pub(crate) struct Watches(Mutex<HashMap<Bytes, watch::Sender<()>>>);

impl Watches {
    /// A receiver that is marked changed by every later [`Watches::notify`] of the key.
    pub(crate) fn subscribe(&self, key: &[u8]) -> watch::Receiver<()> {
        let mut map = self.0.lock();
        if let Some(sender) = map.get(key) {
            return sender.subscribe();
        }
        let (sender, receiver) = watch::channel(());
        map.insert(Bytes::copy_from_slice(key), sender);
        receiver
    }

    /// Wakes the waiters of the keys. To be called after the change is visible.
    pub(crate) fn notify<'a>(&self, keys: impl Iterator<Item = &'a Bytes>) {
        let mut map = self.0.lock();
        if map.is_empty() {
            return;
        }
        for key in keys {
            if let Some(sender) = map.get(key)
                && sender.send(()).is_err()
            {
                map.remove(key);
            }
        }
    }
}
