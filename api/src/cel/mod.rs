//! CEL, the Common Expression Language, as Kubernetes v1.36 has it.
//!
//! An `Env` says what an expression may use, `Env::compile` reads and checks it, `Program::evaluate` works it out:
//!
//! ```
//! use api::cel::{Activation, Budget, Decl, Env, Extras, Type, Value};
//! let env = Env::kubernetes(Extras::NONE).with("object", Decl::dynamic().clone());
//! let program = env.compile("object.spec.replicas <= 5").unwrap();
//! assert!(program.may_be(&Type::Bool));
//! let object = api::json::json!({"spec": {"replicas": 3}});
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
pub mod environments;
mod error;
mod estimate;
mod estimates;
mod eval;
mod format;
mod lexer;
pub mod lib;
mod macros;
mod merge;
pub mod openapi;
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
pub(crate) use parser::RESERVED;
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
    most: u64,
    depth: u32,
    variables: Vec<std::sync::Arc<str>>,
}

/// Why an expression cannot be one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CompileErrors {
    /// Each mistake with its place, in cel-go's form.
    pub messages: Vec<String>,
    /// The expression is sound, and a constant in it cannot be converted: upstream says `program instantiation failed: `
    /// where it says `compilation failed: ` else.
    pub planning: bool,
}

/// All of them, without upstream's words before them.
impl fmt::Display for CompileErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.messages.join("\n"))
    }
}

impl std::error::Error for CompileErrors {}

impl CompileErrors {
    /// The sentence of validation: `compilation failed: ERROR: ...`.
    #[must_use]
    pub fn sentence(&self) -> String {
        let what = if self.planning { "program instantiation" } else { "compilation" };
        format!("{what} failed: {self}")
    }
}

/// What evaluations may cost.
pub struct Budget<'s> {
    /// Of one evaluation.
    pub per_call: u64,
    /// Of all that share this budget; goes down.
    pub left: u64,
    /// Asked now and then; `true` ends the evaluation.
    pub stop: Option<&'s (dyn Fn() -> bool + Sync)>,
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

/// Levels for which the stack of any caller has room.
const SHALLOW: u32 = 60;
/// Bytes of stack for the deepest expression; only what is used takes memory.
const ROOM: usize = 32 << 20;

/// Runs work that goes deep on a stack of its own. `None` when the system has no thread left.
fn with_room<T: Send>(deep: bool, work: impl FnOnce() -> T + Send) -> Option<T> {
    if !deep {
        return Some(work());
    }
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().stack_size(ROOM).spawn_scoped(scope, work).ok()?;
        thread.join().map_or_else(|panic| std::panic::resume_unwind(panic), Some)
    })
}

impl Env {
    /// Reads, checks and plans an expression.
    ///
    /// # Errors
    /// The mistakes, in cel-go's words.
    pub fn compile(&self, source: &str) -> Result<Program, CompileErrors> {
        // No expression is deeper than it has of these.
        let levels = source.chars().filter(|c| "([{?.+-*/%<>=!&|".contains(*c)).count();
        with_room(levels > SHALLOW as usize, || self.compiled(source)).unwrap_or_else(|| {
            Err(CompileErrors { messages: vec!["no room for a deep expression".to_owned()], planning: true })
        })
    }

    fn compiled(&self, source: &str) -> Result<Program, CompileErrors> {
        let wrong = |messages| CompileErrors { messages, planning: false };
        let (mut expr, source) = parser::parse(source, self.syntax).map_err(wrong)?;
        let checked = check::check(&mut expr, &source, self).map_err(wrong)?;
        let mut planner = Planner { env: self, checked: &checked, locals: Vec::new() };
        let root =
            planner.node(&expr).map_err(|fault| CompileErrors { messages: vec![fault.to_string()], planning: true })?;
        let most = estimate::most(&expr, &checked, self);
        let result = checked.type_of(&expr);
        Ok(Program { root, result, most, depth: expr.depth, variables: checked.variables })
    }
}

impl Program {
    /// The type of its values.
    #[must_use]
    pub fn result(&self) -> &Type {
        &self.result
    }

    /// The most that it can cost, as far as the declared sizes of its variables tell; `u64::MAX` is unbounded. Upstream
    /// refuses device selectors and rules of custom resources by it.
    #[must_use]
    pub fn most(&self) -> u64 {
        self.most
    }

    /// It reads this variable (`oldSelf` makes a rule one of updates).
    #[must_use]
    pub fn uses(&self, variable: &str) -> bool {
        self.variables.iter().any(|name| **name == *variable)
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
        let (per_call, stop) = (budget.per_call, budget.stop);
        let evaluated = with_room(self.depth > SHALLOW, || {
            let mut evaluator = Evaluator::new(activation, per_call, stop);
            (evaluator.eval(&self.root), evaluator.cost())
        });
        let (outcome, cost) = evaluated.unwrap_or((Err(Fault::Interrupted), 0));
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
