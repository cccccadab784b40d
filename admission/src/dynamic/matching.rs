//! Which requests a webhook or policy is about: rules, scope, selectors, equivalent versions.
//!
//! Never decides what happens then.

use crate::plugin::{Lookup, Operation, Refusal, Request};
use api::json::Value;
use api::kind::{Gvk, Kind};
use api::selector::LabelSelector;
use api::status::{ResourceName, Status};
use api::{meta, value};

/// One rule.
#[derive(Clone, Debug, Default)]
pub struct Rule {
    operations: Vec<String>,
    groups: Vec<String>,
    versions: Vec<String>,
    resources: Vec<String>,
    scope: String,
    /// Empty: all.
    names: Vec<String>,
}

impl Rule {
    /// The rules of a list.
    #[must_use]
    pub fn read_all(object: &Value, list: &str) -> Vec<Rule> {
        value::items(object, list).iter().map(Rule::read).collect()
    }

    fn read(rule: &Value) -> Rule {
        let texts = |name: &str| {
            value::items(rule, name).iter().filter_map(Value::as_str).map(str::to_owned).collect::<Vec<_>>()
        };
        Rule {
            operations: texts("operations"),
            groups: texts("apiGroups"),
            versions: texts("apiVersions"),
            resources: texts("resources"),
            scope: value::text(rule, "scope").to_owned(),
            names: texts("resourceNames"),
        }
    }

    /// Whether the rule is about this request, made to this version of its kind.
    fn matches(&self, request: &Request<'_>, kind: &Kind) -> bool {
        let has = |list: &[String], wanted: &str| list.iter().any(|one| one == "*" || one == wanted);
        let resource = |given: &String| {
            let (resource, part) = given.split_once('/').unwrap_or((given, ""));
            (resource == "*" || resource == kind.plural) && (part == "*" || part == request.subresource)
        };
        let in_namespace = !namespace(request).is_empty() && !is_namespace(kind);
        let scope = match self.scope.as_str() {
            "Namespaced" => in_namespace,
            "Cluster" => !in_namespace,
            _ => true,
        };
        scope
            && has(&self.operations, request.operation.name())
            && has(&self.groups, kind.group)
            && has(&self.versions, kind.version)
            && self.resources.iter().any(resource)
            && (self.names.is_empty() || self.names.iter().any(|name| name == request.name))
    }
}

fn is_namespace(kind: &Kind) -> bool {
    kind.group.is_empty() && kind.plural == "namespaces"
}

/// The request's namespace; a namespace is in itself.
#[must_use]
pub fn namespace<'a>(request: &Request<'a>) -> &'a str {
    if is_namespace(request.kind) { request.name } else { request.namespace }
}

/// Which requests a webhook or policy is about.
#[derive(Clone, Debug)]
pub struct Selection {
    rules: Vec<Rule>,
    excluded: Vec<Rule>,
    /// Without rules it is about everything; else about nothing.
    open: bool,
    equivalent: bool,
    namespaces: Result<LabelSelector, String>,
    objects: Result<LabelSelector, String>,
}

/// As what a webhook or policy sees the request.
#[derive(Clone, Copy, Debug)]
pub struct Seen {
    /// The version of the resource.
    pub resource: &'static Kind,
    /// The kind of the object.
    pub gvk: Gvk,
}

impl Selection {
    /// `matchPolicy` and selectors of `object`, with these rules.
    #[must_use]
    pub fn read(object: &Value, rules: Vec<Rule>) -> Selection {
        let selector = |name: &str| match value::get(object, name) {
            None => Ok(LabelSelector::everything()),
            Some(selector) => LabelSelector::from_value(selector),
        };
        Selection {
            rules,
            excluded: Vec::new(),
            open: false,
            equivalent: value::text(object, "matchPolicy") == "Equivalent",
            namespaces: selector("namespaceSelector"),
            objects: selector("objectSelector"),
        }
    }

    /// The same without what these rules are about.
    #[must_use]
    pub fn without(self, excluded: Vec<Rule>) -> Selection {
        Selection { excluded, ..self }
    }

    /// The same; about everything where it has no rules.
    #[must_use]
    pub fn or_all(self) -> Selection {
        Selection { open: true, ..self }
    }

    /// As what the request is seen; `None` when it is not selected. `object` and `old` are `Null` where there is none.
    ///
    /// # Errors
    /// 404 when the request's namespace is not there, 500 for a selector that cannot be read: of selected requests alone.
    pub async fn seen(
        &self,
        request: &Request<'_>,
        object: &Value,
        lookup: &dyn Lookup,
    ) -> Result<Option<Seen>, Refusal> {
        if self.by_rule(&self.excluded, request, lookup).is_some() {
            return Ok(None);
        }
        let seen = if self.open && self.rules.is_empty() {
            Some(Seen { resource: request.kind, gvk: request.gvk() })
        } else {
            self.by_rule(&self.rules, request, lookup)
        };
        let Some(seen) = seen else { return Ok(None) };
        let objects = self.objects.as_ref().map_err(|why| Refusal(Status::internal(why)))?;
        let carries = |object: &Value| !object.is_null() && objects.matches_object(object);
        if !objects.is_empty() && !carries(object) && !carries(request.old) {
            return Ok(None);
        }
        let namespaces = self.namespaces.as_ref().map_err(|why| Refusal(Status::internal(why)))?;
        let name = namespace(request);
        if namespaces.is_empty() || (name.is_empty() && request.kind.plural != "namespaces") {
            return Ok(Some(seen));
        }
        let itself = is_namespace(request.kind)
            && request.subresource.is_empty()
            && matches!(request.operation, Operation::Create | Operation::Update);
        let matches = if itself {
            namespaces.matches_object(object)
        } else {
            let found = match lookup.peek("", "namespaces", "", name).await {
                Some(found) => Some(found),
                None => lookup.get("", "namespaces", "", name).await,
            };
            let absent = || Refusal(Status::not_found(ResourceName { group: "", plural: "namespaces" }, name));
            namespaces.matches_object(&found.ok_or_else(absent)?)
        };
        Ok(matches.then_some(seen))
    }

    fn by_rule(&self, rules: &[Rule], request: &Request<'_>, lookup: &dyn Lookup) -> Option<Seen> {
        if rules.is_empty() {
            return None;
        }
        let gvk = request.gvk();
        if rules.iter().any(|rule| rule.matches(request, request.kind)) {
            return Some(Seen { resource: request.kind, gvk });
        }
        if !self.equivalent {
            return None;
        }
        let others = lookup.equivalents(request.kind);
        // Earlier rules before earlier versions.
        let found = rules.iter().find_map(|rule| others.iter().find(|other| rule.matches(request, other)))?;
        // The body of a part has a version of its own.
        let gvk = if gvk == request.kind.gvk() { found.gvk() } else { gvk };
        Some(Seen { resource: found, gvk })
    }
}

/// A write as those who are asked see it.
#[derive(Debug)]
pub struct Sight {
    /// As what they see it.
    pub seen: Seen,
    /// The object in that version; `Null` where there is none.
    pub object: Value,
    /// The object before; `Null` where there is none.
    pub old: Value,
}

impl Sight {
    /// Of a request.
    ///
    /// # Errors
    /// What went wrong between the versions of a definition.
    pub async fn of(request: &Request<'_>, seen: Seen, object: &Value, lookup: &dyn Lookup) -> Result<Sight, String> {
        let old = shown(request, seen, request.old, lookup).await?;
        Ok(Sight { seen, object: shown(request, seen, object, lookup).await?, old })
    }
}

/// It is seen in another version than the request has.
fn is_other(request: &Request<'_>, seen: Seen) -> bool {
    seen.gvk == seen.resource.gvk() && !std::ptr::eq(seen.resource, request.kind)
}

/// The object in the version in which it is seen, with its version and kind said.
async fn shown(request: &Request<'_>, seen: Seen, object: &Value, lookup: &dyn Lookup) -> Result<Value, String> {
    let mut object = object.clone();
    if object.is_null() {
        return Ok(object);
    }
    if is_other(request, seen) {
        object = lookup.converted(request.kind, seen.resource, object).await?;
    }
    value::set(&mut object, "apiVersion", seen.gvk.api_version());
    value::set(&mut object, "kind", seen.gvk.kind);
    Ok(object)
}

/// The way back: what somebody has made of what he saw, in the version of the request.
///
/// # Errors
/// What went wrong between the versions of a definition.
pub async fn taken(request: &Request<'_>, seen: Seen, mut object: Value, lookup: &dyn Lookup) -> Result<Value, String> {
    if is_other(request, seen) {
        object = lookup.converted(seen.resource, request.kind, object).await?;
    }
    let gvk = request.gvk();
    value::set(&mut object, "apiVersion", gvk.api_version());
    value::set(&mut object, "kind", gvk.kind);
    Ok(object)
}

/// The name that the request has for those who are asked.
#[must_use]
pub fn name<'a>(request: &Request<'a>, object: &'a Value) -> &'a str {
    if request.name.is_empty() { meta::name(object) } else { request.name }
}
