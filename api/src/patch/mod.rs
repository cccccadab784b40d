//! JSON patch, JSON merge patch and strategic merge patch, each a function from a document and a patch to a document.
//!
//! Never decodes or validates the result against a schema; the caller does, as for a body.

pub mod blame;
pub mod convert;
pub mod json;
pub mod merge;
pub mod strategic;

use crate::json::Value;
use crate::status::Status;
use thiserror::Error;

/// Why a patch was not applied.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum PatchError {
    /// The patch itself is malformed: 400.
    #[error("{0}")]
    BadRequest(String),
    /// More operations than one patch may have: 413.
    #[error("{0}")]
    TooLarge(String),
    /// The patch is well-formed and upstream has no word for what is wrong with it: 500 without a reason.
    #[error("{0}")]
    Failed(String),
    /// The patch is well-formed and does not fit this document: 422.
    #[error("{0}")]
    Unprocessable(String),
}

impl PatchError {
    /// The patch does not fit. Upstream keeps the reason to itself and clients get one sentence for all.
    fn unfit() -> PatchError {
        PatchError::Unprocessable("the server rejected our request due to an error in our request".to_owned())
    }

    /// The answer for clients.
    #[must_use]
    pub fn status(&self) -> Status {
        match self {
            PatchError::BadRequest(why) => Status::bad_request(why.as_str()),
            PatchError::TooLarge(why) => Status::too_large(why.as_str()),
            PatchError::Failed(why) => Status::foreign(500, "", why.clone()),
            PatchError::Unprocessable(why) => Status::unprocessable(why.as_str()),
        }
    }
}

/// What Go's decoder calls a value of JSON.
#[must_use]
pub fn kind_word(value: &Value) -> &'static str {
    match value {
        Value::Object(_) => "object",
        Value::Array(_) => "array",
        Value::String(_) => "string",
        Value::Number(_) => "number",
        Value::Bool(_) | Value::Null => "bool",
    }
}
