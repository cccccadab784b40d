//! The table of scenarios: one file and one line each.

use crate::scenario::Scenario;

macro_rules! scenarios {
    ($($name:ident,)*) => {
        $(mod $name;)*
        /// Every scenario, in the order in which they run.
        pub(crate) const ALL: &[&Scenario] = &[$(&$name::SCENARIO,)*];
    };
}

scenarios! {
    create,
    get,
    update_status,
    patch,
    apply,
    delete,
    list,
    list_bandwidth,
    list_selective,
    pods,
    watch,
    watch_fan_out,
    watch_selective,
    watch_idle,
    watch_stalled,
    slow_clients,
    informer_storm,
    informer_large,
    leases,
    namespace_deletion,
    mixed,
    definitions,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique_and_fit_a_namespace() {
        for (at, scenario) in ALL.iter().enumerate() {
            assert!(ALL.iter().skip(at + 1).all(|other| other.name != scenario.name), "{}", scenario.name);
            assert!(
                scenario.name.len() < 40 && scenario.name.chars().all(|c| c.is_ascii_lowercase() || c == '_'),
                "{}",
                scenario.name
            );
            assert!(scenario.about.ends_with('.'), "{}", scenario.name);
        }
    }
}
