//! The sim engine keeps the laws: all of them with tasks switched between any two steps, and those of engines with faults under chaos.

mod calm {
    use std::sync::Arc;

    use storage::kv::Kv;
    use storage::sim::{Faults, Sim};

    fn open(seed: u64) -> Arc<dyn Kv> {
        Arc::new(Sim::new(seed, Faults::DELAYS))
    }

    storage::laws!(open, 4);
}

mod chaos {
    use std::sync::Arc;

    use storage::kv::Kv;
    use storage::sim::{Faults, Sim};

    fn open(seed: u64) -> Arc<dyn Kv> {
        Arc::new(Sim::new(seed, Faults::CHAOS))
    }

    storage::laws!(faulty open, 20);
}

/// The engine also refuses at any step; most laws cannot be put to work then, this one is about it.
#[test]
fn errors_tell_the_truth_when_everything_fails() {
    use std::sync::Arc;

    use storage::laws;
    use storage::sim::{Faults, Sim};

    let faults = Faults { unavailable: 30, unknown: 200, ..Faults::CHAOS };
    laws::run("errors_tell_the_truth", &|seed| Arc::new(Sim::new(seed, faults)), 200, |case| {
        Box::pin(laws::store::errors_tell_the_truth(case))
    });
}
