//! What several kinds have in common: names, labels, quantities, pod specs, subresources, cells of tables.
//!
//! Never holds a kind.

pub mod addresses;
pub mod admission_rules;
pub mod autoscaler;
pub mod autoscaler_v1;
pub mod cells;
pub mod conditions;
pub mod config_data;
pub mod device_claims;
pub mod device_results;
pub mod device_slices;
pub mod device_versions;
pub mod devices;
pub mod difference;
pub mod events;
pub mod flow_control;
pub mod image;
pub mod job_indexes;
pub mod job_spec;
pub mod job_status;
pub mod labels;
pub mod names;
pub mod node_labels;
pub mod parameters;
pub mod parts;
pub mod pod_containers;
pub mod pod_defaults;
pub mod pod_groups;
pub mod pod_probes;
pub mod pod_row;
pub mod pod_scheduling;
pub mod pod_security;
pub mod pod_update;
pub mod pod_validation;
pub mod pod_volumes;
pub mod pod_warnings;
pub mod quantities;
pub mod rbac;
pub mod references;
pub mod resource_names;
pub mod resources;
pub mod review;
pub mod rules;
pub mod selector_cell;
pub mod semver;
pub mod service_prepare;
pub mod service_validation;
pub mod signers;
#[cfg(test)]
pub(crate) mod testing;
pub mod through;
pub mod volume_claims;
pub mod volume_sources;
pub mod webhooks;
pub mod workload;
