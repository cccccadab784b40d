//! Two plain bounds on the requests in progress, of those that read and those that write: what there is without priority and fairness.
//!
//! Nobody waits, and administrators are never refused. Source: `--max-requests-inflight` and `--max-mutating-requests-inflight`.

use super::{InFlight, is_mutating};
use crate::authn::User;
use crate::road::received::RequestInfo;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// See the file.
pub(crate) struct Plain(Arc<State>);

struct State {
    /// Reading, writing; 0 bounds nothing.
    bounds: [usize; 2],
    taken: [AtomicUsize; 2],
    in_flight: InFlight,
}

/// A request in progress, until it is dropped.
pub(crate) struct Taken {
    state: Arc<State>,
    mutating: bool,
}

impl Drop for Taken {
    fn drop(&mut self) {
        if let Some(taken) = self.state.taken.get(usize::from(self.mutating)) {
            taken.fetch_sub(1, Ordering::AcqRel);
        }
        self.state.in_flight.add(false, self.mutating, -1);
    }
}

impl Plain {
    pub(crate) fn new(reading: usize, writing: usize, in_flight: InFlight) -> Plain {
        Plain(Arc::new(State { bounds: [reading, writing], taken: Default::default(), in_flight }))
    }

    /// A place among the requests in progress; `None` when there is none.
    pub(crate) fn take(&self, user: &User, info: &RequestInfo) -> Option<Taken> {
        let mutating = is_mutating(info);
        let index = usize::from(mutating);
        let (bound, taken) = (self.0.bounds.get(index)?, self.0.taken.get(index)?);
        let before = taken.fetch_add(1, Ordering::AcqRel);
        self.0.in_flight.add(false, mutating, 1);
        let place = Taken { state: Arc::clone(&self.0), mutating };
        let fits = *bound == 0 || before < *bound || user.groups.iter().any(|group| group == "system:masters");
        fits.then_some(place)
    }

    /// A second has passed.
    pub(crate) fn tell(&self) {
        self.0.in_flight.tell();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::road::received::Query;
    use prometheus::Registry;

    #[test]
    fn each_kind_of_request_has_its_bound() {
        let info = |method: &str| RequestInfo::parse(method, "/api/v1/namespaces/a/pods/b", &Query::default());
        let (user, root) = (User::new("jane", &[]), User::new("root", &["system:masters"]));
        let plain = Plain::new(2, 1, InFlight::new(&Registry::new()));
        let reads = [plain.take(&user, &info("GET")), plain.take(&user, &info("GET"))];
        assert!(reads.iter().all(Option::is_some));
        assert!(plain.take(&user, &info("GET")).is_none());
        assert!(plain.take(&root, &info("GET")).is_some());
        let write = plain.take(&user, &info("PUT"));
        assert!(write.is_some() && plain.take(&user, &info("DELETE")).is_none());
        drop(write);
        assert!(plain.take(&user, &info("DELETE")).is_some());
        drop(reads);
        assert!(plain.take(&user, &info("GET")).is_some());
        let open = Plain::new(0, 0, InFlight::new(&Registry::new()));
        let many: Vec<_> = (0..100).map(|_| open.take(&user, &info("PUT"))).collect();
        assert!(many.iter().all(Option::is_some));
    }
}
