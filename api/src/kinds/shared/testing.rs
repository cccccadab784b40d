//! How kinds are tested: data in, data out.
//!
//! Compiled for tests alone.

use crate::field_path::Errors;
use crate::json::Value;
use crate::kind::{Kind, Occasion, Writer};
use std::collections::BTreeMap;

/// Half past midnight on 2026-01-01, in Unix seconds: the `now` of rows.
pub(crate) const NOW: i64 = 1_767_225_600 + 1800;

/// An authority.
pub(crate) const AUTHORITY: &str = "-----BEGIN CERTIFICATE-----\n\
    MIIBfzCCASWgAwIBAgIUWgSs2iVT0/TciIGqdEvx5tqPhCcwCgYIKoZIzj0EAwIw\n\
    FDESMBAGA1UEAwwJYXV0aG9yaXR5MCAXDTI2MTEyMTE3MDUzOVoYDzIxMjYxMDI4\n\
    MTcwNTM5WjAUMRIwEAYDVQQDDAlhdXRob3JpdHkwWTATBgcqhkjOPQIBBggqhkjO\n\
    PQMBBwNCAATuVG64KMJYB3SXk1invvViW3XlL7RD5s1lV9lqg7QOXDxwneGZB8pV\n\
    nRr0AAhT2+Zb9hbTzJrqTodBaPBkjBRIo1MwUTAdBgNVHQ4EFgQUNGak+gBYQTVJ\n\
    cZm9uHaCwgPIbP8wHwYDVR0jBBgwFoAUNGak+gBYQTVJcZm9uHaCwgPIbP8wDwYD\n\
    VR0TAQH/BAUwAwEB/zAKBggqhkjOPQQDAgNIADBFAiBN3rJoF/Osaz7PB3hQM+Av\n\
    r1HradGRt2S6wFmm4RyctgIhAJHxbafdp36JzWErrd2uJu1Y5nt5bTrcXhY8QkmW\n\
    ffVW\n\
    -----END CERTIFICATE-----\n";

static EXTRA: BTreeMap<String, Vec<String>> = BTreeMap::new();

/// A write of nobody in particular at this time.
pub(crate) fn occasion(now: &str) -> Occasion<'_> {
    Occasion { now, writer: Writer { name: "anna", uid: "", groups: &[], extra: &EXTRA }, verb: "update" }
}

/// The defaults turn `before` into `after`, and change nothing when run again.
pub(crate) fn defaults(kind: &Kind, before: Value, after: &Value) {
    let mut object = before;
    kind.hooks.default(&mut object);
    assert_eq!(&object, after, "{kind:?}");
    kind.hooks.default(&mut object);
    assert_eq!(&object, after, "{kind:?}: run twice");
}

/// Validation says these sentences.
pub(crate) fn invalid(kind: &Kind, object: &Value, sentences: &[&str]) {
    assert_eq!(shown(&kind.hooks.validate(object)), sentences, "{kind:?} {object}");
}

/// Validation of a change says these sentences.
pub(crate) fn invalid_update(kind: &Kind, new: &Value, old: &Value, sentences: &[&str]) {
    assert_eq!(shown(&kind.hooks.validate_update(new, old)), sentences, "{kind:?} {new}");
}

/// The row has these cells, one per column.
pub(crate) fn row(kind: &Kind, object: &Value, cells: &Value) {
    let row = kind.hooks.row(object, NOW);
    assert_eq!(&Value::from(row.clone()), cells, "{kind:?}");
    assert_eq!(row.len(), kind.columns.len(), "{kind:?}");
}

/// The sentences of errors.
pub(crate) fn shown(errors: &Errors) -> Vec<String> {
    errors.iter().map(ToString::to_string).collect()
}

/// What is wrong with the metadata of a new object.
pub(crate) fn metadata(object: &Value, kind: &Kind) -> Errors {
    let mut errors = Errors::new();
    crate::meta_validation::Findings::of(object, None, kind).whole(&mut errors);
    errors
}
