//! Admission webhooks of both configurations: defaults, and what is wrong with them.
//!
//! Never calls one. Source: upstream's documentation of dynamic admission control and the validation of its kinds.

use super::admission_expressions as expressions;
use super::admission_rules as rules;
use super::{labels, names};
use crate::field_path::{Errors, FieldError, Path};
use crate::json::Value;
use crate::kind::{Column, Hooks};
use crate::kinds::shared::cells;
use crate::value;
use std::collections::BTreeSet;

/// The columns of a configuration.
pub const COLUMNS: &[Column] = &[
    Column::NAME,
    Column::integer("Webhooks").says("Webhooks indicates the number of webhooks registered in this configuration"),
    Column::AGE,
];

/// The versions of a review that the server speaks, the best first.
pub const REVIEWS: &[&str] = &["v1", "v1beta1"];

const SIDE_EFFECTS: &[&str] = &["None", "NoneOnDryRun", "Some", "Unknown"];
const NO_SIDE_EFFECTS: &[&str] = &["None", "NoneOnDryRun"];

/// Behaviour of a configuration.
pub struct Configuration {
    /// Its webhooks change objects.
    pub mutating: bool,
}

/// What an old configuration may break and so a new state of it too.
#[derive(Clone, Copy)]
struct Strict {
    reviews: bool,
    names: bool,
    side_effects: bool,
    labels: bool,
    expressions: bool,
}

impl Strict {
    const ALL: Strict = Strict { reviews: true, names: true, side_effects: true, labels: true, expressions: true };

    fn as_before(old: &Value, new: &Value) -> Strict {
        let hooks = value::items(old, "webhooks");
        let names: BTreeSet<&str> = hooks.iter().map(|hook| value::text(hook, "name")).collect();
        let known = |hook: &Value| {
            let versions = value::items(hook, "admissionReviewVersions");
            versions.is_empty() || versions.iter().filter_map(Value::as_str).any(|version| REVIEWS.contains(&version))
        };
        let sound = |hook: &Value| {
            ["namespaceSelector", "objectSelector"]
                .iter()
                .all(|name| labels::validate_selector(hook.get(*name), &Path::new(name)).is_empty())
        };
        let conditions = |object: &Value| -> Vec<Option<Value>> {
            value::items(object, "webhooks").iter().map(|hook| value::get(hook, "matchConditions").cloned()).collect()
        };
        Strict {
            reviews: hooks.iter().all(known),
            names: names.len() == hooks.len(),
            side_effects: hooks.iter().all(|hook| NO_SIDE_EFFECTS.contains(&value::text(hook, "sideEffects"))),
            labels: hooks.iter().all(sound),
            expressions: conditions(new) != conditions(old),
        }
    }
}

impl Hooks for Configuration {
    fn default(&self, object: &mut Value) {
        for hook in value::items_mut(object, "webhooks") {
            value::set_default(hook, "failurePolicy", "Fail");
            value::set_default(hook, "timeoutSeconds", 10);
            rules::default_selection(hook);
            rules::default_rules(hook, "rules");
            if self.mutating {
                value::set_default(hook, "reinvocationPolicy", "Never");
            }
            if let Some(service) = value::get_mut(hook, "clientConfig.service").filter(|service| service.is_object()) {
                value::set_default(service, "port", 443);
            }
        }
    }

    fn validate(&self, object: &Value) -> Errors {
        self.errors(object, Strict::ALL)
    }

    fn revalidate(&self, new: &Value, old: &Value) -> Errors {
        self.errors(new, Strict::as_before(old, new))
    }

    fn row(&self, object: &Value, now: i64) -> Vec<Value> {
        vec![cells::name(object), value::items(object, "webhooks").len().into(), cells::age(object, now)]
    }
}

impl Configuration {
    fn errors(&self, object: &Value, strict: Strict) -> Errors {
        let mut errors = Errors::new();
        let mut seen = BTreeSet::new();
        for (i, hook) in value::items(object, "webhooks").iter().enumerate() {
            let field = Path::new("webhooks").index(i);
            self.hook(&mut errors, hook, &field, strict);
            reviews(&mut errors, hook, &field.child("admissionReviewVersions"), strict);
            let name = value::text(hook, "name");
            if strict.names && !name.is_empty() && !seen.insert(name) {
                errors.push(FieldError::duplicate(&field.child("name"), name));
            }
        }
        errors
    }

    fn hook(&self, errors: &mut Errors, hook: &Value, field: &Path, strict: Strict) {
        qualified(errors, value::text(hook, "name"), &field.child("name"));
        for (i, rule) in value::items(hook, "rules").iter().enumerate() {
            rules::rule(errors, rule, &field.child("rules").index(i));
        }
        rules::failure_policy(errors, hook, field);
        rules::match_policy(errors, hook, field);
        let allowed = if strict.side_effects { NO_SIDE_EFFECTS } else { SIDE_EFFECTS };
        let at = field.child("sideEffects");
        match hook.get("sideEffects").and_then(Value::as_str) {
            None => errors.push(FieldError::required(&at, format!("must specify one of {}", allowed.join(", ")))),
            Some(given) if !allowed.contains(&given) => errors.push(FieldError::not_supported(&at, given, allowed)),
            Some(_) => {}
        }
        if let Some(seconds) = value::int(hook, "timeoutSeconds").filter(|seconds| !(1..=30).contains(seconds)) {
            let why = "the timeout value must be between 1 and 30 seconds";
            errors.push(FieldError::invalid(&field.child("timeoutSeconds"), seconds, why));
        }
        for name in ["namespaceSelector", "objectSelector"] {
            let found = labels::validate_selector(hook.get(name), &field.child(name));
            // Of a selector that was wrong before only the values of labels may stay so.
            errors
                .extend(found.into_iter().filter(|error| strict.labels || !error.field.to_string().contains("alues[")));
        }
        if self.mutating {
            rules::reinvocation_policy(errors, hook, field);
        }
        client(errors, hook.get("clientConfig").unwrap_or(&Value::Null), &field.child("clientConfig"));
        if strict.expressions {
            rules::conditions(errors, hook, field);
            expressions::conditions(errors, hook, false, field);
        }
    }
}

/// A name of at least three segments.
fn qualified(errors: &mut Errors, name: &str, field: &Path) {
    let wrong = names::dns_subdomain(name);
    if name.is_empty() {
        errors.push(FieldError::required(field, ""));
    } else if !wrong.is_empty() {
        errors.push(FieldError::invalid(field, name, wrong.join(",")));
    } else if name.split('.').count() < 3 {
        let why = "should be a domain with at least three segments separated by dots";
        errors.push(FieldError::invalid(field, name, why));
    }
}

fn reviews(errors: &mut Errors, hook: &Value, field: &Path, strict: Strict) {
    let versions = value::items(hook, "admissionReviewVersions");
    if versions.is_empty() {
        errors.push(FieldError::required(field, format!("must specify one of {}", REVIEWS.join(", "))));
        return;
    }
    let mut seen = BTreeSet::new();
    for (i, version) in versions.iter().filter_map(Value::as_str).enumerate() {
        if seen.insert(version) {
            labels::invalid(errors, &field.index(i), version, names::dns_1035_label(version));
        } else {
            errors.push(FieldError::invalid(&field.index(i), version, "duplicate version"));
        }
    }
    if strict.reviews && !REVIEWS.iter().any(|known| seen.contains(known)) {
        let why = format!("must include at least one of {}", REVIEWS.join(", "));
        errors.push(FieldError::invalid(field, versions.to_vec(), why));
    }
}

fn client(errors: &mut Errors, config: &Value, field: &Path) {
    let given = |name: &str| config.get(name).filter(|value| !value.is_null());
    match (given("url").and_then(Value::as_str), given("service")) {
        (Some(address), None) => url(errors, address, &field.child("url")),
        (None, Some(target)) => service(errors, target, &field.child("service")),
        _ => errors.push(FieldError::required(field, "exactly one of url or service is required")),
    }
}

/// The parts of an address `scheme://[user@]host[/path][?query][#fragment]`.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Address<'a> {
    /// `https`.
    pub scheme: &'a str,
    /// Before the `@`.
    pub user: Option<&'a str>,
    /// Host and port.
    pub host: &'a str,
    /// With its slash.
    pub path: &'a str,
    /// Without `?`.
    pub query: &'a str,
    /// Without `#`.
    pub fragment: &'a str,
}

impl Address<'_> {
    /// Takes an address apart; says nothing about its parts.
    #[must_use]
    pub fn parse(text: &str) -> Address<'_> {
        let (text, fragment) = text.split_once('#').unwrap_or((text, ""));
        let (text, query) = text.split_once('?').unwrap_or((text, ""));
        let (scheme, rest) = text.split_once(':').unwrap_or(("", text));
        let Some(rest) = rest.strip_prefix("//") else {
            return Address { scheme, path: rest, query, fragment, ..Address::default() };
        };
        let end = rest.find('/').unwrap_or(rest.len());
        let (authority, path) = rest.split_at_checked(end).unwrap_or((rest, ""));
        let (user, host) = authority.rsplit_once('@').map_or((None, authority), |(user, host)| (Some(user), host));
        Address { scheme, user, host, path, query, fragment }
    }
}

/// The address of a webhook.
pub fn url(errors: &mut Errors, text: &str, field: &Path) {
    const FORM: &str = "; desired format: https://host[/path]";
    let address = Address::parse(text);
    let unreadable = text.chars().any(|c| c.is_ascii_control())
        || text.starts_with(':')
        || address.host.contains([' ', '<', '>', '"']);
    if unreadable {
        let why = if text.starts_with(':') { "missing protocol scheme" } else { "invalid character in host name" };
        errors.push(FieldError::required(field, format!("url must be a valid URL: parse {text:?}: {why}{FORM}")));
        return;
    }
    if address.scheme != "https" {
        let why = format!("'https' is the only allowed URL scheme{FORM}");
        errors.push(FieldError::invalid(field, address.scheme, why));
    }
    if address.host.is_empty() {
        errors.push(FieldError::invalid(field, "", format!("host must be specified{FORM}")));
    }
    if let Some(user) = address.user {
        errors.push(FieldError::invalid(field, user, "user information is not permitted in the URL"));
    }
    if !address.fragment.is_empty() {
        errors.push(FieldError::invalid(field, address.fragment, "fragments are not permitted in the URL"));
    }
    if !address.query.is_empty() {
        errors.push(FieldError::invalid(field, address.query, "query parameters are not permitted in the URL"));
    }
}

/// The Service of a webhook.
pub fn service(errors: &mut Errors, service: &Value, field: &Path) {
    // Upstream says of an empty namespace that the name is missing, and the reverse.
    for (empty, said) in [("namespace", "name"), ("name", "namespace")] {
        if value::text(service, empty).is_empty() {
            errors.push(FieldError::required(&field.child(said), ""));
        }
    }
    let port = value::int(service, "port").unwrap_or_default();
    let wrong = names::port_number(port);
    if !wrong.is_empty() {
        let why = format!("port is not valid: {}", wrong.join(", "));
        errors.push(FieldError::invalid(&field.child("port"), port, why));
    }
    let (path, field) = (value::text(service, "path"), field.child("path"));
    match path {
        "" | "/" => return,
        "//" => return errors.push(FieldError::invalid(&field, path, "segment[0] may not be empty")),
        _ => {}
    }
    if !path.starts_with('/') {
        errors.push(FieldError::invalid(&field, path, "must start with a '/'"));
    }
    let mut rest = path.chars();
    rest.next();
    let rest = rest.as_str();
    for (i, step) in rest.strip_suffix('/').unwrap_or(rest).split('/').enumerate() {
        if step.is_empty() {
            errors.push(FieldError::invalid(&field, path, format!("segment[{i}] may not be empty")));
            continue;
        }
        for why in names::dns_subdomain(step) {
            errors.push(FieldError::invalid(&field, path, format!("segment[{i}]: {why}")));
        }
    }
}
