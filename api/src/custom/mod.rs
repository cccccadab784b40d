//! Custom resources: what a CustomResourceDefinition says, as schemas, validation and kinds like any other.
//!
//! A definition gives one `Kind` per served version, so that everything that works on kinds works on these. Never serves,
//! stores or watches; never knows a single definition.

pub mod cells;
pub mod conversion;
pub mod expressions;
pub mod formats;
pub mod kinds;
pub mod lists;
pub mod names;
pub mod schema;
pub mod settle;
pub mod structural;
pub mod timed;
pub mod types;
pub mod validate;

#[cfg(test)]
mod tests;
