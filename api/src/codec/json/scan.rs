//! The lexical half of JSON: tokens, strings, numbers, and Go's sentences for what is malformed.
//!
//! Never looks at a schema.

use crate::codec::{DecodeError, MAX_DEPTH, MAX_READ_DEPTH, cut};
use crate::json::{Map, Number, Text, Value};
use std::borrow::Cow;
use std::collections::HashSet;

/// What is said of a bracket that opens one level too many.
pub(in crate::codec) const TOO_DEEP: &str = "exceeded max depth";

/// A cursor over the input.
pub(super) struct Scan<'a> {
    bytes: &'a [u8],
    /// The same, where all of it is UTF-8: strings need not be looked at again.
    text: Option<&'a str>,
    at: usize,
    depth: usize,
    /// The nesting that is too deep to keep.
    most: usize,
    /// What the objects that are open have so far, each after those around it.
    entries: Vec<(Text, Value)>,
    /// What the lists that are open have so far.
    elements: Vec<Value>,
    /// An object had a key twice.
    twice: bool,
}

/// Whether names were met before in an object.
#[derive(Default)]
pub(super) struct Met(HashSet<Text>);

impl Met {
    /// Whether the object has the name already, which is then the next of it.
    pub(super) fn again(&mut self, object: &[(Text, Value)], name: &str) -> bool {
        const FEW: usize = 16;
        if object.len() <= FEW {
            return object.iter().any(|(there, _)| there == name);
        }
        if self.0.is_empty() {
            self.0.extend(object.iter().map(|(there, _)| there.clone()));
        }
        !self.0.insert(name.into())
    }
}

/// Keys that came twice.
#[derive(Default)]
pub(super) struct Twice {
    /// The way to the value that is being read.
    path: Vec<String>,
    pub(super) found: Vec<String>,
}

pub(super) type Step<T> = Result<T, DecodeError>;

impl<'a> Scan<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Scan<'a> {
        Scan::deep(bytes, MAX_DEPTH)
    }

    /// Over what may be nested so deep.
    pub(super) fn deep(bytes: &'a [u8], most: usize) -> Scan<'a> {
        Scan {
            bytes,
            most,
            text: std::str::from_utf8(bytes).ok(),
            at: 0,
            depth: 0,
            entries: Vec::new(),
            elements: Vec::new(),
            twice: false,
        }
    }

    /// The next byte that is not white space, not consumed.
    pub(super) fn peek(&mut self) -> Option<u8> {
        while let Some(byte) = self.bytes.get(self.at) {
            if !matches!(byte, b' ' | b'\t' | b'\n' | b'\r') {
                return Some(*byte);
            }
            self.at += 1;
        }
        None
    }

    pub(super) fn advance(&mut self) {
        self.at += 1;
    }

    /// Whatever stands at the cursor is not what the grammar allows there.
    #[cold]
    pub(super) fn unexpected(&self, place: &str) -> DecodeError {
        let Some(byte) = self.bytes.get(self.at) else {
            return DecodeError::Syntax("unexpected end of JSON input".to_owned());
        };
        let shown = match byte {
            b'\'' => r"'\''".to_owned(),
            b'"' => "'\"'".to_owned(),
            b'\n' => r"'\n'".to_owned(),
            b'\r' => r"'\r'".to_owned(),
            b'\t' => r"'\t'".to_owned(),
            0x20..0x7f => format!("'{}'", char::from(*byte)),
            0x80..=0x9f | 0..0x20 | 0x7f => format!("'\\x{byte:02x}'"),
            _ => format!("'{}'", char::from(*byte)),
        };
        DecodeError::Syntax(format!("invalid character {shown} {place}"))
    }

    pub(super) fn enter(&mut self) -> Step<()> {
        self.enter_of(self.most)
    }

    fn enter_of(&mut self, most: usize) -> Step<()> {
        if self.depth >= most {
            return Err(self.unexpected(TOO_DEEP));
        }
        self.advance();
        self.depth += 1;
        Ok(())
    }

    /// Where the entries of an object begin that is opened now.
    pub(super) fn begin(&self) -> usize {
        self.entries.len()
    }

    /// Adds an entry to the object that was opened last.
    pub(super) fn push(&mut self, name: Text, value: Value) {
        self.entries.push((name, value));
    }

    /// Puts a field among those of the object that begins there, of which `kept` are there and `rank` is one (`Types::rank`).
    pub(super) fn put(&mut self, begin: usize, kept: u64, rank: u64, name: &Text, value: Value) {
        let at = begin + (kept & (rank - 1)).count_ones() as usize;
        if kept & rank == 0 {
            self.entries.insert(at, (name.clone(), value));
        } else if let Some((_, there)) = self.entries.get_mut(at) {
            *there = value;
        }
    }

    /// Takes a field back that `put` has put.
    pub(super) fn take(&mut self, begin: usize, kept: u64, rank: u64) {
        if kept & rank != 0 {
            self.entries.remove(begin + (kept & (rank - 1)).count_ones() as usize);
        }
    }

    /// Takes back the entries of this name.
    pub(super) fn take_named(&mut self, begin: usize, name: &str) {
        let mut at = 0;
        self.entries.retain(|(there, _)| {
            at += 1;
            at <= begin || there != name
        });
    }

    /// The entries of the object that begins there, so far.
    pub(super) fn opened(&self, begin: usize) -> &[(Text, Value)] {
        self.entries.get(begin..).unwrap_or_default()
    }

    /// The object that began there: it takes just the memory that it needs.
    pub(super) fn close(&mut self, begin: usize) -> Value {
        let entries = cut(&mut self.entries, begin);
        let length = entries.len();
        let map = Map::of(entries);
        self.twice |= map.len() < length;
        Value::Object(map)
    }

    /// Whether an object so far had a key twice.
    pub(super) fn has_twice(&self) -> bool {
        self.twice
    }

    /// The same where all entries were put in their order.
    pub(super) fn close_sorted(&mut self, begin: usize) -> Value {
        Value::Object(Map::sorted(cut(&mut self.entries, begin)))
    }

    /// Where the elements of a list begin that is opened now.
    pub(super) fn begin_list(&self) -> usize {
        self.elements.len()
    }

    /// How many elements the list that begins there has so far.
    pub(super) fn length(&self, begin: usize) -> usize {
        self.elements.len() - begin
    }

    /// Adds an element to the list that was opened last.
    pub(super) fn push_element(&mut self, value: Value) {
        self.elements.push(value);
    }

    /// The list that began there.
    pub(super) fn close_list(&mut self, begin: usize) -> Value {
        Value::Array(cut(&mut self.elements, begin))
    }

    /// After the opening brace or a comma: the next key, `None` at the end of the object.
    pub(super) fn key(&mut self, first: bool) -> Step<Option<Cow<'a, str>>> {
        if !first {
            match self.peek() {
                Some(b',') => self.advance(),
                Some(b'}') => return Ok(self.leave()),
                _ => return Err(self.unexpected("after object key:value pair")),
            }
        }
        match self.peek() {
            Some(b'"') => {}
            Some(b'}') if first => return Ok(self.leave()),
            _ => return Err(self.unexpected("looking for beginning of object key string")),
        }
        let key = self.string()?;
        if self.peek() != Some(b':') {
            return Err(self.unexpected("after object key"));
        }
        self.advance();
        Ok(Some(key))
    }

    /// After the opening bracket or an element: whether another one follows.
    pub(super) fn element(&mut self, first: bool) -> Step<bool> {
        match self.peek() {
            Some(b']') => {
                self.leave::<()>();
                Ok(false)
            }
            Some(b',') if !first => {
                self.advance();
                Ok(true)
            }
            _ if first => Ok(true),
            _ => Err(self.unexpected("after array element")),
        }
    }

    fn leave<T>(&mut self) -> Option<T> {
        self.advance();
        self.depth -= 1;
        None
    }

    /// A string; the cursor stands on its opening quote. Invalid UTF-8 becomes U+FFFD.
    pub(super) fn string(&mut self) -> Step<Cow<'a, str>> {
        self.advance();
        let start = self.at;
        let rest = self.bytes.get(start..).unwrap_or_default();
        self.at += plain(rest);
        match self.bytes.get(self.at) {
            Some(b'"') => {
                let end = self.at;
                self.advance();
                Ok(self.piece(start, end))
            }
            Some(b'\\') => self.escaped(start),
            _ => Err(self.unexpected("in string literal")),
        }
    }

    #[inline]
    fn piece(&self, start: usize, end: usize) -> Cow<'a, str> {
        match self.text.and_then(|text| text.get(start..end)) {
            Some(text) => Cow::Borrowed(text),
            None => String::from_utf8_lossy(self.bytes.get(start..end).unwrap_or_default()),
        }
    }

    #[cold]
    fn escaped(&mut self, start: usize) -> Step<Cow<'a, str>> {
        let mut out = String::with_capacity(64);
        out.push_str(&self.piece(start, self.at));
        loop {
            match self.bytes.get(self.at) {
                Some(b'"') => {
                    self.advance();
                    return Ok(Cow::Owned(out));
                }
                Some(b'\\') => {
                    self.advance();
                    let char = match self.bytes.get(self.at) {
                        Some(b'b') => '\u{8}',
                        Some(b'f') => '\u{c}',
                        Some(b'n') => '\n',
                        Some(b'r') => '\r',
                        Some(b't') => '\t',
                        Some(plain @ (b'"' | b'\\' | b'/')) => char::from(*plain),
                        Some(b'u') => {
                            self.advance();
                            out.push(self.unicode()?);
                            continue;
                        }
                        _ => return Err(self.unexpected("in string escape code")),
                    };
                    out.push(char);
                    self.advance();
                }
                Some(0x20..) => {
                    let from = self.at;
                    self.at += plain(self.bytes.get(from..).unwrap_or_default());
                    out.push_str(&self.piece(from, self.at));
                }
                _ => return Err(self.unexpected("in string literal")),
            }
        }
    }

    fn unicode(&mut self) -> Step<char> {
        let high = self.hex()?;
        if !(0xd800..0xdc00).contains(&high) {
            return Ok(char::from_u32(high).unwrap_or(char::REPLACEMENT_CHARACTER));
        }
        // A low surrogate must follow; otherwise the high one stands alone and the rest is read on its own.
        let back = self.at;
        if self.bytes.get(self.at..).is_some_and(|rest| rest.starts_with(b"\\u")) {
            self.at += 2;
            let low = self.hex()?;
            if (0xdc00..0xe000).contains(&low) {
                let code = 0x10000 + ((high - 0xd800) << 10) + (low - 0xdc00);
                return Ok(char::from_u32(code).unwrap_or(char::REPLACEMENT_CHARACTER));
            }
            self.at = back;
        }
        Ok(char::REPLACEMENT_CHARACTER)
    }

    fn hex(&mut self) -> Step<u32> {
        let mut code = 0;
        for _ in 0..4 {
            let digit = self.bytes.get(self.at).and_then(|byte| char::from(*byte).to_digit(16));
            let Some(digit) = digit else {
                return Err(self.unexpected("in \\u hexadecimal character escape"));
            };
            code = code * 16 + digit;
            self.advance();
        }
        Ok(code)
    }

    /// The text of a number; the cursor stands on its first byte.
    pub(super) fn number(&mut self) -> Step<&'a str> {
        let start = self.at;
        if self.bytes.get(self.at) == Some(&b'-') {
            self.advance();
        }
        match self.bytes.get(self.at) {
            Some(b'0') => self.advance(),
            Some(b'1'..=b'9') => self.digits(),
            _ => return Err(self.unexpected("in numeric literal")),
        }
        if self.bytes.get(self.at) == Some(&b'.') {
            self.advance();
            self.some_digits("after decimal point in numeric literal")?;
        }
        if matches!(self.bytes.get(self.at), Some(b'e' | b'E')) {
            self.advance();
            if matches!(self.bytes.get(self.at), Some(b'+' | b'-')) {
                self.advance();
            }
            self.some_digits("in exponent of numeric literal")?;
        }
        Ok(std::str::from_utf8(self.bytes.get(start..self.at).unwrap_or_default()).unwrap_or_default())
    }

    fn digits(&mut self) {
        while matches!(self.bytes.get(self.at), Some(b'0'..=b'9')) {
            self.advance();
        }
    }

    fn some_digits(&mut self, place: &str) -> Step<()> {
        if !matches!(self.bytes.get(self.at), Some(b'0'..=b'9')) {
            return Err(self.unexpected(place));
        }
        self.digits();
        Ok(())
    }

    /// `true`, `false` or `null`; the cursor stands on the first letter.
    pub(super) fn word(&mut self, word: &'static str) -> Step<()> {
        for (done, letter) in word.bytes().enumerate() {
            if self.bytes.get(self.at) != Some(&letter) {
                let wanted = char::from(letter);
                return Err(if done == 0 {
                    self.unexpected("looking for beginning of value")
                } else {
                    self.unexpected(&format!("in literal {word} (expecting '{wanted}')"))
                });
            }
            self.advance();
        }
        Ok(())
    }

    /// Nothing but white space may follow.
    pub(super) fn end(&mut self) -> Step<()> {
        match self.peek() {
            None => Ok(()),
            Some(_) => Err(self.unexpected("after top-level value")),
        }
    }

    /// Puts any value into `out`, without a schema. The paths of keys that came twice in their object are kept where somebody asks for them.
    pub(super) fn any(&mut self, mut twice: Option<&mut Twice>, out: &mut Value) -> Step<()> {
        match self.peek() {
            // Managed fields are full of these.
            Some(b'{') if self.bytes.get(self.at + 1) == Some(&b'}') && self.depth < self.most => {
                self.at += 2;
                *out = Value::Object(Map::new());
            }
            Some(b'{') => {
                self.enter()?;
                let begin = self.begin();
                let mut met = Met::default();
                let mut first = true;
                while let Some(key) = self.key(first)? {
                    first = false;
                    if let Some(Twice { path, .. }) = &mut twice {
                        path.push(if path.is_empty() { key.clone().into_owned() } else { format!(".{key}") });
                    }
                    let name = Text::from(key);
                    let mut value = Value::Null;
                    self.any(twice.as_deref_mut(), &mut value)?;
                    if let Some(Twice { path, found }) = &mut twice {
                        if met.again(self.opened(begin), &name) {
                            found.push(path.concat());
                        }
                        path.pop();
                    }
                    self.push(name, value);
                }
                *out = self.close(begin);
            }
            Some(b'[') => {
                self.enter()?;
                let begin = self.begin_list();
                while self.element(self.length(begin) == 0)? {
                    if let Some(Twice { path, .. }) = &mut twice {
                        path.push(format!("[{}]", self.length(begin)));
                    }
                    let mut value = Value::Null;
                    self.any(twice.as_deref_mut(), &mut value)?;
                    self.push_element(value);
                    if let Some(Twice { path, .. }) = &mut twice {
                        path.pop();
                    }
                }
                *out = self.close_list(begin);
            }
            Some(b'"') => *out = Value::from(self.string()?),
            Some(b'-' | b'0'..=b'9') => *out = free_number(self.number()?),
            Some(b't') => {
                self.word("true")?;
                *out = Value::Bool(true);
            }
            Some(b'f') => {
                self.word("false")?;
                *out = Value::Bool(false);
            }
            Some(b'n') => self.word("null")?,
            _ => return Err(self.unexpected("looking for beginning of value")),
        }
        Ok(())
    }

    /// Skips a value, checking its grammar: as deep as Go reads, without a stack frame for each level.
    pub(super) fn skip(&mut self) -> Step<()> {
        // Whether each container that is open, outermost first, is an object.
        let mut open: Vec<bool> = Vec::new();
        loop {
            let mut first = false;
            match self.peek() {
                Some(bracket @ (b'{' | b'[')) => {
                    self.enter_of(MAX_READ_DEPTH)?;
                    open.push(bracket == b'{');
                    first = true;
                }
                Some(b'"') => self.string().map(|_| ())?,
                Some(b'-' | b'0'..=b'9') => self.number().map(|_| ())?,
                Some(b't') => self.word("true")?,
                Some(b'f') => self.word("false")?,
                Some(b'n') => self.word("null")?,
                _ => return Err(self.unexpected("looking for beginning of value")),
            }
            // On to the next value, out of what ends before it.
            loop {
                let Some(object) = open.last() else { return Ok(()) };
                let more = if *object { self.key(first)?.is_some() } else { self.element(first)? };
                if more {
                    break;
                }
                open.pop();
                first = false;
            }
        }
    }
}

/// How many bytes of a string stand for themselves: up to a quote, a backslash or a control character.
fn plain(bytes: &[u8]) -> usize {
    const ONES: u64 = 0x0101_0101_0101_0101;
    const HIGH: u64 = 0x8080_8080_8080_8080;
    // Eight bytes at once; the lowest marked byte is exact, those above it may be marked by a borrow.
    let (words, _) = bytes.as_chunks::<8>();
    for (index, word) in words.iter().enumerate() {
        let word = u64::from_le_bytes(*word);
        let is = |byte: u8| (word ^ (ONES * u64::from(byte))).wrapping_sub(ONES);
        // None of them has its highest bit set, so that what has is none of them.
        let marked = (is(b'"') | is(b'\\') | word.wrapping_sub(ONES * 0x20)) & !word & HIGH;
        if marked != 0 {
            return index * 8 + (marked.trailing_zeros() / 8) as usize;
        }
    }
    let done = words.len() * 8;
    let rest = bytes.get(done..).unwrap_or_default();
    done + rest.iter().position(|byte| matches!(byte, b'"' | b'\\' | 0..0x20)).unwrap_or(rest.len())
}

/// A number without a type: an integer where it is one and fits, else a double.
pub(super) fn free_number(text: &str) -> Value {
    if let Ok(int) = text.parse::<i64>() {
        return int.into();
    }
    text.parse::<f64>().ok().and_then(Number::from_f64).map_or(Value::Null, Value::Number)
}
