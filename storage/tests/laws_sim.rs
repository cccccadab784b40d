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
