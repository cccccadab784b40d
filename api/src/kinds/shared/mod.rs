//! What several kinds have in common: names, labels, quantities, pod specs, subresources, cells of tables.
//!
//! Never holds a kind.

pub mod labels;
pub mod names;
pub mod parts;
