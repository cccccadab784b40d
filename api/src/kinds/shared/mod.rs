//! What several kinds have in common: names, labels, quantities, pod specs, subresources, cells of tables.
//!
//! Never holds a kind.

pub mod cells;
pub mod config_data;
pub mod events;
pub mod image;
pub mod labels;
pub mod names;
pub mod parts;
pub mod pod_containers;
pub mod pod_defaults;
pub mod pod_probes;
pub mod pod_row;
pub mod pod_scheduling;
pub mod pod_security;
pub mod pod_update;
pub mod pod_validation;
pub mod pod_volumes;
pub mod pod_warnings;
pub mod rbac;
pub mod resources;
pub mod review;
pub mod rules;
pub mod service_prepare;
pub mod service_validation;
#[cfg(test)]
pub(crate) mod testing;
pub mod workload;
