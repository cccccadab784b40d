//! The control plane alone, driven by stock kubectl, by plain requests and by a kube-rs client. No containers: pods stay pending.

mod aggregated;
mod apis;
mod audit;
mod backup;
mod bad_input;
mod certificates;
mod client;
mod clients;
mod components;
mod conversion;
mod custom;
mod encryption;
mod every_kind;
mod fairness;
mod floods;
mod identities;
mod listener;
mod objects;
mod permissions;
mod policies;
mod process;
mod profiles;
mod webhooks;
mod workloads;
