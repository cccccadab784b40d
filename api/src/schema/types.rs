//! The shapes that a schema is made of.
//!
//! A `Types` is an arena: types refer to each other by `TypeId`, so recursive types need no reference counting and a
//! custom resource can bring an arena of its own. Never decodes or validates by itself.

use crate::json::{Map, Text, Value, Wanted};
use std::collections::HashMap;

/// Index of a `TypeDef` in its `Types` arena.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct TypeId(pub u32);

/// How a list is merged by server-side apply (`x-kubernetes-list-type`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ListKind {
    /// Replaced as a whole; one owner.
    Atomic,
    /// Scalars, each at most once; owned one by one.
    Set,
    /// Objects identified by the named key fields.
    Map(Vec<String>),
}

/// How a map or struct is merged by server-side apply (`x-kubernetes-map-type`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MapKind {
    /// Each entry has its own owner.
    Granular,
    /// Replaced as a whole.
    Atomic,
}

/// What a value looks like on the wire.
#[derive(Clone, Debug, PartialEq)]
pub enum Shape {
    /// A UTF-8 string.
    String,
    /// Base64 text in JSON, raw bytes in protobuf.
    Bytes,
    /// Signed integer of 32 bits.
    Int32,
    /// Signed integer of 64 bits.
    Int64,
    /// IEEE 754 double.
    Float64,
    /// `true` or `false`.
    Bool,
    /// `resource.Quantity`: a decimal or binary SI number, canonical text in JSON.
    Quantity,
    /// `intstr.IntOrString`.
    IntOrString,
    /// `metav1.Time`: RFC 3339, seconds, UTC.
    Time,
    /// `metav1.MicroTime`: RFC 3339, six digits, UTC.
    MicroTime,
    /// `metav1.Duration`: Go's duration text (`1m30s`).
    Duration,
    /// `runtime.RawExtension`, `apiextensions JSON`, `FieldsV1` and the like: kept as it came.
    Any,
    /// A list of `items`.
    List {
        /// Shape of each element.
        items: Box<Shape>,
        /// Merge behaviour under apply.
        kind: ListKind,
    },
    /// A map from string to `values`.
    Map {
        /// Shape of each value.
        values: Box<Shape>,
        /// Merge behaviour under apply.
        kind: MapKind,
    },
    /// A struct type of the same arena.
    Struct(TypeId),
}

/// Strategic merge patch behaviour of a field.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PatchStrategy {
    /// `patchStrategy` contains `merge`.
    pub merge: bool,
    /// `patchStrategy` is `replace`: a map takes the place of the old one.
    pub replace: bool,
    /// `patchStrategy` contains `retainKeys`.
    pub retain_keys: bool,
    /// `patchMergeKey`; absent for lists of scalars.
    pub merge_key: Option<String>,
}

/// One field of a struct.
#[derive(Clone, Debug, PartialEq)]
pub struct Field {
    /// JSON name.
    pub name: Text,
    /// Protobuf field number; 0 where the type has no protobuf form.
    pub number: u32,
    /// What the value looks like.
    pub shape: Shape,
    /// Listed in OpenAPI's `required`.
    pub required: bool,
    /// Left out of JSON when it is Go's zero value (`omitempty`, `omitzero`).
    pub omit_empty: bool,
    /// A pointer in Go: absent and zero differ.
    pub pointer: bool,
    /// Strategic merge behaviour.
    pub patch: PatchStrategy,
    /// The map or struct under this field is replaced as a whole by apply even if its type is granular.
    pub atomic: bool,
    /// Constant default (`+default=`).
    pub default: Option<Value>,
    /// Permitted values of an enum (`+enum`); empty when any.
    pub allowed: Vec<String>,
}

impl Field {
    /// The constant default, where it says something: absent and zero may be the same to Go.
    pub(crate) fn constant(&self) -> Option<&Value> {
        self.default.as_ref().filter(|default| self.pointer || !crate::codec::is_empty(default))
    }
}

impl Shape {
    /// The struct type that this is, or that lists and maps of any depth hold.
    fn structure(&self) -> Option<TypeId> {
        match self {
            Shape::Struct(id) => Some(*id),
            Shape::List { items: inner, .. } | Shape::Map { values: inner, .. } => inner.structure(),
            _ => None,
        }
    }
}

/// A struct type.
#[derive(Clone, Debug, PartialEq)]
pub struct TypeDef {
    /// OpenAPI v2 name: `io.k8s.api.apps.v1.Deployment`.
    pub name: String,
    /// Group, version, kind; set on types that travel as objects of their own.
    pub gvks: Vec<(String, String, String)>,
    /// Fields in wire order.
    pub fields: Vec<Field>,
    /// `x-kubernetes-map-type: atomic` on the type.
    pub atomic: bool,
    /// Keeps fields it does not know (`x-kubernetes-preserve-unknown-fields`).
    pub preserve_unknown: bool,
    /// Of a custom resource: values of the wrong type are kept, nothing is filled in and nothing left out.
    pub free: bool,
    /// Position of each field by JSON name.
    pub by_name: HashMap<Text, usize>,
}

impl TypeDef {
    /// The field with this JSON name.
    #[must_use]
    pub fn field(&self, name: &str) -> Option<&Field> {
        self.by_name.get(name).and_then(|i| self.fields.get(*i))
    }
}

/// How a field differs on the wire from what its shape says; see `Types::wire`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Wire {
    /// Numbers of the protobuf messages around the field: structs that JSON inlines are messages in protobuf.
    pub(crate) outer: Vec<u32>,
    /// The list is a message with the elements in field 1.
    pub(crate) wrapped: bool,
    /// One of the unions of JSON schemas.
    pub(crate) union: Option<Union>,
    /// The name of the Go type in decoding errors, where the shape does not tell.
    pub(crate) go_type: Option<&'static str>,
    /// The Go structs that JSON inlines and the field is in: decoding errors name them.
    pub(crate) within: Option<&'static str>,
}

/// The unions of JSON schemas: one value of several shapes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Union {
    /// A schema or a boolean.
    Bool,
    /// A schema or a list of schemas.
    Array,
    /// A schema or a list of strings.
    Strings,
}

/// What documents say of a field beside its shape; nothing for nearly all.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Marks {
    /// The map or struct is said to be granular, whatever its type says.
    pub granular: bool,
    /// Nothing is said of how the list merges.
    pub unlisted: bool,
}

/// Fields of a type of which one is set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OneOf {
    /// The field that tells which.
    pub discriminator: Option<String>,
    /// The fields.
    pub fields: Vec<String>,
}

/// An arena of types with lookup by name and by group, version, kind.
#[derive(Debug, Default)]
pub struct Types {
    defs: Vec<TypeDef>,
    by_name: HashMap<String, TypeId>,
    /// Group, version and type of each kind: few kinds are in several.
    by_kind: HashMap<String, Vec<(String, String, TypeId)>>,
    /// By type, then by field; as long as the last field that has one.
    wire: Vec<Vec<Option<Wire>>>,
    /// By type and position of the field.
    marks: HashMap<(TypeId, usize), Marks>,
    /// By type.
    unions: HashMap<TypeId, OneOf>,
    /// By type, once sealed.
    names: Vec<Names>,
    /// By type, once sealed: positions of the fields that a constant default may fill, or something below them.
    defaulted: Vec<Vec<usize>>,
    /// By type, once sealed: positions of the fields that JSON never leaves out, and the first 64 of them as bits.
    always: Vec<(Vec<usize>, u64)>,
    /// By type, once sealed: for each field how many of the type come before it by name.
    ranks: Vec<Vec<u8>>,
    /// By type, once sealed: what JSON has before the value of each field.
    heads: Vec<Vec<Box<str>>>,
}

/// A hash table from field name to position. Names come from a schema, never from a client: no attack on the hash.
#[derive(Debug, Default)]
struct Names {
    /// Position plus one; 0 is free. A power of two in length.
    slots: Vec<u16>,
    /// The length and the ends (`Wanted::ends`) of each name: up to sixteen bytes they are the name.
    names: Vec<(usize, (u64, u64))>,
}

impl Names {
    fn of(fields: &[Field]) -> Names {
        let mut slots = vec![0; (fields.len() * 2).next_power_of_two()];
        let mask = slots.len() - 1;
        for (field, number) in fields.iter().zip(1_u16..) {
            let mut at = Names::hash(Wanted::new(&field.name)) & mask;
            while slots.get(at).is_some_and(|slot| *slot != 0) {
                at = (at + 1) & mask;
            }
            if let Some(slot) = slots.get_mut(at) {
                *slot = number;
            }
        }
        let names = fields.iter().map(|field| Wanted::new(&field.name));
        Names { slots, names: names.map(|name| (name.len(), name.ends())).collect() }
    }

    fn find(&self, fields: &[Field], name: &str) -> Option<usize> {
        let mask = self.slots.len().checked_sub(1)?;
        let wanted = Wanted::new(name);
        let mut at = Names::hash(wanted) & mask;
        loop {
            let index = usize::from(*self.slots.get(at)?).checked_sub(1)?;
            if *self.names.get(index)? == (wanted.len(), wanted.ends())
                && (wanted.len() <= 16 || fields.get(index)?.name == *name)
            {
                return Some(index);
            }
            at = (at + 1) & mask;
        }
    }

    /// Of the length and of both ends: what lies between tells few fields apart.
    fn hash(wanted: Wanted<'_>) -> usize {
        let (first, last) = wanted.ends();
        let hash = (first ^ wanted.len() as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15)
            ^ last.wrapping_mul(0xc2b2_ae3d_27d4_eb4f);
        (hash ^ (hash >> 32)) as usize
    }
}

impl Types {
    /// Adds a type; a later one with the same name wins in lookups.
    pub fn add(&mut self, def: TypeDef) -> TypeId {
        let id = TypeId(u32::try_from(self.defs.len()).unwrap_or(u32::MAX));
        self.by_name.insert(def.name.clone(), id);
        for gvk in &def.gvks {
            if self.of_gvk(&gvk.0, &gvk.1, &gvk.2).is_none() {
                self.name(gvk, id);
            }
        }
        self.defs.push(def);
        id
    }

    /// The type behind an id of this arena.
    ///
    /// # Panics
    /// When the id came from another arena.
    #[must_use]
    pub fn get(&self, id: TypeId) -> &TypeDef {
        self.defs.get(id.0 as usize).expect("a TypeId is used with the arena that made it")
    }

    /// What is special about the field at `index` on the wire; `None` for nearly all.
    pub(crate) fn wire(&self, id: TypeId, index: usize) -> Option<&Wire> {
        self.wire.get(id.0 as usize)?.get(index)?.as_ref()
    }

    pub(crate) fn set_wire(&mut self, id: TypeId, index: usize, wire: Wire) {
        let at = id.0 as usize;
        if self.wire.len() <= at {
            self.wire.resize_with(at + 1, Vec::new);
        }
        if let Some(fields) = self.wire.get_mut(at) {
            fields.resize(index, None);
            fields.push(Some(wire));
        }
    }

    /// What documents say of the field at `index`.
    #[must_use]
    pub fn marks(&self, id: TypeId, index: usize) -> Marks {
        self.marks.get(&(id, index)).copied().unwrap_or_default()
    }

    pub(crate) fn set_marks(&mut self, id: TypeId, index: usize, marks: Marks) {
        self.marks.insert((id, index), marks);
    }

    /// The fields of which one is set, where the type is marked so.
    #[must_use]
    pub fn union(&self, id: TypeId) -> Option<&OneOf> {
        self.unions.get(&id)
    }

    pub(crate) fn set_union(&mut self, id: TypeId, union: OneOf) {
        self.unions.insert(id, union);
    }

    /// Makes lookups of fields fast; no type may change afterwards.
    pub(crate) fn seal(&mut self) {
        self.names = self.defs.iter().map(|def| Names::of(&def.fields)).collect();
        self.ranks = self.defs.iter().map(|def| ranks(&def.fields)).collect();
        let head = |field: &Field| format!(",\"{}\":", field.name).into_boxed_str();
        self.heads = self.defs.iter().map(|def| def.fields.iter().map(head).collect()).collect();
        let kept = |field: &Field| !field.omit_empty;
        let always = |def: &TypeDef| (positions(&def.fields, kept), bits(&def.fields, kept));
        self.always = self.defs.iter().map(always).collect();
        let own = |field: &Field| field.constant().is_some();
        let mut defaulted: Vec<_> = self.defs.iter().map(|def| positions(&def.fields, own)).collect();
        // Types refer to each other in circles: until nothing new is found.
        loop {
            let below = |shape: &Shape| {
                let id = shape.structure();
                id.and_then(|id| defaulted.get(id.0 as usize)).is_some_and(|fields| !fields.is_empty())
            };
            let more = |field: &Field| own(field) || below(&field.shape);
            let found: Vec<_> = self.defs.iter().map(|def| positions(&def.fields, more)).collect();
            if found == defaulted {
                break;
            }
            defaulted = found;
        }
        self.defaulted = defaulted;
    }

    /// The fields that a constant default may fill, or something below them; all where nobody has looked.
    pub(crate) fn defaulted(&self, id: TypeId) -> impl Iterator<Item = &Field> {
        select(self.get(id), self.defaulted.get(id.0 as usize)).map(|(_, field)| field)
    }

    /// The fields that JSON never leaves out, with their positions.
    pub(crate) fn always(&self, id: TypeId) -> impl Iterator<Item = (usize, &Field)> {
        select(self.get(id), self.always.get(id.0 as usize).map(|(fields, _)| fields))
            .filter(|(_, field)| !field.omit_empty)
    }

    /// Those among the first 64 fields, as bits.
    pub(crate) fn always_first(&self, id: TypeId) -> u64 {
        let known = self.always.get(id.0 as usize).map(|(_, bits)| *bits);
        known.unwrap_or_else(|| bits(&self.get(id).fields, |field| !field.omit_empty))
    }

    /// Whether `rank` answers for the fields of a type.
    pub(crate) fn is_ranked(&self, id: TypeId) -> bool {
        self.ranks.get(id.0 as usize).is_some_and(|ranks| !ranks.is_empty())
    }

    /// How many fields of the type come before this one by name, as a bit: a set of such bits says where in the order of names a field
    /// belongs among others. `None` where nobody has looked, and in types of more than 64 fields.
    pub(crate) fn rank(&self, id: TypeId, index: usize) -> Option<u64> {
        self.ranks.get(id.0 as usize)?.get(index).map(|rank| 1 << (rank & 63))
    }

    /// `,"name":` of a field, whose name needs no escapes; `None` where nobody has looked.
    pub(crate) fn head(&self, id: TypeId, index: usize) -> Option<&str> {
        self.heads.get(id.0 as usize)?.get(index).map(|head| &**head)
    }

    /// The position of the field with this JSON name.
    pub(crate) fn position(&self, id: TypeId, name: &str) -> Option<usize> {
        let def = self.defs.get(id.0 as usize)?;
        match self.names.get(id.0 as usize) {
            Some(names) => names.find(&def.fields, name),
            None => def.by_name.get(name).copied(),
        }
    }

    /// Names a type that was added without a name, and makes it the type of a group, version and kind.
    pub(crate) fn rename(&mut self, id: TypeId, name: &str, (group, version, kind): (&str, &str, &str)) {
        let gvk = (group.to_owned(), version.to_owned(), kind.to_owned());
        self.by_name.insert(name.to_owned(), id);
        self.name(&gvk, id);
        if let Some(def) = self.defs.get_mut(id.0 as usize) {
            name.clone_into(&mut def.name);
            def.gvks = vec![gvk];
        }
    }

    /// Changes a type after it was added (two-pass loading of mutually recursive types).
    pub fn get_mut(&mut self, id: TypeId) -> Option<&mut TypeDef> {
        self.defs.get_mut(id.0 as usize)
    }

    /// The id of the type with this OpenAPI name.
    #[must_use]
    pub fn named(&self, name: &str) -> Option<TypeId> {
        self.by_name.get(name).copied()
    }

    /// The schema of a struct type by OpenAPI name.
    #[must_use]
    pub fn schema(&self, name: &str) -> Option<SchemaRef<'_>> {
        self.named(name).map(|id| SchemaRef { types: self, id })
    }

    /// The schema of a top-level object.
    #[must_use]
    pub fn of_gvk(&self, group: &str, version: &str, kind: &str) -> Option<SchemaRef<'_>> {
        let same = self.by_kind.get(kind)?.iter().find(|(of, at, _)| of == group && at == version);
        same.map(|(_, _, id)| SchemaRef { types: self, id: *id })
    }

    /// Makes a type that of a group, version and kind, instead of the one that was it.
    fn name(&mut self, (group, version, kind): &(String, String, String), id: TypeId) {
        let all = self.by_kind.entry(kind.clone()).or_default();
        all.retain(|(of, at, _)| of != group || at != version);
        all.push((group.clone(), version.clone(), id));
    }

    /// All types in the order they were added.
    pub fn iter(&self) -> impl Iterator<Item = &TypeDef> {
        self.defs.iter()
    }
}

/// Nothing for types of more fields than a set of bits holds.
fn ranks(fields: &[Field]) -> Vec<u8> {
    let fields = if fields.len() <= 64 { fields } else { &[] };
    fields.iter().map(|field| fields.iter().filter(|other| other.name < field.name).map(|_| 1).sum()).collect()
}

fn bits(fields: &[Field], wanted: impl Fn(&Field) -> bool) -> u64 {
    let first = fields.iter().take(64).enumerate();
    first.filter(|(_, field)| wanted(field)).fold(0, |all, (index, _)| all | 1 << index)
}

fn positions(fields: &[Field], wanted: impl Fn(&Field) -> bool) -> Vec<usize> {
    fields.iter().enumerate().filter(|(_, field)| wanted(field)).map(|(index, _)| index).collect()
}

/// The fields at these positions, or all.
fn select<'a>(def: &'a TypeDef, positions: Option<&'a Vec<usize>>) -> impl Iterator<Item = (usize, &'a Field)> {
    let all = if positions.is_some() { 0 } else { def.fields.len() };
    let some = positions.into_iter().flatten().copied();
    some.chain(0..all).filter_map(|index| def.fields.get(index).map(|field| (index, field)))
}

/// The values of an object by the positions of their fields. Most fields of a type are absent, and what is there comes in the order of
/// names: a set of bits puts it in that of positions.
#[derive(Debug)]
pub(crate) struct Present<'v> {
    object: &'v Map,
    /// Where the values of the first fields are in the object.
    places: [u32; 64],
    /// Which of the first fields are there.
    there: u64,
    /// What there is of the fields after those, in their order.
    more: Vec<(usize, &'v Value)>,
}

impl<'v> Present<'v> {
    /// The value of the field at this position.
    #[inline]
    pub(crate) fn get(&self, position: usize) -> Option<&'v Value> {
        match self.places.get(position) {
            Some(place) if self.there >> position & 1 == 1 => self.object.at(*place as usize),
            Some(_) => None,
            None => self.more.iter().find(|(other, _)| *other == position).map(|(_, value)| *value),
        }
    }

    /// Which of the first 64 fields are there, as bits.
    pub(crate) fn first(&self) -> u64 {
        self.there
    }
}

/// A struct type together with its arena.
#[derive(Clone, Copy, Debug)]
pub struct SchemaRef<'a> {
    /// The arena.
    pub types: &'a Types,
    /// The type.
    pub id: TypeId,
}

impl<'a> SchemaRef<'a> {
    /// The type itself.
    #[must_use]
    pub fn def(self) -> &'a TypeDef {
        self.types.get(self.id)
    }

    /// The field with this JSON name.
    pub(crate) fn field(self, name: &str) -> Option<&'a Field> {
        self.types.position(self.id, name).and_then(|index| self.def().fields.get(index))
    }

    /// Whether a field says that its struct has an owner for each field, whatever the struct says.
    pub(crate) fn is_granular(self, name: &str) -> bool {
        self.types.position(self.id, name).is_some_and(|index| self.types.marks(self.id, index).granular)
    }

    /// The values of an object by the positions of their fields, nulls left out.
    pub(crate) fn present(self, object: &Map) -> Present<'_> {
        let mut present = Present { object, places: [0; 64], there: 0, more: Vec::new() };
        for ((name, value), place) in object.iter().zip(0..) {
            let position = self.types.position(self.id, name).filter(|_| !value.is_null());
            let Some(position) = position else { continue };
            match present.places.get_mut(position) {
                Some(slot) => {
                    *slot = place;
                    present.there |= 1 << position;
                }
                None => present.more.push((position, value)),
            }
        }
        present.more.sort_unstable_by_key(|(position, _)| *position);
        present
    }

    /// Another type of the same arena.
    #[must_use]
    pub fn at(self, id: TypeId) -> SchemaRef<'a> {
        SchemaRef { types: self.types, id }
    }
}
