//! The environments of Kubernetes' admission and of device selectors: which variables they have, of which types.
//!
//! The values come from the caller: JSON without a declaration (`Value::json`) for `object`, `oldObject`, `params`,
//! `request` and `namespaceObject`, as upstream gives them. Custom resources have one of their own (`openapi`).

use super::decl::{Decl, DeclKind};
use super::env::{Env, Extras};
use super::types::Type;
use super::{CompileErrors, Program};
use std::fmt;
use std::sync::LazyLock;

/// Why an expression cannot stand where it is written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// It is no expression.
    Compile(CompileErrors),
    /// Its values are of another type; upstream's sentence.
    Type(String),
}

impl Refusal {
    /// Upstream answers with an internal error instead of an invalid value.
    #[must_use]
    pub fn is_internal(&self) -> bool {
        matches!(self, Refusal::Compile(errors) if errors.planning)
    }
}

/// The detail of the field error.
impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Refusal::Compile(errors) => f.write_str(&errors.sentence()),
            Refusal::Type(sentence) => f.write_str(sentence),
        }
    }
}

impl Env {
    /// Compiles an expression of a policy or webhook that must give a value of one of these types; `Type::Any` takes all.
    ///
    /// # Errors
    /// Upstream's detail for the field.
    pub fn compile_to(&self, source: &str, wanted: &[Type]) -> Result<Program, Refusal> {
        let program = self.compile(source).map_err(Refusal::Compile)?;
        if wanted.iter().any(|wanted| *wanted == Type::Any || wanted == program.result()) {
            return Ok(program);
        }
        let got = program.result().full();
        let names: Vec<String> = wanted.iter().map(Type::full).collect();
        Err(Refusal::Type(match names.as_slice() {
            [one] => format!("must evaluate to {one} but got {got}"),
            many => format!("must evaluate to one of [{}] but got {got}", many.join(" ")),
        }))
    }
}

/// What a policy's expressions have beside `object`, `oldObject`, `namespaceObject` and `request`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Policy {
    /// `params`.
    pub params: bool,
    /// `authorizer` and `authorizer.requestResource`.
    pub authorizer: bool,
    /// `Object{}`, `JSONPatch{}` and `jsonpatch.escapeKey`: the mutations of mutating policies.
    pub patches: bool,
}

/// The environment of webhooks' match conditions.
#[must_use]
pub fn match_conditions() -> Env {
    policy(Policy { authorizer: true, ..Policy::default() })
}

/// The environment of a policy's expressions, without its variables.
#[must_use]
pub fn policy(policy: Policy) -> Env {
    static PLAIN: LazyLock<Env> = LazyLock::new(|| admission(Extras::NONE));
    static PATCHES: LazyLock<Env> = LazyLock::new(|| admission(Extras::NONE.with_mutation()));
    let mut env = if policy.patches { PATCHES.clone() } else { PLAIN.clone() };
    if policy.params {
        env = env.with("params", DeclKind::Dyn.into());
    }
    if policy.authorizer {
        let other = |name| Decl::from(DeclKind::Other(Type::object(name)));
        env = env
            .with("authorizer", other("kubernetes.authorization.Authorizer"))
            .with("authorizer.requestResource", other("kubernetes.authorization.ResourceCheck"));
    }
    env
}

/// With the variables of a policy, which are named `variables.NAME` and have these types.
#[must_use]
pub fn with_variables<'v>(env: Env, variables: impl IntoIterator<Item = (&'v str, &'v Type)>) -> Env {
    let fields = variables.into_iter().map(|(name, t)| (name, Decl::from(DeclKind::Other(t.clone()))));
    env.with("variables", Decl::object("kubernetes.variables", fields))
}

fn admission(extras: Extras) -> Env {
    Env::kubernetes(extras)
        .with("object", DeclKind::Dyn.into())
        .with("oldObject", DeclKind::Dyn.into())
        .with("namespaceObject", namespace())
        .with("request", request())
}

fn texts(name: &str, fields: &[&str]) -> Decl {
    Decl::object(name, fields.iter().map(|field| (*field, Decl::string())))
}

fn request() -> Decl {
    let kind = texts("kubernetes.GroupVersionKind", &["group", "version", "kind"]);
    let resource = texts("kubernetes.GroupVersionResource", &["group", "version", "resource"]);
    let user = Decl::object(
        "kubernetes.UserInfo",
        [
            ("username", Decl::string()),
            ("uid", Decl::string()),
            ("groups", Decl::list(Decl::string())),
            ("extra", Decl::map(Decl::list(Decl::string()))),
        ],
    );
    let fields = [
        ("kind", kind.clone()),
        ("resource", resource.clone()),
        ("subResource", Decl::string()),
        ("requestKind", kind),
        ("requestResource", resource),
        ("requestSubResource", Decl::string()),
        ("name", Decl::string()),
        ("namespace", Decl::string()),
        ("operation", Decl::string()),
        ("userInfo", user),
        ("dryRun", DeclKind::Bool.into()),
        ("options", DeclKind::Dyn.into()),
    ];
    // A reserved word in CEL that upstream declares as it is.
    unescaped(Decl::object("kubernetes.AdmissionRequest", fields))
}

/// Field names as they are in JSON, whatever CEL's reserved words are.
fn unescaped(mut decl: Decl) -> Decl {
    if let DeclKind::Object(object) = &mut decl.kind {
        let mut plain = (**object).clone();
        plain.fields = object.fields.values().map(|field| (field.name.clone(), field.clone())).collect();
        *object = plain.into();
    }
    decl
}

fn namespace() -> Decl {
    let text = Decl::string;
    let time = || Decl::from(DeclKind::Timestamp);
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
            ("deletionGracePeriodSeconds", DeclKind::Int.into()),
            ("deletionTimestamp", time()),
            ("generation", DeclKind::Int.into()),
            ("resourceVersion", text()),
            ("finalizers", Decl::list(text())),
        ],
    );
    let condition = Decl::object(
        "kubernetes.NamespaceCondition",
        [("status", text()), ("type", text()), ("lastTransitionTime", time()), ("message", text()), ("reason", text())],
    );
    let spec = Decl::object("kubernetes.NamespaceSpec", [("finalizers", Decl::list(text()))]);
    let status = Decl::object("kubernetes.NamespaceStatus", [("conditions", Decl::list(condition)), ("phase", text())]);
    Decl::object("kubernetes.Namespace", [("metadata", unescaped(metadata)), ("spec", spec), ("status", status)])
}

/// The most that a device selector may cost, when it is written and when it is evaluated.
pub const DEVICE_SELECTOR_LIMIT: u64 = 1_000_000;

/// Attributes and capacities of a device.
const MOST_ATTRIBUTES: u64 = 32;
/// Characters of a domain, an identifier, a driver's name and an attribute's value.
const LONGEST: [u64; 4] = [63, 32, 63, 64];

/// The environment of device selectors of `resource.k8s.io`. `consumable` is the gate `DRAConsumableCapacity`, `lists`
/// the gate `DRAListTypeAttributes`.
#[must_use]
pub fn device(consumable: bool, lists: bool) -> Env {
    let [domain, id, driver, value] = LONGEST;
    let map = |key: u64, values: Decl| {
        let keys = std::sync::Arc::new(Decl::string().at_most(key));
        Decl::from(DeclKind::Map { keys, values: values.into() }).at_most(MOST_ATTRIBUTES)
    };
    let attribute = Decl::from(if lists { DeclKind::Dyn } else { DeclKind::Any }).at_most(value);
    let mut fields = vec![
        ("driver", Decl::string().at_most(driver)),
        ("attributes", map(domain, map(id, attribute))),
        ("capacity", map(domain, map(id, DeclKind::Quantity.into()))),
    ];
    if consumable {
        fields.push(("allowMultipleAllocations", Decl::from(DeclKind::Bool).at_most(1)));
    }
    let extras = if lists { Extras::NONE.with_bind().with_includes() } else { Extras::NONE.with_bind() };
    Env::kubernetes(extras).with("device", Decl::object("kubernetes.DRADevice", fields))
}

/// Compiles a device selector.
///
/// # Errors
/// Upstream's detail for the field; `None` where it can cost more than it may.
pub fn device_selector(env: &Env, source: &str) -> Result<Program, Option<Refusal>> {
    let program = env.compile(source).map_err(|errors| Some(Refusal::Compile(errors)))?;
    let lists = env.function("includes").is_some();
    match program.result() {
        Type::Bool | Type::Any => {}
        Type::Dyn if lists => {}
        other => {
            let got = other.full();
            return Err(Some(Refusal::Type(format!("must evaluate to bool or the unknown type, not {got}"))));
        }
    }
    if program.most() > DEVICE_SELECTOR_LIMIT { Err(None) } else { Ok(program) }
}
