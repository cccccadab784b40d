//! YAML events to JSON text, for documents that need no more: no anchors, tags or merges, no key twice.
//!
//! Says nothing of what is wrong: whatever is not plain is left to `read.rs`.

use super::read::key_text;
use super::resolve::resolve;
use crate::codec::MAX_DEPTH;
use crate::codec::json::{write_any, write_string};
use crate::json::{Text, Value};
use granit_parser::{Event, Parser, ScalarStyle, StrInput};

/// The first document as JSON, keys in the order in which they stand there.
pub(super) fn json_of(bytes: &[u8]) -> Option<Vec<u8>> {
    let text = std::str::from_utf8(bytes).ok()?;
    let options = granit_parser::options! { emit_comments: false };
    let mut events = Parser::new_from_str_with_options(text, options);
    while !matches!(events.next()?.ok()?.0, Event::DocumentStart(..)) {}
    let mut out = Vec::with_capacity(bytes.len());
    let (first, _) = events.next()?.ok()?;
    node(&mut events, first, &mut out, 0)?;
    Some(out)
}

fn node<'a>(events: &mut Parser<'a, StrInput<'a>>, event: Event<'a>, out: &mut Vec<u8>, depth: usize) -> Option<()> {
    if depth > MAX_DEPTH {
        return None;
    }
    match event {
        Event::Scalar(text, style, 0, None) => match scalar(&text, style)? {
            Some(value) => write_any(out, &value),
            None => write_string(out, &text),
        },
        Event::SequenceStart(_, 0, None) => {
            out.push(b'[');
            let mut first = true;
            loop {
                let (event, _) = events.next()?.ok()?;
                if event == Event::SequenceEnd {
                    break;
                }
                if !std::mem::take(&mut first) {
                    out.push(b',');
                }
                node(events, event, out, depth + 1)?;
            }
            out.push(b']');
        }
        Event::MappingStart(_, 0, None) => {
            out.push(b'{');
            let mut names: Vec<Text> = Vec::new();
            loop {
                let name = match events.next()?.ok()?.0 {
                    Event::MappingEnd => break,
                    Event::Scalar(text, style, 0, None) => match scalar(&text, style)? {
                        Some(value) => key_text(value).ok()?,
                        None => Text::from(text),
                    },
                    _ => return None,
                };
                if !names.is_empty() {
                    out.push(b',');
                }
                write_string(out, &name);
                out.push(b':');
                names.push(name);
                let (event, _) = events.next()?.ok()?;
                node(events, event, out, depth + 1)?;
            }
            names.sort_unstable();
            if !names.is_sorted_by(|a, b| a < b) {
                return None;
            }
            out.push(b'}');
        }
        _ => return None,
    }
    Some(())
}

/// What a scalar means where that is not its text; nothing at all for the key of a merge.
fn scalar(text: &str, style: ScalarStyle) -> Option<Option<Value>> {
    match style {
        ScalarStyle::Plain if text == "<<" => None,
        ScalarStyle::Plain => Some(Some(resolve(text)).filter(|value| !value.is_string())),
        _ => Some(None),
    }
}
