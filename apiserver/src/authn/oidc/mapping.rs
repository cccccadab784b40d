//! From claims to users: expressions over claims and users.
//!
//! Never verifies a token. Source: KEP-3331; upstream's `apiserver/pkg/authentication/cel`.

use crate::authn::User;
use api::cel::{Activation, Budget, Decl, DeclKind, Env, Extras, PER_CALL_LIMIT, Program, Type, Value as Cel, escape};
use api::json::{Map, Number, Value, json};
use std::sync::LazyLock;

/// An expression, compiled.
#[derive(Debug)]
pub(super) struct Mapping {
    pub(super) source: String,
    program: Program,
}

static CLAIMS: LazyLock<Env> =
    LazyLock::new(|| Env::kubernetes(Extras::NONE).with("claims", Decl::map(DeclKind::Any.into())));

static USER_INFO: LazyLock<Decl> = LazyLock::new(|| {
    Decl::object(
        "kubernetes.UserInfo",
        [
            ("username", Decl::string()),
            ("uid", Decl::string()),
            ("groups", Decl::list(Decl::string())),
            ("extra", Decl::map(Decl::list(Decl::string()))),
        ],
    )
});

static USER: LazyLock<Env> = LazyLock::new(|| Env::kubernetes(Extras::NONE).with("user", USER_INFO.clone()));

/// Where rules about users are read.
pub(super) fn user_environment() -> Env {
    USER.clone()
}

impl Mapping {
    /// An expression over `claims`.
    ///
    /// # Errors
    /// Upstream's detail.
    pub(super) fn claims(source: &str, boolean: bool) -> Result<Mapping, String> {
        Mapping::compile(&CLAIMS, source, boolean)
    }

    /// An expression.
    ///
    /// # Errors
    /// Upstream's detail.
    pub(super) fn compile(env: &Env, source: &str, boolean: bool) -> Result<Mapping, String> {
        let program = env.compile(source).map_err(|errors| errors.sentence())?;
        if boolean && *program.result() != Type::Bool {
            return Err("must evaluate to bool".to_owned());
        }
        Ok(Mapping { source: source.to_owned(), program })
    }

    fn evaluate<'a>(&self, activation: &Activation<'a>) -> Result<Cel<'a>, String> {
        let mut budget = Budget { per_call: PER_CALL_LIMIT, left: PER_CALL_LIMIT, stop: None };
        let outcome = self.program.evaluate(activation, &mut budget);
        outcome.map_err(|fault| format!("expression '{}' resulted in error: {fault}", self.source))
    }

    /// A text.
    ///
    /// # Errors
    /// What went wrong, or that it is none.
    pub(super) fn text(&self, claims: &Value, what: &str) -> Result<String, String> {
        let activation = Activation::default().with("claims", Cel::json(claims));
        match self.evaluate(&activation)? {
            Cel::String(text) => Ok(text.to_string()),
            _ => Err(format!("{what} claim expression must return a string")),
        }
    }

    /// Texts: one, several or none.
    ///
    /// # Errors
    /// What went wrong, or that it is something else.
    pub(super) fn texts(&self, claims: &Value) -> Result<Vec<String>, String> {
        let activation = Activation::default().with("claims", Cel::json(claims));
        let wrong = || "expression must return a string or a list of strings".to_owned();
        match self.evaluate(&activation)? {
            Cel::String(text) if text.is_empty() => Ok(Vec::new()),
            Cel::String(text) => Ok(vec![text.to_string()]),
            Cel::Null => Ok(Vec::new()),
            Cel::List(list) => {
                let mut found = Vec::new();
                for item in list.iter() {
                    match item {
                        Ok(Cel::String(text)) if text.is_empty() => {}
                        Ok(Cel::String(text)) => found.push(text.to_string()),
                        _ => return Err(wrong()),
                    }
                }
                Ok(found)
            }
            _ => Err(wrong()),
        }
    }

    fn holds(&self, activation: &Activation<'_>, message: &str) -> Result<(), String> {
        match self.evaluate(activation)? {
            Cel::Bool(true) => Ok(()),
            Cel::Bool(false) => Err(format!("validation expression '{}' failed: {message}", self.source)),
            _ => Err("validation expression must return a boolean".to_owned()),
        }
    }

    /// A rule about claims.
    ///
    /// # Errors
    /// It does not hold, or cannot be worked out.
    pub(super) fn holds_for_claims(&self, claims: &Value, message: &str) -> Result<(), String> {
        self.holds(&Activation::default().with("claims", Cel::json(claims)), message)
    }

    /// A rule about a user.
    ///
    /// # Errors
    /// It does not hold, or cannot be worked out.
    pub(super) fn holds_for_user(&self, user: &User, message: &str) -> Result<(), String> {
        let shown = json!({"username": user.name, "uid": user.uid, "groups": user.groups, "extra": user.extra});
        let value = Cel::declared(&shown, &USER_INFO).map_err(|fault| fault.to_string())?;
        self.holds(&Activation::default().with("user", value), message)
    }
}

/// Claims as expressions see them: every number has a fraction, as Go reads JSON, and a name that is no identifier is found under
/// its escaped form too.
pub(super) fn shown(claims: &Value) -> Value {
    match claims {
        Value::Number(number) => {
            let float = number.as_f64().and_then(Number::from_f64);
            Value::Number(float.unwrap_or(*number))
        }
        Value::Array(items) => Value::Array(items.iter().map(shown).collect()),
        Value::Object(fields) => {
            let mut out: Map = fields.iter().map(|(name, value)| (name.clone(), shown(value))).collect();
            for (name, value) in fields {
                if let Some(escaped) = escape(name).filter(|escaped| escaped != name) {
                    out.entry(escaped).or_insert_with(|| shown(value));
                }
            }
            Value::Object(out)
        }
        other => other.clone(),
    }
}
