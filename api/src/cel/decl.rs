//! Declarations: what variables and their fields are.
//!
//! Made from OpenAPI schemas of custom resources, from the native types, or by hand. Field names are escaped as
//! Kubernetes does, so that `a-b` is `a__dash__b` in expressions. Never reads values.

use super::parser::RESERVED;
use super::types::Type;
use crate::schema::ListKind;
use std::collections::BTreeMap;
use std::sync::{Arc, LazyLock};

/// What a value is.
#[derive(Clone, Debug)]
pub struct Decl {
    /// Its shape.
    pub kind: DeclKind,
    /// `null` is a value of it.
    pub nullable: bool,
    /// The most characters, bytes, elements or entries; `None` when unbounded.
    pub most: Option<u64>,
}

/// The shape of a value.
#[derive(Clone, Debug)]
pub enum DeclKind {
    /// Any JSON.
    Dyn,
    /// Any JSON, where the checker does not let it be gone through.
    Any,
    /// A truth value.
    Bool,
    /// A whole number.
    Int,
    /// A whole number that is not negative.
    Uint,
    /// A number.
    Double,
    /// Text.
    String,
    /// Base64 in JSON.
    Bytes,
    /// Go's duration text in JSON.
    Duration,
    /// RFC 3339, or a date, in JSON.
    Timestamp,
    /// An amount, as text in JSON.
    Quantity,
    /// A list.
    List {
        /// Its elements.
        items: Arc<Decl>,
        /// How elements are told apart.
        kind: ListKind,
    },
    /// A map.
    Map {
        /// Its keys: text, with their longest length.
        keys: Arc<Decl>,
        /// Its values.
        values: Arc<Decl>,
    },
    /// Declared fields.
    Object(Arc<ObjectDecl>),
    /// A type of a library.
    Other(Type),
}

/// An object type.
#[derive(Clone, Debug)]
pub struct ObjectDecl {
    /// Its name in expressions.
    pub name: Arc<str>,
    /// Its fields by escaped name.
    pub fields: BTreeMap<String, FieldDecl>,
    /// Expressions may make such objects.
    pub constructible: bool,
}

/// A field.
#[derive(Clone, Debug)]
pub struct FieldDecl {
    /// Its name in JSON.
    pub name: String,
    /// What it is.
    pub decl: Decl,
}

impl From<DeclKind> for Decl {
    fn from(kind: DeclKind) -> Decl {
        Decl { kind, nullable: false, most: None }
    }
}

impl Decl {
    /// Any JSON.
    #[must_use]
    pub fn dynamic() -> &'static Decl {
        static DYNAMIC: LazyLock<Decl> = LazyLock::new(|| DeclKind::Dyn.into());
        &DYNAMIC
    }

    /// Text.
    #[must_use]
    pub fn string() -> Decl {
        DeclKind::String.into()
    }

    /// A list whose elements have no keys.
    #[must_use]
    pub fn list(items: Decl) -> Decl {
        DeclKind::List { items: Arc::new(items), kind: ListKind::Atomic }.into()
    }

    /// A map from text.
    #[must_use]
    pub fn map(values: Decl) -> Decl {
        DeclKind::Map { keys: Arc::new(Decl::string()), values: Arc::new(values) }.into()
    }

    /// An object with these fields, whose names expressions write as they are in JSON, reserved words too. Fields of
    /// schemas are escaped (`escape`); those of Kubernetes' own variables (`request.namespace`) are not.
    #[must_use]
    pub fn object(name: &str, fields: impl IntoIterator<Item = (impl Into<String>, Decl)>) -> Decl {
        let fields = fields.into_iter().map(|(name, decl)| {
            let name = name.into();
            (name.clone(), FieldDecl { name, decl })
        });
        DeclKind::Object(Arc::new(ObjectDecl { name: name.into(), fields: fields.collect(), constructible: false }))
            .into()
    }

    /// With at most so many characters, elements or entries.
    #[must_use]
    pub fn at_most(mut self, most: u64) -> Decl {
        self.most = Some(most);
        self
    }

    /// What the elements of a list are.
    #[must_use]
    pub fn items(&self) -> &Decl {
        match &self.kind {
            DeclKind::List { items, .. } => items,
            _ => Decl::dynamic(),
        }
    }

    /// Its type in expressions.
    #[must_use]
    pub fn cel_type(&self) -> Type {
        match &self.kind {
            DeclKind::Dyn => Type::Dyn,
            DeclKind::Any => Type::Any,
            DeclKind::Bool => Type::Bool,
            DeclKind::Int => Type::Int,
            DeclKind::Uint => Type::Uint,
            DeclKind::Double => Type::Double,
            DeclKind::String => Type::String,
            DeclKind::Bytes => Type::Bytes,
            DeclKind::Duration => Type::Duration,
            DeclKind::Timestamp => Type::Timestamp,
            DeclKind::Quantity => Type::object("kubernetes.Quantity"),
            DeclKind::List { items, .. } => Type::list(items.cel_type()),
            DeclKind::Map { keys, values } => Type::map(keys.cel_type(), values.cel_type()),
            DeclKind::Object(object) => Type::Object(object.name.clone()),
            DeclKind::Other(t) => t.clone(),
        }
    }

    /// All object types in it, itself included.
    pub(crate) fn objects(&self, found: &mut Vec<Arc<ObjectDecl>>) {
        match &self.kind {
            DeclKind::List { items, .. } => items.objects(found),
            DeclKind::Map { values, .. } => values.objects(found),
            DeclKind::Object(object) => {
                if found.iter().any(|known| Arc::ptr_eq(known, object)) {
                    return;
                }
                found.push(object.clone());
                for field in object.fields.values() {
                    field.decl.objects(found);
                }
            }
            _ => {}
        }
    }
}

/// A JSON field name as expressions write it; `None` when they cannot.
#[must_use]
pub fn escape(name: &str) -> Option<String> {
    if RESERVED.contains(&name) {
        return Some(format!("__{name}__"));
    }
    let first = name.chars().next()?;
    if first.is_ascii_digit() || !name.chars().all(|c| c.is_ascii_alphanumeric() || "_.-/".contains(c)) {
        return None;
    }
    let escaped = name.replace("__", "\u{1}");
    let escaped = escaped.replace('.', "__dot__").replace('-', "__dash__").replace('/', "__slash__");
    Some(escaped.replace('\u{1}', "__underscores__"))
}
