//! The numbers of values: integers of 64 bits, with or without a sign, and doubles.
//!
//! Integers and doubles differ even where they count the same, as they do on the wire. Never infinite, never not a number.

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::fmt;
use std::hash::{Hash, Hasher};

/// A number.
#[derive(Clone, Copy, PartialEq)]
pub struct Number(Kind);

#[derive(Clone, Copy, Debug, PartialEq)]
enum Kind {
    /// Zero or more.
    Unsigned(u64),
    /// Less than zero.
    Negative(i64),
    Double(f64),
}

// A double that is not a number would not equal itself; there is none.
impl Eq for Number {}

impl Hash for Number {
    fn hash<H: Hasher>(&self, state: &mut H) {
        match self.0 {
            Kind::Unsigned(number) => number.hash(state),
            Kind::Negative(number) => number.hash(state),
            // Both zeros are equal.
            Kind::Double(number) => (if number == 0.0 { 0 } else { number.to_bits() }).hash(state),
        }
    }
}

impl Number {
    /// A double; `None` where it is infinite or not a number, which JSON cannot say.
    #[must_use]
    pub fn from_f64(number: f64) -> Option<Number> {
        number.is_finite().then_some(Number(Kind::Double(number)))
    }

    /// The integer, where it is one that fits.
    #[must_use]
    pub fn as_i64(&self) -> Option<i64> {
        match self.0 {
            Kind::Unsigned(number) => i64::try_from(number).ok(),
            Kind::Negative(number) => Some(number),
            Kind::Double(_) => None,
        }
    }

    /// The integer, where it is one that fits.
    #[must_use]
    pub fn as_u64(&self) -> Option<u64> {
        match self.0 {
            Kind::Unsigned(number) => Some(number),
            Kind::Negative(_) | Kind::Double(_) => None,
        }
    }

    /// The double next to it.
    #[must_use]
    pub fn as_f64(&self) -> Option<f64> {
        Some(match self.0 {
            Kind::Unsigned(number) => number as f64,
            Kind::Negative(number) => number as f64,
            Kind::Double(number) => number,
        })
    }

    /// An integer that `as_i64` answers.
    #[must_use]
    pub fn is_i64(&self) -> bool {
        self.as_i64().is_some()
    }

    /// An integer of zero or more.
    #[must_use]
    pub fn is_u64(&self) -> bool {
        self.as_u64().is_some()
    }

    /// A double, be it whole.
    #[must_use]
    pub fn is_f64(&self) -> bool {
        matches!(self.0, Kind::Double(_))
    }
}

impl From<i64> for Number {
    fn from(number: i64) -> Number {
        Number(u64::try_from(number).map_or(Kind::Negative(number), Kind::Unsigned))
    }
}

impl From<u64> for Number {
    fn from(number: u64) -> Number {
        Number(Kind::Unsigned(number))
    }
}

macro_rules! widen {
    ($($narrow:ty => $wide:ty),*) => {
        $(
            impl From<$narrow> for Number {
                fn from(number: $narrow) -> Number {
                    Number::from(number as $wide)
                }
            }
        )*
    };
}

widen!(i8 => i64, i16 => i64, i32 => i64, isize => i64, u8 => u64, u16 => u64, u32 => u64, usize => u64);

impl fmt::Display for Number {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Kind::Unsigned(number) => fmt::Display::fmt(&number, f),
            Kind::Negative(number) => fmt::Display::fmt(&number, f),
            Kind::Double(number) => match serde_json::Number::from_f64(number) {
                Some(number) => fmt::Display::fmt(&number, f),
                None => f.write_str("null"),
            },
        }
    }
}

impl fmt::Debug for Number {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Number({self})")
    }
}

impl Serialize for Number {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.0 {
            Kind::Unsigned(number) => serializer.serialize_u64(number),
            Kind::Negative(number) => serializer.serialize_i64(number),
            Kind::Double(number) => serializer.serialize_f64(number),
        }
    }
}

impl<'de> Deserialize<'de> for Number {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Number, D::Error> {
        serde_json::Number::deserialize(deserializer).map(Number::from)
    }
}
