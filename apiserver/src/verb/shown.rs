//! Encoding objects and lists in the form that the client accepts.
//!
//! The common case, whole objects as JSON, sends the cache's bytes; everything else is decoded and encoded again.

use crate::answer::{Answer, Failure};
use crate::cache::Entry;
use crate::encoded::encode;
use crate::registry::columns::{self, Include, ListMeta};
use crate::registry::read::served;
use crate::road::negotiated::{Encoding, Form, Medium};
use crate::road::received::Received;
use crate::road::timed::{Work, during};
use api::json::{Value, json};
use api::kind::Kind;
use api::schema::{SchemaRef, native};
use api::status::Status;
use bytes::{Bytes, BytesMut};
use std::sync::Arc;

const META: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.";

/// The schema of a `meta/v1` type.
///
/// # Errors
/// 500 when the fact table lacks it.
pub fn meta_schema(name: &str) -> Result<SchemaRef<'static>, Failure> {
    let schema = native().schema(&format!("{META}{name}"));
    schema.ok_or_else(|| Status::internal(format!("no schema for {name}")).into())
}

/// `includeObject` of a table request.
///
/// # Errors
/// 400 for another word.
pub fn include(received: &Received) -> Result<Include, Failure> {
    match received.query.get("includeObject") {
        None | Some("" | "Metadata") => Ok(Include::Metadata),
        Some("None") => Ok(Include::None),
        Some("Object") => Ok(Include::Object),
        Some(other) => Err(Status::bad_request(format!("unrecognized includeObject value: {other:?}")).into()),
    }
}

/// One object.
///
/// # Errors
/// Those of encoding.
pub fn object(
    received: &Received,
    medium: Medium,
    kind: &'static Kind,
    entry: &Entry,
    code: u16,
    now: i64,
) -> Result<Answer, Failure> {
    let content_type = medium.encoding.content_type();
    if medium.form == Form::Whole && medium.encoding == Encoding::Json && !medium.pretty && entry.is_of(kind) {
        return Ok(line(code, content_type, &entry.json));
    }
    let body = match medium.form {
        Form::Whole => encode(medium, &during(Work::Decode, || served(kind, entry)), kind.schema())?,
        Form::Metadata(version) => {
            let whole = during(Work::Decode, || served(kind, entry));
            let shown = during(Work::Transform, || columns::metadata(&whole, version));
            encode(medium, &shown, meta_schema("PartialObjectMetadata")?)?
        }
        Form::MetadataList(_) => {
            let asked = "you requested PartialObjectMetadataList, but the requested object is not a list";
            return Err(other_form(asked, &kind.go_type("")));
        }
        Form::Table(version) => {
            let meta = ListMeta { revision: entry.revision.to_string(), ..ListMeta::default() };
            let include = include(received)?;
            let table = || columns::table(kind, version, &meta, std::iter::once(entry), include, now, true);
            let table = during(Work::Transform, table);
            encode(medium, &table, meta_schema("Table")?)?
        }
    };
    Ok(Answer::bytes(code, content_type, body))
}

/// 406 where an object is asked for as a list of them, or the other way round.
fn other_form(asked: &str, found: &str) -> Failure {
    Status { message: format!("{asked} (*{found})"), ..Status::not_acceptable("") }.into()
}

/// The cache's bytes as a line. Small ones are copied, which is quicker than a second piece; large ones are sent as they lie there.
fn line(code: u16, content_type: &'static str, json: &Bytes) -> Answer {
    if json.len() < LARGE {
        return Answer::bytes(code, content_type, [json, b"\n".as_slice()].concat());
    }
    let pieces = [json.clone(), Bytes::from_static(b"\n")].into_iter();
    Answer::pieces(code, content_type, Box::new(pieces), json.len() + 1)
}

/// A value that is not stored: a review, a scale, a status.
///
/// # Errors
/// Those of encoding.
pub fn value(medium: Medium, value: &Value, schema: SchemaRef<'_>, code: u16) -> Result<Answer, Failure> {
    let medium = Medium { form: Form::Whole, ..medium };
    Ok(Answer::bytes(code, medium.encoding.content_type(), encode(medium, value, schema)?))
}

/// A list.
///
/// # Errors
/// Those of encoding.
pub fn list(
    received: &Received,
    medium: Medium,
    kind: &'static Kind,
    meta: &ListMeta,
    entries: Vec<Arc<Entry>>,
    now: i64,
) -> Result<Answer, Failure> {
    let content_type = medium.encoding.content_type();
    let list_kind = kind.list_kind();
    let body = match medium.form {
        Form::Whole
            if medium.encoding == Encoding::Json && !medium.pretty && entries.iter().all(|entry| entry.is_of(kind)) =>
        {
            return Ok(joined(kind, &list_kind, meta, entries, content_type));
        }
        Form::Whole => {
            let item = |entry: &Arc<Entry>| {
                let mut value = served(kind, entry);
                if kind.custom.is_none() {
                    api::value::remove(&mut value, "kind");
                    api::value::remove(&mut value, "apiVersion");
                }
                value
            };
            let items: Vec<Value> = during(Work::Decode, || entries.iter().map(item).collect());
            let list =
                json!({"kind": list_kind, "apiVersion": kind.api_version(), "metadata": meta.value(), "items": items});
            let schema = kind.list_schema().ok_or_else(|| Status::internal(format!("no schema for {list_kind}")))?;
            encode(medium, &list, schema)?
        }
        Form::Metadata(_) => {
            let asked = "you requested PartialObjectMetadata, but the requested object is a list";
            return Err(other_form(asked, &kind.go_type("List")));
        }
        Form::MetadataList(version) => {
            let item = |entry: &Arc<Entry>| columns::metadata(&served(kind, entry), version);
            let items: Vec<Value> = during(Work::Transform, || entries.iter().map(item).collect());
            let list = json!({"kind": "PartialObjectMetadataList", "apiVersion": format!("meta.k8s.io/{version}"),
                "metadata": meta.value(), "items": items});
            encode(medium, &list, meta_schema("PartialObjectMetadataList")?)?
        }
        Form::Table(version) => {
            let include = include(received)?;
            let entries = entries.iter().map(AsRef::as_ref);
            let table = during(Work::Transform, || columns::table(kind, version, meta, entries, include, now, true));
            encode(medium, &table, meta_schema("Table")?)?
        }
    };
    Ok(Answer::bytes(200, content_type, body))
}

/// A list as the cache's own bytes, joined. Items carry no `kind` and `apiVersion` in a list, as upstream's do not.
fn joined(
    kind: &Kind,
    list_kind: &str,
    meta: &ListMeta,
    entries: Vec<Arc<Entry>>,
    content_type: &'static str,
) -> Answer {
    let prefix = format!("{{\"kind\":\"{}\",\"apiVersion\":\"{}\",", kind.kind, kind.api_version());
    if kind.custom.is_some() {
        let (head, tail) = around_custom(list_kind, &kind.api_version(), meta);
        return pieces(Pieces::new(head, prefix, entries, tail), content_type);
    }
    let mut head = format!("{{\"kind\":\"{list_kind}\",\"apiVersion\":\"{}\",\"metadata\":{{", kind.api_version());
    if !meta.revision.is_empty() {
        head.push_str(&format!("\"resourceVersion\":\"{}\"", meta.revision));
    }
    // Continue tokens are base64: nothing in them needs escaping.
    if let Some(next) = &meta.next {
        head.push_str(&format!(",\"continue\":\"{next}\""));
    }
    if let Some(remaining) = meta.remaining {
        head.push_str(&format!(",\"remainingItemCount\":{remaining}"));
    }
    head.push_str("},\"items\":[");
    pieces(Pieces::new(head, prefix, entries, "]}\n".to_owned()), content_type)
}

/// What stands around the items of a list of custom resources, which is a map in Go: names sorted, and a token in any case.
fn around_custom(list_kind: &str, api_version: &str, meta: &ListMeta) -> (String, String) {
    let mut tail = format!(
        "],\"kind\":\"{list_kind}\",\"metadata\":{{\"continue\":\"{}\"",
        meta.next.as_deref().unwrap_or_default()
    );
    if let Some(remaining) = meta.remaining {
        tail.push_str(&format!(",\"remainingItemCount\":{remaining}"));
    }
    if !meta.revision.is_empty() {
        tail.push_str(&format!(",\"resourceVersion\":\"{}\"", meta.revision));
    }
    tail.push_str("}}\n");
    (format!("{{\"apiVersion\":\"{api_version}\",\"items\":["), tail)
}

fn pieces(pieces: Pieces, content_type: &'static str) -> Answer {
    let length = pieces.length();
    Answer::pieces(200, content_type, Box::new(pieces), length)
}

/// The bytes of a list, piece by piece as they are sent. Small objects are copied together, so that few writes fill the records of TLS;
/// large ones are sent as they lie in the cache.
pub struct Pieces {
    head: Option<String>,
    /// What an item begins with in the cache and not in a list.
    prefix: String,
    entries: std::vec::IntoIter<Arc<Entry>>,
    /// A large item that follows what was sent last.
    large: Option<Bytes>,
    first: bool,
    /// What follows the items, until it is sent.
    tail: Option<String>,
}

/// About the size of a piece.
const PIECE: usize = 64 * 1024;
/// Objects from this size on are not copied.
const LARGE: usize = 16 * 1024;

impl Pieces {
    fn new(head: String, prefix: String, entries: Vec<Arc<Entry>>, tail: String) -> Pieces {
        Pieces { head: Some(head), prefix, entries: entries.into_iter(), large: None, first: true, tail: Some(tail) }
    }

    fn tail(&self) -> usize {
        self.tail.as_ref().map_or(0, String::len)
    }

    /// How many bytes of an object an item does without; its opening bracket is written for all.
    fn skipped(prefix: &str, json: &[u8]) -> usize {
        if json.starts_with(prefix.as_bytes()) { prefix.len() } else { 1.min(json.len()) }
    }

    /// Bytes of all of it, before the first piece is taken.
    fn length(&self) -> usize {
        let items =
            self.entries.as_slice().iter().map(|entry| entry.json.len() - Pieces::skipped(&self.prefix, &entry.json));
        // Each item's opening bracket, and the commas between them.
        let around = self.entries.len() * 2 - self.entries.len().min(1);
        self.head.as_ref().map_or(0, String::len) + items.sum::<usize>() + around + self.tail()
    }
}

impl Iterator for Pieces {
    type Item = Bytes;

    fn next(&mut self) -> Option<Bytes> {
        if let Some(large) = self.large.take() {
            return Some(large);
        }
        self.tail.as_ref()?;
        let few = self.entries.as_slice().iter().take(PIECE).map(|entry| entry.json.len() + 2);
        let mut room = self.head.as_ref().map_or(0, String::len) + self.tail();
        for length in few {
            room += length.min(LARGE);
            if room > PIECE + LARGE {
                break;
            }
        }
        let mut out = BytesMut::with_capacity(room);
        out.extend_from_slice(self.head.take().unwrap_or_default().as_bytes());
        while out.len() < PIECE {
            let Some(entry) = self.entries.next() else {
                out.extend_from_slice(self.tail.take().unwrap_or_default().as_bytes());
                break;
            };
            out.extend_from_slice(if std::mem::take(&mut self.first) { b"{" } else { b",{" });
            let item = entry.json.slice(Pieces::skipped(&self.prefix, &entry.json)..);
            if item.len() >= LARGE {
                self.large = Some(item);
                break;
            }
            out.extend_from_slice(&item);
        }
        Some(out.freeze())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::answer::Body;
    use api::codec;

    #[test]
    fn pieces_are_the_list_and_as_long_as_they_say() {
        let kind = api::kinds::by_gvk("", "v1", "ConfigMap").unwrap();
        let check = |sizes: &[usize]| {
            let entry = |(at, size): (usize, &usize)| {
                let object = json!({"kind": "ConfigMap", "apiVersion": "v1",
                    "metadata": {"name": format!("o-{at}"), "uid": "u"}, "data": {"a": "x".repeat(*size)}});
                let bytes = codec::json::encode(&object, kind.schema()).into();
                let key = storage::store::Key::new("configmaps", "ns", &format!("o-{at}"));
                Arc::new(Entry::new(kind, &key, 7, &bytes))
            };
            let entries: Vec<_> = sizes.iter().enumerate().map(entry).collect();
            let meta = ListMeta { revision: "9".to_owned(), ..ListMeta::default() };
            let answer = joined(kind, "ConfigMapList", &meta, entries, "application/json");
            let Body::Pieces(mut pieces, length) = answer.body else { panic!("a list is sent in pieces") };
            // Somebody sees the first by itself, and then the rest together.
            let first = pieces.next().unwrap();
            let mut rest = Body::Pieces(pieces, 0);
            rest.gather();
            let Body::Bytes(rest) = rest else { panic!("pieces were put together") };
            let text = [first, rest].concat();
            assert_eq!(text.len() as u64, length, "{sizes:?}");
            let list: Value = api::json::from_slice(&text).unwrap();
            assert_eq!(list["kind"], "ConfigMapList");
            let items = list["items"].as_array().unwrap();
            let got: Vec<usize> = items.iter().map(|item| item["data"]["a"].as_str().map_or(0, str::len)).collect();
            assert_eq!(got, sizes);
            assert!(items.iter().all(|item| item["kind"].is_null()));
        };
        check(&[]);
        check(&[1]);
        check(&[1, 2, 3]);
        check(&[LARGE, 1, LARGE * 9, LARGE, 5]);
        check(&vec![1000; 300]);
        check(&[PIECE; 3]);
    }

    #[test]
    fn lists_of_custom_resources_have_their_names_sorted() {
        let check = |next: Option<&str>, remaining, revision: &str, want: &str| {
            let meta = ListMeta { revision: revision.to_owned(), next: next.map(str::to_owned), remaining };
            let (head, tail) = around_custom("CronTabList", "stable.example.com/v1", &meta);
            assert_eq!(head + &tail, format!("{want}\n"));
        };
        check(
            None,
            None,
            "7",
            r#"{"apiVersion":"stable.example.com/v1","items":[],"kind":"CronTabList","metadata":{"continue":"","resourceVersion":"7"}}"#,
        );
        check(
            Some("dG9rZW4"),
            Some(3),
            "7",
            r#"{"apiVersion":"stable.example.com/v1","items":[],"kind":"CronTabList","metadata":{"continue":"dG9rZW4","remainingItemCount":3,"resourceVersion":"7"}}"#,
        );
    }
}
