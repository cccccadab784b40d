//! The texts of values: names and strings.
//!
//! 24 bytes; up to 23 of them are the text itself, longer ones are shared or static, so that a copy never copies a text. Never changed in
//! place.

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use smol_str::SmolStr;
use std::borrow::{Borrow, Cow};
use std::cmp::Ordering;
use std::fmt;
use std::ops::Deref;
use std::sync::Arc;

/// A name of a field or the text of a value.
#[derive(Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Text(SmolStr);

impl Text {
    /// The same text without an allocation, however long.
    #[must_use]
    pub const fn of_static(text: &'static str) -> Text {
        if text.len() <= SmolStr::INLINE_CAP {
            Text(SmolStr::new_inline(text))
        } else {
            Text(SmolStr::new_static(text))
        }
    }

    /// The order of two names, which are often the same.
    #[inline]
    pub(crate) fn compare(&self, other: &Text) -> Ordering {
        if Wanted::new(self).is(other) { Ordering::Equal } else { self.as_str().cmp(other.as_str()) }
    }

    /// As a slice.
    #[must_use]
    #[inline]
    pub fn as_str(&self) -> &str {
        self.0.as_str()
    }
}

/// The first and the last eight bytes of a name, or four, which overlap in short names: up to sixteen bytes they are the name, given its
/// length. Names are short, and these are compared without a call.
#[inline]
pub(crate) fn ends(name: &str) -> (u64, u64) {
    let bytes = name.as_bytes();
    match (bytes.first_chunk(), bytes.last_chunk(), bytes.first_chunk(), bytes.last_chunk()) {
        (Some(first), Some(last), ..) => (u64::from_le_bytes(*first), u64::from_le_bytes(*last)),
        (_, _, Some(first), Some(last)) => (u32::from_le_bytes(*first).into(), u32::from_le_bytes(*last).into()),
        _ => (bytes.iter().fold(0, |all, byte| all << 8 | u64::from(*byte)), 0),
    }
}

/// A name that is looked for among others.
#[derive(Clone, Copy)]
pub(crate) struct Wanted<'a> {
    name: &'a str,
    ends: (u64, u64),
}

impl<'a> Wanted<'a> {
    #[inline]
    pub(crate) fn new(name: &'a str) -> Wanted<'a> {
        Wanted { name, ends: ends(name) }
    }

    #[inline]
    pub(crate) fn len(self) -> usize {
        self.name.len()
    }

    /// See `ends`.
    #[inline]
    pub(crate) fn ends(self) -> (u64, u64) {
        self.ends
    }

    #[inline]
    pub(crate) fn is(self, name: &str) -> bool {
        name.len() == self.name.len() && ends(name) == self.ends && (name.len() <= 16 || name == self.name)
    }
}

impl Deref for Text {
    type Target = str;

    #[inline]
    fn deref(&self) -> &str {
        self.as_str()
    }
}

impl AsRef<str> for Text {
    fn as_ref(&self) -> &str {
        self.as_str()
    }
}

impl AsRef<[u8]> for Text {
    fn as_ref(&self) -> &[u8] {
        self.as_bytes()
    }
}

impl Borrow<str> for Text {
    fn borrow(&self) -> &str {
        self.as_str()
    }
}

impl fmt::Debug for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.as_str(), f)
    }
}

impl fmt::Display for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self.as_str(), f)
    }
}

impl From<&str> for Text {
    #[inline]
    fn from(text: &str) -> Text {
        Text(SmolStr::new(text))
    }
}

impl From<&mut str> for Text {
    fn from(text: &mut str) -> Text {
        Text(SmolStr::new(text))
    }
}

impl From<&String> for Text {
    fn from(text: &String) -> Text {
        Text(SmolStr::new(text))
    }
}

impl From<String> for Text {
    fn from(text: String) -> Text {
        Text(SmolStr::from(text))
    }
}

impl From<Box<str>> for Text {
    fn from(text: Box<str>) -> Text {
        Text(SmolStr::from(text))
    }
}

impl From<Arc<str>> for Text {
    fn from(text: Arc<str>) -> Text {
        Text(SmolStr::from(text))
    }
}

impl From<Cow<'_, str>> for Text {
    #[inline]
    fn from(text: Cow<'_, str>) -> Text {
        match text {
            Cow::Borrowed(text) => text.into(),
            Cow::Owned(text) => text.into(),
        }
    }
}

impl From<&Text> for Text {
    fn from(text: &Text) -> Text {
        text.clone()
    }
}

impl From<char> for Text {
    fn from(char: char) -> Text {
        Text::from(&*char.encode_utf8(&mut [0; 4]))
    }
}

impl From<Text> for String {
    fn from(text: Text) -> String {
        text.0.into()
    }
}

impl From<&Text> for String {
    fn from(text: &Text) -> String {
        text.as_str().to_owned()
    }
}

impl From<Text> for Arc<str> {
    fn from(text: Text) -> Arc<str> {
        text.0.into()
    }
}

impl From<Text> for Cow<'_, str> {
    fn from(text: Text) -> Self {
        Cow::Owned(text.into())
    }
}

impl<'a> From<&'a Text> for Cow<'a, str> {
    fn from(text: &'a Text) -> Self {
        Cow::Borrowed(text.as_str())
    }
}

impl FromIterator<char> for Text {
    fn from_iter<I: IntoIterator<Item = char>>(chars: I) -> Text {
        Text(chars.into_iter().collect())
    }
}

macro_rules! equal {
    ($($other:ty),*) => {
        $(
            impl PartialEq<$other> for Text {
                #[inline]
                fn eq(&self, other: &$other) -> bool {
                    let other: &str = other.as_ref();
                    self.as_str() == other
                }
            }

            impl PartialEq<Text> for $other {
                #[inline]
                fn eq(&self, other: &Text) -> bool {
                    other == self
                }
            }
        )*
    };
}

equal!(str, &str, String, &String, Cow<'_, str>);

impl Serialize for Text {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

impl<'de> Deserialize<'de> for Text {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Text, D::Error> {
        struct Reader;

        impl serde::de::Visitor<'_> for Reader {
            type Value = Text;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string")
            }

            fn visit_str<E>(self, text: &str) -> Result<Text, E> {
                Ok(text.into())
            }

            fn visit_string<E>(self, text: String) -> Result<Text, E> {
                Ok(text.into())
            }
        }

        deserializer.deserialize_str(Reader)
    }
}
