//! OpenAPI v2 in the protobuf form that kubectl and client-go ask for: the `openapi.v2.Document` of gnostic.
//!
//! Numbers are those of gnostic's `OpenAPIv2.proto`; only what Kubernetes' documents contain is known here. Never
//! decodes, and never changes what a document says: a key without a number is left out.

use api::json::{Map, Text, Value};
use prost::encoding::{WireType, encode_key, encode_varint};

/// `Content-Type` of the encoded document.
pub const MEDIA_TYPE: &str = "application/com.github.proto-openapi.spec.v2.v1.0+protobuf";

/// How a value is written.
enum Form {
    Text,
    /// A list of texts.
    Texts,
    Bool,
    Int,
    Double,
    /// `Any`: YAML text, of which JSON is a part.
    Any,
    /// A list of `Any`.
    Anys,
    One(&'static Message),
    /// A list of messages.
    Each(&'static Message),
    /// An object as a message with a list of name and value.
    Named(&'static Message),
    /// A text or list of texts, wrapped (`TypeItem`, `StringArray`).
    Wrapped,
    /// A schema, wrapped (`ItemsItem`, `SchemaItem`).
    Inside(&'static Message),
    /// A schema or a boolean (`AdditionalPropertiesItem`).
    SchemaOrBool,
    /// A list of parameters, each of its kind.
    Parameters,
    /// Responses by code.
    Responses,
    /// Lists of texts by name.
    Requirement,
    /// Security schemes by name.
    Schemes,
}

/// A message: its keys with their numbers, and the number under which `x-` keys go.
struct Message {
    fields: &'static [(&'static str, u32, Form)],
    extensions: u32,
    /// The number of the list that holds every other key by name.
    others: Option<(u32, &'static Message)>,
}

static DOCUMENT: Message = Message {
    fields: &[
        ("swagger", 1, Form::Text),
        ("info", 2, Form::One(&INFO)),
        ("paths", 8, Form::One(&PATHS)),
        ("definitions", 9, Form::Named(&SCHEMA)),
        ("security", 12, Form::Requirement),
        ("securityDefinitions", 13, Form::Schemes),
    ],
    extensions: 16,
    others: None,
};
static INFO: Message = Message {
    fields: &[("title", 1, Form::Text), ("version", 2, Form::Text), ("description", 3, Form::Text)],
    extensions: 7,
    others: None,
};
static PATHS: Message = Message { fields: &[], extensions: 1, others: Some((2, &PATH_ITEM)) };
static PATH_ITEM: Message = Message {
    fields: &[
        ("get", 2, Form::One(&OPERATION)),
        ("put", 3, Form::One(&OPERATION)),
        ("post", 4, Form::One(&OPERATION)),
        ("delete", 5, Form::One(&OPERATION)),
        ("options", 6, Form::One(&OPERATION)),
        ("head", 7, Form::One(&OPERATION)),
        ("patch", 8, Form::One(&OPERATION)),
        ("parameters", 9, Form::Parameters),
    ],
    extensions: 10,
    others: None,
};
static OPERATION: Message = Message {
    fields: &[
        ("tags", 1, Form::Texts),
        ("summary", 2, Form::Text),
        ("description", 3, Form::Text),
        ("operationId", 5, Form::Text),
        ("produces", 6, Form::Texts),
        ("consumes", 7, Form::Texts),
        ("parameters", 8, Form::Parameters),
        ("responses", 9, Form::Responses),
        ("schemes", 10, Form::Texts),
        ("deprecated", 11, Form::Bool),
    ],
    extensions: 13,
    others: None,
};
static BODY: Message = Message {
    fields: &[
        ("description", 1, Form::Text),
        ("name", 2, Form::Text),
        ("in", 3, Form::Text),
        ("required", 4, Form::Bool),
        ("schema", 5, Form::One(&SCHEMA)),
    ],
    extensions: 6,
    others: None,
};
static QUERY: Message = Message {
    fields: &[
        ("required", 1, Form::Bool),
        ("in", 2, Form::Text),
        ("description", 3, Form::Text),
        ("name", 4, Form::Text),
        ("type", 6, Form::Text),
        ("format", 7, Form::Text),
        ("uniqueItems", 20, Form::Bool),
    ],
    extensions: 23,
    others: None,
};
static PATH: Message = Message {
    fields: &[
        ("required", 1, Form::Bool),
        ("in", 2, Form::Text),
        ("description", 3, Form::Text),
        ("name", 4, Form::Text),
        ("type", 5, Form::Text),
        ("format", 6, Form::Text),
        ("uniqueItems", 19, Form::Bool),
    ],
    extensions: 22,
    others: None,
};
static RESPONSE: Message = Message {
    fields: &[("description", 1, Form::Text), ("schema", 2, Form::Inside(&SCHEMA))],
    extensions: 5,
    others: None,
};
static API_KEY: Message = Message {
    fields: &[("type", 1, Form::Text), ("name", 2, Form::Text), ("in", 3, Form::Text), ("description", 4, Form::Text)],
    extensions: 5,
    others: None,
};
static SCHEMA: Message = Message {
    fields: &[
        ("$ref", 1, Form::Text),
        ("format", 2, Form::Text),
        ("title", 3, Form::Text),
        ("description", 4, Form::Text),
        ("default", 5, Form::Any),
        ("multipleOf", 6, Form::Double),
        ("maximum", 7, Form::Double),
        ("exclusiveMaximum", 8, Form::Bool),
        ("minimum", 9, Form::Double),
        ("exclusiveMinimum", 10, Form::Bool),
        ("maxLength", 11, Form::Int),
        ("minLength", 12, Form::Int),
        ("pattern", 13, Form::Text),
        ("maxItems", 14, Form::Int),
        ("minItems", 15, Form::Int),
        ("uniqueItems", 16, Form::Bool),
        ("maxProperties", 17, Form::Int),
        ("minProperties", 18, Form::Int),
        ("required", 19, Form::Texts),
        ("enum", 20, Form::Anys),
        ("additionalProperties", 21, Form::SchemaOrBool),
        ("type", 22, Form::Wrapped),
        ("items", 23, Form::Inside(&SCHEMA)),
        ("allOf", 24, Form::Each(&SCHEMA)),
        ("properties", 25, Form::Named(&SCHEMA)),
        ("example", 30, Form::Any),
    ],
    extensions: 31,
    others: None,
};

/// The bytes of a v2 document.
#[must_use]
pub fn encode(document: &Value) -> Vec<u8> {
    let mut out = Vec::new();
    message(&DOCUMENT, document, &mut out);
    out
}

fn bytes(number: u32, content: &[u8], out: &mut Vec<u8>) {
    encode_key(number, WireType::LengthDelimited, out);
    encode_varint(u64::try_from(content.len()).unwrap_or_default(), out);
    out.extend_from_slice(content);
}

fn boolean(number: u32, out: &mut Vec<u8>) {
    encode_key(number, WireType::Varint, out);
    encode_varint(1, out);
}

/// A text that is not empty: proto3 leaves zeros out.
fn text(number: u32, value: &Value, out: &mut Vec<u8>) {
    if let Some(text) = value.as_str().filter(|text| !text.is_empty()) {
        bytes(number, text.as_bytes(), out);
    }
}

fn within(number: u32, out: &mut Vec<u8>, write: impl FnOnce(&mut Vec<u8>)) {
    let mut inner = Vec::new();
    write(&mut inner);
    bytes(number, &inner, out);
}

fn any(number: u32, value: &Value, out: &mut Vec<u8>) {
    within(number, out, |out| bytes(2, format!("{value}\n").as_bytes(), out));
}

/// A list entry of name and value.
fn named(number: u32, name: &str, out: &mut Vec<u8>, value: impl FnOnce(&mut Vec<u8>)) {
    within(number, out, |out| {
        bytes(1, name.as_bytes(), out);
        within(2, out, value);
    });
}

fn elements(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

fn entries(value: &Value) -> impl Iterator<Item = (&Text, &Value)> {
    value.as_object().into_iter().flat_map(Map::iter)
}

fn message(kind: &Message, value: &Value, out: &mut Vec<u8>) {
    for (key, number, form) in kind.fields {
        if let Some(value) = value.get(*key) {
            field(*number, form, value, out);
        }
    }
    for (key, value) in entries(value) {
        if key.starts_with("x-") {
            within(kind.extensions, out, |out| {
                bytes(1, key.as_bytes(), out);
                any(2, value, out);
            });
        } else if let Some((number, inner)) = kind.others {
            named(number, key, out, |out| message(inner, value, out));
        }
    }
}

fn field(number: u32, form: &Form, value: &Value, out: &mut Vec<u8>) {
    match form {
        Form::Text => text(number, value, out),
        Form::Texts => elements(value).iter().filter_map(Value::as_str).for_each(|t| bytes(number, t.as_bytes(), out)),
        Form::Bool if value.as_bool() == Some(true) => boolean(number, out),
        Form::Bool => {}
        Form::Int => {
            if let Some(value) = value.as_u64().filter(|value| *value != 0) {
                encode_key(number, WireType::Varint, out);
                encode_varint(value, out);
            }
        }
        Form::Double => {
            if let Some(value) = value.as_f64().filter(|value| *value != 0.0) {
                encode_key(number, WireType::SixtyFourBit, out);
                out.extend_from_slice(&value.to_le_bytes());
            }
        }
        Form::Any => any(number, value, out),
        Form::Anys => elements(value).iter().for_each(|value| any(number, value, out)),
        Form::One(kind) => within(number, out, |out| message(kind, value, out)),
        Form::Each(kind) => {
            elements(value).iter().for_each(|value| within(number, out, |out| message(kind, value, out)));
        }
        Form::Named(kind) => within(number, out, |out| {
            entries(value).for_each(|(name, value)| named(1, name, out, |out| message(kind, value, out)));
        }),
        Form::Wrapped => within(number, out, |out| {
            text(1, value, out);
            field(1, &Form::Texts, value, out);
        }),
        Form::Inside(kind) => within(number, out, |out| within(1, out, |out| message(kind, value, out))),
        Form::SchemaOrBool => within(number, out, |out| match value {
            // One of two: written even when false.
            Value::Bool(allowed) => {
                encode_key(2, WireType::Varint, out);
                encode_varint(u64::from(*allowed), out);
            }
            _ => within(1, out, |out| message(&SCHEMA, value, out)),
        }),
        Form::Parameters => elements(value).iter().for_each(|value| parameter(number, value, out)),
        Form::Responses => within(number, out, |out| {
            for (code, value) in entries(value) {
                named(1, code, out, |out| within(1, out, |out| message(&RESPONSE, value, out)));
            }
        }),
        Form::Requirement => elements(value).iter().for_each(|value| {
            within(number, out, |out| {
                entries(value)
                    .for_each(|(name, scopes)| named(1, name, out, |out| field(1, &Form::Texts, scopes, out)));
            });
        }),
        Form::Schemes => within(number, out, |out| {
            for (name, value) in entries(value) {
                named(1, name, out, |out| within(2, out, |out| message(&API_KEY, value, out)));
            }
        }),
    }
}

/// `ParametersItem`, `Parameter` and, but for bodies, `NonBodyParameter` around the parameter itself.
fn parameter(number: u32, value: &Value, out: &mut Vec<u8>) {
    let place = value.get("in").and_then(Value::as_str).unwrap_or_default();
    within(number, out, |out| {
        within(1, out, |out| match place {
            "body" => within(1, out, |out| message(&BODY, value, out)),
            "path" => within(2, out, |out| within(4, out, |out| message(&PATH, value, out))),
            _ => within(2, out, |out| within(3, out, |out| message(&QUERY, value, out))),
        });
    });
}

#[cfg(test)]
#[path = "gnostic_tests.rs"]
mod tests;
