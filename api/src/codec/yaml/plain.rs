//! YAML events to JSON text, for documents that need no more: no anchors, tags or merges, no key twice.
//!
//! As deep as its parser goes, without a stack frame for each level. Says nothing of what is wrong: whatever is not plain is left to `read.rs`.

use super::read::key_text;
use super::resolve::resolve;
use crate::codec::MAX_READ_DEPTH;
use crate::codec::json::{write_any, write_string};
use crate::json::{Text, Value};
use granit_parser::{Event, Parser, ScalarStyle};

/// A mapping or a list that is open.
struct Open {
    /// Where its names begin among those of all that is open; a list has none.
    mapping: Option<usize>,
    /// A name has been read, whose value follows.
    named: bool,
    empty: bool,
}

/// The first document as JSON, keys in the order in which they stand there.
pub(super) fn json_of(bytes: &[u8]) -> Option<Vec<u8>> {
    let text = std::str::from_utf8(bytes).ok()?;
    let options = granit_parser::options! { emit_comments: false };
    let mut events = Parser::new_from_str_with_options(text, options);
    while !matches!(events.next()?.ok()?.0, Event::DocumentStart(..)) {}
    let mut out = Vec::with_capacity(bytes.len());
    let (mut open, mut names): (Vec<Open>, Vec<Text>) = (Vec::new(), Vec::new());
    loop {
        let event = events.next()?.ok()?.0;
        if let (Some(Open { mapping: Some(_), named: named @ false, empty }), Event::Scalar(text, style, 0, None)) =
            (open.last_mut(), &event)
        {
            let name = match scalar(text, *style)? {
                Some(value) => key_text(value).ok()?,
                None => Text::from(text.as_ref()),
            };
            if !std::mem::take(empty) {
                out.push(b',');
            }
            *named = true;
            write_string(&mut out, &name);
            out.push(b':');
            names.push(name);
            continue;
        }
        match event {
            Event::MappingEnd | Event::SequenceEnd => {
                let mapping = open.pop()?.mapping;
                if let Some(begin) = mapping {
                    let own = names.get_mut(begin..)?;
                    own.sort_unstable();
                    if !own.is_sorted_by(|a, b| a < b) {
                        return None;
                    }
                    names.truncate(begin);
                }
                out.push(if mapping.is_some() { b'}' } else { b']' });
            }
            event => {
                // A value of the list or of the name that is open.
                if let Some(around) = open.last_mut() {
                    match around.mapping {
                        Some(_) if !std::mem::take(&mut around.named) => return None,
                        None if !std::mem::take(&mut around.empty) => out.push(b','),
                        _ => {}
                    }
                }
                match event {
                    Event::Scalar(text, style, 0, None) => match scalar(&text, style)? {
                        Some(value) => write_any(&mut out, &value),
                        None => write_string(&mut out, &text),
                    },
                    Event::SequenceStart(_, 0, None) => {
                        out.push(b'[');
                        open.push(Open { mapping: None, named: false, empty: true });
                    }
                    Event::MappingStart(_, 0, None) => {
                        out.push(b'{');
                        open.push(Open { mapping: Some(names.len()), named: false, empty: true });
                    }
                    _ => return None,
                }
                if open.len() > MAX_READ_DEPTH {
                    return None;
                }
            }
        }
        if open.is_empty() {
            return Some(out);
        }
    }
}

/// What a scalar means where that is not its text; nothing at all for the key of a merge.
fn scalar(text: &str, style: ScalarStyle) -> Option<Option<Value>> {
    match style {
        ScalarStyle::Plain if text == "<<" => None,
        ScalarStyle::Plain => Some(Some(resolve(text)).filter(|value| !value.is_string())),
        _ => Some(None),
    }
}
