//! Frames of a watch in the client's encoding.
//!
//! Never decides what is told.

use crate::answer::Failure;
use crate::cache::Entry;
use crate::encoded::bare;
use crate::registry::columns::{self, Include, ListMeta};
use crate::registry::read::served;
use crate::road::negotiated::{Encoding, Form, Medium};
use crate::road::timed::{Work, during};
use crate::verb::shown;
use api::json::{Value, json};
use api::kind::Kind;
use api::status::Status;
use bytes::{BufMut as _, Bytes, BytesMut};

/// Marks the bookmark behind the last initial event.
const INITIAL_END: &str = "k8s.io/initial-events-end";

/// Bytes of a frame of JSON beside its object, at most.
const AROUND: usize = 32;

/// Writes frames in the client's encoding.
#[derive(Clone, Copy)]
pub(super) struct Frames {
    pub(super) kind: &'static Kind,
    pub(super) medium: Medium,
    pub(super) include: Include,
}

impl PartialEq for Frames {
    fn eq(&self, other: &Frames) -> bool {
        std::ptr::eq(self.kind, other.kind) && self.medium == other.medium && self.include == other.include
    }
}

impl Frames {
    /// The bytes of an object that need nothing but a frame around them.
    pub(super) fn as_it_is<'a>(&self, entry: &'a Entry) -> Option<&'a Bytes> {
        let plain = self.medium.form == Form::Whole && self.medium.encoding == Encoding::Json;
        (plain && entry.is_of(self.kind)).then_some(&entry.json)
    }

    /// The first frame differs from the others.
    pub(super) fn has_heads(&self) -> bool {
        matches!(self.medium.form, Form::Table(_))
    }

    /// Bytes for frames of JSON around objects of these lengths, of as many as fill `most`.
    pub(super) fn room(lengths: impl Iterator<Item = usize>, most: usize) -> usize {
        let mut room = 0;
        for length in lengths {
            room += length + AROUND;
            if room >= most {
                break;
            }
        }
        room
    }

    /// What happened to an object. `headed` says whether a table has told its columns.
    pub(super) fn object(
        &self,
        out: &mut BytesMut,
        change: &str,
        entry: &Entry,
        revision: u64,
        now: i64,
        headed: &mut bool,
    ) {
        if let Some(json) = self.as_it_is(entry) {
            Frames::json(out, change, json);
            return;
        }
        let (value, schema) = match self.medium.form {
            Form::Whole => (served(self.kind, entry), Ok(self.kind.schema())),
            Form::Metadata(version) | Form::MetadataList(version) => {
                (columns::metadata(&served(self.kind, entry), version), shown::meta_schema("PartialObjectMetadata"))
            }
            Form::Table(version) => {
                let meta = ListMeta { revision: revision.to_string(), ..ListMeta::default() };
                let one = std::iter::once(entry);
                let table = columns::table(self.kind, version, &meta, one, self.include, now, !*headed);
                *headed = true;
                (table, shown::meta_schema("Table"))
            }
        };
        self.value(out, change, &value, schema);
    }

    /// A version and nothing else.
    pub(super) fn bookmark(&self, out: &mut BytesMut, revision: u64, end_of_initial: bool) {
        let mut meta = json!({"resourceVersion": revision.to_string()});
        if end_of_initial {
            api::value::set(&mut meta, "annotations", json!({INITIAL_END: "true"}));
        }
        let (kind, api_version, schema) = match self.medium.form {
            Form::Metadata(version) | Form::MetadataList(version) => {
                ("PartialObjectMetadata", format!("meta.k8s.io/{version}"), shown::meta_schema("PartialObjectMetadata"))
            }
            _ => (self.kind.kind, self.kind.api_version(), Ok(self.kind.schema())),
        };
        let object = json!({"kind": kind, "apiVersion": api_version, "metadata": meta});
        if let Form::Table(version) = self.medium.form {
            let meta = ListMeta { revision: revision.to_string(), ..ListMeta::default() };
            let mut table = columns::table(self.kind, version, &meta, std::iter::empty(), self.include, 0, false);
            api::value::set(&mut table, "rows", vec![json!({"cells": [], "object": object})]);
            self.value(out, "BOOKMARK", &table, shown::meta_schema("Table"));
            return;
        }
        self.value(out, "BOOKMARK", &object, schema);
    }

    /// The end, with its reason.
    pub(super) fn error(&self, out: &mut BytesMut, status: &Status) {
        self.value(out, "ERROR", &status.to_value(), shown::meta_schema("Status"));
    }

    fn value(
        &self,
        out: &mut BytesMut,
        change: &str,
        value: &Value,
        schema: Result<api::schema::SchemaRef<'_>, Failure>,
    ) {
        let encoding = self.medium.encoding;
        match schema.and_then(|schema| during(Work::Serialize, || bare(encoding, value, schema))) {
            Ok(bytes) => match self.medium.encoding {
                Encoding::Protobuf => protobuf_frame(out, change, &bytes),
                Encoding::Json | Encoding::Yaml => Frames::json(out, change, &bytes),
            },
            Err(failure) => tracing::error!(?failure, "a watch frame could not be encoded"),
        }
    }

    /// A frame around JSON.
    pub(super) fn json(out: &mut BytesMut, change: &str, object: &[u8]) {
        out.put_slice(b"{\"type\":\"");
        out.put_slice(change.as_bytes());
        out.put_slice(b"\",\"object\":");
        out.put_slice(object);
        out.put_slice(b"}\n");
    }
}

/// A length-prefixed `runtime.Unknown`-wrapped `WatchEvent`: field 1 the type, field 2 a `RawExtension` whose field 1
/// is the object with its own envelope.
fn protobuf_frame(out: &mut BytesMut, change: &str, object: &[u8]) {
    let mut raw = Vec::with_capacity(object.len() + 8);
    field(&mut raw, 1, object);
    let mut event = Vec::with_capacity(raw.len() + 24);
    field(&mut event, 1, change.as_bytes());
    field(&mut event, 2, &raw);
    out.put_u32(u32::try_from(event.len()).unwrap_or(u32::MAX));
    out.put_slice(&event);
}

fn field(out: &mut Vec<u8>, number: u8, bytes: &[u8]) {
    out.push(number << 3 | 2);
    let mut length = bytes.len();
    while length >= 0x80 {
        out.push((length as u8 & 0x7f) | 0x80);
        length >>= 7;
    }
    out.push(length as u8);
    out.extend_from_slice(bytes);
}
