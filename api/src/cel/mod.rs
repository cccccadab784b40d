//! CEL, the Common Expression Language, as Kubernetes v1.36 has it.
//!
//! An `Env` says what an expression may use, `Env::compile` reads and checks it, `Program::evaluate` works it out:
//!
//! ```
//! use api::cel::{Activation, Budget, Decl, Env, Extras, Type, Value};
//! let env = Env::kubernetes(Extras::NONE).with("object", Decl::dynamic().clone());
//! let program = env.compile("object.spec.replicas <= 5").unwrap();
//! assert!(program.may_be(&Type::Bool));
//! let object = serde_json::json!({"spec": {"replicas": 3}});
//! let activation = Activation::default().with("object", Value::json(&object));
//! let found = program.evaluate(&activation, &mut Budget::admission()).unwrap();
//! assert!(matches!(found, Value::Bool(true)));
//! assert_eq!(
//!     env.compile("objekt.spec").unwrap_err().to_string(),
//!     "ERROR: <input>:1:1: undeclared reference to 'objekt' (in container '')\n | objekt.spec\n | ^"
//! );
//! ```
//!
//! Declared variables (`Decl`) give types: `Value::declared(json, decl)` reads JSON as its declaration says. What
//! compiles, what is refused and in which words, and what a step costs are cel-go's (with Kubernetes' settings and
//! libraries), because clients see all three. Pure: no I/O, no clock, no authorizer but the caller's (`lib::Authorizer`).
//! Never panics on any source or value, and never runs longer than its budget allows.

mod ast;
mod check;
mod convert;
mod cost;
mod decl;
mod declare;
mod env;
mod error;
mod eval;
mod format;
mod lexer;
pub mod lib;
mod macros;
mod merge;
mod parser;
mod pattern;
mod plan;
#[cfg(test)]
mod tests;
mod time;
mod types;
mod validate;
mod value;

pub use decl::{Decl, DeclKind, FieldDecl, ObjectDecl, escape};
pub use env::{Env, Extras, VERSION};
pub use error::{Fault, Fuel, Outcome};
pub use eval::Activation;
pub use time::Timestamp;
pub use types::Type;
pub use value::{Entries, Key, Lazy, List, MadeObject, Map, Object, Text, Value};

use eval::Evaluator;
use plan::{Node, Planner};
use std::fmt;

/// An expression that may be evaluated, any number of times and by several threads.
#[derive(Debug)]
pub struct Program {
    root: Node,
    result: Type,
}

/// Why an expression cannot be one: each mistake with its place, in cel-go's form.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CompileErrors(pub Vec<String>);

/// All of them, as upstream puts them behind `compilation failed: `.
impl fmt::Display for CompileErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.join("\n"))
    }
}

impl std::error::Error for CompileErrors {}

/// What evaluations may cost.
pub struct Budget<'s> {
    /// Of one evaluation.
    pub per_call: u64,
    /// Of all that share this budget; goes down.
    pub left: u64,
    /// Asked now and then; `true` ends the evaluation.
    pub stop: Option<&'s dyn Fn() -> bool>,
}

impl fmt::Debug for Budget<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Budget").field("per_call", &self.per_call).field("left", &self.left).finish_non_exhaustive()
    }
}

/// Of one evaluation, in admission and custom resources.
pub const PER_CALL_LIMIT: u64 = 1_000_000;
/// Of all expressions of a policy for one request, and of all rules of a custom resource for one object.
pub const RUNTIME_BUDGET: u64 = 10_000_000;
/// Of all match conditions of a webhook for one request.
pub const MATCH_CONDITIONS_BUDGET: u64 = RUNTIME_BUDGET / 4;

impl Budget<'_> {
    /// That of a policy, or of a custom resource's rules.
    #[must_use]
    pub fn admission() -> Budget<'static> {
        Budget { per_call: PER_CALL_LIMIT, left: RUNTIME_BUDGET, stop: None }
    }

    /// That of a webhook's match conditions.
    #[must_use]
    pub fn match_conditions() -> Budget<'static> {
        Budget { per_call: PER_CALL_LIMIT, left: MATCH_CONDITIONS_BUDGET, stop: None }
    }
}

impl Env {
    /// Reads, checks and plans an expression.
    ///
    /// # Errors
    /// The mistakes, in cel-go's words; a constant that cannot be converted is upstream's `program instantiation failed`.
    pub fn compile(&self, source: &str) -> Result<Program, CompileErrors> {
        let (mut expr, source) = parser::parse(source, self.syntax).map_err(CompileErrors)?;
        let checked = check::check(&mut expr, &source, self).map_err(CompileErrors)?;
        let mut planner = Planner { env: self, checked: &checked, locals: Vec::new() };
        let root = planner
            .node(&expr)
            .map_err(|fault| CompileErrors(vec![format!("program instantiation failed: {fault}")]))?;
        Ok(Program { root, result: checked.type_of(&expr) })
    }
}

impl Program {
    /// The type of its values.
    #[must_use]
    pub fn result(&self) -> &Type {
        &self.result
    }

    /// It gives values of this type, or that shows only when it is evaluated.
    #[must_use]
    pub fn may_be(&self, wanted: &Type) -> bool {
        self.result.is_dyn() || self.result == *wanted
    }

    /// Its value for these variables.
    ///
    /// # Errors
    /// What went wrong; `Fault::is_final` where the budget or somebody else stopped it.
    pub fn evaluate<'a>(&self, activation: &Activation<'a>, budget: &mut Budget<'_>) -> Outcome<Value<'a>> {
        let mut evaluator = Evaluator::new(activation, budget.per_call, budget.stop);
        let outcome = evaluator.eval(&self.root);
        let cost = evaluator.cost();
        match budget.left.checked_sub(cost) {
            Some(left) => budget.left = left,
            None => {
                budget.left = 0;
                return Err(outcome.err().filter(Fault::is_final).unwrap_or(Fault::Budget));
            }
        }
        outcome
    }
}
