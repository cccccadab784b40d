//! Writes that quotas of a namespace may count take turns, so that of many on one server none has to be made anew for another.
//!
//! Never needed for what is written to be right: the transaction sees to that, for those of other API servers too.

use crate::server::Server;
use parking_lot::Mutex;
use std::collections::HashMap;
use std::sync::{Arc, Weak};
use tokio::sync::OwnedMutexGuard;

/// A turn in each namespace in which somebody waits for one.
#[derive(Default)]
pub struct Turns(Mutex<HashMap<String, Weak<tokio::sync::Mutex<()>>>>);

impl Turns {
    fn of(&self, namespace: &str) -> Arc<tokio::sync::Mutex<()>> {
        let mut held = self.0.lock();
        if let Some(turn) = held.get(namespace).and_then(Weak::upgrade) {
            return turn;
        }
        held.retain(|_, turn| turn.strong_count() > 0);
        let turn = Arc::default();
        held.insert(namespace.to_owned(), Arc::downgrade(&turn));
        turn
    }
}

/// Waits for the turn of a write; it lasts until the value is dropped. `None` where no quota counts.
pub(super) async fn take(server: &Server, namespace: &str, subresource: &str) -> Option<OwnedMutexGuard<()>> {
    if namespace.is_empty() || !matches!(subresource, "" | "resize") {
        return None;
    }
    let quotas = server.caches.named("resourcequotas")?.snapshot();
    let counted = quotas.objects.keys().any(|key| *key.namespace == *namespace);
    if counted { Some(server.turns.of(namespace).lock_owned().await) } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn namespaces_have_turns_of_their_own_and_leave_none_behind() {
        let turns = Turns::default();
        let (a, again, b) = (turns.of("a"), turns.of("a"), turns.of("b"));
        assert!(Arc::ptr_eq(&a, &again) && !Arc::ptr_eq(&a, &b));
        let guard = a.clone().try_lock_owned().unwrap();
        assert!(again.try_lock().is_err() && b.try_lock().is_ok());
        drop((guard, a, again, b));
        turns.of("c");
        assert_eq!(turns.0.lock().keys().collect::<Vec<_>>(), ["c"]);
    }
}
