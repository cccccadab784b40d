//! Tables and metadata-only forms of objects (KEP-555, server-side printing).
//!
//! Cells come from the kind; this file only arranges them.

use crate::cache::Entry;
use crate::registry::read::served;
use api::json::{Value, json};
use api::kind::Kind;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

/// What a table row carries of its object (`includeObject`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Include {
    /// Nothing.
    None,
    /// Metadata.
    Metadata,
    /// All of it.
    Object,
}

/// Fields of a list's metadata.
#[derive(Clone, Debug, Default)]
pub struct ListMeta {
    /// The list's version; empty for objects that are in no store.
    pub revision: String,
    /// Token of the next page.
    pub next: Option<String>,
    /// Objects after this page.
    pub remaining: Option<usize>,
}

impl ListMeta {
    /// As `metadata` of a list.
    #[must_use]
    pub fn value(&self) -> Value {
        let mut out = json!({});
        if !self.revision.is_empty() {
            api::value::set(&mut out, "resourceVersion", self.revision.clone());
        }
        if let Some(next) = &self.next {
            api::value::set(&mut out, "continue", next.clone());
        }
        if let Some(remaining) = self.remaining {
            api::value::set(&mut out, "remainingItemCount", remaining);
        }
        out
    }
}

/// The definitions of a kind's columns, made once.
fn definitions(kind: &'static Kind) -> Arc<[Value]> {
    // A description is never given back, so its place stands for it.
    static MADE: Mutex<BTreeMap<usize, Arc<[Value]>>> = Mutex::new(BTreeMap::new());
    let place = std::ptr::from_ref(kind).addr();
    let mut made = MADE.lock().unwrap_or_else(PoisonError::into_inner);
    let own = made.entry(place).or_insert_with(|| {
        let descriptions = openapi::columns::descriptions(kind);
        let columns = kind.columns.iter().zip(descriptions).map(|(column, description)| {
            json!({"name": column.name, "type": column.kind, "format": column.format,
                   "description": description, "priority": column.priority})
        });
        columns.collect()
    });
    Arc::clone(own)
}

/// A `Table` of objects. `now` is in Unix seconds; `headed` adds the column definitions.
#[must_use]
pub fn table<'a>(
    kind: &'static Kind,
    version: &str,
    meta: &ListMeta,
    entries: impl Iterator<Item = &'a Entry>,
    include: Include,
    now: i64,
    headed: bool,
) -> Value {
    let rows: Vec<Value> = entries.map(|entry| row(kind, version, entry, include, now)).collect();
    let columns = if headed { definitions(kind) } else { Arc::default() };
    json!({
        "kind": "Table",
        "apiVersion": format!("meta.k8s.io/{version}"),
        "metadata": meta.value(),
        "columnDefinitions": &columns[..],
        "rows": rows,
    })
}

fn row(kind: &'static Kind, version: &str, entry: &Entry, include: Include, now: i64) -> Value {
    let object = served(kind, entry);
    let cells = kind.hooks.row(&object, now);
    match include {
        Include::None => json!({"cells": cells}),
        Include::Metadata => json!({"cells": cells, "object": metadata(&object, version)}),
        Include::Object => json!({"cells": cells, "object": object}),
    }
}

/// `PartialObjectMetadata` of an object.
#[must_use]
pub fn metadata(object: &Value, version: &str) -> Value {
    json!({
        "kind": "PartialObjectMetadata",
        "apiVersion": format!("meta.k8s.io/{version}"),
        "metadata": object.get("metadata").cloned().unwrap_or_default(),
    })
}
