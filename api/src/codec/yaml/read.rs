//! YAML events to a JSON value.
//!
//! Anchors, aliases and merge keys are expanded, within bounds on depth and size.

use super::resolve::resolve;
use super::said::said;
use crate::codec::{DecodeError, MAX_DEPTH, scalar};
use crate::json::{Map, Text, Value};
use granit_parser::{Event, Parser, ScalarStyle, Span, Tag};
use std::collections::{HashMap, HashSet};

/// Values that aliases may add up to; upstream bounds the ratio instead.
const MAX_ALIASED: usize = 400_000;

pub(super) struct Document {
    pub(super) value: Value,
    /// `line 3: key "a" already set in map`.
    pub(super) twice: Vec<String>,
}

type Read<T> = Result<T, DecodeError>;

pub(super) fn first_document(bytes: &[u8]) -> Read<Document> {
    let decoded = utf16(bytes);
    let text = match &decoded {
        Some(text) => text.as_str(),
        None => std::str::from_utf8(bytes).map_err(|_| error("invalid leading UTF-8 octet"))?,
    };
    let options = granit_parser::options! { emit_comments: false };
    let mut reader = Reader {
        text,
        events: Parser::new_from_str_with_options(text, options),
        anchors: HashMap::new(),
        aliased: 0,
        twice: Vec::new(),
    };
    loop {
        match reader.next()? {
            (Event::DocumentStart(..), _) => break,
            (Event::StreamEnd, _) => return Ok(Document { value: Value::Null, twice: Vec::new() }),
            _ => {}
        }
    }
    let (event, _) = reader.next()?;
    let value = if event == Event::DocumentEnd { Value::Null } else { reader.node(event, 0)?.value };
    Ok(Document { value, twice: reader.twice })
}

/// The text behind a mark that says that it is UTF-16, and in which order of bytes.
fn utf16(bytes: &[u8]) -> Option<String> {
    let (rest, big) = match bytes {
        [0xff, 0xfe, rest @ ..] => (rest, false),
        [0xfe, 0xff, rest @ ..] => (rest, true),
        _ => return None,
    };
    let unit = |pair: &[u8]| match *pair {
        [high, low] if big => u16::from_be_bytes([high, low]),
        [low, high] => u16::from_le_bytes([low, high]),
        _ => u16::from(b'?'),
    };
    Some(String::from_utf16_lossy(&rest.chunks(2).map(unit).collect::<Vec<_>>()))
}

fn error(what: impl std::fmt::Display) -> DecodeError {
    DecodeError::Syntax(format!("error converting YAML to JSON: yaml: {what}"))
}

struct Node {
    value: Value,
    /// `<<`, unquoted.
    merge: bool,
}

struct Reader<'a> {
    text: &'a str,
    events: Parser<'a, granit_parser::StrInput<'a>>,
    anchors: HashMap<usize, Value>,
    aliased: usize,
    twice: Vec<String>,
}

impl<'a> Reader<'a> {
    fn next(&mut self) -> Read<(Event<'a>, Span)> {
        match self.events.next() {
            Some(Ok(event)) => Ok(event),
            Some(Err(problem)) => Err(error(said(self.text, problem.marker().line(), &problem.info()))),
            None => Err(error("unexpected end of stream")),
        }
    }

    fn node(&mut self, event: Event<'a>, depth: usize) -> Read<Node> {
        if depth > MAX_DEPTH {
            return Err(error(format!("exceeded max depth of {MAX_DEPTH}")));
        }
        let plain = |value| Node { value, merge: false };
        let (anchor, node) = match event {
            Event::Scalar(text, style, anchor, tag) => (anchor, scalar_node(&text, style, tag.as_deref())?),
            Event::SequenceStart(_, anchor, _) => {
                let mut list = Vec::new();
                loop {
                    match self.next()? {
                        (Event::SequenceEnd, _) => break,
                        (event, _) => list.push(self.node(event, depth + 1)?.value),
                    }
                }
                (anchor, plain(Value::Array(list)))
            }
            Event::MappingStart(_, anchor, _) => (anchor, plain(Value::Object(self.mapping(depth)?))),
            Event::Alias(id) => {
                let value = self.anchors.get(&id).cloned().ok_or_else(|| error("anchor value contains itself"))?;
                self.aliased += size(&value);
                if self.aliased > MAX_ALIASED {
                    return Err(error("document contains excessive aliasing"));
                }
                (0, plain(value))
            }
            other => return Err(error(format!("unexpected {other:?}"))),
        };
        if anchor != 0 {
            self.anchors.insert(anchor, node.value.clone());
            self.aliased += size(&node.value);
        }
        Ok(node)
    }

    fn mapping(&mut self, depth: usize) -> Read<Map> {
        let mut entries = Vec::new();
        let mut met = HashSet::new();
        let mut merged = Vec::new();
        loop {
            let (event, _) = self.next()?;
            if event == Event::MappingEnd {
                break;
            }
            let key = self.node(event, depth + 1)?;
            let (event, span) = self.next()?;
            let value = self.node(event, depth + 1)?.value;
            if key.merge {
                merge(value, &mut merged)?;
                continue;
            }
            let name = key_text(key.value)?;
            if !met.insert(name.clone()) {
                self.twice.push(format!("line {}: key {name:?} already set in map", span.start.line()));
            }
            entries.push((name, value));
        }
        // Of equal keys the last counts: the mapping's own before those that it takes over, of which the first.
        if !merged.is_empty() {
            entries = merged.into_iter().rev().flatten().chain(entries).collect();
        }
        Ok(Map::of(entries))
    }
}

/// Later mappings of a merge list give way to earlier ones.
fn merge(value: Value, into: &mut Vec<Map>) -> Read<()> {
    match value {
        Value::Object(map) => {
            into.push(map);
            Ok(())
        }
        Value::Array(list) if list.iter().all(Value::is_object) => {
            list.into_iter().try_for_each(|value| merge(value, into))
        }
        _ => Err(error("map merge requires map or sequence of maps as the value")),
    }
}

pub(super) fn key_text(key: Value) -> Read<Text> {
    match key {
        Value::String(text) => Ok(text),
        Value::Bool(flag) => Ok(flag.to_string().into()),
        Value::Number(number) => Ok(number.to_string().into()),
        Value::Null => Err(DecodeError::Syntax(
            "error converting YAML to JSON: unsupported map key of type: %!s(<nil>), key: <nil>".to_owned(),
        )),
        other @ (Value::Array(_) | Value::Object(_)) => {
            let shown = crate::apply::go_syntax(&other).replace("map[string]", "map[interface {}]");
            Err(error(format!("invalid map key: {shown}")))
        }
    }
}

fn scalar_node(text: &str, style: ScalarStyle, tag: Option<&Tag>) -> Read<Node> {
    let suffix = tag.map(ToString::to_string);
    let suffix = suffix.as_deref().map(|tag| tag.rsplit([':', '!']).next().unwrap_or_default().to_owned());
    let text_value = || Value::from(text);
    let value = match suffix.as_deref() {
        Some("binary") => {
            let bytes = scalar::from_base64(&text.split_whitespace().collect::<String>());
            Value::from(String::from_utf8_lossy(&bytes))
        }
        Some("int" | "bool" | "float" | "null") => resolve(text),
        Some(_) => text_value(),
        None if style == ScalarStyle::Plain => resolve(text),
        None => text_value(),
    };
    Ok(Node { merge: style == ScalarStyle::Plain && tag.is_none() && text == "<<", value })
}

fn size(value: &Value) -> usize {
    match value {
        Value::Array(list) => 1 + list.iter().map(size).sum::<usize>(),
        Value::Object(map) => 1 + map.values().map(size).sum::<usize>(),
        _ => 1,
    }
}
