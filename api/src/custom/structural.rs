//! What is wrong with a schema: whether it is structural, whether its extensions fit together, whether its defaults keep to it.
//!
//! Source: upstream's documentation of structural schemas, with its sentences. Never looks at an object.

use super::schema::{Node, compile};
use super::{expressions, lists, settle, validate};
use crate::cel::Budget;
use crate::field_path::{ErrorType, Errors, FieldError, Path};
use crate::json::{Map, Text, Value, json};
use std::borrow::Cow;

const TYPES: &[&str] = &["array", "boolean", "integer", "number", "object", "string"];
/// Fields of every object.
const META: [&str; 3] = ["metadata", "kind", "apiVersion"];

/// A schema as JSON.
#[derive(Clone, Copy)]
struct Raw<'a>(&'a Value);

impl<'a> Raw<'a> {
    fn get(self, name: &str) -> Option<&'a Value> {
        self.0.get(name).filter(|value| !value.is_null())
    }

    fn text(self, name: &str) -> &'a str {
        self.get(name).and_then(Value::as_str).unwrap_or_default()
    }

    fn flag(self, name: &str) -> bool {
        self.get(name).and_then(Value::as_bool).unwrap_or_default()
    }

    fn child(self, name: &str) -> Option<Raw<'a>> {
        self.get(name).filter(|value| value.is_object()).map(Raw)
    }

    fn list(self, name: &str) -> impl Iterator<Item = Raw<'a>> {
        self.get(name).and_then(Value::as_array).into_iter().flatten().map(Raw)
    }

    fn map(self, name: &str) -> impl Iterator<Item = (&'a Text, Raw<'a>)> {
        self.get(name).and_then(Value::as_object).into_iter().flatten().map(|(key, value)| (key, Raw(value)))
    }

    fn texts(self, name: &str) -> Vec<&'a str> {
        self.get(name).and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str).collect()
    }

    /// Set to something that is not empty.
    fn says(self, name: &str) -> bool {
        self.get(name).is_some_and(|value| !crate::codec::is_empty(value))
    }

    fn kind(self) -> &'a str {
        self.text("type")
    }
}

/// Some node of a schema, at whatever depth, satisfies `found`.
fn any(schema: Raw<'_>, found: &dyn Fn(Raw<'_>) -> bool) -> bool {
    found(schema)
        || ["items", "not", "additionalProperties"]
            .iter()
            .filter_map(|name| schema.child(name))
            .any(|child| any(child, found))
        || ["allOf", "anyOf", "oneOf"].iter().any(|name| schema.list(name).any(|child| any(child, found)))
        || schema.map("properties").any(|(_, child)| any(child, found))
}

/// The schema has rules in CEL.
#[must_use]
pub fn has_expressions(schema: &Value) -> bool {
    any(Raw(schema), &|node| node.says("x-kubernetes-validations"))
}

/// Why upstream cannot even read the schema as a structural one, which has no place for these words: nothing more is then said of its
/// structure, and this only where nothing else is wrong with it.
#[must_use]
pub fn unreadable(schema: &Value) -> Option<String> {
    const WORDS: &[&str] =
        &["id", "$schema", "$ref", "patternProperties", "dependencies", "additionalItems", "definitions"];
    let found = std::cell::RefCell::new(None);
    any(Raw(schema), &|node| {
        let word = WORDS.iter().find(|word| node.says(word) || **word == "additionalItems" && node.get(word).is_some());
        let unkept = node.get("x-kubernetes-preserve-unknown-fields").is_some_and(|flag| flag.as_bool() == Some(false));
        let why = match word {
            Some(word) => Some(format!("OpenAPIV3Schema '{}' is not supported", word.replace("$schema", "schema"))),
            None if unkept => {
                Some("internal error: 'x-kubernetes-preserve-unknown-fields' must be true or undefined".to_owned())
            }
            None => None,
        };
        let some = why.is_some();
        found.replace(why);
        some
    });
    found.into_inner()
}

/// Formats that mean nothing here, in the order of the schema.
#[must_use]
pub fn unknown_formats(schema: &Value) -> Vec<String> {
    let found = std::cell::RefCell::new(Vec::new());
    any(Raw(schema), &|node| {
        let format = node.text("format");
        if !format.is_empty() && !super::formats::is_known(node.kind(), format) {
            found.borrow_mut().push(format.to_owned());
        }
        false
    });
    found.into_inner()
}

/// The schema is not structural.
#[must_use]
pub fn violations(schema: &Value, field: &Path) -> Errors {
    let schema = Raw(schema);
    let mut errors = Errors::new();
    invariants(&mut errors, schema, Level::Root, field);
    complete(&mut errors, schema, schema, field, field);
    errors.sort_by_key(ToString::to_string);
    errors
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Level {
    Root,
    Item,
    Field,
}

fn required(errors: &mut Errors, field: &Path, detail: &str) {
    errors.push(FieldError::required(field, detail));
}

fn forbidden(errors: &mut Errors, field: &Path, detail: &str) {
    errors.push(FieldError::forbidden(field, detail));
}

fn invalid(errors: &mut Errors, field: &Path, value: impl Into<Value>, detail: &str) {
    errors.push(FieldError::invalid(field, value, detail));
}

fn invariants(errors: &mut Errors, schema: Raw<'_>, level: Level, field: &Path) {
    let kind = schema.kind();
    let embedded = schema.flag("x-kubernetes-embedded-resource");
    let preserves = schema.flag("x-kubernetes-preserve-unknown-fields");
    let int_or_string = schema.flag("x-kubernetes-int-or-string");
    let has_more = schema.get("additionalProperties").is_some();
    if kind == "array" && schema.child("items").is_none() {
        required(errors, &field.child("items"), "must be specified");
    }
    if let Some(items) = schema.child("items") {
        invariants(errors, items, Level::Item, &field.child("items"));
    }
    for (name, property) in schema.map("properties") {
        invariants(errors, property, Level::Field, &field.child("properties").key(name));
    }
    if has_more && level == Level::Root {
        forbidden(errors, &field.child("additionalProperties"), "must not be used at the root");
    }
    if let Some(more) = schema.child("additionalProperties") {
        invariants(errors, more, Level::Field, &field.child("additionalProperties"));
    }
    if int_or_string {
        for (name, on) in
            [("x-kubernetes-preserve-unknown-fields", preserves), ("x-kubernetes-embedded-resource", embedded)]
        {
            if on {
                invalid(errors, &field.child(name), true, "must be false if x-kubernetes-int-or-string is true");
            }
        }
    }
    values(errors, schema, is_union(schema.get("anyOf")), is_union_in_all(schema), field);
    let at = field.child("type");
    if embedded && kind != "object" {
        let detail = "must be object if x-kubernetes-embedded-resource is true";
        if kind.is_empty() { required(errors, &at, detail) } else { invalid(errors, &at, kind, detail) }
    } else if kind.is_empty() && !int_or_string && !preserves {
        let of = match level {
            Level::Root => "at the root",
            Level::Item => "for specified array items",
            Level::Field => "for specified object fields",
        };
        required(errors, &at, &format!("must not be empty {of}"));
    }
    if embedded && has_more {
        let detail = "must not be used if x-kubernetes-embedded-resource is set";
        forbidden(errors, &field.child("additionalProperties"), detail);
    }
    if level == Level::Root && !kind.is_empty() && kind != "object" {
        invalid(errors, &at, kind, "must be object at the root");
    }
    meta(errors, schema, level, embedded, field);
    if embedded && !preserves && !schema.says("properties") {
        let detail = "must not be empty if x-kubernetes-embedded-resource is true without \
                      x-kubernetes-preserve-unknown-fields";
        required(errors, &field.child("properties"), detail);
    }
}

/// Schemas of objects say nothing about metadata but the name.
fn meta(errors: &mut Errors, schema: Raw<'_>, level: Level, embedded: bool, field: &Path) {
    let own = level == Level::Root || embedded;
    let properties = field.child("properties");
    for (name, property) in schema.map("properties") {
        let at = properties.key(name);
        match name.as_str() {
            "kind" | "apiVersion" if own && property.kind() != "string" => {
                invalid(errors, &at.child("type"), property.kind(), "must be string");
            }
            "metadata" => {
                if own && property.kind() != "object" {
                    invalid(errors, &at.child("type"), property.kind(), "must be object");
                }
                let names =
                    property.map("properties").all(|(name, _)| matches!(name.as_str(), "name" | "generateName"));
                let more = property.0.as_object().into_iter().flatten().any(|(name, value)| {
                    !matches!(name.as_str(), "type" | "properties" | "default") && !crate::codec::is_empty(value)
                });
                if level == Level::Root && (!names || more) {
                    let detail = "must not specify anything other than name and generateName, but metadata is implicitly \
                                  specified";
                    forbidden(errors, &at, detail);
                }
            }
            _ => {}
        }
    }
}

/// `anyOf` an integer or a string.
fn is_union(any_of: Option<&Value>) -> bool {
    any_of == Some(&json!([{"type": "integer"}, {"type": "string"}]))
}

fn is_union_in_all(schema: Raw<'_>) -> bool {
    schema.list("allOf").next().is_some_and(|first| is_union(first.get("anyOf")))
}

/// The parts of a schema that only restrict values.
fn values(errors: &mut Errors, schema: Raw<'_>, skip_any: bool, skip_first: bool, field: &Path) {
    for name in ["anyOf", "allOf", "oneOf"] {
        for (i, nested) in schema.list(name).enumerate() {
            if name == "anyOf" && skip_any {
                continue;
            }
            let union = name == "allOf" && i == 0 && skip_first;
            restriction(errors, nested, union, &field.child(name).index(i));
        }
    }
    if let Some(not) = schema.child("not") {
        restriction(errors, not, false, &field.child("not"));
    }
    let pattern = schema.text("pattern");
    if let (false, Err(why)) = (pattern.is_empty(), compile(pattern)) {
        let detail = format!("must be a valid regular expression, but isn't: {why}");
        invalid(errors, &field.child("pattern"), pattern, &detail);
    }
}

/// What may stand below `allOf`, `anyOf`, `oneOf` and `not`: nothing that says what fields there are.
fn restriction(errors: &mut Errors, schema: Raw<'_>, skip_any: bool, field: &Path) {
    values(errors, schema, skip_any, false, field);
    if let Some(items) = schema.child("items") {
        restriction(errors, items, false, &field.child("items"));
    }
    for (name, property) in schema.map("properties") {
        restriction(errors, property, false, &field.child("properties").key(name));
    }
    const EMPTY: &str = "must be empty to be structural";
    const UNDEFINED: &str = "must be undefined to be structural";
    const FALSE: &str = "must be false to be structural";
    for (name, detail) in [
        ("type", EMPTY),
        ("additionalProperties", UNDEFINED),
        ("default", UNDEFINED),
        ("title", EMPTY),
        ("description", EMPTY),
        ("nullable", FALSE),
        ("x-kubernetes-preserve-unknown-fields", FALSE),
        ("x-kubernetes-embedded-resource", FALSE),
        ("x-kubernetes-int-or-string", FALSE),
        ("x-kubernetes-list-map-keys", EMPTY),
        ("x-kubernetes-list-type", UNDEFINED),
        ("x-kubernetes-map-type", UNDEFINED),
        ("x-kubernetes-validations", EMPTY),
    ] {
        let there = match name {
            "additionalProperties" => schema.get(name).is_some_and(|more| *more != Value::Bool(false)),
            _ if detail == UNDEFINED => schema.get(name).is_some(),
            _ => schema.says(name),
        };
        if there {
            forbidden(errors, &field.child(name), detail);
        }
    }
    if schema.map("properties").any(|(name, _)| name == "metadata") {
        forbidden(errors, &field.child("properties").key("metadata"), "must not be specified in a nested context");
    }
}

/// Whatever a restriction speaks about is also a field of the schema itself.
fn complete(errors: &mut Errors, restricting: Raw<'_>, schema: Raw<'_>, field: &Path, from: &Path) {
    let nested = |name: &'static str| {
        let each = move |(i, nested): (usize, _)| (nested, from.child(name).index(i));
        restricting.list(name).enumerate().map(each).collect::<Vec<_>>()
    };
    let mut all = restricting.child("not").map(|not| (not, from.child("not"))).into_iter().collect::<Vec<_>>();
    for name in ["allOf", "anyOf", "oneOf"] {
        all.extend(nested(name));
    }
    for (nested, from) in all {
        below(errors, nested, schema, field, &from);
    }
}

fn below(errors: &mut Errors, restricting: Raw<'_>, schema: Raw<'_>, field: &Path, from: &Path) {
    complete(errors, restricting, schema, field, from);
    let mut child = |nested: Raw<'_>, own: Option<Raw<'_>>, at: Path, from: Path| match own {
        Some(own) => below(errors, nested, own, &at, &from),
        None => required(errors, &at, &format!("because it is defined in {from}")),
    };
    if let Some(items) = restricting.child("items") {
        child(items, schema.child("items"), field.child("items"), from.child("items"));
    }
    for (name, property) in restricting.map("properties") {
        let own = schema.child("properties").and_then(|all| all.child(name));
        child(property, own, field.child("properties").key(name), from.child("properties").key(name));
    }
}

/// What the context of a node in a schema says.
#[derive(Clone, Copy)]
struct Context<'a> {
    no_defaults: Option<&'a str>,
    inside_meta: bool,
    root: bool,
}

/// What is wrong with the words of a schema, structural or not.
#[must_use]
pub fn words(schema: &Value, field: &Path) -> Errors {
    let mut errors = Errors::new();
    let context = Context { no_defaults: None, inside_meta: false, root: true };
    node(&mut errors, Raw(schema), field, context);
    errors
}

fn node(errors: &mut Errors, schema: Raw<'_>, field: &Path, context: Context<'_>) {
    unsupported(errors, schema, field, context);
    if schema.flag("uniqueItems") {
        let detail = "uniqueItems cannot be set to true since the runtime complexity becomes quadratic";
        forbidden(errors, &field.child("uniqueItems"), detail);
    }
    let inner = Context { root: false, ..context };
    if let Some(more) = schema.get("additionalProperties") {
        if schema.says("properties") && *more != Value::Bool(true) {
            let detail = "additionalProperties and properties are mutual exclusive";
            forbidden(errors, &field.child("additionalProperties"), detail);
        }
        let reason = "inside additionalProperties applying to object metadata";
        let no_defaults = if context.inside_meta { Some(reason) } else { context.no_defaults };
        if more.is_object() {
            node(errors, Raw(more), &field.child("additionalProperties"), Context { no_defaults, ..inner });
        }
    }
    for (name, property) in schema.map("properties") {
        let of_meta = (context.root || schema.flag("x-kubernetes-embedded-resource")) && META.contains(&name.as_str());
        let reason = format!("in top-level {name}");
        let no_defaults = if of_meta && context.root { Some(reason.as_str()) } else { context.no_defaults };
        let inner = Context { no_defaults, inside_meta: context.inside_meta || of_meta, root: false };
        node(errors, property, &field.child("properties").key(name), inner);
    }
    if let Some(not) = schema.child("not") {
        node(errors, not, &field.child("not"), inner);
    }
    for name in ["allOf", "oneOf", "anyOf"] {
        for (i, nested) in schema.list(name).enumerate() {
            node(errors, nested, &field.child(name).index(i), inner);
        }
    }
    if let Some(items) = schema.child("items") {
        node(errors, items, &field.child("items"), inner);
    }
    extensions(errors, schema, field);
    expressions(errors, schema, field);
}

fn unsupported(errors: &mut Errors, schema: Raw<'_>, field: &Path, context: Context<'_>) {
    let kind = schema.kind();
    if !kind.is_empty() && !TYPES.contains(&kind) {
        errors.push(FieldError::not_supported(&field.child("type"), kind, TYPES));
    }
    if let (Some(_), Some(reason)) = (schema.get("default"), context.no_defaults) {
        forbidden(errors, &field.child("default"), format!("must not be set {reason}").trim_end());
    }
    for name in ["id", "additionalItems", "patternProperties", "definitions", "dependencies", "$ref"] {
        let there = match name {
            "additionalItems" | "dependencies" | "$ref" => schema.get(name).is_some(),
            _ => schema.says(name),
        };
        if there {
            forbidden(errors, &field.child(name), &format!("{name} is not supported"));
        }
    }
    if kind == "null" {
        let detail = "type cannot be set to null, use nullable as an alternative";
        forbidden(errors, &field.child("type"), detail);
    }
    if schema.get("items").and_then(Value::as_array).is_some_and(|list| !list.is_empty()) {
        forbidden(errors, &field.child("items"), "items must be a schema object and not an array");
    }
    if context.inside_meta && schema.flag("x-kubernetes-embedded-resource") {
        let detail = "must not be used inside of resource meta";
        forbidden(errors, &field.child("x-kubernetes-embedded-resource"), detail);
    }
}

fn extensions(errors: &mut Errors, schema: Raw<'_>, field: &Path) {
    let kind = schema.kind();
    let wrong_type = |errors: &mut Errors, wanted: &str, extension: &str| {
        let detail = format!("must be {wanted} if {extension} is specified");
        let at = field.child("type");
        if kind.is_empty() { required(errors, &at, &detail) } else { invalid(errors, &at, kind, &detail) }
    };
    let preserve = "x-kubernetes-preserve-unknown-fields";
    if schema.get(preserve) == Some(&Value::Bool(false)) {
        invalid(errors, &field.child(preserve), false, "must be true or undefined");
    }
    let map_type = schema.get("x-kubernetes-map-type").and_then(Value::as_str);
    if let Some(found) = map_type {
        if kind != "object" {
            wrong_type(errors, "object", "x-kubernetes-map-type");
        }
        if !matches!(found, "atomic" | "granular") {
            let at = field.child("x-kubernetes-map-type");
            errors.push(FieldError::not_supported_as_listed(&at, found, &["atomic", "granular"]));
        }
    }
    let list_type = schema.get("x-kubernetes-list-type").and_then(Value::as_str);
    let at = field.child("x-kubernetes-list-type");
    let items = schema.child("items");
    if let Some(found) = list_type {
        if kind != "array" {
            wrong_type(errors, "array", "x-kubernetes-list-type");
        } else if let ("set", Some(items)) = (found, items) {
            let list = items.get("x-kubernetes-list-type").and_then(Value::as_str);
            let detail = "must be atomic as item of a list with x-kubernetes-list-type=set";
            let inner = field.child("items");
            match items.kind() {
                "array" if list.is_some_and(|list| list != "atomic") => {
                    invalid(errors, &inner.child("x-kubernetes-list-type"), list.unwrap_or_default(), detail);
                }
                "object" if items.text("x-kubernetes-map-type") != "atomic" => {
                    let shown = list.map_or(Value::Null, Value::from);
                    invalid(errors, &inner.child("x-kubernetes-map-type"), shown, detail);
                }
                _ => {}
            }
        }
        if !matches!(found, "atomic" | "set" | "map") {
            errors.push(FieldError::not_supported_as_listed(&at, found, &["atomic", "set", "map"]));
        }
    }
    let keys = schema.texts("x-kubernetes-list-map-keys");
    if !keys.is_empty() {
        let detail = "must be map if x-kubernetes-list-map-keys is non-empty";
        match list_type {
            None => required(errors, &at, detail),
            Some("map") => {}
            Some(found) => invalid(errors, &at, found, detail),
        }
    }
    if list_type == Some("map") {
        map_list(errors, schema, &keys, field);
    }
    if let (Some(list @ ("set" | "map")), Some(items)) = (list_type, items) {
        identified(errors, items, list, &keys, &field.child("items"));
    }
}

/// A list whose elements have keys.
fn map_list(errors: &mut Errors, schema: Raw<'_>, keys: &[&str], field: &Path) {
    let at = field.child("x-kubernetes-list-map-keys");
    if keys.is_empty() {
        required(errors, &at, "must not be empty if x-kubernetes-list-type is map");
    }
    let Some(items) = schema.child("items") else {
        let detail = "must have a schema if x-kubernetes-list-type is map";
        return required(errors, &field.child("items"), detail);
    };
    let inner = field.child("items");
    if items.kind() != "object" {
        let detail = "must be object if parent array's x-kubernetes-list-type is map";
        return invalid(errors, &inner.child("type"), items.kind(), detail);
    }
    let mut seen = Vec::new();
    for key in keys {
        match items.child("properties").and_then(|all| all.child(key)) {
            Some(property) if matches!(property.kind(), "array" | "object") => {
                let detail = "must be a scalar type if parent array's x-kubernetes-list-type is map";
                invalid(errors, &inner.child("properties").key(key).child("type"), items.kind(), detail);
            }
            Some(_) => {}
            None => invalid(errors, &at, keys.to_vec(), "entries must all be names of item properties"),
        }
        if seen.contains(key) {
            invalid(errors, &at, keys.to_vec(), "must not contain duplicate entries");
        }
        seen.push(*key);
    }
}

/// Elements that are told apart are there, and so are their keys.
fn identified(errors: &mut Errors, items: Raw<'_>, list: &str, keys: &[&str], field: &Path) {
    if items.flag("nullable") {
        let detail = format!("cannot be nullable when x-kubernetes-list-type is {list}");
        forbidden(errors, &field.child("nullable"), &detail);
    }
    if list != "map" {
        return;
    }
    let required_keys = items.texts("required");
    for key in keys {
        let Some(property) = items.child("properties").and_then(|all| all.child(key)) else { continue };
        let at = field.child("properties").key(key);
        let of = "this property is in x-kubernetes-list-map-keys, so it";
        if !required_keys.contains(key) && property.get("default").is_none() {
            required(errors, &at.child("default"), &format!("{of} must have a default or be a required property"));
        }
        if property.flag("nullable") {
            forbidden(errors, &at.child("nullable"), &format!("{of} cannot be nullable"));
        }
    }
}

/// Rules in CEL, as texts.
fn expressions(errors: &mut Errors, schema: Raw<'_>, field: &Path) {
    let broken = |text: &str| text.contains(['\n', '\r']);
    for (i, rule) in schema.list("x-kubernetes-validations").enumerate() {
        let at = field.child("x-kubernetes-validations").index(i);
        let (expression, message) = (rule.text("rule").trim(), rule.text("message"));
        if expression.is_empty() {
            required(errors, &at.child("rule"), "rule is not specified");
        } else if !message.is_empty() && message.trim().is_empty() {
            invalid(errors, &at.child("message"), message, "must be non-empty if specified");
        } else if broken(message.trim()) {
            invalid(errors, &at.child("message"), message, "must not contain line breaks");
        } else if broken(expression) && message.trim().is_empty() {
            required(errors, &at.child("message"), "message must be specified if rule contains line breaks");
        }
        let by = rule.text("messageExpression");
        if !by.is_empty() && by.trim().is_empty() {
            required(errors, &at.child("messageExpression"), "messageExpression must be non-empty if specified");
        }
        let reason = rule.get("reason").and_then(Value::as_str);
        const REASONS: &[&str] =
            &["FieldValueDuplicate", "FieldValueForbidden", "FieldValueInvalid", "FieldValueRequired"];
        if let Some(reason) = reason.filter(|reason| !REASONS.contains(reason)) {
            errors.push(FieldError::not_supported(&at.child("reason"), reason, REASONS));
        }
        let path = rule.text("fieldPath");
        if !path.is_empty() && path.trim().is_empty() {
            invalid(errors, &at.child("fieldPath"), path, "must be non-empty if specified");
        }
        if broken(path) {
            invalid(errors, &at.child("fieldPath"), path, "must not contain line breaks");
        }
        if !path.is_empty() && follow(schema.0, path, true).is_err() {
            invalid(errors, &at.child("fieldPath"), path, "must be a valid path");
        }
    }
}

/// The schema that a path of fields leads to: `.spec.name`, and with `brackets` also `['name']`.
///
/// # Errors
/// A sentence when it leads nowhere.
pub fn follow<'a>(schema: &'a Value, path: &str, brackets: bool) -> Result<&'a Value, String> {
    let ended = || "unexpected end of JSON path".to_owned();
    let mut tokens = Tokens(path);
    let mut at = schema;
    while let Some(token) = tokens.next() {
        let name = match token {
            "." => Cow::Borrowed(tokens.next().ok_or_else(ended)?),
            "[" if !brackets => return Err("array notation is not allowed".to_owned()),
            "[" => {
                let text = tokens.next().ok_or_else(ended)?;
                let quoted = text.strip_prefix('\'').and_then(|text| text.strip_suffix('\''));
                let name = quoted.ok_or_else(|| format!("expected single quoted string but got {text}"))?;
                let close = tokens.next().ok_or_else(ended)?;
                if close != "]" {
                    return Err(format!("expected ] but got {close}"));
                }
                Cow::Owned(name.replace("\\'", "'").replace("\\\\", "\\"))
            }
            other => return Err(format!("expected [ or . but got: {other}")),
        };
        let properties = Raw(at).child("properties");
        let found = match properties {
            Some(properties) => properties.get(&name),
            None => Raw(at).child("additionalProperties").map(|more| more.0),
        };
        at = found.ok_or("does not refer to a valid field")?;
    }
    Ok(at)
}

/// The tokens of a path: dots, brackets, texts in single quotes, and what is between them.
struct Tokens<'a>(&'a str);

impl<'a> Iterator for Tokens<'a> {
    type Item = &'a str;

    fn next(&mut self) -> Option<&'a str> {
        let bytes = self.0.as_bytes();
        let end = match bytes.first()? {
            b'.' | b'[' | b']' => 1,
            b'\'' => {
                let closes = |pair: &[u8]| matches!(pair, [before, b'\''] if *before != b'\\');
                bytes.windows(2).position(closes).map_or(bytes.len(), |at| at + 2)
            }
            _ => bytes.iter().position(|byte| matches!(byte, b'.' | b'[' | b']')).unwrap_or(bytes.len()),
        };
        let (token, rest) = self.0.split_at_checked(end)?;
        self.0 = rest;
        Some(token)
    }
}

/// Defaults that the schema itself would not accept.
#[must_use]
pub fn defaults(schema: &Value, field: &Path) -> Errors {
    let mut errors = Errors::new();
    default(&mut errors, (schema, &Node::of(schema)), field, false, true, &mut Budget::admission());
    errors
}

fn default(
    errors: &mut Errors,
    (schema, node): (&Value, &Node),
    field: &Path,
    inside_meta: bool,
    root: bool,
    budget: &mut Budget<'static>,
) {
    let at = field.child("default");
    if let Some(value) = &node.default {
        let mut pruned = value.clone();
        settle::prune(&mut pruned, node, node.embedded || root);
        if !inside_meta && pruned != *value {
            invalid(errors, &at, value.clone(), "must not have unknown fields");
        }
        let path = at.to_string();
        let found = validate::validate(value, None, node, &path);
        if found.is_empty() {
            errors.extend(by_rules((schema, node), value, &at, root || node.embedded, budget));
        }
        errors.extend(found);
        errors.extend(
            lists::validate(value, node)
                .into_iter()
                .map(|error| FieldError { field: at.child(&error.field.to_string()), ..error }),
        );
    }
    if let Some(items) = &node.items {
        let below = schema.get("items").unwrap_or(&Value::Null);
        default(errors, (below, items), &field.child("items"), inside_meta, false, budget);
    }
    for (name, property) in &node.properties {
        let of_meta = (node.embedded || root) && META.contains(&name.as_str());
        let below = schema.get("properties").and_then(|properties| properties.get(name)).unwrap_or(&Value::Null);
        let at = field.child("properties").key(name);
        default(errors, (below, property), &at, inside_meta || of_meta, false, budget);
    }
}

/// What the rules of a schema say of its default: as a value that stays what it was, and as one that is new.
fn by_rules(
    (schema, node): (&Value, &Node),
    value: &Value,
    at: &Path,
    root: bool,
    budget: &mut Budget<'static>,
) -> Errors {
    if !has_expressions(schema) {
        return Errors::new();
    }
    let (rules, wrong) = expressions::compile(schema, node, root, at);
    let broken = wrong.iter().filter(|error| error.kind != ErrorType::Forbidden).collect::<Vec<_>>();
    if !broken.is_empty() {
        // Of a rule of the schema itself it is said here, where its default is; others are complained about where they stand.
        let own = |error: &&&FieldError| {
            let place = error.field.to_string();
            let rest = place.strip_prefix(&at.child("x-kubernetes-validations").to_string());
            rest.is_some_and(|rest| rest.starts_with('[') && rest.ends_with("].rule"))
        };
        let kind = Raw(schema).kind();
        let said = broken.iter().filter(own).filter_map(|error| Some(error.detail.split_once("}: ")?.1));
        return said.map(|why| FieldError::invalid(at, kind, format!("rule compile error: {why}"))).collect();
    }
    let Some(rules) = rules else { return Errors::new() };
    let errors = expressions::validate_within(&rules, value, Some(value), &Errors::new(), at, budget);
    if !errors.is_empty() {
        return errors;
    }
    expressions::validate_within(&rules, value, None, &Errors::new(), at, budget)
}

/// Fields that may stand at the root of a schema whose status is a subresource.
const AT_ROOT: &[(&str, &str)] = &[
    ("description", "Description"),
    ("type", "Type"),
    ("format", "Format"),
    ("title", "Title"),
    ("maximum", "Maximum"),
    ("exclusiveMaximum", "ExclusiveMaximum"),
    ("minimum", "Minimum"),
    ("exclusiveMinimum", "ExclusiveMinimum"),
    ("maxLength", "MaxLength"),
    ("minLength", "MinLength"),
    ("pattern", "Pattern"),
    ("maxItems", "MaxItems"),
    ("minItems", "MinItems"),
    ("uniqueItems", "UniqueItems"),
    ("multipleOf", "MultipleOf"),
    ("required", "Required"),
    ("items", "Items"),
    ("properties", "Properties"),
    ("externalDocs", "ExternalDocs"),
    ("example", "Example"),
    ("x-kubernetes-preserve-unknown-fields", "XPreserveUnknownFields"),
    ("x-kubernetes-validations", "XValidations"),
];

/// What is wrong at the root of a schema whose status is a subresource.
#[must_use]
pub fn with_status(schema: &Value, field: &Path) -> Errors {
    let mut errors = Errors::new();
    let empty = Map::new();
    for (name, value) in schema.as_object().unwrap_or(&empty) {
        if crate::codec::is_empty(value) {
            continue;
        }
        if name == "type" && value != "object" {
            let detail =
                "only \"object\" is allowed as the type at the root of the schema if the status subresource is enabled";
            invalid(&mut errors, &field.child("type"), value.clone(), detail);
            break;
        }
        if AT_ROOT.iter().all(|(known, _)| known != name) {
            let names: Vec<&str> = AT_ROOT.iter().map(|(_, name)| *name).collect();
            let detail = format!(
                "only [{}] fields are allowed at the root of the schema if the status subresource is enabled",
                names.join(" ")
            );
            invalid(&mut errors, field, schema.clone(), &detail);
            break;
        }
    }
    errors
}
