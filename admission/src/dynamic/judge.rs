//! Validating policies: what they say about a write, and what follows from that.
//!
//! Never changes an object. Source: upstream's `apiserver/pkg/admission/plugin/policy/validating`.

use super::formula::{Asker, Scene, Sheet, Trouble};
use super::matching::Sight;
use super::policy::{self, Binding, Policy};
use super::{Caller, Judged, Notes};
use crate::plugin::{Lookup, Refusal, Request};
use api::cel::{Budget, Value as Cel};

use api::json::{Value, json};
use std::borrow::Cow;
use std::time::{Duration, Instant};

/// The most bytes of a message that an expression gives.
const LONGEST_MESSAGE: usize = 5 * 1024;
/// The most bytes of an annotation's value.
const LONGEST_ANNOTATION: usize = 10 * 1024;

/// Why a policy would refuse.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Denial {
    message: String,
    reason: String,
}

/// Asks every validating policy that is about the request.
///
/// # Errors
/// The first denial.
pub async fn run(request: &Request<'_>, object: &Value, lookup: &dyn Lookup) -> Result<(), Refusal> {
    let Some(dynamic) = lookup.dynamic().filter(|_| !policy::is_exempt(request.kind)) else { return Ok(()) };
    let policies = dynamic.validating_policies.get(lookup).await;
    if policies.is_empty() {
        return Ok(());
    }
    let bindings = dynamic.validating_bindings.get(lookup).await;
    let invocations = policy::invocations(&policies, &bindings, request, object, lookup).await;
    if invocations.is_empty() {
        return Ok(());
    }
    let namespace = policy::namespace(request, lookup).await;
    let asker = Asker { request, lookup };
    let mut first: Option<(Denial, String)> = None;
    let mut deny = |policy: &Policy, binding: Option<&Binding>, denial: Denial| {
        let by = match binding {
            Some(binding) => format!(
                "ValidatingAdmissionPolicy '{}' with binding '{}' denied request: {}",
                policy.name, binding.name, denial.message
            ),
            None => format!("ValidatingAdmissionPolicy '{}' denied request: {}", policy.name, denial.message),
        };
        first.get_or_insert((denial, by));
    };
    let mut annotations = Annotations::default();
    for invocation in invocations {
        let invocation = match invocation {
            Ok(invocation) => invocation,
            Err(misfit) if misfit.policy.fails_open => continue,
            Err(misfit) => {
                deny(misfit.policy, misfit.binding, Denial { message: misfit.why, reason: String::new() });
                continue;
            }
        };
        let (policy, binding) = (invocation.policy, invocation.binding);
        let sight = match Sight::of(request, invocation.seen, object, lookup).await {
            Ok(sight) => sight,
            Err(_) if policy.fails_open => continue,
            Err(message) => {
                deny(policy, Some(binding), Denial { message, reason: String::new() });
                continue;
            }
        };
        for params in invocation.params {
            let scene = Scene::new(request, &sight, params, namespace.clone());
            let verdict = verdict(policy, &scene, &asker, &mut annotations);
            let tell = Tell { caller: dynamic.caller.as_ref(), policy: &policy.name, binding: &binding.name };
            for (message, took) in verdict.passed {
                tell.of(&message, "allow", took);
            }
            for (index, denial, took) in verdict.denials {
                act(binding, policy, (index, took), &denial, (request.notes, &tell), &mut deny);
            }
            for (message, took) in verdict.broken {
                tell.of(&message, "deny", took);
                deny(policy, Some(binding), Denial { message, reason: String::new() });
            }
        }
    }
    annotations.publish(request.notes);
    first.map_or(Ok(()), |(denial, by)| Err(refusal(request, &denial, &by)))
}

/// Who is told what became of a policy's rules.
struct Tell<'a> {
    caller: &'a dyn Caller,
    policy: &'a str,
    binding: &'a str,
}

impl Tell<'_> {
    /// Upstream tells kinds of errors by how their sentences begin; a rule that says no is none of its own.
    fn of(&self, message: &str, action: &'static str, took: Duration) {
        let error = if message.starts_with("compilation") {
            "compile_error"
        } else if message.starts_with("validation failed due to running out of cost budget") {
            "out_of_budget"
        } else {
            "invalid_error"
        };
        self.caller.judged(&Judged { policy: self.policy, binding: self.binding, error, action, took });
    }
}

/// What follows from a denial, by the binding.
fn act(
    binding: &Binding,
    policy: &Policy,
    (index, took): (usize, Duration),
    denial: &Denial,
    (notes, tell): (&Notes, &Tell<'_>),
    deny: &mut impl FnMut(&Policy, Option<&Binding>, Denial),
) {
    for action in &binding.actions {
        match action.as_str() {
            "Deny" => {
                tell.of(&denial.message, "deny", took);
                deny(policy, Some(binding), denial.clone());
            }
            "Warn" => {
                tell.of(&denial.message, "warn", took);
                notes.warn(format!(
                    "Validation failed for ValidatingAdmissionPolicy '{}' with binding '{}': {}",
                    policy.name, binding.name, denial.message
                ));
            }
            _ => {
                tell.of(&denial.message, "audit", took);
                let said = json!([{"message": denial.message, "policy": binding.policy, "binding": binding.name,
                    "expressionIndex": index, "validationActions": binding.actions}]);
                notes.annotate("validation.policy.admission.k8s.io/validation_failure", said.to_string());
            }
        }
    }
}

fn refusal(request: &Request<'_>, denial: &Denial, by: &str) -> Refusal {
    let Refusal(mut status) = request.forbidden(by);
    let reason = if denial.reason.is_empty() { "Invalid" } else { &denial.reason };
    status.code = match reason {
        "Forbidden" => 403,
        "Unauthorized" => 401,
        "RequestEntityTooLarge" => 413,
        _ => 422,
    };
    status.reason = Cow::Owned(reason.to_owned());
    if let Some(details) = status.details.as_object_mut() {
        details.insert("causes".to_owned(), json!([{"message": by}]));
    }
    Refusal(status)
}

#[derive(Debug, Default)]
struct Verdict {
    /// By the place of the rule, with the time that it took.
    denials: Vec<(usize, Denial, Duration)>,
    /// What is wrong with rules, where that refuses nothing.
    passed: Vec<(String, Duration)>,
    /// Annotations that could not be made, where that refuses.
    broken: Vec<(String, Duration)>,
}

fn verdict(policy: &Policy, scene: &Scene, asker: &Asker<'_>, annotations: &mut Annotations) -> Verdict {
    let mut verdict = Verdict::default();
    let broken = |verdict: &mut Verdict, index: usize, message: String, took: Duration| {
        if policy.fails_open {
            verdict.passed.push((message, took));
        } else {
            verdict.denials.push((index, Denial { message, reason: String::new() }, took));
        }
    };
    if !policy.conditions.is_empty() {
        let mut sheet = Sheet::new(scene, asker, &policy.variables, Budget::match_conditions());
        match policy.conditions.hold(&mut sheet) {
            Ok(true) => {}
            Ok(false) => return verdict,
            Err(why) => {
                broken(&mut verdict, 0, why, Duration::ZERO);
                return verdict;
            }
        }
    }
    let mut sheet = Sheet::new(scene, asker, &policy.variables, Budget::admission());
    for (index, validation) in policy.validations.iter().enumerate() {
        let begin = Instant::now();
        let value = sheet.value(&validation.rule);
        let took = begin.elapsed();
        match value {
            Ok(Cel::Bool(true)) => {}
            Ok(_) => {
                let said = validation.said_by.as_ref().and_then(|formula| match sheet.value(formula) {
                    Ok(Cel::String(text)) => message(&text),
                    Ok(_) => None,
                    Err(trouble) => {
                        tracing::debug!(policy = policy.name, why = trouble.text(), "a message could not be made");
                        None
                    }
                });
                let message = said
                    .or_else(|| Some(validation.message.clone()).filter(|message| !message.is_empty()))
                    .unwrap_or_else(|| format!("failed expression: {}", validation.rule.source.trim()));
                verdict.denials.push((index, Denial { message, reason: validation.reason.clone() }, took));
            }
            Err(Trouble::Here(why)) => broken(&mut verdict, index, why, took),
            Err(Trouble::End(why)) => {
                verdict.denials.clear();
                verdict.passed.clear();
                broken(&mut verdict, index, why, Duration::ZERO);
                return verdict;
            }
        }
    }
    let mut sheet = Sheet::new(scene, asker, &policy.variables, Budget::admission());
    for (key, formula) in &policy.annotations {
        let begin = Instant::now();
        match sheet.value(formula) {
            Ok(Cel::String(text)) if !text.trim().is_empty() => annotations.add(&policy.name, key, text.trim()),
            Ok(_) => {}
            Err(trouble) if policy.fails_open => {
                tracing::debug!(policy = policy.name, why = trouble.text(), "an annotation could not be made");
            }
            Err(trouble) => verdict.broken.push((trouble.text(), begin.elapsed())),
        }
    }
    verdict
}

/// What an expression says, if it can be said.
fn message(text: &str) -> Option<String> {
    let text = text.trim();
    (!text.is_empty() && text.len() <= LONGEST_MESSAGE && !text.contains('\n')).then(|| text.to_owned())
}

/// What policies tell the audit log, each value of a key once.
#[derive(Debug, Default)]
struct Annotations(Vec<(String, Vec<String>)>);

impl Annotations {
    fn add(&mut self, policy: &str, key: &str, text: &str) {
        let key = format!("{policy}/{key}");
        let end = (0..=LONGEST_ANNOTATION.min(text.len())).rev().find(|end| text.is_char_boundary(*end)).unwrap_or(0);
        let text = text.get(..end).unwrap_or(text).to_owned();
        match self.0.iter_mut().find(|(held, _)| *held == key) {
            Some((_, values)) if values.contains(&text) => {}
            Some((_, values)) => values.push(text),
            None => self.0.push((key, vec![text])),
        }
    }

    fn publish(self, notes: &Notes) {
        for (key, values) in self.0 {
            notes.annotate(key, values.join(", "));
        }
    }
}
