//! Cells of tables that several kinds show.
//!
//! Never takes the time: `now` comes in.

use crate::json::Value;
use crate::kind::Column;
use crate::{meta, value};

/// Container names of a pod template.
pub const CONTAINERS: Column = Column::text("Containers").wide().says("Names of each container in the template.");
/// Images of a pod template.
pub const IMAGES: Column = Column::text("Images").wide().says("Images referenced by each container in the template.");
/// The selector of a workload.
pub const SELECTOR: Column = Column::text("Selector").wide().of("spec.selector");

/// `metadata.name`.
#[must_use]
pub fn name(object: &Value) -> Value {
    meta::name(object).into()
}

/// The age.
#[must_use]
pub fn age(object: &Value, now: i64) -> Value {
    meta::age(object, now).into()
}

/// The integer at a path, 0 when absent.
#[must_use]
pub fn count(object: &Value, path: &str) -> Value {
    value::int(object, path).unwrap_or_default().into()
}

/// The text at a path.
#[must_use]
pub fn text(object: &Value, path: &str) -> Value {
    value::text(object, path).into()
}

/// The text at a path, or a stand-in.
#[must_use]
pub fn text_or(object: &Value, path: &str, otherwise: &str) -> Value {
    match value::text(object, path) {
        "" => otherwise.into(),
        text => text.into(),
    }
}

/// One field of each element, joined by commas.
#[must_use]
pub fn joined(list: &[Value], name: &str) -> String {
    let texts: Vec<&str> = list.iter().map(|element| value::text(element, name)).collect();
    texts.join(",")
}

/// The first three, and how many more.
#[must_use]
pub fn first_three(all: &[String], none: &str) -> String {
    let shown = all.get(..3.min(all.len())).unwrap_or_default().join(",");
    match all.len() {
        0 => none.to_owned(),
        1..=3 => shown,
        more => format!("{shown} + {} more...", more - 3),
    }
}
