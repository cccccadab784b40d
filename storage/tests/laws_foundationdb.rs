//! The FoundationDB engine keeps the laws, on one fdbserver and on three with `double`.

#[path = "fdb/mod.rs"]
mod cluster;
#[path = "fdb/laws.rs"]
mod place;

mod single {
    use std::sync::Arc;

    use storage::kv::Kv;

    use crate::cluster::Cluster;
    use crate::place::Place;

    static PLACE: Place = Place::new(Cluster::single);

    fn open(_seed: u64) -> Arc<dyn Kv> {
        PLACE.open()
    }

    storage::laws!(open, 1);
}

mod double {
    use std::sync::Arc;

    use storage::kv::Kv;

    use crate::cluster::Cluster;
    use crate::place::Place;

    static PLACE: Place = Place::new(Cluster::double);

    fn open(_seed: u64) -> Arc<dyn Kv> {
        PLACE.open()
    }

    storage::laws!(open, 1);
}
