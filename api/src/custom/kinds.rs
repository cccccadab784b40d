//! The kinds that a definition gives: one for each version.
//!
//! A kind lives as long as the process, so that everything else may hold it as it holds a native one. Whoever makes kinds keeps
//! what was made and asks again only for definitions that say something new.

use super::cells::{self, JsonPath};
use super::conversion::Conversion;
use super::expressions::{self, Rules};
use super::schema::Node;
use super::{lists, settle, types, validate};
use crate::field_path::{Errors, FieldError, Path};
use crate::json::{Map, Value};
use crate::judgement::Judgement;
use crate::kind::{Column, Deprecated, Gvk, Hooks, Kind, Part, StoredAs, Subresource, Verb};
use crate::kinds::shared::{names, parts};
use crate::schema::{SchemaRef, Types};
use crate::{meta, value};
use std::cmp::Ordering;
use std::sync::OnceLock;

/// What a kind has that was defined by a custom resource definition.
#[derive(Debug)]
pub struct Custom {
    group: &'static str,
    version: &'static str,
    kind: &'static str,
    list_kind: &'static str,
    type_name: String,
    /// `openAPIV3Schema` as it was written, in JSON: small while nobody asks.
    schema: Box<str>,
    parsed: OnceLock<(Node, Types)>,
    rules: OnceLock<Option<Rules>>,
    columns: Vec<(JsonPath, String)>,
    /// Without columns of its own a kind shows its age.
    aged: bool,
    /// Fields that select, as clients name them.
    selectable: Vec<&'static str>,
    scale: Option<Scale>,
    /// Only a webhook can convert between the versions.
    pub conversion: Option<&'static Conversion>,
    /// All versions of the definition, served or not.
    siblings: &'static OnceLock<Vec<&'static Kind>>,
}

#[derive(Debug)]
struct Scale {
    replicas: &'static str,
    observed: &'static str,
    selector: &'static str,
}

/// The kinds of a definition.
#[derive(Debug)]
pub struct Defined {
    /// Those of the versions that are served, best version first.
    pub served: Vec<&'static Kind>,
    /// That of the version that is stored, served or not.
    pub stored: &'static Kind,
}

fn keep(text: &str) -> &'static str {
    Box::leak(text.to_owned().into_boxed_str())
}

fn keep_all(list: &[Value]) -> &'static [&'static str] {
    Vec::leak(list.iter().filter_map(Value::as_str).map(keep).collect())
}

/// The kinds of a definition; `None` when it has no stored version. What they hold is never given back.
#[must_use]
pub fn define(definition: &Value) -> Option<Defined> {
    let spec = definition.get("spec")?;
    let names = Names {
        group: keep(value::text(spec, "group")),
        kind: keep(value::text(spec, "names.kind")),
        list_kind: keep(value::text(spec, "names.listKind")),
        plural: keep(value::text(spec, "names.plural")),
        singular: keep(value::text(spec, "names.singular")),
        short: keep_all(value::items(spec, "names.shortNames")),
        categories: keep_all(value::items(spec, "names.categories")),
        namespaced: value::text(spec, "scope") == "Namespaced",
        conversion: Conversion::read(spec).map(|conversion| &*Box::leak(Box::new(conversion))),
        siblings: Box::leak(Box::default()),
    };
    let versions = value::items(spec, "versions");
    let stored = versions.iter().find(|version| value::flag(version, "storage"))?;
    let stored: &'static Kind = Box::leak(Box::new(names.kind_of(spec, stored, None)));
    let (mut all, mut served): (Vec<&'static Kind>, Vec<&'static Kind>) = (Vec::new(), Vec::new());
    for version in versions {
        let kind = match value::flag(version, "storage") {
            true => stored,
            false => Box::leak(Box::new(names.kind_of(spec, version, Some(stored)))),
        };
        all.push(kind);
        if value::flag(version, "served") {
            served.push(kind);
        }
    }
    // It is empty: nobody else has it yet.
    let siblings = names.siblings.get_or_init(|| all);
    debug_assert!(!siblings.is_empty(), "the stored version is one of them");
    served.sort_by(|a, b| compare_versions(b.version, a.version));
    Some(Defined { served, stored })
}

struct Names {
    group: &'static str,
    kind: &'static str,
    list_kind: &'static str,
    plural: &'static str,
    singular: &'static str,
    short: &'static [&'static str],
    categories: &'static [&'static str],
    namespaced: bool,
    conversion: Option<&'static Conversion>,
    siblings: &'static OnceLock<Vec<&'static Kind>>,
}

impl Names {
    fn kind_of(&self, spec: &Value, version: &Value, stored: Option<&'static Kind>) -> Kind {
        let name = keep(value::text(version, "name"));
        let columns = value::items(version, "additionalPrinterColumns");
        let scale = value::get(version, "subresources.scale").filter(|scale| !scale.is_null()).map(|scale| Scale {
            replicas: keep(value::text(scale, "specReplicasPath").trim_start_matches('.')),
            observed: keep(value::text(scale, "statusReplicasPath").trim_start_matches('.')),
            selector: keep(value::text(scale, "labelSelectorPath").trim_start_matches('.')),
        });
        let mut subresources = Vec::new();
        let has_status = value::get(version, "subresources.status").is_some_and(|status| !status.is_null());
        if has_status {
            subresources.push(parts::status_only(self.group, name, self.kind));
        }
        if let Some(Scale { replicas, observed, selector }) = scale {
            let gvk = Gvk { group: "autoscaling", version: "v1", kind: "Scale" };
            let part = Part::Scale { replicas, observed, selector };
            subresources.push(Subresource { name: "scale", gvk, verbs: Verb::PART, part });
        }
        let selectable = value::items(version, "selectableFields").iter();
        let reversed: Vec<&str> = self.group.rsplit('.').collect();
        let custom: &'static Custom = Box::leak(Box::new(Custom {
            group: self.group,
            version: name,
            kind: self.kind,
            list_kind: self.list_kind,
            type_name: format!("{}.{name}.{}", reversed.join("."), self.kind),
            schema: value::get(version, "schema.openAPIV3Schema")
                .map_or_else(|| "{}".into(), |schema| schema.to_string().into()),
            parsed: OnceLock::new(),
            rules: OnceLock::new(),
            columns: columns.iter().filter_map(column_path).collect(),
            aged: columns.is_empty(),
            selectable: selectable.map(|field| keep(value::text(field, "jsonPath").trim_start_matches('.'))).collect(),
            scale,
            conversion: self.conversion,
            siblings: self.siblings,
        }));
        let mut shown = vec![Column::NAME];
        shown.extend(columns.iter().filter(|column| column_path(column).is_some()).map(column));
        if columns.is_empty() {
            shown.push(Column { kind: "date", ..Column::AGE });
        }
        Kind {
            group: self.group,
            version: name,
            kind: self.kind,
            plural: self.plural,
            singular: self.singular,
            short_names: self.short,
            categories: self.categories,
            namespaced: self.namespaced,
            verbs: Verb::ALL,
            subresources: Vec::leak(subresources),
            generation: true,
            unconditional_update: false,
            deprecated: value::flag(version, "deprecated")
                .then(|| Deprecated { said: Some(keep(&deprecation(spec, version))), ..Deprecated::since("") }),
            columns: Vec::leak(shown),
            stored_as: stored.map(StoredAs::same),
            resets: if has_status { parts::STATUS_ONLY } else { &[] },
            judgement: Judgement::USUAL.any_finalizer(),
            custom: Some(custom),
            hooks: custom,
            ..Kind::BASE
        }
    }
}

fn column_path(column: &Value) -> Option<(JsonPath, String)> {
    Some((JsonPath::parse(value::text(column, "jsonPath")).ok()?, value::text(column, "type").to_owned()))
}

fn column(column: &Value) -> Column {
    let path = value::text(column, "jsonPath");
    let description = match value::text(column, "description") {
        "" => format!("Custom resource definition column (in JSONPath format): {path}"),
        said => said.to_owned(),
    };
    Column {
        name: keep(value::text(column, "name")),
        kind: keep(value::text(column, "type")),
        format: keep(value::text(column, "format")),
        priority: value::int(column, "priority").and_then(|n| i32::try_from(n).ok()).unwrap_or_default(),
        description: keep(&description),
        field: "",
    }
}

/// What clients of a deprecated version are told.
fn deprecation(spec: &Value, version: &Value) -> String {
    let own = value::text(version, "name");
    if let Some(said) = version.get("deprecationWarning").and_then(Value::as_str) {
        return said.to_owned();
    }
    let (group, kind) = (value::text(spec, "group"), value::text(spec, "names.kind"));
    let better = value::items(spec, "versions")
        .iter()
        .filter(|other| value::flag(other, "served") && !value::flag(other, "deprecated"))
        .map(|other| value::text(other, "name"))
        .filter(|name| compare_versions(own, name).is_lt())
        .max_by(|a, b| compare_versions(a, b));
    let mut out = format!("{group}/{own} {kind} is deprecated");
    if let Some(better) = better {
        out.push_str(&format!("; use {group}/{better} {kind}"));
    }
    out
}

/// Kubernetes' order of versions: stable ones after beta after alpha, each by number, and all other names before them.
#[must_use]
pub fn compare_versions(a: &str, b: &str) -> Ordering {
    fn rank(version: &str) -> Option<(u8, u64, u64)> {
        let rest = version.strip_prefix('v')?;
        let number = |text: &str| if text.starts_with('0') { None } else { text.parse::<u64>().ok() };
        for (word, level) in [("alpha", 0), ("beta", 1)] {
            if let Some((major, minor)) = rest.split_once(word) {
                let minor = if minor.is_empty() { 0 } else { number(minor)? };
                return Some((level, number(major)?, minor));
            }
        }
        Some((2, number(rest)?, 0))
    }
    match (rank(a), rank(b)) {
        (Some(a), Some(b)) => a.cmp(&b),
        (Some(_), None) => Ordering::Greater,
        (None, Some(_)) => Ordering::Less,
        (None, None) => b.cmp(a),
    }
}

impl Custom {
    fn parsed(&self) -> &(Node, Types) {
        self.parsed.get_or_init(|| {
            let node = Node::of(&self.schema());
            let types = types::of(&node, &self.type_name, (self.group, self.version, self.kind, self.list_kind));
            (node, types)
        })
    }

    /// The schema of the version.
    pub fn node(&self) -> &Node {
        &self.parsed().0
    }

    /// The kinds of all versions of the definition, served or not.
    #[must_use]
    pub fn siblings(&self) -> &[&'static Kind] {
        self.siblings.get().map_or(&[], Vec::as_slice)
    }

    /// The types of the version: the object's, its list's and what they hold.
    pub fn types(&self) -> &Types {
        &self.parsed().1
    }

    /// The type of lists.
    #[must_use]
    pub fn list(&self) -> Option<SchemaRef<'_>> {
        self.types().of_gvk(self.group, self.version, self.list_kind)
    }

    /// `CronTabList`.
    #[must_use]
    pub fn list_kind(&self) -> &'static str {
        self.list_kind
    }

    /// The name of the type in OpenAPI: `com.example.stable.v1.CronTab`.
    #[must_use]
    pub fn type_name(&self) -> &str {
        &self.type_name
    }

    /// The schema as it was written.
    #[must_use]
    pub fn schema(&self) -> Value {
        crate::json::from_str(&self.schema).unwrap_or_default()
    }

    /// The same, as text.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.schema
    }

    /// Fields that select, as clients name them.
    #[must_use]
    pub fn selectable(&self) -> &[&'static str] {
        &self.selectable
    }

    fn own(&self, new: &Value, old: Option<&Value>) -> Errors {
        let mut errors = validate::validate(new, old, self.node(), "");
        self.scale_spec(&mut errors, new);
        self.scale_status(&mut errors, new);
        embedded(&mut errors, new, self.node(), &Path::new(""));
        self.lists(&mut errors, new, old);
        self.expressions(&mut errors, new, old);
        errors
    }

    /// What the rules in CEL say.
    fn expressions(&self, errors: &mut Errors, new: &Value, old: Option<&Value>) {
        let rules =
            self.rules.get_or_init(|| expressions::compile(&self.schema(), self.node(), true, &Path::new("")).0);
        if let Some(rules) = rules {
            let more = expressions::validate(rules, new, old, errors, &Path::new(""));
            errors.extend(more);
        }
    }

    fn lists(&self, errors: &mut Errors, new: &Value, old: Option<&Value>) {
        if old.is_none_or(|old| lists::validate(old, self.node()).is_empty()) {
            errors.extend(lists::validate(new, self.node()));
        }
    }

    fn scale_spec(&self, errors: &mut Errors, object: &Value) {
        if let Some(scale) = &self.scale {
            count(errors, object, scale.replicas);
        }
    }

    fn scale_status(&self, errors: &mut Errors, object: &Value) {
        let Some(scale) = &self.scale else { return };
        count(errors, object, scale.observed);
        let found = (!scale.selector.is_empty()).then(|| value::get(object, scale.selector)).flatten();
        if let Some(odd) = found.filter(|found| !found.is_string()) {
            let path = format!(".{}", scale.selector);
            let shown = crate::patch::strategic::printed(odd);
            let detail = format!("{path} accessor error: {shown} is of the type {}, expected string", go_type(odd));
            errors.push(FieldError::invalid(&Path::new(&path), "", detail));
        }
    }
}

/// A count of replicas fits into 32 bits.
fn count(errors: &mut Errors, object: &Value, path: &str) {
    let Some(found) = value::get(object, path) else { return };
    let field = Path::new(&format!(".{path}"));
    match found.as_i64() {
        None => {
            let shown = crate::patch::strategic::printed(found);
            let detail = format!("{field} accessor error: {shown} is of the type {}, expected int64", go_type(found));
            errors.push(FieldError::invalid(&field, 0, detail));
        }
        Some(n) if n < 0 => errors.push(FieldError::invalid(&field, n, "should be a non-negative integer")),
        Some(n) if n > i64::from(i32::MAX) => {
            let detail = format!("should be less than or equal to {}", i32::MAX);
            errors.push(FieldError::invalid(&field, n, detail));
        }
        Some(_) => {}
    }
}

pub(super) fn go_type(value: &Value) -> &'static str {
    match value {
        Value::Null => "<nil>",
        Value::Bool(_) => "bool",
        Value::Number(number) if number.is_f64() => "float64",
        Value::Number(_) => "int64",
        Value::String(_) => "string",
        Value::Array(_) => "[]interface {}",
        Value::Object(_) => "map[string]interface {}",
    }
}

/// Objects within objects say what they are, and have sound metadata.
fn embedded(errors: &mut Errors, value: &Value, node: &Node, path: &Path) {
    match value {
        Value::Object(map) => {
            if node.embedded {
                identity(errors, map, path);
            }
            for (name, value) in map {
                match (node.properties.get(name.as_str()), node.entries()) {
                    (Some(property), _) => embedded(errors, value, property, &path.child(name)),
                    (None, Some(entries)) => embedded(errors, value, entries, &path.key(name)),
                    (None, None) => {}
                }
            }
        }
        Value::Array(list) => {
            let Some(items) = &node.items else { return };
            for (i, value) in list.iter().enumerate() {
                embedded(errors, value, items, &path.index(i));
            }
        }
        _ => {}
    }
}

fn identity(errors: &mut Errors, map: &Map, path: &Path) {
    for name in ["apiVersion", "kind"] {
        let at = path.child(name);
        match map.get(name) {
            None => errors.push(FieldError::required(&at, "")),
            Some(Value::String(text)) if text.is_empty() => {
                errors.push(FieldError::invalid(&at, "", "must not be empty"));
            }
            Some(Value::String(text)) if name == "kind" => {
                let wrong = names::dns_1035_label(&text.to_lowercase());
                if !wrong.is_empty() {
                    let detail = format!("may have mixed case, but should otherwise match: {}", wrong.join(","));
                    errors.push(FieldError::invalid(&at, text.as_str(), detail));
                }
            }
            Some(Value::String(text)) if text.matches('/').count() > 1 => {
                let detail = format!("unexpected GroupVersion string: {text}");
                errors.push(FieldError::invalid(&at, text.as_str(), detail));
            }
            Some(Value::String(_)) => {}
            Some(other) => errors.push(FieldError::invalid(&at, other.clone(), "must be a string")),
        }
    }
    if let Some(metadata) = map.get("metadata") {
        errors.extend(crate::meta_validation::validate_embedded(metadata, &path.child("metadata")));
    }
}

impl Hooks for Custom {
    fn default(&self, object: &mut Value) {
        let node = self.node();
        settle::prune(object, node, true);
        settle::drop_nulls(object, node);
        settle::default(object, node);
    }

    fn restore(&self, object: &mut Value) {
        self.default(object);
    }

    fn validate(&self, object: &Value) -> Errors {
        self.own(object, None)
    }

    fn revalidate(&self, new: &Value, old: &Value) -> Errors {
        self.own(new, Some(old))
    }

    fn validate_part(&self, part: &str, new: &Value, old: &Value) -> Errors {
        let mut errors = Errors::new();
        if part != "status" {
            return self.own(new, Some(old));
        }
        if let (Some(status), Some(node)) = (new.get("status"), self.node().properties.get("status")) {
            errors.extend(validate::validate(status, old.get("status"), node, "status"));
        }
        self.scale_status(&mut errors, new);
        self.lists(&mut errors, new, Some(old));
        self.expressions(&mut errors, new, Some(old));
        errors
    }

    fn warnings(&self, new: &Value, old: Option<&Value>) -> Vec<String> {
        let had = old.map(meta::finalizers).unwrap_or_default();
        let mut added: Vec<&str> = meta::finalizers(new).into_iter().filter(|name| !had.contains(name)).collect();
        added.sort_unstable();
        added.dedup();
        added.into_iter().flat_map(finalizer_warnings).collect()
    }

    fn warnings_of_part(&self, _part: &str, _new: &Value, _old: &Value) -> Vec<String> {
        Vec::new()
    }

    fn row(&self, object: &Value, now: i64) -> Vec<Value> {
        let mut cells = vec![meta::name(object).into()];
        cells.extend(self.columns.iter().map(|(path, kind)| cells::cell(path, kind, object, now)));
        if self.aged {
            cells.push(meta::age(object, now).into());
        }
        cells
    }
}

fn finalizer_warnings(name: &str) -> Vec<String> {
    let said = format!("metadata.finalizers: {name:?}");
    let mut out: Vec<String> = names::qualified_name(name).iter().map(|why| format!("{said}: {why}")).collect();
    if !name.contains('/') && !matches!(name, "orphan" | "foregroundDeletion" | "kubernetes") {
        let path = if name.contains('.') { " including a path (/)" } else { "" };
        out.push(format!(
            "{said}: prefer a domain-qualified finalizer name{path} to avoid accidental conflicts with other finalizer \
             writers"
        ));
    }
    out
}
