//! Asking the authorizer from expressions: `authorizer.group('').resource('pods').check('get').allowed()`.
//!
//! Who decides is the caller's `Authorizer`; this only gathers the question.

use crate::cel::convert::text;
use crate::cel::declare::Library;
use crate::cel::error::{Fault, Outcome};
use crate::cel::lib::Opaque;
use crate::cel::value::Value;
use crate::kinds::shared::names;
use std::fmt;
use std::sync::Arc;

/// Decides questions of expressions.
pub trait Authorizer: Sync {
    /// May it be done?
    fn decide(&self, question: &Question) -> Decision;
}

/// What an expression asks.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Question {
    /// Namespace and name of the service account in whose place it is asked; `None` for the user of the request.
    pub service_account: Option<(String, String)>,
    /// The verb.
    pub verb: String,
    /// On what.
    pub on: On,
}

/// What is to be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum On {
    /// A path that is no resource.
    Path(String),
    /// A resource.
    Resource(Box<ResourceQuestion>),
}

impl Default for On {
    fn default() -> On {
        On::Path(String::new())
    }
}

/// A resource that is asked for; empty where the expression says nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ResourceQuestion {
    /// API group.
    pub group: String,
    /// Plural name.
    pub resource: String,
    /// Subresource.
    pub subresource: String,
    /// Namespace.
    pub namespace: String,
    /// Name.
    pub name: String,
    /// Field selector as written.
    pub field_selector: String,
    /// Label selector as written.
    pub label_selector: String,
}

/// The answer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Decision {
    /// Allowed.
    pub allowed: bool,
    /// Why.
    pub reason: String,
    /// What went wrong while deciding.
    pub error: Option<String>,
}

/// The values that lead to a decision.
#[derive(Clone)]
pub enum Authorization<'a> {
    /// `authorizer`, or one in the place of a service account.
    Authorizer(&'a dyn Authorizer, Option<(String, String)>),
    /// `.path(...)`, `.group(...)`, `.resource(...)` and what narrows it.
    Question(&'a dyn Authorizer, Step, Box<Question>),
    /// `.check(...)`.
    Decision(Decision),
}

/// How far a question is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// A path is said.
    Path,
    /// A group is said.
    Group,
    /// A resource is said.
    Resource,
}

impl fmt::Debug for Authorization<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Authorization::Authorizer(_, account) => f.debug_tuple("Authorizer").field(account).finish(),
            Authorization::Question(_, _, question) => f.debug_tuple("Question").field(question).finish(),
            Authorization::Decision(decision) => f.debug_tuple("Decision").field(decision).finish(),
        }
    }
}

impl<'a> Authorization<'a> {
    /// The value of the variable `authorizer`.
    #[must_use]
    pub fn authorizer(authorizer: &'a dyn Authorizer) -> Value<'a> {
        Value::Opaque(Opaque::Authorization(Arc::new(Authorization::Authorizer(authorizer, None))))
    }

    /// The value of the variable `authorizer.requestResource`.
    #[must_use]
    pub fn resource(authorizer: &'a dyn Authorizer, resource: ResourceQuestion) -> Value<'a> {
        let question = Question { on: On::Resource(Box::new(resource)), ..Question::default() };
        Value::Opaque(Opaque::Authorization(Arc::new(Authorization::Question(
            authorizer,
            Step::Resource,
            Box::new(question),
        ))))
    }

    pub(crate) fn type_name(&self) -> &'static str {
        match self {
            Authorization::Authorizer(..) => "kubernetes.authorization.Authorizer",
            Authorization::Question(_, Step::Path, _) => "kubernetes.authorization.PathCheck",
            Authorization::Question(_, Step::Group, _) => "kubernetes.authorization.GroupCheck",
            Authorization::Question(_, Step::Resource, _) => "kubernetes.authorization.ResourceCheck",
            Authorization::Decision(_) => "kubernetes.authorization.Decision",
        }
    }
}

pub(crate) const LIBRARY: Library = Library {
    since: Some(27),
    signatures: "
        .path authorizer_path (kubernetes.authorization.Authorizer, string) kubernetes.authorization.PathCheck
        .group authorizer_group (kubernetes.authorization.Authorizer, string) kubernetes.authorization.GroupCheck
        .serviceAccount authorizer_serviceaccount (kubernetes.authorization.Authorizer, string, string) kubernetes.authorization.Authorizer
        .resource groupcheck_resource (kubernetes.authorization.GroupCheck, string) kubernetes.authorization.ResourceCheck
        .subresource resourcecheck_subresource (kubernetes.authorization.ResourceCheck, string) kubernetes.authorization.ResourceCheck
        .namespace resourcecheck_namespace (kubernetes.authorization.ResourceCheck, string) kubernetes.authorization.ResourceCheck
        .name resourcecheck_name (kubernetes.authorization.ResourceCheck, string) kubernetes.authorization.ResourceCheck
        .check pathcheck_check (kubernetes.authorization.PathCheck, string) kubernetes.authorization.Decision
        .check resourcecheck_check (kubernetes.authorization.ResourceCheck, string) kubernetes.authorization.Decision
        .errored decision_errored (kubernetes.authorization.Decision) bool
        .error decision_error (kubernetes.authorization.Decision) string
        .allowed decision_allowed (kubernetes.authorization.Decision) bool
        .reason decision_reason (kubernetes.authorization.Decision) string
    ",
    code: &[
        ("path", |_, args| {
            let (authorizer, account, said) = begun(args)?;
            if said.trim().is_empty() {
                return Err(Fault::said("path must not be empty"));
            }
            let on = On::Path(said.to_owned());
            Ok(question(authorizer, Step::Path, Question { service_account: account, on, ..Question::default() }))
        }),
        ("group", |_, args| {
            let (authorizer, account, said) = begun(args)?;
            let resource = ResourceQuestion { group: said.to_owned(), ..ResourceQuestion::default() };
            let on = On::Resource(Box::new(resource));
            Ok(question(authorizer, Step::Group, Question { service_account: account, on, ..Question::default() }))
        }),
        ("serviceAccount", |_, args| {
            let [first, Value::String(namespace), Value::String(name)] = args else {
                return Err(Fault::NoSuchOverload);
            };
            let Some(Authorization::Authorizer(authorizer, _)) = authorization(first) else {
                return Err(Fault::NoSuchOverload);
            };
            if !names::dns_subdomain(name).is_empty() {
                return Err(Fault::said("Invalid service account name"));
            }
            if !names::dns_label(namespace).is_empty() {
                return Err(Fault::said("Invalid service account namespace"));
            }
            let account = Some((namespace.to_string(), name.to_string()));
            let made = Authorization::Authorizer(*authorizer, account);
            Ok(Value::Opaque(Opaque::Authorization(Arc::new(made))))
        }),
        ("resource", |_, args| {
            if matches!(args, [_, Value::String(said)] if said.trim().is_empty()) {
                return Err(Fault::said("resource must not be empty"));
            }
            narrowed(args, Step::Group, |resource| &mut resource.resource)
        }),
        ("subresource", |_, args| narrowed(args, Step::Resource, |resource| &mut resource.subresource)),
        ("namespace", |_, args| narrowed(args, Step::Resource, |resource| &mut resource.namespace)),
        ("name", |_, args| narrowed(args, Step::Resource, |resource| &mut resource.name)),
        ("check", |_, args| {
            let [first, Value::String(verb)] = args else { return Err(Fault::NoSuchOverload) };
            let Some(Authorization::Question(authorizer, Step::Path | Step::Resource, question)) = authorization(first)
            else {
                return Err(Fault::NoSuchOverload);
            };
            let question = Question { verb: verb.to_string(), ..(**question).clone() };
            let decision = Authorization::Decision(authorizer.decide(&question));
            Ok(Value::Opaque(Opaque::Authorization(Arc::new(decision))))
        }),
        ("errored", |_, args| decided(args, |decision| Value::Bool(decision.error.is_some()))),
        ("error", |_, args| decided(args, |decision| text(decision.error.clone().unwrap_or_default()))),
        ("allowed", |_, args| decided(args, |decision| Value::Bool(decision.allowed))),
        ("reason", |_, args| decided(args, |decision| text(decision.reason.clone()))),
    ],
};

pub(crate) const SELECTORS: Library = Library {
    since: Some(31),
    signatures: "
        .fieldSelector authorizer_fieldselector (kubernetes.authorization.ResourceCheck, string) kubernetes.authorization.ResourceCheck
        .labelSelector authorizer_labelselector (kubernetes.authorization.ResourceCheck, string) kubernetes.authorization.ResourceCheck
    ",
    code: &[
        ("fieldSelector", |_, args| narrowed(args, Step::Resource, |resource| &mut resource.field_selector)),
        ("labelSelector", |_, args| narrowed(args, Step::Resource, |resource| &mut resource.label_selector)),
    ],
};

fn authorization<'v, 'a>(value: &'v Value<'a>) -> Option<&'v Authorization<'a>> {
    match value {
        Value::Opaque(Opaque::Authorization(authorization)) => Some(authorization),
        _ => None,
    }
}

type Begun<'v, 'a> = (&'a dyn Authorizer, Option<(String, String)>, &'v str);

fn begun<'v, 'a>(args: &'v [Value<'a>]) -> Outcome<Begun<'v, 'a>> {
    match args {
        [first, Value::String(said)] => match authorization(first) {
            Some(Authorization::Authorizer(authorizer, account)) => Ok((*authorizer, account.clone(), said)),
            _ => Err(Fault::NoSuchOverload),
        },
        _ => Err(Fault::NoSuchOverload),
    }
}

fn question<'a>(authorizer: &'a dyn Authorizer, step: Step, question: Question) -> Value<'a> {
    let made = Authorization::Question(authorizer, step, Box::new(question));
    Value::Opaque(Opaque::Authorization(Arc::new(made)))
}

fn narrowed<'a>(
    args: &[Value<'a>],
    wanted: Step,
    field: fn(&mut ResourceQuestion) -> &mut String,
) -> Outcome<Value<'a>> {
    let [first, Value::String(said)] = args else { return Err(Fault::NoSuchOverload) };
    match authorization(first) {
        Some(Authorization::Question(authorizer, step, asked)) if *step == wanted => {
            let mut asked = (**asked).clone();
            if let On::Resource(resource) = &mut asked.on {
                *field(resource) = said.to_string();
            }
            Ok(question(*authorizer, Step::Resource, asked))
        }
        _ => Err(Fault::NoSuchOverload),
    }
}

fn decided<'a>(args: &[Value<'a>], of: fn(&Decision) -> Value<'static>) -> Outcome<Value<'a>> {
    match args {
        [first] => match authorization(first) {
            Some(Authorization::Decision(decision)) => Ok(of(decision)),
            _ => Err(Fault::NoSuchOverload),
        },
        _ => Err(Fault::NoSuchOverload),
    }
}
