//! Environments: which variables, types and functions an expression may use.
//!
//! `Env::kubernetes` is what all of Kubernetes v1.36 begins with; callers add their variables. Never holds values.

use super::decl::{Decl, ObjectDecl};
use super::declare::{Function, Functions, Library, functions};
use super::lib;
use super::parser::Syntax;
use super::types::Type;
use std::collections::HashMap;
use std::sync::{Arc, LazyLock};

/// The minor version whose expressions are understood.
pub const VERSION: u32 = 36;

/// What an expression may use. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Env {
    pub(crate) syntax: Syntax,
    functions: Arc<Functions>,
    variables: Vec<(Arc<str>, Decl)>,
    objects: HashMap<Arc<str>, Arc<ObjectDecl>>,
    /// `Object{...}` and `JSONPatch{...}` may be made.
    mutation: bool,
}

/// Libraries on top of what every environment has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Extras {
    /// `jsonpatch.escapeKey`, `Object{}` and `JSONPatch{}` (mutating admission policies).
    pub mutation: bool,
    /// `cel.bind` (device selectors).
    pub bind: bool,
    /// `includes` (device selectors behind the gate `DRAListTypeAttributes`).
    pub includes: bool,
}

impl Extras {
    /// Nothing more.
    pub const NONE: Extras = Extras { mutation: false, bind: false, includes: false };

    /// With what mutating admission policies have.
    #[must_use]
    pub const fn with_mutation(self) -> Extras {
        Extras { mutation: true, ..self }
    }

    /// With `cel.bind`.
    #[must_use]
    pub const fn with_bind(self) -> Extras {
        Extras { bind: true, ..self }
    }

    /// With `includes`.
    #[must_use]
    pub const fn with_includes(self) -> Extras {
        Extras { includes: true, ..self }
    }
}

static BASE: LazyLock<Arc<Functions>> = LazyLock::new(|| Arc::new(library_functions(VERSION, &[])));

fn library_functions(version: u32, more: &[&'static Library]) -> Functions {
    let base = lib::ALL.iter().copied().filter(|library| library.since.is_some_and(|since| since <= version));
    functions(base.chain(more.iter().copied()))
}

impl Env {
    /// What every expression of Kubernetes v1.36 may use, and `extras`.
    #[must_use]
    pub fn kubernetes(extras: Extras) -> Env {
        let mut more: Vec<&'static Library> = Vec::new();
        if extras.mutation {
            more.push(&lib::JSON_PATCH);
        }
        if extras.includes {
            more.push(&lib::INCLUDES);
        }
        let functions = if more.is_empty() { BASE.clone() } else { Arc::new(library_functions(VERSION, &more)) };
        let syntax = Syntax { optional: true, bind: extras.bind, two_variables: true, sort_by: true };
        let (variables, objects) = (Vec::new(), HashMap::new());
        Env { syntax, functions, variables, objects, mutation: extras.mutation }
    }

    /// With one more variable.
    #[must_use]
    pub fn with(mut self, name: &str, decl: Decl) -> Env {
        let mut found = Vec::new();
        decl.objects(&mut found);
        for object in found {
            self.objects.insert(object.name.clone(), object);
        }
        self.variables.retain(|(known, _)| **known != *name);
        self.variables.push((name.into(), decl));
        self
    }

    /// The declaration of a variable.
    #[must_use]
    pub fn variable(&self, name: &str) -> Option<&Decl> {
        self.variables.iter().find(|(known, _)| **known == *name).map(|(_, decl)| decl)
    }

    pub(crate) fn variable_type(&self, name: &str) -> Option<Type> {
        self.variable(name).map(Decl::cel_type)
    }

    /// The type that a name stands for.
    pub(crate) fn type_named(&self, name: &str) -> Option<Type> {
        Some(match name {
            "bool" => Type::Bool,
            "bytes" => Type::Bytes,
            "double" => Type::Double,
            "google.protobuf.Duration" => Type::Duration,
            "int" => Type::Int,
            "list" => Type::list(Type::Dyn),
            "map" => Type::map(Type::Dyn, Type::Dyn),
            "null_type" => Type::Null,
            "string" => Type::String,
            "google.protobuf.Timestamp" => Type::Timestamp,
            "type" => Type::Type(None),
            "uint" => Type::Uint,
            "optional_type" => Type::optional(Type::Dyn),
            "net.IP" | "net.CIDR" => Type::read(name),
            name if self.is_made(name) || self.objects.contains_key(name) => Type::object(name),
            _ => return None,
        })
    }

    /// An object that expressions of mutating policies make: every field of `Object` may hold anything.
    fn is_made(&self, name: &str) -> bool {
        self.mutation && (matches!(name, "Object" | "JSONPatch") || name.starts_with("Object."))
    }

    /// The type of a field; the inner `None` when the type has no such field, the outer when there is no such type.
    pub(crate) fn field_type(&self, object: &str, field: &str) -> Option<Option<Type>> {
        if self.is_made(object) {
            return Some(match (object, field) {
                ("JSONPatch", "op" | "path" | "from") => Some(Type::String),
                ("JSONPatch", "value") => Some(Type::Dyn),
                ("JSONPatch", _) => None,
                _ => Some(Type::Dyn),
            });
        }
        if object.starts_with("kubernetes.") && !self.objects.contains_key(object) {
            return Some(None);
        }
        self.objects.get(object).map(|object| object.fields.get(field).map(|field| field.decl.cel_type()))
    }

    pub(crate) fn function(&self, name: &str) -> Option<Arc<Function>> {
        self.functions.get(name).cloned()
    }
}
