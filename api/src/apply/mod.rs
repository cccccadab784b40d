//! Server-side apply: ownership of fields, merge and conflicts (KEP-555).
//!
//! `apply` merges a configuration into the live object, `update` keeps ownership for every other write. Both are pure;
//! time and names come with the `Manager`. Never defaults or validates the object, never converts between versions: who writes says
//! what the object is in those in which others own fields.

mod compare;
mod declared;
mod fields_v1;
mod managed;
mod manager;
mod merge;
mod path;
pub mod scale;
#[cfg(any(test, feature = "fuzz"))]
pub(crate) mod testing;
mod typed;
mod versions;

pub(crate) use declared::syntax as go_syntax;
pub use declared::{check as check_declared, named, typed as type_of};
pub use fields_v1::{decode as decode_fields, encode as encode_fields};
pub use managed::Operation;
pub use manager::{apply, apply_resetting, update};
pub use path::{FieldSet, Node, PathElement, Scalar};
pub use versions::{Unconverted, Versions};

use crate::json::Value;
use crate::status::Status;
use thiserror::Error;

/// Who writes.
#[derive(Clone, Copy, Debug)]
pub struct Manager<'a> {
    /// Name of the field manager; empty counts as `unknown`.
    pub manager: &'a str,
    /// Apply or anything else.
    pub operation: Operation,
    /// Version of the request: `apps/v1`.
    pub api_version: &'a str,
    /// Now, RFC 3339, UTC, seconds.
    pub time: &'a str,
    /// Empty for the object itself.
    pub subresource: &'a str,
    /// What the object is in other versions. Without it, owners of all versions are taken for owners in that of the request.
    pub versions: Option<&'a dyn Versions>,
}

/// An object whose owners cannot be told before another version of it is known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Later(pub Value);

/// A field that another manager owns with another value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Conflict {
    /// The owner as upstream shows it: `"kubectl-client-side-apply" using apps/v1`.
    pub manager: String,
    /// The field: `.spec.replicas`.
    pub path: String,
}

/// Why a configuration was not applied.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum ApplyError {
    /// Others own some of the fields, and force was not asked for: 409.
    #[error("{}", conflict_message(.0))]
    Conflicts(Vec<Conflict>),
    /// The configuration cannot be applied as it is: 400.
    #[error("{0}")]
    Invalid(String),
    /// The configuration is not of the type that it says it is: 500, as upstream has it.
    #[error("{0}")]
    Mistyped(String),
    /// Others own fields in a version that the object cannot be converted to: 500.
    #[error("{0}")]
    Unconverted(String),
    /// A version must be asked for first; the configuration is to be applied again then.
    #[error("another version is not known yet")]
    Later,
}

impl From<Unconverted> for ApplyError {
    fn from(why: Unconverted) -> ApplyError {
        match why {
            Unconverted::Never(why) => ApplyError::Unconverted(why),
            Unconverted::Later => ApplyError::Later,
        }
    }
}

impl ApplyError {
    /// The answer for clients: one cause per conflict.
    #[must_use]
    pub fn status(&self) -> Status {
        match self {
            ApplyError::Conflicts(conflicts) => {
                let causes: Vec<(String, String)> = conflicts
                    .iter()
                    .map(|conflict| (conflict.path.clone(), format!("conflict with {}", conflict.manager)))
                    .collect();
                Status::apply_conflict(self.to_string(), &causes)
            }
            ApplyError::Invalid(why) => Status::bad_request(why.as_str()),
            ApplyError::Mistyped(_) | ApplyError::Unconverted(_) | ApplyError::Later => {
                Status::foreign(500, "", self.to_string())
            }
        }
    }
}

/// The sentence of a 409, grouped by owner; expects the conflicts of one owner beside each other.
fn conflict_message(conflicts: &[Conflict]) -> String {
    if let [Conflict { manager, path }] = conflicts {
        return format!("Apply failed with 1 conflict: conflict with {manager}: {path}");
    }
    let mut lines = Vec::new();
    let mut last = "";
    for Conflict { manager, path } in conflicts {
        if manager != last {
            lines.push(format!("conflicts with {manager}:"));
            last = manager;
        }
        lines.push(format!("- {path}"));
    }
    format!("Apply failed with {} conflicts: {}", conflicts.len(), lines.join("\n"))
}
