//! Policies and bindings: which of them are about a request, and with which parameters.
//!
//! Never evaluates. Source: upstream's `apiserver/pkg/admission/plugin/policy/generic`.

use super::formula::{Conditions, Formula, Reader, Variables};
use super::matching::{self, Rule, Seen, Selection};
use crate::plugin::{Lookup, Request};
use api::json::Value;
use api::kind::Kind;
use api::kinds::shared::admission_expressions::Gives;
use api::selector::LabelSelector;
use api::{meta, value};

/// A rule of a validating policy.
#[derive(Debug)]
pub struct Validation {
    /// Must be true.
    pub rule: Formula,
    /// Says why not; first choice.
    pub said_by: Option<Formula>,
    /// Says why not; second choice.
    pub message: String,
    /// `metav1.StatusReason`; empty for `Invalid`.
    pub reason: String,
}

/// A change of a mutating policy.
#[derive(Debug)]
pub struct Mutation {
    /// Gives the change.
    pub formula: Formula,
    /// It gives a list of `JSONPatch`; else a configuration to apply.
    pub is_patch: bool,
}

/// A policy, understood.
#[derive(Debug)]
pub struct Policy {
    /// Its name.
    pub name: String,
    selection: Selection,
    /// What goes wrong lets the request pass.
    pub fails_open: bool,
    params: Option<(String, String)>,
    /// When it is about a request.
    pub conditions: Conditions,
    /// What its expressions share.
    pub variables: Variables,
    /// Of a validating one.
    pub validations: Vec<Validation>,
    /// Key and value of what it says to the audit log.
    pub annotations: Vec<(String, Formula)>,
    /// Of a mutating one.
    pub mutations: Vec<Mutation>,
    /// It wants to see changes that come after it.
    pub again: bool,
}

/// A policy of an object.
#[must_use]
pub fn read(object: &Value) -> Vec<Policy> {
    let spec = object.get("spec").unwrap_or(&Value::Null);
    let kind = value::get(spec, "paramKind");
    let mut reader = Reader::new(kind.is_some(), value::get(spec, "mutations").is_some());
    let conditions = Conditions::read(spec, &reader);
    reader.add_variables(value::items(spec, "variables"));
    let validations = value::items(spec, "validations").iter().map(|one| {
        let text = |name: &str| value::text(one, name);
        Validation {
            rule: reader.formula(text("expression"), Gives::Bool),
            said_by: (!text("messageExpression").is_empty())
                .then(|| reader.formula(text("messageExpression"), Gives::Text)),
            message: text("message").trim().to_owned(),
            reason: text("reason").to_owned(),
        }
    });
    let validations = validations.collect();
    let annotations = value::items(spec, "auditAnnotations").iter().map(|one| {
        let formula = reader.formula(value::text(one, "valueExpression").trim(), Gives::TextOrNull);
        (value::text(one, "key").to_owned(), formula)
    });
    let annotations = annotations.collect();
    let mutations = value::items(spec, "mutations").iter().map(|one| {
        let is_patch = value::text(one, "patchType") == "JSONPatch";
        let (path, gives) = if is_patch {
            ("jsonPatch.expression", Gives::Patch)
        } else {
            ("applyConfiguration.expression", Gives::Configuration)
        };
        Mutation { formula: reader.formula(value::text(one, path).trim(), gives), is_patch }
    });
    let mutations = mutations.collect();
    let constraints = value::get(spec, "matchConstraints").unwrap_or(&Value::Null);
    vec![Policy {
        name: meta::name(object).to_owned(),
        selection: selection(constraints),
        fails_open: value::text(spec, "failurePolicy") == "Ignore",
        params: kind.map(|kind| (value::text(kind, "apiVersion").to_owned(), value::text(kind, "kind").to_owned())),
        conditions,
        variables: reader.variables(),
        validations,
        annotations,
        mutations,
        again: value::text(spec, "reinvocationPolicy") == "IfNeeded",
    }]
}

fn selection(resources: &Value) -> Selection {
    let rules = Rule::read_all(resources, "resourceRules");
    Selection::read(resources, rules).or_all().without(Rule::read_all(resources, "excludeResourceRules"))
}

/// A binding, understood.
#[derive(Debug)]
pub struct Binding {
    /// Its name.
    pub name: String,
    /// The policy's.
    pub policy: String,
    selection: Option<Selection>,
    param: Option<Value>,
    /// `Deny`, `Warn`, `Audit`.
    pub actions: Vec<String>,
}

/// A binding of an object.
#[must_use]
pub fn read_binding(object: &Value) -> Vec<Binding> {
    let actions = value::items(object, "spec.validationActions").iter().filter_map(Value::as_str).map(str::to_owned);
    vec![Binding {
        name: meta::name(object).to_owned(),
        policy: value::text(object, "spec.policyName").to_owned(),
        selection: value::get(object, "spec.matchResources").map(selection),
        param: value::get(object, "spec.paramRef").cloned(),
        actions: actions.collect(),
    }]
}

/// A policy that is about a request, through a binding.
#[derive(Debug)]
pub struct Invocation<'a> {
    /// The policy.
    pub policy: &'a Policy,
    /// The binding.
    pub binding: &'a Binding,
    /// As what it sees the request.
    pub seen: Seen,
    /// Each of its parameters; `Null` where it takes none.
    pub params: Vec<Value>,
}

/// Something is wrong with a policy or a binding itself.
#[derive(Debug)]
pub struct Misfit<'a> {
    /// The policy.
    pub policy: &'a Policy,
    /// The binding, if it is the binding's.
    pub binding: Option<&'a Binding>,
    /// What.
    pub why: String,
}

/// What policies have to do with a request, in their order and that of their bindings.
pub async fn invocations<'a>(
    policies: &'a [Policy],
    bindings: &'a [Binding],
    request: &Request<'_>,
    object: &Value,
    lookup: &dyn Lookup,
) -> Vec<Result<Invocation<'a>, Misfit<'a>>> {
    let mut out = Vec::new();
    for policy in policies {
        let own: Vec<&Binding> = bindings.iter().filter(|binding| binding.policy == policy.name).collect();
        if own.is_empty() {
            continue;
        }
        let seen = match policy.selection.seen(request, object, lookup).await {
            Ok(Some(seen)) => seen,
            Ok(None) => continue,
            Err(refusal) => {
                let why = format!("failed to configure policy: {}", refusal.0.message);
                out.push(Err(Misfit { policy, binding: None, why }));
                continue;
            }
        };
        for binding in own {
            let misfit = |why: String| {
                let why = format!("failed to configure binding: {why}");
                Err(Misfit { policy, binding: Some(binding), why })
            };
            if let Some(selection) = &binding.selection {
                match selection.seen(request, object, lookup).await {
                    Ok(Some(_)) => {}
                    Ok(None) => continue,
                    Err(refusal) => {
                        out.push(misfit(refusal.0.message));
                        continue;
                    }
                }
            }
            out.push(match params(policy, binding, request, lookup).await {
                Ok(params) => Ok(Invocation { policy, binding, seen, params }),
                Err(why) => misfit(why),
            });
        }
    }
    out
}

/// The parameters of a policy through a binding.
async fn params(
    policy: &Policy,
    binding: &Binding,
    request: &Request<'_>,
    lookup: &dyn Lookup,
) -> Result<Vec<Value>, String> {
    let (Some((version, name)), Some(wanted)) = (&policy.params, &binding.param) else { return Ok(vec![Value::Null]) };
    let (group, own) = version.split_once('/').unwrap_or(("", version));
    let kind = lookup
        .kind(group, own, name)
        .ok_or_else(|| format!("paramKind kind `&ParamKind{{APIVersion:{version},Kind:{name},}}` not known"))?;
    let given = value::text(wanted, "namespace");
    let namespace = match (kind.namespaced, given) {
        (false, "") => "",
        (false, _) => return Err("paramRef.namespace must not be provided for a cluster-scoped `paramKind`".to_owned()),
        (true, "") => matching::namespace(request),
        (true, given) => given,
    };
    if kind.namespaced && namespace.is_empty() {
        let why = "cannot use namespaced paramRef in policy binding that matches cluster-scoped resources";
        return Err(why.to_owned());
    }
    let stored = kind.stored();
    let found = match (value::text(wanted, "name"), value::get(wanted, "selector")) {
        ("", Some(selector)) => {
            let selector = LabelSelector::from_value(selector)?;
            let all = lookup.list(stored.group, stored.plural, namespace).await;
            all.into_iter().filter(|object| selector.matches_object(object)).collect()
        }
        (name, _) => Vec::from_iter(lookup.peek(stored.group, stored.plural, namespace, name).await),
    };
    if found.is_empty() && value::text(wanted, "parameterNotFoundAction") == "Deny" {
        return Err("no params found for policy binding with `Deny` parameterNotFoundAction".to_owned());
    }
    let mut served = Vec::with_capacity(found.len());
    for object in found {
        let mut object = lookup.converted(stored, kind, object).await?;
        value::set(&mut object, "apiVersion", kind.api_version());
        value::set(&mut object, "kind", kind.kind);
        served.push(object);
    }
    Ok(served)
}

/// The request's namespace as expressions see it; `Null` where there is none.
pub async fn namespace(request: &Request<'_>, lookup: &dyn Lookup) -> Value {
    let name = request.namespace;
    if name.is_empty() {
        return Value::Null;
    }
    match lookup.peek("", "namespaces", "", name).await {
        Some(found) => found,
        None => lookup.get("", "namespaces", "", name).await.unwrap_or_default(),
    }
}

/// Policies are not about questions to the server itself: a mistake in one would lock everybody out.
#[must_use]
pub fn is_exempt(kind: &Kind) -> bool {
    let asks = matches!(kind.group, "authentication.k8s.io" | "authorization.k8s.io") && !kind.is_stored();
    asks || super::is_exempt(kind)
}
