//! `customresourcedefinitions` of apiextensions.k8s.io: kinds that clients bring.
//!
//! Never does I/O; see `Hooks` for when each function runs. What a definition makes is in `custom/`.

use crate::custom::names::{self as given, FINALIZER};
use crate::custom::schema::Node;
use crate::custom::{expressions, structural};
use crate::field_path::{ErrorType, Errors, FieldError, Path};
use crate::json::{Value, json};
use crate::judgement::Judgement;
use crate::kind::{Gvk, Hooks, Kind, Part, Subresource, Verb, describe};
use crate::kinds::shared::{labels, names, parts, rbac, rules};
use crate::{meta, value};

const GVK: Gvk = Gvk { group: "apiextensions.k8s.io", version: "v1", kind: "CustomResourceDefinition" };

/// The description.
pub static KIND: Kind = Kind {
    group: GVK.group,
    version: GVK.version,
    kind: GVK.kind,
    plural: "customresourcedefinitions",
    singular: "customresourcedefinition",
    short_names: &["crd", "crds"],
    categories: &["api-extensions"],
    namespaced: false,
    generation: true,
    unconditional_update: false,
    subresources: &[Subresource {
        name: "status",
        gvk: GVK,
        verbs: Verb::PART,
        part: Part::View { merge: parts::status_of_new },
    }],
    stored_upstream: Some("v1beta1"),
    columns: rbac::ROLE_COLUMNS,
    describe: describe::<k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition>,
    judgement: Judgement::USUAL.any_finalizer(),
    hooks: &Definition,
    ..Kind::BASE
};

/// The most fields of a version that select.
const MOST_SELECTABLE: usize = 8;

struct Definition;

impl Hooks for Definition {
    fn default(&self, object: &mut Value) {
        let Some(spec) = object.get_mut("spec").filter(|spec| spec.is_object()) else { return };
        let kind = value::text(spec, "names.kind").to_owned();
        if value::text(spec, "names.singular").is_empty() && !kind.is_empty() {
            value::set(spec, "names.singular", kind.to_lowercase());
        }
        if value::text(spec, "names.listKind").is_empty() && !kind.is_empty() {
            value::set(spec, "names.listKind", format!("{kind}List"));
        }
        value::set_default(spec, "conversion", json!({"strategy": "None"}));
        let service = "conversion.webhook.clientConfig.service";
        if let Some(service) = value::get_mut(spec, service).filter(|service| service.is_object()) {
            value::set_default(service, "port", 443);
        }
        if value::items(object, "status.storedVersions").is_empty() {
            remember_stored(object);
        }
    }

    fn prepare_create(&self, object: &mut Value) {
        value::remove(object, "status");
        remember_stored(object);
    }

    fn prepare_update(&self, new: &mut Value, _old: &Value) {
        remember_stored(new);
    }

    fn name_errors(&self, object: &Value, name: &str, prefix: bool) -> Vec<String> {
        let mut wrong = crate::meta_validation::name(self.name_rule(), name, prefix);
        if name != format!("{}.{}", value::text(object, "spec.names.plural"), value::text(object, "spec.group")) {
            wrong.push("must be spec.names.plural+\".\"+spec.group".to_owned());
        }
        wrong
    }

    fn validate(&self, object: &Value) -> Errors {
        let mut errors = Errors::new();
        spec(&mut errors, object, None);
        shared(&mut errors, object, None);
        hoist(&mut errors, object);
        errors
    }

    fn revalidate(&self, new: &Value, old: &Value) -> Errors {
        let mut errors = Errors::new();
        spec(&mut errors, new, Some(old));
        let settled: &[&str] = if given::condition(old, "Established") == "True" {
            &["scope", "names.kind", "group", "names.plural"]
        } else {
            &["group", "names.plural"]
        };
        for name in settled {
            rules::unchanged_text(&mut errors, new, old, &format!("spec.{name}"));
        }
        shared(&mut errors, new, Some(old));
        hoist(&mut errors, new);
        errors
    }

    fn validate_part(&self, _part: &str, new: &Value, _old: &Value) -> Errors {
        let mut errors = Errors::new();
        accepted(&mut errors, new);
        errors
    }

    fn warnings(&self, new: &Value, old: Option<&Value>) -> Vec<String> {
        let found = |object: &Value| -> Vec<String> {
            schemas(object).into_iter().flat_map(|(_, schema)| structural::unknown_formats(schema)).collect()
        };
        let had = old.map(found).unwrap_or_default();
        let new = found(new).into_iter().filter(|format| !had.contains(format));
        new.map(|format| format!("unrecognized format {format:?}")).collect()
    }

    fn holds_on(&self, object: &Value) -> bool {
        // Its objects go first: the finalizer comes with the first word of its deletion.
        !meta::is_deleting(object)
    }

    fn begin_deletion(&self, object: &mut Value) {
        let mut finalizers: Vec<String> = meta::finalizers(object).into_iter().map(str::to_owned).collect();
        if !finalizers.iter().any(|name| name == FINALIZER) {
            finalizers.push(FINALIZER.to_owned());
            value::set(object, "metadata.finalizers", finalizers);
        }
        let now = value::text(object, "metadata.deletionTimestamp").to_owned();
        let message = "CustomResourceDefinition marked for deletion; CustomResource deletion will begin soon";
        given::set_condition(object, "Terminating", ("True", "InstanceDeletionPending", message), &now);
    }

    fn row(&self, object: &Value, _now: i64) -> Vec<Value> {
        rbac::role_row(object)
    }
}

/// The version that is stored is one of those that ever were.
fn remember_stored(object: &mut Value) {
    let versions = value::items(object, "spec.versions").iter();
    let storage =
        versions.filter(|version| value::flag(version, "storage")).map(|version| value::text(version, "name"));
    let Some(storage) = storage.map(str::to_owned).next() else { return };
    let mut stored = value::items(object, "status.storedVersions").to_vec();
    if !stored.iter().any(|known| *known == *storage) {
        stored.push(storage.into());
        value::set(object, "status.storedVersions", stored);
    }
}

/// The schemas of a definition by the place of their version.
fn schemas(object: &Value) -> Vec<(usize, &Value)> {
    let versions = value::items(object, "spec.versions").iter().enumerate();
    let schema = |version| value::get(version, "schema.openAPIV3Schema").filter(|schema: &&Value| schema.is_object());
    versions.filter_map(|(i, version)| Some((i, schema(version)?))).collect()
}

fn required(errors: &mut Errors, object: &Value, name: &str, field: &Path) {
    if value::text(object, name).is_empty() {
        errors.push(FieldError::required(&field.child(name), ""));
    }
}

fn one_of(errors: &mut Errors, field: &Path, found: &str, supported: &[&str]) {
    if found.is_empty() {
        errors.push(FieldError::required(field, ""));
    } else if !supported.contains(&found) {
        errors.push(FieldError::not_supported_as_listed(field, found, supported));
    }
}

/// What upstream joins with commas into one error.
fn joined(errors: &mut Errors, field: &Path, shown: &str, prefix: &str, wrong: &[impl AsRef<str>]) {
    if !wrong.is_empty() {
        let wrong: Vec<&str> = wrong.iter().map(AsRef::as_ref).collect();
        errors.push(FieldError::invalid(field, shown, format!("{prefix}{}", wrong.join(","))));
    }
}

fn spec(errors: &mut Errors, object: &Value, old: Option<&Value>) {
    let field = Path::new("spec");
    let spec = object.get("spec").unwrap_or(&Value::Null);
    let group = value::text(spec, "group");
    let at = field.child("group");
    let wrong = names::dns_subdomain(group);
    if group.is_empty() {
        errors.push(FieldError::required(&at, ""));
    } else if !wrong.is_empty() {
        joined(errors, &at, group, "", &wrong);
    } else if !group.contains('.') {
        errors.push(FieldError::invalid(&at, group, "should be a domain with at least one dot"));
    }
    one_of(errors, &field.child("scope"), value::text(spec, "scope"), &["Cluster", "Namespaced"]);
    let versions = value::items(spec, "versions");
    let at = field.child("versions");
    for (i, version) in versions.iter().enumerate() {
        if value::get(version, "schema.openAPIV3Schema").is_none_or(|schema| !schema.is_object()) {
            errors.push(FieldError::required(&at.index(i).child("schema.openAPIV3Schema"), ""));
        }
    }
    for (i, one) in versions.iter().enumerate() {
        let name = value::text(one, "name");
        joined(errors, &at.index(i).child("name"), name, "", &names::dns_1035_label(name));
        let before = old
            .and_then(|old| value::items(old, "spec.versions").iter().find(|other| value::text(other, "name") == name));
        version(errors, one, before, &at.index(i));
    }
    let unique: std::collections::BTreeSet<&str> =
        versions.iter().map(|version| value::text(version, "name")).collect();
    let whole = || spec.get("versions").cloned().unwrap_or_default();
    if unique.len() != versions.len() {
        errors.push(FieldError::invalid(&at, whole(), "must contain unique version names"));
    }
    if versions.iter().filter(|version| value::flag(version, "storage")).count() != 1 {
        let detail = "must have exactly one version marked as storage version";
        errors.push(FieldError::invalid(&at, whole(), detail));
    }
    // Upstream has the name of the first version once more.
    let first = versions.first().map(|version| value::text(version, "name")).unwrap_or_default();
    if !first.is_empty() {
        joined(errors, &field.child("version"), first, "", &names::dns_1035_label(first));
    }
    let all = field.child("names");
    let named = spec.get("names").unwrap_or(&Value::Null);
    for name in ["plural", "singular", "kind", "listKind"] {
        required(errors, named, name, &all);
    }
    validate_names(errors, named, &all);
    conversion(errors, spec, old, &field.child("conversion"));
}

/// What holds of the names that are wanted and of those that were given.
/// Where all versions say the same, upstream has it once, above them, and that is where it says what is wrong with it.
fn hoist(errors: &mut Errors, object: &Value) {
    let versions = value::items(object, "spec.versions");
    let Some((first, others)) = versions.split_first() else { return };
    for (name, above) in HOISTED {
        if others.iter().any(|other| other.get(*name) != first.get(*name)) {
            continue;
        }
        errors.retain_mut(|error| {
            let text = error.field.to_string();
            let below = |i: usize| {
                let rest = text.strip_prefix(&format!("spec.versions[{i}].{name}"))?;
                (rest.is_empty() || rest.starts_with(['.', '['])).then_some(rest)
            };
            match (0..versions.len()).find_map(|i| Some((i, below(i)?))) {
                // That a version has no schema is found before.
                Some((_, ".openAPIV3Schema")) if error.kind == ErrorType::Required => {}
                Some((0, rest)) => {
                    error.field = Path::new(&format!("spec.{above}{rest}"));
                    error.detail = error.detail.replace(&format!("spec.versions[0].{name}"), &format!("spec.{above}"));
                }
                Some(_) => return false,
                None => {}
            }
            true
        });
    }
}

/// What versions may say in common, and its name above them.
const HOISTED: &[(&str, &str)] = &[
    ("schema", "validation"),
    ("subresources", "subresources"),
    ("additionalPrinterColumns", "additionalPrinterColumns"),
    ("selectableFields", "selectableFields"),
];

fn validate_names(errors: &mut Errors, named: &Value, field: &Path) {
    for name in ["plural", "singular"] {
        let text = value::text(named, name);
        if !text.is_empty() {
            joined(errors, &field.child(name), text, "", &names::dns_1035_label(text));
        }
    }
    for name in ["kind", "listKind"] {
        let text = value::text(named, name);
        if !text.is_empty() {
            let prefix = "may have mixed case, but should otherwise match: ";
            joined(errors, &field.child(name), text, prefix, &names::dns_1035_label(&text.to_lowercase()));
        }
    }
    let each = |errors: &mut Errors, name: &str| {
        for (i, text) in value::items(named, name).iter().enumerate() {
            let text = text.as_str().unwrap_or_default();
            joined(errors, &field.child(name).index(i), text, "", &names::dns_1035_label(text));
        }
    };
    each(errors, "shortNames");
    let (kind, list_kind) = (value::text(named, "kind"), value::text(named, "listKind"));
    if !kind.is_empty() && kind == list_kind {
        let detail = "kind and listKind may not be the same";
        errors.push(FieldError::invalid(&field.child("listKind"), list_kind, detail));
    }
    each(errors, "categories");
}

fn version(errors: &mut Errors, version: &Value, old: Option<&Value>, field: &Path) {
    let warning = version.get("deprecationWarning").and_then(Value::as_str);
    if let Some(text) = warning {
        for wrong in deprecation(value::flag(version, "deprecated"), text) {
            errors.push(FieldError::invalid(&field.child("deprecationWarning"), text, wrong));
        }
    }
    let has_status = value::get(version, "subresources.status").is_some_and(|status| !status.is_null());
    let at = field.child("schema.openAPIV3Schema");
    let schema = value::get(version, "schema.openAPIV3Schema").filter(|schema| schema.is_object());
    let same = |old: &Value| value::get(old, "schema.openAPIV3Schema") == schema;
    match schema {
        // What was accepted once stays accepted.
        Some(schema) if !old.is_some_and(same) => validate_schema(errors, schema, has_status, &at),
        _ => {}
    }
    subresources(errors, version, &field.child("subresources"));
    for (i, column) in value::items(version, "additionalPrinterColumns").iter().enumerate() {
        validate_column(errors, column, &field.child("additionalPrinterColumns").index(i));
    }
    let unchanged = old.is_some_and(|old| old.get("selectableFields") == version.get("selectableFields"));
    selectable(errors, version, schema, unchanged, &field.child("selectableFields"));
}

fn deprecation(deprecated: bool, text: &str) -> Vec<String> {
    if !deprecated {
        return vec!["can only be set for deprecated versions".to_owned()];
    }
    let mut out = Vec::new();
    if text.len() > 256 {
        out.push("must be <= 256 characters long".to_owned());
    }
    if text.is_empty() {
        out.push("must not be an empty string".to_owned());
    }
    let odd = text.char_indices().find(|(_, c)| c.is_control() || (c.is_whitespace() && *c != ' '));
    if let Some((at, _)) = odd {
        out.push(format!("must only contain printable UTF-8 characters; non-printable character found at index {at}"));
    }
    out
}

fn validate_schema(errors: &mut Errors, schema: &Value, has_status: bool, field: &Path) {
    let before = errors.len();
    if has_status {
        errors.extend(structural::with_status(schema, field));
    }
    if value::flag(schema, "nullable") {
        errors.push(FieldError::forbidden(&field.child("nullable"), "nullable cannot be true at the root"));
    }
    let unreadable = structural::unreadable(schema);
    if unreadable.is_none() {
        let violations = structural::violations(schema, field);
        if violations.is_empty() {
            errors.extend(structural::defaults(schema, field));
        }
        errors.extend(violations);
    }
    errors.extend(structural::words(schema, field));
    if let Some(why) = unreadable.filter(|_| errors.len() == before) {
        errors.push(FieldError::invalid(field, "", why));
    }
    // Rules are read only where the schema is sound: their types come from it.
    if errors.len() == before && structural::has_expressions(schema) {
        errors.extend(expressions::compile(schema, &Node::of(schema), true, field).1);
    }
}

fn subresources(errors: &mut Errors, version: &Value, field: &Path) {
    let Some(scale) = value::get(version, "subresources.scale").filter(|scale| scale.is_object()) else { return };
    for (name, prefixes, where_to) in [
        ("specReplicasPath", &[".spec."][..], "under .spec"),
        ("statusReplicasPath", &[".status."], "under .status"),
        ("labelSelectorPath", &[".spec.", ".status."], "under either .spec or .status"),
    ] {
        let at = field.child("scale").child(name);
        let path = value::text(scale, name);
        if path.is_empty() {
            if name != "labelSelectorPath" {
                errors.push(FieldError::required(&at, ""));
            }
        } else if !path.starts_with('.') {
            errors.push(FieldError::invalid(&at, path, "must be a simple json path starting with ."));
        } else if !prefixes.iter().any(|prefix| path.starts_with(prefix)) {
            errors.push(FieldError::invalid(&at, path, format!("should be a json path {where_to}")));
        }
    }
}

fn validate_column(errors: &mut Errors, column: &Value, field: &Path) {
    const TYPES: [&str; 5] = ["boolean", "date", "integer", "number", "string"];
    const FORMATS: [&str; 8] = ["byte", "date", "date-time", "double", "float", "int32", "int64", "password"];
    required(errors, column, "name", field);
    let (kind, format, path) =
        (value::text(column, "type"), value::text(column, "format"), value::text(column, "jsonPath"));
    let must = |list: &[&str]| format!("must be one of {}", list.join(","));
    if kind.is_empty() {
        errors.push(FieldError::required(&field.child("type"), must(&TYPES)));
    } else if !TYPES.contains(&kind) {
        errors.push(FieldError::invalid(&field.child("type"), kind, must(&TYPES)));
    }
    if !format.is_empty() && !FORMATS.contains(&format) {
        errors.push(FieldError::invalid(&field.child("format"), format, must(&FORMATS)));
    }
    let at = field.child("JSONPath");
    if path.is_empty() {
        errors.push(FieldError::required(&at, ""));
    } else if !path.starts_with('.') {
        errors.push(FieldError::invalid(&at, path, "must be a simple json path starting with ."));
    }
}

fn selectable(errors: &mut Errors, version: &Value, schema: Option<&Value>, unchanged: bool, field: &Path) {
    let fields = value::items(version, "selectableFields");
    let Some(schema) = schema else {
        if !fields.is_empty() {
            let detail = "may only be set when `version.schema.openAPIV3Schema` is not included";
            errors.push(FieldError::invalid(field, "", detail));
        }
        return;
    };
    let mut seen = std::collections::BTreeSet::new();
    for (i, one) in fields.iter().enumerate() {
        let at = field.index(i).child("jsonPath");
        let path = value::text(one, "jsonPath");
        if path.is_empty() {
            errors.push(FieldError::required(&at, ""));
            continue;
        }
        let found = match structural::follow(schema, path, false) {
            Ok(found) => found,
            // Of metadata no schema has to speak.
            Err(_) if path == ".metadata" => &Value::Null,
            Err(why) => {
                errors.push(FieldError::invalid(&at, path, format!("is an invalid path: {why}")));
                continue;
            }
        };
        if path.starts_with(".metadata") {
            errors.push(FieldError::invalid(&at, path, "must not point to fields in metadata"));
        }
        if !matches!(value::text(found, "type"), "string" | "boolean" | "integer") {
            let detail = "must point to a field of type string, boolean or integer. Enum string fields and strings with \
                          formats are allowed.";
            errors.push(FieldError::invalid(&at, path, detail));
        }
        if !seen.insert(path) {
            errors.push(FieldError::duplicate(&at, path));
        }
    }
    if seen.len() > MOST_SELECTABLE && !unchanged {
        errors.push(FieldError::too_many(field, seen.len(), MOST_SELECTABLE));
    }
}

fn conversion(errors: &mut Errors, spec: &Value, old: Option<&Value>, field: &Path) {
    let Some(conversion) = spec.get("conversion").filter(|conversion| conversion.is_object()) else { return };
    let strategy = value::text(conversion, "strategy");
    one_of(errors, &field.child("strategy"), strategy, &["None", "Webhook"]);
    let webhook = conversion.get("webhook").filter(|webhook| webhook.is_object());
    let config = webhook.and_then(|webhook| webhook.get("clientConfig")).filter(|config| config.is_object());
    let versions = webhook.map(|webhook| value::items(webhook, "conversionReviewVersions")).unwrap_or_default();
    // Upstream names the fields of the internal type.
    let at = field.child("webhookClientConfig");
    let reviews = field.child("conversionReviewVersions");
    if strategy != "Webhook" {
        let detail = "should not be set when strategy is not set to Webhook";
        if config.is_some() {
            errors.push(FieldError::forbidden(&at, detail));
        }
        if !versions.is_empty() {
            errors.push(FieldError::forbidden(&reviews, detail));
        }
        return;
    }
    match config {
        None => errors.push(FieldError::required(&at, "required when strategy is set to Webhook")),
        Some(config) => client(errors, config, &at),
    }
    let known = |versions: &[Value]| versions.iter().any(|version| matches!(version.as_str(), Some("v1" | "v1beta1")));
    if versions.is_empty() {
        errors.push(FieldError::required(&reviews, ""));
    }
    for (i, version) in versions.iter().enumerate() {
        let text = version.as_str().unwrap_or_default();
        if versions.iter().take(i).any(|other| other == version) {
            errors.push(FieldError::invalid(&reviews.index(i), text, "duplicate version"));
            continue;
        }
        labels::invalid(errors, &reviews.index(i), text, names::dns_1035_label(text));
    }
    let before = old.map(|old| value::items(old, "spec.conversion.webhook.conversionReviewVersions"));
    let tolerated = before.is_some_and(|before| !before.is_empty() && !known(before));
    if !versions.is_empty() && !known(versions) && !tolerated {
        let detail = "must include at least one of v1, v1beta1";
        errors.push(FieldError::invalid(&reviews, versions.to_vec(), detail));
    }
}

/// How a webhook is reached.
fn client(errors: &mut Errors, config: &Value, field: &Path) {
    let url = config.get("url").and_then(Value::as_str);
    let service = config.get("service").filter(|service| service.is_object());
    match (url, service) {
        (None, None) | (Some(_), Some(_)) => {
            errors.push(FieldError::required(field, "exactly one of url or service is required"));
        }
        (Some(url), None) => {
            let at = field.child("url");
            let form = "; desired format: https://host[/path]";
            let rest = url.strip_prefix("https://");
            let host = rest.and_then(|rest| rest.split(['/', '?', '#']).next()).unwrap_or_default();
            if rest.is_none() {
                let scheme = url.split_once("://").map_or("", |(scheme, _)| scheme);
                let detail = format!("'https' is the only allowed URL scheme{form}");
                errors.push(FieldError::invalid(&at, scheme, detail));
            } else if host.is_empty() {
                errors.push(FieldError::invalid(&at, host, format!("host must be specified{form}")));
            } else if host.contains('@') {
                let detail = "user information is not permitted in the URL";
                errors.push(FieldError::invalid(&at, host, detail));
            }
            if url.contains('#') {
                errors.push(FieldError::invalid(&at, url, "fragments are not permitted in the URL"));
            }
            if url.contains('?') {
                errors.push(FieldError::invalid(&at, url, "query parameters are not permitted in the URL"));
            }
        }
        (None, Some(service)) => {
            let at = field.child("service");
            for (name, what) in [("name", "service name"), ("namespace", "service namespace")] {
                if value::text(service, name).is_empty() {
                    errors.push(FieldError::required(&at.child(name), format!("{what} is required")));
                }
            }
            let port = value::int(service, "port").unwrap_or(443);
            if !names::port_number(port).is_empty() {
                let detail = "port is not valid: must be between 1 and 65535, inclusive";
                errors.push(FieldError::invalid(&at.child("port"), port, detail));
            }
        }
    }
}

fn accepted(errors: &mut Errors, object: &Value) {
    let named = value::get(object, "status.acceptedNames").unwrap_or(&Value::Null);
    validate_names(errors, named, &Path::new("status.acceptedNames"));
}

/// Beside the spec: what the status says, approval, and the field that turned pruning off once.
fn shared(errors: &mut Errors, object: &Value, old: Option<&Value>) {
    accepted(errors, object);
    let field = Path::new("status.storedVersions");
    let stored = value::items(object, "status.storedVersions");
    let versions = value::items(object, "spec.versions");
    if stored.is_empty() {
        let stored = value::get(object, "status.storedVersions").cloned().unwrap_or_default();
        errors.push(FieldError::invalid(&field, stored, "must have at least one stored version"));
    } else {
        for version in versions.iter().filter(|version| value::flag(version, "storage")) {
            let name = value::text(version, "name");
            if !stored.iter().any(|known| *known == *name) {
                let detail = format!("must have the storage version {name}");
                errors.push(FieldError::invalid(&field, stored.to_vec(), detail));
            }
        }
        for (i, name) in stored.iter().enumerate() {
            if versions.iter().all(|version| version.get("name") != Some(name)) {
                let name = name.as_str().unwrap_or_default();
                let detail = format!(
                    "missing from spec.versions; {name} was previously a storage version, and must remain in \
                     spec.versions until a storage migration ensures no data remains persisted in {name} and removes \
                     {name} from status.storedVersions"
                );
                errors.push(FieldError::invalid(&field.index(i), name, detail));
            }
        }
    }
    let state =
        given::approval(object).filter(|state| old.and_then(given::approval).is_none_or(|old| old.1 != state.1));
    if let Some((_, reason, message)) = state {
        let at = Path::new("metadata.annotations").key(given::APPROVED);
        match reason {
            "MissingAnnotation" => errors.push(FieldError::required(&at, message)),
            "InvalidAnnotation" => {
                let said = meta::annotation(object, given::APPROVED).unwrap_or_default();
                errors.push(FieldError::invalid(&at, said, message));
            }
            _ => {}
        }
    }
    let keeps = |object: &Value| value::flag(object, "spec.preserveUnknownFields");
    if keeps(object) && !old.is_some_and(keeps) {
        let detail =
            "cannot set to true, set x-kubernetes-preserve-unknown-fields to true in spec.versions[*].schema instead";
        errors.push(FieldError::invalid(&Path::new("spec.preserveUnknownFields"), true, detail));
    }
}
