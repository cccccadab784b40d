//! The types of expressions, how they are written in messages, and which may stand for which.
//!
//! Unification follows cel-go's checker step by step: which of two overloads fits decides what upstream accepts. Never
//! looks at values.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

/// The type of an expression.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Type {
    /// Known only when evaluated.
    Dyn,
    /// `google.protobuf.Any`: like `Dyn`, under another name.
    Any,
    /// Of an expression with a mistake in it.
    Error,
    /// `null`.
    Null,
    /// `true` and `false`.
    Bool,
    /// Signed, 64 bits.
    Int,
    /// Unsigned, 64 bits.
    Uint,
    /// IEEE 754, 64 bits.
    Double,
    /// Text.
    String,
    /// Bytes.
    Bytes,
    /// A length of time, in nanoseconds.
    Duration,
    /// A point in time.
    Timestamp,
    /// A list of elements.
    List(Arc<Type>),
    /// A map from keys to values.
    Map(Arc<(Type, Type)>),
    /// A type with fields, by name.
    Object(Arc<str>),
    /// A type without fields, with parameters (`optional_type(int)`).
    Opaque(Arc<str>, Arc<[Type]>),
    /// The type of a type.
    Type(Option<Arc<Type>>),
    /// A parameter of a function's signature, or a type that is not known yet.
    Param(Arc<str>),
}

/// The name of the type of optional values.
const OPTIONAL: &str = "optional_type";

impl Type {
    /// A list.
    #[must_use]
    pub fn list(element: Type) -> Type {
        Type::List(Arc::new(element))
    }

    /// A map.
    #[must_use]
    pub fn map(key: Type, value: Type) -> Type {
        Type::Map(Arc::new((key, value)))
    }

    /// A type with fields.
    #[must_use]
    pub fn object(name: &str) -> Type {
        Type::Object(name.into())
    }

    /// A value that may be absent.
    #[must_use]
    pub fn optional(value: Type) -> Type {
        Type::Opaque(OPTIONAL.into(), Arc::new([value]))
    }

    /// What is in an optional value.
    #[must_use]
    pub fn in_optional(&self) -> Option<&Type> {
        match self {
            Type::Opaque(name, params) if &**name == OPTIONAL => params.first(),
            _ => None,
        }
    }

    /// Checked when evaluated only.
    #[must_use]
    pub fn is_dyn(&self) -> bool {
        matches!(self, Type::Dyn | Type::Any)
    }

    pub(crate) fn is_dyn_or_error(&self) -> bool {
        matches!(self, Type::Dyn | Type::Any | Type::Error)
    }

    /// The name that the type has as a value.
    #[must_use]
    pub fn name(&self) -> &str {
        match self {
            Type::Dyn => "dyn",
            Type::Any => "any",
            Type::Error => "!error!",
            Type::Null => "null_type",
            Type::Bool => "bool",
            Type::Int => "int",
            Type::Uint => "uint",
            Type::Double => "double",
            Type::String => "string",
            Type::Bytes => "bytes",
            Type::Duration => "google.protobuf.Duration",
            Type::Timestamp => "google.protobuf.Timestamp",
            Type::List(_) => "list",
            Type::Map(_) => "map",
            Type::Type(_) => "type",
            Type::Object(name) | Type::Opaque(name, _) | Type::Param(name) => name,
        }
    }

    /// As in upstream's sentences about what an expression gives: `google.protobuf.Timestamp`, `list(int)`.
    #[must_use]
    pub fn full(&self) -> String {
        let params: Vec<String> = self.params().into_iter().map(Type::full).collect();
        let name = if *self == Type::Any { "google.protobuf.Any" } else { self.name() };
        if params.is_empty() { name.to_owned() } else { format!("{name}({})", params.join(", ")) }
    }

    fn params(&self) -> Vec<&Type> {
        match self {
            Type::List(element) => vec![element],
            Type::Map(pair) => vec![&pair.0, &pair.1],
            Type::Opaque(_, params) => params.iter().collect(),
            Type::Type(Some(of)) => vec![of],
            _ => Vec::new(),
        }
    }

    /// Reads a type of a signature: `list(A)`, `map(string, dyn)`, `optional(V)`, `kubernetes.URL`.
    pub(crate) fn read(text: &str) -> Type {
        let text = text.trim();
        if let Some((name, inner)) = text.strip_suffix(')').and_then(|text| text.split_once('(')) {
            let params = split(inner);
            let mut params = params.into_iter().map(Type::read);
            let first = params.next().unwrap_or(Type::Dyn);
            return match name {
                "list" => Type::list(first),
                "map" => Type::map(first, params.next().unwrap_or(Type::Dyn)),
                "optional" => Type::optional(first),
                "type" => Type::Type(Some(Arc::new(first))),
                _ => Type::Opaque(name.into(), Arc::new([first])),
            };
        }
        match text {
            "dyn" => Type::Dyn,
            "null" => Type::Null,
            "bool" => Type::Bool,
            "int" => Type::Int,
            "uint" => Type::Uint,
            "double" => Type::Double,
            "string" => Type::String,
            "bytes" => Type::Bytes,
            "duration" => Type::Duration,
            "timestamp" => Type::Timestamp,
            "net.IP" | "net.CIDR" => Type::Opaque(text.into(), Arc::new([])),
            text if text.len() == 1 => Type::Param(text.into()),
            text => Type::object(text),
        }
    }
}

/// Splits at the commas that are in no parentheses.
pub(crate) fn split(text: &str) -> Vec<&str> {
    let mut depth = 0;
    let parts = text.split(|c| {
        depth += i32::from(c == '(') - i32::from(c == ')');
        c == ',' && depth == 0
    });
    parts.filter(|part| !part.trim().is_empty()).collect()
}

/// As in messages.
impl fmt::Display for Type {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Type::Null => return f.write_str("null"),
            Type::Duration => return f.write_str("duration"),
            Type::Timestamp => return f.write_str("timestamp"),
            _ => f.write_str(self.name())?,
        }
        let params = self.params();
        if params.is_empty() {
            return Ok(());
        }
        f.write_str("(")?;
        for (i, param) in params.into_iter().enumerate() {
            write!(f, "{}{param}", if i == 0 { "" } else { ", " })?;
        }
        f.write_str(")")
    }
}

/// What the parameters stand for so far.
#[derive(Clone, Debug, Default)]
pub(crate) struct Bindings {
    of: HashMap<Arc<str>, Type>,
    next: u32,
}

impl Bindings {
    /// A type that is not known yet.
    pub(crate) fn fresh(&mut self) -> Type {
        let name = format!("_var{}", self.next);
        self.next += 1;
        Type::Param(name.into())
    }

    /// Replaces parameters by what they stand for; with `to_dyn`, the unknown ones by `Dyn`.
    pub(crate) fn substitute(&self, t: &Type, to_dyn: bool) -> Type {
        match t {
            Type::Param(name) => match self.of.get(name) {
                Some(bound) => self.substitute(bound, to_dyn),
                None if to_dyn => Type::Dyn,
                None => t.clone(),
            },
            Type::List(element) => Type::list(self.substitute(element, to_dyn)),
            Type::Map(pair) => Type::map(self.substitute(&pair.0, to_dyn), self.substitute(&pair.1, to_dyn)),
            Type::Opaque(name, params) => {
                Type::Opaque(name.clone(), params.iter().map(|param| self.substitute(param, to_dyn)).collect())
            }
            Type::Type(Some(of)) => Type::Type(Some(Arc::new(self.substitute(of, to_dyn)))),
            _ => t.clone(),
        }
    }

    /// Renames the parameters of a signature.
    pub(crate) fn rename(t: &Type, names: &HashMap<Arc<str>, Type>) -> Type {
        Bindings { of: names.clone(), next: 0 }.substitute(t, false)
    }

    /// Whether the first may stand where the second is; what was learnt is kept only then.
    pub(crate) fn assignable(&mut self, from: &Type, to: &Type) -> bool {
        let mut copy = self.clone();
        let fits = copy.fits(from, to);
        if fits {
            *self = copy;
        }
        fits
    }

    /// The same for lists of equal length.
    pub(crate) fn all_assignable(&mut self, from: &[Type], to: &[Type]) -> bool {
        let mut copy = self.clone();
        let fits = from.len() == to.len() && from.iter().zip(to).all(|(from, to)| copy.fits(from, to));
        if fits {
            *self = copy;
        }
        fits
    }

    fn fits(&mut self, a: &Type, b: &Type) -> bool {
        if let Type::Param(name) = b {
            match self.stands_for(a, b, name) {
                (true, _) => return true,
                (false, true) => return false,
                (false, false) => {}
            }
        }
        if let Type::Param(name) = a {
            return self.stands_for(b, a, name).0;
        }
        if a.is_dyn_or_error() || b.is_dyn_or_error() {
            return true;
        }
        if *a == Type::Null || *b == Type::Null {
            let other = if *a == Type::Null { b } else { a };
            return matches!(other, Type::Null | Type::Opaque(..) | Type::Object(_) | Type::Duration | Type::Timestamp);
        }
        match (a, b) {
            (Type::Type(_), Type::Type(_)) => true,
            (Type::List(a), Type::List(b)) => self.fits(a, b),
            (Type::Map(a), Type::Map(b)) => self.fits(&a.0, &b.0) && self.fits(&a.1, &b.1),
            (Type::Opaque(a, of_a), Type::Opaque(b, of_b)) => {
                a == b && of_a.len() == of_b.len() && of_a.iter().zip(of_b.iter()).all(|(a, b)| self.fits(a, b))
            }
            _ => a == b,
        }
    }

    /// Whether parameter `param` (named `name`) may stand for `t`, and whether it was known before.
    fn stands_for(&mut self, t: &Type, param: &Type, name: &Arc<str>) -> (bool, bool) {
        if t == param {
            return (true, true);
        }
        if let Some(known) = self.of.get(name).cloned() {
            if *t == known {
                return (true, true);
            }
            if !self.fits(t, &known) {
                return (false, true);
            }
            let general = most_general(t, &known);
            if self.free_of(param, &general) {
                self.of.insert(name.clone(), general);
            }
            return (true, true);
        }
        if !self.free_of(param, t) {
            return (false, false);
        }
        self.of.insert(name.clone(), t.clone());
        (true, false)
    }

    /// The parameter does not occur within the type.
    fn free_of(&self, param: &Type, within: &Type) -> bool {
        if param == within {
            return false;
        }
        match within {
            Type::Param(name) => self.of.get(name).is_none_or(|bound| self.free_of(param, bound)),
            _ => within.params().into_iter().all(|inner| self.free_of(param, inner)),
        }
    }
}

/// The more general of two types that go together.
pub(crate) fn most_general(a: &Type, b: &Type) -> Type {
    if equal_or_less_specific(a, b) { a.clone() } else { b.clone() }
}

fn equal_or_less_specific(a: &Type, b: &Type) -> bool {
    if a.is_dyn() || matches!(a, Type::Param(_)) {
        return true;
    }
    if b.is_dyn() || matches!(b, Type::Param(_)) {
        return false;
    }
    match (a, b) {
        (Type::Type(_), Type::Type(_)) => true,
        (Type::List(a), Type::List(b)) => equal_or_less_specific(a, b),
        (Type::Map(a), Type::Map(b)) => equal_or_less_specific(&a.0, &b.0) && equal_or_less_specific(&a.1, &b.1),
        (Type::Opaque(a, of_a), Type::Opaque(b, of_b)) => {
            a == b
                && of_a.len() == of_b.len()
                && of_a.iter().zip(of_b.iter()).all(|(a, b)| equal_or_less_specific(a, b))
        }
        _ => a == b,
    }
}
