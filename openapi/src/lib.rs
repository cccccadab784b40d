//! How the API is described: discovery and OpenAPI, derived from the table of kinds.
//!
//! Builds documents as values and bytes; never serves them and never lists a kind by hand.
#![forbid(unsafe_code)]

pub mod aggregated;
pub mod columns;
pub mod custom;
pub mod discovery;
pub mod document;
pub mod gnostic;
mod operation;
mod paths;
pub mod schemas;

#[cfg(test)]
mod tests {
    mod columns;
    mod documents;
    mod upstream;
}
