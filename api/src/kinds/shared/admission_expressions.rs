//! The expressions of admission webhooks and policies: what they may use, and what is wrong with them.
//!
//! Never evaluates: admission does. Source: KEP-3488, KEP-3716, KEP-3962; the sentences are those that upstream's clients see.

use crate::cel::{Decl, DeclKind, Env, Extras, FieldDecl, ObjectDecl, Program, Type};
use crate::field_path::{Errors, FieldError, Path};
use crate::json::Value;
use crate::value;
use std::collections::BTreeMap;
use std::sync::{Arc, LazyLock};

/// Which variables there are beside those that all expressions have.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Use {
    /// `params`.
    pub params: bool,
    /// `authorizer` and `authorizer.requestResource`.
    pub authorizer: bool,
    /// `Object{}`, `JSONPatch{}` and `jsonpatch`.
    pub patches: bool,
}

/// What an expression has to give.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Gives {
    /// Anything: a variable.
    Anything,
    /// True or false.
    Bool,
    /// A message.
    Text,
    /// The value of an annotation, or none.
    TextOrNull,
    /// A configuration to apply.
    Configuration,
    /// A list of `JSONPatch`.
    Patch,
}

impl Gives {
    fn types(self) -> Vec<Type> {
        match self {
            Gives::Anything => Vec::new(),
            Gives::Bool => vec![Type::Bool],
            Gives::Text => vec![Type::String],
            Gives::TextOrNull => vec![Type::String, Type::Null],
            Gives::Configuration => vec![Type::object("Object")],
            Gives::Patch => vec![Type::list(Type::object("JSONPatch"))],
        }
    }
}

static REQUEST: LazyLock<Decl> = LazyLock::new(|| {
    let text = Decl::string;
    let gvk = Decl::object("kubernetes.GroupVersionKind", ["group", "version", "kind"].map(|name| (name, text())));
    let gvr =
        Decl::object("kubernetes.GroupVersionResource", ["group", "version", "resource"].map(|name| (name, text())));
    let user = Decl::object(
        "kubernetes.UserInfo",
        [
            ("username", text()),
            ("uid", text()),
            ("groups", Decl::list(text())),
            ("extra", Decl::map(Decl::list(text()))),
        ],
    );
    Decl::object(
        "kubernetes.AdmissionRequest",
        [
            ("kind", gvk.clone()),
            ("resource", gvr.clone()),
            ("subResource", text()),
            ("requestKind", gvk),
            ("requestResource", gvr),
            ("requestSubResource", text()),
            ("name", text()),
            ("namespace", text()),
            ("operation", text()),
            ("userInfo", user),
            ("dryRun", DeclKind::Bool.into()),
            ("options", Decl::dynamic().clone()),
        ],
    )
});

static NAMESPACE: LazyLock<Decl> = LazyLock::new(|| {
    let text = Decl::string;
    let time = || Decl::from(DeclKind::Timestamp);
    let int = || Decl::from(DeclKind::Int);
    let condition = Decl::object(
        "kubernetes.NamespaceCondition",
        [("status", text()), ("type", text()), ("lastTransitionTime", time()), ("message", text()), ("reason", text())],
    );
    let metadata = Decl::object(
        "kubernetes.NamespaceMetadata",
        [
            ("name", text()),
            ("generateName", text()),
            ("namespace", text()),
            ("labels", Decl::map(text())),
            ("annotations", Decl::map(text())),
            ("UID", text()),
            ("creationTimestamp", time()),
            ("deletionGracePeriodSeconds", int()),
            ("deletionTimestamp", time()),
            ("generation", int()),
            ("resourceVersion", text()),
            ("finalizers", Decl::list(text())),
        ],
    );
    let status = Decl::object("kubernetes.NamespaceStatus", [("conditions", Decl::list(condition)), ("phase", text())]);
    let spec = Decl::object("kubernetes.NamespaceSpec", [("finalizers", Decl::list(text()))]);
    let mut decl = Decl::object("kubernetes.Namespace", [("metadata", metadata), ("spec", spec), ("status", status)]);
    // There is none for what lives in no namespace.
    decl.nullable = true;
    decl
});

/// How `request` is read.
#[must_use]
pub fn request() -> &'static Decl {
    &REQUEST
}

/// How `namespaceObject` is read.
#[must_use]
pub fn namespace() -> &'static Decl {
    &NAMESPACE
}

fn base(uses: Use, object: &Decl) -> Env {
    let extras = if uses.patches { Extras::NONE.with_mutation() } else { Extras::NONE };
    let any = || Decl::dynamic().clone();
    let mut env = Env::kubernetes(extras)
        .with("object", object.clone())
        .with("oldObject", object.clone())
        .with("namespaceObject", NAMESPACE.clone())
        .with("request", REQUEST.clone());
    if uses.params {
        env = env.with("params", any());
    }
    if uses.authorizer {
        let of = |name: &str| Decl::from(DeclKind::Other(Type::object(name)));
        env = env
            .with("authorizer", of("kubernetes.authorization.Authorizer"))
            .with("authorizer.requestResource", of("kubernetes.authorization.ResourceCheck"));
    }
    env
}

/// What the expressions of one policy may use: grows with its variables.
#[derive(Clone, Debug)]
pub struct Environment {
    params: bool,
    patches: bool,
    object: Decl,
    variables: BTreeMap<String, FieldDecl>,
}

impl Environment {
    /// That of webhooks, and of policies with (`params`) or without parameters.
    #[must_use]
    pub fn new(params: bool, patches: bool) -> Environment {
        Environment { params, patches, object: Decl::dynamic().clone(), variables: BTreeMap::new() }
    }

    /// The same where the type of the objects is known.
    #[must_use]
    pub fn of_objects(self, object: Decl) -> Environment {
        Environment { object, ..self }
    }

    /// From now on expressions may use this variable.
    pub fn add(&mut self, name: &str, t: Type) {
        let decl = DeclKind::Other(t).into();
        self.variables.insert(name.to_owned(), FieldDecl { name: name.to_owned(), decl });
    }

    /// Compiles an expression.
    ///
    /// # Errors
    /// Upstream's sentence.
    pub fn compile(&self, source: &str, gives: Gives) -> Result<Program, String> {
        let uses = Use {
            params: self.params,
            authorizer: gives != Gives::Text,
            patches: self.patches && matches!(gives, Gives::Configuration | Gives::Patch | Gives::Anything),
        };
        let mut env = base(uses, &self.object);
        if !self.variables.is_empty() {
            let object = ObjectDecl {
                name: "kubernetes.variables".into(),
                fields: self.variables.clone(),
                constructible: false,
            };
            env = env.with("variables", DeclKind::Object(Arc::new(object)).into());
        }
        let program = env.compile(source).map_err(|errors| errors.sentence())?;
        let (wanted, found) = (gives.types(), program.result());
        if wanted.is_empty() || wanted.contains(found) {
            return Ok(program);
        }
        let (names, found): (Vec<String>, String) = (wanted.iter().map(Type::full).collect(), found.full());
        Err(match names.as_slice() {
            [one] => format!("must evaluate to {one} but got {found}"),
            many => format!("must evaluate to one of [{}] but got {found}", many.join(" ")),
        })
    }
}

fn check(errors: &mut Errors, environment: &Environment, source: &str, gives: Gives, field: &Path) -> Option<Type> {
    if source.trim().is_empty() {
        return None;
    }
    match environment.compile(source, gives) {
        Ok(program) => Some(program.result().clone()),
        Err(why) => {
            errors.push(FieldError::invalid(field, source, why));
            None
        }
    }
}

/// What is wrong with the match conditions of `object`, whose list stands at `field`.
pub fn conditions(errors: &mut Errors, object: &Value, params: bool, field: &Path) {
    let environment = Environment::new(params, false);
    for (i, condition) in value::items(object, "matchConditions").iter().enumerate() {
        let field = field.child("matchConditions").index(i).child("expression");
        check(errors, &environment, value::text(condition, "expression").trim(), Gives::Bool, &field);
    }
}

/// What is wrong with the expressions of a policy; what `old` has already is let through as far as it stands alone.
#[must_use]
pub fn of_policy(object: &Value, old: &Value) -> Errors {
    let mut errors = Errors::new();
    let spec = Path::new("spec");
    let params = value::get(object, "spec.paramKind").is_some();
    let same_conditions = !old.is_null()
        && ["spec.paramKind", "spec.matchConditions"]
            .iter()
            .all(|path| value::get(object, path) == value::get(old, path));
    if !same_conditions {
        conditions(&mut errors, object.get("spec").unwrap_or(&Value::Null), params, &spec);
    }
    let mutating = value::get(object, "spec.mutations").is_some();
    let mut environment = Environment::new(params, mutating);
    for (i, variable) in value::items(object, "spec.variables").iter().enumerate() {
        let field = spec.child("variables").index(i).child("expression");
        let source = value::text(variable, "expression");
        let found = check(&mut errors, &environment, source, Gives::Anything, &field);
        environment.add(value::text(variable, "name"), found.unwrap_or(Type::Dyn));
    }
    for (i, one) in value::items(object, "spec.validations").iter().enumerate() {
        let field = spec.child("validations").index(i);
        let text = |name: &str| value::text(one, name);
        check(&mut errors, &environment, text("expression"), Gives::Bool, &field.child("expression"));
        check(&mut errors, &environment, text("messageExpression"), Gives::Text, &field.child("messageExpression"));
    }
    for (i, one) in value::items(object, "spec.auditAnnotations").iter().enumerate() {
        let field = spec.child("auditAnnotations").index(i).child("valueExpression");
        check(&mut errors, &environment, value::text(one, "valueExpression").trim(), Gives::TextOrNull, &field);
    }
    for (i, one) in value::items(object, "spec.mutations").iter().enumerate() {
        let (list, gives) = match value::text(one, "patchType") {
            "JSONPatch" => ("jsonPatch", Gives::Patch),
            _ => ("applyConfiguration", Gives::Configuration),
        };
        let field = spec.child("mutations").index(i).child(list).child("expression");
        let source = value::text(one, &format!("{list}.expression")).trim().to_owned();
        check(&mut errors, &environment, &source, gives, &field);
    }
    errors
}
