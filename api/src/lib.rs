//! What Kubernetes' things are: kinds, schemas, encodings, patches, apply, selectors and field errors.
//!
//! Pure data and functions: no I/O, no async, no clock. Whoever needs the time passes it in.
#![forbid(unsafe_code)]

pub mod apply;
pub mod cel;
pub mod codec;
pub mod continuation;
pub mod cron;
pub mod custom;
pub mod features;
pub mod field_path;
#[cfg(any(test, feature = "fuzz"))]
pub mod fuzz;
pub mod gated;
pub mod internal;
pub mod json;
pub mod judgement;
pub mod kind;
pub mod kinds;
pub mod meta;
pub mod meta_validation;
pub mod patch;
pub mod pod_references;
pub mod quantity;
pub mod quota;
pub mod quote;
pub mod request;
pub mod schema;
pub mod selector;
pub mod served;
pub mod status;
pub mod value;
pub mod versions;
pub mod x509;
