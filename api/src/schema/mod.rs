//! Structural schemas: what fields a type has, how lists merge, what is required, what protobuf calls them.
//!
//! Native types come from one generated table of facts; custom resources give the same `Types`. Never holds behaviour
//! of a single kind.

pub mod defaults;
mod facts;
mod types;

pub use facts::native;
pub(crate) use types::Union;

pub use types::{Field, ListKind, MapKind, Marks, OneOf, PatchStrategy, SchemaRef, Shape, TypeDef, TypeId, Types};
